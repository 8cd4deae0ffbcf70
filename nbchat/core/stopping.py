"""Where an interrupt may stop code that settles a turn.

A handler of SIGINT sees the stack, and the functions of this module are marks on it (see
:mod:`nbchat.engine.interrupts`). The innermost mark decides. Without such a handler they change nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

__all__ = ["StoppedBeforeSending", "is_stop", "stoppable", "unstoppable"]

T = TypeVar("T")


class StoppedBeforeSending(KeyboardInterrupt):
    """The user stopped a request before a byte of it was sent, so it costs nothing.

    A transport raises it, and the driver of the turn passes it on as a plain KeyboardInterrupt.
    """


def stoppable(work: Callable[[], T]) -> T:
    """Call ``work``, and let an interrupt stop it: long work, such as drawing, whose loss costs nothing.

    Args:
        work: a function that leaves nothing half done for others.

    Returns:
        The result of ``work``.

    Raises:
        KeyboardInterrupt: the user stopped ``work``.

    >>> stoppable(lambda: 1)
    1
    """
    return work()


def unstoppable(work: Callable[[], T]) -> T:
    """Call ``work``, and let an interrupt wait for its end: short work that must be whole, such as closing widgets.

    Args:
        work: a short function.

    Returns:
        The result of ``work``.

    >>> unstoppable(lambda: 1)
    1
    """
    return work()


def is_stop(failure: BaseException | None) -> bool:
    """Return True if the user stopped a turn: an interrupt, or the cancellation of its task.

    >>> is_stop(KeyboardInterrupt()), is_stop(SystemExit())
    (True, False)
    """
    # By its name, because importing asyncio takes as long as importing all of nbchat.
    return isinstance(failure, KeyboardInterrupt) or type(failure).__name__ == "CancelledError"
