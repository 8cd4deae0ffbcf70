"""ClaudeTransport, through Session.ask, against a server that fails in every way."""

from __future__ import annotations

import email.utils
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from nbchat.core import errors, secrets
from nbchat.core.chunks import Notice
from nbchat.core.errors import (
    AuthError,
    BadRequestError,
    ConnectionFailed,
    InputError,
    NbchatError,
    OverloadedError,
    RateLimitError,
    StreamError,
    TransportError,
)
from nbchat.core.messages import ToolUseBlock
from nbchat.core.request import Request
from nbchat.core.response import Response
from nbchat.engine.session import Session
from nbchat.transports.claude import ClaudeTransport
from nbchat.transports.claude.deadline import LINGER_S
from tests.support.server import (
    Received,
    Server,
    Wire,
    message,
    serving,
    sse,
    start,
    streaming,
    text_delta,
    text_events,
)

WORDS = ["Once ", "upon ", "a ", "time"]
OPEN = [
    start(),
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    *map(text_delta, WORDS),
]
ENDING = list(text_events(WORDS))[-3:]
Tail = Callable[[Wire], None]


@pytest.fixture(scope="module")
def http() -> Iterator[Any]:
    """Share one pool of connections, because making one takes longer than a test."""
    import anthropic

    with anthropic.DefaultHttpxClient() as client:
        yield client


@pytest.fixture
def connect(http: Any) -> Callable[..., ClaudeTransport]:
    """Return a function that makes a transport with short timeouts. Its sleeps are only noted in ``slept``."""

    def make(url: str, **given: Any) -> ClaudeTransport:
        slept: list[float] = []
        given = {"idle_timeout": 5.0, "max_retries": 2, "sleep": slept.append, "http_client": http} | given
        transport = ClaudeTransport("mine", base_url=url, **given)
        transport.slept = slept
        return transport

    return make


def begin_then(tail: Tail, *, chunked: bool = True) -> Callable[[Wire, Received], None]:
    """Return a handler that sends four words of an answer, and then calls ``tail``."""

    def handler(wire: Wire, request: Received) -> None:
        wire.head(chunked=chunked)
        for event in OPEN:
            wire.event(event)
        tail(wire)

    return handler


def refuse(status: str, body: Any = None, **headers: str) -> Callable[[Wire, Received], None]:
    """Return a handler that answers with an HTTP error."""

    def handler(wire: Wire, request: Received) -> None:
        if isinstance(body, str):
            wire.head(status, "text/plain", **headers)
            if body:
                wire.send(body.encode())
            wire.end()
        else:
            wire.json(status, body, **headers)

    return handler


def api_error(type: str, text: str = "told why") -> dict[str, Any]:
    return {"type": "error", "error": {"type": type, "message": text}}


def asked(server: Server) -> list[Received]:
    """Return the requests for answers. The others ask the Models API."""
    return [request for request in server.requests if request.path == "/v1/messages"]


def settled(session: Session) -> Response:
    assert session.last is not None
    return session.last


# A stream that breaks off


def cut(wire: Wire) -> None:
    wire.connection.shutdown(2)


def hold(wire: Wire) -> None:
    """Send nothing until the client closes the connection."""
    assert wire.gone(10)
    raise ConnectionError


def ping(wire: Wire) -> None:
    """Send pings until the client closes the connection."""
    while True:
        wire.event({"type": "ping"})
        time.sleep(0.02)


def raw_event(name: str, data: str) -> Tail:
    def tail(wire: Wire) -> None:
        wire.send(f"event: {name}\ndata: {data}\n\n".encode())
        wire.end()

    return tail


def half_a_frame(wire: Wire) -> None:
    wire.send(sse(text_delta(" and more"))[:-20])
    wire.end()


def half_a_chunk(wire: Wire) -> None:
    wire.raw(b"400\r\nevent: content_block_delta\r\n")
    cut(wire)


def last_events(*events: dict[str, Any]) -> Tail:
    def tail(wire: Wire) -> None:
        for event in events:
            wire.event(event)
        wire.end()

    return tail


