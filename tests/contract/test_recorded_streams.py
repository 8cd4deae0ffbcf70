"""The parser on recorded answers of the real API, compared with the SDK's own result for the same bytes."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbchat.core.messages import Message, ToolUseBlock
from nbchat.core.parser import ChatStreamParser
from nbchat.core.request import Request
from nbchat.core.response import Accumulator, Response
from nbchat.core.usage import Usage
from nbchat.engine.session import Session
from nbchat.transports.claude import ClaudeTransport
from tests.conftest import ROOT
from tests.support.server import replay, serving

STREAMS = ROOT.parent / "shared" / "streams"
RECORDINGS = sorted(STREAMS.glob("*.sse"))


def test_all_recordings_are_here(streams: Path) -> None:
    """The folder has all files that its README lists. Otherwise the tests below would check nothing."""
    listed = (streams / "README.md").read_text().count(".sse |")
    assert len(RECORDINGS) == listed == 80


@pytest.fixture(scope="module")
def http() -> Iterator[Any]:
    """Share one pool of connections, because making one takes longer than a recording."""
    import anthropic

    with anthropic.DefaultHttpxClient() as client:
        yield client


def ask(url: str, http: Any, *, stream: bool = True, once: bool = False) -> Response:
    """Return the answer. With ``once``, send a single request; a session would continue after a pause."""
    transport = ClaudeTransport("recorded", base_url=url, http_client=http)
    if not once:
        return Session(transport).ask("What was asked", model="any", stream=stream)
    prompt = Message.of("user", "What was asked")
    parser, accumulator = ChatStreamParser(), Accumulator(prompt, time.monotonic)
    with transport.stream(Request("any", (prompt,), 10, stream=stream)) as events:
        for event in events:
            if (chunk := parser.feed(event)) is not None:
                accumulator.feed(chunk)
    parser.close()
    return accumulator.respond("complete")


def pauses(recording: Path) -> bool:
    """Return True if the answer is paused. A session would then ask again, and get the same answer."""
    return b'"stop_reason":"pause_turn"' in recording.read_bytes().replace(b'": ', b'":')


def sdk_message(url: str, http: Any, recording: Path) -> Any:
    """Return the message that the SDK's own helper accumulates.

    Some recordings need the SDK's beta helper. The other helper loses the delta of a compaction block
    and the input of an mcp_tool_use block (SDK 2.12).
    """
    import anthropic

    client = anthropic.Anthropic(api_key="none", base_url=url, max_retries=0, http_client=http)
    beta = "compaction" in recording.name or "mcp_servers" in recording.name
    messages = client.beta.messages if beta else client.messages
    with messages.stream(model="any", max_tokens=10, messages=[{"role": "user", "content": "x"}]) as stream:
        return stream.get_final_message()


def without_nulls(value: Any) -> Any:
    """Return the value without nulls, because null and absent mean the same to the API."""
    if isinstance(value, dict):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [without_nulls(inner) for inner in value] if isinstance(value, list) else value


def joined(content: list[dict[str, Any]]) -> str:
    """Return the runs of text, with a blank line between two of them. The service ends none with a newline."""
    runs = itertools.groupby(content, key=lambda block: block["type"] == "text")
    texts = ("".join(block["text"] for block in run) for is_text, run in runs if is_text)
    return "\n\n".join(text for text in texts if text)


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda path: path.stem)
def test_our_response_is_what_the_sdk_accumulates(recording: Path, http: Any) -> None:
    """Text, blocks, stop reason and usage are equal for the same bytes from a local server."""
    with serving(replay(recording.read_bytes())) as server:
        ours = ask(server.url, http, once=pauses(recording))
        theirs = sdk_message(server.url, http, recording).to_dict(mode="json", warnings=False)
    assert ours.status == "complete"
    assert ours.stop_reason == theirs["stop_reason"]
    assert without_nulls([block.to_dict() for block in ours.blocks]) == without_nulls(theirs["content"])
    assert ours.text == joined(theirs["content"])
    assert ours.usage == Usage.from_api(theirs["usage"])
    assert ours.id == theirs["id"]
    assert ours.model == theirs["model"]


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda path: path.stem)
def test_the_same_answer_without_streaming_gives_the_same_response(recording: Path, http: Any) -> None:
    """The Response is the same, and so are the chunks, except for their number."""

    def whole(wire: Any, request: Any) -> None:
        assert "stream" not in request.body or request.body["stream"] is False
        wire.json("200 OK", message)

    with serving(replay(recording.read_bytes())) as server:
        streamed = ask(server.url, http, once=pauses(recording))
        message = sdk_message(server.url, http, recording).to_dict(mode="json", warnings=False)
    with serving(whole) as server:
        plain = ask(server.url, http, stream=False, once=pauses(recording))
    for name in ("text", "blocks", "usage", "stop_reason", "status", "model", "id", "thinking", "tool_calls"):
        mine, other = getattr(plain, name), getattr(streamed, name)
        if name == "blocks":
            mine, other = (without_nulls([block.to_dict() for block in blocks]) for blocks in (mine, other))
        assert mine == other, name
    assert kinds(plain) == kinds(streamed)


def kinds(response: Response) -> list[str]:
    """Return the types of the chunks in order, with a run of deltas of one block as one."""
    seen: list[tuple[str, int]] = []
    for chunk in response.chunks:
        here = (chunk.type, getattr(chunk, "index", -1))
        if not seen or seen[-1] != here or chunk.type in ("block_start", "block_stop", "response"):
            seen.append(here)
    # A citation may come before, between or after the pieces of the text that it supports.
    return [
        f"{kind} {index}" for kind, index in seen if kind not in ("citation", "output_text", "thinking", "tool_input")
    ]


def test_recorded_tool_calls_are_parsed_strictly(streams: Path, http: Any) -> None:
    """Each recorded tool call has its complete input."""
    calls = 0
    for recording in RECORDINGS:
        with serving(replay(recording.read_bytes())) as server:
            for block in ask(server.url, http, once=pauses(recording)).blocks:
                if isinstance(block, ToolUseBlock):
                    calls += 1
                    assert block.valid
                    json.dumps(dict(block.input))
    assert calls >= 40
