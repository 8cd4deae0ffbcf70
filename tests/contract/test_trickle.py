"""A trickle of bytes never outlasts a limit: only content keeps an answer alive.

Every byte that arrives starts the read timeout of an HTTP library again. Each handler here sends one
often enough, and sends it for ever.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from nbchat.core.errors import ConnectionFailed, StreamError
from nbchat.core.messages import Message
from nbchat.core.request import Request
from nbchat.engine.session import Session
from nbchat.transports.claude import ClaudeTransport, attempt, transport
from nbchat.transports.claude.deadline import Deadline
from tests.support.server import Received, Wire, message, serving, sse, start, streaming, text_delta, text_events

LIMIT_S = 0.4
#: Far below the time that the handlers here would take, and far above the limit.
ENOUGH_S = 3.0
PAUSE_S = 0.02

Handler = Callable[[Wire, Received], None]
QUESTION = Request("m", (Message.of("user", "Hi"),), 10)


@pytest.fixture(scope="module")
def http() -> Iterator[Any]:
    import anthropic

    with anthropic.DefaultHttpxClient() as client:
        yield client


@pytest.fixture(params=["own client", "client of the user"])
def connect(request: pytest.FixtureRequest, http: Any) -> Callable[..., ClaudeTransport]:
    """Return a function that makes a transport with a short limit."""
    more = {"http_client": http} if request.param == "client of the user" else {}
    return lambda url, **given: ClaudeTransport(
        "mine", base_url=url, **{"idle_timeout": LIMIT_S, "max_retries": 0, **more, **given}
    )


def drip(wire: Wire, parts: Iterable[bytes]) -> None:
    """Send one part after the other, with short pauses, for at most 20 seconds."""
    until = time.monotonic() + 20
    for part in parts:
        wire.raw(part)
        time.sleep(PAUSE_S)
        if time.monotonic() > until:
            raise TimeoutError("the client waited for the whole trickle")


def for_ever(part: bytes) -> Iterator[bytes]:
    while True:
        yield part


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def headers(wire: Wire, request: Received) -> None:
    wire.raw(b"HTTP/1.1 200 OK\r\n")
    drip(wire, (b"x-%d: 1\r\n" % number for number in range(10_000)))


def bytes_of_a_header(wire: Wire, request: Received) -> None:
    wire.raw(b"HTTP/1.1 200 OK\r\nx-long: ")
    drip(wire, for_ever(b"a"))


def early_hints(wire: Wire, request: Received) -> None:
    drip(wire, for_ever(b"HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\n\r\n"))


def error_body(status: str) -> Handler:
    def handler(wire: Wire, request: Received) -> None:
        wire.head(status, "application/json")
        drip(wire, for_ever(chunk(b" ")))

    return handler


def body_of(content_type: str, part: bytes) -> Handler:
    def handler(wire: Wire, request: Received) -> None:
        wire.head(content_type=content_type)
        drip(wire, for_ever(chunk(part)))

    return handler


def after_start(event: bytes) -> Handler:
    """Return a handler that begins an answer, and then repeats an event."""

    def handler(wire: Wire, request: Received) -> None:
        wire.head()
        for opening in list(text_events(["Once "]))[:3]:
            wire.event(opening)
        drip(wire, for_ever(chunk(event)))

    return handler


BEFORE_CONTENT: dict[str, Handler] = {
    "headers": headers,
    "bytes of a header": bytes_of_a_header,
    "103 again and again": early_hints,
    "an error body": error_body("400 Bad"),
    "an error body that may be tried again": error_body("529 Busy"),
    "a body in JSON": body_of("application/json", b" "),
    "bytes of an event": body_of("text/event-stream", b"a"),
    "pings": body_of("text/event-stream", sse({"type": "ping"})),
    "unknown events": body_of("text/event-stream", sse({"type": "of_next_year"})),
    "SSE comments": body_of("text/event-stream", b": still here\n\n"),
}


@pytest.mark.parametrize("name", BEFORE_CONTENT)
def test_a_trickle_instead_of_an_answer(name: str, connect: Any):
    """The watch begins before anything is sent."""
    with serving(BEFORE_CONTENT[name]) as server:
        began = time.monotonic()
        with pytest.raises(ConnectionFailed) as caught, connect(server.url).stream(QUESTION) as events:
            list(events)
        assert LIMIT_S * 0.9 <= time.monotonic() - began < ENOUGH_S
        assert len(server.requests) == 1
    assert "nothing arrived for 0.4 s" in caught.value.message


NO_CONTENT: dict[str, dict[str, Any]] = {
    "ping": {"type": "ping"},
    "unknown event": {"type": "of_next_year", "text": "still here"},
    "unknown delta": {"type": "content_block_delta", "index": 0, "delta": {"type": "of_next_year", "text": "x"}},
    "empty delta": text_delta(""),
    "message_delta": {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 1}},
}


@pytest.mark.parametrize("name", NO_CONTENT)
def test_a_trickle_after_the_answer_began(name: str, connect: Any):
    """Only events with content count. What arrived is kept."""
    with serving(after_start(sse(NO_CONTENT[name]))) as server:
        session, began = Session(connect(server.url)), time.monotonic()
        with pytest.raises(StreamError) as caught:
            session.ask("Tell me")
        assert time.monotonic() - began < ENOUGH_S
    assert "no content came for 0.4 s" in caught.value.message
    assert caught.value.partial.text == "Once "


def test_message_start_and_then_unknown_events(connect: Any):
    """The beginning of a message is not content either."""

    def handler(wire: Wire, request: Received) -> None:
        wire.head()
        wire.event(start())
        drip(wire, for_ever(chunk(sse({"type": "of_next_year"}))))

    with serving(handler) as server:
        began = time.monotonic()
        with pytest.raises(StreamError), connect(server.url).stream(QUESTION) as events:
            list(events)
        assert time.monotonic() - began < ENOUGH_S


def test_a_slow_stream_of_content_lives(connect: Any):
    """The limit holds for the time without content, not for the whole answer."""
    words = ["word "] * 12
    with serving(streaming(text_events(words), pause=LIMIT_S / 6)) as server:
        began = time.monotonic()
        assert Session(connect(server.url)).ask("Tell me").text == "word " * 12
        assert time.monotonic() - began > 2 * LIMIT_S


WHOLE: dict[str, Handler] = {
    "headers": headers,
    "103 again and again": early_hints,
    "an error body": error_body("400 Bad"),
    "the body": body_of("application/json", b" "),
}


@pytest.mark.parametrize("name", WHOLE)
def test_an_answer_that_is_not_streamed_has_a_limit_as_a_whole(
    name: str, connect: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(attempt, "UNSTREAMED_TIMEOUT_S", LIMIT_S)
    monkeypatch.setattr(transport, "UNSTREAMED_TIMEOUT_S", LIMIT_S)
    with serving(WHOLE[name]) as server:
        began = time.monotonic()
        with pytest.raises(ConnectionFailed) as caught:
            Session(connect(server.url, idle_timeout=60)).ask("Tell me", stream=False)
        assert time.monotonic() - began < ENOUGH_S
    assert "nothing arrived for 0.4 s" in caught.value.message


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("call", ["models", "describe", "count_tokens"])
def test_the_other_calls_have_a_limit_as_a_whole(name: str, call: str, connect: Any, monkeypatch: pytest.MonkeyPatch):
    """The Models API took 74 s for a limit of 5."""
    monkeypatch.setattr(transport, "MODELS_TIMEOUT_S", LIMIT_S)
    monkeypatch.setattr(transport, "COUNT_TIMEOUT_S", LIMIT_S)
    arguments = {"models": (), "describe": ("m",), "count_tokens": (QUESTION,)}[call]
    with serving(WHOLE[name]) as server:
        began = time.monotonic()
        with pytest.raises(ConnectionFailed):
            getattr(connect(server.url), call)(*arguments)
        assert time.monotonic() - began < ENOUGH_S


def test_endless_pages_of_models(connect: Any, monkeypatch: pytest.MonkeyPatch):
    """All pages together have the limit."""
    monkeypatch.setattr(transport, "MODELS_TIMEOUT_S", LIMIT_S)

    def handler(wire: Wire, request: Received) -> None:
        time.sleep(PAUSE_S)
        model = {"id": f"m-{time.monotonic()}", "type": "model"}
        wire.json("200 OK", {"data": [model], "has_more": True, "first_id": model["id"], "last_id": model["id"]})

    with serving(handler) as server:
        began = time.monotonic()
        with pytest.raises(ConnectionFailed):
            connect(server.url).models()
        assert time.monotonic() - began < ENOUGH_S


def test_a_trickle_on_a_connection_that_was_used_before(connect: Any):
    """The second request finds the connection in the pool. Its reads have the limit as well."""
    with serving(streaming(text_events(["One"])), after_start(sse({"type": "ping"}))) as server:
        session = Session(connect(server.url))
        assert session.ask("One").text == "One"
        began = time.monotonic()
        with pytest.raises(StreamError):
            session.ask("Two")
        assert time.monotonic() - began < ENOUGH_S
        assert server.requests[0].port == server.requests[1].port


def test_a_slow_upload_is_not_a_stall():
    """The time that the request itself needs is added to the limit."""
    deadline = Deadline(1.0)
    deadline.allow_upload(32 * 2**20)
    assert deadline.remaining_s() > 1000


def test_no_thread_is_left_and_none_is_made(connect: Any):
    """The limit costs no thread."""
    made: list[str] = []
    with serving(streaming(text_events(["One"]))) as server:
        endpoint = connect(server.url)
        for _ in range(2):  # the first one opens the connection, for which the server starts a thread
            made.clear()
            with _noted(made), endpoint.stream(QUESTION) as events:
                assert list(events)
    assert made == []


class _noted:
    """Notes the names of threads that start."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def __enter__(self) -> None:
        self.start = start_thread = threading.Thread.start
        names = self.names

        def noted(thread: threading.Thread) -> None:
            names.append(thread.name)
            start_thread(thread)

        threading.Thread.start = noted  # type: ignore[method-assign]

    def __exit__(self, *error: object) -> None:
        threading.Thread.start = self.start  # type: ignore[method-assign]


