"""Amounts of money as text. The ledger, the budget and every view show an amount in the same way."""

from __future__ import annotations

__all__ = ["cache_effect", "dollars"]

#: Smaller amounts would round to "$0.0000", which reads as free.
SMALLEST_SHOWN_DOLLARS = 0.00005


def dollars(amount: float | None) -> str:
    """Return an amount in US dollars as text: cents from one dollar on, else four digits.

    Args:
        amount: the amount in US dollars, or None if the amount is unknown.

    >>> dollars(1234.5), dollars(0.0052), dollars(0.0), dollars(0.00001), dollars(None), dollars(-0.5)
    ('$1,234.50', '$0.0052', '$0.00', '<$0.0001', 'unknown', '−$0.5000')
    """
    if amount is None:
        return "unknown"
    if amount < 0:
        return "−" + dollars(-amount) if amount <= -SMALLEST_SHOWN_DOLLARS else "$0.00"
    if amount == 0 or amount >= 1:
        return f"${amount:,.2f}"
    return f"${amount:.4f}" if amount >= SMALLEST_SHOWN_DOLLARS else "<$0.0001"


def cache_effect(saved: float | None) -> str:
    """Return in words what the prompt cache saved; "" for nothing worth a word.

    Args:
        saved: the US dollars that the same requests would cost more without the cache. Writing to the cache
            costs more than sending, so the amount can be below 0. None if the amount is unknown.

    >>> cache_effect(0.0123), cache_effect(-0.0004), cache_effect(0.0), cache_effect(None)
    ('the cache saved $0.0123', 'the cache cost $0.0004 more', '', '')
    """
    if saved is None or abs(saved) < SMALLEST_SHOWN_DOLLARS:
        return ""
    return f"the cache saved {dollars(saved)}" if saved > 0 else f"the cache cost {dollars(-saved)} more"
