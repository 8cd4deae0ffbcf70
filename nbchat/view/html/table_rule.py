r"""The table rule of the Markdown parser: no text of a row is lost.

GFM (https://github.github.com/gfm/#tables-extension-) splits a row at each pipe, also at one in code,
and drops the cells that are one too many. Models write ``| `a || b` | or |``, and mean two cells. So:

- A pipe in a code span or in a formula does not end a cell. A pipe after a backslash never does, and
  loses the backslash, as in GFM.
- If that leaves a row too short, and the row of GFM is as long as the header, the row of GFM is
  meant: the backticks or dollars were single characters in two cells. In the body this holds only if
  spaces are around the pipes in question.
- The cells after the last column are part of the last cell, with their pipes.
"""

from __future__ import annotations

import re
from itertools import zip_longest
from typing import TYPE_CHECKING

from nbchat.view.html.formula import formula_at

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_block import StateBlock

__all__ = ["add_tables"]

#: The empty cells that are added to short rows of one table. Without a limit, a few characters a row
#: would make a large table, as in https://github.com/markdown-it/markdown-it/issues/1000.
MAX_ADDED_CELLS = 65_536

#: The line below the header. "-" and "- |" begin lists.
_DELIMITERS = re.compile(r"(?!-?[ \t]*\Z|-[ \t])\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*\Z")
_ALIGNMENTS = {(False, False): "", (True, False): "left", (False, True): "right", (True, True): "center"}
_SIGN = re.compile(r"\\?\||`+|\$|\\[(\[`$]")
_RUN = re.compile("`+")
_TIGHT_PIPE = re.compile(r"[^\s]\||\|[^\s]")


def add_tables(parser: MarkdownIt) -> None:
    """Replace the table rule of a Markdown parser, and enable it."""
    parser.block.ruler.at("table", _table, {"alt": ["paragraph", "reference"]})
    parser.enable("table")


def _table(state: StateBlock, start: int, stop: int, silent: bool) -> bool:
    if start + 2 > stop or state.sCount[start + 1] < state.blkIndent:
        return False
    if state.is_code_block(start) or state.is_code_block(start + 1):
        return False
    header, delimiters = _line(state, start), _line(state, start + 1)
    if "|" not in header or not _DELIMITERS.match(delimiters):
        return False
    styles = [_style(column.strip()) for column in delimiters.strip().strip("|").split("|")]
    cells = _header_cells(header, len(styles))
    if not cells:
        return False
    if silent:
        return True

    parent, state.parentType = state.parentType, "table"
    # What ends a quote ends a table.
    enders = state.md.block.ruler.getRules("blockquote")
    table = state.push("table_open", "table", 1)
    state.push("thead_open", "thead", 1).map = [start, start + 1]
    _push_row(state, start, "th", cells, styles)
    state.push("thead_close", "thead", -1)
    line, added = start + 2, 0
    while line < stop and state.sCount[line] >= state.blkIndent and not state.is_code_block(line):
        row = _line(state, line).strip()
        if not row or any(ends(state, line, stop, True) for ends in enders):
            break
        cells = _body_cells(row, len(styles))
        added += len(styles) - len(cells)
        if added > MAX_ADDED_CELLS:
            break
        if line == start + 2:
            body = state.push("tbody_open", "tbody", 1)
        _push_row(state, line, "td", cells, styles)
        line += 1
    if line > start + 2:
        body.map = [start + 2, line]
        state.push("tbody_close", "tbody", -1)
    state.push("table_close", "table", -1)
    table.map = [start, line]
    state.parentType, state.line = parent, line
    return True


def _push_row(state: StateBlock, line: int, tag: str, cells: list[str], styles: list[str]) -> None:
    state.push("tr_open", "tr", 1).map = [line, line + 1]
    for style, cell in zip_longest(styles, cells, fillvalue=""):
        opening = state.push(f"{tag}_open", tag, 1)
        if style:
            opening.attrs = {"style": f"text-align:{style}"}
        content = state.push("inline", "", 0)
        content.map, content.content, content.children = [line, line + 1], cell, []
        state.push(f"{tag}_close", tag, -1)
    state.push("tr_close", "tr", -1)


def _style(delimiter: str) -> str:
    return _ALIGNMENTS[delimiter.startswith(":"), delimiter.endswith(":")]


def _header_cells(row: str, columns: int) -> list[str]:
    """Return the cells of a header, [] if they are not as many as the columns."""
    readings = (_cells(row, whole_spans=True), _cells(row, whole_spans=False))
    return next((cells for cells in readings if len(cells) == columns), [])


def _body_cells(row: str, columns: int) -> list[str]:
    """Return the cells of a row, at most as many as the columns."""
    cells = _cells(row, whole_spans=True)
    if len(cells) < columns and not any(map(_TIGHT_PIPE.search, cells)):
        other = _cells(row, whole_spans=False)
        cells = other if len(other) == columns else cells
    if len(cells) > columns:
        cells[columns - 1 :] = [" | ".join(cells[columns - 1 :])]
    return cells


def _cells(row: str, whole_spans: bool) -> list[str]:
    """Return the cells of a row.

    Args:
        row: the line.
        whole_spans: pipes in code spans and in formulas do not end a cell.
    """
    row = row.strip()
    cells: list[str] = []
    begin = place = 0
    runs: dict[int, list[int]] = {}  # the places of runs of backticks, last one first, by length
    if whole_spans and "`" in row:
        for run in reversed(list(_RUN.finditer(row))):
            runs.setdefault(len(run[0]), []).append(run.start())
    while sign := _SIGN.search(row, place):
        at, place = sign.start(), sign.end()
        if sign[0] == "|":
            cells.append(row[begin:at])
            begin = place
        elif whole_spans:
            place = _span_end(row, sign, runs)
    cells.append(row[begin:])
    # A pipe at an edge of the row is not between two cells.
    cells = cells[row.startswith("|") : len(cells) - (not row[begin:])]
    return [cell.replace(r"\|", "|").strip() for cell in cells]


def _span_end(row: str, sign: re.Match[str], runs: dict[int, list[int]]) -> int:
    """Return the end of the code span or formula that a sign begins, the end of the sign if it begins none."""
    if sign[0][0] == "`":
        places = runs.get(len(sign[0]), [])
        while places and places[-1] <= sign.start():
            places.pop()
        return places[-1] + len(sign[0]) if places else sign.end()
    content = formula_at(row, sign.start(), len(row)) if sign[0][-1] in "$([" else None
    return content[1] + content[0] - sign.start() if content else sign.end()


def _line(state: StateBlock, line: int) -> str:
    return state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]]
