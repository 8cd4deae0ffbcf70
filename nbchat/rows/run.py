"""The run of a job: read rows, fill templates, look up what is finished, and have the rest sent.

Templates are filled in the thread that called, because their expressions are the user's own code, and so that an
interrupt arrives there. A :class:`~nbchat.rows.sender.Sender` asks in a thread of its own.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import Any

from nbchat import telemetry
from nbchat.content.blocks import Carried
from nbchat.core.errors import BudgetError, InputError, NbchatError, OptionError
from nbchat.core.money import dollars
from nbchat.core.usage import Usage
from nbchat.engine.accounting import warn
from nbchat.engine.recording import Recording
from nbchat.engine.session import Session
from nbchat.options import Options
from nbchat.rows.batch_records import BatchRecords
from nbchat.rows.batches import BATCHES, BatchSender, batch_options
from nbchat.rows.budget import Budget
from nbchat.rows.counts import Counts
from nbchat.rows.estimate import Estimate, answer_tokens, counted_tokens, estimate, load_prices
from nbchat.rows.event_loop import few_collections
from nbchat.rows.frames import read_frame
from nbchat.rows.job import Job, RowsView, Status, Task
from nbchat.rows.pace import Pace
from nbchat.rows.plan import Plan, PlannedRow, row_options
from nbchat.rows.result import Result
from nbchat.rows.sender import Sender
from nbchat.rows.store import Store
from nbchat.rows.worker import Worker, WorkerSender

__all__ = ["ask_each", "run"]

#: How many rows are read, filled and looked up in one step.
CHUNK_ROWS = 250
#: How often the view is told about the progress, in seconds.
TICK_S = 0.1
#: A pause that is shown has at least so much time left, in seconds.
_NOTED_PAUSE_S = 1.0
#: An estimate is for so many rows where nobody knows how many there are.
_UNCOUNTED_ROWS = 1_000
#: How many rows an estimate reads.
ESTIMATED_ROWS = 200
#: How many rows wait to be sent, as a multiple of the requests in flight.
_ROOM = 2


@few_collections()
def ask_each(
    session: Session,
    data: Any,
    template: str,
    options: Options,
    *,
    namespace: Mapping[str, Any] | None = None,
    rows: int | None = None,
    cassette: str | None = None,
    fresh: bool = False,
    carried: Sequence[Carried] = (),
    cell: str | None = None,
    view: RowsView | None = None,
    store: Store | None = None,
    waits: bool = True,
    worker: Worker | None = None,
) -> Job | Estimate:
    """Ask the template for each row, and return the job. A dry run returns its estimate.

    Args:
        session: the session.
        data: the rows, of any kind that :func:`~nbchat.rows.frames.read_frame` takes.
        template: the prompt, with ``{{ … }}`` over the columns.
        options: the options of the run.
        namespace: the notebook's names.
        rows: how many of the first rows are asked; None for all.
        cassette: a file that records the answers, and replays them.
        fresh: whether answers of earlier runs are ignored.
        carried: content before the prompt of each row.
        cell: the key of the cell.
        view: shows the progress.
        store: keeps the results; None for the user's own file.
        waits: whether a run through batches waits for them.
        worker: what the runs of one process of an engine share, or None.

    Raises:
        InputError, BudgetError: nothing was sent.
        NbchatError: something that every row would hit. ``error.job`` is the job.
        KeyboardInterrupt: the user stopped the run. What is finished is kept.
    """
    owner = session
    if cassette is not None:
        session = copy.copy(session)
        session.recording = Recording(session.config, notebook=session.accounting.notebook)
        session.recording.use_cassette(cassette)
    if rows is not None and (isinstance(rows, bool) or not isinstance(rows, int) or rows < 1):
        raise OptionError(f"rows={rows!r}: a sample has a number of rows of at least 1", "Leave out rows for all rows.")
    frame = read_frame(data)
    total = frame.count
    if rows is not None:
        frame = frame.head(rows)
    options_of_rows = row_options(options)
    if options.via == BATCHES:
        options_of_rows = batch_options(options_of_rows)
    elif not waits:
        raise OptionError("wait: only a run through batches need not be waited for", "Add via='batches'.")
    names = session.host.namespace if namespace is None else namespace
    task = Task(frame, template, options, names, tuple(carried), cell, fresh, rows is not None, total)
    task = replace(task, options=replace(options_of_rows, budget=options.budget, dry_run=options.dry_run), waits=waits)
    job = Job(session, task, store or Store(warn=warn), view, run)
    job.owner, job.worker = owner, worker
    if options.dry_run:
        return _dry_run(job)
    return run(job)


def _plan(job: Job, first: Sequence[Mapping[str, Any]]) -> Plan:
    task = job.task
    options = replace(task.options, budget=None)
    plan = Plan(job.session, task.template, options, first, namespace=task.namespace, carried=task.carried)
    job.answers = plan.answers
    columns = task.frame.columns or (tuple(first[0]) if first else ())
    plan.answers.refuse_columns(name for name in columns if name not in ("nbchat_error", "nbchat_cost"))
    return plan


class _Reader:
    """Reads the rows of a job, and finds out which of them have to be sent."""

    def __init__(
        self,
        job: Job,
        plan: Plan,
        rows: Iterator[tuple[int, Mapping[str, Any]]],
        counts: Counts,
        *,
        is_first: bool = True,
        is_probe: bool = False,
    ) -> None:
        self._job, self._plan, self._rows, self._counts = job, plan, rows, counts
        self._seen: set[int] = set()
        # What is in a batch already costs nothing more.
        self._records = BatchRecords(job.store) if is_probe and job.task.options.via == BATCHES else None
        # With a cassette, every row is replayed from there, or recorded there.
        self._looks_up = not (job.task.fresh and is_first) and job.session.recording.cassette is None
        #: The prompt tokens of the rows that have to be sent.
        self.tokens = 0
        self.finished = 0

    def chunks(self) -> Iterator[list[PlannedRow]]:
        """Yield the rows that have to be sent, in chunks."""
        job, counts = self._job, self._counts
        while chunk := list(islice(self._rows, CHUNK_ROWS)):
            read: list[tuple[int, Mapping[str, Any], str, Result | None]] = []
            planned: list[PlannedRow] = []
            for place, fields in chunk:
                try:
                    row = self._plan.row(fields)
                except InputError as failure:
                    read.append((place, fields, "", Result.failed("", failure)))
                    counts.failed += 1
                    counts.distinct += 1
                    continue
                read.append((place, fields, row.digest, None))
                key = int(row.digest[:16], 16)
                if key not in self._seen:
                    self._seen.add(key)
                    planned.append(row)
            job.note_rows(read)
            counts.read += len(chunk)
            counts.distinct += len(planned)
            if self._looks_up and planned:
                done = job.store.finished(row.digest for row in planned)
                planned = [row for row in planned if row.digest not in done]
                self.finished += len(done)
                counts.done += len(done)
                counts.replayed += len(done)
            if self._records is not None and planned:
                waiting = self._records.waiting((row.digest for row in planned), self._plan.prepared.endpoint.name)
                planned = [row for row in planned if row.digest not in waiting]
                self.finished += len(waiting)
            self.tokens += sum(row.tokens for row in planned)
            yield planned


def _dry_run(job: Job) -> Estimate:
    """Return the estimate of a run. Every row is read, and nothing is sent."""
    rows = job.rows()
    first = list(islice(rows, CHUNK_ROWS))
    plan = _plan(job, [fields for _, fields in first])
    counts = Counts()
    reader = _Reader(job, plan, chain(first, rows), counts, is_probe=True)
    recording, recorded = job.session.recording, 0
    for planned in reader.chunks():
        if recording.cassette is not None:
            kept = [row for row in planned if recording.cassette.holds(plan.request(row))]
            recorded += len(kept)
            reader.tokens -= sum(row.tokens for row in kept)
    reader.finished += recorded
    return _estimate(job, plan, counts, reader)


def _estimate(job: Job, plan: Plan, counts: Counts, reader: _Reader) -> Estimate:
    tokens = counted_tokens(job.session, plan, reader.tokens)
    distinct = counts.distinct - counts.failed
    return estimate(
        job.session,
        plan,
        rows=counts.read,
        distinct=distinct,
        finished=reader.finished,
        tokens=tokens,
        usage=Usage(),
        sent=0,
        tier=_tier(job),
    )


@few_collections()
def run(job: Job) -> Job:
    """Run a job, or go on with it. Raises as :func:`ask_each` does."""
    job.begin()
    task, session = job.task, job.session
    rows = job.rows()
    first = list(islice(rows, CHUNK_ROWS))
    plan = _plan(job, [fields for _, fields in first])
    budget = _budget(job, plan)
    counts = job.counts = Counts(rows=task.frame.count, began_s=time.monotonic())
    sender = _sender(job, plan, budget)
    reader = _Reader(job, plan, chain(first, rows), counts)
    view = job.view
    if view is not None:
        view.begin(counts)
    try:
        with telemetry.turn(
            plan.first,
            endpoint=plan.prepared.endpoint.name,
            cell=task.cell,
            notebook=session.accounting.notebook,
            user=session.config.user,
        ) as span:
            _send(job, reader, sender)
            while isinstance(sender, BatchSender) and sender.has_more:
                _send(job, _Reader(job, plan, job.rows(), Counts(), is_first=False), sender)
            span.settle_rows(counts.read, counts.sent, counts.usage)
            if sender.stopped_by is not None:
                raise sender.stopped_by
        job.status = _status(sender)
    except KeyboardInterrupt:
        job.status = "waiting" if _status(sender) == "waiting" else "interrupted"
        raise
    except Exception as failure:  # also a fault in an iterator of the user
        job.status = "stopped"
        if isinstance(failure, NbchatError):
            job.error, failure.job = failure, job  # type: ignore[attr-defined]
        raise
    finally:
        job.owner.last_job = job
        if task.is_sample:
            job.estimate = _whole(job, plan, counts)
        if view is not None:
            view.settle(job)
    return job


def _sender(job: Job, plan: Plan, budget: Budget | None) -> Sender | BatchSender:
    """Return who sends the rows."""
    task, session, counts = job.task, job.session, job.counts
    if task.options.via == BATCHES and not session.recording.replays_only:
        job.keeps_rows = True
        sender = BatchSender(
            session, plan, job.store, counts, job.id, budget, task.cell, template=task.template, waits=task.waits
        )
        job.canceler = lambda: sender.cancel(lambda: _tick(job), TICK_S)
        return sender
    asked = (session, plan, job.store, counts)
    if job.worker is not None:
        pace = job.worker.pace(plan.prepared.endpoint.name, task.options, answer_tokens(plan))
        return WorkerSender(*asked, pace, budget, task.cell, worker=job.worker)
    pace = Pace(
        task.options.concurrency,
        rpm=task.options.rpm,
        tpm=task.options.tpm,
        answer_tokens=answer_tokens(plan),
        clock=time.monotonic,
    )
    return Sender(*asked, pace, budget, task.cell, has_spans=session.config.row_spans)


def _status(sender: Sender | BatchSender) -> Status:
    """Return how a run ended that nothing has stopped."""
    if isinstance(sender, BatchSender):
        if sender.is_waiting:
            return "waiting"
        if sender.collector.was_canceled:
            return "interrupted"
    return "complete"


def _tick(job: Job) -> None:
    if job.view is not None:
        job.view.update(job.counts)


def _send(job: Job, reader: _Reader, sender: Sender | BatchSender) -> None:
    """Have the rows sent, until all have ended or the run stops."""

    def tick() -> None:
        if isinstance(sender, Sender):
            left_s = sender.pace.pause_left_s
            job.counts.note = f"the service asked for a pause, {left_s:.0f} s left" if left_s >= _NOTED_PAUSE_S else ""
        _tick(job)

    room = max(CHUNK_ROWS, _ROOM * job.task.options.concurrency)
    sender.start()
    try:
        for planned in reader.chunks():
            if not sender.put(planned, room, tick, TICK_S):
                break
            load_prices(job.session, sender.plan)  # while the first requests are on their way, not when answers come
        sender.finish(tick, TICK_S)
        job.counts.note = ""
    except BaseException:  # an interrupt, or a fault in an iterator of the user
        sender.interrupt()
        raise


def _budget(job: Job, plan: Plan) -> Budget | None:
    """Return the budget of a run, or refuse a run that likely costs more.

    Raises:
        BudgetError: the likely cost is more than what is left.
    """
    limit = job.task.options.budget
    if limit is None or job.session.recording.replays_only:
        return None
    accounting = job.session.accounting
    # Batches of earlier runs that were not collected are not in the ledger yet.
    in_flight = BatchRecords(job.store).reserved(accounting.notebook)
    prepared = plan.prepared
    budget = Budget(limit, accounting, prepared.endpoint, prepared.request, tier=_tier(job), in_flight=in_flight)
    likely = _likely(job, plan)
    if likely is not None and likely > budget.unspent:
        raise BudgetError(
            f"the rows likely cost {dollars(likely)}, more than the budget of {dollars(limit)} for "
            f"{job.session.accounting.scope} leaves: {dollars(budget.spent)} is spent",
            "Nothing was sent. Raise the budget, ask for fewer rows with rows=, or choose a cheaper model.",
            spent=budget.spent,
            limit=limit,
            estimate=likely,
        )
    return budget


def _likely(job: Job, plan: Plan) -> float | None:
    """Return the likely cost of the rows that are not finished, from the first ones; None for an iterator."""
    count = job.task.frame.count
    if count is None:
        return None
    probe = copy.copy(job)
    probe.note_rows = lambda rows: None  # type: ignore[method-assign]
    counts = Counts()
    reader = _Reader(probe, plan, enumerate(islice(job.task.frame.rows(), ESTIMATED_ROWS)), counts, is_probe=True)
    for _ in reader.chunks():
        pass
    likely = _estimate(job, plan, counts, reader).likely
    return None if likely is None or not counts.read else likely * count / counts.read


def _whole(job: Job, plan: Plan, counts: Counts) -> Estimate:
    """Return the estimate of all rows from a sample of them: of 1,000 rows where nobody knows how many there are."""
    total, done = (job.task.total, counts.done) if job.task.total is not None else (_UNCOUNTED_ROWS, 0)
    scale = total / counts.read if counts.read else 0.0
    usage, answers = counts.usage, counts.sent
    if not job.is_streamed:  # answers of earlier runs say as much about the others
        answered = {result.digest: result for result in job.results() if result.usage.total_tokens}
        usage, answers = sum((result.usage for result in answered.values()), Usage()), len(answered)
    tokens = usage.prompt_tokens / answers if answers else 0.0
    return estimate(
        job.session,
        plan,
        rows=total,
        distinct=round(counts.distinct * scale),
        finished=done,
        tokens=round(tokens * (counts.distinct * scale - done)),
        usage=usage,
        sent=answers,
        tier=_tier(job),
    )


def _tier(job: Job) -> str | None:
    """Return the service tier that decides the price of a run."""
    return "batch" if job.task.options.via == BATCHES else None
