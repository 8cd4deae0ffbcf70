"""The pacer of one request of a run: it asks the sender whether and when a failed attempt is repeated."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbchat.core.errors import NbchatError, OverloadedError, RateLimitError

if TYPE_CHECKING:
    from nbchat.rows.sender import Sender

__all__ = ["RowPacer"]


@dataclass(slots=True)
class RowPacer:
    """The pacer of one request (:class:`nbchat.core.pacing.Pacer`), which speaks for the whole run."""

    sender: Sender
    started_s: float  # when the last attempt began, after any pauses
    retries: int = 0

    def note(self, headers: Mapping[str, str]) -> None:
        self.sender.pace.note(headers)

    async def wait(self, failure: NbchatError, attempt: int, wait_s: float | None) -> bool:
        asked_s = getattr(failure, "retry_after", None)
        busy = isinstance(failure, RateLimitError) or (
            isinstance(failure, OverloadedError) and getattr(failure, "status", None) in (429, 503, 529, 200, None)
        )
        if busy and (wait_s is not None or (asked_s or 0) > 0):
            return await self.sender.pause(self, failure, asked_s)
        if wait_s is None or self.retries >= self.sender.max_retries or self.sender.is_stopping:
            return False
        self.retries += 1
        await asyncio.sleep(wait_s)
        return True
