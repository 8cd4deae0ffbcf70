"""IdleCutoff: it ends a stream in which no content has arrived for too long."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbchat.transports.claude.client import SdkStream

__all__ = ["LINGER_S", "IdleCutoff"]

#: How long the connection may stay open after ``message_stop``, in seconds.
LINGER_S = 0.25


class IdleCutoff:
    """A timer that shuts the socket of a stream down when no content has arrived for too long.

    The two obvious ways to end the stream do not work. A read timeout never fires, because each ping
    resets it. Closing the stream from another thread does not wake a reader that is blocked in
    ``recv``. Shutting the socket down does (https://man7.org/linux/man-pages/man2/shutdown.2.html).

    Args:
        limit_s: How long the stream may go without content, in seconds.

    Attributes:
        expired: True after this timer has shut the socket down.
        message_complete: True after ``message_stop`` has arrived.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s, self._waiting_since = limit_s, time.monotonic()
        self._stream_ended = threading.Event()
        self._limit_changed = threading.Event()
        self.expired = self.message_complete = False

    def pause(self) -> None:
        """Stop the timer, because content arrived and the reader works on it.

        However long a view, a debugger or an approval takes, the endpoint is not silent meanwhile.
        """
        self._waiting_since = math.inf

    def resume(self) -> None:
        """Start the timer again, because the reader waits for the next content."""
        self._waiting_since = time.monotonic()

    def linger(self) -> None:
        """Let the connection end within LINGER_S seconds, because the message is complete.

        A stream ends at the end of the HTTP body, not at ``message_stop``. Reading to that end lets
        the next request use the same connection. A server that keeps the body open is cut off.
        """
        self.message_complete, self._limit_s = True, LINGER_S
        self.resume()
        self._limit_changed.set()

    @contextmanager
    def over(self, stream: SdkStream) -> Iterator[None]:
        """Run the timer over a stream while the context lasts."""
        thread = threading.Thread(target=self._run, args=(stream,), name="nbchat-idle-cutoff", daemon=True)
        self.resume()
        thread.start()
        try:
            yield
        finally:
            self._stream_ended.set()
            self._limit_changed.set()

    def _run(self, stream: SdkStream) -> None:
        while not self._stream_ended.is_set():
            remaining_s = self._waiting_since + self._limit_s - time.monotonic()
            if remaining_s <= 0:
                self.expired = True
                _shut_down(stream)
                return
            # `wait` does not accept the infinite rest of a paused timer, so look again after one limit.
            # Once `_limit_changed` is set it stays set, and waiting for it would be a busy loop.
            wake_up = self._stream_ended if self.message_complete else self._limit_changed
            wake_up.wait(min(remaining_s, self._limit_s))


def _shut_down(stream: SdkStream) -> None:
    try:
        network = stream.response.extensions["network_stream"]
        network.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
    except Exception:  # this HTTP transport has no socket, so closing is all that can be done
        stream.close()
