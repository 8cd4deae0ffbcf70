"""Shards: the results of one worker of an engine, as JSON lines in a folder that all workers see.

SQLite must not be on a network disk, so each worker appends to a file of its own, and reads those of the others. A
worker that is killed leaves its shard, and whoever does its work again pays for nothing that is in there.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from nbchat.core.errors import InputError
from nbchat.core.fields import Fields
from nbchat.rows.result import Result
from nbchat.rows.store import Store

__all__ = ["ShardRow", "ShardedStore", "read_shards"]

_SUFFIX = ".nbchat.jsonl"
_TOGETHER = 500


class ShardedStore(Store):
    """A store in memory that appends to a shard of its own, and knows what is in all shards of a folder.

    Args:
        folder: the folder; it is made if there is none.
        endpoint: the name of the endpoint that answers, for the ledger.
    """

    def __init__(self, folder: str | os.PathLike[str], endpoint: str = "") -> None:
        super().__init__(":memory:")
        self._endpoint = endpoint
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
            # An asynchronous actor works on several parts at once, each in a thread.
            with self._shard_lock, open(self._shard, "a", encoding="utf-8", newline="\n") as file:
                file.write("".join(f"{self._line(result)}\n" for result in results))
            self._note(results)

    def _line(self, result: Result) -> str:
        fields = {**result.to_dict(), "endpoint": self._endpoint, "at": round(time.time(), 3)}
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))

    def refresh(self) -> None:
        """Read what other workers have written since the last time."""
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            if path != self._shard:
                with self._shard_lock:
                    rows, self._read_bytes[path] = _rows_after(path, self._read_bytes.get(path, 0))
                self._note([row.result for row in rows])

    def _note(self, results: list[Result]) -> None:
        for start in range(0, len(results), _TOGETHER):
            # Without the whole message, so that a worker's memory stays small.
            super().add([replace(result, message=None) for result in results[start : start + _TOGETHER]])


@dataclass(frozen=True, slots=True)
class ShardRow:
    """One line of a shard.

    Attributes:
        result: the result.
        endpoint: the name of the endpoint that answered.
        at: when the result came, in seconds since the epoch; 0 if that is unknown.
    """

    result: Result
    endpoint: str = ""
    at: float = 0.0


def read_shards(folder: str | os.PathLike[str]) -> Iterator[list[ShardRow]]:
    """Yield the lines of all shards of a folder, those of one shard together.

    Raises:
        InputError: there is no such folder.
    """
    path = Path(folder)
    if not path.is_dir():
        raise InputError(f"there is no folder {path} with shards", "Give the folder that nbchat.each(shards=…) named.")
    for shard in sorted(path.glob(f"*{_SUFFIX}")):
        yield _rows_after(shard, 0)[0]


def _rows_after(path: Path, start: int) -> tuple[list[ShardRow], int]:
    """Return the lines of a shard after some bytes, and the place of the end of the last whole line."""
    with open(path, "rb") as file:
        file.seek(start)
        data = file.read()
    # A worker that was killed may have left half a line, and a living one may be writing it.
    whole = data.rpartition(b"\n")[0]
    rows = []
    for line in whole.split(b"\n"):
        try:
            fields = json.loads(line)
            known = Fields(fields)
            rows.append(ShardRow(Result.from_dict(fields), known.name("endpoint", ""), known.amount("at", 0.0)))
        except (InputError, ValueError, RecursionError):  # half a line, or one of somebody else
            continue
    return rows, start + (len(whole) + 1 if whole else 0)
