"""The answer on the page: a widget while it arrives, one plain output when it ends.

The law of the live view, measured in a browser:

1. :meth:`LiveView.feed` appends, and nothing else; a thread draws. So a stream that stands still
   still shows its last letters, and an interrupt never hits a picture half drawn.
2. Text that no later text can change is sent once, as a segment, and never again. Only the open
   tail is sent anew: when 50 ms and 8 times the cost of the last drawing have passed, and it has
   grown by a tenth, or a block has closed, or it has waited for as long as its size allows.
3. No more than 25 messages in any second, the status line included (and at the end one for each widget, up to 40).
4. The box makes the same page as the final output: the front end's own classes on it, and its
   widgets' own boxes taken out of the layout, so that the swap moves nothing.
5. At the end the output that showed the box is given the final bundle in its place. What tools
   printed in between stays, and the notebook holds one plain output and no widget.

The only door to ipywidgets and to IPython's display.
"""

from __future__ import annotations

import contextvars
import logging
import math
import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from nbchat.core.chunks import (
    BlockStart,
    BlockStop,
    Notice,
    OutputText,
    ResponseChunk,
    StreamChunk,
    Thinking,
    ToolInput,
    ToolResult,
)
from nbchat.core.messages import OpaqueBlock, TextBlock, ToolUseBlock
from nbchat.core.request import Request, Sink
from nbchat.core.response import Response
from nbchat.view.highlight import code_html
from nbchat.view.markdown import MarkdownStream
from nbchat.view.pace import Pace
from nbchat.view.parsed import Table
from nbchat.view.render import (
    CODE_TOOLS,
    LONGEST_RESULT,
    Sources,
    clean,
    details,
    escape,
    render_markdown,
    render_opaque,
    render_response,
    render_tool_result,
    result_text,
)
from nbchat.view.safe import NO_FORMULAS
from nbchat.view.segments import Growing, Letters, Segments
from nbchat.view.status import Cost, Status

if TYPE_CHECKING:
    from ipywidgets import HTML, VBox

__all__ = ["FinalView", "LiveView", "cell_id", "output_metadata", "preload", "publish", "show", "views"]

log = logging.getLogger("nbchat.view")
#: Gives the value of a JSON text that is not whole yet.
Read: TypeAlias = Callable[[str], Any]


def cell_id(shell: Any) -> str | None:
    """The id of the cell that runs, or None where the front end tells none (nbclient, a terminal)."""
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return None
    metadata = kernel.get_parent("shell").get("metadata") or {}
    colab = metadata.get("colab") or {}
    return metadata.get("cellId") or colab.get("cell_id")


def views(
    shell: Any,
    *,
    cell_id: str | None,
    quiet: bool = False,
    cost: Cost | None = None,
    read: Read | None = None,
    environ: Mapping[str, str] = os.environ,
) -> tuple[Sink, ...]:
    """The view that fits where this runs, as sinks of one answer.

    ``quiet`` shows nothing; ``read`` is as in :class:`LiveView`. Without a kernel it is a terminal.
    Without a cell id (nbclient, nbval, papermill) or under pytest nothing is live, so that what is
    saved can be compared.
    """
    if quiet:
        return ()
    if getattr(shell, "kernel", None) is None:
        from nbchat.view.terminal import TerminalView

        return (TerminalView(cost=cost),)
    if cell_id is None or environ.get("PYTEST_VERSION") or environ.get("PYTEST_CURRENT_TEST"):
        return (FinalView(),)
    return (LiveView(cost=cost, read=read),)


def preload() -> None:
    """Load what a view needs, for a thread in the background: the first answer then does not wait for it."""
    try:
        import ipywidgets  # noqa: F401

        render_markdown("`a`")
    except Exception:
        log.debug("preloading failed; the first answer will say why", exc_info=True)


# --- the final output ---------------------------------------------------------------------------


def show(response: Response) -> None:
    """Display an answer again: the final output alone."""
    _publish(response, _bundle(response))


def publish(bundle: dict[str, Any]) -> None:
    """Publish a mimebundle of the renderer's own."""
    from IPython.display import publish_display_data

    publish_display_data(bundle)


