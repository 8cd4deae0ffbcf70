"""Tests of Segments, which shows a part of an answer as a list of values of which only the last one changes."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbchat.view.html.markdown import MarkdownStream, render_markdown
from nbchat.view.live.segments import (
    FULL_SEGMENT_BYTES,
    LONG_BLOCK_BYTES,
    MARGIN_GUARD,
    MAX_LOOSENED_PER_UPDATE,
    MAX_WAIT_S,
    SMALL_SEGMENTS,
    PlainTextStream,
    Segments,
)

PIECES = st.lists(
    st.sampled_from(
        [
            "word ",
            "a\n",
            "\n\n",
            "# head\n\n",
            "- item\n",
            "1. one\n",
            "  - sub\n",
            "  more\n",
            "```py\nx = 1\n",
            "y = 2\n",
            '"""doc\n',
            "text\n```py\n",
            "```\n",
            "| a | b |\n|-|-|\n",
            "| 1 | `2` |\n",
            "| 3 | **b",
            "> q\n",
            "$x$ ",
            "-",
            "1.",
            " ",
            "\n",
        ]
    ),
    max_size=30,
)


#: Marks the place where code or a table was cut.
_TABLE_SEAM = r'</tbody>\n</table>\n<table class="[^"]*nbchat-went-on">\n<tbody>\n'
_LIST_SEAM = r'</[uo]l>\n<[uo]l[^>]* class="[^"]*nbchat-went-on">\n'
_SEAM = (
    r'(?:</span>|</em>)?</code></pre></div><div class="[^>]*nbchat-went-on [^>]*><pre><code[^>]*>(?:<span [^>]*>|<em>)?'
)


class Row:
    """The values of one part, as a front end keeps them."""

    def __init__(self, segments: Segments, sealed: int = 0) -> None:
        self.segments, self.sealed = segments, sealed
        self.values: list[str] = []
        self.bytes = self.sent = 0

    def show(self, now: float) -> None:
        for place, value in self.segments.show(now, self.sealed + len(self.values)):
            self.values[place : place + 1] = [value]
            self.bytes += len(value)
            self.sent += 1

    def write(self, text: str, now: float) -> None:
        """Add a text in pieces, and show it each time an update is due."""
        self.segments.feed(text)
        self.segments.advance()
        if self.segments.due <= now:
            self.show(now)

    def show_all(self, now: float) -> None:
        self.show(now)
        while self.segments.due <= now:
            self.show(now)

    @property
    def closed(self) -> int:
        """Return the number of values that must not change any more."""
        segments = self.segments
        listed = [value.place for value in segments._list_values] + [place for place, _ in segments._loosened]
        return min([segments.place, *listed])

    @property
    def html(self) -> str:
        """Return the values as one HTML text, with code joined again."""
        joined = "".join(self.values).replace(MARGIN_GUARD, "")
        joined = re.sub(_LIST_SEAM, "", re.sub(_TABLE_SEAM, "", re.sub(_SEAM, "&#10;", joined)))
        return joined.replace("nbchat-goes-on ", "").replace(' class="nbchat-goes-on"', "")


def uncoloured(html: str) -> str:
    """Return HTML without the colours of code, because a finished line keeps its first colours until the end."""
    return re.sub(r"</?span[^>]*>|</?em>", "", html)


@pytest.mark.parametrize("long_block", [1, 10_000])
@pytest.mark.parametrize("sealed", [0, SMALL_SEGMENTS])
def test_the_values_are_the_html_of_the_text(long_block, sealed):
    """The joined values equal the HTML of the text so far, at any time and for any cuts."""

    @settings(deadline=None, max_examples=40)
    @given(PIECES)
    def check(pieces):
        row = Row(Segments(MarkdownStream(), first=True), sealed)
        text = ""
        for now, piece in enumerate(pieces):
            text += piece
            row.segments.feed(piece)
            row.segments.advance()
            row.show_all(float(now))
            assert uncoloured(row.html) == uncoloured(render_markdown(text))
        row.segments.close()
        row.show_all(1e9)
        assert uncoloured(row.html) == uncoloured(render_markdown(text))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nbchat.view.live.segments.LONG_BLOCK_BYTES", long_block)
        check()


