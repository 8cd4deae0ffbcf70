"""The event loop, the connections and the limits that all runs in one process of an engine share.

An asynchronous actor works on several parts at once. Each part is a run, and together they must not exceed the share of
the limits that the worker has. One client for each part would open its connections again and again.
"""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Any

from nbchat.core.entries import Entry
from nbchat.options import Options
from nbchat.rows.event_loop import fast_loop
from nbchat.rows.lazy_door import LazyDoor
from nbchat.rows.pace import Pace
from nbchat.rows.sender import Sender
from nbchat.rows.shards import ShardedStore

__all__ = ["Worker", "WorkerSender"]

#: How often a run looks if another run has left room, in seconds.
LOOK_S = 0.05


class _SharedPace(Pace):
    """A pace of several runs: the end of a request of one run makes room for another one."""

    def wait_s(self, tokens: int) -> float:
        """Return how long to wait before a request with so many tokens may start. It is never infinite."""
        return min(super().wait_s(tokens), LOOK_S)


class Worker:
    """The event loop and the limits of a process.

    >>> Worker().pace("mine", Options()) is Worker().pace("mine", Options())
    False
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._paces: dict[tuple[Any, ...], Pace] = {}

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the event loop. Its thread is started with the first use, and ends with the process."""
        with self._lock:
            if self._loop is None:
                self._loop = (fast_loop() or asyncio.new_event_loop)()
                threading.Thread(target=self._loop.run_forever, name="nbchat-worker", daemon=True).start()
            return self._loop

    def pace(self, endpoint: str, options: Options, answer_tokens: float = 0.0) -> Pace:
        """Return the pace of all runs at an endpoint that have these limits."""
        key = (endpoint, options.concurrency, options.rpm, options.tpm)
        with self._lock:
            if key not in self._paces:
                self._paces[key] = _SharedPace(
                    options.concurrency,
                    rpm=options.rpm,
                    tpm=options.tpm,
                    answer_tokens=answer_tokens,
                    clock=time.monotonic,
                )
            return self._paces[key]


@dataclass(slots=True)
class WorkerSender(Sender):
    """A sender in the event loop of a worker, with the connections that all its senders share."""

    worker: Worker = field(default_factory=Worker)

    def start(self) -> None:
        """Start to send."""
        asyncio.run_coroutine_threadsafe(self._main(), self.worker.loop).add_done_callback(self._ended)

    def _ended(self, future: Future[None]) -> None:
        try:
            self._crash = future.exception()
        except CancelledError as error:
            self._crash = error
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _join(self) -> None:
        with self._changed:
            while not self._over:
                self._changed.wait()
        if self._crash is not None:
            raise self._crash

    def _book(self, entries: list[Entry]) -> None:
        # The user's own ledger is not on the worker's machine: `merge` takes the rows from the shard.
        if isinstance(self.store, ShardedStore):
            self.store.add_requests(entries)

    def _open(self) -> LazyDoor:
        return LazyDoor(self.plan.prepared.endpoint, self.has_spans, is_shared=True, opened=self.pace.begin)
