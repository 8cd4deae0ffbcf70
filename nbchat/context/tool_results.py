"""The value that a tool returned, as the content blocks of its result."""

from __future__ import annotations

from typing import Any

from nbchat.content.blocks import CHARACTERS_PER_TOKEN, carry_text
from nbchat.content.cutting import shorten
from nbchat.context.values import blocks_of
from nbchat.core.messages import OpaqueBlock, TextBlock

__all__ = ["tool_content"]

#: Tokens of one result.
RESULT_TOKENS = 25_000

#: Types of blocks that a result may contain, each with the field that tells a block from a dict of the user's own.
_BLOCK_FIELDS = {
    "text": "text",
    "image": "source",
    "document": "source",
    "search_result": "content",
    "tool_reference": "tool_name",
}


def tool_content(value: Any, *, budget: int = RESULT_TOKENS) -> tuple[dict[str, Any], ...]:
    """Return the value that a tool returned as content blocks, at least one.

    Content blocks, as dicts or as values of :mod:`nbchat.core.messages`, are sent as they are. Other
    values are sent as in a prompt.

    Args:
        value: The value.
        budget: The most tokens of a text, which is cut with a mark.
    """
    blocks = _as_blocks(value)
    if blocks is not None:
        return blocks
    if isinstance(value, str):
        text, _ = shorten(value, budget * CHARACTERS_PER_TOKEN, "result", tail=True)
        carried = carry_text(text)
    else:
        carried = blocks_of(value, "result", budget)
    if any(block["type"] != "text" or block["text"].strip() for block in carried.content):
        return carried.content
    # The API refuses a text block that is only white space.
    return ({"type": "text", "text": f"({'an empty' if value == '' else 'a blank'} text)"},)


def _as_blocks(value: Any) -> tuple[dict[str, Any], ...] | None:
    """Return the content blocks that a tool made itself, or None if the value is something else."""
    items = list(value) if isinstance(value, list | tuple) and value else [value]
    blocks = []
    for item in items:
        if isinstance(item, TextBlock | OpaqueBlock):
            item = item.to_dict()
        field = _BLOCK_FIELDS.get(str(item.get("type"))) if isinstance(item, dict) else None
        if field is None or field not in item:
            return None
        blocks.append(dict(item))
    return tuple(blocks)
