"""Tables as plain text and as HTML. Every table that nbchat shows is made here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nbchat.core.visible import visible_line

__all__ = ["html_table", "text_table"]

MAX_CELL_CHARACTERS = 10_000


def text_table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    totals: Iterable[Sequence[str]] = (),
    left_columns: int | None = None,
    ruled: bool = False,
) -> str:
    """Return a table as lines of text, each column as wide as its widest cell.

    Hidden characters and newlines in cells are escaped, because servers and endpoints wrote some of them.

    Args:
        head: the name of each column.
        rows: the cells of each row.
        totals: rows below the others, under a line of their own.
        left_columns: the number of columns that are aligned to the left. The rest are numbers, and
            are aligned to the right. None aligns all of them to the left.
        ruled: draw a line under the head.

    >>> print(text_table(["model", "requests"], [["a", "5"], ["b", "12"]], left_columns=1))
    model  requests
    a             5
    b            12
    """
    body, foot = ([list(map(_one_line, cells)) for cells in group] for group in (rows, totals))
    widths = [max(map(len, column)) for column in zip(head, *body, *foot, strict=True)]
    left = len(widths) if left_columns is None else left_columns

    def line(cells: Sequence[str]) -> str:
        aligned = (
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join(aligned).rstrip()

    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    lines = [line(head), *([rule] if ruled else []), *map(line, body)]
    return "\n".join(lines + ([rule, *map(line, foot)] if foot else []))


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
