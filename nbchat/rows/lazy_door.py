"""The door of an endpoint that is opened with the first request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from nbchat.core.pacing import Pacer
from nbchat.core.request import Request
from nbchat.engine.async_doors import AsyncDoor, open_door, shared_door
from nbchat.engine.endpoint import Endpoint

__all__ = ["LazyDoor"]


class LazyDoor:
    """The door of the endpoint, opened with the first request: a replay needs no credentials and no connection.

    Args:
        endpoint: the endpoint.
        has_spans: whether each request has a span of its own.
        is_shared: whether the door is the one of the event loop, which stays open.
        opened: called when the door has been opened, which holds the event loop up for a second.
    """

    def __init__(
        self, endpoint: Endpoint, has_spans: bool, *, is_shared: bool = False, opened: Callable[[], None] = lambda: None
    ) -> None:
        self._endpoint, self._has_spans, self._is_shared, self._opened = endpoint, has_spans, is_shared, opened
        self._door: AsyncDoor | None = None

    def events(self, request: Request, pacer: Pacer | None = None) -> AsyncIterator[Mapping[str, Any]]:
        """Send the request and yield the events of the answer, as :class:`AsyncDoor` says."""
        if self._door is None:
            transport = self._endpoint.transport
            if self._is_shared:
                self._door = shared_door(transport)
            else:
                self._door = open_door(transport, has_spans=self._has_spans)
            self._opened()
        return self._door.events(request, pacer)

    async def close(self) -> None:
        """Close all connections, if there are any that nobody else uses."""
        if self._door is not None and not self._is_shared:
            await self._door.close()
