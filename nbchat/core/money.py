"""Amounts of money as text. The ledger, the budget and every view show an amount in the same way."""

from __future__ import annotations

__all__ = ["dollars"]

#: Smaller amounts would round to "$0.0000", which reads as free.
SMALLEST_SHOWN_DOLLARS = 0.00005


def dollars(amount: float | None) -> str:
    """Return an amount in US dollars as text: cents from one dollar on, else four digits.

    Args:
        amount: the amount in US dollars, or None if the amount is unknown.

    >>> dollars(1234.5), dollars(0.0052), dollars(0.0), dollars(0.00001), dollars(None)
    ('$1,234.50', '$0.0052', '$0.00', '<$0.0001', 'unknown')
    """
    if amount is None:
        return "unknown"
    if amount == 0 or amount >= 1:
        return f"${amount:,.2f}"
    return f"${amount:.4f}" if amount >= SMALLEST_SHOWN_DOLLARS else "<$0.0001"
