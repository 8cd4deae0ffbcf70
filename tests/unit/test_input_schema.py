"""Schemas of the input of tools, in the form that the API accepts, and references in schemas of every kind."""

from __future__ import annotations

import json
import math
import re
from typing import Annotated, Any

import jsonschema
import pydantic
import pytest
from pydantic import Field

from nbchat.context.tool_results import tool_content
from nbchat.core.errors import SchemaError
from nbchat.engine.structured import answer_tool
from nbchat.tools.answer_type import AnswerType
from nbchat.tools.functions import FunctionTool
from nbchat.tools.input_schema import InputSchema
from nbchat.tools.toolbox import wire_name

TEXT = {"type": "string"}


class Box(pydantic.BaseModel):
    größe: int
    weight: float = math.nan
    inside: list[Box] = []


def tool(function: Any, name: str = "f") -> FunctionTool:
    return FunctionTool(function, name, tool_content)


def accepted(schema: Any) -> dict[str, Any]:
    """Return the schema if the API accepts it as the input of a tool."""
    jsonschema.Draft202012Validator.check_schema(schema)
    json.dumps(schema, allow_nan=False)
    assert schema["type"] == "object"
    assert not {"anyOf", "oneOf", "allOf", "$ref"} & schema.keys()
    keys = re.findall(r'"properties": (\{.*?\})', json.dumps(schema))
    assert keys
    return schema


# Functions


def test_defaults_that_json_does_not_have_are_not_sent_and_still_used() -> None:
    def f(
        low: float = -math.inf, high: float = math.inf, start: float = math.nan, steps: tuple[float, ...] = (math.inf,)
    ) -> Any:
        return [low, high, start, steps]

    schema = accepted(tool(f).definition()["input_schema"])
    assert all("default" not in part for part in schema["properties"].values())
    low, high, start, steps = tool(f).call({"low": 1}).value
    assert (low, high, steps) == (1, math.inf, (math.inf,))
    assert math.isnan(start)


def test_defaults_and_limits_inside_a_type_too() -> None:
    def f(box: Box, x: Annotated[float, Field(le=math.inf, ge=0)], y: float = 2.5) -> Any:
        return box

    schema = accepted(tool(f).definition()["input_schema"])
    assert "default" not in schema["$defs"]["Box"]["properties"]["weight"]
    assert schema["properties"]["x"] == {"type": "number", "minimum": 0}
    assert schema["properties"]["y"]["default"] == 2.5


def test_an_alias_is_the_name_that_the_model_sees() -> None:
    def f(
        query: Annotated[str, Field(alias="q", description="what to find")],
        limit: Annotated[int, Field(validation_alias="max")] = 3,
        kind: str = Field("all", alias="type"),
        plain: int = 0,
    ) -> Any:
        """Find.

        Args:
            query: not this text
            limit: how many
        """
        return [query, limit, kind, plain]

    schema = accepted(tool(f).definition()["input_schema"])
    assert list(schema["properties"]) == ["q", "max", "type", "plain"]
    assert schema["required"] == ["q"]
    assert schema["properties"]["q"]["description"] == "what to find"
    assert schema["properties"]["max"] == {"type": "integer", "default": 3, "description": "how many"}
    assert tool(f).call({"q": "a", "max": 5, "type": "x", "plain": 1}).value == ["a", 5, "x", 1]
    assert tool(f).call({"q": "a"}).value == ["a", 3, "all", 0]
    assert tool(f).call({"query": "a"}).text.splitlines()[1:] == ["q: missing", "query: there is no such parameter"]


def test_two_parameters_with_one_alias_are_an_error() -> None:
    def f(a: Annotated[str, Field(alias="q")], b: Annotated[str, Field(alias="q")]) -> None: ...

    with pytest.raises(SchemaError, match="parameters a and b have the same name q"):
        tool(f)


