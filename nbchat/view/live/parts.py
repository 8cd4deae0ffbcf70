"""The picture of an answer that arrives: its parts on a stage, each as a row of segments.

What is worth a message is decided here, by :class:`nbchat.view.live.segments.Segments`; when, by whoever
calls. Times are seconds of one monotonic clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from nbchat.core.chunks import (
    BlockStart,
    BlockStop,
    OutputText,
    ResponseChunk,
    StreamChunk,
    Thinking,
    ToolInput,
    ToolResult,
)
from nbchat.core.messages import OpaqueBlock, TextBlock, ToolUseBlock
from nbchat.view.html.markdown import MarkdownStream
from nbchat.view.html.render import (
    CODE_TOOLS,
    Sources,
    arguments_html,
    clean,
    outcome_html,
    render_opaque,
    render_tool_result,
    result_text,
)
from nbchat.view.html.typed_table import Table
from nbchat.view.live.segments import Growing, Letters, Segments
from nbchat.view.live.widgets import Segment, Stage, dressed
from nbchat.view.status import Status

__all__ = ["Picture", "Read"]

Read: TypeAlias = Callable[[str], Any]
"""Gives the value of a JSON text that is not whole yet."""

#: Seconds between two status lines.
TICK = 1.0
#: Letters of text that an update takes.
MOST_LETTERS = 6_000
#: Messages after which an update takes no more chunks.
ENOUGH = 5


class Picture:
    """The parts of an answer on a stage: text, and folds of thinking and of tool calls."""

    def __init__(self, stage: Stage, status: Status, read: Read | None = None) -> None:
        self._stage, self._status, self._read = stage, status, read
        self._sources = Sources()
        self._part: Part | None = None  # the one that grows
        self._calls: dict[str, Part] = {}
        self.letters = 0  # of the answer's text that were taken
        self._line, self._line_at = "", float("-inf")
        self._notice, self._waiting = "", True

    @property
    def due(self) -> float:
        """When there is something to show if nothing more comes."""
        line = self._line_at + TICK
        return line if self._part is None else min(line, self._part.due)

    def take(self, chunks: list[StreamChunk], now: float) -> tuple[int, list[StreamChunk]]:
        """Take some of what has arrived: how many chunks, and what is left of the last.

        One update shows so much and no more, lest a browser be busy with it for long.
        """
        said: list[str] = []  # a run of text, fed as one
        sent, before, taken = self._stage.sent, self.letters, 0
        for chunk in chunks:
            taken += 1
            if type(chunk) is OutputText:
                room = MOST_LETTERS - (self.letters - before)
                said.append(chunk.text[:room])
                self.letters += len(said[-1])
                if len(chunk.text) > room:
                    self._say(said, now)
                    return taken, [OutputText(chunk.index, chunk.text[room:])]
                continue
            self._say(said, now)
            self._status.take(chunk, now)
            self._take(chunk, now)
            if self._stage.sent - sent >= ENOUGH:
                break
        self._say(said, now)
        return taken, []

    def flush(self, now: float) -> None:
        """Show all that was taken."""
        if self._part is not None:
            self._part.flush(now)

    def _say(self, said: list[str], now: float) -> None:
        if text := "".join(said):
            self._status.count(len(text), now)
            self._part_of("text", now).feed(text)
        said.clear()

    def _take(self, chunk: StreamChunk, now: float) -> None:
        match chunk:
            case BlockStart(block=ToolUseBlock() as call):
                self._end(now)
                head = f"Tool call: {call.name}"
                self._part = self._calls[call.id] = Part(self._stage, "call", head, open=call.name in CODE_TOOLS)
            case BlockStart(block=OpaqueBlock(data=data)) if data.get("tool_use_id") in self._calls:
                self._end(now)
            case BlockStart(block=block) if block.type != "text":
                self._end(now)
            case Thinking(text=text) if text:
                self._part_of("thinking", now, "Thinking").feed(text)
            case ToolInput(partial_json=text) if self._part is not None:
                self._part.feed(text)
            case BlockStop(block=ToolUseBlock() as call) if self._part is not None:
                arguments = call.arguments
                self._part.segments.end(lambda: clean(arguments_html(arguments)))
            case BlockStop(block=TextBlock(citations=citations)) if citations:
                self._part_of("text", now).cite(self._sources, citations)
            case BlockStop(block=OpaqueBlock(data=data)):
                self._finish(data, now)
            case ResponseChunk() if self._read is not None:
                self._end(now)  # a further try is a further table
            case ToolResult():
                self._answer(chunk.tool_use_id, [block.to_dict() for block in chunk.content], chunk.is_error, now)

    def _part_of(self, kind: str, now: float, head: str = "") -> Part:
        """The part that grows, if it is of that kind; else it ends and another begins."""
        if self._part is None or self._part.kind != kind:
            self._end(now)
            text = Table(self._read) if self._read is not None and kind == "text" else None
            self._part = Part(self._stage, kind, head, text=text)
        return self._part

    def _end(self, now: float) -> None:
        if self._part is not None:
            self._part.close(now)
            self._part = None

    def _finish(self, data: Mapping[str, Any], now: float) -> None:
        """A block of another kind is whole: the result of a server tool, or what is not known yet."""
        if data.get("tool_use_id") in self._calls:
            self._answer(data["tool_use_id"], data.get("content"), bool(data.get("is_error")), now)
        elif html := render_opaque(data):
            self._end(now)
            Part(self._stage, "block", "").add(html, now)

    def _answer(self, id: str, content: object, is_error: bool, now: float) -> None:
        if (part := self._calls.get(id)) is not None:
            part.add(clean(outcome_html(result_text(content), is_error)), now)
        else:  # its call was shown before
            self._end(now)
            Part(self._stage, "block", "").add(render_tool_result(result_text(content), is_error), now)

    def show(self, now: float) -> None:
        """Show what is worth a message, and the status line when it is time."""
        if self._part is not None:
            self._part.show(now)
        notice, waiting = self._status.notice, self._status.waiting
        if now >= self._line_at + TICK or (notice, waiting) != (self._notice, self._waiting):
            line, news = self._status.line(now), not self._line or notice != self._notice
            if line != self._line:
                self._stage.say(line, announced=news)
            self._line, self._line_at, self._notice, self._waiting = line, now, notice, waiting
        self._stage.show()


class Part:
    """One part on the stage: a row of HTML widgets, in a fold if it has a head."""

    def __init__(self, stage: Stage, kind: str, head: str, *, open: bool = False, text: Growing | None = None) -> None:
        self.kind = kind
        self._stage = stage
        text = text or (Letters() if kind == "call" else MarkdownStream())
        self.segments = Segments(text, first=stage.segments == 0)
        self._column = stage.fold(head, open) if head else stage.column
        self._row: list[Segment] = []

    @property
    def due(self) -> float:
        return self.segments.due

    def feed(self, text: str) -> None:
        self.segments.feed(text)

    def cite(self, sources: Sources, citations: Sequence[Mapping[str, Any]]) -> None:
        if isinstance(self.segments.text, MarkdownStream):
            sources.cite(self.segments.text, citations)

    def add(self, html: str, now: float) -> None:
        """Finished HTML, behind what is there."""
        self.segments.add(html)
        self._send(now)

    def show(self, now: float) -> None:
        self.segments.advance()
        if self.segments.due <= now:
            self._send(now)

    def flush(self, now: float) -> None:
        """Show what was not worth a message until now."""
        if self.segments.due < math.inf:
            self._send(now)

    def close(self, now: float) -> None:
        """The part is whole: show the rest of it."""
        self.segments.close()
        self._send(now)
        while self.segments.due <= now:  # a list that became loose at its end
            self._send(now)

    def _send(self, now: float) -> None:
        for place, value in self.segments.show(now, self._stage.segments):
            html = dressed(value, finished=place < self.segments.place)
            if place < len(self._row):
                self._stage.set(self._row[place], html)
            else:
                self._row.append(self._column.add(html))
