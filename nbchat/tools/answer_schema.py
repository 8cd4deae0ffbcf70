"""The JSON Schema of an answer in the form that the structured outputs of the API accept.

The API compiles the schema into a grammar, and the grammar knows only a part of JSON Schema
(https://platform.claude.com/docs/en/build-with-claude/structured-outputs#json-schema-limitations):
objects are closed, the root is an object, and there are no limits such as ``minimum``.

This module does by hand what ``anthropic.transform_schema`` does for the schemas of pydantic models.
A test compares the two. We do not call the SDK's function, for three reasons:

* It expects what pydantic writes. A schema that a user wrote fails in it (``"type": ["integer",
  "null"]`` is an AssertionError) or loses its meaning without an error: ``definitions`` become
  prose, a tuple loses the types of its items, and ``dict[str, int]`` becomes an object without
  fields, which the model can only fill with ``{}``. Repairing each of these before the call takes
  the same walk through the schema as the conversion itself.
* The schema is a part of the digest of a request. If a new SDK wrote another character, every
  recorded cassette with a schema would miss.
* Importing the SDK takes about a second, which local and scripted endpoints do not need to pay.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from nbchat.core.errors import SchemaError
from nbchat.tools.references import named_definitions, target_of, with_root_references
from nbchat.tools.schema import SUPPORTED_TYPES_HINT

__all__ = ["answer_schema", "wrapper_key"]

#: The values of ``format`` that the API enforces. Others go into the description.
_FORMATS = frozenset(["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"])
#: Keywords that tell neither the grammar nor the model anything. pydantic writes the discriminator beside
#: alternatives that their own constants tell apart already.
_SILENT = frozenset(["discriminator", "$schema"])
#: Keywords that describe a value and limit nothing. They stay outside when a schema of several types is
#: divided by type. https://json-schema.org/understanding-json-schema/reference/annotations
_ANNOTATIONS = ("description", "title", "default")


def answer_schema(schema: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a JSON Schema in the API's form.

    Keywords that the API does not know go into the description, where the model reads them. A root
    that is not an object is wrapped in the field that :func:`wrapper_key` names.

    Args:
        schema: Any JSON Schema. Its ``definitions`` are renamed to ``$defs``.
        name: The name of the type, for messages.

    Raises:
        SchemaError: The API cannot be asked for this. The message names the field.
    """
    schema = with_root_references(schema, name)
    key = wrapper_key(schema)
    definitions = named_definitions(schema)
    root = {word: part for word, part in schema.items() if word not in ("definitions", "$defs")}
    if key:
        root = {"type": "object", "properties": {key: root}, "required": [key]}
    else:
        # The API wants an object at the root, and a reference is not an object. pydantic writes a
        # reference there for a class that contains itself.
        root = dict(_resolved(root, definitions))
    result = _converted(root, name)
    if definitions:
        result["$defs"] = {title: _converted(part, title) for title, part in definitions.items()}
    return result


def wrapper_key(schema: Mapping[str, Any]) -> str:
    """Return the name of the field that holds a root which is not an object, or "" for an object.

    Raises:
        SchemaError: The root refers to a definition that does not exist, or to itself.
    """
    schema = with_root_references(schema, "the schema")
    schema = _resolved(schema, named_definitions(schema))
    if schema.get("type") == "object":
        return ""
    return "items" if schema.get("type") == "array" else "value"


