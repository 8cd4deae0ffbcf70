"""ScriptedTransport, with which users test their own notebooks: every shape of an answer."""

from __future__ import annotations

import re
from typing import Any

import pytest

import nbchat
from nbchat import ScriptedTransport, Session
from nbchat.core.errors import InputError, OverloadedError, RefusedError, StreamError
from nbchat.core.messages import OpaqueBlock, TextBlock, ThinkingBlock, ToolUseBlock
from nbchat.core.parser import events_of
from nbchat.core.request import Request, Transport
from nbchat.transports import scripted

MESSAGE = {
    "id": "msg_mine", "type": "message", "role": "assistant", "model": "claude-x",
    "content": [{"type": "text", "text": "whole"}],
    "stop_reason": "max_tokens", "stop_sequence": None, "usage": {"input_tokens": 3, "output_tokens": 2},
}  # fmt: skip


def ask(*answers: Any, stream: bool = True, **given: Any) -> nbchat.Response:
    """The first answer of a script."""
    return Session(ScriptedTransport(*answers, **given)).ask("Hi", stream=stream)


def test_it_is_a_transport():
    """It has the members of the protocol."""
    assert isinstance(ScriptedTransport(), Transport)


SHAPES: dict[str, tuple[Any, str, tuple[Any, ...], str]] = {
    # name: the answer, its text, its blocks, why it stopped
    "a text": ("Hello, you there!", "Hello, you there!", (TextBlock("Hello, you there!"),), "end_turn"),
    "a text as a mapping": ({"text": "Hello"}, "Hello", (TextBlock("Hello"),), "end_turn"),
    "a text with citations": (
        {"text": "Hello", "citations": [{"cited_text": "x"}]}, "Hello", (TextBlock("Hello", ({"cited_text": "x"},)),),
        "end_turn"),
    "thinking": ([{"thinking": "Hm"}, "Hi"], "Hi", (ThinkingBlock("Hm", "scripted"), TextBlock("Hi")), "end_turn"),
    "signed thinking": (
        [{"thinking": "Hm", "signature": "s"}, "Hi"], "Hi", (ThinkingBlock("Hm", "s"), TextBlock("Hi")), "end_turn"),
    "a call": ({"tool": "f", "input": {"a": 1}}, "", (ToolUseBlock("toolu_scripted_1_0", "f", {"a": 1}),), "tool_use"),
    "a call with an id": ({"tool": "f", "id": "t"}, "", (ToolUseBlock("t", "f", {}),), "tool_use"),
    "a text and two calls": (
        ["Look:", {"tool": "f"}, {"tool": "g"}], "Look:",
        (TextBlock("Look:"), ToolUseBlock("toolu_scripted_1_1", "f", {}), ToolUseBlock("toolu_scripted_1_2", "g", {})),
        "tool_use"),
    "a tuple": (("One, ", "two"), "One, two", (TextBlock("One, "), TextBlock("two")), "end_turn"),
    "a block of the API": (
        [{"type": "redacted_thinking", "data": "x"}, "Hi"], "Hi",
        (OpaqueBlock({"type": "redacted_thinking", "data": "x"}), TextBlock("Hi")), "end_turn"),
    "a Block": (TextBlock("Hello"), "Hello", (TextBlock("Hello"),), "end_turn"),
    "Blocks": ([ThinkingBlock("", "s"), TextBlock("Hi")], "Hi", (ThinkingBlock("", "s"), TextBlock("Hi")), "end_turn"),
    "a reason to stop": (["Half", {"stop_reason": "max_tokens"}], "Half", (TextBlock("Half"),), "max_tokens"),
    "a whole message": (MESSAGE, "whole", (TextBlock("whole"),), "max_tokens"),
    "events": (list(events_of(MESSAGE)), "whole", (TextBlock("whole"),), "max_tokens"),
    "a generator of events": (lambda request: events_of(MESSAGE), "whole", (TextBlock("whole"),), "max_tokens"),
    "a function": (lambda request: f"{request.messages[-1].text}?", "Hi?", (TextBlock("Hi?"),), "end_turn"),
    "a function of a function": (lambda request: lambda request: "deep", "deep", (TextBlock("deep"),), "end_turn"),
}  # fmt: skip


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_of_an_answer(name: str, stream: bool):
    """Text, blocks and stop reason are those that were written."""
    answer, text, blocks, reason = SHAPES[name]
    response = ask(answer, stream=stream)
    assert (response.text, response.blocks, response.stop_reason) == (text, blocks, reason)
    assert response.endpoint == "scripted"
    assert response.usage.input_tokens > 0


def test_the_module_docstring_lists_the_tested_shapes():
    """The example at its top runs too."""
    example = re.search(r"\n\n((?:    .*\n|\n)+)", scripted.__doc__)[1]
    source = "\n".join(line[4:] for line in example.splitlines())
    told = {}
    ran = re.sub(r"^(session\.ask.*?|transport\.requests.*?)  +# (.*)$", r"assert \1 == \2", source, flags=re.M)
    assert ran.count("assert ") == 2
    exec(ran, told)
    for word in (
        '"text"',
        '"thinking"',
        '"tool"',
        "a Block",
        '"message"',
        "stop_reason",
        "events",
        "exception",
        "function",
    ):
        assert word in scripted.__doc__


