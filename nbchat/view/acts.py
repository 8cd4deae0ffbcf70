"""A turn with tools as a row of outputs: what was said, the call, what the call showed, its result.

Tools print and draw figures while they run, and that belongs under their call. So each time a
round ends in calls, its view ends too, as a whole answer's does; the next begins with the result.
A turn without calls is one view, as if this were not here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from nbchat.core.chunks import ResponseChunk, StreamChunk, ToolResult
from nbchat.core.messages import Block, Message, OpaqueBlock, TextBlock, ToolUseBlock
from nbchat.core.request import Request, Sink
from nbchat.core.response import Response
from nbchat.view.live import FinalView

__all__ = ["Acts"]


class Acts:
    """A sink that shows each act of a turn in a view of its own, made by ``view``."""

    def __init__(self, view: Callable[[], Sink]) -> None:
        self._make = view
        self._view: Sink | None = view()
        self._request: Request | None = None
        self._shown = 0  # blocks of the answer that were shown, or are in what waits
        self._waiting: list[list[Block]] = []  # a list for each call that has not run, with what came before it
        self._paused: tuple[Block, ...] = ()  # blocks of rounds that the service paused
        self._results: list[Block] = []  # what the next view begins with

    def begin(self, request: Request) -> None:
        self._request = request
        _begin(self._view, request)

    def feed(self, chunk: StreamChunk) -> None:
        if isinstance(chunk, ToolResult):
            self._take(chunk)
            return
        if self._view is not None:
            self._view.feed(chunk)
        if isinstance(chunk, ResponseChunk):
            self._end_round(chunk)

    def settle(self, response: Response) -> None:
        """Show what is left, and how it ended."""
        left = response.blocks[self._shown :]
        rest = (*self._results, *(block for act in self._waiting for block in act), *left)
        if self._shown:
            # Nothing more to show is shown as nothing, not as an empty box.
            status = "error" if not rest and response.status == "complete" else response.status
            messages = (Message("assistant", rest),)
            response = replace(response, blocks=rest, text=_told(rest), messages=messages, status=status)
        (self._view or FinalView()).settle(response)

    def _end_round(self, chunk: ResponseChunk) -> None:
        """A round is whole: if it calls, it is shown up to its first call, and what runs comes below."""
        acts = _by_call(chunk.blocks) if chunk.stop_reason == "tool_use" else []
        if acts:
            # The answer's earlier blocks that are not shown yet: of rounds that the service paused.
            self._waiting = acts[1:]
            self._show([*self._results, *self._paused, *acts[0]])
            self._shown += len(self._paused) + len(chunk.blocks)
            self._paused = ()
        elif chunk.stop_reason == "pause_turn":
            self._paused += chunk.blocks

    def _take(self, chunk: ToolResult) -> None:
        """A call has run: the next one is shown with its result, or the next round begins with it."""
        data = {
            "type": "tool_result",
            "content": [block.to_dict() for block in chunk.content],
            "is_error": chunk.is_error,
        }
        self._results.append(OpaqueBlock(data))
        if self._waiting:
            self._show([*self._results, *self._waiting.pop(0)])
            return
        if self._view is None:
            self._view = self._make()
            if self._request is not None:
                _begin(self._view, self._request)
            for block in self._results:
                self._view.feed(_as_chunk(block))

    def _show(self, blocks: list[Block]) -> None:
        part = Response(_told(blocks), blocks=tuple(blocks), messages=(Message("assistant", tuple(blocks)),))
        (self._view or FinalView()).settle(part)
        self._view, self._results = None, []


def _begin(view: Sink | None, request: Request) -> None:
    begin = getattr(view, "begin", None)
    if begin is not None:
        begin(request)


def _by_call(blocks: tuple[Block, ...]) -> list[list[Block]]:
    """The blocks up to each call; what stands behind the last one goes with it."""
    acts: list[list[Block]] = []
    open_: list[Block] = []
    for block in blocks:
        open_.append(block)
        if isinstance(block, ToolUseBlock) and block.type == "tool_use":
            acts.append(open_)
            open_ = []
    if acts:
        acts[-1] += open_
    return acts


def _as_chunk(block: Block) -> ToolResult:
    data = block.to_dict()
    content = tuple(OpaqueBlock(part) for part in data["content"])
    return ToolResult("", content, data["is_error"])


def _told(blocks: tuple[Block, ...] | list[Block]) -> str:
    """An act as plain text: what was said, then the calls."""
    said = "".join(block.text for block in blocks if isinstance(block, TextBlock))
    calls = [f"→ {block.name}({_arguments(block)})" for block in blocks if isinstance(block, ToolUseBlock)]
    return "\n\n".join([*([said] if said.strip() else []), *calls])


def _arguments(call: ToolUseBlock) -> str:
    if not call.valid:
        return call.partial_json
    return ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in call.input.items())
