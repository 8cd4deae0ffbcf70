"""Tables as plain text and as HTML. Every table that nbchat shows is made here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from html import escape
from itertools import zip_longest

from nbchat.core.visible import visible_line
from nbchat.view.screen import fitted_widths, labelled_lines, width_of, wrapped, wrapped_lines

__all__ = ["OUTER_TAG", "html_table", "table_bundle", "text_table"]

# MathJax would read `$1 and $2` as a formula. These two classes keep MathJax away.
OUTER_TAG = '<div class="nbchat-usage mathjax_ignore tex2jax_ignore">'
MAX_CELL_CHARACTERS = 10_000


def text_table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    totals: Iterable[Sequence[str]] = (),
    left_columns: int | None = None,
    prose_columns: Collection[int] = (),
    ruled: bool = False,
    width: int | None = None,
) -> str:
    """Return a table as lines of text, each column as wide as its widest cell.

    On a screen that is narrower, cells wrap between words. On a screen that is narrower than the widest
    words of all columns, each cell has a line of its own, after the name of its column.

    Hidden characters and newlines in cells are escaped, because servers and endpoints wrote some of them.

    Args:
        head: the name of each column.
        rows: the cells of each row.
        totals: rows below the others, under a line of their own.
        left_columns: the number of columns that are aligned to the left. The rest are numbers, and
            are aligned to the right. None aligns all of them to the left.
        prose_columns: the columns that stay wide enough for some words.
        ruled: draw a line under the head.
        width: the width of the screen in characters. None is a screen without an end.

    >>> print(text_table(["model", "requests"], [["a", "5"], ["b", "12"]], left_columns=1))
    model  requests
    a             5
    b            12
    """
    body, foot = ([list(map(_one_line, cells)) for cells in group] for group in (rows, totals))
    columns = list(zip(head, *body, *foot, strict=True))
    left = len(columns) if left_columns is None else left_columns
    widths: list[int] | None = [max(map(width_of, column)) for column in columns]
    if width is not None:
        numbers = range(left, len(columns))
        widths = fitted_widths(columns, width, numbers=numbers, prose=prose_columns)
    if widths is None:
        return "\n".join(labelled_lines(head, [*body, *foot], width or 0))
    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    lines = [*_row_lines(head, widths, left), *([rule] if ruled else [])]
    lines += [line for cells in body for line in _row_lines(cells, widths, left)]
    if foot:
        lines += [rule, *(line for cells in foot for line in _row_lines(cells, widths, left))]
    return "\n".join(lines)


def _row_lines(cells: Sequence[str], widths: Sequence[int], left: int) -> Iterator[str]:
    """Yield the lines of a row. A cell that is wider than its column wraps."""
    parts = [wrapped_lines(cell, width) for cell, width in zip(cells, widths, strict=True)]
    for pieces in zip_longest(*parts, fillvalue=""):
        aligned = []
        for column, (piece, width) in enumerate(zip(pieces, widths, strict=True)):
            blanks = " " * (width - width_of(piece))
            aligned.append(piece + blanks if column < left else blanks + piece)
        yield "  ".join(aligned).rstrip()


def _one_line(cell: str) -> str:
    return visible_line(cell, MAX_CELL_CHARACTERS)


def html_table(
    rows: Iterable[str],
    *,
    head: str | None = None,
    caption: str = "",
    totals: Iterable[str] = (),
    line_end: str = "",
) -> str:
    """Return a table as HTML.

    Args:
        rows: the cells of each row, as ``<td>…</td>`` and ``<th>…</th>``. The caller has escaped their text.
        head: the cells of the head, in the same form. None leaves the head out.
        caption: a whole ``<caption>…</caption>``.
        totals: rows below the others, in the same form.
        line_end: is put after each row and each group of rows. The live view cuts a long table at
            these places (:mod:`nbchat.view.html.cutting`).
    """

    def lines(group: Iterable[str]) -> str:
        return "".join(f"<tr>{cells}</tr>{line_end}" for cells in group)

    parts = [f"<table>{line_end}{caption}"]
    if head is not None:
        parts.append(f"<thead>{line_end}{lines([head])}</thead>{line_end}")
    parts.append(f"<tbody>{line_end}{lines(rows)}</tbody>{line_end}")
    if foot := lines(totals):
        parts.append(f"<tfoot>{line_end}{foot}</tfoot>{line_end}")
    return "".join([*parts, f"</table>{line_end}"])


def table_bundle(
    title: str,
    head: Sequence[str],
    body: Sequence[Sequence[str]],
    *,
    totals: Sequence[Sequence[str]] = (),
    left_columns: int | None = None,
    prose_columns: Collection[int] = (),
    below: Sequence[str] = (),
    width: int | None = None,
) -> dict[str, str]:
    """Return a table as a mimebundle: an output of a cell that is not an answer.

    The HTML passes the sanitisers of JupyterLab and nbconvert, and MathJax leaves it alone.

    Args:
        title: the caption.
        head: the name of each column.
        body: the cells of each row, as plain text.
        totals: rows below the others.
        left_columns: the number of columns of names, which are aligned to the left. The rest are numbers. None
            aligns all to the left.
        prose_columns: the columns that may wrap in a notebook, between words. No other column wraps there.
        below: lines of text below the table.
        width: the width of the screen in characters, for the plain text. None is a notebook.
    """
    left = len(head) if left_columns is None else left_columns
    sides = ["left" if column < left else "right" for column in range(len(head))]
    wraps = [
        "white-space: normal; word-break: normal; overflow-wrap: break-word; min-width: 12em"
        if column in prose_columns
        else "white-space: nowrap"
        for column in range(len(head))
    ]

    def row(cells: Sequence[str], bold: bool = False) -> str:
        inner = (escape(_one_line(cell)) for cell in cells)
        return "".join(
            f'<{tag} style="text-align: {side}; {wrap}">{f"<strong>{cell}</strong>" if bold else cell}'
            f"</{tag.split()[0]}>"
            for tag, side, wrap, cell in zip(tags, sides, wraps, inner, strict=True)
        )

    # A screen reader reads the name of the row before each number, if the name is a <th>.
    tags = ['th scope="row"' if column == 0 and left else "td" for column in range(len(head))]
    heads = (
        f'<th scope="col" style="text-align: {side}">{escape(cell)}</th>'
        for side, cell in zip(sides, head, strict=True)
    )
    table = html_table(
        map(row, body),
        head="".join(heads),
        caption=f'<caption style="text-align: left">{escape(title)}</caption>',
        totals=[row(cells, bold=True) for cells in totals],
    )
    text = text_table(
        head, body, totals=totals, left_columns=left, prose_columns=prose_columns, ruled=True, width=width
    )
    apart = [""] if below and "\n\n" in text else []  # blank lines separate the rows of a table for a narrow screen
    paragraphs = "".join(f"<p>{escape(line)}</p>" for line in below)
    return {
        "text/plain": "\n".join([wrapped(title, width), text, *apart, *(wrapped(line, width) for line in below)]),
        "text/html": f'{OUTER_TAG}<div style="overflow-x: auto">{table}</div>{paragraphs}</div>',
    }
