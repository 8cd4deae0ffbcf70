"""The file of a cassette: JSON lines, one exchange a line, made to be read as a diff.

The first line names the format; what stands on the others is in :mod:`nbchat.transports.exchange`.
Writers hold a lock, so kernels that share a file lose nothing; readers need none. A line that a
killed writer left unfinished is passed over, and cut off by the next writer.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nbchat.core.errors import InputError
from nbchat.file_locks import writing
from nbchat.transports.exchange import Exchange

__all__ = ["Recordings"]

FORMAT, VERSION = "nbchat.cassette", 1
_HEADER = f'{{"format":"{FORMAT}/{VERSION}"}}'.encode()
_BEGINS = re.compile(rb'\{"digest":"([0-9a-f]{64})",(?:"also":"([0-9a-f]{64})",)?')


class Recordings:
    """The exchanges in a file, by digest. Lines are parsed when they are asked for.

    Of several lines with one digest (two branches were merged, say) the last counts. All
    methods may be called from several threads, and several kernels may have the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mutex = threading.RLock()
        self._lines: dict[str, tuple[int, bytes]] = {}  # digest: line number, line
        self._also: dict[str, str] = {}  # digest of the portable request: digest
        self._state: tuple[int, int, int] | None = None
        self._whole = 0  # bytes up to the end of the last whole line
        self._ended = True  # whether a line end stands there
        self._last = 0  # number of the last line

    def __len__(self) -> int:
        return len(self._lines)

    def holds(self, digest: str, also: str = "") -> bool:
        """Whether there is an exchange for the request with this digest."""
        return self._row(digest, also) is not None

    def refresh(self) -> bool:
        """Read the file if it changed since; False if there is none.

        Raises:
            InputError: it is no cassette, a later format, or damaged.
        """
        with self._mutex:
            try:
                with open(self.path, "rb") as file:
                    state = _state(os.fstat(file.fileno()))
                    if state != self._state:
                        self._index(file.read())
                        self._state = state
            except FileNotFoundError:
                self._index(b"")
                self._state = None
                return False
            except OSError as error:
                raise InputError(
                    f"the cassette {self.path} cannot be read: {error.strerror or error}",
                    "Give %nbchat cassette the path of a file that you may read.",
                ) from error
            return True

    def find(self, digest: str, also: str = "") -> Exchange | None:
        """The exchange recorded for a request, by its digest, else by that of its portable form.

        Raises:
            InputError: its line is damaged.
        """
        row = self._row(digest, also)
        if row is None:
            return None
        number, line = row
        try:
            return Exchange.from_line(line)
        except (ValueError, KeyError, TypeError, IndexError) as wrong:
            raise self._damaged(number, line) from wrong

    def _row(self, digest: str, also: str) -> tuple[int, bytes] | None:
        return self._lines.get(digest) or self._lines.get(self._also.get(also or digest, ""))

    def requests(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The number of each line and the request on it, without parsing the events."""
        decoder = json.JSONDecoder()
        for number, line in list(self._lines.values()):
            text = line.decode("utf-8", "replace")
            at = text.find('"request":')
            try:
                yield number, decoder.raw_decode(text, at + len('"request":'))[0]
            except ValueError:
                continue  # it is named when it is asked for

    def keep(self, exchange: Exchange, *, replace: bool = False) -> bool:
        """Write the exchange at the end, or with ``replace`` in the place of the one before it.

        False if the file has an exchange for that digest already (another kernel was first).

        Raises:
            InputError: the file is damaged.
            OSError: it cannot be written; it is as it was.
        """
        line = exchange.to_line()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._mutex, writing(self.path):
            self.refresh()
            row = self._row(exchange.digest, exchange.also)
            if row is None:
                self._append(exchange, line)
            elif replace:
                self._rewrite(exchange, line, row[0])
            return row is None or replace

    def _index(self, data: bytes) -> None:
        whole, ended = len(data), data.endswith(b"\n") or not data
        rows = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
        tail = rows.pop()
        if tail and (_sound(tail) or not (rows or _HEADER.startswith(tail))):
            rows.append(tail)
        elif tail:
            # Its writer was killed in mid-line, or is writing now. The next writer cuts it off.
            whole, ended = len(data) - len(tail), True
        found: dict[str, tuple[int, bytes]] = {}
        others: dict[str, str] = {}
        for number, row in enumerate(rows, 1):
            line = row.rstrip(b"\r")  # git may have checked it out with other line ends
            if number == 1:
                self._check_header(line)
            elif line.strip():
                digest, also = self._digests(number, line)
                found[digest] = (number, line)
                others[also] = digest
        self._lines, self._also = found, others
        self._last, self._whole, self._ended = len(rows), whole, ended

    def _check_header(self, line: bytes) -> None:
        try:
            name, version = str(json.loads(line)["format"]).rsplit("/", 1)
            known, version = name == FORMAT, int(version)
        except (ValueError, KeyError, TypeError):
            known = False
        if not known:
            if line.startswith((b"<<<<<<<", b"=======", b">>>>>>>")):
                raise self._damaged(1, line)
            raise InputError(
                f"{self.path} is no cassette: its first line is not {_HEADER.decode()}",
                "Give %nbchat cassette another path, or move that file away.",
            )
        if version > VERSION:
            raise InputError(
                f"the cassette {self.path} has format {version}; this nbchat reads up to {VERSION}",
                "Update nbchat, or record the cassette anew under another name.",
            )

    def _digests(self, number: int, line: bytes) -> tuple[str, str]:
        """The digest of the request on a line, and that of its portable form."""
        if (found := _BEGINS.match(line)) and line.endswith(b"}"):
            return found[1].decode(), (found[2] or found[1]).decode()
        try:  # written by another hand, with other spaces or another order
            fields = json.loads(line)
            return str(fields["digest"]), str(fields.get("also") or fields["digest"])
        except (ValueError, KeyError, TypeError, AttributeError) as wrong:
            raise self._damaged(number, line) from wrong

    def _damaged(self, number: int, line: bytes) -> InputError:
        where = f"line {number} of the cassette {self.path}"
        if line.startswith((b"<<<<<<<", b"=======", b">>>>>>>", b"|||||||")):
            return InputError(
                f"{where} is a conflict marker of a merge",
                "Delete the marker lines and keep the lines of both sides: each stands for itself.",
            )
        return InputError(
            f"{where} is damaged", "Delete that line and record its request again with --mode auto, or restore it."
        )

    def _append(self, exchange: Exchange, line: bytes) -> None:
        begin = _HEADER + b"\n" if not self._whole else b"" if self._ended else b"\n"
        with open(self.path, "r+b", buffering=0) as file:
            file.truncate(self._whole)
            file.seek(self._whole)
            try:
                _write(file.fileno(), begin + line + b"\n")
            except BaseException:  # a full disk, an interrupt: no half line stays
                file.truncate(self._whole)
                raise
            self._state = _state(os.fstat(file.fileno()))
        self._whole += len(begin) + len(line) + 1
        self._ended = True
        self._last = max(self._last, 1) + 1
        self._lines[exchange.digest] = (self._last, line)
        self._also[exchange.also or exchange.digest] = exchange.digest

    def _rewrite(self, exchange: Exchange, line: bytes, place: int) -> None:
        with open(self.path, "rb") as file:
            rows = file.read(self._whole).split(b"\n")
        kept = []
        for number, row in enumerate(rows, 1):
            if number == place:
                kept.append(line)
            elif number == 1 or not row.strip() or self._digests(number, row.rstrip())[0] != exchange.digest:
                kept.append(row)
        if kept[-1]:
            kept.append(b"")
        handle, temporary = tempfile.mkstemp(prefix=f".{self.path.name}.", suffix=".tmp", dir=self.path.parent)
        try:
            try:
                _write(handle, b"\n".join(kept))
            finally:
                os.close(handle)
            shutil.copymode(self.path, temporary)
            os.replace(temporary, self.path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        self.refresh()


def _state(stat: os.stat_result) -> tuple[int, int, int]:
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _sound(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _write(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
