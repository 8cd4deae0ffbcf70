"""The journal: answers as they arrive, so that a killed kernel loses at most its last second.

The law:

1. What arrived is on disk within a second; after a round of tool calls it is there before the
   tools run, since a tool is what kills kernels.
2. A file is kept only when its process died: the notebook has every answer that was settled.
3. A running process holds a lock on its files, which the system lets go of with the process, so
   no living answer is ever listed, and no reused process number hides a dead one.
4. Writing never breaks a cell, and :meth:`Journal.feed` costs it next to nothing.
5. Only the user can read the files (mode 0600); keys are taken out; age and size are bounded.

Killing a process loses nothing that was handed to the system, so nothing waits for the disk here
(no fsync).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nbchat.core.chunks import ResponseChunk, StreamChunk, ToolResult
from nbchat.core.errors import InputError, StreamError, redact
from nbchat.core.messages import Message
from nbchat.core.request import Request
from nbchat.core.response import Response
from nbchat.file_locks import hold_for_life
from nbchat.store.transcript import Transcript, header_line, read, respond

__all__ = ["Journal", "JournalEntry", "JournalFolder"]

#: Seconds between two writes. Twice this is still within the second of rule 1.
_INTERVAL = 0.4
#: In the names of this process's files: it must not open those again, as POSIX drops a lock when
#: any handle of the process to that file is closed (fcntl(2), "Advisory record locking").
_PROCESS = secrets.token_hex(4)
#: What a file that is gone, cut or not ours can raise.
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, StreamError)


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """An answer whose process died: what was asked, and how far ``text`` had come.

    ``at`` is when it was asked, in seconds since the epoch.
    """

    path: Path
    at: float
    model: str
    endpoint: str
    notebook: str
    chat: str
    cell: str
    prompt: str
    text: str

    @property
    def name(self) -> str:
        """The short name that ``%nbchat recover`` takes."""
        return self.path.stem.rpartition("-")[2]


class Journal:
    """The sink that keeps one answer; :meth:`JournalFolder.open` makes it.

    Put it behind the view: once it settles, the answer is the notebook's.
    """

    def __init__(self, folder: JournalFolder, header: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._header, self._clock = folder, header, clock
        self._transcript = Transcript()
        self._arrived: deque[tuple[float, StreamChunk]] = deque()
        self._path: Path | None = None
        self._descriptor = -1
        self._written = 0
        self._trouble = ""
        self._lock = threading.Lock()
        self._settled = threading.Event()
        self._began = clock()
        self._next = self._began + _INTERVAL
        self._timer: threading.Thread | None = None

    def begin(self, request: Request) -> None:
        """Nothing is written before the first chunk."""

    def feed(self, chunk: StreamChunk) -> None:
        """Take one chunk. A timer writes it, or this does when the timer is late."""
        now = self._clock()
        self._arrived.append((now - self._began, chunk))
        if self._timer is None:
            # The timer writes the last chunks before a silence; feed() alone would wait for the next.
            self._timer = threading.Thread(target=self._tick, name="nbchat-journal", daemon=True)
            self._timer.start()
        if now >= self._next:
            self._flush(wait=0.0)
        elif isinstance(chunk, ToolResult | ResponseChunk) and _tools_follow(chunk):
            self._flush(wait=1.0)

    def settle(self, response: Response) -> None:
        """Take the end: the file goes, as the notebook has the answer."""
        self._settled.set()
        held = self._lock.acquire(timeout=1.0)  # a disk that hangs does not hang the cell
        self._arrived.clear()
        descriptor, self._descriptor = self._descriptor, -1
        if held:
            self._lock.release()
        with contextlib.suppress(OSError):
            if descriptor >= 0:
                os.close(descriptor)
            if self._path is not None:
                self._path.unlink()
        if self._trouble:
            self._folder.report(self._trouble)

    def _tick(self) -> None:
        while not self._settled.wait(_INTERVAL):
            self._flush(wait=0.0)

    def _flush(self, wait: float) -> None:
        """Write what has arrived. Waits so many seconds for a write under way; never raises."""
        if not self._lock.acquire(timeout=wait) if wait else not self._lock.acquire(blocking=False):
            return
        try:
            self._next = self._clock() + _INTERVAL
            if self._trouble or self._settled.is_set():
                self._arrived.clear()
            elif lines := self._transcript.lines(_taken(self._arrived)):
                self._append(lines)
        except Exception as wrong:  # rule 4; said by settle(), in the cell's own thread
            self._trouble = str(wrong) or type(wrong).__name__
        finally:
            self._lock.release()

    def _append(self, lines: list[str]) -> None:
        if self._descriptor < 0:
            self._path, self._descriptor = self._folder.create()
            lines.insert(0, self._header)
        data = "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")
        self._written += len(data)
        if self._written > self._folder.max_bytes:
            raise OSError(f"the answer is larger than the {self._folder.max_bytes:,} bytes of the journal")
        while data:  # a disk that fills up takes a part
            data = data[os.write(self._descriptor, data) :]


def _tools_follow(chunk: ToolResult | ResponseChunk) -> bool:
    return isinstance(chunk, ToolResult) or chunk.stop_reason == "tool_use"


def _taken(arrived: deque[tuple[float, StreamChunk]]) -> Iterator[tuple[float, StreamChunk]]:
    while arrived:
        yield arrived.popleft()


class JournalFolder:
    """Where journals are: ``path``, else the user's own folder. Nothing is made before the first write.

    Files older than ``max_age`` seconds go, and the oldest while there are more than ``max_bytes``
    in all; those of running kernels stay. ``warn`` is told once when nothing can be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        max_age: float = 7 * 86_400,
        max_bytes: int = 50_000_000,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        self._path = Path(path) if path is not None else None
        self._max_age, self.max_bytes = max_age, max_bytes
        self._warn, self._warned = warn or _warn, False

    @property
    def path(self) -> Path:
        """Where the files are, or will be."""
        if self._path is None:
            import platformdirs

            self._path = Path(platformdirs.user_state_dir("nbchat", appauthor=False)) / "journal"
        return self._path

    def open(
        self,
        prompt: Message,
        *,
        model: str,
        endpoint: str,
        notebook: str = "",
        chat: str = "",
        cell: str = "",
        digest: str = "",
        at: float | None = None,
    ) -> Journal:
        """A sink for one answer. An answer that is done in less than half a second never touches the disk."""
        known = {"model": model, "endpoint": endpoint, "notebook": notebook, "chat": chat, "cell": cell}
        return Journal(self, header_line(prompt, at=time.time() if at is None else at, **known, digest=digest))

    def recoverable(self) -> list[JournalEntry]:
        """The answers whose process died, newest first."""
        found = []
        for path in self._files():
            if not _is_alive(path):
                with contextlib.suppress(*_UNREADABLE):
                    found.append(_entry(path))
        return sorted(found, key=lambda entry: entry.at, reverse=True)

    def restore(self, entry: JournalEntry) -> Response:
        """What arrived of the answer, as a Response of status ``incomplete``. Its file stays.

        Raises:
            InputError: the file is gone or is no journal.
        """
        try:
            return respond(*read(entry.path.read_bytes()))
        except _UNREADABLE as wrong:
            raise InputError(
                f"the answer {entry.name} cannot be restored ({type(wrong).__name__})",
                "Another kernel may have discarded it; %nbchat recover lists what there is.",
            ) from wrong

    def discard(self, entry: JournalEntry) -> None:
        """Remove the file; it may be gone already."""
        with contextlib.suppress(OSError):
            entry.path.unlink()

    def create(self) -> tuple[Path, int]:
        """A new locked file of this process, after making room for it: its path and descriptor."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._prune()
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        path = self.path / f"{stamp}-{_PROCESS}-{secrets.token_hex(3)}.jsonl"
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o600)
        hold_for_life(descriptor)
        return path, descriptor

    def report(self, trouble: str) -> None:
        """Say once that answers are not kept."""
        if not self._warned:
            self._warned = True
            self._warn(f"answers are not kept against a crash of the kernel: no journal ({redact(trouble)})")

    def _files(self) -> list[Path]:
        try:
            return sorted(self.path.glob("*.jsonl"))
        except OSError:
            return []

    def _prune(self) -> None:
        kept = 0
        oldest = time.time() - self._max_age
        for path in reversed(self._files()):  # names begin with the time: newest first
            with contextlib.suppress(OSError):
                status = path.stat()
                kept += status.st_size
                if (status.st_mtime < oldest or kept > self.max_bytes) and not _is_alive(path):
                    path.unlink()
                    kept -= status.st_size


def _entry(path: Path) -> JournalEntry:
    header, events = read(path.read_bytes())
    response = respond(header, events)
    at, model, endpoint, notebook, chat, cell = (
        header[name] for name in ("at", "model", "endpoint", "notebook", "chat", "cell")
    )
    return JournalEntry(path, at, model, endpoint, notebook, chat, cell, response.prompt, response.text)


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=2)


def _is_alive(path: Path) -> bool:
    """Whether the process that writes the file is running."""
    if f"-{_PROCESS}-" in path.name:
        return True
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return True  # not ours to judge
    try:
        taken = hold_for_life(descriptor)
        if taken is None:  # no locks here: an hour without a word is the end of any answer
            return time.time() - os.fstat(descriptor).st_mtime < 3600
        return not taken
    finally:
        os.close(descriptor)
