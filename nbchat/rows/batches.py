"""``via="batches"``: a run through the Message Batches API, at half the price.

https://platform.claude.com/docs/en/build-with-claude/batch-processing

A :class:`BatchSender` has the same methods as the :class:`~nbchat.rows.sender.Sender`. It fills batches up to the
limits of the API, writes down what it is about to send, sends it, and waits. The custom id of each request is its
digest, so results find their rows in any order and on any later day.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nbchat.core.errors import InputError, NbchatError, OverloadedError
from nbchat.core.request import Request
from nbchat.engine.session import Session
from nbchat.engine.turn import Turn, refused
from nbchat.options import Options
from nbchat.rows.batch_records import BatchRecord, BatchRecords
from nbchat.rows.budget import Budget
from nbchat.rows.collecting import Collector
from nbchat.rows.counts import Counts
from nbchat.rows.kept_answers import record_kept_answer
from nbchat.rows.plan import Plan, PlannedRow, refuse_options
from nbchat.rows.result import Result
from nbchat.rows.store import Store
from nbchat.transports.claude.batches import was_refused

__all__ = ["BATCHES", "BatchSender", "batch_options"]

#: The value of the option ``via``.
BATCHES = "batches"
#: The limits of one batch. The API says 100,000 requests or 256 MB, whichever is reached first.
MOST_REQUESTS, MOST_BYTES = 100_000, 250_000_000
#: How often one request is sent in a run, if the service fails each time.
TRIES = 3
#: What a user should know before the first batch is sent.
NOTICE = (
    "batches cost half, and take up to 24 hours. The service keeps requests and results for 29 days, so zero data "
    "retention does not apply, and a batch may exceed the spend limit of the account by a little"
)
_REFUSED = {
    "retry": "a batch cannot ask once more",
    "rpm": "the service sets the pace of a batch",
    "tpm": "the service sets the pace of a batch",
    "concurrency": "the service sets the pace of a batch",
    "web_search": "a batch cannot continue an answer that the service pauses",
    "web_fetch": "a batch cannot continue an answer that the service pauses",
}


def batch_options(options: Options) -> Options:
    """Return the options of the rows of batches.

    Raises:
        OptionError: an option was given that batches cannot obey.
    """
    refuse_options(options, _REFUSED, "leave out via='batches'")
    # The requests of a batch can be hours apart, so the service advises the longer time for what they share:
    # https://platform.claude.com/docs/en/build-with-claude/batch-processing#using-prompt-caching-with-message-batches
    if options.cache == "5m" and "cache" not in options.given:
        options = replace(options, cache="1h")
    return replace(options, stream=False, retry=False)


@dataclass
class BatchSender:
    """Sends rows in batches, and collects the results.

    Args:
        session: has the recording and the accounting.
        plan: makes the requests.
        store: keeps the records of the batches, and takes the results.
        counts: is updated after results are on disk.
        run: the id of the run.
        budget: what the run may cost, or None.
        cell: the key of the cell, for the ledger.
        template: the template, for the record.
        waits: whether the run waits for the batches.
    """

    session: Session
    plan: Plan
    store: Store
    counts: Counts
    run: str
    budget: Budget | None = None
    cell: str | None = None
    template: str = ""
    waits: bool = True
    _rows: list[dict[str, Any]] = field(default_factory=list)
    _bytes: int = 0
    _most: float = 0.0
    _tries: dict[str, int] = field(default_factory=dict)
    _no_room: BudgetFull | None = None
    _told: bool = False
    _sent: bool = False
    _passes: int = 0
    _collected: int = 0

    def __post_init__(self) -> None:
        self.records = BatchRecords(self.store)
        endpoint, request = self.plan.prepared.endpoint, self.plan.first
        self.collector = Collector(
            self.session, endpoint, request, self._turn, self.store, self.counts, self.budget, self.cell
        )

    def _turn(self) -> Turn:
        return self.plan.turn(self.plan.first, time.monotonic)

    @property
    def stopped_by(self) -> NbchatError | None:
        """Return the error that every row would hit, if there was one."""
        return self.collector.stopped_by

    @property
    def is_waiting(self) -> bool:
        """Return True if batches of the run have not ended."""
        return bool(self.collector.open)

    @property
    def has_more(self) -> bool:
        """Return True if the rows should be read once more, because some of them have to be sent (again)."""
        if self.stopped_by is not None or self.is_waiting or self.collector.was_canceled:
            return False
        # With a cassette one more pass writes the answers into it.
        is_recorded = self.session.recording.cassette is not None
        moved = self._sent or self.collector.collected > self._collected
        return bool(self.collector.again) or (moved and self._no_room is not None) or (self._sent and is_recorded)

    # What the run calls

    def start(self) -> None:
        """Begin a pass over the rows."""
        for digest in self.collector.again:
            self._tries[digest] = self._tries.get(digest, 1) + 1
        self.collector.again.clear()
        self._no_room, self._sent = None, False
        self._passes += 1
        self._collected = self.collector.collected

    def put(self, rows: list[PlannedRow], room: int, tick: Callable[[], None], tick_s: float) -> bool:
        """Put rows into batches, and send each batch that is full. Return False if the run has stopped.

        Args:
            rows: the rows.
            room: of no use here.
            tick: of no use here.
            tick_s: of no use here.
        """
        waiting = self.records.waiting((row.digest for row in rows), self.plan.prepared.endpoint.name)
        for row in rows:
            if row.digest in self.collector.failed:
                self._keep(self.plan.request(row))
                continue
            if (batch := waiting.get(row.digest)) is not None:
                self.collector.watch(batch)
                continue
            try:
                self._add(row)
            except InputError as failure:  # a fault of this row
                self._end(Result.failed(row.digest, failure))
        return self.stopped_by is None

    def finish(self, tick: Callable[[], None], tick_s: float) -> None:
        """Send the last batch, and wait for all."""
        self._submit()
        if self._no_room is not None and not self._sent and not self.is_waiting:
            self._no_room.raise_()
        if self.waits:
            self.collector.wait(tick, tick_s)
        else:
            self.collector.look(now=True)

    def interrupt(self) -> None:
        """Take an interrupt. The batches go on at the service, and the next run waits for them."""

    def cancel(self, tick: Callable[[], None], tick_s: float) -> None:
        """Cancel the batches, and collect what the service had answered already.

        Raises:
            TransportError: the service did not answer.
        """
        self.collector.cancel()
        self.collector.wait(tick, tick_s)

    # Rows

    def _add(self, row: PlannedRow) -> None:
        request = replace(self.plan.request(row), stream=False)
        if (result := self._without_sending(request)) is not None:
            if self._passes == 1:  # later passes read the same rows again
                self._end(result)
            return
        if self._tries.get(row.digest, 1) > TRIES:
            self._end(Result.failed(row.digest, _failed_often()))
            return
        most = 0.0
        if self.budget is not None:
            if not self.budget.allows(row.tokens):
                self._no_room = self._no_room or BudgetFull(self.budget, row.tokens)
                return
            most = self.budget.reserve(row.tokens)
        entry = {"custom_id": row.digest, "params": _params(request)}
        size = len(json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode()) + 1
        if self._rows and (len(self._rows) >= MOST_REQUESTS or self._bytes + size > MOST_BYTES):
            self._submit()
        self._rows.append(entry)
        self._bytes += size
        self._most += most

    def _keep(self, request: Request) -> None:
        """Write the answer of a row that failed into the cassette, so that a replay fails in the same way."""
        endpoint = self.plan.prepared.endpoint
        record_kept_answer(self.session.recording, self.store, request, endpoint, failed_too=True)

    def _without_sending(self, request: Request) -> Result | None:
        """Return the result that a cassette or the store has; None if the request has to be sent."""
        recording, endpoint = self.session.recording, self.plan.prepared.endpoint
        if recording.cassette is None:
            return None
        if (kept := record_kept_answer(recording, self.store, request, endpoint)) is not None:
            return replace(kept, replayed=True)
        events = recording.answer(request)
        if events is None:
            return None
        turn, failure = self._turn(), None
        try:
            for event in events:
                turn.feed(event)
            turn.close()
            turn.end_answer()
            turn.advance()
        except NbchatError as error:
            failure = error
        response = turn.settle(failure, endpoint=endpoint.name, digest=request.digest, cost=0.0, replayed=True)
        if failure is None and response.status == "refused":
            failure = refused(response)
        cost = self.session.accounting.cost(response.usage, endpoint, response.model)
        return replace(Result.of(request.digest, response, failure), cost=cost, replayed=True)

    def _end(self, result: Result) -> None:
        self.store.add([result])
        self.counts.take(result)
        if not result.ok:
            self.collector.failed.add(result.digest)

    # Batches

    def _submit(self) -> None:
        """Send the batch that was filled.

        Raises:
            InputError: the batch was not sent.
            TransportError: the service refused the batch, or did not answer.
        """
        rows, most = self._rows, self._most
        self._rows, self._bytes, self._most = [], 0, 0.0
        if not rows:
            return
        door = self.collector.door  # before anything is written: there may be no such API, or no key
        self._tell()
        record, own = self.records.begin(self._record(len(rows), most), [entry["custom_id"] for entry in rows])
        if len(own) < len(rows):
            # Another kernel has put these rows into a batch a moment ago.
            others = [entry["custom_id"] for entry in rows if entry["custom_id"] not in own]
            waiting = self.records.waiting(others, record.endpoint)
            for id in set(waiting.values()):
                self.collector.watch(id)
            rows = [entry for entry in rows if entry["custom_id"] in own]
            if not rows:
                if self.budget is not None:
                    self.budget.release(most, 0.0)
                return
        self.collector.watch(record.id)
        self._sent = True
        try:
            with self.records.creating(record):
                created = door.create(rows, self._betas())
                self.records.confirm(record, str(created.get("id") or ""))
        except NbchatError as failure:
            if not was_refused(failure):
                # The answer was lost on the way, so the batch can exist. The wait looks for it in the list.
                return
            self.records.end(record, "lost")
            self.collector.open.pop(record.id, None)
            if self.budget is not None:
                self.budget.release(record.most, 0.0)
            raise
        self.collector.open[record.id] = replace(record, service_id=str(created.get("id") or ""))

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            self.session.host.say(f"nbchat: {NOTICE}.")

    def _betas(self) -> list[str]:
        betas = self.plan.first.body().get("betas") or []
        return [str(beta) for beta in betas]

    def _record(self, requests: int, most: float) -> BatchRecord:
        endpoint, request = self.plan.prepared.endpoint, self.plan.first
        schema = self.plan.prepared.draft.schema
        asked: dict[str, Any] = {
            "template": self.template,
            "cell": self.cell,
            # Without the prompt: what is needed to read the answers.
            "body": {**request.body(), "messages": [], "system": None},
            "schema": None if schema is None else schema.source_schema,
        }
        return BatchRecord(
            self.records.new_id(),
            self.run,
            "",
            endpoint.name,
            endpoint.model,
            self.session.accounting.notebook,
            time.time(),
            requests,
            most,
            asked=asked,
        )


@dataclass(frozen=True, slots=True)
class BudgetFull:
    """A row that the budget does not allow now."""

    budget: Budget
    tokens: int

    def raise_(self) -> None:
        """Raise the error of the budget, if it still does not allow the row."""
        self.budget.release(self.budget.reserve(self.tokens), 0.0)


def _params(request: Request) -> Mapping[str, Any]:
    body = request.body()
    body.pop("betas", None)
    return body


def _failed_often() -> OverloadedError:
    return OverloadedError(
        f"the service failed with this row, or did not come to it, in {TRIES} batches", "resume() asks it again."
    )