BREAKS: dict[str, tuple[Tail, bool, str, str | None]] = {
    # name: what happens, chunked framing, a part of the message, the error's type
    "error event, overloaded": (last_events(api_error("overloaded_error")), True, "told why", "overloaded_error"),
    "error event, api": (last_events(api_error("api_error")), True, "api_error: told why", "api_error"),
    "error event, rate limit": (last_events(api_error("rate_limit_error")), True, "rate_limit", "rate_limit_error"),
    "error event, of next year": (last_events(api_error("new_error")), True, "new_error", "new_error"),
    "error event, no JSON": (raw_event("error", "out of memory"), True, "out of memory", "invalid_request_error"),
    "error event, empty": (raw_event("error", "{}"), True, "no reason given", "invalid_request_error"),
    "cut with chunked framing": (cut, True, "the connection was lost", None),
    "cut in the middle of a chunk": (half_a_chunk, True, "the connection was lost", None),
    "cut without framing": (cut, False, "ended before the answer was complete", None),
    "reset": (Wire.reset, True, "the connection was lost", None),
    "clean end": (Wire.end, True, "ended before the answer was complete", None),
    "clean end after message_delta": (last_events(*ENDING[:2]), True, "ended before the answer was complete", None),
    "end in the middle of a frame": (half_a_frame, True, "ended before the answer was complete", None),
    "malformed JSON": (raw_event("content_block_delta", '{"type": "content_'), True, "not a Messages API answer", None),
    "JSON that is no object": (raw_event("content_block_delta", "[1]"), True, "Messages API", None),
    "an event that does not fit": (last_events(text_delta("x", 7)), True, "does not fit the Messages API", None),
    "a second beginning": (last_events(start()), True, "does not fit the Messages API", None),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKS)
def test_a_stream_that_breaks_off(name: str, connect: Any):
    """There is one request and one StreamError. ``.partial`` has the text so far, with an estimated usage."""
    tail, chunked, said, kind = BREAKS[name]
    with serving(begin_then(tail, chunked=chunked)) as server:
        session = Session(connect(server.url))
        with pytest.raises(StreamError) as caught:
            session.ask("Tell me")
        assert len(server.requests) == 1, "nothing is sent again once something was shown"
    error, partial = caught.value, caught.value.partial
    assert said in error.message
    assert error.type == kind
    assert error.hint
    assert partial is settled(session)
    assert partial.text == "Once upon a time"
    assert partial.status == "incomplete"
    assert partial.usage.input_tokens == 10
    assert partial.usage.output_tokens >= 4
    assert partial.usage.estimated is (name != "clean end after message_delta")
    assert partial.request_id == "req_test"
    assert not partial
    assert session.conversation("main").history(None) == session.conversation("main").turns[0].sendable()


STALLS = {
    "silent": (hold, True),
    "pings": (ping, True),
    "silent, unframed": (hold, False),
    "pings, unframed": (ping, False),
}


@pytest.mark.parametrize("name", STALLS)
def test_a_stall_ends_the_turn_with_what_arrived(name: str, connect: Any):
    """Pings are not content. The end that the cutoff forces is not mistaken for the server's."""
    tail, chunked = STALLS[name]
    with serving(begin_then(tail, chunked=chunked)) as server:
        session = Session(connect(server.url, idle_timeout=0.5))
        with pytest.raises(StreamError) as caught:
            session.ask("Tell me")
        assert len(server.requests) == 1
    assert "no content came for 0.5 s" in caught.value.message
    assert "idle_timeout" in caught.value.hint
    assert caught.value.partial.text == "Once upon a time"


def test_a_slow_reader_is_not_a_stall(connect: Any):
    """A view, a debugger or an approval may take longer than the idle timeout."""

    class Slow:
        def begin(self, request) -> None:
            pass

        def feed(self, chunk: Any) -> None:
            if chunk.type == "output_text":
                time.sleep(0.6)

        def settle(self, response: Response) -> None:
            pass

    with serving(streaming(text_events(WORDS))) as server:
        session = Session(connect(server.url, idle_timeout=0.4))
        assert session.ask("Tell me", sinks=[Slow()]).status == "complete"


def test_a_broken_tool_call_never_looks_whole(connect: Any):
    """Half of the arguments are kept as text, not as input."""
    half = {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "input_json_delta", "partial_json": '{"a": "b'},
    }
    call = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}
    events = [start(), {"type": "content_block_start", "index": 0, "content_block": call}, half]
    with serving(streaming(events)) as server, pytest.raises(StreamError) as caught:
        Session(connect(server.url)).ask("Call")
    (block,) = caught.value.partial.blocks
    assert isinstance(block, ToolUseBlock)
    assert not block.valid
    assert (dict(block.input), block.partial_json) == ({}, '{"a": "b')


# Before the first event


def nothing(wire: Wire, request: Received) -> None:
    wire.head()
    wire.end()


def page(wire: Wire, request: Received) -> None:
    wire.head(content_type="text/html")
    wire.send(b"<!doctype html><title>Log in</title><script>alert(1)</script>")
    wire.end()


