"""A turn with tools as several outputs, if a tool shows something of its own.

What a tool prints or draws belongs under its call. So when a tool is about to show something, the view
of the turn ends with that call, as the view of a whole answer does, and the next view begins with the
result of the call. A turn whose tools show nothing has one view, as if this module did not exist.

A question about a call ends the view too: the card of the call is then a plain output, which every front
end shows, above the question. The answer goes into this output.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from nbchat.core.chunks import ResponseChunk, StreamChunk, ToolDecision, ToolResult
from nbchat.core.messages import Block, Message, OpaqueBlock, joined_text
from nbchat.core.parser import ChatStreamParser, events_of
from nbchat.core.request import Request, Sink
from nbchat.core.response import Response
from nbchat.core.stopping import unstoppable
from nbchat.view.final import FinalView, final_bundle, publish_response
from nbchat.view.live.view import DRAWING_THREAD

__all__ = ["OutputHook", "SplitView"]

log = logging.getLogger("nbchat.view")

OutputHook: TypeAlias = Callable[[Callable[[], None]], AbstractContextManager[None]]
"""Returns a context manager that calls a function before each output inside, in the thread of the output."""


@dataclass(slots=True)
class Card:
    """The output of a view that ended with a call, which runs now or waits for the user's answer.

    Attributes:
        display_id: the display id of the output.
        response: the part of the answer that the output shows.
        is_last: True until another output came after this one.
    """

    display_id: str
    response: Response
    is_last: bool = True


class SplitView:
    """A sink that shows one turn in one view or several.

    Args:
        view: makes a view, whose ``display_id`` is that of its output after the end. The first one is made now.
        hook: calls a function before a tool shows something.
    """

    def __init__(self, view: Callable[[], Sink], hook: OutputHook) -> None:
        self._new_view, self._hook = view, hook
        self._view: Sink | None = view()  # None from the output of a tool to the result of its call
        self._request: Request | None = None
        # Reentrant: a tool may print in a thread of its own, and ending a view shows an output itself.
        self._lock = threading.RLock()
        self._hooked = contextlib.ExitStack()
        self._blocks: list[Block] = []  # the whole blocks that the view shows
        self._results: list[Block] = []  # the results of the calls among them
        self._result_before: list[Block] = []  # the result that the view begins with: its call is in the view before
        self._blocks_shown = 0  # the number of blocks in the views that ended
        self._calls: list[str] = []  # the ids of the calls without a result
        self._decisions: dict[str, ToolDecision] = {}  # by the ids of the calls
        self._card: Card | None = None  # of the view that ended
        self._publishes = False  # this sink itself shows an output now

    def begin(self, request: Request) -> None:
        """Begin the first view."""
        self._request = request
        if self._view is not None:
            self._view.begin(request)

    def feed(self, chunk: StreamChunk) -> None:
        """Give one chunk to the view. While tools run, watch what they show."""
        if isinstance(chunk, ToolResult):
            self._add_result(chunk)
            return
        if isinstance(chunk, ToolDecision):
            self._decide(chunk)
            return
        if self._view is not None:
            self._view.feed(chunk)
        if isinstance(chunk, ResponseChunk):
            self._blocks += chunk.blocks
            self._calls = [call.id for call in chunk.calls]
            if self._calls:
                self._hooked.enter_context(self._hook(self._end_view))

    def settle(self, response: Response) -> None:
        """Show the rest, and how the turn ended."""
        self._hooked.close()
        if self._blocks_shown:
            blocks = (*self._result_before, *response.blocks[self._blocks_shown :])
            # An error without blocks shows no output. A complete response without any would show an empty box.
            status = "error" if not blocks and response.status == "complete" else response.status
            response = replace(response, blocks=blocks, text=joined_text(blocks), status=status)
        (self._view or FinalView()).settle(response)

    def show_call(self, id: str, name: str, arguments: Mapping[str, Any], is_numbered: bool) -> bool:
        """Show the call above the question about it, with the arguments with which it would run.

        Args:
            id: the id of the call.
            name: the name of the tool that people read.
            arguments: the arguments.
            is_numbered: write numbers before the lines of code.
        """
        return unstoppable(lambda: self._show_call(id, name, arguments, is_numbered))

    def _show_call(self, id: str, name: str, arguments: Mapping[str, Any], is_numbered: bool) -> bool:
        with self._lock:
            self._decisions[id] = ToolDecision(id, name, True, "", arguments)
            if self._view is not None:
                self._settle_view()
            else:
                self._update_card(id if is_numbered else "")
            return self._card is not None

    def _decide(self, decision: ToolDecision) -> None:
        """Show the decision about a call in its card."""
        with self._lock:
            self._decisions[decision.tool_use_id] = decision
            if self._view is not None:
                self._view.feed(decision)
            elif self._card is not None and decision.tool_use_id in _ids(self._card.response.blocks):
                unstoppable(self._update_card)

    def _update_card(self, numbered_call: str = "") -> None:
        """Show the card again, with the decisions and the results that came since."""
        if self._card is None:
            return
        card = self._card
        card.response = replace(card.response, decisions=tuple(self._decisions.values()))
        with self._publishing():
            publish_response(card.response, final_bundle(card.response, numbered_call), card.display_id)

    @contextlib.contextmanager
    def _publishing(self) -> Iterator[None]:
        """Mark the outputs inside as those of this sink."""
        outer, self._publishes = self._publishes, True
        try:
            yield
        finally:
            self._publishes = outer

    def _end_view(self) -> None:
        """End the view with the call that runs, because a tool is about to show something."""
        # A tool runs, so an interrupt would stop this halfway, and a widget would stay.
        unstoppable(self._settle_before_output)

    def _settle_before_output(self) -> None:
        if threading.current_thread().name == DRAWING_THREAD:
            return  # the view itself shows something
        with self._lock:
            if self._publishes:
                return
            self._settle_view()
            if self._card is not None:
                self._card.is_last = False

    def _settle_view(self) -> None:
        with self._lock:
            view, self._view = self._view, None
            if view is None:
                return
            ids = _ids(self._blocks)
            end = ids.index(self._calls[0]) + 1 if self._calls else len(ids)
            blocks = (*self._result_before, *self._blocks[:end])
            self._blocks, self._result_before = self._blocks[end:], []
            self._blocks_shown += end
            messages = (Message("assistant", blocks), Message("user", tuple(self._results)))
            decisions = tuple(self._decisions.values())
            response = Response(joined_text(blocks), blocks=blocks, messages=messages, decisions=decisions)
            try:
                with self._publishing():
                    view.settle(response)
                if display_id := getattr(view, "display_id", ""):
                    self._card = Card(display_id, response)
            except Exception:
                # This runs inside the tool's own print: an error here would look like the tool's.
                log.warning("a part of the answer could not be shown", exc_info=True)

    def _add_result(self, chunk: ToolResult) -> None:
        """Give a result to the view that has its call, or begin a new view with the result."""
        with self._lock:
            self._calls = [id for id in self._calls if id != chunk.tool_use_id]
            content = [block.to_dict() for block in chunk.content]
            data = {"type": "tool_result", "content": content, "is_error": chunk.is_error}
            if self._view is not None:
                self._results.append(OpaqueBlock({**data, "tool_use_id": chunk.tool_use_id}))
                self._view.feed(chunk)
            else:
                self._begin_view_after(chunk, data)
        if not self._calls:
            self._hooked.close()

    def _begin_view_after(self, chunk: ToolResult, data: Mapping[str, Any]) -> None:
        """Begin the view after a call, with the result of the call if nothing has shown the result yet."""
        decision = self._decisions.get(chunk.tool_use_id)
        is_declined = decision is not None and not decision.allowed
        self._result_before = []
        if is_declined or (chunk.shown and not (self._card is not None and self._card.is_last)):
            pass  # the card has the reason, or the outputs of the tool are the result
        elif self._card is not None and self._card.is_last:
            self._add_to_card(OpaqueBlock({**data, "tool_use_id": chunk.tool_use_id}))
        else:
            self._result_before = [OpaqueBlock(data)]
        self._card = None
        self._view = self._new_view()
        if self._request is not None:
            self._view.begin(self._request)
        if self._result_before:
            self._view.feed(replace(chunk, tool_use_id=""))
        # The calls that have not run yet were shown by no view so far.
        for other in _chunks_of(self._blocks):
            self._view.feed(other)

    def _add_to_card(self, result: OpaqueBlock) -> None:
        assert self._card is not None
        card = self._card
        card.response = replace(card.response, messages=(*card.response.messages, Message("user", (result,))))
        unstoppable(self._update_card)


def _ids(blocks: Sequence[Block]) -> list[str | None]:
    return [getattr(block, "id", None) for block in blocks]


def _chunks_of(blocks: Sequence[Block]) -> list[StreamChunk]:
    """Return the chunks of a stream of these blocks."""
    parser = ChatStreamParser()
    chunks = map(parser.feed, events_of({"type": "message", "content": [block.to_dict() for block in blocks]}))
    return [chunk for chunk in chunks if chunk is not None and not isinstance(chunk, ResponseChunk)]
