"""The records of batches: what was sent to the Message Batches API, and what came back.

A record is on disk before its batch is created. If the kernel ends in between, the next run finds the record without
the service's id, looks for the batch in the service's list, and does not pay for it twice.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from nbchat.core.errors import InputError
from nbchat.core.plural import counted
from nbchat.file_locks import hold_for_life
from nbchat.rows.store import Store

__all__ = ["BatchRecord", "BatchRecords", "BatchState"]

#: ``open``: the service works on the batch, or has results that were not fetched. ``ended``: the results are in the
#: store. ``lost``: the service refused the batch, or does not have it.
BatchState: TypeAlias = Literal["open", "ended", "lost"]

#: SQLite before 3.32 takes at most 999 parameters.
_DIGESTS_PER_QUERY = 500
_COLUMNS = "id, run, service_id, endpoint, model, notebook, at, requests, most, state, not_ours, asked"


@dataclass(frozen=True, slots=True, repr=False)
class BatchRecord:
    """One batch.

    Attributes:
        id: the id of the record.
        run: the id of the run that sent the batch.
        service_id: the service's id of the batch; "" if nobody knows if the service has the batch.
        endpoint: the name of the endpoint.
        model: the model.
        notebook: the notebook's name in the ledger.
        at: when the batch was sent, in seconds since the epoch.
        requests: the number of requests.
        most: the most that the batch can cost, in US dollars, where a budget was given.
        state: ``open``, ``ended`` or ``lost``.
        not_ours: ids of batches of the service that turned out to be other ones.
        asked: what was asked, without the rows: the template, the body of a request and the schema.
    """

    id: str
    run: str
    service_id: str
    endpoint: str
    model: str
    notebook: str
    at: float
    requests: int
    most: float = 0.0
    state: BatchState = "open"
    not_ours: tuple[str, ...] = ()
    asked: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        return f"<BatchRecord {self}>"

    def __str__(self) -> str:
        name = self.service_id or f"{self.id} (not confirmed by the service)"
        return f"{name}: {counted(self.requests, 'request')} to {self.model} at {self.endpoint}, {self.state}"


class BatchRecords:
    """The records in the file of a store.

    >>> records = BatchRecords(Store(":memory:"))
    >>> record, _ = records.begin(BatchRecord("b1", "run", "", "anthropic", "m", "", 0.0, 1), ["ab" * 32])
    >>> records.confirm(record, "msgbatch_1")
    >>> [str(record) for record in records.all()]
    ['msgbatch_1: 1 request to m at anthropic, open']
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    @staticmethod
    def new_id() -> str:
        """Return a new id of a record."""
        return uuid.uuid4().hex

    def all(self) -> list[BatchRecord]:
        """Return all records, the newest first."""
        return list(self._find("1 ORDER BY at DESC, id", ()))

    def get(self, id: str) -> BatchRecord | None:
        """Return the record with this id, of nbchat or of the service; None if there is none."""
        return next(self._find("id = ? OR (service_id = ? AND service_id != '') ORDER BY at DESC", (id, id)), None)

    def of_run(self, run: str) -> list[BatchRecord]:
        """Return the records of a run, the oldest first."""
        return list(self._find("run = ? ORDER BY at, id", (run,)))

    def reserved(self, notebook: str) -> float:
        """Return the most that the open batches of a notebook can cost, in US dollars."""
        query = "SELECT coalesce(sum(most), 0) FROM batches WHERE state = 'open' AND notebook = ?"
        return float(self._store.read(query, [notebook])[0][0])

    def waiting(self, digests: Iterable[str], endpoint: str) -> dict[str, str]:
        """Return the id of the open batch at an endpoint of each request that is in one."""
        found: dict[str, str] = {}
        keys = [bytes.fromhex(digest) for digest in dict.fromkeys(digests)]
        for start in range(0, len(keys), _DIGESTS_PER_QUERY):
            some = keys[start : start + _DIGESTS_PER_QUERY]
            for key, batch in self._store.read(_waiting_query(len(some)), [endpoint, *some]):
                found[key.hex()] = batch
        return found

    def begin(self, record: BatchRecord, digests: Sequence[str]) -> tuple[BatchRecord, set[str]]:
        """Write the record of a batch that is about to be created.

        Return the record, and the digests of its requests: those that no other kernel has put into a batch meanwhile.

        Raises:
            InputError: the file cannot be written, so that the batch must not be sent.
        """
        was_on_disk = self._store.path is not None
        own: set[str] = set()

        def write(connection: Any) -> None:
            keys = [bytes.fromhex(digest) for digest in digests]
            taken: set[bytes] = set()
            for start in range(0, len(keys), _DIGESTS_PER_QUERY):
                some = keys[start : start + _DIGESTS_PER_QUERY]
                taken.update(key for key, _ in connection.execute(_waiting_query(len(some)), [record.endpoint, *some]))
            mine = [key for key in keys if key not in taken]
            own.update(key.hex() for key in mine)
            if not mine:
                return
            connection.execute(
                f"INSERT INTO batches ({_COLUMNS}) VALUES ({', '.join('?' * 12)})",
                (
                    *(record.id, record.run, "", record.endpoint, record.model, record.notebook, record.at),
                    *(len(mine), record.most, "open", "[]", json.dumps(record.asked, ensure_ascii=False)),
                ),
            )
            connection.executemany("INSERT INTO batch_requests VALUES (?, ?, 0)", [(record.id, key) for key in mine])

        self._store.write_safely(write)
        if was_on_disk and self._store.path is None:
            raise InputError(
                "the batch could not be noted on disk, so it was not sent: after a restart nobody would find it",
                "Free some space, or make the folder of nbchat's files writable. Or ask without via='batches'.",
            )
        return self.get(record.id) or record, own

    def confirm(self, record: BatchRecord, service_id: str) -> None:
        """Note the service's id of a batch."""
        self._set(record, "service_id = ?", service_id)

    def reject(self, record: BatchRecord) -> None:
        """Note that the service's batch of this id is another one."""
        others = json.dumps([*record.not_ours, record.service_id])
        self._set(record, "service_id = '', not_ours = ?", others)

    def end(self, record: BatchRecord, state: BatchState) -> None:
        """Note the end of a batch."""
        self._set(record, "state = ?", state)

    def not_done(self, record: BatchRecord) -> set[str]:
        """Return the digests of the requests of a batch whose results are not in the store."""
        rows = self._store.read("SELECT digest FROM batch_requests WHERE batch = ? AND NOT done", [record.id])
        return {key.hex() for (key,) in rows}

    def holds(self, record: BatchRecord, digest: str) -> bool:
        """Return True if the batch has the request with this digest."""
        try:
            key = bytes.fromhex(digest)
        except ValueError:
            return False
        return bool(self._store.read("SELECT 1 FROM batch_requests WHERE batch = ? AND digest = ?", [record.id, key]))

    def service_ids(self) -> set[str]:
        """Return the service's ids of all batches that are known."""
        return {row[0] for row in self._store.read("SELECT service_id FROM batches WHERE service_id != ''")}

    def _set(self, record: BatchRecord, change: str, value: str) -> None:
        query = f"UPDATE batches SET {change} WHERE id = ?"
        self._store.write_safely(lambda connection: connection.execute(query, (value, record.id)))

    def _find(self, where: str, values: Sequence[Any]) -> Iterator[BatchRecord]:
        for row in self._store.read(f"SELECT {_COLUMNS} FROM batches WHERE {where}", values):
            record = BatchRecord(*row)
            yield replace(record, not_ours=tuple(json.loads(row[10])), asked=json.loads(row[11]))

    # Which kernel creates a batch now

    @contextlib.contextmanager
    def creating(self, record: BatchRecord) -> Iterator[None]:
        """Let other kernels see that this one creates the batch now. The upload can take minutes."""
        _creating.add(record.id)
        path = self._lock(record)
        descriptor = -1
        try:
            if path is not None:
                with contextlib.suppress(OSError):
                    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
                    hold_for_life(descriptor)
            yield
        finally:
            if descriptor >= 0:
                with contextlib.suppress(OSError):  # Windows does not delete a file that is open
                    os.close(descriptor)
                    os.unlink(str(path))
            _creating.discard(record.id)

    def is_creating(self, record: BatchRecord) -> bool:
        """Return True if a living kernel creates the batch now."""
        if record.id in _creating:
            return True
        path = self._lock(record)
        try:
            descriptor = os.open(str(path), os.O_RDWR) if path is not None else -1
        except OSError:
            return False
        if descriptor < 0:
            return False
        try:
            return hold_for_life(descriptor) is False
        finally:
            os.close(descriptor)

    def _lock(self, record: BatchRecord) -> Path | None:
        path = self._store.path
        return None if path is None else path.with_name(f"{path.name}.batch-{record.id}.lock")


#: The batches that this process creates now.
_creating: set[str] = set()


def _waiting_query(count: int) -> str:
    marks = ", ".join("?" * count)
    return (
        "SELECT batch_requests.digest, batches.id FROM batch_requests "
        "JOIN batches ON batches.id = batch_requests.batch "
        "WHERE batches.state = 'open' AND batches.endpoint = ? AND NOT batch_requests.done "
        f"AND batch_requests.digest IN ({marks})"
    )
