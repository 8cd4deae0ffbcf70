"""The last error of the notebook, which ``--fix`` and ``--explain`` send.

The prompt has the traceback, the source of the cell that failed, and, for each line of the user's own
cells in the traceback, the values of the names in it.
"""

from __future__ import annotations

import ast
import linecache
import sys
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nbchat.content.blocks import CHARACTERS_PER_TOKEN, Carried, carry_text, join, tagged, without_keys
from nbchat.content.cutting import shorten
from nbchat.content.terminal_text import as_seen
from nbchat.context.tracebacks import traceback_of
from nbchat.context.values import blocks_of
from nbchat.core.errors import NbchatError, OptionError
from nbchat.notebook.listener import listener_of
from nbchat.notebook.old_ipython import cell_numbers
from nbchat.options import Options

__all__ = ["Failure", "Line", "carry_failure", "last_error", "prompt_about"]

TRACEBACK_TOKENS = 4_000
#: Tokens of the value of one name.
VALUE_TOKENS = 300
#: The most names of one line.
MAX_NAMES = 12
#: The most lines of one expression, after its first.
MAX_MORE_LINES = 20

# These texts are sent. A changed text changes the digest of the request, and its recorded answer is lost.
_FIX = (
    "This cell of my notebook failed; its source, the error, and the values in the failing lines are above. "
    "Give the whole cell again, mended, in one fenced Python block that I can run in its place, "
    "and say in a sentence or two what was wrong. If the fault is in an earlier cell or in the data, say so."
)
_EXPLAIN = (
    "This cell of my notebook failed; its source, the error, and the values in the failing lines are above. "
    "Explain what the error means and why it happened here, with the values given, and how to put it right."
)
_BOTH = f"{_FIX} Then explain why the error happened here, with the values given."


def prompt_about(options: Options, remark: str) -> str:
    """Return the prompt of ``--fix`` and ``--explain``, with the user's remark after it, if there is one."""
    request = (_BOTH if options.explain else _FIX) if options.fix else _EXPLAIN
    return f"{request}\n\n{remark}" if remark.strip() else request


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a cell in a traceback.

    Attributes:
        cell: The execution count of the cell.
        number: The number of the line in the cell, from 1.
        function: The name of the function, or ``<module>``.
        text: The source of the line, or of all lines of its expression.
        values: The values as text, by name. An attribute has its dotted name.
    """

    cell: int | None
    number: int
    function: str
    text: str
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Failure:
    """An error of a cell. ``cell`` is its execution count. The last of ``lines`` is the failing one."""

    error: BaseException
    cell: int | None
    source: str
    traceback: str
    lines: tuple[Line, ...]


def last_error(shell: Any) -> Failure:
    """Return the last error of a cell in this shell. Errors of nbchat itself do not count.

    Raises:
        OptionError: No cell has failed.
    """
    error = _last_exception(shell)
    if error is None:
        raise OptionError(
            "no cell of this session has failed, so there is nothing to fix or explain", "Run the cell first."
        )
    numbers = cell_numbers(shell)
    lines = tuple(_lines(error, numbers))
    cell = _syntax_error_cell(error, numbers)
    if cell is None and lines:
        cell = lines[0].cell
    sources = shell.history_manager.input_hist_raw
    source = sources[cell] if cell is not None and cell < len(sources) else ""
    return Failure(error, cell, source, traceback_of(error, numbers), lines)


def _last_exception(shell: Any) -> BaseException | None:
    last = getattr(sys, "last_value", None)
    if isinstance(last, Exception) and not isinstance(last, NbchatError):
        return last
    listener = listener_of(shell)
    return listener.failed if listener is not None else None


def _syntax_error_cell(error: BaseException, numbers: Mapping[str, int]) -> int | None:
    """Return the execution count of the cell that has this syntax error, or None."""
    return numbers.get(error.filename or "") if isinstance(error, SyntaxError) else None


def _lines(error: BaseException, numbers: Mapping[str, int]) -> Iterator[Line]:
    cell = _syntax_error_cell(error, numbers)
    if cell is not None and isinstance(error, SyntaxError) and error.lineno:
        # The cell did not run, so it has no frame.
        yield Line(cell, error.lineno, "<module>", (error.text or "").rstrip("\n"), {})
        return
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename in numbers:
            first, last = _extent(trace)
            text = "".join(linecache.getlines(code.co_filename)[first - 1 : last]).rstrip("\n")
            yield Line(numbers[code.co_filename], first, code.co_name, text, _values(text, trace.tb_frame))
        trace = trace.tb_next


def _extent(trace: types.TracebackType) -> tuple[int, int]:
    """Return the first and the last line of the expression that failed."""
    positions = list(trace.tb_frame.f_code.co_positions())
    instruction = trace.tb_lasti // 2  # an instruction has two bytes
    if 0 <= instruction < len(positions):
        first, last, *_ = positions[instruction]
        if first is not None and last is not None and first <= trace.tb_lineno <= last:
            return first, min(last, first + MAX_MORE_LINES)
    return trace.tb_lineno, trace.tb_lineno


def _values(text: str, frame: types.FrameType) -> Mapping[str, str]:
    """Return the names of a line with their values. Of the user's code, only ``__repr__`` is called."""
    values: dict[str, str] = {}
    for name, path in _names(text):
        value, is_bound = _look_up(name, path, frame)
        dotted = ".".join((name, *path))
        # A name that is not bound is the error itself, and the traceback says so. Modules say nothing.
        if is_bound and not isinstance(value, types.ModuleType) and dotted not in values and len(values) < MAX_NAMES:
            values[dotted] = _value_text(value, dotted)
    return values


