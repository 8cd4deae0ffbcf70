"""The answer that nbchat makes of a sequence of events, compared with what the SDK's own helper accumulates.

``tests/contract/test_recorded_streams.py`` compares them over HTTP for the recorded streams. Here they are
compared for generated events, and for odd ones, without a server. Where they differ on purpose, the table
``DIFFERENCES`` has the events and both results: a row that no longer holds fails.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nbchat.core.errors import StreamError
from nbchat.core.messages import Message
from nbchat.core.parser import ChatStreamParser
from nbchat.core.response import Accumulator, Response
from nbchat.core.usage import Usage

ring = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

Event = dict[str, Any]
Events = Sequence[Event]


def ours(events: Events) -> Response:
    """Return the Response of these events, made by the parser and the accumulator of a turn."""
    parser, accumulator = ChatStreamParser(), Accumulator(Message.of("user", "?"), lambda: 0.0)
    for event in events:
        if (chunk := parser.feed(event)) is not None:
            accumulator.feed(chunk)
    if not parser.whole:
        accumulator.cut(parser.snapshot())
    return accumulator.respond("complete")


def theirs(events: Events) -> dict[str, Any]:
    """Return the message that the SDK's beta helper accumulates. It knows all blocks that the other one knows."""
    from anthropic.lib.streaming._beta_messages import accumulate_event

    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for event in events:
        if event.get("type") == "ping":
            continue  # the SDK's stream drops these before it accumulates
        snapshot = accumulate_event(
            event=json.loads(json.dumps(event)), current_snapshot=snapshot, json_bufs=buffers, request_headers=None
        )
    message: dict[str, Any] = snapshot.to_dict(mode="json", warnings=False)
    return message


def bare(value: Any) -> Any:
    """Return the value without nulls and empty citations: the API means the same by a field that is absent."""
    if isinstance(value, dict):
        return {key: bare(part) for key, part in value.items() if part is not None and (key, part) != ("citations", [])}
    return [bare(part) for part in value] if isinstance(value, list) else value


def joined(content: Events) -> str:
    """Return the runs of text, with a blank line between two of them."""
    runs = [
        "".join(block["text"] for block in run)
        for is_text, run in itertools.groupby(content, key=lambda block: block["type"] == "text")
        if is_text
    ]
    whole = ""
    for run in filter(None, runs):
        missing = 2 - (len(whole) - len(whole.rstrip("\n"))) - (len(run) - len(run.lstrip("\n")))
        whole += ("\n" * missing if whole else "") + run
    return whole


def assert_same(events: Events) -> None:
    """The blocks, the text, the usage, the model and the reason are those of the SDK."""
    mine, message = ours(events), theirs(events)
    assert bare([block.to_dict() for block in mine.blocks]) == bare(message["content"])
    assert mine.text == joined(message["content"])
    assert mine.usage == Usage.from_api(message["usage"])
    assert (mine.id, mine.model) == (message["id"], message["model"])
    assert mine.stop_reason == message["stop_reason"]
    assert bare(mine.stop_details) == bare(message.get("stop_details"))
    assert bare(mine.container) == bare(message.get("container"))


# --- generated events -----------------------------------------------------------------------------

TEXT = st.text(max_size=30)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=5,
)
CITATION = st.fixed_dictionaries(
    {
        "type": st.just("char_location"),
        "cited_text": TEXT,
        "document_index": st.integers(0, 9),
        "document_title": TEXT,
        "start_char_index": st.integers(0, 99),
        "end_char_index": st.integers(0, 99),
        "file_id": st.none(),
    }
)


def pieces(text: str, cuts: Sequence[int]) -> list[str]:
    """Return the text cut at these places, some pieces empty."""
    places = sorted(min(cut, len(text)) for cut in cuts)
    return [text[begin:end] for begin, end in zip([0, *places], [*places, len(text)], strict=True)]


CUTS = st.lists(st.integers(0, 60), max_size=4)


@st.composite
def text_block(draw: st.DrawFn) -> tuple[Event, list[Event]]:
    deltas = [{"type": "text_delta", "text": piece} for piece in pieces(draw(TEXT), draw(CUTS))]
    for citation in draw(st.lists(CITATION, max_size=2)):
        deltas.insert(draw(st.integers(0, len(deltas))), {"type": "citations_delta", "citation": citation})
    return {"type": "text", "text": draw(st.sampled_from(["", "", "begun "]))}, deltas


