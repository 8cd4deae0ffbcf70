"""Read the examples of a page: the fenced code, with the comments that say how a test runs it.

A comment stands in a line of its own above the code:

``<!-- answers: "…", … -->``
    the answers of the scripted endpoint to this code, as a Python tuple; see :class:`nbchat.ScriptedTransport`.
``<!-- setup: … -->``
    Python code that runs first, and that readers do not see.
``<!-- raises: BudgetError -->``
    the cell fails with this error.
``<!-- not run: WHY -->``
    the code is only read: a test without a key or a network could not run it.

A block of ``text`` after a block of code is what the code prints. ``…`` in it stands for any text.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Block", "blocks_of", "pages"]

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"(?P<indent> *)(?P<fence>`{3,}|:{3,})(?P<info>[^\n`]*)")
_COMMENT = re.compile(r"<!-- (?P<kind>answers|setup|raises|not run): (?P<text>.*?) -->", re.DOTALL)
_LAST_COMMENTS = re.compile(r"(?:<!-- (?:(?!-->).)*-->\s*)+\Z", re.DOTALL)


@dataclass
class Block:
    """One block of code of a page."""

    page: Path
    line: int
    language: str
    code: str
    comments: dict[str, str] = field(default_factory=dict)
    #: What the code prints, or None if the page does not show it.
    printed: str | None = None

    @property
    def answers(self) -> tuple[Any, ...] | None:
        """Return the answers of the scripted endpoint, or None."""
        text = self.comments.get("answers")
        return None if text is None else ast.literal_eval(f"({text},)")

    @property
    def place(self) -> str:
        """Return the place of the block, for a message."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """Return all pages whose examples are tested."""
    own = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "bench/README.md")]
    copies = (ROOT / "docs" / "project", ROOT / "docs" / "notebooks")  # made by docs/conf.py
    return [*own, *(page for page in sorted((ROOT / "docs").rglob("*.md")) if page.parent not in copies)]


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of code of a page, in order."""
    blocks: list[Block] = []
    lines = page.read_text(encoding="utf-8").split("\n")
    number, text_before = 0, ""
    while number < len(lines):
        opening = _FENCE.fullmatch(lines[number])
        if opening is None or opening["fence"].startswith(":"):
            text_before += lines[number] + "\n"
            number += 1
            continue
        start = number + 1
        number = next(n for n in range(start, len(lines)) if lines[n].strip() == opening["fence"])
        code = "\n".join(line.removeprefix(opening["indent"]) for line in lines[start:number])
        language = opening["info"].strip()
        above = _LAST_COMMENTS.search(text_before)
        comments = {found["kind"]: found["text"] for found in _COMMENT.finditer(above[0])} if above else {}
        if language == "text" and blocks and not text_before.strip():
            blocks[-1].printed = code
        else:
            blocks.append(Block(page, start, language, code, comments))
        text_before, number = "", number + 1
    return blocks
