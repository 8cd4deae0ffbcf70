"""One part of an answer as segments. Finished HTML is sent once; only the open HTML is sent again.

Pure. A part is a row of HTML values, each in a widget of its own. Only the last value is open.

The open value becomes a segment in one message: it is sent once more, now with finished HTML only.
It still contains everything that it showed before, except for the line being written. In the next
message, a new value after it receives the HTML that is open. So a front end that draws between the
two messages shows nothing twice, and nothing disappears that somebody was reading.

A long list is in several values too, although no item is finished before the list ends: a blank line
makes all items of a list loose, which changes their HTML. When that happens, the values of the list
are sent once more (https://spec.commonmark.org/0.31.2/#loose).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

from nbchat.view.html.cutting import (
    count_units,
    html_after,
    html_between,
    html_up_to,
    is_in_list,
    last_cut,
    shown_length,
    split_at,
)
from nbchat.view.html.safe import escape

__all__ = ["PlainTextStream", "Segments", "TextStream"]

#: An open value is sent again when it has grown by this share of its size. So all messages together
#: are a fixed multiple of the text, and not the square of it.
MIN_GROWTH = 0.1
#: Text that has waited for this long is sent, however little it is,
MAX_WAIT_S = 0.25
#: but a value of n bytes waits for n divided by this. So waiting never costs more bytes a second.
WAIT_BYTES_PER_S = 8192
#: This many segments of a view are sealed at every block, so that the beginning appears smoothly.
SMALL_SEGMENTS = 24
#: Later segments are sealed when they have this size. A long answer is then a hundred widgets
#: and not thousands.
FULL_SEGMENT_BYTES = 2000
#: Code, a table or a list is cut while it is being written if it is longer than this.
LONG_BLOCK_BYTES = 2000
#: How many values of a list that became loose one update sends.
MAX_LOOSENED_PER_UPDATE = 2
#: An invisible element between a heading and the edge of its segment. Style sheets give a heading
#: other margins when it is the first or last child, and the text would jump at the end.
MARGIN_GUARD = "<i hidden></i>"
#: The size of one finished piece of plain text.
PLAIN_PIECE_CHARACTERS = 4096


class TextStream(Protocol):
    """A text that grows, as HTML.

    :class:`nbchat.view.html.markdown.MarkdownStream` is one, and :class:`PlainTextStream` is one.
    """

    @property
    def may_be_cut(self) -> bool:
        """Return False if the last :meth:`tail` ends in a block whose beginning may still change."""
        ...

    def feed(self, text: str) -> None:
        """Take some more text."""
        ...

    def advance(self) -> list[str]:
        """Finish what no later text can change, and return its HTML."""
        ...

    def tail(self) -> str:
        """Return the HTML of the text that is not finished, as if the text ended here."""
        ...

    def close(self) -> list[str]:
        """Finish the rest, because the text is whole, and return its HTML."""
        ...


class PlainTextStream:
    """Plain text that grows, for the arguments of a tool call.

    Args:
        size: a piece of this many characters is finished.
    """

    may_be_cut = True

    def __init__(self, size: int = PLAIN_PIECE_CHARACTERS) -> None:
        self._size, self._open, self._html, self._sealed = size, "", "", False

    def feed(self, text: str) -> None:
        """Take some more text."""
        self._open += text

    def end(self, render: Callable[[], str]) -> None:
        """Show the HTML of ``render`` instead of the plain text, because the text is whole now.

        If a piece of the text is finished already, the text stays plain: the page shows that piece.
        """
        if not self._sealed and len(self._open) < self._size:
            self._html = render()

    def advance(self) -> list[str]:
        """Finish the whole pieces, and return their HTML."""
        length = len(self._open) // self._size * self._size
        finished, self._open = self._open[:length], self._open[length:]
        self._sealed = self._sealed or bool(finished)
        return [_plain_html(finished)] if finished else []

    def tail(self) -> str:
        """Return the HTML of the text that is not finished."""
        return self._html or _plain_html(self._open)

    def close(self) -> list[str]:
        """Finish the rest, and return its HTML."""
        html = self.tail()
        self._open = self._html = ""
        return [html] if html else []


def _plain_html(text: str) -> str:
    return f'<code class="nbchat-letters">{escape(text)}</code>' if text else ""


class _ListValue(NamedTuple):
    """A value with a part of a list that is still open.

    ``lead`` is the HTML before the list in this value. ``first`` and ``last`` are the units (see
    :func:`nbchat.view.html.cutting.count_units`) at which the part of the list begins and ends.
    """

    place: int
    lead: str
    first: int
    last: int


class Segments:
    """The row of values of one part, over a text that grows.

    ``place`` is the place of the open value in the row. The values before it are sealed: they are
    never sent again, except for those of an open list.

    Args:
        text: the stream that renders the text.
        first: no other part of the answer is before this one.
    """

    def __init__(self, text: TextStream, first: bool = False) -> None:
        self.text = text
        self.place = 0
        self._at_start = first
        self._ready = ""  # the finished HTML in the open value
        self._block_closed = False  # True if a block has closed since the last update
        self._sent = ""  # the open value as it was sent last
        self._sent_at: float | None = None
        self._fed = self._unsent = 0  # characters: all of them, and those since the last update
        self._sealed_bytes = 0
        self._tail = ""  # the open HTML in the last update
        self._sealed_units = 0  # the lines, rows and items of the open block that are in sealed values
        self._list_values: list[_ListValue] = []  # the sealed values of the open list
        self._list_prefix = ""  # the HTML of the open block up to the end of those values
        self._loosened: list[tuple[int, str]] = []  # the new HTML of those values, until it is sent

    def feed(self, text: str) -> None:
        """Take some more text."""
        self.text.feed(text)
        self._fed += len(text)
        self._unsent += len(text)

    def end(self, render: Callable[[], str]) -> None:
        """Show the HTML of ``render`` instead of the plain text, because the text is whole now."""
        if isinstance(self.text, PlainTextStream):
            self.text.end(render)
            self._block_closed = True

    def add(self, html: str) -> None:
        """Take finished HTML that comes after the text so far."""
        self._take([*self.text.close(), html])

    @property
    def due(self) -> float:
        """The time from which on an update is worth a message: -inf for now, inf if nothing is new."""
        if self._block_closed or self._loosened or (self._unsent and self._sent_at is None):
            return -math.inf
        if not self._unsent or self._sent_at is None:
            return math.inf
        size = len(self._sent)
        # One character of coloured code is many bytes of HTML: growth is measured in bytes.
        bytes_per_character = (self._sealed_bytes + size) / max(1, self._fed - self._unsent)
        if self._unsent * max(1.0, bytes_per_character) >= MIN_GROWTH * size:
            return -math.inf
        return self._sent_at + max(MAX_WAIT_S, size / WAIT_BYTES_PER_S)

    def advance(self) -> None:
        """Finish the blocks that no later text can change."""
        self._take(self.text.advance())

    def show(self, now: float, sealed: int) -> list[tuple[int, str]]:
        """Return the values to send, each with its place in the row; [] if nothing has changed.

        That is the open value. If the open value is full, it is sealed, and a new open value comes
        after it. Or it is some of the values of a list that became loose. Then :attr:`due` says
        that there are more.

        Args:
            now: the time of this update.
            sealed: the number of segments in the whole view.
        """
        if not self._loosened:
            html = self.text.tail()
            tail = self._unsealed(html)  # this may find that a list became loose
        if self._loosened:
            # All of a long list in one update would be the long task that segments avoid.
            batch, self._loosened = self._loosened[:MAX_LOOSENED_PER_UPDATE], self._loosened[MAX_LOOSENED_PER_UPDATE:]
            return batch
        self._unsent, self._block_closed, self._sent_at = 0, False, now
        if self._ready and len(self._ready) >= (FULL_SEGMENT_BYTES if sealed >= SMALL_SEGMENTS else 1):
            return self._seal(self._ready + MARGIN_GUARD, tail)
        cut = last_cut(tail) if len(tail) > LONG_BLOCK_BYTES and self.text.may_be_cut else 0
        # The front end may draw between the message that seals and the message that adds the next
        # value. A cut before the end of what was shown would make those lines vanish for a moment.
        if cut and cut >= shown_length(self._tail):
            front, back = split_at(tail, cut)
            last = self._sealed_units + count_units(tail, cut)
            if is_in_list(tail, cut):
                self._list_values.append(_ListValue(self.place, self._guarded(self._ready), self._sealed_units, last))
                self._list_prefix = html_up_to(html, last)
            self._sealed_units = last
            return self._seal(self._ready + front, back)
        value = self._guarded(self._ready + tail)
        self._tail = tail
        if value == self._sent:
            return []
        self._sent = value
        return [(self.place, value)]

    def close(self) -> None:
        """Finish the rest, because the text is whole."""
        self._take(self.text.close())

    def _unsealed(self, html: str) -> str:
        """Return the HTML of the open block without the units in sealed values.

        If the list in those values became loose, their new HTML is put on the list to send.
        """
        if self._list_values and not html.startswith(self._list_prefix):
            self._list_prefix = html_up_to(html, self._list_values[-1].last)
            self._loosened = [
                (value.place, value.lead + html_between(html, value.first, value.last)) for value in self._list_values
            ]
        return html_after(html, self._sealed_units)

    def _seal(self, html: str, tail: str) -> list[tuple[int, str]]:
        """Make the open value a segment with this HTML, and put the tail into a new open value."""
        value = self._guarded(html)
        self._sealed_bytes += len(value)
        self._ready, self._at_start, self._tail = "", False, tail
        self._sent = self._guarded(tail)
        self.place += 1
        following = [(self.place, self._sent)] if tail else []
        return [(self.place - 1, value), *following]

    def _take(self, finished: list[str]) -> None:
        if html := "".join(finished):
            self._ready += self._unsealed(html)
            self._sealed_units, self._tail = 0, ""
            self._list_values.clear()
            self._block_closed = True

    def _guarded(self, html: str) -> str:
        return html if self._at_start or not html else MARGIN_GUARD + html
