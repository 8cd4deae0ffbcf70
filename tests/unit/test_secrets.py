"""Secrets are removed from what is shown and stored, whatever their length and wherever they are."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from nbchat.config import Nbchat
from nbchat.core.errors import NbchatError, TransportError
from nbchat.core.secrets import keep_secret, keep_url, mask, redact, redact_message, shown_url
from nbchat.engine.doctor import examine
from nbchat.engine.session import Session
from nbchat.notebook import commands
from nbchat.transports.claude import ClaudeTransport
from nbchat.transports.scripted import ScriptedTransport
from tests.support import server as api


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://api.anthropic.com", "https://api.anthropic.com"),
        ("https://ada:pw@h.org:80/v1", "https://ada:…@h.org:80/v1"),
        ("https://ada:p@w:x@h.org/v1", "https://ada:…@h.org/v1"),
        ("https://token@h.org/api/anthropic", "https://…@h.org/api/anthropic"),
        ("https://h.org/k3y/v1", "https://h.org/…/v1"),
        ("https://h.org/secret?key=abc#def", "https://h.org/…"),
        ("http://[::1]:8000/v1beta1", "http://[::1]:8000/v1beta1"),
    ],
)
def test_the_url_of_an_endpoint_is_shown_without_secrets(url: str, shown: str):
    """A second time changes nothing."""
    assert shown_url(url) == shown
    assert shown_url(shown) == shown


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("no answer from https://ada:pw@h.org/v1.", "no answer from https://ada:…@h.org/v1."),
        ("see https://h.org/docs/en/api/errors#x", "see https://h.org/docs/en/api/errors#x"),
        ("at 'https://h.org/abcdef123456789/v1'", "at 'https://h.org/…/v1'"),
        ("GET https://h.org/v1?api_key=abc&x=1 404", "GET https://h.org/v1?api_key=…&x=1 404"),
        ("model https://h.org/claude-sonnet-4-20250514", "model https://h.org/claude-sonnet-4-20250514"),
        ("a://b is not a host: x@y", "a://b is not a host: x@y"),
        ("bad http://[::1", "bad http://[::1"),
    ],
)
def test_messages_lose_the_secrets_of_urls(text: str, clean: str):
    """Other addresses stay as they are."""
    assert redact_message(text) == clean
    assert redact_message(clean) == clean


def test_short_keys_leave_messages_but_not_answers():
    """In an answer, a short key may be an ordinary word."""
    for secret in ("k3y", "pw", "a", "", None, "none", "ollama"):
        keep_secret(secret)
    assert NbchatError("k3y refused", "pw? k3ys, a none").message == "… refused"
    assert NbchatError("x", "pw? k3ys, a none, ollama").hint == "…? k3ys, a none, ollama"
    assert redact("k3y") == "k3y"


def test_every_form_of_the_password_of_a_url_is_removed():
    """As it is written, decoded, and in the header that is made of it."""
    keep_url("https://ada:p%40ssw0rd-1@h.org/9f8e7d6c5b/v1?token=query-token")
    for form in ("p%40ssw0rd-1", "p@ssw0rd-1", "YWRhOnBAc3N3MHJkLTE=", "9f8e7d6c5b", "query-token"):
        assert redact(f"<{form}>") == "<…>"
    assert redact("/v1") == "/v1"


def test_an_address_without_a_scheme_is_refused_without_its_password():
    """The message names the address."""
    with pytest.raises(NbchatError, match="--endpoint ada:…@host/v1") as caught:
        Session().ask("Hi", endpoint="ada:pw1@host/v1")
    assert "pw1" not in str(caught.value)


def test_settings_are_shown_without_secrets(capsys: pytest.CaptureFixture[str]):
    """By %nbchat config and by the doctor."""
    environment = {
        "NBCHAT_ENDPOINT": "http://ada:pw@127.0.0.1:1/k3y/v1",
        "NBCHAT_ENDPOINTS": "{'lab': {'base_url': 'http://u:hunter2@127.0.0.1:1', "
        "'api_key': 'abc', 'api_key_env': 'VAR', 'headers': {'X-Team': 'chem'}}}",
    }
    session = Session(ScriptedTransport("ready"), config=Nbchat(environment))
    commands.run("config", session, SimpleNamespace(user_ns={}))
    examine(session)
    shown = capsys.readouterr().out
    assert not [secret for secret in ("pw", "k3y", "hunter2", "'abc'", "chem") if secret in shown]
    assert "http://ada:…@127.0.0.1:1/…/v1" in shown
    assert "'api_key_env': 'VAR', 'headers': {'X-Team': '…'}" in shown
    assert mask(("https://a:b@h",)) == ("https://a:…@h",)


def test_an_endpoint_by_its_url_leaves_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Not in the Response, its file, the ledger, the journal or the cassette."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "")
    with api.serving(api.streaming(api.text_events(["Fine."]))) as server:
        url = server.url.replace("http://", "http://ada:pw1@") + "/k3y"
        session = Session()
        session.recording.use_cassette(str(tmp_path / "tape.jsonl"))
        response = session.ask("Hi", endpoint=url)
        assert server.requests[0].path.startswith("/k3y/")
    saved = response.save(tmp_path / "r.json").read_text("utf-8")
    stored = json.dumps([entry.to_dict() for entry in session.accounting.run]) + (tmp_path / "tape.jsonl").read_text()
    assert response.text == "Fine."
    for text in (response.endpoint, saved, stored, repr(response)):
        assert not [secret for secret in ("pw1", "k3y") if secret in text]


def test_an_error_that_echoes_a_header_shows_no_key():
    """Gateways repeat what they were sent, and a key can be in any header."""
    headers = {"X-Team": "tk-9", "X-Gateway-Auth": "Bearer long-gateway-value", "Accept": "application/json"}
    body = {"type": "error", "error": {"type": "invalid_request_error", "message": str(headers)}}
    with api.serving(lambda wire, request: wire.json("400 Bad Request", body)) as server:
        transport = ClaudeTransport("mine", base_url=server.url, default_headers=headers, max_retries=0)
        with pytest.raises(TransportError) as caught:
            Session(transport).ask("Hi")
    assert not [secret for secret in ("tk-9", "long-gateway-value") if secret in str(caught.value)]
    assert "application/json" in str(caught.value)
