"""References of JSON Schema: each ``$ref`` as one to a definition at the root, ``#/$defs/NAME``.

Schemas refer to themselves (``#``), to their parts (``#/properties/a``), by an anchor, and to definitions inside
a part: the schema of a pydantic model in a property brings its own ``$defs``. The API, and the code here that
takes schemas apart, know only definitions at the root.
https://json-schema.org/understanding-json-schema/structuring
"""

from __future__ import annotations

import itertools
import re
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from nbchat.core.errors import SchemaError

__all__ = ["PARTS", "named_definitions", "target_of", "with_parts", "with_root_references"]

_CONTAINERS = ("$defs", "definitions")
#: Keywords whose value is one schema, a list of schemas, or an object of schemas.
_ONE = frozenset(
    [
        "items",
        "additionalItems",
        "additionalProperties",
        "contains",
        "propertyNames",
        "not",
        "if",
        "then",
        "else",
        "unevaluatedItems",
        "unevaluatedProperties",
    ]
)
_LISTS = frozenset(["anyOf", "oneOf", "allOf", "prefixItems", "items"])
_OBJECTS = frozenset(["properties", "patternProperties", "dependentSchemas", *_CONTAINERS])
_PUT = "Put it into $defs."
#: The keywords whose value contains schemas.
PARTS = _ONE | _LISTS | _OBJECTS

#: The definitions of the schemas around a part, the outermost first.
_Scopes: TypeAlias = tuple[Mapping[str, Any], ...]


