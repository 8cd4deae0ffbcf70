"""Counts: what a run has done so far, and what the rest of it will take."""

from __future__ import annotations

from dataclasses import dataclass, field

from nbchat.core.money import dollars
from nbchat.core.plural import counted
from nbchat.core.usage import Usage
from nbchat.rows.result import Result

__all__ = ["Counts", "duration"]


@dataclass(slots=True)
class Counts:
    """What a run has done so far. One thread writes the counts, and others may read them.

    Attributes:
        rows: the rows of the frame; None while an iterator is read.
        read: the rows that were read.
        distinct: the requests that these rows make; equal rows make one.
        done: the requests that have an answer.
        failed: the requests and rows that failed.
        replayed: the part of ``done`` that the store or a cassette answered.
        sent: the requests of ``done`` and ``failed`` that were sent.
        usage: the tokens of what was sent.
        replayed_usage: the tokens of what a cassette answered.
        models: the models that answered.
        cost: the known cost of what was sent, in US dollars.
        unknown: how many requests have no known cost.
        began_s: when the run began, in seconds of a clock that never goes back.
    """

    rows: int | None = None
    read: int = 0
    distinct: int = 0
    done: int = 0
    failed: int = 0
    replayed: int = 0
    sent: int = 0
    usage: Usage = field(default_factory=Usage)
    replayed_usage: Usage = field(default_factory=Usage)
    models: set[str] = field(default_factory=set)
    cost: float = 0.0
    unknown: int = 0
    began_s: float = 0.0
    paused_s: float = 0.0
    #: How far batches are, in words.
    note: str = ""

    def take(self, result: Result) -> None:
        """Count the end of one request."""
        if result.ok:
            self.done += 1
        else:
            self.failed += 1
        if result.model:
            self.models.add(result.model)
        if result.replayed:
            self.replayed += 1
            self.replayed_usage = self.replayed_usage + result.usage
        else:
            self.sent += 1
            self.usage = self.usage + result.usage
            self.cost += result.cost or 0.0
            self.unknown += result.cost is None

    @property
    def ended(self) -> int:
        """Return the requests that have ended."""
        return self.done + self.failed

    def known_cost(self) -> float | None:
        """Return the cost of what was sent, or None if a part of it is unknown."""
        return None if self.unknown else self.cost

    def expected(self) -> float | None:
        """Return what the whole run will cost, from what the requests cost so far; None if nobody knows."""
        if self.unknown or not self.sent or self.rows is None or not self.read:
            return None
        return self.cost + self.cost / self.sent * max(0.0, self._all_requests() - self.ended)

    def left_s(self, now_s: float) -> float | None:
        """Return how long the rest of the run takes at the speed so far, in seconds; None if nobody knows."""
        ended_now, passed_s = self.ended - self.replayed, now_s - self.began_s
        if self.rows is None or not self.read or ended_now <= 0 or passed_s <= 0:
            return None
        return max(0.0, self._all_requests() - self.ended) * passed_s / ended_now

    def _all_requests(self) -> float:
        """Return how many requests the rows make, also if some of them are not read yet."""
        rows = self.rows or 0
        return self.distinct if self.read >= rows else self.distinct * rows / self.read

    def parts(self, now_s: float) -> list[str]:
        """Return the parts of a progress line, after the number of rows.

        >>> counts = Counts(rows=10, read=10, distinct=10, done=5, sent=5, cost=0.5)
        >>> counts.parts(10.0)
        ['5 done', '$0.5000 of about $1.00']
        """
        parts = [f"{self.done:,} done"]
        if self.failed:
            parts.append(f"{self.failed:,} failed")
        return parts + self.further_parts(now_s)

    def further_parts(self, now_s: float) -> list[str]:
        """Return the parts of a progress line that :meth:`summary` does not have."""
        parts = []
        if self.replayed:
            parts.append(f"{self.replayed:,} replayed")
        if self.note:
            parts.append(self.note)
        if self.sent and not self.unknown:
            expected = self.expected()
            of = f" of about {dollars(expected)}" if expected is not None and self.ended < self.distinct else ""
            parts.append(f"{dollars(self.cost)}{of}")
        elif self.unknown:
            parts.append("cost unknown")
        passed_s = now_s - self.began_s
        if passed_s >= 1 and self.usage.output_tokens:
            parts.append(f"{self.usage.output_tokens / passed_s:,.0f} tokens/s")
        if self.usage.cache_read_input_tokens:
            parts.append(f"{self.usage.cached_share:.0%} from the cache")
        return parts

    def summary(self, name: str) -> str:
        """Return the line that stays under a run. It has no times and no costs: a replay writes the same line.

        >>> Counts(read=10, distinct=8, done=7, failed=1).summary("complete")
        '10 rows: 7 of 8 distinct requests answered, 1 failed'
        """
        distinct = self.distinct
        same = "" if distinct == self.read else " distinct requests"
        asked = f"{self.done:,} of {distinct:,}{same} answered" if self.done < distinct else "all answered"
        failed = f", {self.failed:,} failed" if self.failed else ""
        state = "" if name == "complete" else f", {name}"
        return f"{counted(self.read, 'row')}: {asked}{failed}{state}"


def duration(seconds: float) -> str:
    """Return a time in words.

    >>> duration(59.6), duration(300), duration(9_000)
    ('60 s', '5 min', '2.5 h')
    """
    minutes = seconds / 60
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