@st.composite
def thinking_block(draw: st.DrawFn) -> tuple[Event, list[Event]]:
    deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(draw(TEXT), draw(CUTS))]
    signed = {"type": "signature_delta", "signature": draw(TEXT)}
    return {"type": "thinking", "thinking": "", "signature": ""}, [*deltas, signed]


@st.composite
def call_block(draw: st.DrawFn) -> tuple[Event, list[Event]]:
    kind = draw(st.sampled_from(["tool_use", "server_tool_use", "mcp_tool_use"]))
    block = {"type": kind, "id": f"toolu_{draw(st.integers(0, 10**9))}", "name": "web_search", "input": {}}
    if kind == "mcp_tool_use":
        block["server_name"] = draw(TEXT)
    text = json.dumps(draw(st.dictionaries(TEXT, JSON, max_size=3)), ensure_ascii=draw(st.booleans()))
    return block, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces(text, draw(CUTS))]


@st.composite
def compaction_block(draw: st.DrawFn) -> tuple[Event, list[Event]]:
    delta = {"type": "compaction_delta", "content": draw(TEXT), "encrypted_content": draw(TEXT)}
    return {"type": "compaction", "content": None, "encrypted_content": None}, [delta]


WHOLE = st.one_of(
    st.builds(lambda data: {"type": "redacted_thinking", "data": data}, TEXT),
    st.builds(
        lambda url, title: {
            "type": "web_search_tool_result",
            "tool_use_id": "srvtoolu_1",
            "content": [{"type": "web_search_result", "url": url, "title": title, "encrypted_content": "x"}],
        },
        TEXT,
        TEXT,
    ),
    st.builds(
        lambda text, failed: {
            "type": "mcp_tool_result",
            "tool_use_id": "mcptoolu_1",
            "is_error": failed,
            "content": [{"type": "text", "text": text}],
        },
        TEXT,
        st.booleans(),
    ),
    st.builds(lambda id: {"type": "container_upload", "file_id": id}, TEXT),
).map(lambda block: (block, []))
BLOCK = st.one_of(text_block(), text_block(), thinking_block(), call_block(), compaction_block(), WHOLE)
COUNT = st.integers(0, 10**6)
USAGE = st.fixed_dictionaries(
    {"output_tokens": COUNT},
    optional={
        "input_tokens": st.one_of(st.none(), COUNT),
        "cache_creation_input_tokens": st.one_of(st.none(), COUNT),
        "cache_read_input_tokens": st.one_of(st.none(), COUNT),
        "server_tool_use": st.one_of(
            st.none(), st.fixed_dictionaries({"web_search_requests": COUNT, "web_fetch_requests": COUNT})
        ),
    },
)
REASON = st.sampled_from(["end_turn", "tool_use", "max_tokens", "refusal", "pause_turn", "stop_sequence"])


