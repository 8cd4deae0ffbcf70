r"""Fences inside a fence: a ```` ```markdown ```` block that holds code blocks is one block.

In CommonMark the first bare fence ends a code block, so an outer fence must be longer than the fences
inside. Models write all of them with three backticks. Chat programs that repair this pair the fences,
innermost first, and leave the text as it is if they do not pair (for example
https://github.com/FiligranHQ/filigran-ui/pull/289 and https://github.com/DEEIX-AI/DEEIX-Chat/pull/735).
The rule here is the same, for one pass and for a text that still grows:

- Only a fence that names Markdown, or plain text, holds other fences (``MARKDOWN``, ``TEXT``). In
  other code a fence is a line like any other.
- Inside, a fence of the same character and at least the same length that names something begins a
  block, and a bare fence ends the innermost block. A shorter fence is text, as in CommonMark.
- In the outermost block, if that is Markdown, a bare fence begins a block if the line after it is
  code (not blank, and not a fence), the line before it is blank, a heading, or ends in a colon, and
  the next fence can end the block: that one is bare, and the lines around it are not those of a
  beginning.
- If the fences do not pair up to the end of the text, list item or quote, CommonMark decides: the
  first bare fence ends the block. So a fence that the model forgot never takes the rest of the answer.

While a text grows, fences that do not pair *yet* are shown as one block that is still open. The token
is then marked with ``meta["undecided"]``, because the end of the text may still end the block earlier.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_block import StateBlock

__all__ = ["GROWING", "add_nested_fences", "fence_language"]

#: The languages whose code holds other fences.
_MARKDOWN = "markdown md mdx mdown mkd commonmark gfm myst rmd rmarkdown qmd quarto"
MARKDOWN = frozenset(_MARKDOWN.split())
TEXT = frozenset(["text", "txt", "plaintext", "plain"])
#: The lines that searches without a result may read in one text, together. Without a limit, a text of
#: fences that do not pair takes a time quadratic in its length.
MAX_SEARCHED_LINES = 200_000
#: The key of the parser's environment that says that the text may still grow.
GROWING = "growing"

_FENCE = re.compile(r"(?P<marks>`{3,}(?=[^`]*\Z)|~{3,})[ \t]*(?P<info>.*)")
_BEFORE_BLOCK = re.compile(r"\s*\Z|#{1,6} |.*[:：]\**\s*\Z", re.DOTALL)
_BLANK_TO_END = re.compile(r"\s*\Z")


class _Fence(NamedTuple):
    """A line that is a fence. ``begins`` is True if the lines around a bare fence are those of a beginning."""

    line: int
    length: int
    info: str
    begins: bool


def fence_language(info: str) -> str:
    """Return the language that the opening line of a fence names, "" without one.

    The braces and the dot of ``{r}`` and ``{.python}`` do not belong to the name.
    """
    words = info.split(maxsplit=1)
    return words[0].strip("{}.") if words else ""


def add_nested_fences(parser: MarkdownIt) -> None:
    """Let the fences of a Markdown parser hold other fences."""
    from markdown_it.rules_block import fence

    def rule(state: StateBlock, start: int, stop: int, silent: bool) -> bool:
        return (not silent and _nested(state, start, stop)) or fence(state, start, stop, silent)

    parser.block.ruler.at("fence", rule, {"alt": ["paragraph", "reference", "blockquote", "list"]})


def _nested(state: StateBlock, start: int, stop: int) -> bool:
    """Read a fence that may hold other fences. Return False if CommonMark decides."""
    opening = None if state.is_code_block(start) else _FENCE.match(_line(state, start))
    searched = state.env.get("searched_lines", 0)
    if not opening or _kind(opening["info"]) is None or searched > MAX_SEARCHED_LINES:
        return False
    inside = _FencesInside(state, start, stop, opening["marks"])
    closing = _closing(inside, len(opening["marks"]), opening["info"])
    if closing is None and (inside.first_bare is None or not inside.grows):
        state.env["searched_lines"] = searched + inside.line - start
        return False
    last = inside.line if closing is None else closing.line
    state.line = last if closing is None else last + 1
    state.env["searched_lines"] = searched + inside.line - state.line
    token = state.push("fence", "code", 0)
    token.info, token.markup = opening["info"], opening["marks"]
    token.content = state.getLines(start + 1, last, state.sCount[start], True)
    token.map = [start, state.line]
    if closing is None:
        token.meta["undecided"] = True
    elif closing is not inside.first_bare and state.env.get(GROWING):
        # The line after the last fence decides how that fence is read.
        token.meta["undecided"] = _is_blank_after(state, last)
    return True


class _FencesInside(Iterator[_Fence]):
    """The lines inside a fence that are fences too. A line is read when its turn comes.

    ``line`` is the next line, and at the end the line where the block must end.
    """

    def __init__(self, state: StateBlock, start: int, stop: int, marks: str) -> None:
        self._state, self._stop, self._marks = state, stop, marks
        self.line = start + 1
        self.first_bare: _Fence | None = None

    @property
    def grows(self) -> bool:
        """Return True if all lines were read and more lines may come."""
        at_end = self.line == self._stop and _is_blank_after(self._state, self._stop - 1)
        return at_end and bool(self._state.env.get(GROWING))

    def __next__(self) -> _Fence:
        state = self._state
        while self.line < self._stop and (state.isEmpty(self.line) or state.sCount[self.line] >= state.blkIndent):
            text, line = _line(state, self.line), self.line
            self.line += 1
            if not text.startswith(self._marks) or state.is_code_block(line) or not (found := _FENCE.match(text)):
                continue
            after = _line(state, self.line) if self.line < self._stop else ""
            is_code = bool(after) and not after.startswith(self._marks)
            begins = is_code and _BEFORE_BLOCK.match(_line(state, line - 1)) is not None
            fence = _Fence(line, len(found["marks"]), found["info"].strip(), begins)
            if not fence.info and self.first_bare is None:
                self.first_bare = fence
            return fence
        raise StopIteration


def _closing(fences: _FencesInside, length: int, info: str) -> _Fence | None:
    """Return the fence that ends the block, or None if the fences do not pair.

    Args:
        fences: the fences inside the block.
        length: the length of the opening fence.
        info: what the opening fence names.
    """
    open_blocks = [(length, _kind(info))]
    for fence in fences:
        length, kind = open_blocks[-1]
        if fence.length < length:
            continue
        if fence.info:
            if kind is not None:
                open_blocks.append((fence.length, _kind(fence.info)))
            continue
        if fence.begins and kind is MARKDOWN and len(open_blocks) == 1:
            end = next((other for other in fences if other.length >= fence.length), None)
            if end is None and fences.grows:
                return None
            if end is not None and not end.info and not end.begins:
                continue
        open_blocks.pop()
        if not open_blocks:
            return fence
    return None


def _kind(info: str) -> frozenset[str] | None:
    """Return the set of languages that a language belongs to, None if its code holds no fences."""
    language = fence_language(info).lower()
    return next((kind for kind in (MARKDOWN, TEXT) if language in kind), None)


def _line(state: StateBlock, line: int) -> str:
    return state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]]


def _is_blank_after(state: StateBlock, line: int) -> bool:
    return _BLANK_TO_END.match(state.src, state.eMarks[line]) is not None
