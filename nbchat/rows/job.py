"""A job: one run over rows, its results, and the way to go on with it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal, Protocol, TypeAlias

from nbchat.content.blocks import Carried
from nbchat.core.errors import InputError, NbchatError
from nbchat.core.usage import Usage
from nbchat.engine.session import Session
from nbchat.options import Options
from nbchat.rows.answers import Answers
from nbchat.rows.counts import Counts
from nbchat.rows.estimate import Estimate
from nbchat.rows.frames import ROW, Frame
from nbchat.rows.result import Result
from nbchat.rows.store import Store

__all__ = ["Job", "RowsView", "Status", "Task"]

#: ``complete``: every row has ended. ``interrupted``: the user stopped the run. ``stopped``: something stopped it
#: that every row would hit. ``waiting``: the service works on it (batches).
Status: TypeAlias = Literal["complete", "interrupted", "stopped", "waiting"]

_DIGEST_BYTES = 32
#: How many results are read from the store in one step.
_CHUNK_ROWS = 500
_NOT_ASKED = "the row was not asked yet\nresume() asks it."
_WAITING = "the answer is not there yet: the service works on its batch\nresume() waits for it, and fetches it."


class RowsView(Protocol):
    """Shows a run. ``begin`` and ``settle`` are called once."""

    def begin(self, counts: Counts) -> None:
        """Begin to show a run."""
        ...

    def update(self, counts: Counts) -> None:
        """Show how far the run is. This is called often, so it must be cheap."""
        ...

    def settle(self, job: Job) -> None:
        """Show the end of the run."""
        ...


@dataclass(frozen=True, slots=True)
class Task:
    """What a job was asked to do.

    Args:
        frame: the rows.
        template: the prompt.
        options: the options of the run.
        namespace: the notebook's names.
        carried: content before the prompt of each row.
        cell: the key of the cell.
        fresh: whether answers of earlier runs are ignored.
        is_sample: whether the frame is a sample of more rows.
        total: the number of all rows; None if nobody knows it.
        waits: whether the run waits for its batches.
    """

    frame: Frame
    template: str
    options: Options
    namespace: Mapping[str, Any]
    carried: tuple[Carried, ...] = ()
    cell: str | None = None
    fresh: bool = False
    is_sample: bool = False
    total: int | None = None
    waits: bool = True


class Job:
    """One run over rows.

    Attributes:
        status: ``complete``, ``interrupted``, ``stopped`` or ``waiting``.
        counts: how many rows and requests had which end.
        error: the error that stopped the run, or None.
        estimate: what all rows will cost, if this job is a sample of them. Where nobody knows their number, as for an
            iterator, it is what 1,000 rows like these cost.
    """

    def __init__(
        self, session: Session, task: Task, store: Store, view: RowsView | None, run: Callable[[Job], Job]
    ) -> None:
        self.session, self.task, self.store, self.view, self._run = session, task, store, view, run
        self.answers = Answers(None)
        #: The session that knows this job as its last one. With a cassette of its own, a run has a copy of it.
        self.owner = session
        #: What the runs of one process of an engine share, or None.
        self.worker: Any = None
        self.status: Status = "waiting"
        self.error: NbchatError | None = None
        self.estimate: Estimate | None = None
        self.counts = Counts()
        #: The id of the run.
        self.id = uuid.uuid4().hex
        #: Whether the store keeps the rows of a frame, too, so that a later kernel has them.
        self.keeps_rows = False
        #: Cancels the batches of the job, if it has any.
        self.canceler: Callable[[], None] | None = None
        self._digests = bytearray()
        self._local: dict[int, Result] = {}
        self._rest: Iterator[Mapping[str, Any]] | None = None
        self._frame: Any = None

    # What the run writes

    @property
    def is_streamed(self) -> bool:
        """Return True if the rows are not in memory, so that the store keeps them."""
        return self.task.frame.count is None

    def rows(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Yield (place, fields) of each row that has no answer yet, as far as that is known without its digest."""
        if not (self.is_streamed and self.task.frame.once):
            yield from enumerate(self.task.frame.rows())
            return
        if self._rest is None:
            self._rest = iter(self.task.frame.rows())
        place = -1
        for place, _, fields, _, _ in self.store.rows(self.id):
            yield place, {ROW: fields, **fields}
        yield from enumerate(self._rest, place + 1)

    def note_rows(self, rows: Sequence[tuple[int, Mapping[str, Any], str, Result | None]]) -> None:
        """Note rows that were read: (place, fields, digest or "", the failure of a row that cannot be sent)."""
        if not self.is_streamed:
            for place, _, digest, failed in rows:
                start = place * _DIGEST_BYTES
                self._digests[start : start + _DIGEST_BYTES] = bytes.fromhex(digest) if digest else bytes(_DIGEST_BYTES)
                if failed is not None:
                    self._local[place] = failed
            if not self.keeps_rows:
                return
        self.store.add_rows(
            self.id,
            (
                (place, digest, _own(fields), failed.error_type if failed else "", failed.error if failed else "")
                for place, fields, digest, failed in rows
            ),
        )

    def begin(self) -> None:
        """Forget how the last run ended, because another one begins."""
        self._frame, self.error, self.status = None, None, "waiting"
        self._local.clear()

    # What the user reads

    @property
    def frame(self) -> Any:
        """Return the rows with their answers, in the same kind of frame and with the same index.

        New columns are the fields of the schema or ``answer``, ``nbchat_error`` with the two lines of a row's
        error, and ``nbchat_cost`` in US dollars. Equal rows were asked once, and the first of them has the cost.
        For an iterator the frame is read from the store each time: it can be iterated, and has a length.
        """
        if self.is_streamed:
            return _StoredFrame(self)
        if self._frame is None:
            columns = self.answers.columns(result for _, result in self._results())
            self._frame = self.task.frame.build(columns, self.answers.types)
        return self._frame

    @property
    def failed(self) -> Any:
        """Return the rows of :attr:`frame` that have no answer."""
        if self.is_streamed:
            return [row for row in self.frame if row["nbchat_error"]]
        failed = [(place, result) for place, result in self._results() if not result.ok]
        frame = self.task.frame.pick([place for place, _ in failed])
        return frame.build(self.answers.columns(result for _, result in failed), self.answers.types)

    @property
    def usage(self) -> Usage:
        """Return the tokens of everything that was sent."""
        return self.counts.usage

    @property
    def cost(self) -> float | None:
        """Return the cost of everything that was sent, in US dollars, or None if a part of it is unknown."""
        return self.counts.known_cost()

    def resume(self) -> Job:
        """Ask the rows that have no answer, the failed ones too. No finished row is paid for twice.

        Raises:
            NbchatError, KeyboardInterrupt: as from ``ask_each``.
        """
        self.task = replace(self.task, fresh=False, waits=True)
        return self._run(self)

    def cancel(self) -> Job:
        """Cancel the batches of the job. What the service had answered already is paid for, and is in the frame.

        Raises:
            InputError: the job has no batches that could be cancelled.
            TransportError: the service did not answer.
        """
        if self.canceler is None:
            raise InputError("this job has no batches at the service", "Interrupt a run that sends its rows itself.")
        self.begin()
        try:
            self.canceler()
        finally:
            self.status = "interrupted"
        return self

    def __repr__(self) -> str:
        return f"<Job {self.status}: {self.counts.summary(self.status)}>"

    def head(self, count: int) -> list[dict[str, Any]]:
        """Return the first rows of the frame as dicts."""
        if self.is_streamed:
            return list(islice(self.frame, count))
        names = self.answers.names
        rows = islice(self.task.frame.rows(), count)
        return [
            {**_own(fields), **dict(zip(names, self.answers.values(result), strict=True))}
            for fields, (_, result) in zip(rows, self._results(), strict=False)
        ]

    def results(self) -> Iterator[Result]:
        """Yield the result of each row of a frame in memory, in the order of the rows."""
        return (result for _, result in self._results())

    def _results(self) -> Iterator[tuple[int, Result]]:
        """Yield (place, result) of every row of a frame in memory."""
        seen: set[str] = set()
        for start in range(0, self.task.frame.count or 0, _CHUNK_ROWS):
            places = range(start, min(start + _CHUNK_ROWS, self.task.frame.count or 0))
            yield from self._joined(((place, self._digest(place), self._local.get(place)) for place in places), seen)

    def _digest(self, place: int) -> str:
        digest = bytes(self._digests[place * _DIGEST_BYTES : (place + 1) * _DIGEST_BYTES])
        return digest.hex() if any(digest) else ""

    def _joined(self, rows: Iterable[tuple[int, str, Result | None]], seen: set[str]) -> Iterator[tuple[int, Result]]:
        """Yield the result of each row: (place, digest, failure)."""
        rows = list(rows)
        found = self.store.find(digest for _, digest, _ in rows if digest)
        for place, digest, failed in rows:
            result = failed or found.get(digest)
            if result is None:
                text = _WAITING if self.status == "waiting" else _NOT_ASKED
                result = Result(digest, error_type="InputError", error=text)
            elif digest in seen:
                result = replace(result, cost=0.0)
            seen.add(digest)
            yield place, result

    def _stored(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of an iterator with their answers, from the store."""
        names, rows, seen = self.answers.names, self.store.rows(self.id), set[str]()
        while chunk := list(islice(rows, _CHUNK_ROWS)):
            failures = [
                Result(digest, error_type=kind, error=error) if kind else None for _, digest, _, kind, error in chunk
            ]
            joined = self._joined(
                ((place, digest, failed) for (place, digest, *_), failed in zip(chunk, failures, strict=True)), seen
            )
            for (_, _, fields, _, _), (_, result) in zip(chunk, joined, strict=True):
                yield {**fields, **dict(zip(names, self.answers.values(result), strict=True))}


class _StoredFrame:
    """The rows of an iterator with their answers. They are read from the store each time."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self._job._stored()

    def __len__(self) -> int:
        return self._job.counts.read

    def __repr__(self) -> str:
        return f"<{len(self):,} rows with the columns {', '.join(self._job.answers.names)}>"


def _own(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a row without the whole row, unless the row is only a value."""
    own = {name: value for name, value in fields.items() if name != ROW}
    return own or dict(fields)
