"""A turn with tools: one output, and more where a tool shows something of its own.

What tools print and draw belongs under their call. So when a tool is about to show something, the
view of the turn ends with that call, as a whole answer's does, and the next one begins with the
call's result. A turn whose tools show nothing is one view, as if this were not here.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TypeAlias

from nbchat.core.chunks import ResponseChunk, StreamChunk, ToolResult
from nbchat.core.messages import Block, Message, OpaqueBlock, TextBlock, ToolUseBlock, tool_calls
from nbchat.core.parser import ChatStreamParser, events_of
from nbchat.core.request import Request, Sink
from nbchat.core.response import Response
from nbchat.view.final import FinalView
from nbchat.view.live.view import DRAWING_THREAD

__all__ = ["OutputHook", "SplitView"]

log = logging.getLogger("nbchat.view")

OutputHook: TypeAlias = Callable[[Callable[[], None]], AbstractContextManager[None]]
"""Calls a function before anything that is shown inside; it may be called in any thread."""


class SplitView:
    """A sink that shows a turn in views made by ``view``; ``hook`` tells when a tool shows something."""

    def __init__(self, view: Callable[[], Sink], hook: OutputHook) -> None:
        self._new_view, self._hook = view, hook
        self._view: Sink | None = view()
        self._request: Request | None = None
        self._lock = threading.RLock()  # a tool may print in a thread of its own
        self._hooked = contextlib.ExitStack()
        self._blocks: list[Block] = []  # whole blocks of the answer that the view has
        self._results: list[Block] = []  # what their calls gave
        self._result_before: list[Block] = []  # the result that the view begins with: its call is in the view before
        self._blocks_shown = 0  # blocks of the answer that stand in views that ended
        self._calls: list[str] = []  # ids of the calls without a result

    def begin(self, request: Request) -> None:
        self._request = request
        if self._view is not None:
            self._view.begin(request)

    def feed(self, chunk: StreamChunk) -> None:
        if isinstance(chunk, ToolResult):
            self._add_result(chunk)
            return
        if self._view is not None:
            self._view.feed(chunk)
        if isinstance(chunk, ResponseChunk):
            self._blocks += chunk.blocks
            self._calls = [call.id for call in tool_calls(chunk.blocks)]
            if self._calls and chunk.stop_reason == "tool_use":
                self._hooked.enter_context(self._hook(self._end_view))

    def settle(self, response: Response) -> None:
        """Show what is left, and how it ended."""
        self._hooked.close()
        if self._blocks_shown:
            rest = (*self._result_before, *response.blocks[self._blocks_shown :])
            # Nothing more to show is shown as nothing, not as an empty box.
            status = "error" if not rest and response.status == "complete" else response.status
            response = replace(response, blocks=rest, text=_plain_text(rest), status=status)
        (self._view or FinalView()).settle(response)

    def _end_view(self) -> None:
        """Something is about to be shown while a call runs: the view ends with that call."""
        if threading.current_thread().name == DRAWING_THREAD:
            return  # the view itself
        with self._lock:
            view, self._view = self._view, None
            if view is None:
                return
            ids = [getattr(block, "id", None) for block in self._blocks]
            end = ids.index(self._calls[0]) + 1 if self._calls else len(ids)
            shown = (*self._result_before, *self._blocks[:end])
            self._blocks, self._result_before = self._blocks[end:], []
            self._blocks_shown += end
            messages = (Message("assistant", shown), Message("user", tuple(self._results)))
            try:
                view.settle(Response(_plain_text(shown), blocks=shown, messages=messages))
            except Exception:  # it is the tool that would fail of it
                log.warning("a part of the answer could not be shown", exc_info=True)

    def _add_result(self, chunk: ToolResult) -> None:
        """A call has run: its result goes to the view that has the call, or a new view begins with it."""
        with self._lock:
            self._calls = [id for id in self._calls if id != chunk.tool_use_id]
            content = [block.to_dict() for block in chunk.content]
            data = {"type": "tool_result", "content": content, "is_error": chunk.is_error}
            if self._view is not None:
                self._results.append(OpaqueBlock({**data, "tool_use_id": chunk.tool_use_id}))
                self._view.feed(chunk)
            else:
                self._result_before = [OpaqueBlock(data)]
                self._view = self._new_view()
                if self._request is not None:
                    self._view.begin(self._request)
                self._view.feed(replace(chunk, tool_use_id=""))
                for other in _chunks_of(self._blocks):
                    self._view.feed(other)
        if not self._calls:
            self._hooked.close()


def _chunks_of(blocks: Sequence[Block]) -> list[StreamChunk]:
    """What would have streamed the blocks."""
    parser = ChatStreamParser()
    chunks = map(parser.feed, events_of({"type": "message", "content": [block.to_dict() for block in blocks]}))
    return [chunk for chunk in chunks if chunk is not None and not isinstance(chunk, ResponseChunk)]


def _plain_text(blocks: Sequence[Block]) -> str:
    """A part of a turn as plain text: what was said, then the calls."""
    said = "".join(block.text for block in blocks if isinstance(block, TextBlock))
    calls = [f"→ {block.name}({_arguments(block)})" for block in blocks if isinstance(block, ToolUseBlock)]
    return "\n\n".join([*([said] if said.strip() else []), *calls])


def _arguments(call: ToolUseBlock) -> str:
    if not call.valid:
        return call.partial_json
    return ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in call.input.items())
