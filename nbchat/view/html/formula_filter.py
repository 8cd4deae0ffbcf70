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
    groups: list[_Group] = []
    depth, factor, scale, weight = 0, 1, 1.0, 0
    at, macro = 0, ""  # the macro directly before the next token
    while piece := _TOKEN.search(source, at):
        at, word, name, ends = piece.end(), piece["word"], "", ""
        if piece["text"]:
            weight += len(piece["text"]) * factor
        elif piece["brace"] == "{":
            groups.append(_Group("{", depth, factor, scale, macro in TABLES))
            depth += 1
            factor *= FACTORS.get(macro, 1)
        elif piece["brace"]:
            ends = "{"
        elif word:
            weight += SLOW_MACROS.get(word, MACRO_WEIGHT) * factor
            if word not in MACROS or not _has_small_arguments(word, source, at):
                return 0
            if word in ("begin", "end"):
                named = _ENVIRONMENT.match(source, at)
                if not named or named[1] not in ENVIRONMENTS:
                    return 0
                if word == "begin" and not _has_few_columns(named[1], source, named.end()):
                    return 0
                at = named.end()
                name = named[1]
            if word in ("begin", "left"):
                groups.append(_Group(name or "left", depth, factor, scale, bool(name)))
                depth += 1
            elif word in ("end", "right"):
                ends = name or "left"
            elif word in DECLARATIONS:
                depth += 1
                scale *= DECLARATIONS[word]
        elif piece["comment"]:
            # MathJax skips a comment, but not while it looks for the end of an argument. So what
            # begins or ends a group in a comment is read in two ways.
            if re.search(r"[{}\\]", piece["comment"][1:]):
                return 0
        elif (piece["sign"] and piece["sign"] in "()[]") or piece["broken"] is not None:
            return 0
        else:
            weight += factor
        if ends:
            if not groups or groups[-1].kind != ends:
                return 0
            _, depth, factor, scale, _ = groups.pop()
        elif (piece["cell"] or piece["sign"] == "\\" or word == "cr") and groups and groups[-1].has_cells:
            depth, scale = groups[-1].depth + 1, groups[-1].scale
        if depth > MAX_DEPTH or factor > MAX_FACTOR or scale > MAX_SCALE or weight > MAX_WEIGHT:
            return 0
        macro = word or ""
    if groups or (_MOVES.search(source) and _stretch(source) > MAX_STRETCH_EM):
        return 0
    return max(weight, 1)


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
