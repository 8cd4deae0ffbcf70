"""Mimebundles, which Jupyter uses for outputs: the text and the image of one that say the most.

https://jupyter-client.readthedocs.io/en/stable/messaging.html#display-data
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any

from nbchat.content.media_types import IMAGE_TYPES, from_base64
from nbchat.content.terminal_text import as_seen

__all__ = ["image_bytes", "image_of_bundle", "joined_lines", "text_of_bundle"]

#: The plain text of an object that has none: its class, or its address.
_ADDRESS_ONLY = re.compile(r"<[\w.<>]+ (?:object|at 0x)[^>]*>|<Figure size [^>]*>|<Axes:[^>]*>")


def text_of_bundle(bundle: Mapping[str, Any]) -> str:
    """Return the text of a mimebundle: its plain text, or a richer one if that is only an object's address."""
    plain = as_seen(joined_lines(bundle.get("text/plain")))
    if plain.strip() and not _ADDRESS_ONLY.fullmatch(plain.strip()):
        return plain
    for mime in ("text/markdown", "text/latex", "text/html", "image/svg+xml"):
        text = joined_lines(bundle.get(mime))
        if text.strip():
            return _plain_html(text) if mime == "text/html" else text
    others = [mime for mime in bundle if mime != "text/plain"]
    return plain or (f"[{', '.join(others)}]" if others else "")


def image_of_bundle(bundle: Mapping[str, Any]) -> bytes | None:
    """Return the bytes of the first image in a mimebundle that the API accepts, or None."""
    for mime in IMAGE_TYPES:
        data = image_bytes(bundle.get(mime))
        if data is not None:
            return data
    return None


def image_bytes(shown: Any) -> bytes | None:
    """Return the bytes of an image in any form that a repr method may return.

    The forms are bytes, base64 text, and a pair of one of these and its metadata.
    """
    if isinstance(shown, tuple) and shown:
        shown = shown[0]
    if isinstance(shown, str):
        shown = from_base64(shown)
    return bytes(shown) if isinstance(shown, bytes | bytearray | memoryview) and len(shown) else None


def joined_lines(text: Any) -> str:
    """Return a text field of an .ipynb file, which is a text or the list of its lines."""
    return "".join(text) if isinstance(text, list | tuple) else text if isinstance(text, str) else ""


def _plain_html(text: str) -> str:
    """Return HTML without scripts, styles and tags. Each row and each paragraph is one line."""
    text = re.sub(r"<(script|style)\b.*?</\1\s*>", "", text, flags=re.IGNORECASE | re.DOTALL)
    text = re.sub(r"</t[dh]\s*>", "\t", text, flags=re.IGNORECASE)
    text = re.sub(r"<br\b[^>]*>|</(?:p|div|li|tr|h[1-6]|pre)\s*>", "\n", text, flags=re.IGNORECASE)
    text = html.unescape(re.sub(r"<[^>]+>", "", text))
    lines = (" ".join(line.split(" ")).strip() for line in text.split("\n"))
    return "\n".join(line for line in lines if line)
