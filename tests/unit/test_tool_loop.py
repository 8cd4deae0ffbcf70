"""Tests of the tool loop with scripted answers: the calls that run, the requests after them, and the end of a turn."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import nbchat
from nbchat import Response, ScriptedTransport, Session
from nbchat.core.chunks import StreamChunk, ToolResult
from nbchat.core.errors import (
    AnswerError,
    BudgetError,
    OptionError,
    OverloadedError,
    SchemaError,
    StreamError,
)
from nbchat.core.parser import events_of
from nbchat.core.request import Request
from nbchat.notebook.output_record import OutputRecord


class Eyes:
    """A sink that keeps the chunks and Responses that it receives."""

    def __init__(self) -> None:
        self.chunks: list[StreamChunk] = []
        self.settled: list[Response] = []

    def begin(self, request) -> None:
        pass

    def feed(self, chunk: StreamChunk) -> None:
        self.chunks.append(chunk)

    def settle(self, response: Response) -> None:
        self.settled.append(response)


def call(name: str, **given: Any) -> dict[str, Any]:
    return {"tool": name, "input": given}


def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


def results(request: Request) -> list[dict[str, Any]]:
    """Return the tool results in the last message of a request."""
    return [block.to_dict() for block in request.messages[-1].content]


def text_of(result: dict[str, Any]) -> str:
    return "".join(part["text"] for part in result["content"] if part["type"] == "text")


def must_be_valid(request: Request) -> None:
    """Assert that the next message answers each call exactly once and in order, as the Messages API requires."""
    messages = request.body()["messages"]
    assert messages[0]["role"] == "user"
    for place, one in enumerate(messages):
        blocks = one["content"] if isinstance(one["content"], list) else []
        assert one["content"], "an empty message"
        called = [block["id"] for block in blocks if block["type"] == "tool_use"]
        if called:
            following = messages[place + 1]
            assert following["role"] == "user"
            answered = [block.get("tool_use_id") for block in following["content"] if block["type"] == "tool_result"]
            assert answered == called
        for block in blocks:
            if block["type"] == "tool_result":
                before = messages[place - 1]["content"]
                assert block["tool_use_id"] in [part.get("id") for part in before]
            assert block["type"] != "text" or block["text"].strip(), "a blank text"
    if any(block.type == "tool_use" for one in request.messages for block in one.content):
        assert request.tools


# -- requests of each round -----------------------------------------------------------------------


def test_a_result_is_sent_and_the_turn_ends_in_text():
    """The second request contains the first request, the answer and the result of the tool."""
    transport = ScriptedTransport(["Let me add.", call("add", a=1, b=2)], "It is 3.")
    response = Session(transport).ask("1 + 2?", tools=[add])
    first, second = transport.requests
    assert second.messages[: len(first.messages)] == first.messages
    assert second.tools == first.tools
    assert second.params == first.params
    assert results(second) == [
        {"type": "tool_result", "tool_use_id": "toolu_scripted_1_1", "content": [{"type": "text", "text": "3"}]}
    ]
    assert response.text == "Let me add.\n\nIt is 3."
    assert [one.name for one in response.tool_calls] == ["add"]
    assert response.status == "complete"
    for request in transport.requests:
        must_be_valid(request)


def test_each_round_extends_the_request_before():
    """Each of five requests extends the request before, so that the prompt cache can be used."""
    transport = ScriptedTransport(*(call("add", a=n) for n in range(5)), "Done.")
    Session(transport).ask("count", tools=[add])
    assert len(transport.requests) == 6
    for before, after in zip(transport.requests, transport.requests[1:], strict=False):
        assert after.messages[: len(before.messages)] == before.messages
        assert len(after.messages) == len(before.messages) + 2
        assert after.tools == before.tools
        must_be_valid(after)
    assert [text_of(results(request)[0]) for request in transport.requests[1:]] == ["1", "2", "3", "4", "5"]


def test_calls_of_one_answer_run_in_order_and_share_one_message_of_results():
    """The calls run in their order, also if one of them fails. One message contains all results."""
    ran: list[str] = []

    def note(word: str) -> str:
        ran.append(word)
        if word == "b":
            raise ValueError("no b")
        return word.upper()

    transport = ScriptedTransport(["All three.", *(call("note", word=word) for word in "abc")], "Done.")
    Session(transport).ask("go", tools=[note])
    assert ran == ["a", "b", "c"]
    said = results(transport.requests[1])
    assert [(text_of(one), one.get("is_error", False)) for one in said] == [
        ("A", False),
        ("ValueError: no b", True),
        ("C", False),
    ]
    must_be_valid(transport.requests[1])


def test_thinking_is_sent_again_with_its_signature():
    """The API requires that thinking before a call is sent again unchanged."""
    transport = ScriptedTransport([{"thinking": "hm", "signature": "sig"}, call("add", a=1)], "2")
    Session(transport).ask("1 + 1?", tools=[add])
    assert transport.requests[1].messages[1].content[0].to_dict() == {
        "type": "thinking",
        "thinking": "hm",
        "signature": "sig",
    }


def test_blank_text_before_a_call_is_not_sent_again():
    """Blank text before a call is not sent again. Models write such text, but the API refuses it in a request."""
    transport = ScriptedTransport([{"text": "\n\n"}, call("add", a=1)], "2")
    Session(transport).ask("1 + 1?", tools=[add])
    must_be_valid(transport.requests[1])


def test_a_choice_that_forces_a_tool_holds_for_the_first_round_only():
    """A forced tool choice is sent only in the first round, because the model could never stop calling otherwise."""
    transport = ScriptedTransport(call("add", a=1), "2")
    Session(transport).ask(
        "1 + 1?", tools=[add], param='tool_choice={"type": "any", "disable_parallel_tool_use": true}'
    )
    choices = [request.params.get("tool_choice") for request in transport.requests]
    assert choices == [
        {"type": "any", "disable_parallel_tool_use": True},
        {"type": "auto", "disable_parallel_tool_use": True},
    ]


def test_the_sinks_get_each_result_and_are_settled_once():
    """The sinks get the chunks of all rounds and a ToolResult after each call. They are settled once."""
    eyes = Eyes()
    transport = ScriptedTransport([call("add", a=1), call("add", a=2)], "ok")
    response = Session(transport).ask("go", tools=[add], sinks=[eyes])
    told = [chunk for chunk in eyes.chunks if isinstance(chunk, ToolResult)]
    assert [(one.tool_use_id, one.content[0].text, one.is_error) for one in told] == [
        ("toolu_scripted_1_0", "2", False),
        ("toolu_scripted_1_1", "3", False),
    ]
    assert eyes.settled == [response]
    kinds = [chunk.type for chunk in eyes.chunks if chunk.type in ("response", "tool_result")]
    assert kinds == ["response", "tool_result", "tool_result", "response"]


def test_usage_adds_up_over_the_rounds():
    """The usage of a turn is the sum of its requests, and each request has a ledger row."""
    transport = ScriptedTransport(call("add", a=1), "2")
    session = Session(transport)
    response = session.ask("1 + 1?", tools=[add])
    rows = list(session.accounting.run)
    assert [(row.round, row.kind) for row in rows] == [(0, "tool_round"), (1, "answer")]
    assert response.usage.total_tokens == sum(row.usage.total_tokens for row in rows)


# -- the end of a turn ----------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_the_last_round_forbids_calls_but_still_sends_the_tools(limit: int):
    """``--max-rounds N`` allows N requests at most. The last request forbids tool calls."""

    def answer(request: Request) -> Any:
        return "Enough." if request.params.get("tool_choice") == {"type": "none"} else call("add", a=1)

    transport = ScriptedTransport(answer, repeat=True)
    response = Session(transport).ask("go on", tools=[add], max_rounds=limit)
    assert len(transport.requests) == limit
    assert [request.params.get("tool_choice") for request in transport.requests] == [None] * (limit - 1) + [
        {"type": "none"}
    ]
    assert all(request.tools for request in transport.requests)
    assert response.text == "Enough."
    assert response.status == "complete"


def test_eight_rounds_are_the_default():
    """A turn has at most eight rounds by default, as the help says."""
    transport = ScriptedTransport(
        lambda request: "." if request.params.get("tool_choice") else call("add", a=1), repeat=True
    )
    Session(transport).ask("go on", tools=[add])
    assert len(transport.requests) == 8


def test_a_call_in_the_last_round_does_not_run():
    """Some servers ignore ``tool_choice``. Their call does not run, and an AnswerError holds the Response."""
    ran: list[int] = []

    def note() -> None:
        ran.append(1)

    session = Session(ScriptedTransport(["Again:", call("note")], repeat=True))
    with pytest.raises(AnswerError, match="after 2 rounds the model still calls note") as caught:
        session.ask("go", tools=[note], max_rounds=2)
    assert ran == [1]
    assert caught.value.response is session.last
    assert session.last is not None
    assert session.last.status == "incomplete"
    assert "--max-rounds" in caught.value.hint


@pytest.mark.parametrize("empty", [[], [{"text": "  \n"}], [{"thinking": "only thought"}]])
@pytest.mark.parametrize("after", [0, 1])
def test_an_answer_without_text_and_without_a_call_is_an_error(empty: list[Any], after: int):
    """An empty answer raises an AnswerError that holds the Response, in the first round and after tool results."""
    answers = [call("add", a=1)] * after
    message = {
        "type": "message", "id": "m", "role": "assistant", "model": "scripted", "stop_reason": "end_turn",
        "content": [{"type": "thinking", "signature": "s", **part} if "thinking" in part else {"type": "text", **part}
                    for part in empty],
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }  # fmt: skip
    session = Session(ScriptedTransport(*answers, message))
    with pytest.raises(AnswerError, match="neither text nor a tool call") as caught:
        session.ask("go", tools=[add])
    assert caught.value.response is session.last


def test_an_empty_answer_that_ends_at_a_stop_sequence_is_not_an_error():
    """An answer that begins with the user's stop sequence is empty, and that is not an error."""
    message = {
        "type": "message", "id": "m", "role": "assistant", "model": "scripted", "stop_reason": "stop_sequence",
        "stop_sequence": "x", "content": [], "usage": {"input_tokens": 1, "output_tokens": 0},
    }  # fmt: skip
    assert Session(ScriptedTransport(message)).ask("go", stop="x").text == ""


