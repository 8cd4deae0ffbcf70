"""Tests of typed answers of a session: the three methods, parsing, the second attempt, and the table."""

from __future__ import annotations

import copy
import dataclasses
import enum
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any, TypedDict

import pytest
from pydantic import BaseModel, TypeAdapter

from nbchat import Response, ScriptedTransport, Session
from nbchat.core.errors import InputError, OptionError, ParseError, RefusedError, SchemaError, TruncatedError
from nbchat.engine.structured import ForcedAnswer, table
from nbchat.view.html.typed_table import MAX_ROWS, TypedTable, render_value


@dataclasses.dataclass
class City:
    name: str
    people: int


class Dog(BaseModel):
    name: str
    age: int


class Point(TypedDict):
    x: float
    y: float


GOOD = '{"items": [{"name": "Bonn", "people": 331000}, {"name": "Kiel", "people": 248000}]}'
BAD = '{"items": [{"name": "Bonn", "people": "many"}]}'
CITIES = [City("Bonn", 331_000), City("Kiel", 248_000)]
WAYS = ("format", "tool", "words")


def scripted(way: str, *texts: Any) -> ScriptedTransport:
    """Return an endpoint that uses one of the three methods, with its answers in that form."""
    answers = [{"tool": "answer", "input": json.loads(text)} if way == "tool" else text for text in texts]
    transport = ScriptedTransport(*answers)
    transport.structured = way  # type: ignore[attr-defined]
    return transport


@pytest.mark.parametrize("way", WAYS)
def test_one_answer_by_three_methods(way: str):
    """Each method leads to the same Response: an instance, the JSON as text, and an ordinary turn."""
    transport = scripted(way, GOOD)
    response = Session(transport).ask("Two cities.", schema=list[City])
    assert response.parsed == CITIES
    assert response.text.replace(" ", "") == GOOD.replace(" ", "")
    assert response.status == "complete"
    assert response.stop_reason == "end_turn"
    assert response.tool_calls == ()
    assert [one.role for one in response.messages] == ["user", "assistant"]
    body = transport.requests[0].body()
    assert ("output_config" in body) is (way == "format")
    assert (body.get("tool_choice") == {"type": "tool", "name": "answer"}) is (way == "tool")
    assert ("JSON Schema" in str(body["messages"][-1])) is (way == "words")
    assert response.prompt == "Two cities.", "what the endpoint is told beside it is not the user's prompt"


@pytest.mark.parametrize("way", WAYS)
def test_the_turn_is_history_like_any_other(way: str):
    """The next request contains the question and the JSON of its answer."""
    transport = scripted(way, GOOD, GOOD)
    session = Session(transport)
    session.ask("Two cities.", schema=list[City])
    session.ask("Two more.", schema=list[City])
    before = transport.requests[1].messages[:2]
    assert [one.role for one in before] == ["user", "assistant"]
    assert before[0].text == "Two cities."
    assert '"Bonn"' in before[1].text


