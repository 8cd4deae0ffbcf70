"""The options of a cell: one table that parsing, help, completion, settings and defaults come from.

To add an option, add a row; :mod:`nbchat.engine.session` reads it by name.
"""

from __future__ import annotations

import keyword
import math
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from nbchat.core.errors import OptionError, nearest
from nbchat.models import DEFAULT_MODEL

__all__ = ["APPROVALS", "OPTIONS", "Option", "Options", "Parsed", "help_text", "parse"]

#: When tools run: after the user agreed, without asking, or not at all.
APPROVALS = ("ask", "always", "never")


@dataclass(frozen=True, slots=True)
class Option:
    """One row. ``kind`` says what the value is:

    ``text``, ``name`` (a Python name), ``int`` (at least 1), ``number`` (at least 0), ``switch``
    (no value; sets ``value``), or ``list`` (may be given several times; with a cell body below, all
    words that follow belong to it). ``setting`` says whether ``c.Nbchat`` and ``NBCHAT_*`` have it.
    """

    name: str
    flags: tuple[str, ...]
    help: str
    kind: str = "text"
    metavar: str = ""
    default: Any = None
    value: Any = True
    choices: tuple[str, ...] = ()
    setting: bool = True
    completes: str = ""

    @property
    def empty(self) -> Any:
        """The value where none is given or set."""
        return () if self.kind == "list" else self.default

    def hold(self, value: Any) -> Any:
        """A value given from Python, as the line would give it: one word for a list is a list of one.

        Raises:
            OptionError: it is no value of this option.
        """
        if self.kind == "list":
            return (value,) if isinstance(value, str) or not isinstance(value, Iterable) else tuple(value)
        if (value is None and self.default is None) or self._fits(value):
            return value
        wanted = f"one of {', '.join(self.choices)}" if self.choices else _WANTED[self.kind]
        raise OptionError(f"{self.name} is {value!r}; it should be {wanted}", f"{self.name}: {self.help}.")

    def _fits(self, value: Any) -> bool:
        if self.choices:
            return value in self.choices
        match self.kind:
            case "int":
                return isinstance(value, Integral) and not isinstance(value, bool) and value >= 1
            case "number":
                return isinstance(value, Real) and not isinstance(value, bool) and value >= 0
            case "switch":
                return isinstance(value, bool)
            case "name":
                return isinstance(value, str) and value.isidentifier() and not keyword.iskeyword(value)
        return value is not None

    def read(self, text: str, flag: str) -> Any:
        """The value of a word of the line.

        Raises:
            OptionError: the word is no value of this option.
        """
        if self.choices and text not in self.choices:
            raise OptionError(
                f"{flag} {text}: not one of {', '.join(self.choices)}",
                nearest(text, self.choices) or f"{flag}: {self.help}.",
            )
        match self.kind:
            case "int" | "number":
                return self._number(text, flag)
            case "name":
                return _checked_name(text, flag)
            case "list":
                return (text,)
        return text

    def _number(self, text: str, flag: str) -> int | float:
        try:
            number = int(text.replace("_", "")) if self.kind == "int" else float(text)
        except ValueError:
            number = -1
        if not (self._fits(number) and math.isfinite(number)):
            raise OptionError(
                f"{flag} {text}: {_WANTED[self.kind]} is needed",
                f"For example: {flag} {1000 if self.kind == 'int' else 0.5}",
            )
        return number


#: What a value of each kind is called.
_WANTED = {
    "text": "a text",
    "name": "a Python name",
    "int": "a whole number of at least 1",
    "number": "a number of at least 0",
    "switch": "True or False",
}

