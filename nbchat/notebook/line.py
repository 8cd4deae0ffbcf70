"""The line of ``%%claude`` and ``%claude``: options first, then the prompt; and the help that lists the options."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nbchat.core.errors import OptionError, nearest
from nbchat.options import OPTIONS, SEE_HELP, Option, check_variable

__all__ = ["Parsed", "help_text", "option_of", "parse"]

_BY_FLAG = {flag: option for option in OPTIONS for flag in option.flags}
_FLAG = re.compile(r"--?[A-Za-z]")
#: ``name <<`` at the beginning of the line. Three < are not a binding.
_BINDING = re.compile(r"\s*(?P<name>\S+)\s*<<(?!<)\s*")
#: A name alone, or with a sign that is not <<: someone may have meant ``name <<``.
_NAME_ALONE = re.compile(r"(?P<name>[^\W\d]\w*)\s*(?P<sign>[<>=:-]{0,3})")
#: One word: in double quotes, in single quotes, or bare. A bare word may contain {{ … }} with spaces, so that
#: `-s {{ style }}` needs no quotes; `}}}` ends an expression that ends with a brace, such as {{ {'a': 1}}}.
_WORD = re.compile(
    r"""\s*(?P<flag>--?[A-Za-z][\w-]*=)?"""
    r"""(?:"(?P<double>(?:\\.|[^"\\])*)"|'(?P<single>[^']*)'|(?P<bare>(?:\{\{.*?\}\}(?!\})|\S)+))"""
)


@dataclass(frozen=True, slots=True)
class Parsed:
    """A parsed line: the options that it gives by name, the rest of the line, which is the prompt, and notes on it."""

    given: dict[str, Any]
    prompt: str
    notes: tuple[str, ...] = ()


def parse(line: str, *, has_body: bool = False) -> Parsed:
    """Split a line into options and a prompt.

    Options come first, and ``--`` ends them. A value with spaces is quoted; ``--flag=value`` works too.

    Args:
        line: the text after ``%%claude`` or ``%claude``.
        has_body: True if the prompt is in the cell below the line. A list option then takes all words
            that follow: ``--attach a.csv b.csv``.

    Raises:
        OptionError: an option is unknown (the hint is the nearest one), or a value is missing or wrong.

    >>> parse("answer << -m claude-opus-5-5 --stop END Tell me a story")
    Parsed(given={'output': 'answer', 'model': 'claude-opus-5-5', 'stop': ('END',)}, prompt='Tell me a story', notes=())
    """
    given: dict[str, Any] = {}
    if binding := _BINDING.match(line):
        given["output"] = check_variable(binding["name"], "<<")
        line = line[binding.end() :]
    while line.strip():
        word = line.split(None, 1)[0]
        if word == "--":
            return Parsed(given, line.split("--", 1)[1].strip())
        if not _FLAG.match(word):
            break
        flag, _, attached = word.partition("=")
        option = _BY_FLAG.get(flag)
        if option is None:
            # Every one-letter flag is "near" every other one, so only long flags get a suggestion.
            suggestion = nearest(flag, _BY_FLAG) if len(flag) > 2 else ""
            raise OptionError(f"unknown option {flag}", suggestion or SEE_HELP)
        line = line.lstrip()[len(flag) :]
        if option.kind == "switch":
            if attached or line.startswith("="):
                raise OptionError(f"{flag} takes no value", f"Write {flag} alone.")
            value: Any = option.value
        else:
            value, line = _value(option, flag, line, has_body)
        _add(given, option, flag, value)
    _refuse_late_options(line)
    prompt = line.strip()
    return Parsed(given, prompt, _notes_on(prompt) if has_body and "output" not in given else ())


def _notes_on(prompt: str) -> tuple[str, ...]:
    """Return a note on the part of a prompt that stands on the line above it, if that part is one name.

    Raises:
        OptionError: the name has a sign that cannot be meant as text, such as ``answer =``.
    """
    match = _NAME_ALONE.fullmatch(prompt)
    if match is None or match["sign"] == ":":
        return ()
    name = match["name"]
    if match["sign"]:
        raise OptionError(f"{prompt!r} binds nothing", f"To bind the Response, write {name} << with two signs.")
    return (f"{name!r} is a part of the prompt; to bind the Response to a variable, write {name} <<",)


