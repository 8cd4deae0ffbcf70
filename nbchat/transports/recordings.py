"""The file of a cassette: JSON lines, one exchange on each line, made to be read as a diff.

The first line names the format. :mod:`nbchat.transports.exchange` describes the other lines. Writers hold
a lock, so kernels that share a file lose nothing. Readers need no lock: they skip a last line that is
unfinished because its writer was killed or is still writing, and the next writer cuts it off.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nbchat.core.errors import InputError
from nbchat.core.fields import Fields
from nbchat.file_locks import writing
from nbchat.transports.exchange import Exchange

__all__ = ["Recordings"]

FORMAT, VERSION = "nbchat.cassette", 1
_HEADER = f'{{"format":"{FORMAT}/{VERSION}"}}'.encode()
#: A line as this module writes it begins with its digests, so a file is indexed without parsing JSON.
_DIGESTS = re.compile(rb'\{"digest":"([0-9a-f]{64})",(?:"also":"([0-9a-f]{64})",)?')


class Recordings:
    """The exchanges of a file, by digest. A line is parsed when its exchange is asked for.

    If several lines have one digest, for example after two branches were merged, the last one counts.
    Threads may call all methods, and several kernels may use the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mutex = threading.RLock()
        self._lines: dict[str, tuple[int, bytes]] = {}  # by digest: line number and line
        self._also: dict[str, str] = {}  # the digest of a request by the digest of its portable form
        self._state: tuple[int, int, int] | None = None  # of the file when it was read
        self._whole_bytes = 0  # up to the end of the last whole line
        self._ended = True  # True if the last whole line has its line end
        self._last = 0  # the number of the last line

    def __len__(self) -> int:
        return len(self._lines)

    def holds(self, digest: str, also: str = "") -> bool:
        """Return True if there is an exchange for the request with this digest."""
        return self._row(digest, also) is not None

    def refresh(self) -> bool:
        """Read the file if it has changed since the last call. Return False if there is no file.

        Raises:
            InputError: the file is not a cassette, has a later format, or is damaged.
        """
        with self._mutex:
            try:
                # Reading a device such as /dev/full, or a pipe without a writer, never ends.
                if not stat.S_ISREG(os.stat(self.path).st_mode):
                    raise self._not_a_file()
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
        """Return the exchange of a request, found by its digest, else by the digest of its portable form.

        Raises:
            InputError: the line of the exchange is damaged.
        """
        row = self._row(digest, also)
        if row is None:
            return None
        number, line = row
        try:
            return Exchange.from_line(line)
        except InputError as error:
            raise self._damaged(number, line, error.message) from None

    def _row(self, digest: str, also: str) -> tuple[int, bytes] | None:
        return self._lines.get(digest) or self._lines.get(self._also.get(also or digest, ""))

    def requests(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the number of each line and its request, without parsing its events."""
        decoder = json.JSONDecoder()
        for number, line in list(self._lines.values()):
            text = line.decode("utf-8", "replace")
            start = text.find('"request":') + len('"request":')
            try:
                request = decoder.raw_decode(text, start)[0]
            except (ValueError, RecursionError):
                continue  # find() reports a damaged line when its exchange is asked for
            if isinstance(request, dict):
                yield number, request

    def keep(self, exchange: Exchange, *, replace: bool = False) -> bool:
        """Append the exchange, or with ``replace`` put it where the exchange with its digest is.

        Return False if the file already has an exchange with that digest, because another kernel was
        first, and ``replace`` is False.

        Raises:
            InputError: the file is damaged.
            OSError: the file cannot be written. It is as it was before.
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
        """Index the content of the file."""
        whole_bytes, ended = len(data), data.endswith(b"\n") or not data
        rows = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
        tail = rows.pop()
        # A last line without a line end counts if it is whole: an editor may have removed the line end.
        if tail and (_is_json_object(tail) or not (rows or _HEADER.startswith(tail))):
            rows.append(tail)
        elif tail:
            # The writer of this line was killed, or is still writing. The next writer cuts the line off.
            whole_bytes, ended = len(data) - len(tail), True
        lines: dict[str, tuple[int, bytes]] = {}
        portable: dict[str, str] = {}
        for number, row in enumerate(rows, 1):
            line = row.rstrip(b"\r")  # git on Windows may have changed the line ends
            if number == 1:
                self._check_header(line)
            elif line.strip():
                digest, also = self._digests(number, line)
                lines[digest] = (number, line)
                portable[also] = digest
        self._lines, self._also = lines, portable
        self._last, self._whole_bytes, self._ended = len(rows), whole_bytes, ended

    def _check_header(self, line: bytes) -> None:
        version = _version_of(line)
        if version is None:
            if line.startswith((b"<<<<<<<", b"=======", b">>>>>>>")):
                raise self._damaged(1, line)
            raise InputError(
                f"{self.path} is not a cassette: its first line is not {_HEADER.decode()}",
                "Give %nbchat cassette another path, or move that file away.",
            )
        if version > VERSION:
            raise InputError(
                f"the cassette {self.path} has format {version}; this nbchat reads up to {VERSION}",
                "Update nbchat, or record the cassette again under another name.",
            )

    def _digests(self, number: int, line: bytes) -> tuple[str, str]:
        """Return the digest of the request on a line, and the digest of its portable form."""
        if (found := _DIGESTS.match(line)) and line.endswith(b"}"):
            return found[1].decode(), (found[2] or found[1]).decode()
        try:  # edited by hand or by another program, with other spaces or another order of keys
            fields = Fields(json.loads(line))
            digest = fields.text("digest")
            return digest, fields.text("also", "") or digest
        except InputError as error:
            raise self._damaged(number, line, error.message) from None
        except (ValueError, RecursionError):
            raise self._damaged(number, line) from None

    def _not_a_file(self) -> InputError:
        kind = "a folder" if self.path.is_dir() else "a device or a pipe"
        return InputError(
            f"the cassette {self.path} cannot be read: it is {kind}, not a file",
            "Give %nbchat cassette the path of a file that you may read.",
        )

    def _damaged(self, number: int, line: bytes, reason: str = "") -> InputError:
        where = f"line {number} of the cassette {self.path}"
        if line.startswith((b"<<<<<<<", b"=======", b">>>>>>>", b"|||||||")):
            return InputError(
                f"{where} is a conflict marker of a merge",
                "Delete the marker lines and keep the lines of both sides. Each line is complete without the others.",
            )
        return InputError(
            f"{where} is damaged" + (f": {reason}" if reason else ""),
            "Delete that line and record its request again with --mode auto, or restore it.",
        )

    def _append(self, exchange: Exchange, line: bytes) -> None:
        begin = (b"" if self._ended else b"\n") if self._whole_bytes else _HEADER + b"\n"
        with open(self.path, "r+b", buffering=0) as file:
            file.truncate(self._whole_bytes)
            file.seek(self._whole_bytes)
            try:
                _write(file.fileno(), begin + line + b"\n")
            except BaseException:  # a full disk or an interrupt must not leave half a line
                file.truncate(self._whole_bytes)
                raise
            self._state = _state(os.fstat(file.fileno()))
        self._whole_bytes += len(begin) + len(line) + 1
        self._ended = True
        self._last = max(self._last, 1) + 1
        self._lines[exchange.digest] = (self._last, line)
        self._also[exchange.also or exchange.digest] = exchange.digest

    def _rewrite(self, exchange: Exchange, line: bytes, place: int) -> None:
        with open(self.path, "rb") as file:
            rows = file.read(self._whole_bytes).split(b"\n")
        # A new file replaces the old one in one step, so a reader never sees a half-written file.
        kept = []
        for number, row in enumerate(rows, 1):
            if number == place:
                kept.append(line)
            elif number == 1 or not row.strip() or self._digests(number, row.rstrip())[0] != exchange.digest:
                kept.append(row)
        if kept[-1]:
            kept.append(b"")
        descriptor, temporary = tempfile.mkstemp(prefix=f".{self.path.name}.", suffix=".tmp", dir=self.path.parent)
        try:
            try:
                _write(descriptor, b"\n".join(kept))
            finally:
                os.close(descriptor)
            shutil.copymode(self.path, temporary)
            os.replace(temporary, self.path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        self.refresh()


def _state(status: os.stat_result) -> tuple[int, int, int]:
    # The inode as well: a file that was replaced within one tick of the clock may have the same size.
    return status.st_ino, status.st_size, status.st_mtime_ns


def _version_of(header: bytes) -> int | None:
    """Return the version in the first line, or None if the line is not the header of a cassette."""
    try:
        name, version = str(json.loads(header)["format"]).rsplit("/", 1)
        return int(version) if name == FORMAT else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _is_json_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:  # a write to a disk that is nearly full may take only a part
        rest = rest[os.write(descriptor, rest) :]
