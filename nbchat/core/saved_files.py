"""The files of saved values: JSON that only its owner can read.

This is the only module of core that touches files.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbchat.core.errors import InputError

__all__ = ["read_json", "write_json"]

#: A file of prompts and answers is for its owner alone.
_PRIVATE_MODE = 0o600
_WRITE_HINT = "Choose a path that can be written."
_READ_HINT = "Check the path. A file that nbchat saved is JSON in UTF-8."


def write_json(path: str | Path, document: Mapping[str, Any]) -> Path:
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
        # The mode must be right before the first byte is written. touch() sets the mode of a new file only.
        place.touch(mode=_PRIVATE_MODE)
        if place.is_file():
            with contextlib.suppress(OSError):  # the file belongs to somebody else, or its disk has no modes
                place.chmod(_PRIVATE_MODE)
        place.write_bytes(data)
    except (OSError, ValueError, RuntimeError) as error:
        # ValueError: the path has a null character. RuntimeError: there is no home folder for "~".
        raise InputError(f"{path} cannot be written ({_reason(error)})", _WRITE_HINT) from None
    return place


def read_json(path: str | Path, hint: str = _READ_HINT) -> Any:
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
