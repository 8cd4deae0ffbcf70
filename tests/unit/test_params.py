"""Tests of ``--param``: it merges with what nbchat sends, or is refused by the name of the option."""

from __future__ import annotations

import json

import pytest

from nbchat import ScriptedTransport, Session, tool
from nbchat.core.errors import OptionError
from nbchat.core.request import Request
from nbchat.engine.draft import compose
from nbchat.engine.params import params_of
from nbchat.notebook.line import parse
from nbchat.options import Options

MEMORY = {"type": "memory_20250818", "name": "memory"}
TOOLSET = {"type": "mcp_toolset", "mcp_server_name": "files"}


def request(*params: str, **given: object) -> Request:
    """Return the request of a cell with these params and options."""
    return compose("Hi", Options.of({"param": params, **given})).request("claude-sonnet-5-5")


def refused(*params: str, **given: object) -> OptionError:
    with pytest.raises(OptionError) as caught:
        request(*params, **given)
    return caught.value


def test_tools_are_added_to_the_tools_of_nbchat():
    """One definition may stand without its list. Toolsets have no name, and two of them do not collide."""
    asked = request(
        'tools={"type": "memory_20250818", "name": "memory"}',
        'tools=[{"type": "mcp_toolset", "mcp_server_name": "files"}, {"type": "mcp_toolset", "mcp_server_name": "b"}]',
        web_search=True,
    )
    assert asked.tools[0]["name"] == "web_search"
    assert asked.tools[1:] == (MEMORY, TOOLSET, {**TOOLSET, "mcp_server_name": "b"})
    assert "tools" not in asked.params


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("""--web-search --param 'tools=[{"type": "web_search_20250305", "name": "web_search"}]'""", "web_search"),
        ("""--code-execution --param 'tools={"name": "code_execution", "input_schema": {}}'""", "code_execution"),
        ("""--param 'tools=[{"name": "a"}, {"name": "a", "strict": true}]'""", "a"),
        ("""--param 'tools=[{"name": "a"}]' --param 'tools=[{"name": "a", "strict": true}]'""", "a"),
    ],
)
def test_two_tools_of_one_name_are_never_sent(line: str, name: str):
    with pytest.raises(OptionError, match=f"--param tools: the name '{name}'"):
        compose("Hi", Options.of(parse(line).given)).request("claude-sonnet-5-5")


def test_functions_of_the_notebook_stay():
    """``--tools`` and marked functions are offered beside the tools of ``--param``, and names are compared."""

    @tool
    def double(n: int) -> int:
        """Double a number."""
        return 2 * n

    transport = ScriptedTransport("yes")
    session = Session(transport)
    session.ask("Hi", namespace={"double": double}, param=['tools=[{"type": "memory_20250818", "name": "memory"}]'])
    assert [tool["name"] for tool in transport.requests[0].tools] == ["double", "memory"]
    with pytest.raises(OptionError, match="'double'"):
        session.ask("Hi", namespace={"double": double}, param=['tools=[{"name": "double", "input_schema": {}}]'])


def test_a_definition_with_the_name_of_a_function_completes_it():
    """A type of the API takes the place of the definition. Other fields are added. The function runs the calls."""
    called = []

    def memory(command: str, path: str = "") -> str:
        """Keep notes."""
        called.append((command, path))
        return "empty"

    def double(number: int) -> int:
        """Double a number."""
        return 2 * number

    call = {"tool": "memory", "input": {"command": "view", "path": "/memories"}}
    transport = ScriptedTransport(call, "Nothing yet.")
    session = Session(transport)
    given = f"tools={json.dumps([MEMORY, {'name': 'double', 'defer_loading': True}])}"
    assert session.ask("What do you know?", tools=[memory, double], param=[given]).text == "Nothing yet."
    assert called == [("view", "/memories")]
    first, second = transport.requests[0].tools
    assert first == MEMORY
    assert second["defer_loading"] is True
    assert second["description"] == "Double a number."


@pytest.mark.parametrize("value", ["null", "1", '"web_search"', "[1]", '[{"name": "a"}, null]', "[[]]"])
def test_tools_that_are_no_definitions_are_refused(value: str):
    assert "--param tools: a list of tool definitions" in refused(f"tools={value}").message


