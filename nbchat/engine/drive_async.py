"""The asynchronous driver of a turn: it does what the turn says, in an event loop with thousands of others.

It drives the same state machine as :mod:`nbchat.engine.drive`, with the same bookings, recordings and errors.
The cancellation of its task ends a turn, as an interrupt does in a cell.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from nbchat import telemetry
from nbchat.core.chunks import Notice, StreamChunk
from nbchat.core.errors import TransportError
from nbchat.core.messages import ToolUseBlock
from nbchat.core.pacing import Pacer
from nbchat.core.request import Request
from nbchat.engine.accounting import Account
from nbchat.engine.async_doors import AsyncDoor
from nbchat.engine.booking import Booking
from nbchat.engine.deciding import announce, asks_again, show_call
from nbchat.engine.files import MadeFiles
from nbchat.engine.host import Host
from nbchat.engine.recording import Recording
from nbchat.engine.sinks import Sinks
from nbchat.engine.turn import Run, Send, Turn
from nbchat.tools.toolbox import Toolbox

__all__ = ["AsyncDriver"]


@dataclass(frozen=True, slots=True)
class AsyncDriver:
    """Drives turns in the event loop that runs.

    Args:
        door: where requests go.
        endpoint: the name of the endpoint.
        recording: the cassette, if there is one, stands between.
        account: books each request.
        toolbox: runs the calls, each in a thread; None for turns without tools.
        host: shows the user what tools have to say.
        files: finds out about the files that the answer made.
        sinks: receive the answer; None for nobody.
        notices: status lines to begin with.
        pacer: decides on retries; None for the rule of a single request.
    """

    door: AsyncDoor
    endpoint: str
    recording: Recording
    account: Account
    toolbox: Toolbox | None = None
    host: Host | None = None
    files: MadeFiles | None = None
    sinks: Sinks | None = None
    notices: Sequence[Notice] = ()
    pacer: Pacer | None = None

    async def run(self, turn: Turn) -> None:
        """Do what the turn says until it is done.

        Raises:
            TransportError, StreamError, AnswerError, BudgetError: from any request of the turn.
        """
        if self.sinks is not None and isinstance(turn.step, Send):
            self.sinks.begin(turn.step.request)
        for notice in self.notices:
            self._emit(notice)
        while True:
            match turn.step:
                case Send(request):
                    try:
                        await self._exchange(turn, request)
                    except TransportError as failure:
                        if (gone := turn.leave_container(failure)) is None:
                            raise
                        self._emit(gone)
                        continue
                case Run(calls):
                    await self._run_calls(turn, calls)
                case _:
                    if self.files is not None and turn.file_ids:
                        await asyncio.to_thread(self.files.look_up, turn.file_ids)
                    return
            if (further := turn.advance()) is not None:
                self._emit(further)

    def _emit(self, chunk: StreamChunk | None) -> None:
        if chunk is not None and self.sinks is not None:
            self.sinks.feed(chunk)

    async def _exchange(self, turn: Turn, request: Request) -> None:
        """Send one request and feed its answer to the turn and the sinks."""
        booking = Booking(turn, self.account, request)
        try:
            answer = self.recording.answer(request)
            if answer is not None:
                booking.replayed = True
                for event in answer:
                    self._emit(booking.take(event))
            else:
                keep = self.recording.recorder(request, self.endpoint)
                async for event in self.door.events(request, self.pacer):
                    self._emit(booking.take(keep(event)))
            booking.close()
        except BaseException as failure:
            booking.fail(failure)
            raise
        finally:
            booking.end()

    async def _run_calls(self, turn: Turn, calls: Sequence[ToolUseBlock]) -> None:
        """Run the calls in order, each in a thread. A cancellation answers the calls that are left."""
        # A turn without a toolbox has no calls.
        assert self.toolbox is not None
        assert self.host is not None
        sinks = self.sinks if self.sinks is not None else Sinks(())
        try:
            for call in calls:
                with telemetry.tool(call.name, id=call.id, arguments=call.input) as span:
                    decided = await asyncio.to_thread(
                        self.toolbox.decide,
                        call,
                        partial(show_call, sinks, self.host, self.toolbox, call),
                        partial(self.recording.result_of, call),
                        can_ask=asks_again(self.host, self.recording),
                    )
                    announce(sinks, self.host, self.toolbox, turn, call, decided)
                    outcome = await asyncio.to_thread(self.toolbox.perform, decided)
                    span.end(outcome.text, is_error=outcome.is_error)
                if outcome.error is not None:
                    self.host.show_traceback(outcome.error)
                self._emit(turn.answer(call, outcome))
        except asyncio.CancelledError:
            for result in turn.abandon_calls():
                self._emit(result)
            raise