# -- calls that never run -------------------------------------------------------------------------


@pytest.fixture
def ran() -> list[Any]:
    return []


@pytest.fixture
def note(ran: list[Any]) -> Any:
    def note(word: str = "") -> str:
        ran.append(word)
        return "noted"

    return note


def events_with(arguments: list[str], *, stop_reason: str = "tool_use", stop: bool = True) -> Iterator[dict[str, Any]]:
    """Yield the events of an answer that calls ``note`` with these pieces of JSON."""
    yield {
        "type": "message_start",
        "message": {"id": "m", "role": "assistant", "model": "scripted", "usage": {"input_tokens": 1}},
    }
    yield {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "tool_use", "id": "toolu_1", "name": "note", "input": {}},
    }
    for piece in arguments:
        yield {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "input_json_delta", "partial_json": piece},
        }
    if stop:
        yield {"type": "content_block_stop", "index": 0}
        yield {"type": "message_delta", "delta": {"stop_reason": stop_reason}, "usage": {"output_tokens": 3}}
        yield {"type": "message_stop"}


@pytest.mark.parametrize(
    "arguments", [['{"word": "a'], ['{"word": "a"', "]"], ["[1]"], ['"a"'], ['{"word": NaN}'], ['{"word": "a"}}']]
)
def test_a_call_without_a_complete_json_object_never_runs(ran: list[Any], note: Any, arguments: list[str]):
    """A call without a complete JSON object does not run. The model gets an error, and the next request is valid."""
    transport = ScriptedTransport(events_with(arguments), "Sorry.")
    response = Session(transport).ask("go", tools=[note])
    assert ran == []
    (result,) = results(transport.requests[1])
    assert result["is_error"]
    assert "".join(arguments) in text_of(result)
    must_be_valid(transport.requests[1])
    assert response.text == "Sorry."


