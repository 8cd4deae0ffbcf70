"""The errors of the SDK and of its HTTP library, and which error of ours each becomes.

Neither library is imported here: classes are known by their names. That keeps this module light, and
tests/contract/test_errors.py compares the table of names with the classes that an SDK really has.
"""

from __future__ import annotations

import email.utils
import math
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from nbchat.core.errors import (
    NOT_CONNECTED,
    AuthError,
    BadRequestError,
    ConnectionFailed,
    InputError,
    NbchatError,
    StreamError,
    ToolError,
    TransportError,
    from_api,
    how_to_set,
    redact,
)
from nbchat.core.secrets import shown_url
from nbchat.models import PLATFORMS
from nbchat.transports.ways_out import PLATFORM_WAYS, ways_out

__all__ = [
    "KINDS",
    "NotTheApi",
    "NothingCame",
    "explain",
    "is_status",
    "mark_proxy",
    "retry_after",
    "worth_retrying",
]


class NotTheApi(Exception):
    """The endpoint sent something that is not a Messages API answer. The message describes it."""


class NothingCame(Exception):
    """A stream ended cleanly without a single event. The message is its content type."""


#: Class name → the kind of failure. The first class in an error's MRO that is listed here decides.
#: The root classes of the SDK and of httpx2 are missing on purpose. A row for a root would cover every
#: class that a later release adds, and the test that looks for unmapped classes would stay silent.
KINDS: dict[str, str] = {
    "anthropic.APIStatusError": "status",
    "anthropic.APITimeoutError": "timeout",
    "anthropic.APIConnectionError": "connection",
    "anthropic.APIResponseValidationError": "malformed",
    "anthropic.APIWebhookValidationError": "malformed",
    "anthropic.RetryableError": "connection",
    "anthropic.CredentialsError": "credentials",
    "anthropic.lib.credentials._workload.WorkloadIdentityError": "credentials",
    "anthropic.lib.credentials._secrets._NonObjectPayloadError": "credentials",
    "anthropic.lib.foundry.MutuallyExclusiveAuthError": "credentials",
    "anthropic.lib._extras._common.MissingDependencyError": "dependency",
    "anthropic._response.StreamAlreadyConsumed": "closed",
    "anthropic._response.MissingStreamClassError": "fault",
    "anthropic.lib.tools._beta_functions.ToolError": "tools",
    "anthropic.lib.tools._file_store.FileStoreError": "tools",
    "anthropic.lib.tools._memories.SessionMemoryError": "tools",
    "anthropic.lib.tools._toolsets._errors.ToolsetUsageError": "tools",
    "anthropic.lib.tools.mcp.UnsupportedMCPValueError": "tools",
    "httpx2.TimeoutException": "timeout",
    "httpx2.NetworkError": "connection",
    "httpx2.ProtocolError": "connection",
    "httpx2.ProxyError": "connection",
    "httpx2.TransportError": "connection",
    "httpx2.LocalProtocolError": "header",
    "httpx2.DecodingError": "malformed",
    "httpx2.SSEError": "malformed",
    "httpx2.TooManyRedirects": "address",
    "httpx2.UnsupportedProtocol": "address",
    "httpx2.InvalidURL": "address",
    "httpx2.HTTPStatusError": "connection",
    "httpx2.StreamError": "closed",
    "httpx2.CookieConflict": "malformed",
    "httpx2._exceptions.HTTPXDeprecationWarning": "fault",  # raised under -W error
    "nbchat.transports.error_mapping.NotTheApi": "malformed",
    "nbchat.transports.error_mapping.NothingCame": "nothing",
    "json.decoder.JSONDecodeError": "malformed",
    "builtins.UnicodeDecodeError": "malformed",
    "builtins.RecursionError": "malformed",  # JSON that is nested thousands deep
    "builtins.UnicodeEncodeError": "header",
    "builtins.ImportError": "dependency",
    "botocore.exceptions.BotoCoreError": "credentials",
    "google.auth.exceptions.GoogleAuthError": "credentials",
    "builtins.TimeoutError": "timeout",
    "builtins.OSError": "connection",
}
#: How Anthropic, llama.cpp and vLLM report that a prompt does not fit the context window.
_TOO_LONG = re.compile(r"prompt is too long|exceeds? the (available )?context|maximum context length", re.IGNORECASE)
#: Errors of httpx2 that come before a request is sent.
_NOT_CONNECTED = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError"})
#: How a note begins that names the proxy of a request.
_PROXY_NOTE = "sent through the proxy "
_KEPT = "The part that arrived is kept. Run the cell again to get a complete answer."
_RAISE_TIMEOUT = "If the endpoint is slow, let it take more seconds: " + how_to_set("idle_timeout", "600") + "."


