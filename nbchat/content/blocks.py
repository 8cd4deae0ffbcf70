"""Text blocks of the Messages API: how they are joined, put between tags, and cleaned of keys."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nbchat.core.errors import redact
from nbchat.core.uploads import Upload

__all__ = [
    "CHARACTERS_PER_TOKEN",
    "Carried",
    "carry_text",
    "document",
    "guarded",
    "human_size",
    "join",
    "one_line",
    "opening",
    "tagged",
    "without_keys",
]

#: About four characters a token: https://platform.claude.com/docs/en/about-claude/glossary#tokens
CHARACTERS_PER_TOKEN = 4
#: Longest name in an opening tag.
TAG_NAME_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class Carried:
    """Content that a prompt carries, and notes about the parts of it that were left out.

    ``content`` holds content blocks of the Messages API in order, with adjacent text in one block.
    ``notes`` are lines for the person who sends the prompt, such as ``df: first 20 of 10,000 rows``.
    ``uploads`` are the files that blocks refer to by their address.
    """

    content: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    uploads: tuple[Upload, ...] = ()

    @property
    def text(self) -> str:
        """Return the text blocks, joined."""
        return "".join(block["text"] for block in self.content if block["type"] == "text")


def carry_text(text: str, *notes: str) -> Carried:
    """Return one text block with its notes."""
    return Carried(({"type": "text", "text": text},), notes)


def join(parts: Iterable[Carried]) -> Carried:
    """Concatenate the parts. Merge adjacent text, and keep each note once."""
    blocks: list[dict[str, Any]] = []
    notes: dict[str, None] = {}
    uploads: dict[str, Upload] = {}
    for part in parts:
        blocks.extend(part.content)
        notes.update(dict.fromkeys(part.notes))
        uploads.update((upload.address, upload) for upload in part.uploads)
    return Carried(_fold(blocks), tuple(notes), tuple(uploads.values()))


def document(source: Mapping[str, Any], title: str) -> dict[str, Any]:
    """Return a document block that the model may cite.

    https://platform.claude.com/docs/en/build-with-claude/citations
    """
    return {"type": "document", "source": dict(source), "title": title, "citations": {"enabled": True}}


def _fold(blocks: Iterable[Mapping[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Merge adjacent plain text blocks, and drop blank ones that are next to other blocks."""
    folded: list[dict[str, Any]] = []
    for block in blocks:
        if _is_plain_text(block) and folded and _is_plain_text(folded[-1]):
            folded[-1]["text"] += block["text"]
        else:
            folded.append(dict(block))
    if len(folded) > 1:
        # The API refuses a text block that is only white space, such as the space in {{ a }} {{ b }}.
        folded = [block for block in folded if not _is_plain_text(block) or block["text"].strip()]
    return tuple(folded)


def _is_plain_text(block: Mapping[str, Any]) -> bool:
    # A text block with a third field (citations, cache_control) must stay separate.
    return block.get("type") == "text" and len(block) == 2


def tagged(tag: str, name: str, body: str, **attributes: str) -> str:
    """Return ``body`` between XML tags, so that the model can tell data from instructions.

    A closing tag inside the body is broken, so data cannot end its own tag.
    https://platform.claude.com/docs/en/build-with-claude/prompt-engineering/use-xml-tags
    """
    return f"{opening(tag, name, **attributes)}\n{guarded(body, tag)}\n</{tag}>"


def opening(tag: str, name: str, **attributes: str) -> str:
    """Return the opening tag, with ``name`` cut at 80 characters."""
    pairs = {"name": one_line(name, TAG_NAME_CHARACTERS), **attributes} if name else attributes
    return f"<{tag}{''.join(f' {key}={_quoted(value)}' for key, value in pairs.items())}>"


def guarded(body: str, *tags: str) -> str:
    """Return ``body`` with the closing form of these tags broken."""
    return re.sub(rf"<(?=/(?:{'|'.join(tags)})\b)", r"<\\", body, flags=re.IGNORECASE)


def _quoted(value: str) -> str:
    value = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # Names are Python expressions such as d["a"]. Single quotes keep those readable.
    return f"'{value}'" if '"' in value and "'" not in value else '"' + value.replace('"', "&quot;") + '"'


def one_line(text: str, limit: int = 60) -> str:
    """Return ``text`` on one line of at most ``limit`` characters, for names in notes and tags."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def without_keys(text: str, name: str) -> tuple[str, tuple[str, ...]]:
    """Return ``text`` without API keys, and a note if it contained one."""
    clean = redact(text)
    return clean, () if clean == text else (f"{one_line(name)}: a key was left out",)


def human_size(byte_count: int) -> str:
    """Return a number of bytes for people, such as ``3.4 MB``. Units are decimal, as in the API's limits."""
    if byte_count < 1_000:
        return f"{byte_count} bytes"
    size = float(byte_count)
    for unit in ("kB", "MB", "GB", "TB"):
        size /= 1_000
        # 999.95 would be printed as 1000.0.
        if size < 999.95 or unit == "TB":
            break
    return f"{size:,.1f} {unit}"
