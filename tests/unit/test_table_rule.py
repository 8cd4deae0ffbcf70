r"""Tables: a pipe in code or in a formula splits no cell, and no text of a row is lost."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from nbchat.view.html.dialect import dialect_parser
from nbchat.view.html.markdown import MarkdownStream, render_markdown


def rows(text: str) -> list[list[str]]:
    """Return the cells of all rows of the page, as HTML without alignment and formula marks."""
    html = re.sub(r"</?span[^>]*>", "", render_markdown(text))
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)]


@pytest.mark.parametrize(
    ("row", "cells"),
    [
        ("| `a || b` | or |", ["<code>a || b</code>", "or"]),
        ("| `a|b` | or |", ["<code>a|b</code>", "or"]),
        ("`a | b` | or", ["<code>a | b</code>", "or"]),
        ("| `a \\| b` | or |", ["<code>a | b</code>", "or"]),
        ("| ``a ` | b`` | or |", ["<code>a ` | b</code>", "or"]),
        ("| ```` `|` ```` | or |", ["<code>`|`</code>", "or"]),
        ("| x | `cat f | grep a | wc` |", ["x", "<code>cat f | grep a | wc</code>"]),
        ("| `|` | `||` |", ["<code>|</code>", "<code>||</code>"]),
        ("| $|x|$ | abs |", [r"\(|x|\)", "abs"]),
        (r"| \(|x|\) | abs |", [r"\(|x|\)", "abs"]),
        ("| $P(A|B)$ | $P(A \\| B)$ |", [r"\(P(A|B)\)", r"\(P(A | B)\)"]),
        ("| $$\\{x | x > 0\\}$$ | set |", [r"\[\{x | x &gt; 0\}\]", "set"]),
        ("| a \\| b | c |", ["a | b", "c"]),
        # Cells that are one too many.
        ("| a | b | c |", ["a", "b | c"]),
        ("| a | b || c |", ["a", "b |  | c"]),
        ("| a | b | *c* | `d` |", ["a", "b | <em>c</em> | <code>d</code>"]),
        ("| a | b | after", ["a", "b | after"]),
        ("| a | `b | c |", ["a", "`b | c"]),
        # Signs that are only signs.
        ("| ` | ` |", ["`", "`"]),
        ("| `a | b |", ["`a", "b"]),
        ("| \\` | ` |", ["`", "`"]),
        ("| $5 | $6 |", ["$5", "$6"]),
        ("| $5 | US$ |", ["$5", "US$"]),
        ("| $ | dollar |", ["$", "dollar"]),
        ("| a$ | b$ |", ["a$", "b$"]),
        ("| a |", ["a", ""]),
        ("a", ["a", ""]),
        ("| `a|b` |", ["<code>a|b</code>", ""]),
    ],
)
@pytest.mark.parametrize("prefix", ["", "> ", "- ", "1. > "])
def test_the_cells_of_a_row(row: str, cells: list[str], prefix: str) -> None:
    """In a table with two columns, also inside lists and quotes."""
    indent = re.sub("[-1.]", " ", prefix)
    text = "\n".join([f"{prefix}| head | er |", f"{indent}|---|---|", f"{indent}{row}", f"{indent}| last | row |"])
    assert rows(text) == [["head", "er"], cells, ["last", "row"]]


@pytest.mark.parametrize(
    ("header", "cells"),
    [
        ("| `a || b` | or |", ["<code>a || b</code>", "or"]),
        ("| $|x|$ | `c|d` |", [r"\(|x|\)", "<code>c|d</code>"]),
        ("`a|b` | c", ["<code>a|b</code>", "c"]),
        ("| ` | ` |", ["`", "`"]),
        ("| `a | b` |", ["`a", "b`"]),
        ("| a \\| b | c |", ["a | b", "c"]),
    ],
)
def test_the_cells_of_a_header(header: str, cells: list[str]) -> None:
    """A header whose pipes are in code is the header of a table."""
    assert rows(f"{header}\n|---|---|\n| 1 | 2 |") == [cells, ["1", "2"]]


def test_a_header_that_does_not_fit_is_no_table() -> None:
    """All of it is text, as in GFM."""
    html = render_markdown("| a | b | c |\n|---|---|\n| 1 | 2 |")
    assert html == "<p>| a | b | c |\n|---|---|\n| 1 | 2 |</p>\n"


CELLS = st.text("ab12 *_.:-", max_size=6)
TABLES = st.lists(
    st.one_of(
        st.lists(CELLS, max_size=4).map(lambda cells: "|" + "|".join(cells) + "|"),
        st.lists(CELLS, max_size=3).map("|".join),
        st.sampled_from(["|-|-|", ":-:|-", "|---|", "-|-", "- |", "---", "| :-- | --: |", "", "> x", "- x", "    x"]),
    ),
    max_size=7,
).map("\n".join)


@settings(max_examples=400, deadline=None)
@given(TABLES)
@example("a|b\n-|-\n1|2\n- x")
@example("|\n-|")
def test_tables_without_code_are_those_of_gfm(text: str) -> None:
    """The rule finds the tables of the parser's own rule, with the same cells, as far as the columns go."""
    own = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    ours = dialect_parser().parse(text)
    assert [(token.type, token.map, token.attrs) for token in ours] == [
        (token.type, token.map, token.attrs) for token in own
    ]
    for token, other in zip(ours, own, strict=True):
        assert token.content == other.content or token.content.startswith(f"{other.content} |")


WORDS = st.sampled_from(["a", "`a|b`", "`", "``", "$|x|$", "$", "|", "\\|", "||", "$5", "é", "[", "**", "\\`"])


@settings(max_examples=400, deadline=None)
@given(st.lists(WORDS, max_size=10).map(" ".join), st.integers(1, 3), st.integers(1, 7))
def test_no_character_of_a_row_is_lost(row: str, columns: int, size: int) -> None:
    """All but the pipes is on the page, in its order, streamed or whole."""
    assume(row.strip())
    text = "|" + "h|" * columns + "\n|" + "-|" * columns + f"\n|{row}|\n"
    html = render_markdown(text)
    shown = re.sub(r"<[^>]*>", "", html[html.index("</thead>") :])
    letters = re.sub(r"[^ab5xé$\[]", "", row)
    assert re.sub(r"[^ab5xé$\[]", "", shown.replace(r"\(", "$").replace(r"\)", "$")) == letters
    stream = MarkdownStream()
    for begin in range(0, len(text), size):
        stream.feed(text[begin : begin + size])
        stream.advance()
        assert "".join(stream.finished) + stream.tail() == render_markdown(text[: begin + size])


def test_a_table_has_a_limit_of_added_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short rows of a wide table end the table when they would add too many cells."""
    monkeypatch.setattr("nbchat.view.html.table_rule.MAX_ADDED_CELLS", 10)
    assert len(rows("|a|b|c|\n|-|-|-|\n" + "|x|\n" * 20)) == 1 + 5
