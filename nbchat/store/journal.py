"""The journal: answers are written as they arrive, so a killed kernel loses at most the last second.

The rules:

1. Chunks are on disk within a second after their arrival. If the answer asks for tool calls, its chunks
   are on disk before the tools run, because tools are what kills kernels.
2. Only the files of processes that died are kept. The notebook itself has every answer that ended.
3. A running process holds a lock on its files, and the system frees the lock with the process. So an
   answer that is still arriving is never listed, and a process number that the system uses again does
   not hide a dead one.
4. Writing never breaks a cell, and :meth:`Journal.feed` takes almost no time.
5. Only the user can read the files (mode 0600). Keys are removed. Age and size are limited.

The system keeps what it has received from a process that is killed, so nothing here waits for the disk
(no fsync). Only a crash of the whole machine loses more.
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
from nbchat.core.errors import InputError, redact
from nbchat.core.fields import one_line, storable
from nbchat.core.messages import Message
from nbchat.core.request import Request
from nbchat.core.response import Response
from nbchat.core.secrets import redact_message
from nbchat.core.visible import visible
from nbchat.file_locks import hold_for_life
from nbchat.store.folders import state_folder
from nbchat.store.transcript import Transcript, header_line, read, respond
from nbchat.threads import start_thread

__all__ = ["Journal", "JournalEntry", "JournalFolder"]

#: Time between two writes. Twice this time is still within the second of rule 1.
_INTERVAL_S = 0.4
#: How long a cell waits for a write that another thread has begun.
_WRITE_PATIENCE_S = 1.0
#: Without locks, a file that nobody has written to for so long belongs to a dead process.
_SILENCE_S = 3_600
#: A part of the names of this process's files. The process must not open these files again: POSIX frees
#: a lock when the process closes any descriptor of the file (fcntl(2), "Advisory record locking").
_PROCESS = secrets.token_hex(4)


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """An answer whose process died: its prompt, and the ``text`` that had arrived.

    ``at`` is the time of the request, in seconds since the epoch.
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
        """Return the short name that ``%nbchat recover`` takes."""
        return _name_of(self.path)


class Journal:
    """A sink that writes one answer to a file; :meth:`JournalFolder.open` makes it.

    It must settle after the view: settling deletes the file, so the notebook must have the answer first.
    """

    def __init__(self, folder: JournalFolder, header: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._header, self._clock = folder, header, clock
        self._transcript = Transcript()
        self._arrived: deque[tuple[float, StreamChunk]] = deque()
        self._path: Path | None = None
        self._descriptor = -1
        self._written_bytes = 0
        self._problem = ""
        self._lock = threading.Lock()
        self._settled = threading.Event()
        self._began = clock()
        self._next = self._began + _INTERVAL_S
        self._began_thread = False
        self._timer: threading.Thread | None = None

    def begin(self, request: Request) -> None:
        """Nothing is written before the first chunk."""

    def feed(self, chunk: StreamChunk) -> None:
        """Take one chunk. A thread writes it, or this call does if the thread is late."""
        now = self._clock()
        self._arrived.append((now - self._began, chunk))
        if not self._began_thread:
            # Without the thread, the last chunks before a pause stay in memory until the next chunk.
            self._began_thread = True
            self._timer = start_thread(self._tick, "nbchat-journal")
        if now >= self._next:
            self._flush(wait=0.0)
        elif isinstance(chunk, ToolResult | ResponseChunk) and _tools_follow(chunk):
            self._flush(wait=_WRITE_PATIENCE_S)

    def settle(self, response: Response) -> None:
        """Take the end of the answer: delete the file, because the notebook has the answer."""
        self._settled.set()
        locked = self._lock.acquire(timeout=_WRITE_PATIENCE_S)  # a disk that hangs must not hang the cell
        self._arrived.clear()
        descriptor, self._descriptor = self._descriptor, -1
        if locked:
            self._lock.release()
        with contextlib.suppress(OSError):
            if descriptor >= 0:
                os.close(descriptor)
            if self._path is not None:
                self._path.unlink()
        if self._problem:
            self._folder.report(self._problem)

    def _tick(self) -> None:
        while not self._settled.wait(_INTERVAL_S):
            self._flush(wait=0.0)

    def _flush(self, wait: float) -> None:
        """Write the chunks that have arrived. Wait at most ``wait`` seconds for another write. Never raise."""
        if not self._lock.acquire(timeout=wait) if wait else not self._lock.acquire(blocking=False):
            return
        try:
            self._next = self._clock() + _INTERVAL_S
            if self._problem or self._settled.is_set():
                self._arrived.clear()
            elif lines := self._transcript.lines(_drain(self._arrived)):
                self._append(lines)
        except Exception as error:  # rule 4; settle() reports the problem, in the thread of the cell
            self._problem = str(error) or type(error).__name__
        finally:
            self._lock.release()

    def _append(self, lines: list[str]) -> None:
        if self._descriptor < 0:
            self._path, self._descriptor = self._folder.create()
            lines.insert(0, self._header)
        data = "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")
        self._written_bytes += len(data)
        if self._written_bytes > self._folder.max_bytes:
            raise OSError(f"the answer is larger than the {self._folder.max_bytes:,} bytes of the journal")
        while data:  # a write to a disk that is nearly full may take only a part
            data = data[os.write(self._descriptor, data) :]