OPTIONS: tuple[Option, ...] = (
    # Who answers, and in what conversation
    Option(
        "model", ("-m", "--model"), "the model that answers", metavar="MODEL", default=DEFAULT_MODEL, completes="models"
    ),
    Option(
        "chat",
        ("-c", "--chat"),
        "the conversation this cell belongs to",
        metavar="NAME",
        default="main",
        completes="chats",
    ),
    Option("once", ("--once",), "send no history; the turn joins no conversation", kind="switch", default=False),
    Option("system", ("-s", "--system"), "the system prompt: a text, a file or a variable", metavar="TEXT"),
    Option(
        "endpoint",
        ("--endpoint",),
        "who answers: anthropic, bedrock, vertex, foundry, local, a name of c.Nbchat.endpoints, or a base URL",
        metavar="NAME",
        completes="endpoints",
    ),
    # How much, and how
    Option("max_tokens", ("--max-tokens",), "the longest answer, in tokens", kind="int", metavar="N", default=8192),
    Option("thinking", ("--thinking",), "let the model think, and show it", kind="switch", default=False),
    Option(
        "effort",
        ("--effort",),
        "how hard the model tries",
        metavar="LEVEL",
        choices=("low", "medium", "high", "xhigh", "max"),
    ),
    Option("stop", ("--stop",), "end the answer at this text; may be given again", kind="list", metavar="TEXT"),
    Option(
        "param",
        ("--param",),
        "a further field of the request, as KEY=JSON; may be given again",
        kind="list",
        metavar="KEY=JSON",
    ),
    Option("stream", ("--no-stream",), "ask for the answer in one piece", kind="switch", default=True, value=False),
    # What goes along
    Option(
        "attach",
        ("--attach",),
        "files that go along: text, code, notebooks, CSV, PDF, images; globs too",
        kind="list",
        metavar="PATH…",
        completes="files",
        setting=False,
    ),
    Option(
        "cells",
        ("--cells",),
        "cells that go along with their outputs: 3-5, 3,7 or above",
        metavar="SPEC",
        setting=False,
    ),
    Option("web_search", ("--web-search",), "let the model search the web", kind="switch", default=False),
    Option("web_fetch", ("--web-fetch",), "let the model fetch web pages", kind="switch", default=False),
    Option(
        "code_execution",
        ("--code-execution",),
        "let the model run code in a container of the service",
        kind="switch",
        default=False,
    ),
    Option(
        "trim",
        ("--trim",),
        "drop the oldest turns where the request is larger than the context window",
        kind="switch",
        default=False,
    ),
    # What it may do
    Option(
        "tools",
        ("-t", "--tools"),
        "functions it may call: names and methods, with commas; tools of MCP servers as SERVER or SERVER.TOOL",
        kind="list",
        metavar="NAMES",
        completes="tools",
    ),
    Option(
        "run", ("--run",), "let it run Python code in this notebook; asks before each run", kind="switch", default=False
    ),
    Option(
        "approve",
        ("--approve",),
        "whether tools ask before they run: ask, always (run unasked) or never; else run_python and MCP tools ask",
        metavar="WHEN",
        choices=APPROVALS,
    ),
    Option(
        "max_rounds",
        ("--max-rounds",),
        "requests of one turn at most; the last one may call no tool",
        kind="int",
        metavar="N",
        default=8,
    ),
    Option(
        "code",
        ("--code",),
        "put the code of the answer into a new cell below",
        kind="switch",
        default=False,
        setting=False,
    ),
    Option(
        "fix",
        ("--fix",),
        "send the last error, and put the repaired cell below; the prompt may be empty or a remark",
        kind="switch",
        default=False,
        setting=False,
    ),
    Option(
        "explain",
        ("--explain",),
        "send the last error and have it explained; the prompt may be empty or a remark",
        kind="switch",
        default=False,
        setting=False,
    ),
    Option(
        "schema",
        ("--schema",),
        "the type of the answer: a pydantic model, dataclass, TypedDict, list[…] of one, or a JSON Schema; see .parsed",
        metavar="TYPE",
        setting=False,
    ),
    Option(
        "retry",
        ("--retry",),
        "ask once more, with the problems, where the answer does not fit --schema",
        kind="switch",
        default=False,
    ),
    # What it may cost, and what is shown
    Option(
        "budget",
        ("--budget",),
        "US dollars that this notebook may cost today; a request that could cost more is not sent",
        kind="number",
        metavar="USD",
    ),
    Option(
        "dry_run",
        ("--dry-run",),
        "show what would be sent and what it could cost; send nothing",
        kind="switch",
        default=False,
        setting=False,
    ),
    Option("quiet", ("--quiet",), "show nothing; the Response is bound all the same", kind="switch", default=False),
    Option(
        "output",
        ("-o", "--output"),
        "the variable for the Response, as in `NAME <<`",
        kind="name",
        metavar="NAME",
        setting=False,
    ),
)
_BY_FLAG = {flag: option for option in OPTIONS for flag in option.flags}
_BY_NAME = {option.name: option for option in OPTIONS}


