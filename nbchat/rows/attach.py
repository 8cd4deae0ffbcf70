"""Attach to batches that an earlier kernel sent: list them, wait for them, and read their answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from nbchat.core.errors import InputError, NbchatError
from nbchat.core.messages import Message
from nbchat.core.request import Request
from nbchat.engine.accounting import warn
from nbchat.engine.session import Session
from nbchat.engine.turn import Turn
from nbchat.rows.answers import Answers
from nbchat.rows.batch_records import BatchRecord, BatchRecords
from nbchat.rows.collecting import Collector
from nbchat.rows.counts import Counts
from nbchat.rows.frames import read_frame
from nbchat.rows.job import Job, RowsView, Task
from nbchat.rows.store import Store
from nbchat.tools.answer_type import AnswerType

__all__ = ["attach", "batches"]

#: How often the view is told about the progress, in seconds.
TICK_S = 0.1
#: The fields of a body that are fields of a Request.
_FIELDS = frozenset({"model", "max_tokens", "messages", "system", "tools"})


def batches(store: Store | None = None) -> list[BatchRecord]:
    """Return the records of all batches, the newest first."""
    return BatchRecords(store or Store(warn=warn)).all()


def attach(
    session: Session, id: str, *, waits: bool = True, view: RowsView | None = None, store: Store | None = None
) -> Job:
    """Return the job of a batch that an earlier kernel sent.

    Args:
        session: finds the endpoint.
        id: the id of the batch, or of its run.
        waits: whether to wait for the batches of the run.
        view: shows the progress.
        store: has the records; None for the user's own file.

    Raises:
        InputError: there is no such batch.
        NbchatError: the service did not answer.
    """
    store = store or Store(warn=warn)
    records = BatchRecords(store)
    found = records.get(id)
    of_run = records.of_run(found.run if found is not None else id)
    if not of_run:
        raise InputError(f"there is no batch {id} among those that were sent from here", "nbchat.batches() lists them.")
    attached = _Attached(session, store, of_run)
    task = Task(
        read_frame(_nothing()),
        str(of_run[0].asked.get("template") or ""),
        session.options({}),
        {},
        cell=of_run[0].asked.get("cell"),
        waits=waits,
    )
    job = Job(session, task, store, view, attached.run)
    job.id, job.answers = of_run[0].run, Answers(attached.schema)
    return attached.run(job, waits=waits)


def _nothing() -> Iterator[Any]:
    """Yield no rows: those of the run are in the store."""
    yield from ()


class _Attached:
    """The batches of one run of an earlier kernel."""

    def __init__(self, session: Session, store: Store, records: list[BatchRecord]) -> None:
        self._session, self._store, self._records = session, store, records
        asked = records[0].asked
        self.schema = self._schema_of(asked.get("schema"))
        body: dict[str, Any] = dict(asked.get("body") or {})
        params = {key: value for key, value in body.items() if key not in _FIELDS}
        prompt = Message.of("user", "a row")
        self._request = Request(
            str(body.get("model") or records[0].model),
            (prompt,),
            int(body.get("max_tokens") or 1),
            tools=tuple(body.get("tools") or ()),
            params=params,
            stream=False,
        )

    def _schema_of(self, schema: Any) -> AnswerType | None:
        if schema is None:
            return None
        try:
            return AnswerType.of(schema)
        except InputError as failure:
            self._session.host.tell(f"the answers are read as texts: {failure.message}")
            return None

    def _turn(self) -> Turn:
        request = self._request
        return Turn(request, request.messages[-1], clock=time.monotonic, schema=self.schema)

    def run(self, job: Job, *, waits: bool = True) -> Job:
        """Wait for the batches, or fetch those that have ended."""
        job.begin()
        session, first = self._session, self._records[0]
        options = session.options({"endpoint": first.endpoint, "model": first.model})
        endpoint = session.endpoints.find(options)
        counts = job.counts = Counts(began_s=time.monotonic())
        digests = [digest for _, digest, *_ in self._store.rows(job.id)]
        counts.rows = counts.read = len(digests)
        distinct = {digest for digest in digests if digest}
        counts.distinct = len(distinct)
        before = self._store.finished(distinct)
        counts.done = counts.replayed = len(before)
        collector = Collector(session, endpoint, self._request, self._turn, self._store, counts, cell=job.task.cell)
        for record in self._records:
            collector.watch(record.id)
        # Rows of this run can also be in a batch of another run.
        for id in set(collector.records.waiting(distinct - before, endpoint.name).values()):
            collector.watch(id)

        def tick() -> None:
            if job.view is not None:
                job.view.update(counts)

        def cancel() -> None:
            collector.cancel()
            collector.wait(tick, TICK_S)

        job.canceler = cancel
        if job.view is not None:
            job.view.begin(counts)
        try:
            collector.look(now=True)
            if waits:
                collector.wait(tick, TICK_S)
            if collector.stopped_by is not None:
                raise collector.stopped_by
            job.status = "waiting" if collector.open else "interrupted" if collector.was_canceled else "complete"
        except NbchatError as failure:
            job.status, job.error = "stopped", failure
            failure.job = job  # type: ignore[attr-defined]
            raise
        finally:
            session.last_job = job
            if job.view is not None:
                job.view.settle(job)
        return job
