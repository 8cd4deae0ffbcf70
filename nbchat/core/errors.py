"""The errors of nbchat, sorted by whether anything was sent and what is still held.

::

    NbchatError
    ├── InputError        nothing sent
    │   ├── TemplateError     a {{ … }} could not be filled
    │   ├── OptionError       a flag, a value of a flag, a name, a setting
    │   ├── AttachmentError   a file or a value that cannot go along
    │   └── SchemaError       a type that has no JSON Schema
    ├── BudgetError       nothing sent      .spent .limit .estimate (US dollars)
    ├── TransportError    sent, no answer   .status .type .request_id .retry_after
    │   ├── AuthError         no credentials, or not accepted
    │   ├── RateLimitError    .retry_after (seconds, or None)
    │   ├── OverloadedError   the service has no room now
    │   ├── BadRequestError   the service will not take this request
    │   ├── ConnectionFailed  no connection, or no answer in time
    │   └── CassetteMiss      .digest .difference: nothing recorded for this request
    ├── StreamError       broke off         .partial: the Response so far
    ├── AnswerError       whole, unusable   .response
    │   ├── RefusedError      the model declined
    │   ├── TruncatedError    it ended at a limit
    │   └── ParseError        .problems: what does not fit the schema
    └── ToolError         the user's tool raised

Each carries ``message`` (what happened, with the flag or name) and ``hint`` (what to do).
In a notebook an error is those two lines, not a traceback: IPython asks a value for
``_render_traceback_`` before it formats one. The cell still fails, so Run All stops.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

__all__ = [
    "AnswerError",
    "AttachmentError",
    "AuthError",
    "BadRequestError",
    "BudgetError",
    "CassetteMiss",
    "ConnectionFailed",
    "InputError",
    "NbchatError",
    "OptionError",
    "OverloadedError",
    "ParseError",
    "RateLimitError",
    "RefusedError",
    "SchemaError",
    "StreamError",
    "TemplateError",
    "ToolError",
    "TransportError",
    "TruncatedError",
    "from_api",
    "nearest",
    "redact",
]


class NbchatError(Exception):
    """Something nbchat can explain: ``message`` says what happened, ``hint`` what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        self.message = redact(message)
        self.hint = redact(hint)
        super().__init__(f"{self.message}\n{self.hint}" if self.hint else self.message)

    def _render_traceback_(self) -> list[str]:
        """The lines IPython shows instead of a traceback (its documented hook)."""
        lines = [f"{type(self).__name__}: {self.message}"]
        return [*lines, self.hint] if self.hint else lines


class InputError(NbchatError):
    """What the user gave cannot be sent; nothing was."""


class TemplateError(InputError):
    """A ``{{ … }}`` could not be filled."""


class OptionError(InputError):
    """A flag, its value, a name or a setting is wrong."""


class AttachmentError(InputError):
    """A file or value that cannot go along with the prompt."""


class SchemaError(InputError):
    """A type or function that has no JSON Schema."""


class BudgetError(NbchatError):
    """The request could cost more than the budget leaves; nothing was sent. US dollars."""

    def __init__(
        self,
        message: str,
        hint: str = "",
        *,
        spent: float | None = None,
        limit: float | None = None,
        estimate: float | None = None,
    ) -> None:
        super().__init__(message, hint)
        self.spent, self.limit, self.estimate = spent, limit, estimate


class TransportError(NbchatError):
    """The request was sent, or tried; no answer came.

    ``status`` is the HTTP status if there was one, ``type`` the API's ``error.type``,
    ``retry_after`` the seconds the service asked to wait.
    """

    def __init__(
        self,
        message: str,
        hint: str = "",
        *,
        status: int | None = None,
        type: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, hint)
        self.status, self.type = status, type
        self.request_id, self.retry_after = request_id, retry_after


class AuthError(TransportError):
    """No credentials were found, or the endpoint did not accept them."""


class RateLimitError(TransportError):
    """Too many requests or tokens; ``retry_after`` is in seconds, or None."""


class OverloadedError(TransportError):
    """The endpoint has no room for the request now."""


class BadRequestError(TransportError):
    """The endpoint understood the request and will not take it."""


class ConnectionFailed(TransportError):
    """The endpoint could not be reached, or sent nothing in time."""


class CassetteMiss(TransportError):
    """The cassette holds no answer to this request, and replay never sends one."""

    def __init__(self, message: str, hint: str = "", *, digest: str = "", difference: str = "") -> None:
        super().__init__(message, hint)
        self.digest, self.difference = digest, difference

    def _render_traceback_(self) -> list[str]:
        return [*super()._render_traceback_(), *([self.difference] if self.difference else [])]


