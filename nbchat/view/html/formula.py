r"""Formulas in Markdown: find them, and filter what MathJax may typeset.

Four pairs of delimiters make a formula: ``$…$``, ``$$…$$``, ``\(…\)`` and ``\[…\]``. A block of a known
``\begin{…}`` environment is a formula too.

A ``$`` is money unless it looks like TeX:

- The opening ``$`` is before a character that is not a space, and not after a letter or digit.
- The next ``$`` closes the formula. It is after a character that is not a space, and not before a
  letter or digit.
- The text between them is not an English amount, as in ``$5 and $6``.

The filter. MathJax is a program that runs the formula, and a formula of the model is hostile. For
example, MathJax 3 runs ``\mmlToken{mglyph}[src=…]`` as a request for an image. So a formula is shown
as code if it has macros that load, link, style, define, or move things over the page. It is shown as
code too if it is not balanced, because MathJax would then search for the end in the text after it.

A formula that passes goes to the page with ``\(…\)`` or ``\[…\]``, where a dollar inside is harmless.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

__all__ = ["ENVIRONMENTS", "add_formulas", "harmless", "typeset"]

#: The longest formula. Longer ones are text.
MAX_CHARACTERS = 4_000
#: The most lines of a formula.
MAX_LINES = 60
#: The deepest nesting of braces.
MAX_BRACE_DEPTH = 40
#: How far all macros of one formula together may move or stretch things. A formula that moves
#: further can cover other parts of the page.
MAX_STRETCH_EM = 40.0

#: The macros of MathJax 3.2 that a formula must not have, in lower case, sorted by what they could do.
_DENIED = (
    # load or run
    "mmltoken require autoload includegraphics unicode href url mathtip texttip toggle action "
    # carry classes, ids, styles and attributes
    "class style cssid data bbox enclose htmlclass htmlid htmlstyle htmldata htmlattr "
    "colorbox fcolorbox definecolor cellcolor rowcolor columncolor arrayrulecolor "
    # define a macro, which outlives the formula or hides one of the macros above
    "def edef gdef xdef let futurelet global newcommand renewcommand providecommand newenvironment renewenvironment "
    "declaremathoperator declarepaireddelimiter declarepaireddelimiterx declarepaireddelimiterxpp "
    "declarepaireddelimiters declarepaireddelimitersx declarepaireddelimitersxpp newextarrow "
    "newtagform renewtagform usetagform mathtoolsset setoptions csname endcsname catcode "
    "expandafter noexpand input include write openin openout read special "
    # lay things over what is next to them
    "smash llap rlap clap mathllap mathrlap mathclap textllap textrlap textclap crampedllap "
    "crampedrlap crampedclap mathmakebox mathmbox raisebox moveleft moveright"
)
DENIED = frozenset(_DENIED.split())

#: The environments of MathJax's packages base and ams, and the cases and matrices of mathtools.
_ENVIRONMENTS = (
    "align align* alignat alignat* aligned alignedat array Bmatrix Bmatrix* bmatrix bmatrix* "
    "bsmallmatrix Bsmallmatrix cases CD dcases dcases* drcases eqnarray eqnarray* equation "
    "equation* flalign flalign* gather gather* gathered lgathered matrix matrix* multline "
    "multline* multlined pmatrix pmatrix* psmallmatrix rcases rgathered smallmatrix split "
    "subarray vmatrix vmatrix* Vmatrix Vmatrix* vsmallmatrix Vsmallmatrix"
)
ENVIRONMENTS = frozenset(_ENVIRONMENTS.split())
#: The environments that are a formula without delimiters around them.
_OUTERMOST = (
    "align align* alignat alignat* eqnarray eqnarray* equation equation* flalign flalign* "
    "gather gather* multline multline*"
)
OUTERMOST = frozenset(_OUTERMOST.split())

_TOKEN = re.compile(r"\\(?P<word>[A-Za-z]+)|\\(?P<sign>[^A-Za-z])|(?P<brace>[{}])|(?P<broken>\\\Z)", re.DOTALL)
_ENVIRONMENT = re.compile(r"\s*\{([A-Za-z]+\*?)\}")
_COLOUR = re.compile(r"\s*\{\s*(?:[A-Za-z]{1,20}|#[0-9A-Fa-f]{3,6})\s*\}")
_LENGTH = re.compile(r"(?P<count>\d+(?:[.,]\d*)?|[.,]\d+)\s*(?P<unit>em|ex|pt|pc|px|in|cm|mm|mu|bp|dd|cc|sp)")
_MOVES = re.compile(
    r"\\(?:h?skip|kern|mkern|mskip|[hmv]space|raise|lower|rule|Rule|Space|Hskip|lspace|Spacer|spreadlines|above|genfrac"
    r"|\\\s*\*?\s*\[)"
)
_EM = {"em": 1.0, "ex": 0.5, "pt": 0.1, "pc": 1.2, "px": 0.0625, "in": 7.2, "cm": 2.85, "mm": 0.285, "mu": 0.056}


def harmless(source: str) -> bool:
    """Return True if MathJax may typeset this TeX, which comes without its delimiters."""
    if not source.strip() or len(source) > MAX_CHARACTERS:
        return False
    depth = 0
    for piece in _TOKEN.finditer(source):
        if brace := piece["brace"]:
            depth += 1 if brace == "{" else -1
            if not 0 <= depth <= MAX_BRACE_DEPTH:
                return False
        elif word := piece["word"]:
            if word.lower() in DENIED:
                return False
            if word in ("begin", "end"):
                named = _ENVIRONMENT.match(source, piece.end())
                if not named or named[1] not in ENVIRONMENTS:
                    return False
            elif word in ("color", "textcolor") and not _COLOUR.match(source, piece.end()):
                return False
        elif piece["sign"] in tuple("()[]") or piece["broken"] is not None:
            return False
    return depth == 0 and (not _MOVES.search(source) or _stretch(source) <= MAX_STRETCH_EM)


def _stretch(source: str) -> float:
    """Return the sum of all lengths in a formula, in em. A number with too many digits is over the limit."""
    return sum(
        float(length["count"].replace(",", ".")[:9]) * _EM.get(length["unit"], 1.0)
        if len(length["count"]) < 9
        else MAX_STRETCH_EM * 2
        for length in _LENGTH.finditer(source)
    )


def typeset(source: str, delimiters: tuple[str, str], display: bool) -> str:
    """Return the HTML of one formula, as code if the filter refuses it.

    The two classes make an exception from the classes around the whole answer, for MathJax 3
    (JupyterLab) and for MathJax 2 (nbconvert).
    """
    if not harmless(source):
        return f"<code>{escape(delimiters[0] + source + delimiters[1])}</code>"
    begin, end = (r"\[", r"\]") if display else (r"\(", r"\)")
    return f'<span class="mathjax_process tex2jax_process">{begin}{escape(source)}{end}</span>'


_CLOSERS = {"$$": "$$", r"\(": r"\)", r"\[": r"\]"}
#: An amount: a number with words after it. ``_TEX`` finds the signs that an amount does not have.
_AMOUNT = re.compile(
    r"\d[\d.,]*(?:\s?[kKmMbB]|\s?(?:thousand|million|billion|trillion|bn|mn))?(?:[^\w\s]?\s+[^\w\s]?[^\W\d_]{2,}|\s*[-–/]\s*\Z)"
)
_TEX = re.compile(r"[\\^_={}<>+*|]")


def _find_closer(text: str, closer: str, start: int, stop: int) -> int:
    """Return the next place of ``closer`` that no backslash escapes, -1 if there is none."""
    stop = min(stop, start + MAX_CHARACTERS)
    at = start
    while (at := text.find(closer, at, stop)) >= 0:
        backslashes = at
        while backslashes > start and text[backslashes - 1] == "\\":
            backslashes -= 1
        if (at - backslashes) % 2 == 0:  # two backslashes are a line break, and escape nothing
            return at
        at += 1
    return -1


def _closing_dollar(text: str, start: int, stop: int) -> int:
    """Return the place of the ``$`` that closes the one at ``start``, -1 if the one at ``start`` is money."""
    before = text[start - 1 : start]
    if (before.isascii() and before.isalnum()) or text[start + 1 : start + 2].isspace():
        return -1
    end = _find_closer(text, "$", start + 1, stop)
    if end <= start + 1 or text[end - 1].isspace():
        return -1
    after = text[end + 1 : end + 2] if end + 1 < stop else ""
    inside = text[start + 1 : end]
    if (after.isascii() and after.isalnum()) or after == "$" or inside.count("\n") > 3:
        return -1
    return -1 if _AMOUNT.match(inside) and not _TEX.search(inside) else end


def _inline(state: StateInline, silent: bool) -> bool:
    text, start, stop = state.src, state.pos, state.posMax
    if text[start] not in "$\\":
        return False
    opener = text[start : start + 2]
    if opener in _CLOSERS and start + 2 <= stop:
        size, end = 2, _find_closer(text, _CLOSERS[opener], start + 2, stop)
    elif opener[0] == "$":
        size, end, opener = 1, _closing_dollar(text, start, stop), "$"
    else:
        return False
    if end < 0 or not text[start + size : end].strip():
        # Two dollars without an end are text together. Alone, the second one might open a formula.
        if opener == "$$" and not silent:
            state.append_pending("$$")
        if opener == "$$":
            state.pos += 2
            return True
        return False
    if not silent:
        token = state.push("formula", "", 0)
        token.content = text[start + size : end]
        token.markup, token.info = opener, text[end : end + size]
        token.meta = {"display": opener in ("$$", r"\[")}
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
        end = _find_closer(text, closer, 0, len(text))
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
    return True


def add_formulas(parser: MarkdownIt) -> None:
    """Add the rules for formulas to a Markdown parser and to its renderer.

    They come before the rules for escapes and fences, because TeX is full of backslashes.
    """

    def inline(self: object, tokens: Sequence[Token], index: int, options: object, env: object) -> str:
        token = tokens[index]
        return typeset(token.content, (token.markup, token.info), display=token.meta["display"])

    def block(self: object, tokens: Sequence[Token], index: int, options: object, env: object) -> str:
        token = tokens[index]
        return f"<p>{typeset(token.content, (token.markup, token.info), display=True)}</p>\n"

    parser.inline.ruler.before("escape", "formula", _inline)
    parser.block.ruler.before(
        "fence", "formula_block", _block, {"alt": ["paragraph", "reference", "blockquote", "list"]}
    )
    parser.add_render_rule("formula", inline)
    parser.add_render_rule("formula_block", block)
