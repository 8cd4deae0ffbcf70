"""The errors of nbchat, sorted by two questions: was anything sent, and what is left of the answer?

::

    NbchatError
    ├── InputError        nothing sent
    │   ├── TemplateError     a {{ … }} could not be filled
    │   ├── OptionError       a flag, a value of a flag, a name, a setting
    │   ├── AttachmentError   a file or a value that cannot be attached
    │   └── SchemaError       a type that has no JSON Schema
    ├── BudgetError       nothing sent      .spent .limit .estimate (US dollars)
    ├── TransportError    sent, no answer   .status .type .request_id .retry_after
    │   ├── AuthError         no credentials, or not accepted
    │   ├── RateLimitError    .retry_after (seconds, or None)
    │   ├── OverloadedError   the service has no room now
    │   ├── BadRequestError   the service does not accept this request
    │   ├── ConnectionFailed  no connection, or no answer in time
    │   └── CassetteMiss      .digest .difference: nothing recorded for this request
    ├── StreamError       broke off         .partial: the Response so far
    ├── AnswerError       whole, unusable   .response
    │   ├── RefusedError      the model declined
    │   ├── TruncatedError    the answer ended at a limit
    │   └── ParseError        .problems: what does not fit the schema
    └── ToolError         the user's tool raised

Each error has a ``message`` (what happened, with the flag or name) and a ``hint`` (what to do).
A notebook shows those two lines instead of a traceback, because IPython calls an error's
``_render_traceback_`` before it formats one. The cell still fails, so Run All stops.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

from nbchat.core.secrets import keep_secret, redact, redact_message
from nbchat.core.visible import visible

__all__ = [
    "BROKE_OFF",
    "NOT_CONNECTED",
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
    "how_to_set",
    "keep_secret",
    "nearest",
    "redact",
]

#: The ``type`` of a TransportError for an answer of which a part arrived, but no event. It was generated
#: and is billed, and nobody knows how many tokens it has.
BROKE_OFF = "broke_off"
#: The ``type`` of a ConnectionFailed if no connection was made, so that nothing was sent.
NOT_CONNECTED = "not_connected"
#: The least similarity, from 0 to 1, of a name that is suggested for another one. A short name with one wrong
#: character has 0.67.
MIN_SIMILARITY = 0.65


class NbchatError(Exception):
    """An error that nbchat can explain. Keys are taken out of both texts, and hidden characters are escaped.

    Args:
        message: What happened, with the flag or name it is about.
        hint: What to do about it.

    >>> import nbchat
    >>> try:
    ...     raise nbchat.errors.OptionError("unknown option --modle", "Did you mean --model?")
    ... except nbchat.errors.NbchatError as error:
    ...     print(error.message)
    ...     print(error.hint)
    unknown option --modle
    Did you mean --model?
    """

    def __init__(self, message: str, hint: str = "") -> None:
        # Both texts may quote an endpoint, a model or a file, and are printed on terminals.
        self.message = visible(redact_message(message))
        self.hint = visible(redact_message(hint))
        super().__init__(f"{self.message}\n{self.hint}" if self.hint else self.message)

    def _render_traceback_(self) -> list[str]:
        """Return the lines that IPython shows instead of a traceback.

        https://ipython.readthedocs.io/en/stable/config/integrating.html
        """
        lines = [f"{type(self).__name__}: {self.message}"]
        return [*lines, self.hint] if self.hint else lines


class InputError(NbchatError):
    """The user's input cannot be sent. Nothing was sent.

    >>> import nbchat
    >>> try:
    ...     nbchat.load("nothing.json")
    ... except nbchat.errors.InputError as error:
    ...     print(error.message)
    nothing.json cannot be read (No such file or directory)
    """


class TemplateError(InputError):
    """A ``{{ … }}`` in the prompt could not be filled.

    >>> import nbchat
    >>> session = nbchat.Session(nbchat.ScriptedTransport())
    >>> try:
    ...     session.ask("A poem about {{ animl }}", namespace={"animal": "cats"})
    ... except nbchat.errors.TemplateError as error:
    ...     print(error.message)
    {{ animl }} in line 1 of the prompt: name 'animl' is not defined
    """


class OptionError(InputError):
    """A flag, the value of a flag, a name or a setting is wrong.

    >>> import nbchat
    >>> session = nbchat.Session(nbchat.ScriptedTransport())
    >>> try:
    ...     session.ask("Hi", max_token=100)
    ... except nbchat.errors.OptionError as error:
    ...     print(error)
    unknown option 'max_token'
    Did you mean max_tokens?
    """


class AttachmentError(InputError):
    """A file or a value cannot be attached to the prompt.

    >>> import nbchat
    >>> from pathlib import Path
    >>> session = nbchat.Session(nbchat.ScriptedTransport())
    >>> try:
    ...     session.ask(["Sum it up.", Path("missing.pdf")])
    ... except nbchat.errors.AttachmentError as error:
    ...     print(error.message)
    missing.pdf does not exist
    """


class SchemaError(InputError):
    """A type or a function has no JSON Schema.

    >>> import nbchat
    >>> session = nbchat.Session(nbchat.ScriptedTransport())
    >>> try:
    ...     session.ask("Hi", schema={"type": "object"})
    ... except nbchat.errors.SchemaError as error:
    ...     print(error.message)
    the JSON Schema is an object with keys of any name, which the API does not support
    """


class BudgetError(NbchatError):
    """The request could cost more than the budget leaves. Nothing was sent.

    Args:
        message: What happened.
        hint: What to do about it.
        spent: What was spent so far, in US dollars.
        limit: The budget, in US dollars.
        estimate: What this request could cost, in US dollars; None if the price is unknown.

    >>> import nbchat
    >>> claude = nbchat.ScriptedTransport(name="anthropic", model="claude-sonnet-4-5")
    >>> try:
    ...     nbchat.Session(claude).ask("All about whales", max_tokens=5000, budget=0.01)
    ... except nbchat.errors.BudgetError as error:
    ...     print(error.limit, error.spent)
    0.01 0.0
    """

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
    """The request was sent, or sending failed, and no answer came.

    Args:
        message: What happened.
        hint: What to do about it.
        status: The HTTP status, if there was one.
        type: The ``error.type`` of the API, such as "overloaded_error".
        request_id: The id of the request, for a support ticket.
        retry_after: How long the service asks to wait, in seconds.

    >>> import nbchat
    >>> session = nbchat.Session(nbchat.ScriptedTransport(nbchat.errors.from_api("api_error", "No luck", status=500)))
    >>> try:
    ...     session.ask("Hi")
    ... except nbchat.errors.TransportError as error:
    ...     print(error.status, error.type)
    500 api_error
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
    """No credentials were found, or the endpoint did not accept them.

    >>> import nbchat
    >>> type(nbchat.errors.from_api("authentication_error", "invalid x-api-key", status=401)).__name__
    'AuthError'
    """


