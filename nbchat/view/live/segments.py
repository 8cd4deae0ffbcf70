"""A part of an answer as segments: what is finished is sent once, what is open is sent anew.

Pure. A part shows as a row of HTML values of which only the last is open. An open value becomes
a segment by being sent once more with what is finished, which holds all it showed but for the
line being written; what is open then goes into a new value behind it. So a front end that draws
between two of the messages shows nothing twice and loses nothing that was read.

A long list is in several values too, though nothing of it is finished before all of it is: they
are sent once more when a blank line makes its items loose ones.
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

#: An open value is sent again when it has grown by this much of itself.
MIN_GROWTH = 0.1
#: What has not been sent after this many seconds is sent, however little it is; a value of n
#: bytes waits for n / WAIT_BYTES_PER_S seconds, so that waiting never costs more than WAIT_BYTES_PER_S bytes a second.
MAX_WAIT_S = 0.25
WAIT_BYTES_PER_S = 8192
#: The first segments of a view are sealed at every block, later ones when they hold this many
#: bytes: a long answer is then a hundred widgets and not thousands.
SMALL_SEGMENTS = 24
FULL_SEGMENT_BYTES = 2000
#: Code, a table or a list that is being written is parted when there are this many bytes of it.
LONG_BLOCK_BYTES = 2000
#: Values of a list that has become loose which are sent at a time.
MAX_LOOSENED_PER_UPDATE = 2
#: It keeps headings from being the first or last child of a segment, where style sheets give
#: them other margins.
MARGIN_GUARD = "<i hidden></i>"


class TextStream(Protocol):
    """A text that grows, as HTML: :class:`nbchat.view.html.markdown.MarkdownStream` and :class:`PlainTextStream`."""

    def feed(self, text: str) -> None: ...
    def advance(self) -> list[str]: ...
    def tail(self) -> str: ...
    def close(self) -> list[str]: ...


class PlainTextStream:
    """Plain text that grows, finished every ``size`` characters; for the arguments of a tool."""

    def __init__(self, size: int = 4096) -> None:
        self._size, self._open, self._html, self._sealed = size, "", "", False

    def feed(self, text: str) -> None:
        self._open += text

    def end(self, look: Callable[[], str]) -> None:
        """The text is whole, and ``look`` gives its HTML; it stays letters if some of it was finished before."""
        if not self._sealed and len(self._open) < self._size:
            self._html = look()

    def advance(self) -> list[str]:
        whole = len(self._open) // self._size * self._size
        done, self._open = self._open[:whole], self._open[whole:]
        self._sealed = self._sealed or bool(done)
        return [_plain_html(done)] if done else []

    def tail(self) -> str:
        return self._html or _plain_html(self._open)

    def close(self) -> list[str]:
        done = self.tail()
        self._open = self._html = ""
        return [done] if done else []


def _plain_html(text: str) -> str:
    return f'<code class="nbchat-letters">{escape(text)}</code>' if text else ""


class _ListPart(NamedTuple):
    """A value of a list that is still open: what is in front of the list in it, and the units it begins and ends at."""

    place: int
    lead: str
    first: int
    last: int


class Segments:
    """The row of values of one part, over a text that grows.

    ``first`` says whether nothing of the answer stands before it. ``place`` is that of the open
    value in the row: those before it are sealed, and never sent again but for a list's.
    """

    def __init__(self, text: TextStream, first: bool = False) -> None:
        self.text = text
        self.place = 0
        self._at_start = first
        self._ready = ""  # finished, in the open value
        self._closed = False  # whether a block closed since the last picture
        self._sent = ""
        self._sent_at: float | None = None
        self._fed = self._unsent = 0  # characters: in all, and since the last picture
        self._sealed_bytes = 0  # bytes of the sealed values
        self._tail = ""  # what is open, in the last picture
        self._sealed_units = 0  # lines, rows and items of the open block that are sealed
        self._list_values: list[_ListPart] = []  # the values that are sealed of an open list,
        self._list_prefix = ""  # and the HTML up to the end of them
        self._loosened: list[tuple[int, str]] = []  # what they have become, until it is sent

    def feed(self, text: str) -> None:
        """Take some more text."""
        self.text.feed(text)
        self._fed += len(text)
        self._unsent += len(text)

    def end(self, look: Callable[[], str]) -> None:
        """The text is whole, and ``look`` gives the HTML that letters of it become."""
        if isinstance(self.text, PlainTextStream):
            self.text.end(look)
            self._closed = True

    def add(self, html: str) -> None:
        """Take finished HTML, after all the text so far."""
        self._take([*self.text.close(), html])

    @property
    def due(self) -> float:
        """The time from which on it is worth sending: -inf is now, inf is never, as nothing is new."""
        if self._closed or self._loosened or (self._unsent and self._sent_at is None):
            return -math.inf
        if not self._unsent or self._sent_at is None:
            return math.inf
        size = len(self._sent)
        letter = (self._sealed_bytes + size) / max(1, self._fed - self._unsent)  # bytes of HTML for a character
        if self._unsent * max(1.0, letter) >= MIN_GROWTH * size:
            return -math.inf
        return self._sent_at + max(MAX_WAIT_S, size / WAIT_BYTES_PER_S)

    def advance(self) -> None:
        """Look for blocks that have closed."""
        self._take(self.text.advance())

    def show(self, now: float, sealed: int) -> list[tuple[int, str]]:
        """The values to send, each with its place in the row; [] says that nothing changed.

        It is the open one, and if that is full now, a new open one behind it; or some of a list that
        became loose: then :attr:`due` says that there is more. ``sealed`` is how many segments the
        view has.
        """
        if not self._loosened:
            html = self.text.tail()
            tail = self._rest(html)
        if self._loosened:
            some, self._loosened = self._loosened[:MAX_LOOSENED_PER_UPDATE], self._loosened[MAX_LOOSENED_PER_UPDATE:]
            return some
        self._unsent, self._closed, self._sent_at = 0, False, now
        if self._ready and len(self._ready) >= (FULL_SEGMENT_BYTES if sealed >= SMALL_SEGMENTS else 1):
            return self._seal(self._ready + MARGIN_GUARD, tail)
        cut = last_cut(tail) if len(tail) > LONG_BLOCK_BYTES else 0
        if cut and cut >= shown_length(self._tail):  # else lines that were shown would blink
            front, back = split_at(tail, cut)
            last = self._sealed_units + count_units(tail, cut)
            if is_in_list(tail, cut):
                self._list_values.append(_ListPart(self.place, self._guarded(self._ready), self._sealed_units, last))
                self._list_prefix = html_up_to(html, last)
            self._sealed_units = last
            return self._seal(self._ready + front, back)
        value = self._guarded(self._ready + tail)
        self._tail = tail
        if value == self._sent:
            return []
        self._sent = value
        return [(self.place, value)]

    def _rest(self, html: str) -> str:
        """What of the open block is not sealed; what is sealed of a list is to be sent again if it became loose."""
        if self._list_values and not html.startswith(self._list_prefix):
            self._list_prefix = html_up_to(html, self._list_values[-1].last)
            self._loosened = [
                (part.place, part.lead + html_between(html, part.first, part.last)) for part in self._list_values
            ]
        return html_after(html, self._sealed_units)

    def _seal(self, html: str, tail: str) -> list[tuple[int, str]]:
        """The open value is a segment now; what is open goes into a new one."""
        value = self._guarded(html)
        self._sealed_bytes += len(value)
        self._ready, self._at_start, self._tail = "", False, tail
        self._sent = self._guarded(tail)
        self.place += 1
        more = [(self.place, self._sent)] if tail else []
        return [(self.place - 1, value), *more]

    def close(self) -> None:
        """The text is whole."""
        self._take(self.text.close())

    def _take(self, done: list[str]) -> None:
        if html := "".join(done):
            self._ready += self._rest(html)
            self._sealed_units, self._tail = 0, ""
            self._list_values.clear()
            self._closed = True

    def _guarded(self, html: str) -> str:
        return html if self._at_start or not html else MARGIN_GUARD + html
