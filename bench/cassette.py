"""Measure how fast a cassette opens, replays, misses and grows: `python bench/cassette.py [MB]`.

The answers have 2,000 characters in deltas of 4, as Claude streams them.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from nbchat.core.errors import CassetteMiss
from nbchat.core.messages import Message
from nbchat.core.parser import ChatStreamParser, events_of
from nbchat.core.request import Request
from nbchat.transports.cassette import Cassette
from nbchat.transports.exchange import Exchange, public
from nbchat.transports.recordings import Recordings

TEXT = "Some words of an answer, with a number of them. " * 42
MESSAGE = {"id": "msg_1", "model": "m", "content": [{"type": "text", "text": TEXT}], "usage": {"output_tokens": 500}}


class Endpoint:
    """A transport that answers every request in the same way."""

    name = "bench"

    @contextmanager
    def stream(self, request):
        yield events()


def events():
    """Yield the events of the answer, with a delta for every four characters."""
    for event in events_of(MESSAGE):
        if event["type"] != "content_block_delta":
            yield event
            continue
        for at in range(0, len(TEXT), 4):
            yield {**event, "delta": {"type": "text_delta", "text": TEXT[at : at + 4]}}


def request(number: int) -> Request:
    """Return a request that differs from the others in its number."""
    return Request("m", (Message.of("user", f"{number} {TEXT}"),), 64)


def timed(name: str, act, times: int = 5) -> None:
    """Call ``act`` several times and print the shortest time."""
    spent = []
    for _ in range(times):
        began = time.perf_counter()
        act()
        spent.append(time.perf_counter() - began)
    print(f"{name:<44}{min(spent) * 1e3:10.2f} ms")


def ask(cassette: Cassette, asked: Request) -> None:
    """Get the answer to a request and parse it."""
    parser = ChatStreamParser()
    with cassette.stream(asked, Endpoint()) as arriving:
        for event in arriving:
            parser.feed(event)
    parser.close()


def main(megabytes: float) -> None:
    """Write a cassette of this size, measure it and print the measurements."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "bench.jsonl")
        answer = tuple((7, event) for event in events())
        line = len(Exchange("0" * 64, "bench", public(request(0).body()), answer).to_line())
        count = int(megabytes * 1e6 / line)
        print(f"{count} recordings of {line} bytes, {len(answer)} events each")
        recordings = Recordings(file)
        began = time.perf_counter()
        for number in range(count):
            asked = request(number)
            recordings.keep(Exchange(asked.digest, "bench", public(asked.body()), answer))
        print(f"{'written, each':<44}{(time.perf_counter() - began) / count * 1e3:10.2f} ms")
        print(f"{'the file':<44}{file.stat().st_size / 1e6:10.2f} MB")
        timed("opened (index only)", lambda: Cassette(file, mode="replay"))
        cassette = Cassette(file)
        timed("one answer without a cassette", lambda: ask(Cassette(file, mode="off"), request(3)))
        timed("one answer replayed and parsed", lambda: ask(cassette, request(count // 2)))

        def miss() -> None:
            try:
                ask(Cassette(file, mode="replay"), request(-1))
            except CassetteMiss:
                return

        timed("a miss, with the nearest recording", miss, 2)
        fresh = iter(range(count, count + 5))
        timed("one answer recorded", lambda: ask(cassette, request(next(fresh))))
        again = Cassette(file, mode="record")
        timed("one answer replaced (the file rewritten)", lambda: ask(again, request(1)))


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 10)
