"""The Messages API through the anthropic SDK: the only door to anthropic and httpx2.

What the SDK leaves to its caller is done here: errors of every layer become ours, a wait that the
service asks for is shown and bounded, a stream that sends only pings does not last for ever, and a
key is stripped before use and kept out of every message.
"""

from __future__ import annotations

import inspect
import os
import random
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from nbchat.core.errors import AuthError, InputError, NbchatError, StreamError, keep_secret
from nbchat.core.parser import events_of
from nbchat.core.request import Request
from nbchat.transports.faults import explain, retry_after, ways_out, worth_retrying

__all__ = ["ClaudeTransport", "preload"]

#: No single wait before a retry is longer, in seconds; the SDK itself would sleep an hour if told to.
LONGEST_WAIT = 60.0
#: After ``message_stop`` the answer is whole; this long the rest of the body may take, in seconds.
LINGER = 0.25
PLATFORMS = {
    "anthropic": "Anthropic",
    "bedrock": "AnthropicBedrock",
    "vertex": "AnthropicVertex",
    "foundry": "AnthropicFoundry",
}


class ClaudeTransport:
    """An endpoint that speaks the Messages API.

    ``name`` is one of PLATFORMS, whose SDK client reads its own environment, or any name together
    with a ``base_url``. ``idle_timeout`` is how long, in seconds, content may fail to come; pings
    do not count. ``max_retries`` counts tries after the first, all before the first event.
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
        self._client: Any = None
        self._lock = threading.Lock()
        keep_secret(self._api_key)

    # The client

    @property
    def client(self) -> Any:
        """The SDK's client, made at the first use; it may be shared by threads.

        Raises:
            AuthError: there are no credentials for it.
            InputError: a library of this platform is not installed.
        """
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def has_credentials(self) -> bool:
        """Whether the SDK finds credentials for this endpoint; nothing is sent."""
        try:
            return bool(self.client)
        except NbchatError:
            return False

    def _connect(self) -> Any:
        import anthropic

        options: dict[str, Any] = {"max_retries": 0, **self._client_options}  # retries are ours: see _events
        if self.base_url:
            options["base_url"] = self.base_url
        if self._api_key:
            options["api_key"] = self._api_key
        elif self.name not in PLATFORMS:
            # A server of one's own often wants no key; the SDK insists on one, so it gets a name for it.
            options["api_key"] = "none"
        elif self.name == "anthropic" and (key := os.environ.get("ANTHROPIC_API_KEY", "")) != key.strip():
            options["api_key"] = key.strip() or None
        try:
            client = getattr(anthropic, PLATFORMS.get(self.name, "Anthropic"))(**options)
        except (anthropic.AnthropicError, ValueError, TypeError, ImportError) as error:
            found = explain(error, endpoint=self.name, started=False)
            if isinstance(found, (AuthError, InputError)):
                raise found from None
            raise AuthError(f"the endpoint {self.name!r} cannot be set up: {error}", ways_out()) from None
        if self.name == "anthropic" and not self._authorised(client):
            raise AuthError("no credentials for the Anthropic API were found, so nothing was sent", ways_out())
        for secret in ("api_key", "auth_token"):
            keep_secret(getattr(client, secret, None))
        return _without_propagation(client)

    @staticmethod
    def _authorised(client: Any) -> bool:
        # https://github.com/anthropics/anthropic-sdk-python: without any of these the SDK raises a TypeError
        # when it sends; a header given through ANTHROPIC_CUSTOM_HEADERS counts as well.
        headers = {name.lower() for name in getattr(client, "_custom_headers", {}) or {}}
        return bool(
            (client.api_key or "").strip()
            or (client.auth_token or "").strip()
            or getattr(client, "credentials", None)
            or headers & {"authorization", "x-api-key"}
        )

    # The answer

    @contextmanager
    def stream(self, request: Request) -> Iterator[Iterator[dict[str, Any]]]:
        """The events of the answer as dicts; leaving the context closes the connection.

        Raises (from the iterator):
            TransportError: no answer; StreamError: it broke off.
        """
        events = self._events(request)
        try:
            yield events
        finally:
            events.close()

    def _events(self, request: Request) -> Generator[dict[str, Any], None, None]:
        client = self.client
        for attempt in range(self._max_retries + 1):
            try:
                yield from self._attempt(client, request)
                return
            except _NoAnswer as failed:
                wait = self._wait_for(failed.error, attempt)
                if wait is None:
                    raise self._explained(failed.error, started=False) from None
                failure = self._explained(failed.error, started=False)
            yield from self._count_down(wait, failure, attempt)

    def _attempt(self, client: Any, request: Request) -> Generator[dict[str, Any], None, None]:
        """One try. _NoAnswer before the first event, StreamError after it."""
        started = False
        watch = _Watch(self._idle_timeout)
        try:
            answer = self._send(client, request)
            if not request.stream:
                message = answer.to_dict(mode="json", warnings=False)
                message["_request_id"] = getattr(answer, "_request_id", None)
                started = True
                yield from events_of(message)
                return
            with answer, watch.over(answer):
                for event in answer:
                    watch.touch()
                    plain = event.to_dict(mode="json", warnings=False)
                    if not started:
                        started = True
                        _keep_request_id(plain, answer)
                    yield plain
                    if plain.get("type") == "message_stop":
                        watch.linger()
        except NbchatError:
            raise
        except Exception as error:
            if watch.whole:
                return  # the answer was complete; how its connection ended does not matter
            if watch.expired:
                raise StreamError(
                    f"the answer broke off: no content for {self._idle_timeout:.0f} s",
                    "What arrived is kept. Run the cell again, or raise c.Nbchat.idle_timeout (seconds).",
                ) from None
            if not started:
                raise _NoAnswer(error) from None
            raise self._explained(error, started=True) from None

    def _send(self, client: Any, request: Request) -> Any:
        import httpx2

        body = request.body()
        headers = {"anthropic-beta": ",".join(body.pop("betas"))} if body.get("betas") else {}
        known = inspect.signature(client.messages.create).parameters
        arguments = {name: value for name, value in body.items() if name in known}
        rest = {name: value for name, value in body.items() if name not in known}
        return client.messages.create(
            **arguments,
            stream=request.stream,
            extra_body=rest or None,
            extra_headers=headers or None,
            # Passing one also lifts the SDK's limit on max_tokens of answers that are not streamed.
            timeout=httpx2.Timeout(self._idle_timeout if request.stream else 600.0, connect=5.0),
        )

    def _wait_for(self, error: Exception, attempt: int) -> float | None:
        """Seconds to wait before the next try, or None when there is no use in one."""
        if attempt >= self._max_retries or not worth_retrying(error):
            return None
        asked = retry_after(error)
        if asked is not None and asked > 0:
            return asked if asked <= LONGEST_WAIT else None
        return min(0.5 * 2.0**attempt, 8.0) * (1 - 0.25 * random.random())  # the SDK's own backoff

    def _count_down(self, wait: float, failure: NbchatError, attempt: int) -> Iterator[dict[str, Any]]:
        """``notice`` events while waiting, one a second; the first says that a try failed."""
        left, tries = wait, f"try {attempt + 2} of {self._max_retries + 1}"
        failed = getattr(failure, "type", None) or type(failure).__name__
        while left > 0:
            when = f" in {left:.0f} s" if left >= 1 else ""
            yield {"type": "notice", "text": f"{failure.message}; {tries}{when}", "failed": failed}
            failed = ""
            self._sleep(min(left, 1.0))
            left -= 1.0
        yield {"type": "notice", "text": ""}

    def _explained(self, error: Exception, *, started: bool) -> NbchatError:
        return explain(error, endpoint=self.name, started=started, waited=self._idle_timeout)

    # What else an endpoint can be asked

    def count_tokens(self, request: Request) -> int:
        """The tokens of the request's prompt, counted by the endpoint."""
        body = request.body()
        known = inspect.signature(self.client.messages.count_tokens).parameters
        counted = {name: value for name, value in body.items() if name in known}
        return self._asked(lambda client: client.messages.count_tokens(**counted).input_tokens)

    def models(self) -> list[dict[str, Any]]:
        """What the endpoint says of its models, as dicts of the Models API."""
        return self._asked(
            lambda client: [model.to_dict(mode="json", warnings=False) for model in client.models.list(limit=100)]
        )

    def model(self, model: str) -> dict[str, Any]:
        """What the endpoint says of one model."""
        return self._asked(lambda client: client.models.retrieve(model).to_dict(mode="json", warnings=False))

    def _asked(self, ask: Callable[[Any], Any]) -> Any:
        try:
            return ask(self.client)
        except NbchatError:
            raise
        except Exception as error:
            raise self._explained(error, started=False) from None