def _tools_follow(chunk: ToolResult | ResponseChunk) -> bool:
    return isinstance(chunk, ToolResult) or bool(chunk.calls)


def _drain(arrived: deque[tuple[float, StreamChunk]]) -> Iterator[tuple[float, StreamChunk]]:
    while arrived:  # feed() may append in another thread meanwhile
        yield arrived.popleft()


class JournalFolder:
    """The folder of the journals. It is created with the first write.

    Args:
        path: the folder, or None for the user's own.
        max_age: seconds after which a file is deleted.
        max_bytes: the size of all files together. The oldest are deleted when it is exceeded.
        warn: called once, with a message, if nothing can be written.

    The files of running kernels are never deleted.
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
        """Return the folder, which may not exist yet.

        Raises:
            OSError: the user has no home folder.
        """
        if self._path is None:
            self._path = state_folder() / "journal"
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
        """Return a sink for one answer. An answer that ends within 0.4 s never touches the disk."""
        fields = {"model": model, "endpoint": endpoint, "notebook": notebook, "chat": chat, "cell": cell}
        shown = {name: redact_message(text) for name, text in fields.items()}
        return Journal(self, header_line(prompt, at=time.time() if at is None else at, **shown, digest=digest))

    def recoverable(self) -> list[JournalEntry]:
        """Return the answers whose process died, newest first. Leave out damaged files."""
        return self.survey()[0]

    def survey(self) -> tuple[list[JournalEntry], dict[str, InputError]]:
        """Return the answers whose process died, newest first, and the errors of damaged files by their names."""
        entries: list[JournalEntry] = []
        damaged: dict[str, InputError] = {}
        for path in self._files():
            try:
                if not _is_alive(path):
                    entries.append(_entry(path))
            except FileNotFoundError:
                continue  # another kernel discarded the answer
            except (InputError, OSError) as error:
                damaged[_name_of(path)] = _unreadable(path, error)
        return sorted(entries, key=lambda entry: entry.at, reverse=True), damaged

    def restore(self, entry: JournalEntry) -> Response:
        """Return the part of the answer that arrived, as a Response of status ``incomplete``. Keep its file.

        Raises:
            InputError: the file is gone or is not a journal.
        """
        try:
            return respond(*read(entry.path.read_bytes()))
        except (InputError, OSError) as error:
            raise _unreadable(entry.path, error) from None

    def discard(self, entry: JournalEntry) -> None:
        """Delete the file of an answer, which another kernel may already have done."""
        with contextlib.suppress(OSError):
            entry.path.unlink()

    def create(self) -> tuple[Path, int]:
        """Delete old files, create a file that this process locks, and return its path and descriptor."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._prune()
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        path = self.path / f"{stamp}-{_PROCESS}-{secrets.token_hex(3)}.jsonl"
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o600)
        hold_for_life(descriptor)
        return path, descriptor

    def report(self, problem: str) -> None:
        """Warn, the first time only, that answers are not written."""
        if not self._warned:
            self._warned = True
            reason = one_line(redact(problem))
            self._warn(f"answers would be lost if the kernel died: the journal cannot be written ({reason})")

    def _files(self) -> list[Path]:
        try:
            # Opening a pipe would wait for its writer.
            return sorted(path for path in self.path.glob("*.jsonl") if path.is_file())
        except OSError:
            return []

    def _prune(self) -> None:
        kept_bytes = 0
        oldest = time.time() - self._max_age
        for path in reversed(self._files()):  # names begin with the time: newest first
            with contextlib.suppress(OSError):
                status = path.stat()
                kept_bytes += status.st_size
                if (status.st_mtime < oldest or kept_bytes > self.max_bytes) and not _is_alive(path):
                    path.unlink()
                    kept_bytes -= status.st_size


def _name_of(path: Path) -> str:
    return path.stem.rpartition("-")[2]


def _entry(path: Path) -> JournalEntry:
    header, events = read(path.read_bytes())
    response = respond(header, events)
    at = header.time("at")
    model, endpoint, notebook, chat, cell = (
        storable(header.text(name)) for name in ("model", "endpoint", "notebook", "chat", "cell")
    )
    prompt, text = storable(response.prompt), str(response)  # both are printed
    return JournalEntry(path, at, model, endpoint, notebook, chat, cell, prompt, text)


def _unreadable(path: Path, error: InputError | OSError) -> InputError:
    """Return the error for a file of an answer that cannot be read."""
    if isinstance(error, InputError):
        reason, hint = error.message, f"Delete the file if you do not need it: {path}"
    else:
        reason, hint = error.strerror or str(error), "%nbchat recover lists the answers that can be restored."
    return InputError(f"the answer {_name_of(path)} cannot be restored ({reason})", hint)


def _warn(message: str) -> None:
    warnings.warn(visible(message), RuntimeWarning, stacklevel=2)


def _is_alive(path: Path) -> bool:
    """Return True if the process that writes the file is running, or if nobody can know."""
    if f"-{_PROCESS}-" in path.name:
        return True
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return True
    try:
        is_free = hold_for_life(descriptor)  # closing the descriptor frees it again
        if is_free is None:  # the file system has no locks
            return time.time() - os.fstat(descriptor).st_mtime < _SILENCE_S
        return not is_free
    finally:
        os.close(descriptor)