def with_parts(schema: Mapping[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """Return a schema with ``change`` called on each schema directly in it. Keep other values, such as a default."""
    result: dict[str, Any] = {}
    for word, value in schema.items():
        if word in _OBJECTS and isinstance(value, Mapping):
            result[word] = {name: change(part) for name, part in value.items()}
        elif word in _LISTS and isinstance(value, list):
            result[word] = [change(part) for part in value]
        elif word in _ONE:
            result[word] = change(value)
        else:
            result[word] = value
    return result


def named_definitions(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the definitions of a schema under the current name of the keyword and under the name before 2019."""
    found: dict[str, Any] = {}
    for word in reversed(_CONTAINERS):
        part = schema.get(word)
        found |= part if isinstance(part, Mapping) else {}
    return found


def with_root_references(schema: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a schema whose references all lead to a definition at its root.

    A schema whose references do so already is returned with the same content.

    Args:
        schema: Any JSON Schema.
        name: The name of the schema, for messages.

    Raises:
        SchemaError: A reference leads to nothing, or out of the schema.
    """
    for word in _CONTAINERS:
        if word in schema and not isinstance(schema[word], Mapping):
            raise SchemaError(f"{name} has {word} that are not an object: {schema[word]!r}", _PUT)
    try:
        return _References(schema, name).collected()
    except RecursionError:
        raise SchemaError(f"{name} is nested too deeply", "Use fewer levels.") from None


class _References:
    """One walk through a schema, which collects the definitions that its references need."""

    def __init__(self, root: Mapping[str, Any], name: str) -> None:
        self._root, self._name = root, name
        self._names: dict[int, str] = {}  # of collected parts, by their identity
        self._collected: dict[str, Any] = {}

    def collected(self) -> dict[str, Any]:
        result: dict[str, Any] = self._walk(self._root, ())
        if self._collected:
            result["$defs"] = {**result.get("$defs", {}), **self._collected}
        return result

    def _walk(self, part: Any, scopes: _Scopes) -> Any:
        if not isinstance(part, Mapping):
            return part
        is_root = part is self._root
        if not is_root:
            scopes = (*scopes, named_definitions(part))
            part = {word: value for word, value in part.items() if word not in _CONTAINERS}
        result = with_parts(part, lambda inner: self._walk(inner, scopes))
        for word in ("$ref", "$dynamicRef", "$recursiveRef"):
            if word in part:
                if not isinstance(part[word], str):
                    raise SchemaError(f"{self._name} has a {word} that is not text: {part[word]!r}", _PUT)
                if word != "$ref":
                    del result[word]
                result["$ref"] = self._placed(part[word], scopes)
        return result

    def _placed(self, reference: str, scopes: _Scopes) -> str:
        """Return the reference to a definition at the root, and collect the definition if it is elsewhere."""
        steps = self._steps(reference)
        title = steps[-1] if steps else "root" if steps is not None else reference
        if steps is not None and len(steps) == 2 and steps[0] in _CONTAINERS:
            for word in (steps[0], *_CONTAINERS):
                if title in (self._root.get(word) or {}):
                    return f"#/{word}/{reference.rpartition('/')[2]}"
            for number in range(len(scopes), 0, -1):
                if title in scopes[number - 1]:
                    return self._collect(scopes[number - 1][title], title, scopes[:number])
        found = self._followed(steps) if steps is not None else self._anchored(self._root, reference, ())
        if found is None:
            raise SchemaError(f"{self._name} refers to {reference}, which it does not define", _PUT)
        return self._collect(found[0], title, found[1])

    def _steps(self, reference: str) -> tuple[str, ...] | None:
        """Return the steps of a JSON pointer (RFC 6901), or None for another reference."""
        if reference in ("#", self._root.get("$id")):
            return ()
        if not reference.startswith("#/"):
            return None
        return tuple(map(_unescaped, urllib.parse.unquote(reference[2:]).split("/")))

    def _followed(self, steps: tuple[str, ...]) -> tuple[Mapping[str, Any], _Scopes] | None:
        """Return the part that a pointer leads to, and the definitions around it."""
        part: Any = self._root
        scopes: _Scopes = ()
        for step in steps:
            if isinstance(part, Mapping):
                if part is not self._root:
                    scopes = (*scopes, named_definitions(part))
                part = part.get(step)
            else:
                is_place = isinstance(part, list) and step.isdecimal() and int(step) < len(part)
                part = part[int(step)] if is_place else None
        return (part, scopes) if isinstance(part, Mapping) else None

    def _anchored(self, part: Any, reference: str, scopes: _Scopes) -> tuple[Mapping[str, Any], _Scopes] | None:
        """Return the part with an anchor or an identifier."""
        if isinstance(part, list):
            return next(filter(None, (self._anchored(inner, reference, scopes) for inner in part)), None)
        if not isinstance(part, Mapping):
            return None
        names = [f"#{part.get('$anchor')}", f"#{part.get('$dynamicAnchor')}", part.get("$id")]
        if reference in names and part is not self._root:
            return part, scopes
        inside = (*scopes, named_definitions(part)) if part is not self._root else ()
        return next(filter(None, (self._anchored(inner, reference, inside) for inner in part.values())), None)

    def _collect(self, part: Any, title: str, scopes: _Scopes) -> str:
        key = id(part)
        if key not in self._names:
            taken = {**named_definitions(self._root), **self._collected}
            plain = re.sub(r"[^A-Za-z0-9_.-]", "_", title) or "part"
            numbered = (f"{plain}_{number}" if number > 1 else plain for number in itertools.count(1))
            name = self._names[key] = next(name for name in numbered if name not in taken)
            self._collected[name] = {}  # the name is taken while the part is walked, which may refer to itself
            if part is self._root:
                part = {word: value for word, value in part.items() if word not in (*_CONTAINERS, "$schema", "$id")}
            self._collected[name] = self._walk(part, scopes)
        return f"#/$defs/{self._names[key]}"


def target_of(reference: str) -> str:
    """Return the name of the definition that a reference to a definition at the root leads to."""
    return _unescaped(urllib.parse.unquote(reference.rpartition("/")[2]))


def _unescaped(step: str) -> str:
    return step.replace("~1", "/").replace("~0", "~")