def _without_propagation(client: Any) -> Any:
    """The client without trace headers: they, and the user's baggage in them, are nobody's outside the house.

    ``ANTHROPIC_OPEN_TELEMETRY_PROPAGATION=true`` sends them.
    """
    known = getattr(client, "open_telemetry", None)
    wanted = os.environ.get("ANTHROPIC_OPEN_TELEMETRY_PROPAGATION", "").lower() == "true"
    if not isinstance(known, Mapping) or wanted or not known.get("propagation"):
        return client
    return client.with_options(open_telemetry={**known, "propagation": False})


class _NoAnswer(Exception):
    """A try that failed before its first event."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class _Watch:
    """Ends a stream whose content fails to come, by shutting its socket down.

    A read timeout does not do it: pings reset that. Closing the stream from another thread does
    not do it either: a reader blocked in ``recv`` is not woken by it, but it is by a shutdown.
    """

    def __init__(self, limit: float) -> None:
        self._limit, self._seen = limit, time.monotonic()
        self._over = threading.Event()
        self._hurry = threading.Event()
        self.expired = self.whole = False

    def touch(self) -> None:
        """Content came."""
        self._seen = time.monotonic()

    def linger(self) -> None:
        """The message is whole: from now on the connection has LINGER seconds to end."""
        self.whole, self._limit = True, LINGER
        self._seen = time.monotonic()
        self._hurry.set()

    @contextmanager
    def over(self, answer: Any) -> Iterator[None]:
        thread = threading.Thread(target=self._run, args=(answer,), name="nbchat-idle-watch", daemon=True)
        self.touch()
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            self._hurry.set()

    def _run(self, answer: Any) -> None:
        while not self._over.is_set():
            left = self._seen + self._limit - time.monotonic()
            if left <= 0:
                self.expired = True
                _shut_down(answer)
                return
            (self._over if self.whole else self._hurry).wait(left)


def _shut_down(answer: Any) -> None:
    import socket

    try:
        network = answer.response.extensions["network_stream"]
        network.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
    except Exception:  # a transport without a socket: closing is all that can be done
        answer.close()


def _keep_request_id(event: dict[str, Any], answer: Any) -> None:
    """Put the request's id where the SDK puts it in an answer that is not streamed."""
    message = event.get("message")
    if event.get("type") == "message_start" and isinstance(message, Mapping):
        event["message"] = {**message, "_request_id": answer.response.headers.get("request-id")}


def preload() -> None:
    """Import the SDK: over a second, for a thread in the background."""
    import anthropic  # noqa: F401
