"""An asynchronous client reports the same with aiohttp and without it."""

from __future__ import annotations

import socket
import sys
from typing import Any

import pytest

from nbchat.core.errors import NOT_CONNECTED, ConnectionFailed, NbchatError
from nbchat.core.messages import Message
from nbchat.core.request import Request
from tests.support.async_client import KEY, ask
from tests.support.server import Received, Wire, message, serving, streaming, text_events


@pytest.fixture(params=["aiohttp", "httpx2"], autouse=True)
def library(request, monkeypatch):
    """Run each test with both libraries."""
    if request.param == "httpx2":
        monkeypatch.setitem(sys.modules, "nbchat.transports.claude.fast_way", None)
    return request.param


def events(url: str, *, stream: bool = False, key: str = KEY, times: int = 1) -> list[dict[str, Any]]:
    """Ask through one asynchronous client, and return the events of the last answer."""
    request = Request("m", (Message.of("user", "Hello"),), max_tokens=100, stream=stream)
    return ask(url, request, times=times, key=key, idle_timeout=2.0)


def failure(url: str, **options: Any) -> NbchatError:
    with pytest.raises(NbchatError) as raised:
        events(url, **options)
    assert KEY not in repr(raised.value)
    return raised.value


def text(found: list[dict[str, Any]]) -> str:
    return "".join(event["delta"].get("text", "") for event in found if event["type"] == "content_block_delta")


def hello(wire: Wire, request: Received) -> None:
    wire.json("200 OK", message([{"type": "text", "text": "Hello"}]))


def test_the_library_that_is_tested_sends(library):
    """Without this test, both halves of this file could test the same library."""
    with serving(hello) as server:
        assert text(events(server.url)) == "Hello"
    assert (sys.modules["nbchat.transports.claude.fast_way"] is not None) == (library == "aiohttp")


def test_answers_in_one_piece_and_streamed():
    with serving(hello) as server:
        assert text(events(server.url)) == "Hello"
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    with serving(streaming(text_events(["Hel", "lo"]))) as server:
        assert text(events(server.url, stream=True)) == "Hello"


def test_a_connection_is_used_again():
    ports: set[int] = set()

    def noted(wire: Wire, request: Received) -> None:
        ports.add(wire.connection.getpeername()[1])
        hello(wire, request)

    with serving(noted) as server:
        events(server.url, times=3)
        assert len(server.requests) == 3
    assert len(ports) == 1


def test_a_server_that_is_not_there():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    error = failure(f"http://127.0.0.1:{port}")
    assert isinstance(error, ConnectionFailed)
    assert error.type == NOT_CONNECTED


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n",
        b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{"id": ',
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    ],
    ids=["nothing", "half of the headers", "half of the body", "another protocol"],
)
@pytest.mark.parametrize("ends", ["closed", "reset"])
def test_a_connection_that_is_lost_after_sending_may_be_billed(sent, ends, stream):
    """A lost connection is not one that was never made."""

    def breaks(wire: Wire, request: Received) -> None:
        wire.raw(sent)
        if ends == "reset":
            wire.reset()
        else:
            wire.connection.shutdown(socket.SHUT_RDWR)

    with serving(breaks) as server:
        error = failure(server.url, stream=stream)
    assert isinstance(error, ConnectionFailed)
    assert error.type != NOT_CONNECTED


def test_a_silent_server_ends_at_the_limit():
    def silent(wire: Wire, request: Received) -> None:
        wire.gone(20.0)

    with serving(silent) as server:
        error = failure(server.url, stream=True)
    assert "nothing arrived for 2 s" in error.message


@pytest.mark.parametrize("key", ["sk-ant-\nx-evil: 1", "sk-ant-\r\n\r\nGET / HTTP/1.1"])
def test_a_key_with_a_line_break_is_not_sent(key):
    with serving(hello) as server:
        error = failure(server.url, key=key)
        assert not server.requests
    assert "characters that an HTTP header may not have" in error.message


def test_an_answer_that_is_compressed():
    import gzip
    import json

    body = gzip.compress(json.dumps(message([{"type": "text", "text": "Hello"}])).encode())

    def compressed(wire: Wire, request: Received) -> None:
        head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\n"
        wire.raw(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)

    with serving(compressed) as server:
        assert text(events(server.url)) == "Hello"
