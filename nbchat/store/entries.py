"""Conversions around the ledger: entries without names, rows of columns as values, periods as times.

Days are those of the local clock.
"""

from __future__ import annotations

import datetime
import hashlib
import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nbchat.core.entries import COLUMNS, COUNTS, TEXTS, Entry, Total
from nbchat.core.errors import OptionError, nearest
from nbchat.core.fields import MAX_COUNT, MAX_TIME_S, storable
from nbchat.core.secrets import redact_message
from nbchat.core.usage import Usage
from nbchat.store.folders import home_folder

__all__ = ["cleaned", "entry_of", "notebook_name", "start_of", "total_of", "totals_of"]


def notebook_name(path: str | os.PathLike[str] | None, *, home: Path | None = None) -> str:
    """Return a name for a notebook that does not contain the name of its user.

    It is the path below the home folder. For a notebook outside of the home folder it is the name of the
    file and four digits for the folder, so that two notebooks of the same name stay apart. A relative path
    is returned as it is.

    >>> notebook_name("/home/ada/plans/plan.ipynb", home=Path("/home/ada"))
    'plans/plan.ipynb'
    """
    if not path:
        return ""
    path = Path(path)
    if not path.is_absolute():
        return path.as_posix()
    home = home or home_folder()
    if home is not None and path.is_relative_to(home):
        return path.relative_to(home).as_posix()
    folder = str(path.parent).encode("utf-8", "surrogatepass")
    return f"{path.name}~{hashlib.sha256(folder).hexdigest()[:4]}"


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
    """Return the entry as it can be stored: valid texts and numbers, no keys, no name of the home folder."""
    # A text is cut into valid characters first: half a surrogate pair could stand in the middle of a key.
    texts: dict[str, Any] = {name: redact_message(storable(str(getattr(entry, name)))) for name in TEXTS}
    return replace(
        entry,
        **texts | {"notebook": notebook_name(texts["notebook"])},
        at=_amount(entry.at, MAX_TIME_S) or 0.0,
        round=_count(entry.round),
        usage=_usage(lambda name: getattr(entry.usage, name)),
        cost=_amount(entry.cost),
        saved=_amount(entry.saved),
        cache_saved=_difference(entry.cache_saved),
        duration=_amount(entry.duration),
    )


def entry_of(row: Iterable[Any]) -> Entry:
    """Return the entry of a row, which has a value for each of :data:`COLUMNS`.

    Another program may have written the row, and SQLite does not check types.
    """
    values = dict(zip(COLUMNS, row, strict=True))
    texts: dict[str, Any] = {name: _text(values[name]) for name in TEXTS}
    return Entry(
        **texts,
        at=_amount(values["at"], MAX_TIME_S) or 0.0,
        round=_count(values["round"]),
        usage=_usage(values.get),
        cost=_amount(values["cost"]),
        saved=_amount(values["saved"]),
        cache_saved=_difference(values["cache_saved"]),
        duration=_amount(values["duration"]),
    )


def total_of(row: Sequence[Any], groups: int) -> Total:
    """Return the total of a row: the keys of ``groups`` columns, the number of requests, and the sums.

    Each count has two columns: the sum of its upper parts and the sum of its lower 32 bits.
    """
    requests, *sums, estimated, cost, unknown, saved, failed, replayed, cache_saved = row[groups:]
    halves = [int(part) for part in sums]
    counts = [(high << 32) + low for high, low in zip(halves[::2], halves[1::2], strict=True)]
    fields: dict[str, Any] = dict(zip(COUNTS, counts, strict=True))
    usage = Usage(**fields, estimated=bool(estimated))
    keys = tuple(_text(key) for key in row[:groups])
    return Total(keys, requests, usage, float(cost), unknown, float(saved), failed, replayed, float(cache_saved))


def _usage(read: Callable[[str], Any]) -> Usage:
    """Return the usage of values that may have any type. ``read`` returns the value of a name."""
    words: dict[str, Any] = {}
    for name in ("service_tier", "speed", "inference_geo"):
        value = read(name)
        words[name] = None if value is None else _text(value)
    counts: dict[str, Any] = {name: _count(read(name)) for name in COUNTS}
    return Usage(**counts, **words, estimated=read("estimated") in (True, 1))


def _text(value: Any) -> str:
    return storable(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value))


def _count(value: Any) -> int:
    """Return a count from 0 to 2**63 - 1. A value that is not a number counts as 0."""
    if isinstance(value, float) and math.isfinite(value):
        value = int(value)
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return min(max(value, 0), MAX_COUNT) if is_number else 0


def _difference(value: Any) -> float | None:
    """Return a finite number that may be below 0; None for a value that is not a number or not finite."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value < 0:
        lost = _amount(-value)
        return None if lost is None else -lost
    return _amount(value)


def _amount(value: Any, most: float = math.inf) -> float | None:
    """Return a finite number from 0 to ``most``; None for a value that is not a number or not finite."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        amount = float(value)
    except OverflowError:
        return None
    return min(max(amount, 0.0), most) if math.isfinite(amount) else None


def totals_of(entries: Iterable[Entry], by: str) -> list[Total]:
    """Return the sums of entries in groups, as the ledger sums its rows. The group that began first comes first.

    Args:
        entries: the requests.
        by: ``day``, ``month``, or a field of an Entry that holds text.

    >>> [total.group for total in totals_of([Entry(0.0, "local", "a"), Entry(1.0, "local", "b")], "endpoint")]
    [('local',)]
    """
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(_group(entry, by), []).append(entry)
    return [
        Total(
            group=(name,),
            requests=len(own),
            usage=sum((entry.usage for entry in own), Usage()),
            cost=sum(entry.cost or 0.0 for entry in own),
            unknown=sum(entry.cost is None for entry in own),
            saved=sum(entry.saved or 0.0 for entry in own),
            failed=sum(entry.kind in ("failed", "retry") for entry in own),
            replayed=sum(entry.kind == "replayed" for entry in own),
            cache_saved=sum(entry.cache_saved or 0.0 for entry in own),
        )
        for name, own in groups.items()
    ]


def _group(entry: Entry, by: str) -> str:
    if by in ("day", "month"):
        day = datetime.date.fromtimestamp(entry.at).isoformat()
        return day if by == "day" else day[:7]
    return str(getattr(entry, by))
