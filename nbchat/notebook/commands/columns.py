"""Plain text tables that subcommands print."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["align"]


def align(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a text table; each column is as wide as its longest cell.

    >>> print(align(("name", "turns"), [("main", "12"), ("review", "3")]))
    name    turns
    main    12
    review  3
    """
    lines = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
