"""A reader of fields: it checks the types in a document that somebody else may have written.

A saved Response, a conversation, a cassette and a journal are files. A file can be edited, damaged or
made by another program, so no value in one can be trusted. Each method here returns a value of the
promised type, or raises one InputError that names the field, such as ``turns[2].messages[0].role``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar, cast

from nbchat.core.errors import InputError

__all__ = ["LONE_HALF", "MAX_COUNT", "Fields", "has_lone_half", "kind_of", "one_line", "storable", "storable_value"]

#: The largest count: the largest integer of SQLite and of most other programs.
MAX_COUNT: Final = 2**63 - 1
#: How deep lists and objects may be nested. Python stops at about 1,000 frames, and copying a value or
#: writing it as JSON takes several frames for each level. The parser accepts 100 levels in a value of the API,
#: and a file has a few more around the value.
MAX_DEPTH: Final = 120
#: The last second of the year 9999. Python's calendar ends there.
MAX_TIME_S: Final = 253_402_300_799
MAX_NAME_CHARACTERS: Final = 200

#: Half of a surrogate pair without its other half.
_LONE_HALF = re.compile("[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]")
#: The end of a note on text that was changed.
LONE_HALF: Final = "half of a surrogate pair, which cannot be sent or saved: U+FFFD replaces it"
#: The default of a field that must be there.
_REQUIRED: Final = object()

T = TypeVar("T")


def storable(text: str) -> str:
    """Return the text with U+FFFD for half of a surrogate pair, which UTF-8 cannot encode.

    Two halves that follow each other become the character that they are halves of.

    >>> storable("a" + chr(0xD83D)) == "a" + chr(0xFFFD), storable(chr(0xD83D) + chr(0xDE00))
    (True, '😀')
    """
    if _is_encodable(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def storable_value(value: T) -> T:
    """Return a JSON value with all its texts :func:`storable`; the value itself if they are.

    >>> storable_value({"city": ["Oslo", chr(0xD83D)]}) == {"city": ["Oslo", chr(0xFFFD)]}
    True
    """
    kind = type(value)
    # Most values are numbers and short texts.
    if kind is int or (kind is str and value.isascii()) or _are_encodable(value):  # type: ignore[attr-defined]
        return value
    try:
        return cast(T, _storable(value))
    except RecursionError:  # nested thousands deep, and so not sent anyway
        return value


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, Mapping):
        return {_storable(key): _storable(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_storable, value))
    return value


def has_lone_half(value: Any) -> bool:
    """Return True if a text of a JSON value has half of a surrogate pair without its other half.

    >>> has_lone_half([chr(0xDE00)]), has_lone_half(chr(0xD83D) + chr(0xDE00))
    (True, False)
    """
    return any(not _is_encodable(text) and _LONE_HALF.search(text) for text in _texts(value))


def _is_encodable(text: str) -> bool:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return False
    return True


def _are_encodable(value: Any) -> bool:
    """Return True if UTF-8 can encode all texts of a JSON value, however deeply it is nested.

    Every event passes here, so this is written for speed: :func:`_texts` would take three times as long.
    """
    waiting = [value]
    for part in waiting:  # also those that are added meanwhile
        kind = type(part)
        if kind is str:
            if not (part.isascii() or _is_encodable(part)):
                return False
        elif kind is dict:
            waiting += part
            waiting += part.values()
        elif kind is list or kind is tuple:
            waiting += part
        elif not (part is None or kind is int or kind is float or kind is bool):
            # A class of its own, such as a frozen mapping.
            return all(_is_encodable(text) for text in _texts(value))
    return True


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts of a JSON value, however deeply the value is nested."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, Mapping):
            waiting += part
            waiting += part.values()
        elif isinstance(part, list | tuple):
            waiting += part


def one_line(text: str) -> str:
    """Return the text on one line, without control characters.

    >>> one_line("cut\\n\\n# Not a heading")
    'cut # Not a heading'
    """
    words = storable(text).split()
    return "".join(character for character in " ".join(words) if character.isprintable())


class Fields:
    """The fields of one JSON object, each read with its type.

    Args:
        document: the object, as json.loads returns it.
        path: the place of the object in its document, such as ``turns[0]``; "" for the document.

    Raises:
        InputError: the document is not an object.

    >>> from nbchat.core.errors import InputError
    >>> fields = Fields({"name": "main", "tokens": "many"})
    >>> fields.text("name")
    'main'
    >>> try:
    ...     fields.count("tokens", 0)
    ... except InputError as error:
    ...     print(error.message)
    the field tokens is text, not a whole number of at least 0
    """

    def __init__(self, document: Any, path: str = "") -> None:
        if not isinstance(document, Mapping):
            raise _misfit(path, document, "an object")
        self._document, self._path = document, path

    def __contains__(self, name: str) -> bool:
        return name in self._document

    def check_format(self, expected: str) -> None:
        """Raise InputError if the object names a format other than ``expected``."""
        found = self._document.get("format", expected)
        if found != expected:
            label = found if isinstance(found, str) else kind_of(found)
            raise InputError(f"the format is {one_line(label)[:60]}, not {expected}", _HINT)

    def text(self, name: str, default: Any = _REQUIRED) -> str:
        """Return a text. It may have halves of surrogate pairs, as models send them."""
        return self._read(name, default, "text", _text)

    def optional_text(self, name: str) -> str | None:
        """Return a text, or None if the field is missing or null."""
        return None if self._document.get(name) is None else self.text(name)

    def name(self, name: str, default: Any = _REQUIRED) -> str:
        """Return a text of one line, such as the name of a model."""
        return self._read(name, default, f"a name of at most {MAX_NAME_CHARACTERS} characters on one line", _name)

    def choice(self, name: str, choices: Iterable[str], default: Any = _REQUIRED) -> str:
        """Return a text that is one of ``choices``."""
        allowed = tuple(choices)

        def read(value: Any) -> str | None:
            return value if isinstance(value, str) and value in allowed else None

        return self._read(name, default, f"one of {', '.join(allowed)}", read)

    def flag(self, name: str, default: Any = _REQUIRED) -> bool:
        """Return true or false."""
        return self._read(name, default, "true or false", lambda value: value if isinstance(value, bool) else None)

    def count(self, name: str, default: Any = _REQUIRED) -> int:
        """Return a whole number from 0 to :data:`MAX_COUNT`."""
        return self._read(name, default, "a whole number of at least 0", _count)

    def amount(self, name: str, default: Any = _REQUIRED) -> float:
        """Return a finite number of at least 0, such as a duration or a price."""
        return self._read(name, default, "a finite number of at least 0", _amount)

    def optional_amount(self, name: str) -> float | None:
        """Return a finite number of at least 0, or None if the field is missing or null."""
        return None if self._document.get(name) is None else self.amount(name)

    def time(self, name: str) -> float:
        """Return a time in seconds since the epoch that a calendar can show."""

        def read(value: Any) -> float | None:
            seconds = _amount(value)
            return seconds if seconds is not None and seconds <= MAX_TIME_S else None

        return self._read(name, _REQUIRED, "a time in seconds since 1970", read)

    def value(self, name: str) -> Any:
        """Return any JSON value, as a copy whose texts can be stored; None if the field is missing."""
        return _storable_value(_plain(self._document.get(name), self._place(name)))

    def mapping(self, name: str) -> dict[str, Any]:
        """Return an object with any content, as a copy."""
        return self.fields(name).plain()

    def optional_mapping(self, name: str) -> dict[str, Any] | None:
        """Return an object with any content, or None if the field is missing or null."""
        return None if self._document.get(name) is None else self.mapping(name)

    def fields(self, name: str) -> Fields:
        """Return the fields of an object."""
        return Fields(self._get(name), self._place(name))

    def list(self, name: str, default: Any = _REQUIRED) -> tuple[Any, ...]:
        """Return the items of a list, unchecked."""

        def read(value: Any) -> tuple[Any, ...] | None:
            return tuple(value) if isinstance(value, list | tuple) else None

        return self._read(name, default, "a list", read)

    def each(self, name: str, default: Any = _REQUIRED) -> tuple[Fields, ...]:
        """Return the fields of each object in a list."""
        items = self.list(name, default)
        return tuple(Fields(item, f"{self._place(name)}[{number}]") for number, item in enumerate(items))

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts; () if the field is missing."""
        items = enumerate(self.list(name, ()))
        return tuple(_checked(item, f"{self._place(name)}[{number}]", "text", _text) for number, item in items)

    def plain(self) -> dict[str, Any]:
        """Return the whole object as a copy."""
        copy: dict[str, Any] = _plain(self._document, self._path)
        return copy

    def misfit(self, name: str, wanted: str) -> InputError:
        """Return the error for a field whose value is not what is ``wanted``."""
        return _misfit(self._place(name), self._document.get(name), wanted)

    def is_text(self, name: str) -> bool:
        """Return True if the field is there and is a text."""
        return isinstance(self._document.get(name), str)

    def _place(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name

    def _get(self, name: str) -> Any:
        if name not in self._document:
            raise InputError(f"the field {self._place(name)} is missing", _HINT)
        return self._document[name]

    def _read(self, name: str, default: Any, wanted: str, read: Callable[[Any], T | None]) -> T:
        if default is not _REQUIRED and name not in self._document:
            fallback: T = default
            return fallback
        return _checked(self._get(name), self._place(name), wanted, read)


_HINT = "The file is damaged, or another program wrote it. Restore it, or fix that field."


def _checked(value: Any, path: str, wanted: str, read: Callable[[Any], T | None]) -> T:
    result = read(value)
    if result is None:
        raise _misfit(path, value, wanted)
    return result


def _misfit(path: str, value: Any, wanted: str) -> InputError:
    subject = f"the field {path}" if path else "the document"
    kind = kind_of(value)
    return InputError(f"{subject} is {kind}, not {wanted}", _HINT)


def kind_of(value: Any) -> str:
    """Return the name of a value's type in JSON, for a message. The value itself may be private or huge."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return "a number" if _amount(value) is not None else "a number out of range"
        case str():
            return "text"
        case Mapping():
            return "an object"
        case list() | tuple():
            return "a list"
    return type(value).__name__


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _name(value: Any) -> str | None:
    if not isinstance(value, str) or len(value) > MAX_NAME_CHARACTERS:
        return None
    name = storable(value)
    return name if name.isprintable() else None


def _count(value: Any) -> int | None:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return value if is_whole and 0 <= value <= MAX_COUNT else None


def _amount(value: Any) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        # An integer stays one: 3 must not come back as 3.0.
        return value if math.isfinite(float(value)) and value >= 0 else None
    except OverflowError:  # an integer with more than 308 digits
        return None


def _plain(value: Any, path: str, depth: int = 0) -> Any:
    """Return a copy of a JSON value.

    Raises:
        InputError: the value is nested too deeply, or is not JSON.
    """
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if depth == MAX_DEPTH:
        raise InputError(f"the field {path} is nested more than {MAX_DEPTH} levels deep", _HINT)
    if isinstance(value, Mapping):
        copy = {}
        for key, part in value.items():
            copy[str(key)] = _plain(part, path, depth + 1)
        return copy
    if isinstance(value, list | tuple):
        items = []
        for part in value:
            items.append(_plain(part, path, depth + 1))
        return items
    raise _misfit(path, value, "a JSON value")


def _storable_value(value: Any) -> Any:
    """Return a JSON value with U+FFFD for each half of a surrogate pair, also in its keys."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {storable(key): _storable_value(part) for key, part in value.items()}
    return [_storable_value(part) for part in value] if isinstance(value, list) else value