def test_a_call_in_a_cut_stream_never_runs(ran: list[Any], note: Any):
    """A call does not run without ``message_stop``, even if its JSON is complete."""
    session = Session(ScriptedTransport(events_with(['{"word": "a"}'], stop=False)))
    with pytest.raises(StreamError):
        session.ask("go", tools=[note])
    assert ran == []
    assert session.conversation("main").history(None) == ()


@pytest.mark.parametrize(
    "reason",
    ["max_tokens", "refusal", "stop_sequence", "model_context_window_exceeded", "length", "content_filter"],
)
def test_a_call_does_not_run_in_an_answer_that_was_cut(ran: list[Any], note: Any, reason: str):
    """A limit, a refusal or a stop sequence ended the answer, so that the call may not be what it should be."""
    session = Session(ScriptedTransport(events_with(['{"word": "a"}'], stop_reason=reason)))
    if reason in ("refusal", "content_filter"):
        with pytest.raises(AnswerError):
            session.ask("go", tools=[note])
    else:
        session.ask("go", tools=[note])
    assert ran == []


def test_wrong_arguments_are_an_error_result_that_names_them():
    """The function does not run. The result names the wrong arguments, so the model can correct its call."""
    transport = ScriptedTransport(call("add", a="x", c=1), call("add", a=1), "2")
    Session(transport).ask("go", tools=[add])
    said = text_of(results(transport.requests[1])[0])
    assert "a: " in said
    assert "c: there is no such parameter" in said
    assert results(transport.requests[1])[0]["is_error"]
    assert text_of(results(transport.requests[2])[0]) == "2"


