"""The booking of one request: what its events mean for the turn, and what its end means for the ledger.

Both drivers of a turn use this module. Nothing here waits or sends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbchat.core.chunks import Notice, StreamChunk
from nbchat.core.errors import (
    NOT_CONNECTED,
    AuthError,
    BudgetError,
    CassetteMiss,
    InputError,
    NbchatError,
    TransportError,
)
from nbchat.core.request import Request
from nbchat.core.stopping import StoppedBeforeSending, is_stop
from nbchat.engine.accounting import Account
from nbchat.engine.turn import Turn

__all__ = ["Booking"]


class Booking:
    """The booking of one request.

    Args:
        turn: takes the events.
        account: gets a row for each attempt.
        request: the request that is about to be sent.

    Raises:
        BudgetError: the request could exceed the budget.
    """

    def __init__(self, turn: Turn, account: Account, request: Request) -> None:
        account.begin(request)
        self._turn, self._account, self._feed = turn, account, turn.feed
        #: True if a cassette gives the answer.
        self.replayed = False
        self._status, self._error, self._sent, self._refused = "error", "", True, False

    def take(self, event: Mapping[str, Any]) -> StreamChunk | None:
        """Give one event to the turn, and return the chunk that sinks should see, if there is one.

        Raises:
            StreamError: the event is an error, or breaks the protocol.
        """
        chunk = self._feed(event)
        if type(chunk) is Notice:
            if chunk.failed:
                self._account.retry(chunk)
            # A countdown ends with an empty notice. Until then, the next try is not sent.
            self._sent = not (chunk.failed or (not self._sent and chunk.text))
        return chunk

    def close(self) -> None:
        """Take the clean end of the answer.

        Raises:
            StreamError: the end came before ``message_stop``.
        """
        self._turn.close()
        self._status = "complete"

    def fail(self, failure: BaseException) -> None:
        """Take the failure that ended the answer."""
        if isinstance(failure, NbchatError):
            self._error = getattr(failure, "type", None) or type(failure).__name__
            self._sent, self._refused = not _was_not_sent(failure), _was_refused(failure)
        elif is_stop(failure):
            self._status = "interrupted"
            # The asynchronous door notes it on the cancellation, which must stay the one of asyncio.
            unsent = isinstance(failure, StoppedBeforeSending) or getattr(failure, "unsent", False)
            self._sent = self._sent and not unsent
        else:
            self._error = type(failure).__name__  # a fault in a transport of the user

    def end(self) -> None:
        """End the answer and book its request, however it ended: what arrived was paid for."""
        answer = self._turn.end_answer()
        if self._sent or answer is not None:
            self._account.end(answer, self._status, replayed=self.replayed, error=self._error, refused=self._refused)


def _was_not_sent(failure: NbchatError) -> bool:
    """Return True if the error says that the request never left: it costs nothing and has no row in the ledger."""
    if isinstance(failure, AuthError):
        # An endpoint that refuses a key answers with a type. Without one, no credentials were found here.
        return failure.status is None and failure.type in (None, "no_credentials")
    if isinstance(failure, TransportError) and failure.type == NOT_CONNECTED:
        return True
    return isinstance(failure, InputError | BudgetError | CassetteMiss)


def _was_refused(failure: NbchatError) -> bool:
    """Return True if the endpoint itself refused the request, which is not billed."""
    return isinstance(failure, TransportError) and failure.status is not None
