"""The JSON Schema of a tool's input in the form that the Messages API accepts, and the way back.

The API takes any JSON Schema of draft 2020-12 whose root is an object without ``anyOf``, ``oneOf`` and ``allOf``, and
whose properties have names of ``[a-zA-Z0-9_.-]``. One tool with another schema makes the API refuse the whole request.
https://platform.claude.com/docs/en/agents-and-tools/tool-use/implement-tool-use
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nbchat.core.errors import SchemaError
from nbchat.tools.references import PARTS, named_definitions, target_of, with_parts, with_root_references

__all__ = ["InputSchema"]

_KEY = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
_MAX_KEY_CHARACTERS = 64
_DIGEST_CHARACTERS = 8
_TYPES = frozenset(["array", "boolean", "integer", "null", "number", "object", "string"])
_COMBINATIONS = ("allOf", "anyOf", "oneOf")
#: Characters of the text that describes alternatives at the root.
_MAX_DESCRIBED_CHARACTERS = 2_000


@dataclass(frozen=True, slots=True)
class InputSchema:
    """The schema of a tool's input.

    Attributes:
        schema: The schema as the API accepts it.
        names: The names of the properties that the tool itself uses, by those in the schema.
    """

    schema: dict[str, Any]
    names: Mapping[str, str]

    @classmethod
    def of(cls, schema: Mapping[str, Any], name: str) -> InputSchema:
        """Return the InputSchema of any JSON Schema of an object. A schema that the API accepts is not changed.

        Args:
            schema: The schema.
            name: The name of the schema, for messages.

        Raises:
            SchemaError: The schema is not one of an object, or a reference in it leads to nothing.
        """
        names: dict[str, str] = {}
        try:
            return cls(_as_object(_with_plain_names(with_root_references(schema, name), names), name), names)
        except RecursionError:
            raise SchemaError(f"{name} is nested too deeply", "Use fewer levels.") from None
        except (AttributeError, TypeError) as error:  # such as a list where an object is needed
            raise SchemaError(f"{name} is not a valid JSON Schema: {error}", "See json-schema.org.") from None

    def restored(self, value: Any) -> Any:
        """Return the input of a call with the names of properties that the tool itself uses."""
        if not self.names:
            return value
        if isinstance(value, Mapping):
            return {self.names.get(key, key): self.restored(part) for key, part in value.items()}
        return [self.restored(part) for part in value] if isinstance(value, list) else value


def _plain_name(key: str) -> str:
    """Return a name for a property that the API accepts. The digest keeps names apart that look alike without signs."""
    if _KEY.fullmatch(key):
        return key
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_CHARACTERS]
    cleaned = re.sub(r"[^a-zA-Z0-9_.-]+", "_", key)[: _MAX_KEY_CHARACTERS - _DIGEST_CHARACTERS - 1]
    return f"{cleaned.strip('_') or 'field'}_{digest}"


def _with_plain_names(schema: Any, names: dict[str, str]) -> Any:
    """Return a schema of draft 2020-12 whose properties have names that the API accepts."""
    if not isinstance(schema, Mapping):
        return schema
    result = with_parts(_current(schema), lambda part: _with_plain_names(part, names))
    for word in ("properties", "dependentSchemas", "dependentRequired"):
        if isinstance(result.get(word), Mapping):
            result[word] = {_plain_name(key): part for key, part in result[word].items()}
    if isinstance(result.get("dependentRequired"), Mapping):
        result["dependentRequired"] = {key: _plain_names(keys) for key, keys in result["dependentRequired"].items()}
    if isinstance(result.get("required"), list):
        result["required"] = _plain_names(result["required"])
    for key in schema["properties"] if isinstance(schema.get("properties"), Mapping) else ():
        plain = _plain_name(key)
        part = result["properties"][plain]
        if plain != key:
            names[plain] = key
            if isinstance(part, dict):
                part["description"] = f"{key}: {part['description']}" if part.get("description") else key
    return result


def _plain_names(keys: Iterable[Any]) -> list[Any]:
    return [_plain_name(key) if isinstance(key, str) else key for key in keys]


def _current(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return one schema without forms of drafts before 2020-12, and without numbers that JSON does not have.

    https://json-schema.org/draft/2020-12/release-notes
    """
    result = {word: value for word, value in schema.items() if word in PARTS or _is_finite(value)}
    for word in ("exclusiveMinimum", "exclusiveMaximum"):
        if isinstance(result.get(word), bool):
            limit = word.removeprefix("exclusive").lower()
            if result.pop(word) and limit in result:
                result[word] = result.pop(limit)
    if isinstance(result.get("items"), list):
        result["prefixItems"] = result.pop("items")
        if "additionalItems" in result:
            result["items"] = result.pop("additionalItems")
    if isinstance(result.get("required"), bool) or result.get("required", ()) is None:
        del result["required"]
    kinds = result.get("type")
    if isinstance(kinds, str) and kinds not in _TYPES:
        del result["type"]  # such as "any" of draft 3
    return result