def test_an_unknown_tool_is_an_error_result():
    """A call of an unknown tool has an error result that names the most similar tool."""
    transport = ScriptedTransport(call("ad", a=1), "Oh.")
    Session(transport).ask("go", tools=[add])
    (result,) = results(transport.requests[1])
    assert result["is_error"]
    assert "Did you mean add?" in text_of(result)


def test_the_model_gets_the_error_and_the_user_sees_the_traceback(capsys: pytest.CaptureFixture[str]):
    """If a tool raises, the model gets the error message and the user sees the traceback."""

    def fail() -> None:
        raise LookupError("no such row")

    transport = ScriptedTransport(call("fail"), "It failed.")
    Session(transport).ask("go", tools=[fail])
    (result,) = results(transport.requests[1])
    assert text_of(result) == "LookupError: no such row"
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert "LookupError: no such row" in shown
    assert "rounds.py" not in shown


def test_an_async_tool_is_awaited():
    """An ``async def`` function can be a tool, also if the caller has no event loop."""

    async def slow(word: str) -> str:
        import asyncio

        await asyncio.sleep(0.01)
        return word * 2

    transport = ScriptedTransport(call("slow", word="ab"), "ok")
    Session(transport).ask("go", tools=[slow])
    assert text_of(results(transport.requests[1])[0]) == "abab"


# -- interrupts, errors, budgets ------------------------------------------------------------------


