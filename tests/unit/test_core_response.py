"""Tests of Response, of the Accumulator that makes it, and of the code in an answer."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError

import pytest

from nbchat.core.chunks import Notice, ToolDecision, ToolResult
from nbchat.core.errors import InputError
from nbchat.core.messages import Message, TextBlock
from nbchat.core.parser import ChatStreamParser, events_of
from nbchat.core.response import Accumulator, Response

TURN = [
    {
        "id": "msg_1",
        "model": "claude-test",
        "content": [
            {"type": "thinking", "thinking": "I need f", "signature": "s"},
            {"type": "text", "text": "Let me look."},
            {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 10, "output_tokens": 5},
        "_request_id": "req_1",
    },
    {
        "id": "msg_2",
        "model": "claude-test",
        "content": [{"type": "text", "text": "It is "}, {"type": "text", "text": "3."}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 20, "output_tokens": 4},
        "_request_id": "req_2",
    },
]


class Clock:
    """A clock that advances by one second at each reading."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def feed(accumulator: Accumulator, message: dict, upto: int | None = None) -> None:
    parser = ChatStreamParser()
    for event in list(events_of(message))[:upto]:
        if (chunk := parser.feed(event)) is not None:
            accumulator.feed(chunk)
    if not parser.whole:
        accumulator.cut(parser.snapshot())


def whole_turn() -> Accumulator:
    accumulator = Accumulator(Message.of("user", "How much?"), Clock())
    accumulator.feed(Notice("waiting"))
    feed(accumulator, TURN[0])
    accumulator.feed(ToolResult("t1", (TextBlock("3"),)))
    accumulator.answer_tools()
    feed(accumulator, TURN[1])
    return accumulator


def test_a_turn_with_tools_is_one_response():
    """The usage of the rounds adds up. The ids are those of the last message, and a blank line separates the texts."""
    response = whole_turn().respond("complete", endpoint="anthropic", cost=0.01)
    assert response.text == "Let me look.\n\nIt is 3."
    assert response.thinking == "I need f"
    assert [call.name for call in response.tool_calls] == ["f"]
    assert (response.usage.prompt_tokens, response.usage.completion_tokens) == (30, 9)
    assert (response.id, response.request_id, response.stop_reason) == ("msg_2", "req_2", "end_turn")
    assert [message.role for message in response.messages] == ["user", "assistant", "user", "assistant"]
    assert response.messages[2].to_dict()["content"] == [
        {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "3"}]}
    ]
    assert response.prompt == "How much?"
    assert response.time_to_first_chunk == 1.0, "a notice is no chunk of the answer"
    assert response
    assert str(response) == response.text
    assert repr(response) == "<Response complete claude-test: 'Let me look.\\n\\nIt is 3.', 30 → 9 tokens>"


@pytest.mark.parametrize(
    ("reason", "status"),
    [("end_turn", "complete"), ("stop_sequence", "complete"), ("refusal", "refused"), ("max_tokens", "incomplete")],
)
def test_only_a_complete_answer_is_true(reason, status):
    """A Response is true if its answer is complete, so that ``if response:`` is a sufficient check."""
    accumulator = Accumulator(Message.of("user", "?"), Clock())
    feed(accumulator, TURN[1] | {"stop_reason": reason})
    response = accumulator.respond("complete")
    assert response.status == status
    assert bool(response) == (status == "complete")


def test_an_interrupted_answer_has_its_text_and_estimated_tokens():
    """The output tokens are estimated from four characters per token. The API counted the prompt."""
    accumulator = Accumulator(Message.of("user", "?"), Clock())
    feed(accumulator, TURN[1] | {"content": [{"type": "text", "text": "x" * 400}], "usage": {"input_tokens": 20}}, 3)
    response = accumulator.respond("interrupted")
    assert response.text == "x" * 400
    assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.estimated) == (20, 100, True)
    assert not response


def test_a_stream_cut_before_its_first_block_has_no_empty_answer():
    """A Response has no empty message, so its messages can be sent again."""
    accumulator = Accumulator(Message.of("user", "?"), Clock())
    feed(accumulator, TURN[1], 1)
    response = accumulator.respond("incomplete")
    assert [message.role for message in response.messages] == ["user"]
    assert response.usage.input_tokens == 20
    nothing = Accumulator(Message.of("user", "?"), Clock())
    nothing.cut(ChatStreamParser().snapshot())
    assert nothing.respond("error").text == ""


def test_a_response_is_frozen_and_shows_its_text_without_a_renderer():
    """``core`` has no display, so a Response shows plain text until the package sets the renderer."""
    response = Response("**hi**")
    with pytest.raises(FrozenInstanceError):
        response.text = "other"
    assert response._repr_mimebundle_()["text/plain"] == "**hi**"
    long = Response("x" * 100)
    assert "..." in repr(long)
    assert len(repr(long)) < 120


def test_save_writes_what_from_dict_reads(tmp_path):
    """``save`` writes readable JSON without chunks, and ``from_dict`` reads it."""
    response = whole_turn().respond("complete", endpoint="anthropic", cost=0.01, digest="d")
    path = response.save(tmp_path / "answer.json")
    assert Response.from_dict(json.loads(path.read_text("utf-8"))) == response
    assert json.loads(path.read_text("utf-8"))["format"] == "nbchat.response/1"


def test_code_joins_all_blocks():
    """``code`` joins all blocks, ready for a cell."""
    response = Response("```python\nx = 1\n```\nthen\n```python\ny = 2\n```")
    assert response.code == "x = 1\n\ny = 2"
    assert response.code_blocks == (("python", "x = 1"), ("python", "y = 2"))


def test_decisions_are_saved_and_loaded(tmp_path):
    """Each one is in ``decisions``, with the arguments that the user changed."""
    turn = whole_turn()
    decisions = (
        ToolDecision("t1", "files.read", True, "allowed as edited", {"path": "b"}),
        ToolDecision("t2", "run_python", False, "declined: no"),
    )
    for decision in decisions:
        turn.feed(decision)
    response = turn.respond("complete")
    assert response.decisions == decisions
    path = response.save(tmp_path / "answer.json")
    assert Response.from_dict(json.loads(path.read_text("utf-8"))).decisions == decisions
    assert "decisions" not in Response("Fine.").to_dict()


@pytest.mark.parametrize(
    "decision", [1, {}, {"tool_use_id": "t", "name": 3}, {"tool_use_id": "t", "name": "n", "allowed": 2}]
)
def test_a_damaged_decision_is_an_input_error(decision):
    with pytest.raises(InputError):
        Response.from_dict({"text": "", "decisions": [decision]})


def test_notes_are_saved_and_loaded():
    """The notes about shortened values are saved and loaded."""
    response = Response("Fine.", notes=("df: first 20 of 10,000 rows",))
    assert Response.from_dict(json.loads(json.dumps(response.to_dict()))).notes == response.notes
    assert "notes" not in Response("Fine.").to_dict()