def first(*events: dict[str, Any]) -> Callable[[Wire, Received], None]:
    return streaming(events)


def at_once(tail: Tail) -> Callable[[Wire, Received], None]:
    def handler(wire: Wire, request: Received) -> None:
        wire.head()
        tail(wire)

    return handler


def before_head(tail: Tail) -> Callable[[Wire, Received], None]:
    return lambda wire, request: tail(wire)


LLAMA = {"error": {"code": 400, "message": "exceeds the available context size", "type": "exceed_context_size_error"}}

FAILURES: dict[str, tuple[Callable[[Wire, Received], None], type[NbchatError], str, int]] = {
    # name: the server, the error, a part of the message, the number of requests
    "400": (refuse("400 Bad", api_error("invalid_request_error")), BadRequestError, "told why", 1),
    "401": (refuse("401 No", api_error("authentication_error")), AuthError, "authentication_error", 1),
    "402": (refuse("402 Pay", api_error("billing_error")), AuthError, "billing_error", 1),
    "403": (refuse("403 No", api_error("permission_error")), AuthError, "permission_error", 1),
    "404": (refuse("404 Not", api_error("not_found_error", "model: x")), BadRequestError, "model: x", 1),
    "413": (refuse("413 Big", api_error("request_too_large")), BadRequestError, "request_too_large", 1),
    "429": (refuse("429 Slow", api_error("rate_limit_error")), RateLimitError, "rate_limit_error", 3),
    "500": (refuse("500 Oh", api_error("api_error")), OverloadedError, "api_error", 3),
    "503 without a body": (refuse("503 Oh", ""), OverloadedError, "no reason given", 3),
    "504": (refuse("504 Late", api_error("timeout_error")), ConnectionFailed, "timeout_error", 3),
    "529": (refuse("529 Busy", api_error("overloaded_error")), OverloadedError, "overloaded_error", 3),
    "500 that is not to be tried again": (
        refuse("500 Oh", api_error("api_error"), x_should_retry="false"), OverloadedError, "api_error", 1),
    "400 that is to be tried again": (
        refuse("400 Oh", api_error("invalid_request_error"), x_should_retry="true"), BadRequestError, "told why", 3),
    "a gateway's error": (refuse("400 Bad", LLAMA), BadRequestError, "exceed_context_size_error", 1),
    "plain text": (refuse("418 Tea", "short and stout"), BadRequestError, "short and stout", 1),
    "a redirection to nowhere": (
        lambda wire, request: wire.json("302 Found", {}, location="ftp://elsewhere/"), ConnectionFailed, "address", 1),
    "error as first event": (first(api_error("overloaded_error")), OverloadedError, "overloaded_error", 3),
    "refusal as first event": (first(api_error("invalid_request_error")), BadRequestError, "told why", 1),
    "pings, then an error": (first({"type": "ping"}, api_error("api_error")), OverloadedError, "api_error", 3),
    "no event": (nothing, ConnectionFailed, "without an answer", 1),
    "an HTML page": (page, ConnectionFailed, "not a Messages API answer: text/html", 1),
    "cut before headers": (before_head(cut), ConnectionFailed, "the connection to the endpoint 'mine' failed", 3),
    "cut after headers": (at_once(cut), ConnectionFailed, "the connection to the endpoint 'mine' failed", 3),
    "reset after headers": (at_once(Wire.reset), ConnectionFailed, "the connection to the endpoint 'mine' failed", 3),
    "malformed JSON": (at_once(raw_event("message_start", "{")), ConnectionFailed, "not a Messages API answer", 1),
    "JSON that is no object": (at_once(raw_event("message_start", "3")), ConnectionFailed, "Messages API", 1),
    "JSON of something else": (lambda wire, request: wire.json("200 OK", {}), ConnectionFailed, "JSON without", 1),
    "an error under 200": (
        lambda wire, request: wire.json("200 OK", api_error("overloaded_error")), OverloadedError, "told why", 1),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_no_answer(name: str, connect: Any):
    """The error has the right class, after the right number of requests. The session has an empty Response."""
    handler, kind, said, requests = FAILURES[name]
    with serving(handler) as server:
        session = Session(connect(server.url))
        with pytest.raises(TransportError) as caught:
            session.ask("Tell me")
        assert len(server.requests) == requests
    assert type(caught.value) is kind
    assert said in caught.value.message
    assert caught.value.hint
    assert caught.value.__context__ is None
    assert "<" not in caught.value.message, "no page is quoted"
    response = settled(session)
    assert (response.text, response.status, response.usage.total_tokens) == ("", "error", 0)
    assert len(session.conversation("main")) == 0, "a failed turn leaves no lone question"


@pytest.mark.parametrize(
    "handler", [before_head(hold), at_once(hold), at_once(ping)], ids=["headers", "silent", "pings"]
)
def test_an_endpoint_that_says_nothing(handler: Any, connect: Any):
    """An answer that does not come in time is ConnectionFailed, whatever the endpoint sends instead."""
    with serving(handler) as server:
        session = Session(connect(server.url, idle_timeout=0.2, max_retries=0))
        with pytest.raises(ConnectionFailed) as caught:
            session.ask("Tell me")
    assert "nothing arrived for 0.2 s" in caught.value.message


def test_a_port_where_nobody_listens(connect: Any):
    """The message has the operating system's reason."""
    with serving(nothing) as server:
        pass
    with pytest.raises(ConnectionFailed) as caught:
        Session(connect(server.url)).ask("Tell me")
    assert "refused" in caught.value.message


@pytest.mark.parametrize("url", ["http://[::1", "ftp://x/", "no-scheme", "http://a b/"])
def test_an_invalid_address(url: str, connect: Any):
    """The error names the endpoint, and no other class of error is raised."""
    with pytest.raises((ConnectionFailed, InputError)) as caught:
        Session(connect(url, max_retries=0)).ask("Tell me")
    assert "mine" in caught.value.message


# Retries


def notices(session: Session) -> list[Notice]:
    return [chunk for chunk in settled(session).chunks if isinstance(chunk, Notice)]


def test_a_retry_is_shown_and_then_cleared(connect: Any):
    """The wait that the service asks for is counted down second by second."""
    with serving(
        refuse("429 Slow", api_error("rate_limit_error"), retry_after="3"), streaming(text_events(WORDS))
    ) as server:
        transport = connect(server.url)
        session = Session(transport)
        assert session.ask("Tell me").text == "Once upon a time"
    assert transport.slept == [1.0, 1.0, 1.0]
    told = notices(session)
    assert [notice.text.rpartition("; ")[2] for notice in told] == [
        "try 2 of 3 in 3 s", "try 2 of 3 in 2 s", "try 2 of 3 in 1 s", ""
    ]  # fmt: skip
    assert all("told why" in notice.text for notice in told[:-1])
    assert [notice.failed for notice in told] == ["rate_limit_error", "", "", ""]


@pytest.mark.parametrize(
    ("headers", "slept"),
    [
        ({"retry_after_ms": "400"}, [0.4]),
        ({"retry_after": "60"}, [1.0] * 60),
        ({"retry_after": "2.5"}, [1.0, 1.0, 0.5]),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "0"}, None),
        ({}, None),
    ],
)
def test_the_wait_before_a_retry(headers: dict[str, str], slept: list[float] | None, connect: Any):
    """The service's wish counts. Without one it is the SDK's backoff: half a second, minus up to a quarter."""
    with serving(refuse("529 Busy", api_error("overloaded_error"), **headers), streaming(text_events(WORDS))) as server:
        transport = connect(server.url)
        assert Session(transport).ask("Tell me")
    if slept is None:
        assert 0.375 <= sum(transport.slept) <= 0.5
    else:
        assert transport.slept == pytest.approx(slept)


