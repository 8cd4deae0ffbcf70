"""Find the recording that is most like a request, and show how the two differ."""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["nearest_recording"]

#: Lines of the difference that a miss shows.
MAX_DIFFERENCE_LINES = 20
_LINE_END = re.compile(r"(?<!\\)((?:\\\\)*)\\n")
_SENTENCE = re.compile(r"(?<=[.!?;:]) +")


def nearest_recording(asked: Mapping[str, Any], recorded: Iterator[tuple[int, dict[str, Any]]]) -> tuple[int, str]:
    """Return the line of the most similar recording and its difference to ``asked``, or (0, "")."""
    words = _words(asked)
    best, place, body = -1.0, 0, {}
    for number, request in recorded:
        others = _words(request)
        likeness = 2 * (words & others).total() / ((words.total() + others.total()) or 1)
        if likeness >= best:  # among equals, the latest one
            best, place, body = likeness, number, request
    return (place, _difference(body, asked, place)) if place else (0, "")


def _words(body: Mapping[str, Any]) -> Counter[str]:
    return Counter(re.findall(r"\w+|[^\w\s]", json.dumps(body, ensure_ascii=False)))


def _difference(old: Mapping[str, Any], new: Mapping[str, Any], place: int) -> str:
    # How the prompt is cached makes no difference to the digest.
    old, new = ({key: value for key, value in body.items() if key != "cache_control"} for body in (old, new))
    compared = difflib.unified_diff(
        _readable(old), _readable(new), f"recorded, line {place}", "this request", n=1, lineterm=""
    )
    lines = ["…" if line.startswith("@@ ") else line for line in compared]
    if not lines:
        return "Both look the same, so the difference is in long texts or attached data, which the file does not hold."
    left = len(lines) - MAX_DIFFERENCE_LINES
    return "\n".join(lines if left <= 0 else [*lines[:MAX_DIFFERENCE_LINES], f"… and {left} more lines"])


def _readable(body: Mapping[str, Any]) -> list[str]:
    """Return the body as lines to compare. Texts are split at line ends and sentences."""
    text = json.dumps(body, ensure_ascii=False, indent=1)
    lines: list[str] = []
    for line in _LINE_END.sub(r"\1\n", text).split("\n"):
        for sentence in _SENTENCE.split(line) if len(line) > 100 else (line,):
            lines += [sentence[at : at + 200] for at in range(0, max(len(sentence), 1), 200)]
    return lines