def test_usage_and_stop_details_may_be_written():
    """To test what a notebook does with a cost or a refusal."""
    response = ask(
        ["Hi", {"usage": {"input_tokens": 1000, "cache_read_input_tokens": 9}, "model": "claude-sonnet-5-5"}]
    )
    assert (response.usage.input_tokens, response.usage.cache_read_input_tokens) == (1000, 9)
    assert response.usage.output_tokens > 0
    assert response.model == "claude-sonnet-5-5"
    with pytest.raises(RefusedError, match="too odd") as caught:
        ask(["", {"stop_reason": "refusal", "stop_details": {"category": "bio", "explanation": "too odd"}}])
    assert caught.value.response.stop_details["category"] == "bio"


@pytest.mark.parametrize(
    "error", [OverloadedError("busy"), KeyboardInterrupt(), ValueError("odd")], ids=lambda e: type(e).__name__
)
def test_an_exception_in_the_script_is_raised(error: BaseException):
    """The same object, before any content arrived."""
    session = Session(ScriptedTransport(error))
    with pytest.raises(type(error)) as caught:
        session.ask("Hi")
    assert caught.value is error
    assert session.last.text == ""


@pytest.mark.parametrize("error", [StreamError("cut"), KeyboardInterrupt()], ids=lambda e: type(e).__name__)
def test_an_exception_at_the_end_breaks_the_answer_off(error: BaseException):
    """The parts before the exception arrive."""
    session = Session(ScriptedTransport(["Once upon", error], "again"))
    with pytest.raises(type(error)):
        session.ask("Hi")
    assert session.last.text == "Once upon"
    assert session.last.status == ("incomplete" if isinstance(error, StreamError) else "interrupted")
    assert session.last.usage.estimated
    assert session.ask("Again").text == "again"


def test_events_that_end_early_break_off_too():
    """As a connection that ends: the parser says so."""
    with pytest.raises(StreamError) as caught:
        ask(list(events_of(MESSAGE))[:-2])
    assert caught.value.partial.text == "whole"


def test_an_event_can_be_an_error():
    """As the API sends one in mid-stream."""
    with pytest.raises(StreamError) as caught:
        ask(
            [*list(events_of(MESSAGE))[:3], {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}]
        )
    assert caught.value.type == "overloaded_error"


def test_answers_are_taken_in_order_and_the_requests_are_kept():
    """One a request; the history is in the later ones."""
    transport = ScriptedTransport("one", "two")
    session = Session(transport)
    assert [session.ask("a").text, session.ask("b", max_tokens=5).text] == ["one", "two"]
    assert [message.text for message in transport.requests[1].messages] == ["a", "one", "b"]
    assert transport.requests[1].max_tokens == 5
    assert all(isinstance(request, Request) for request in transport.requests)


def test_a_script_without_a_next_answer_is_an_error():
    """The message has the numbers and says what to do."""
    session = Session(ScriptedTransport("one"))
    session.ask("a")
    with pytest.raises(InputError, match=r"has 1 answers?, and this is request 2") as caught:
        session.ask("b")
    assert "repeat=True" in caught.value.hint
    with pytest.raises(InputError):
        ask(repeat=True)


def test_a_script_may_begin_again():
    """For a notebook with many cells."""
    session = Session(ScriptedTransport("one", "two", repeat=True))
    assert [session.ask("x").text for _ in range(5)] == ["one", "two", "one", "two", "one"]


@pytest.mark.parametrize("odd", [3, None, 2.5, [None], [3], {}, {"txet": "x"}, object])
def test_a_value_that_is_not_an_answer_is_an_error(odd: Any):
    """The message names its type, and the hint what can be written instead."""
    with pytest.raises(InputError, match="cannot make an answer of") as caught:
        ask(odd)
    assert '{"tool"' in caught.value.hint


def test_deltas_come_in_pieces():
    """As from a model; without streaming in one."""
    response = ask("a" * 20, piece=8)
    assert [chunk.text for chunk in response.chunks if chunk.type == "output_text"] == ["a" * 8, "a" * 8, "a" * 4]
    response = ask("a" * 20, piece=8, stream=False)
    assert [chunk.text for chunk in response.chunks if chunk.type == "output_text"] == ["a" * 20]


def test_a_delay_is_kept_before_each_event(monkeypatch: pytest.MonkeyPatch):
    """To look at a view; the sleeps are counted here, not waited for."""
    slept: list[float] = []
    monkeypatch.setattr("nbchat.transports.scripted.time.sleep", slept.append)
    ask("a" * 20, piece=10, delay=0.25)
    assert slept == [0.25] * 7  # start, block start, two deltas, block stop, message delta, stop


def test_the_name_and_the_model_are_the_ones_given():
    """A test can imitate a real endpoint."""
    response = ask("Hi", name="anthropic", model="claude-sonnet-5-5")
    assert (response.endpoint, response.model) == ("anthropic", "claude-sonnet-5-5")
