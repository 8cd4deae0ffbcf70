"""The ledger: one row for every request, in one SQLite file for each user.

The rules:

1. Every request gets a row: answered, failed, interrupted, sent again or replayed.
2. Writing never breaks a cell. If the file cannot be written, the user is warned once, the rows stay in
   memory, and each later write tries again. If the file refuses one row, only that row is lost.
3. Many kernels may write at the same time: WAL mode, short transactions, and waiting while SQLite is busy.
4. Migrations only add columns, with defaults, so an older nbchat can write to a newer file.

Costs are in US dollars. Times are in seconds since the epoch. Days are those of the local clock.
"""

from __future__ import annotations

import contextlib
import csv
import os
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from nbchat.core.entries import COLUMNS, COUNTS, TEXTS, Entry, Spent, Total
from nbchat.core.errors import InputError, OptionError, nearest, redact
from nbchat.core.fields import one_line
from nbchat.core.visible import visible
from nbchat.store.entries import cleaned, entry_of, notebook_name, total_of
from nbchat.store.folders import data_folder, shown_path
from nbchat.store.migrations import migrate

if TYPE_CHECKING:
    import sqlite3

__all__ = ["Ledger", "check_sqlite"]

#: How often a busy ledger is tried again.
_RETRY_INTERVAL_S = 0.01
#: How long a write waits for other kernels if the write before it failed.
_IMPATIENCE_S = 0.1
#: Rows that are kept in memory while the file cannot be written.
_MAX_WAITING_ROWS = 10_000

#: The SQL of each version of the schema, in order. A published one must not change: rule 4.
_MIGRATIONS = (
    f"""
    CREATE TABLE requests (
        id INTEGER PRIMARY KEY,
        at REAL NOT NULL,
        {" ".join(f"{name} TEXT NOT NULL DEFAULT ''," for name in TEXTS)}
        round INTEGER NOT NULL DEFAULT 0,
        {" ".join(f"{name} INTEGER NOT NULL DEFAULT 0," for name in (*COUNTS, "estimated"))}
        service_tier TEXT,
        speed TEXT,
        inference_geo TEXT,
        cost REAL,
        saved REAL,
        duration REAL
    );
    CREATE INDEX requests_at ON requests (at);
    CREATE INDEX requests_notebook ON requests (notebook, at);
    """,
    "ALTER TABLE requests ADD COLUMN cache_saved REAL",
)

#: The names that totals can be grouped by, and the SQL of each.
_GROUPS = {
    "day": "date(at, 'unixepoch', 'localtime')",
    "month": "strftime('%Y-%m', at, 'unixepoch', 'localtime')",
    **{name: name for name in ("model", "notebook", "chat", "endpoint", "kind", "status")},
}
#: The condition for an unknown cost. A request that certainly cost nothing has the cost 0.
_UNKNOWN = "(cost IS NULL)"


def _warn(message: str) -> None:
    warnings.warn(visible(message), RuntimeWarning, stacklevel=2)


