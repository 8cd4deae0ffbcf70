"""Write a number with its noun."""

from __future__ import annotations

__all__ = ["counted"]


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural where the number asks for it.

    >>> counted(1, "turn"), counted(1200, "request"), counted(2, "batch")
    ('1 turn', '1,200 requests', '2 batches')
    """
    ending = "es" if noun.endswith("ch") else "s"
    return f"{number:,} {noun}{ending * (number != 1)}"
