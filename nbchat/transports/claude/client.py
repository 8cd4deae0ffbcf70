"""The SDK's client: making it, finding its credentials, and keeping its secrets.

Only this module imports anthropic, and only when a client is made, because the import takes over a
second. The same holds for the modules `network` and `connections`, which import httpx2.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import urllib.parse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from nbchat.certificates import check_certificates
from nbchat.core.errors import AuthError, ConnectionFailed, InputError, NbchatError, keep_secret
from nbchat.core.secrets import keep_header
from nbchat.models import PLATFORMS
from nbchat.transports.error_mapping import explain
from nbchat.transports.ways_out import ways_out

if TYPE_CHECKING:
    from anthropic import Anthropic, AsyncAnthropic, Stream, Timeout

    #: The client of Anthropic's own API. The clients of the other platforms have the same methods.
    SdkClient: TypeAlias = Anthropic
    #: The asynchronous client.
    AsyncSdkClient: TypeAlias = AsyncAnthropic
    #: A streamed answer. Its events are Any because the SDK does not validate them.
    SdkStream: TypeAlias = Stream[Any]

__all__ = ["NO_CREDENTIALS", "betas_of", "connect", "connect_async", "is_installed", "open_lines", "preload", "timeout"]

#: The ``type`` of the AuthError that is raised when no credentials were found.
NO_CREDENTIALS = "no_credentials"
#: How long opening a connection may take, in seconds. This is the SDK's own value.
CONNECT_TIMEOUT_S = 5.0

#: Attributes of the SDK's clients that hold a secret.
_SECRET_ATTRIBUTES = ("api_key", "auth_token", "aws_secret_key", "aws_session_token")
#: The variables in which the SDK finds the address of a platform. The paths of Bedrock and Vertex differ.
_ADDRESS_VARIABLES = {"anthropic": "ANTHROPIC_BASE_URL", "foundry": "ANTHROPIC_FOUNDRY_BASE_URL"}
#: The end of a path that the SDK adds itself, and the paths of an OpenAI API, which people copy.
_API_PATH = re.compile(
    r"(?:/+v1(?:/+(?:messages|models|complete|completions|chat/completions|responses))?)+/*$", re.IGNORECASE
)
_KEY_HEADERS = frozenset({"authorization", "x-api-key"})
#: Headers whose values are public words, which must not be removed from texts.
_PUBLIC_HEADERS = frozenset(
    (
        *("accept", "accept-encoding", "accept-language", "anthropic-beta", "anthropic-version", "cache-control"),
        *("anthropic-dangerous-direct-browser-access", "connection", "content-type", "http-referer", "origin"),
        *("referer", "user-agent", "x-title"),
    )
)


def connect(name: str, *, base_url: str | None, api_key: str | None, options: Mapping[str, Any]) -> SdkClient:
    """Make the SDK's client for an endpoint. Nothing is sent.

    Args:
        name: The endpoint: a name in PLATFORMS, or any other name together with ``base_url``.
        base_url: The address of the server; None for the platform's own address.
        api_key: The key; None to let the SDK search for credentials.
        options: More arguments for the SDK's class.

    Raises:
        AuthError: There are no usable credentials.
        InputError: The platform's library is not installed, or ``base_url`` is not an HTTP address.
    """
    return cast("SdkClient", _connect(name, base_url, api_key, options, is_async=False))


def connect_async(
    name: str, *, base_url: str | None, api_key: str | None, options: Mapping[str, Any], has_spans: bool = False
) -> AsyncSdkClient:
    """Make the SDK's asynchronous client for an endpoint. Nothing is sent.

    Args:
        name: as for :func:`connect`, like the other arguments.
        base_url: the address of the server; None for the platform's own address.
        api_key: the key; None to let the SDK search for credentials.
        options: more arguments for the SDK's class. A synchronous ``http_client`` among them is left out.
        has_spans: whether the SDK makes a span for each request, if there is a tracer.

    Raises:
        AuthError, InputError: as from :func:`connect`.
    """
    options = {key: value for key, value in options.items() if key != "http_client"}
    if not has_spans:
        # A run has one span. Thousands of spans of requests would hide it.
        options = {"open_telemetry": {"traces": {"enabled": False}, "propagation": False}, **options}
    return cast("AsyncSdkClient", _connect(name, base_url, api_key, options, is_async=True))


def _connect(
    name: str, base_url: str | None, api_key: str | None, options: Mapping[str, Any], *, is_async: bool
) -> SdkClient | AsyncSdkClient:
    _check_library(name)
    _check_address(name, base_url)
    arguments = _arguments(name, base_url, api_key, options, is_async)
    client = _without_trace_headers(_construct(name, arguments, is_async))
    if name not in PLATFORMS:
        # The SDK adds the headers of ANTHROPIC_CUSTOM_HEADERS. They are not meant for this server.
        client._custom_headers = arguments.get("default_headers") or {}
    _keep_secrets(client)
    if name == "anthropic" and not _has_credentials(client):
        blank = " (ANTHROPIC_API_KEY is set, but blank)" if os.environ.get("ANTHROPIC_API_KEY") else ""
        raise AuthError(
            f"no credentials for the Anthropic API were found, so nothing was sent{blank}",
            ways_out(),
            type=NO_CREDENTIALS,
        )
    return client


def _check_library(name: str) -> None:
    # The SDK imports a platform's library only when it sends. The user should know before that.
    library = PLATFORMS[name].library if name in PLATFORMS else None
    if not is_installed(library):
        raise explain(ModuleNotFoundError(f"No module named {library!r}"), endpoint=name)


def _check_address(name: str, base_url: str | None) -> None:
    if base_url and not re.match(r"https?://", base_url.strip(), re.IGNORECASE):
        raise InputError(
            f"the address {base_url!r} of the endpoint {name!r} does not begin with http:// or https://",
            "Write the whole address, after --endpoint or in the setting Nbchat.endpoints.",
        )


def _arguments(
    name: str, base_url: str | None, api_key: str | None, options: Mapping[str, Any], is_async: bool
) -> dict[str, Any]:
    """Return the arguments for the SDK's class."""
    import anthropic

    from nbchat.transports.claude import connections, network

    # The SDK's own retries are off. It would sleep for an hour if a service asked for that, and
    # would show nothing in the meantime. Our retries are in the module `retries`.
    arguments: dict[str, Any] = {"max_retries": 0, **options}
    if is_async:
        arguments["http_client"] = anthropic.DefaultAsyncHttpxClient(
            transport=network.AsyncRoutes(), event_hooks={"response": [connections.report_async_body]}
        )
    elif "http_client" in options:
        connections.keep_deadlines(options["http_client"])
    else:
        # httpx2 would read the proxy variables here. A variable that is malformed would break every
        # endpoint, also those on this machine, and a proxy cannot reach the loopback anyway.
        arguments["http_client"] = anthropic.DefaultHttpxClient(
            transport=network.Routes(), event_hooks={"response": [connections.report_body]}
        )
    address = base_url or os.environ.get(_ADDRESS_VARIABLES.get(name, ""))
    if address and (name in _ADDRESS_VARIABLES or name not in PLATFORMS):
        arguments["base_url"], query = _split_address(address)
        if query:
            arguments["default_query"] = {**query, **options.get("default_query", {})}
    elif address:
        arguments["base_url"] = address
    if api_key:
        arguments["api_key"] = api_key
    elif name not in PLATFORMS:
        # A self-hosted server often needs no key, but the SDK insists on one. Without this line it
        # would also take ANTHROPIC_API_KEY and send that key to a server it is not meant for.
        arguments["api_key"] = "none"
        headers = options.get("default_headers") or {}
        if not any(header.lower() == "authorization" for header in headers):
            arguments["default_headers"] = {**headers, "Authorization": anthropic.omit}
    return arguments


