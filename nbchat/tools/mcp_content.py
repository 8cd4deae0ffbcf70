"""Content of MCP as content of the Messages API.

Blocks are told apart by their ``type``, so this module works without ``mcp``.
https://modelcontextprotocol.io/specification/2025-11-25/server/tools#tool-result
"""

from __future__ import annotations

from typing import Any

from nbchat.content.images import image_or_reason
from nbchat.content.media_types import PDF_TYPE, from_base64, image_type, is_pdf, media_block
from nbchat.tools.toolbox import Content

__all__ = ["content_of", "text_of"]


def text_of(text: str) -> Content:
    """Return a text block, or no block for an empty text, which the API refuses."""
    return ({"type": "text", "text": text},) if text else ()


def content_of(block: Any) -> Content:
    """Return a content block of MCP as blocks of the Messages API.

    A block that the Messages API does not accept, such as audio, becomes a text that names it.
    """
    match block.type:
        case "text":
            return text_of(block.text)
        case "image":
            return _media(block.data, block.mime_type, "the image")
        case "audio":
            return text_of(f"[audio, {block.mime_type}, not sent]")
        case "resource_link":
            description = f": {block.description}" if block.description else ""
            return text_of(f"[resource {block.name} at {block.uri}{description}]")
        case "resource":
            resource = block.resource
            if hasattr(resource, "text"):
                return text_of(f"[{resource.uri}]\n{resource.text}")
            return _media(resource.blob, resource.mime_type or "", str(resource.uri))
    return text_of(f"[a block of type {block.type}, not sent]")


def _media(data: str, media_type: str, name: str) -> Content:
    """Return the content of base64 data. Its bytes say what it is, since servers write ``image/jpg`` and worse."""
    kind = media_type.partition(";")[0].strip().lower()
    content = from_base64(data)
    # An SVG image is a text, and the Messages API takes it as text only.
    if content is not None and (kind.startswith("text/") or kind.endswith(("json", "xml"))):
        return text_of(f"[{name}]\n{content.decode(errors='replace')}")
    if content is not None and (kind == PDF_TYPE or is_pdf(content)):
        block = media_block(PDF_TYPE, content)
        return (block,) if block is not None else ()
    if kind.startswith("image/") or (content is not None and image_type(content)):
        return image_or_reason(data, name).content
    return text_of(f"[{name}, {media_type or 'of unknown type'}, not sent]")
