"""Shards: the results of one worker of an engine, as JSON lines in a folder that all workers see.

SQLite must not be on a network disk, so each worker appends to a file of its own, and reads those of the others. A
worker that is killed leaves its shard, and whoever does its work again pays for nothing that is in there.
"""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from nbchat.core.errors import InputError
from nbchat.rows.result import Result
from nbchat.rows.store import Store

__all__ = ["ShardedStore", "read_shards"]

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
            # An asynchronous actor works on several parts at once, each in a thread.
            with self._shard_lock, open(self._shard, "a", encoding="utf-8", newline="\n") as file:
                file.write("".join(f"{result.to_json()}\n" for result in results))
            self._note(results)

    def refresh(self) -> None:
        """Read what other workers have written since the last time."""
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            if path != self._shard:
                with self._shard_lock:
                    results, self._read_bytes[path] = _results_after(path, self._read_bytes.get(path, 0))
                self._note(results)

    def _note(self, results: list[Result]) -> None:
        for start in range(0, len(results), _TOGETHER):
            # Without the whole message, so that a worker's memory stays small.
            super().add([replace(result, message=None) for result in results[start : start + _TOGETHER]])


def read_shards(folder: str | os.PathLike[str]) -> Iterator[list[Result]]:
    """Yield the results of all shards of a folder, those of one shard together.

    Raises:
        InputError: there is no such folder.
    """
    path = Path(folder)
    if not path.is_dir():
        raise InputError(f"there is no folder {path} with shards", "Give the folder that nbchat.each(shards=…) named.")
    for shard in sorted(path.glob(f"*{_SUFFIX}")):
        yield _results_after(shard, 0)[0]


def _results_after(path: Path, start: int) -> tuple[list[Result], int]:
    """Return the results in a shard after some bytes, and the place of the end of the last whole line."""
    with open(path, "rb") as file:
        file.seek(start)
        data = file.read()
    # A worker that was killed may have left half a line, and a living one may be writing it.
    whole = data.rpartition(b"\n")[0]
    results = []
    for line in whole.split(b"\n"):
        try:
            results.append(Result.from_json(line.decode("utf-8")))
        except (InputError, UnicodeDecodeError):
            continue
    return results, start + (len(whole) + 1 if whole else 0)