def test_a_date_to_wait_for(connect: Any):
    """HTTP allows a date in retry-after."""
    soon = email.utils.formatdate(time.time() + 20, usegmt=True)
    with serving(
        refuse("429 S", api_error("rate_limit_error"), retry_after=soon), streaming(text_events(WORDS))
    ) as server:
        transport = connect(server.url)
        assert Session(transport).ask("Tell me")
    assert 10 < sum(transport.slept) <= 21


@pytest.mark.parametrize("asked", ["61", "3600"])
def test_no_wait_is_longer_than_a_minute(asked: str, connect: Any):
    """The SDK would sleep for an hour. nbchat raises, and the hint says how long the service asks to wait."""
    with serving(refuse("429 Slow", api_error("rate_limit_error"), retry_after=asked)) as server:
        transport = connect(server.url)
        with pytest.raises(RateLimitError) as caught:
            Session(transport).ask("Tell me")
        assert len(server.requests) == 1
    assert transport.slept == []
    assert caught.value.retry_after == float(asked)
    assert f"{asked} s" in caught.value.hint


def test_waits_grow_and_tries_end(connect: Any):
    """``max_retries`` counts the attempts after the first one."""
    with serving(refuse("500 Oh", api_error("api_error"))) as server:
        transport = connect(server.url, max_retries=3)
        session = Session(transport)
        with pytest.raises(OverloadedError):
            session.ask("Tell me")
        assert len(server.requests) == 4
    waits = [0.5, 1.0, 2.0]
    assert sum(waits) * 0.75 <= sum(transport.slept) <= sum(waits)


