"""Write a number with its noun."""

from __future__ import annotations

__all__ = ["counted"]


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural where the number asks for it.

    >>> counted(1, "turn"), counted(1200, "request")
    ('1 turn', '1,200 requests')
    """
    return f"{number:,} {noun}{'s' * (number != 1)}"
