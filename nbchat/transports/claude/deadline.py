"""Deadline: the time by which the next content of an answer must have arrived."""

from __future__ import annotations

import time
from contextvars import ContextVar, Token

__all__ = ["LINGER_S", "SLOWEST_UPLOAD_BYTES_PER_S", "SMALL_UPLOAD_BYTES", "Deadline", "current"]

#: How long the connection may stay open after ``message_stop``, in seconds.
LINGER_S = 0.25
#: The slowest upload that is not a stall, in bytes per second. A slower one uses up the limit.
SLOWEST_UPLOAD_BYTES_PER_S = 16_384
#: The size of a request that fits into any limit, in bytes.
SMALL_UPLOAD_BYTES = 65_536

_current: ContextVar[Deadline | None] = ContextVar("nbchat_deadline", default=None)


class Deadline:
    """The deadline of one call. It is in force inside ``with deadline:``, for that thread only.

    A timeout of the HTTP library cannot end a trickle. It holds for one read of the socket, so each
    byte that arrives starts it again: a byte a second keeps a request alive for ever. The module
    `connections` therefore asks the deadline before each read of a socket, from the connect onwards, how
    long that read may still take. No thread is needed for that.

    Args:
        limit_s: How long the call may go without content, in seconds.

    Attributes:
        message_complete: True after ``message_stop`` has arrived.
        was_answered: True after the headers of a response have arrived.
        body_began: True after a byte of the body of a successful answer has arrived.
        unsent: True if no byte of the request was sent for certain.

    >>> deadline = Deadline(60)
    >>> with deadline:
    ...     current() is deadline
    True
    >>> current() is None
    True
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s, self._at = limit_s, time.monotonic() + limit_s
        self._paused_at = 0.0
        self._tokens: list[Token[Deadline | None]] = []
        self.message_complete = self.was_answered = self.body_began = False
        self.unsent = True

    def __enter__(self) -> Deadline:
        self._tokens.append(_current.set(self))
        return self

    def __exit__(self, *exception: object) -> None:
        _current.reset(self._tokens.pop())

    def remaining_s(self) -> float:
        """Return how long the call may still wait, in seconds; 0 or less if its time is up."""
        return self._at - time.monotonic()

    def pause(self) -> None:
        """Stop the clock, because the reader works on an event.

        However long a view, a debugger or an approval takes, the endpoint is not silent meanwhile.
        """
        self._paused_at = time.monotonic()

    def resume(self, *, content: bool) -> None:
        """Let the clock run again, because the reader waits for the next event.

        Args:
            content: True if the event had content. Then the whole limit is available again.
        """
        now = time.monotonic()
        self._at = now + self._limit_s if content else self._at + now - self._paused_at

    def allow_upload(self, size: int) -> None:
        """Add the time that an upload of ``size`` bytes may take.

        A prompt with many images takes minutes on a slow line, and the endpoint cannot answer before.
        A small request gets no more time: endless pages of small requests would get it each time.
        """
        self._at += max(0, size - SMALL_UPLOAD_BYTES) / SLOWEST_UPLOAD_BYTES_PER_S

    def linger(self) -> None:
        """Let the connection end within LINGER_S seconds, because the message is complete.

        A stream ends at the end of the HTTP body, not at ``message_stop``. Reading to that end lets
        the next request use the same connection. A server that keeps the body open is cut off.
        """
        self.message_complete, self._limit_s = True, LINGER_S
        self.resume(content=True)


def current() -> Deadline | None:
    """Return the deadline that is in force in this thread, or None."""
    return _current.get()
