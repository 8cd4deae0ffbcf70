"""The examples of docs/how-to/messages-api-features.md: what is sent is what the page says, and nothing is lost."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from nbchat.engine.session import Session
from nbchat.notebook.line import parse
from nbchat.transports.claude import ClaudeTransport
from tests.support.server import Received, serving, streaming, text_events

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "messages-api-features.md"

#: What each section sends, besides the prompt: the fields of the body, and the names in ``anthropic-beta``.
#: The tools are those of the options and those of ``--param``.
CACHED = {"cache_control": {"type": "ephemeral"}}
MCP = [{"type": "url", "url": "https://mcp.example.com/mcp", "name": "docs"}]
SENT: dict[str, tuple[dict[str, Any], list[str]]] = {
    "Prompt caching": ({"cache_control": {"type": "ephemeral", "ttl": "1h"}}, []),
    "Skills": ({"container": {"skills": [{"type": "anthropic", "skill_id": "xlsx", "version": "latest"}]}}, []),
    "Context editing": (
        {
            "context_management": {
                "edits": [{"type": "clear_tool_uses_20250919", "keep": {"type": "tool_uses", "value": 3}}]
            }
        },
        ["context-management-2025-06-27"],
    ),
    "Compaction": (
        {
            "context_management": {
                "edits": [{"type": "compact_20260112", "trigger": {"type": "input_tokens", "value": 100_000}}]
            }
        },
        ["compact-2026-01-12"],
    ),
    "Memory tool": ({"tools": [{"type": "memory_20250818", "name": "memory"}]}, []),
    "MCP connector": (
        {"mcp_servers": MCP, "tools": [{"type": "mcp_toolset", "mcp_server_name": "docs"}]},
        ["mcp-client-2025-11-20"],
    ),
    "Tool search": (
        {
            "mcp_servers": MCP,
            "tools": [
                {"type": "tool_search_tool_regex_20251119", "name": "tool_search_tool_regex"},
                {"type": "mcp_toolset", "mcp_server_name": "docs", "default_config": {"defer_loading": True}},
            ],
        },
        ["mcp-client-2025-11-20"],
    ),
    "Fast mode": ({"model": "claude-opus-5-5", "speed": "fast"}, []),
    "Fallbacks": (
        {"model": "claude-fable-5-2", "fallbacks": [{"model": "claude-opus-5-5"}]},
        ["server-side-fallback-2026-07-01"],
    ),
    "Advisor": (
        {
            "model": "claude-sonnet-5-5",
            "tools": [{"type": "advisor_20260301", "name": "advisor", "model": "claude-opus-5-5"}],
        },
        ["advisor-tool-2026-03-01"],
    ),
    "Place of inference and service tier": ({"inference_geo": "us", "service_tier": "standard_only"}, []),
}


def examples() -> dict[str, tuple[str, str]]:
    """Return the cell of each section of the page: its line and its prompt."""
    found = {}
    for section in re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        for cell in re.findall(r"^```python\n%%claude ?(.*)\n((?:.*\n)*?)```$", section, flags=re.MULTILINE):
            found[section.split("\n", 1)[0]] = cell
    return found


def functions(section: str) -> dict[str, Any]:
    """Run the cells of a section that define functions, and return what they define."""
    namespace: dict[str, Any] = {}
    text = re.split(rf"^## {section}$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1].split("\n## ")[0]
    for cell in re.findall(r"^```python\n((?:.*\n)*?)```$", text, flags=re.MULTILINE):
        if re.search(r"^def ", cell, flags=re.MULTILINE):
            exec(cell, namespace)
    return namespace


def test_every_section_has_an_example_and_an_expectation():
    """A new section needs an example, and a line in the table above."""
    assert examples().keys() == SENT.keys()
    headings = re.findall(r"^## (.*)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert set(headings) == SENT.keys()


def send(line: str, prompt: str, namespace: dict[str, Any]) -> Received:
    """Send a cell to a server on this machine, and return what arrived there."""
    with serving(streaming(text_events(["Fine."]))) as server:
        session = Session(ClaudeTransport("mine", base_url=server.url, api_key="none"))
        session.ask(
            prompt, options=session.options(parse(line, has_body=True).given), cell="cell-1", namespace=namespace
        )
        (request,) = [request for request in server.requests if request.path == "/v1/messages"]
    return request


@pytest.mark.parametrize("section", SENT)
def test_what_is_sent_is_what_the_page_says(section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Nothing of the example is lost, and nothing that nbchat itself sends."""
    line, prompt = examples()[section]
    fields, betas = SENT[section]
    monkeypatch.chdir(tmp_path)  # the memory tool makes a folder
    request = send(line, prompt, functions(section))
    body = request.body
    assert [beta for beta in request.headers.get("anthropic-beta", "").split(",") if beta] == betas
    assert {name: body[name] for name in CACHED | fields if name != "tools"} == {
        name: value for name, value in (CACHED | fields).items() if name != "tools"
    }
    tools = body.get("tools", [])
    assert [tool for tool in tools if tool in fields.get("tools", [])] == fields.get("tools", [])
    own = [tool["name"] for tool in tools if tool not in fields.get("tools", [])]
    options = {"code_execution": "--code-execution", "web_search": "--web-search"}
    assert own == [name for name, flag in options.items() if flag in line]
    known = {"model", "max_tokens", "messages", "stream", "tools", *CACHED, *fields}
    assert body.keys() - known == set()
    assert prompt.strip() in json.dumps(body["messages"])