def output_metadata(response: Response) -> dict[str, Any]:
    """What the notebook keeps beside the answer, or {} for a part of one. No prompt, and nothing of a key.

    Times are left out: two runs of a recorded answer make the same notebook.
    """
    if not (response.id or response.model or response.digest):
        return {}
    about = {
        "id": response.id,
        "model": response.model,
        "status": response.status,
        "usage": response.usage.to_dict(),
        "cost": response.cost,
        "digest": response.digest,
        "replayed": response.replayed or None,
    }
    return {"nbchat": {key: value for key, value in about.items() if value not in (None, "")}}


def _publish(response: Response, bundle: dict[str, Any], display_id: str | None = None) -> None:
    """Publish the final output, in the place of the output with that display id if there is one."""
    from IPython.display import publish_display_data

    place = {"transient": {"display_id": display_id}, "update": True} if display_id else {}
    publish_display_data(bundle, output_metadata(response) if bundle else {}, **place)


def _bundle(response: Response) -> dict[str, Any]:
    """The final mimebundle; an answer that the renderer fails on is shown as it came."""
    if not response.blocks and response.status == "error":
        return {}  # the error itself follows, and says all there is
    try:
        return render_response(response)
    except Exception:
        log.exception("an answer could not be rendered and is shown as plain text")
        return {"text/html": f"<pre>{escape(response.text)}</pre>", "text/plain": response.text}


class FinalView:
    """Shows the final output and nothing before it."""

    def begin(self, request: Request) -> None:
        pass

    def feed(self, chunk: StreamChunk) -> None:
        pass

    def settle(self, response: Response) -> None:
        if bundle := _bundle(response):
            _publish(response, bundle)


# --- while it arrives ---------------------------------------------------------------------------

#: Seconds without a first word until the box is shown, so that an error at once leaves no trace.
PATIENT = 0.25
#: Seconds between two status lines.
TICK = 1.0


#: Letters of text that an update takes.
MOST_LETTERS = 6_000
#: An answer of so many letters shows its last ones before its final output is rendered.
LONG = 8_000
#: Messages after which an update takes no more chunks.
ENOUGH = 5
#: Blocks that begin with their first letters.
_SILENT = ("text", "thinking")