def explain(error: Exception, *, endpoint: str, started: bool = False, waited: float | None = None) -> NbchatError:
    """Return our error for an error of the SDK, of httpx2 or of a library below them.

    The result contains no key. It also holds no reference to ``error``, whose traceback and
    attributes may contain one.

    Args:
        error: The error to explain. One of ours is returned as it is.
        endpoint: The endpoint's name.
        started: True if events had arrived. The result is then a StreamError, because an answer broke
            off; otherwise there was no answer.
        waited: How long nothing arrived, in seconds, for errors that report a timeout.

    Raise the result outside the ``except`` block that caught ``error``. Otherwise Python attaches
    ``error`` as its context, and a traceback shows what was taken out here.
    """
    # The SDK wraps each error that is raised below it, also one of ours.
    ours = _ours(error)
    if ours is not None:
        return ours
    kind, root = _kind(error, endpoint, started)
    text = _one_line(error, 300)
    match kind:
        case "status":
            return _from_status(error, started)
        case "dependency":
            return _missing_library(endpoint, text)
        case "tools":
            return ToolError(f"a tool of the SDK failed: {text}", "Fix the tool, then run the cell again.")
        case "credentials" if not started:
            cause = next((cause for cause in _chain(error) if _listed_kind(cause) == kind), error)
            what = f"no usable credentials for the endpoint {endpoint!r}, so nothing was sent"
            return AuthError(f"{what}: {_one_line(cause, 300)}", ways_out(endpoint))
        case "text" if not started:
            return InputError(
                "the request has half of a surrogate pair, which UTF-8 cannot encode, so nothing was sent",
                "Remove it: text.encode('utf-8', 'replace').decode() puts a question mark there.",
            )
        case "header" if not started:
            # h11's message quotes the header, and with it the key: none of it is shown.
            return AuthError(
                f"the key for the endpoint {endpoint!r} contains characters that an HTTP header may not have",
                "Copy the key again, without line breaks or spaces.",
            )
        case "address" if not started:
            return ConnectionFailed(
                f"the address of the endpoint {endpoint!r} cannot be used: {text}",
                "Check the endpoint's base URL with %nbchat endpoints.",
                type=NOT_CONNECTED,
            )
    return _broken_off(kind, text, waited) if started else _without_answer(kind, text, endpoint, waited, error, root)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and its causes, outermost first."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _ours(error: BaseException) -> NbchatError | None:
    """Return the first error of ours among an error and its causes, or None."""
    return next((cause for cause in _chain(error) if isinstance(cause, NbchatError)), None)


def mark_proxy(error: Exception, proxy: str) -> None:
    """Note in an error that its request went through a proxy.

    Args:
        error: An error of httpx2.
        proxy: The proxy's address and the variable that names it, without a password.
    """
    error.add_note(_PROXY_NOTE + proxy)


def _proxy_of(error: BaseException) -> str:
    """Return the proxy that :func:`mark_proxy` noted in an error or in one of its causes, or ""."""
    notes = (note for cause in _chain(error) for note in getattr(cause, "__notes__", ()))
    return next((note.removeprefix(_PROXY_NOTE) for note in notes if note.startswith(_PROXY_NOTE)), "")


def is_status(error: BaseException) -> bool:
    """Return True if the endpoint itself answered with an error."""
    return _listed_kind(error) == "status"


def _class_names(error: BaseException) -> list[str]:
    """Return the full names of the error's class and of its base classes, the class itself first."""
    return [f"{base.__module__}.{base.__qualname__}" for base in type(error).__mro__]


def _listed_kind(error: BaseException) -> str:
    """Return the kind that KINDS lists for the error's class, or "" if it lists none."""
    return next((KINDS[name] for name in _class_names(error) if name in KINDS), "")


