"""The Messages API through the anthropic SDK: the only door to anthropic and httpx2.

What the SDK leaves to its caller is done here: errors of every layer become ours, a wait that the
service asks for is shown and bounded, a stream that sends only pings does not last for ever, and a
key is stripped before use and kept out of every message.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import math
import os
import random
import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from nbchat.core.errors import AuthError, ConnectionFailed, InputError, NbchatError, from_api, keep_secret, redact
from nbchat.core.parser import events_of
from nbchat.core.request import Request
from nbchat.models import PLATFORMS
from nbchat.transports.error_mapping import NothingCame, NotTheApi, explain, retry_after, ways_out, worth_retrying

__all__ = ["ClaudeTransport", "preload"]

#: No single wait before a retry is longer, in seconds; the SDK itself would sleep an hour if told to.
LONGEST_WAIT = 60.0
#: After ``message_stop`` the answer is whole; this long the rest of the body may take, in seconds.
LINGER = 0.25
#: What an endpoint says of its models may take so long, in seconds: an answer does not wait for more.
ASKING = 5.0
#: … and the count of a prompt's tokens so long.
COUNTING = 30.0
#: The longest wait for a connection, and for an answer that is not streamed, in seconds; both the SDK's own.
CONNECTING, UNSTREAMED = 5.0, 600.0
#: Attributes of the SDK's clients that hold a secret.
_SECRETS = ("api_key", "auth_token", "aws_secret_key", "aws_session_token")
_KEY_HEADERS = frozenset({"authorization", "x-api-key"})
#: Parameters of the SDK's methods that are no fields of the API.
_NO_FIELDS = frozenset({"stream", "extra_headers", "extra_query", "extra_body", "timeout"})
#: The ``type`` of the AuthError where no credentials were found.
_MISSING = "no_credentials"


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
        if base_url:
            keep_secret(_password(base_url))

    def __repr__(self) -> str:
        return redact(f"ClaudeTransport({self.name!r}, base_url={self.base_url!r})")

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
        """Whether the SDK finds credentials for this endpoint; nothing is sent.

        Also true where they are found and cannot be used: asking then says why.
        """
        try:
            return bool(self.client)
        except NbchatError as error:
            return getattr(error, "type", None) != _MISSING

    def _connect(self) -> Any:
        import anthropic

        platform = PLATFORMS.get(self.name)
        if platform and not _installed(platform.library):
            # The SDK's client imports the library only when it sends; the user should know before.
            raise explain(ModuleNotFoundError(f"No module named {platform.library!r}"), endpoint=self.name)
        if self.base_url and not re.match(r"https?://", self.base_url):
            raise InputError(
                f"the address {self.base_url!r} of the endpoint {self.name!r} begins with neither http:// nor https://",
                "Write it whole, in c.Nbchat.endpoints or behind --endpoint.",
            )
        options: dict[str, Any] = {"max_retries": 0, **self._client_options}  # retries are ours: see _events
        if self.base_url:
            options["base_url"] = self.base_url
            if _is_loopback(self.base_url) and "http_client" not in options:
                # A proxy of the environment cannot reach this machine's own loopback.
                options["http_client"] = anthropic.DefaultHttpxClient(trust_env=False)
        if self._api_key:
            options["api_key"] = self._api_key
        elif platform is None:
            # A server of one's own often wants no key; the SDK insists on one, so it gets a name for it.
            options["api_key"] = "none"
        client, failure = None, None
        try:
            client = getattr(anthropic, platform.client if platform else "Anthropic")(**options)
        except Exception as error:
            failure = explain(error, endpoint=self.name)
            if isinstance(error.__cause__, FileNotFoundError) and not os.environ.get("ANTHROPIC_PROFILE"):
                # The SDK looked for the default profile because ANTHROPIC_CONFIG_DIR is set: there is none.
                failure = AuthError(failure.message, failure.hint, type=_MISSING)
            elif not isinstance(failure, (AuthError, InputError, ConnectionFailed)):
                failure = AuthError(f"the endpoint {self.name!r} cannot be set up: {error}", ways_out(self.name))
        if failure is not None:
            raise failure
        for secret in _SECRETS:
            value = getattr(client, secret, None)
            if isinstance(value, str) and value != value.strip():
                # A key is easily copied with a line break; h11 would refuse it, and quote it.
                value = value.strip() or None
                setattr(client, secret, value)
            keep_secret(value)
        for header, value in (getattr(client, "_custom_headers", None) or {}).items():
            if header.lower() in _KEY_HEADERS:
                keep_secret(str(value).removeprefix("Bearer "))
        if self.name == "anthropic" and not self._authorised(client):
            blank = " (ANTHROPIC_API_KEY is set, but blank)" if os.environ.get("ANTHROPIC_API_KEY") else ""
            raise AuthError(
                f"no credentials for the Anthropic API were found, so nothing was sent{blank}",
                ways_out(),
                type=_MISSING,
            )
        return _without_propagation(client)

    @staticmethod
    def _authorised(client: Any) -> bool:
        # https://github.com/anthropics/anthropic-sdk-python: without any of these the SDK raises a TypeError
        # when it sends; a header given through ANTHROPIC_CUSTOM_HEADERS counts as well.
        headers = {name.lower() for name in getattr(client, "_custom_headers", {}) or {}}
        return bool(
            client.api_key or client.auth_token or getattr(client, "credentials", None) or headers & _KEY_HEADERS
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
            except _NoAnswer as none:
                failed = none.error
            # Raised outside of the handler: what the SDK raised may quote a key, so it is not even a context.
            failure = self._explained(failed, streamed=request.stream)
            wait = self._wait_for(failed, attempt, client)
            if wait is None:
                raise failure
            yield from self._count_down(wait, failure, attempt)

    def _attempt(self, client: Any, request: Request) -> Generator[dict[str, Any], None, None]:
        """One try. _NoAnswer before the first event, StreamError after it."""
        started, wrong = False, None
        watch = _Watch(self._idle_timeout)
        try:
            answer = self._send(client, request)
            if not request.stream:
                message = _message(answer, getattr(answer, "_request_id", None))
                started = True
                yield from events_of(message)
                return
            with answer, watch.over(answer):
                head = answer.response.headers
                if "json" in head.get("content-type", ""):
                    # A gateway that does not stream sends the whole message, or an error under status 200.
                    message = _message(json.loads(answer.response.read()), head.get("request-id"))
                    started = True
                    yield from events_of(message)
                    return
                for event in answer:
                    plain = _plain(event)
                    if not started:
                        started = True
                        _keep_request_id(plain, answer)
                    watch.pause()
                    yield plain
                    watch.resume()
                    if plain.get("type") == "message_stop":
                        watch.linger()
                if not started:
                    raise NothingCame(head.get("content-type", ""))
        except NbchatError:
            raise
        except Exception as error:
            wrong = error
        if watch.whole:
            return  # the answer was complete; how its connection ended does not matter
        if watch.expired:
            wrong = TimeoutError()  # the socket was shut down here: that looks like any end from the other side
        if wrong is None:
            return  # a clean end; whether it came too early is the parser's to say
        if not started:
            raise _NoAnswer(wrong)
        raise self._explained(wrong, started=True)

    def _send(self, client: Any, request: Request) -> Any:
        import httpx2

        body = request.body()
        headers = {"anthropic-beta": ",".join(body.pop("betas"))} if body.get("betas") else {}
        known = inspect.signature(client.messages.create).parameters.keys() - _NO_FIELDS
        arguments = {name: value for name, value in body.items() if name in known}
        rest = {name: value for name, value in body.items() if name not in known}
        return client.messages.create(
            **arguments,
            stream=request.stream,
            extra_body=rest or None,
            extra_headers=headers or None,
            # Passing one also lifts the SDK's limit on max_tokens of answers that are not streamed.
            timeout=httpx2.Timeout(self._idle_timeout if request.stream else UNSTREAMED, connect=CONNECTING),
        )

    def _wait_for(self, error: Exception, attempt: int, client: Any) -> float | None:
        """Seconds to wait before the next try, or None when there is no use in one."""
        if attempt >= self._max_retries:
            return None
        tokens = getattr(client, "_token_cache", None)
        if attempt == 0 and tokens is not None and getattr(error, "status_code", None) == 401:
            tokens.invalidate()  # a profile's token may end early: the SDK, too, tries once with a new one
            return 0.0
        if not worth_retrying(error):
            return None
        asked = retry_after(error)
        if asked is not None and asked > 0:
            return asked if asked <= LONGEST_WAIT else None
        return min(0.5 * 2.0**attempt, 8.0) * (1 - 0.25 * random.random())  # the SDK's own backoff

    def _count_down(self, wait: float, failure: NbchatError, attempt: int) -> Iterator[dict[str, Any]]:
        """``notice`` events while waiting, one a second; the first says that a try failed."""
        tries = f"try {attempt + 2} of {self._max_retries + 1}"
        failed = getattr(failure, "type", None) or type(failure).__name__
        for second in range(max(1, math.ceil(wait))):
            left = wait - second
            when = f" in {left:.0f} s" if left >= 1 else ""
            yield {"type": "notice", "text": f"{failure.message}; {tries}{when}", "failed": failed}
            failed = ""
            if left > 0:
                self._sleep(min(left, 1.0))
        yield {"type": "notice", "text": ""}

    def _explained(self, error: Exception, *, started: bool = False, streamed: bool = True) -> NbchatError:
        waited = self._idle_timeout if streamed else UNSTREAMED
        return explain(error, endpoint=self.name, started=started, waited=waited)

    # What else an endpoint can be asked

    def count_tokens(self, request: Request) -> int:
        """The tokens of the request's prompt, counted by the endpoint."""
        body = request.body()

        def ask(client: Any) -> int:
            known = inspect.signature(client.messages.count_tokens).parameters.keys() - _NO_FIELDS
            counted = {name: value for name, value in body.items() if name in known}
            return client.messages.count_tokens(**counted, timeout=COUNTING).input_tokens

        return self._asked(ask, COUNTING)

    def models(self) -> list[dict[str, Any]]:
        """What the endpoint says of its models, as dicts of the Models API."""

        def ask(client: Any) -> list[dict[str, Any]]:
            return [_plain(model) for model in client.models.list(limit=100, timeout=ASKING)]

        return self._asked(ask, ASKING)

    def model(self, model: str) -> dict[str, Any]:
        """What the endpoint says of one model."""
        return self._asked(lambda client: _plain(client.models.retrieve(model, timeout=ASKING)), ASKING)

    def _asked(self, ask: Callable[[Any], Any], waited: float) -> Any:
        client = self.client
        try:
            return ask(client)
        except Exception as error:
            failure = explain(error, endpoint=self.name, waited=waited)
        raise failure


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

    def pause(self) -> None:
        """Content came and is looked at: however long that takes, it is no silence of the endpoint."""
        self._seen = math.inf

    def resume(self) -> None:
        """More is waited for."""
        self._seen = time.monotonic()

    def linger(self) -> None:
        """The message is whole: from now on the connection has LINGER seconds to end."""
        self.whole, self._limit = True, LINGER
        self.resume()
        self._hurry.set()

    @contextmanager
    def over(self, answer: Any) -> Iterator[None]:
        thread = threading.Thread(target=self._run, args=(answer,), name="nbchat-idle-watch", daemon=True)
        self.resume()
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
            (self._over if self.whole else self._hurry).wait(min(left, self._limit))


