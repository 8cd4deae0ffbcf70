"""Streams with odd values: the answer lives, or there is one StreamError. The conversation goes on either way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from nbchat.core.errors import NbchatError, StreamError
from nbchat.core.messages import ToolUseBlock
from nbchat.engine.session import Session
from nbchat.transports.claude import ClaudeTransport
from tests.support.server import Received, Wire, serving, text_events

Lines = list[tuple[str, str]]
ANSWER: Lines = [(event["type"], json.dumps(event)) for event in text_events(["Hi"])]


@pytest.fixture(scope="module")
def http() -> Iterator[Any]:
    import anthropic

    with anthropic.DefaultHttpxClient() as client:
        yield client


def converse(http: Any, lines: Lines, *, before: bytes = b"", after: str = "Hi", **options: Any) -> Session:
    """Ask twice. The first answer is odd, the second one is not. Return the session after both."""

    def handler(wire: Wire, request: Received) -> None:
        wire.head()
        if not request.body:  # the Models API
            wire.end()
            return
        first = request.body["messages"][-1]["content"] == "First"
        sent = lines if first else ANSWER
        text = "".join(f"event: {name}\ndata: {data}\n\n" for name, data in sent)
        wire.send((before if first else b"") + text.encode())
        wire.end()

    with serving(handler) as server:
        session = Session(ClaudeTransport("mine", base_url=server.url, max_retries=0, http_client=http))
        try:
            session.first = session.ask("First", **options)
        except NbchatError as error:
            session.first = error
        json.dumps(session.last.to_dict(), allow_nan=False)
        assert session.ask("Second").text == after
    return session


def deep(levels: int) -> str:
    return "[" * levels + "]" * levels


def beginning(**fields: str) -> Lines:
    """Return an answer whose ``message_start`` has some fields of its message replaced by JSON texts."""
    message = json.loads(ANSWER[0][1])["message"]
    texts = {name: json.dumps(value) for name, value in message.items()} | fields
    inner = ", ".join(f'"{name}": {text}' for name, text in texts.items())
    return [("message_start", f'{{"type": "message_start", "message": {{{inner}}}}}'), *ANSWER[1:]]


def call(arguments: str, *, id: str = "t1", index: int = 0) -> Lines:
    """Return the events of a tool call."""
    block = {"type": "tool_use", "id": id, "name": "ping", "input": {}}
    delta = {"type": "input_json_delta", "partial_json": arguments}
    events = [
        {"type": "content_block_start", "index": index, "content_block": block},
        {"type": "content_block_delta", "index": index, "delta": delta},
        {"type": "content_block_stop", "index": index},
    ]
    return [(event["type"], json.dumps(event)) for event in events]


CALLED: Lines = [
    ("message_delta", '{"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 4}}'),
    ("message_stop", '{"type": "message_stop"}'),
]


def test_a_byte_order_mark(http: Any):
    """The SDK would not see the first event."""
    assert converse(http, ANSWER, before=b"\xef\xbb\xbf").first.text == "Hi"


@pytest.mark.parametrize("value", ["5", "null", '{"a": 1}', '["x"]'])
def test_a_model_of_the_wrong_type(value: str, http: Any):
    assert converse(http, beginning(model=value)).first.text == "Hi"


HUGE = "9" * 400


@pytest.mark.parametrize(
    "value", ['"x"', "5", "[[1, 2]]", "null", '{"input_tokens": 1e400}', f'{{"input_tokens": {HUGE}}}']
)
def test_a_usage_of_the_wrong_type(value: str, http: Any):
    """An answer does not fail because of its bill."""
    assert converse(http, beginning(usage=value)).first.text == "Hi"
    delta = f'{{"type": "message_delta", "delta": {{"stop_reason": "end_turn"}}, "usage": {value}}}'
    assert converse(http, [*ANSWER[:-2], ("message_delta", delta), ANSWER[-1]]).first.text == "Hi"


def test_details_of_the_wrong_type(http: Any):
    delta = '{"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_details": 5}}'
    assert converse(http, [*ANSWER[:-2], ("message_delta", delta), ANSWER[-1]]).first.text == "Hi"


ODD = [
    "[1]",
    '"x"',
    "5",
    "null",
    "not JSON",
    "{}",
    '{"type": 5}',
    '{"type": ["a"]}',
    '{"x": 1e400}',
    '{"type": "text"}',
]


@pytest.mark.parametrize("data", [*ODD, f'{{"type": "new", "x": {deep(330)}}}', f'{{"x": {deep(50_000)}}}'])
def test_an_unknown_event_with_odd_data(data: str, http: Any):
    """The answer lives."""
    assert converse(http, [*ANSWER[:3], ("of_next_year", data), *ANSWER[3:]]).first.text == "Hi"


BROKEN = [
    '{"a": 1e400}',
    '{"a": -1e400}',
    '{"a": NaN}',
    "[1]",
    "5",
    '{"a": 1',
    '{"a": "\\ud800"}',
    f'{{"a": {HUGE * 20}}}',
]
BROKEN += [f'{{"a": {deep(levels)}}}' for levels in (150, 330, 600, 950, 5_000, 100_000)]


@pytest.mark.parametrize("arguments", BROKEN, ids=[text[:20] + str(len(text)) for text in BROKEN])
def test_broken_arguments_are_broken_arguments(arguments: str, http: Any):
    """The tool does not run, Claude gets an error as the result, and the answer lives."""
    ran: list[Any] = []

    def ping(a: Any = None) -> str:
        """Ping."""
        ran.append(a)
        return "pong"

    session = converse(http, [ANSWER[0], *call(arguments), *CALLED], tools=[ping])
    assert session.first.text == "Hi"
    assert ran == []
    (block,) = [block for message in session.first.messages for block in message.content if type(block) is ToolUseBlock]
    assert not block.input


def test_arguments_that_are_nested_a_little_are_run(http: Any):
    ran: list[Any] = []

    def ping(a: Any = None) -> str:
        """Ping."""
        ran.append(a)
        return "pong"

    assert converse(http, [ANSWER[0], *call(f'{{"a": {deep(50)}}}'), *CALLED], tools=[ping]).first.text == "Hi"
    assert len(ran) == 1


@pytest.mark.parametrize(
    "second", [call("{}", index=1), call("{}", id="t2", index=0)], ids=["the id of a call", "the index of a block"]
)
def test_a_block_that_comes_twice(second: Lines, http: Any):
    """It is one StreamError, and the history keeps only what can be sent again."""
    first = converse(http, [ANSWER[0], *call("{}"), *second, *CALLED]).first
    assert isinstance(first, StreamError)
    assert "does not fit the Messages API" in first.message


@pytest.mark.parametrize("levels", [330, 950, 50_000])
def test_a_block_that_is_nested_deeply(levels: int, http: Any):
    """It is one StreamError of ours."""
    block = f'{{"type": "content_block_start", "index": 1, "content_block": {{"type": "new", "x": {deep(levels)}}}}}'
    first = converse(http, [*ANSWER[:3], ("content_block_start", block), *ANSWER[3:]]).first
    assert isinstance(first, StreamError)
