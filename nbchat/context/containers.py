"""Dicts, lists, sets, dataclasses and pydantic models as JSON text.

Members are written one after the other until the limit is reached, so a list of a million members
is never written whole.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
import json
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import PurePath
from typing import Any, TypeAlias

from nbchat.content.blocks import one_line
from nbchat.content.cutting import cut_mark, shorten
from nbchat.core.response import Response

__all__ = [
    "INLINE_CHARACTERS",
    "MAX_JSON_ARRAY_VALUES",
    "PLAIN",
    "SAMPLE_SIZE",
    "TIMES",
    "Container",
    "container",
    "dump",
    "members",
]

Container: TypeAlias = Mapping[Any, Any] | Sequence[Any]

#: A value on one line of at most this length is written into the sentence. A longer one is put between tags.
INLINE_CHARACTERS = 80
#: Values whose text is ``str(value)``.
PLAIN = (bool, int, float, complex, decimal.Decimal, fractions.Fraction, uuid.UUID)
TIMES = (datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo)
#: Members to look at to choose the form of a container.
SAMPLE_SIZE = 50
#: Values of a numpy array inside a container that are written as JSON.
MAX_JSON_ARRAY_VALUES = 100


def container(value: Any) -> Container | None:
    """Return the dict or list that represents a container in JSON, or None if the value is not a container."""
    if isinstance(value, Mapping | list):
        return value
    if isinstance(value, tuple):
        as_dict = getattr(type(value), "_asdict", None)  # of a namedtuple
        fields: Container = as_dict(value) if as_dict is not None else value
        return fields
    if isinstance(value, Set):
        return _ordered(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # A field that its own repr hides is usually a secret, or large.
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.repr}
    pydantic = sys.modules.get("pydantic")
    if pydantic is not None and isinstance(value, pydantic.BaseModel):
        dumped: dict[str, Any] = value.model_dump(mode="json")
        return dumped
    return None


def _ordered(values: Iterable[Any]) -> list[Any]:
    """Return the members of a set in the same order in each run, since hashes of texts differ between runs."""
    unsorted = list(values)
    try:
        return sorted(unsorted)
    except TypeError:
        return sorted(unsorted, key=repr)


def members(plain: Container, most: int) -> Iterator[tuple[Any, Any]]:
    """Return the first ``most`` members, with their keys or positions."""
    for pair, _ in zip(_pairs(plain), range(most), strict=False):
        yield pair


def _pairs(plain: Container) -> Iterable[tuple[Any, Any]]:
    return plain.items() if isinstance(plain, Mapping) else enumerate(plain)


def dump(plain: Container, name: str, limit: int) -> tuple[str, tuple[str, ...]]:
    """Return JSON in about ``limit`` characters, and notes on members that were left out.

    Each member is on a line of its own, except in a list of plain values, which is one line.

    Raises:
        TypeError: A value has no JSON form.
    """
    is_mapping = isinstance(plain, Mapping)
    start, end = "{}" if is_mapping else "[]"
    lines, size = _member_lines(plain, limit)
    nested = is_mapping or any(isinstance(item, Mapping | list | tuple) for _, item in members(plain, SAMPLE_SIZE))
    if len(lines) == len(plain) and size <= max(limit, INLINE_CHARACTERS):
        flat = start + ", ".join(lines) + end
        if len(flat) <= INLINE_CHARACTERS or not nested:
            return flat, ()
        return f"{start}\n{(',' + chr(10)).join(lines)}\n{end}", ()
    if len(lines) == 1 and size > limit:
        return shorten(f"{start}\n{lines[0]}", limit, name)
    kept = _kept(lines, plain)
    # Make room for the mark itself.
    while len(lines) > 1 and sum(map(len, lines)) + 2 * len(lines) + len(cut_mark(kept)) + 4 > limit:
        lines.pop()
        kept = _kept(lines, plain)
    separator = ",\n" if nested else ", "
    text, notes = shorten(f"{start}\n{separator.join(lines)},\n{cut_mark(kept)}\n{end}", limit, name)
    return text, (f"{one_line(name)}: {kept}", *notes)


def _member_lines(plain: Container, limit: int) -> tuple[list[str], int]:
    """Return the JSON of the first members that fit in ``limit`` characters, and of at least one.

    The second value is the size of these, and of the member that did not fit.
    """
    is_mapping = isinstance(plain, Mapping)
    lines: list[str] = []
    size = 4  # the brackets and their line breaks
    for key, item in _pairs(plain):
        text = f"{_key_text(key)}: {_json_text(item)}" if is_mapping else _json_text(item)
        size += len(text) + 2
        if size > limit and lines:
            break
        lines.append(text)
    return lines, size


def _kept(lines: Sequence[str], plain: Container) -> str:
    return f"first {len(lines):,} of {len(plain):,} items"


def _key_text(key: Any) -> str:
    if isinstance(key, str):
        # A subclass of str, such as StrEnum, may have a __str__ of its own.
        return json.dumps(str.__str__(key), ensure_ascii=False)
    if key is None or isinstance(key, bool | int | float):
        return json.dumps(json.dumps(key))
    if isinstance(key, enum.Enum | datetime.date | uuid.UUID):
        return json.dumps(str(key.value if isinstance(key, enum.Enum) else key), ensure_ascii=False)
    raise TypeError(f"{type(key).__name__} is not a key of a JSON object")


def _json_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=_jsonable)


def _jsonable(value: Any) -> Any:
    """Return a value that ``json`` can write for one that it cannot."""
    if isinstance(value, Response):
        return value.text
    plain = container(value)
    if plain is not None:
        return plain
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, (*PLAIN, *TIMES, PurePath)):
        return str(value)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        return value.item()
    if numpy is not None and isinstance(value, numpy.ndarray) and value.size <= MAX_JSON_ARRAY_VALUES:
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON")