def _kind(error: Exception, endpoint: str, started: bool) -> tuple[str, BaseException]:
    """Return the kind of failure and the cause at its root."""
    kind, root = _listed_kind(error), list(_chain(error))[-1]
    if kind == "connection":
        # Before an answer the SDK wraps everything into APIConnectionError, also a missing library or
        # a key that does not fit into a header. The cause tells what really happened.
        causes = (_listed_kind(cause) for cause in _chain(error))
        kind = next((cause for cause in causes if cause in ("credentials", "dependency", "header", "address")), kind)
    encodings = (cause.encoding for cause in _chain(error) if isinstance(cause, UnicodeEncodeError))
    if kind == "header" and "utf-8" in encodings:
        kind = "text"  # a header is encoded as ASCII, the body as UTF-8
    if not kind and isinstance(error, TypeError) and "authentication method" in str(error):
        kind = "credentials"  # the SDK raises a bare TypeError when it has no key
    if not kind and not started and endpoint in PLATFORM_WAYS and isinstance(error, (RuntimeError, ValueError)):
        kind = "credentials"  # a platform's client reports a missing setting: "No project_id was given …"
    return kind, root


def _one_line(error: BaseException, length: int) -> str:
    """Return the text of an error on one line, without keys, cut to ``length`` characters."""
    # First the keys, then the cut. A key that the cut had halved would no longer be recognised.
    return redact(" ".join(str(error).split()))[:length]


def _missing_library(endpoint: str, text: str) -> InputError:
    what = f"the endpoint {endpoint!r} needs a library that is not installed: {text}"
    if endpoint in PLATFORMS and PLATFORMS[endpoint].library:
        return InputError(what, f'Install the library with: pip install "anthropic[{endpoint}]"')
    return InputError(what, "Install the library, or remove the setting that needs it.")


def _broken_off(kind: str, text: str, waited: float | None) -> StreamError:
    """Return the error for an answer that broke off after its first event."""
    if kind == "timeout":
        silence = f" for {waited:g} s" if waited else " in time"
        return StreamError(f"the answer broke off: no content came{silence}", f"{_KEPT} {_RAISE_TIMEOUT}")
    reason = {
        "connection": "the connection was lost",
        "address": "the connection was lost",
        "header": "the connection was lost",
        "closed": "the connection was closed",
        "malformed": "the endpoint sent something that is not a Messages API answer",
        "credentials": f"the credentials are no longer valid ({text})",
    }.get(kind, text or "no reason given")
    return StreamError(f"the answer broke off: {reason}", _KEPT)


def _without_answer(
    kind: str, text: str, endpoint: str, waited: float | None, error: Exception, root: BaseException
) -> TransportError:
    """Return the error for a request that got no event at all."""
    detail = f" ({_one_line(root, 200)})" if root is not error and str(root) else ""
    check = "Check the network and the endpoint (%nbchat doctor), then run the cell again."
    way = f"the endpoint {endpoint!r}"
    if proxy := _proxy_of(error):
        way += f" through the proxy {proxy}"
        check = (
            "Check the proxy, unset that variable, or list the endpoint's host in NO_PROXY. Then restart the kernel."
        )
    reached = not any(type(cause).__name__ in _NOT_CONNECTED for cause in _chain(error))
    unsent = None if reached else NOT_CONNECTED
    match kind:
        case "timeout" if not reached:
            return ConnectionFailed(f"the connection to {way} could not be made in time", check, type=unsent)
        case "timeout":
            silence = f" for {waited:g} s" if waited else " in time"
            return ConnectionFailed(f"nothing arrived{silence} from {way}", f"{check} {_RAISE_TIMEOUT}")
        case "connection":
            return ConnectionFailed(f"the connection to {way} failed{detail}", check, type=unsent)
        case "closed":
            return ConnectionFailed(f"the connection to {way} was closed{detail}", check)
        case "nothing" if "event-stream" in text or not text:
            return ConnectionFailed(f"{way} ended the stream without an answer", check)
        case "malformed" | "nothing":
            return ConnectionFailed(
                f"the endpoint {endpoint!r} sent something that is not a Messages API answer: {text[:120]}",
                "Check that the endpoint's base URL belongs to a server that speaks the Messages API.",
            )
    return TransportError(
        f"the request failed: {type(error).__name__}: {text}",
        "Run %nbchat doctor. If the error stays, report it together with this message.",
    )