def _shut_down(answer: Any) -> None:
    import socket

    try:
        network = answer.response.extensions["network_stream"]
        network.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
    except Exception:  # a transport without a socket: closing is all that can be done
        answer.close()


def _plain(value: Any) -> dict[str, Any]:
    """An event, or another value of the SDK, as the dict it came as."""
    plain = value.to_dict(mode="json", warnings=False) if hasattr(value, "to_dict") else value
    if not isinstance(plain, dict):
        raise NotTheApi(f"a {type(plain).__name__}")
    return plain


def _message(answer: Any, request_id: str | None) -> dict[str, Any]:
    """A whole message, be it of the SDK or plain, with the request's id.

    Raises:
        TransportError: it is an error of the API, sent as if it were an answer.
        NotTheApi: it is neither.
    """
    plain = _plain(answer)
    if isinstance(error := plain.get("error"), Mapping):
        raise from_api(error.get("type"), str(error.get("message") or ""), status=200, request_id=request_id)
    if not isinstance(plain.get("content"), list):
        raise NotTheApi("JSON without content")
    return {**plain, "_request_id": request_id}


def _installed(module: str | None) -> bool:
    try:
        return module is None or importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even its parent
        return False


def _is_loopback(url: str) -> bool:
    try:
        return urllib.parse.urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
    except ValueError:
        return False  # no address at all: the SDK says so


def _password(url: str) -> str | None:
    try:
        return urllib.parse.urlsplit(url).password
    except ValueError:
        return None


def _keep_request_id(event: dict[str, Any], answer: Any) -> None:
    """Put the request's id where the SDK puts it in an answer that is not streamed."""
    message = event.get("message")
    if event.get("type") == "message_start" and isinstance(message, Mapping):
        event["message"] = {**message, "_request_id": answer.response.headers.get("request-id")}


def preload() -> None:
    """Import the SDK: over a second, for a thread in the background."""
    import anthropic  # noqa: F401
