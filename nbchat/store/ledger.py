"""The ledger: one row for every request sent, in one SQLite file for each user.

The law:

1. A row is written for every request: answered, failed, interrupted, retried or replayed.
2. Writing never breaks a cell. What cannot be written is said once, held, and tried again.
3. Many kernels write at once: WAL, short transactions, and patience where SQLite asks for it.
4. Migrations only add, with defaults, so an older nbchat can write to a newer file.

Costs are in US dollars, times in seconds since the epoch, days those of the local clock.
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
from nbchat.store.entries import cleaned, entry_of, notebook_name, total_of

if TYPE_CHECKING:
    import sqlite3

__all__ = ["Ledger"]

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
)

#: How totals may be grouped, and the SQL of each.
_GROUPS = {
    "day": "date(at, 'unixepoch', 'localtime')",
    "month": "strftime('%Y-%m', at, 'unixepoch', 'localtime')",
    **{name: name for name in ("model", "notebook", "chat", "endpoint", "kind", "status")},
}
#: A request that used nothing costs nothing, whatever the price.
_UNKNOWN = f"(cost IS NULL AND {' + '.join(COUNTS)} > 0)"


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=2)


class Ledger:
    """The ledger at ``path``, else the user's own. Nothing is opened or made before the first use.

    ``warn`` is told once when rows cannot be written. ``patience`` is how many seconds to wait for
    other kernels. Safe for threads, and for ``os.fork``.
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
        self._waiting: deque[Entry] = deque(maxlen=10_000)
        self._failing = self._warned = False
        _close_around_forks(self)

    @property
    def path(self) -> Path:
        """Where the ledger is, or will be."""
        if self._path is None:
            import platformdirs

            self._path = Path(platformdirs.user_data_dir("nbchat", appauthor=False)) / "ledger.sqlite"
        return self._path

    # Writing

    def record(self, entry: Entry) -> bool:
        """Write one row, and those that could not be written before. False if it did not work; never raises."""
        with self._lock:
            self._waiting.append(cleaned(entry))
            return self._flush()

    def _flush(self) -> bool:
        """Write what is waiting. The lock is held."""
        if not self._waiting:
            return True
        rows = [tuple(entry.to_dict().values()) for entry in self._waiting]
        marks = ", ".join("?" * len(COLUMNS))
        statement = f"INSERT INTO requests ({', '.join(COLUMNS)}) VALUES ({marks})"

        def insert(connection: sqlite3.Connection) -> None:
            with connection:
                connection.executemany(statement, rows)

        try:
            # After a failure the cells that follow do not wait for the same lock again.
            self._do(insert, patience=0.1 if self._failing else self._patience, create=True)
        except Exception as wrong:  # rule 2
            self._failing = True
            if not self._warned:
                self._warned = True
                self._warn(
                    f"the usage ledger {_shown(self.path)} cannot be written ({redact(str(wrong))}); "
                    "usage is kept in memory and written as soon as that works"
                )
            return False
        self._waiting.clear()
        self._failing = False
        return True

    # Reading

    def rows(
        self,
        since: float | None = None,
        until: float | None = None,
        *,
        notebook: str | None = None,
        limit: int | None = None,
    ) -> list[Entry]:
        """The requests from ``since`` to before ``until``, oldest first; with ``limit``, the last ones."""
        where, values = _where(since, until, notebook)
        found = self._select(
            f"SELECT {', '.join(COLUMNS)} FROM requests {where} ORDER BY at DESC, id DESC LIMIT ?",
            (*values, -1 if limit is None else limit),
        )
        return [entry_of(row) for row in reversed(found)]

    def totals(
        self,
        by: str | Iterable[str] = "day",
        since: float | None = None,
        until: float | None = None,
        *,
        notebook: str | None = None,
    ) -> list[Total]:
        """Sums by ``day``, ``month``, ``model``, ``notebook``, ``chat``, ``endpoint``, ``kind`` or ``status``.

        Several names group by all of them; none (``()``) gives the one total. Days and months
        come in order of time, all else with the dearest first.

        Raises:
            OptionError: a name in ``by`` is none of these.
            InputError: the ledger cannot be read.
        """
        names = (by,) if isinstance(by, str) else tuple(by)
        for name in names:
            if name not in _GROUPS:
                hint = nearest(name, _GROUPS) or f"It goes by {', '.join(_GROUPS)}."
                raise OptionError(f"usage cannot be summed by {name!r}", hint)
        groups = [_GROUPS[name] for name in names]
        where, values = _where(since, until, notebook)
        sums = ", ".join(f"COALESCE(SUM({name}), 0)" for name in COUNTS)
        timed = [group for name, group in zip(names, groups, strict=True) if name in ("day", "month")]
        found = self._select(
            f"""
            SELECT {"".join(f"{group}, " for group in groups)} COUNT(*), {sums}, COALESCE(MAX(estimated), 0),
                COALESCE(SUM(cost), 0), COALESCE(SUM({_UNKNOWN}), 0), COALESCE(SUM(saved), 0),
                COALESCE(SUM(kind IN ('failed', 'retry')), 0), COALESCE(SUM(kind = 'replayed'), 0)
            FROM requests {where} {"GROUP BY " + ", ".join(groups) if groups else ""}
            ORDER BY {", ".join([*timed, f"{len(groups) + len(COUNTS) + 3} DESC", "COUNT(*) DESC"])}
            """,
            values,
        )
        return [total_of(row, len(groups)) for row in found if row[len(groups)]]

    def spent(self, since: float | None = None, notebook: str | None = None, *, until: float | None = None) -> Spent:
        """What was spent since then, rows included that could not be written yet."""
        where, values = _where(since, until, notebook)
        named = None if notebook is None else notebook_name(notebook)
        with self._lock:
            found = self._select(
                f"SELECT COALESCE(SUM(cost), 0), COALESCE(SUM({_UNKNOWN}), 0) FROM requests {where}", values
            )
            known, unknown = found[0] if found else (0.0, 0)
            for entry in self._waiting:
                if (
                    (since is None or entry.at >= since)
                    and (until is None or entry.at < until)
                    and (named is None or entry.notebook == named)
                ):
                    known += entry.cost or 0.0
                    unknown += entry.cost is None and any(getattr(entry.usage, name) for name in COUNTS)
        return Spent(float(known), int(unknown))

    def export_csv(
        self,
        file: str | os.PathLike[str] | TextIO,
        since: float | None = None,
        until: float | None = None,
        *,
        notebook: str | None = None,
    ) -> int:
        """Write the rows as CSV, with a header, to a path or an open text file; gives their number.

        An unknown cost is an empty field. A text that a spreadsheet would run as a formula gets an
        apostrophe before it (https://owasp.org/www-community/attacks/CSV_Injection).
        """
        rows = self.rows(since, until, notebook=notebook)
        if not isinstance(file, str | os.PathLike):
            _write_csv(file, rows)
            return len(rows)
        try:
            with open(file, "w", newline="", encoding="utf-8") as opened:
                _write_csv(opened, rows)
        except OSError as wrong:
            raise InputError(
                f"the usage cannot be written to {os.fspath(file)} ({wrong.strerror})",
                "Name a file in a folder that exists and can be written.",
            ) from None
        return len(rows)

    def close(self) -> None:
        """Write what is waiting and let go of the file. The next use opens it again."""
        with self._lock:
            self._flush()
            self._disconnect()

    # The file

    def _select(self, statement: str, values: tuple[Any, ...]) -> list[Any]:
        with self._lock:
            self._flush()
            try:
                return self._do(lambda connection: connection.execute(statement, values).fetchall()) or []
            except Exception as wrong:
                raise InputError(
                    f"the usage ledger {_shown(self.path)} cannot be read ({wrong})",
                    "See who owns the file and its folder, and whether another program holds it.",
                ) from wrong

    def _do(
        self,
        work: Callable[[sqlite3.Connection], Any],
        *,
        patience: float | None = None,
        create: bool = False,
    ) -> Any:
        """The result of ``work`` on an open ledger; None when there is none and none is to be made.

        SQLite's own waiting does not cover the moments in which a file becomes WAL or the last
        connection tidies up (https://www.sqlite.org/wal.html, section 8), so this waits too.
        """
        import sqlite3

        until = time.monotonic() + (self._patience if patience is None else patience)
        replaced = False
        while True:
            try:
                if not create and not self.path.exists():
                    return None
                return work(self._connect(max(0.0, until - time.monotonic())))
            except sqlite3.Error as wrong:
                code = (getattr(wrong, "sqlite_errorcode", None) or 0) & 0xFF
                if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) and not replaced:
                    replaced = True
                    self._set_aside()
                    continue
                self._disconnect()
                if code not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) or time.monotonic() >= until:
                    raise
                time.sleep(0.01)

    def _connect(self, patience: float) -> sqlite3.Connection:
        import sqlite3

        if self._connection is not None and self._file == _identity(self.path):
            self._connection.execute(f"PRAGMA busy_timeout = {int(patience * 1000)}")
            return self._connection
        self._disconnect()
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):  # SQLite would make it readable for all
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        connection = sqlite3.connect(self.path, timeout=patience, check_same_thread=False)
        self._connection, self._file = connection, _identity(self.path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")  # a killed kernel loses nothing with it
        _migrate(connection)
        return connection

    def _disconnect(self) -> None:
        connection, self._connection, self._file = self._connection, None, None
        if connection is not None:
            connection.close()

    def _set_aside(self) -> None:
        """Move a file that is no ledger out of the way, unless another kernel has done so."""
        seen = self._file
        self._disconnect()
        if seen is None or seen != _identity(self.path):
            return
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.broken-{number}")).exists():
            number += 1
        os.replace(self.path, aside)
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(OSError):
                os.unlink(f"{self.path}{suffix}")
        self._warn(f"the usage ledger {_shown(self.path)} was damaged; it is kept as {aside.name} and a new one begun")


def _close_around_forks(ledger: Ledger) -> None:
    """SQLite must not be carried into a child: https://www.sqlite.org/howtocorrupt.html section 2.6."""
    if not hasattr(os, "register_at_fork"):
        return
    known = weakref.ref(ledger)

    def before() -> None:
        if (mine := known()) is not None:
            mine._lock.acquire()
            mine._disconnect()

    def in_parent() -> None:
        if (mine := known()) is not None:
            mine._lock.release()

    def in_child() -> None:
        if (mine := known()) is not None:
            mine._lock = threading.RLock()
            mine._waiting.clear()  # the parent writes its own rows

    os.register_at_fork(before=before, after_in_parent=in_parent, after_in_child=in_child)


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema up to date; each step and its number are one transaction."""
    if _version(connection) >= len(_MIGRATIONS):
        return
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        for number in range(_version(connection), len(_MIGRATIONS)):
            for statement in _MIGRATIONS[number].split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number + 1}")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _where(since: float | None, until: float | None, notebook: str | None) -> tuple[str, tuple[Any, ...]]:
    named = None if notebook is None else notebook_name(notebook)
    asked = [("at >= ?", since), ("at < ?", until), ("notebook = ?", named)]
    held = [(clause, value) for clause, value in asked if value is not None]
    clauses = " AND ".join(clause for clause, _ in held)
    return f"WHERE {clauses}" if held else "", tuple(value for _, value in held)


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


def _shown(path: Path) -> str:
    """A path for a message that may end up in a saved notebook: the home folder is ``~``."""
    try:
        return f"~/{path.relative_to(Path.home()).as_posix()}"
    except (ValueError, RuntimeError):
        return path.name
