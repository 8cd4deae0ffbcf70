"""The turn as a state machine: driven by hand, without a transport, a thread or a clock."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbchat.core.chunks import Notice, ToolResult
from nbchat.core.conversation import Conversation
from nbchat.core.conversation import Turn as RecordedTurn
from nbchat.core.errors import AnswerError, ParseError, StreamError
from nbchat.core.messages import Message
from nbchat.core.parser import events_of
from nbchat.core.request import Request
from nbchat.engine.turn import MAX_PAUSES, Done, Run, Send, Turn
from nbchat.tools.toolbox import Outcome

PROMPT = Message.of("user", "How warm is it in Oslo?")
TOOL = {"name": "weather", "input_schema": {"type": "object"}}
SCHEMA = {"type": "object", "properties": {"degrees": {"type": "integer"}}, "required": ["degrees"]}


def turn_of(**options: Any) -> Turn:
    tools = (TOOL,) if options.get("has_tools") else ()
    return Turn(Request("m", (PROMPT,), 100, tools=tools), PROMPT, clock=lambda: 0.0, **options)


def text(words: str, stop_reason: str | None = "end_turn") -> list[dict[str, Any]]:
    return events({"type": "text", "text": words}, stop_reason=stop_reason)


def call(*ids: str) -> list[dict[str, Any]]:
    return events(
        *({"type": "tool_use", "id": id, "name": "weather", "input": {}} for id in ids), stop_reason="tool_use"
    )


def events(*content: dict[str, Any], stop_reason: str | None) -> list[dict[str, Any]]:
    usage = {"input_tokens": 5, "output_tokens": 3}
    message = {"role": "assistant", "content": list(content), "stop_reason": stop_reason, "usage": usage}
    return [dict(event) for event in events_of(message)]


def exchange(turn: Turn, answer: Iterable[dict[str, Any]]) -> Notice | None:
    """Do what a driver does with the answer to one request."""
    assert isinstance(turn.step, Send)
    for event in answer:
        turn.feed(event)
    turn.close()
    turn.end_answer()
    return turn.advance()


def run_calls(turn: Turn, result: str = "12 degrees") -> None:
    """Do what a driver does with calls."""
    assert isinstance(turn.step, Run)
    for each in turn.step.calls:
        turn.answer(each, Outcome(({"type": "text", "text": result},)))
    assert turn.advance() is None


def test_a_plain_answer_is_one_request():
    """The first step has the request as it was given, and the second one is Done."""
    turn = turn_of()
    assert isinstance(turn.step, Send)
    assert turn.step.request.messages == (PROMPT,)
    exchange(turn, text("Cold."))
    assert turn.step == Done()
    assert turn.respond("complete").text == "Cold."


def test_calls_are_run_and_their_results_are_sent_in_order():
    """One message holds all results of one answer."""
    turn = turn_of(has_tools=True)
    exchange(turn, call("a", "b"))
    assert [each.id for each in turn.step.calls] == ["a", "b"]
    run_calls(turn)
    sent = turn.step.request.messages
    assert [message.role for message in sent] == ["user", "assistant", "user"]
    assert [block.to_dict()["tool_use_id"] for block in sent[-1].content] == ["a", "b"]
    exchange(turn, text("12 degrees."))
    assert turn.step == Done()


def test_calls_are_not_run_where_nothing_can_run_them():
    """Without tools the turn is done, and the Response has the calls."""
    turn = turn_of()
    exchange(turn, call("a"))
    assert turn.step == Done()
    assert [each.id for each in turn.respond("complete").tool_calls] == ["a"]


def test_the_last_round_forbids_tools_and_keeps_their_definitions():
    """The API refuses calls in the history of a request without tools."""
    turn = turn_of(has_tools=True, max_rounds=2)
    exchange(turn, call("a"))
    run_calls(turn)
    assert turn.step.request.params["tool_choice"] == {"type": "none"}
    assert turn.step.request.tools == (TOOL,)
    with pytest.raises(AnswerError, match="after 2 rounds the model still calls weather"):
        exchange(turn, call("b"))


def test_a_paused_turn_continues_so_often_and_no_more():
    """A service that pauses for ever ends the turn with what arrived."""
    turn = turn_of()
    for _ in range(MAX_PAUSES):
        exchange(turn, text("…", "pause_turn"))
        assert turn.step.request.messages[-1].role == "assistant"
    exchange(turn, text("…", "pause_turn"))
    assert turn.step == Done()


def test_a_typed_answer_that_does_not_fit_is_asked_for_once_more():
    """The problems are in the second request. A second failure is the error."""
    turn = turn_of(schema=SCHEMA, retry=True)
    notice = exchange(turn, text('{"degrees": "warm"}'))
    assert "asking once more" in notice.text
    assert "degrees" in turn.step.request.messages[-1].text
    exchange(turn, text('{"degrees": 12}'))
    assert turn.parsed == {"degrees": 12}
    response = turn.respond("complete")
    assert [message.role for message in response.messages] == ["user", "assistant"]
    assert response.usage.output_tokens == 6  # both answers were paid for
    turn = turn_of(schema=SCHEMA, retry=True)
    exchange(turn, text("{}"))
    with pytest.raises(ParseError):
        exchange(turn, text("{}"))


def test_an_early_end_is_an_error_and_keeps_what_arrived():
    """close() raises; end_answer() keeps the text, with its output estimated."""
    turn = turn_of()
    for event in text("Rather cold today.")[:3]:
        turn.feed(event)
    with pytest.raises(StreamError):
        turn.close()
    turn.end_answer()
    response = turn.respond("incomplete")
    assert response.text == "Rather cold today."
    assert response.usage.estimated


def test_abandoned_calls_have_a_result_each():
    """An interrupt after the first of two calls answers the second one."""
    turn = turn_of(has_tools=True)
    exchange(turn, call("a", "b"))
    first, second = turn.step.calls
    turn.answer(first, Outcome(({"type": "text", "text": "12"},)))
    (result,) = turn.abandon_calls()
    assert isinstance(result, ToolResult)
    assert (result.tool_use_id, result.is_error) == (second.id, True)


@st.composite
def turns(draw: st.DrawFn) -> Turn:
    """A turn of some rounds that stops anywhere: within an answer, between calls, or at its end."""
    turn = turn_of(has_tools=True)
    for number in range(draw(st.integers(0, 3))):
        exchange(turn, call(*(f"{number}-{place}" for place in range(draw(st.integers(1, 3))))))
        calls = turn.step.calls
        if draw(st.booleans()):
            for each in calls[: draw(st.integers(0, len(calls)))]:
                turn.answer(each, Outcome(({"type": "text", "text": "12"},)))
            return turn
        run_calls(turn)
    answer = text("It is warm.")
    for event in answer[: draw(st.integers(0, len(answer)))]:
        turn.feed(event)
    turn.end_answer()
    return turn


@given(turns())
def test_however_a_turn_ends_its_conversation_can_go_on(turn: Turn):
    """Rule 4: roles alternate, each call has one result, and nothing is empty."""
    response = turn.respond("interrupted")
    conversation = Conversation("main", [RecordedTurn("cell", response.messages)])
    history = conversation.history("next")
    assert [message.role for message in history] == ["user", "assistant"] * (len(history) // 2)
    for answer, results in zip(history[1::2], history[2::2], strict=False):
        calls = [block.id for block in answer.content if block.type == "tool_use"]
        assert [block.to_dict()["tool_use_id"] for block in results.content] == calls
    assert all(message.content for message in history)


@pytest.mark.parametrize("reason", ["end_turn", None, "stop", "tool_calls", "function_call", "pause_turn", "TOOL_USE"])
def test_a_whole_call_runs_whatever_a_gateway_gives_as_the_reason(reason: str | None):
    """The calls decide. The results are in the next request, and the turn ends with the text."""
    turn = turn_of(has_tools=True)
    block = {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": "Oslo"}}
    exchange(turn, events({"type": "text", "text": "I look."}, block, stop_reason=reason))
    assert turn.step == Run(turn.step.calls)
    run_calls(turn)
    assert [block.to_dict()["tool_use_id"] for block in turn.step.request.messages[-1].content] == ["a"]
    exchange(turn, text("12 degrees.", reason if reason != "pause_turn" else "end_turn"))
    assert turn.step == Done()
    response = turn.respond(turn.status_after(None))
    assert (response.status, response.text) == ("complete", "I look.\n\n12 degrees.")


@pytest.mark.parametrize(
    "reason", ["max_tokens", "model_context_window_exceeded", "refusal", "length", "stop_sequence"]
)
def test_a_call_in_an_answer_that_was_cut_does_not_run(reason: str):
    """The status says that something is missing, unless the user asked for the cut."""
    turn = turn_of(has_tools=True)
    exchange(turn, events({"type": "tool_use", "id": "a", "name": "weather", "input": {}}, stop_reason=reason))
    assert turn.step == Done()
    status = {"refusal": "refused", "stop_sequence": "complete"}.get(reason, "incomplete")
    assert turn.respond(turn.status_after(None)).status == status


def test_the_calls_of_a_model_that_declined_do_not_run():
    """The API wants no results for the calls before a block ``fallback``."""
    before, after = ({"type": "tool_use", "id": id, "name": "weather", "input": {}} for id in ("a", "b"))
    fallback = {"type": "fallback", "from": {"model": "m"}, "to": {"model": "n"}, "trigger": {"type": "refusal"}}
    turn = turn_of(has_tools=True)
    exchange(turn, events(before, fallback, after, stop_reason="tool_use"))
    assert [each.id for each in turn.step.calls] == ["b"]
    run_calls(turn)
    assert [block.type for block in turn.step.request.messages[1].content] == ["fallback", "tool_use"]


@pytest.mark.parametrize("reason", ["end_turn", None, "stop"])
def test_an_answer_of_nothing_is_an_error_whatever_the_reason(reason: str | None):
    """A gateway that sends nothing does not make a complete answer."""
    with pytest.raises(AnswerError, match="neither text nor a tool call"):
        exchange(turn_of(), events(stop_reason=reason))
