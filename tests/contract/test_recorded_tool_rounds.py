"""Tests of the tool loop with recorded answers of the real API.

Each answer is a recorded stream. It passes through the server, the SDK, the parser and the tools to the next request.
That request is compared with the recorded one, which the library that recorded the answers made from the same calls
and results.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbchat import Response, Session
from nbchat.core.parser import events_of
from nbchat.transports.claude import ClaudeTransport
from tests.support.server import Received, message, replay, serving, streaming

# The names and types are those of the recorded requests.


def get_current_date() -> str:
    """Get the current date in YYYY-MM-DD format."""
    return "2025-12-31"


def get_date() -> str:
    """Gets the current date"""
    return "2024-01-01"


def weather_forecast(city: str) -> str:
    """Gets the weather forecast for a city"""
    return "rainy"


def equipment(weather: str) -> str:
    """Gets the equipment needed for a weather condition"""
    return "umbrella"


def fixed_version() -> str:
    """Return the fixed version"""
    return "0.32a0"


def favorite_color(_person: str) -> str:
    """Returns a person's favourite colour"""
    return {"Joe": "sage green", "Hadley": "red"}[_person]


INSPECT = "chatlas--TestInspectIntegration.test_tool_calling--{}"
VARIATIONS = "chatlas--test_anthropic_tool_variations--{}"
THINKING = "llm-anthropic--test_fixed_version_tool_chain_with_thinking_display_regression--{}"


def recorded_request(streams: Path, name: str) -> dict[str, Any]:
    return json.loads((streams / f"{name}.request.json").read_text(encoding="utf-8"))


def asked(requests: list[Received]) -> list[dict[str, Any]]:
    return [request.body for request in requests if request.path == "/v1/messages"]


def comparable(messages: list[dict[str, Any]]) -> list[Any]:
    """Return messages in one form: text as blocks, without cache marks, ``is_error: false`` and outer white space."""
    plain = []
    for one in messages:
        content = [{"type": "text", "text": one["content"]}] if isinstance(one["content"], str) else one["content"]
        blocks = []
        for block in content:
            block = {key: value for key, value in block.items() if key not in ("cache_control", "caller", "citations")}
            if block["type"] == "tool_result":
                if not block.pop("is_error", False):
                    held = block["content"]
                    block["content"] = [{"type": "text", "text": held}] if isinstance(held, str) else held
            elif block["type"] == "text":
                block["text"] = block["text"].strip()
            blocks.append(block)
        plain.append((one["role"], blocks))
    return plain


def prompt_of(request: dict[str, Any]) -> str:
    content = request["messages"][0]["content"]
    return content if isinstance(content, str) else "".join(block["text"] for block in content)


def ask(url: str, prompt: str, tools: list[Callable[..., Any]], **options: Any) -> Response:
    return Session(ClaudeTransport("recorded", base_url=url), model="claude-haiku-4-5").ask(
        prompt, tools=tools, **options
    )


@pytest.mark.parametrize(
    ("name", "numbers", "tools"),
    [
        (INSPECT, (0, 1), [get_current_date]),
        (VARIATIONS, (3, 4), [get_date]),
        (VARIATIONS, (5, 6, 7), [weather_forecast, equipment]),
        (THINKING, (0, 1), [fixed_version]),
    ],
    ids=["inspect", "date", "weather-then-equipment", "after-thinking"],
)
def test_several_requests_in_a_row(streams: Path, name: str, numbers: tuple[int, ...], tools: list[Any]):
    """Each request has the same messages as the recorded one, including the results of tools."""
    names = [name.format(number) for number in numbers]
    requests = [recorded_request(streams, one) for one in names]
    with serving(*(replay((streams / f"{one}.sse").read_bytes()) for one in names)) as server:
        response = ask(server.url, prompt_of(requests[0]), tools)
    sent = asked(server.requests)
    assert len(sent) == len(requests)
    for ours, theirs in zip(sent, requests, strict=True):
        assert comparable(ours["messages"]) == comparable(theirs["messages"])
        assert [tool["name"] for tool in ours["tools"]] == [tool["name"] for tool in theirs["tools"]]
    assert response.status == "complete"
    assert response.text.strip()
    assert [call.name for call in response.tool_calls] == [tool.__name__ for tool in tools]
    # The messages of the turn are valid as history of the next cell.
    assert [one.role for one in response.messages] == ["user", "assistant"] + ["user", "assistant"] * len(tools)


def test_two_calls_in_one_answer(streams: Path):
    """Both calls of an answer run in order, and one message has both results.

    The second request contains the answer.
    """
    name = "chatlas--test_anthropic_tool_variations_parallel--1"
    theirs = recorded_request(streams, name)
    first = message([*theirs["messages"][1]["content"]], stop_reason="tool_use")
    second = replay((streams / f"{name}.sse").read_bytes())
    with serving(streaming(events_of(first)), second) as server:
        response = ask(server.url, prompt_of(theirs), [favorite_color])
    assert comparable(asked(server.requests)[1]["messages"]) == comparable(theirs["messages"])
    assert "sage green" in response.text.lower()
    assert "red" in response.text.lower()


