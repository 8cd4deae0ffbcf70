"""Connections that keep the current deadline, from the look-up of a name to the last byte.

Importing this module loads httpx2, so it is imported when a client is made, and not before.
"""

from __future__ import annotations

import ipaddress
import math
import socket
import ssl
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import httpcore2
import httpx2

from nbchat.threads import start_thread
from nbchat.transports.claude.deadline import Deadline, current

__all__ = ["LimitedBackend", "keep_deadlines", "limit_transport", "report_async_body", "report_body"]

#: A request is sent in parts of this size, in bytes, so that the time for each part is limited.
_PART_BYTES = 65_536
#: How long one step of a wait takes, in seconds.
_WAIT_STEP_S = 0.2


class _LimitedStream(httpcore2.NetworkStream):
    """A connection whose reads and writes end at the current deadline."""

    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _limited(timeout, httpcore2.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        deadline = current()
        if deadline is None:
            self._stream.write(buffer, timeout)
            return
        deadline.unsent = False
        deadline.allow_upload(len(buffer))
        rest = memoryview(buffer)
        while rest:
            self._stream.write(bytes(rest[:_PART_BYTES]), _limited(timeout, httpcore2.WriteTimeout))
            rest = rest[_PART_BYTES:]

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        limit_s = _limited(timeout, httpcore2.ConnectTimeout)
        sock = self._stream.get_extra_info("socket")
        if isinstance(sock, ssl.SSLSocket):
            return _LimitedStream(_tls_in_tls(sock, ssl_context, server_hostname, limit_s))
        return _LimitedStream(self._stream.start_tls(ssl_context, server_hostname, limit_s))

    def close(self) -> None:
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _LimitedSocket:
    """A socket whose every single read and write ends at the current deadline."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self._sock, self._timeout_s = sock, sock.gettimeout()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def settimeout(self, timeout_s: float | None) -> None:
        self._timeout_s = timeout_s

    def recv(self, size: int) -> bytes:
        self._sock.settimeout(_limited(self._timeout_s, TimeoutError))
        return self._sock.recv(size)

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(_limited(self._timeout_s, TimeoutError))
        self._sock.sendall(data)


def _tls_in_tls(
    sock: ssl.SSLSocket, context: ssl.SSLContext, server_hostname: str | None, timeout_s: float | None
) -> httpcore2.NetworkStream:
    """Return a TLS connection inside of the TLS connection to an HTTPS proxy.

    httpcore2 reads the socket many times for one handshake or one read, each time with the whole timeout.
    """
    from httpcore2._backends.sync import TLSinTLSStream

    try:
        return TLSinTLSStream(_LimitedSocket(sock), context, server_hostname, timeout_s)  # type: ignore[arg-type]
    except OSError as error:
        sock.close()
        kind = httpcore2.ConnectTimeout if isinstance(error, TimeoutError) else httpcore2.ConnectError
        raise kind(str(error)) from error


def _addresses(host: str, port: int, timeout_s: float | None) -> list[str]:
    """Return the addresses of a host. Nothing can stop the system's look-up, so it runs in a thread that is left.

    An interrupt ends the wait, too.

    Raises:
        ConnectTimeout: the system did not find the addresses in time.
        ConnectError: there is no such host.
    """
    limit_s = _limited(timeout_s, httpcore2.ConnectTimeout)
    try:
        ipaddress.ip_address(host.strip("[]"))
        return [host]
    except ValueError:
        pass
    found: list[str] = []
    failures: list[OSError] = []
    done = threading.Event()

    def look_up() -> None:
        try:
            found.extend(str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            failures.append(error if isinstance(error, OSError) else OSError(str(error)))
        finally:
            done.set()

    if start_thread(look_up, "nbchat-look-up") is None:
        look_up()
    end = time.monotonic() + (math.inf if limit_s is None else limit_s)
    # In short steps, because Python on Windows notices no interrupt during a long wait.
    while not done.wait(min(_WAIT_STEP_S, max(0.0, end - time.monotonic()))):
        if time.monotonic() >= end:
            raise httpcore2.ConnectTimeout(f"the address of {host} could not be found in time")
    if failures:
        raise httpcore2.ConnectError(str(failures[0])) from failures[0]
    return list(dict.fromkeys(found))


class LimitedBackend(httpcore2.NetworkBackend):
    """A network backend whose connections keep the current deadline."""

    def __init__(self, backend: httpcore2.NetworkBackend) -> None:
        self._backend = backend

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        if (deadline := current()) is not None:
            deadline.unsent = True
        failure: Exception = httpcore2.ConnectError(f"{host} has no address")
        for address in _addresses(host, port, timeout):
            # One by one: the system would try each of them with the whole timeout.
            limit_s = _limited(timeout, httpcore2.ConnectTimeout)
            try:
                stream = self._backend.connect_tcp(address, port, limit_s, local_address, socket_options)
            except KeyboardInterrupt as stop:
                # IPython keeps the last traceback, whose frames would hold the socket open for minutes.
                traceback.clear_frames(stop.__traceback__)
                raise
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
            else:
                return _LimitedStream(stream)
        raise failure

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore2.NetworkStream:
        limit_s = _limited(timeout, httpcore2.ConnectTimeout)
        return _LimitedStream(self._backend.connect_unix_socket(path, limit_s, socket_options))

    def sleep(self, seconds: float) -> None:
        self._backend.sleep(seconds)


def _limited(timeout_s: float | None, expired: Callable[[str], Exception]) -> float | None:
    """Return the shorter of a timeout and the rest of the current deadline, in seconds."""
    deadline = current()
    if deadline is None:
        return timeout_s
    remaining_s = deadline.remaining_s()
    if remaining_s <= 0:
        raise expired("no content came in time")
    return remaining_s if timeout_s is None else min(timeout_s, remaining_s)


def limit_transport(transport: object) -> None:
    """Let the connections of a transport keep the current deadline."""
    # HTTPTransport has no argument for the network backend of its pool, so it is replaced afterwards.
    pool = getattr(transport, "_pool", None)
    backend = getattr(pool, "_network_backend", None)
    if backend is not None and not isinstance(backend, LimitedBackend):
        pool._network_backend = LimitedBackend(backend)  # type: ignore[union-attr]


def keep_deadlines(client: httpx2.Client) -> None:
    """Let the connections of a client that the user made keep the current deadline."""
    for transport in (client._transport, *client._mounts.values()):
        limit_transport(transport)
    hooks = client.event_hooks["response"]
    if report_body not in hooks:
        hooks.append(report_body)


class _Body(httpx2.SyncByteStream):
    """The body of an answer. The deadline learns when its first byte arrives."""

    def __init__(self, stream: httpx2.SyncByteStream, deadline: Deadline, success: bool) -> None:
        self._stream, self._deadline, self._success = stream, deadline, success

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts():
            if part and self._success:
                self._deadline.body_began = True
            yield part
            if self._deadline.remaining_s() <= 0:  # for a transport that has no socket
                raise httpx2.ReadTimeout("no content came in time")

    def _parts(self) -> Iterator[bytes]:
        try:
            yield from self._stream
        except (httpx2.NetworkError, httpx2.ProtocolError):
            # The status says all that counts about an error, also if the body that explains it is cut.
            if self._success:
                raise

    def close(self) -> None:
        self._stream.close()


def report_body(response: httpx2.Response) -> None:
    """Tell the current deadline about the body of a response. This is a ``response`` hook of httpx2."""
    deadline = current()
    if deadline is not None:
        deadline.was_answered = True
    if deadline is not None and isinstance(response.stream, httpx2.SyncByteStream):
        response.stream = _Body(response.stream, deadline, response.is_success)
        if not response.is_success and "content-encoding" in response.headers:
            _decode_error(response)


def _decode_error(response: httpx2.Response) -> None:
    """Read the body of an error. A body that cannot be decoded is empty, because the status says enough."""
    try:
        response.read()
    except httpx2.DecodingError:
        response.close()
        response._content = b""


class _AsyncBody(httpx2.AsyncByteStream):
    """The asynchronous twin of :class:`_Body`. The limit is kept by the event loop."""

    def __init__(self, stream: httpx2.AsyncByteStream, deadline: Deadline, success: bool) -> None:
        self._stream, self._deadline, self._success = stream, deadline, success

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._stream:
                if part and self._success:
                    self._deadline.body_began = True
                yield part
        except (httpx2.NetworkError, httpx2.ProtocolError):
            if self._success:
                raise

    async def aclose(self) -> None:
        await self._stream.aclose()


async def report_async_body(response: httpx2.Response) -> None:
    """Tell the current deadline about the body of a response. This is a ``response`` hook of httpx2."""
    deadline = current()
    if deadline is None:
        return
    deadline.was_answered = True
    if isinstance(response.stream, httpx2.AsyncByteStream):
        response.stream = _AsyncBody(response.stream, deadline, response.is_success)
        if not response.is_success and "content-encoding" in response.headers:
            await _decode_async_error(response)


async def _decode_async_error(response: httpx2.Response) -> None:
    try:
        await response.aread()
    except httpx2.DecodingError:
        await response.aclose()
        response._content = b""
