"""Session: the pipeline, once.

    prompt ─ template, context ─► Request ─ transport ─► events ─ parser ─► chunks ─► sinks ─► Response

Everything happens in the thread that asks, and nothing is awaited: an interrupt then stops a
stream in milliseconds.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from nbchat import telemetry
from nbchat.config import Nbchat
from nbchat.content.blocks import Carried
from nbchat.content.sizes import estimate_tokens
from nbchat.core.chunks import Notice, StreamChunk
from nbchat.core.conversation import Conversation, Turn
from nbchat.core.errors import AnswerError, InputError, NbchatError, RefusedError, StreamError
from nbchat.core.request import Request, Sink, Transport
from nbchat.core.response import Accumulator, Response, Status
from nbchat.core.usage import Usage
from nbchat.engine.accounting import Account, Records
from nbchat.engine.answers import table
from nbchat.engine.draft import Draft, compose, refuse_too_long
from nbchat.engine.endpoints import Endpoint, Endpoints
from nbchat.engine.fitting import accepted_thinking, asks_much, gives_no_format, refuse_unaccepted, window_of
from nbchat.engine.tool_selection import gather_tools, running_shell, say
from nbchat.engine.turn import Rounds
from nbchat.models import context_window
from nbchat.options import Options
from nbchat.tools.schema import type_of
from nbchat.tools.toolbox import Toolbox

if TYPE_CHECKING:
    from nbchat.tools.mcp import McpServers

__all__ = ["Prepared", "Session", "current", "make_current"]

#: Tokens from which on the endpoint is asked for its model's context window.
MANY_TOKENS = 50_000
Cost: TypeAlias = Callable[[Usage, str], "float | None"]
#: Sinks, or a function that makes them when the price of the endpoint's tokens is known.
Sinks: TypeAlias = Iterable[Sink] | Callable[[Cost], Iterable[Sink]]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that could be sent: all of it but the sending."""

    draft: Draft
    endpoint: Endpoint
    options: Options
    cell: str | None
    toolbox: Toolbox = field(default_factory=Toolbox)

    @property
    def request(self) -> Request:
        return self.draft.request(self.endpoint.model, self.endpoint.defaults, self.endpoint.way)


