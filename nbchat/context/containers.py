"""Dicts, lists, dataclasses and pydantic models as JSON text.

One member is written after the other until the room is full, so that a list of a million is never
written whole.
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
from typing import Any

from nbchat.content.blocks import one_line, shorten
from nbchat.core.response import Response

__all__ = ["INLINE", "PLAIN", "TIMES", "container", "dump", "members"]

#: A value of one line up to this long stands in the sentence; a longer one gets tags.
INLINE = 80
#: Values that are their own text.
PLAIN = (bool, int, float, complex, decimal.Decimal, fractions.Fraction, uuid.UUID)
TIMES = (datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo)


def container(value: Any) -> Mapping[Any, Any] | Sequence[Any] | None:
    """A dict or list of what JSON can hold; None for what is no container."""
    if isinstance(value, Mapping | list | tuple):
        return value._asdict() if isinstance(value, tuple) and hasattr(type(value), "_asdict") else value
    if isinstance(value, Set):
        return _ordered(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.repr}
    pydantic = sys.modules.get("pydantic")
    if pydantic is not None and isinstance(value, pydantic.BaseModel):
        return value.model_dump(mode="json")
    return None


def _ordered(values: Iterable[Any]) -> list[Any]:
    """A set in an order that is the same at each run."""
    held = list(values)
    try:
        return sorted(held)
    except TypeError:
        return sorted(held, key=repr)


def members(plain: Mapping[Any, Any] | Sequence[Any], most: int) -> Iterator[tuple[Any, Any]]:
    pairs = plain.items() if isinstance(plain, Mapping) else enumerate(plain)
    for (key, item), _ in zip(pairs, range(most), strict=False):
        yield key, item


def dump(plain: Mapping[Any, Any] | Sequence[Any], name: str, room: int) -> tuple[str, tuple[str, ...]]:
    """JSON with one member a line (plain lists on one line), in ``room`` characters."""
    pairs = isinstance(plain, Mapping)
    start, end = "{}" if pairs else "[]"
    nested = pairs or any(isinstance(item, Mapping | list | tuple) for _, item in members(plain, 50))
    taken: list[str] = []
    size = 4
    for key, item in plain.items() if pairs else enumerate(plain):
        text = f"{_key(key)}: {_dumps(item)}" if pairs else _dumps(item)
        size += len(text) + 2
        if size > room and taken:
            break
        taken.append(text)
    if len(taken) == len(plain) and size <= max(room, INLINE):
        flat = start + ", ".join(taken) + end
        return (flat if len(flat) <= INLINE or not nested else f"{start}\n{(',' + chr(10)).join(taken)}\n{end}"), ()
    if len(taken) == 1 and size > room:
        return shorten(f"{start}\n{taken[0]}", room, name)
    told = f"first {len(taken):,} of {len(plain):,} items"
    mark = f"… [cut: {told}]"
    while len(taken) > 1 and sum(map(len, taken)) + 2 * len(taken) + len(mark) + 4 > room:
        taken.pop()
        told = f"first {len(taken):,} of {len(plain):,} items"
        mark = f"… [cut: {told}]"
    between = ",\n" if nested else ", "
    text, notes = shorten(f"{start}\n{between.join(taken)},\n{mark}\n{end}", room, name)
    return text, (f"{one_line(name)}: {told}", *notes)


def _key(key: Any) -> str:
    if isinstance(key, str):
        return json.dumps(str.__str__(key), ensure_ascii=False)
    if key is None or isinstance(key, bool | int | float):
        return json.dumps(json.dumps(key))
    if isinstance(key, enum.Enum | datetime.date | uuid.UUID):
        return json.dumps(str(key.value if isinstance(key, enum.Enum) else key), ensure_ascii=False)
    raise TypeError(f"{type(key).__name__} is no key of a JSON object")


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=_default)


def _default(value: Any) -> Any:
    """What json does not know: containers as such, other values as their text."""
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
    if numpy is not None and isinstance(value, numpy.ndarray) and value.size <= 100:
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON")
