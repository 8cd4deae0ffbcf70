"""The options of a cell: the typed table that parsing, help, completion, settings and defaults come from.

To add an option, add a field to :class:`Options`. Its annotation is the type that code reads and that the
line is checked against; :func:`option` holds its flags, its help and its default. The rest of nbchat reads
the option as an attribute, such as ``options.max_tokens``.
"""

from __future__ import annotations

import dataclasses
import keyword
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal, TypeAlias, TypeVar

from nbchat.core.errors import OptionError, nearest
from nbchat.models import DEFAULT_MODEL

__all__ = ["APPROVALS", "OPTIONS", "SEE_HELP", "Option", "Options", "check_choice", "check_variable"]

#: The answers of `--approve`: ask before each call, always allow it, never allow it.
APPROVALS = ("ask", "always", "never")
SEE_HELP = "%%claude? lists the options."

Kind: TypeAlias = Literal["text", "name", "int", "number", "switch", "list"]
#: The kind of an option by the annotation of its field. This module postpones the evaluation of annotations,
#: so dataclasses.Field.type is the text of the annotation.
_KIND_OF_ANNOTATION: dict[str, Kind] = {
    "str": "text",
    "str | None": "text",
    "object": "text",
    "int": "int",
    "float | None": "number",
    "bool": "switch",
    "tuple[str, ...]": "list",
    "tuple[object, ...]": "list",
}
#: The description of a value of each kind, for error messages.
_WANTED: dict[Kind, str] = {
    "text": "text",
    "name": "a Python name",
    "int": "a whole number of at least 1",
    "number": "a number of at least 0",
    "switch": "True or False",
    "list": "text, or a list of texts",
}
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Option:
    """One row of the table.

    Attributes:
        name: the name in Python, in ``c.Nbchat`` and in ``NBCHAT_*``.
        flags: the flags on the line of a cell.
        help: one sentence without a full stop.
        kind: the kind of the value:
            ``text``; ``name``, a Python name; ``int``, at least 1; ``number``, at least 0;
            ``switch``, a flag without a value that sets ``value``;
            ``list``, a flag that may be repeated. In a cell with a body, a list takes all words that follow.
        objects: True if Python code may pass any object, such as a class or a function.
        choices: the only values that are accepted; empty if there is no such limit.
        setting: True if ``c.Nbchat`` and ``NBCHAT_*`` have this option too.
        completes: the kind of value that Tab suggests (:mod:`nbchat.notebook.suggestions`).
    """

    name: str
    flags: tuple[str, ...]
    help: str
    kind: Kind
    default: Any
    metavar: str = ""
    value: bool = True
    choices: tuple[str, ...] = ()
    setting: bool = True
    completes: str = ""
    objects: bool = False

    def hold(self, value: Any) -> Any:
        """Return a value from Python code in the form that the line of a cell would have given.

        A single text for a list becomes a list of one. Numbers of other libraries become Python numbers.

        Raises:
            OptionError: the value does not fit this option.
        """
        if self.kind == "list":
            value = (value,) if isinstance(value, str) or not isinstance(value, Iterable) else tuple(value)
        if value is None and self.default is None:
            return None
        if not self._fits(value):
            wanted = f"one of {', '.join(self.choices)}" if self.choices else _WANTED[self.kind]
            raise OptionError(f"{self.name} is {value!r}; it should be {wanted}", f"{self.name}: {self.help}.")
        # numpy.int64 and the like are not JSON, and the request is JSON in the end.
        return {"int": int, "number": float}[self.kind](value) if self.kind in ("int", "number") else value

    def _fits(self, value: Any) -> bool:
        """Return True if a value from Python code fits this option."""
        if self.choices:
            return value in self.choices
        match self.kind:
            case "int":
                # bool is a subclass of int, but max_tokens=True is a mistake.
                return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1
            case "number":
                return isinstance(value, Real) and not isinstance(value, bool) and float(value) >= 0
            case "switch":
                return isinstance(value, bool)
            case "name":
                return isinstance(value, str) and value.isidentifier() and not keyword.iskeyword(value)
            case "list":
                return self.objects or all(isinstance(item, str) for item in value)
        return value is not None if self.objects else isinstance(value, str)

    def read(self, word: str, flag: str) -> Any:
        """Return the value of a word of the line.

        Raises:
            OptionError: the word does not fit this option.
        """
        if self.choices:
            check_choice(word, self.choices, flag, f"{flag}: {self.help}.")
        match self.kind:
            case "int" | "number":
                return self._number(word, flag)
            case "name":
                return check_variable(word, flag)
            case "list":
                return (word,)
        return word

    def _number(self, word: str, flag: str) -> int | float:
        try:
            # float() takes "nan" and "inf" too; both are refused below.
            number = int(word.replace("_", "")) if self.kind == "int" else float(word)
        except ValueError:
            number = -1
        if not (self._fits(number) and math.isfinite(number)):
            raise OptionError(
                f"{flag} {word}: {_WANTED[self.kind]} is needed",
                f"For example: {flag} {1000 if self.kind == 'int' else 0.5}",
            )
        return number


