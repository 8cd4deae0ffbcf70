"""The rules of nbchat/core, which hold for any answer, as Hypothesis properties."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nbchat.core.chunks import BlockStart, BlockStop, OutputText, ResponseChunk, Thinking, ToolInput
from nbchat.core.conversation import Conversation, Turn
from nbchat.core.errors import StreamError, TemplateError, redact
from nbchat.core.messages import Message, OpaqueBlock, TextBlock, ToolUseBlock, block_of
from nbchat.core.parser import ChatStreamParser, events_of
from nbchat.core.response import Accumulator, Response
from nbchat.core.template import Filled, fill, split
from nbchat.core.usage import Usage
from nbchat.view.html.fences import fenced_code

# Values of the API

plain = st.one_of(st.none(), st.booleans(), st.integers(-(10**6), 10**6), st.text(max_size=10))
values = st.recursive(
    plain,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)
objects = st.dictionaries(st.text(max_size=6), values, max_size=4)
later_fields = st.dictionaries(st.sampled_from(["caller", "cache_control", "later"]), values, max_size=2)
citations = st.lists(
    st.fixed_dictionaries({"type": st.just("char_location"), "cited_text": st.text(max_size=8)}), max_size=2
)
texts = st.builds(
    lambda text, cited, more: {"type": "text", "text": text, **({"citations": cited} if cited else {}), **more},
    st.text(max_size=40),
    citations,
    later_fields,
)
thinkings = st.builds(
    lambda thinking, signature: {"type": "thinking", "thinking": thinking, "signature": signature},
    st.text(max_size=30),
    st.text(max_size=8),
)
calls = st.builds(
    lambda kind, number, value, more: {"type": kind, "id": f"toolu_{number}", "name": "f", "input": value, **more},
    st.sampled_from(["tool_use", "server_tool_use", "mcp_tool_use"]),
    st.integers(0, 9),
    objects,
    later_fields,
)
others = st.builds(
    lambda kind, more: {**more, "type": kind},
    st.sampled_from(["redacted_thinking", "web_search_tool_result", "compaction", "of_next_year"]),
    objects,
)
blocks = st.one_of(texts, thinkings, calls, others)
counts = st.integers(0, 10**6)
usages = st.fixed_dictionaries(
    {"input_tokens": counts, "output_tokens": counts},
    optional={
        "cache_read_input_tokens": counts,
        "cache_creation_input_tokens": st.one_of(st.none(), counts),
        "cache_creation": st.one_of(st.none(), st.fixed_dictionaries({"ephemeral_1h_input_tokens": counts})),
        "service_tier": st.sampled_from([None, "standard", "batch"]),
    },
)
messages = st.builds(
    lambda content, usage, reason: {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-test",
        "content": content,
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": usage,
    },
    # The ids of calls are unique: a second call with the same id is an error.
    st.lists(blocks, max_size=5, unique_by=lambda block: block["id"] if "tool_use" in block["type"] else object()),
    usages,
    st.sampled_from(["end_turn", "tool_use", "max_tokens", "refusal", "pause_turn"]),
)
noise = st.one_of(
    st.just({"type": "ping"}),
    st.builds(lambda more: {**more, "type": "of_next_year"}, objects),
    st.builds(lambda more: {key: value for key, value in more.items() if key != "type"}, objects),
)

_FIELDS = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}


@st.composite
def split_again(draw, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the same events with every delta split at any places, some of them empty."""
    result = []
    for event in events:
        delta = event.get("delta") or {}
        field = _FIELDS.get(delta.get("type", "")) if event["type"] == "content_block_delta" else None
        if field is None:
            result.append(event)
            continue
        whole = delta[field]
        places = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=5)))
        for begin, end in zip([0, *places], [*places, len(whole)], strict=True):
            result.append({**event, "delta": {**delta, field: whole[begin:end]}})
    return result


