"""The widgets of an answer that is arriving: a box of columns, and a status line below them.

This module is the only door to ipywidgets. The box makes the same page as the final output: it has
the front end's own classes, and the boxes of its widgets take no part in the layout.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from nbchat.threads import start_thread
from nbchat.view.html.render import details
from nbchat.view.html.safe import NO_FORMULAS, escape

if TYPE_CHECKING:
    from ipywidgets import HTML, VBox

__all__ = ["WIDGET_VIEW", "Column", "Segment", "WidgetBox", "load_widgets", "wrap_segment"]

Segment: TypeAlias = "HTML"
"""The widget of one segment."""

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
#: The classes that the front end gives to its own rendered HTML.
BOX_CLASSES = ("nbchat-live", "jp-RenderedHTMLCommon", "jp-RenderedHTML")
#: The most widgets in one box. A box that gets another widget sends the names of all its widgets,
#: so one box for a whole answer would send a number of bytes quadratic in its widgets.
MAX_WIDGETS_PER_BOX = 24
#: This many widgets are closed at the end of an answer,
CLOSED_AT_END = 40
#: and the rest after that, at this rate: closing one takes a browser about a millisecond.
CLOSED_PER_S = 20
#: The style sheet of the box. It does these things:
#:
#: - The boxes of the widgets take no part in the layout. So blocks have the margins that they have in
#:   one piece of HTML.
#: - The content of a fold is hidden until its head is open. The browser alone does that: the head is
#:   never sent again, and so stays as the reader left it. What the head says later is a text after it,
#:   on which a click acts as on the head.
#: - The parts of a table in several widgets become one table, because row groups next to each other
#:   do (https://www.w3.org/TR/CSS2/tables.html#anonymous-boxes).
#: - A front end puts an icon before each widget whose kernel died. The text of the answer needs none.
#: - The status line is in the margin below the last block, so nothing moves when the line disappears.
STYLE = """<style>
.nbchat-live.nbchat-live, .nbchat-live .nbchat-answer, .nbchat-live .nbchat-fold, .nbchat-live .nbchat-head {
  display: block; margin: 0; overflow: visible;
}
.nbchat-live .widget-vbox:not(.nbchat-answer, .nbchat-fold, .nbchat-head), .nbchat-live .widget-inline-hbox,
.nbchat-live .widget-inline-hbox > div, .nbchat-live .mathjax_ignore {
  display: contents; font: inherit; line-height: inherit;
}
.nbchat-live .nbchat-fold:not(:has(> :first-child details[open])) > :not(:first-child) { display: none; }
.nbchat-live .nbchat-head { position: relative; }
.nbchat-live .nbchat-head:has(span) details { display: inline-block; vertical-align: top; }
.nbchat-live .nbchat-head summary::after { content: ""; position: absolute; inset: 0; cursor: pointer; }
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
.nbchat-live.nbchat-live.jupyter-widgets-disconnected::before,
.nbchat-live.nbchat-live .jupyter-widgets-disconnected::before { display: none; }
.nbchat-live > .nbchat-answer { margin-bottom: 1em; border-collapse: collapse; }
.nbchat-live .nbchat-status {
  position: relative; top: -14px; height: 0; line-height: 14px; font-size: 11px; white-space: nowrap;
  color: var(--jp-content-font-color2, #616161);
}
</style>"""


def load_widgets() -> None:
    """Import ipywidgets now, because the import takes a while."""
    import ipywidgets  # noqa: F401


class WidgetBox:
    """The widgets of one answer: a box of columns and a status line.

    ``sent`` counts the messages, ``segments`` the segments. ``shown`` is True after the box was displayed,
    as the output with the id ``display_id``.

    Args:
        replaces: the display id of an output that the box replaces; by default the box is a new output.
    """

    def __init__(self, replaces: str | None = None) -> None:
        import ipywidgets

        self._ipywidgets = ipywidgets
        self._all: list[Any] = []
        self.sent = 0
        self.segments = 0
        self.shown = False
        self._replaces = replaces
        self.display_id = replaces or uuid.uuid4().hex
        # Each widget would make a layout and a style of its own, which are two more messages.
        self._layout = self._count(ipywidgets.Layout())
        # ipywidgets 7, which Colab has, gives all strings the style of a description.
        strings = ipywidgets.widgets.widget_string
        style = getattr(strings, "HTMLMathStyle", None) or ipywidgets.widgets.widget_description.DescriptionStyle
        self._look = self._count(style())
        self._status = self._html("")
        middle = self.box((), ("nbchat-answer",))
        self.column = Column(self, middle)
        self._root = self.box((self._html(STYLE), middle, self._status), BOX_CLASSES)

    def segment(self, value: str) -> Segment:
        """Return a new segment. A column has to show it."""
        self.segments += 1
        return self._html(value)

    def box(self, children: Sequence[Any] = (), classes: Sequence[str] = ()) -> VBox:
        """Return a box that shows widgets below each other."""
        return self._count(self._ipywidgets.VBox(children, layout=self._layout, _dom_classes=classes))

    def set(self, widget: Segment, value: str) -> None:
        """Replace the value of a segment."""
        self.sent += 1
        widget.value = value

    def set_status(self, line: str, announced: bool) -> None:
        """Show the status line.

        Args:
            line: the text.
            announced: screen readers read the line aloud. The numbers change every second, so this is
                only for a line that says something new.
        """
        role = ' role="status"' if announced else ""
        self.set(self._status, wrap_segment(f'<div class="nbchat-status"{role}>{escape(line)}</div>', False))

    def fold(self, head: str, open: bool = False) -> tuple[Segment, Column]:
        """Add a fold at the end. The head opens and closes the fold.

        Returns:
            The widget of the text that :meth:`set_more` adds to the head, and the column inside the fold.
        """
        more = self._html("")
        # A line break at the end would be a blank between the name of a call and its arguments.
        line = self.box((self._html(details(head, "", open).rstrip()), more), ("nbchat-head",))
        box = self.box((line,), ("nbchat-fold",))
        self.column.put(box)
        return more, Column(self, box)

    def set_more(self, more: Segment, text: str) -> None:
        """Show a text after the head of a fold. The head itself stays as it is, open or closed."""
        self.set(more, f'<span class="{" ".join(NO_FORMULAS)}">{escape(text)}</span>')

    def show(self) -> None:
        """Display the box, once."""
        if self.shown:
            return
        from IPython.display import publish_display_data

        self.sent += 1
        self.shown = True
        # Without a text/plain, a front end without widgets shows nothing here, and then the final output.
        view = {"version_major": 2, "version_minor": 0, "model_id": self._root.model_id}
        transient = {"display_id": self.display_id}
        publish_display_data({WIDGET_VIEW: view}, transient=transient, update=self._replaces is not None)

    def close(self) -> None:
        """Close all widgets, so that the notebook saves none of them.

        The widgets of a long answer are closed little by little, because closing all of them would freeze the browser.
        """
        now, later = self._all[:CLOSED_AT_END], self._all[CLOSED_AT_END:]
        for widget in now:
            widget.close()
        if later and start_thread(lambda: _close(later), "nbchat-close") is None:
            for widget in later:
                widget.close()

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
    """Return the HTML of a segment as the value of its widget.

    Args:
        value: safe HTML.
        finished: screen readers read the segment aloud. An open segment would be read again from
            its beginning at each update.
    """
    # MathJax looks at each widget alone and does not see the classes of the elements around it. So
    # each value has the classes that keep MathJax away from everything but formulas.
    announced = ' aria-live="polite"' if finished else ""
    return f'<div class="{" ".join(NO_FORMULAS)}"{announced}>{value}</div>'


class Column:
    """Widgets below each other. The last child of a full box is another box, so that no message names them all."""

    def __init__(self, widgets: WidgetBox, box: VBox) -> None:
        self._widgets, self._box = widgets, box

    def add(self, value: str) -> Segment:
        """Add a new segment at the end, and return it."""
        segment = self._widgets.segment(value)
        self.put(segment)
        return segment

    def put(self, widget: Any) -> None:
        """Add a widget at the end."""
        full = self._box if len(self._box.children) >= MAX_WIDGETS_PER_BOX else None
        if full is not None:
            widget = self._box = self._widgets.box((widget,))
        box = full or self._box
        box.children = (*box.children, widget)
        self._widgets.sent += 1