def test_parameters_and_fields_in_any_script_are_mapped_back() -> None:
    def f(box: Box, 城市: str, value: Annotated[int, Field(alias="$top")] = 1, **rest: int) -> Any:
        return [box.größe, box.inside[0].größe, 城市, value, rest]

    schema = accepted(tool(f).definition()["input_schema"])
    _, city, top = schema["properties"]
    assert schema["required"] == ["box", city]
    assert schema["properties"][city]["description"] == "城市"
    size = next(key for key in schema["$defs"]["Box"]["properties"] if key.startswith("gr_"))
    for key in (city, top, size):
        assert re.fullmatch(r"[a-zA-Z0-9_.-]{1,64}", key)
    arguments = {"box": {size: 1, "inside": [{size: 2}]}, city: "Rom", top: 4, "free": 5}
    assert tool(f).call(arguments).value == [1, 2, "Rom", 4, {"free": 5}]
    assert tool(f).read_arguments(arguments)["城市"] == "Rom"


def test_a_schema_that_the_api_accepts_is_not_changed() -> None:
    def f(city: str, days: int = 3) -> None: ...

    schema = {
        "properties": {"city": TEXT, "days": {"type": "integer", "default": 3}},
        "type": "object",
        "required": ["city"],
        "additionalProperties": False,
    }
    assert tool(f).definition()["input_schema"] == schema
    full = {
        **schema,
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "definitions": {"a": {"type": "object", "properties": {"a": {"$ref": "#/definitions/a"}}}},
        "properties": {
            "a": {"$ref": "#/definitions/a", "description": "An a."},
            "b": {"anyOf": [TEXT, {"type": "null"}]},
        },
        "required": ["a"],
        "if": {"properties": {"b": {"const": "x"}}},
        "then": {"required": ["b"]},
    }
    assert InputSchema.of(full, "x").schema == full


# Any JSON Schema


@pytest.mark.parametrize(
    ("schema", "properties", "required"),
    [
        ({"anyOf": [{"required": ["a"]}, {"required": ["b"]}], "properties": {"a": TEXT, "b": TEXT}}, "ab", ""),
        ({"anyOf": [{"properties": {"a": TEXT, "b": TEXT}, "required": ["a"]}, {"required": ["a", "b"]}]}, "ab", "a"),
        ({"oneOf": [{"type": "object", "properties": {"a": TEXT}}, {"type": "null"}]}, "a", ""),
        ({"allOf": [{"properties": {"a": TEXT}, "required": ["a"]}, {"properties": {"b": TEXT}}]}, "ab", "a"),
        (
            {"allOf": [{"anyOf": [{"properties": {"a": TEXT}}, {"properties": {"b": TEXT}}]}, {"required": ["a"]}]},
            "ab",
            "a",
        ),
        ({"$ref": "#/$defs/x", "$defs": {"x": {"type": "object", "properties": {"a": TEXT}}}}, "a", ""),
        ({"$ref": "#/$defs/x", "$defs": {"x": {"$ref": "#/$defs/y"}, "y": {"properties": {"a": TEXT}}}}, "a", ""),
        ({"type": ["object", "null"], "properties": {"a": TEXT}}, "a", ""),
        ({}, "", ""),
    ],
)
def test_the_root_becomes_one_object(schema: dict[str, Any], properties: str, required: str) -> None:
    before = json.dumps(schema)
    result = accepted({**InputSchema.of(schema, "x").schema})
    assert "".join(result["properties"]) == properties
    assert "".join(result.get("required", [])) == required
    assert json.dumps(schema) == before


def test_alternatives_keep_their_constants_and_are_described() -> None:
    choices = [
        {"type": "object", "properties": {"kind": {"const": kind}, kind: TEXT}, "required": ["kind", kind]}
        for kind in ("x", "y", "z")
    ]
    schema = accepted(InputSchema.of({"oneOf": choices, "description": "A shape."}, "x").schema)
    assert schema["properties"]["kind"] == {"anyOf": [{"const": "x"}, {"const": "y"}, {"const": "z"}]}
    assert schema["required"] == ["kind"]
    assert schema["description"] == f"A shape.\n\nThe input must fit exactly one of {json.dumps(choices)}"