def _split_address(address: str) -> tuple[str, dict[str, str]]:
    """Return the address that the SDK adds ``/v1/messages`` to, and the query of every request.

    >>> _split_address("http://localhost:11434/v1/")
    ('http://localhost:11434', {})
    """
    try:
        parts = urllib.parse.urlsplit(address.strip())
    except ValueError:  # such as a bracket that is not closed; the SDK says what is wrong
        return address, {}
    path = _API_PATH.sub("", parts.path).rstrip("/")
    # The SDK would append its path to the query.
    return f"{parts.scheme}://{parts.netloc}{path}", dict(urllib.parse.parse_qsl(parts.query))


def _construct(name: str, arguments: dict[str, Any], is_async: bool) -> SdkClient | AsyncSdkClient:
    """Call the SDK's class. Every error it raises becomes one of ours."""
    import anthropic

    try:
        sdk_class = PLATFORMS[name].client if name in PLATFORMS else "Anthropic"
        client: SdkClient | AsyncSdkClient = getattr(anthropic, f"{'Async' * is_async}{sdk_class}")(**arguments)
        return client
    except Exception as error:
        failure = _explain_setup(name, error)
    # Raised outside the handler, or Python would attach the SDK's error as the context, key and all.
    raise failure


def _explain_setup(name: str, error: Exception) -> NbchatError:
    failure = explain(error, endpoint=name)
    if isinstance(error.__cause__, FileNotFoundError) and not os.environ.get("ANTHROPIC_PROFILE"):
        # With ANTHROPIC_CONFIG_DIR set, the SDK expects a default profile in that folder. The user
        # did not name a profile, so its absence only means that there are no credentials.
        return AuthError(failure.message, failure.hint, type=NO_CREDENTIALS)
    if isinstance(failure, ConnectionFailed):
        # The SDK makes a client of its own to fetch a token. Its error does not name the variable.
        try:
            check_certificates()
        except InputError as wrong:
            return wrong
    if isinstance(failure, (AuthError, InputError, ConnectionFailed)):
        return failure
    return AuthError(f"the endpoint {name!r} cannot be set up: {error}", ways_out(name))