@st.composite
def streams(draw: st.DrawFn) -> list[Event]:
    """The events of a valid answer: blocks one after the other or at the same time, pings anywhere."""
    started = {
        "id": draw(TEXT),
        "type": "message",
        "role": "assistant",
        "model": "claude-test",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": draw(COUNT), **draw(USAGE)},
    }
    started["usage"]["input_tokens"] = started["usage"]["input_tokens"] or 1
    if draw(st.booleans()):
        started["container"] = {"id": "container_1", "expires_at": "2026-11-29T00:00:00Z"}
    blocks = draw(st.lists(BLOCK, max_size=5))
    ids: set[str] = set()
    events: list[Event] = []
    rest: list[list[Event]] = []
    for index, (opening, deltas) in enumerate(blocks):
        if opening.get("id") in ids:
            opening = {**opening, "id": f"{opening['id']}-{index}"}
        ids.add(opening.get("id", ""))
        events.append({"type": "content_block_start", "index": index, "content_block": opening})
        waiting = [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        waiting.append({"type": "content_block_stop", "index": index})
        if draw(st.integers(0, 4)):
            events += waiting
        else:  # a block that goes on while the next ones come
            rest.append(waiting)
    while rest:
        queue = draw(st.sampled_from(range(len(rest))))
        events.append(rest[queue].pop(0))
        rest = [waiting for waiting in rest if waiting]
    for _ in range(draw(st.integers(1, 2))):
        delta = {"stop_reason": draw(REASON), "stop_sequence": None}
        if draw(st.booleans()):
            delta["container"] = draw(st.one_of(st.none(), st.just({"id": "container_2", "expires_at": "later"})))
        events.append({"type": "message_delta", "delta": delta, "usage": draw(USAGE)})
    for _ in range(draw(st.integers(0, 2))):
        events.insert(draw(st.integers(0, len(events))), {"type": "ping"})
    return [{"type": "message_start", "message": started}, *events, {"type": "message_stop"}]


@ring
@given(streams())
def test_generated_events_give_the_same(events: list[Event]) -> None:
    """For every valid answer the results are equal."""
    assert_same(events)


@ring
@given(streams(), st.data())
def test_the_beginning_of_generated_events_gives_the_same_text(events: list[Event], data: st.DataObject) -> None:
    """An answer that broke off has the text and the thinking that the SDK has at that event."""
    part = events[: data.draw(st.integers(1, len(events)))]
    mine, message = ours(part), theirs(part)
    for kind, field in (("text", "text"), ("thinking", "thinking")):
        written = [getattr(block, field) for block in mine.blocks if block.type == kind]
        assert [text for text in written if text] == [
            block[field] for block in message["content"] if block["type"] == kind and block[field]
        ]


def recorded() -> list[Any]:
    """Return the recorded streams as pytest parameters."""
    from tests.conftest import ROOT

    paths = sorted((ROOT.parent / "shared" / "streams").glob("*.sse"))
    return [pytest.param(path, id=path.stem) for path in paths] or [
        pytest.param(None, marks=pytest.mark.skip("the recorded streams are not next to this checkout"))
    ]


@pytest.mark.parametrize("path", recorded())
def test_recorded_events_give_the_same(path: Path) -> None:
    """So do the recorded streams, without HTTP between."""
    lines = path.read_text(encoding="utf-8").splitlines()
    events = [json.loads(line.removeprefix("data:")) for line in lines if line.startswith("data:")]
    assert_same(events)


# --- the differences ------------------------------------------------------------------------------

START: Event = {
    "type": "message_start",
    "message": {
        "id": "m", "type": "message", "role": "assistant", "model": "claude-test", "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 5, "output_tokens": 1},
    },
}  # fmt: skip
STOP: Event = {"type": "message_stop"}
END: Event = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}}


def block(index: int, opening: Event, *deltas: Event, stop: bool = True) -> list[Event]:
    """Return the events of one block."""
    events: list[Event] = [{"type": "content_block_start", "index": index, "content_block": opening}]
    events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
    return [*events, {"type": "content_block_stop", "index": index}] if stop else events


def text(words: str) -> Event:
    return {"type": "text_delta", "text": words}


def arguments(piece: str) -> Event:
    return {"type": "input_json_delta", "partial_json": piece}


CALL: Event = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
WORDS: Event = {"type": "text", "text": ""}

