"""The value that a tool returned, as the content blocks of its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from nbchat.content.blocks import CHARACTERS_PER_TOKEN, carry_text
from nbchat.content.cutting import shorten
from nbchat.content.images import image_or_reason
from nbchat.content.media_types import PDF_TYPE, from_base64, media_block
from nbchat.context.values import blocks_of
from nbchat.core.messages import OpaqueBlock, TextBlock

__all__ = ["tool_content"]

#: Tokens of one result.
RESULT_TOKENS = 25_000

_Check: TypeAlias = Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict)


def _is_source(**forms: Mapping[str, _Check]) -> _Check:
    """Return a check that a value is a ``source`` in one of these forms, by their types."""

    def check(value: Any) -> bool:
        form = forms.get(str(value.get("type"))) if _is_dict(value) else None
        return form is not None and _fits({"type": _is_text, **form}, value)

    return check


def _is_parts(value: Any) -> bool:
    """Return True for a list of text and image blocks."""
    return isinstance(value, list) and all(_is_block(part) and part["type"] in ("text", "image") for part in value)


def _fits(fields: Mapping[str, _Check], value: Mapping[Any, Any]) -> bool:
    """Return True if the value has exactly these fields. Those with a ``?`` at the end may be missing."""
    checks = {name.rstrip("?"): check for name, check in fields.items()}
    required = {name for name in fields if not name.endswith("?")}
    return required <= value.keys() <= checks.keys() and all(checks[name](part) for name, part in value.items())


_URL_OR_FILE: dict[str, dict[str, _Check]] = {"url": {"url": _is_text}, "file": {"file_id": _is_text}}
_BASE64: dict[str, _Check] = {"media_type": _is_text, "data": _is_text}
_EVERY: dict[str, _Check] = {"type": _is_text, "cache_control?": lambda value: value is None or _is_dict(value)}
_OPTIONAL_TEXT: _Check = lambda value: value is None or _is_text(value)  # noqa: E731
_CITATIONS: dict[str, _Check] = {"citations?": lambda value: value is None or _is_dict(value)}

#: The blocks that a result may contain, with their fields. The API refuses a block with another field, so
#: a dict of the user's own that only has a "type" too is not taken for a block.
#: https://platform.claude.com/docs/en/api/messages/create
_BLOCKS: dict[str, dict[str, _Check]] = {
    "text": {"text": _is_text, "citations?": lambda value: value is None or isinstance(value, list)},
    "image": {"source": _is_source(base64=_BASE64, **_URL_OR_FILE)},
    "document": {
        "source": _is_source(
            base64={**_BASE64, "media_type": lambda value: value == PDF_TYPE},
            text={**_BASE64, "media_type": lambda value: value == "text/plain"},
            content={"content": lambda value: _is_text(value) or _is_parts(value)},
            **_URL_OR_FILE,
        ),
        "title?": _OPTIONAL_TEXT,
        "context?": _OPTIONAL_TEXT,
        **_CITATIONS,
    },
    "search_result": {"content": _is_parts, "source": _is_text, "title": _is_text, **_CITATIONS},
    "tool_reference": {"tool_name": _is_text},
}


def _is_block(value: Any) -> bool:
    """Return True if the value is a content block that the API takes in a result."""
    fields = _BLOCKS.get(str(value.get("type"))) if _is_dict(value) else None
    return fields is not None and _fits({**_EVERY, **fields}, value)


def tool_content(value: Any, *, budget: int = RESULT_TOKENS) -> tuple[dict[str, Any], ...]:
    """Return the value that a tool returned as content blocks, at least one.

    Content blocks, as dicts or as values of :mod:`nbchat.core.messages`, are sent as they are, and images in
    them within the API's limits. Other values are sent as in a prompt.

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
    items = [item.to_dict() if isinstance(item, TextBlock | OpaqueBlock) else item for item in items]
    if not all(map(_is_block, items)):
        return None
    return tuple(block for item in items for block in _checked(item))


def _checked(block: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """Return a block. Check base64 in it: an image becomes one that the API takes, or a text that says why it is none.

    Programs write base64 with line breaks and as a ``data:`` URL, which the API refuses.
    """
    source = block.get("source")
    if not isinstance(source, Mapping) or source["type"] != "base64":
        return (dict(block),)
    if block["type"] == "image":
        (image,) = image_or_reason(source["data"], "the image").content
        return ({**block, **image} if image["type"] == "image" else image,)
    document = media_block(PDF_TYPE, from_base64(source["data"]) or b"")
    if document is None or not document["source"]["data"]:
        return ({"type": "text", "text": "[not sent: the document is not base64]"},)
    return ({**block, **document},)