def _look_up(name: str, path: tuple[str, ...], frame: types.FrameType) -> tuple[Any, bool]:
    """Return the value of a dotted name, and True if it is bound in the frame. Builtins are not."""
    scope = frame.f_locals if name in frame.f_locals else frame.f_globals
    if name not in scope:
        return None, False
    value = scope[name]
    for attribute in path:
        # Only the instance's own dict is read. A property would run the user's code.
        attributes = getattr(value, "__dict__", None)
        if isinstance(value, types.ModuleType) or not isinstance(attributes, dict) or attribute not in attributes:
            return None, False
        value = attributes[attribute]
    return value, True


def _names(text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Return the names of a line in their order, each alone and then with the attributes that follow."""
    tree = _parse_line(text.strip())
    if tree is None:
        return
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    chains = {id(name): path for name, path in _chains(tree)}
    for name in sorted(names, key=lambda node: (node.lineno, node.col_offset)):
        yield name.id, ()
        if id(name) in chains:
            yield name.id, chains[id(name)]


def _parse_line(line: str) -> ast.AST | None:
    """Return the syntax tree of one line, which may be part of a compound statement, or None."""
    # `if x:` needs a body, `except E:` and `else:` need what is before them, and `return x` needs a function.
    heads = ("try:\n pass\n", "if 0:\n pass\n", "")
    for source in (line, f"{line}\n pass", *(f"{head}{line}\n pass" for head in heads), f"def _():\n {line}"):
        try:
            return ast.parse(source)
        except (SyntaxError, ValueError):
            continue
    return None


def _chains(tree: ast.AST) -> Iterator[tuple[ast.Name, tuple[str, ...]]]:
    """Return each name that has attributes after it, with the longest chain of them."""
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


def _value_text(value: Any, name: str) -> str:
    if isinstance(value, str):
        return shorten(repr(value), VALUE_TOKENS * CHARACTERS_PER_TOKEN, name)[0]
    if isinstance(value, types.FunctionType | types.MethodType | type):
        return f"{type(value).__name__} {getattr(value, '__qualname__', '?')}"
    try:
        carried = blocks_of(value, name, VALUE_TOKENS)
    except NbchatError as error:  # a repr that raises may be the very error that the user asks about
        return f"[{error.message}]"
    return carried.text.strip() or f"[{type(value).__qualname__}]"


def carry_failure(failure: Failure) -> Carried:
    """Return the error as content: the cell, the traceback, and the lines of cells with their values."""
    name = f"cell {failure.cell}" if failure.cell is not None else "the error"
    limit = TRACEBACK_TOKENS * CHARACTERS_PER_TOKEN
    traceback, notes = shorten(failure.traceback, limit, "the traceback", tail=True)
    parts = []
    if failure.source:
        attributes = {"number": str(failure.cell)} if failure.cell is not None else {}
        parts.append(tagged("cell", "", failure.source.rstrip("\n"), **attributes))
    parts.append(tagged("error", "", as_seen(traceback), type=type(failure.error).__qualname__))
    for line in failure.lines:
        body = [f"In[{line.cell}], line {line.number}, in {line.function}:", line.text]
        body += [f"{name} = {value}" for name, value in line.values.items()]
        parts.append(tagged("line", "", "\n".join(body)))
    text, key_notes = without_keys("\n".join(parts) + "\n", name)
    return join([carry_text(text, *notes, *key_notes)])
