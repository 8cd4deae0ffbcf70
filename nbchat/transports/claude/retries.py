"""Retries: the wait before a failed attempt is repeated, and the countdown that the user sees.

The SDK has retries of its own, which nbchat switches off. They show nothing, and they sleep for as
long as the service asks, even for an hour.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from nbchat.core.errors import NbchatError
from nbchat.transports.error_mapping import retry_after, worth_retrying

if TYPE_CHECKING:
    from nbchat.transports.claude.client import AsyncSdkClient, SdkClient

__all__ = ["LONGEST_WAIT_S", "count_down", "wait_before_retry"]

#: The longest wait before a retry, in seconds. A service that asks for more gets no retry.
LONGEST_WAIT_S = 60.0


def wait_before_retry(error: Exception, attempt: int, client: SdkClient | AsyncSdkClient) -> float | None:
    """Return how long to wait before the next attempt, in seconds; None if a retry cannot help.

    Args:
        error: The error that ended the attempt, before its first event.
        attempt: The number of the failed attempt, counted from 0.
        client: The SDK's client. A rejected access token in its cache is dropped.
    """
    tokens = getattr(client, "_token_cache", None)
    if attempt == 0 and tokens is not None and getattr(error, "status_code", None) == 401:
        # The access token of a profile can be revoked before it expires. The SDK retries such a
        # request once with a new token; its retries are off, so this does the same.
        tokens.invalidate()
        return 0.0
    if not worth_retrying(error):
        return None
    asked_s = retry_after(error)
    if asked_s is not None and asked_s > 0:
        # Sending before the time the service asks for only earns the next 429.
        return asked_s if asked_s <= LONGEST_WAIT_S else None
    # The SDK's own backoff. The random part keeps many clients from coming back at the same moment:
    # https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    return min(0.5 * 2.0**attempt, 8.0) * (1 - 0.25 * random.random())


def count_down(
    wait_s: float, failure: NbchatError, next_attempt: str, sleep: Callable[[float], None]
) -> Iterator[dict[str, Any]]:
    """Wait, and yield a ``notice`` event for each second of the wait. The last notice clears the line.

    Args:
        wait_s: How long to wait, in seconds.
        failure: The reason for the retry. The first notice carries its type in ``failed``.
        next_attempt: The next attempt in words, such as "try 2 of 3".
        sleep: The function that waits. It is called for a second at most, so that the countdown moves.
    """
    failed = getattr(failure, "type", None) or type(failure).__name__
    for second in range(max(1, math.ceil(wait_s))):
        remaining_s = wait_s - second
        when = f" in {remaining_s:.0f} s" if remaining_s >= 1 else ""
        yield {"type": "notice", "text": f"{failure.message}; {next_attempt}{when}", "failed": failed}
        failed = ""
        if remaining_s > 0:
            sleep(min(remaining_s, 1.0))
    yield {"type": "notice", "text": ""}
