"""Real MCP servers with faults: they print to standard output, and list tools that cannot be offered."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from nbchat.core.messages import ToolUseBlock
from nbchat.tools.approval import Approval
from nbchat.tools.mcp import McpServers
from nbchat.tools.toolbox import Toolbox

#: A server without a library. The variables before it say what it lists and prints.
SERVER = r"""
import json, sys

def write(text):
    sys.stdout.write(text)
    sys.stdout.flush()

write(BANNER)
sys.stderr.write(NOISE)
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    method, params = message["method"], message.get("params") or {}
    answer = {"jsonrpc": "2.0", "id": message["id"]}
    if method == "initialize":
        answer["result"] = {
            "protocolVersion": "2025-06-18",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "raw", "version": "1"},
        }
    elif method == "tools/list":
        answer["result"] = PAGES[params.get("cursor")]
    elif method == "tools/call":
        text = json.dumps([params["name"], params.get("arguments")], ensure_ascii=False)
        answer["result"] = {"content": [{"type": "text", "text": text}]}
    else:
        answer["error"] = {"code": -32601, "message": "no such method"}
    write(BEFORE + json.dumps(answer) + "\n")
"""
OBJECT = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
GOOD = {"name": "good", "description": "Works.", "inputSchema": OBJECT}

#: What the user was told, by servers.
SAID: dict[McpServers, list[str]] = {}

Start = Callable[..., McpServers]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a server named raw with these tools, or with these pages of tools."""
    lines: list[str] = []
    servers = McpServers(timeout=20, start_timeout=20, say=lines.append)
    SAID[servers] = lines

    def add(tools: Any = (GOOD,), banner: str = "", noise: str = "", before: str = "", **pages: Any) -> McpServers:
        path = tmp_path / "raw.py"
        listed = {None: {"tools": list(tools) if isinstance(tools, tuple) else tools}, **pages}
        settings = f"BANNER, NOISE, BEFORE, PAGES = {banner!r}, {noise!r}, {before!r}, {listed!r}\n"
        path.write_text(settings + SERVER, encoding="utf-8")
        servers.add("raw", [sys.executable, str(path)])
        return servers

    yield add
    servers.close()


def names(servers: McpServers) -> list[str]:
    return [tool.shown for tool in servers.tools(["raw"])]


def called(servers: McpServers, place: int, arguments: dict[str, Any]) -> Any:
    """Return what the server received of a call of the model."""
    tools = servers.tools(["raw"])
    outcome = Toolbox(tools).run(ToolUseBlock("toolu_1", tools[place].name, arguments))
    assert not outcome.is_error, outcome.text
    return json.loads(outcome.text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Loading the model\nReady.\n", "Loading the model"),
        ('{"level": "info", "msg": "started"}\n', '{"level": "info", "msg": "started"}'),
        ("[1, 2]\n\n\n42\n", "[1, 2]"),
        ("\ufeff", ""),
        ("50 %\r100 %\r", "50 % 100 %"),
        ("x" * 3_000_000 + "\n", "x" * 59 + "…"),
        ("line\n" * 3_000, "line"),
        ("größe \x1b[31mrot\x1b[0m\n", r"größe \x1b[31mrot\x1b[0m"),
    ],
    ids=["text", "json", "values", "mark", "bar", "long", "many", "colors"],
)
def test_text_on_the_standard_output_is_skipped_with_one_line(
    start: Start, capfd: pytest.CaptureFixture[str], text: str, shown: str
) -> None:
    servers = start(banner=text, before=text[:2_000])
    assert names(servers) == ["raw.good"]
    assert called(servers, 0, {"city": "Rom"}) == ["good", {"city": "Rom"}]
    (note,) = SAID[servers]
    assert note.startswith(f"raw: text on its standard output was skipped: {shown}")
    assert "Traceback" not in "".join(capfd.readouterr())


def test_megabytes_on_the_standard_error_do_not_stop_a_server(start: Start) -> None:
    servers = start(noise="a line of a log\n" * 300_000)
    assert names(servers) == ["raw.good"]
    assert SAID[servers] == []


