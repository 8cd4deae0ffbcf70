"""Content of MCP as content of the Messages API. Pure: dispatch is on ``type``, not on classes of ``mcp``.

https://modelcontextprotocol.io/specification/2025-11-25/server/tools#tool-result
"""

from __future__ import annotations

from typing import Any

from nbchat.tools.toolbox import Content

__all__ = ["content_of", "text_of"]

_IMAGE_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")


def text_of(text: str) -> Content:
    """A text block, or nothing for an empty text."""
    return ({"type": "text", "text": text},) if text else ()


def content_of(block: Any) -> Content:
    """A content block of MCP as blocks of the Messages API; what has no such form is named in a text."""
    match block.type:
        case "text":
            return text_of(block.text)
        case "image":
            return _media(block.data, block.mime_type, "image")
        case "audio":
            return text_of(f"[audio, {block.mime_type}, not sent]")
        case "resource_link":
            described = f": {block.description}" if block.description else ""
            return text_of(f"[resource {block.name} at {block.uri}{described}]")
        case "resource":
            resource = block.resource
            if hasattr(resource, "text"):
                return text_of(f"[{resource.uri}]\n{resource.text}")
            return _media(resource.blob, resource.mime_type or "", str(resource.uri))
    return text_of(f"[a block of type {block.type}, not sent]")


def _media(data: str, mime_type: str, what: str) -> Content:
    source = {"type": "base64", "media_type": mime_type, "data": data}
    if mime_type in _IMAGE_TYPES:
        return ({"type": "image", "source": source},)
    if mime_type == "application/pdf":
        return ({"type": "document", "source": source},)
    return text_of(f"[{what}, {mime_type or 'of unknown type'}, not sent]")
