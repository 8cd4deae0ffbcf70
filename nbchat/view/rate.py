"""The rate limit of a view: when the view may send its next update.

Pure: the caller reads the clock. Times are in seconds of one monotonic clock.
"""

from __future__ import annotations

from collections import deque

__all__ = ["RateLimit"]

#: The shortest time between two updates. An eye does not notice more than 20 updates a second.
MIN_INTERVAL_S = 0.05
#: An update waits for this many times the processor time of the last update, so that drawing
#: takes at most one ninth of a processor.
DRAWING_COST_FACTOR = 8
#: The longest time that an update waits because of the cost of the last one.
MAX_INTERVAL_S = 2.0
#: An update may begin if at most this many messages were sent in the last second. A usual update
#: sends three, which makes 25. A Jupyter server drops messages from 1000 a second on, also the
#: last one, so the limit must leave room for many cells and for what the user's own code prints.
MAX_MESSAGES_PER_S = 22


class RateLimit:
    """Limits how often a view sends an update.

    Args:
        interval: the shortest time between two updates, in seconds.
    """

    def __init__(self, interval: float = MIN_INTERVAL_S) -> None:
        self._min_interval = interval
        self._free_at = float("-inf")
        #: The updates of the last second, as (time, number of messages).
        self._sent: deque[tuple[float, int]] = deque()

    def wait(self, now: float) -> float:
        """Return the seconds until an update may begin, or 0 if an update may begin now."""
        free_at = self._free_at
        excess = self._count(now) - MAX_MESSAGES_PER_S
        for sent_at, messages in self._sent:
            if excess <= 0:
                break
            free_at = max(free_at, sent_at + 1.0)
            excess -= messages
        return max(0.0, free_at - now)

    def spend(self, messages: int, cost: float, now: float) -> None:
        """Count an update.

        Args:
            messages: the number of messages that the update sent.
            cost: the processor time that the update took, in seconds.
            now: the time of the end of the update.
        """
        if messages:
            self._sent.append((now, messages))
        interval = max(self._min_interval, min(DRAWING_COST_FACTOR * cost, MAX_INTERVAL_S))
        if self._count(now) > MAX_MESSAGES_PER_S / 2:
            # Spread the rest over the second. Without this, a view would send a burst and then pause.
            interval = max(interval, messages / MAX_MESSAGES_PER_S)
        self._free_at = now + interval

    def _count(self, now: float) -> int:
        while self._sent and self._sent[0][0] <= now - 1.0:
            self._sent.popleft()
        return sum(messages for _, messages in self._sent)
