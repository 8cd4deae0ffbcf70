"""Types to JSON Schema: of the arguments of tools, and of structured answers.

It stands with the tools because both are one arithmetic: a type becomes a schema that the model
reads, and the JSON that comes back becomes an instance or a list of problems that say where. The
work is pydantic's, which the SDK brings along (its ``beta_tool`` and ``transform_schema`` are made
of it too); a test holds the results against the SDK's. Answers are read in
:mod:`~nbchat.engine.structured`.

The form the API takes: https://platform.claude.com/docs/en/build-with-claude/structured-outputs
"""

from __future__ import annotations

import builtins
import functools
import json
import re
import sys
import types
import typing
from collections.abc import Mapping
from typing import Any

from nbchat.core.errors import OptionError, SchemaError, nearest

__all__ = [
    "adapter_of",
    "json_schema",
    "modern",
    "problems_of",
    "schema_from",
    "schema_of",
    "type_name",
    "type_of",
    "wrapper_of",
]

#: https://platform.claude.com/docs/en/build-with-claude/structured-outputs#json-schema-limitations
_FORMATS = frozenset(["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"])


def type_of(expression: str, namespace: Mapping[str, Any]) -> Any:
    """The type or JSON Schema that ``--schema EXPRESSION`` means, such as ``Person`` or ``list[Person]``.

    Raises:
        OptionError: the expression cannot be evaluated, or is neither.
    """
    try:
        found = eval(expression, {**vars(builtins), **namespace})
    except NameError as error:
        hint = nearest(error.name or "", (name for name in namespace if not name.startswith("_")))
        raise OptionError(f"--schema {expression}: {error}", hint or "Define it in a cell above.") from None
    except Exception as error:
        raise OptionError(f"--schema {expression}: {type(error).__name__}: {error}", "Give a type's name.") from None
    if isinstance(found, (type, Mapping)) or typing.get_origin(found) is not None:
        return found
    raise OptionError(
        f"--schema {expression}: this is a value of type {type(found).__name__}, not a type",
        "Give a pydantic model, a dataclass, a TypedDict, list[…] of one, or a dict with a JSON Schema.",
    )


def type_name(T: Any) -> str:
    """How a message names a type."""
    if isinstance(T, Mapping):
        return str(T.get("title") or "the JSON Schema")
    if isinstance(T, type) and not typing.get_args(T):
        return T.__name__
    return re.sub(r"\b(?:\w+\.)+(?=\w)", "", str(T))


def adapter_of(T: Any, name: str = "") -> Any:
    """pydantic's TypeAdapter for a type; ``name`` is what the message calls it.

    Raises:
        SchemaError: the type has no JSON form.
    """
    import pydantic

    try:
        adapter = pydantic.TypeAdapter(modern(T))
        schema_from(adapter)
    except (pydantic.errors.PydanticUserError, pydantic.errors.PydanticUndefinedAnnotation) as error:
        raise SchemaError(f"{name or type_name(T)} has no JSON form: {_first_line(error)}", _HINT) from None
    except (NameError, TypeError, AttributeError) as error:
        raise SchemaError(f"{name or type_name(T)} cannot be read as a type: {_first_line(error)}", _HINT) from None
    return adapter


_HINT = "Use str, int, float, bool, Literal, an Enum, list, dict, a dataclass, a TypedDict or a pydantic model."


def _first_line(error: BaseException) -> str:
    """What is wrong, without pydantic's advice to its own users."""
    return re.sub(r" Set `arbitrary_types_allowed.*", "", str(error).strip().split("\n")[0])


@functools.cache
def _generator() -> type:
    """pydantic's generator without the title it makes of each field's name: they cost tokens and say nothing."""
    from pydantic.json_schema import GenerateJsonSchema

    class Untitled(GenerateJsonSchema):
        def field_title_should_be_set(self, schema: Any) -> bool:
            return False

    return Untitled


def modern(T: Any) -> Any:
    """``T`` with every ``typing.TypedDict`` as one of typing_extensions, which pydantic wants before Python 3.12."""
    if sys.version_info >= (3, 12):
        return T
    if typing.is_typeddict(T) and type(T).__module__ == "typing":
        return _modern_typed_dict(T)
    arguments = typing.get_args(T)
    changed = tuple(modern(argument) for argument in arguments)
    if changed == arguments or typing.get_origin(T) is typing.Literal:
        return T
    if isinstance(T, types.UnionType):
        return functools.reduce(lambda one, other: one | other, changed)
    if typing.get_origin(T) is typing.Annotated:
        return typing.Annotated[(changed[0], *T.__metadata__)]
    return T.copy_with(changed) if hasattr(T, "copy_with") else typing.get_origin(T)[changed]


def _modern_typed_dict(T: Any) -> Any:
    import typing_extensions

    hints = {key: modern(hint) for key, hint in typing_extensions.get_type_hints(T, include_extras=True).items()}
    marked = {
        key: hint if key in T.__required_keys__ else typing_extensions.NotRequired[hint] for key, hint in hints.items()
    }
    made = typing_extensions.TypedDict(T.__name__, marked)  # type: ignore[operator,misc]
    made.__doc__, made.__module__ = T.__doc__, T.__module__
    return made


def json_schema(T: Any, name: str = "") -> dict[str, Any]:
    """The JSON Schema of a type as pydantic has it; a dict is one already.

    Raises:
        SchemaError: the type has no JSON form.
    """
    if isinstance(T, Mapping):
        return json.loads(json.dumps(T))
    return schema_from(adapter_of(T, name))


def schema_from(adapter: Any) -> dict[str, Any]:
    """The JSON Schema of a TypeAdapter, without titles of fields."""
    return adapter.json_schema(schema_generator=_generator())