def _keep_secrets(client: SdkClient | AsyncSdkClient) -> None:
    """Strip white space from the client's keys, and register each key to be redacted."""
    for attribute in _SECRET_ATTRIBUTES:
        secret = getattr(client, attribute, None)
        if isinstance(secret, str) and secret != secret.strip():
            # A key is easily copied together with a line break. h11 refuses such a header and
            # quotes it, with the key, in its error.
            secret = secret.strip() or None
            setattr(client, attribute, secret)
        keep_secret(secret)
    for header, value in _custom_headers(client).items():
        # An error of a gateway may echo what it got.
        if header.lower() not in _PUBLIC_HEADERS and isinstance(value, str):
            keep_header(header, value)


def _has_credentials(client: SdkClient | AsyncSdkClient) -> bool:
    # Without any of these the SDK raises a bare TypeError when it sends. A key in a header that
    # ANTHROPIC_CUSTOM_HEADERS sets counts as well.
    headers = {header.lower() for header in _custom_headers(client)}
    credentials = getattr(client, "credentials", None)
    return bool(client.api_key or client.auth_token or credentials or headers & _KEY_HEADERS)


def betas_of(client: SdkClient | AsyncSdkClient) -> list[str]:
    """Return the betas that the client sends with each request, from a header of its own."""
    for header, value in _custom_headers(client).items():
        if header.lower() == "anthropic-beta" and isinstance(value, str):
            return [beta.strip() for beta in value.split(",") if beta.strip()]
    return []


def _custom_headers(client: SdkClient | AsyncSdkClient) -> Mapping[str, object]:
    return getattr(client, "_custom_headers", None) or {}


def _without_trace_headers(client: SdkClient | AsyncSdkClient) -> SdkClient | AsyncSdkClient:
    """Return the client with ``traceparent`` and ``baggage`` switched off.

    The SDK sends both as soon as a tracer is registered, and the user's baggage with them.
    ``ANTHROPIC_OPEN_TELEMETRY_PROPAGATION=true`` asks for them.
    """
    telemetry = getattr(client, "open_telemetry", None)
    wanted = os.environ.get("ANTHROPIC_OPEN_TELEMETRY_PROPAGATION", "").lower() == "true"
    if not isinstance(telemetry, Mapping) or wanted or not telemetry.get("propagation"):
        return client
    options: Any = {**telemetry, "propagation": False}
    return client.with_options(open_telemetry=options)


def is_installed(module: str | None) -> bool:
    """Return True if ``module`` can be imported, or is None."""
    try:
        return module is None or importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # raised for "google.auth" if "google" is missing too
        return False


@functools.cache
def timeout(read_s: float | None) -> Timeout:
    """Return the SDK's timeout for a request.

    Args:
        read_s: how long to wait between two pieces of the answer, in seconds; None if the caller keeps that limit.
    """
    import anthropic

    return anthropic.Timeout(read_s, connect=CONNECT_TIMEOUT_S)


def open_lines(client: SdkClient, path: str, read_s: float) -> Any:
    """Send a GET for JSON lines, and return the response before its body is read. The caller closes the response.

    Args:
        client: the client.
        path: the path of the address.
        read_s: how long one read may take, in seconds.
    """
    from anthropic._decoders.jsonl import JSONLDecoder

    options: Any = {"headers": {"Accept": "application/binary"}, "timeout": timeout(read_s)}
    decoder: Any = client.get(path, cast_to=cast("Any", JSONLDecoder[object]), options=options, stream=True)
    return decoder.http_response


def preload() -> None:
    """Import the SDK. This takes over a second, so call it in a background thread."""
    import anthropic  # noqa: F401
