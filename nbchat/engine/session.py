"""A session: conversations, and the one way a prompt takes.

    prompt ─ template, context ─► Request ─ transport ─► events ─ parser ─► chunks ─► sinks ─► Response

``ask`` is ``prepare`` and ``send``. Preparing does everything that can fail before a request is sent.
Sending drives a :class:`~nbchat.engine.turn.Turn` in the thread that asks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from nbchat import telemetry
from nbchat.config import Nbchat
from nbchat.content.blocks import Carried
from nbchat.core.conversation import Conversation
from nbchat.core.extension_points import provided
from nbchat.core.request import Request, Transport
from nbchat.core.response import Response
from nbchat.engine.accounting import Accounting
from nbchat.engine.asking import Asking, SinksOrMaker, running_turns, span_of
from nbchat.engine.container import in_container
from nbchat.engine.draft import compose, refuse_cell_options, refuse_row_options
from nbchat.engine.drive import Driver
from nbchat.engine.endpoint import Endpoint
from nbchat.engine.endpoints import Endpoints
from nbchat.engine.fitting import Count, count, fit_model, fit_window
from nbchat.engine.host import Host
from nbchat.engine.interrupts import Interrupts, interrupts_held
from nbchat.engine.prepared import Prepared
from nbchat.engine.recording import Recording
from nbchat.engine.shortening import fit_endpoint
from nbchat.engine.tool_selection import select_tools
from nbchat.engine.turn import refused
from nbchat.options import Options
from nbchat.store.journal import JournalEntry
from nbchat.tools.answer_type import AnswerType
from nbchat.tools.permissions import Permissions
from nbchat.tools.schema import type_of
from nbchat.tools.toolbox import Toolbox

if TYPE_CHECKING:
    from nbchat.tools.mcp import McpServers

__all__ = ["Session"]


class Session:
    """Conversations with one configuration.

    Args:
        transport: who answers. A :class:`Transport` (such as :class:`nbchat.ScriptedTransport` in
            tests) or the name of an endpoint. Without it the settings and the environment decide.
        config: the settings; by default those of the environment.
        notebook: the name of the session in the ledger.
        host: the place the session runs in; by default IPython's, or plain Python's.
        clock: seconds on a clock that never goes back.
        settings: options by their long names, for every request of the session.

    >>> from nbchat import ScriptedTransport, Session
    >>> session = Session(ScriptedTransport("Hello!", "Good-bye!"), system="Be brief.")
    >>> session.ask("Hi").text
    'Hello!'
    >>> [message.role for message in session.conversation("main").history(None)]
    ['user', 'assistant']
    """

    def __init__(
        self,
        transport: Transport | str | None = None,
        *,
        config: Nbchat | None = None,
        notebook: str = "",
        host: Host | None = None,
        clock: Callable[[], float] = time.monotonic,
        **settings: Any,
    ) -> None:
        if isinstance(transport, str):
            settings["endpoint"], transport = transport, None
        self.config = config if config is not None else Nbchat()
        self.endpoints = Endpoints(self.config, transport)
        self.accounting = Accounting(self.config, notebook=notebook)
        self.recording = Recording(self.config, notebook=notebook)
        self.conversations: dict[str, Conversation] = {}
        #: The last Response, also of a turn that failed.
        self.last: Response | None = None
        #: The last Job of ask_each, also of a run that was stopped.
        self.last_job: Any = None
        #: The tools that the user allowed always: ``list(session.approved)``, ``session.approved.clear()``.
        self.approved = Permissions()
        self._host = host
        self._mcp: McpServers | None = None
        self._settings = Options.of(settings)
        #: Seconds on a clock that never goes back.
        self.clock = clock
        telemetry.start()

    @property
    def host(self) -> Host:
        """Return the place the session runs in."""
        if self._host is not None:
            return self._host
        host: Host = provided("host")()
        return host

    @property
    def mcp(self) -> McpServers:
        """Return the MCP servers of this session. They end with the kernel."""
        if self._mcp is None:
            from nbchat.tools.mcp import McpServers

            self._mcp = McpServers(say=self.host.say)
        return self._mcp

    def conversation(self, name: str) -> Conversation:
        """Return the conversation of that name. A new one is empty.

        >>> from nbchat import ScriptedTransport, Session
        >>> session = Session(ScriptedTransport("A cat!"))
        >>> _ = session.ask("I have a pet", chat="pets")
        >>> len(session.conversation("pets"))
        1
        """
        return self.conversations.setdefault(name, Conversation(name))

    def options(self, given: Mapping[str, Any]) -> Options:
        """Return the options of one request: ``given``, else the session's, else the settings.

        Raises:
            OptionError: the name of an option is unknown.

        >>> from nbchat import Session
        >>> Session(max_tokens=500).options({"thinking": True})
        Options(max_tokens=500, thinking=True)
        """
        return Options.of(self._settings.own() | dict(given), self.config.settings())

    def ask(
        self,
        prompt: str | Sequence[Any],
        *,
        namespace: Mapping[str, Any] | None = None,
        cell: str | None = None,
        carried: Sequence[Carried] = (),
        sinks: SinksOrMaker = (),
        options: Options | None = None,
        **given: Any,
    ) -> Response:
        """Ask, and return the Response when the answer is complete.

        Args:
            prompt: a text, or a sequence of texts and values.
            namespace: the names that ``{{ … }}`` in a text is filled from. Without it the text stays as it is.
            cell: the key of the turn. Asking again with the same key replaces the turn.
            carried: content that goes before the prompt.
            sinks: receivers of the answer while it arrives.
            options: the options, if they are made already.
            given: options by their long names, as in ``ask("Hi", max_tokens=100)``.

        Raises:
            InputError, BudgetError: nothing was sent.
            TransportError: no answer came.
            StreamError: the answer broke off. ``.partial`` holds what arrived.
            AnswerError: the answer is complete and unusable: the model declined (RefusedError), the
                answer does not fit its type (ParseError), or it is empty. ``.response`` holds the answer.
            KeyboardInterrupt: the user stopped it. :attr:`last` holds what arrived.

        >>> from nbchat import ScriptedTransport, Session
        >>> session = Session(ScriptedTransport("Whiskers, Mia, Tom"))
        >>> response = session.ask("Three names for {{ animal }}", namespace={"animal": "a cat"})
        >>> response.prompt, response.text, bool(response)
        ('Three names for a cat', 'Whiskers, Mia, Tom', True)
        """
        if options is None:
            options = self.options(given)
            refuse_cell_options(options)
            refuse_row_options(options)
        return self.send(self.prepare(prompt, options, namespace=namespace, cell=cell, carried=carried), sinks)

    async def aask(
        self,
        prompt: str | Sequence[Any],
        *,
        namespace: Mapping[str, Any] | None = None,
        sinks: SinksOrMaker = (),
        **given: Any,
    ) -> Response:
        """Ask in the event loop that runs, without blocking it. Arguments and errors are those of :meth:`ask`.

        >>> import asyncio
        >>> from nbchat import ScriptedTransport, Session
        >>> session = Session(ScriptedTransport("Hello!", "Hello!"))
        >>> async def greet_two():
        ...     return await asyncio.gather(session.aask("Hi", once=True), session.aask("Hi", once=True))
        >>> [response.text for response in asyncio.run(greet_two())]
        ['Hello!', 'Hello!']
        """
        import asyncio

        options = self.options(given)
        refuse_cell_options(options)
        refuse_row_options(options)
        # In a thread, because finding the endpoint can ask the Models API.
        prepared = await asyncio.to_thread(self.prepare, prompt, options, namespace=namespace)
        return await self.asend(prepared, sinks)

    # Before sending

    def prepare(
        self,
        prompt: str | Sequence[Any],
        options: Options,
        *,
        namespace: Mapping[str, Any] | None = None,
        cell: str | None = None,
        carried: Sequence[Carried] = (),
        has_tools: bool = True,
    ) -> Prepared:
        """Do everything that comes before sending, and send nothing.

        Args:
            prompt: a text, or a sequence of texts and values.
            options: the options of the request.
            namespace: the names that ``{{ … }}`` in a text is filled from.
            cell: the key of the turn.
            carried: content that goes before the prompt.
            has_tools: whether the model may call the tools of the notebook.

        Raises:
            InputError: the prompt, an option or an attachment is wrong.
            BudgetError: the request could cost more than the budget has left.

        >>> from nbchat import ScriptedTransport, Session
        >>> session = Session(ScriptedTransport())
        >>> prepared = session.prepare("Hi", session.options({}))
        >>> prepared.request.messages[0].text
        'Hi'
        """
        alone = self.stands_alone(options)
        conversation = self.conversations.get(options.chat, Conversation(options.chat))
        history = () if alone else conversation.turns_before(cell, self.host.cell_order())
        toolbox = select_tools(options, namespace, self.host, self._mcp, self.approved) if has_tools else Toolbox()
        draft = compose(
            prompt,
            options,
            namespace=namespace,
            carried=carried,
            history=history,
            uploads=conversation.uploads,
            settled=self._settings.given,
            tools=toolbox.definitions(),
            schema=self._schema(options, namespace),
            is_continued=not alone,
        )
        fit = partial(fit_endpoint, trim=options.trim)
        recorded = self.recording.recorded(draft, lambda: self.endpoints.candidates(options), fit)
        if recorded is not None:
            endpoint, draft, request = recorded
        else:
            endpoint = self.endpoints.find(options)
            draft, request = fit_model(*fit(draft, endpoint), endpoint, self.endpoints.describe)
        draft = draft.noted(endpoint.ignored(options))
        draft, request = fit_window(
            draft,
            request,
            endpoint,
            trim=options.trim,
            describe=None if self.recording.replays_only else self.endpoints.describe,
            count=lambda request: self.count(request, endpoint),
        )
        request = in_container(request, history, endpoint.name, time.time())
        if not options.dry_run:  # a dry run sends nothing, and says itself what the budget allows
            self.check_budget(options.budget, request, endpoint)
        return Prepared(draft, request, endpoint, options, cell, toolbox)

    def count(self, request: Request, endpoint: Endpoint) -> Count:
        """Count the tokens of a request's prompt. A request that replays is estimated, since nothing may be sent.

        >>> from nbchat import ScriptedTransport, Session
        >>> session = Session(ScriptedTransport())
        >>> prepared = session.prepare("Hi", session.options({}))
        >>> session.count(prepared.request, prepared.endpoint).tokens > 0
        True
        """
        return count(request, None if self.recording.replays(request) else endpoint)

    def check_budget(self, limit: float | None, request: Request, endpoint: Endpoint) -> None:
        """Refuse a request that could cost more than the budget has left. A replay costs nothing.

        Args:
            limit: the budget in US dollars, or None for no limit.
            request: the request.
            endpoint: where it goes.

        Raises:
            BudgetError: the request could cost more, or its price is unknown.

        >>> from nbchat import Session
        >>> session = Session("anthropic")
        >>> prepared = session.prepare("Hi", session.options({"max_tokens": 100}))
        >>> session.check_budget(0.50, prepared.request, prepared.endpoint)
        """
        if limit is not None and not self.recording.replays(request):
            tokens = self.count(request, endpoint).tokens
            self.accounting.check_budget(limit, tokens, request, endpoint)

    def _schema(self, options: Options, namespace: Mapping[str, Any] | None) -> AnswerType | None:
        """Return the type that the answer should have, with its schema computed once for asking and reading."""
        schema = options.schema
        if isinstance(schema, str):
            schema = type_of(schema, namespace if namespace is not None else self.host.namespace)
        return None if schema is None else AnswerType.of(schema)

    def stands_alone(self, options: Options) -> bool:
        """Return True if the turn joins no conversation.

        The user can ask for that with ``--once``. A turn that a tool asks for (``nbchat.ask`` in a
        function) stands alone too: its conversation is between a call and the result of the call, and
        the API would refuse a prompt there.

        >>> from nbchat import Session
        >>> session = Session()
        >>> session.stands_alone(session.options({"once": True}))
        True
        """
        return options.once or (id(self), options.chat) in running_turns.get()

    # Sending

    def send(self, prepared: Prepared, sinks: SinksOrMaker = ()) -> Response:
        """Send what was prepared, and return the Response. Raises as :meth:`ask` does.

        >>> from nbchat import ScriptedTransport, Session
        >>> session = Session(ScriptedTransport("Hello!"))
        >>> session.send(session.prepare("Hi", session.options({}))).text
        'Hello!'
        """
        with span_of(self, prepared) as span:
            # The span has an end of its own, so that it sees an interrupt that was held.
            held_in = (Session._send.__code__, Driver.book.__code__)
            with interrupts_held(except_in=Driver.run.__code__, held_in=held_in) as interrupts:
                response = self._send(prepared, sinks, span, interrupts)
            if response.status == "refused":
                raise refused(response)
            return response

    def _send(
        self, prepared: Prepared, sinks: SinksOrMaker, span: telemetry.TurnSpan, interrupts: Interrupts
    ) -> Response:
        asking = Asking(self, prepared, sinks)
        driver = Driver(
            *(asking.door, self.recording, asking.account, prepared.toolbox, self.host),
            *(asking.files, asking.sinks, interrupts, asking.notices),
        )
        mark = asking.mark_running()
        failure: BaseException | None = None
        try:
            interrupts.raise_noted()  # one that came while the sinks were made
            driver.run(asking.turn)
        except BaseException as error:
            failure = error
            raise
        finally:
            # An interrupt waits from here on: the answer was paid for, and sinks have files and widgets to close.
            running_turns.reset(mark)
            response = asking.settle(span, failure)
        return response

    async def asend(self, prepared: Prepared, sinks: SinksOrMaker = ()) -> Response:
        """Send what was prepared, and return the Response, in the event loop that runs. Raises as :meth:`ask` does.

        >>> import asyncio
        >>> from nbchat import ScriptedTransport, Session
        >>> session = Session(ScriptedTransport("Hello!"))
        >>> asyncio.run(session.asend(session.prepare("Hi", session.options({})))).text
        'Hello!'
        """
        from nbchat.engine.async_asking import send

        return await send(self, prepared, sinks)

    def recover(self, entry: JournalEntry) -> Response:
        """Return the answer of a killed kernel as :attr:`last`, and write its row into the ledger.

        >>> from nbchat import Session
        >>> session = Session()
        >>> [session.recover(entry).text for entry in session.recording.journals.recoverable()]
        []
        """
        response = self.last = self.recording.journals.restore(entry)
        self.accounting.write_recovered(entry, response)
        return response
