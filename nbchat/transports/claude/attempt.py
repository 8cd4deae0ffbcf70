"""One attempt to get an answer: send the request once and read the events."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from nbchat.core.errors import BROKE_OFF, NbchatError, TransportError
from nbchat.core.parser import events_of
from nbchat.core.request import Request
from nbchat.core.stopping import StoppedBeforeSending
from nbchat.transports.claude.bodies import message_in
from nbchat.transports.claude.client import betas_of, timeout
from nbchat.transports.claude.deadline import Deadline
from nbchat.transports.claude.sdk_values import as_dict, brings_content, whole_message, with_request_id
from nbchat.transports.claude.tolerant_decoder import TolerantDecoder
from nbchat.transports.error_mapping import NothingCame, explain, is_status

if TYPE_CHECKING:
    from nbchat.transports.claude.client import AsyncSdkClient, SdkClient, SdkStream

__all__ = ["FILES_BETA", "UNSTREAMED_TIMEOUT_S", "Attempt", "Sending", "fields_for"]

#: The Files API of older endpoints needs this header. Newer ones accept it:
#: https://platform.claude.com/docs/en/build-with-claude/files
FILES_BETA = "files-api-2025-04-14"

#: How long an answer that is not streamed may take, in seconds. This is the SDK's own value.
UNSTREAMED_TIMEOUT_S = 600.0
#: Parameters of the SDK's methods that are not fields of the API.
_NOT_FIELDS = frozenset({"stream", "extra_headers", "extra_query", "extra_body", "timeout"})


class Sending:
    """What every attempt has in common, however it is sent: its arguments, and what its end means.

    Args:
        client: The SDK's client.
        request: The request to send.
        endpoint: The endpoint's name, for messages.
        idle_timeout_s: How long a stream may go without content, in seconds. An answer that is not
            streamed may take UNSTREAMED_TIMEOUT_S in whole.
    """

    def __init__(
        self, client: SdkClient | AsyncSdkClient, request: Request, *, endpoint: str, idle_timeout_s: float
    ) -> None:
        self._betas = betas_of(client)
        self._request, self._endpoint = request, endpoint
        self._limit_s = idle_timeout_s if request.stream else UNSTREAMED_TIMEOUT_S
        # The clock runs before anything is sent: the headers of an answer can trickle as well.
        self._deadline = Deadline(self._limit_s)
        self._started = False

    @property
    def was_answered(self) -> bool:
        """True if the endpoint sent at least the headers of an answer."""
        return self._deadline.was_answered

    def _verdict(self, error: Exception | None) -> Exception | None:
        """Return the error that ended the attempt before its first event, which may be retried; else None.

        A clean end before ``message_stop`` is not an error here: the parser reports it.

        Raises:
            StreamError: The answer broke off after its first event.
            TransportError: The endpoint sent an error in the form of an answer.
        """
        if self._deadline.message_complete:
            # The answer is complete, so it does not matter how its connection ended.
            return None
        if error is None:
            return None
        # An answer that began was generated, and is billed: asking again would pay for it twice. An
        # error of the API is another matter, because it says itself if a second attempt makes sense.
        if not self._started and (is_status(error) or not self._deadline.body_began):
            return error
        # Raised outside the handler, or Python would attach the SDK's error as the context, key and all.
        failure = explain(error, endpoint=self._endpoint, started=self._started, waited=self._limit_s)
        if isinstance(failure, TransportError) and failure.type is None:
            failure.type = BROKE_OFF
        error = None  # %debug shows the names of this frame
        raise failure

    def _whole(self, body: bytes, headers: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """Yield the events of an answer that came in one piece."""
        json_value = message_in(body, headers.get("content-type", ""))
        message = whole_message(json_value, headers.get("request-id"))
        self._started = True
        yield from events_of(message)

    def _taken(self, sdk_event: Any, headers: Mapping[str, str]) -> dict[str, Any]:
        """Return an event of a stream as a dict."""
        event = as_dict(sdk_event)
        if not self._started and event.get("type") == "message_start":
            self._started = True
            event = with_request_id(event, headers.get("request-id"))
        return event

    def _body_and_betas(self) -> tuple[dict[str, Any], list[str]]:
        """Return the fields of the API, and all betas of the request if it has some of its own."""
        body = self._request.body()
        betas = body.pop("betas") if body.get("betas") else []
        if self._request.file_ids:
            betas = [*betas, FILES_BETA]
        # A header of one request replaces the client's own header of that name.
        return body, list(dict.fromkeys((*self._betas, *betas))) if betas else []

    def _arguments(self, method: Callable[..., object], *, read_s: float | None) -> dict[str, Any]:
        """Return the arguments for ``messages.create``.

        Args:
            method: ``messages.create`` of the client.
            read_s: how long the SDK may wait for a piece of the answer, in seconds; None if the caller keeps the limit.
        """
        body, betas = self._body_and_betas()
        fields = fields_for(method, body)
        rest = {name: value for name, value in body.items() if name not in fields}
        return {
            **fields,
            # Fields the SDK does not know: `temperature` is gone from its methods, and the API may
            # be newer than the installed SDK.
            "extra_body": rest or None,
            "extra_headers": {"anthropic-beta": ",".join(betas)} if betas else None,
            # Passing any timeout also lifts the SDK's limit on `max_tokens` without streaming.
            "timeout": timeout(read_s),
        }


class Attempt(Sending):
    """One attempt to get an answer, in the thread that asks. The arguments are those of :class:`Sending`."""

    def __init__(self, client: SdkClient, request: Request, *, endpoint: str, idle_timeout_s: float) -> None:
        super().__init__(client, request, endpoint=endpoint, idle_timeout_s=idle_timeout_s)
        self._client = client

    def events(self) -> Generator[dict[str, Any], None, Exception | None]:
        """Send the request and yield the events of the answer. Return and raise as :meth:`_verdict` does.

        Raises:
            StoppedBeforeSending: The user stopped the request before anything was sent.
        """
        error: Exception | None = None
        try:
            yield from self._read()
        except NbchatError:
            raise
        except KeyboardInterrupt:
            if self._deadline.unsent:
                raise StoppedBeforeSending from None
            raise
        except Exception as raised:
            error = raised
        try:
            return self._verdict(error)
        finally:
            error = None  # %debug shows the names of this frame

    def _read(self) -> Iterator[dict[str, Any]]:
        messages = self._client.messages
        arguments = self._arguments(messages.create, read_s=self._limit_s)
        if not self._request.stream:
            # The SDK would lose the whole answer with one value that Python cannot read.
            create = messages.with_raw_response.create
            with self._sending():
                answer = create(stream=False, **arguments)
                body = answer.read()
            yield from self._whole(body, answer.headers)
            return
        with self._sending():
            stream = messages.create(stream=True, **arguments)
        with stream:
            headers = stream.response.headers
            if "json" in headers.get("content-type", ""):
                # A gateway that cannot stream sends the whole message, or an error under status 200.
                with self._deadline:
                    body = stream.response.read()
                yield from self._whole(body, headers)
            else:
                yield from self._streamed(stream)

    def _sending(self) -> Deadline:
        """Return the deadline for the code that sends."""
        # A connection that is open already sends at once. A new one says so itself (`connections`).
        self._deadline.unsent = False
        return self._deadline

    def _streamed(self, stream: SdkStream) -> Iterator[dict[str, Any]]:
        headers = stream.response.headers
        # The SDK has no place for a decoder of the caller. It uses only the synchronous half of this one.
        stream._decoder = TolerantDecoder(stream._decoder)
        while True:
            # The deadline is in force while the SDK reads, and not while the caller works on an event.
            with self._deadline:
                sdk_event = next(stream, None)
            if sdk_event is None:
                break
            event = self._taken(sdk_event, headers)
            self._deadline.pause()
            yield event
            self._deadline.resume(content=brings_content(event))
            if event.get("type") == "message_stop":
                # Do not stop reading here: that would close the connection, and the next request
                # would pay for a new one.
                self._deadline.linger()
        if not self._started:
            raise NothingCame(headers.get("content-type", ""))


def fields_for(method: Callable[..., object], body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of ``body`` that a method of the SDK has a parameter for."""
    # A bound method is another object each time, and its function is not.
    parameters = _parameters(getattr(method, "__func__", method))
    return {name: value for name, value in body.items() if name in parameters}


@functools.cache
def _parameters(method: Callable[..., object]) -> frozenset[str]:
    return frozenset(inspect.signature(method).parameters) - _NOT_FIELDS