def test_forms_of_older_drafts_become_those_of_today() -> None:
    old = {
        "type": "object",
        "properties": {
            "pair": {"type": "array", "items": [TEXT, {"type": "integer"}], "additionalItems": False},
            "n": {"type": "number", "minimum": 0, "exclusiveMinimum": True, "required": True},
            "m": {"type": "number", "maximum": 9, "exclusiveMaximum": False},
            "any": {"type": "any"},
        },
    }
    assert accepted(InputSchema.of(old, "x").schema)["properties"] == {
        "pair": {"type": "array", "prefixItems": [TEXT, {"type": "integer"}], "items": False},
        "n": {"type": "number", "exclusiveMinimum": 0},
        "m": {"type": "number", "maximum": 9},
        "any": {},
    }


@pytest.mark.parametrize("kind", ["array", "string", ["array", "null"]])
def test_an_input_that_is_not_an_object_is_an_error(kind: Any) -> None:
    with pytest.raises(SchemaError, match=r"^x is of type .*, and the input of a tool is an object"):
        InputSchema.of({"type": kind}, "x")


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": {}}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({"properties": {"a": {"$ref": "#/$defs/Gone"}}}, "refers to #/$defs/Gone, which it does not define"),
        ({"properties": {"a": {"$ref": "#/properties/b"}}}, "refers to #/properties/b, which"),
        ({"properties": {"a": {"$ref": "#/properties/a/items/3"}}}, "refers to #/properties/a/items/3, which"),
        ({"properties": {"a": {"$ref": "#gone"}}}, "refers to #gone, which"),
        ({"properties": {"a": {"$ref": "https://example.org/a.json"}}}, "refers to https://example.org/a.json, which"),
        ({"properties": {"a": {"$ref": "definitions.json#/a"}}}, "refers to definitions.json#/a, which"),
        ({"properties": {"a": {"$ref": 3}}}, "has a $ref that is not text: 3"),
        ({"$defs": [], "properties": {}}, "has $defs that are not an object: []"),
        (deep(2_000), "is nested too deeply"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_reference_that_leads_nowhere_is_an_error(schema: dict[str, Any], problem: str) -> None:
    for make in (InputSchema.of, lambda schema, name: AnswerType.of({**schema, "type": "object", "title": name})):
        with pytest.raises(SchemaError) as caught:
            make(schema, "x")
        assert problem in caught.value.message or "is not JSON" in caught.value.message


REFERENCES = [
    ({"properties": {"a": {"$ref": "#"}, "b": TEXT}}, {"a": {"a": {"b": "x"}}}, {"a": {"b": 3}}),
    ({"properties": {"a": TEXT, "b": {"$ref": "#/properties/a"}}}, {"b": "x"}, {"b": 3}),
    ({"properties": {"p": {"$defs": {"X": TEXT}, "$ref": "#/properties/p/$defs/X"}}}, {"p": "x"}, {"p": 3}),
    (
        # The schema of a pydantic model, put into a property: its references mean its own definitions.
        {"properties": {"p": {"type": "object", "properties": {"x": {"$ref": "#/$defs/X"}}, "$defs": {"X": TEXT}}}},
        {"p": {"x": "x"}},
        {"p": {"x": 3}},
    ),
    (
        {
            "properties": {
                "p": {"type": "object", "properties": {"x": {"$ref": "#/$defs/X"}}, "$defs": {"X": TEXT}},
                "q": {
                    "type": "object",
                    "properties": {"x": {"$ref": "#/$defs/X"}},
                    "$defs": {"X": {"type": "integer"}},
                },
            }
        },
        {"p": {"x": "x"}, "q": {"x": 3}},
        {"p": {"x": "x"}, "q": {"x": "x"}},
    ),
    ({"properties": {"a": {"$anchor": "text", **TEXT}, "b": {"$ref": "#text"}}}, {"b": "x"}, {"b": 3}),
    ({"properties": {"a/b ~c": TEXT, "b": {"$ref": "#/properties/a~1b%20~0c"}}}, {"b": "x"}, {"b": 3}),
    (
        {"properties": {"a": {"type": "array", "items": TEXT}, "b": {"$ref": "#/properties/a/items"}}},
        {"b": "x"},
        {"b": 3},
    ),
    (
        {"properties": {"a": {"anyOf": [{"type": "null"}, TEXT]}, "b": {"$ref": "#/properties/a/anyOf/1"}}},
        {"b": "x"},
        {"b": None},
    ),
    ({"properties": {"a": {"$ref": "#/definitions/X"}}, "$defs": {"X": TEXT}}, {"a": "x"}, {"a": 3}),
    ({"properties": {"$ref": TEXT, "a": {"$ref": "#/properties/$ref"}}}, {"$ref": "x", "a": "x"}, {"a": 3}),
]


@pytest.mark.parametrize(("schema", "good", "bad"), REFERENCES, ids=lambda value: json.dumps(value)[:60])
def test_references_of_every_kind_work(schema: dict[str, Any], good: Any, bad: Any) -> None:
    schema = {"type": "object", **schema}
    before = json.dumps(schema)
    sent = InputSchema.of(schema, "x")
    assert jsonschema.Draft202012Validator(accepted(sent.schema)).is_valid(good) or sent.names
    assert not jsonschema.Draft202012Validator(sent.schema).is_valid(bad) or sent.names
    answer = AnswerType.of(schema)
    targets = set(re.findall(r'"\$ref": "#/\$defs/([^"]+)"', json.dumps(answer.schema)))
    assert targets
    assert targets <= set(answer.schema["$defs"])
    assert answer.parse(json.dumps(good)) == good
    with pytest.raises(Exception, match="does not fit"):
        answer.parse(json.dumps(bad))
    assert json.dumps(schema) == before


@pytest.mark.parametrize(
    "schema",
    [{"$ref": "#"}, {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}}],
)
def test_a_reference_only_to_itself_is_an_error(schema: dict[str, Any]) -> None:
    with pytest.raises(SchemaError, match="refers only to itself"):
        AnswerType.of(schema)


