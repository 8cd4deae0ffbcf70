"""The asynchronous door of ClaudeTransport: thousands of requests in flight in one event loop.

The arguments of a request, the verdict on a failed attempt, the mapping of errors and the rule for retries are
those of the synchronous door. Only the waiting differs: the event loop keeps the limits, and a
:class:`~nbchat.core.pacing.Pacer` decides when an attempt is repeated.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any

from nbchat.core.errors import NOT_CONNECTED, NbchatError, TransportError
from nbchat.core.pacing import Pacer
from nbchat.core.request import Request
from nbchat.transports.claude.attempt import UNSTREAMED_TIMEOUT_S, Sending
from nbchat.transports.claude.retries import wait_before_retry
from nbchat.transports.claude.sdk_values import brings_content
from nbchat.transports.claude.tolerant_decoder import TolerantDecoder
from nbchat.transports.error_mapping import NothingCame, explain

if TYPE_CHECKING:
    from nbchat.transports.claude.client import AsyncSdkClient
    from nbchat.transports.claude.short_way import ShortWay

__all__ = ["AsyncDoor"]


class AsyncDoor:
    """One asynchronous client, for one event loop.

    Args:
        endpoint: the endpoint's name, for messages.
        client: the SDK's client.
        idle_timeout: how long a stream may go without content, in seconds.
        max_retries: how often a failed attempt is repeated if no pacer decides.
    """

    def __init__(self, endpoint: str, client: AsyncSdkClient, *, idle_timeout: float, max_retries: int) -> None:
        self._endpoint, self._client = endpoint, client
        self._idle_timeout, self._max_retries = idle_timeout, max_retries
        self._short_way = _short_way(client)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def events(self, request: Request, pacer: Pacer | None = None) -> AsyncIterator[dict[str, Any]]:
        """Send the request and yield the events of the answer.

        Args:
            request: the request.
            pacer: decides on retries; None for the rule of a single request.

        Raises:
            TransportError: the endpoint did not answer.
            StreamError: the answer broke off.
        """
        pacer = pacer if pacer is not None else _Patient(self._max_retries)
        number = 0
        while True:
            attempt = AsyncAttempt(
                self._client, request, self._endpoint, self._idle_timeout, pacer, short_way=self._short_way
            )
            # As in the synchronous door, an error after the first event is raised by the attempt itself.
            async for event in attempt.events():
                yield event
            if attempt.error is None:
                return
            waited = self._idle_timeout if request.stream else UNSTREAMED_TIMEOUT_S
            failure = explain(attempt.error, endpoint=self._endpoint, waited=waited)
            if attempt.was_answered and isinstance(failure, TransportError) and failure.type == NOT_CONNECTED:
                failure.type = None  # the endpoint sent a redirect to an address that cannot be used
            wait_s = wait_before_retry(attempt.error, number, self._client)
            attempt.error = None  # the SDK's error can quote keys, and %debug shows the names of this frame
            failed = getattr(failure, "type", None) or type(failure).__name__
            if not await pacer.wait(failure, number, wait_s):
                raise failure
            yield {"type": "notice", "text": failure.message, "failed": failed}
            yield {"type": "notice", "text": ""}
            number += 1


def _short_way(client: AsyncSdkClient) -> ShortWay | None:
    """Return the short way of a client, or None if it has none."""
    try:
        from nbchat.transports.claude.short_way import ShortWay
    except ImportError:  # aiohttp is not installed, or the SDK is made in another way
        return None
    return ShortWay.of(client)


class _Patient:
    """The pacer of a single request: it waits as a cell does, without showing the wait."""

    def __init__(self, max_retries: int) -> None:
        self._max_retries = max_retries

    def note(self, headers: Any) -> None:
        """Nothing else is sent that the limits could hold back."""

    async def wait(self, failure: NbchatError, attempt: int, wait_s: float | None) -> bool:
        if wait_s is None or attempt >= self._max_retries:
            return False
        await asyncio.sleep(wait_s)
        return True


class AsyncAttempt(Sending):
    """One attempt to get an answer. After :meth:`events`, ``error`` is an error that may be retried, or None."""

    def __init__(
        self,
        client: AsyncSdkClient,
        request: Request,
        endpoint: str,
        idle_timeout_s: float,
        pacer: Pacer,
        *,
        short_way: ShortWay | None,
    ) -> None:
        super().__init__(client, request, endpoint=endpoint, idle_timeout_s=idle_timeout_s)
        self._client, self._pacer, self._short_way = client, pacer, short_way
        self.error: Exception | None = None

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """Send the request and yield the events of the answer."""
        error: Exception | None = None
        events = self._streamed() if self._request.stream else self._unstreamed()
        try:
            async for event in events:
                yield event
        except NbchatError:
            raise
        except asyncio.CancelledError as stop:
            stop.unsent = self._deadline.unsent  # type: ignore[attr-defined]
            raise
        except Exception as raised:
            error = raised
        finally:
            await events.aclose()
        try:
            self.error = self._verdict(error)
        finally:
            error = None  # %debug shows the names of this frame

    async def _unstreamed(self) -> AsyncGenerator[dict[str, Any], None]:
        if (short := self._short_way) is not None:
            body, betas = self._body_and_betas()
            answer = await self._within(lambda: short.send({**body, "stream": False}, betas, self._deadline))
            if answer is not None:
                self._note(answer.headers)
                for event in self._whole(answer.body, answer.headers):
                    yield event
                return
        messages = self._client.messages
        # Of the raw response, because the SDK's classes would only be taken apart again.
        create, arguments = messages.with_raw_response.create, self._arguments(messages.create, read_s=None)
        raw = await self._within(lambda: create(stream=False, **arguments))
        self._note(raw.headers)
        for event in self._whole(await raw.read(), raw.headers):
            yield event

    async def _streamed(self) -> AsyncGenerator[dict[str, Any], None]:
        create = self._client.messages.create
        arguments = self._arguments(create, read_s=None)
        stream = await self._within(lambda: create(stream=True, **arguments))
        async with stream:
            response = stream.response
            headers = response.headers
            self._note(headers)
            if "json" in headers.get("content-type", ""):
                # A gateway that cannot stream sends the whole message, or an error under status 200.
                body = await self._within(response.aread)
                for event in self._whole(body, headers):
                    yield event
                return
            stream._decoder = TolerantDecoder(stream._decoder)
            events = aiter(stream)
            while (sdk_event := await self._within(lambda: anext(events, None))) is not None:
                event = self._taken(sdk_event, headers)
                self._deadline.pause()
                yield event
                self._deadline.resume(content=brings_content(event))
                if event.get("type") == "message_stop":
                    self._deadline.linger()
            if not self._started:
                raise NothingCame(headers.get("content-type", ""))

    def _note(self, headers: Mapping[str, str]) -> None:
        # Each look-up of a name takes microseconds, and most servers send no limits.
        if any("ratelimit" in name.lower() for name in headers):
            self._pacer.note(headers)

    async def _within(self, call: Callable[[], Any]) -> Any:
        """Await a call of the SDK for as long as the deadline allows."""
        # In force while the call runs: the hook of the connections tells the deadline when a body begins.
        with self._deadline:
            remaining_s = self._deadline.remaining_s()
            async with asyncio.timeout(max(0.0, remaining_s) if math.isfinite(remaining_s) else None):
                return await call()
