"""An option: one row of the table in :mod:`nbchat.options`, and the values that fit it."""

from __future__ import annotations

import dataclasses
import keyword
import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal, TypeAlias, TypeVar

from nbchat.core.errors import OptionError, nearest
from nbchat.core.fields import storable
from nbchat.core.secrets import mask

__all__ = ["Option", "check_choice", "check_variable", "option", "row_of"]

Kind: TypeAlias = Literal["text", "name", "int", "number", "switch", "list"]
#: The kind of an option by the annotation of its field. This module postpones the evaluation of annotations,
#: so dataclasses.Field.type is the text of the annotation.
_KIND_OF_ANNOTATION: dict[str, Kind] = {
    "str": "text",
    "str | None": "text",
    "object": "text",
    "int": "int",
    "int | None": "int",
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
#: The largest number of an option. Much larger ones have no form as a float, and none as a text.
MAX_NUMBER = 10**15
#: The part of a value that a message quotes.
MAX_QUOTED_CHARACTERS = 200
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
            raise OptionError(f"{self.name} is {_quoted(value)}; it should be {wanted}", f"{self.name}: {self.help}.")
        if self.name == "chat":
            return storable(value)  # the name is printed, and saved with the conversation
        # numpy.int64 and the like are not JSON, and the request is JSON in the end.
        return {"int": int, "number": float}[self.kind](value) if self.kind in ("int", "number") else value

    def _fits(self, value: Any) -> bool:
        """Return True if a value from Python code fits this option."""
        if self.choices:
            return isinstance(value, str) and value in self.choices
        match self.kind:
            case "int":
                # bool is a subclass of int, but max_tokens=True is a mistake.
                return isinstance(value, Integral) and not isinstance(value, bool) and 1 <= int(value) <= MAX_NUMBER
            case "number":
                is_number = isinstance(value, Real) and not isinstance(value, bool)
                return is_number and (0 <= value <= MAX_NUMBER or value == math.inf)
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


def _quoted(value: Any) -> str:
    """Return a value that does not fit as a message quotes it: cut if it is long, by its type if it cannot be shown."""
    if isinstance(value, int) and not -MAX_NUMBER < value < MAX_NUMBER:
        return "a huge number"
    try:
        # The value can be the description of an endpoint, with a key in it.
        shown = repr(mask(value))
    except Exception:  # of the value's own __repr__
        return f"a {type(value).__name__}"
    return shown if len(shown) <= MAX_QUOTED_CHARACTERS else f"{shown[: MAX_QUOTED_CHARACTERS - 1]}…"


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


def row_of(field: dataclasses.Field[Any]) -> Option:
    """Return the row of the table that a field of :class:`Options` carries."""
    annotation = str(field.type)
    columns = dict(field.metadata)
    columns["kind"] = columns["kind"] or _KIND_OF_ANNOTATION[annotation]
    return Option(name=field.name, default=field.default, objects="object" in annotation, **columns)
