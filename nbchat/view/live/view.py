"""The live view: a widget while the answer arrives, one plain output when it ends.

The law of the live view, as measured in a browser:

1. :meth:`LiveView.feed` only appends to a queue. A thread draws. So the last characters are shown
   even if the stream pauses after them, and an interrupt of the cell cannot stop a drawing halfway.
2. Text that no later text can change is sent once, as a segment, and never again. (A long list is
   sent once more if a blank line makes its items loose.) Only the open tail is sent again. An
   update of the tail waits for 50 ms and for 8 times the cost of the last drawing. It also waits
   until the tail has grown by a tenth, or a block has closed, or the tail has waited for as long as
   its size allows.
3. At most 25 messages are sent in any second, including the status line. At the end there is one
   message for each widget, for up to 40 of them.
4. The box makes the same page as the final output. It has the front end's own classes, and the boxes
   of its widgets take no part in the layout. So nothing moves when the final output replaces the box.
5. At the end, the final bundle replaces the box in the output that showed the box. What tools printed
   in between stays. Where that would lose metadata, a new output takes the place of all.
   The notebook then holds one plain output and no widget.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable

from nbchat.core.chunks import BlockStart, Notice, StreamChunk
from nbchat.core.request import Request
from nbchat.core.response import Response
from nbchat.threads import start_thread, thread_time
from nbchat.view.final import settle_output
from nbchat.view.html.markdown import render_markdown
from nbchat.view.html.safe import NoCleaner
from nbchat.view.live.parts import Parts
from nbchat.view.live.widgets import WidgetBox, load_widgets
from nbchat.view.rate import RateLimit
from nbchat.view.status import Cost, Status

__all__ = ["DRAWING_THREAD", "LiveView", "preload"]

log = logging.getLogger("nbchat.view")


def preload() -> None:
    """Load what the first answer needs, so that the first answer does not wait for imports."""
    try:
        load_widgets()
        render_markdown("`a`")
    except Exception:
        log.debug("preloading failed; the first answer will say why", exc_info=True)


#: The box is shown after this time if no word has arrived. Until then an error leaves no trace.
FIRST_DISPLAY_WAIT_S = 0.25
#: How long the end of an answer waits for a drawing to finish.
LAST_DRAWING_WAIT_S = 2.0
#: The name of the threads that draw.
DRAWING_THREAD = "nbchat-view"
#: A longer answer shows its last characters in the box before its final output is rendered, because
#: the kernel needs a while for the rendering, and the browser for the drawing.
LONG_ANSWER_CHARACTERS = 8_000
#: Blocks that show nothing until their first characters arrive.
_EMPTY_AT_START = ("text", "thinking")


class LiveView:
    """A sink that shows an answer in a widget while it arrives, and its final output at the end.

    Two threads work here. The thread of the cell calls ``begin``, ``feed`` and ``settle``. The drawing
    thread owns the widgets. They share ``_pending``, the chunks that are not drawn yet: the cell
    appends at the end and the drawing thread removes at the beginning. The interpreter makes each of
    the two atomic, so ``feed`` needs no lock, and an interrupt cannot leave one locked.

    Args:
        cost: the prices for the status line.
        typed: the text is the JSON of a typed answer, and is shown as a table.
        shown_name: returns the name of a tool that people read, for its name in requests.
        display_id: an output that the box replaces; by default the box is a new output.
        ends_fresh: returns True if the final output has to be a new one after all others are cleared. A front
            end such as VS Code would lose the metadata of an update.
        clock: returns the time in seconds, and never goes back.

    Attributes:
        display_id: the display id of the final output.
    """

    def __init__(
        self,
        *,
        cost: Cost | None = None,
        typed: bool = False,
        shown_name: Callable[[str], str] = str,
        display_id: str | None = None,
        ends_fresh: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock, self._typed, self._shown_name, self._replaces = clock, typed, shown_name, display_id
        self.display_id = display_id or uuid.uuid4().hex
        self._ends_fresh = ends_fresh
        self._status = Status(clock(), cost)
        self._rate = RateLimit()
        self._pending: deque[StreamChunk] = deque()
        self._thread_waits = False  # True while the drawing thread waits for the next chunk
        self._arrived, self._ending = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._draws_here = False  # True where no thread can start, and this one draws
        self._widgets: WidgetBox | None = None
        self._parts: Parts | None = None

    def begin(self, request: Request) -> None:
        """Start the drawing thread. It makes the box while the request is on its way."""
        self._status.begin(request)
        if self._thread is None and not self._draws_here:
            self._thread = start_thread(self._draw, DRAWING_THREAD)
            if self._thread is None:
                # Without threads, this thread draws, between two chunks.
                self._draws_here = self._tried(self._make_box)

    def feed(self, chunk: StreamChunk) -> None:
        """Take one chunk. The drawing thread does the rest."""
        if (
            type(chunk) is BlockStart
            and chunk.block.type in _EMPTY_AT_START
            and (not chunk.index or chunk.block.type == "text")
        ):
            # The start of such a block shows nothing, but would cause an update. The first word
            # follows immediately, and would have to wait until the interval after that update is over.
            return
        self._pending.append(chunk)
        if self._draws_here and self._rate.wait(self._clock()) <= 0:
            self._draws_here = self._tried(self._update)
        # Setting an event costs more than the rest of this method, so it is set only if needed.
        if self._thread_waits:
            self._thread_waits = False
            self._arrived.set()

    def settle(self, response: Response) -> None:
        """Replace the box with the final output."""
        self._ending.set()
        self._arrived.set()
        if self._thread is not None:
            self._thread.join(LAST_DRAWING_WAIT_S)
        widgets = self._widgets
        shown = widgets.display_id if widgets is not None and widgets.shown else self._replaces
        self.display_id = shown or self.display_id
        try:
            # The box stays until the final output replaces it, or the page would jump.
            fresh = shown is not None and self._ends_fresh()
            settle_output(response, self.display_id, is_new=shown is None, fresh=fresh)
        finally:
            # Whatever happens, no widget may stay: a saved notebook would show it as dead.
            if widgets is not None:
                widgets.close()

    # In the drawing thread, if there is one:

    def _draw(self) -> None:
        self._tried(self._draw_all)

    def _tried(self, work: Callable[[], None]) -> bool:
        """Do a part of the drawing, and return False if that failed."""
        try:
            work()
        except NoCleaner:
            return False  # %nbchat doctor says why; the final output is plain text
        except Exception:
            # The final output still comes: a fault of the live view must not cost the answer.
            log.warning("the live view failed; the answer is shown when it is whole", exc_info=True)
            return False
        return True

    def _make_box(self) -> None:
        self._widgets = widgets = WidgetBox(self._replaces)
        self._parts = Parts(widgets, self._status, self._typed, self._shown_name)
        self._rate.spend(widgets.sent, 0.0, self._clock())
        # The first use of a parser builds its tables. Do that now, while nothing has arrived.
        render_markdown("`a`")

    def _draw_all(self) -> None:
        self._make_box()
        self._wait_for_first()
        while not self._ending.is_set():
            self._update()
            self._wait_for_next()
        self._update_last()

    def _wait_for_first(self) -> None:
        """Wait for the first chunk that shows something, but not for long. A notice alone can wait."""
        until = time.monotonic() + FIRST_DISPLAY_WAIT_S
        while all(type(chunk) is Notice for chunk in self._pending.copy()):
            count, remaining = len(self._pending), until - time.monotonic()
            if remaining <= 0 or self._ending.is_set():
                return
            self._thread_waits = True
            # A chunk may have arrived between the count and the line above. ``feed`` did not set the
            # event for that chunk, so waiting would sleep although there is something to show.
            if len(self._pending) == count:
                self._arrived.wait(remaining)
            self._thread_waits = False
            self._arrived.clear()

    def _wait_for_next(self) -> None:
        """Wait until the rate limit allows an update and there is something to show."""
        assert self._parts is not None
        self._ending.wait(self._rate.wait(self._clock()))
        while not self._pending and not self._ending.is_set():
            pause = self._parts.due - self._clock()
            if pause <= 0:
                return
            self._sleep_until_chunk(pause)

    def _sleep_until_chunk(self, seconds: float) -> None:
        self._thread_waits = True
        if not self._pending:  # checked again, for the reason in _wait_for_first
            self._arrived.wait(seconds)
        self._thread_waits = False
        self._arrived.clear()

    def _update(self) -> None:
        assert self._widgets is not None
        assert self._parts is not None
        sent, began, now = self._widgets.sent, thread_time(), self._clock()
        self._parts.take(self._pending, now)
        self._parts.show(now)
        self._rate.spend(self._widgets.sent - sent, thread_time() - began, self._clock())

    def _update_last(self) -> None:
        """Show the last characters of a long answer."""
        assert self._parts is not None
        is_long = self._parts.characters >= LONG_ANSWER_CHARACTERS
        if is_long and not self._parts.take(self._pending, self._clock()):
            self._parts.flush(self._clock())