def _value(option: Option, flag: str, line: str, has_body: bool) -> tuple[Any, str]:
    """Return the value of an option, and the rest of the line after the value."""
    word, rest = _split_word(line.removeprefix("="))
    # A flag is not the value of another flag, as in `-m --quiet`. In quotes or after = it is text.
    if word is None or (word in _BY_FLAG and line.lstrip().startswith("-")):
        raise OptionError(f"{flag} needs a value: {flag} {option.metavar}", f"{flag}: {option.help}.")
    _refuse_open_quote(word, line, flag)
    value = option.read(word, flag)
    while option.kind == "list" and has_body:
        word, after = _split_word(rest)
        _refuse_open_quote(word, rest, flag)
        if word is None or _FLAG.match(rest.lstrip()) or rest.lstrip().startswith("-- "):
            break
        value, rest = value + option.read(word, flag), after
    return value, rest


def _refuse_open_quote(word: str | None, line: str, flag: str) -> None:
    # An unclosed quotation mark is part of a bare word for _WORD, and the value would end at the first space.
    # A word in closed quotation marks may itself begin with one: "\\"".
    match = _WORD.match(line.lstrip(" ="))
    if word and match and match["bare"] and word[0] in "\"'" and line.lstrip(" =").startswith(word):
        raise OptionError(
            f"{flag} {word}: the quotation mark is never closed",
            'Close it. A text with an apostrophe needs double quotes: "don\'t".',
        )


def _split_word(line: str) -> tuple[str | None, str]:
    """Return the first word of a line without its quotation marks, and the rest of the line."""
    match = _WORD.match(line)
    if not match:
        return None, ""
    rest = line[match.end() :]
    if match["double"] is not None:
        return re.sub(r'\\(["\\])', r"\1", match["double"]), rest
    if match["single"] is not None:
        return match["single"], rest
    return (match["flag"] or "") + match["bare"], rest


def _add(given: dict[str, Any], option: Option, flag: str, value: Any) -> None:
    """Add a value to the options given so far; refuse a second, different value of one option."""
    if option.kind == "list":
        given[option.name] = given.get(option.name, ()) + value
    elif option.name in given and given[option.name] != value:
        raise OptionError(
            f"{flag} {value}: this option was already given as {given[option.name]} ({option.help})", "Give it once."
        )
    else:
        given[option.name] = value


def _refuse_late_options(prompt: str) -> None:
    """Raise OptionError if the prompt contains a flag: the flag would be sent as text without a warning."""
    for word in prompt.split():
        flag = word.partition("=")[0]
        if flag in _BY_FLAG:
            raise OptionError(
                f"{flag} comes after the beginning of the prompt, so it would be sent as text",
                f"Put options first. If {flag} is part of the prompt, put -- before the prompt: %claude -- …",
            )


def option_of(flag: str) -> Option | None:
    """Return the option of a flag, or None if the flag is unknown."""
    return _BY_FLAG.get(flag)


def help_text(current: Callable[[Option], Any] = lambda option: option.default) -> str:
    """Return the help that ``%%claude?`` shows.

    Args:
        current: returns the value of an option that applies without a flag; the help shows it.
    """
    rows = []
    for option in OPTIONS:
        left = ", ".join(option.flags) + (f" {option.metavar}" if option.metavar else "")
        value = current(option)
        shown = f" (now: {value})" if value and option.kind != "switch" else ""
        rows.append(f"  {left:<27} " + f"\n{' ' * 30}".join(textwrap.wrap(option.help + shown, 70)))
    return """Ask Claude: the cell below is the prompt, the answer streams into the output.

  %%claude [NAME <<] [options]
  a prompt of any length, with {{ python expressions }}

  %claude [NAME <<] [options] a prompt on one line

The Response is bound to NAME, if given, and always to _claude: its .text, .usage, .cost, .code …
Each cell is one turn of a conversation; running it again replaces that turn.
Options come before the prompt; -- ends them.

""" + "\n".join(rows)