INVALID = [
    ({"inputSchema": OBJECT}, "a tool was left out: its name is None"),
    ({"name": None, "inputSchema": OBJECT}, "a tool was left out: its name is None"),
    ({"name": " ", "inputSchema": OBJECT}, "a tool was left out: its name is ' '"),
    ({"name": 7, "inputSchema": OBJECT}, "a tool was left out: its name is 7"),
    ("tool", "a tool was left out: its name is 'tool'"),
    ({"name": "bad"}, "the tool bad was left out: its inputSchema is missing"),
    ({"name": "bad", "inputSchema": None}, "the tool bad was left out: its inputSchema is missing"),
    ({"name": "bad", "inputSchema": "object"}, "the tool bad was left out: its inputSchema is 'object'"),
    (
        {"name": "bad", "inputSchema": {"type": "array", "items": {}}},
        "the tool bad was left out: its inputSchema is of type 'array', and the input of a tool is an object",
    ),
    (
        {"name": "bad", "inputSchema": {"type": "object", "properties": {"a": {"$ref": "#/$defs/Gone"}}}},
        "the tool bad was left out: its inputSchema refers to #/$defs/Gone, which it does not define",
    ),
    (
        {"name": "bad", "inputSchema": {"type": "object", "properties": {"a": "string"}}},
        "the tool bad was left out: its inputSchema is not a valid JSON Schema: ",
    ),
    (
        {"name": "bad", "inputSchema": {"type": "object", "required": "city"}},
        "the tool bad was left out: its inputSchema is not a valid JSON Schema: ",
    ),
]


@pytest.mark.parametrize(("tool", "note"), INVALID, ids=lambda value: value[-40:] if isinstance(value, str) else None)
def test_one_invalid_tool_is_left_out_and_the_others_are_offered(start: Start, tool: Any, note: str) -> None:
    servers = start((tool, GOOD))
    assert names(servers) == ["raw.good"]
    (told,) = SAID[servers]
    assert told.startswith(f"raw: {note}")
    assert called(servers, 0, {"city": "Rom"}) == ["good", {"city": "Rom"}]


@pytest.mark.parametrize(
    "tool",
    [
        {**GOOD, "description": 3},
        {**GOOD, "description": ["Works."]},
        {**GOOD, "title": 3, "annotations": "none", "icons": "a.png", "outputSchema": []},
        {**GOOD, "inputSchema": {}},
        {**GOOD, "inputSchema": {"type": "object", "properties": []}},
        {**GOOD, "inputSchema": {"type": "object", "properties": None, "required": None}},
        {**GOOD, "inputSchema": {"type": ["object", "null"]}},
        {**GOOD, "inputSchema": {"properties": {"city": {"type": "any", "required": True}}, "$schema": 7}},
        {**GOOD, "inputSchema": {**OBJECT, "properties": {"city": True}}},
    ],
)
def test_a_tool_with_a_fault_in_what_is_optional_is_offered(start: Start, tool: dict[str, Any]) -> None:
    servers = start((tool, {**GOOD, "name": "other"}))
    assert names(servers) == ["raw.good", "raw.other"]
    assert SAID[servers] == []
    (definition, _) = (tool.definition() for tool in servers.tools(["raw"]))
    assert definition["input_schema"]["type"] == "object"
    jsonschema.Draft202012Validator.check_schema(definition["input_schema"])
    assert isinstance(definition.get("description", ""), str)
    assert called(servers, 0, {"city": "Rom"}) == ["good", {"city": "Rom"}]


def test_a_list_that_is_none_a_repeated_name_and_pages_in_a_circle(start: Start) -> None:
    servers = start(None)
    assert names(servers) == []
    assert SAID[servers] == ["raw: its list of tools is not a list: None"]
    servers.remove("raw")
    page = {"tools": [{**GOOD, "description": "Another."}, {**GOOD, "name": "late"}], "nextCursor": "again"}
    servers = start(again=page)
    assert names(servers) == ["raw.good"]
    servers.remove("raw")

    servers = start((GOOD, {**GOOD, "description": "Another."}))
    assert [tool.definition()["description"] for tool in servers.tools(["raw"])] == ["Works."]
    assert SAID[servers][1:] == ["raw: the tool good is listed twice, and the first one is offered"]


def test_pages_that_lead_back_end(tmp_path: Path) -> None:
    path = tmp_path / "circle.py"
    pages = {
        None: {"tools": [GOOD], "nextCursor": "a"},
        "a": {"tools": [{**GOOD, "name": "two"}], "nextCursor": "b"},
        "b": {"tools": [{**GOOD, "name": "three"}], "nextCursor": "a"},
    }
    path.write_text(f"BANNER, NOISE, BEFORE, PAGES = '', '', '', {pages!r}\n" + SERVER)
    lines: list[str] = []
    servers = McpServers(timeout=20, say=lines.append)
    try:
        servers.add("raw", [sys.executable, str(path)])
        assert names(servers) == ["raw.good", "raw.two", "raw.three"]
        assert lines == ["raw: its list of tools has a page that leads back to itself"]
    finally:
        servers.close()


