"""Faults of HTTP: statuses and their bodies, headers, connections that end, and cuts of a body."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Any

from tests.faults.answers import KINDS, body_of, events_of, message_of, stream_of, until
from tests.faults.fault import BROKE, LIVES, LOST, Fault, always, end_with, streamed, whole
from tests.support.server import Wire

__all__ = ["faults"]

BAD, AUTH, RATE, BUSY = "BadRequestError", "AuthError", "RateLimitError", "OverloadedError"
#: Each status, the class of its error, and how often nbchat asks.
STATUSES = {
    400: (BAD, 1), 401: (AUTH, 1), 402: (AUTH, 1), 403: (AUTH, 1), 404: (BAD, 1), 405: (BAD, 1), 408: (LOST, 3),
    409: (BAD, 3), 410: (BAD, 1), 413: (BAD, 1), 418: (BAD, 1), 422: (BAD, 1), 429: (RATE, 3), 451: (BAD, 1),
    500: (BUSY, 3), 501: (BUSY, 3), 502: (BUSY, 3), 503: (BUSY, 3), 504: (LOST, 3), 520: (BUSY, 3), 529: (BUSY, 3),
    599: (BUSY, 3),
}  # fmt: skip
ERROR = {"type": "error", "error": {"type": "of_a_gateway", "message": "No \x1b[31mroom\x07 left"}}
DEEP = b'{"error": ' + b"[" * 50_000 + b"]" * 50_000 + b"}"
#: Bodies of an error, each with its content type.
BODIES: dict[str, tuple[str, bytes]] = {
    "the API's own error": ("application/json", json.dumps(ERROR).encode()),
    "nothing": ("application/json", b""),
    "HTML": ("text/html", b"<html><head><title>Bad \x1b[2J Gateway</title></head><body>nginx</body></html>"),
    "HTML of a megabyte": ("text/html", b"<p>" + b"x" * 1_000_000),
    "JSON of a megabyte": ("application/json", json.dumps({"error": {"message": "x" * 1_000_000}}).encode()),
    "bytes that are not UTF-8": ("application/json", b"\xff\xfe\x00\x80" * 20),
    "JSON that is nested 50,000 deep": ("application/json", DEEP),
    "a list": ("application/json", b"[1, 2]"),
    "a number": ("application/json", b"5"),
    "a null": ("application/json", b"null"),
    "a string": ("application/json", b'"no"'),
    "an object without an error": ("application/json", b"{}"),
    "an error that is a string": ("application/json", b'{"error": "no room"}'),
    "an error that is a list": ("application/json", b'{"error": ["no", "room"]}'),
    "an error that is a null": ("application/json", b'{"error": null}'),
    "an error whose type is a number": ("application/json", b'{"error": {"type": 5, "message": {"a": 1}}}'),
    "an error whose message is half of a surrogate pair": (
        "application/json", b'{"error": {"type": "\\ud800", "message": "\\udc00 no"}}',
    ),
    "a detail": ("application/json", b'{"detail": [{"loc": ["body"], "msg": "field required"}]}'),
    "JSON after a byte order mark": ("application/json", b"\xef\xbb\xbf" + json.dumps(ERROR).encode()),
    "JSON as text": ("text/plain", json.dumps(ERROR).encode()),
    "a stream": ("text/event-stream", b"event: error\ndata: " + json.dumps(ERROR).encode() + b"\n\n"),
    "a line with a key": ("text/plain", b"the key sk-ant-ring-0123456789 is not valid"),
}  # fmt: skip


def faults() -> Iterator[Fault]:
    """Yield the faults."""
    yield from _statuses()
    yield from _odd_statuses()
    yield from _headers()
    yield from _connections()
    yield from _cuts()


def _answer(wire: Wire, kind: str, **more: Any) -> None:
    """Send the right answer to a request that is streamed."""
    wire.head(**more)
    wire.send(stream_of(events_of(kind)))
    wire.end()


def _reply(wire: Wire, status: str, lines: list[str], body: bytes) -> None:
    """Send an answer with exactly these headers, and close the connection."""
    wire.chunked = False
    wire.raw("\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode("latin-1") + body)


def _statuses() -> Iterator[Fault]:
    for status, (seen, asked) in STATUSES.items():

        def serve(wire: Wire, kind: str, status: int = status) -> None:
            wire.json(f"{status} No", ERROR)

        yield always(f"status {status}", seen, serve, asked=asked)
    for status in (400, 503):
        for title, (content_type, body) in BODIES.items():

            def serve(
                wire: Wire, kind: str, status: int = status, content_type: str = content_type, body: bytes = body
            ) -> None:
                wire.head(f"{status} No", content_type)
                if body:
                    wire.send(body)
                wire.end()

            seen, asked = STATUSES[status]
            yield always(f"status {status} with {title}", seen, serve, asked=asked)
        for ending in ("close", "reset"):

            def serve(wire: Wire, kind: str, status: int = status, ending: str = ending) -> None:
                wire.head(f"{status} No", "application/json")
                wire.send(b'{"error": {"type": "of_a')
                end_with(wire, ending)

            seen, asked = STATUSES[status]
            yield always(f"status {status} with a body that is cut ({ending})", seen, serve, asked=asked)

        def encoded(wire: Wire, kind: str, status: int = status) -> None:
            wire.head(f"{status} No", "application/json", content_encoding="gzip")
            wire.send(json.dumps(ERROR).encode())
            wire.end()

        seen, asked = STATUSES[status]
        yield always(f"status {status} with a body that is said to be gzip and is not", seen, encoded, asked=asked)


def _odd_statuses() -> Iterator[Fault]:
    def early(status: str) -> Any:
        def serve(wire: Wire, kind: str) -> None:
            wire.raw(f"HTTP/1.1 {status}\r\nlink: </x>\r\n\r\n".encode() * 3)
            _answer(wire, kind)

        return serve

    yield Fault("a status 103 before the answer", LIVES, stream=early("103 Early Hints"))
    yield Fault("a status 100 before the answer", LIVES, stream=early("100 Continue"))

    def moved(location: str) -> Any:
        lines = [f"location: {location}"] if location else []
        return lambda wire, kind: _reply(wire, "302 Found", [*lines, "content-length: 0"], b"")

    yield always("a redirect to nowhere", BAD, moved(""))
    yield always("a redirect to an address that is not HTTP", LOST, moved("file:///etc/passwd"))
    yield always("a redirect to an address that is malformed", LOST, moved("http://[::1"), asked=3)
    for status, seen, asked in (
        ("204 No Content", LOST, {"": 1}),
        ("304 Not Modified", BAD, 1),
        ("600 What", BUSY, 3),
        ("999 No", BUSY, 3),
    ):

        def serve(wire: Wire, kind: str, status: str = status) -> None:
            _reply(wire, status, ["content-type: application/json", "connection: close"], b"")

        yield always(f"status {status}", seen, serve, asked=asked)
    for title, line in {
        "a status that is a word": b"HTTP/1.1 abc\r\n\r\n",
        "a status line of another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
        "HTTP 0.9": b"<html>Hello</html>",
        "a line without an end": b"x" * 200_000,
        "nothing but line ends": b"\r\n\r\n\r\n",
        "TLS": b"\x15\x03\x01\x00\x02\x02\x50",
    }.items():

        def serve(wire: Wire, kind: str, line: bytes = line) -> None:
            wire.chunked = False
            wire.raw(line)

        yield always(title, LOST, serve, asked=3)


def _headers() -> Iterator[Fault]:
    for value, asked in {
        "0": 3, "-1": 3, "abc": 3, "nan": 3, "inf": 3, "1e400": 3, "": 3, "2": 3, "0.5": 3, "61": 1, "99999999999": 1,
        "Wed, 21 Oct 2015 07:28:00 GMT": 3, "Wed, 99 Oct 2015 07:28:00 GMT": 3, "Fri, 31 Dec 9999 23:59:59 GMT": 1,
        "2, 3": 3, "²": 3,
    }.items():  # fmt: skip

        def serve(wire: Wire, kind: str, value: str = value) -> None:
            body = json.dumps(ERROR).encode()
            lines = ["content-type: application/json", f"content-length: {len(body)}", f"retry-after: {value}"]
            _reply(wire, "429 No", [*lines, "connection: close"], body)

        yield always(f"status 429 with retry-after {value!r}", RATE, serve, asked=asked)
    for name, value, status, asked in (
        ("retry-after-ms", "100", 429, 3),
        ("retry-after-ms", "x", 429, 3),
        ("retry-after-ms", "1e9", 429, 1),
        ("x-should-retry", "false", 503, 1),
        ("x-should-retry", "true", 400, 3),
        ("x-should-retry", "maybe", 503, 3),
    ):

        def serve(wire: Wire, kind: str, name: str = name, value: str = value, status: int = status) -> None:
            wire.json(f"{status} No", ERROR, **{name: value})

        yield always(f"status {status} with {name} {value!r}", STATUSES[status][0], serve, asked=asked)
    for content_type in ("text/event-stream; charset=utf-16", "text/event-stream;;;", "TEXT/EVENT-STREAM", "x"):

        def serve(wire: Wire, kind: str, content_type: str = content_type) -> None:
            _answer(wire, kind, content_type=content_type)

        yield Fault(f"a stream of the content type {content_type!r}", LIVES, stream=serve)
    yield from _encodings()
    for title, lines, seen in (
        ("a header without a colon", ["x"], LOST),
        ("a header with a NUL", ["x: a\0b"], LOST),
        ("a header that is not ASCII", ["request-id: r\xe9q"], LIVES),
        ("two lengths of the content", ["content-length: 5", "content-length: 6"], LOST),
        ("a length that is negative", ["content-length: -1"], LOST),
        ("a length that is a word", ["content-length: many"], LOST),
        ("1,000 headers", [f"x-{number}: {'y' * 80}" for number in range(1_000)], LIVES),
        ("a header of 500 kB", [f"x: {'y' * 500_000}"], LOST),
        ("an unknown transfer encoding", ["transfer-encoding: rot13"], LOST),
    ):

        def stream(wire: Wire, kind: str, lines: list[str] = lines) -> None:
            _reply(wire, "200 OK", ["content-type: text/event-stream", *lines], stream_of(events_of(kind)))

        def one(wire: Wire, kind: str, lines: list[str] = lines) -> None:
            _reply(wire, "200 OK", ["content-type: application/json", *lines], body_of(message_of(kind)))

        yield Fault(title, seen, stream, one, 1 if seen == LIVES else 3)


def _encodings() -> Iterator[Fault]:
    """Yield faults of the encoding of the content."""
    for title, header, encode, seen in (
        ("a body in gzip", "gzip", gzip.compress, LIVES),
        ("a body that is said to be gzip and is not", "gzip", bytes, LOST),
        ("a body in gzip that is cut", "gzip", lambda body: gzip.compress(body)[:40], ""),
        ("a body in an unknown encoding", "rot13", bytes, LIVES),
        ("a body that is said to be deflate and is not", "deflate", bytes, LOST),
    ):

        def stream(wire: Wire, kind: str, header: str = header, encode: Any = encode) -> None:
            wire.head(content_encoding=header)
            wire.send(encode(stream_of(events_of(kind))))
            wire.end()

        def one(wire: Wire, kind: str, header: str = header, encode: Any = encode) -> None:
            wire.head(content_type="application/json", content_encoding=header)
            wire.send(encode(body_of(message_of(kind))))
            wire.end()

        yield Fault(title, seen or LOST, stream, one)


def _connections() -> Iterator[Fault]:
    yield always("refused", LOST, lambda wire, kind: None, asked=0, kinds=KINDS)
    for ending in ("close", "reset"):
        for title, data in {
            "without a byte": b"",
            "in the status line": b"HTTP/1.1 2",
            "after the status line": b"HTTP/1.1 200 OK\r\n",
            "in the headers": b"HTTP/1.1 200 OK\r\ncontent-type: text/ev",
        }.items():

            def serve(wire: Wire, kind: str, data: bytes = data, ending: str = ending) -> None:
                if data:
                    wire.raw(data)
                end_with(wire, ending)

            yield always(f"{ending} {title}", LOST, serve, asked=3)

        def after_headers(wire: Wire, kind: str, ending: str = ending) -> None:
            wire.head()
            end_with(wire, ending)

        yield always(f"{ending} after the headers", LOST, after_headers, asked=3, kinds=KINDS)
    yield Fault(
        "a stream without an event",
        LOST,
        stream=lambda wire, kind: (wire.head(), wire.end()),  # type: ignore[arg-type,return-value]
        asked=1,
    )


def _cuts() -> Iterator[Fault]:
    for stage in ("start", "block", "delta", "middle", "last delta", "last block", "delta of the message", "stop"):
        for ending in ("end", "close", "reset"):
            if stage == "start":
                continue  # this is one of the faults of connections
            yield streamed(
                f"a stream that is cut ({ending}) before {stage}",
                BROKE,
                lambda events, stage=stage: events[: until(events, stage)],
                ending=ending,
            )
            yield streamed(
                f"a stream that is cut ({ending}) in the middle of the event at {stage}",
                BROKE,
                lambda events, stage=stage: _cut_event(events, until(events, stage)),
                ending=ending,
            )
    for ending in ("end", "close", "reset"):
        yield streamed(
            f"a stream that is cut ({ending}) in the middle of its first event",
            LOST,
            lambda events: _cut_event(events, 0),
            ending=ending,
        )
        yield streamed(
            f"a stream that is cut ({ending}) after message_stop", LIVES, lambda events: events, ending=ending
        )
    for title, length in {"after a byte": 1, "in the middle": 120, "one byte before its end": -1}.items():
        for ending in ("end", "close", "reset"):
            yield whole(
                f"a body that is cut ({ending}) {title}",
                LOST,
                lambda message, length=length: body_of(message)[:length],
                ending=ending,
            )

        def sized(wire: Wire, kind: str, length: int = length) -> None:
            body = body_of(message_of(kind))
            lines = ["content-type: application/json", f"content-length: {len(body)}"]
            _reply(wire, "200 OK", lines, body[:length])

        yield Fault(f"a body of a promised length that is cut {title}", LOST, whole=sized)


def _cut_event(events: list[dict[str, Any]], number: int) -> bytes:
    event = stream_of(events[number : number + 1])
    return stream_of(events[:number]) + event[: len(event) // 2]