# How an answer ends well


def test_a_server_that_holds_the_connection_open(connect: Any):
    """The answer is complete at message_stop. It settles soon after that, without an error."""

    def handler(wire: Wire, request: Received) -> None:
        wire.head()
        for event in text_events(WORDS):
            wire.event(event)
        wire.gone(30)
        raise ConnectionError

    class Clock:
        seen: float | None = None

        def begin(self, request) -> None:
            pass

        def feed(self, chunk: Any) -> None:
            if chunk.type == "response":
                self.seen = time.monotonic()

        def settle(self, response: Response) -> None:
            self.settled = time.monotonic()

    clock = Clock()
    with serving(handler) as server:
        response = Session(connect(server.url, idle_timeout=60)).ask("Tell me", sinks=[clock])
    assert response.status == "complete"
    assert response.usage.output_tokens == 4
    assert clock.seen is not None
    assert clock.settled - clock.seen < LINGER_S + 10  # 60 s without the cutoff; 30 s by the server


def test_what_comes_after_the_end_does_not_matter(connect: Any):
    """After a complete answer, neither a cut nor noise nor an error event matters."""
    for tail in (
        cut,
        Wire.reset,
        raw_event("message_start", "{"),
        last_events(api_error("api_error")),
        last_events(start()),
    ):

        def handler(wire: Wire, request: Received, tail: Tail = tail) -> None:
            wire.head()
            for event in text_events(WORDS):
                wire.event(event)
            tail(wire)

        with serving(handler) as server:
            response = Session(connect(server.url)).ask("Tell me")
        assert (response.status, response.text) == ("complete", "Once upon a time")


def test_two_asks_share_a_connection(connect: Any):
    """A stream is read to its end, so the next request can use the same connection."""
    with serving(streaming(text_events(WORDS))) as server:
        session = Session(connect(server.url))
        session.ask("One")
        session.ask("Two")
        assert len({request.port for request in server.requests}) == 1
        assert len(server.requests) == 2


# Without streaming


def test_an_answer_in_one_piece(connect: Any):
    """``max_tokens`` may exceed 21,333: a timeout of our own lifts the SDK's guard against long waits."""
    whole = message([{"type": "text", "text": "Once upon a time"}])
    with serving(lambda wire, request: wire.json("200 OK", whole)) as server:
        response = Session(connect(server.url)).ask("Tell me", stream=False, max_tokens=64_000)
        (sent,) = asked(server)
    assert not sent.body.get("stream")
    assert sent.body["max_tokens"] == 64_000
    assert (response.text, response.status, response.request_id) == ("Once upon a time", "complete", "req_test")
    assert response.usage.output_tokens == 5


WHOLE_FAILURES: dict[str, tuple[Callable[[Wire, Received], None], type[NbchatError], str, int]] = {
    "400": (refuse("400 Bad", api_error("invalid_request_error")), BadRequestError, "told why", 1),
    "401": (refuse("401 No", api_error("authentication_error")), AuthError, "authentication_error", 1),
    "429": (refuse("429 Slow", api_error("rate_limit_error")), RateLimitError, "rate_limit_error", 3),
    "529": (refuse("529 Busy", api_error("overloaded_error")), OverloadedError, "overloaded_error", 3),
    "plain text": (refuse("500 Oh", "out of memory"), OverloadedError, "out of memory", 3),
    "an HTML page": (page, ConnectionFailed, "not a Messages API answer", 1),
    "malformed JSON": (
        lambda wire, request: (wire.head(content_type="application/json"), wire.send(b'{"id": '), wire.end()),
        ConnectionFailed, "not a Messages API answer", 1),
    "JSON of something else": (lambda wire, request: wire.json("200 OK", {}), ConnectionFailed, "JSON without", 1),
    "a list": (lambda wire, request: wire.json("200 OK", [1]), ConnectionFailed, "not a Messages API answer", 1),
    "an error under 200": (
        lambda wire, request: wire.json("200 OK", api_error("overloaded_error")), OverloadedError, "told why", 1),
    "cut before headers": (before_head(cut), ConnectionFailed, "the connection to the endpoint 'mine' failed", 3),
    "cut in the body": (
        lambda wire, request: (wire.head(content_type="application/json"), wire.send(b'{"id": '), cut(wire)),
        ConnectionFailed, "the connection to the endpoint 'mine' failed", 1),
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE_FAILURES)
def test_no_answer_in_one_piece(name: str, connect: Any):
    """The errors are the same as without an event in a stream."""
    handler, kind, said, requests = WHOLE_FAILURES[name]
    with serving(handler) as server:
        session = Session(connect(server.url))
        with pytest.raises(TransportError) as caught:
            session.ask("Tell me", stream=False)
        assert len(server.requests) == requests
    assert type(caught.value) is kind
    assert said in caught.value.message
    assert caught.value.__context__ is None
    assert settled(session).status == "error"