@st.composite
def streams(draw) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return a message, and its events as they may arrive."""
    message = draw(messages)
    return message, draw(split_again(list(events_of(message))))


def parsed(events: list[dict[str, Any]]) -> tuple[ResponseChunk, list[Any]]:
    """Return the complete message and all chunks."""
    parser = ChatStreamParser()
    chunks = [chunk for event in events if (chunk := parser.feed(event)) is not None]
    parser.close()
    return parser.snapshot(), chunks


def text_of(chunk: ResponseChunk) -> str:
    return "".join(block.text for block in chunk.blocks if isinstance(block, TextBlock))


# The parser


@given(messages)
def test_a_message_taken_apart_and_put_together_is_the_message(message):
    """Events made from a message give the same message."""
    whole, _ = parsed(list(events_of(message)))
    assert whole.blocks == tuple(block_of(block) for block in message["content"])
    assert [block.to_dict() for block in whole.blocks] == message["content"]
    assert whole.usage == Usage.from_api(message["usage"])
    assert dict(whole.message) == {key: message[key] for key in message if key not in ("content", "usage")}


@given(streams())
def test_the_size_of_the_deltas_does_not_matter(stream):
    """The same text in other pieces gives the same answer."""
    message, events = stream
    assert parsed(events)[0] == parsed(list(events_of(message)))[0]


@given(streams(), st.data())
def test_unknown_events_change_nothing(stream, data):
    """Pings, events of a later API and dicts without a type give None, and the answer is the same."""
    _, events = stream
    mixed = list(events)
    for _ in range(data.draw(st.integers(1, 4))):
        mixed.insert(data.draw(st.integers(0, len(mixed))), data.draw(noise))
    assert parsed(mixed) == parsed(events)


@given(streams(), st.data())
def test_a_stream_that_ends_early_is_an_error_and_what_came_is_kept(stream, data):
    """For every part of a stream, ``close`` raises each time, and the text is the beginning of the full text."""
    _, events = stream
    full, _ = parsed(events)
    parser = ChatStreamParser()
    for event in events[: data.draw(st.integers(0, len(events) - 1))]:
        chunk = parser.feed(event)
        assert not isinstance(chunk, ResponseChunk)
    sofar = parser.snapshot()
    assert text_of(full).startswith(text_of(sofar))
    assert len(sofar.blocks) <= len(full.blocks)
    assert not parser.whole
    for _ in range(2):
        with pytest.raises(StreamError):
            parser.close()
    with pytest.raises(StreamError):
        parser.feed({"type": "ping"})
    assert parser.snapshot() == sofar


@given(streams(), st.lists(st.one_of(noise, streams().map(lambda stream: stream[1][0])), max_size=4))
def test_nothing_follows_the_response(stream, after):
    """The response chunk comes once, as the last chunk. Events after it are ignored."""
    _, events = stream
    whole, chunks = parsed(events)
    assert [type(chunk) for chunk in chunks].count(ResponseChunk) == 1
    assert chunks[-1] == whole
    parser = ChatStreamParser()
    for event in events:
        parser.feed(event)
    assert [parser.feed(event) for event in after] == [None] * len(after)
    parser.close()
    assert parser.snapshot() == whole


@given(streams())
def test_chunks_contain_the_same_as_the_response(stream):
    """The sum of the chunks equals the blocks of the response."""
    _, events = stream
    whole, chunks = parsed(events)
    told: dict[int, list[str]] = {}
    for chunk in chunks:
        match chunk:
            case BlockStart(index=index):
                assert index not in told
                told[index] = []
            case OutputText(index=index, text=text) | Thinking(index=index, text=text):
                told[index].append(text)
            case ToolInput(index=index, partial_json=text):
                told[index].append(text)
            case BlockStop(index=index, block=block):
                assert block == whole.blocks[index]
    for index, block in enumerate(whole.blocks):
        joined = "".join(told[index])
        match block:
            case TextBlock(text=text):
                assert joined == text
            case ToolUseBlock(input=value):
                assert json.loads(joined) == value


@given(streams(), st.data())
def test_a_block_may_lack_its_end(stream, data):
    """Rule 4: some servers leave content_block_stop out."""
    _, events = stream
    kept = [event for event in events if event["type"] != "content_block_stop" or data.draw(st.booleans())]
    assert parsed(kept)[0] == parsed(events)[0]


_event_types = st.sampled_from(
    [
        *("message_start", "content_block_start", "content_block_delta", "content_block_stop"),
        *("message_delta", "message_stop", "error", "notice", "ping"),
    ]
)
_wild_delta = st.builds(
    lambda kind, more: {**more, "type": kind},
    st.one_of(st.sampled_from([*_FIELDS, "citations_delta", "signature_delta", "later_delta"]), values),
    st.dictionaries(st.sampled_from(["text", "thinking", "partial_json", "citation", "signature"]), values, max_size=3),
)
wild_events = st.builds(
    lambda kind, fields: {**fields, "type": kind},
    st.one_of(_event_types, values),
    st.fixed_dictionaries(
        {},
        optional={
            "index": st.one_of(st.integers(0, 1), values),
            "delta": st.one_of(_wild_delta, values),
            "content_block": st.one_of(blocks, objects, values),
            "message": st.one_of(messages, objects, values),
            "usage": st.one_of(
                usages, st.dictionaries(st.sampled_from(["input_tokens", "cache_creation"]), values), values
            ),
            "error": st.one_of(st.fixed_dictionaries({"type": values, "message": values}), values),
            "text": values,
        },
    ),
)
_start = {"type": "message_start", "message": {"id": "m"}}


@given(st.lists(wild_events, max_size=12), st.one_of(st.none(), blocks))
def test_whatever_an_endpoint_sends_is_a_chunk_or_a_stream_error(events, opening):
    """No other error is raised, and a snapshot is always possible."""
    parser = ChatStreamParser()
    if opening is not None:
        events = [_start, {"type": "content_block_start", "index": 0, "content_block": opening}, *events]
    try:
        for event in events:
            parser.feed(event)
    except StreamError:
        with pytest.raises(StreamError):
            parser.feed({"type": "ping"})
    assert isinstance(parser.snapshot(), ResponseChunk)
    accumulator = Accumulator(Message.of("user", "?"), lambda: 0.0)
    accumulator.cut(parser.snapshot())
    assert isinstance(accumulator.respond("complete").text, str)


@given(st.integers(0, 200_000))
def test_tool_json_may_be_nested_as_deep_as_it_likes(depth):
    """Too deep an input makes a call that never runs. It does not crash the parser."""
    event = {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "input_json_delta", "partial_json": "[" * depth},
    }
    call = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    whole, _ = parsed(
        [_start, {"type": "content_block_start", "index": 0, "content_block": call}, event, {"type": "message_stop"}]
    )
    assert whole.blocks[0].valid == (depth == 0)


# Usage

tiers = st.sampled_from([None, "standard", "batch", "priority"])
added = st.builds(
    Usage,
    input_tokens=counts,
    output_tokens=counts,
    cache_creation_input_tokens=counts,
    cache_read_input_tokens=counts,
    cache_creation_1h_input_tokens=counts,
    thinking_tokens=counts,
    web_search_requests=counts,
    service_tier=tiers,
    speed=st.sampled_from([None, "fast"]),
    estimated=st.booleans(),
)


@given(added, added, added)
def test_usage_is_a_commutative_monoid(a, b, c):
    """The order and the grouping of a sum do not matter, and ``Usage()`` is its zero."""
    assert (a + b) + c == a + (b + c)
    assert a + b == b + a
    assert a + Usage() == Usage() + a == a
    assert sum([a, b, c]) == a + b + c
    assert (a + b).total_tokens == a.total_tokens + b.total_tokens
    assert Usage.from_dict(json.loads(json.dumps((a + b).to_dict()))) == a + b


# Templates


@given(st.text(max_size=80))
def test_a_text_without_double_braces_is_itself(text):
    """Single braces, percent signs and backslashes have no meaning."""
    assume("{{" not in text)
    assert "".join(split(text)) == text
    assert len(split(text)) <= 1


@given(
    st.lists(st.tuples(st.text(max_size=10), st.one_of(st.text(max_size=20), st.integers())), max_size=4),
    st.text(max_size=10),
)
def test_values_are_put_in_once_and_never_read_again(parts, last):
    """A value that contains {{ … }} is not evaluated."""
    literals = [text for text, _ in parts] + [last]
    assume(not any("{{" in text or text.endswith(("{", "\\")) for text in literals))
    assume(not any(text.startswith("}") for text in literals))
    namespace = {f"v{number}": value for number, (_, value) in enumerate(parts)}
    source = "".join(f"{text}{{{{ v{number} }}}}" for number, (text, _) in enumerate(parts)) + last
    filled = fill(source, namespace)
    assert [part.value for part in filled if isinstance(part, Filled)] == [value for _, value in parts]
    assert "".join(part for part in filled if isinstance(part, str)) == "".join(literals)


@given(st.text(alphabet="{}\\ ab\n'\"():=", max_size=30))
def test_any_prompt_is_filled_or_explained(text):
    """Any mix of braces is filled, or raises a TemplateError."""
    with contextlib.suppress(TemplateError):
        fill(text, {"a": 1, "b": "x"})


# Conversations

ids = st.integers(0, 3).map(lambda number: f"toolu_{number}")
assistant_blocks = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, st.sampled_from(["", " \n", "words"])),
    st.builds(lambda signed: {"type": "thinking", "thinking": "hm", "signature": signed}, st.sampled_from(["", "sig"])),
    st.just({"type": "redacted_thinking", "data": "x"}),
    st.builds(lambda id: {"type": "tool_use", "id": id, "name": "f", "input": {}}, ids),
    st.builds(lambda id: {"type": "server_tool_use", "id": id, "name": "web_search", "input": {}}, ids),
    st.builds(lambda id: {"type": "web_search_tool_result", "tool_use_id": id, "content": []}, ids),
)
result_blocks = st.builds(lambda id: {"type": "tool_result", "tool_use_id": id, "content": "3"}, ids)
assistants = st.lists(assistant_blocks, max_size=4).map(lambda content: Message.of("assistant", content))
results = st.lists(result_blocks, max_size=3).map(lambda content: Message.of("user", content))
turn_messages = st.builds(
    lambda prompt, first, rounds, cut: (prompt, *([first] if first else []), *sum(rounds, ()))[: 1 + cut],
    st.sampled_from(["a question", "another"]).map(lambda text: Message.of("user", text)),
    st.one_of(st.none(), assistants),
    st.lists(st.tuples(results, assistants), max_size=2),
    st.integers(0, 6),
)
turns = st.builds(
    Turn,
    key=st.sampled_from([None, "cell-1", "cell-2", "cell-3"]),
    messages=turn_messages,
    status=st.sampled_from(["complete", "interrupted", "error"]),
)


def assert_valid(history: tuple[Message, ...]) -> None:
    """Assert all that the Messages API demands of a history before the next prompt."""
    if not history:
        return
    assert history[0].role == "user"
    assert history[-1].role == "assistant", "no lone user turn before the prompt"
    open_calls: list[str] = []
    for before, message in zip((None, *history), history, strict=False):
        assert message.content, "no empty message"
        assert all(block.text.strip() for block in message.content if isinstance(block, TextBlock))
        answered = [
            block.data["tool_use_id"]
            for block in message.content
            if isinstance(block, OpaqueBlock) and block.type == "tool_result"
        ]
        if message.role == "user":
            assert before is None or before.role == "assistant", "no two user messages in a row"
            assert Counter(answered) == Counter(open_calls), "each call has its one result in the next message"
            open_calls = []
        else:
            assert before.role == "user", "no two answers in a row"
            assert not answered
            open_calls = [
                block.id for block in message.content if isinstance(block, ToolUseBlock) and block.type == "tool_use"
            ]
    assert not open_calls
    answers = [block for message in history if message.role == "assistant" for block in message.content]
    used = {block.id for block in answers if isinstance(block, ToolUseBlock) and block.type != "tool_use"}
    served = {
        block.data["tool_use_id"] for block in answers if isinstance(block, OpaqueBlock) and "tool_use_id" in block.data
    }
    assert used == served, "each call that the server ran has its result in an answer, and each result its call"


@given(st.lists(turns, max_size=5), st.sampled_from([None, "cell-1", "cell-2", "cell-9"]))
def test_a_history_is_always_valid_whatever_was_recorded(recorded, key):
    """Turns may be interrupted, failed, repeated or out of order. The history before a prompt stays valid."""
    conversation = Conversation()
    for turn in recorded:
        conversation.record(turn)
    assert_valid(conversation.history(key))
    if conversation.turns:
        conversation.forget(1)
        assert_valid(conversation.history(key))
    assert_valid(conversation.fork("other").history(None))
    restored = Conversation.from_dict(json.loads(json.dumps(conversation.to_dict())))
    assert restored.history(key) == conversation.history(key)
    assert restored.turns == conversation.turns


@given(st.lists(turns, min_size=1, max_size=6))
def test_a_cell_has_one_turn_and_keeps_its_place(recorded):
    """Running a cell again replaces its turn, keeps the turns before it, and marks the turns after it stale."""
    conversation = Conversation()
    for turn in recorded:
        before = conversation.turns
        conversation.record(turn)
        now = conversation.turns
        keys = [old.key for old in before]
        if turn.key is None or turn.key not in keys:
            assert now == (*before, turn)
            continue
        place = keys.index(turn.key)
        assert now[:place] == before[:place]
        assert now[place] == turn
        assert all(later.stale for later in now[place + 1 :])
        assert [later.messages for later in now[place + 1 :]] == [later.messages for later in before[place + 1 :]]
        history = conversation.history(turn.key)
        assert history == tuple(message for old in now[:place] for message in old.sendable())


# Responses

answered_by = st.builds(
    lambda message, status, cost, prompt: (message, status, cost, prompt),
    messages,
    st.sampled_from(["complete", "interrupted", "incomplete", "refused", "error"]),
    st.one_of(st.none(), st.floats(0, 10, allow_nan=False)),
    st.text(max_size=20),
)


@given(answered_by, st.data())
def test_a_response_is_restored_from_its_dict(answer, data):
    """The dict passes through JSON. The answer may be cut short anywhere."""
    message, status, cost, prompt = answer
    events = data.draw(split_again(list(events_of(message))))
    parser, accumulator = ChatStreamParser(), Accumulator(Message.of("user", prompt), lambda: 1.0)
    for event in events[: data.draw(st.integers(0, len(events)))]:
        if (chunk := parser.feed(event)) is not None:
            accumulator.feed(chunk)
    if not parser.whole:
        accumulator.cut(parser.snapshot())
    response = accumulator.respond(status, cost=cost, endpoint="test", digest="d" * 64)
    restored = Response.from_dict(json.loads(json.dumps(response.to_dict())))
    assert restored == response
    assert restored.to_dict() == response.to_dict()
    assert [call.valid for call in restored.tool_calls] == [call.valid for call in response.tool_calls]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "python", "r"]),
            st.lists(st.sampled_from(["x = 1", "", "  y()", "``", "~~~"]), min_size=1, max_size=4),
        ),
        max_size=3,
    )
)
def test_fenced_code_is_what_was_fenced(parts):
    """The text has prose between the blocks, and code that contains other fences."""
    text = "\n".join(f"Some `words`.\n```{language}\n" + "\n".join(rows) + "\n```" for language, rows in parts)
    assert fenced_code(text) == [(language, "\n".join(rows)) for language, rows in parts]


@given(st.text(max_size=60), st.text(alphabet="abcXYZ019_-", min_size=4, max_size=40))
def test_redacting_removes_the_key_and_is_idempotent(around, tail):
    """The key may be anywhere in the text."""
    text = f"{around}sk-ant-{tail}{around}"
    assert tail not in redact(text) or tail in around
    assert redact(redact(text)) == redact(text)


@given(values, values)
def test_the_id_and_the_model_of_an_answer_are_text(id: Any, model: Any):
    """A gateway may send anything. The answer is complete all the same, and its Response can be shown."""
    content = [{"type": "text", "text": "Five."}]
    for events in (
        list(events_of({"id": id, "model": model, "content": content, "stop_reason": "end_turn"})),
        [{"type": "message_start", "message": {}}, {"type": "message_delta", "delta": {"id": id}, "model": model}],
    ):
        parser = ChatStreamParser()
        for event in events:
            parser.feed(event)
        accumulator = Accumulator(Message.of("user", "2 + 3?"), lambda: 0.0)
        accumulator.feed(parser.snapshot())
        response = accumulator.respond("complete")
        assert isinstance(response.id, str)
        assert isinstance(response.model, str)
        assert repr(response)
