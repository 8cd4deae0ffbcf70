"""The address that is asked, the headers that go to it, and what a 404 says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nbchat.config import Nbchat
from nbchat.core.errors import AuthError, BadRequestError
from nbchat.engine.doctor import examine
from nbchat.engine.session import Session
from nbchat.transports.claude import ClaudeTransport
from tests.support.server import Received, Server, Wire, serving, streaming, text_events

FINE = streaming(text_events(["fine"]))


def asked(path: str, **given: Any) -> Received:
    """Return the request that arrives for an endpoint with this path."""
    with serving(FINE) as server:
        Session().ask("Hi", endpoint=server.url + path, **given)
        return server.requests[-1]


@pytest.mark.parametrize(
    ("path", "base"),
    [
        ("", ""), ("/", ""), ("/v1", ""), ("/v1/", ""), ("//v1//", ""), ("/v1/messages", ""), ("/v1/messages/", ""),
        ("/anthropic/v1/", "/anthropic"), ("/anthropic", "/anthropic"), ("/api/v1", "/api"), ("/V1", ""),
        ("/v1/chat/completions", ""), ("/v1/models", ""), ("/v1/v1", ""), ("/v10", "/v10"),
        ("/team/v1beta", "/team/v1beta"),
        ("/v1/account/gateway", "/v1/account/gateway"), ("/messages", "/messages"),
    ],
)  # fmt: skip
def test_the_path_of_the_api_is_added_once(path: str, base: str):
    assert asked(path).path == f"{base}/v1/messages"


def test_a_query_goes_with_every_request():
    """A gateway can have its key there. The SDK alone would append its path to the query."""
    assert asked("/v1?subscription-key=k3y&v=2").path == "/v1/messages?subscription-key=k3y&v=2"


@pytest.mark.parametrize("path", ["", "/v1", "/v1/", "/v1/messages"])
def test_the_address_of_the_environment_is_read_in_the_same_way(path: str, monkeypatch: pytest.MonkeyPatch):
    """ANTHROPIC_BASE_URL, and the address of a platform in the settings or in Python."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-0123456789")
    with serving(FINE) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url + path)
        Session().ask("Hi", web_search=True)
        Session(ClaudeTransport("anthropic", base_url=server.url + path)).ask("Hi")
        paths = [request.path for request in server.requests if not request.path.startswith("/v1/models/")]
        assert paths == ["/v1/messages", "/v1/messages"]
        # What answers there is not the API itself, so it gets the basic version.
        searching = next(request for request in server.requests if request.body.get("tools"))
        assert searching.body["tools"][0]["type"] == "web_search_20250305"