@pytest.mark.parametrize(
    ("field", "option"),
    [("model", "-m"), ("max_tokens", "--max-tokens"), ("system", "-s"), ("stream", "--no-stream"), ("messages", "-c")],
)
def test_a_field_with_an_option_of_its_own_is_refused(field: str, option: str):
    error = refused(f"{field}=1")
    assert error.message.startswith(f"--param {field}")
    assert option in error.hint


def test_lists_are_joined_and_objects_are_merged():
    """Also if the field comes from two params, or from an option and a param."""
    assert request('stop_sequences=["B", "A"]', stop=["A"]).params["stop_sequences"] == ["A", "B"]
    assert request('betas="x-1"', 'betas=["y-2", "x-1"]').params["betas"] == ["x-1", "y-2"]
    ttl = request('cache_control={"type": "ephemeral", "ttl": "1h"}')
    assert ttl.params["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    config = request('output_config={"task_budget": {"total": 1}}', effort="low").params["output_config"]
    assert config == {"effort": "low", "task_budget": {"total": 1}}
    assert request('metadata={"user_id": "u"}', 'metadata={"user_id": "u"}').params["metadata"] == {"user_id": "u"}


def test_thinking_is_merged_with_the_form_of_the_model():
    """A type in ``--param`` is the user's exact form. Without a type, the fields are added to the form of the model."""
    shown = request('thinking={"display": "omitted"}', thinking=True)
    assert shown.params["thinking"] == {"type": "adaptive", "display": "omitted"}
    exact = request('thinking={"type": "enabled", "budget_tokens": 2000}', thinking=True)
    assert exact.params["thinking"] == {"type": "enabled", "budget_tokens": 2000}
    assert request('thinking={"type": "disabled"}').params["thinking"] == {"type": "disabled"}


@pytest.mark.parametrize(
    ("params", "given", "flag"),
    [
        (['output_config={"effort": "low"}'], {"effort": "high"}, "--effort"),
        (["output_config=null"], {"effort": "high"}, "--effort"),
        (['output_config={"effort": null}'], {"effort": "high"}, "--effort"),
        (['output_config={"format": {"type": "json_schema"}}'], {"schema": int}, "--schema"),
        (['thinking={"type": "disabled"}'], {"thinking": True}, "--thinking"),
        (["thinking=null"], {"thinking": True}, "--thinking"),
        (["stop_sequences=null"], {"stop": ["A"]}, "--stop"),
        (["temperature=0", "temperature=1"], {}, "--param"),
        (['metadata={"user_id": "a"}', 'metadata={"user_id": "b"}'], {}, "--param"),
        (['tool_choice={"type": "any"}'], {}, "--tools"),
        (["stop_sequences=3"], {}, "--param"),
        (["betas=[1]"], {}, "--param"),
    ],
)
def test_a_contradiction_is_refused_by_the_name_of_the_option(params: list[str], given: dict, flag: str):
    """Neither of the two is dropped without a word."""
    error = refused(*params, **given)
    assert flag in str(error)
    assert "--param" in str(error)


def test_what_is_given_for_the_request_wins_over_a_setting():
    """As everywhere: a param over an option that is a setting, and an option over a param that is one."""
    line = Options.of({"param": ['output_config={"effort": "low"}']}, {"effort": "high", "thinking": True})
    assert params_of(line).fields["output_config"] == {"effort": "low"}
    line = Options.of({"param": ["thinking=null", "stop_sequences=null"]}, {"thinking": True, "stop": ("A",)})
    params = params_of(line)
    assert (params.thinks, "thinking" in params.fields, "stop_sequences" in params.fields) == (False, False, False)
    setting = {"param": ('output_config={"effort": "low"}', 'thinking={"type": "disabled"}')}
    params = params_of(Options.of({"effort": "high", "thinking": True}, setting))
    assert params.fields["output_config"] == {"effort": "high"}
    assert (params.thinks, "thinking" in params.fields) == (True, False)


@pytest.mark.parametrize("field", ["thinking", "output_config", "tool_choice", "metadata", "cache_control"])
@pytest.mark.parametrize("value", ["true", "1", '"adaptive"', "[]"])
def test_a_field_that_is_an_object_is_given_as_one(field: str, value: str):
    assert refused(f"{field}={value}", thinking=True, effort="low").message == f"--param {field}: an object is needed"


def test_a_field_inside_a_field_is_explained():
    error = refused("thinking.budget_tokens=2000")
    assert """'thinking={"budget_tokens": …}'""" in error.hint