def test_the_memory_of_the_page_keeps_notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Claude writes a note in one turn, and reads the note in the next one."""
    from nbchat import ScriptedTransport

    monkeypatch.chdir(tmp_path)
    line, prompt = examples()["Memory tool"]
    note = {"command": "create", "path": "/memories/sensor.txt", "file_text": "It drifts."}
    transport = ScriptedTransport(
        {"tool": "memory", "input": note},
        "Noted.",
        {"tool": "memory", "input": {"command": "view", "path": "/memories/sensor.txt"}},
        "It drifts.",
    )
    session, namespace = Session(transport), functions("Memory tool")
    for _ in range(2):
        session.ask(prompt, options=session.options(parse(line, has_body=True).given), namespace=namespace)
    result = transport.requests[3].messages[-1].content[0].to_dict()
    assert result.get("is_error") is not True
    assert "It drifts." in json.dumps(result["content"])


#: An answer with blocks of these features, as the API documents them.
BLOCKS: list[dict[str, Any]] = [
    {"type": "compaction", "content": "They spoke of *cats*.", "encrypted_content": "EpwB", "signature": "c2ln"},
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "tool_search_tool_regex", "input": {"pattern": "policy"}},
    {
        "type": "tool_search_tool_result",
        "tool_use_id": "srvtoolu_1",
        "content": {
            "type": "tool_search_tool_search_result",
            "tool_references": [{"type": "tool_reference", "tool_name": "find_policy"}],
        },
    },
    {
        "type": "mcp_tool_use",
        "id": "mcptoolu_1",
        "name": "find_policy",
        "server_name": "docs",
        "input": {"of": "travel"},
    },
    {
        "type": "mcp_tool_result",
        "tool_use_id": "mcptoolu_1",
        "is_error": False,
        "content": [{"type": "text", "text": "Signed by A. Turing."}],
    },
    {"type": "server_tool_use", "id": "srvtoolu_2", "name": "advisor", "input": {}},
    {
        "type": "advisor_tool_result",
        "tool_use_id": "srvtoolu_2",
        "content": {"type": "advisor_result", "text": "Say the name."},
    },
    {
        "type": "fallback",
        "from": {"model": "claude-fable-5-2"},
        "to": {"model": "claude-opus-5-5"},
        "trigger": {"type": "refusal", "category": "cyber"},
    },
    {"type": "text", "text": "It was A. Turing."},
]


def test_the_blocks_of_an_answer_go_back_and_are_shown():
    """The next turn has every block as it came. The page has a word for each, and no code that only machines read."""
    from nbchat import ScriptedTransport
    from nbchat.view.html.render import render_response

    transport = ScriptedTransport(BLOCKS, "Yes.")
    session = Session(transport)
    response = session.ask("Who signed it?", cell="cell-1")
    session.ask("Are you sure?", cell="cell-2")
    assert [block.to_dict() for block in transport.requests[1].messages[1].content] == BLOCKS
    shown = render_response(response)["text/html"]
    for words in (
        "<summary>The service summarized the earlier turns</summary>",
        "<em>cats</em>",
        "find_policy",
        "Signed by A. Turing.",
        "Say the name.",
        "<em>[claude-fable-5-2 declined, and claude-opus-5-5 answers from here]</em>",
        "It was A. Turing.",
    ):
        assert words in shown
    for code in ("EpwB", "c2ln", "tool_reference"):
        assert code not in shown
