"""The outcome of one request of a batch that has no answer: what failed, and if it is worth sending again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbchat.core.errors import TransportError, from_api

__all__ = ["failure_of"]

#: Failures of a request that are the service's own. Only these, and what expired, are worth sending again.
_OF_SERVICE = frozenset({"api_error", "overloaded_error", "timeout_error", "rate_limit_error"})
#: Failures that are the fault of the request or of the account.
_KNOWN = frozenset(
    (
        *("invalid_request_error", "authentication_error", "permission_error", "billing_error"),
        *("not_found_error", "request_too_large"),
        *_OF_SERVICE,
    )
)


def failure_of(outcome: Mapping[str, Any]) -> tuple[TransportError, bool]:
    """Return the error of a request without an answer, and True if the request is worth sending again."""
    match outcome.get("type"):
        case "canceled":
            canceled = TransportError(
                "the batch was cancelled before the service came to this row", "resume() asks the row again."
            )
            canceled.type = "canceled"
            return canceled, False
        case "expired":
            expired = TransportError("the batch expired before the service came to this row", "resume() asks it again.")
            expired.type = "expired"
            return expired, True
    error = outcome.get("error")
    inner = error.get("error", error) if isinstance(error, Mapping) else {}
    inner = inner if isinstance(inner, Mapping) else {}
    kind = inner.get("type") if isinstance(inner.get("type"), str) else "api_error"
    request_id = error.get("request_id") if isinstance(error, Mapping) else None
    failure = from_api(
        kind,
        str(inner.get("message") or ""),
        status=None if kind in _KNOWN else 500,
        request_id=request_id if isinstance(request_id, str) else None,
    )
    return failure, kind in _OF_SERVICE or kind not in _KNOWN