# Schemas and names that the API does not accept


def test_properties_with_other_names_are_mapped_back(start: Start) -> None:
    schema = {
        "type": "object",
        "properties": {
            "$filter": {"type": "string", "description": "OData."},
            "größe": {"type": "object", "properties": {"breite (m)": {"type": "number"}}, "required": ["breite (m)"]},
            "liste": {"type": "array", "items": {"$ref": "#/$defs/eintrag"}},
            "x" * 70: {"type": "string"},
        },
        "required": ["$filter"],
        "$defs": {"eintrag": {"type": "object", "properties": {"@id": {"type": "string"}}}},
    }
    servers = start(({"name": "find", "inputSchema": schema},))
    (tool,) = servers.tools(["raw"])
    sent = tool.definition()["input_schema"]
    one, size, entries, long = sent["properties"]
    assert sent["required"] == [one]
    assert sent["properties"][one]["description"] == "$filter: OData."
    (width,) = sent["properties"][size]["properties"]
    assert sent["properties"][size]["required"] == [width]
    (identity,) = sent["$defs"]["eintrag"]["properties"]
    for key in (one, size, entries, long, width, identity):
        assert re.fullmatch(r"[a-zA-Z0-9_.-]{1,64}", key), key
    asked: list[str] = []
    box = Toolbox([tool], Approval(None, lambda prompt: asked.append(prompt) or "y"))
    arguments = {one: "a", size: {width: 2}, entries: [{identity: "b", "free": 1}], long: "c"}
    received = json.loads(box.run(ToolUseBlock("toolu_1", tool.name, arguments)).text)[1]
    original = {"$filter": "a", "größe": {"breite (m)": 2}, "liste": [{"@id": "b", "free": 1}], "x" * 70: "c"}
    assert received == original
    assert '"$filter" = "a"' in asked[0], "the user reads the names of the server"
    assert called(servers, 0, original)[1] == original, "a model may write the original names too"


def test_alternatives_at_the_root_become_one_object(start: Start) -> None:
    city, place = {"city": {"type": "string"}}, {"lat": {"type": "number"}, "lon": {"type": "number"}}
    one = {"properties": city, "required": ["city"]}
    other = {"type": "object", "properties": place, "required": ["lat", "lon"]}
    servers = start(
        (
            {"name": "any", "inputSchema": {"type": "object", "anyOf": [one, other]}},
            {
                "name": "one",
                "inputSchema": {"oneOf": [one, {"$ref": "#/$defs/p"}, {"type": "null"}], "$defs": {"p": other}},
            },
            {
                "name": "all",
                "inputSchema": {"type": "object", "allOf": [{"$ref": "#/$defs/p"}, one], "$defs": {"p": other}},
            },
            {"name": "ref", "inputSchema": {"type": "object", "$ref": "#/$defs/p", "$defs": {"p": other}}},
        )
    )
    for tool, required in zip(servers.tools(["raw"]), ([], [], ["lat", "lon", "city"], ["lat", "lon"]), strict=True):
        schema = tool.definition()["input_schema"]
        assert schema["type"] == "object"
        assert not {"anyOf", "oneOf", "allOf", "$ref"} & schema.keys()
        assert schema.get("required", []) == required
        assert set(place) <= schema["properties"].keys()
        assert ("The input must fit" in schema.get("description", "")) == (required == [])
    assert called(servers, 0, {"city": "Rom"}) == ["any", {"city": "Rom"}]


def test_names_in_any_script_stay_apart(start: Start) -> None:
    listed = ("天气", "汇率", "天气,汇率", "größe", "grösse", "read file", "read_file", "read.file", "y" * 90, "y" * 91)
    servers = start(tuple({**GOOD, "name": name} for name in listed))
    tools = servers.tools(["raw"])
    assert [tool.shown for tool in tools] == [f"raw.{name}" for name in listed]
    assert len({tool.name for tool in tools}) == len(listed)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", tool.name) for tool in tools)
    assert tools[6].name == "raw__read_file"
    assert tools[0].definition()["description"] == "天气: Works."
    for place, name in enumerate(listed):
        assert called(servers, place, {"city": "Rom"})[0] == name
    assert servers.has_tool("raw.天气,汇率")
    assert not servers.has_tool("raw.天气,")
    assert [tool.name for tool in servers.tools(["raw.read file"])] == [tools[5].name]
