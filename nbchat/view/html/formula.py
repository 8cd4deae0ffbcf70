r"""Formulas in Markdown: find them, and hand them to MathJax.

Four pairs of delimiters make a formula: ``$…$``, ``$$…$$``, ``\(…\)`` and ``\[…\]``. A block of a known
``\begin{…}`` environment is a formula too.

Which ``$`` is a delimiter is decided in :mod:`nbchat.view.html.dollars`.

A formula that :mod:`nbchat.view.html.formula_filter` refuses is shown as code, and so is each formula
after the budget of the answer is spent (:mod:`nbchat.view.html.budget`).

A formula that passes goes to the page with ``\(…\)`` or ``\[…\]``, where a dollar inside is harmless.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from nbchat.view.html.dollars import closing_dollar, find_closer, has_price_tiers
from nbchat.view.html.formula_filter import MAX_CHARACTERS, weigh

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

    from nbchat.view.html.budget import Budget

__all__ = ["add_formulas", "formula_at", "typeset"]

#: The most lines of a formula.
MAX_LINES = 60
#: The environments that are a formula without delimiters around them.
_OUTERMOST = (
    "align align* alignat alignat* eqnarray eqnarray* equation equation* flalign flalign* "
    "gather gather* multline multline*"
)
OUTERMOST = frozenset(_OUTERMOST.split())


def typeset(source: str, delimiters: tuple[str, str], display: bool, budget: Budget | None = None) -> str:
    """Return the HTML of one formula, as code if the filter refuses it or the budget is spent.

    The two classes make an exception from the classes around the whole answer, for MathJax 3
    (JupyterLab) and for MathJax 2 (nbconvert).
    """
    weight = weigh(source)
    if not weight or (budget is not None and not budget.spend_formula(weight)):
        return f"<code>{escape(delimiters[0] + source + delimiters[1])}</code>"
    begin, end = (r"\[", r"\]") if display else (r"\(", r"\)")
    return f'<span class="mathjax_process tex2jax_process">{begin}{escape(source)}{end}</span>'


_CLOSERS = {"$$": "$$", r"\(": r"\)", r"\[": r"\]"}


def formula_at(text: str, start: int, stop: int) -> tuple[int, int] | None:
    r"""Return where the content of the formula that begins at a place begins and ends, None if none begins there.

    The closing delimiter is as long as the opening one.

    Args:
        text: the text of one paragraph, heading, item or cell.
        start: the place of the ``$`` or of the backslash that may begin a formula.
        stop: the end of the text that may be read.
    """
    opener = text[start : start + 2]
    if opener in _CLOSERS and start + 2 <= stop:
        size, end = 2, find_closer(text, _CLOSERS[opener], start + 2, stop)
        if opener == "$$" and end >= 0 and (text[end + 2 : stop][:1] == "$" or has_price_tiers(text[start + 2 : end])):
            return None
    elif opener[:1] == "$":
        size, end = 1, closing_dollar(text, start, stop)
    else:
        return None
    return (start + size, end) if end >= 0 and text[start + size : end].strip() else None


def _inline(state: StateInline, silent: bool) -> bool:
    text, start = state.src, state.pos
    if text[start] not in "$\\":
        return False
    content = formula_at(text, start, state.posMax)
    if not content:
        # Two dollars without an end are text together. Alone, the second one might open a formula.
        if text.startswith("$$", start, state.posMax):
            if not silent:
                state.append_pending("$$")
            state.pos += 2
            return True
        return False
    begin, end = content
    size = begin - start
    if not silent:
        token = state.push("formula", "", 0)
        token.content = text[begin:end]
        token.markup, token.info = text[start:begin], text[end : end + size]
        token.meta = {"display": token.markup in ("$$", r"\[")}
    state.pos = end + size
    return True


_OPENING = re.compile(r"\$\$|\\\[|\\begin\{(?P<environment>[a-z]+\*?)\}")


def _block(state: StateBlock, start: int, stop: int, silent: bool) -> bool:
    if state.is_code_block(start):
        return False
    begin = state.bMarks[start] + state.tShift[start]
    if not (opening := _OPENING.match(state.src, begin, state.eMarks[start])):
        return False
    environment = opening["environment"]
    if environment and environment not in OUTERMOST:
        return False
    closer = rf"\end{{{environment}}}" if environment else _CLOSERS[opening[0]]
    lines: list[str] = []
    size = 0
    for line in range(start, stop):
        if line > start and (state.isEmpty(line) or state.sCount[line] < state.blkIndent):
            return False
        here = opening.end() if line == start else state.bMarks[line] + state.tShift[line]
        text = state.src[here : state.eMarks[line]]
        end = find_closer(text, closer, 0, len(text))
        if end >= 0:
            if text[end + len(closer) :].strip():
                return False
            lines.append(text[:end])
            break
        lines.append(text)
        size += len(text)
        if size > MAX_CHARACTERS or len(lines) > MAX_LINES:
            return False
    else:
        return False
    source = "\n".join(lines)
    if not source.strip():
        return False
    if not silent:
        state.line = line + 1
        token = state.push("formula_block", "", 0)
        token.map = [start, line + 1]
        token.content = opening[0] + source + closer if environment else source.strip()
        token.markup, token.info = ("", "") if environment else (opening[0], closer)
        token.meta = {"source": opening[0] + source + closer}
    return True


def add_formulas(parser: MarkdownIt) -> None:
    """Add the rules for formulas to a Markdown parser and to its renderer.

    They come before the rules for escapes and fences, because TeX is full of backslashes.
    """

    def inline(self: object, tokens: Sequence[Token], index: int, options: object, env: dict[str, Any]) -> str:
        token = tokens[index]
        return typeset(token.content, (token.markup, token.info), token.meta["display"], env.get("budget"))

    def block(self: object, tokens: Sequence[Token], index: int, options: object, env: dict[str, Any]) -> str:
        token = tokens[index]
        return f"<p>{typeset(token.content, (token.markup, token.info), True, env.get('budget'))}</p>\n"

    parser.inline.ruler.before("escape", "formula", _inline)
    parser.block.ruler.before(
        "fence", "formula_block", _block, {"alt": ["paragraph", "reference", "blockquote", "list"]}
    )
    parser.add_render_rule("formula", inline)
    parser.add_render_rule("formula_block", block)