class RateLimitError(TransportError):
    """The user sent too many requests or tokens. ``retry_after`` is in seconds, or None.

    >>> import nbchat
    >>> try:
    ...     raise nbchat.errors.from_api("rate_limit_error", "Slow down", status=429, retry_after=20.0)
    ... except nbchat.errors.RateLimitError as error:
    ...     print(error.message)
    ...     print(error.retry_after)
    the endpoint answered 429 rate_limit_error: Slow down
    20.0
    """


class OverloadedError(TransportError):
    """The endpoint has no capacity for the request now, or failed itself.

    >>> import nbchat
    >>> print(nbchat.errors.from_api("overloaded_error", "Overloaded", status=529).hint)
    The service is busy. Run the cell again in a moment.
    """


class BadRequestError(TransportError):
    """The endpoint understood the request and does not accept it.

    >>> import nbchat
    >>> print(nbchat.errors.from_api("not_found_error", "model: claude-9", status=404).hint)
    Check the model with %nbchat models, and the endpoint with %nbchat endpoints.
    """


class ConnectionFailed(TransportError):
    """The endpoint could not be reached, or sent nothing in time.

    >>> import nbchat
    >>> type(nbchat.errors.from_api("timeout_error", "Timed out", status=408)).__name__
    'ConnectionFailed'
    """


