"""How much content takes: about how many tokens, and what one request may hold.

Limits, in the API's own words: https://platform.claude.com/docs/en/build-with-claude/vision and
https://platform.claude.com/docs/en/api/overview#request-size-limits.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nbchat.content.blocks import CHARACTERS_PER_TOKEN, human_size
from nbchat.context.images import image_tokens
from nbchat.core.errors import AttachmentError

__all__ = ["check_limits", "count_pages", "estimate_tokens"]

#: Bytes of a request. 32 MB counts everything; a margin is left for the rest of the body.
REQUEST_BYTES = 32_000_000 - 500_000
#: Images in one request, for models with a context window of 200,000 tokens; larger ones take 600.
IMAGES_PER_REQUEST = 100
#: "Each page typically uses 1,500-3,000 tokens", and is seen as an image too.
TOKENS_PER_PAGE = 3_000


def estimate_tokens(content: str | Iterable[Mapping[str, Any]] | Mapping[str, Any]) -> int:
    """About how many tokens a text, a block or blocks take.

    Four characters a token; an image its width × height / 750 after the API has scaled it; a PDF
    3,000 a page. Other blocks count as the JSON they are.
    """
    if isinstance(content, str):
        return -(-len(content) // CHARACTERS_PER_TOKEN)
    if isinstance(content, Mapping):
        return _block_tokens(content)
    return sum(_block_tokens(block) for block in content)


def _block_tokens(block: Mapping[str, Any]) -> int:
    source = block.get("source")
    held = source.get("data") if isinstance(source, Mapping) else None
    match block.get("type"):
        case "text":
            return estimate_tokens(block.get("text") or "")
        case "image":
            return image_tokens(held)
        case "document" if isinstance(held, str) and source.get("type") == "base64":
            return count_pages(base64.b64decode(held)) * TOKENS_PER_PAGE
        case "tool_result" | "document" if isinstance(block.get("content"), list | tuple):
            return estimate_tokens(block["content"])
    return estimate_tokens(json.dumps(block, ensure_ascii=False, default=str))


def check_limits(content: Sequence[Mapping[str, Any]]) -> None:
    """Nothing, where blocks may go in one request.

    Raises:
        AttachmentError: more images or bytes than a request may hold.
    """
    images = sum(block.get("type") == "image" for block in content)
    if images > IMAGES_PER_REQUEST:
        raise AttachmentError(
            f"{images} images would go along, and a request takes {IMAGES_PER_REQUEST}",
            "Send fewer: name single files in --attach, fewer cells in --cells, or ask in several cells.",
        )
    sizes = [_bytes(block) for block in content]
    if sum(sizes) > REQUEST_BYTES:
        largest = max(range(len(sizes)), key=sizes.__getitem__)
        title = content[largest].get("title")
        what = f"the {content[largest]['type']}{f' {title}' if title else ''}"
        raise AttachmentError(
            f"what would go along is {human_size(sum(sizes))}, and a request holds {human_size(REQUEST_BYTES)}; "
            f"{what} alone is {human_size(sizes[largest])}",
            "Leave out or split the largest; base64 makes images and PDFs a third larger than their files.",
        )


def _bytes(block: Mapping[str, Any]) -> int:
    source = block.get("source")
    if isinstance(source, Mapping) and isinstance(source.get("data"), str):
        return len(source["data"])
    text = block.get("text")
    return len(text.encode("utf-8", "surrogatepass")) if isinstance(text, str) else 0


_PAGE = re.compile(rb"/Type\s*/Page(?![A-Za-z])")
_OBJECTS = re.compile(rb"/ObjStm\b.{0,400}?stream\r?\n", re.DOTALL)


def count_pages(data: bytes) -> int:
    """About how many pages a PDF has, at least 1: its page objects, those in compressed streams too."""
    pages = len(_PAGE.findall(data))
    for found in _OBJECTS.finditer(data):
        try:
            pages += len(_PAGE.findall(zlib.decompressobj().decompress(data[found.end() :], 50_000_000)))
        except zlib.error:
            continue  # another filter, or damaged: those pages are not counted
    return max(1, pages)
