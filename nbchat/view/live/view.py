"""The answer on the page: a widget while it arrives, one plain output when it ends.

The law of the live view, measured in a browser:

1. :meth:`LiveView.feed` appends, and nothing else; a thread draws. So a stream that stands still
   still shows its last characters, and an interrupt never hits a page half drawn.
2. Text that no later text can change is sent once, as a segment, and never again (a long list once
   more, if a blank line makes its items loose ones). Only the open tail is sent anew: when 50 ms
   and 8 times the cost of the last drawing have passed, and it has grown by a tenth, or a block has
   closed, or it has waited for as long as its size allows.
3. No more than 25 messages in any second, the status line included (and at the end one for each widget, up to 40).
4. The box makes the same page as the final output: the front end's own classes on it, and its
   widgets' own boxes taken out of the layout, so that the swap moves nothing.
5. At the end the output that showed the box is given the final bundle in its place. What tools
   printed in between stays, and the notebook holds one plain output and no widget.
"""

from __future__ import annotations

import contextvars
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from nbchat.core.chunks import BlockStart, Notice, StreamChunk
from nbchat.core.request import Request, Sink
from nbchat.core.response import Response
from nbchat.view.final import FinalView, final_bundle, publish_response
from nbchat.view.html.markdown import render_markdown
from nbchat.view.live.parts import Parts
from nbchat.view.live.widgets import WidgetBox, load_widgets
from nbchat.view.rate import RateLimit
from nbchat.view.status import Cost, Status

__all__ = ["LiveView", "cell_id", "preload", "views"]

log = logging.getLogger("nbchat.view")


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
    typed: bool = False,
    environ: Mapping[str, str] = os.environ,
) -> tuple[Sink, ...]:
    """The view that fits where this runs, as sinks of one answer.

    ``quiet`` shows nothing; ``typed`` is as in :class:`LiveView`. Without a kernel it is a terminal.
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
    return (LiveView(cost=cost, typed=typed),)


def preload() -> None:
    """Load what a view needs, for a thread in the background: the first answer then does not wait for it."""
    try:
        load_widgets()
        render_markdown("`a`")
    except Exception:
        log.debug("preloading failed; the first answer will say why", exc_info=True)


#: Seconds without a first word until the box is shown, so that an error at once leaves no trace.
FIRST_DISPLAY_WAIT_S = 0.25
#: The name of the threads that draw.
DRAWING_THREAD = "nbchat-view"
#: An answer of so many characters shows its last ones before its final output is rendered.
LONG_ANSWER_CHARACTERS = 8_000
#: Blocks that begin with their first characters.
_EMPTY_AT_START = ("text", "thinking")


class LiveView:
    """Shows an answer in a widget while it arrives, and its final output at the end.

    ``cost`` prices the status line. ``typed`` says that the text is the JSON of a typed answer: the text is
    then shown as a table. ``clock`` gives seconds and never goes back.
    """

    def __init__(
        self, *, cost: Cost | None = None, typed: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock, self._typed = clock, typed
        self._status = Status(clock(), cost)
        self._rate = RateLimit()
        self._pending: list[StreamChunk] = []
        self._thread_waits = False  # whether the drawing thread waits for the next chunk
        self._arrived, self._ending = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._widgets: WidgetBox | None = None
        self._parts: Parts | None = None

    def begin(self, request: Request) -> None:
        """Make the box, in the background: the request is on its way meanwhile."""
        self._status.begin(request)
        if self._thread is None:
            # A thread that has this context has this cell as the parent of what it publishes.
            context = contextvars.copy_context()
            self._thread = threading.Thread(target=context.run, args=(self._draw,), name=DRAWING_THREAD, daemon=True)
            self._thread.start()

    def feed(self, chunk: StreamChunk) -> None:
        """Take one chunk."""
        if (
            type(chunk) is BlockStart
            and chunk.block.type in _EMPTY_AT_START
            and (not chunk.index or chunk.block.type == "text")
        ):
            return  # it shows nothing: its first characters would wait for the end of the update it makes
        self._pending.append(chunk)
        if self._thread_waits:
            self._thread_waits = False
            self._arrived.set()

    def settle(self, response: Response) -> None:
        """Put the final output in the place of the box."""
        self._ending.set()
        self._arrived.set()
        try:
            if self._thread is not None:
                self._thread.join(2.0)
        finally:
            widgets, bundle = self._widgets, final_bundle(response)
            shown = widgets.display_id if widgets is not None and widgets.shown else None
            if shown or bundle:
                publish_response(response, bundle, shown)
            if widgets is not None:
                widgets.close()

    # In the drawing thread:

    def _draw(self) -> None:
        try:
            self._widgets = widgets = WidgetBox()
            self._parts = Parts(widgets, self._status, self._typed)
            self._rate.spend(widgets.sent, 0.0, self._clock())
            render_markdown("`a`")  # the first use of a parser costs more than many later ones
            self._wait_for_first()
            while not self._ending.is_set():
                self._update()
                self._wait_for_next()
            self._update_last()
        except Exception:
            # The final output still comes; an answer is not lost with its live view.
            log.warning("the live view failed; the answer is shown when it is whole", exc_info=True)

    def _wait_for_first(self) -> None:
        """Until there is something to show, or it has been long in coming; a notice alone can wait for it."""
        until = time.monotonic() + FIRST_DISPLAY_WAIT_S
        while all(type(chunk) is Notice for chunk in self._pending[:]):
            seen, left = len(self._pending), until - time.monotonic()
            if left <= 0 or self._ending.is_set():
                return
            self._thread_waits = True
            if len(self._pending) == seen:
                self._arrived.wait(left)
            self._thread_waits = False
            self._arrived.clear()

    def _sleep_until_chunk(self, seconds: float) -> None:
        self._thread_waits = True
        if not self._pending:
            self._arrived.wait(seconds)
        self._thread_waits = False
        self._arrived.clear()

    def _update(self) -> None:
        assert self._widgets is not None
        assert self._parts is not None
        sent, began, now = self._widgets.sent, time.thread_time(), self._clock()
        taken, rest = self._parts.take(self._pending[:], now)
        self._pending[:taken] = rest  # in the same list: the other thread appends to it
        self._parts.show(now)
        self._rate.spend(self._widgets.sent - sent, time.thread_time() - began, self._clock())

    def _update_last(self) -> None:
        """Show the last characters of a long answer: its final output takes a while to render, here and there."""
        assert self._parts is not None
        if self._parts.characters >= LONG_ANSWER_CHARACTERS:
            _, rest = self._parts.take(self._pending[:], self._clock())
            if not rest:
                self._parts.flush(self._clock())

    def _wait_for_next(self) -> None:
        """Until the next update may be, and there is something for it."""
        assert self._parts is not None
        self._ending.wait(self._rate.wait(self._clock()))
        while not self._pending and not self._ending.is_set():
            pause = self._parts.due - self._clock()
            if pause <= 0:
                return
            self._sleep_until_chunk(pause)
