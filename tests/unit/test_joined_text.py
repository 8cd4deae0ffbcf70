"""The text of an answer whose text blocks have other blocks between them: one rule for every place that shows it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from nbchat import ScriptedTransport, Session
from nbchat.core.messages import content_of, joined_text
from nbchat.view.echo import Echo
from nbchat.view.html.render import render_response
from nbchat.view.terminal import TerminalView

SEARCH = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "s1", "content": []}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "sig"}
REDACTED = {"type": "redacted_thinking", "data": "x"}
CODE = "```python\nx = 1\n```"


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


@pytest.mark.parametrize(
    ("content", "joined"),
    [
        ([text("Let me check:"), SEARCH, FOUND, text(CODE)], f"Let me check:\n\n{CODE}"),
        ([text("Let me check:"), THOUGHT, text(CODE)], f"Let me check:\n\n{CODE}"),
        ([text("Let me check:"), REDACTED, text(CODE)], f"Let me check:\n\n{CODE}"),
        ([text("Let me check:"), {"type": "of_next_year"}, text(CODE)], f"Let me check:\n\n{CODE}"),
        ([text("Let me check:\n"), SEARCH, FOUND, text(CODE)], f"Let me check:\n\n{CODE}"),
        ([text("Let me check:"), SEARCH, FOUND, text(f"\n\n{CODE}")], f"Let me check:\n\n{CODE}"),
        ([text("Let me check:"), SEARCH, text(""), FOUND, text(CODE)], f"Let me check:\n\n{CODE}"),
        ([SEARCH, FOUND, text(CODE), {**SEARCH, "id": "s2"}], CODE),
    ],
)
def test_a_blank_line_is_where_another_block_was(content: list[dict[str, Any]], joined: str, tmp_path: Path):
    """``.text``, ``.code``, the page, a pipe and the echo agree."""
    file = io.StringIO()
    sinks = [TerminalView(console=Console(file=file, force_terminal=False)), Echo(str(tmp_path / "echo"))]
    response = Session(ScriptedTransport(content)).ask("q", sinks=sinks)
    assert response.text == joined
    assert response.code == "x = 1"
    html = render_response(response)["text/html"]
    assert '<div class="highlight' in html or "<pre" in html
    assert "```" not in html
    assert (tmp_path / "echo").read_text("utf-8") == f"{joined}\n\n"
    assert file.getvalue().startswith(CODE) or f"\n{CODE}" in file.getvalue()


def test_texts_that_follow_each_other_stay_one_text():
    """Citations split a sentence into blocks."""
    response = Session(ScriptedTransport([text("It is "), text("12 degrees"), text(".")])).ask("q")
    assert response.text == "It is 12 degrees."


def test_an_answer_after_tools_and_an_answer_that_was_paused_follow_the_same_rule():
    """The results of tools, or the search that paused the answer, are between the texts."""
    paused = [text("Let me check:"), SEARCH, {"stop_reason": "pause_turn"}]
    assert Session(ScriptedTransport(paused, [FOUND, text(CODE)])).ask("q").text == f"Let me check:\n\n{CODE}"

    def ping() -> str:
        """Ping."""
        return "pong"

    transport = ScriptedTransport([text("Let me check:"), {"tool": "ping", "input": {}}], CODE)
    assert Session(transport).ask("q", tools=[ping]).code == "x = 1"


@given(st.lists(st.sampled_from(["a", "b\n", "\n\nc", "", SEARCH, THOUGHT]), max_size=8))
def test_no_text_is_lost_or_glued(parts: list[Any]):
    """The characters stay, and only line ends are added, at most two between two texts."""
    blocks = content_of(text(part) if isinstance(part, str) else part for part in parts)
    joined = joined_text(blocks)
    words = [part for part in parts if isinstance(part, str) and part]
    assert joined.replace("\n", "") == "".join(words).replace("\n", "")
    assert len(joined) <= len("".join(words)) + 2 * max(0, len(words) - 1)
    runs = joined_text([block for block in blocks if block.type == "text"])
    assert runs == "".join(words)
