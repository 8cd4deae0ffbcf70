"""Waiting for another thread or process."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["wait_for"]


def wait_for(condition: Callable[[], object], seconds: float = 20.0, said: Callable[[], object] = str) -> None:
    """Wait until ``condition()`` is true. After ``seconds``, fail with the text that ``said()`` returns."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, said()
        time.sleep(0.01)
