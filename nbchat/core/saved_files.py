"""The files of saved values: JSON that only its owner can read.

This is the only module of core that touches files.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbchat.core.errors import InputError

__all__ = ["read_json", "write_json"]

#: A file of prompts and answers is for its owner alone.
_PRIVATE_MODE = 0o600
_WRITE_HINT = "Choose a path that can be written."
_READ_HINT = "Check the path. A file that nbchat saved is JSON in UTF-8."


def write_json(path: str | os.PathLike[str], document: Mapping[str, Any]) -> Path:
    """Write a document as readable JSON with mode 0600, and return the path.

    Raises:
        InputError: the file cannot be written.
    """
    text = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError:  # models do send half a surrogate pair; JSON has an escape for it
        data = (json.dumps(document, indent=1) + "\n").encode("ascii")
    try:
        place = Path(path).expanduser()
        # The mode of os.open counts for a new file only. An older file may be readable for everybody.
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), _PRIVATE_MODE)
        with open(descriptor, "wb") as file:
            if hasattr(os, "fchmod") and stat.S_ISREG(os.fstat(descriptor).st_mode):
                with contextlib.suppress(OSError):  # the file belongs to somebody else, or its disk has no modes
                    os.fchmod(descriptor, _PRIVATE_MODE)
            file.write(data)
    except (OSError, ValueError, RuntimeError) as error:
        # ValueError: the path has a null character. RuntimeError: there is no home folder for "~".
        raise InputError(f"{path} cannot be written ({_reason(error)})", _WRITE_HINT) from None
    return place


def read_json(path: str | os.PathLike[str], hint: str = _READ_HINT) -> Any:
    """Return the JSON value in a file.

    Raises:
        InputError: the file cannot be read, or is not JSON.
    """
    try:
        place = Path(path).expanduser()
        # Reading from a device or a pipe may never end.
        if place.exists() and not place.is_file():
            kind = "a folder" if place.is_dir() else "a device or a pipe"
            raise InputError(f"{path} cannot be read (it is {kind}, not a file)", hint)
        data = place.read_bytes()
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} cannot be read ({_reason(error)})", hint) from None
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        # ValueError is also the base of JSONDecodeError and UnicodeDecodeError.
        raise InputError(f"{path} is not JSON", hint) from None


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