def test_the_address_of_foundry_is_read_in_the_same_way(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ANTHROPIC_FOUNDRY_API_KEY", "foundry-0123456789")
    with serving(FINE) as server:
        monkeypatch.setenv("ANTHROPIC_FOUNDRY_BASE_URL", server.url + "/anthropic/v1/messages")
        Session().ask("Hi", endpoint="foundry")
        assert server.requests[-1].path == "/anthropic/v1/messages"


def test_each_endpoint_has_headers_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """They reach this endpoint and no other, and stay out of everything that is shown or stored."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "")
    monkeypatch.setenv("LAB_TOKEN", "lab-t0ken-0123")
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "X-Anthropic-Only: 0123456789")
    lines: list[str] = []
    with serving(FINE) as server:
        config = Nbchat({})
        config.endpoints = {
            "lab": {"base_url": f"{server.url}/v1", "headers": {"X-Lab": "Key ${LAB_TOKEN}", "X-Team": "chem-9876"}},
            "other": server.url,
        }
        session = Session(config=config)
        session.recording.use_cassette(str(tmp_path / "tape.jsonl"))
        response = session.ask("Hi", endpoint="lab")
        session.ask("Hello", endpoint="other", once=True)
        config.endpoint = "lab"
        assert examine(Session(config=config), lines.append)
        assert server.requests[-1].headers["x-team"] == "chem-9876"
        first, second = (server.requests[number].headers for number in (0, 1))
        transport = session.endpoints.find(session.options({"endpoint": "lab"})).transport
    assert (first["x-lab"], first["x-team"]) == ("Key lab-t0ken-0123", "chem-9876")
    assert not {"x-lab", "x-team"} & set(second)
    for headers in (first, second):
        assert not {"authorization", "x-api-key", "x-anthropic-only"} & set(headers)
    stored = (tmp_path / "tape.jsonl").read_text("utf-8") + response.save(tmp_path / "r.json").read_text("utf-8")
    stored += json.dumps([entry.to_dict() for entry in session.accounting.run]) + repr(transport) + "\n".join(lines)
    assert not [secret for secret in ("t0ken", "chem-9876") if secret in stored]


def test_an_error_that_echoes_a_header_does_not_show_it():
    def echo(wire: Wire, request: Received) -> None:
        wire.json("403 Forbidden", {"error": {"type": "permission_error", "message": request.headers["x-team"]}})

    with serving(echo) as server:
        config = Nbchat({})
        config.endpoints = {"lab": {"base_url": server.url, "headers": {"X-Team": "chem-9876"}}}
        with pytest.raises(AuthError) as caught:
            Session(config=config).ask("Hi", endpoint="lab")
    assert "chem-9876" not in str(caught.value)


@pytest.mark.parametrize(
    ("described", "sent"),
    [
        ({}, None),
        ({"api_key_env": "LAB_TOKEN"}, "Bearer lab-t0ken-0123"),
        ({"headers": {"Authorization": "Basic ${LAB_TOKEN}"}}, "Basic lab-t0ken-0123"),
        ({"headers": {"authorization": "Bearer own"}}, "Bearer own"),
        ({"headers": {"x-api-key": "${LAB_TOKEN}"}}, None),
    ],
)
def test_a_key_is_sent_only_if_there_is_one(described: dict, sent: str | None, monkeypatch: pytest.MonkeyPatch):
    """``Bearer none`` never is."""
    monkeypatch.setenv("LAB_TOKEN", "lab-t0ken-0123")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-for-anthropic-only")
    with serving(FINE) as server:
        config = Nbchat({})
        config.endpoints = {"lab": {"base_url": server.url, **described}}
        session = Session(config=config)
        session.ask("Hi", endpoint="lab")
        session.ask("Hi", endpoint="lab", once=True)
        assert [request.headers.get("authorization") for request in server.requests] == [sent, sent]
        assert "sk-ant" not in json.dumps(server.requests[0].headers)


def test_betas_of_the_endpoint_and_of_the_request_go_together():
    """A header of one request alone would replace the header of the client."""
    with serving(FINE) as server:
        config = Nbchat({})
        config.endpoints = {"lab": {"base_url": server.url, "headers": {"Anthropic-Beta": "one-1, two-2"}}}
        session = Session(config=config)
        session.ask("Hi", endpoint="lab", param=['betas=["three-3", "one-1"]'])
        session.ask("Hi", endpoint="lab")
        betas = [request.headers["anthropic-beta"] for request in server.requests]
    assert betas == ["one-1,two-2,three-3", "one-1, two-2"]


# A 404


def not_found(body: Any, status: str = "404 Not Found", content_type: str = "application/json") -> Any:
    def handler(wire: Wire, request: Received) -> None:
        wire.head(status, content_type)
        wire.send(body.encode() if isinstance(body, str) else json.dumps(body).encode())
        wire.end()

    return handler


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("handler", "hint"),
    [
        (not_found({"type": "error", "error": {"type": "not_found_error", "message": "model: m"}}), "%nbchat models"),
        (not_found({"detail": "Not Found"}), "adds /v1/messages"),
        (not_found({"error": "model 'm' not found"}), "adds /v1/messages"),
        (not_found("404 page not found", content_type="text/plain"), "adds /v1/messages"),
        (not_found("<html><title>Oops</title></html>", content_type="text/html"), "adds /v1/messages"),
        (not_found("", "405 Method Not Allowed", "text/plain"), "adds /v1/messages"),
    ],
)
def test_a_404_names_the_address_that_was_asked(handler: Any, hint: str, stream: bool):
    """Without the secrets in it."""
    with serving(handler) as server:
        url = server.url.replace("http://", "http://ada:pw1@") + "/k3y-0123/api?token=t0k3n-99"
        with pytest.raises(BadRequestError) as caught:
            Session().ask("Hi", endpoint=url, stream=stream)
    host = server.url.removeprefix("http://")
    assert f"(asked: http://ada:…@{host}/…/api/v1/messages)" in caught.value.message
    assert hint in caught.value.hint
    assert not [secret for secret in ("pw1", "k3y-0123", "t0k3n-99") if secret in str(caught.value)]


def test_a_404_of_the_list_of_models_names_its_address(server_of_nothing: Server):
    with pytest.raises(BadRequestError, match=r"/v1/models\)"):
        ClaudeTransport("mine", base_url=server_of_nothing.url).models()


@pytest.fixture
def server_of_nothing() -> Any:
    with serving(not_found({"detail": "Not Found"})) as server:
        yield server