# A body that breaks off


def test_an_answer_that_broke_off_in_its_body_is_not_asked_again(connect: Any):
    """All of it but one byte arrived, so it was generated, and would be paid for twice."""
    body = json.dumps(message([{"type": "text", "text": "Once upon a time"}])).encode()

    def handler(wire: Wire, request: Received) -> None:
        wire.raw(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body))
        wire.raw(body[:-1])
        wire.connection.shutdown(2)

    with serving(handler) as server:
        session = Session(connect(server.url, max_retries=2, sleep=lambda seconds: None))
        with pytest.raises(ConnectionFailed):
            session.ask("Tell me", stream=False)
        assert len(server.requests) == 1
    assert [entry.cost for entry in session.accounting.run] == [None], "the cost is unknown, and not 0"


def test_a_stream_that_broke_off_in_its_first_event_is_not_asked_again(connect: Any):
    def handler(wire: Wire, request: Received) -> None:
        wire.head()
        wire.send(sse(start())[:-20])
        wire.connection.shutdown(2)

    with serving(handler) as server:
        session = Session(connect(server.url, max_retries=2, sleep=lambda seconds: None))
        with pytest.raises(ConnectionFailed):
            session.ask("Tell me")
        assert len(server.requests) == 1
    assert [entry.cost for entry in session.accounting.run] == [None]
