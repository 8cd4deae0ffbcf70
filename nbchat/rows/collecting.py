"""Collecting: find out how far the batches of a run are, and take their results into the store and the ledger.

A result of a batch is read by the parser and the turn that read every other answer. Nothing here sends a request that
costs anything, so a batch can be collected by any later kernel, also without the rows that it came from.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Protocol

from nbchat.core.entries import Entry
from nbchat.core.errors import (
    AnswerError,
    AuthError,
    BadRequestError,
    InputError,
    NbchatError,
    StreamError,
    TransportError,
)
from nbchat.core.parser import events_of
from nbchat.core.plural import counted
from nbchat.core.request import Request
from nbchat.engine.booking import Booking
from nbchat.engine.endpoint import Endpoint
from nbchat.engine.session import Session
from nbchat.engine.turn import Done, Turn, refused
from nbchat.models import WITHOUT_BATCHES
from nbchat.rows.batch_outcomes import failure_of
from nbchat.rows.batch_records import BatchRecord, BatchRecords
from nbchat.rows.budget import Budget
from nbchat.rows.counts import Counts, duration
from nbchat.rows.failures import Failures
from nbchat.rows.result import Result
from nbchat.rows.store import Store

__all__ = ["BatchDoor", "Collector", "batch_door"]

#: The shortest and the longest time between two questions about a batch, in seconds.
FIRST_POLL_S, LONGEST_POLL_S = 1.0, 60.0
#: How long a new batch may be unknown to the service. It answers 404 for some seconds:
#: https://github.com/anthropics/anthropic-sdk-python/issues/1432
UNKNOWN_S = 120.0
#: How long the service may not answer before the wait ends, in seconds. The batch goes on meanwhile.
PATIENCE_S = 600.0
#: The clocks of this machine and of the service may differ by this many seconds.
_CLOCK_SKEW_S = 300.0
#: How many results are written to disk together.
_TOGETHER = 500


class BatchDoor(Protocol):
    """The Message Batches API, as :class:`nbchat.transports.claude.batches.Batches` has it."""

    def create(self, requests: Any, betas: Any = ()) -> Mapping[str, Any]:
        """Create a batch."""
        ...

    def retrieve(self, id: str) -> Mapping[str, Any]:
        """Describe a batch."""
        ...

    def recent(self, since: str) -> list[Any]:
        """Describe the batches since a date, the newest first."""
        ...

    def cancel(self, id: str) -> Mapping[str, Any]:
        """Cancel a batch."""
        ...

    def results(self, id: str) -> Iterator[Mapping[str, Any]]:
        """Yield the results of a batch that has ended."""
        ...


def batch_door(endpoint: Endpoint) -> BatchDoor:
    """Return the Message Batches API of an endpoint.

    Raises:
        InputError: the endpoint has none.
        AuthError: there are no credentials.
    """
    batches = getattr(endpoint.transport, "batches", None)
    if not callable(batches) or endpoint.name in WITHOUT_BATCHES:
        raise InputError(
            f"via='batches': the endpoint {endpoint.name!r} has no Message Batches API, so nothing was sent",
            "Leave out via, or name an endpoint that has it: endpoint='anthropic'.",
        )
    door: BatchDoor = batches()
    return door


@dataclass
class Collector:
    """Collects the batches of one endpoint.

    Args:
        session: has the accounting.
        endpoint: the endpoint.
        request: a request of the run, for what all have in common.
        turn: makes the turn that reads one answer.
        store: takes the results.
        counts: is updated after results are on disk.
        budget: gets back what was reserved, or None.
        cell: the key of the cell, for the ledger.
    """

    session: Session
    endpoint: Endpoint
    request: Request
    turn: Callable[[], Turn]
    store: Store
    counts: Counts
    budget: Budget | None = None
    cell: str | None = None
    #: The error that every row would hit, if there was one.
    stopped_by: NbchatError | None = None
    #: True if a batch was cancelled.
    was_canceled: bool = False
    #: The digests of requests that are worth sending again.
    again: set[str] = field(default_factory=set)
    #: The digests of requests that failed for good.
    failed: set[str] = field(default_factory=set)
    #: The batches that have not ended.
    open: dict[str, BatchRecord] = field(default_factory=dict)
    _door: BatchDoor | None = None
    _failures: Failures = field(default_factory=Failures)
    _next_s: dict[str, float] = field(default_factory=dict)
    _pause_s: dict[str, float] = field(default_factory=dict)
    _answered_s: float = 0.0
    #: How many batches were collected.
    collected: int = 0
    _stored: int = 0

    def __post_init__(self) -> None:
        self.records = BatchRecords(self.store)
        self._answered_s = time.monotonic()

    @property
    def door(self) -> BatchDoor:
        """Return the Message Batches API. Raises as :func:`batch_door` does."""
        if self._door is None:
            self._door = batch_door(self.endpoint)
        return self._door

    def watch(self, id: str) -> None:
        """Take that the run waits for the batch of a record."""
        if id not in self.open and (record := self.records.get(id)) is not None and record.state == "open":
            self.open[id] = record
            self._next_s[id], self._pause_s[id] = 0.0, FIRST_POLL_S

    def wait(self, tick: Callable[[], None], tick_s: float) -> None:
        """Wait until all batches have ended, and collect them. An interrupt leaves them at the service.

        Raises:
            NbchatError: the service does not answer any more.
        """
        while self.open and self.stopped_by is None:
            self.look()
            self._note()
            tick()
            if self.open:
                time.sleep(tick_s)
        self.counts.note = ""

    def look(self, *, now: bool = False) -> None:
        """Ask for each batch that is due how far it is, and collect those that have ended.

        Args:
            now: whether all batches are due.
        """
        for record in list(self.open.values()):
            if not now and time.monotonic() < self._next_s[record.id]:
                continue
            stored = self._stored
            try:
                self._look_at(record)
                self._answered_s = time.monotonic()
            except TransportError as failure:
                gone = isinstance(failure, BadRequestError) and getattr(failure, "status", None) == 404
                if gone:
                    self._unknown(record, failure)
                elif isinstance(failure, BadRequestError | AuthError) or self._is_silent():
                    raise
            except StreamError:
                # The results of a large batch take minutes, and connections break. What came is on disk.
                if self._stored == stored:
                    raise
            pause_s = self._pause_s.get(record.id, FIRST_POLL_S)
            self._next_s[record.id] = time.monotonic() + pause_s
            self._pause_s[record.id] = min(pause_s * 1.5, LONGEST_POLL_S)

    def cancel(self) -> None:
        """Ask the service to cancel the batches. What it has answered already is paid for, and is collected.

        Raises:
            TransportError: the service did not answer.
        """
        for record in list(self.open.values()):
            if not record.service_id and not self._locate(record):
                continue
            try:
                self.door.cancel(self.open[record.id].service_id)
            except BadRequestError:
                continue  # it has ended meanwhile
            self._next_s[record.id], self._pause_s[record.id] = 0.0, FIRST_POLL_S

    # One batch

    def _is_silent(self) -> bool:
        return time.monotonic() - self._answered_s > PATIENCE_S

    def _note(self) -> None:
        requests = sum(record.requests for record in self.open.values())
        since_s = time.time() - min((record.at for record in self.open.values()), default=time.time())
        if self.open:
            batches = counted(len(self.open), "batch")
            self.counts.note = (
                f"{batches} with {counted(requests, 'request')} at the service since {duration(since_s)}, at most 24 h"
            )

    def _look_at(self, record: BatchRecord) -> None:
        if not record.service_id:
            if self.records.is_creating(record):
                self._refresh(record)
                return
            if not self._locate(record):
                return
            record = self.open[record.id]
        described = self.door.retrieve(record.service_id)
        if described.get("processing_status") == "ended":
            self._collect(record)

    def _refresh(self, record: BatchRecord) -> None:
        """Read a record again that another kernel may have changed."""
        changed = self.records.get(record.id)
        if changed is None or changed.state != "open":
            self.open.pop(record.id, None)
        else:
            self.open[record.id] = changed

    def _locate(self, record: BatchRecord) -> bool:
        """Find the batch of a record whose creation was not confirmed, because the kernel or the connection ended.

        Return True if the service has a batch that can be the one. Its results tell for certain.
        """
        since = datetime.fromtimestamp(record.at, UTC) - timedelta(seconds=_CLOCK_SKEW_S)
        known = self.records.service_ids() | set(record.not_ours)
        described = self.door.recent(since.strftime("%Y-%m-%dT%H:%M:%S"))
        for batch in reversed(described):
            id = str(batch.get("id") or "")
            if id and id not in known and _size(batch) == record.requests:
                self.records.confirm(record, id)
                self.open[record.id] = replace(record, service_id=id)
                return True
        if time.time() - record.at > UNKNOWN_S:
            self._lose(record)
        return False

    def _unknown(self, record: BatchRecord, failure: TransportError) -> None:
        """Take that the service does not know a batch."""
        if time.time() - record.at <= UNKNOWN_S:
            return  # it was created a moment ago
        if record.service_id:
            self.session.host.tell(
                f"the service does not have the batch {record.service_id} any more, so its rows are asked again"
            )
        self._lose(record)

    def _lose(self, record: BatchRecord) -> None:
        self.records.end(record, "lost")
        self._forget(record, 0.0)
        self.again |= self.records.not_done(record)

    def _forget(self, record: BatchRecord, cost: float | None) -> None:
        self.open.pop(record.id, None)
        if self.budget is not None and record.notebook == self.session.accounting.notebook:
            self.budget.release(record.most, cost)

    def _collect(self, record: BatchRecord) -> None:
        """Take the results of a batch that has ended."""
        missing = self.records.not_done(record)
        lines = self.door.results(record.service_id)
        cost: float | None = 0.0
        while chunk := list(islice(lines, _TOGETHER)):
            ours = [line for line in chunk if self.records.holds(record, line["custom_id"])]
            if not ours:
                # The batch of the same size that was found in the list is somebody else's.
                self.records.reject(record)
                self._refresh(record)
                return
            results: list[Result] = []
            entries: list[Entry] = []
            for line in ours:
                digest = line["custom_id"]
                if digest in missing:
                    missing.discard(digest)
                    result = self._read(digest, line.get("result"), entries)
                    if result is not None:
                        results.append(result)
            self.store.add(results, batch=record.id)
            self._stored += len(results)
            self.session.accounting.write_all(entries)
            for result in results:
                self.counts.take(result)
                cost = None if cost is None or result.cost is None else cost + result.cost
        # What has no result was not answered.
        self.again |= missing
        self.records.end(record, "ended")
        self.collected += 1
        self._forget(record, cost)

    # One result

    def _read(self, digest: str, outcome: Any, entries: list[Entry]) -> Result | None:
        """Return the result of one request, and book it. None if the request is worth sending again."""
        outcome = outcome if isinstance(outcome, Mapping) else {}
        account = self.session.accounting.account(
            self.endpoint, "", self.cell, write=lambda entry: entries.append(replace(entry, digest=digest))
        )
        message = outcome.get("message")
        if outcome.get("type") == "succeeded" and isinstance(message, Mapping):
            return self._answer(digest, message, account)
        failure, is_again = failure_of(outcome)
        account.begin(self.request)
        # What expired, was cancelled or failed is not billed:
        # https://platform.claude.com/docs/en/build-with-claude/batch-processing#pricing
        account.end(None, "error", error=getattr(failure, "type", None) or "error", refused=True)
        if is_again:
            self.again.add(digest)
            return None
        if outcome.get("type") == "canceled":
            self.was_canceled = True
        return self._failed(Result.failed(digest, failure), failure)

    def _answer(self, digest: str, message: Mapping[str, Any], account: Any) -> Result:
        turn = self.turn()
        # The service says the tier. A gateway may leave it out, and the price depends on it.
        usage = message.get("usage")
        message = {**message, "usage": {**(usage if isinstance(usage, Mapping) else {}), "service_tier": "batch"}}
        failure: NbchatError | None = None
        booking = Booking(turn, account, self.request)
        try:
            for event in events_of(message):
                booking.take(event)
            booking.close()
        except NbchatError as error:
            failure = error
            booking.fail(error)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            failure = TransportError(
                f"the service sent a result that is not a message: {error}", "resume() asks again."
            )
            booking.fail(failure)
        finally:
            booking.end()
        try:
            if failure is None:
                turn.advance()
                if not isinstance(turn.step, Done):
                    failure = AnswerError(
                        "the service paused the answer, and a batch cannot continue it",
                        "Ask this row without via='batches'.",
                    )
        except AnswerError as error:
            failure = error
        response = turn.settle(failure, endpoint=self.endpoint.name, digest=digest, cost=account.cost)
        if failure is None and response.status == "refused":
            failure = refused(response)
        result = Result.of(digest, response, failure)
        if result.ok:
            self._failures.count = 0
            return result
        return self._failed(result, failure)

    def _failed(self, result: Result, failure: NbchatError | None) -> Result:
        self.failed.add(result.digest)
        if failure is not None and self._failures.take(failure) and self.stopped_by is None and not self.was_canceled:
            self.stopped_by = failure
        return result


def _size(batch: Mapping[str, Any]) -> int:
    counts = batch.get("request_counts")
    return sum(count for count in counts.values() if isinstance(count, int)) if isinstance(counts, Mapping) else -1
