"""The size of content: about how many tokens, and how much fits in one request."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nbchat.content.blocks import CHARACTERS_PER_TOKEN, human_size
from nbchat.content.dimensions import read_dimensions
from nbchat.content.media_types import LONG_EDGE_PX, MAX_IMAGES, MAX_REQUEST_BYTES, from_base64
from nbchat.core.errors import AttachmentError

__all__ = ["TOKENS_PER_PAGE", "check_limits", "count_pages", "estimate_tokens", "most_tokens"]

#: "Each page typically uses 1,500-3,000 tokens", and each page is also sent as an image.
TOKENS_PER_PAGE = 3_000
#: https://platform.claude.com/docs/en/build-with-claude/vision#evaluate-image-size
PIXELS_PER_TOKEN = 750
#: Edge of the largest square image that the service does not scale, for images that only a URL or an id names.
UNKNOWN_EDGE_PX = 1092
#: Most bytes to unpack of one compressed object of a PDF.
MAX_UNPACKED_BYTES = 50_000_000


def estimate_tokens(content: str | Iterable[Mapping[str, Any]] | Mapping[str, Any]) -> int:
    """Return about how many tokens a text, a block or blocks take.

    A text takes a token for four characters. An image takes width × height / 750 tokens after the
    API has scaled it. A PDF takes 3,000 tokens a page. Other blocks count as their JSON text.
    """
    if isinstance(content, str):
        return -(-len(content) // CHARACTERS_PER_TOKEN)
    if isinstance(content, Mapping):
        return _block_tokens(content)
    return sum(_block_tokens(block) for block in content)


#: The pieces of a text that :func:`most_tokens` counts: words by their case, white space, the characters of other
#: scripts together, and each digit and each mark alone.
_PIECES = re.compile(r"(?P<word> ?[A-Z]?[a-z]+)|(?P<capitals> ?[A-Z]+)|(?P<blank>\s+)|(?P<others>[^\x00-\x7f]+)|.")


def most_tokens(content: str | Iterable[Mapping[str, Any]]) -> int:
    """Return about the most tokens that a text, or the texts of blocks, take with the tokenizer of a small model.

    A small model has few words in its vocabulary, and each digit is a token: a table of numbers takes
    nearly a token a character, where :func:`estimate_tokens` counts four. Measured with SmolLM2-135M.

    >>> most_tokens("3.14159"), estimate_tokens("3.14159")
    (7, 2)
    """
    if isinstance(content, str):
        return sum(_piece_tokens(piece) for piece in _PIECES.finditer(content))
    return sum(most_tokens(block["text"]) if block.get("type") == "text" else _block_tokens(block) for block in content)


def _piece_tokens(piece: re.Match[str]) -> int:
    text = piece[0].removeprefix(" ")  # the space before a word belongs to the word
    match piece.lastgroup:
        case "word":
            return -(-len(text) // 3)
        case "capitals":
            return -(-len(text) // 2)
        case "blank":
            return 1
        case "others":
            return -(-len(text.encode("utf-8", "surrogatepass")) * 3 // 4)
    return 1


def _block_tokens(block: Mapping[str, Any]) -> int:
    source = block.get("source")
    source = source if isinstance(source, Mapping) else {}
    data = source.get("data")
    match block.get("type"):
        case "text":
            return estimate_tokens(block.get("text") or "")
        case "image":
            return _image_tokens(data)
        case "document" if isinstance(data, str) and source.get("type") == "base64":
            return count_pages(from_base64(data) or b"") * TOKENS_PER_PAGE
        case "tool_result" | "document" if isinstance(block.get("content"), list | tuple):
            return estimate_tokens(block["content"])
    return estimate_tokens(json.dumps(block, ensure_ascii=False, default=str))


def _image_tokens(data: str | None) -> int:
    width, height = read_dimensions(from_base64(data or "") or b"") or (UNKNOWN_EDGE_PX, UNKNOWN_EDGE_PX)
    scale = min(1.0, LONG_EDGE_PX / max(width, height, 1))
    return max(1, round(width * height * scale * scale / PIXELS_PER_TOKEN))


def check_limits(content: Sequence[Mapping[str, Any]]) -> None:
    """Check that the blocks fit in one request.

    Raises:
        AttachmentError: There are more images or bytes than a request may contain.
    """
    images = sum(block.get("type") == "image" for block in content)
    if images > MAX_IMAGES:
        raise AttachmentError(
            f"the prompt contains {images} images, and a request takes at most {MAX_IMAGES}",
            "Send fewer images. Name single files in --attach, name fewer cells in --cells, or ask in several cells.",
        )
    sizes = [_byte_count(block) for block in content]
    if sum(sizes) > MAX_REQUEST_BYTES:
        largest = max(range(len(sizes)), key=sizes.__getitem__)
        title = content[largest].get("title")
        name = f"{content[largest]['type']}{f' {title}' if title else ''}"
        raise AttachmentError(
            f"the prompt has {human_size(sum(sizes))}, and a request takes at most {human_size(MAX_REQUEST_BYTES)}; "
            f"the {name} alone is {human_size(sizes[largest])}",
            "Leave out or split the largest part. As base64, images and PDFs are a third larger than their files.",
        )


def _byte_count(block: Mapping[str, Any]) -> int:
    source = block.get("source")
    if isinstance(source, Mapping) and isinstance(source.get("data"), str):
        return len(source["data"])
    text = block.get("text")
    # A notebook may hold half of a surrogate pair, which strict UTF-8 cannot encode.
    return len(text.encode("utf-8", "surrogatepass")) if isinstance(text, str) else 0


_PAGE = re.compile(rb"/Type\s*/Page(?![A-Za-z])")
_OBJECT_STREAM = re.compile(rb"/ObjStm\b.{0,400}?stream\r?\n", re.DOTALL)


def count_pages(data: bytes) -> int:
    """Return about how many pages a PDF has, at least 1. Page objects in compressed streams are counted too."""
    pages = len(_PAGE.findall(data))
    for stream in _OBJECT_STREAM.finditer(data):
        try:
            unpacked = zlib.decompressobj().decompress(data[stream.end() :], MAX_UNPACKED_BYTES)
        except zlib.error:
            continue  # another filter, or a damaged stream: its pages are not counted
        pages += len(_PAGE.findall(unpacked))
    return max(1, pages)