def schema_of(T: Any) -> dict[str, Any]:
    """The schema the API takes for answers of type ``T``.

    Objects are closed, keywords the API does not know go into the description, and the root is an
    object: a ``list[T]`` becomes its ``items``, any other plain value its ``value``.

    Raises:
        SchemaError: the type has no JSON Schema, or none the API takes; it names the field.
    """
    raw = json_schema(T)
    key = wrapper_of(raw)
    defs = _definitions(raw)
    raw = {word: part for word, part in raw.items() if word not in ("definitions", "$defs")}
    if key:
        raw = {"type": "object", "properties": {key: raw}, "required": [key]}
    elif "$ref" in raw:
        raw = dict(defs[_target(raw["$ref"])])
    legal = _legal(raw, type_name(T))
    if defs:
        legal["$defs"] = {name: _legal(part, name) for name, part in defs.items()}
    return legal


def _target(ref: str) -> str:
    return ref.rpartition("/")[2]


def _definitions(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {**raw.get("definitions", {}), **raw.get("$defs", {})}


def wrapper_of(raw: Mapping[str, Any]) -> str:
    """The key under which a root that is no object goes; "" for an object."""
    defs, seen = _definitions(raw), set()
    while "$ref" in raw and raw["$ref"] not in seen:
        seen.add(raw["$ref"])
        if _target(raw["$ref"]) not in defs:
            raise SchemaError(f"the schema refers to {raw['$ref']}, which it does not define", "Put it into $defs.")
        raw = defs[_target(raw["$ref"])]
    if raw.get("type") == "object":
        return ""
    return "items" if raw.get("type") == "array" else "value"


def _legal(raw: Mapping[str, Any], where: str) -> dict[str, Any]:
    """One schema in the API's form. ``where`` is its path, for messages."""
    if not isinstance(raw, Mapping):
        raise SchemaError(f"{where}: a schema must be an object, not {raw!r}", "See json-schema.org.")
    rest = dict(raw)
    if "$ref" in rest:
        return {"$ref": f"#/$defs/{_target(rest['$ref'])}"}
    rest.pop("discriminator", None)
    rest.pop("$schema", None)
    kind = rest.pop("type", None)
    made: dict[str, Any] = {}
    for word in ("enum", "const"):
        values = rest.get(word, ()) if word == "enum" else [rest[word]] if word in rest else ()
        if values and all(value is None or isinstance(value, (str, int, float, bool)) for value in values):
            made[word] = rest.pop(word)
    if isinstance(kind, list) and not made:
        rest["anyOf"] = [_of_type(rest, one) for one in kind]
        rest = {word: rest[word] for word in (*_SAID, "anyOf") if word in rest}
    variants = [rest.pop(word, None) for word in ("anyOf", "oneOf", "allOf")]
    if variants[0] or variants[1]:
        made["anyOf"] = [_legal(one, f"{where} (choice {n})") for n, one in enumerate(variants[0] or variants[1], 1)]
    elif variants[2]:
        made["allOf"] = [_legal(one, where) for one in variants[2]]
    elif not made:
        if kind is None:
            raise SchemaError(f"{where} says nothing about its type, and the API wants one", _HINT)
        made["type"] = kind
    for word in ("description", "title"):
        if rest.get(word) is not None:
            made[word] = rest.pop(word)
    if made.get("type") == "object":
        made |= _legal_object(rest, where)
    elif made.get("type") == "array":
        made |= _legal_array(rest, where)
    elif made.get("type") == "string" and rest.get("format") in _FORMATS:
        made["format"] = rest.pop("format")
    if rest:
        said = "{" + ", ".join(f"{word}: {value}" for word, value in rest.items()) + "}"
        made["description"] = f"{made['description']}\n\n{said}" if "description" in made else said
    return made


_SAID = ("description", "title", "default")


def _of_type(rest: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The part of a schema of several types that speaks of one of them."""
    return {"type": kind} | ({} if kind == "null" else {word: rest[word] for word in rest if word not in _SAID})


def _legal_object(rest: dict[str, Any], where: str) -> dict[str, Any]:
    more = rest.pop("additionalProperties", None)
    if "properties" not in rest or more not in (None, True, False):
        raise SchemaError(
            f"{where} is an object with keys of any name, which the API cannot be asked for",
            "Name its fields, or use a list of objects with a key and a value.",
        )
    fields = {name: _legal(part, f"{where}.{name}") for name, part in rest.pop("properties").items()}
    required = {"required": list(rest.pop("required"))} if rest.get("required") is not None else {}
    return {"properties": fields, "additionalProperties": False, **required}


def _legal_array(rest: dict[str, Any], where: str) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if rest.get("items") is not None:
        made["items"] = _legal(rest.pop("items"), f"{where}[]")
    elif rest.get("prefixItems"):
        places = [_legal(part, f"{where}[{n}]") for n, part in enumerate(rest["prefixItems"])]
        made["items"] = places[0] if all(place == places[0] for place in places) else {"anyOf": places}
    if rest.get("minItems") in (0, 1):
        made["minItems"] = rest.pop("minItems")
    return made


def problems_of(error: Any, root: str = "") -> tuple[str, ...]:
    """What a pydantic ValidationError says, a line for each place: ``people.0.age: … (got "x")``."""
    return tuple(_problem(detail, root) for detail in error.errors(include_url=False, include_context=False))


def _problem(detail: Mapping[str, Any], root: str) -> str:
    steps = [root] if root else []
    place = ".".join([*steps, *(str(step) for step in detail["loc"])]) or "the answer"
    if detail["type"] == "missing":
        return f"{place}: missing"
    if detail["type"] == "extra_forbidden":
        return f"{place}: there is no such field"
    return f"{place}: {detail['msg']} (got {_brief(detail['input'])})"


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 60 else f"{text[:57]}..."
