"""Doors: how the asynchronous driver reaches any transport.

A transport with the member ``open_async`` has a door of its own. Any other one answers in threads, which is
slower, and the same to the caller.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from nbchat.core.errors import NbchatError, OverloadedError, RateLimitError
from nbchat.core.pacing import Pacer
from nbchat.core.request import Request, Transport

__all__ = ["AsyncDoor", "open_door", "shared_door"]

#: How many requests a transport without a door of its own answers at once.
THREADS = 32
#: How long the end of Python waits for an event loop of another thread, in seconds.
_EXIT_S = 1.0


class AsyncDoor(Protocol):
    """A transport for an event loop."""

    def events(self, request: Request, pacer: Pacer | None = None) -> AsyncIterator[Mapping[str, Any]]:
        """Send the request and yield the events of the answer.

        Raises:
            TransportError: the endpoint did not answer.
            StreamError: the answer broke off.
        """
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


def open_door(transport: Transport, *, has_spans: bool = False) -> AsyncDoor:
    """Return the door of a transport for the event loop that runs.

    Args:
        transport: the transport.
        has_spans: whether each request has a span of its own, if there is a tracer.

    Raises:
        AuthError, InputError: the transport cannot be used.
    """
    open_async = getattr(transport, "open_async", None)
    if callable(open_async):
        door: AsyncDoor = open_async(has_spans=has_spans)
        return door
    return _ThreadDoor(transport)


def shared_door(transport: Transport) -> AsyncDoor:
    """Return the door of a transport that all single requests in the event loop share, with its connections."""
    loop = asyncio.get_running_loop()
    for other in list(_doors):  # threads have event loops of their own
        if other.is_closed():
            _doors.pop(other, None)
    if loop not in _doors:
        _doors[loop] = _SharedDoors(lambda: _doors.pop(loop, None))
    return _doors[loop].of(transport)


class _SharedDoors:
    """The doors that single requests in one event loop share, by the id of the transport.

    They are closed when the event loop ends, or else when Python does: a connection that nobody closes makes asyncio
    complain on standard error.

    Args:
        closed: called when the doors have been closed.
    """

    def __init__(self, closed: Callable[[], object]) -> None:
        self.process = os.getpid()
        self._closed = closed
        self._doors: dict[int, tuple[Transport, AsyncDoor]] = {}
        # `asyncio.run` ends the generators that have begun.
        self._end = self._closed_at_the_end()
        with contextlib.suppress(StopIteration):
            self._end.__anext__().send(None)

    def of(self, transport: Transport) -> AsyncDoor:
        """Return the door of a transport."""
        if id(transport) not in self._doors:
            # With the transport, so that its id does not become the id of another one.
            self._doors[id(transport)] = (transport, open_door(transport))
        return self._doors[id(transport)][1]

    async def close(self) -> None:
        """Close the doors."""
        self._closed()
        for _, door in self._doors.values():
            await door.close()
        self._doors.clear()

    async def _closed_at_the_end(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self.close()


_doors: dict[asyncio.AbstractEventLoop, _SharedDoors] = {}


@atexit.register
def _close_at_exit() -> None:
    """Close the doors of the event loops that did not end: that of a kernel, or of a thread of our own."""
    for loop, doors in list(_doors.items()):
        # A fork has copies of the connections, which belong to its parent.
        if loop.is_closed() or doors.process != os.getpid():
            continue
        with contextlib.suppress(Exception):
            if loop.is_running():
                asyncio.run_coroutine_threadsafe(doors.close(), loop).result(_EXIT_S)
            else:
                loop.run_until_complete(doors.close())


class _ThreadDoor:
    """The door of a transport that only answers synchronously."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="nbchat-rows")

    async def events(self, request: Request, pacer: Pacer | None = None) -> AsyncIterator[Mapping[str, Any]]:
        attempt = 0
        while True:
            events, failure = await asyncio.get_running_loop().run_in_executor(self._threads, self._read, request)
            # The transport has repeated what it could. Only a run knows when a rate limit is over.
            throttled = isinstance(failure, RateLimitError | OverloadedError) and not events
            if throttled and pacer is not None and isinstance(failure, NbchatError):
                wait_s = getattr(failure, "retry_after", None)
                if await pacer.wait(failure, attempt, wait_s if wait_s is not None else min(0.5 * 2.0**attempt, 8.0)):
                    attempt += 1
                    yield {"type": "notice", "text": failure.message, "failed": type(failure).__name__}
                    yield {"type": "notice", "text": ""}
                    continue
            for event in events:
                yield event
            if failure is not None:
                raise failure
            return

    def _read(self, request: Request) -> tuple[list[Mapping[str, Any]], Exception | None]:
        events: list[Mapping[str, Any]] = []
        try:
            with self._transport.stream(request) as sent:
                for event in sent:
                    events.append(event)
        except Exception as error:
            return events, error
        return events, None

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