class StreamError(NbchatError):
    """The answer began and broke off. ``partial`` is the Response so far, ``type`` the API's error type."""

    def __init__(self, message: str, hint: str = "", *, partial: Any = None, type: str | None = None) -> None:
        super().__init__(message, hint)
        self.partial, self.type = partial, type


class AnswerError(NbchatError):
    """The answer is whole and cannot be used as asked. ``response`` holds it."""

    def __init__(self, message: str, hint: str = "", *, response: Any = None) -> None:
        super().__init__(message, hint)
        self.response = response


class RefusedError(AnswerError):
    """The model declined to answer (``stop_reason`` is ``refusal``)."""


class TruncatedError(AnswerError):
    """The answer ended at a limit before it was whole."""


class ParseError(AnswerError):
    """The answer does not fit the schema; ``problems`` lists where."""

    def __init__(self, message: str, hint: str = "", *, problems: Iterable[str] = (), response: Any = None) -> None:
        super().__init__(message, hint, response=response)
        self.problems = tuple(problems)


class ToolError(NbchatError):
    """A tool raised, and the turn cannot go on without it."""


_HINTS = {
    "authentication_error": "Check ANTHROPIC_API_KEY (or the key of this endpoint): it was not accepted.",
    "permission_error": "This key may not use that model or feature; try another with -m, or ask your administrator.",
    "billing_error": "See the plan and billing page of your account.",
    "not_found_error": "Check the model with %nbchat models, and the endpoint with %nbchat endpoints.",
    "request_too_large": "Send less: fewer or smaller attachments, or a shorter history (--once).",
    "rate_limit_error": "Wait a little and run the cell again.",
    "overloaded_error": "The service is busy; run the cell again in a moment.",
    "timeout_error": "The service took too long; run the cell again, or ask for less.",
    "api_error": "This is a fault of the service; run the cell again.",
    "invalid_request_error": "The service names what it does not accept; change that option or the prompt.",
}
_CLASSES: dict[str, type[TransportError]] = {
    "authentication_error": AuthError,
    "permission_error": AuthError,
    "billing_error": AuthError,
    "rate_limit_error": RateLimitError,
    "overloaded_error": OverloadedError,
    "api_error": OverloadedError,
    "timeout_error": ConnectionFailed,
}
# https://platform.claude.com/docs/en/api/errors: which type each status carries.
_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def from_api(
    type: str | None,
    message: str,
    *,
    status: int | None = None,
    request_id: str | None = None,
    retry_after: float | None = None,
) -> TransportError:
    """The error for an ``error`` object of the Messages API, by its type, else by the HTTP status.

    The type goes first because an error event inside a stream arrives under status 200.
    """
    known = type
    if type not in _HINTS:  # a gateway's own, or of a later API: then the status says what it is
        known = _TYPES.get(status or 0, "api_error" if (status or 0) >= 500 else "invalid_request_error")
    type = type or known
    kind = _CLASSES.get(known, BadRequestError)
    said = " ".join(part for part in (str(status) if status and status != 200 else "", type) if part)
    hint = _HINTS[known]
    if retry_after is not None and kind is RateLimitError:
        hint = f"The service asks to wait {retry_after:.0f} s; run the cell again after that."
    if request_id:
        hint = f"{hint} (request {request_id})".strip()
    return kind(
        f"the endpoint answered {said}: {message.strip() or 'no reason given'}",
        hint,
        status=status,
        type=type,
        request_id=request_id,
        retry_after=retry_after,
    )


# The prefix that every Anthropic key and token carries.
_KEY = re.compile(r"sk-ant-[A-Za-z0-9_\-]{4,}")
# A token has a digit: "Bearer authentication" is a phrase of many answers, and stays.
_BEARER = re.compile(r"(?i)\b(bearer|x-api-key:?)\s+(?=[A-Za-z._~+/\-]*\d)[A-Za-z0-9._~+/\-]{8,}=*")
_secrets: set[str] = set()


def keep_secret(secret: str | None) -> None:
    """Remember a configured key, so that :func:`redact` takes it out of everything shown or stored."""
    if secret and len(secret.strip()) >= 8:
        _secrets.add(secret.strip())


def redact(text: str) -> str:
    """``text`` with every key taken out: ``sk-ant-…``, bearer tokens and the configured keys."""
    text = _KEY.sub("sk-ant-…", text)
    text = _BEARER.sub(r"\1 …", text)
    for secret in sorted(_secrets, key=len, reverse=True):  # one key may begin as another
        text = text.replace(secret, "…")
    return text


def nearest(name: str, names: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` for the closest of ``names``, or an empty string."""
    found = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"Did you mean {found[0]}?" if found else ""
