"""Tests that a cassette replays recorded streams of the real API unchanged."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path

import pytest

from nbchat.core.messages import Message
from nbchat.core.parser import ChatStreamParser
from nbchat.core.request import Request
from nbchat.core.response import Accumulator, Response
from nbchat.transports.cassette import Cassette

STREAMS = Path(__file__).parents[2].parent / "shared" / "streams"
FILES = sorted(STREAMS.glob("*.sse"))


def events_in(file: Path) -> list[dict]:
    """Return the events of a recorded stream, as the API sent them."""
    rows = file.read_text("utf-8").splitlines()
    return [json.loads(row.removeprefix("data:")) for row in rows if row.startswith("data:")]


def request_of(file: Path) -> Request:
    """Return the recorded request of a stream. If there is none, return a request that contains the file's name."""
    kept = file.with_suffix(".request.json")
    body = json.loads(kept.read_text("utf-8")) if kept.exists() else {}
    messages = body.pop("messages", None) or [{"role": "user", "content": file.stem}]
    rest = {name: body.pop(name, None) for name in ("model", "max_tokens", "system", "tools", "stream")}
    return Request(
        rest["model"] or "claude-test",
        tuple(Message.from_dict(message) for message in messages),
        rest["max_tokens"] or 64,
        rest["system"] if isinstance(rest["system"], str) else tuple(rest["system"] or ()),
        tuple(rest["tools"] or ()),
        body,
    )


class Recorded:
    """An endpoint that sends one recorded stream."""

    name = "recorded"

    def __init__(self, events: list[dict]) -> None:
        self._events = events

    @contextmanager
    def stream(self, request: Request):
        yield iter(self._events)


def respond(transport, request: Request, cassette: Cassette | None = None) -> Response:
    """Return the Response as a session makes it. The clock does not move."""
    parser, accumulator = ChatStreamParser(), Accumulator(request.messages[-1], lambda: 0.0)
    with transport.stream(request) if cassette is None else cassette.stream(request, transport) as events:
        for event in events:
            if (chunk := parser.feed(event)) is not None:
                accumulator.feed(chunk)
    parser.close()
    return accumulator.respond("complete")


@pytest.mark.skipif(not FILES, reason="the recorded streams are not beside the project")
def test_every_recorded_stream_is_replayed_unchanged(tmp_path):
    """Each stream is replayed with equal bytes and an equal Response, from one cassette and in reverse order."""
    assert len(FILES) > 50
    cassette = tmp_path / "streams.jsonl"
    asked = {file: request_of(file) for file in FILES}
    asked = {
        file: Request(
            request.model, request.messages, 64, request.system, request.tools, {**request.params, "user": file.name}
        )
        for file, request in asked.items()
    }
    for file in FILES:
        events = events_in(file)
        live = respond(Recorded(events), asked[file], Cassette(cassette))
        assert live == respond(Recorded(events), asked[file])
    assert len(cassette.read_bytes().split(b"\n")) == len(FILES) + 2
    replaying = Cassette(cassette, mode="replay")
    for file in reversed(FILES):
        events = events_in(file)
        with replaying.stream(asked[file], Recorded([])) as replayed:
            assert json.dumps(list(replayed)) == json.dumps(events), file.name
        assert respond(Recorded([]), asked[file], replaying) == respond(Recorded(events), asked[file])


@pytest.mark.skipif(not FILES, reason="the recorded streams are not beside the project")
def test_a_cassette_is_smaller_than_the_streams(tmp_path):
    """Runs of deltas are stored as one text, so a cassette is smaller than the streams."""
    cassette = tmp_path / "streams.jsonl"
    for file in FILES:
        request = Request(file.name, (Message.of("user", "?"),), 64)
        respond(Recorded(events_in(file)), request, Cassette(cassette))
    assert cassette.stat().st_size < sum(file.stat().st_size for file in FILES)
