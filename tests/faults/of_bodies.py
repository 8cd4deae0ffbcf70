"""Faults of answers that come in one piece, and of an answer in the form that nobody asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator

from tests.faults.answers import body_of, events_of, message_of, stream_of
from tests.faults.fault import LIVES, LOST, Fault, whole
from tests.support.server import Wire

__all__ = ["faults"]

BODIES = {
    "nothing": b"", "a list": b"[1, 2]", "a number": b"5", "a string": b'"Hello"', "a null": b"null", "true": b"true",
    "an empty object": b"{}", "an empty list": b"[]", "text": b"Hello", "HTML": b"<html><title>Log in</title></html>",
    "NaN": b"NaN", "bytes that are not UTF-8": b"\xff\xfe\x00", "a line end": b"\n", "an open brace": b"{",
    "a million braces": b"{" * 1_000_000, "a list that is nested 50,000 deep": b"[" * 50_000 + b"]" * 50_000,
    "an object that is nested 50,000 deep": b'{"content":' * 50_000 + b"1" + b"}" * 50_000,
    "an answer of Chat Completions": b'{"choices": [{"message": {"role": "assistant", "content": "Hi"}}]}',
    "an error that is a string": b'{"error": "no room"}',
    "an error that is a list": b'{"error": [1]}',
    "a detail": b'{"detail": "Not Found"}',
}  # fmt: skip


def faults() -> Iterator[Fault]:
    """Yield the faults."""
    for title, body in BODIES.items():
        yield whole(
            f"a body that is {title}", LOST, lambda message, body=body: body, also_streamed=True, kinds=("text",)
        )
        yield whole(
            f"a body of text that is {title}",
            LOST,
            lambda message, body=body: body,
            content_type="text/html",
            also_streamed=True,
            kinds=("text",),
        )
    yield whole("a byte order mark before a body", LIVES, lambda message: b"\xef\xbb\xbf" + body_of(message))
    yield whole("a body in UTF-16", LIVES, lambda message: json.dumps(message).encode("utf-16"))
    yield whole("a body and something after it", LOST, lambda message: body_of(message) + b"}")
    yield whole("two bodies", LOST, lambda message: body_of(message) * 2)
    yield whole("blank lines around a body", LIVES, lambda message: b"\n\n" + body_of(message) + b"\n\n")
    yield whole("a body with a key twice", LIVES, lambda message: body_of(message)[:-1] + b', "role": "x"}')
    yield whole("a body as text", LIVES, lambda message: message, content_type="text/plain")
    yield whole("a body whose content is empty", "AnswerError", lambda message: {**message, "content": []})
    yield whole("a body with more fields", LIVES, lambda message: {**message, "x": {"y": [1]}, "_request_id": 5})

    def message_instead(wire: Wire, kind: str) -> None:
        wire.head(content_type="application/json")
        wire.send(body_of(message_of(kind)))
        wire.end()

    yield Fault("a whole answer where a stream was asked for", LIVES, stream=message_instead)

    def stream_instead(wire: Wire, kind: str) -> None:
        wire.head()
        wire.send(stream_of(events_of(kind)))
        wire.end()

    yield Fault("a stream where a whole answer was asked for", LOST, whole=stream_instead)
