"""When a live view may send. Pure: the clock is whoever calls."""

from __future__ import annotations

__all__ = ["Pace"]

#: Seconds between two updates, at least: a frame is 16 ms, and an eye needs no more than this.
GAP = 0.05
#: An update waits for this many times what the last one took, so drawing takes a ninth at most.
SHARE = 8
#: Messages a second in the long run, and how many may come at once. Their sum, and one update
#: that overshoots by three, is what any one second can see: 25.
RATE = 14.0
BURST = 8.0


class Pace:
    """Says how long to wait before the next update. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._free_at = float("-inf")
        self._tokens = BURST
        self._counted_at: float | None = None

    def wait(self, now: float) -> float:
        """Seconds until an update may begin; 0 when it may now."""
        debt = max(0.0, -self._level(now)) / RATE
        return max(0.0, self._free_at - now, debt)

    def spend(self, messages: int, began: float, ended: float) -> None:
        """Count an update that took from ``began`` to ``ended`` and sent so many messages."""
        self._tokens = self._level(ended) - messages
        self._counted_at = ended
        self._free_at = ended + max(GAP, SHARE * (ended - began))

    def _level(self, now: float) -> float:
        if self._counted_at is None:
            return self._tokens
        return min(BURST, self._tokens + (now - self._counted_at) * RATE)
