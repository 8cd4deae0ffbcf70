"""Frame the text of one value: write it into the sentence, or put it between tags with its name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nbchat.content.blocks import Carried, carry_text, tagged, without_keys
from nbchat.content.cutting import shorten
from nbchat.context.containers import INLINE_CHARACTERS

__all__ = ["between_tags", "class_name", "inline", "room_inside"]


def class_name(value: Any) -> str:
    """Return the name of the value's class, with its module unless this is builtins or the notebook itself."""
    kind = type(value)
    is_local = kind.__module__ in ("builtins", "__main__")
    return kind.__qualname__ if is_local else f"{kind.__module__}.{kind.__qualname__}"


def room_inside(limit: int, tag: str, name: str, **attributes: str) -> int:
    """Return how many of ``limit`` characters are left between these tags."""
    return max(limit - len(tagged(tag, name, "", **attributes)), 0)


def between_tags(tag: str, name: str, text: str, notes: Iterable[str] = (), **attributes: str) -> Carried:
    """Return the text between tags, without keys."""
    text, key_notes = without_keys(text, name)
    return carry_text(tagged(tag, name, text, **attributes), *notes, *key_notes)


def inline(text: str, name: str, limit: int, tag: str = "value", **attributes: str) -> Carried:
    """Return a short text as it is, and a longer one between tags, in ``limit`` characters."""
    if len(text) <= INLINE_CHARACTERS and "\n" not in text:
        text, key_notes = without_keys(text, name)
        return carry_text(text, *key_notes)
    text, notes = shorten(text, room_inside(limit, tag, name, **attributes), name)
    return between_tags(tag, name, text, notes, **attributes)
