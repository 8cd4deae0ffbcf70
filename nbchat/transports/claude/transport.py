"""ClaudeTransport: an endpoint that speaks the Messages API."""

from __future__ import annotations

import io
import os
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from nbchat.core.errors import NOT_CONNECTED, NbchatError, TransportError, keep_secret
from nbchat.core.request import Request
from nbchat.core.secrets import keep_url, redact_message
from nbchat.transports.claude.attempt import FILES_BETA, UNSTREAMED_TIMEOUT_S, Attempt, fields_for
from nbchat.transports.claude.client import NO_CREDENTIALS, betas_of, connect, connect_async, timeout
from nbchat.transports.claude.deadline import Deadline, current
from nbchat.transports.claude.retries import count_down, wait_before_retry
from nbchat.transports.claude.sdk_values import as_dict
from nbchat.transports.error_mapping import explain

if TYPE_CHECKING:
    from nbchat.transports.claude.asynchronous import AsyncDoor
    from nbchat.transports.claude.batches import Batches
    from nbchat.transports.claude.client import SdkClient

__all__ = ["ClaudeTransport"]

#: How long the Models API may take, in seconds. An answer does not wait longer than that for it.
MODELS_TIMEOUT_S = 5.0
#: How long counting the tokens of a prompt may take, in seconds.
COUNT_TIMEOUT_S = 30.0
#: How long a file may stay without progress, in seconds, while it is uploaded or downloaded.
FILES_TIMEOUT_S = 60.0

T = TypeVar("T")

_transports: weakref.WeakSet[ClaudeTransport] = weakref.WeakSet()
#: Clients of the process this one was forked from. They are kept so that nothing closes them here.
_clients_of_parent: list[SdkClient] = []