class Options:
    """The options of one request by name: what was given, over what is set, over the defaults.

    ``given`` holds the names that this request gave itself.
    """

    __slots__ = ("_values", "given")

    def __init__(self, values: Mapping[str, Any], given: frozenset[str]) -> None:
        self._values = dict(values)
        self.given = given

    @classmethod
    def of(cls, given: Mapping[str, Any], settings: Mapping[str, Any] | None = None) -> Options:
        """Options of what was given by name.

        Raises:
            OptionError: there is no option of that name; the nearest is named.
        """
        for name in given:
            if name not in _BY_NAME:
                raise OptionError(f"there is no option {name!r}", nearest(name, _BY_NAME) or _see_help())
        values = {option.name: option.empty for option in OPTIONS}
        values.update((name, value) for name, value in (settings or {}).items() if name in values)
        values.update((name, _BY_NAME[name].hold(value)) for name, value in given.items())
        return cls(values, frozenset(given))

    def __getattr__(self, name: str) -> Any:
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(name) from None

    def own(self) -> dict[str, Any]:
        """What was given itself."""
        return {name: self._values[name] for name in self.given}

    def __repr__(self) -> str:
        return f"Options({', '.join(f'{name}={value!r}' for name, value in self.own().items())})"


@dataclass(frozen=True, slots=True)
class Parsed:
    """A magic line taken apart: the options given, and the rest of the line, which is prompt."""

    given: dict[str, Any]
    prompt: str


_BIND = re.compile(r"\s*(?P<name>\S+)\s*<<(?!<)\s*")
_WORD = re.compile(
    r"""\s*(?P<flag>--?[A-Za-z][\w-]*=)?(?:"(?P<d>(?:\\.|[^"\\])*)"|'(?P<s>[^']*)'|(?P<bare>(?:\{\{.*?\}\}(?!\})|\S)+))"""
)


def parse(line: str, *, has_body: bool = False) -> Parsed:
    """Take a magic line apart.

    Options stand first, the prompt after them; ``--`` ends the options. Values with spaces are
    quoted, ``--flag=value`` works too. ``has_body`` says that the prompt is in the cell below.

    Raises:
        OptionError: an unknown option (with the nearest one), a value missing or wrong.
    """
    given: dict[str, Any] = {}
    if bound := _BIND.match(line):
        given["output"] = _checked_name(bound["name"], "<<")
        line = line[bound.end() :]
    while line.strip():
        word = line.split(None, 1)[0]
        if word == "--":
            return Parsed(given, line.split("--", 1)[1].strip())
        if not re.match(r"--?[A-Za-z]", word):
            break
        flag, _, attached = word.partition("=")
        option = _BY_FLAG.get(flag)
        if option is None:
            meant = nearest(flag, _BY_FLAG) if len(flag) > 2 else ""  # a letter is like any other
            raise OptionError(f"unknown option {flag}", meant or _see_help())
        line = line.lstrip()[len(flag) :]
        if option.kind == "switch":
            if attached or line.startswith("="):
                raise OptionError(f"{flag} takes no value", f"Write {flag} alone.")
            value = option.value
        else:
            value, line = _value(option, flag, line, has_body)
        _take(given, option, flag, value)
    _refuse_late_options(line)
    return Parsed(given, line.strip())


