"""A table in LaTeX: columns as wide as their text, or columns that share the width of the page."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["latex_table"]

#: The characters that fit beside each other on a page.
PAGE_CHARACTERS = 80
#: A table of more lines may be longer than a page, so it is broken between pages.
PAGE_LINES = 35
#: The part of the width of the page that the space between two columns takes.
GAP = 0.026
#: The narrowest and the widest column, in characters, before the columns share the page.
NARROW_CHARACTERS, WIDE_CHARACTERS = 6, 60


def latex_table(
    rows: Sequence[Sequence[str]], widths: Sequence[Sequence[int]], alignments: Sequence[str], head: int
) -> str:
    """Return a table, "" without cells.

    Args:
        rows: the cells, as LaTeX. A row may be shorter than others.
        widths: the characters of each cell.
        alignments: ``l``, ``r`` or ``c`` for each column.
        head: how many rows are the head.
    """
    columns = len(alignments)
    if not columns:
        return ""
    longest = [max((row[at] for row in widths if at < len(row)), default=0) for at in range(columns)]
    shares = not sum(longest) + 3 * columns <= PAGE_CHARACTERS
    template, fractions = "".join(alignments), [1.0] * columns
    if shares:
        clipped = [min(max(width, NARROW_CHARACTERS), WIDE_CHARACTERS) for width in longest]
        page = max(1 - GAP * columns, 0.2)
        fractions = [page * width / sum(clipped) for width in clipped]
        template = "".join(rf"p{{{fraction:.3f}\linewidth}}" for fraction in fractions)
    lines = [_row(row, columns, alignments if shares else ()) for row in rows]
    height = sum(_height(row, fractions) for row in widths)
    name = "longtable" if height > PAGE_LINES else "tabular"
    above = "\\hline\n" + "".join(f"{line} \\\\\n" for line in lines[:head]) + "\\hline\n" * bool(head)
    below = "".join(f"{line} \\\\\n" for line in lines[head:])
    begin = r"\begin{longtable}" if name == "longtable" else r"\noindent\begin{tabular}"
    return f"{begin}{{{template}}}\n{above}{below}\\hline\n\\end{{{name}}}"


def _row(row: Sequence[str], columns: int, alignments: Sequence[str]) -> str:
    cells = [*row, *[""] * (columns - len(row))]
    if alignments:
        cells = [_aligned(cell, alignment) for cell, alignment in zip(cells, alignments, strict=True)]
    # After the end of the row above, a bracket or a star would be an argument.
    return "{}" * cells[0].startswith(("[", "*")) + " & ".join(cells)


def _aligned(cell: str, alignment: str) -> str:
    if alignment == "l" or not cell:
        return cell
    return rf"\hfill{{}}{cell}" + r"\hfill{}" * (alignment == "c")


def _height(row: Sequence[int], fractions: Sequence[float]) -> int:
    return max(
        (width // max(int(PAGE_CHARACTERS * part), 1) + 1 for width, part in zip(row, fractions, strict=False)),
        default=1,
    )
