"""Conversions around the ledger: entries without names, rows of columns as values, periods as times.

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
    """Return a name for a notebook that does not contain the name of its user.

    It is the path below the home folder. For a notebook outside of the home folder it is the name of the
    file and four digits for the folder, so that two notebooks of the same name stay apart. A relative path
    is returned as it is.

    >>> notebook_name("/home/ada/work/plan.ipynb", home=Path("/home/ada"))
    'work/plan.ipynb'
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
    """Return the start of the period that contains ``now``; both are in seconds since the epoch.

    Args:
        period: ``today``, ``week`` (from Monday), ``month``, ``year`` or ``all``, which starts with the epoch.

    Raises:
        OptionError: the period is none of these.
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
        raise OptionError(f"there is no period {period!r}", nearest(period, names) or f"Use one of {', '.join(names)}.")
    # mktime accepts a day of the month below 1. The last -1 lets it find out about daylight saving time.
    return time.mktime((*begins[period], 0, 0, 0, 0, 0, -1))


def cleaned(entry: Entry) -> Entry:
    """Return the entry without keys and without the name of the user's home folder."""
    texts: dict[str, Any] = {name: redact(str(getattr(entry, name))) for name in TEXTS}
    return replace(entry, **texts | {"notebook": notebook_name(texts["notebook"])})


def entry_of(row: Iterable[Any]) -> Entry:
    """Return the entry of a row, which has a value for each of :data:`COLUMNS`."""
    values = dict(zip(COLUMNS, row, strict=True))
    usage = {part.name: values.pop(part.name) for part in fields(Usage)}
    return Entry(**values, usage=Usage(**usage | {"estimated": bool(usage["estimated"])}))


def total_of(row: Sequence[Any], groups: int) -> Total:
    """Return the total of a row: the keys of ``groups`` columns, the number of requests, and the sums."""
    requests, *counts, estimated, cost, unknown, saved, failed, replayed = row[groups:]
    usage = Usage(**dict(zip(COUNTS, counts, strict=True)), estimated=bool(estimated))
    keys = tuple(str(key) for key in row[:groups])
    return Total(keys, requests, usage, float(cost), unknown, float(saved), failed, replayed)