class Ledger:
    """A ledger file. It is opened, and if necessary created, with the first use.

    Threads may share a ledger, and the process may fork.

    Args:
        path: the file, or None for the user's own.
        warn: called with a message when rows cannot be written, the first time only, and when a damaged
            file was replaced.
        patience: seconds to wait for other kernels.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        warn: Callable[[str], None] = _warn,
        patience: float = 5.0,
    ) -> None:
        self._path = Path(path) if path is not None else None
        self._warn, self._patience = warn, patience
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._lock = threading.RLock()
        self._waiting: deque[Entry] = deque(maxlen=_MAX_WAITING_ROWS)
        self._failing = self._warned = False
        _close_around_forks(self)

    @property
    def path(self) -> Path:
        """Return the path of the file, which may not exist yet.

        Raises:
            OSError: the user has no home folder.
        """
        if self._path is None:
            self._path = data_folder() / "ledger.sqlite"
        return self._path

    # Writing

    def record(self, *entries: Entry) -> bool:
        """Write rows, and the rows that could not be written before. Return False if that failed.

        Never raise.
        """
        with self._lock:
            self._waiting.extend(map(cleaned, entries))
            return self._flush()

    def _flush(self) -> bool:
        """Write the waiting rows. The caller holds the lock."""
        if not self._waiting:
            return True
        rows = [tuple(entry.to_dict().values()) for entry in self._waiting]
        refused: list[Exception] = []
        try:
            # After a failure, the next cells must not all wait their full time for the same lock.
            patience = _IMPATIENCE_S if self._failing else self._patience
            self._do(lambda connection: refused.extend(_insert(connection, rows)), patience=patience, create=True)
        except Exception as error:  # rule 2
            self._failing = True
            self._warn_once(
                f"the usage ledger{self._shown()} cannot be written ({_reason(error)}); "
                "usage is kept in memory and is written as soon as the file can be written"
            )
            return False
        self._waiting.clear()
        self._failing = False
        if refused:
            self._warn_once(
                f"the usage ledger{self._shown()} refused {len(refused)} of {len(rows)} rows ({_reason(refused[0])}); "
                "usage shows the other rows only"
            )
        return not refused

    def _warn_once(self, message: str) -> None:
        if not self._warned:
            self._warned = True
            self._warn(message)

    def _shown(self) -> str:
        """Return a space and the path for a message; "" if there is no path."""
        try:
            return f" {shown_path(self.path)}"
        except OSError:
            return ""

    # Reading

    def rows(self, since: float | None = None) -> list[Entry]:
        """Return the requests from ``since`` on, oldest first.

        Raises:
            InputError: the ledger cannot be read.
        """
        where, values = _where(since)
        rows = self._select(f"SELECT {', '.join(COLUMNS)} FROM requests {where} ORDER BY at, id", values)
        return [entry_of(row) for row in rows]

    def totals(self, by: str | Iterable[str] = "day", since: float | None = None) -> list[Total]:
        """Return the sums of groups of the requests from ``since`` on.

        Days and months come in the order of time, other groups with the most expensive first.

        Args:
            by: ``day``, ``month``, ``model``, ``notebook``, ``chat``, ``endpoint``, ``kind`` or ``status``.
                Several names group by all of them; ``()`` makes one group of all requests.
            since: the start of the period; None means all requests.

        Raises:
            OptionError: a name in ``by`` is none of these.
            InputError: the ledger cannot be read.
        """
        names = (by,) if isinstance(by, str) else tuple(by)
        for name in names:
            if name not in _GROUPS:
                hint = nearest(name, _GROUPS) or f"Use one of {', '.join(_GROUPS)}."
                raise OptionError(f"usage cannot be grouped by {name!r}", hint)
        groups = [_GROUPS[name] for name in names]
        where, values = _where(since)
        # SQLite raises an error if a sum of integers needs more than 64 bits, so both halves are added on their own.
        halves = [half for name in COUNTS for half in (f"{name} >> 32", f"{name} & 4294967295")]
        sums = ", ".join(f"COALESCE(SUM({half}), 0)" for half in halves)
        times = [group for name, group in zip(names, groups, strict=True) if name in ("day", "month")]
        cost_column = len(groups) + len(halves) + 3  # counted from 1: groups, requests, counts, estimated, cost
        rows = self._select(
            f"""
            SELECT {"".join(f"{group}, " for group in groups)} COUNT(*), {sums}, COALESCE(MAX(estimated), 0),
                COALESCE(SUM(cost), 0), COALESCE(SUM({_UNKNOWN}), 0), COALESCE(SUM(saved), 0),
                COALESCE(SUM(kind IN ('failed', 'retry')), 0), COALESCE(SUM(kind = 'replayed'), 0),
                COALESCE(SUM(cache_saved), 0)
            FROM requests {where} {"GROUP BY " + ", ".join(groups) if groups else ""}
            ORDER BY {", ".join([*times, f"{cost_column} DESC", "COUNT(*) DESC"])}
            """,
            values,
        )
        # Without groups SQL returns one row, also if no request matches.
        return [total_of(row, len(groups)) for row in rows if row[len(groups)]]

    def spent(self, since: float | None = None, notebook: str | None = None) -> Spent:
        """Return the costs from ``since`` on, of one notebook or of all.

        Rows that could not be written yet are included.
        """
        name = None if notebook is None else notebook_name(notebook)
        where, values = _where(since, name)
        with self._lock:
            rows = self._select(
                f"SELECT COALESCE(SUM(cost), 0), COALESCE(SUM({_UNKNOWN}), 0) FROM requests {where}", values
            )
            known, unknown = rows[0] if rows else (0.0, 0)
            for entry in self._waiting:
                if (since is None or entry.at >= since) and (name is None or entry.notebook == name):
                    known += entry.cost or 0.0
                    unknown += entry.cost is None
        return Spent(float(known), int(unknown))

    def export_csv(self, file: str | os.PathLike[str] | TextIO, since: float | None = None) -> int:
        """Write the rows as CSV with a header, to a path or an open text file. Return the number of rows.

        An unknown cost is an empty field. An apostrophe is put before a text that a spreadsheet would run
        as a formula (https://owasp.org/www-community/attacks/CSV_Injection).
        """
        rows = self.rows(since)
        if not isinstance(file, str | os.PathLike):
            _write_csv(file, rows)
            return len(rows)
        try:
            with open(file, "w", newline="", encoding="utf-8") as opened:
                _write_csv(opened, rows)
        except OSError as error:
            raise InputError(
                f"the usage cannot be written to {os.fspath(file)} ({error.strerror})",
                "Name a file in a folder that exists and can be written.",
            ) from None
        return len(rows)

    def close(self) -> None:
        """Write the waiting rows and close the file. The next use opens it again."""
        with self._lock:
            self._flush()
            self._disconnect()

    # The file

    def _select(self, statement: str, values: tuple[Any, ...]) -> list[Any]:
        with self._lock:
            self._flush()
            try:
                return self._do(lambda connection: connection.execute(statement, values).fetchall()) or []
            except Exception as error:
                hint = "Check who owns the file and its folder, and whether another program has locked the file."
                if _has_other_schema(error):
                    hint = "Another program made this file. Move it away; nbchat then makes a new ledger."
                raise InputError(f"the usage ledger{self._shown()} cannot be read ({_reason(error)})", hint) from None

    def _do(
        self,
        work: Callable[[sqlite3.Connection], Any],
        *,
        patience: float | None = None,
        create: bool = False,
    ) -> Any:
        """Open the ledger and return the result of ``work``; None if there is no file and ``create`` is False.

        SQLite waits for other kernels, but not while a file changes to WAL mode and not while the last
        connection cleans up (https://www.sqlite.org/wal.html, section 8). So this method waits, too.
        """
        if not create and not self._exists():
            return None
        import sqlite3

        deadline = time.monotonic() + (self._patience if patience is None else patience)
        was_replaced = False
        while True:
            try:
                if not create and not self._exists():
                    return None
                return work(self._connect(max(0.0, deadline - time.monotonic())))
            except sqlite3.Error as error:
                # The low byte is the primary code: https://www.sqlite.org/rescode.html
                code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
                if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) and not was_replaced:
                    was_replaced = True
                    self._set_aside()
                    continue
                self._disconnect()
                if code not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) or time.monotonic() >= deadline:
                    raise
                time.sleep(_RETRY_INTERVAL_S)

    def _exists(self) -> bool:
        """Return True if there is a file that can be read. Without a home folder or without SQLite there is none."""
        try:
            check_sqlite()
            return self.path.exists()
        except (OSError, ImportError):  # Python in a browser comes without SQLite
            return False

    def _connect(self, patience: float) -> sqlite3.Connection:
        import sqlite3

        if self._connection is not None and self._file == _identity(self.path):
            self._connection.execute(f"PRAGMA busy_timeout = {int(patience * 1000)}")
            return self._connection
        self._disconnect()
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):  # SQLite would create a file that everybody can read
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        if not self.path.is_file():  # SQLite would wait for a pipe without an end
            raise OSError("it is not a file")
        connection = sqlite3.connect(self.path, timeout=patience, check_same_thread=False)
        self._connection, self._file = connection, _identity(self.path)
        # Another program may have written text that is not UTF-8. A lost character is better than an error.
        connection.text_factory = _decoded
        connection.execute("PRAGMA journal_mode = WAL")
        # NORMAL does not wait for the disk. A killed kernel loses nothing; a power cut may lose the last rows.
        connection.execute("PRAGMA synchronous = NORMAL")
        migrate(connection, _MIGRATIONS)
        return connection

    def _disconnect(self) -> None:
        connection, self._connection, self._file = self._connection, None, None
        if connection is not None:
            connection.close()

    def _set_aside(self) -> None:
        """Rename a file that is not a ledger, unless another kernel has already done so."""
        damaged = self._file
        self._disconnect()
        if damaged is None or damaged != _identity(self.path):
            return
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.broken-{number}")).exists():
            number += 1
        os.replace(self.path, aside)
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(OSError):
                os.unlink(f"{self.path}{suffix}")
        self._warn(f"the usage ledger{self._shown()} was damaged; it is kept as {aside.name}, and a new one is used")


def _close_around_forks(ledger: Ledger) -> None:
    """Close the connection before each fork: a child that uses its parent's connection destroys the file.

    https://www.sqlite.org/howtocorrupt.html, section 2.6
    """
    if not hasattr(os, "register_at_fork"):
        return
    reference = weakref.ref(ledger)  # a handler cannot be unregistered, so it must not keep the ledger alive

    def before() -> None:
        if (current := reference()) is not None:
            current._lock.acquire()  # no other thread may be writing at the moment of the fork
            current._disconnect()

    def in_parent() -> None:
        if (current := reference()) is not None:
            current._lock.release()

    def in_child() -> None:
        if (current := reference()) is not None:
            current._lock = threading.RLock()
            current._waiting.clear()  # the parent writes these rows

    os.register_at_fork(before=before, after_in_parent=in_parent, after_in_child=in_child)


def _insert(connection: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> list[Exception]:
    """Insert the rows, and return the errors of the rows that the file refuses.

    Raises:
        sqlite3.OperationalError, sqlite3.DatabaseError: no row can be written now.
    """
    import sqlite3

    marks = ", ".join("?" * len(COLUMNS))
    statement = f"INSERT INTO requests ({', '.join(COLUMNS)}) VALUES ({marks})"
    # The errors of a value, not of the file: a type that SQLite has not, a number of more than 64 bits, half a
    # surrogate pair, a constraint, or a trigger that another program added.
    errors_of_rows = (
        *(sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError),
        *(OverflowError, UnicodeError),
    )
    try:
        with connection:
            connection.executemany(statement, rows)
        return []
    except errors_of_rows:
        pass
    refused: list[Exception] = []
    for row in rows:
        try:
            with connection:
                connection.execute(statement, row)
        except errors_of_rows as error:
            refused.append(error)
    return refused


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _has_other_schema(error: Exception) -> bool:
    return str(error).startswith(("no such column", "no such table", "table requests", "index requests", "there is "))


def _reason(error: Exception) -> str:
    """Return what happened, on one line and without keys."""
    return one_line(redact(str(error) or type(error).__name__))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _where(since: float | None, notebook: str | None = None) -> tuple[str, tuple[Any, ...]]:
    """Return the WHERE clause of a query, and its values."""
    possible = [("at >= ?", since), ("notebook = ?", notebook)]
    conditions = [(condition, value) for condition, value in possible if value is not None]
    clause = " AND ".join(condition for condition, _ in conditions)
    return f"WHERE {clause}" if conditions else "", tuple(value for _, value in conditions)


def _write_csv(file: TextIO, rows: Iterable[Entry]) -> None:
    writer = csv.writer(file)
    writer.writerow(("time", *COLUMNS))
    for entry in rows:
        local = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(entry.at))
        writer.writerow((local, *(_cell(value) for value in entry.to_dict().values())))


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return int(value) if isinstance(value, bool) else value


def check_sqlite() -> None:
    """Return if Python has SQLite. Python in a browser comes without.

    Raises:
        ImportError: there is none.

    >>> check_sqlite()
    """
    import sqlite3  # noqa: F401