def test_an_interrupt_in_a_tool_leaves_a_valid_history():
    """The calls before the interrupt keep their results. The results of the others say that they were interrupted."""
    ran: list[str] = []

    def work(word: str) -> str:
        ran.append(word)
        if word == "b":
            raise KeyboardInterrupt
        return word

    transport = ScriptedTransport(["Working.", *(call("work", word=word) for word in "abc")], "Next.")
    session, eyes = Session(transport), Eyes()
    with pytest.raises(KeyboardInterrupt):
        session.ask("go", tools=[work], sinks=[eyes])
    assert ran == ["a", "b"]
    told = [chunk for chunk in eyes.chunks if isinstance(chunk, ToolResult)]
    assert [one.is_error for one in told] == [False, True, True]
    assert "interrupted" in told[1].content[0].text
    assert len(eyes.settled) == 1
    assert session.last is not None
    assert session.last.status == "interrupted"
    session.ask("and now?")
    must_be_valid(transport.requests[-1])
    roles = [one.role for one in transport.requests[-1].messages]
    assert roles[-1] == "user"


def test_a_failure_in_a_later_round_keeps_the_earlier_rounds():
    """The Response of a failed turn contains the earlier rounds, and the next request is valid."""
    transport = ScriptedTransport(["Adding.", call("add", a=1)], OverloadedError("busy"), "ok")
    session = Session(transport)
    with pytest.raises(OverloadedError):
        session.ask("go", tools=[add])
    assert session.last is not None
    assert session.last.text == "Adding."
    session.ask("and now?")
    must_be_valid(transport.requests[-1])


def test_the_budget_is_checked_before_each_round(monkeypatch: pytest.MonkeyPatch):
    """A round that would exceed the budget is not sent."""
    from nbchat.config import Nbchat

    prices = {"scripted": {"input": 0.0, "output": 1_000_000.0}}
    transport = ScriptedTransport(call("add", a=1), "never sent")
    session = Session(transport, config=Nbchat(prices=prices))
    with pytest.raises(BudgetError):
        session.ask("go", tools=[add], max_tokens=50, budget=60.0)
    assert len(transport.requests) == 1
    assert session.last is not None
    assert [one.name for one in session.last.tool_calls] == ["add"]


# -- the choice of tools --------------------------------------------------------------------------


class Shelf:
    def __init__(self) -> None:
        self.books = {"Emma": 1815}

    def year(self, title: str) -> int:
        """The year of a book."""
        return self.books[title]


def test_tools_are_found_by_names_with_commas_and_methods():
    """``--tools add,shelf.year`` finds a function and a method in the user's namespace."""
    namespace = {"add": add, "shelf": Shelf()}
    transport = ScriptedTransport([call("shelf__year", title="Emma"), call("add", a=1)], "1815")
    Session(transport).ask("when?", tools="add,shelf.year", namespace=namespace)
    assert [tool["name"] for tool in transport.requests[0].tools] == ["add", "shelf__year"]
    assert [text_of(one) for one in results(transport.requests[1])] == ["1815", "2"]


def test_a_decorated_function_is_a_tool_of_every_cell():
    """A function with ``nbchat.tool`` needs no option. If the option names it too, it is sent once."""

    @nbchat.tool
    def today() -> str:
        """The day."""
        return "Monday"

    for tools in ((), ("today",)):
        transport = ScriptedTransport(call("today"), "Monday.")
        Session(transport).ask("day?", namespace={"today": today, "add": add}, tools=tools)
        assert [tool["name"] for tool in transport.requests[0].tools] == ["today"]


def test_a_request_without_tools_has_no_tool_fields():
    """A request without tools has neither ``tools`` nor ``tool_choice``."""
    transport = ScriptedTransport("hi")
    Session(transport).ask("hi", namespace={"add": add})
    assert "tools" not in transport.requests[0].body()
    assert "tool_choice" not in transport.requests[0].body()