def test_a_gateway_that_cannot_stream_still_answers(connect: Any):
    """It sends the whole message although it was asked to stream."""
    whole = message([{"type": "text", "text": "All at once"}])
    with serving(lambda wire, request: wire.json("200 OK", whole)) as server:
        response = Session(connect(server.url)).ask("Tell me")
    assert (response.text, response.status, response.request_id) == ("All at once", "complete", "req_test")


# What is sent


def test_the_request_on_the_wire(connect: Any):
    """The body is the Request's, the headers are the SDK's."""
    with serving(streaming(text_events(WORDS))) as server:
        Session(connect(server.url, api_key=" gateway-key-0\n")).ask(
            "Tell me", model="m-1", system="Be brief", max_tokens=77, stop=["END"], effort="low"
        )
        (sent,) = asked(server)
    assert sent.path == "/v1/messages"
    assert sent.headers["authorization"] == "Bearer gateway-key-0"
    assert "x-api-key" not in sent.headers
    assert sent.headers["anthropic-version"]
    assert "anthropic-beta" not in sent.headers
    assert sent.body == {
        "model": "m-1",
        "max_tokens": 77,
        "system": "Be brief",
        "messages": [{"role": "user", "content": "Tell me"}],
        "stop_sequences": ["END"],
        "output_config": {"effort": "low"},
        "cache_control": {"type": "ephemeral"},
        "stream": True,
    }


def test_fields_that_the_sdk_does_not_know_are_sent(connect: Any):
    """``temperature`` is gone from the SDK's methods, and fields of a later API are not in them yet."""
    params = [
        "temperature=0.2",
        'of_next_year={"a": [1]}',
        'betas=["one-2026-01-01","two"]',
        "timeout=3",
        'extra_body="x"',
    ]
    with serving(streaming(text_events(WORDS))) as server:
        Session(connect(server.url)).ask("Tell me", param=params)
        (sent,) = asked(server)
    assert sent.headers["anthropic-beta"] == "one-2026-01-01,two"
    assert "betas" not in sent.body
    fields = ("temperature", "of_next_year", "timeout", "extra_body")
    assert {name: sent.body[name] for name in fields} == {
        "temperature": 0.2, "of_next_year": {"a": [1]}, "timeout": 3, "extra_body": "x"
    }  # fmt: skip


def test_a_server_without_keys_gets_none(connect: Any, monkeypatch: pytest.MonkeyPatch):
    """It never gets the key and the headers that are meant for Anthropic, and no placeholder."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-for-anthropic-only")
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "Authorization: Bearer custom-0123\nX-Team: chem-4567")
    with serving(streaming(text_events(WORDS))) as server:
        Session(connect(server.url)).ask("Tell me")
        headers = json.dumps(server.requests[0].headers)
    for unwanted in ("authorization", "x-api-key", "sk-ant", "custom-0123", "chem-4567", "none"):
        assert unwanted not in headers.lower().replace("async", "")


def test_models_and_tokens_of_an_endpoint(connect: Any):
    """Models are plain dicts, and every error is one of ours."""
    models = {"data": [{"id": "m-1", "type": "model", "max_input_tokens": 9}], "has_more": False, "first_id": "m-1"}

    def handler(wire: Wire, request: Received) -> None:
        path = request.path.partition("?")[0]
        known = {
            "/v1/models": models,
            "/v1/models/m-1": models["data"][0],
            "/v1/messages/count_tokens": {"input_tokens": 7},
        }
        if path in known:
            wire.json("200 OK", known[path])
        else:
            wire.json("404 Not Found", api_error("not_found_error"))

    with serving(handler) as server:
        transport = connect(server.url)
        assert transport.models()[0]["max_input_tokens"] == 9
        assert transport.describe("m-1")["id"] == "m-1"
        with pytest.raises(BadRequestError) as caught:
            transport.describe("m-2")
        assert caught.value.__context__ is None
        request = Request("m-1", (), 10, params={"temperature": 1, "timeout": 3})
        assert transport.count_tokens(request) == 7
        assert not {"temperature", "timeout", "max_tokens"} & set(server.requests[-1].body)


# Credentials


@pytest.fixture
def anthropic_at(http: Any) -> Callable[..., ClaudeTransport]:
    """Return a function that makes the endpoint ``anthropic`` at a URL, with the environment's credentials."""
    return lambda url, **given: ClaudeTransport("anthropic", base_url=url, http_client=http, max_retries=0, **given)


