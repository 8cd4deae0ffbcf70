"""Tests of ``pause_turn``: the service pauses a long search, and continues when its answer is sent back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nbchat import Session
from nbchat.core.chunks import Notice
from nbchat.transports.claude import ClaudeTransport
from nbchat.view.html.render import render_response
from tests.support.server import Handler, Received, Wire, replay, serving, start, streaming, text_events

PAUSED = "pydantic-ai--test_pause_turn_web_search_streaming_vcr--{}.sse"


def content_of(sse: bytes) -> list[dict]:
    """Return the blocks of a recorded answer, joined from its events without nbchat's parser."""
    blocks: dict[int, dict] = {}
    inputs: dict[int, str] = {}
    for line in sse.decode().splitlines():
        if not line.startswith("data:"):
            continue
        event = json.loads(line[5:])
        if event["type"] == "content_block_start":
            blocks[event["index"]] = event["content_block"]
        elif event["type"] == "content_block_delta":
            block, delta = blocks[event["index"]], event["delta"]
            match delta["type"]:
                case "text_delta":
                    block["text"] += delta["text"]
                case "thinking_delta":
                    block["thinking"] += delta["thinking"]
                case "signature_delta":
                    block["signature"] = delta["signature"]
                case "input_json_delta":
                    inputs[event["index"]] = inputs.get(event["index"], "") + delta["partial_json"]
                case "citations_delta":
                    block["citations"] = [*(block.get("citations") or []), delta["citation"]]
    for index, text in inputs.items():
        blocks[index]["input"] = json.loads(text or "{}")
    return [blocks[index] for index in sorted(blocks)]


def answering(*handlers: Handler) -> Handler:
    """Return a handler that calls one handler after the other for messages, and has no Models API."""
    left = list(handlers)

    def handler(wire: Wire, request: Received) -> None:
        if request.path != "/v1/messages":
            wire.json("404 Not Found", {"type": "error", "error": {"type": "not_found_error", "message": "no"}})
        else:
            (left.pop(0) if len(left) > 1 else left[0])(wire, request)

    return handler


@pytest.fixture
def recorded(streams: Path) -> list[bytes]:
    """Return the two answers of a web search by the real API, which paused once."""
    return [(streams / PAUSED.format(number)).read_bytes() for number in (0, 1)]


def test_a_paused_search_continues_automatically(recorded: list[bytes]):
    """The second request contains the first answer unchanged, with its thinking, signature, calls and results."""
    with serving(answering(*map(replay, recorded))) as server:
        response = Session(ClaudeTransport("mine", base_url=server.url)).ask(
            "Search.", thinking=True, web_search=True, max_tokens=15_000
        )
    asked = [request for request in server.requests if request.path == "/v1/messages"]
    assert len(asked) == 2
    first, second = (request.body for request in asked)
    assert second["messages"][0] == first["messages"][0]
    assert second["messages"][1] == {"role": "assistant", "content": content_of(recorded[0])}
    assert len(second["messages"]) == 2
    assert {**second, "messages": 0} == {**first, "messages": 0}  # tools and other fields are unchanged
    assert response.status == "complete"
    assert response.stop_reason == "end_turn"
    assert response.usage.web_search_requests == 15


def test_the_results_of_a_search_are_kept_and_sent_again(recorded: list[bytes]):
    """The next turn sends the whole search, with calls and results in their order."""
    with serving(answering(*map(replay, recorded), streaming(text_events(["Fine."])))) as server:
        session = Session(ClaudeTransport("mine", base_url=server.url))
        session.ask("Search.", web_search=True)
        session.ask("And now?")
    sent = server.requests[-1].body["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "user"]
    kept = sent[1]["content"]
    original = content_of(recorded[0]) + content_of(recorded[1])
    assert kept == [block for block in original if block["type"] != "text" or block["text"].strip()]
    results = [block["tool_use_id"] for block in kept if block["type"] == "web_search_tool_result"]
    calls = [block["id"] for block in kept if block["type"] == "server_tool_use"]
    assert results == calls
    assert len(calls) == 15
    assert all(block.get("content") for block in kept if block["type"] == "web_search_tool_result")


def test_citations_are_rendered_with_their_sources(streams: Path):
    """The final output has a link to each source that an answer of the real API cites."""
    sse = (streams / "llm-anthropic--test_web_search--0.sse").read_bytes()
    with serving(answering(replay(sse))) as server:
        response = Session(ClaudeTransport("mine", base_url=server.url)).ask("Search.", web_search=True)
    cited = [citation for block in content_of(sse) for citation in block.get("citations") or ()]
    assert cited
    html = render_response(response)["text/html"]
    assert "Sources" in html
    for citation in cited:
        assert f'href="{citation["url"]}"'.replace("&", "&amp;") in html


def test_a_service_that_always_pauses_is_continued_ten_times():
    """After ten requests the turn ends. Its stop reason says that the service paused."""
    with serving(streaming(text_events(["More. "], "pause_turn"))) as server:
        response = Session(ClaudeTransport("mine", base_url=server.url)).ask("Search.")
    assert len(server.requests) == 11
    assert response.stop_reason == "pause_turn"


def test_the_share_of_the_prompt_from_the_cache_is_shown_when_the_answer_begins():
    """The status line shows it before the first word. Without a cache it shows nothing."""

    class Recorder:
        def __init__(self) -> None:
            self.lines: list[str] = []

        def begin(self, request) -> None:
            pass

        def feed(self, chunk) -> None:
            self.lines.append(chunk.text if isinstance(chunk, Notice) else chunk.type)

        def settle(self, response) -> None:
            pass

    cached = [start(input_tokens=100, cache_read_input_tokens=900), *list(text_events(["Hi"]))[1:]]
    with serving(streaming(cached), streaming(text_events(["Hi"]))) as server:
        session = Session(ClaudeTransport("mine", base_url=server.url))
        session.ask("Hi", sinks=[cached_run := Recorder()])
        session.ask("Hi", sinks=[plain_run := Recorder()])
    line = "90 % of the prompt from the cache"
    assert cached_run.lines.index(line) < cached_run.lines.index("block_start")
    assert not any("cache" in text for text in plain_run.lines)
