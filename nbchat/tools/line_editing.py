"""Change code or arguments, where the user can type nothing but one line at a time.

A notebook front end has no editor while a cell runs: ``input()`` returns one line, and JupyterLab removes
line breaks from text that is pasted there. So the code is shown with the numbers of its lines, and each
answer changes some lines. Arguments are changed one by one.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from nbchat.core.call_text import call_text

__all__ = ["edited_arguments", "edited_lines", "read_arguments"]

#: The question that each change answers.
PROMPT = "Change a line (3: new text · 3-5: new text · +3: below line 3 · -3 deletes · undo), Enter when done: "
_CHANGE = re.compile(
    r"\s*(?:(?P<insert>\+)|(?P<delete>-))?\s*(?P<first>\d{1,9})(?:\s*-\s*(?P<last>\d{1,9}))?(?P<rest>.*)", re.DOTALL
)
_HOW = "Nothing was changed. Write the number of a line, a colon and the new line, for example 3: x = 1"


def edited_lines(
    text: str,
    ask: Callable[[str], str],
    say: Callable[[str], None],
    show: Callable[[str], None],
) -> str:
    """Return a text as the user changes it, one change an answer, until an empty answer.

    Args:
        text: The text that the editing begins with.
        ask: Shows a prompt and returns the line that the user typed.
        say: Prints what is wrong with an answer.
        show: Shows the text with the numbers of its lines.
    """
    lines = re.split(r"\r\n|\r|\n", text.strip("\n"))
    before: list[list[str]] = []  # for undo
    show(text)
    while True:
        answer = ask(PROMPT)
        word = answer.strip()
        if not word:
            return "\n".join(lines) if before else text
        if word.casefold() == "undo":
            if not before:
                say("Nothing is left to undo.")
                continue
            lines = before.pop()
        else:
            try:
                changed = _changed(lines, answer)
            except ValueError as error:
                say(str(error))
                continue
            before.append(lines)
            lines = changed
        show("\n".join(lines))


def edited_arguments(
    name: str, arguments: Mapping[str, Any], ask: Callable[[str], str], say: Callable[[str], None]
) -> Mapping[str, Any]:
    """Return arguments as the user changes them, one an answer, until an empty answer or a JSON object.

    Args:
        name: The name of the tool.
        arguments: The arguments that the editing begins with.
        ask: Shows a prompt and returns the line that the user typed.
        say: Prints what is wrong with an answer.
    """
    while True:
        answer = ask(f"{call_text(name, arguments)}: change an argument (city='Oslo'), Enter when done: ").strip()
        if not answer:
            return arguments
        try:
            if answer.startswith("{"):
                return read_arguments(answer)
            arguments = {**arguments, **_argument(answer)}
        except ValueError as error:
            say(str(error))


def read_arguments(text: str) -> dict[str, Any]:
    """Return the arguments in the text of a JSON object.

    Raises:
        ValueError: The text is not a JSON object.
    """
    try:
        arguments = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"This is not JSON ({error}). Nothing was changed.") from error
    if not isinstance(arguments, dict):
        raise ValueError('This is not a JSON object, such as {"name": 1}. Nothing was changed.')
    return arguments


def _argument(answer: str) -> dict[str, Any]:
    """Return the argument in an answer such as ``city='Oslo'``. The value is Python or JSON.

    Raises:
        ValueError: The answer is not an argument.

    >>> _argument("city='Oslo'"), _argument("days = 3"), _argument("hourly=true")
    ({'city': 'Oslo'}, {'days': 3}, {'hourly': True})
    """
    name, equals, value = (part.strip() for part in answer.partition("="))
    if not name or not equals:
        raise ValueError("Nothing was changed. Write the name of an argument, =, and its new value.")
    try:
        return {name: json.loads(value)}
    except (ValueError, RecursionError):
        pass
    try:
        number_or_text = ast.literal_eval(value)
        json.dumps(number_or_text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f"Nothing was changed: the value of {name} cannot be read. A text needs quotes.") from error
    return {name: number_or_text}


def _changed(lines: list[str], answer: str) -> list[str]:
    """Return the lines after one change.

    Raises:
        ValueError: The answer is not a change of these lines. The message says how to write one.

    >>> lines = ["a", "b", "c"]
    >>> _changed(lines, "2:  B"), _changed(lines, "1-2: AB"), _changed(lines, "+3: d"), _changed(lines, "-1-2")
    (['a', ' B', 'c'], ['AB', 'c'], ['a', 'b', 'c', 'd'], ['c'])
    """
    change = _CHANGE.fullmatch(answer)
    if change is None:
        raise ValueError(_HOW)
    first = int(change["first"])
    last = int(change["last"] or first)
    is_insertion, is_deletion = bool(change["insert"]), bool(change["delete"])
    lowest = 0 if is_insertion else 1
    if not lowest <= first <= last <= len(lines):
        raise ValueError(f"Nothing was changed. The lines are {lowest} to {len(lines)}.")
    rest = change["rest"]
    if is_deletion:
        if rest.strip():
            raise ValueError(_HOW)
        return [*lines[: first - 1], *lines[last:]] or [""]
    if not rest.lstrip().startswith(":") or (is_insertion and change["last"]):
        raise ValueError(_HOW)
    # One space after the colon belongs to the colon. More of them indent the line.
    new = rest.lstrip()[1:].removeprefix(" ").rstrip()
    if is_insertion:
        return [*lines[:first], new, *lines[first:]]
    return [*lines[: first - 1], new, *lines[last:]]