# The next requests of these answers were not recorded. The tests compare calls and results with literals.


def get_weather(location: str, unit: str = "celsius") -> str:
    return f"18 degrees in {location}"


def get_time(timezone: str) -> str:
    return f"noon in {timezone}"


def test_two_calls_of_one_function(streams: Path):
    """Each call of a function has its own result, found by its id."""
    names = iter(["Percival", "Philippa"])

    def pelican_name_generator() -> str:
        return next(names)

    first = replay((streams / "llm-anthropic--test_tools--0.sse").read_bytes())
    with serving(first, streaming(events_of(message([{"type": "text", "text": "Two names."}])))) as server:
        response = ask(server.url, "Two names for a pet pelican", [pelican_name_generator])
    results = asked(server.requests)[1]["messages"][-1]["content"]
    assert [(one["tool_use_id"], one["content"][0]["text"]) for one in results] == [
        ("toolu_01LtHJmixrs9NcWQkK8hu8hj", "Percival"),
        ("toolu_01N8a4jWyf116qKTMqKKmjyt", "Philippa"),
    ]
    assert response.text == "Two names."


@pytest.mark.parametrize("name", ["legacy", "with_events_with_no_content"])
def test_two_calls_of_two_functions_with_arguments(streams: Path, name: str):
    """Arguments that arrive in pieces reach the functions complete. The results are sent in order."""
    recorded = f"openllmetry--test_anthropic_tools_streaming_{name}--0"
    first = replay((streams / f"{recorded}.sse").read_bytes())
    with serving(first, streaming(events_of(message([{"type": "text", "text": "Mild, and noon."}])))) as server:
        response = ask(server.url, "Weather and time?", [get_weather, get_time])
    calls = [dict(call.input) for call in response.tool_calls]
    results = asked(server.requests)[1]["messages"][-1]["content"]
    assert [one["tool_use_id"] for one in results] == [call.id for call in response.tool_calls]
    assert [one["content"][0]["text"] for one in results] == [
        f"18 degrees in {calls[0]['location']}",
        f"noon in {calls[1]['timezone']}",
    ]
    assert not any(one.get("is_error") for one in results)


def test_a_call_after_a_tool_search_of_the_server(streams: Path):
    """Blocks of the server's own tools are sent again unchanged, before the call that nbchat answers."""
    name = "pydantic-ai--test_anthropic_native_tool_search_streaming--0"

    def get_exchange_rate(from_currency: str, to_currency: str) -> float:
        return 0.92

    first = replay((streams / f"{name}.sse").read_bytes())
    with serving(first, streaming(events_of(message([{"type": "text", "text": "0.92"}])))) as server:
        response = ask(server.url, "USD to EUR?", [get_exchange_rate])
    (again,) = [one for one in asked(server.requests)[1]["messages"] if one["role"] == "assistant"]
    kinds = [block["type"] for block in again["content"]]
    assert kinds[-1] == "tool_use"
    assert "server_tool_use" in kinds
    (result,) = asked(server.requests)[1]["messages"][-1]["content"]
    assert result["tool_use_id"] == again["content"][-1]["id"]
    assert response.text.endswith("0.92")


def test_a_call_in_an_answer_that_reached_its_limit_does_not_run(streams: Path):
    """A complete call does not run if the answer stopped at ``max_tokens``."""
    ran: list[str] = []
    whole = (streams / "anthropic-sdk--tool_use_response--0.sse").read_text(encoding="utf-8")

    def get_weather(location: str = "") -> str:
        ran.append(location)
        return "sunny"

    cut = whole.replace('"stop_reason":"tool_use"', '"stop_reason":"max_tokens"')
    assert cut != whole
    with serving(replay(cut.encode())) as server:
        response = ask(server.url, "Weather?", [get_weather])
    assert ran == []
    assert response.status == "incomplete"
    assert len(asked(server.requests)) == 1


def test_recorded_structured_answers(streams: Path):
    """A recorded answer to a schema is parsed into an instance of the requested type."""
    from pydantic import BaseModel

    class Dog(BaseModel):
        name: str
        age: int
        bio: str

    name = "llm-anthropic--test_opus_46_schema--0"
    theirs = recorded_request(streams, name)
    assert "output_config" in theirs or "output_format" in theirs
    with serving(replay((streams / f"{name}.sse").read_bytes())) as server:
        transport = ClaudeTransport("anthropic", base_url=server.url, api_key="test-key-0")
        response = Session(transport, model="claude-opus-4-6").ask(prompt_of(theirs), schema=Dog)
    assert isinstance(response.parsed, Dog)
    ours = asked(server.requests)[0]["output_config"]["format"]
    assert ours["type"] == "json_schema"
    assert set(ours["schema"]["properties"]) == {"name", "age", "bio"}