def _is_finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Mapping):
        return all(map(_is_finite, value.values()))
    return all(map(_is_finite, value)) if isinstance(value, list | tuple) else True


def _as_object(schema: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the schema of an object with properties, without alternatives at the root.

    Raises:
        SchemaError: The schema is not one of an object.
    """
    definitions = named_definitions(schema)
    merged = _merged(schema, definitions, frozenset())
    kind = merged.get("type", "object")
    if kind != "object" and not (isinstance(kind, list) and "object" in kind):
        raise SchemaError(
            f"{name} is of type {kind!r}, and the input of a tool is an object", "Give the tool named parameters."
        )
    if not isinstance(merged.get("properties"), Mapping):
        merged.pop("properties", None)
    # The API requires these two keywords, and servers leave them out for tools without parameters.
    return {"type": "object", "properties": {}, **merged, **({} if kind == "object" else {"type": "object"})}


def _merged(schema: Mapping[str, Any], definitions: Mapping[str, Any], seen: frozenset[str]) -> dict[str, Any]:
    """Return a schema as one object with the properties of all its parts and alternatives.

    A property is required if each alternative requires it. The description tells the model the alternatives,
    and the tool itself checks them.
    """
    reference = schema.get("$ref")
    if isinstance(reference, str):
        target = definitions.get(target_of(reference))
        rest = {word: value for word, value in schema.items() if word != "$ref"}
        if not isinstance(target, Mapping) or reference in seen:
            return rest
        return _joined([rest, _merged(target, definitions, seen | {reference})])
    result = {word: value for word, value in schema.items() if word not in _COMBINATIONS}
    if len(result) == len(schema):
        return result
    for word in _COMBINATIONS:
        parts = schema.get(word)
        if not isinstance(parts, list):
            continue
        objects = [_merged(part, definitions, seen) for part in parts if isinstance(part, Mapping)]
        objects = [part for part in objects if part.get("type", "object") == "object"]
        joined = _joined([result, *objects], every=word == "allOf")
        if word != "allOf" and len(parts) > 1:
            text = json.dumps(parts, ensure_ascii=False)
            if len(text) <= _MAX_DESCRIBED_CHARACTERS:
                rule = f"The input must fit {'exactly one' if word == 'oneOf' else 'at least one'} of {text}"
                joined["description"] = f"{joined['description']}\n\n{rule}" if joined.get("description") else rule
        result = joined
    return result


def _joined(parts: list[Mapping[str, Any]], every: bool = True) -> dict[str, Any]:
    """Return the first schema with the properties of the others.

    Args:
        parts: Schemas of objects.
        every: True if all of them hold, False if one of the others holds.
    """
    first, *others = parts
    result = dict(first)
    properties: dict[str, Any] = dict(first.get("properties") or {})
    for part in others:
        for key, value in (part.get("properties") or {}).items():
            known = properties.get(key, value)
            if known != value:
                # Each alternative says "kind" is a constant of its own. All parts of allOf hold together.
                choices = known["anyOf"] if isinstance(known, dict) and set(known) == {"anyOf"} else [known]
                both = {"allOf": [known, value]} if every else {"anyOf": [*choices, value]}
                value = known if not every and value in choices else both
            properties[key] = value
    wanted = [[key for key in part.get("required") or [] if isinstance(key, str)] for part in others]
    required = dict.fromkeys(first.get("required") or [])
    for key in [key for keys in wanted for key in keys]:
        if every or all(key in keys for keys in wanted):
            required[key] = None
    if properties:
        result["properties"] = properties
    if required:
        result["required"] = list(required)
    for part in others if every else ():
        # A closed part is closed for its own properties only.
        result = {**{word: value for word, value in part.items() if word != "additionalProperties"}, **result}
    return result