@pytest.mark.parametrize("long_block", [1, 10_000])
def test_a_sealed_value_never_changes(long_block):
    """A sealed value is sent at most once more, so that a selection inside stays."""

    @settings(deadline=None, max_examples=40)
    @given(PIECES)
    def check(pieces):
        row = Row(Segments(MarkdownStream(), first=True))
        for now, piece in enumerate(pieces):
            row.segments.feed(piece)
            row.segments.advance()
            before = row.values[: row.closed]
            row.show(float(now))
            assert row.values[: len(before)] == before

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nbchat.view.live.segments.LONG_BLOCK_BYTES", long_block)
        check()


def test_lines_of_a_long_block_are_sealed_while_it_is_written():
    """Lines of a long program are sealed while it grows, so that they can be selected."""
    row = Row(Segments(MarkdownStream(), first=True))
    row.segments.feed("```python\n")
    for number in range(120):
        row.write(f"value_{number} = compute({number})  # {number}\n", number)
    assert row.closed >= 5
    assert max(map(len, row.values)) < 3 * LONG_BLOCK_BYTES
    row.segments.feed("```\nAfter it.\n")
    row.segments.close()
    row.show(1e9)
    text = re.sub(r"<[^>]*>", "", row.html)
    assert text == "&#10;".join(f"value_{n} = compute({n})  # {n}" for n in range(120)) + "\nAfter it.\n"


def test_rows_of_a_long_table_are_sealed_while_it_is_written():
    """Rows of a long table are sealed in pairs, because every other row has another colour. The last row stays open."""
    text = "Before.\n| name | value |\n|------|------:|\n"
    row = Row(Segments(MarkdownStream(), first=True))
    row.segments.feed(text)
    for number in range(130):
        line = f"| row {number} | {number} |\n"
        text += line
        row.write(line, number)
    assert row.closed >= 5
    assert max(map(len, row.values)) < 3 * LONG_BLOCK_BYTES
    body_rows = [value.count("<tr>") - value.count("<thead>") for value in row.values]
    assert all(count % 2 == 0 for count in body_rows[:-1])
    row.segments.feed("\nAfter it.\n")
    row.segments.close()
    row.show(1e9)
    assert row.html == render_markdown(text + "\nAfter it.\n")


def listing(row: Row, begin: int, end: int) -> str:
    """Return list items, sent one by one."""
    text = ""
    for number in range(begin, end):
        item = f"{number}. The item with number {number} says something\n     - and something below it\n"
        text += item
        row.write(item, number)
    return text


def test_items_of_a_long_list_are_sent_once_while_it_is_written():
    """Each item of a long list is sent once. The numbers continue after a cut."""
    row = Row(Segments(MarkdownStream(), first=True))
    text = "## Before\n"
    row.segments.feed(text)
    text += listing(row, 101, 220)
    assert row.segments.place >= 5
    assert max(map(len, row.values)) < 3 * LONG_BLOCK_BYTES
    before = row.values[: row.segments.place]
    text += listing(row, 220, 250)
    assert row.values[: len(before)] == before
    for value in row.values[1:]:
        assert re.search(r'<ol start="(\d+)"', value)[1] == re.search(r"with number (\d+)", value)[1]
    row.segments.feed("\nAfter it.\n")
    row.segments.close()
    row.show_all(1e9)
    assert row.html == render_markdown(text + "\nAfter it.\n")


@pytest.mark.parametrize("late", [False, True])
def test_a_list_that_becomes_loose_is_sent_again(late):
    """A list that becomes loose is sent again in a few values at a time, also if its last item makes it loose."""
    row = Row(Segments(MarkdownStream(), first=True))
    text = listing(row, 101, 180)
    tight, sent = list(row.values), row.sent
    row.segments.feed("\n180. The last one")
    row.segments.close() if late else row.segments.advance()
    row.show(1e6)
    assert row.sent - sent == MAX_LOOSENED_PER_UPDATE
    row.show_all(1e6)
    assert row.html == render_markdown(text + "\n180. The last one")
    assert all("<p>" in value and "<p>" not in then for value, then in zip(row.values, tight, strict=False))


