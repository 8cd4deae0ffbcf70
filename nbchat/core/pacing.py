"""Pacing: the protocol between a transport that sends many requests at once and the run that limits them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from nbchat.core.errors import NbchatError

__all__ = ["Pacer"]


class Pacer(Protocol):
    """Decides whether and when a failed attempt is repeated, and learns the limits of the service."""

    def note(self, headers: Mapping[str, str]) -> None:
        """Take the headers of an answer, which have the limits and what is left of them."""
        ...

    async def wait(self, failure: NbchatError, attempt: int, wait_s: float | None) -> bool:
        """Wait before the next attempt. Return False if there should be none.

        Args:
            failure: the error that ended the attempt, before its first event.
            attempt: the number of the failed attempt, counted from 0.
            wait_s: how long the transport would wait, in seconds; None if a retry cannot help, or if the
                service asks for a longer wait than a person would have patience for.
        """
        ...