class LiveView:
    """Shows an answer in a widget while it arrives, and its final output at the end.

    ``cost`` prices the status line. ``read`` gives the value of a JSON text so far: the text is then
    shown as a table. ``clock`` gives seconds and never goes back.
    """

    def __init__(
        self, *, cost: Cost | None = None, read: Read | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock, self._read = clock, read
        self._status = Status(clock(), cost)
        self._pace = Pace()
        self._pending: list[StreamChunk] = []
        self._idle = False  # whether the drawing thread waits for the next chunk
        self._news, self._ending = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._stage: Stage | None = None
        self._picture: _Picture | None = None

    def begin(self, request: Request) -> None:
        """Make the box, in the background: the request is on its way meanwhile."""
        self._status.begin(request)
        if self._thread is None:
            # A thread that has this context has this cell as the parent of what it publishes.
            context = contextvars.copy_context()
            self._thread = threading.Thread(target=context.run, args=(self._draw,), name="nbchat-view", daemon=True)
            self._thread.start()

    def feed(self, chunk: StreamChunk) -> None:
        """Take one chunk."""
        if (
            type(chunk) is BlockStart
            and chunk.block.type in _SILENT
            and (not chunk.index or chunk.block.type == "text")
        ):
            return  # it shows nothing: its first letters would wait for the end of the update it makes
        self._pending.append(chunk)
        if self._idle:
            self._idle = False
            self._news.set()

    def settle(self, response: Response) -> None:
        """Put the final output in the place of the box."""
        self._ending.set()
        self._news.set()
        try:
            if self._thread is not None:
                self._thread.join(2.0)
        finally:
            stage, bundle = self._stage, _bundle(response)
            shown = stage.display_id if stage is not None and stage.shown else None
            if shown or bundle:
                _publish(response, bundle, shown)
            if stage is not None:
                stage.close()

    # In the drawing thread:

    def _draw(self) -> None:
        try:
            self._stage = stage = Stage()
            self._picture = _Picture(stage, self._status, self._read)
            self._pace.spend(stage.sent, 0.0, self._clock())
            render_markdown("`a`")  # the first use of a parser costs more than many later ones
            self._wait_for_first()
            while not self._ending.is_set():
                self._update()
                self._rest()
            self._update_last()
        except Exception:
            # The final output still comes; an answer is not lost for its picture.
            log.warning("the live view failed; the answer is shown when it is whole", exc_info=True)

    def _wait_for_first(self) -> None:
        """Until there is something to show, or it has been long in coming; a notice alone can wait for it."""
        until = time.monotonic() + PATIENT
        while all(type(chunk) is Notice for chunk in self._pending[:]):
            seen, left = len(self._pending), until - time.monotonic()
            if left <= 0 or self._ending.is_set():
                return
            self._idle = True
            if len(self._pending) == seen:
                self._news.wait(left)
            self._idle = False
            self._news.clear()

    def _sleep_until_news(self, seconds: float) -> None:
        self._idle = True
        if not self._pending:
            self._news.wait(seconds)
        self._idle = False
        self._news.clear()

    def _update(self) -> None:
        assert self._stage is not None
        assert self._picture is not None
        sent, began, now = self._stage.sent, time.thread_time(), self._clock()
        taken, rest = self._picture.take(self._pending[:], now)
        self._pending[:taken] = rest  # in the same list: the other thread appends to it
        self._picture.show(now)
        self._pace.spend(self._stage.sent - sent, time.thread_time() - began, self._clock())

    def _update_last(self) -> None:
        """Show the last letters of a long answer: its final output takes a while to render, here and there."""
        assert self._picture is not None
        if self._picture.letters >= LONG:
            _, rest = self._picture.take(self._pending[:], self._clock())
            if not rest:
                self._picture.flush(self._clock())

    def _rest(self) -> None:
        """Until the next update may be, and there is something for it."""
        assert self._picture is not None
        self._ending.wait(self._pace.wait(self._clock()))
        while not self._pending and not self._ending.is_set():
            pause = self._picture.due - self._clock()
            if pause <= 0:
                return
            self._sleep_until_news(pause)


class _Picture:
    """The parts of an answer on a stage: text, and folds of thinking and of tool calls."""

    def __init__(self, stage: Stage, status: Status, read: Read | None = None) -> None:
        self._stage, self._status, self._read = stage, status, read
        self._sources = Sources()
        self._part: _Part | None = None  # the one that grows
        self._calls: dict[str, _Part] = {}
        self.letters = 0  # of the answer's text that were taken
        self._line, self._line_at = "", float("-inf")
        self._notice = ""

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
                self._part = self._calls[call.id] = _Part(self._stage, "call", head, open=call.name in CODE_TOOLS)
            case BlockStart(block=OpaqueBlock(data=data)) if data.get("tool_use_id") in self._calls:
                self._end(now)
            case BlockStart(block=block) if block.type != "text":
                self._end(now)
            case Thinking(text=text) if text:
                self._part_of("thinking", now, "Thinking").feed(text)
            case ToolInput(partial_json=text) if self._part is not None:
                self._part.feed(text)
            case BlockStop(block=TextBlock(citations=citations)) if citations:
                self._part_of("text", now).cite(self._sources, citations)
            case BlockStop(block=OpaqueBlock(data=data)):
                self._finish(data, now)
            case ResponseChunk() if self._read is not None:
                self._end(now)  # a further try is a further table
            case ToolResult():
                self._answer(chunk.tool_use_id, [block.to_dict() for block in chunk.content], chunk.is_error, now)

    def _part_of(self, kind: str, now: float, head: str = "") -> _Part:
        """The part that grows, if it is of that kind; else it ends and another begins."""
        if self._part is None or self._part.kind != kind:
            self._end(now)
            text = Table(self._read) if self._read is not None and kind == "text" else None
            self._part = _Part(self._stage, kind, head, text=text)
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
            _Part(self._stage, "block", "").add(html, now)

    def _answer(self, id: str, content: object, is_error: bool, now: float) -> None:
        if (part := self._calls.get(id)) is not None:
            text = result_text(content)[:LONGEST_RESULT]
            part.add(clean(f"<p>{'Error' if is_error else 'Result'}</p>\n{code_html(text, '')}"), now)
        else:  # its call was shown before
            self._end(now)
            _Part(self._stage, "block", "").add(render_tool_result(result_text(content), is_error), now)

    def show(self, now: float) -> None:
        """Show what is worth a message, and the status line when it is time."""
        if self._part is not None:
            self._part.show(now)
        if now >= self._line_at + TICK or self._status.notice != self._notice:
            line, news = self._status.line(now), not self._line or self._status.notice != self._notice
            if line != self._line:
                self._stage.say(line, announced=news)
            self._line, self._line_at, self._notice = line, now, self._status.notice
        self._stage.show()


class _Part:
    """One part on the stage: a row of HTML widgets, in a fold if it has a head."""

    def __init__(self, stage: Stage, kind: str, head: str, *, open: bool = False, text: Growing | None = None) -> None:
        self.kind = kind
        self._stage = stage
        text = text or (Letters() if kind == "call" else MarkdownStream())
        self._segments = Segments(text, first=stage.segments == 0)
        self._column = stage.fold(head, open) if head else stage.column
        self._open: HTML | None = None

    @property
    def due(self) -> float:
        return self._segments.due

    def feed(self, text: str) -> None:
        self._segments.feed(text)

    def cite(self, sources: Sources, citations: Sequence[Mapping[str, Any]]) -> None:
        if isinstance(self._segments.text, MarkdownStream):
            sources.cite(self._segments.text, citations)

    def add(self, html: str, now: float) -> None:
        """Finished HTML, behind what is there."""
        self._segments.add(html)
        self._send(now)

    def show(self, now: float) -> None:
        self._segments.advance()
        if self._segments.due <= now:
            self._send(now)

    def flush(self, now: float) -> None:
        """Show what was not worth a message until now."""
        if self._segments.due < math.inf:
            self._send(now)

    def close(self, now: float) -> None:
        """The part is whole: show the rest of it."""
        self._segments.close()
        self._send(now)

    def _send(self, now: float) -> None:
        values = self._segments.show(now, self._stage.segments)
        widget = self._open
        for place, value in enumerate(values, 1):
            finished = place < len(values) or not self._segments.open
            html = _dressed(value, finished)
            if widget is None:
                widget = self._column.add(html)
            else:
                self._stage.set(widget, html)
            self._open, widget = None if finished else widget, None


# --- the widgets --------------------------------------------------------------------------------

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
#: What the front end gives its own rendered HTML.
CLASSES = ("nbchat-live", "jp-RenderedHTMLCommon", "jp-RenderedHTML")
#: Widgets in one box: what is sent when a box gets another one names all that are in it.
CROWD = 24
#: Widgets that are closed at the end of an answer, and of the others so many a second.
CLOSED_AT_ONCE = 40
CLOSED_A_SECOND = 20
#: Takes the widgets' own boxes out of the layout, so that blocks stand as in one piece of HTML, and
#: hides what is in a fold until its head is opened: the head is never sent again and stays as it is.
#: The status line stands in the margin below the last block, so nothing moves up when it goes.
STYLE = """<style>
.nbchat-live.nbchat-live, .nbchat-live .widget-vbox { display: block; margin: 0; overflow: visible; }
.nbchat-live .widget-inline-hbox, .nbchat-live .widget-inline-hbox > div, .nbchat-live .mathjax_ignore {
  display: contents; font: inherit; line-height: inherit;
}
.nbchat-live .nbchat-fold:not(:has(> :first-child details[open])) > :not(:first-child) { display: none; }
.nbchat-live table { margin-left: 0; margin-right: 0; }
code.nbchat-letters.nbchat-letters.nbchat-letters {
  background: none; padding: 0; white-space: pre-wrap; overflow-wrap: anywhere;
}
.nbchat-live .nbchat-goes-on.nbchat-goes-on > pre { margin-bottom: 0; }
.nbchat-live .nbchat-went-on.nbchat-went-on > pre { margin-top: 0; }
.nbchat-live > .nbchat-answer { margin-bottom: 1em; }
.nbchat-live .nbchat-status {
  position: relative; top: -14px; height: 0; line-height: 14px; font-size: 11px; white-space: nowrap;
  color: var(--jp-content-font-color2, #616161);
}
</style>"""


class Stage:
    """The widgets of one answer: a box of columns and a status line. Counts what it sends."""

    def __init__(self) -> None:
        import ipywidgets

        self._ipywidgets = ipywidgets
        self._made: list[Any] = []
        self.sent = 0
        self.segments = 0
        self.shown = False
        self.display_id = uuid.uuid4().hex
        # One layout and one style for all: every other widget is then one message and not three.
        self._layout = self._count(ipywidgets.Layout())
        self._look = self._count(ipywidgets.widgets.widget_string.HTMLMathStyle())
        self._status = self._html("")
        middle = self.box((), ("nbchat-answer",))
        self.column = Column(self, middle)
        self._root = self.box((self._html(STYLE), middle, self._status), CLASSES)

    def segment(self, value: str) -> HTML:
        """A new piece of the answer; it belongs into a column."""
        self.segments += 1
        return self._html(value)

    def box(self, children: Sequence[Any] = (), classes: Sequence[str] = ()) -> VBox:
        """A box of widgets below each other."""
        return self._count(self._ipywidgets.VBox(children, layout=self._layout, _dom_classes=classes))

    def set(self, widget: HTML, value: str) -> None:
        """Show the value in place of the one before."""
        self.sent += 1
        widget.value = value

    def say(self, line: str, announced: bool) -> None:
        """Show the status line, and tell those who listen if it says more than numbers."""
        role = ' role="status"' if announced else ""
        self.set(self._status, _dressed(f'<div class="nbchat-status"{role}>{escape(line)}</div>', False))

    def fold(self, head: str, open: bool = False) -> Column:
        """A new column at the end, behind a head that opens and closes it."""
        box = self.box((self._html(details(head, "", open)),), ("nbchat-fold",))
        self.column.put(box)
        return Column(self, box)

    def show(self) -> None:
        """Display the box, once."""
        if self.shown:
            return
        from IPython.display import publish_display_data

        self.sent += 1
        self.shown = True
        # No text/plain: a front end without widgets then shows nothing live, and still the answer.
        view = {"version_major": 2, "version_minor": 0, "model_id": self._root.model_id}
        publish_display_data({WIDGET_VIEW: view}, transient={"display_id": self.display_id})

    def close(self) -> None:
        """Close all widgets: nothing of them is saved with the notebook.

        Each takes a browser about a millisecond, so those of a long answer are closed little by little.
        """
        now, later = self._made[:CLOSED_AT_ONCE], self._made[CLOSED_AT_ONCE:]
        for widget in now:
            widget.close()
        if later:
            run = contextvars.copy_context().run
            threading.Thread(target=run, args=(_close, later), name="nbchat-close", daemon=True).start()

    def _html(self, value: str) -> HTML:
        return self._count(self._ipywidgets.HTMLMath(value, layout=self._layout, style=self._look))

    def _count(self, widget: Any) -> Any:
        self._made.append(widget)
        self.sent += 1
        return widget


def _close(widgets: list[Any]) -> None:
    for widget in widgets:
        time.sleep(1 / CLOSED_A_SECOND)
        widget.close()


def _dressed(value: str, finished: bool) -> str:
    """The value of a segment as it goes into its widget.

    MathJax is kept away from all but formulas here, as it looks at a widget and not at what is
    around it. What is finished is announced to those who listen, politely, and what is still being
    written is not: they would hear its beginning again and again.
    """
    announced = ' aria-live="polite"' if finished else ""
    return f'<div class="{" ".join(NO_FORMULAS)}"{announced}>{value}</div>'


class Column:
    """Widgets below each other. A full box gets a box as its last child, so that no message names them all."""

    def __init__(self, stage: Stage, box: VBox) -> None:
        self._stage, self._box = stage, box

    def add(self, value: str) -> HTML:
        """A new segment at the end."""
        segment = self._stage.segment(value)
        self.put(segment)
        return segment

    def put(self, widget: Any) -> None:
        """Put the widget at the end."""
        full = self._box if len(self._box.children) >= CROWD else None
        if full is not None:
            widget = self._box = self._stage.box((widget,))
        box = full or self._box
        box.children = (*box.children, widget)
        self._stage.sent += 1
