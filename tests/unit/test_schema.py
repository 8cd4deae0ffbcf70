"""Typed answers: from types to schemas, from answers to instances, and reading an unfinished answer."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import typing
from typing import Any, Literal

import anthropic
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbchat.core.errors import InputError, OptionError, ParseError, SchemaError
from nbchat.engine.structured import (
    answer_tool,
    correction,
    instruction,
    output_format,
    table,
)
from nbchat.tools.answer_type import AnswerType
from nbchat.tools.schema import type_name, type_of


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


@dataclasses.dataclass
class Person:
    """Someone."""

    name: str
    age: int
    mood: Mood = Mood.GOOD
    tags: list[str] = dataclasses.field(default_factory=list)
    born: datetime.date | None = None


class Film(pydantic.BaseModel):
    title: str = pydantic.Field(min_length=1, description="as in the cinema")
    year: int = pydantic.Field(ge=1888, le=2100)
    kind: Literal["short", "long"] = "long"
    director: Person | None = None
    link: pydantic.HttpUrl | None = None


class Entry(typing.TypedDict):
    word: str
    count: typing.NotRequired[int]


class Tree(pydantic.BaseModel):
    value: int
    children: list[Tree] = []


class Pair(pydantic.BaseModel):
    both: tuple[int, str]


def schema_of(T: Any) -> dict[str, Any]:
    """Return the schema of a type as the API accepts it."""
    return AnswerType.of(T).schema


def parse_answer(text: str, T: Any) -> Any:
    """Return the instance of a type in the text of an answer."""
    return AnswerType.of(T).parse(text)


# -- types to schemas -----------------------------------------------------------------------------


def _untitled(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _untitled(v) for k, v in value.items() if not (k == "title" and isinstance(v, str))}
    return [_untitled(part) for part in value] if isinstance(value, list) else value


@pytest.mark.parametrize("T", [Person, Film])
def test_the_schema_equals_that_of_the_sdk(T):
    """The SDK's own conversion of pydantic's schema has the same result for classes."""
    theirs = anthropic.transform_schema(pydantic.TypeAdapter(T).json_schema())
    assert _untitled(schema_of(T)) == _untitled(theirs)


def _objects(schema: Any) -> typing.Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield schema
        for part in schema.values():
            yield from _objects(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _objects(part)


@pytest.mark.parametrize("T", [Person, Film, Entry, Tree, Pair, list[Person], list[Entry], Mood, int, Film | Person])
def test_every_schema_has_the_form_that_the_api_accepts(T):
    """An object at the root, every object closed, no keyword of limits left."""
    schema = schema_of(T)
    assert schema["type"] == "object"
    assert all(part["additionalProperties"] is False and "properties" in part for part in _objects(schema))
    text = json.dumps(schema)
    for word in ('"minimum"', '"maximum"', '"default"', '"minLength"', '"oneOf"', '"prefixItems"', '"discriminator"'):
        assert word not in text
    targets = set(__import__("re").findall(r'"\$ref": "#/\$defs/([^"]+)"', text))
    assert targets <= set(schema.get("$defs", {}))


def test_limits_go_into_the_description():
    film = schema_of(Film)["properties"]
    assert film["title"]["description"] == "as in the cinema\n\n{minLength: 1}"
    assert "maximum: 2100" in film["year"]["description"]


def test_a_list_and_a_plain_type_are_wrapped():
    assert schema_of(list[Entry])["properties"]["items"]["items"] == {"$ref": "#/$defs/Entry"}
    assert schema_of(int)["properties"] == {"value": {"type": "integer"}}


def test_a_json_schema_in_a_dict_is_converted_and_not_changed():
    given_schema = {
        "definitions": {"p": {"type": "object", "properties": {"n": {"type": ["integer", "null"], "minimum": 0}}}},
        "type": "array",
        "items": {"$ref": "#/definitions/p"},
    }
    before = json.dumps(given_schema)
    assert schema_of(given_schema) == {
        "type": "object",
        "properties": {"items": {"type": "array", "items": {"$ref": "#/$defs/p"}}},
        "required": ["items"],
        "additionalProperties": False,
        "$defs": {
            "p": {
                "type": "object",
                "properties": {
                    "n": {"anyOf": [{"type": "integer", "description": "{minimum: 0}"}, {"type": "null"}]},
                },
                "additionalProperties": False,
            }
        },
    }
    assert json.dumps(given_schema) == before


class Loose(pydantic.BaseModel):
    counts: dict[str, int]


class Anything(pydantic.BaseModel):
    whatever: Any


@dataclasses.dataclass
class Holder:
    lock: object


@pytest.mark.parametrize(
    ("T", "said"),
    [
        (Loose, "Loose.counts is an object with keys of any name"),
        (Anything, "Anything.whatever does not tell its type"),
        (Holder, "Holder.lock"),
        ({"type": "object"}, "the JSON Schema is an object with keys of any name"),
        ({"$ref": "#/$defs/x"}, "refers to #/$defs/x"),
        ({"type": "object", "properties": {"a": 3}}, "the JSON Schema.a: a schema must be an object"),
    ],
)
def test_an_error_about_a_type_names_the_field(T, said):
    """A dict with keys of any name, closed as the API demands, could only come back empty."""
    with pytest.raises(SchemaError) as caught:
        schema_of(T)
    assert said in caught.value.message
    assert isinstance(caught.value, InputError)


def test_type_of_evaluates_an_expression_in_the_namespace():
    namespace = {"Person": Person, "schema": {"type": "object", "properties": {}}, "bob": Person("Bob", 3)}
    assert type_of("list[Person]", namespace) == list[Person]
    assert type_of("schema", namespace) is namespace["schema"]
    assert type_of("Person | None", namespace) == Person | None
    for expression, said in (
        ("Persn", "Did you mean Person?"),
        ("bob", "a value of type Person"),
        ("list[", "SyntaxError"),
        ("bob.nothing", "AttributeError"),
    ):
        with pytest.raises(OptionError) as caught:
            type_of(expression, namespace)
        assert said in f"{caught.value.message} {caught.value.hint}"


def test_type_names_are_short():
    assert type_name(Person) == "Person"
    assert type_name(list[Person]) == "list[Person]"
    assert type_name({"title": "Order"}) == "Order"


# -- three ways to ask ----------------------------------------------------------------------------


def test_three_ways_to_ask_carry_the_same_schema():
    schema = schema_of(list[Person])
    assert output_format(list[Person]) == {"type": "json_schema", "schema": schema}
    assert answer_tool(list[Person])["input_schema"] == schema
    assert json.loads(instruction(list[Person]).partition("\n")[2]) == schema
    assert "- people.0: missing" in correction(["people.0: missing"])


# -- answers to instances -------------------------------------------------------------------------

ADA = '{"name": "Ada", "age": 36, "mood": "bad", "born": "1815-12-10"}'


@pytest.mark.parametrize(
    "text",
    [
        ADA,
        f"  \n{ADA}\n",
        f"```json\n{ADA}\n```",
        f"```\n{ADA}\n```",
        f"Here it is {{as asked}}:\n\n```python\nx = 1\n```\n```json\n{ADA}\n```\nAnything else?",
        f"Sure! {ADA} Done.",
        f"```json\n{ADA}",
    ],
)
def test_an_answer_becomes_an_instance(text):
    assert parse_answer(text, Person) == Person("Ada", 36, Mood.BAD, [], datetime.date(1815, 12, 10))


def test_a_list_is_read_with_and_without_its_wrapper():
    people = [Person("Ada", 36), Person("Bob", 3)]
    bare = '[{"name": "Ada", "age": 36}, {"name": "Bob", "age": 3}]'
    assert parse_answer(bare, list[Person]) == people
    assert parse_answer(f'{{"items": {bare}}}', list[Person]) == people
    assert parse_answer('{"value": 7}', int) == 7


def test_a_typed_dict_a_model_a_tree_and_a_union():
    assert parse_answer('{"word": "a"}', Entry) == {"word": "a"}
    assert parse_answer('{"value": 1, "children": [{"value": 2}]}', Tree) == Tree(value=1, children=[Tree(value=2)])
    assert parse_answer('{"both": [1, "a"]}', Pair) == Pair(both=(1, "a"))
    assert isinstance(parse_answer('{"value": {"title": "M", "year": 1931}}', Film | Person), Film)


def test_problems_are_listed_with_their_paths():
    with pytest.raises(ParseError) as caught:
        parse_answer('{"items": [{"name": "Ada", "age": "old"}, {"age": 3}]}', list[Person])
    assert caught.value.problems == (
        '0.age: Input should be a valid integer, unable to parse string as an integer (got "old")',
        "1.name: missing",
    )
    assert "0.age" in caught.value.message
    assert "--retry" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "empty"), ("No.", "not JSON"), ('{"name": "Ada", "age"', "not JSON"), ("```json\n{,}\n```", "not JSON")],
)
def test_an_answer_without_json_is_a_problem_too(text, said):
    with pytest.raises(ParseError) as caught:
        parse_answer(text, Person)
    assert said in caught.value.problems[0]


def test_an_incomplete_answer_is_never_read_as_a_complete_one():
    """Every proper prefix of an answer is a ParseError. Otherwise a value could be wrong without an error."""
    for end in range(len(ADA)):
        with pytest.raises(ParseError):
            parse_answer(ADA[:end], Person)


def test_hostile_text_is_read_in_reasonable_time():
    """The search must not be quadratic in the number of braces, and deep nesting must not overflow the stack."""
    for text in ("{" * 200_000, "[" * 200_000, '{"a":' * 100_000, "x{" * 100_000):
        with pytest.raises(ParseError):
            parse_answer(text, Person)


def test_an_answer_is_checked_with_the_limits_of_a_json_schema():
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 1}, "who": {"enum": ["a", "b"]}},
        "required": ["n"],
    }
    assert parse_answer('{"n": 2}', schema) == {"n": 2}
    with pytest.raises(ParseError) as caught:
        parse_answer('{"n": 0, "who": "c"}', schema)
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["n", "who"]
    with pytest.raises(SchemaError, match="not a valid JSON Schema"):
        parse_answer('{"n": 0}', {"type": "object", "properties": {"n": {"type": "number", "minimum": "x"}}})
    listed = {"type": "array", "items": {"type": "integer"}}
    assert parse_answer('{"items": [1, 2]}', listed) == [1, 2]


words = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
people = st.builds(
    Person,
    name=words,
    age=st.integers(),
    mood=st.sampled_from(Mood),
    tags=st.lists(words, max_size=3),
    born=st.none() | st.dates(),
)


@given(st.lists(people, max_size=3), st.booleans(), st.booleans())
@settings(max_examples=60)
def test_instances_survive_the_round_trip_through_json(values, fenced, escaped):
    """The instances are equal, however the model formats the JSON."""
    plain = json.loads(pydantic.TypeAdapter(list[Person]).dump_json(values))
    text = json.dumps({"items": plain}, ensure_ascii=escaped, indent=2)
    assert parse_answer(f"```json\n{text}\n```" if fenced else text, list[Person]) == values


@given(people)
@settings(max_examples=40)
def test_an_instance_fits_the_schema_that_was_sent(value):
    """The schema in the API's form is not narrower than the type."""
    import jsonschema

    plain = json.loads(pydantic.TypeAdapter(Person).dump_json(value))
    jsonschema.validate(plain, schema_of(Person))