ERROR = "an error"
#: The reason, the events, what is compared, our value, the SDK's value.
DIFFERENCES: list[tuple[str, list[Event], Callable[[Any], Any], Any, Any]] = [
    (
        "half arguments run nothing: the SDK completes them, and a call would run with half of a file",
        [START, *block(0, CALL, arguments('{"path": "a", "text": "half')), END, STOP],
        lambda answer: answer["content"][0]["input"],
        {},
        {"path": "a"},
    ),
    (
        "arguments that are not JSON are kept, and the answer lives: the SDK raises ValueError",
        [START, *block(0, WORDS, text("Hi")), *block(1, CALL, arguments("}")), END, STOP],
        lambda answer: answer["content"][0]["text"],
        "Hi",
        ERROR,
    ),
    (
        "arguments that are not an object are {}: the SDK passes a list on",
        [START, *block(0, CALL, arguments("[1]")), END, STOP],
        lambda answer: answer["content"][0]["input"],
        {},
        [1],
    ),
    (
        "NaN is not JSON, and the API would refuse it in the history",
        [START, *block(0, CALL, arguments('{"a": NaN}')), END, STOP],
        lambda answer: answer["content"][0]["input"],
        {},
        {"a": None},
    ),
    (
        "a null in a later message_delta erases nothing",
        [START, END, {"type": "message_delta", "delta": {"stop_reason": None}, "usage": {"output_tokens": 9}}, STOP],
        lambda answer: answer["stop_reason"],
        "end_turn",
        None,
    ),
    (
        "a count that is null erases nothing",
        [START, END, {"type": "message_delta", "delta": {}, "usage": {"output_tokens": None}}, STOP],
        lambda answer: answer["usage"]["output_tokens"],
        9,
        None,
    ),
    (
        "a message_delta without a usage is accepted",
        [START, {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}, STOP],
        lambda answer: answer["stop_reason"],
        "end_turn",
        ERROR,
    ),
    (
        "the index of a block gives its place, and not the order of arrival",
        [START, *block(1, WORDS, stop=False), *block(0, {**WORDS, "text": "first"}), END, STOP],
        lambda answer: answer["content"][0]["text"],
        "first",
        "",
    ),
    (
        "an index may be left out",
        [START, *block(1, WORDS, text("Hi")), END, STOP],
        lambda answer: answer["content"][0]["text"],
        "Hi",
        ERROR,
    ),
    (
        "a block that begins twice is an error, since it would be two answers in one",
        [START, *block(0, WORDS), *block(0, WORDS, text("Hi")), END, STOP],
        lambda answer: len(answer["content"]),
        ERROR,
        2,
    ),
    (
        "two calls with one id are an error, since the API refuses them in a history",
        [START, *block(0, CALL), *block(1, CALL), END, STOP],
        lambda answer: len(answer["content"]),
        ERROR,
        2,
    ),
    (
        "a second message_start is an error",
        [START, *block(0, WORDS, text("Hi")), START, END, STOP],
        lambda answer: answer["content"][0]["text"],
        ERROR,
        "Hi",
    ),
    (
        "a delta after the end of its block is an error",
        [
            START,
            *block(0, WORDS, text("Hi")),
            {"type": "content_block_delta", "index": 0, "delta": text("!")},
            END,
            STOP,
        ],
        lambda answer: answer["content"][0]["text"],
        ERROR,
        "Hi!",
    ),
    (
        "a delta of an unknown block brings the fields of the block",
        [START, *block(0, {"type": "of_next_year"}, {"type": "of_next_year_delta", "words": "Hi"}), END, STOP],
        lambda answer: answer["content"][0].get("words"),
        "Hi",
        None,
    ),
    (
        "all fields of a later usage count, as it is cumulative",
        [START, {**END, "usage": {"output_tokens": 9, "service_tier": "batch"}}, STOP],
        lambda answer: answer["usage"].get("service_tier"),
        "batch",
        None,
    ),
    (
        "events after message_stop are ignored",
        [START, *block(0, WORDS, text("Hi")), END, STOP, {**END, "usage": {"output_tokens": 99}}],
        lambda answer: answer["usage"]["output_tokens"],
        9,
        99,
    ),
    (
        "half of a surrogate pair is replaced, since it can be neither saved nor sent",
        [START, *block(0, WORDS, text("a\ud83d")), END, STOP],
        lambda answer: answer["content"][0]["text"],
        "a\ufffd",
        "a\ud83d",
    ),
]


def result_of(make: Callable[[], Any], read: Callable[[Any], Any]) -> Any:
    """Return a value of an answer, or ERROR if there is no answer."""
    try:
        return read(make())
    except Exception:
        return ERROR


@pytest.mark.parametrize("row", DIFFERENCES, ids=[row[0] for row in DIFFERENCES])
def test_the_differences_are_these(row: tuple[str, list[Event], Callable[[Any], Any], Any, Any]) -> None:
    """Both results of each row hold."""
    _, events, read, mine, their = row

    def our_message() -> dict[str, Any]:
        answer = ours(events)
        blocks = [part.to_dict() for part in answer.blocks]
        usage = {"output_tokens": answer.usage.output_tokens, "service_tier": answer.usage.service_tier}
        return {"content": blocks, "stop_reason": answer.stop_reason, "usage": usage}

    if mine == ERROR:
        with pytest.raises(StreamError):
            ours(events)
    else:
        assert read(our_message()) == mine
    assert result_of(lambda: theirs(events), read) == their


@ring
@given(streams(), st.data())
def test_small_faults_change_nothing(events: list[Event], data: st.DataObject) -> None:
    """Pings, a missing or a second content_block_stop, and unknown events: the SDK's answer and ours stay the same."""
    expected = ours(events)
    for kind in ("twice", "missing", "unknown"):
        changed: list[Event] = []
        for event in events:
            if event["type"] == "content_block_stop" and kind == "missing" and data.draw(st.booleans()):
                continue
            changed.append(event)
            if event["type"] == "content_block_stop" and kind == "twice":
                changed.append(event)
            if kind == "unknown" and data.draw(st.booleans()):
                changed.append({"type": "of_next_year", "index": 0, "delta": {"type": "text_delta", "text": "no"}})
        assert ours(changed) == expected
        if kind != "unknown":  # the SDK's own stream drops events of unknown types before its helper
            assert_same(changed)