def test_the_answer_in_a_forced_tool_has_names_that_the_api_accepts() -> None:
    class Room(pydantic.BaseModel):
        größe: int
        raum: str = Field(alias="$raum")

    assert list(AnswerType.of(Room).schema["properties"]) == ["größe", "$raum"]
    size, room = accepted(answer_tool(Room)["input_schema"])["properties"]
    assert AnswerType.of(Room).parse(json.dumps({size: 3, room: "Bad"})).größe == 3
    assert AnswerType.of(Room).parse('{"größe": 3, "$raum": "Bad"}').raum == "Bad"


@pytest.mark.parametrize("malformed", [{"properties": []}, {"properties": {"a": {"type": "object", "properties": 3}}}])
def test_a_malformed_schema_is_an_error_before_sending(malformed: dict[str, Any]) -> None:
    with pytest.raises(SchemaError):
        AnswerType.of({"type": "object", **malformed})


def test_names_of_tools_stay_apart_and_in_the_pattern() -> None:
    names = ["天气", "汇率", "größe", "grüße", "files.天气", "🙂", "\ud800", "é" * 90]
    wired = [wire_name(name) for name in names]
    assert len(set(wired)) == len(names)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in wired)
    assert wire_name("files.read me") == "files__read_me"
    assert wire_name("files.read me", apart=True) != "files__read_me"
    assert tool(lambda: 1, "天气").definition()["description"] == "天气"