# -- as a table -----------------------------------------------------------------------------------


def test_table_has_a_row_for_each():
    import pandas

    frame = table([Person("Ada", 36, Mood.BAD), Person("Bob", 3)])
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == ["name", "age", "mood", "tags", "born"]
    assert frame["mood"].tolist() == ["bad", "good"]
    assert frame["age"].dtype.kind == "i"
    assert table([{"word": "a", "count": 1}])["count"].tolist() == [1]
    assert table(Film(title="M", year=1931)).shape == (1, 5)
    assert table([1, 2])["value"].tolist() == [1, 2]
    assert table([]).empty


class Unshowable:
    """A value whose own code fails."""

    def __repr__(self) -> str:
        raise ZeroDivisionError("in the code of the user")


@pytest.mark.parametrize(
    "schema",
    [10**5000, [10**5000], Unshowable(), {"enum": [10**5000]}, float("nan"), list[10**5000]],  # type: ignore[misc]
    ids=["digits", "digits in a list", "no repr", "digits in a schema", "nan", "a list of digits"],
)
def test_a_value_that_is_no_type_and_cannot_be_shown_is_a_schema_error(schema: Any):
    """An error of pydantic or of the user's own code never comes out bare."""
    with pytest.raises(InputError) as caught:
        AnswerType.of(schema)
    assert len(str(caught.value)) < 1_500
