"""The short way of an asynchronous client sends what the SDK sends, and is not taken where the SDK has to decide."""

from __future__ import annotations

from typing import Any

import pytest

from nbchat.core.errors import NbchatError
from nbchat.core.messages import Message
from nbchat.core.request import Request
from nbchat.transports.claude import ClaudeTransport
from nbchat.transports.claude import short_way as module
from nbchat.transports.claude.short_way import ShortWay
from tests.support.async_client import KEY, ask
from tests.support.server import Received, Wire, message, serving

#: The SDK marks a request whose answer it does not read itself.
ONLY_OF_THE_SDK = {"x-stainless-raw-response"}


@pytest.fixture
def sent(monkeypatch) -> list[str]:
    """Return the bodies that take the short way, as they are sent."""
    bodies: list[str] = []
    answer = ShortWay._answer

    async def noted(self, data: bytes, *rest: Any) -> Any:
        bodies.append(data.decode())
        return await answer(self, data, *rest)

    monkeypatch.setattr(ShortWay, "_answer", noted)
    return bodies


def hello(wire: Wire, request: Received) -> None:
    wire.json("200 OK", message([{"type": "text", "text": "Hello"}]))


def request_of(text: str = "Hello", **params: Any) -> Request:
    return Request("m", (Message.of("user", text),), max_tokens=100, stream=False, params=params)


@pytest.mark.parametrize(
    ("params", "options"),
    [
        ({}, {}),
        ({"temperature": 0.5, "stop_sequences": ["END"]}, {}),
        ({"betas": ["one-2026", "two-2026"]}, {}),
        ({"betas": ["one-2026"]}, {"default_headers": {"anthropic-beta": "own-2026", "x-title": "rows"}}),
        ({}, {"default_query": {"api-version": "7"}}),
        ({"metadata": {"user_id": "Zoë 😀"}}, {}),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["mine", "anthropic"])
def test_it_sends_what_the_sdk_sends(sent, monkeypatch, name, params, options):
    with serving(hello) as server:
        ask(server.url, request_of(**params), name=name, **options)
        monkeypatch.setattr(ShortWay, "of", classmethod(lambda cls, client: None))
        ask(server.url, request_of(**params), name=name, **options)
    short, usual = server.requests
    assert len(sent) == 1
    assert short.path == usual.path
    assert short.body == usual.body
    assert len(short.raw) == len(usual.raw), "only the order of the fields differs"
    assert short.headers == {key: value for key, value in usual.headers.items() if key not in ONLY_OF_THE_SDK}


def test_a_redirect_is_followed_by_the_sdk(sent):
    def elsewhere(wire: Wire, request: Received) -> None:
        wire.head("307 Temporary Redirect", location=f"{target.url}/v1/messages")
        wire.end()

    with serving(hello) as target, serving(elsewhere) as server:
        found = ask(server.url, request_of(), times=3)
    assert found[-1]["type"] == "message_stop"
    assert len(sent) == 1, "the next ones take the usual way"
    assert len(target.requests) == 3


def test_an_error_whose_body_cannot_be_read_still_has_its_status(sent):
    def broken(wire: Wire, request: Received) -> None:
        wire.head("413 Too Large", "application/json", content_encoding="gzip")
        wire.send(b"not gzip")
        wire.end()

    with serving(broken) as server, pytest.raises(NbchatError) as raised:
        ask(server.url, request_of())
    assert raised.value.status == 413
    assert KEY not in repr(raised.value)
    assert len(sent) == 1


class _Unknown(module.anthropic.AsyncAnthropic):
    """A client of another platform, which could sign each request."""


@pytest.mark.parametrize("why", ["class", "middleware", "token", "sdk"])
def test_where_the_sdk_decides_it_is_not_taken(monkeypatch, why):
    transport = ClaudeTransport("mine", base_url="http://127.0.0.1:9", api_key=KEY)
    door = transport.open_async()
    client = door._client
    assert isinstance(ShortWay.of(client), ShortWay)
    if why == "class":
        client.__class__ = _Unknown
    elif why == "middleware":
        client._middleware = (object(),)
    elif why == "token":
        client._custom_auth = object()
    else:
        monkeypatch.setattr(module, "FinalRequestOptions", None)
    assert ShortWay.of(client) is None