class CassetteMiss(TransportError):
    """The cassette has no answer to this request. Replay never sends a request.

    Args:
        message: What happened.
        hint: What to do about it.
        digest: The digest of the request.
        difference: How the request differs from the nearest recorded one, as a diff.

    >>> import nbchat, tempfile
    >>> session = nbchat.Session(nbchat.ScriptedTransport("Hello!"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     session.recording.use_cassette(f"{folder}/answers.jsonl")
    ...     _ = session.ask("Hi", once=True)
    ...     session.recording.use_cassette(f"{folder}/answers.jsonl", "replay")
    ...     try:
    ...         session.ask("Hello", once=True)
    ...     except nbchat.errors.CassetteMiss as error:
    ...         print(len(error.digest))
    64
    """

    def __init__(self, message: str, hint: str = "", *, digest: str = "", difference: str = "") -> None:
        super().__init__(message, hint)
        self.digest, self.difference = digest, difference

    def _render_traceback_(self) -> list[str]:
        return [*super()._render_traceback_(), *([visible(self.difference)] if self.difference else [])]


class StreamError(NbchatError):
    """The answer began and then broke off.

    Args:
        message: What happened.
        hint: What to do about it.
        partial: The Response so far.
        type: The ``error.type`` of the API, if the endpoint sent an error.

    >>> import nbchat
    >>> cut = ["The answer is", nbchat.errors.StreamError("the connection was lost")]
    >>> try:
    ...     nbchat.Session(nbchat.ScriptedTransport(cut)).ask("6 times 7?")
    ... except nbchat.errors.StreamError as error:
    ...     print(error.partial.text, error.partial.status)
    The answer is incomplete
    """

    def __init__(self, message: str, hint: str = "", *, partial: Any = None, type: str | None = None) -> None:
        super().__init__(message, hint)
        self.partial, self.type = partial, type


class AnswerError(NbchatError):
    """The whole answer arrived, but it cannot be used as asked.

    Args:
        message: What happened.
        hint: What to do about it.
        response: The Response with the answer.

    >>> import nbchat
    >>> try:
    ...     nbchat.Session(nbchat.ScriptedTransport([{"stop_reason": "refusal"}])).ask("Hi")
    ... except nbchat.errors.AnswerError as error:
    ...     print(error.response.status)
    refused
    """

    def __init__(self, message: str, hint: str = "", *, response: Any = None) -> None:
        super().__init__(message, hint)
        self.response = response


class RefusedError(AnswerError):
    """The model declined to answer (``stop_reason`` is ``refusal``).

    >>> import nbchat
    >>> try:
    ...     nbchat.Session(nbchat.ScriptedTransport(["No.", {"stop_reason": "refusal"}])).ask("Hi")
    ... except nbchat.errors.RefusedError as error:
    ...     print(error.response.text)
    No.
    """


class TruncatedError(AnswerError):
    """The answer ended at a limit before it was complete.

    >>> import nbchat
    >>> half = ['["Ada", "Gr', {"stop_reason": "max_tokens"}]
    >>> try:
    ...     nbchat.Session(nbchat.ScriptedTransport(half)).ask("Who?", schema=list[str])
    ... except nbchat.errors.TruncatedError as error:
    ...     print(error.response.stop_reason)
    max_tokens
    """


class ParseError(AnswerError):
    """The answer does not fit the schema.

    Args:
        message: What happened.
        hint: What to do about it.
        problems: Each place that does not fit, and why.
        response: The Response with the answer.

    >>> import nbchat
    >>> answer = nbchat.ScriptedTransport('["forty"]')
    >>> try:
    ...     nbchat.Session(answer).ask("How many?", schema=list[int])
    ... except nbchat.errors.ParseError as error:
    ...     print(error.problems[0])
    0: Input should be a valid integer, unable to parse string as an integer (got "forty")
    """

    def __init__(self, message: str, hint: str = "", *, problems: Iterable[str] = (), response: Any = None) -> None:
        super().__init__(message, hint, response=response)
        self.problems = tuple(problems)


