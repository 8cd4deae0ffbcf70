"""Open regular files only: a pipe would wait for a writer, and a device such as /dev/zero never ends."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

__all__ = ["NotRegularError", "open_regular"]

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a directory",
}
#: Windows does not have the first, other systems not the second.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class NotRegularError(OSError):
    """The path is not a regular file. ``strerror`` says what the path is."""


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading, and never wait for one.

    Raises:
        NotRegularError: The path is a pipe, a device, a socket or a directory.
        OSError: The file does not exist, or may not be read.
    """
    # Before opening, because even the opening of a device or a pipe can have an effect.
    try:
        _check(path.stat().st_mode)
    except ValueError:  # a null character or half of a surrogate pair, which no name of a file can have
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from None
    descriptor = os.open(path, _FLAGS)
    try:
        # Again, because another process may have replaced the file. O_NONBLOCK keeps a pipe from waiting.
        _check(os.fstat(descriptor).st_mode)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _check(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise NotRegularError(0, _KINDS.get(stat.S_IFMT(mode), "not a regular file"))
