"""The last error of the notebook: what ``--fix`` and ``--explain`` send.

The traceback, the source of the cell that failed, and, for each line of the user's own cells that
was under way, the values of the names in it.
"""

from __future__ import annotations

import ast
import linecache
import sys
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nbchat.content.blocks import (
    CHARACTERS_PER_TOKEN,
    Carried,
    as_printed,
    carry_text,
    join,
    shorten,
    tagged,
    without_keys,
)
from nbchat.context.values import blocks_of, traceback_of
from nbchat.core.errors import NbchatError, OptionError
from nbchat.notebook.history import watching

__all__ = ["Failure", "Line", "carry_failure", "last_error"]

#: Tokens of the traceback, and of each value.
TRACEBACK_BUDGET = 4_000
NAMED_BUDGET = 300
#: Names of one line that are shown.
NAMES = 12


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a cell that was under way: where, its text, and its names with what they held.

    ``values`` are texts as Claude gets them, by name; an attribute goes by its whole name.
    """

    cell: int | None
    number: int
    function: str
    text: str
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Failure:
    """An error of a cell. ``cell`` is its execution count; ``lines`` go from the cell inwards."""

    error: BaseException
    cell: int | None
    source: str
    traceback: str
    lines: tuple[Line, ...]

    @property
    def line(self) -> Line | None:
        """The failing line: the innermost one that is the user's own."""
        return self.lines[-1] if self.lines else None


def last_error(shell: Any) -> Failure:
    """The last error of a cell in this shell; errors of nbchat itself do not count.

    Raises:
        OptionError: no cell has failed.
    """
    error = _last(shell)
    if error is None:
        raise OptionError(
            "no cell of this session has failed, so there is nothing to fix or explain", "Run the cell first."
        )
    lines = tuple(_lines(error, shell))
    numbers = _numbers(shell)
    cell = lines[0].cell if lines else None
    if isinstance(error, SyntaxError) and error.filename in numbers:
        cell = numbers[error.filename]
    sources = shell.history_manager.input_hist_raw
    source = sources[cell] if cell is not None and cell < len(sources) else ""
    return Failure(error, cell, source, traceback_of(error, numbers), lines)


def _last(shell: Any) -> BaseException | None:
    last = getattr(sys, "last_value", None)
    if isinstance(last, Exception) and not isinstance(last, NbchatError):
        return last
    seen = watching(shell)
    return seen.failed if seen is not None else None


def _numbers(shell: Any) -> Mapping[str, int]:
    """The execution counts by the file names under which IPython compiled the cells."""
    return getattr(shell.compile, "_filename_map", None) or {}


def _lines(error: BaseException, shell: Any) -> Iterator[Line]:
    numbers = _numbers(shell)
    if isinstance(error, SyntaxError) and error.filename in numbers and error.lineno:
        yield Line(numbers[error.filename], error.lineno, "<module>", (error.text or "").rstrip("\n"), {})
        return
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename in numbers:
            first, last = _extent(trace)
            text = "".join(linecache.getlines(code.co_filename)[first - 1 : last]).rstrip("\n")
            values = _values(text, trace.tb_frame)
            yield Line(numbers[code.co_filename], first, code.co_name, text, values)
        trace = trace.tb_next


def _extent(trace: types.TracebackType) -> tuple[int, int]:
    """The first and last line of the expression that was under way, which may span several."""
    positions = list(trace.tb_frame.f_code.co_positions())
    place = trace.tb_lasti // 2
    if 0 <= place < len(positions):
        first, last, *_ = positions[place]
        if first is not None and last is not None and first <= trace.tb_lineno <= last:
            return first, min(last, first + 20)
    return trace.tb_lineno, trace.tb_lineno


def _values(text: str, frame: types.FrameType) -> Mapping[str, str]:
    """The names of a line and what they hold, without calling any code of the user's but ``repr``."""
    found: dict[str, str] = {}
    for name, path in _names(text):
        if name in frame.f_locals:
            value = frame.f_locals[name]
        elif name in frame.f_globals:
            value = frame.f_globals[name]
        else:
            continue  # a builtin, or not bound yet: the traceback says so
        for attribute in path:
            held = getattr(value, "__dict__", None)
            if isinstance(value, types.ModuleType) or not isinstance(held, dict) or attribute not in held:
                break
            value = held[attribute]
        else:
            whole = ".".join((name, *path))
            if not isinstance(value, types.ModuleType) and whole not in found and len(found) < NAMES:
                found[whole] = _told(value, whole)
    return found


def _names(text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The names of a line with the attributes that follow, in order; a lone ``if x:`` is read as well."""
    line = text.strip()
    # A line of a compound statement does not parse alone: give it a body, or take its head off.
    heads = ("try:\n pass\n", "if 0:\n pass\n", "")
    candidates = [line, f"{line}\n pass", *(f"{head}{line}\n pass" for head in heads), f"def _():\n {line}"]
    for candidate in candidates:
        try:
            tree = ast.parse(candidate)
        except (SyntaxError, ValueError):
            continue
        nodes = sorted(
            (node for node in ast.walk(tree) if isinstance(node, ast.Name)),
            key=lambda node: (node.lineno, node.col_offset),
        )
        chains = {id(chain[0]): chain[1] for chain in _chains(tree)}
        for node in nodes:
            yield node.id, ()
            if id(node) in chains:
                yield node.id, chains[id(node)]
        return


def _chains(tree: ast.AST) -> Iterator[tuple[ast.Name, tuple[str, ...]]]:
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and id(node) not in inner:
            path: list[str] = []
            part: ast.expr = node
            while isinstance(part, ast.Attribute):
                path.append(part.attr)
                part = part.value
            if isinstance(part, ast.Name):
                yield part, tuple(reversed(path))


def _told(value: Any, name: str) -> str:
    if isinstance(value, str):
        return shorten(repr(value), NAMED_BUDGET * CHARACTERS_PER_TOKEN, name)[0]
    if isinstance(value, types.FunctionType | types.MethodType | type):
        return f"{type(value).__name__} {getattr(value, '__qualname__', '?')}"
    try:
        carried = blocks_of(value, name, NAMED_BUDGET)
    except NbchatError as error:  # its repr raises: that may be the very error asked about
        return f"[{error.message}]"
    return carried.text.strip() or f"[{type(value).__qualname__}]"


def carry_failure(failure: Failure) -> Carried:
    """The error as content: the cell, the traceback, the lines under way with their values."""
    where = f"cell {failure.cell}" if failure.cell is not None else "the error"
    trace, notes = shorten(failure.traceback, TRACEBACK_BUDGET * CHARACTERS_PER_TOKEN, "the traceback", tail=True)
    parts = []
    if failure.source:
        attributes = {"number": str(failure.cell)} if failure.cell is not None else {}
        parts.append(tagged("cell", "", failure.source.rstrip("\n"), **attributes))
    parts.append(tagged("error", "", as_printed(trace), type=type(failure.error).__qualname__))
    for line in failure.lines:
        body = [f"In[{line.cell}], line {line.number}, in {line.function}:", line.text]
        body += [f"{name} = {value}" for name, value in line.values.items()]
        parts.append(tagged("line", "", "\n".join(body)))
    text, keys = without_keys("\n".join(parts) + "\n", where)
    return join([carry_text(text, *notes, *keys)])
