"""Entries: what the ledger holds of a request, and the sums it gives. No I/O.

No key, no prompt, no answer and no user's name is in an entry. Costs are in US dollars, times in
seconds since the epoch, days those of the local clock.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from nbchat.core.errors import OptionError, nearest, redact
from nbchat.core.usage import Usage

__all__ = [
    "COLUMNS",
    "COUNTS",
    "TEXTS",
    "Entry",
    "Kind",
    "Spent",
    "Total",
    "cleaned",
    "entry_of",
    "notebook_name",
    "start_of",
    "total_of",
]

#: What a request was: the answer, a round that ended in tool calls, a try that was repeated, one
#: that failed for good, one that the user stopped, or none at all because a cassette answered.
Kind: TypeAlias = Literal["answer", "tool_round", "retry", "failed", "interrupted", "replayed"]

#: The counts of a Usage.
COUNTS = tuple(
    part.name for part in fields(Usage) if part.name not in ("service_tier", "speed", "inference_geo", "estimated")
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One request. ``at`` is when it was sent, ``duration`` how many seconds it took.

    ``cost`` is None where it is not known; ``saved`` is what a replay would have cost. ``round``
    counts the requests of a turn from 0, ``notebook`` is a :func:`notebook_name`. ``status`` is
    that of the Response, or the type of the error.
    """

    at: float
    endpoint: str
    model: str
    notebook: str = ""
    chat: str = ""
    cell: str = ""
    round: int = 0
    kind: Kind = "answer"
    status: str = "complete"
    usage: Usage = field(default_factory=Usage)
    cost: float | None = None
    saved: float | None = None
    digest: str = ""
    response_id: str = ""
    duration: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Flat plain values, one for each column of the ledger."""
        row = {part.name: getattr(self, part.name) for part in fields(self) if part.name != "usage"}
        row |= {part.name: getattr(self.usage, part.name) for part in fields(self.usage)}
        return {name: row[name] for name in COLUMNS}


#: The columns that are text.
TEXTS = ("endpoint", "model", "notebook", "chat", "cell", "kind", "status", "digest", "response_id")
#: All columns, in the order of an export.
COLUMNS = (
    *("at", "endpoint", "model", "notebook", "chat", "cell", "round", "kind", "status"),
    *COUNTS,
    *("estimated", "service_tier", "speed", "inference_geo"),
    *("cost", "saved", "digest", "response_id", "duration"),
)


class Spent(NamedTuple):
    """Known cost in US dollars, and how many requests have an unknown one."""

    known: float
    unknown: int


@dataclass(frozen=True, slots=True)
class Total:
    """The sum over the requests of one group; ``group`` is its key, one string for each ``by``.

    ``cost`` is the known part, ``unknown`` the number of requests of unknown cost beside it.
    ``failed`` counts the retried ones too.
    """

    group: tuple[str, ...]
    requests: int
    usage: Usage
    cost: float
    unknown: int
    saved: float
    failed: int
    replayed: int

    def to_dict(self) -> dict[str, Any]:
        """Flat plain values; the cost is None where no request of the group has a known one."""
        counts = {name: getattr(self.usage, name) for name in COUNTS}
        return {
            "requests": self.requests,
            **counts,
            "estimated": self.usage.estimated,
            "cost": self.cost if self.unknown < self.requests else None,
            "unknown": self.unknown,
            "saved": self.saved,
            "failed": self.failed,
            "replayed": self.replayed,
        }


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