class ClaudeTransport:
    """An endpoint that speaks the Messages API. Threads may share a transport.

    Args:
        name: A name in :data:`nbchat.models.PLATFORMS`, whose SDK client reads its own environment variables, or any
            other name together with ``base_url``.
        base_url: The address of the server; None for the platform's own address.
        api_key: The key; None to let the SDK search for credentials.
        idle_timeout: How long a stream may go without content, in seconds. Pings are not content.
        max_retries: How often a failed attempt is repeated. After the first event nothing is repeated.
        sleep: The function that waits between attempts.
        client_options: More arguments for the SDK's client class.
    """

    def __init__(
        self,
        name: str = "anthropic",
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        idle_timeout: float = 120.0,
        max_retries: int = 2,
        sleep: Callable[[float], None] = time.sleep,
        **client_options: Any,
    ) -> None:
        self.name, self.base_url = name, base_url
        self._api_key = api_key.strip() if api_key else None
        self._idle_timeout, self._max_retries, self._sleep = idle_timeout, max_retries, sleep
        self._client_options = client_options
        self._client: SdkClient | None = None
        self._lock = threading.Lock()
        _transports.add(self)
        keep_secret(self._api_key)
        if base_url:
            keep_url(base_url)

    def __repr__(self) -> str:
        return redact_message(f"ClaudeTransport({self.name!r}, base_url={self.base_url!r})")

    @property
    def client(self) -> SdkClient:
        """The SDK's client. It is made at the first use.

        Raises:
            AuthError: There are no usable credentials.
            InputError: The platform's library is not installed, or the address is not usable.
        """
        # Without the lock, two threads would make two clients, each with its own connections.
        with self._lock:
            if self._client is None:
                self._client = connect(
                    self.name, base_url=self.base_url, api_key=self._api_key, options=self._client_options
                )
            return self._client

    def has_credentials(self) -> bool:
        """Return True if the SDK finds credentials for this endpoint. Nothing is sent.

        Also return True for credentials that cannot be used. The next request then says why, which
        is better than an answer from another endpoint.
        """
        try:
            return bool(self.client)
        except NbchatError as error:
            return getattr(error, "type", None) != NO_CREDENTIALS

    @contextmanager
    def stream(self, request: Request) -> Iterator[Iterator[dict[str, Any]]]:
        """Send the request and give an iterator over the events of the answer.

        Leaving the context closes the connection.

        Args:
            request: The request. If its ``stream`` is False, the answer arrives in one piece, and
                the iterator yields the events that would have streamed it.

        Raises:
            TransportError: There was no answer (raised by the iterator).
            StreamError: The answer broke off (raised by the iterator).
        """
        events = self._events(request)
        try:
            yield events
        finally:
            events.close()

    def _events(self, request: Request) -> Generator[dict[str, Any], None, None]:
        """Yield the events of the answer, repeating attempts that fail before their first event."""
        client = self.client
        for number in range(self._max_retries + 1):
            attempt = Attempt(client, request, endpoint=self.name, idle_timeout_s=self._idle_timeout)
            # An error is returned only while the user has seen nothing. After the first event it is
            # raised, because a second answer would not continue the text that is on the screen.
            error = yield from attempt.events()
            if error is None:
                return
            waited = self._idle_timeout if request.stream else UNSTREAMED_TIMEOUT_S
            failure = explain(error, endpoint=self.name, waited=waited)
            if attempt.was_answered and isinstance(failure, TransportError) and failure.type == NOT_CONNECTED:
                failure.type = None  # the endpoint sent a redirect to an address that cannot be used
            wait_s = wait_before_retry(error, number, client) if number < self._max_retries else None
            # The SDK's error can quote what the endpoint sent back, keys and all. %debug shows the names of this frame.
            error = None
            if wait_s is None:
                raise failure
            next_attempt = f"try {number + 2} of {self._max_retries + 1}"
            yield from count_down(wait_s, failure, next_attempt, self._sleep)

    def open_async(self, *, has_spans: bool = False) -> AsyncDoor:
        """Return a door for many requests at once, for the event loop that runs. The caller closes the door.

        Args:
            has_spans: whether the SDK makes a span for each request, if there is a tracer.

        Raises:
            AuthError, InputError: as for :attr:`client`.
        """
        # Imported here, because cells need no event loop.
        from nbchat.transports.claude.asynchronous import AsyncDoor

        client = connect_async(
            self.name,
            base_url=self.base_url,
            api_key=self._api_key,
            options=self._client_options,
            has_spans=has_spans,
        )
        return AsyncDoor(self.name, client, idle_timeout=self._idle_timeout, max_retries=self._max_retries)

    def batches(self) -> Batches:
        """Return the Message Batches API of the endpoint. Nothing is sent.

        Raises:
            AuthError, InputError: as for :attr:`client`.
        """
        from nbchat.transports.claude.batches import Batches

        return Batches(self.name, self.client, max_retries=self._max_retries, sleep=self._sleep)

    def count_tokens(self, request: Request) -> int:
        """Ask the endpoint for the number of tokens in the request's prompt.

        Raises:
            TransportError: The endpoint did not answer, or cannot count.
        """

        def ask(client: SdkClient) -> int:
            fields = fields_for(client.messages.count_tokens, request.body())
            return client.messages.count_tokens(**fields, timeout=timeout(COUNT_TIMEOUT_S)).input_tokens

        return self._ask(ask, COUNT_TIMEOUT_S)

    def models(self) -> list[dict[str, Any]]:
        """Ask the endpoint for its models, as dicts of the Models API.

        Raises:
            TransportError: The endpoint did not answer, or has no Models API.
        """
        return self._ask(
            lambda client: [as_dict(model) for model in client.models.list(limit=100, timeout=MODELS_TIMEOUT_S)],
            MODELS_TIMEOUT_S,
        )

    def describe(self, model: str) -> dict[str, Any]:
        """Ask the endpoint for one model, as a dict of the Models API.

        Raises:
            TransportError: The endpoint did not answer, or does not know the model.
        """
        return self._ask(
            lambda client: as_dict(client.models.retrieve(model, timeout=MODELS_TIMEOUT_S)), MODELS_TIMEOUT_S
        )

    def file_metadata(self, file_id: str) -> dict[str, Any]:
        """Ask the Files API for one file, as a dict.

        Raises:
            TransportError: The endpoint did not answer, or has no such file.
        """
        return self._ask(
            lambda client: as_dict(
                client.files.retrieve_metadata(
                    file_id, extra_headers=_files_headers(client), timeout=timeout(MODELS_TIMEOUT_S)
                )
            ),
            MODELS_TIMEOUT_S,
        )

    def download(self, file_id: str, write: Callable[[bytes], object]) -> None:
        """Give the content of a file of the Files API to ``write``, piece by piece.

        Raises:
            TransportError: The endpoint did not answer, has no such file, or the download broke off.
        """
        writing: list[Exception] = []

        def ask(client: SdkClient) -> None:
            files = client.files.with_streaming_response
            with files.download(
                file_id, extra_headers=_files_headers(client), timeout=timeout(FILES_TIMEOUT_S)
            ) as response:
                for piece in response.iter_bytes():
                    try:
                        write(piece)
                    except Exception as error:  # of the caller, for example of a disk that is full
                        writing.append(error)
                        return
                    _note_progress()

        self._ask(ask, FILES_TIMEOUT_S)
        if writing:
            raise writing[0]

    def upload(self, name: str, media_type: str, content: bytes | Path) -> dict[str, Any]:
        """Upload a file to the Files API, and return its description as a dict.

        Args:
            name: The name of the file.
            media_type: The media type.
            content: The bytes, or the path of a file.

        Raises:
            TransportError: The endpoint did not take the file.
            OSError: The file cannot be read.
        """
        with _BytesOnTheWay(content) if isinstance(content, bytes) else _FileOnTheWay(content) as file:
            return self._ask(
                lambda client: as_dict(
                    client.files.upload(
                        file=(name, file, media_type),
                        extra_headers=_files_headers(client),
                        timeout=timeout(FILES_TIMEOUT_S),
                    )
                ),
                FILES_TIMEOUT_S,
            )

    def _ask(self, ask: Callable[[SdkClient], T], timeout_s: float) -> T:
        """Call ``ask`` with the client. Every error of the SDK becomes one of ours."""
        client = self.client
        try:
            # The whole call has the limit, with all its pages. A timeout of httpx2 holds for each read.
            with Deadline(timeout_s):
                return ask(client)
        except Exception as error:
            failure = explain(error, endpoint=self.name, waited=timeout_s)
        # Raised outside the handler, or Python would attach the SDK's error as the context, key and all.
        raise failure


