"""Media types that the Messages API accepts, how to recognize them, and the API's limits on them.

https://platform.claude.com/docs/en/build-with-claude/vision,
https://platform.claude.com/docs/en/build-with-claude/pdf-support and
https://platform.claude.com/docs/en/api/overview#request-size-limits.
"""

from __future__ import annotations

import base64
import binascii
import re
import urllib.parse
from typing import Any

__all__ = [
    "IMAGE_TYPES",
    "LONG_EDGE_PX",
    "MAX_EDGE_PX",
    "MAX_FILE_BYTES",
    "MAX_IMAGES",
    "MAX_IMAGE_BASE64_BYTES",
    "MAX_PDF_BYTES",
    "MAX_PDF_PAGES",
    "MAX_PDF_PAGES_200K",
    "MAX_REQUEST_BYTES",
    "PDF_TYPE",
    "base64_size",
    "from_base64",
    "image_type",
    "is_pdf",
    "looks_like_text",
    "media_block",
]

IMAGE_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")
PDF_TYPE = "application/pdf"

#: The service scales larger images down to this edge, so more pixels only cost time.
LONG_EDGE_PX = 1568
#: The API refuses an image with a longer edge.
MAX_EDGE_PX = 8000
#: Largest image, counted as base64: https://platform.claude.com/docs/en/api/errors, invalid requests.
MAX_IMAGE_BASE64_BYTES = 5_000_000
#: Images in one request, for models with a context window of 200,000 tokens. Larger models take 600.
MAX_IMAGES = 100
#: Largest request. The limit of 32 MB counts everything, so a margin is kept for the rest of the body.
MAX_REQUEST_BYTES = 32_000_000 - 500_000
#: Largest PDF file, whose base64 is a third larger and must fit in a request.
MAX_PDF_BYTES = MAX_REQUEST_BYTES // 4 * 3
#: Largest file of the Files API: https://platform.claude.com/docs/en/build-with-claude/files#storage-limits
MAX_FILE_BYTES = 500_000_000
#: Most pages of a PDF, and for models with a context window of 200,000 tokens.
MAX_PDF_PAGES, MAX_PDF_PAGES_200K = 600, 100


def image_type(data: bytes) -> str | None:
    """Return the media type of image bytes that the API accepts, by their signature. Return None for other bytes."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return None


def is_pdf(head: bytes) -> bool:
    """Return True if these first bytes of a file are those of a PDF."""
    # Readers accept the header anywhere in the first 1024 bytes (PDF 1.7, implementation note 13),
    # but a text that mentions %PDF- is not a PDF.
    return head.startswith(b"%PDF-") or (b"%PDF-" in head[:1024] and not looks_like_text(head[:1024]))


def looks_like_text(head: bytes) -> bool:
    """Return True if these first bytes of a file are text in some encoding."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")):  # byte order marks
        return True
    # Text files contain no control characters except tab, line feed, form feed, return and escape.
    return not re.search(rb"[\x00-\x06\x0e-\x1a\x1c-\x1f]", head)


def media_block(media_type: str, data: bytes | str) -> dict[str, Any] | None:
    """Return an image or document block. Return None for a media type that the API does not accept.

    Args:
        media_type: The media type.
        data: The bytes of the file, or their base64.
    """
    kind = "image" if media_type in IMAGE_TYPES else "document" if media_type == PDF_TYPE else None
    if kind is None:
        return None
    encoded = data if isinstance(data, str) else base64.b64encode(data).decode("ascii")
    return {"type": kind, "source": {"type": "base64", "media_type": media_type, "data": encoded}}


def base64_size(byte_count: int) -> int:
    """Return how many characters this many bytes take as base64."""
    return (byte_count + 2) // 3 * 4


def from_base64(text: str) -> bytes | None:
    """Return the bytes of a base64 text, or None if the text is something else or empty.

    The text may be a ``data:`` URL, may have line breaks, the alphabet of URLs, and no padding, as programs write it.
    https://www.rfc-editor.org/rfc/rfc2397, https://www.rfc-editor.org/rfc/rfc4648#section-5
    """
    head, comma, rest = text.partition(",")
    if comma and head.lstrip().lower().startswith("data:"):
        if not head.rstrip().lower().endswith(";base64"):
            return urllib.parse.unquote_to_bytes(rest) or None
        text = urllib.parse.unquote(rest)
    text = "".join(text.split()).rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True) or None
    except (binascii.Error, ValueError):
        return None
