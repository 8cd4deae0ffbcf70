"""Entries on their way into the ledger and out of it: cleaned names, periods, and rows of columns.

Days are those of the local clock.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from nbchat.core.entries import COLUMNS, COUNTS, TEXTS, Entry, Total
from nbchat.core.errors import OptionError, nearest, redact
from nbchat.core.usage import Usage

__all__ = ["cleaned", "entry_of", "notebook_name", "start_of", "total_of"]


def notebook_name(path: str | os.PathLike[str] | None, *, home: Path | None = None) -> str:
    """A name for a notebook that tells no one's name: its path below the home folder.

    Elsewhere it is the file's name and four digits for its folder, so that two notebooks of one
    name stay apart. A relative path is kept as it is.
    """
    if not path:
        return ""
    path = Path(path)
    if not path.is_absolute():
        return path.as_posix()
    try:
        return path.relative_to(home or Path.home()).as_posix()
    except (ValueError, RuntimeError):
        return f"{path.name}~{hashlib.sha256(str(path.parent).encode()).hexdigest()[:4]}"


def start_of(period: str, now: float) -> float:
    """When ``today``, this ``week`` (from Monday), ``month`` or ``year`` began; ``all`` began with the epoch.

    ``now`` and the result are in seconds since the epoch; days are those of the local clock.

    Raises:
        OptionError: there is no such period.
    """
    day = time.localtime(now)
    begins = {
        "today": (day.tm_year, day.tm_mon, day.tm_mday),
        "week": (day.tm_year, day.tm_mon, day.tm_mday - day.tm_wday),
        "month": (day.tm_year, day.tm_mon, 1),
        "year": (day.tm_year, 1, 1),
    }
    if period == "all":
        return 0.0
    if period not in begins:
        names = (*begins, "all")
        raise OptionError(f"there is no period {period!r}", nearest(period, names) or f"Take {', '.join(names)}.")
    # mktime sets a day of the month below 1 right, and -1 has it find out about summer time.
    return time.mktime((*begins[period], 0, 0, 0, 0, 0, -1))


def cleaned(entry: Entry) -> Entry:
    """The entry without keys and without the user's folders."""
    texts: dict[str, Any] = {name: redact(str(getattr(entry, name))) for name in TEXTS}
    return replace(entry, **texts | {"notebook": notebook_name(texts["notebook"])})


def entry_of(row: Iterable[Any]) -> Entry:
    """The entry of a row of all :data:`COLUMNS`."""
    held = dict(zip(COLUMNS, row, strict=True))
    used = {part.name: held.pop(part.name) for part in fields(Usage)}
    return Entry(**held, usage=Usage(**used | {"estimated": bool(used["estimated"])}))


def total_of(row: Sequence[Any], groups: int) -> Total:
    """The total of a row: so many groups, the number of requests, :data:`COUNTS`, and the other sums."""
    requests, *counts, estimated, cost, unknown, saved, failed, replayed = row[groups:]
    usage = Usage(**dict(zip(COUNTS, counts, strict=True)), estimated=bool(estimated))
    keys = tuple(str(key) for key in row[:groups])
    return Total(keys, requests, usage, float(cost), unknown, float(saved), failed, replayed)