def test_a_value_that_cannot_be_a_tool_is_refused_before_sending():
    """An undefined name, a value that is not callable, and a parameter without a JSON type are refused."""

    class Thing:
        pass

    def odd(thing: Thing) -> None: ...

    transport = ScriptedTransport("never")
    session = Session(transport)
    with pytest.raises(OptionError, match="addd is not defined"):
        session.ask("go", tools="addd", namespace={"add": add})
    with pytest.raises(OptionError, match="cannot be called"):
        session.ask("go", tools="x", namespace={"x": 3})
    with pytest.raises(SchemaError, match="parameter thing"):
        session.ask("go", tools=[odd])
    assert transport.requests == []


def test_run_needs_a_shell():
    """``--run`` raises an error in plain Python, which has no cells."""
    with pytest.raises(OptionError, match="--run needs IPython"):
        Session(ScriptedTransport("never")).ask("go", run=True)


@pytest.mark.parametrize(
    ("approve", "marked", "runs"),
    [
        (None, None, True),
        ("never", None, False),
        ("ask", None, False),
        ("always", None, True),
        ("never", "always", True),
        (None, "ask", False),
    ],
)
def test_approval_if_nobody_can_answer(approve: str | None, marked: str | None, runs: bool):
    """Functions that the user named run without approval.

    If approval is required and nobody can answer, the call is denied.
    """
    done: list[int] = []

    def work() -> str:
        done.append(1)
        return "worked"

    tool = nbchat.tool(work, approve=marked) if marked else work
    transport = ScriptedTransport(call("work"), "ok")
    Session(transport).ask("go", tools=[tool], approve=approve)
    assert bool(done) is runs
    (result,) = results(transport.requests[1])
    assert result.get("is_error", False) is not runs


def test_a_decision_is_a_chunk_before_the_call_runs_and_stays_in_the_response():
    """Sinks see the decision before the tool does anything."""
    seen: list[object] = []

    class Sink:
        def begin(self, request: object) -> None: ...
        def feed(self, chunk: object) -> None:
            seen.append(chunk)

        def settle(self, response: object) -> None: ...

    def work() -> str:
        seen.append("working")
        return "worked"

    transport = ScriptedTransport(call("a__b"), "ok")
    response = Session(transport).ask("go", tools=[nbchat.tool(work, name="a.b")], approve="always", sinks=[Sink()])
    (decision,) = response.decisions
    assert (decision.name, decision.allowed, decision.text) == ("a.b", True, "run without asking (--approve always)")
    place = seen.index(decision)
    assert seen[place + 1] == "working"
    declined = Session(ScriptedTransport(call("a__b"), "ok")).ask("go", tools=[work], approve="never").decisions
    assert [one.text for one in declined] == ["declined: --approve never"]


# -- a question within a turn ---------------------------------------------------------------------


def test_a_tool_can_ask_a_question_of_its_own():
    """A question within a turn sends no unfinished history. The outer turn continues after it."""
    inner: list[Response] = []

    def consult(question: str) -> str:
        inner.append(session.ask(question))
        return inner[-1].text

    transport = ScriptedTransport("Earlier.", call("consult", question="why?"), "Because.", "He says: because.")
    session = Session(transport)
    session.ask("first")
    response = session.ask("ask him", tools=[consult])
    assert inner[0].text == "Because."
    assert [one.text for one in transport.requests[2].messages] == ["why?"]
    assert response.text == "He says: because."
    assert session.last is response
    assert [turn.messages[0].text for turn in session.conversation("main").turns] == ["first", "ask him"]
    must_be_valid(transport.requests[3])


def test_a_tool_can_ask_in_another_conversation():
    """A question in another conversation becomes a turn of that conversation."""

    def consult(question: str) -> str:
        return session.ask(question, chat="side").text

    transport = ScriptedTransport(call("consult", question="why?"), "Because.", "ok")
    session = Session(transport)
    session.ask("ask him", tools=[consult])
    assert len(session.conversation("side").turns) == 1
    assert len(session.conversation("main").turns) == 1


