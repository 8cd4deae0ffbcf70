"""The sender: one thread with one event loop, one client and thousands of requests in flight.

The thread that called ``ask_each`` fills templates and puts rows in. The sender asks, and writes results and the
rows of the ledger to disk in transactions; only then does it count a row as ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from nbchat.core.entries import Entry
from nbchat.core.errors import (
    AnswerError,
    NbchatError,
    TransportError,
)
from nbchat.core.request import Request
from nbchat.engine.async_doors import AsyncDoor
from nbchat.engine.drive_async import AsyncDriver
from nbchat.engine.session import Session
from nbchat.engine.turn import refused
from nbchat.rows.budget import Budget
from nbchat.rows.counts import Counts
from nbchat.rows.event_loop import fast_loop
from nbchat.rows.failures import Failures
from nbchat.rows.kept_answers import record_kept_answer
from nbchat.rows.lazy_door import LazyDoor
from nbchat.rows.pace import PATIENCE_S, Pace
from nbchat.rows.plan import Plan, PlannedRow
from nbchat.rows.result import Result
from nbchat.rows.row_pacer import RowPacer
from nbchat.rows.store import Store

__all__ = ["Sender"]

#: How long results wait to be written together, in seconds.
FLUSH_S = 0.05
#: How long what is in flight may still take after an interrupt, in seconds.
GRACE_S = 2.0


@dataclass(frozen=True, slots=True)
class _Begun:
    """A row that is sent: with its request, and the tokens and the dollars that are reserved for it."""

    row: PlannedRow
    request: Request
    reserved: float
    cost: float


@dataclass(slots=True)
class Sender:
    """Asks for rows.

    Args:
        session: has the recording and the accounting.
        plan: makes the requests.
        store: takes the results.
        counts: is updated after results are on disk.
        pace: the limits.
        budget: what the run may cost, or None.
        cell: the key of the cell, for the ledger.
        has_spans: whether each request has a span of its own.
    """

    session: Session
    plan: Plan
    store: Store
    counts: Counts
    pace: Pace
    budget: Budget | None = None
    cell: str | None = None
    has_spans: bool = False
    #: The error that every row would hit, if there was one.
    stopped_by: NbchatError | None = None
    is_stopping: bool = False
    _waiting: deque[PlannedRow] = field(default_factory=deque)
    _results: list[Result] = field(default_factory=list)
    _entries: list[Entry] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _failures: Failures = field(default_factory=Failures)
    _loop: asyncio.AbstractEventLoop | None = None
    _wake: asyncio.Event | None = None
    _thread: threading.Thread | None = None
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _room: int = 0  # `put` waits until fewer rows than this wait
    _no_more: bool = False
    _cancelled: bool = False
    _over: bool = False
    _crash: BaseException | None = None
    _answered_s: float = 0.0
    _first_alone: bool = False
    _is_ending: bool = False

    @property
    def max_retries(self) -> int:
        """Return how often a request is repeated that failed for another reason than a limit."""
        return int(self.session.config.max_retries)

    # From the thread of the caller

    def start(self) -> None:
        """Start the thread."""
        # With the context of the caller: spans of requests belong inside the span of the run.
        run = contextvars.copy_context().run
        self._thread = threading.Thread(target=run, args=(self._run,), name="nbchat-rows", daemon=True)
        self._thread.start()

    def put(self, rows: list[PlannedRow], room: int, tick: Callable[[], None], tick_s: float) -> bool:
        """Put rows in, and wait until fewer than ``room`` of them wait. Return False if the sender has stopped.

        Args:
            rows: the rows.
            room: how many rows may wait.
            tick: is called while this method waits.
            tick_s: the time between two calls, in seconds.
        """
        with self._changed:
            self._waiting.extend(rows)
        self._signal()
        while True:
            with self._changed:
                if self._over or self.stopped_by is not None:
                    return False
                self._room = room
                if len(self._waiting) < room:
                    return True
                self._changed.wait(tick_s)
            tick()

    def finish(self, tick: Callable[[], None], tick_s: float) -> None:
        """Wait until every row that was put in has ended, or the sender has stopped."""
        self._no_more = True
        self._signal()
        while not self._over:
            with self._changed:
                if not self._over:
                    self._changed.wait(tick_s)
            tick()
        self._join()

    def interrupt(self) -> None:
        """Send no more, wait at most GRACE_S for what is in flight, and end the thread.

        Another interrupt during the wait ends the wait.
        """
        self.is_stopping = True
        self._signal()
        deadline = time.monotonic() + GRACE_S
        try:
            with self._changed:
                while not self._over and (left_s := deadline - time.monotonic()) > 0:
                    self._changed.wait(min(left_s, 0.1))
        except KeyboardInterrupt:
            pass
        self._cancelled = True
        self._signal()
        self._join()

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
        if self._crash is not None:
            raise self._crash

    def _signal(self) -> None:
        loop, wake = self._loop, self._wake
        if loop is not None and wake is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(wake.set)

    # In the thread of the sender

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=fast_loop()) as runner:
                runner.run(self._main())
        except BaseException as error:
            self._crash = error
        finally:
            with self._changed:
                self._over = True
                self._changed.notify_all()

    async def _main(self) -> None:
        self._loop, self._wake = asyncio.get_running_loop(), asyncio.Event()
        self._answered_s = time.monotonic()
        self._first_alone = self.plan.is_cached
        door = self._open()
        flusher = asyncio.ensure_future(self._flush_again_and_again())
        flusher.add_done_callback(self._done)
        try:
            while await self._next_is_due():
                if (begun := self._begin()) is not None:
                    task = asyncio.ensure_future(self._ask(begun, door))
                    self._tasks.add(task)
                    task.add_done_callback(self._done)
            await self._end_tasks()
        finally:
            self._is_ending = True
            await asyncio.wait([flusher])
            await door.close()

    def _open(self) -> LazyDoor:
        return LazyDoor(self.plan.prepared.endpoint, self.has_spans, opened=self.pace.begin)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._crash, self.is_stopping = error, True
        assert self._wake is not None
        self._wake.set()

    async def _next_is_due(self) -> bool:
        """Wait until a row may be sent, and return True; return False at the end of the run."""
        assert self._wake is not None
        while not (self.is_stopping or self.stopped_by is not None):
            self._wake.clear()
            if not self._waiting and self._no_more:
                return False
            if (wait_s := self._wait_s()) <= 0:
                return True
            await self._woken(wait_s)
        return False

    def _wait_s(self) -> float:
        """Return how long to wait before the next row may be sent, in seconds. Infinite: until something happens."""
        if not self._waiting or (self._first_alone and self._tasks):
            return math.inf
        tokens = self._waiting[0].tokens
        if self.budget is not None and self._tasks and not self.budget.allows(tokens):
            return math.inf  # what is in flight may cost less than it could
        return self.pace.wait_s(tokens)

    def _begin(self) -> _Begun | None:
        """Take the next row, and return what is sent for it; None if it fails before that."""
        row = self._waiting.popleft()
        if len(self._waiting) < self._room:
            self._room = 0  # one call of `put` waits, and is told once
            with self._changed:
                self._changed.notify_all()
        try:
            request = self.plan.request(row)
            free = self.budget is None or self.session.recording.replays(request)
            cost = 0.0 if free or self.budget is None else self.budget.reserve(row.tokens)
        except NbchatError as failure:
            self._end(Result.failed(row.digest, failure), failure)
            return None
        return _Begun(row, request, self.pace.start(row.tokens), cost)

    async def _woken(self, wait_s: float) -> None:
        assert self._wake is not None
        if wait_s == math.inf:
            await self._wake.wait()
            return
        # Not asyncio.wait_for, which makes a task for each call.
        assert self._loop is not None
        timer = self._loop.call_later(wait_s, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

    async def _end_tasks(self) -> None:
        """Wait for what is in flight. After an interrupt, cancel it."""
        assert self._wake is not None
        while self._tasks:
            if self._cancelled:
                for task in tuple(self._tasks):
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)
                return
            self._wake.clear()
            if not self._cancelled and self._tasks:
                await self._woken(0.1)

    async def pause(self, pacing: RowPacer, failure: NbchatError, asked_s: float | None) -> bool:
        """Pause the run because the service refused a request, and return True if the request may be sent again."""
        pause_s = self.pace.refuse(pacing.started_s, asked_s)
        self.counts.paused_s = self.pace.paused_s
        if pause_s > PATIENCE_S or time.monotonic() - self._answered_s > PATIENCE_S:
            return False
        # The request gives its place back, and waits in line with the rows that were not sent yet.
        self.pace.in_flight -= 1
        try:
            while (wait_s := self.pace.wait_s(0)) > 0:
                if self.is_stopping or self.stopped_by is not None:
                    return False
                await asyncio.sleep(min(wait_s, 0.05))
        finally:
            self.pace.in_flight += 1
        pacing.started_s = time.monotonic()
        return True

    async def _ask(self, begun: _Begun | None, door: AsyncDoor) -> None:
        """Ask for a row, and then for the next one if it may be sent at once."""
        while begun is not None:
            await self._ask_one(begun, door)
            stopped = self.is_stopping or self.stopped_by is not None
            begun = self._begin() if not stopped and self._wait_s() <= 0 else None
            if self.pace.in_flight < self.pace.limit and self._wake is not None:
                self._wake.set()  # there is room for more: the limit grew, or the first row has ended

    async def _ask_one(self, begun: _Begun, door: AsyncDoor) -> None:
        pacing = RowPacer(self, time.monotonic())
        used: tuple[int, int] | None = None
        result = failure = None
        try:
            result, failure = await self._answer(begun.row, begun.request, door, pacing)
            if result.ok or result.usage.total_tokens:
                used = (result.usage.prompt_tokens, result.usage.output_tokens)
        finally:
            self.pace.end(begun.reserved, used, took_s=time.monotonic() - pacing.started_s)
            if self.budget is not None:
                self.budget.release(begun.cost, result.cost if result is not None else None)
            self._first_alone = False
        if result is not None:
            self._end(result, failure)

    async def _answer(
        self, row: PlannedRow, request: Request, door: AsyncDoor, pacing: RowPacer
    ) -> tuple[Result, NbchatError | None]:
        endpoint, accounting = self.plan.prepared.endpoint, self.session.accounting
        kept = record_kept_answer(self.session.recording, self.store, request, endpoint)
        if kept is not None:
            return kept, None
        turn = self.plan.turn(request, time.monotonic)
        account = accounting.account(endpoint, "", self.cell, write=self._entries.append)
        driver = AsyncDriver(door, endpoint.name, self.session.recording, account, pacer=pacing)
        failure: BaseException | None = None
        try:
            await driver.run(turn)
        except NbchatError as error:
            failure = error
        except Exception as error:  # a fault in a transport of the user
            failure = TransportError(f"the transport failed: {type(error).__name__}: {error}", "Fix the transport.")
        except asyncio.CancelledError as error:
            # The part that arrived is in the ledger. The row has no answer, and is asked again.
            turn.settle(error)
            raise
        response = turn.settle(
            failure,
            endpoint=endpoint.name,
            digest=request.digest,
            cost=account.cost,
            replayed=account.all_replayed,
        )
        if failure is None and response.status == "refused":
            failure = refused(response)
        result = Result.of(row.digest, response, failure if isinstance(failure, NbchatError) else None)
        if response.replayed:
            # What the answer cost when it was recorded, so that a replay makes the same frame.
            result = replace(result, cost=accounting.cost(response.usage, endpoint, response.model))
        return result, failure if isinstance(failure, NbchatError) else None

    def _end(self, result: Result, failure: NbchatError | None) -> None:
        """Take the end of one row. It is counted when it is on disk."""
        self._results.append(result)
        if failure is None:
            self._failures.count = 0
        elif self._failures.take(failure) and self.stopped_by is None:
            self.stopped_by = failure
        if failure is None or isinstance(failure, AnswerError):
            self._answered_s = time.monotonic()

    async def _flush_again_and_again(self) -> None:
        """Write what has ended, again and again, until the run ends."""
        is_last = False
        while not is_last:
            await asyncio.sleep(FLUSH_S)
            is_last = self._is_ending
            results, self._results = self._results, []
            entries = self._entries[:]
            # The list stays the same one: each account holds its method `append`.
            self._entries.clear()
            if results or entries:
                # In a thread: the disk, or another kernel that writes, must not hold up what is in flight.
                await asyncio.to_thread(self._write, results, entries)

    def _write(self, results: list[Result], entries: list[Entry]) -> None:
        """Write to disk, then count."""
        self.store.add(results)
        self._book(entries)
        for result in results:
            self.counts.take(result)

    def _book(self, entries: list[Entry]) -> None:
        self.session.accounting.write_all(entries)