def check_choice(word: str, choices: Collection[str], flag: str, hint: str) -> None:
    """Raise OptionError if a word is not one of the choices; the hint is the nearest choice, else ``hint``."""
    if word not in choices:
        raise OptionError(
            f"{flag} {word}: not one of {', '.join(choices)}" if word else f"{flag} needs a value",
            nearest(word, choices) or hint,
        )


def check_variable(name: str, flag: str) -> str:
    """Return a name if it can be the name of a variable, else raise OptionError."""
    if not name.isidentifier() or keyword.iskeyword(name):
        raise OptionError(
            f"{name!r} cannot be the name of a variable",
            f"Write a Python name: {'answer <<' if flag == '<<' else flag + ' answer'}",
        )
    return name


def option(
    *flags: str,
    help: str,
    default: _T,
    kind: Kind | None = None,
    metavar: str = "",
    value: bool = True,
    choices: tuple[str, ...] = (),
    setting: bool = True,
    completes: str = "",
) -> _T:
    """Declare an option: a field of :class:`Options` that carries its row of the table.

    The return type is the type of the default, so a type checker compares the default with the annotation.
    Without ``kind``, the kind follows from the annotation.
    """
    columns = {
        "flags": flags,
        "help": help,
        "kind": kind,
        "metavar": metavar,
        "value": value,
        "choices": choices,
        "setting": setting,
        "completes": completes,
    }
    return dataclasses.field(default=default, metadata=columns)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Options:
    """The options of one request. An option given for the request wins over a setting, and a setting over the default.

    ``given`` holds the names of the options that were given for this request.
    """

    # Who answers, and in which conversation
    model: str = option(
        "-m", "--model", help="the model that answers", metavar="MODEL", default=DEFAULT_MODEL, completes="models"
    )
    chat: str = option(
        "-c", "--chat", help="the conversation this cell belongs to", metavar="NAME", default="main", completes="chats"
    )
    once: bool = option("--once", help="send no history, and leave the turn out of the conversation", default=False)
    system: str | None = option(
        "-s",
        "--system",
        help="the system prompt: text, a file or a variable",
        metavar="TEXT",
        default=None,
        completes="system",
    )
    endpoint: str | None = option(
        "--endpoint",
        metavar="NAME",
        default=None,
        completes="endpoints",
        help="who answers: anthropic, bedrock, vertex, foundry, local, a name from c.Nbchat.endpoints, or a base URL",
    )
    # The size and the form of the answer
    max_tokens: int = option(
        "--max-tokens", help="the maximum length of the answer, in tokens", metavar="N", default=8192
    )
    thinking: bool = option("--thinking", help="let the model think, and show its thinking", default=False)
    effort: str | None = option(
        "--effort",
        help="how hard the model tries",
        metavar="LEVEL",
        default=None,
        choices=("low", "medium", "high", "xhigh", "max"),
    )
    stop: tuple[str, ...] = option(
        "--stop", help="end the answer at this text; can be repeated", metavar="TEXT", default=()
    )
    param: tuple[str, ...] = option(
        "--param", help="one more field of the request, as KEY=JSON; can be repeated", metavar="KEY=JSON", default=()
    )
    stream: bool = option("--no-stream", help="receive the answer in one piece", default=True, value=False)
    # What the request includes
    attach: tuple[str, ...] = option(
        "--attach",
        metavar="PATH…",
        default=(),
        completes="files",
        setting=False,
        help="files to include: text, code, notebooks, CSV, PDF, images; globs work too",
    )
    cells: str | None = option(
        "--cells",
        metavar="SPEC",
        default=None,
        completes="cells",
        setting=False,
        help="cells to include with their outputs: 3-5, 3,7 or above",
    )
    web_search: bool = option("--web-search", help="let the model search the web", default=False)
    web_fetch: bool = option("--web-fetch", help="let the model fetch web pages", default=False)
    code_execution: bool = option(
        "--code-execution", default=False, help="let the model run code in a container of the service"
    )
    trim: bool = option(
        "--trim", default=False, help="drop the oldest turns if the request is larger than the context window"
    )
    # What the model may do
    tools: tuple[object, ...] = option(
        "-t",
        "--tools",
        metavar="NAMES",
        default=(),
        completes="tools",
        help="functions the model may call: names and methods, separated by commas; "
        "tools of MCP servers as SERVER or SERVER.TOOL",
    )
    run: bool = option(
        "--run", help="let the model run Python code in this notebook; asks before each run", default=False
    )
    approve: str | None = option(
        "--approve",
        metavar="WHEN",
        default=None,
        choices=APPROVALS,
        help="tool calls: ask (before each), always (run without asking) or never (refuse); by default "
        "only run_python and MCP tools ask",
    )
    max_rounds: int = option(
        "--max-rounds",
        metavar="N",
        default=8,
        help="the maximum number of requests in one turn; the last one may not call a tool",
    )
    code: bool = option("--code", help="put the code of the answer into a new cell below", default=False, setting=False)
    fix: bool = option(
        "--fix",
        default=False,
        setting=False,
        help="send the last error and put the fixed cell below; the prompt is an optional remark",
    )
    explain: bool = option(
        "--explain",
        default=False,
        setting=False,
        help="send the last error and ask for an explanation; the prompt is an optional remark",
    )
    schema: object = option(
        "--schema",
        metavar="TYPE",
        default=None,
        completes="schema",
        setting=False,
        help="the type of the answer: a pydantic model, dataclass, TypedDict, list[…] of one, "
        "or a JSON Schema; see .parsed",
    )
    retry: bool = option(
        "--retry", default=False, help="if the answer does not fit --schema, ask once more and list the problems"
    )
    # What the answer may cost, and what is shown
    budget: float | None = option(
        "--budget",
        metavar="USD",
        default=None,
        help="the US dollars that this notebook may cost today; a request that could cost more is not sent",
    )
    dry_run: bool = option(
        "--dry-run", default=False, setting=False, help="show the request and its possible cost; send nothing"
    )
    quiet: bool = option("--quiet", help="show nothing; the Response is still bound", default=False)
    output: str | None = option(
        "-o",
        "--output",
        kind="name",
        metavar="NAME",
        default=None,
        setting=False,
        help="the variable for the Response, as in `NAME <<`",
    )

    given: frozenset[str] = frozenset()

    @classmethod
    def of(cls, given: Mapping[str, Any], settings: Mapping[str, Any] | None = None) -> Options:
        """Return the options of one request from the values given by name and from the settings.

        Raises:
            OptionError: an option does not exist (the hint is the nearest name), or a value does not fit.

        >>> options = Options.of({"stop": "END"}, settings={"max_tokens": 500})
        >>> options.stop, options.max_tokens, options.chat
        (('END',), 500, 'main')
        """
        for name in given:
            if name not in _BY_NAME:
                raise OptionError(f"unknown option {name!r}", nearest(name, _BY_NAME) or SEE_HELP)
        # c.Nbchat has settings that are not options, such as `ledger`.
        values = {name: value for name, value in (settings or {}).items() if name in _BY_NAME}
        values |= {name: _BY_NAME[name].hold(value) for name, value in given.items()}
        return cls(**values, given=frozenset(given))

    def own(self) -> dict[str, Any]:
        """Return the options that were given for this request, without settings and defaults."""
        return {name: getattr(self, name) for name in _BY_NAME if name in self.given}

    def __repr__(self) -> str:
        return f"Options({', '.join(f'{name}={value!r}' for name, value in self.own().items())})"


def _row(field: dataclasses.Field[Any]) -> Option:
    """Return the row of the table that a field of :class:`Options` carries."""
    annotation = str(field.type)
    columns = dict(field.metadata)
    columns["kind"] = columns["kind"] or _KIND_OF_ANNOTATION[annotation]
    return Option(name=field.name, default=field.default, objects="object" in annotation, **columns)


OPTIONS: tuple[Option, ...] = tuple(_row(field) for field in dataclasses.fields(Options) if field.metadata)
_BY_NAME = {option.name: option for option in OPTIONS}
