"""The answer in a terminal: each finished block is printed once, only the open block is drawn again.

A terminal can draw over the lines on its screen, but not over those that have scrolled away.
Redrawing a whole long answer leaves many copies of its beginning in the scrollback: 13 of them were
measured on a terminal of 24 lines. So nothing is redrawn but the block that is being written.

Without a terminal (a pipe, a file, ``TERM=dumb``) the text is written as it arrives.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nbchat.core.call_text import CALL, call_lines, call_text, code_lines, code_of, numbered, tool_name
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
    stands_apart,
)
from nbchat.core.fields import one_line
from nbchat.core.messages import OpaqueBlock, TextBlock, ToolUseBlock, line_ends_between
from nbchat.core.request import Request
from nbchat.core.response import Response
from nbchat.core.stopping import stoppable
from nbchat.core.visible import visible
from nbchat.threads import start_thread, thread_time
from nbchat.view.html.files import files_text
from nbchat.view.html.render import block_note, footer_lines, marker, result_text
from nbchat.view.html.safe import neutral
from nbchat.view.rate import RateLimit
from nbchat.view.status import Cost, Status
from nbchat.view.terminal_markdown import finished, markdown

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.live import Live

__all__ = ["TerminalView"]

#: The time between two frames.
FRAME_INTERVAL_S = 1 / 12
#: A tool result is shown up to this length.
MAX_RESULT_LINES, MAX_RESULT_CHARACTERS = 20, 2_000
#: The lines of the screen that the open block leaves free, for the status line and the cursor.
FREE_LINES = 3


class TerminalView:
    """A sink that shows an answer on a terminal: finished blocks once, the open block live below them.

    Args:
        cost: the prices for the status line.
        notes: lines on what was cut of the prompt. They are above the answer, which has to be read with them in mind.
        shown_name: returns the name of a tool that people read, for its name in requests.
        console: the terminal, by default standard output.
        clock: returns the time in seconds, and never goes back.
    """

    def __init__(
        self,
        *,
        cost: Cost | None = None,
        notes: Iterable[str] = (),
        shown_name: Callable[[str], str] = str,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        from rich.console import Console
        from rich.theme import Theme

        # Code between backticks is on black in rich, which is a dark spot in a light terminal.
        theme = Theme({"markdown.code": "bold cyan"})
        self._console = console or Console(highlight=False, soft_wrap=False, theme=theme)
        self._is_terminal = self._console.is_terminal and not self._console.is_dumb_terminal
        self._clock, self._shown_name = clock, shown_name
        self._notes = list(notes)  # the lines above the answer
        self._status = Status(clock(), cost)
        self._live: Live | None = None
        self._lock = threading.RLock()  # the status line is redrawn in a thread of its own
        self._open_kind = ""  # the kind of the open text: text, thinking, call
        self._open = ""
        self._rate = RateLimit(FRAME_INTERVAL_S)
        self._last_kind = ""  # the kind of the text that was printed last
        self._last_text = ""  # the text that was written last, without a terminal
        self._apart = False  # another block came after that text
        self._sources: dict[tuple[str, str], int] = {}
        self._calls: dict[str, ToolUseBlock] = {}  # as they were printed, by their ids
        self._declined: set[str] = set()  # the ids of the calls that do not run

    def begin(self, request: Request) -> None:
        """Show the notes, and that the request is on its way."""
        self._status.begin(request)
        self._print_lines(self._notes)
        if self._is_terminal:
            with self._lock:
                self._start_live()

    def feed(self, chunk: StreamChunk) -> None:
        """Take one chunk."""
        self._status.take(chunk, self._clock())
        self._apart = self._apart or stands_apart(chunk)
        if isinstance(chunk, ToolDecision) and not chunk.allowed:
            self._declined.add(chunk.tool_use_id)
        match chunk:
            case OutputText(text=text):
                self._add_text("text", text)
            case Thinking(text=text) if text:
                self._add_text("thinking", text)
            case ToolInput(partial_json=text):
                self._add_text("call", text)
            case BlockStart(block=ToolUseBlock(name=name)):
                self._flush()
                if self._is_terminal:
                    self._open_kind, self._open = "call", f"{tool_name(self._shown_name(name))} "
            case BlockStart(block=block) if block.type != "text":
                self._flush()
            case BlockStop(block=ToolUseBlock() as call):
                self._discard_open()
                self._print_call(call)
            case BlockStop(block=TextBlock(citations=citations)) if citations:
                self._cite(citations)
            case BlockStop(block=OpaqueBlock(data=data)) if "tool_use_id" in data:
                self._flush()
                self._print_result(data.get("content"), bool(data.get("is_error")))
            case BlockStop(block=OpaqueBlock(data=data)) if note := block_note(data):
                self._flush()
                self._print(visible(note), "yellow")
            case ToolDecision(text=text) if text:
                self._print(f"  {visible(text)}", "dim")
            case ToolResult(tool_use_id=id) if chunk.shown or id in self._declined:
                self._flush()
            case ToolResult():
                self._flush()
                self._print_result([block.to_dict() for block in chunk.content], chunk.is_error)
            case ResponseChunk():
                # Tools may run now. They may print, or ask a question on this terminal, which a frame
                # would draw over.
                self._flush()
                self._stop_live()

    def show_call(self, id: str, name: str, arguments: Mapping[str, Any], is_numbered: bool) -> bool:
        """Print a call that the user changed, before the question about it. Any other call is there already."""
        if id not in self._calls:
            return False
        call = replace(self._calls[id], input=arguments)
        if is_numbered and (code := code_of(call.name, arguments)) is not None:
            self._print("\n".join(f"  {line}" for line in numbered(code)), "")
        elif call != self._calls[id]:
            self._print_call(call)
        return True

    def settle(self, response: Response) -> None:
        """Print the rest, the sources, and how the answer ended."""
        stopped: KeyboardInterrupt | None = None
        rest = self._open
        try:
            stoppable(self._flush)
        except KeyboardInterrupt as stop:
            stopped = stop
        finally:
            self._stop_live()
        if stopped is not None:
            self._write(rest + "\n")  # without colours, which cost the time
        self._print_sources()
        if files := files_text(response.files):
            self._print(files, "dim")
        if ending := marker(response.status, response.stop_reason, response.stop_details):
            self._print(visible(ending), "yellow")
        # A note can come with a later request of the turn.
        self._print_lines(note for note in response.notes if note not in self._notes)
        self._print_lines(footer_lines(response))
        if self._is_terminal:
            self._print(self._status.line(self._clock(), ended=True), "dim")
        elif self._last_text and not self._last_text.endswith("\n"):
            self._write("\n")
        if stopped is not None:
            raise stopped

    # The open text

    def _add_text(self, kind: str, text: str) -> None:
        if kind != self._open_kind:
            self._flush()
            self._open_kind = kind
        if not self._is_terminal:
            if kind == "text" and (text := _streamed(text)):
                self._write((line_ends_between(self._last_text, text) if self._apart else "") + text)
                self._apart = False
            return
        self._open += _streamed(text)
        with self._lock:  # for the question too: the other thread may be drawing
            if not self._rate.wait(self._clock()):
                began = thread_time()
                self._start_live()
                if kind != "text" or not self._print_finished():
                    self._draw()
                self._rate.spend(0, thread_time() - began, self._clock())

    def _print_finished(self) -> bool:
        """Print the blocks that no later text can change. Return True if there were any."""
        end = finished(self._open)
        blocks, self._open = self._open[:end], self._open[end:]
        if blocks.strip():
            self._print_above(markdown(blocks), "text")
        return bool(blocks.strip())

    def _flush(self) -> None:
        """Print the open text, because it has ended."""
        with self._lock:
            text, self._open = self._open, ""
            kind, self._open_kind = self._open_kind, ""
            if self._is_terminal and text.strip():
                self._print_above(markdown(text) if kind == "text" else _dim(text), kind)

    def _discard_open(self) -> None:
        self._open, self._open_kind = "", ""

    # The open block on the screen

    def _start_live(self) -> None:
        if self._live is None:
            from rich.live import Live

            self._live = live = Live(
                get_renderable=self._render_frame, console=self._console, auto_refresh=False, transient=True
            )
            live.start()
            start_thread(lambda: self._redraw_while_idle(live), "nbchat-view")

    def _redraw_while_idle(self, live: Live) -> None:
        """Draw while nothing arrives, so that the clock goes on and the last characters are seen."""
        while self._live is live:
            time.sleep(FRAME_INTERVAL_S)
            with self._lock:
                if self._live is live and not self._rate.wait(self._clock()):
                    self._draw()

    def _draw(self) -> None:
        began = thread_time()
        if self._live is not None:
            self._live.refresh()
        self._rate.spend(0, thread_time() - began, self._clock())

    def _stop_live(self) -> None:
        with self._lock:
            live, self._live = self._live, None
            if live is not None:
                live.stop()

    def _render_frame(self) -> RenderableType:
        from rich.console import Group

        text, kind = self._open, self._open_kind
        line = _dim(self._status.line(self._clock()))
        if not text.strip():
            return line
        return Group(_Lines(markdown(text, grows=True) if kind == "text" else _dim(text), fit=True), line)

    # Text that is printed once

    def _print_call(self, call: ToolUseBlock) -> None:
        self._calls[call.id] = call
        if not call.valid:
            self._print(call_lines(self._shown_name(call.name), call.partial_json), "cyan")
            return
        self._print(f"{CALL}{call_text(self._shown_name(call.name), call.input)}", "cyan")
        if (code := code_of(call.name, call.input)) is not None:
            self._print_code(code)

    def _print_code(self, code: str) -> None:
        """Print code as code. The user decides by this text, so nothing in it is hidden."""
        text = "\n".join(f"    {line}" for line in code_lines(code))
        if not self._is_terminal:
            self._print(text, "")
            return
        from rich.syntax import Syntax

        self._print_above(Syntax(text, "python", theme="ansi_dark", background_color="default", word_wrap=True), "note")

    def _print_result(self, content: object, is_error: bool) -> None:
        text = visible(result_text(content))
        shown = "\n".join(text[:MAX_RESULT_CHARACTERS].split("\n")[:MAX_RESULT_LINES])
        more = f"\n… {len(text) - len(shown):,} more characters" if len(shown) < len(text) else ""
        self._print(f"{'✗' if is_error else '←'} {shown}{more}", "red" if is_error else "cyan")

    def _cite(self, citations: tuple[Mapping[str, Any], ...]) -> None:
        numbers = []
        for citation in citations:
            address = str(citation.get("url") or "")
            title = str(citation.get("title") or citation.get("document_title") or address or "Source")
            number = self._sources.setdefault((title, address), len(self._sources) + 1)
            numbers += [number] if number not in numbers else []
        self._add_text(
            "text", "".join(f" &#91;{number}]" if self._is_terminal else f" [{number}]" for number in numbers)
        )

    def _print_sources(self) -> None:
        if self._sources:
            lines = [f"[{number}] {title} {address}".rstrip() for (title, address), number in self._sources.items()]
            self._print("Sources\n" + visible("\n".join(lines)), "dim")

    def _print_lines(self, lines: Iterable[str]) -> None:
        """Print lines about the answer in square brackets, as the page shows them."""
        if shown := "\n".join(f"[{one_line(line)}]" for line in lines):
            self._print(visible(shown), "dim")

    def _print(self, text: str, style: str) -> None:
        """Print a text on lines of its own."""
        if self._is_terminal:
            from rich.text import Text

            self._print_above(Text(text, style=style), "note")
        else:
            self._write(("\n" if self._last_text and not self._last_text.endswith("\n") else "") + text + "\n")
            self._apart = False  # the lines of a call are between the two texts

    def _print_above(self, shown: RenderableType, kind: str) -> None:
        """Print above the open block.

        The caller has removed the text from the open block. The console sends the new frame and the
        text together: on its own, the new frame would make the text vanish for a moment.
        """
        with self._lock, self._console:
            self._draw()
            if self._last_kind and (kind == "text" or self._last_kind == "text"):
                self._console.print()
            self._console.print(_Lines(shown))
            self._last_kind = kind

    def _write(self, text: str) -> None:
        if text:
            self._last_text = text
            self._console.file.write(text)
            self._console.file.flush()


class _Lines:
    """The lines of a text, without blank lines around them.

    Args:
        inner: the text.
        fit: drop lines at the beginning if the screen is too small. Lines above the screen could not
            be drawn over.
    """

    def __init__(self, inner: RenderableType, fit: bool = False) -> None:
        self._inner, self._fit = inner, fit

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.segment import Segment

        lines = console.render_lines(self._inner, options.update(height=None), pad=False)
        filled = [number for number, line in enumerate(lines) if any(part.text.strip() for part in line)]
        if filled:
            first = (
                max(filled[0], filled[-1] + 1 - max(1, console.size.height - FREE_LINES)) if self._fit else filled[0]
            )
            for line in lines[first : filled[-1] + 1]:
                yield from line
                yield Segment.line()


def _streamed(text: str) -> str:
    """Return a piece of streamed text with U+FFFD for each character that acts unseen, as on the page.

    Whole texts get escapes (:func:`visible`). A piece may end inside of an emoji, so each character is looked
    at alone.
    """
    return neutral(text.replace("\r\n", "\n"))


def _dim(text: str) -> RenderableType:
    from rich.text import Text

    return Text(text, style="dim")