def test_a_cell_after_a_turn_with_tools_sends_its_calls_and_results():
    """The history contains the calls and their results. A cell that runs again replaces its turn."""
    transport = ScriptedTransport(["Adding.", call("add", a=1)], "It is 2.", "Yes.", "Yes again.")
    session = Session(transport)
    session.ask("1 + 1?", tools=[add], cell="a")
    session.ask("sure?", tools=[add], cell="b")
    must_be_valid(transport.requests[2])
    assert [one.role for one in transport.requests[2].messages] == ["user", "assistant", "user", "assistant", "user"]
    session.ask("really?", tools=[add], cell="b")
    assert len(transport.requests[3].messages) == 5


def test_a_cell_without_tools_after_one_with_tools():
    """nbchat defines the tools of calls in the history, because the API requires this, and forbids new calls."""
    transport = ScriptedTransport(call("add", a=1), "It is 2.", "Yes.")
    session = Session(transport)
    session.ask("1 + 1?", tools=[add])
    session.ask("sure?")
    last = transport.requests[-1]
    must_be_valid(last)
    assert last.body()["tools"] == [{"name": "add", "input_schema": {"type": "object"}}]
    assert last.body()["tool_choice"] == {"type": "none"}


def test_an_answer_without_streaming_runs_the_same_loop():
    """An answer without streaming is turned into events, so the same loop handles it."""
    message = {
        "type": "message", "id": "m", "role": "assistant", "model": "scripted", "stop_reason": "tool_use",
        "content": [{"type": "tool_use", "id": "toolu_9", "name": "add", "input": {"a": 4}}],
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }  # fmt: skip
    transport = ScriptedTransport(list(events_of(message)), "5")
    assert Session(transport).ask("4 + 1?", tools=[add], stream=False).text == "5"
    assert json.loads(json.dumps(results(transport.requests[1])))[0]["tool_use_id"] == "toolu_9"


def test_what_is_printed_while_another_thread_displays_is_recorded():
    """The model gets all printed lines, also those that are printed while the view draws from another thread."""
    record, inside, over = OutputRecord(1000), threading.Event(), threading.Event()

    def display() -> None:
        with record.paused():
            inside.set()
            over.wait(10)

    thread = threading.Thread(target=display)
    thread.start()
    assert inside.wait(10)
    record.write("plotting")
    over.set()
    thread.join()
    assert record.content()[0]["text"] == "plotting"


def test_a_record_of_outputs_omits_widgets_without_text() -> None:
    """A widget without text is not recorded, because the live view of nbchat is shown through the same publisher."""
    record = OutputRecord(1000)
    record.show({"application/vnd.jupyter.widget-view+json": {"model_id": "m"}})
    record.write("plotting\n")
    record.show({"application/vnd.jupyter.widget-view+json": {"model_id": "n"}, "text/plain": "IntSlider(value=3)"})
    assert record.content() == ({"type": "text", "text": "plotting\nIntSlider(value=3)"},)


@pytest.mark.parametrize(
    ("printed", "returned", "shown"),
    [
        ("rain in Oslo", "rain in Oslo", True),
        ("two\nlines\n", "two\nlines", True),
        ("rain", "rain in Oslo", False),
        ("", "", False),
        ("3", 3, False),  # the model gets JSON, which the user has not read
    ],
)
def test_a_text_that_a_tool_printed_is_not_shown_again(printed: str, returned: Any, shown: bool, capsys):
    """The result says that it was shown, the print is as it was, and the model gets the result."""

    def report() -> Any:
        print(printed)
        return returned

    eyes = Eyes()
    session = Session(ScriptedTransport(call("report"), "Done."))
    write = vars(sys.stdout).get("write")
    session.ask("go", sinks=[eyes], tools=[report], once=True)
    assert vars(sys.stdout).get("write") is write
    assert capsys.readouterr().out == f"{printed}\n"
    (result,) = (chunk for chunk in eyes.chunks if isinstance(chunk, ToolResult))
    assert result.shown is shown
    assert result.content