@pytest.mark.parametrize(
    ("T", "text", "value"),
    [
        (Dog, '{"name": "Rex", "age": 3}', Dog(name="Rex", age=3)),
        (City, '{"name": "Bonn", "people": 1}', City("Bonn", 1)),
        (Point, '{"x": 1, "y": 2.5}', {"x": 1.0, "y": 2.5}),
        (list[Dog], '{"items": [{"name": "Rex", "age": 3}]}', [Dog(name="Rex", age=3)]),
        (int, '{"value": 7}', 7),
        (
            {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
            '{"a": 1}',
            {"a": 1},
        ),
    ],
    ids=["pydantic", "dataclass", "TypedDict", "list", "int", "JSON Schema"],
)
def test_every_kind_of_type(T: Any, text: str, value: Any):
    """``parsed`` is an instance of the type that was asked for."""
    assert Session(ScriptedTransport(text)).ask("go", schema=T).parsed == value


def test_the_type_is_found_by_its_name_in_the_namespace():
    """``--schema list[City]`` works, and an unknown name raises an error before anything is sent."""
    transport = ScriptedTransport(GOOD)
    session = Session(transport)
    assert session.ask("go", schema="list[City]", namespace={"City": City}).parsed == CITIES
    with pytest.raises(OptionError, match="Did you mean City"):
        session.ask("go", schema="list[Citty]", namespace={"City": City})
    with pytest.raises(SchemaError):
        session.ask("go", schema=dict[str, int])
    assert len(transport.requests) == 1


def test_a_json_schema_that_cannot_be_checked_is_refused_before_sending(monkeypatch: pytest.MonkeyPatch):
    """A schema that cannot be checked is refused before sending, because an answer would cost money and be useless."""
    transport = ScriptedTransport("{}")
    limit = {"type": "object", "properties": {"n": {"type": "number", "minimum": "x"}}}
    with pytest.raises(SchemaError, match="not a valid JSON Schema"):
        Session(transport).ask("go", schema=limit)
    with pytest.raises(SchemaError, match="is not JSON"):
        Session(transport).ask("go", schema={"type": "object", "properties": {"n": {"type": int}}})
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    with pytest.raises(InputError, match="jsonschema") as caught:
        Session(transport).ask("go", schema={"type": "object", "properties": {}})
    assert "pip install jsonschema" in caught.value.hint
    assert transport.requests == []


def test_the_schema_is_computed_once_for_a_request_and_its_answer(monkeypatch: pytest.MonkeyPatch):
    """The schema is computed once for asking, parsing and asking again, because pydantic takes milliseconds."""
    computed = []
    schema = TypeAdapter.json_schema
    monkeypatch.setattr(TypeAdapter, "json_schema", lambda *args, **more: computed.append(1) or schema(*args, **more))
    assert Session(ScriptedTransport(BAD, GOOD)).ask("go", schema=list[City], retry=True).parsed == CITIES
    assert len(computed) == 1


# -- wrong answers --------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_a_mismatch_is_a_parse_error_with_the_problems_and_the_text(way: str):
    """The cell fails, but the Response with the text of the answer is available."""
    session = Session(scripted(way, BAD))
    with pytest.raises(ParseError) as caught:
        session.ask("go", schema=list[City])
    assert any(problem.startswith("0.people") for problem in caught.value.problems)
    assert caught.value.response is session.last
    assert '"many"' in caught.value.response.text
    assert not caught.value.response.parsed


@pytest.mark.parametrize(
    "use",
    [
        lambda response: response.parsed[0],
        lambda response: list(response.parsed),
        lambda response: len(response.parsed),
        lambda response: response.parsed.name,
        lambda response: response.parsed["name"],
        lambda response: "Bonn" in response.parsed,
        lambda response: response.table(),
    ],
)
@pytest.mark.parametrize("reload", [False, True])
def test_any_use_of_an_answer_that_did_not_fit_says_what_did_not_fit(use: Any, reload: bool):
    """The error lists the problems, also for a Response that was saved and loaded."""
    session = Session(ScriptedTransport(BAD))
    with pytest.raises(ParseError) as first:
        session.ask("go", schema=list[City])
    response = session.last
    if reload:
        response = Response.from_dict(json.loads(json.dumps(response.to_dict())))
    assert not response.parsed
    assert copy.deepcopy(response) == pickle.loads(pickle.dumps(response)) == response
    with pytest.raises(ParseError) as caught:
        use(response)
    assert caught.value.problems == first.value.problems
    assert "0.people" in str(caught.value)


def test_an_answer_that_did_not_fit_is_shown_as_code():
    """Markdown would show the JSON as prose. Prose instead of JSON stays prose."""
    session = Session(ScriptedTransport(BAD, "Sorry, **no** ```` cities.", '["```json", 1]'))
    shown = []
    for _ in range(3):
        with pytest.raises(ParseError):
            session.ask("go", schema=list[City])
        shown.append(session.last._repr_mimebundle_()["text/html"])
    assert "<pre" in shown[0]
    assert "<strong>no</strong>" in shown[1]
    assert "<pre" in shown[2]


def test_a_truncated_answer_has_no_value_either():
    """The error of a use says that the answer ended at a limit."""
    message = {
        "type": "message", "id": "m", "role": "assistant", "model": "scripted", "stop_reason": "max_tokens",
        "content": [{"type": "text", "text": GOOD[:20]}],
    }  # fmt: skip
    session = Session(ScriptedTransport(message))
    with pytest.raises(TruncatedError):
        session.ask("go", schema=list[City])
    with pytest.raises(ParseError, match="ended at a limit"):
        session.last.parsed[0]


@pytest.mark.parametrize("way", WAYS)
def test_retry_asks_once_more_with_the_problems(way: str):
    """The second request contains the first answer and its problems. The turn keeps only the second answer."""
    transport = scripted(way, BAD, GOOD)
    session = Session(transport)
    response = session.ask("go", schema=list[City], retry=True)
    assert response.parsed == CITIES
    assert '"many"' not in response.text
    first, second = transport.requests
    assert second.messages[: len(first.messages)] == first.messages
    bad, problems = second.messages[len(first.messages) :]
    assert (bad.role, problems.role) == ("assistant", "user")
    assert "0.people" in problems.text
    assert second.tools == first.tools
    assert second.params == first.params
    assert response.usage.total_tokens == sum(row.usage.total_tokens for row in session.accounting.run)
    assert len(session.conversation("main").history(None)) == 2


def test_a_retry_happens_once():
    """A second mismatch is a ParseError, and nothing more is sent."""
    transport = scripted("format", BAD, BAD, GOOD)
    with pytest.raises(ParseError):
        Session(transport).ask("go", schema=list[City], retry=True)
    assert len(transport.requests) == 2


def test_a_truncated_answer_is_not_asked_for_again():
    """It would be truncated again, because the limit is the same."""
    message = {
        "type": "message", "id": "m", "role": "assistant", "model": "scripted", "stop_reason": "max_tokens",
        "content": [{"type": "text", "text": GOOD[:30]}], "usage": {"input_tokens": 1, "output_tokens": 1},
    }  # fmt: skip
    transport = ScriptedTransport(message, GOOD)
    with pytest.raises(TruncatedError, match="max_tokens") as caught:
        Session(transport).ask("go", schema=list[City], retry=True)
    assert len(transport.requests) == 1
    assert caught.value.response.status == "incomplete"


def test_a_refusal_is_not_a_parse_error():
    """The error is a RefusedError, although the text of a refusal is not JSON."""
    message = {
        "type": "message", "id": "m", "role": "assistant", "model": "scripted", "stop_reason": "refusal",
        "content": [{"type": "text", "text": "No."}], "usage": {"input_tokens": 1, "output_tokens": 1},
    }  # fmt: skip
    with pytest.raises(RefusedError):
        Session(ScriptedTransport(message)).ask("go", schema=City)


# -- with tools, thinking, other endpoints --------------------------------------------------------


def count(word: str) -> int:
    """Letters of a word."""
    return len(word)


@pytest.mark.parametrize("way", WAYS)
def test_tools_first_then_the_structured_answer(way: str):
    """A forced tool would keep the model from calling the others, so the endpoint is asked in words."""
    transport = ScriptedTransport({"tool": "count", "input": {"word": "Bonn"}}, '{"name": "Bonn", "people": 4}')
    transport.structured = way  # type: ignore[attr-defined]
    response = Session(transport).ask("go", schema=City, tools=[count])
    assert response.parsed == City("Bonn", 4)
    assert [tool["name"] for tool in transport.requests[0].tools] == ["count"]
    assert transport.requests[0].params.get("tool_choice") is None


def test_thinking_forbids_a_forced_tool():
    """The endpoint is asked in words instead."""
    transport = scripted("words", GOOD)
    transport.structured = "tool"  # type: ignore[attr-defined]
    assert Session(transport).ask("go", schema=list[City], thinking=True).parsed == CITIES
    assert "tool_choice" not in transport.requests[0].body()


def test_events_of_an_unexpected_form_are_not_changed():
    """The parser judges them."""
    odd = [{"type": "content_block_start", "index": 0, "content_block": "x"}, {"type": "ping"}, {"delta": 3}, {}]
    forced = ForcedAnswer()
    assert [forced.translate(event) for event in odd] == odd


# -- the table ------------------------------------------------------------------------------------


def test_the_table_of_a_response():
    """The table has one row for each instance. The error without ``parsed`` says how to ask for it."""
    response = Session(ScriptedTransport(GOOD)).ask("go", schema=list[City])
    frame = response.table()
    assert list(frame.columns) == ["name", "people"]
    assert frame["people"].sum() == 579_000
    with pytest.raises(InputError, match="no typed answer"):
        Response("text").table()


def test_a_loaded_response_has_its_table_and_its_rendering_in_a_fresh_process(tmp_path: Path):
    """A saved answer can be shown in another kernel, in which only nbchat.load ran."""
    path = Session(ScriptedTransport(GOOD)).ask("go", schema=list[City]).save(tmp_path / "cities.json")
    code = (
        "import nbchat, sys\n"
        f"response = nbchat.load({str(path)!r})\n"
        "print(response.table()['people'].sum())\n"
        "print('<table' in response._repr_mimebundle_()['text/html'])\n"
        "print('nbchat.engine.session' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["579000", "True", "False"]


def test_a_table_without_pandas_names_the_library(monkeypatch: pytest.MonkeyPatch):
    """The hint names pandas, and not an extra of "nbchat", which is another project on the package index."""
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError) as caught:
        table([1])
    assert caught.value.hint == "pip install pandas"


def test_the_final_output_is_a_table_and_the_text_is_the_json():
    """The table is in the HTML, the JSON is the plain text."""
    response = Session(ScriptedTransport(GOOD)).ask("go", schema=list[City])
    shown = response._repr_mimebundle_()
    assert ">people</th>" in shown["text/html"]
    assert '<td style="text-align:right">331000</td>' in shown["text/html"]
    assert "items" not in shown["text/html"]
    assert shown["text/plain"] == GOOD


class Kind(enum.Enum):
    BIG = "big"


def test_the_table_of_each_kind_of_value():
    """Records become rows, a record becomes its fields, a list becomes values, and nested values become JSON."""
    assert render_value([{"a": 1}, {"b": [1, 2]}]).count("<tr>") == 3
    assert '<td style="text-align:left">1, 2</td>' in render_value([{"a": 1}, {"b": [1, 2]}])
    assert '<th style="text-align:left">name</th><td style="text-align:left">Rex</td>' in render_value(
        Dog(name="Rex", age=3)
    )
    assert "<li>big</li>" in render_value([Kind.BIG])
    assert "7" in render_value(7)
    assert render_value(None) == ""
    assert "{&quot;c&quot;" in render_value({"a": {"c": 1}}) or '{"c": 1}' in render_value({"a": {"c": 1}})
    assert "… 5 more rows" in render_value([{"a": n} for n in range(MAX_ROWS + 5)])


@pytest.mark.parametrize("hostile", ["<script>alert(1)</script>", '<img src=x onerror="alert(1)">', "$x$ <b>b</b>"])
def test_text_of_the_model_is_escaped(hostile: str):
    """Text of the model is escaped in cells and in names of fields."""
    for value in ([{hostile: hostile}], {hostile: hostile}, [hostile], hostile, {"a": [{"b": hostile}]}):
        html = render_value(value)
        assert "<script" not in html
        assert "<img" not in html
        assert "<b>" not in html


def test_the_table_grows_with_the_json():
    """Unfinished JSON is shown row by row. The last table is the complete one."""
    seen = []
    table = TypedTable()
    for piece in (GOOD[at : at + 7] for at in range(0, len(GOOD), 7)):
        table.feed(piece)
        assert table.advance() == []
        seen.append(table.tail().count("<tr>"))
    assert seen == sorted(seen)
    assert 2 in seen  # the head and one row
    (whole,) = table.close()
    assert whole == render_value([dataclasses.asdict(city) for city in CITIES])
    assert table.tail() == ""
