"""File locks: how several kernels share one file, and how a kernel sees that another one is alive.

Both locks belong to the operating system, which frees them when a process ends, also after kill -9.
A lock file that a program creates and deletes would be left over. The two users need opposite
properties, so there are two locks:

- :func:`writing` excludes every other writer, also another thread of this process. It therefore uses
  ``flock``, whose owner is the open file and not the process.
- :func:`hold_for_life` marks a file as owned by a living process. It therefore uses ``lockf``, whose
  owner is the process: a fork does not inherit the lock, so a child that outlives its kernel does not
  make the kernel look alive.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["hold_for_life", "writing"]


def hold_for_life(descriptor: int) -> bool | None:
    """Lock an open file until it is closed or this process ends. Do not wait.

    POSIX frees the lock as soon as the process closes *any* descriptor of the file, so a process must
    not open a file again that it has locked (fcntl(2), "Advisory record locking").

    Returns:
        True if this process now holds the lock, False if another process holds it, None if the file
        system has no locks.
    """
    return _hold_for_life(descriptor)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Wait until no other kernel or thread writes ``path``, and exclude them in the block.

    The file exists in the block: an empty one that only its owner can read is created if there is none.
    The block may replace the file by another one. Readers are not excluded.
    """
    with _writing(path):
        yield


if sys.platform == "win32":
    import msvcrt

    #: The byte that is locked. A locked byte cannot be read on Windows, so it is far after the end.
    _FAR_BYTE = 1 << 40

    def _hold_for_life(descriptor: int) -> bool | None:
        try:
            os.lseek(descriptor, _FAR_BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    @contextlib.contextmanager
    def _writing(path: Path) -> Iterator[None]:
        # Windows cannot replace a file that is open, so the lock is on a file in the temporary folder.
        name = hashlib.sha256(os.path.normcase(path).encode()).hexdigest()[:32]
        descriptor = os.open(Path(tempfile.gettempdir(), f"nbchat-{name}.lock"), os.O_RDWR | os.O_CREAT)
        try:
            while True:
                with contextlib.suppress(OSError):  # LK_LOCK gives up after ten seconds: wait again
                    msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)
                    break
            path.touch(mode=0o600)
            yield
            os.lseek(descriptor, 0, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
        finally:
            os.close(descriptor)

else:
    try:
        import fcntl
    except ImportError:  # Python in a browser, where one process has the files for itself
        fcntl = None  # type: ignore[assignment]

    def _hold_for_life(descriptor: int) -> bool | None:
        if fcntl is None:
            return None
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as refused:
            # Either number means that another process holds the lock; POSIX allows both.
            return False if refused.errno in (errno.EACCES, errno.EAGAIN) else None
        return True

    @contextlib.contextmanager
    def _writing(path: Path) -> Iterator[None]:
        # The lock is on the file itself, so that no lock file lies next to it in a repository.
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if fcntl is not None:
                    with contextlib.suppress(OSError):  # a network drive without locks: write without one
                        fcntl.flock(descriptor, fcntl.LOCK_EX)
                # While this call waited, the writer before it may have replaced the file. The lock is then
                # on a file without a name and excludes nobody: open the new file and try again.
                try:
                    is_current = os.path.samestat(os.fstat(descriptor), os.stat(path))
                except FileNotFoundError:
                    is_current = False
                if is_current:
                    yield
                    return
            finally:
                os.close(descriptor)
