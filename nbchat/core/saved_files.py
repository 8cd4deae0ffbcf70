"""The files of saved values: JSON that only its owner can read, and files that an answer made.

This is the only module of core that touches files.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from nbchat.core.errors import InputError

__all__ = ["file_name", "read_json", "write_json", "write_new"]

#: A file of prompts and answers is for its owner alone.
_PRIVATE_MODE = 0o600
#: The longest name of a file, in bytes. Most file systems allow 255; a number may be added.
_MAX_NAME_BYTES = 200
#: Names that Windows gives to devices, whatever their suffix.
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?=\.|\Z)", re.IGNORECASE)
_WRITE_HINT = "Choose a path that can be written."
_TEXT_HINT = "Save the part that you need, such as response.text, as a file of your own."
_READ_HINT = "Check the path. A file that nbchat saved is JSON in UTF-8."


class Storable(Protocol):
    """A value that can be written as JSON and read again."""

    def to_dict(self) -> dict[str, Any]:
        """Return the value as plain JSON values."""
        ...

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any], /) -> object:
        """Return the value that :meth:`to_dict` wrote."""
        ...


def write_json(path: str | Path, value: Storable) -> Path:
    """Write a value as readable JSON with mode 0600, and return the path.

    Raises:
        InputError: the file cannot be written, or the value could not be read again.
    """
    reason = ""
    try:
        document = value.to_dict()
        value.from_dict(document)
    except InputError as error:
        reason = error.message
    except (RecursionError, ValueError) as error:  # pydantic has a ValueError for a value that JSON cannot hold
        reason = str(error)
    if reason:
        raise InputError(f"{path} was not written, because it could not be loaded again: {reason}", _TEXT_HINT)
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


def file_name(name: str) -> str:
    """Return a name that is safe for a file, from a name that somebody else wrote.

    The result has no folder, begins with no dot, and has no character that is hidden or that a file
    system refuses.

    >>> file_name("../../.ssh/config"), file_name("a:b\\x1b[2J.png"), file_name("..")
    ('config', 'a_b[2J.png', 'file')
    """
    last = re.split(r"[/\\]", name)[-1]
    shown = "".join(character for character in last if unicodedata.category(character)[0] not in "C")
    shown = re.sub(r'[<>:"|?*]', "_", " ".join(shown.split())).lstrip(". ").rstrip(". ")
    if _DEVICES.match(shown):
        shown = f"_{shown}"
    suffix = Path(shown).suffix[:20]
    stem = shown.removesuffix(suffix).encode()[: _MAX_NAME_BYTES - len(suffix.encode())].decode(errors="ignore")
    return f"{stem}{suffix}" or "file"


def write_new(folder: str | Path, name: str, fill: Callable[[Callable[[bytes], object]], object]) -> Path:
    """Write a file that does not exist yet, and return its path.

    Args:
        folder: The folder. It is made if it does not exist.
        name: A name that somebody else wrote (:func:`file_name`). If the name is taken, a number is added.
        fill: Writes the content with the function that it is given. If it fails, no file is left.

    Raises:
        InputError: The folder or the file cannot be written.
    """
    safe = Path(file_name(name))
    try:
        place = Path(folder).expanduser()
        place.mkdir(parents=True, exist_ok=True)
        for number in itertools.count(1):
            path = place / (f"{safe.stem}-{number}{safe.suffix}" if number > 1 else safe.name)
            try:
                # "x" also refuses a link that leads elsewhere.
                file = open(path, "xb")  # noqa: SIM115 - closed below
                break
            except FileExistsError:
                continue
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{safe} cannot be written into {folder} ({_reason(error)})", _WRITE_HINT) from None
    whole = False
    try:
        with file:
            fill(file.write)
        whole = True
    except OSError as error:
        raise InputError(f"{path} cannot be written ({_reason(error)})", _WRITE_HINT) from None
    finally:
        if not whole:
            with contextlib.suppress(OSError):
                path.unlink()
    return path


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
