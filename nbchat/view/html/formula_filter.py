r"""The filter of formulas: how much work MathJax has with a formula, and if MathJax may have it at all.

MathJax is a program that runs the formula, and a formula of the model is hostile. For example,
MathJax 3 runs ``\mmlToken{mglyph}[src=…]`` as a request for an image, and 38 nested ``\pmb`` as 2^38
copies of what is inside. So a formula is shown as code in each of these cases:

- It has a macro or an environment that is not on the list (:mod:`nbchat.view.html.macros`).
- It is not balanced, because MathJax would then search for the end in the text after it.
- It nests too deep, is too large, or has a number that is too large.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from nbchat.view.html.macros import DECLARATIONS, MACROS, SLOW_MACROS

__all__ = ["ENVIRONMENTS", "MAX_CHARACTERS", "weigh"]

#: The longest formula. Longer ones are text.
MAX_CHARACTERS = 4_000
#: The largest weight of a formula (see :func:`weigh`). MathJax typesets it in less than half a second.
MAX_WEIGHT = 1_500
#: The deepest nesting of groups. A brace, ``\left``, ``\begin`` and a declaration each begin a group.
MAX_DEPTH = 20
#: The factors of the work inside an argument: ``\pmb`` makes two copies, and mhchem parses a text
#: in a slow way. Nested factors multiply, up to the limit.
FACTORS = {"pmb": 2, "ce": 4, "pu": 4}
MAX_FACTOR = 4
#: The macros whose argument has cells, as an environment has.
TABLES = frozenset(
    ["matrix", "array", "pmatrix", "cases", "eqalign", "displaylines", "eqalignno", "leqalignno", "substack"]
)
#: How much larger than the text nested macros of size may make a formula.
MAX_SCALE = 4.0
#: The largest number of columns that an environment may have.
MAX_COLUMNS = 40
#: How far all macros of one formula together may move or stretch things. A formula that moves
#: further can cover other parts of the page.
MAX_STRETCH_EM = 40.0

#: The environments of MathJax's packages base and ams, and the cases and matrices of mathtools.
_ENVIRONMENTS = (
    "align align* alignat alignat* aligned alignedat array Bmatrix Bmatrix* bmatrix bmatrix* "
    "bsmallmatrix Bsmallmatrix cases CD dcases dcases* drcases eqnarray eqnarray* equation "
    "equation* flalign flalign* gather gather* gathered lgathered matrix matrix* multline "
    "multline* multlined pmatrix pmatrix* psmallmatrix rcases rgathered smallmatrix split "
    "subarray vmatrix vmatrix* Vmatrix Vmatrix* vsmallmatrix Vsmallmatrix"
)
ENVIRONMENTS = frozenset(_ENVIRONMENTS.split())

_TOKEN = re.compile(
    r"\\(?P<word>[A-Za-z]+)|\\(?P<sign>[^A-Za-z])|(?P<brace>[{}])|(?P<comment>%[^\n]*)|(?P<broken>\\\Z)"
    r"|(?P<cell>&)|(?P<text>[^\\{}%&\s]+)",
    re.DOTALL,
)
_ENVIRONMENT = re.compile(r"\s*\{([A-Za-z]+\*?)\}")
_COLOUR = re.compile(r"\s*\{\s*(?:[A-Za-z]{1,20}|#[0-9A-Fa-f]{3,6})\s*\}")
_PLACE = r"\s*(?:\[[a-z]\]\s*)?"
#: The number of column pairs after ``\begin{alignat}``.
_COLUMN_PAIRS = re.compile(_PLACE + r"(?:\{\s*(\d{1,2})\s*\}|(\d)(?!\d))")
#: The columns after ``\begin{array}``.
_COLUMNS = re.compile(_PLACE + r"(?:\{(?P<template>(?:[^{}]|\{[^{}]{0,40}\}){0,200})\}|[clr])")
_COLUMN = re.compile(r"\*\s*\{\s*(\d{1,2})\s*\}\s*\{([clr|\s]*)\}|[clr]|[pbmw]\s*\{[\d.\sa-z]*\}|@\s*\{[^{}]*\}|[|:\s]")
#: A number that moves the index of a root, or an accent.
_SMALL_NUMBER = re.compile(r"\s*(?:\{\s*-?\d{1,2}(?:\.\d{0,3})?\s*\}|\d(?!\d))")
_LENGTH = re.compile(r"(?P<count>\d+(?:[.,]\d*)?|[.,]\d+)\s*(?P<unit>em|ex|pt|pc|px|in|cm|mm|mu|bp|dd|cc|sp)")
_MOVES = re.compile(
    r"\\(?:h?skip|kern|mkern|mskip|[hmv]space|raise|lower|rule|Rule|Space|Hskip|lspace|Spacer|spreadlines|above|genfrac"
    r"|framebox|\\\s*\*?\s*\[)"
)
#: The weight of a macro that is not in ``SLOW_MACROS``.
MACRO_WEIGHT = 3
_EM = {"em": 1.0, "ex": 0.5, "pt": 0.1, "pc": 1.2, "px": 0.0625, "in": 7.2, "cm": 2.85, "mm": 0.285, "mu": 0.056}


class _Group(NamedTuple):
    r"""An open group of a formula.

    ``kind`` is the brace, ``\left`` or the name of the environment. ``depth``, ``factor`` and
    ``scale`` are those before the group. A declaration in a cell ends with the cell, if the group
    has cells.
    """

    kind: str
    depth: int
    factor: int
    scale: float
    has_cells: bool


def weigh(source: str) -> int:
    r"""Return how much work MathJax has with this TeX, 0 if MathJax must not typeset it.

    A character weighs 1, a macro more, and all inside the arguments of ``FACTORS`` more.

    Args:
        source: TeX without its delimiters.
    """
    if not source.strip() or len(source) > MAX_CHARACTERS:
        return 0
    if _MOVES.search(source) and _stretch(source) > MAX_STRETCH_EM:
        return 0
    try:
        return _Reading(source).weight_of_all()
    except _RefusedFormulaError:
        return 0


class _RefusedFormulaError(Exception):
    """MathJax must not typeset the formula."""


class _Reading:
    """A formula while it is read, token by token. Each method takes one kind of token."""

    def __init__(self, source: str) -> None:
        self._source, self._at = source, 0
        self._groups: list[_Group] = []
        self._depth, self._factor, self._scale, self._weight = 0, 1, 1.0, 0
        self._macro = ""  # the macro directly before the next token

    def weight_of_all(self) -> int:
        """Read the whole formula and return its weight, at least 1.

        Raises:
            _RefusedFormulaError: a token, or the formula as a whole, is over a limit.
        """
        while token := _TOKEN.search(self._source, self._at):
            self._at = token.end()
            kind = str(token.lastgroup)
            getattr(self, f"_take_{kind}")(token[0] if kind != "word" else token["word"])
            if self._depth > MAX_DEPTH or self._factor > MAX_FACTOR:
                raise _RefusedFormulaError
            if self._scale > MAX_SCALE or self._weight > MAX_WEIGHT:
                raise _RefusedFormulaError
            self._macro = token["word"] or ""
        if self._groups:
            raise _RefusedFormulaError
        return max(self._weight, 1)

    def _take_text(self, text: str) -> None:
        self._weight += len(text) * self._factor

    def _take_brace(self, brace: str) -> None:
        if brace == "{":
            self._open("{", has_cells=self._macro in TABLES)
            self._factor *= FACTORS.get(self._macro, 1)
        else:
            self._close("{")

    def _take_word(self, word: str) -> None:
        self._weight += SLOW_MACROS.get(word, MACRO_WEIGHT) * self._factor
        if word not in MACROS or not _has_small_arguments(word, self._source, self._at):
            raise _RefusedFormulaError
        match word:
            case "begin":
                self._open(self._environment(begins=True), has_cells=True)
            case "end":
                self._close(self._environment(begins=False))
            case "left":
                self._open("left", has_cells=False)
            case "right":
                self._close("left")
            case "cr":
                self._end_cell()
            case _ if word in DECLARATIONS:
                # A declaration holds up to the end of its group, so it nests as a group does.
                self._depth += 1
                self._scale *= DECLARATIONS[word]

    def _take_sign(self, sign: str) -> None:
        if sign[1] in "()[]":
            raise _RefusedFormulaError  # the end of this formula, or the beginning of another one
        self._weight += self._factor
        if sign[1] == "\\":
            self._end_cell()

    def _take_cell(self, _: str) -> None:
        self._weight += self._factor
        self._end_cell()

    def _take_comment(self, comment: str) -> None:
        # MathJax skips a comment, but not while it looks for the end of an argument. So what begins or
        # ends a group in a comment is read in two ways.
        if re.search(r"[{}\\]", comment[1:]):
            raise _RefusedFormulaError

    def _take_broken(self, _: str) -> None:
        raise _RefusedFormulaError  # a lone backslash would take the delimiter after the formula

    def _environment(self, *, begins: bool) -> str:
        r"""Return the name after ``\begin`` or ``\end``, and continue after it."""
        named = _ENVIRONMENT.match(self._source, self._at)
        if not named or named[1] not in ENVIRONMENTS:
            raise _RefusedFormulaError
        self._at = named.end()
        if begins and not _has_few_columns(named[1], self._source, self._at):
            raise _RefusedFormulaError
        return named[1]

    def _open(self, kind: str, *, has_cells: bool) -> None:
        self._groups.append(_Group(kind, self._depth, self._factor, self._scale, has_cells))
        self._depth += 1

    def _close(self, kind: str) -> None:
        if not self._groups or self._groups[-1].kind != kind:
            raise _RefusedFormulaError
        _, self._depth, self._factor, self._scale, _ = self._groups.pop()

    def _end_cell(self) -> None:
        """End the declarations of a cell."""
        if self._groups and self._groups[-1].has_cells:
            group = self._groups[-1]
            self._depth, self._scale = group.depth + 1, group.scale


def _has_small_arguments(word: str, source: str, at: int) -> bool:
    """Return False if the argument of a macro, which begins at a place, is not a colour or a small number."""
    if word in ("color", "textcolor"):
        return _COLOUR.match(source, at) is not None
    if word in ("uproot", "leftroot", "skew"):
        return _SMALL_NUMBER.match(source, at) is not None
    return True


def _has_few_columns(environment: str, source: str, at: int) -> bool:
    r"""Return False if the environment declares too many columns.

    MathJax makes a list of all columns before the first cell, so ``\begin{alignat}{40000000}`` would
    take all the memory of the tab.
    """
    if environment.startswith("alignat") or environment == "alignedat":
        pairs = _COLUMN_PAIRS.match(source, at)
        return pairs is not None and 2 * int(pairs[1] or pairs[2]) <= MAX_COLUMNS
    if environment not in ("array", "subarray"):
        return True
    columns = _COLUMNS.match(source, at)
    if not columns:
        return False
    template, place, count = columns["template"] or "", 0, 0
    while place < len(template):
        column = _COLUMN.match(template, place)
        if not column:
            return False
        place = column.end()
        count += int(column[1]) * len(column[2]) if column[1] else column[0][0] in "clrpbmw"
    return count <= MAX_COLUMNS


def _stretch(source: str) -> float:
    """Return the sum of all lengths in a formula, in em. A number with too many digits is over the limit."""
    return sum(
        float(length["count"].replace(",", ".")[:9]) * _EM.get(length["unit"], 1.0)
        if len(length["count"]) < 9
        else MAX_STRETCH_EM * 2
        for length in _LENGTH.finditer(source)
    )
