"""A trickle of bytes never outlasts a limit: only content keeps an answer alive.

Every byte that arrives starts the read timeout of an HTTP library again. Each handler here sends one
often enough, and sends it for ever.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import httpcore2
import pytest

from nbchat.core.errors import ConnectionFailed, StreamError
from nbchat.core.messages import Message
from nbchat.core.request import Request
from nbchat.engine.session import Session
from nbchat.transports.claude import ClaudeTransport, attempt, connections, transport
from nbchat.transports.claude.deadline import Deadline
from tests.support.server import Received, Wire, message, serving, sse, start, streaming, text_delta, text_events

LIMIT_S = 0.4
#: Far below the 20 s for which the handlers here go on, and far above the limit, because the machine may be busy.
ENOUGH_S = 10.0
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


# Before the request is sent ------------------------------------------------------------------


def test_a_look_up_of_a_name_ends_with_the_limit(connect, monkeypatch: pytest.MonkeyPatch):
    """The system's look-up can take half a minute, and nothing can stop it."""
    answers = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **fields: answers.wait(30) and [])
    began = time.monotonic()
    with pytest.raises(ConnectionFailed, match="could not be made in time") as caught:
        Session(connect("http://nowhere.example:9")).ask("Hi")
    assert time.monotonic() - began < ENOUGH_S
    assert caught.value.type == "not_connected"
    answers.set()


def test_an_interrupt_ends_a_look_up(connect, monkeypatch: pytest.MonkeyPatch):
    """In the system's own call, Python would see the signal only after the look-up."""
    looking, answers = threading.Event(), threading.Event()

    def look_up(*args: Any, **fields: Any) -> list[Any]:
        looking.set()
        answers.wait(30)
        return []

    def press() -> None:
        looking.wait(20)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    threading.Thread(target=press).start()
    with pytest.raises(KeyboardInterrupt):
        Session(connect("http://nowhere.example:9", idle_timeout=20)).ask("Hi")
    answers.set()


def test_each_address_of_a_host_is_tried_within_the_limit(connect, monkeypatch: pytest.MonkeyPatch):
    """The first one refuses, and the second one answers. A host without an address is a lost connection."""
    with serving(streaming(text_events(["Hi"]))) as server:
        port = int(server.url.rpartition(":")[2])
        found = [("127.0.0.3", port), ("127.0.0.1", port)]
        monkeypatch.setattr(socket, "getaddrinfo", entries_of(found))
        assert Session(connect(f"http://two.example:{port}")).ask("Hi").text == "Hi"
    monkeypatch.setattr(socket, "getaddrinfo", entries_of([]))
    with pytest.raises(ConnectionFailed, match="failed"):
        Session(connect("http://none.example:9")).ask("Hi")


def entries_of(found: list[tuple[str, int]]) -> Callable[..., list[Any]]:
    look_up = socket.getaddrinfo

    def entries(host: Any, *args: Any, **fields: Any) -> list[Any]:
        if str(host).endswith(".example"):
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in found]
        return look_up(host, *args, **fields)

    return entries


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """Return the context of a server with a certificate that it signed itself."""
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=proxy"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@pytest.mark.parametrize("layers", [1, 2], ids=["a server", "a server behind an HTTPS proxy"])
def test_a_trickle_in_a_handshake_ends_with_the_limit(certificate: ssl.SSLContext, layers: int):
    """Behind an HTTPS proxy, the library reads the socket again and again, each time with the whole timeout."""
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        connection, _ = listener.accept()
        with contextlib.suppress(OSError):
            if layers == 2:
                connection = certificate.wrap_socket(connection, server_side=True)
            with connection:
                connection.recv(10_000)
                connection.sendall(b"\x16\x03\x03\x40\x00")  # the head of a record of 16 kB
                while True:
                    connection.sendall(b"\x02")
                    time.sleep(PAUSE_S)

    with listener:
        threading.Thread(target=answer, daemon=True).start()
        began = time.monotonic()
        with Deadline(LIMIT_S):
            stream = connections.LimitedBackend(httpcore2.SyncBackend()).connect_tcp(
                "localhost", listener.getsockname()[1]
            )
            if layers == 2:
                stream = stream.start_tls(trusting, "proxy", 20)
            with pytest.raises(httpcore2.ConnectTimeout):
                stream.start_tls(trusting, "inner", 20)
        assert time.monotonic() - began < ENOUGH_S


def test_a_connection_behind_an_https_proxy_carries_data(certificate: ssl.SSLContext):
    """One handshake inside of the other, then more bytes than one record has."""
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    size = 50_000

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with certificate.wrap_socket(connection, server_side=True) as inner:
            received = 0
            while received < size:
                received += len(inner.recv(size))
            inner.sendall(b"b" * size)

    def forward(listener: socket.socket, port: int) -> None:
        connection, _ = listener.accept()
        outer = certificate.wrap_socket(connection, server_side=True)
        with socket.create_connection(("127.0.0.1", port)) as inner, contextlib.suppress(OSError):
            threading.Thread(target=pipe, args=(inner, outer), daemon=True).start()
            pipe(outer, inner)

    def pipe(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(size):
                target.sendall(data)

    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as proxy:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        threading.Thread(target=forward, args=(proxy, server.getsockname()[1]), daemon=True).start()
        with Deadline(20):
            stream = connections.LimitedBackend(httpcore2.SyncBackend()).connect_tcp(
                "localhost", proxy.getsockname()[1]
            )
            stream = stream.start_tls(trusting, "proxy", 20).start_tls(trusting, "inner", 20)
            stream.write(b"a" * size, 20)
            received = b""
            while len(received) < size:
                received += stream.read(size, 20)
        assert received == b"b" * size
        stream.close()
