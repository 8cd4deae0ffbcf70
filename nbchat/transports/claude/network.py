"""The network below the SDK: which way a request takes.

The SDK and httpx2 read the environment when a client is made. A variable that cannot be used then
breaks every endpoint, also those on this machine, with a traceback that does not name the variable.
:class:`Routes` reads the variables too, but uses them only for the requests that need them.

Importing this module loads httpx2, so it is imported when a client is made, and not before.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
import threading
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import httpx2

from nbchat.certificates import CERTIFICATE_VARIABLES, check_certificates, fix_certificates
from nbchat.core.errors import InputError, keep_secret
from nbchat.transports.claude.connections import limit_transport
from nbchat.transports.claude.deadline import Deadline, current
from nbchat.transports.error_mapping import mark_proxy

if TYPE_CHECKING:
    from nbchat.transports.claude.fast_way import FastWay

__all__ = ["AsyncRoutes", "Routes", "is_loopback"]

#: The SDK's own limits on connections, for clients that it makes itself.
_LIMITS = httpx2.Limits(max_connections=1000, max_keepalive_connections=100)

_T = TypeVar("_T", httpx2.HTTPTransport, httpx2.AsyncHTTPTransport)


class _Ways:
    """The ways that requests take: directly, or through a proxy of the environment.

    A request to a loopback address goes directly, whatever the proxy variables contain: a proxy
    cannot reach the loopback of this machine. ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` are in force for
    every request that needs certificates.
    """

    def __init__(self) -> None:
        self._proxies = _proxies()

    def of(self, url: httpx2.URL) -> tuple[str, _Proxy | None]:
        """Return the name of the way of a request, and its proxy."""
        proxy = self._proxies.get(url.scheme) or self._proxies.get("all")
        if proxy is None or is_loopback(url.host) or _bypasses_proxy(url.host, url.port):
            return ("https" if url.scheme == "https" else "http"), None
        return f"{url.scheme} {proxy.variable}", proxy

    @staticmethod
    def context(way: str, proxy: _Proxy | None) -> ssl.SSLContext:
        """Return the certificates for a way.

        Raises:
            InputError: a variable names certificates that cannot be used.
        """
        # A context without certificates trusts nobody. It is never used for plain HTTP.
        secure = proxy is not None or way == "https"
        return _certificates() if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Routes(httpx2.BaseTransport):
    """An HTTP transport that sends each request directly or through the proxy of the environment."""

    def __init__(self) -> None:
        self._ways = _Ways()
        self._transports: dict[str, httpx2.BaseTransport] = {}
        self._lock = threading.Lock()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request. Errors on the way through a proxy are marked with the proxy's name.

        Raises:
            InputError: A variable of the environment that this request needs cannot be used.
        """
        way, proxy = self._ways.of(request.url)
        if proxy is None:
            return self._transport(way, None).handle_request(request)
        try:
            return self._transport(way, proxy).handle_request(request)
        except httpx2.TransportError as error:
            mark_proxy(error, proxy.note)
            raise

    def _transport(self, way: str, proxy: _Proxy | None) -> httpx2.BaseTransport:
        # Certificates take long to load, and a variable that is wrong must not break a request that
        # does not need it. So each transport is made when the first request takes its route.
        with self._lock:
            if way not in self._transports:
                context = self._ways.context(way, proxy)
                made: httpx2.HTTPTransport = (
                    _direct(httpx2.HTTPTransport, context)
                    if proxy is None
                    else proxy.connect(httpx2.HTTPTransport, context)
                )
                limit_transport(made)
                self._transports[way] = made
            return self._transports[way]

    def close(self) -> None:
        """Close all connections."""
        for transport in self._transports.values():
            transport.close()


class AsyncRoutes(httpx2.AsyncBaseTransport):
    """The asynchronous twin of :class:`Routes`, for thousands of requests in flight.

    aiohttp is the fast way, if it is installed. It is not used through a proxy.

    httpx2 has pools of connections. For each request, a pool asks the system about each of its idle connections. With
    64 of them that takes longer than everything else. So each request in flight has a pool of its own, which the
    next request uses again.
    """

    def __init__(self) -> None:
        self._ways = _Ways()
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._made: list[httpx2.AsyncBaseTransport] = []
        #: For each way without a proxy, its fast way.
        self._fast: dict[str, FastWay | None] = {}
        #: The pools without a request in flight, by the name of the way.
        self._free: dict[str, list[httpx2.AsyncHTTPTransport]] = {}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request. Raises as :meth:`Routes.handle_request` does."""
        way, proxy = self._ways.of(request.url)
        if (fast := self._fast_way(way, proxy)) is not None:
            return await fast.handle_async_request(request)
        free = self._free.setdefault(way, [])
        deadline = current()
        if free:
            # The one that was used last: its connection is open for sure.
            pool = free.pop()
            if deadline is not None:
                deadline.unsent = False
        else:
            pool = self._make(way, proxy)
            if deadline is not None:
                request.extensions = {**request.extensions, "trace": _Sending(deadline).trace}
        try:
            response = await pool.handle_async_request(request)
        except BaseException as error:
            free.append(pool)
            if proxy is not None and isinstance(error, httpx2.TransportError):
                mark_proxy(error, proxy.note)
            raise
        response.stream = _PooledBody(response.stream, lambda: free.append(pool))  # type: ignore[arg-type]
        return response

    def fast_way(self, url: httpx2.URL) -> FastWay | None:
        """Return the transport of aiohttp for an address; None through a proxy, or if aiohttp is missing or too old."""
        return self._fast_way(*self._ways.of(url))

    def _fast_way(self, way: str, proxy: _Proxy | None) -> FastWay | None:
        if proxy is not None:
            return None
        if way not in self._fast:
            try:
                from nbchat.transports.claude.fast_way import FastWay
            except ImportError:
                self._fast[way] = None
            else:
                made = FastWay(self._context(way, None), _socket_options(), _LIMITS.keepalive_expiry)
                self._fast[way] = made
                self._made.append(made)
        return self._fast[way]

    def _make(self, way: str, proxy: _Proxy | None) -> httpx2.AsyncHTTPTransport:
        kind, context = httpx2.AsyncHTTPTransport, self._context(way, proxy)
        made: httpx2.AsyncHTTPTransport = _direct(kind, context) if proxy is None else proxy.connect(kind, context)
        self._made.append(made)
        return made

    def _context(self, way: str, proxy: _Proxy | None) -> ssl.SSLContext:
        if way not in self._contexts:
            self._contexts[way] = self._ways.context(way, proxy)
        return self._contexts[way]

    async def aclose(self) -> None:
        """Close all connections."""
        for made in self._made:
            await made.aclose()


class _Sending:
    """Tells a deadline when the first byte of a request is sent over a new connection.

    https://www.encode.io/httpcore/extensions/#trace
    """

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        if event.endswith("send_request_headers.started"):
            self._deadline.unsent = False


class _PooledBody(httpx2.AsyncByteStream):
    """The body of an answer. Its request is in flight until the body is closed.

    Args:
        stream: the body.
        release: gives the pool back.
    """

    def __init__(self, stream: httpx2.AsyncByteStream, release: Callable[[], None]) -> None:
        self._stream, self._release, self._open = stream, release, True

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._stream.__aiter__()

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            if self._open:
                self._open = False
                self._release()


@dataclass(frozen=True, slots=True)
class _Proxy:
    """A proxy of the environment.

    Attributes:
        variable: The name of the environment variable, or of the system's settings.
        url: The proxy's URL, with its password.
    """

    variable: str
    url: str

    @property
    def address(self) -> str:
        """The URL without user name and password."""
        # The URL may be malformed, so nothing here parses it. Everything before the last @ is left out.
        scheme, separator, rest = self.url.partition("://")
        return f"{scheme}{separator}{rest.rpartition('@')[2]}"

    @property
    def note(self) -> str:
        """The proxy's address and the variable, for an error."""
        return f"{self.address}, from {self.variable}"

    def connect(self, kind: type[_T], context: ssl.SSLContext) -> _T:
        """Return a transport that goes through the proxy.

        Args:
            kind: the class of the transport.
            context: the certificates.

        Raises:
            InputError: The variable does not name a proxy that can be used.
        """
        unset = f"Fix or unset {self.variable}, or list the endpoint's host in NO_PROXY. Then restart the kernel."
        try:
            parsed = httpx2.URL(self.url)
            keep_secret(parsed.password)
            if not parsed.host:
                raise ValueError("it has no host")
            if not parsed.scheme.startswith("socks"):
                return _direct(kind, context, proxy=self.url)
            return kind(verify=context, limits=_LIMITS, proxy=self.url)
        except ImportError:
            failure = InputError(
                f"{self.variable} names a SOCKS proxy, {self.address}, which needs the library socksio. "
                "Nothing was sent",
                f"Install the library with: pip install socksio. Or: {unset}",
            )
        except Exception as error:
            # The reason of httpx2 may quote the URL, and with it the password.
            reason = "" if "@" in self.url else f": {str(error)[:150]}"
            failure = InputError(
                f"{self.variable} does not name a proxy that can be used ({self.address}){reason}. Nothing was sent",
                unset,
            )
        raise failure


def _proxies() -> dict[str, _Proxy]:
    """Return the proxies of the environment, or of the system's settings, by scheme."""
    proxies = {}
    for scheme, url in urllib.request.getproxies().items():
        if scheme not in ("http", "https", "all") or not url.strip():
            continue
        names = [name for name in (f"{scheme}_proxy", f"{scheme.upper()}_PROXY") if os.environ.get(name)]
        url = url.strip()
        _keep_password(url)
        variable = names[0] if names else "the system's proxy settings"
        proxies[scheme] = _Proxy(variable, url if "://" in url else f"http://{url}")
    return proxies


def _keep_password(url: str) -> None:
    # Also of a URL that cannot be parsed: it is quoted in errors of several libraries.
    credentials = url.partition("://")[2].rpartition("@")[0] or url.rpartition("@")[0]
    keep_secret(credentials.partition(":")[2])


def _bypasses_proxy(host: str, port: int | None) -> bool:
    """Return True if NO_PROXY, or the system's own list, excludes a host from the proxy."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if address is not None:
        for entry in (os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or "").split(","):
            try:
                if address in ipaddress.ip_network(entry.strip().strip("[]"), strict=False):
                    return True
            except ValueError:
                continue  # a name, or a network that cannot be parsed: curl ignores those too
    name = f"[{host}]" if ":" in host else host
    return bool(urllib.request.proxy_bypass(f"{name}:{port}" if port else name))


def is_loopback(host: str) -> bool:
    """Return True if a host is this machine itself: ``localhost``, ``127.0.0.2``, ``::1`` and the like.

    >>> [is_loopback(host) for host in ("localhost", "127.1", "[::1]", "api.anthropic.com", "127.0.0.1.example")]
    [True, True, True, False, False]
    """
    host = host.strip("[]").rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):  # https://www.rfc-editor.org/rfc/rfc6761#section-6.3
        return True
    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        try:
            address = ipaddress.IPv4Address(socket.inet_aton(host))  # short forms, such as 127.1
        except (OSError, ValueError):
            return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_unspecified)


def _direct(kind: type[_T], context: ssl.SSLContext, proxy: str | None = None) -> _T:
    """Return a transport with the SDK's own settings for its sockets."""
    return kind(verify=context, limits=_LIMITS, proxy=proxy, socket_options=_socket_options())


def _socket_options() -> list[tuple[int, int, int]]:
    """Return the SDK's own options of a socket: a connection that waits minutes for an answer stays alive."""
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    idle = "TCP_KEEPALIVE" if hasattr(socket, "TCP_KEEPALIVE") else "TCP_KEEPIDLE"
    for name, value in ((idle, 60), ("TCP_KEEPINTVL", 60), ("TCP_KEEPCNT", 5)):
        if hasattr(socket, name):
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    return options


def _certificates() -> ssl.SSLContext:
    """Return the context with the certificates of the environment, or of the system.

    Raises:
        InputError: A variable names certificates that cannot be used.
    """
    check_certificates()
    try:
        return httpx2.create_ssl_context()
    except (OSError, ValueError) as error:
        name = next((name for name in CERTIFICATE_VARIABLES if os.environ.get(name)), "")
        reason = str(error)
    source = f"{name} ({os.environ[name]})" if name else "the system"
    raise InputError(
        f"the certificates of {source} cannot be read: {reason}. Nothing was sent",
        fix_certificates(name) if name else "Set SSL_CERT_FILE to a file with certificates.",
    )
