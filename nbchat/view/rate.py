"""When a live view may send. Pure: the clock is whoever calls."""

from __future__ import annotations

from collections import deque

__all__ = ["RateLimit"]

#: Seconds between two updates, at least: an eye needs no more than this.
MIN_INTERVAL_S = 0.05
#: An update waits for this many times what the last one took, so drawing takes a ninth at most,
DRAWING_COST_FACTOR = 8
#: but never longer than this, in seconds.
MAX_INTERVAL_S = 2.0
#: Messages in any one second before an update; one update has three, so that it makes 25.
MAX_MESSAGES_PER_S = 22


class RateLimit:
    """Says how long to wait before the next update. Times are seconds of one monotonic clock.

    ``interval`` is the least time between two updates.
    """

    def __init__(self, interval: float = MIN_INTERVAL_S) -> None:
        self._min_interval = interval
        self._free_at = float("-inf")
        self._sent: deque[tuple[float, int]] = deque()  # of the last second: when, how many messages

    def wait(self, now: float) -> float:
        """Seconds until an update may begin; 0 when it may now."""
        free_at = self._free_at
        over = self._count(now) - MAX_MESSAGES_PER_S
        for when, messages in self._sent:
            if over <= 0:
                break
            free_at = max(free_at, when + 1.0)
            over -= messages
        return max(0.0, free_at - now)

    def spend(self, messages: int, cost: float, now: float) -> None:
        """Count an update that sent so many messages and took ``cost`` seconds of the processor."""
        if messages:
            self._sent.append((now, messages))
        interval = max(self._min_interval, min(DRAWING_COST_FACTOR * cost, MAX_INTERVAL_S))
        if self._count(now) > MAX_MESSAGES_PER_S / 2:  # spread what is left of the second
            interval = max(interval, messages / MAX_MESSAGES_PER_S)
        self._free_at = now + interval

    def _count(self, now: float) -> int:
        while self._sent and self._sent[0][0] <= now - 1.0:
            self._sent.popleft()
        return sum(messages for _, messages in self._sent)
