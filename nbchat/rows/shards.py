"""Shards: the results and the requests of one worker of an engine, as JSON lines in a folder that all workers see.

SQLite must not be on a network disk, so each worker appends to a file of its own, and reads those of the others. A
worker that is killed leaves its shard, and whoever does its work again pays for nothing that is in there.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nbchat.core.entries import COLUMNS, Entry
from nbchat.core.errors import InputError
from nbchat.rows.result import Result
from nbchat.rows.store import Store
from nbchat.store.entries import cleaned, entry_of

__all__ = ["Shard", "ShardedStore", "read_shards"]

_SUFFIX = ".nbchat.jsonl"
_TOGETHER = 500


class ShardedStore(Store):
    """A store in memory that appends to a shard of its own, and knows what is in all shards of a folder.

    Args:
        folder: the folder; it is made if there is none.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        super().__init__(":memory:")
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._shard = self._folder / f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}{_SUFFIX}"
        #: How many bytes of each shard were read.
        self._read_bytes: dict[Path, int] = {}
        self._shard_lock = threading.Lock()

    def add(self, results: Iterable[Result], *, batch: str = "") -> None:
        """Append results to the shard, then note them in memory."""
        results = list(results)
        if results:
            self._append(result.to_dict() for result in results)
            self._note(results)

    def add_requests(self, entries: Sequence[Entry]) -> None:
        """Append rows for the user's ledger, which is not on this machine."""
        if entries:
            self._append({"request": cleaned(entry).to_dict()} for entry in entries)

    def _append(self, lines: Iterable[dict[str, Any]]) -> None:
        text = "".join(f"{json.dumps(line, ensure_ascii=False, separators=(',', ':'))}\n" for line in lines)
        # An asynchronous actor works on several parts at once, each in a thread.
        with self._shard_lock, open(self._shard, "a", encoding="utf-8", newline="\n") as file:
            file.write(text)

    def refresh(self) -> None:
        """Read what other workers have written since the last time."""
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            if path != self._shard:
                with self._shard_lock:
                    shard, self._read_bytes[path] = _read_after(path, self._read_bytes.get(path, 0))
                self._note(shard.results)

    def _note(self, results: list[Result]) -> None:
        for start in range(0, len(results), _TOGETHER):
            # Without the whole message, so that a worker's memory stays small.
            super().add([replace(result, message=None) for result in results[start : start + _TOGETHER]])


@dataclass(frozen=True, slots=True)
class Shard:
    """The content of a shard.

    Attributes:
        name: the name of the file. No other shard has it.
        results: the results, in the order in which they came.
        requests: a row for the ledger for each request that was sent, also for those that failed and were sent again.
    """

    name: str
    results: list[Result] = field(default_factory=list)
    requests: list[Entry] = field(default_factory=list)


def read_shards(folder: str | os.PathLike[str]) -> Iterator[Shard]:
    """Yield all shards of a folder.

    Raises:
        InputError: there is no such folder.
    """
    path = Path(folder)
    if not path.is_dir():
        raise InputError(f"there is no folder {path} with shards", "Give the folder that nbchat.each(shards=…) named.")
    for file in sorted(path.glob(f"*{_SUFFIX}")):
        yield _read_after(file, 0)[0]


def _read_after(path: Path, start: int) -> tuple[Shard, int]:
    """Return the lines of a shard after some bytes, and the place of the end of the last whole line."""
    with open(path, "rb") as file:
        file.seek(start)
        data = file.read()
    # A worker that was killed may have left half a line, and a living one may be writing it.
    whole = data.rpartition(b"\n")[0]
    shard = Shard(path.name)
    for line in whole.split(b"\n"):
        try:
            fields = json.loads(line)
            if "request" in fields:
                shard.requests.append(entry_of(fields["request"][name] for name in COLUMNS))
            else:
                shard.results.append(Result.from_dict(fields))
        # Half a line, or one of somebody else.
        except (InputError, ValueError, RecursionError, TypeError, KeyError):
            continue
    return shard, start + (len(whole) + 1 if whole else 0)
