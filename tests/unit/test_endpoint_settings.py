"""Tests of the endpoints in ``c.Nbchat.endpoints``."""

from __future__ import annotations

from typing import Any

import pytest

from nbchat import ScriptedTransport
from nbchat.config import Nbchat
from nbchat.core.errors import AuthError, OptionError
from nbchat.engine.endpoint import Endpoint
from nbchat.engine.endpoint_settings import EndpointSettings
from nbchat.engine.endpoints import Endpoints
from nbchat.options import Options

URL = "http://127.0.0.1:1/x"


def found(endpoints: dict[str, Any], **given: Any) -> Endpoint:
    """Return the endpoint for the options, with these endpoints in the settings."""
    config = Nbchat({})
    config.endpoints = endpoints
    return Endpoints(config).find(Options.of(given, config.settings()))


def test_an_endpoint_has_an_address_headers_and_a_model(monkeypatch: pytest.MonkeyPatch):
    """``-m`` wins over the model of the endpoint, and that one over the setting for all endpoints."""
    monkeypatch.setenv("GATEWAY_TOKEN", "t0ken-from-the-shell ")
    lab = {"base_url": URL, "headers": {"X-Team": "chem", "X-Key": "Key ${GATEWAY_TOKEN}"}, "model": "qwen-9"}
    endpoint = found({"lab": lab}, endpoint="lab")
    assert (endpoint.name, endpoint.model, endpoint.priced_as) == ("lab", "qwen-9", URL)
    assert endpoint.transport.client._custom_headers["X-Key"] == "Key t0ken-from-the-shell"
    assert found({"lab": lab}, endpoint="lab", model="other").model == "other"
    assert found({"lab": {"base_url": URL}}, endpoint="lab").model == Options.of({}).model


def test_a_platform_may_have_headers_too():
    """Its own address stays, and so do its credentials. ``local`` is the embedded model and has none."""
    settings = EndpointSettings.of("anthropic", {"headers": {"X-Team": "chem"}})
    assert settings.arguments() == {"base_url": None, "default_headers": {"X-Team": "chem"}}
    assert found({"bedrock": {"model": "us.claude"}}, endpoint="bedrock").model == "us.claude"
    with pytest.raises(OptionError, match="local"):
        found({"local": {"base_url": URL}}, endpoint="local")


def test_a_transport_may_take_any_name():
    """Also one of a platform, which answers then where no endpoint is named."""
    script = ScriptedTransport("Hello")
    for name in ("script", "anthropic", "local"):
        assert found({name: script}, endpoint=name).transport is script
    assert found({"anthropic": script}).transport is script


@pytest.mark.parametrize(
    ("described", "said"),
    [
        ({"base_url": URL, "header": {}}, "unknown field 'header'"),
        ({"url": URL}, "unknown field 'url'"),
        ({"base_url": URL, "token": "s3cr3t"}, "unknown field 'token'"),
        ({"headers": {}}, "has no base_url"),
        ({"base_url": 5}, "['base_url'] is a int"),
        ({"base_url": URL, "model": None}, "['model'] is a NoneType"),
        ({"base_url": URL, "headers": ["X-Team: s3cr3t"]}, "['headers'] is a list"),
        ({"base_url": URL, "headers": {"X Team": "s3cr3t"}}, "is not one of a header"),
        ({"base_url": URL, "headers": {"X-Team": 3}}, "['X-Team'] is a int"),
        ({"base_url": URL, "headers": {"X-Team": "s3cr3t\n"}}, "['X-Team'] has characters"),
        ({"base_url": URL, "headers": {"X-Team": "s3cr3t\u2013"}}, "['X-Team'] has characters"),
        ({"base_url": URL, "api_key_env": "K", "headers": {"authorization": "Bearer s3cr3t"}}, "Authorization"),
        (["s3cr3t"], "is a list"),
    ],
)
def test_a_wrong_description_is_refused_without_its_values(described: Any, said: str):
    with pytest.raises(OptionError) as caught:
        found({"lab": described}, endpoint="lab")
    assert "Nbchat.endpoints['lab']" in caught.value.message
    assert said in caught.value.message
    assert "s3cr3t" not in str(caught.value)


def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("NO_SUCH_TOKEN", raising=False)
    endpoint = found({"lab": {"base_url": URL, "headers": {"X-Key": "${NO_SUCH_TOKEN}"}}}, endpoint="lab")
    with pytest.raises(AuthError, match="'lab' takes the header X-Key from NO_SUCH_TOKEN, which is not set"):
        _ = endpoint.transport


def test_an_address_without_a_scheme_says_how_it_begins():
    for name in ("localhost:11434", "htp://x", "example.org/v1"):
        with pytest.raises(OptionError) as caught:
            found({}, endpoint=name)
        assert "http://" in caught.value.hint