def _files_headers(client: SdkClient) -> dict[str, str]:
    # A header of one request replaces the client's own header of that name.
    return {"anthropic-beta": ",".join(dict.fromkeys((*betas_of(client), FILES_BETA)))}


def _note_progress() -> None:
    """Give the whole limit again to the call that runs, because a part of a file has moved."""
    if (deadline := current()) is not None:
        deadline.resume(content=True)


class _BytesOnTheWay(io.BytesIO):
    """Bytes to upload. Each read of them is progress."""

    def read(self, size: int | None = -1, /) -> bytes:
        _note_progress()
        return super().read(size)


class _FileOnTheWay(io.FileIO):
    """A file to upload. Each read of it is progress."""

    def read(self, size: int | None = -1, /) -> bytes:
        _note_progress()
        return super().read(-1 if size is None else size) or b""


def _leave_clients_to_parent() -> None:
    """Let each transport of a forked process make a client of its own.

    Both processes would otherwise read from the same connections, and each could get the other's
    answer. multiprocessing forks by default on Linux up to Python 3.13.
    """
    for transport in _transports:
        if transport._client is not None:
            _clients_of_parent.append(transport._client)
            transport._client = None
        # A thread of the parent may hold the lock. That thread does not exist here.
        transport._lock = threading.Lock()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_leave_clients_to_parent)
