"""The call of a tool as people read it: one spelling of the name, of the arguments and of the code.

A model wrote the call, an MCP server chose the name of its tool, and the user decides by this text. So
characters that could hide or reorder a part of the text are shown as escapes (https://trojansource.codes),
and long runs of nothing, which push code off the screen, are counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

from nbchat.core.plural import counted
from nbchat.core.visible import visible, visible_line

__all__ = [
    "CALL",
    "CODE_TOOLS",
    "call_lines",
    "call_text",
    "code_lines",
    "code_of",
    "line_count",
    "numbered",
    "shown_json",
    "shown_value",
    "tool_name",
]

#: The tools whose calls are shown as code, each with the argument that holds the code.
CODE_TOOLS = {"run_python": "code"}
#: How each line of a call begins in plain text.
CALL = "→ "

#: Longer names of tools and arguments are cut in their middle.
MAX_NAME_CHARACTERS = 80
#: A longer value of an argument is cut in its middle.
MAX_VALUE_CHARACTERS = 60
#: The arguments of a longer call are cut at the end.
MAX_CALL_CHARACTERS = 120
#: Runs of more blank lines or spaces are replaced by their number.
MAX_BLANK_LINES = 2
_SPACES = re.compile(r"[ \t]{41,}")
_PLAIN_NAME = re.compile(r"[\w.…-]+")


def tool_name(name: str) -> str:
    r"""Return the name of a tool or an argument on one short line, in quotes unless it is a plain name.

    An MCP server chooses these names. Without quotes, the name ``list? [y]es, [n]o: y`` would read as a
    question that has an answer already.

    >>> tool_name("files.read"), tool_name("list? y")
    ('files.read', '"list? y"')
    """
    line = visible_line(name, MAX_NAME_CHARACTERS, strict=True)
    return line if _PLAIN_NAME.fullmatch(line) else json.dumps(line, ensure_ascii=False).replace("\\\\", "\\")


def call_text(name: str, arguments: Mapping[str, Any]) -> str:
    """Return a call on one short line, as Python writes it.

    Args:
        name: The name of the tool that people read.
        arguments: The arguments. Code is not a part of the line, only the number of its lines.

    >>> call_text("weather", {"city": "Oslo", "days": 3})
    "weather(city='Oslo', days=3)"
    >>> call_text("run_python", {"code": "x = 1\\nx"})
    'run_python(2 lines)'
    """
    code = code_of(name, arguments)
    if code is not None:
        return f"{tool_name(name)}({counted(line_count(code), 'line')})"
    shown: list[str] = []
    for key, value in arguments.items():
        if sum(map(len, shown)) > MAX_CALL_CHARACTERS:
            shown.append("…")
            break
        shown.append(f"{tool_name(key)}={_value(value)}")
    return f"{tool_name(name)}({', '.join(shown)})"


def call_lines(name: str, arguments: Mapping[str, Any] | str) -> str:
    r"""Return a call as plain text: the call on one line, and code below it as lines of code.

    Args:
        name: The name of the tool that people read.
        arguments: The arguments, or the JSON text that arrived if the text is not a JSON object.

    >>> print(call_lines("run_python", {"code": "x = 1\nx"}))
    → run_python(2 lines)
    →     x = 1
    →     x
    """
    if isinstance(arguments, str):
        return f"{CALL}{tool_name(name)}({visible_line(arguments, MAX_CALL_CHARACTERS, strict=True)}"
    code = code_of(name, arguments)
    lines = [call_text(name, arguments), *code_lines(code)] if code is not None else [call_text(name, arguments)]
    indent = f"\n{CALL}    "
    return CALL + indent.join(lines)


def code_of(name: str, arguments: Mapping[str, Any]) -> str | None:
    """Return the code in the arguments of a call, or None if the call has another form."""
    code = arguments.get(CODE_TOOLS.get(name, ""))
    return code if isinstance(code, str) and len(arguments) == 1 else None


def line_count(code: str) -> int:
    """Return the number of lines that Python will read, without the blank ones around the code."""
    return len(_split(code))


def code_lines(code: str) -> list[str]:
    """Return the lines that Python will read, with escapes for hidden characters and long runs of nothing counted."""
    return [line for _, line in _folded(_split(code))]


def numbered(code: str) -> list[str]:
    """Return the lines of :func:`code_lines`, each after its number.

    >>> numbered("x = 1\\nx")
    ['1  x = 1', '2  x']
    """
    lines = _split(code)
    width = len(str(len(lines)))
    return [f"{number:>{width}}  {line}" for number, line in _folded(lines)]


def shown_value(value: object) -> str:
    """Return a value as JSON on one line, as the user reads it before deciding."""
    return _SPACES.sub(_count_spaces, visible(json.dumps(value, ensure_ascii=False), strict=True))


def shown_json(value: object) -> str:
    """Return a value as JSON on several lines, as the user reads it before deciding."""
    text = json.dumps(value, ensure_ascii=False, indent=2, default=str)
    return _SPACES.sub(_count_spaces, visible(text, strict=True))


def _value(value: object) -> str:
    text = repr(value)
    if len(text) > 4 * MAX_VALUE_CHARACTERS:  # a repr of a megabyte needs no look at all its characters
        text = f"{text[: 2 * MAX_VALUE_CHARACTERS]}…{text[-2 * MAX_VALUE_CHARACTERS :]}"
    return visible_line(text, MAX_VALUE_CHARACTERS, strict=True)


def _split(code: str) -> list[str]:
    # Python reads a lone return as the end of a line, so code after "# comment\r" runs. The return is
    # shown, and the code after it is on a line of its own.
    code = code.replace("\r\n", "\n").replace("\r", "\r\n")
    return visible(code.strip("\n"), strict=True).split("\n")


def _folded(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Yield the lines with their numbers. A long run of blank lines becomes one line, which counts them."""
    number = 1
    for is_blank, run in groupby(lines, key=lambda line: not line.strip()):
        run_lines = list(run)
        if is_blank and len(run_lines) > MAX_BLANK_LINES:
            yield number, f"[{len(run_lines):,} blank lines]"
        else:
            yield from ((number + place, _SPACES.sub(_count_spaces, line)) for place, line in enumerate(run_lines))
        number += len(run_lines)


def _count_spaces(spaces: re.Match[str]) -> str:
    return f"[{len(spaces[0]):,} spaces]"