@pytest.mark.parametrize("elsewhere", [True, False], ids=["config dir", "home"])
def test_without_credentials_nothing_is_sent(
    elsewhere: bool, anthropic_at: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """The hint names the three ways out. With ANTHROPIC_CONFIG_DIR set, the SDK raises another error."""
    if not elsewhere:
        monkeypatch.delenv("ANTHROPIC_CONFIG_DIR")
        monkeypatch.setenv("HOME", str(tmp_path))
    with serving(streaming(text_events(WORDS))) as server:
        transport = anthropic_at(server.url)
        assert not transport.has_credentials()
        with pytest.raises(AuthError) as caught:
            Session(transport).ask("Tell me")
        assert server.requests == []
    for way in ("ANTHROPIC_API_KEY", "--endpoint", "the embedded model"):
        assert way in caught.value.hint
    assert "nothing was sent" in caught.value.message


def test_a_blank_key_does_not_count(anthropic_at: Any, monkeypatch: pytest.MonkeyPatch):
    """The message says that the variable is blank, because it looks set."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", " \n")
    with serving(streaming(text_events(WORDS))) as server:
        transport = anthropic_at(server.url)
        assert not transport.has_credentials()
        with pytest.raises(AuthError) as caught:
            Session(transport).ask("Tell me")
        assert server.requests == []
    assert "blank" in caught.value.message


@pytest.mark.parametrize("variable", ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"])
def test_white_space_around_a_key_is_removed(variable: str, anthropic_at: Any, monkeypatch: pytest.MonkeyPatch):
    """A key is easily copied together with a line break."""
    monkeypatch.setenv(variable, "  sk-ant-0123456789\n")
    with serving(streaming(text_events(WORDS))) as server:
        transport = anthropic_at(server.url)
        assert transport.has_credentials()
        assert Session(transport).ask("Tell me")
        assert server.requests[0].headers["authorization"] == "Bearer sk-ant-0123456789"
    assert "0123456789" not in repr(transport)


@pytest.mark.parametrize("key", ["gateway\nkey-0123456789", "gateway\x00key-0123456789"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_key_that_does_not_fit_into_a_header(key: str, stream: bool, connect: Any):
    """h11 would print the key. nbchat asks to copy it again."""
    with serving(streaming(text_events(WORDS))) as server:
        with pytest.raises(AuthError) as caught:
            Session(connect(server.url, api_key=key)).ask("Tell me", stream=stream)
        assert server.requests == []
    error = caught.value
    assert "Copy the key again" in error.hint
    assert "0123456789" not in f"{error}{error!r}{error.__cause__!r}{error.__context__!r}"


def test_a_profile_that_does_not_exist(anthropic_at: Any, monkeypatch: pytest.MonkeyPatch):
    """The error names it. A missing profile is not a lack of credentials, or the embedded model would answer."""
    monkeypatch.setenv("ANTHROPIC_PROFILE", "nope")
    transport = anthropic_at("http://127.0.0.1:9")
    assert transport.has_credentials()
    with pytest.raises(AuthError) as caught:
        Session(transport).ask("Tell me")
    assert "'nope'" in caught.value.message


def test_a_rejected_token_is_renewed_once(anthropic_at: Any):
    """The SDK does the same, but its own retries are off."""
    from anthropic import AccessToken

    made: list[str] = []

    def provider(*, force_refresh: bool = False) -> AccessToken:
        made.append(f"token-{len(made)}-0123456789")
        return AccessToken(made[-1])

    with serving(refuse("401 No", api_error("authentication_error")), streaming(text_events(WORDS))) as server:
        transport = anthropic_at(server.url, credentials=provider)
        transport._max_retries = 2
        assert Session(transport).ask("Tell me")
        sent = [request.headers["authorization"] for request in server.requests]
    assert sent == ["Bearer token-0-0123456789", "Bearer token-1-0123456789"]


def test_credentials_in_a_header_of_the_environment_count(
    anthropic_at: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """ANTHROPIC_CUSTOM_HEADERS can set a key."""
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "X-Api-Key: custom-0123456789")
    monkeypatch.delenv("ANTHROPIC_CONFIG_DIR")  # where it is set the SDK insists on a profile
    monkeypatch.setenv("HOME", str(tmp_path))
    with serving(streaming(text_events(WORDS))) as server:
        transport = anthropic_at(server.url)
        assert transport.has_credentials()
        assert Session(transport).ask("Tell me")
        assert server.requests[0].headers["x-api-key"] == "custom-0123456789"
    assert errors.redact("custom-0123456789") == "…"


PLATFORM_VARIABLES = ("AWS_", "GOOGLE_", "CLOUD_ML_", "GCLOUD_", "AZURE_")


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Remove the settings of all platforms from the environment."""
    import os

    for name in list(os.environ):
        if name.startswith(PLATFORM_VARIABLES):
            monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize(("name", "library"), [("bedrock", "botocore"), ("vertex", "google.auth")])
def test_a_platform_without_its_library(name: str, library: str, bare: pytest.MonkeyPatch):
    """The error comes before anything else, and names the extra to install."""
    bare.setattr("nbchat.transports.claude.client.is_installed", lambda module: module != library)
    with pytest.raises(InputError) as caught:
        Session(ClaudeTransport(name)).ask("Tell me")
    assert library in caught.value.message
    assert f'pip install "anthropic[{name}]"' in caught.value.hint


def test_is_installed():
    """It knows a module, a module in a package, and modules that are missing."""
    from nbchat.transports.claude.client import is_installed

    assert is_installed(None)
    assert is_installed("email.utils")
    assert not is_installed("no_such_library")
    assert not is_installed("no_such_library.part")


@pytest.mark.parametrize(
    ("name", "variable"),
    [("bedrock", "AWS_REGION"), ("vertex", "CLOUD_ML_REGION"), ("foundry", "ANTHROPIC_FOUNDRY_RESOURCE")],
)
def test_a_platform_without_its_settings(name: str, variable: str, bare: pytest.MonkeyPatch):
    """The hint names the platform's settings, not those of Anthropic's own API."""
    bare.setattr("nbchat.transports.claude.client.is_installed", lambda module: True)
    with pytest.raises(AuthError) as caught:
        Session(ClaudeTransport(name)).ask("Tell me")
    assert variable in caught.value.hint
    assert "ANTHROPIC_API_KEY" not in caught.value.hint
    assert name in caught.value.message


def test_foundry_through_the_sdks_own_client(bare: pytest.MonkeyPatch, http: Any):
    """The events are the same, the address and the key are the platform's."""
    bare.setenv("ANTHROPIC_FOUNDRY_API_KEY", "foundry-key-0123")
    with serving(streaming(text_events(WORDS))) as server:
        transport = ClaudeTransport("foundry", base_url=server.url, http_client=http)
        assert Session(transport).ask("Tell me").text == "Once upon a time"
        assert "foundry-key-0123" in json.dumps(server.requests[0].headers)
    assert "foundry-key" not in repr(transport)


def test_the_repr_of_a_transport_has_no_key(monkeypatch: pytest.MonkeyPatch):
    """Neither the key nor a password in the address is shown, and both are redacted from then on."""
    monkeypatch.setattr(secrets, "_secrets", set())
    transport = ClaudeTransport("mine", base_url="http://me:pass-word-1@host/x", api_key="gateway-key-1")
    assert repr(transport) == "ClaudeTransport('mine', base_url='http://me:…@host/x')"
    assert errors.redact("gateway-key-1 pass-word-1") == "… …"


_shared: list[Session] = []


def _ask_in_child(prompt: str, stream: bool) -> str:
    return _shared[0].ask(prompt, once=True, stream=stream).text


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")
def test_forked_processes_do_not_share_a_connection(stream: bool):
    """A pool of processes after the first ask: each process gets its own answers, on connections of its own."""

    def echo(wire: Wire, request: Received) -> None:
        prompt = request.body["messages"][-1]["content"]
        time.sleep(0.05)  # so that the requests of both processes are under way together
        if stream:
            streaming(text_events([prompt]))(wire, request)
        else:
            wire.json("200 OK", {"type": "message", "role": "assistant", "content": [{"type": "text", "text": prompt}]})

    with serving(echo) as server:
        _shared[:] = [Session(ClaudeTransport("mine", base_url=server.url))]
        assert _ask_in_child("first", stream) == "first"
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
            prompts = [f"prompt {number}" for number in range(12)]
            assert list(pool.map(_ask_in_child, prompts, [stream] * 12)) == prompts
        assert _ask_in_child("last", stream) == "last"
        ports = [request.port for request in server.requests]
    # The parent's connection was never used by a child, and still works.
    assert ports[0] == ports[-1]
    assert ports[0] not in ports[1:-1]
