"""Asking: what a turn needs while it runs, and when it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, TypeAlias

from nbchat import telemetry
from nbchat.core.conversation import Turn as RecordedTurn
from nbchat.core.money import dollars
from nbchat.core.plural import counted
from nbchat.core.request import Sink
from nbchat.core.response import Response
from nbchat.core.usage import Usage
from nbchat.engine.endpoint import Endpoint
from nbchat.engine.files import MadeFiles
from nbchat.engine.prepared import Prepared
from nbchat.engine.sinks import Sinks
from nbchat.engine.turn import Turn
from nbchat.engine.uploads import Uploading

if TYPE_CHECKING:
    from nbchat.engine.session import Session

__all__ = ["Asking", "SinksOrMaker", "running_turns", "span_of"]

Cost: TypeAlias = Callable[[Usage, str], "float | None"]
#: Sinks, or a function that makes them from the prices of the endpoint.
SinksOrMaker: TypeAlias = Iterable[Sink] | Callable[[Cost], Iterable[Sink]]

#: The turns that run in this context, each as the id of its session and the name of its conversation.
running_turns: ContextVar[frozenset[tuple[int, str]]] = ContextVar("nbchat_turns", default=frozenset())


def span_of(session: Session, prepared: Prepared) -> AbstractContextManager[telemetry.TurnSpan]:
    """Return the span of a turn, as a context manager."""
    return telemetry.turn(
        prepared.request,
        endpoint=prepared.endpoint.name,
        chat=prepared.options.chat,
        cell=prepared.cell,
        notebook=session.accounting.notebook,
        user=session.config.user,
    )


class Asking:
    """One turn of a session, with its account, its sinks and its files.

    Args:
        session: the session.
        prepared: the request.
        sinks: receivers of the answer.
    """

    def __init__(self, session: Session, prepared: Prepared, sinks: SinksOrMaker) -> None:
        self._session, self._prepared = session, prepared
        endpoint, options, request = prepared.endpoint, prepared.options, prepared.request
        self.account = session.accounting.account(
            endpoint,
            options.chat,
            prepared.cell,
            lambda further: session.check_budget(options.budget, further, endpoint),
        )

        def cost(usage: Usage, model: str) -> float | None:
            return session.accounting.cost(usage, endpoint, model)

        shown = list(sinks(cost) if callable(sinks) else sinks) or list(session.host.views(cost))
        journal = session.recording.journal(prepared.draft.prompt, request, endpoint, options.chat, prepared.cell)
        self.sinks = Sinks([*shown, *journal])
        self.turn = Turn(
            request,
            prepared.draft.prompt,
            clock=session.clock,
            has_tools=bool(prepared.toolbox),
            max_rounds=options.max_rounds,
            schema=prepared.draft.schema,
            retry=options.retry,
        )
        #: The conversation that the turn joins, or None.
        self.chat = None if session.stands_alone(options) else options.chat
        order = session.host.cell_order()
        later = 0 if self.chat is None else session.conversation(self.chat).turns_after(prepared.cell, order)
        #: Status lines to begin with.
        self.notices = prepared.notices(later)
        for notice in () if shown else self.notices:
            session.host.tell(notice.text)
        self.files = MadeFiles(endpoint, session.recording)
        uploads = prepared.draft.uploads
        #: Where the requests go.
        self.door: Endpoint | Uploading = (
            Uploading(endpoint, uploads, session.conversation(options.chat).uploads) if uploads else endpoint
        )

    def mark_running(self) -> Token[frozenset[tuple[int, str]]]:
        """Note that the conversation has a turn that runs, until the token is used."""
        return running_turns.set(running_turns.get() | {(id(self._session), self._prepared.options.chat)})

    def settle(self, span: telemetry.TurnSpan, failure: BaseException | None) -> Response:
        """Make the Response of the turn, which ended, and give it to everything that waits for it."""
        turn, account, prepared = self.turn, self.account, self._prepared
        response = self._session.last = turn.settle(
            failure,
            footer=_footer(turn.usage, account.price) if self._session.config.footer else "",
            endpoint=prepared.endpoint.name,
            digest=prepared.request.digest,
            cost=account.cost,
            replayed=account.all_replayed,
            notes=(*prepared.draft.notes, *turn.notes),
            files=self.files.of(turn.file_ids),
        )
        if len(response.messages) > 1:
            self._record(response)
        span.settle(response)
        self.sinks.settle(response)  # last, because the user may stop the drawing
        return response

    def _record(self, response: Response) -> None:
        """Put the turn into its conversation, if it joins one. A cell is a turn of one conversation only."""
        session, chat, cell = self._session, self.chat, self._prepared.cell
        for name, other in session.conversations.items():
            places = [number for number, turn in enumerate(other.turns, 1) if turn.key == cell and cell is not None]
            if name != chat and places:
                other.forget(places[0])
        if chat is not None:
            turn = RecordedTurn.of_response(cell, response, self._prepared.request.model)
            session.conversation(chat).record(turn, session.host.cell_order())


def _footer(usage: Usage, price: float | None) -> str:
    """Return the line below an answer: nothing in it changes if the answer is replayed."""
    tokens = f"{usage.prompt_tokens:,} → {counted(usage.completion_tokens, 'token')}"
    return tokens if price is None else f"{tokens} · {dollars(price)}"
