"""Text and tables that fit the width of a terminal. Lines break between words.

A terminal breaks a wider line at its last column, within a word. A notebook breaks lines itself.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence

__all__ = ["fitted_widths", "labelled_lines", "narrowest", "width_of", "wrapped", "wrapped_lines"]

#: A column of prose has at least this width, unless its widest cell is narrower.
MIN_PROSE_WIDTH = 20

# Chinese and Japanese are written without spaces: a line may break between two characters, but not before a
# closing bracket, a comma or a full stop.
_WIDE = "\u2e80-\u3000\u3003-\u9fff\uf900-\ufaff\uff10-\uff9f\U00020000-\U0003ffff"
_CLOSING = "\u3001\u3002\u300d\u300f\u3011\u300b\u3009\uff01\uff09\uff0c\uff0e\uff1a\uff1b\uff1f"
_PIECE = re.compile(rf"(\s*)([{_WIDE}][{_CLOSING}]*|[^\s{_WIDE}]+)")


def width_of(text: str) -> int:
    """Return the number of columns that a text takes in a terminal: two for a Chinese character."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # imported here, because %load_ext has to stay light

    return cell_len(text)


def wrapped(text: str, width: int | None) -> str:
    """Return a text whose lines are not wider than the screen, except for these lines, which stay whole:

    a word that is wider than the screen, because a copy of the word would have a line break, and a line that
    begins with ``%``, because people copy the line into a cell.

    Args:
        text: the text.
        width: the width of the screen in characters. None returns the text as it is.

    >>> print(wrapped("one two three", 8))
    one two
    three
    """
    if width is None:
        return text
    return "\n".join(
        piece for line in text.split("\n") for piece in ([line] if line.startswith("%") else wrapped_lines(line, width))
    )


def wrapped_lines(line: str, width: int) -> list[str]:
    """Return the lines of one line. All of them have the indentation of the first."""
    if width_of(line) <= width:
        return [line]
    indentation = line[: len(line) - len(line.lstrip())]
    lines, current = [], ""
    for gap, piece in _PIECE.findall(line):
        if current.strip() and width_of(current + gap + piece) > width:
            lines.append(current)
            current = indentation + piece
        else:
            current += gap + piece
    return [*lines, current]


def narrowest(cell: str) -> int:
    """Return the width of the widest word of a cell."""
    return max((width_of(piece) for _, piece in _PIECE.findall(cell)), default=0)


def fitted_widths(
    columns: Sequence[Sequence[str]], width: int, *, numbers: Collection[int], prose: Collection[int]
) -> list[int] | None:
    """Return the widths of the columns of a table that fits the screen, or None if no table fits.

    The widest columns become narrower first. No column is narrower than its widest word.

    Args:
        columns: the cells of each column, with its head.
        width: the width of the screen. Two blanks separate two columns.
        numbers: the columns of numbers.
        prose: the columns of prose.
    """
    widths = [max(map(width_of, cells)) for cells in columns]
    available = width - 2 * (len(widths) - 1)
    least = [
        max(narrowest(cells[0]), *map(width_of, cells[1:]), 0) if column in numbers else max(map(narrowest, cells))
        for column, cells in enumerate(columns)
    ]
    for column in prose:
        least[column] = max(least[column], min(widths[column], MIN_PROSE_WIDTH))
    if sum(least) > available:
        return None
    for most in range(max(widths), 0, -1):
        fitted = [max(low, min(wide, most)) for low, wide in zip(least, widths, strict=True)]
        if sum(fitted) <= available:
            return fitted
    return least


def labelled_lines(head: Sequence[str], rows: Iterable[Sequence[str]], width: int) -> Iterator[str]:
    """Yield the lines of a table that is too wide for a screen: one line or more for each cell that is not empty.

    A blank line separates two rows.

    >>> print("\\n".join(labelled_lines(["id", "state"], [["batch-one", "it still runs"], ["b", ""]], 16)))
    id     batch-one
    state  it still
           runs
    <BLANKLINE>
    id     b
    """
    label = max(map(width_of, head)) + 2
    for number, row in enumerate(rows):
        if number:
            yield ""
        for name, cell in zip(head, row, strict=True):
            if not cell.strip():
                continue
            if narrowest(cell) > width - label:  # the cell gets all of the width, below its name
                yield name
                yield from wrapped_lines(cell, width)
                continue
            first, *rest = wrapped_lines(cell.strip(), width - label)
            yield name + " " * (label - width_of(name)) + first
            yield from (" " * label + line for line in rest)
