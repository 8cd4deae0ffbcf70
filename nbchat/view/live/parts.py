"""The parts of an answer that is arriving: each part is a row of segments in the widget box.

:class:`nbchat.view.live.segments.Segments` decides what is worth a message. The caller decides when.
Times are in seconds of one monotonic clock.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from nbchat.core.call_text import CODE_TOOLS, tool_name
from nbchat.core.chunks import (
    BlockStart,
    BlockStop,
    OutputText,
    ResponseChunk,
    StreamChunk,
    Thinking,
    ToolDecision,
    ToolInput,
    ToolResult,
)
from nbchat.core.messages import OpaqueBlock, TextBlock, ToolUseBlock
from nbchat.view.html.budget import Budget
from nbchat.view.html.calls import call_head, call_html, outcome_html
from nbchat.view.html.markdown import MarkdownStream
from nbchat.view.html.render import render_opaque, render_tool_result, result_text
from nbchat.view.html.safe import clean
from nbchat.view.html.sources import Sources
from nbchat.view.html.typed_table import TypedTable
from nbchat.view.live.segments import PlainTextStream, Segments, TextStream
from nbchat.view.live.widgets import Segment, WidgetBox, wrap_segment
from nbchat.view.status import Status

__all__ = ["Parts"]

#: The time between two status lines.
STATUS_INTERVAL_S = 1.0
#: The text that one update takes. A browser would be busy with more for too long.
MAX_CHARACTERS_PER_UPDATE = 6_000
#: After this many messages, an update takes no more chunks.
MAX_MESSAGES_PER_UPDATE = 5


class Parts:
    """The parts of one answer: its text, and folds with the thinking and with the tool calls.

    Args:
        widgets: the box that shows the parts.
        status: the counts for the status line.
        typed: the text is JSON, and is shown as a table.
        shown_name: returns the name of a tool that people read, for its name in requests.
    """

    def __init__(
        self, widgets: WidgetBox, status: Status, typed: bool = False, shown_name: Callable[[str], str] = str
    ) -> None:
        self._widgets, self._status, self._typed, self._shown_name = widgets, status, typed, shown_name
        self._sources, self._budget = Sources(), Budget()
        self._open_part: Part | None = None  # the part that grows
        self._calls: dict[str, Part] = {}  # the parts of tool calls, by the id of the call
        self._blocks: dict[str, ToolUseBlock] = {}  # the whole calls
        self._declined: set[str] = set()  # the ids of the calls that do not run
        #: How many characters of the answer's text were taken.
        self.characters = 0
        self._line, self._line_at = "", float("-inf")
        self._notice, self._waiting = "", True

    @property
    def due(self) -> float:
        """The time of the next update if no more chunks arrive."""
        line_due = self._line_at + STATUS_INTERVAL_S
        return line_due if self._open_part is None else min(line_due, self._open_part.due)

    def take(self, pending: deque[StreamChunk], now: float) -> bool:
        """Take as many chunks as one update may show from the beginning of ``pending``.

        Returns:
            True if the update is full of text, and more text waits.
        """
        texts: list[str] = []  # a run of text is fed as one, because each feeding has a cost
        sent, before = self._widgets.sent, self.characters
        while pending:
            chunk = pending.popleft()
            if type(chunk) is OutputText:
                room = MAX_CHARACTERS_PER_UPDATE - (self.characters - before)
                texts.append(chunk.text[:room])
                self.characters += len(texts[-1])
                if len(chunk.text) > room:
                    pending.appendleft(OutputText(chunk.index, chunk.text[room:]))
                    self._feed_text(texts, now)
                    return True
                continue
            self._feed_text(texts, now)
            self._status.take(chunk, now)
            self._apply(chunk, now)
            if self._widgets.sent - sent >= MAX_MESSAGES_PER_UPDATE:
                break
        self._feed_text(texts, now)
        return False

    def flush(self, now: float) -> None:
        """Show all text that was taken."""
        if self._open_part is not None:
            self._open_part.flush(now)

    def show(self, now: float) -> None:
        """Show what is worth a message, and the status line once a second."""
        if self._open_part is not None:
            self._open_part.show(now)
        notice, waiting = self._status.notice, self._status.waiting
        # A notice and the first word do not wait for the second to be over.
        if now >= self._line_at + STATUS_INTERVAL_S or (notice, waiting) != (self._notice, self._waiting):
            line, is_news = self._status.line(now), not self._line or notice != self._notice
            if line != self._line:
                self._widgets.set_status(line, announced=is_news)
            self._line, self._line_at, self._notice, self._waiting = line, now, notice, waiting
        self._widgets.show()

    def _feed_text(self, texts: list[str], now: float) -> None:
        if text := "".join(texts):
            self._status.count(len(text), now)
            self._part_of("text", now).feed(text)
        texts.clear()

    def _apply(self, chunk: StreamChunk, now: float) -> None:
        """Change the parts by one chunk that is not text."""
        match chunk:
            case BlockStart(block=ToolUseBlock() as call):
                self._end(now)
                head = f"Tool call: {tool_name(self._shown_name(call.name))}"
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
                self._blocks[call.id] = call
                self._open_part.segments.end(lambda: clean(call_html(call, None, self._budget)))
                self._open_part.set_head(call_head(replace(call, name=self._shown_name(call.name))))
            case ToolDecision():
                self._decide(chunk)
            case BlockStop(block=TextBlock(citations=citations)) if citations:
                self._part_of("text", now).cite(self._sources, citations)
            case BlockStop(block=OpaqueBlock(data=data)):
                self._add_opaque(data, now)
            case ResponseChunk() if self._typed:
                self._end(now)  # the answer of a second try is a table of its own
            case ToolResult():
                self._add_result(chunk.tool_use_id, [block.to_dict() for block in chunk.content], chunk.is_error, now)

    def _decide(self, decision: ToolDecision) -> None:
        """Show who allowed a call in the head of its part. The user changes no call that this view still shows."""
        part, call = self._calls.get(decision.tool_use_id), self._blocks.get(decision.tool_use_id)
        if not decision.allowed:
            self._declined.add(decision.tool_use_id)
        if part is not None and call is not None:
            part.set_head(call_head(call, decision))

    def _part_of(self, kind: str, now: float, head: str = "") -> Part:
        """Return the open part if it is of that kind, else end it and return a new one."""
        if self._open_part is None or self._open_part.kind != kind:
            self._end(now)
            text = TypedTable() if self._typed and kind == "text" else MarkdownStream(self._budget)
            self._open_part = Part(self._widgets, kind, head, text=text)
        return self._open_part

    def _end(self, now: float) -> None:
        if self._open_part is not None:
            self._open_part.close(now)
            self._open_part = None

    def _add_opaque(self, data: Mapping[str, Any], now: float) -> None:
        """Show a whole block of another type: the result of a server tool, or a type that is not known yet."""
        if data.get("tool_use_id") in self._calls:
            self._add_result(data["tool_use_id"], data.get("content"), bool(data.get("is_error")), now)
        elif html := render_opaque(data):
            self._end(now)
            Part(self._widgets, "block", "").add(html, now)

    def _add_result(self, id: str, content: object, is_error: bool, now: float) -> None:
        """Show a tool result in the part of its call, or alone if an earlier view has shown the call."""
        if id in self._declined:
            return  # the head of the call has the reason
        if (part := self._calls.get(id)) is not None:
            part.add(clean(outcome_html(result_text(content), is_error)), now)
        else:
            self._end(now)
            Part(self._widgets, "block", "").add(render_tool_result(result_text(content), is_error), now)


class Part:
    """One part in the widget box: a row of HTML widgets, inside a fold if the part has a head.

    Args:
        widgets: the box.
        kind: "text", "thinking", "call" or "block".
        head: the line that opens and closes the fold, "" for a part without a fold.
        open: the fold is open at first.
        text: the stream that renders the text, if not the usual one of the kind.
    """

    def __init__(
        self, widgets: WidgetBox, kind: str, head: str, *, open: bool = False, text: TextStream | None = None
    ) -> None:
        self.kind = kind
        self._widgets = widgets
        text = text or (PlainTextStream() if kind == "call" else MarkdownStream())
        self.segments = Segments(text, first=widgets.segments == 0)
        self._column, self._more, self._head, self._shown_head = widgets.column, None, head, head
        if head:
            self._more, self._column = widgets.fold(head, open)
        self._values: list[Segment] = []  # the widgets of the row

    @property
    def due(self) -> float:
        """The time from which on the part is worth a message."""
        return self.segments.due

    def set_head(self, head: str) -> None:
        """Change what the line of the fold says.

        The line begins as before: a line that was sent again would close a fold that the reader had opened.

        Args:
            head: the whole line.
        """
        head = " ".join(head.split())
        if self._more is not None and head != self._shown_head:
            self._widgets.set_more(self._more, head.removeprefix(self._head))
            self._shown_head = head

    def feed(self, text: str) -> None:
        """Take some more text."""
        self.segments.feed(text)

    def cite(self, sources: Sources, citations: Sequence[Mapping[str, Any]]) -> None:
        """Mark the text so far with the numbers of its citations."""
        if isinstance(self.segments.text, MarkdownStream):
            sources.cite(self.segments.text, citations)

    def add(self, html: str, now: float) -> None:
        """Show finished HTML after the text so far."""
        self.segments.add(html)
        self._send(now)

    def show(self, now: float) -> None:
        """Show what is worth a message."""
        self.segments.advance()
        if self.segments.due <= now:
            self._send(now)

    def flush(self, now: float) -> None:
        """Show all text so far, worth a message or not."""
        if self.segments.due < math.inf:
            self._send(now)

    def close(self, now: float) -> None:
        """Show the rest, because the part is whole."""
        self.segments.close()
        self._send(now)
        while self.segments.due <= now:  # the values of a list that became loose at its end
            self._send(now)

    def _send(self, now: float) -> None:
        for place, value in self.segments.show(now, self._widgets.segments):
            html = wrap_segment(value, finished=place < self.segments.place)
            if place < len(self._values):
                self._widgets.set(self._values[place], html)
            else:
                self._values.append(self._column.add(html))
