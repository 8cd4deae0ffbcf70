"""The synchronous driver of a turn: it does what the turn says, in the thread that asks.

Nothing is awaited and no thread is waited for, so that an interrupt stops a stream in milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from nbchat import telemetry
from nbchat.core.chunks import Notice, ToolDecision
from nbchat.core.errors import (
    NOT_CONNECTED,
    AuthError,
    BudgetError,
    CassetteMiss,
    InputError,
    NbchatError,
    TransportError,
)
from nbchat.core.messages import ToolUseBlock
from nbchat.core.request import Request, Transport
from nbchat.core.stopping import StoppedBeforeSending
from nbchat.engine.accounting import Account
from nbchat.engine.files import MadeFiles
from nbchat.engine.host import Host
from nbchat.engine.interrupts import Interrupts
from nbchat.engine.recording import Recording
from nbchat.engine.sinks import Sinks
from nbchat.engine.turn import Run, Send, Turn
from nbchat.tools.toolbox import Decided, Toolbox

__all__ = ["Driver"]


@dataclass(frozen=True, slots=True)
class Driver:
    """Drives turns, in the thread that asks.

    Args:
        endpoint: where requests go.
        recording: the cassette, if there is one, stands between.
        account: books each request, and refuses a further one that could exceed the budget.
        toolbox: runs the calls.
        host: shows the user what tools have to say.
        files: finds out about the files that the answer made.
        sinks: receive the answer.
        interrupts: know whether the user stopped the turn.
        notices: status lines to begin with.
    """

    endpoint: Transport
    recording: Recording
    account: Account
    toolbox: Toolbox
    host: Host
    files: MadeFiles
    sinks: Sinks
    interrupts: Interrupts
    notices: Sequence[Notice] = ()

    def run(self, turn: Turn) -> None:
        """Do what the turn says until it is done.

        Raises:
            TransportError, StreamError, AnswerError, BudgetError: from any request of the turn.
            KeyboardInterrupt: the user stopped the turn.
        """
        if isinstance(turn.step, Send):
            self.sinks.begin(turn.step.request)
        for notice in self.notices:
            self.sinks.feed(notice)
        while True:
            match turn.step:
                case Send(request):
                    self.interrupts.raise_noted()  # one that came while a request was booked
                    try:
                        self._exchange(turn, request)
                    except TransportError as failure:
                        if (gone := turn.leave_container(failure)) is None:
                            raise
                        self.sinks.feed(gone)
                        continue
                case Run(calls):
                    self._run_calls(turn, calls)
                case _:
                    self.files.look_up(turn.file_ids)
                    return
            if (further := turn.advance()) is not None:
                self.sinks.feed(further)

    def _exchange(self, turn: Turn, request: Request) -> None:
        """Send one request and feed its answer to the turn and the sinks."""
        self.account.begin(request)
        replayed, status, error, sent, refused = False, "error", "", True, False
        feed, emit = turn.feed, self.sinks.feed
        try:
            with self.recording.stream(request, self.endpoint) as events:
                replayed = events.replayed
                if line := self.recording.status_line(replayed=replayed):
                    emit(Notice(line))
                for event in events:
                    chunk = feed(event)
                    if chunk is not None:
                        if type(chunk) is Notice:
                            if chunk.failed:
                                self.account.retry(chunk)
                            # A countdown ends with an empty notice. Until then, the next try is not sent.
                            sent = not (chunk.failed or (not sent and chunk.text))
                        emit(chunk)
                    if self.interrupts.raised:
                        raise KeyboardInterrupt  # somebody caught the one that was raised
            turn.close()
            status = "complete"
        except StoppedBeforeSending:
            status, sent = "interrupted", False
            raise KeyboardInterrupt from None
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        except NbchatError as failure:
            error = getattr(failure, "type", None) or type(failure).__name__
            sent, refused = not _was_not_sent(failure), _was_refused(failure)
            raise
        except BaseException as failure:
            error = type(failure).__name__  # a fault in a transport of the user
            raise
        finally:
            self.book(turn, status, replayed=replayed, error=error, sent=sent, refused=refused)

    def book(self, turn: Turn, status: str, *, replayed: bool, error: str, sent: bool, refused: bool) -> None:
        """End the answer and book its request, however it ended: what arrived was paid for.

        An interrupt waits until this is done.
        """
        answer = turn.end_answer()
        if sent or answer is not None:
            self.account.end(answer, status, replayed=replayed, error=error, refused=refused)

    def _run_calls(self, turn: Turn, calls: Sequence[ToolUseBlock]) -> None:
        """Run the calls in order. An interrupt answers the calls that are left."""
        try:
            for call in calls:
                self.interrupts.raise_noted()
                with telemetry.tool(call.name, id=call.id, arguments=call.input) as span:
                    decided = self.toolbox.decide(call, partial(self._show_call, call))
                    self._announce(turn, call, decided)
                    outcome = self.toolbox.perform(decided)
                    span.end(outcome.text, is_error=outcome.is_error)
                if outcome.error is not None:
                    self.host.show_traceback(outcome.error)
                self.sinks.feed(turn.answer(call, outcome))
                if self.interrupts.raised:
                    # The tool caught KeyboardInterrupt, as IPython's own `!sleep 20` does. The user
                    # stopped the turn, so Claude's next call must not run.
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            for result in turn.abandon_calls():
                self.sinks.feed(result)
            raise

    def _show_call(self, call: ToolUseBlock, arguments: Mapping[str, Any], is_numbered: bool) -> bool:
        """Show a call before the user is asked about it. Return False if no view can, or if nobody can be asked."""
        name = self.toolbox.shown_name(call.name)
        return not self.host.can_ask or self.sinks.show_call(call.id, name, arguments, is_numbered)

    def _announce(self, turn: Turn, call: ToolUseBlock, decided: Decided) -> None:
        """Tell the sinks about a decision before the call runs, so that the decision is above what the call prints."""
        decision = decided.decision
        if decision is None:
            return
        if decision.notice and not self.sinks.shows_calls:
            self.host.say(decision.notice)
        name = self.toolbox.shown_name(call.name)
        changed = decision.arguments if decided.is_changed else None
        self.sinks.feed(turn.decide(ToolDecision(call.id, name, decision.allowed, decision.text, changed)))


def _was_not_sent(failure: NbchatError) -> bool:
    """Return True if the error says that the request never left: it costs nothing and has no row in the ledger."""
    if isinstance(failure, AuthError):
        # An endpoint that refuses a key answers with a type. Without one, no credentials were found here.
        return failure.status is None and failure.type in (None, "no_credentials")
    if isinstance(failure, TransportError) and failure.type == NOT_CONNECTED:
        return True
    return isinstance(failure, InputError | BudgetError | CassetteMiss)


def _was_refused(failure: NbchatError) -> bool:
    """Return True if the endpoint itself refused the request, which is not billed."""
    return isinstance(failure, TransportError) and failure.status is not None