class Session:
    """Conversations with one configuration.

    ``transport`` is who answers: a Transport (:class:`nbchat.ScriptedTransport` in tests), or the
    name of an endpoint; without it the settings and the environment decide. ``notebook`` is its
    name in the ledger. ``settings`` are options by their long names, for all of its requests.
    """

    def __init__(
        self,
        transport: Transport | str | None = None,
        *,
        config: Nbchat | None = None,
        notebook: str = "",
        clock: Callable[[], float] = time.monotonic,
        **settings: Any,
    ) -> None:
        if isinstance(transport, str):
            settings["endpoint"], transport = transport, None
        self.config = config if config is not None else Nbchat()
        self.endpoints = Endpoints(self.config, transport)
        self.records = Records(self.config, notebook=notebook)
        self.conversations: dict[str, Conversation] = {}
        #: The last Response, also of a turn that broke off.
        self.last: Response | None = None
        #: The names of tools that the user allowed always.
        self.approved: set[str] = set()
        self._mcp: McpServers | None = None
        self._settings = Options.of(settings)
        self._clock = clock
        telemetry.start()

    @property
    def mcp(self) -> McpServers:
        """The MCP servers of this session; they go with the kernel."""
        if self._mcp is None:
            from nbchat.tools.mcp import McpServers

            self._mcp = McpServers()
        return self._mcp

    def _record(self, chat: str | None, cell: str | None, response: Response) -> None:
        """Put a turn into its conversation, if it joins one; a cell is a turn of one conversation only."""
        for name, other in self.conversations.items():
            moved = [number for number, turn in enumerate(other.turns, 1) if turn.key == cell and cell is not None]
            if name != chat and moved:
                other.forget(moved[0])
        if chat is not None:
            self.conversation(chat).record(_turn(cell, response))

    def conversation(self, name: str) -> Conversation:
        """The conversation of that name; it begins empty."""
        return self.conversations.setdefault(name, Conversation(name))

    def options(self, given: Mapping[str, Any]) -> Options:
        """The options of one request: ``given``, over the session's, over the settings.

        Raises:
            OptionError: there is no option of a name.
        """
        return Options.of(self._settings.own() | dict(given), self.config.settings())

    def ask(
        self,
        prompt: str | Sequence[Any],
        *,
        namespace: Mapping[str, Any] | None = None,
        cell: str | None = None,
        carried: Sequence[Carried] = (),
        sinks: Sinks = (),
        options: Options | None = None,
        **given: Any,
    ) -> Response:
        """Ask, and give the Response when the answer is whole.

        ``prompt`` is a text, or a sequence of texts and values. ``{{ … }}`` in a text is filled
        from ``namespace``; without one it stays as it is. ``cell`` keys the turn: asking again
        with the same key replaces it. ``carried`` goes before the prompt. ``sinks`` are told of
        the answer as it arrives.

        Raises:
            InputError, BudgetError: nothing was sent.
            TransportError: no answer came.
            StreamError: the answer broke off; ``.partial`` holds it.
            AnswerError: the answer is whole and of no use: declined (RefusedError), not of the type that
                was asked for (ParseError), empty; ``.response`` holds it.
            KeyboardInterrupt: interrupted; :attr:`last` holds what had arrived.
        """
        options = options if options is not None else self.options(given)
        return self.send(self.prepare(prompt, options, namespace=namespace, cell=cell, carried=carried), sinks)

    def prepare(
        self,
        prompt: str | Sequence[Any],
        options: Options,
        *,
        namespace: Mapping[str, Any] | None = None,
        cell: str | None = None,
        carried: Sequence[Carried] = (),
    ) -> Prepared:
        """All that happens before a request is sent; nothing is.

        Raises:
            InputError: the prompt, an option or something that goes along is wrong.
            BudgetError: the request could cost more than the budget leaves.
        """
        history = () if self._alone(options) else self.conversation(options.chat).history(cell)
        toolbox = gather_tools(options, namespace, running_shell(), self._mcp, self.approved)
        draft = compose(
            prompt,
            options,
            namespace=namespace,
            carried=carried,
            history=history,
            tools=toolbox.definitions(),
            schema=_schema(options, namespace),
        )
        recorded = self.records.recorded(draft, lambda: self.endpoints.candidates(options))
        endpoint = recorded or self.endpoints.find(options)
        if recorded is None:
            draft = self._accepted(draft, endpoint)
        prepared = self._within_window(Prepared(draft, endpoint, options, cell, toolbox))
        if recorded is None:  # what is replayed costs nothing
            tokens = lambda: self.count_tokens(prepared)[0]  # noqa: E731
            self.records.check_budget(options.budget, tokens, draft.max_tokens, endpoint)
        return prepared

    def _alone(self, options: Options) -> bool:
        """Whether the turn joins no conversation: at the user's word, or because a turn of it is under way.

        A tool may ask by itself (``nbchat.ask`` in a function); such a turn stands for itself, as the
        conversation is at that moment between a call and its result.
        """
        return options.once or (id(self), options.chat) in _under_way.get()

    def _accepted(self, draft: Draft, endpoint: Endpoint) -> Draft:
        """The draft in the form the endpoint's model accepts, as far as the endpoint tells."""
        request = Prepared(draft, endpoint, self._settings, None).request
        if not asks_much(request):
            return draft
        about = self.endpoints.about(endpoint)
        if draft.schema is not None and gives_no_format(about):
            draft = replace(draft, way="tool")
            request = Prepared(draft, endpoint, self._settings, None).request
        if draft.thinks and "thinking" in request.params:
            form = accepted_thinking(request.params["thinking"], about, draft.max_tokens)
            if form != request.params["thinking"]:
                draft = replace(draft, params={**draft.params, "thinking": form})
                request = replace(request, params={**request.params, "thinking": form})
        refuse_unaccepted(request, about)
        return draft

    def _within_window(self, prepared: Prepared) -> Prepared:
        """What was prepared, if it fits the context window, or as much of it as ``--trim`` keeps."""
        draft, endpoint = prepared.draft, prepared.endpoint
        tokens, window = _estimate(draft), endpoint.window
        asking = window is None and tokens > MANY_TOKENS and not self.records.replays_only
        if asking:
            # Bedrock and Vertex have no Models API; a beta may give more than is listed.
            listed = None if "betas" in draft.params else context_window(endpoint.model, endpoint.priced_as)
            window = window_of(self.endpoints.about(endpoint)) or listed
        if not window:
            return prepared
        answer = min(draft.max_tokens, window // 8)
        if asking and tokens + answer > window // 2:  # an estimate is not enough to refuse or to allow it
            tokens, counted = self.count_tokens(prepared)
            if not counted and tokens * 3 // 4 + answer <= window:
                return prepared
        fitting = refuse_too_long(draft, tokens, window, answer=answer, trim=prepared.options.trim)
        return replace(prepared, draft=fitting)

    def count_tokens(self, prepared: Prepared) -> tuple[int, bool]:
        """The tokens of the prompt, and whether the endpoint counted them (else they are an estimate)."""
        count = getattr(self.records.transport(prepared.endpoint), "count_tokens", None)
        if count is not None and not self.records.replays_only:
            try:
                return int(count(prepared.request)), True
            except (NbchatError, TypeError, ValueError):
                pass  # an endpoint that cannot count, or gives no number, can still answer
        return _estimate(prepared.draft), False

    def send(self, prepared: Prepared, sinks: Sinks = ()) -> Response:
        """Send what was prepared and give the Response; raises as :meth:`ask` does."""
        known = {"endpoint": prepared.endpoint.name, "chat": prepared.options.chat, "cell": prepared.cell}
        with telemetry.turn(prepared.request, notebook=self.records.notebook, user=self.config.user, **known) as span:
            return self._send(prepared, sinks, span)

    def _allow(self, prepared: Prepared, request: Request) -> None:
        """Refuse a further request of a turn that could cost more than is left; what replays is free."""
        limit, endpoint = prepared.options.budget, prepared.endpoint
        if limit is None or self.records.replays(request):
            return

        def tokens() -> int:
            count = getattr(self.records.transport(endpoint), "count_tokens", None)
            try:
                return int(count(request)) if count else estimate_tokens(str(request.body()))
            except NbchatError:
                return estimate_tokens(str(request.body()))

        self.records.check_budget(limit, tokens, request.max_tokens, endpoint)

    def _send(self, prepared: Prepared, sinks: Sinks, span: telemetry.Turn) -> Response:
        endpoint, options, cell = prepared.endpoint, prepared.options, prepared.cell
        request = prepared.request
        # The first request was checked before anything was made for it.
        allow = lambda further: self._allow(prepared, further)  # noqa: E731
        account = self.records.account(endpoint, options.chat, cell, allow)
        if callable(sinks):
            sinks = sinks(lambda usage, model: self.records.cost(usage, endpoint, model))
        journal = self.records.journal(prepared.draft.prompt, request, endpoint, options.chat, cell)
        told = _Sinks([*sinks, *journal, account])
        accumulator = Accumulator(prepared.draft.prompt, self._clock)
        rounds = Rounds(
            self.records,
            endpoint,
            accumulator,
            account,
            told.feed,
            prepared.toolbox,
            say,
            limit=options.max_rounds,
            shell=running_shell(),
        )
        status: Status = "error"
        failure: NbchatError | None = None
        parsed: Any = None
        alone = self._alone(options)
        mark = _under_way.set(_under_way.get() | {(id(self), options.chat)})
        try:
            told.begin(request)
            for note in (endpoint.notice, *prepared.draft.notes):
                if note:
                    told.feed(Notice(note, about=note))
            rounds.run(request)
            if prepared.draft.schema is not None:
                parsed = rounds.parse(request, prepared.draft.schema, retry=options.retry)
            status = "complete"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        except StreamError as error:
            status, failure = "incomplete", error
            raise
        except AnswerError as error:
            calls = accumulator.last is not None and accumulator.last.stop_reason == "tool_use"
            status, failure = "incomplete" if calls else "complete", error
            raise
        finally:
            _under_way.reset(mark)
            response = self.last = accumulator.respond(
                status,
                endpoint=endpoint.name,
                digest=request.digest,
                cost=account.cost,
                replayed=account.all_replayed,
                notes=prepared.draft.notes,
                parsed=parsed,
            )
            if isinstance(failure, StreamError):
                failure.partial = response
            if isinstance(failure, AnswerError):
                failure.response = response
            if len(response.messages) > 1:
                self._record(None if alone else options.chat, cell, response)
            told.settle(response)
            span.settle(response)
        if response.status == "refused":
            raise _refused(response)
        return response


class _Sinks:
    """All sinks as one. A sink that fails is dropped with one warning: the answer outranks the picture."""

    def __init__(self, sinks: Iterable[Sink]) -> None:
        self._sinks = list(sinks)

    def begin(self, request: Request) -> None:
        """Tell those that want to know that a turn begins."""
        for sink in list(self._sinks):
            if not isinstance(sink, Account):
                self._tell(sink, "begin", request)

    def feed(self, chunk: StreamChunk) -> None:
        for sink in self._sinks:
            try:
                sink.feed(chunk)
            except Exception as error:
                self._drop(sink, error)

    def settle(self, response: Response) -> None:
        """Tell every sink of the end; an interrupt meanwhile waits until all have been told."""
        stopped: BaseException | None = None
        for sink in list(self._sinks):
            try:
                self._tell(sink, "settle", response)
            except KeyboardInterrupt as stop:
                stopped = stop
        if stopped is not None:
            raise stopped

    def _tell(self, sink: Sink, what: str, value: Any) -> None:
        try:
            getattr(sink, what, lambda _: None)(value)
        except Exception as error:
            self._drop(sink, error)

    def _drop(self, sink: Sink, error: Exception) -> None:
        self._sinks = [other for other in self._sinks if other is not sink]
        said = f"nbchat: {type(sink).__name__} failed ({type(error).__name__}: {error}) and was left out; "
        warnings.warn_explicit(said + "the answer itself is whole and bound.", RuntimeWarning, "nbchat", 1)


#: The turns that are under way in this context: sessions by their id, and conversations.
_under_way: ContextVar[frozenset[tuple[int, str]]] = ContextVar("nbchat_turns", default=frozenset())


def _schema(options: Options, namespace: Mapping[str, Any] | None) -> Any:
    """The type that ``--schema`` asks for; from Python it may be given itself."""
    if not isinstance(options.schema, str):
        return options.schema
    known = namespace if namespace is not None else getattr(running_shell(), "user_ns", {})
    return type_of(options.schema, known)


def _estimate(draft: Draft) -> int:
    """About how many tokens a draft has."""
    contents = [[block.to_dict() for block in message.content] for message in (*draft.history, draft.prompt)]
    tools = "".join(str(dict(tool)) for tool in draft.tools)
    return sum(map(estimate_tokens, [*contents, draft.system or "", tools]))


def _turn(cell: str | None, response: Response) -> Turn:
    return Turn(cell, response.messages, response.model, response.status, response.usage.total_tokens)


def _rendered(response: Response) -> dict[str, Any]:
    from nbchat.view.html.render import render_response

    return dict(render_response(response))


def _tabulated(response: Response) -> Any:
    if response.parsed is None:
        raise InputError("this Response holds nothing parsed", "Ask with --schema TYPE, such as --schema list[Person].")
    return table(response.parsed)


# What a Response shows and tabulates is beyond core, which knows no views and no pandas.
Response.renderer = staticmethod(_rendered)
Response.tabulator = staticmethod(_tabulated)


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
