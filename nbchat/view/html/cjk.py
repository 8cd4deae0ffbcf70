"""Emphasis beside Chinese, Japanese and Korean: the stars end where people mean them to.

CommonMark does not end emphasis after punctuation that a letter follows, because languages with spaces
between words do not need that (https://github.com/commonmark/commonmark-spec/issues/650). So
``**重要：**请注意`` stays as it was written. The amendment that parsers agree on is
https://github.com/tats-u/markdown-cjk-friendly/blob/main/specification.md; it changes nothing in a text
without such characters. The package of that name for this parser replaces a method of the parser's
class for all users in the process, and needs an older version of the parser.

Deviation: no wide sign between U+231A and U+2BFF, and none from U+1F000 on, is a CJK character here. The
specification leaves out only the signs that are emoji by default, but Python has no table of these.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_inline import StateInline
    from markdown_it.rules_inline.state_inline import Scanned
    from markdown_it.token import Token

__all__ = ["add_cjk_emphasis"]

#: Characters that choose a form of the character before them, but not that of an emoji.
_FORMS = ("\ufe00", "\ufe0e")
_IDEOGRAPHIC_FORMS = ("\U000e0100", "\U000e01ef")
#: With the form U+FE01 these are as wide as an ideograph.
_QUOTES = "‘’“”"


def add_cjk_emphasis(parser: MarkdownIt) -> None:
    """Let a Markdown parser recognise emphasis beside CJK characters."""
    from markdown_it.rules_inline import StateInline

    class CjkState(StateInline):
        def scanDelims(self, start: int, canSplitWord: bool) -> Scanned:
            scanned = super().scanDelims(start, canSplitWord)
            return _opened(self, start, scanned) if canSplitWord and not self.src.isascii() else scanned

    def parse(source: str, md: MarkdownIt, env: Any, tokens: list[Token]) -> list[Token]:
        state = CjkState(source, md, env, tokens)
        md.inline.tokenize(state)
        for rule in md.inline.ruler2.getRules(""):
            rule(state)
        return state.tokens

    parser.inline.parse = parse  # type: ignore[method-assign, assignment]


def _opened(state: StateInline, start: int, scanned: Scanned) -> Scanned:
    """Return what a run of stars or tildes may do, if CJK characters are beside it too."""
    end = start + scanned.length
    before = state.src[max(start - 2, 0) : start]
    after = state.src[end : end + 1] if end < state.posMax else ""
    if not before or not after or before[-1].isspace() or after.isspace():
        return scanned
    if _is_cjk(after) or _ends_in_cjk(before):
        # Beside CJK, punctuation on one side of the run does not matter.
        return scanned._replace(can_open=True, can_close=True)
    return scanned


def _ends_in_cjk(text: str) -> bool:
    last = text[-1]
    if _IDEOGRAPHIC_FORMS[0] <= last <= _IDEOGRAPHIC_FORMS[1]:
        return True
    if _FORMS[0] <= last <= _FORMS[1]:
        return len(text) > 1 and (_is_cjk(text[0]) or (last == "\ufe01" and text[0] in _QUOTES))
    return _is_cjk(last)


def _is_cjk(character: str) -> bool:
    width = unicodedata.east_asian_width(character)
    if width in "FH":
        return True
    if width == "W":
        if "\u231a" <= character <= "\u2bff" or "\U0001f000" <= character < "\U00020000":
            return character in "\u2329\u232a"
        return True
    return "\u1100" <= character <= "\u11ff" or "\ud7b0" <= character <= "\ud7ff"  # Hangul that has no width of its own