def _resolved(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema that a schema means which is only a reference."""
    seen: set[str] = set()
    while isinstance(schema, Mapping) and "$ref" in schema:
        reference = schema["$ref"]
        if reference in seen:
            raise SchemaError(f"{reference} refers only to itself", "Write the schema that it means.")
        seen.add(reference)
        schema = definitions[target_of(reference)]
    if not isinstance(schema, Mapping):
        raise SchemaError(f"a schema must be an object, not {schema!r}", "See json-schema.org.")
    return schema


def _converted(schema: Any, path: str) -> dict[str, Any]:
    """Return one schema in the API's form. ``path`` is where the schema is, for messages.

    Each step takes the keywords that it converts out of ``rest``. The keywords that are left at
    the end are those without a place in the API's form.
    """
    if not isinstance(schema, Mapping):
        raise SchemaError(f"{path}: a schema must be an object, not {schema!r}", "See json-schema.org.")
    if "$ref" in schema:
        return {"$ref": f"#/$defs/{target_of(schema['$ref'])}"}
    rest = {word: part for word, part in schema.items() if word not in _SILENT}
    kind = rest.pop("type", None)
    result = _take_literals(rest)
    if isinstance(kind, list) and not result:
        rest = _divided_by_type(kind, rest)
    result |= _take_alternatives(rest, path)
    if not result:
        if not kind:
            raise SchemaError(f"{path} does not tell its type, and the API needs one", SUPPORTED_TYPES_HINT)
        result["type"] = kind
    result |= {word: rest.pop(word) for word in ("description", "title") if rest.get(word) is not None}
    result |= _take_keywords_of(result.get("type"), rest, path)
    return _with_rest_described(result, rest)


def _take_literals(rest: dict[str, Any]) -> dict[str, Any]:
    """Take ``enum`` and ``const``, if all their values are plain. They make ``type`` redundant."""
    result: dict[str, Any] = {}
    for word, values in (("enum", rest.get("enum")), ("const", [rest["const"]] if "const" in rest else None)):
        if isinstance(values, list) and values and all(_is_plain(value) for value in values):
            result[word] = rest.pop(word)
    return result


def _is_plain(value: Any) -> bool:
    # JSON has no nan and no infinity.
    return value is None or isinstance(value, (str, int, bool)) or (isinstance(value, float) and math.isfinite(value))


def _divided_by_type(kinds: list[str], rest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords of a schema of several types as alternatives of one type each."""
    limits = {word: part for word, part in rest.items() if word not in _ANNOTATIONS}
    # A limit such as "minimum" says nothing about null.
    alternatives = [{"type": kind} if kind == "null" else {"type": kind, **limits} for kind in kinds]
    return {word: rest[word] for word in _ANNOTATIONS if word in rest} | {"anyOf": alternatives}


def _take_alternatives(rest: dict[str, Any], path: str) -> dict[str, Any]:
    """Take ``anyOf``, ``oneOf`` or ``allOf``. The API has no ``oneOf``, and ``anyOf`` accepts the same answers."""
    any_of, one_of, all_of = (rest.pop(word, None) for word in ("anyOf", "oneOf", "allOf"))
    if choices := any_of or one_of:
        return {"anyOf": [_converted(part, f"{path} (choice {n})") for n, part in enumerate(choices, 1)]}
    return {"allOf": [_converted(part, path) for part in all_of]} if all_of else {}


def _take_keywords_of(kind: str | None, rest: dict[str, Any], path: str) -> dict[str, Any]:
    """Take the keywords that belong to one type. Numbers, booleans and null have none that the API knows."""
    match kind:
        case "object":
            return _take_object(rest, path)
        case "array":
            return _take_array(rest, path)
        case "string" if rest.get("format") in _FORMATS:
            return {"format": rest.pop("format")}
    return {}


def _take_object(rest: dict[str, Any], path: str) -> dict[str, Any]:
    """Take the keywords of an object, and close the object.

    Raises:
        SchemaError: The object has keys of any name. Closed, it could only come back empty.
    """
    additional = rest.pop("additionalProperties", None)
    if "properties" not in rest or additional not in (None, True, False):
        raise SchemaError(
            f"{path} is an object with keys of any name, which the API does not support",
            "Name its fields, or use a list of objects with a key and a value.",
        )
    fields = {name: _converted(part, f"{path}.{name}") for name, part in rest.pop("properties").items()}
    required = {"required": list(rest.pop("required"))} if rest.get("required") is not None else {}
    return {"properties": fields, "additionalProperties": False, **required}


def _take_array(rest: dict[str, Any], path: str) -> dict[str, Any]:
    """Take the keywords of an array.

    The API has no tuples (``prefixItems``). Every item may then have any of the types, and the
    description tells the model the type of each item.
    """
    result: dict[str, Any] = {}
    if rest.get("items") is not None:
        result["items"] = _converted(rest.pop("items"), f"{path}[]")
    elif rest.get("prefixItems"):
        items = [_converted(part, f"{path}[{n}]") for n, part in enumerate(rest["prefixItems"])]
        result["items"] = items[0] if all(item == items[0] for item in items) else {"anyOf": items}
    # Other values are not supported: "at least 2" is a limit, "not empty" is a part of the grammar.
    if rest.get("minItems") in (0, 1):
        result["minItems"] = rest.pop("minItems")
    return result


def _with_rest_described(result: dict[str, Any], rest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema with the keywords that have no place in the API's form as text for the model."""
    if not rest:
        return result
    text = "{" + ", ".join(f"{word}: {value}" for word, value in rest.items()) + "}"
    return {**result, "description": f"{result['description']}\n\n{text}" if "description" in result else text}
