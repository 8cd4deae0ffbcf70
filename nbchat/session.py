"""Session: the pipeline, once.

    prompt ─ template, context ─► Request ─ transport ─► events ─ parser ─► chunks ─► sinks ─► Response

Everything happens in the thread that asks, and nothing is awaited: an interrupt then stops a
stream in milliseconds.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from nbchat.config import Nbchat
from nbchat.core.chunks import Notice, StreamChunk
from nbchat.core.conversation import Conversation, Turn
from nbchat.core.errors import InputError, NbchatError, RefusedError, StreamError
from nbchat.core.messages import Message
from nbchat.core.parser import ChatStreamParser
from nbchat.core.request import Request, Sink, Transport
from nbchat.core.response import Accumulator, Response, Status
from nbchat.core.template import Filled, fill
from nbchat.endpoints import Endpoint, Endpoints
from nbchat.options import Options

__all__ = ["Session"]


class Session:
    """Conversations with one configuration.

    ``transport`` is who answers: a Transport (:class:`nbchat.ScriptedTransport` in tests), or the
    name of an endpoint; without it the settings and the environment decide. ``settings`` are
    options by their long names, for all of the session's requests.
    """

    def __init__(
        self,
        transport: Transport | str | None = None,
        *,
        config: Nbchat | None = None,
        clock: Callable[[], float] = time.monotonic,
        **settings: Any,
    ) -> None:
        if isinstance(transport, str):
            settings["endpoint"], transport = transport, None
        self.config = config if config is not None else Nbchat()
        self.endpoints = Endpoints(self.config, transport)
        self.conversations: dict[str, Conversation] = {}
        #: The last Response, also of a turn that broke off.
        self.last: Response | None = None
        self._settings = Options.of(settings)
        self._clock = clock

    def conversation(self, name: str) -> Conversation:
        """The conversation of that name; it begins empty."""
        return self.conversations.setdefault(name, Conversation(name))

    def options(self, given: Mapping[str, Any]) -> Options:
        """The options of one request: ``given``, over the session's, over the settings.

        Raises:
            OptionError: there is no option of a name.
        """
        own = {name: getattr(self._settings, name) for name in self._settings.given}
        return Options.of(own | dict(given), self.config.settings())

    def ask(
        self,
        prompt: str | Sequence[Any],
        *,
        namespace: Mapping[str, Any] | None = None,
        cell: str | None = None,
        sinks: Iterable[Sink] = (),
        options: Options | None = None,
        **given: Any,
    ) -> Response:
        """Ask, and give the Response when the answer is whole.

        ``prompt`` is a text or a sequence of texts and values. ``{{ … }}`` in a text is filled
        from ``namespace``; without one it stays as it is. ``cell`` keys the turn: asking again
        with the same key replaces it. ``sinks`` are told of the answer as it arrives.

        Raises:
            InputError, BudgetError: nothing was sent.
            TransportError: no answer came.
            StreamError: the answer broke off; ``.partial`` holds it.
            RefusedError: the model declined; ``.response`` holds what it said.
            KeyboardInterrupt: interrupted; :attr:`last` holds what had arrived.
        """
        options = options if options is not None else self.options(given)
        message = self._message(prompt, namespace)
        endpoint = self.endpoints.find(options)
        conversation = self.conversation(options.chat)
        history = () if options.once else conversation.history(cell)
        request = _request(options, endpoint, (*history, message))
        accumulator = Accumulator(message, self._clock)
        told = _Sinks(sinks)
        known = {"endpoint": endpoint.name, "digest": request.digest}
        status: Status = "error"
        failure: NbchatError | None = None
        try:
            told.begin(request)
            if endpoint.notice:
                told.feed(Notice(endpoint.notice))
            self._round(request, endpoint.transport, accumulator, told)
            status = "complete"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        except StreamError as error:
            status, failure = "incomplete", error
            raise
        finally:
            response = self.last = accumulator.respond(status, **known)
            if isinstance(failure, StreamError):
                failure.partial = response
            if not options.once and len(response.messages) > 1:
                conversation.record(_turn(cell, response))
            told.settle(response)
        if response.status == "refused":
            raise _refused(response)
        return response

    def _message(self, prompt: str | Sequence[Any], namespace: Mapping[str, Any] | None) -> Message:
        parts: list[Any] = []
        for part in [prompt] if isinstance(prompt, str) else prompt:
            parts += fill(part, namespace) if isinstance(part, str) and namespace is not None else [part]
        text = "".join(str(part.value) if isinstance(part, Filled) else str(part) for part in parts)
        if not text.strip():
            raise InputError(
                "the prompt is empty, so nothing was sent", "Write the prompt into the cell below %%claude."
            )
        return Message.of("user", text)

    def _round(self, request: Request, transport: Transport, accumulator: Accumulator, told: _Sinks) -> None:
        """One request and its answer: the loop of the pipeline."""
        parser = ChatStreamParser()
        try:
            with transport.stream(request) as events:
                for event in events:
                    chunk = parser.feed(event)
                    if chunk is not None:
                        accumulator.feed(chunk)
                        told.feed(chunk)
            parser.close()
        finally:
            if not parser.whole:
                accumulator.cut(parser.snapshot())


class _Sinks:
    """All sinks as one. A sink that fails is dropped with one warning: the answer outranks the picture."""

    def __init__(self, sinks: Iterable[Sink]) -> None:
        self._sinks = list(sinks)

    def begin(self, request: Request) -> None:
        self._tell("begin", request)

    def feed(self, chunk: StreamChunk) -> None:
        for sink in self._sinks:
            try:
                sink.feed(chunk)
            except Exception as error:
                self._drop(sink, error)

    def settle(self, response: Response) -> None:
        self._tell("settle", response)

    def _tell(self, what: str, value: Any) -> None:
        for sink in list(self._sinks):
            try:
                getattr(sink, what, lambda _: None)(value)
            except Exception as error:
                self._drop(sink, error)

    def _drop(self, sink: Sink, error: Exception) -> None:
        self._sinks = [other for other in self._sinks if other is not sink]
        warnings.warn(
            f"nbchat: {type(sink).__name__} failed ({type(error).__name__}: {error}) and was left out; "
            "the answer itself is whole and bound.",
            RuntimeWarning,
            stacklevel=4,
        )


def _request(options: Options, endpoint: Endpoint, messages: tuple[Message, ...]) -> Request:
    params: dict[str, Any] = {}
    return Request(
        model=endpoint.model,
        messages=messages,
        max_tokens=options.max_tokens,
        system=options.system,
        params=params,
        stream=options.stream,
    )


def _turn(cell: str | None, response: Response) -> Turn:
    return Turn(cell, response.messages, response.model, response.status, response.usage.total_tokens)


def _refused(response: Response) -> RefusedError:
    details = response.stop_details or {}
    why = details.get("explanation") or details.get("category")
    return RefusedError(
        f"the model declined to answer{f': {why}' if why else ''}",
        "Ask in another way. What it said is in the Response, whose status is 'refused'.",
        response=response,
    )


_current: list[Session] = []


def current() -> Session:
    """The session of the notebook; one is made where there is none."""
    if not _current:
        _current.append(Session())
    return _current[0]


def make_current(session: Session) -> None:
    """Let ``nbchat.ask`` use this session."""
    _current[:] = [session]
