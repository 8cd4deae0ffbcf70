"""The widgets of an answer that arrives: a box of columns, and a status line below them.

The only door to ipywidgets. The box makes the same page as the final output: the front end's own
classes on it, and the widgets' own boxes taken out of the layout.
"""

from __future__ import annotations

import contextvars
import threading
import time
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from nbchat.view.html.render import details
from nbchat.view.html.safe import NO_FORMULAS, escape

if TYPE_CHECKING:
    from ipywidgets import HTML, VBox

__all__ = ["WIDGET_VIEW", "Column", "Segment", "WidgetBox", "load_widgets", "wrap_segment"]

Segment: TypeAlias = "HTML"
"""The widget of a piece of the answer."""

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
#: What the front end gives its own rendered HTML.
BOX_CLASSES = ("nbchat-live", "jp-RenderedHTMLCommon", "jp-RenderedHTML")
#: Widgets in one box: what is sent when a box gets another one names all that are in it.
MAX_WIDGETS_PER_BOX = 24
#: Widgets that are closed at the end of an answer, and of the others so many a second.
CLOSED_AT_END = 40
CLOSED_PER_S = 20
#: Takes the widgets' own boxes out of the layout, so that blocks stand as in one piece of HTML, and
#: hides what is in a fold until its head is opened: the head is never sent again and stays as it is.
#: Row groups of a table that is in several widgets stand beside each other, and so in one table
#: (https://www.w3.org/TR/CSS2/tables.html#anonymous-boxes).
#: The status line stands in the margin below the last block, so nothing moves up when it goes.
STYLE = """<style>
.nbchat-live.nbchat-live, .nbchat-live .nbchat-answer, .nbchat-live .nbchat-fold {
  display: block; margin: 0; overflow: visible;
}
.nbchat-live .widget-vbox:not(.nbchat-answer, .nbchat-fold), .nbchat-live .widget-inline-hbox,
.nbchat-live .widget-inline-hbox > div, .nbchat-live .mathjax_ignore {
  display: contents; font: inherit; line-height: inherit;
}
.nbchat-live .nbchat-fold:not(:has(> :first-child details[open])) > :not(:first-child) { display: none; }
.nbchat-live table { margin-left: 0; margin-right: 0; }
code.nbchat-letters.nbchat-letters.nbchat-letters {
  background: none; padding: 0; white-space: pre-wrap; overflow-wrap: anywhere;
}
.nbchat-live .nbchat-goes-on.nbchat-goes-on > pre { margin-bottom: 0; }
.nbchat-live .nbchat-went-on.nbchat-went-on > pre { margin-top: 0; }
.nbchat-live .nbchat-goes-on:is(ul, ol) { margin-bottom: 0; }
.nbchat-live .nbchat-went-on:is(ul, ol) { margin-top: 0; }
.nbchat-live .nbchat-goes-on:is(table), .nbchat-live .nbchat-went-on:is(table) { display: contents; }
.nbchat-live .nbchat-went-on:is(table):not(.nbchat-goes-on)::after { content: ""; display: block; margin-bottom: 1em; }
.nbchat-live > .nbchat-answer { margin-bottom: 1em; border-collapse: collapse; }
.nbchat-live .nbchat-status {
  position: relative; top: -14px; height: 0; line-height: 14px; font-size: 11px; white-space: nowrap;
  color: var(--jp-content-font-color2, #616161);
}
</style>"""


def load_widgets() -> None:
    """Import ipywidgets now, as it takes a while."""
    import ipywidgets  # noqa: F401


class WidgetBox:
    """The widgets of one answer: a box of columns and a status line. Counts what it sends."""

    def __init__(self) -> None:
        import ipywidgets

        self._ipywidgets = ipywidgets
        self._all: list[Any] = []
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
        self._root = self.box((self._html(STYLE), middle, self._status), BOX_CLASSES)

    def segment(self, value: str) -> Segment:
        """A new piece of the answer; it belongs into a column."""
        self.segments += 1
        return self._html(value)

    def box(self, children: Sequence[Any] = (), classes: Sequence[str] = ()) -> VBox:
        """A box of widgets below each other."""
        return self._count(self._ipywidgets.VBox(children, layout=self._layout, _dom_classes=classes))

    def set(self, widget: Segment, value: str) -> None:
        """Show the value in place of the one before."""
        self.sent += 1
        widget.value = value

    def set_status(self, line: str, announced: bool) -> None:
        """Show the status line, and tell those who listen if it says more than numbers."""
        role = ' role="status"' if announced else ""
        self.set(self._status, wrap_segment(f'<div class="nbchat-status"{role}>{escape(line)}</div>', False))

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
        now, later = self._all[:CLOSED_AT_END], self._all[CLOSED_AT_END:]
        for widget in now:
            widget.close()
        if later:
            run = contextvars.copy_context().run
            threading.Thread(target=run, args=(_close, later), name="nbchat-close", daemon=True).start()

    def _html(self, value: str) -> Segment:
        return self._count(self._ipywidgets.HTMLMath(value, layout=self._layout, style=self._look))

    def _count(self, widget: Any) -> Any:
        self._all.append(widget)
        self.sent += 1
        return widget


def _close(widgets: list[Any]) -> None:
    for widget in widgets:
        time.sleep(1 / CLOSED_PER_S)
        widget.close()


def wrap_segment(value: str, finished: bool) -> str:
    """The value of a segment as it goes into its widget.

    MathJax is kept away from all but formulas here, as it looks at a widget and not at what is
    around it. What is finished is announced to those who listen, politely, and what is still being
    written is not: they would hear its beginning again and again.
    """
    announced = ' aria-live="polite"' if finished else ""
    return f'<div class="{" ".join(NO_FORMULAS)}"{announced}>{value}</div>'


class Column:
    """Widgets below each other. A full box gets a box as its last child, so that no message names them all."""

    def __init__(self, widgets: WidgetBox, box: VBox) -> None:
        self._widgets, self._box = widgets, box

    def add(self, value: str) -> Segment:
        """A new segment at the end."""
        segment = self._widgets.segment(value)
        self.put(segment)
        return segment

    def put(self, widget: Any) -> None:
        """Put the widget at the end."""
        full = self._box if len(self._box.children) >= MAX_WIDGETS_PER_BOX else None
        if full is not None:
            widget = self._box = self._widgets.box((widget,))
        box = full or self._box
        box.children = (*box.children, widget)
        self._widgets.sent += 1
