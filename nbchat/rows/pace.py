"""The pace of a run: how many requests are in flight, and when the next one may start. Pure: no I/O, no waiting.

The rules:

1. A run starts with few requests in flight. The limit grows with each answer and, since a service refuses at
   once and answers late, with each quarter of a second without a refusal.
2. A refusal (429, 529, 503) halves the limit, once for all requests that were in flight together, and pauses
   the whole run for as long as the service asks, or longer each time if it does not say.
3. While no answer has come since a refusal, one request at a time asks if the service is back.
4. A limit that the service reports as used up is respected before it refuses.
5. ``concurrency``, ``rpm`` and ``tpm`` are never exceeded.
6. Requests start evenly over the time that an answer takes. Requests that start together are answered together:
   the service then sees bursts, and this side works and waits in turns instead of doing both at once. This ends with
   the first refusal: what is refused should be refused together, and share one pause.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

__all__ = ["Pace", "Rate"]

#: How many requests a run begins with, at most.
FIRST_IN_FLIGHT = 64
#: After so long without a refusal, the limit doubles, in seconds.
GROWTH_S = 0.25
#: The pauses that a run makes if the service does not say how long, in seconds.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
#: The longest pause that a run makes at the service's request, in seconds. A longer one stops the run.
PATIENCE_S = 900.0
#: The least time between two starts, as a share of the time that would keep the limit used. Below 1, so that a run
#: catches up.
SPACING = 0.75
#: How many starts that are late may be made up for at once.
LATE_STARTS = 4
#: The weight of one answer in the average time of an answer.
_NEWEST_SHARE = 1 / 16
_SECONDS_PER_MINUTE = 60.0
#: How much of a minute's limit may be used at once, as a share. Services count shorter times than a minute.
_BURST_SHARE = 1 / 60


class Rate:
    """A limit for each minute. In any minute at most ``per_minute`` units are used.

    Args:
        per_minute: the limit.
        now: the time, in seconds of a clock that never goes back.
    """

    def __init__(self, per_minute: float, now: float) -> None:
        self._most = max(1.0, per_minute * _BURST_SHARE)
        # What is used at once at the start of a minute must not come on top of what flows during the minute.
        self._per_s = max(per_minute - self._most, per_minute / 2) / _SECONDS_PER_MINUTE
        self._left, self._at = self._most, now

    def wait_s(self, units: float, now: float) -> float:
        """Return how long to wait before ``units`` may be used, in seconds."""
        self._refill(now)
        # More than the bucket holds can only wait for a full bucket, and leaves a debt.
        missing = min(units, self._most) - self._left
        return max(0.0, missing / self._per_s)

    def use(self, units: float, now: float) -> None:
        """Use units. A negative number gives back what was not used after all."""
        self._refill(now)
        self._left -= units

    def _refill(self, now: float) -> None:
        self._left = min(self._most, self._left + (now - self._at) * self._per_s)
        self._at = now


class Pace:
    """The limits of one run.

    Args:
        concurrency: the most requests in flight.
        rpm: the most requests in a minute, or None.
        tpm: the most tokens in a minute, of prompts and answers, or None.
        answer_tokens: how many tokens an answer may have, before the first one has come.
        clock: seconds on a clock that never goes back.

    >>> pace = Pace(2, clock=lambda: 0.0)
    >>> pace.start(10), pace.start(10), pace.wait_s(10)
    (10.0, 10.0, inf)
    """

    def __init__(
        self,
        concurrency: int,
        *,
        rpm: int | None = None,
        tpm: int | None = None,
        answer_tokens: float = 0.0,
        clock: Callable[[], float],
    ) -> None:
        self._clock, self._most = clock, concurrency
        now = clock()
        self._requests = Rate(rpm, now) if rpm else None
        self._tokens = Rate(tpm, now) if tpm else None
        self._limit = float(min(concurrency, FIRST_IN_FLIGHT))
        self._grew_at = now
        self.in_flight = 0
        self._paused_until = self._held_until = -math.inf
        self._refused_at = -math.inf
        self._probing = False
        self._pauses = 0
        #: How often the service refused a request, and how long the run paused, in seconds.
        self.refusals, self.paused_s = 0, 0.0
        self._answer_tokens = answer_tokens
        #: How long an answer takes on average, in seconds; 0 before the first one. And when the next one may start.
        self._took_s, self._next_at = 0.0, -math.inf

    def begin(self) -> None:
        """Take that the first request is sent now: the time before says nothing about the service."""
        self._grew_at = self._clock()

    @property
    def limit(self) -> int:
        """Return how many requests may be in flight now."""
        return 1 if self._probing else max(1, int(self._limit))

    @property
    def pause_left_s(self) -> float:
        """Return how long the run still pauses because the service asked for it, in seconds."""
        return max(0.0, self._paused_until - self._clock())

    def wait_s(self, tokens: int) -> float:
        """Return how long to wait before a request with so many tokens may start.

        0 means now. ``math.inf`` means that another request has to end first.
        """
        now = self._clock()
        self._grow(now)
        paused = max(self._paused_until, self._held_until) - now
        if paused > 0:
            return paused
        if self.in_flight >= self.limit:
            # The limit also grows without an answer.
            return math.inf if self._limit >= self._most or self._probing else GROWTH_S
        waits = [0.0, self._next_at - now]
        if self._requests is not None:
            waits.append(self._requests.wait_s(1, now))
        if self._tokens is not None:
            waits.append(self._tokens.wait_s(tokens + self._answer_tokens, now))
        return max(waits)

    def start(self, tokens: int) -> float:
        """Take that a request with so many tokens starts, and return the tokens that are reserved for it."""
        now = self._clock()
        gap_s = 0.0 if self.refusals else SPACING * self._took_s / self.limit
        self._next_at = max(self._next_at, now - LATE_STARTS * gap_s) + gap_s
        self.in_flight += 1
        reserved = tokens + self._answer_tokens
        if self._requests is not None:
            self._requests.use(1, now)
        if self._tokens is not None:
            self._tokens.use(reserved, now)
        return reserved

    def end(self, reserved: float, used: tuple[int, int] | None = None, *, took_s: float = 0.0) -> None:
        """Take that a request is no longer in flight.

        Args:
            reserved: the tokens that :meth:`start` returned.
            used: the tokens of its prompt and of its answer; None if there was no answer.
            took_s: how long the answer took, in seconds.
        """
        self.in_flight -= 1
        if used is None:
            return
        self._took_s += (took_s - self._took_s) * (_NEWEST_SHARE if self._took_s else 1.0)
        if self._tokens is not None:
            self._tokens.use(sum(used) - reserved, self._clock())
            # The longest answer so far, so that the limit also holds if all answers are as long.
            self._answer_tokens = max(self._answer_tokens, used[1])
        self._probing, self._pauses = False, 0
        self._limit = min(self._most, self._limit + 1)

    def refuse(self, started_at: float, asked_s: float | None) -> float:
        """Take that the service refused a request, and return how long the run pauses, in seconds.

        Args:
            started_at: when the request started, on the clock of the run.
            asked_s: how long the service asks to wait, or None.
        """
        now = self._clock()
        self.refusals += 1
        self._next_at = -math.inf  # rule 6
        # Requests that were in flight together are refused together: that is one refusal, and not sixty.
        if started_at >= self._refused_at:
            self._limit = max(1.0, self._limit / 2)
            if asked_s is None or asked_s <= 0:
                self._pauses += 1
                asked_s = min(FIRST_PAUSE_S * 2.0 ** (self._pauses - 1), LONGEST_PAUSE_S) * (1 + random.random() / 4)
                self._probing = True
            self._refused_at = self._grew_at = now
        if asked_s is not None:
            until = max(self._paused_until, now + asked_s)
            self.paused_s += until - max(self._paused_until, now)
            self._paused_until = until
        return max(0.0, self._paused_until - now)

    def note(self, headers: Mapping[str, str]) -> None:
        """Take the headers of an answer: a limit that is used up holds the next requests back.

        https://platform.claude.com/docs/en/api/rate-limits#response-headers
        """
        now = self._clock()
        for kind in ("requests", "input-tokens", "output-tokens"):
            if headers.get(f"anthropic-ratelimit-{kind}-remaining") != "0":
                continue
            reset_s = _seconds_until(headers.get(f"anthropic-ratelimit-{kind}-reset", ""))
            if reset_s is not None:
                self._held_until = max(self._held_until, now + min(reset_s, _SECONDS_PER_MINUTE))

    def _grow(self, now: float) -> None:
        if now < self._paused_until:
            self._grew_at = now
        elif now - self._grew_at >= GROWTH_S and not self._probing:
            # Only a limit that is used says anything about the service.
            if self.in_flight >= int(self._limit):
                self._limit = min(self._most, self._limit * 2)
            self._grew_at = now


def _seconds_until(date: str) -> float | None:
    """Return the seconds until a date of RFC 3339, or None if it is not one."""
    try:
        at = datetime.fromisoformat(date)
    except ValueError:
        return None
    return max(0.0, (at - datetime.now(UTC)).total_seconds()) if at.tzinfo is not None else None