def _from_status(error: Any, started: bool) -> NbchatError:
    """Return our error for an error that the endpoint answered with."""
    # The type in the body decides, not the status. An `error` event inside a stream arrives under
    # status 200, because the headers were sent long before: there the SDK's class says nothing.
    api_type, text = _type_and_text(error)
    failure = from_api(
        api_type,
        redact(" ".join(text.split()))[:500],
        status=error.status_code,
        request_id=getattr(error, "request_id", None),
        retry_after=retry_after(error),
    )
    if started:
        return StreamError(f"the answer broke off: {failure.message}", failure.hint, type=failure.type)
    message, hint = failure.message, failure.hint
    if error.status_code in (404, 405):
        message += f" (asked: {shown_url(str(error.response.request.url))})"
        if api_type != "not_found_error":  # not the words of the Messages API
            hint = "Check the address of the endpoint: nbchat adds /v1/messages to it, and needs the Messages API."
    elif isinstance(failure, BadRequestError) and _TOO_LONG.search(text):
        hint = "Send less: a shorter prompt, fewer attachments, or no history (--once)."
    else:
        return failure
    return type(failure)(message, hint, status=failure.status, type=failure.type, request_id=failure.request_id)


def _type_and_text(error: Any) -> tuple[str | None, str]:
    """Return the type and the text of an error body: the API's own, or one in a gateway's format."""
    body = error.body if isinstance(getattr(error, "body", None), (Mapping, str)) else {}
    if isinstance(body, str):
        return None, _page_title(body)
    inner = body.get("error")
    if isinstance(inner, Mapping):  # the API's own; llama.cpp sends it without the outer type
        api_type, text = inner.get("type"), inner.get("message")
    elif isinstance(inner, str):  # Ollama: {"error": "model not found"}
        api_type, text = None, inner
    else:  # vLLM: {"object": "error", "message": …}; FastAPI: {"detail": …}
        api_type, text = body.get("type"), body.get("message") or body.get("detail")
    return api_type if isinstance(api_type, str) and api_type != "error" else None, str(text or "")


def _page_title(body: str) -> str:
    """Return a plain-text body as it is, and an HTML page (a proxy's "502 Bad Gateway", say) as its title."""
    if not body.lstrip().startswith("<"):
        return body
    title = re.search(r"<title[^>]*>(.*?)</title", body, re.IGNORECASE | re.DOTALL)
    return f"an HTML page{f', {title[1].strip()!r}' if title else ''}"


def retry_after(error: Any) -> float | None:
    """Return how long the service asks to wait, in seconds; None if it does not ask.

    ``retry-after-ms`` goes before ``retry-after``, which is a number of seconds or a date
    (https://www.rfc-editor.org/rfc/rfc9110#field.retry-after).
    """
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    for name, units_per_second in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            wait_s = float(headers[name]) / units_per_second
        except (KeyError, ValueError):
            continue
        # `float` also reads "nan" and "inf", and neither is a time to wait.
        return wait_s if math.isfinite(wait_s) and wait_s >= 0 else None
    try:
        date = email.utils.parsedate_tz(headers.get("retry-after") or "")
        return None if date is None else max(0.0, email.utils.mktime_tz(date) - time.time())
    except (ValueError, OverflowError):
        return None


def worth_retrying(error: Any) -> bool:
    """Return True if a request that got no event may succeed when it is sent again.

    This is the SDK's own rule (``BaseClient._should_retry``): connection errors, 408, 409, 429, 5xx,
    and ``x-should-retry``. It adds two cases of a stream that ended before its first event: a lost
    connection, and an ``error`` event that blames the service.
    """
    if _ours(error) is not None:
        return False  # a variable of the environment is wrong, and will be wrong again
    if is_status(error):
        status: int = error.status_code
        verdict = error.response.headers.get("x-should-retry")
        if verdict in ("true", "false"):
            return bool(verdict == "true")
        if status == 200:  # an `error` event: only its type tells
            return _type_and_text(error)[0] in ("overloaded_error", "api_error", "rate_limit_error", "timeout_error")
        return status in (408, 409, 429) or status >= 500
    if "anthropic.APIConnectionError" in _class_names(error):  # also the base class of its timeout
        # A key with a line break in it also ends as an APIConnectionError, and fails each time.
        return _kind(error, "", False)[0] in ("connection", "timeout")
    return _listed_kind(error) == "connection"
