"""The synchronous driver of a turn: it does what the turn says, in the thread that asks.

Nothing is awaited and no thread is waited for, so that an interrupt stops a stream in milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from nbchat import telemetry
from nbchat.core.chunks import Notice
from nbchat.core.errors import TransportError
from nbchat.core.messages import ToolUseBlock
from nbchat.core.request import Request, Transport
from nbchat.core.stopping import StoppedBeforeSending
from nbchat.engine.accounting import Account
from nbchat.engine.booking import Booking
from nbchat.engine.deciding import announce, asks_again, show_call
from nbchat.engine.files import MadeFiles
from nbchat.engine.host import Host
from nbchat.engine.interrupts import Interrupts
from nbchat.engine.recording import Recording
from nbchat.engine.sinks import Sinks
from nbchat.engine.turn import Run, Send, Turn
from nbchat.tools.toolbox import Toolbox

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
        booking = Booking(turn, self.account, request)
        take, emit = booking.take, self.sinks.feed
        try:
            with self.recording.stream(request, self.endpoint) as events:
                booking.replayed = events.replayed
                if line := self.recording.status_line(replayed=events.replayed):
                    emit(Notice(line))
                for event in events:
                    chunk = take(event)
                    if chunk is not None:
                        emit(chunk)
                    if self.interrupts.raised:
                        raise KeyboardInterrupt  # somebody caught the one that was raised
            booking.close()
        except StoppedBeforeSending as failure:
            booking.fail(failure)
            raise KeyboardInterrupt from None
        except BaseException as failure:
            booking.fail(failure)
            raise
        finally:
            self.book(booking)

    def book(self, booking: Booking) -> None:
        """End the answer and book its request, however it ended. An interrupt waits until this is done."""
        booking.end()

    def _run_calls(self, turn: Turn, calls: Sequence[ToolUseBlock]) -> None:
        """Run the calls in order. An interrupt answers the calls that are left."""
        try:
            for call in calls:
                self.interrupts.raise_noted()
                with telemetry.tool(call.name, id=call.id, arguments=call.input) as span:
                    decided = self.toolbox.decide(
                        call,
                        partial(show_call, self.sinks, self.host, self.toolbox, call),
                        partial(self.recording.result_of, call),
                        can_ask=asks_again(self.host, self.recording),
                    )
                    announce(self.sinks, self.host, self.toolbox, turn, call, decided)
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