def test_a_finished_block_is_sealed_immediately():
    """A finished block is sealed, so that text selected in it stays selected while the next block grows."""
    row = Row(Segments(MarkdownStream(), first=True))
    row.segments.feed("One paragraph.\n\nAnd the next")
    row.segments.advance()
    row.show(0.0)
    assert row.values == ["<p>One paragraph.</p>\n" + MARGIN_GUARD, MARGIN_GUARD + "<p>And the next</p>\n"]
    assert row.closed == 1


def test_many_blocks_share_a_segment_when_there_are_many_segments():
    """A long answer consists of a few hundred widgets, not thousands."""
    row = Row(Segments(MarkdownStream()), sealed=SMALL_SEGMENTS)
    for now in range(200):
        row.segments.feed("Some forty characters are in this one.\n\n")
        row.segments.advance()
        row.show(float(now))
    assert all(len(value) >= FULL_SEGMENT_BYTES for value in row.values[: row.closed])
    assert len(row.values) < 200 * 60 / FULL_SEGMENT_BYTES


def test_an_unchanged_value_is_not_sent():
    """An update without a change sends no message."""
    row = Row(Segments(MarkdownStream()))
    row.segments.feed("word")
    row.show(0.0)
    row.show(1.0)
    assert row.sent == 1


def test_first_words_are_due_immediately_and_small_growth_waits():
    """The first words are due immediately, as is a growth of a tenth. A smaller growth is due a little later."""
    segments = Segments(MarkdownStream(), first=True)
    assert segments.due == float("inf")
    segments.feed("x" * 200)
    assert segments.due == float("-inf")
    segments.show(5.0, 0)
    assert segments.due == float("inf")
    segments.feed("y" * 4)
    assert segments.due == 5.0 + MAX_WAIT_S
    segments.feed("y" * 40)
    assert segments.due == float("-inf")


def test_a_closed_block_is_due_immediately():
    """A closed block is due immediately, even if it is small compared with the open value."""
    segments = Segments(MarkdownStream(), first=True)
    segments.feed("word " * 100)
    segments.show(5.0, 0)
    segments.feed("\n\nx")
    segments.advance()
    assert segments.due == float("-inf")


@pytest.mark.parametrize(("begin", "line"), [("```python\n", "value = compute({})\n"), ("", "- item with number {}\n")])
def test_one_endless_block_costs_bytes_linear_in_its_length(begin, line):
    """Ten times the code costs ten times the bytes, and not a hundred times, at 20 updates a second."""

    def cost(lines: int) -> int:
        row = Row(Segments(MarkdownStream(), first=True))
        row.segments.feed(begin)
        for number in range(lines):
            row.write(line.format(number), number * 0.05)
        row.segments.close()
        row.show(1e9)
        return row.bytes

    small, large = cost(25), cost(250)
    assert large <= 15 * small


def test_plain_text_is_cut_anywhere_and_escaped():
    """Plain text can be cut anywhere, because the arguments of a tool are usually one long line."""
    letters = PlainTextStream(size=4)
    for piece in ("ab", "<script>", "cd"):
        letters.feed(piece)
    shown = "".join(letters.advance()) + letters.tail()
    assert re.sub(r"</?code[^>]*>", "", shown) == "ab&lt;script&gt;cd"
    assert letters.close() == []


def test_finished_plain_text_becomes_code():
    """Coloured code replaces the plain text, unless a piece of the text was sealed before."""
    for size, becomes in ((10, True), (4, False)):
        row = Row(Segments(PlainTextStream(size=size)))
        row.segments.feed("x = 1")
        row.show(0.0)
        row.segments.end(lambda: "<pre>x = 1</pre>")
        assert row.segments.due == -math.inf
        row.show(0.1)
        row.segments.add("<p>42</p>")
        row.show(0.2)
        assert ("<pre>x = 1</pre>" in row.html) == becomes
        assert row.html.count("x =") == 1
        assert row.html.index("x =") < row.html.index("42")


def test_html_that_is_added_comes_after_the_text():
    """A result is shown after the arguments of its call."""
    row = Row(Segments(PlainTextStream()))
    row.segments.feed("{}")
    row.segments.add("<p>42</p>")
    row.show(0.0)
    assert row.html.index("{}") < row.html.index("42")