class ToolError(NbchatError):
    """A tool raised an exception, and the turn cannot continue without its result.

    >>> import nbchat
    >>> issubclass(nbchat.errors.ToolError, nbchat.errors.NbchatError)
    True
    """


#: The API's ``error.type`` → what to do (https://platform.claude.com/docs/en/api/errors).
_HINTS = {
    "authentication_error": "The key was not accepted. Check ANTHROPIC_API_KEY, or the key of this endpoint.",
    "permission_error": "The key may not use this model or feature. Try another model (-m), or ask your administrator.",
    "billing_error": "Check the plan and billing page of your account.",
    "not_found_error": "Check the model with %nbchat models, and the endpoint with %nbchat endpoints.",
    "request_too_large": "Send less: fewer or smaller attachments, or no history (--once).",
    "rate_limit_error": "Wait a little, then run the cell again.",
    "overloaded_error": "The service is busy. Run the cell again in a moment.",
    "timeout_error": "The service took too long. Run the cell again, or ask for less.",
    "api_error": "The service itself failed. Run the cell again.",
    "invalid_request_error": "The service names the part it does not accept. Change that option or the prompt.",
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
#: The HTTP status → the type that the API sends with it, for endpoints that send no type, or one of
#: their own.
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
    """Return the error for an ``error`` object of the Messages API.

    Args:
        type: The object's ``type``; None if there is none.
        message: The object's ``message``.
        status: The HTTP status. It decides only if the type is unknown, because an ``error`` event
            inside a stream arrives under status 200.
        request_id: The id of the request.
        retry_after: How long the service asks to wait, in seconds.

    >>> print(from_api("overloaded_error", "Overloaded", status=529))
    the endpoint answered 529 overloaded_error: Overloaded
    The service is busy. Run the cell again in a moment.
    """
    # A gateway has types of its own, and a later API may have more. Then the status says what
    # happened, but the error keeps the type that the endpoint sent.
    by_status = _TYPES.get(status or 0, "api_error" if (status or 0) >= 500 else "invalid_request_error")
    known_type = type if type in _HINTS else by_status
    type = type or known_type
    error_class = _CLASSES.get(known_type, BadRequestError)
    # Status 200 would only confuse: it belongs to the stream that the error event came in.
    label = f"{status} {type}" if status and status != 200 else type
    hint = _HINTS[known_type]
    if retry_after is not None and retry_after >= 1 and error_class is RateLimitError:
        hint = f"The service asks to wait {retry_after:.0f} s. Run the cell again after that."
    if request_id:
        hint = f"{hint} (request {request_id})"
    return error_class(
        f"the endpoint answered {label}: {message.strip() or 'no reason given'}",
        hint,
        status=status,
        type=type,
        request_id=request_id,
        retry_after=retry_after,
    )


def how_to_set(setting: str, value: str) -> str:
    """Return how a person changes a setting where this hint is read: in a notebook, or in plain Python.

    >>> how_to_set("idle_timeout", "300")
    '%config Nbchat.idle_timeout = 300 (outside a notebook: the variable NBCHAT_IDLE_TIMEOUT)'
    """
    return f"%config Nbchat.{setting} = {value} (outside a notebook: the variable NBCHAT_{setting.upper()})"


def nearest(name: str, names: Iterable[str]) -> str:
    """Return "Did you mean x?" for the name that is closest to ``name``, or "" if nobody could mean it.

    >>> nearest("modle", ["model", "system"]), nearest("table", ["label", "valuable"])
    ('Did you mean model?', '')
    """
    names = list(names)
    matches = difflib.get_close_matches(name, names, n=1, cutoff=MIN_SIMILARITY)
    # One word of a longer name is not similar to it, and yet meant: url for base_url.
    matches = matches or [longer for longer in names if name in re.split(r"[_.-]", longer)]
    return f"Did you mean {matches[0]}?" if len(matches) == 1 else ""