def _value(option: Option, flag: str, line: str, has_body: bool) -> tuple[Any, str]:
    """The value of an option, and the line after it."""
    word, rest = _word(line.removeprefix("="))
    if word is None or (word in _BY_FLAG and line.lstrip().startswith("-")):  # in quotes, or after =, it is a text
        raise OptionError(f"{flag} needs a value: {flag} {option.metavar}", f"{flag}: {option.help}.")
    _refuse_open_quote(word, line, flag)
    value = option.read(word, flag)
    while option.kind == "list" and has_body:
        word, further = _word(rest)
        _refuse_open_quote(word, rest, flag)
        if word is None or re.match(r"--?[A-Za-z]", rest.lstrip()) or rest.lstrip().startswith("-- "):
            break
        value, rest = value + option.read(word, flag), further
    return value, rest


def _refuse_open_quote(word: str | None, line: str, flag: str) -> None:
    if word and word[0] in "\"'" and line.lstrip(" =").startswith(word):
        raise OptionError(
            f"{flag} {word}: the quotation mark is never closed",
            'Close it; an apostrophe goes between double ones: "don\'t".',
        )


def _word(line: str) -> tuple[str | None, str]:
    """The first word of a line, unquoted, and the rest."""
    found = _WORD.match(line)
    if not found:
        return None, ""
    rest = line[found.end() :]
    if found["d"] is not None:
        return re.sub(r'\\(["\\])', r"\1", found["d"]), rest
    if found["s"] is not None:
        return found["s"], rest
    return (found["flag"] or "") + found["bare"], rest


def _take(given: dict[str, Any], option: Option, flag: str, value: Any) -> None:
    if option.kind == "list":
        given[option.name] = given.get(option.name, ()) + value
    elif option.name in given and given[option.name] != value:
        raise OptionError(f"{flag} {value}: {option.help} was given already as {given[option.name]}", "Give it once.")
    else:
        given[option.name] = value


def _refuse_late_options(prompt: str) -> None:
    """An option behind the first words of the prompt would be sent as text, silently: refuse it."""
    for word in prompt.split():
        flag = word.partition("=")[0]
        if flag in _BY_FLAG:
            raise OptionError(
                f"{flag} stands behind the beginning of the prompt, where it would be sent as text",
                f"Put options first; or, if {flag} is part of the prompt, put -- before it: %claude -- …",
            )


def _checked_name(name: str, flag: str) -> str:
    if not name.isidentifier() or keyword.iskeyword(name):
        raise OptionError(
            f"{name!r} cannot be the name of a variable",
            f"Write a Python name: {'answer <<' if flag == '<<' else flag + ' answer'}",
        )
    return name


def _see_help() -> str:
    return "%%claude? lists the options."


def flags(options: Iterable[Option] = OPTIONS) -> list[str]:
    """Every flag, for completion."""
    return [flag for option in options for flag in option.flags]


def option_of(flag: str) -> Option | None:
    """The option of a flag, for completion of its value."""
    return _BY_FLAG.get(flag)


def help_text(current: Callable[[Option], Any] = lambda option: option.default) -> str:
    """The help of ``%%claude?``, made of the table."""
    rows = []
    for option in OPTIONS:
        left = ", ".join(option.flags) + (f" {option.metavar}" if option.metavar else "")
        default = current(option)
        shown = f" (now: {default})" if option.kind != "switch" and default is not None else ""
        wrapped = textwrap.wrap(option.help + shown, 70, subsequent_indent=" " * 30)
        rows.append(f"  {left:<27} " + "\n".join(wrapped))
    return """Ask Claude: the cell below is the prompt, the answer streams into the output.

  %%claude [NAME <<] [options]
  a prompt of any length, with {{ python expressions }}

  %claude [NAME <<] [options] a prompt on one line

The Response is bound to NAME, if given, and always to _claude: its .text, .usage, .cost, .code …
Each cell is one turn of a conversation; running it again replaces that turn.
Options stand before the prompt; -- ends them.

""" + "\n".join(rows)
