"""Entries: the values that the ledger keeps for each request, and their sums.

An entry holds no key, no prompt, no answer and no user's name. Costs are in US dollars. Times are in
seconds since the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal, NamedTuple, TypeAlias

from nbchat.core.usage import Usage

__all__ = ["COLUMNS", "COUNTS", "TEXTS", "Entry", "Kind", "Spent", "Total"]

#: How a request ended. ``tool_round``: the answer asked for tool calls, and another request followed.
#: ``retry``: the request failed and was sent again. ``failed``: it failed for good. ``interrupted``: the
#: user stopped it. ``replayed``: a cassette answered, so nothing was sent.
Kind: TypeAlias = Literal["answer", "tool_round", "retry", "failed", "interrupted", "replayed"]

#: The fields of a Usage that are counts, and that the ledger therefore adds up.
COUNTS = tuple(
    part.name for part in fields(Usage) if isinstance(part.default, int) and not isinstance(part.default, bool)
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One request.

    ``at`` is the time of sending, and ``duration`` is in seconds. ``cost`` is None if the price is
    unknown. ``saved`` is the price of a request that a cassette answered. ``cache_saved`` is what the request
    would cost more without the prompt cache, which can be below 0; None if the cache was not used or a price
    is unknown. ``round`` counts the
    requests of a turn from 0. ``notebook`` names the notebook without naming its user. ``status``
    is the status of the Response, or the type of the error.
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
    cache_saved: float | None = None
    digest: str = ""
    response_id: str = ""
    duration: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return one plain value for each column of the ledger, in the order of the columns."""
        row = {part.name: getattr(self, part.name) for part in fields(self) if part.name != "usage"}
        row |= {part.name: getattr(self.usage, part.name) for part in fields(self.usage)}
        return {name: row[name] for name in COLUMNS}


#: The columns that hold text.
TEXTS = ("endpoint", "model", "notebook", "chat", "cell", "kind", "status", "digest", "response_id")
#: All columns, in the order of an export.
COLUMNS = (
    *("at", "endpoint", "model", "notebook", "chat", "cell", "round", "kind", "status"),
    *COUNTS,
    *("estimated", "service_tier", "speed", "inference_geo"),
    *("cost", "saved", "cache_saved", "digest", "response_id", "duration"),
)


class Spent(NamedTuple):
    """The sum of all known costs in US dollars, and the number of requests whose cost is unknown."""

    known: float
    unknown: int


@dataclass(frozen=True, slots=True)
class Total:
    """The sums of one group of requests.

    ``group`` is the key of the group: one string for each column that the requests were grouped by.
    ``cost`` is the sum of the known costs, and ``unknown`` is the number of requests whose cost is
    unknown. ``failed`` also counts requests that were sent again.
    """

    group: tuple[str, ...]
    requests: int
    usage: Usage
    cost: float
    unknown: int
    saved: float
    failed: int
    replayed: int
    cache_saved: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the sums as plain values. The cost is None if no request of the group has a known cost."""
        counts = {name: getattr(self.usage, name) for name in COUNTS}
        return {
            "requests": self.requests,
            **counts,
            "estimated": self.usage.estimated,
            "cost": self.cost if self.unknown < self.requests else None,
            "unknown": self.unknown,
            "saved": self.saved,
            "cache_saved": self.cache_saved,
            "failed": self.failed,
            "replayed": self.replayed,
        }
