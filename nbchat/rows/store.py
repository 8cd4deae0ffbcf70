"""The store: the results of all runs, in one SQLite file for each user.

A result is on disk before it is shown. It is kept under the digest of its request, so the same request is
never paid for twice: not after an interrupt, not after a restart of the kernel, and not by another run.
SQLite must not be on a network disk; workers of an engine write shards of their own, which :meth:`Store.add`
merges.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from nbchat.core.errors import redact
from nbchat.core.usage import Usage
from nbchat.rows.result import Result
from nbchat.store.folders import shown_path, state_folder
from nbchat.store.migrations import migrate

__all__ = ["KEPT_DAYS", "Store"]

#: How long a result is kept that no run has used, in days.
KEPT_DAYS = 90
#: How many digests one query looks for. SQLite before 3.32 takes at most 999 parameters.
_DIGESTS_PER_QUERY = 500
#: How long a write waits for another kernel, in seconds.
_PATIENCE_S = 30.0
_SECONDS_PER_DAY = 86_400

#: The steps that bring a file up to date. A later version adds a step, and never changes one.
_MIGRATIONS = (
    """
    CREATE TABLE results (
        digest BLOB PRIMARY KEY,
        at REAL NOT NULL,
        ok INTEGER NOT NULL,
        text TEXT NOT NULL,
        usage TEXT NOT NULL,
        cost REAL,
        model TEXT NOT NULL,
        error_type TEXT NOT NULL,
        error TEXT NOT NULL,
        message TEXT
    ) WITHOUT ROWID;
    CREATE INDEX results_at ON results (at);
    CREATE TABLE rows (
        run TEXT NOT NULL,
        place INTEGER NOT NULL,
        digest BLOB,
        fields TEXT NOT NULL,
        error_type TEXT NOT NULL,
        error TEXT NOT NULL,
        at REAL NOT NULL,
        PRIMARY KEY (run, place)
    ) WITHOUT ROWID;
    """,
    # The batches, and which request is in which batch (rows/batch_records.py).
    """
    CREATE TABLE batches (
        id TEXT PRIMARY KEY,
        run TEXT NOT NULL,
        service_id TEXT NOT NULL,
        endpoint TEXT NOT NULL,
        model TEXT NOT NULL,
        notebook TEXT NOT NULL,
        at REAL NOT NULL,
        requests INTEGER NOT NULL,
        most REAL NOT NULL,
        state TEXT NOT NULL,
        not_ours TEXT NOT NULL,
        asked TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE batch_requests (
        batch TEXT NOT NULL,
        digest BLOB NOT NULL,
        done INTEGER NOT NULL,
        PRIMARY KEY (batch, digest)
    ) WITHOUT ROWID;
    CREATE INDEX batch_requests_digest ON batch_requests (digest);
    """,
    # How many requests of each shard are in the ledger (rows/engines.py).
    """
    CREATE TABLE booked_shards (
        shard TEXT PRIMARY KEY,
        requests INTEGER NOT NULL
    ) WITHOUT ROWID;
    """,
)
_COLUMNS = ("digest", "at", "ok", "text", "usage", "cost", "model", "error_type", "error", "message")

T = TypeVar("T")


class Store:
    """The file of results. It is opened with the first use. Threads may share a store.

    Args:
        path: the file; None for the user's own; ``":memory:"`` keeps results in memory only.
        warn: called with a message if the file cannot be used. Results are then kept in memory.
        now: the time of day, in seconds since the epoch.

    >>> store = Store(":memory:")
    >>> store.add([Result("ab" * 32, "positive")])
    >>> store.find(["ab" * 32, "cd" * 32])["ab" * 32].text
    'positive'
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        warn: Callable[[str], None] = lambda message: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._path, self._warn, self._now = path, warn, now
        self._connection: sqlite3.Connection | None = None
        self._process = 0
        self._lock = threading.RLock()
        _stores.add(self)

    # Results

    def find(self, digests: Iterable[str]) -> dict[str, Result]:
        """Return the results that the file has for these digests, the failed ones too."""
        found: dict[str, Result] = {}
        for some in _portions(digests):
            marks = ", ".join("?" * len(some))
            query = f"SELECT {', '.join(_COLUMNS)} FROM results WHERE digest IN ({marks})"
            for row in self._read(query, [bytes.fromhex(digest) for digest in some]):
                result = _result_of(row)
                found[result.digest] = result
        return found

    def finished(self, digests: Iterable[str]) -> set[str]:
        """Return those digests whose request has an answer."""
        found: set[str] = set()
        for some in _portions(digests):
            marks = ", ".join("?" * len(some))
            keys = [bytes.fromhex(digest) for digest in some]
            rows = self._read(f"SELECT digest FROM results WHERE ok AND digest IN ({marks})", keys)
            found.update(row[0].hex() for row in rows)
        return found

    def add(self, results: Iterable[Result], *, batch: str = "") -> None:
        """Write results in one transaction. A failure does not replace an answer.

        Args:
            results: the results.
            batch: the id of the batch that they came from: its requests are then noted as done.
        """
        now = self._now()
        rows = [_row_of(result, now) for result in results]
        if not rows:
            return
        done = [(batch, row[0]) for row in rows] if batch else []
        marks = ", ".join("?" * len(_COLUMNS))
        columns = ", ".join(_COLUMNS)
        updates = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[1:])

        def insert(connection: sqlite3.Connection) -> None:
            connection.executemany(
                f"INSERT INTO results ({columns}) VALUES ({marks}) "
                f"ON CONFLICT (digest) DO UPDATE SET {updates} WHERE excluded.ok OR NOT results.ok",
                rows,
            )
            connection.executemany("UPDATE batch_requests SET done = 1 WHERE batch = ? AND digest = ?", done)

        self._write(insert)

    def forget(self, digests: Iterable[str]) -> None:
        """Delete results, so that their requests are sent again."""
        keys = [(bytes.fromhex(digest),) for digest in digests]
        self._write(lambda connection: connection.executemany("DELETE FROM results WHERE digest = ?", keys))

    # The rows of an iterator, which cannot be read twice

    def add_rows(self, run: str, rows: Iterable[tuple[int, str, Mapping[str, Any], str, str]]) -> None:
        """Write rows of a run: (place, digest or "", fields, error type, error) each.

        Args:
            run: the id of the run.
            rows: the rows. ``fields`` that are not JSON are left out. The error is that of a row that could
                not be sent, else "".
        """
        now = self._now()
        values = [
            (run, place, bytes.fromhex(digest) if digest else None, _json_of(fields), kind, error, now)
            for place, digest, fields, kind, error in rows
        ]
        if values:
            self._write(
                lambda connection: connection.executemany(
                    "INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?, ?, ?, ?)", values
                )
            )

    def rows(self, run: str) -> Iterator[tuple[int, str, dict[str, Any], str, str]]:
        """Yield the rows of a run in order, as :meth:`add_rows` took them."""
        place = -1
        while True:
            query = (
                "SELECT place, digest, fields, error_type, error FROM rows WHERE run = ? AND place > ? "
                f"ORDER BY place LIMIT {_DIGESTS_PER_QUERY}"
            )
            rows = self._read(query, [run, place])
            for place, key, fields, kind, error in rows:
                yield place, key.hex() if key else "", json.loads(fields), kind, error
            if not rows:
                return

    # The file

    def close(self) -> None:
        """Close the file. The next use opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @property
    def path(self) -> Path | None:
        """Return the path of the file; None if results are in memory only."""
        self._do(lambda connection: None)
        return None if self._path in (None, ":memory:") else Path(str(self._path))

    def read(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        """Return the rows of a query."""
        return self._read(query, values)

    def write_safely(self, work: Callable[[sqlite3.Connection], object]) -> None:
        """Do work in one transaction that a power cut does not undo. No other kernel writes meanwhile."""

        def written(connection: sqlite3.Connection) -> None:
            connection.execute("PRAGMA synchronous = FULL")
            try:
                with connection:
                    connection.execute("BEGIN IMMEDIATE")
                    work(connection)
            finally:
                connection.execute("PRAGMA synchronous = NORMAL")

        self._do(written)

    def _read(self, query: str, values: Sequence[Any]) -> list[Any]:
        return self._do(lambda connection: connection.execute(query, values).fetchall())

    def _write(self, work: Callable[[sqlite3.Connection], object]) -> None:
        def written(connection: sqlite3.Connection) -> None:
            with connection:  # one transaction
                work(connection)

        self._do(written)

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock:
            try:
                return work(self._connect())
            except (sqlite3.Error, OSError) as error:
                if self._path == ":memory:":
                    raise
                # A full disk, a file system without locks or a damaged file must not stop a run.
                self._warn(
                    f"results of rows cannot be kept in {self._shown()} ({redact(str(error))}), "
                    "so they are kept in memory and end with the kernel"
                )
                self.close()
                self._path = ":memory:"
                return work(self._connect())

    def _shown(self) -> str:
        return shown_path(Path(self._path)) if self._path is not None else "the user's folder"

    def _connect(self) -> sqlite3.Connection:
        if self._connection is not None and self._process == os.getpid():
            return self._connection
        if self._path is None:
            self._path = state_folder() / "rows.sqlite"
        if self._path != ":memory:":
            path = Path(self._path)
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):  # SQLite would create a file that everybody can read
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        connection = sqlite3.connect(self._path, timeout=_PATIENCE_S, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        # NORMAL does not wait for the disk. A killed kernel loses nothing; a power cut may lose the last rows.
        connection.execute("PRAGMA synchronous = NORMAL")
        migrate(connection, _MIGRATIONS)
        self._delete_old(connection)
        self._connection, self._process = connection, os.getpid()
        return connection

    def _delete_old(self, connection: sqlite3.Connection) -> None:
        oldest = self._now() - KEPT_DAYS * _SECONDS_PER_DAY
        with connection:
            connection.execute("DELETE FROM results WHERE at < ?", (oldest,))
            connection.execute("DELETE FROM rows WHERE at < ?", (oldest,))
            connection.execute(
                "DELETE FROM batch_requests WHERE batch IN (SELECT id FROM batches WHERE at < ?)", (oldest,)
            )
            connection.execute("DELETE FROM batches WHERE at < ?", (oldest,))


_stores: weakref.WeakSet[Store] = weakref.WeakSet()
#: Connections of the process this one was forked from. A child that closes one destroys the file
#: (https://www.sqlite.org/howtocorrupt.html, section 2.6).
_connections_of_parent: list[sqlite3.Connection] = []


def _leave_connections_to_parent() -> None:
    for store in _stores:
        if store._connection is not None:
            _connections_of_parent.append(store._connection)
            store._connection = None
        store._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_connections_to_parent)


def _portions(digests: Iterable[str]) -> Iterator[list[str]]:
    waiting = list(dict.fromkeys(digests))
    for start in range(0, len(waiting), _DIGESTS_PER_QUERY):
        yield waiting[start : start + _DIGESTS_PER_QUERY]


def _row_of(result: Result, now: float) -> tuple[Any, ...]:
    message = None if result.message is None else json.dumps(result.message, ensure_ascii=False, default=dict)
    return (
        bytes.fromhex(result.digest),
        now,
        int(result.ok),
        result.text,
        json.dumps(result.usage.to_dict(), separators=(",", ":")),
        result.cost,
        result.model,
        result.error_type,
        result.error,
        message,
    )


def _result_of(row: Sequence[Any]) -> Result:
    digest, _, _, text, usage, cost, model, error_type, error, message = row
    return Result(
        digest=digest.hex(),
        text=text,
        usage=Usage.from_dict(json.loads(usage)),
        cost=cost,
        model=model,
        error_type=error_type,
        error=error,
        message=None if message is None else json.loads(message),
        replayed=True,
    )


def _json_of(fields: Mapping[str, Any]) -> str:
    plain = {name: value for name, value in fields.items() if _is_plain(value)}
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


def _is_plain(value: Any) -> bool:
    if value is None or isinstance(value, str | bool | int | float):
        return True
    if isinstance(value, Mapping):
        return all(isinstance(name, str) and _is_plain(part) for name, part in value.items())
    return isinstance(value, list | tuple) and all(map(_is_plain, value))
