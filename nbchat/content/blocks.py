"""Content blocks of the Messages API: what one is, how many tokens it takes, what a request may hold.

Limits, in the API's own words:
https://platform.claude.com/docs/en/build-with-claude/vision,
https://platform.claude.com/docs/en/build-with-claude/pdf-support and
https://platform.claude.com/docs/en/api/overview#request-size-limits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nbchat.core.errors import redact

__all__ = [
    "Carried",
    "carry_text",
    "fold",
    "human_size",
    "join",
    "shorten",
    "tagged",
]

#: About four characters a token: https://platform.claude.com/docs/en/about-claude/glossary#tokens
CHARACTERS_PER_TOKEN = 4

_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")


@dataclass(frozen=True, slots=True)
class Carried:
    """What goes along: content blocks as the Messages API takes them, and what was cut of it.

    ``content`` holds blocks in order, adjacent text in one block. ``notes`` are lines for the
    person who sends it, such as ``df: first 20 of 10,000 rows``.
    """

    content: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The text blocks, joined."""
        return "".join(block["text"] for block in self.content if block["type"] == "text")


def carry_text(text: str, *notes: str) -> Carried:
    """One text block."""
    return Carried(({"type": "text", "text": text},), notes)


def join(parts: Iterable[Carried]) -> Carried:
    """The parts one after the other, with adjacent text merged and each note once."""
    blocks: list[dict[str, Any]] = []
    notes: dict[str, None] = {}
    for part in parts:
        blocks.extend(part.content)
        notes.update(dict.fromkeys(part.notes))
    return Carried(fold(blocks), tuple(notes))


def fold(blocks: Iterable[Mapping[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Blocks with adjacent plain text merged.

    Between other blocks, white space alone is dropped: the API refuses a text block of it.
    """
    folded: list[dict[str, Any]] = []
    for block in blocks:
        if _plain(block) and folded and _plain(folded[-1]):
            folded[-1]["text"] += block["text"]
        else:
            folded.append(dict(block))
    if len(folded) > 1:
        folded = [block for block in folded if not _plain(block) or block["text"].strip()]
    return tuple(folded)


def _plain(block: Mapping[str, Any]) -> bool:
    return block.get("type") == "text" and len(block) == 2


def tagged(tag: str, name: str, body: str, **attributes: str) -> str:
    """``body`` between XML tags, which Claude reads best, so that data is seen to be data.

    https://platform.claude.com/docs/en/build-with-claude/prompt-engineering/use-xml-tags
    A closing tag inside the body is broken, so that data cannot step out of its place.
    """
    return f"{opening(tag, name, **attributes)}\n{guarded(body, tag)}\n</{tag}>"


def opening(tag: str, name: str, **attributes: str) -> str:
    """The opening tag, with a name of at most 80 characters."""
    pairs = {"name": one_line(name, 80), **attributes} if name else attributes
    return f"<{tag}{''.join(f' {key}={_quoted(value)}' for key, value in pairs.items())}>"


def guarded(body: str, *tags: str) -> str:
    """``body`` with the closing form of these tags broken."""
    return re.sub(rf"<(?=/(?:{'|'.join(tags)})\b)", r"<\\", body, flags=re.IGNORECASE)


def _quoted(value: str) -> str:
    value = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"'{value}'" if '"' in value and "'" not in value else '"' + value.replace('"', "&quot;") + '"'


def one_line(text: str, limit: int = 60) -> str:
    """``text`` on one line of at most ``limit`` characters, for names in notes and tags."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def shorten(text: str, limit: int, name: str, *, tail: bool = False) -> tuple[str, tuple[str, ...]]:
    """``text`` in at most ``limit`` characters with a mark where it was cut, and the note on it.

    With ``tail`` the end is kept as well, and the middle goes: a traceback says most at its end.
    """
    if len(text) <= limit:
        return text, ()
    mark = f"… [cut: {len(text):,} characters in all] …"
    room = max(limit - len(mark) - 2, 0)
    last = room * 2 // 3 if tail else 0
    first = room - last
    cut = f"{text[:first]}\n{mark}" + (f"\n{text[-last:]}" if last else "")
    return cut, (f"{one_line(name)}: {room:,} of {len(text):,} characters",)


def without_keys(text: str, name: str) -> tuple[str, tuple[str, ...]]:
    """``text`` without API keys, and the note on it if one was there."""
    clean = redact(text)
    return clean, () if clean == text else (f"{one_line(name)}: a key was left out",)


def as_printed(text: str) -> str:
    """Text of an output as a person saw it: no colour codes, and progress bars at their last state."""
    text = _ANSI.sub("", text).replace("\r\n", "\n")
    if "\r" in text:
        text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return text


def human_size(count: int) -> str:
    """Bytes for people: ``3.4 MB`` (decimal units, as the API's limits are)."""
    if count < 1_000:
        return f"{count} bytes"
    size = float(count)
    for unit in ("kB", "MB", "GB", "TB"):
        size /= 1_000
        if size < 999.95 or unit == "TB":
            break
    return f"{size:,.1f} {unit}"
