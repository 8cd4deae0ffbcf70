"""The parts of an answer that arrives: each part is a row of segments.

What is worth a message is decided here, by :class:`nbchat.view.live.segments.Segments`; when, by whoever
calls. Times are seconds of one monotonic clock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

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
    outcome_html,
    render_opaque,
    render_tool_result,
    result_text,
)
from nbchat.view.html.safe import clean
from nbchat.view.html.typed_table import TypedTable
from nbchat.view.live.segments import PlainTextStream, Segments, TextStream
from nbchat.view.live.widgets import Segment, WidgetBox, wrap_segment
from nbchat.view.status import Status

__all__ = ["Parts"]

#: Seconds between two status lines.
STATUS_INTERVAL_S = 1.0
#: Characters of text that an update takes.
MAX_CHARACTERS_PER_UPDATE = 6_000
#: Messages after which an update takes no more chunks.
MAX_MESSAGES_PER_UPDATE = 5


class Parts:
    """The parts of an answer in a widget box: text, and folds of thinking and of tool calls."""

    def __init__(self, widgets: WidgetBox, status: Status, typed: bool = False) -> None:
        self._widgets, self._status, self._typed = widgets, status, typed
        self._sources = Sources()
        self._open_part: Part | None = None  # the one that grows
        self._calls: dict[str, Part] = {}
        self.characters = 0  # of the answer's text that were taken
        self._line, self._line_at = "", float("-inf")
        self._notice, self._waiting = "", True

    @property
    def due(self) -> float:
        """When there is something to show if nothing more comes."""
        line = self._line_at + STATUS_INTERVAL_S
        return line if self._open_part is None else min(line, self._open_part.due)

    def take(self, chunks: list[StreamChunk], now: float) -> tuple[int, list[StreamChunk]]:
        """Take some of what has arrived: how many chunks, and what is left of the last.

        One update shows so much and no more, lest a browser be busy with it for long.
        """
        texts: list[str] = []  # a run of text, fed as one
        sent, before, taken = self._widgets.sent, self.characters, 0
        for chunk in chunks:
            taken += 1
            if type(chunk) is OutputText:
                room = MAX_CHARACTERS_PER_UPDATE - (self.characters - before)
                texts.append(chunk.text[:room])
                self.characters += len(texts[-1])
                if len(chunk.text) > room:
                    self._feed_text(texts, now)
                    return taken, [OutputText(chunk.index, chunk.text[room:])]
                continue
            self._feed_text(texts, now)
            self._status.take(chunk, now)
            self._apply(chunk, now)
            if self._widgets.sent - sent >= MAX_MESSAGES_PER_UPDATE:
                break
        self._feed_text(texts, now)
        return taken, []

    def flush(self, now: float) -> None:
        """Show all that was taken."""
        if self._open_part is not None:
            self._open_part.flush(now)

    def _feed_text(self, texts: list[str], now: float) -> None:
        if text := "".join(texts):
            self._status.count(len(text), now)
            self._part_of("text", now).feed(text)
        texts.clear()

    def _apply(self, chunk: StreamChunk, now: float) -> None:
        match chunk:
            case BlockStart(block=ToolUseBlock() as call):
                self._end(now)
                head = f"Tool call: {call.name}"
                self._open_part = self._calls[call.id] = Part(self._widgets, "call", head, open=call.name in CODE_TOOLS)
            case BlockStart(block=OpaqueBlock(data=data)) if data.get("tool_use_id") in self._calls:
                self._end(now)
            case BlockStart(block=block) if block.type != "text":
                self._end(now)
            case Thinking(text=text) if text:
                self._part_of("thinking", now, "Thinking").feed(text)
            case ToolInput(partial_json=text) if self._open_part is not None:
                self._open_part.feed(text)
            case BlockStop(block=ToolUseBlock() as call) if self._open_part is not None:
                arguments = call.arguments
                self._open_part.segments.end(lambda: clean(arguments_html(arguments)))
            case BlockStop(block=TextBlock(citations=citations)) if citations:
                self._part_of("text", now).cite(self._sources, citations)
            case BlockStop(block=OpaqueBlock(data=data)):
                self._add_opaque(data, now)
            case ResponseChunk() if self._typed:
                self._end(now)  # a further try is a further table
            case ToolResult():
                self._add_result(chunk.tool_use_id, [block.to_dict() for block in chunk.content], chunk.is_error, now)

    def _part_of(self, kind: str, now: float, head: str = "") -> Part:
        """The part that grows, if it is of that kind; else it ends and another begins."""
        if self._open_part is None or self._open_part.kind != kind:
            self._end(now)
            text = TypedTable() if self._typed and kind == "text" else None
            self._open_part = Part(self._widgets, kind, head, text=text)
        return self._open_part

    def _end(self, now: float) -> None:
        if self._open_part is not None:
            self._open_part.close(now)
            self._open_part = None

    def _add_opaque(self, data: Mapping[str, Any], now: float) -> None:
        """A block of another kind is whole: the result of a server tool, or what is not known yet."""
        if data.get("tool_use_id") in self._calls:
            self._add_result(data["tool_use_id"], data.get("content"), bool(data.get("is_error")), now)
        elif html := render_opaque(data):
            self._end(now)
            Part(self._widgets, "block", "").add(html, now)

    def _add_result(self, id: str, content: object, is_error: bool, now: float) -> None:
        if (part := self._calls.get(id)) is not None:
            part.add(clean(outcome_html(result_text(content), is_error)), now)
        else:  # its call was shown before
            self._end(now)
            Part(self._widgets, "block", "").add(render_tool_result(result_text(content), is_error), now)

    def show(self, now: float) -> None:
        """Show what is worth a message, and the status line when it is time."""
        if self._open_part is not None:
            self._open_part.show(now)
        notice, waiting = self._status.notice, self._status.waiting
        if now >= self._line_at + STATUS_INTERVAL_S or (notice, waiting) != (self._notice, self._waiting):
            line, news = self._status.line(now), not self._line or notice != self._notice
            if line != self._line:
                self._widgets.set_status(line, announced=news)
            self._line, self._line_at, self._notice, self._waiting = line, now, notice, waiting
        self._widgets.show()


class Part:
    """One part in the widget box: a row of HTML widgets, in a fold if it has a head."""

    def __init__(
        self, widgets: WidgetBox, kind: str, head: str, *, open: bool = False, text: TextStream | None = None
    ) -> None:
        self.kind = kind
        self._widgets = widgets
        text = text or (PlainTextStream() if kind == "call" else MarkdownStream())
        self.segments = Segments(text, first=widgets.segments == 0)
        self._column = widgets.fold(head, open) if head else widgets.column
        self._values: list[Segment] = []

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
        for place, value in self.segments.show(now, self._widgets.segments):
            html = wrap_segment(value, finished=place < self.segments.place)
            if place < len(self._values):
                self._widgets.set(self._values[place], html)
            else:
                self._values.append(self._column.add(html))
