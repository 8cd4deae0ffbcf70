"""The tool loop, by a transport written by hand: what runs, what is sent after it, and how a turn ends."""

from __future__ import annotations

import json
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
    """A sink that keeps what it is told."""

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
    """The tool results that the last message of a request carries."""
    return [block.to_dict() for block in request.messages[-1].content]


def text_of(result: dict[str, Any]) -> str:
    return "".join(part["text"] for part in result["content"] if part["type"] == "text")


def must_be_valid(request: Request) -> None:
    """What the Messages API demands of calls and results: each call answered, once, in the next message, in order."""
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


# -- what is sent each round ----------------------------------------------------------------------


def test_a_result_goes_back_and_the_turn_ends_in_text():
    """Two requests: the second is the first, the answer, and the result."""
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


def test_many_rounds_each_carry_all_that_came_before():
    """Five rounds of calls; each request extends the one before it, so the prompt cache holds."""
    transport = ScriptedTransport(*(call("add", a=n) for n in range(5)), "Done.")
    Session(transport).ask("count", tools=[add])
    assert len(transport.requests) == 6
    for before, after in zip(transport.requests, transport.requests[1:], strict=False):
        assert after.messages[: len(before.messages)] == before.messages
        assert len(after.messages) == len(before.messages) + 2
        assert after.tools == before.tools
        must_be_valid(after)
    assert [text_of(results(request)[0]) for request in transport.requests[1:]] == ["1", "2", "3", "4", "5"]


def test_several_calls_of_one_answer_run_in_order_and_are_answered_in_one_message():
    """In the order of the calls, also when one fails in the middle."""
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


def test_thinking_goes_back_with_its_signature():
    """The API wants it unchanged before the call."""
    transport = ScriptedTransport([{"thinking": "hm", "signature": "sig"}, call("add", a=1)], "2")
    Session(transport).ask("1 + 1?", tools=[add])
    assert transport.requests[1].messages[1].content[0].to_dict() == {
        "type": "thinking",
        "thinking": "hm",
        "signature": "sig",
    }


def test_a_blank_text_before_a_call_does_not_go_back():
    """Models send them; the API refuses them."""
    transport = ScriptedTransport([{"text": "\n\n"}, call("add", a=1)], "2")
    Session(transport).ask("1 + 1?", tools=[add])
    must_be_valid(transport.requests[1])


def test_a_choice_that_forces_a_tool_holds_for_the_first_round_only():
    """Else the model could never end."""
    transport = ScriptedTransport(call("add", a=1), "2")
    Session(transport).ask(
        "1 + 1?", tools=[add], param='tool_choice={"type": "any", "disable_parallel_tool_use": true}'
    )
    choices = [request.params.get("tool_choice") for request in transport.requests]
    assert choices == [
        {"type": "any", "disable_parallel_tool_use": True},
        {"type": "auto", "disable_parallel_tool_use": True},
    ]


def test_the_sinks_are_told_of_each_result_and_settled_once():
    """Chunks of every round, a ToolResult after each call, one end."""
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
    """Usage and ledger rows are of every request."""
    transport = ScriptedTransport(call("add", a=1), "2")
    session = Session(transport)
    response = session.ask("1 + 1?", tools=[add])
    rows = list(session.accounting.run)
    assert [(row.round, row.kind) for row in rows] == [(0, "tool_round"), (1, "answer")]
    assert response.usage.total_tokens == sum(row.usage.total_tokens for row in rows)


# -- how a turn ends ------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_the_last_round_allows_no_tool_but_keeps_them(limit: int):
    """With --max-rounds N there are N requests at most, and the Nth must end in text."""

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
    """As the help says."""
    transport = ScriptedTransport(
        lambda request: "." if request.params.get("tool_choice") else call("add", a=1), repeat=True
    )
    Session(transport).ask("go on", tools=[add])
    assert len(transport.requests) == 8


def test_an_endpoint_that_calls_a_tool_all_the_same():
    """Not every server obeys tool_choice: the tool does not run, and it is an AnswerError with what there is."""
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
def test_neither_text_nor_a_call_is_an_answer_error(empty: list[Any], after: int):
    """In a plain turn and after results of tools; the Response is bound, the cell fails."""
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


def test_a_turn_that_ends_at_a_stop_sequence_at_once_is_no_error():
    """The user asked for that."""
    message = {
        "type": "message", "id": "m", "role": "assistant", "model": "scripted", "stop_reason": "stop_sequence",
        "stop_sequence": "x", "content": [], "usage": {"input_tokens": 1, "output_tokens": 0},
    }  # fmt: skip
    assert Session(ScriptedTransport(message)).ask("go", stop="x").text == ""


# -- what never runs ------------------------------------------------------------------------------


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
    """The events of an answer that calls ``note`` with these pieces of JSON."""
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
def test_arguments_that_are_no_whole_json_object_never_run(ran: list[Any], note: Any, arguments: list[str]):
    """The model is told what it sent, the turn goes on, and what goes back is valid."""
    transport = ScriptedTransport(events_with(arguments), "Sorry.")
    response = Session(transport).ask("go", tools=[note])
    assert ran == []
    (result,) = results(transport.requests[1])
    assert result["is_error"]
    assert "".join(arguments) in text_of(result)
    must_be_valid(transport.requests[1])
    assert response.text == "Sorry."


def test_a_call_that_was_cut_off_never_runs(ran: list[Any], note: Any):
    """The stream ended in the middle, with JSON that would parse: no message_stop, no call."""
    session = Session(ScriptedTransport(events_with(['{"word": "a"}'], stop=False)))
    with pytest.raises(StreamError):
        session.ask("go", tools=[note])
    assert ran == []
    assert session.conversation("main").history(None) == ()


@pytest.mark.parametrize("reason", ["max_tokens", "end_turn", "refusal", "stop_sequence"])
def test_a_call_runs_only_where_the_answer_stopped_for_it(ran: list[Any], note: Any, reason: str):
    """Whole JSON is not enough: an answer that stopped for another reason may have been cut."""
    session = Session(ScriptedTransport(events_with(['{"word": "a"}'], stop_reason=reason)))
    if reason == "refusal":
        with pytest.raises(AnswerError):
            session.ask("go", tools=[note])
    else:
        session.ask("go", tools=[note])
    assert ran == []


def test_arguments_that_do_not_fit_are_an_error_result_that_says_which():
    """The function does not run, and the model can mend its call."""
    transport = ScriptedTransport(call("add", a="x", c=1), call("add", a=1), "2")
    Session(transport).ask("go", tools=[add])
    said = text_of(results(transport.requests[1])[0])
    assert "a: " in said
    assert "c: there is no such parameter" in said
    assert results(transport.requests[1])[0]["is_error"]
    assert text_of(results(transport.requests[2])[0]) == "2"


def test_a_tool_that_is_not_there_is_an_error_result():
    """It names the nearest."""
    transport = ScriptedTransport(call("ad", a=1), "Oh.")
    Session(transport).ask("go", tools=[add])
    (result,) = results(transport.requests[1])
    assert result["is_error"]
    assert "Did you mean add?" in text_of(result)


def test_an_exception_goes_back_and_its_traceback_is_shown(capsys: pytest.CaptureFixture[str]):
    """The model gets the message, the user the traceback."""

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
    """``async def`` works, without a loop of the caller's."""

    async def slow(word: str) -> str:
        import asyncio

        await asyncio.sleep(0.01)
        return word * 2

    transport = ScriptedTransport(call("slow", word="ab"), "ok")
    Session(transport).ask("go", tools=[slow])
    assert text_of(results(transport.requests[1])[0]) == "abab"


# -- interrupts, errors, budgets ------------------------------------------------------------------


def test_an_interrupt_in_a_tool_stops_the_turn_with_a_history_that_can_be_sent():
    """The calls before it have their results, it and the later ones say that they were interrupted."""
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


def test_a_failure_in_a_later_round_keeps_what_was_done():
    """The error goes on; the Response has the first round, and the conversation can be sent again."""
    transport = ScriptedTransport(["Adding.", call("add", a=1)], OverloadedError("busy"), "ok")
    session = Session(transport)
    with pytest.raises(OverloadedError):
        session.ask("go", tools=[add])
    assert session.last is not None
    assert session.last.text == "Adding."
    session.ask("and now?")
    must_be_valid(transport.requests[-1])


def test_the_budget_is_checked_before_every_further_round(monkeypatch: pytest.MonkeyPatch):
    """The second request would go over it, so it is not sent."""
    from nbchat.config import Nbchat

    prices = {"scripted": {"input": 0.0, "output": 1_000_000.0}}
    transport = ScriptedTransport(call("add", a=1), "never sent")
    session = Session(transport, config=Nbchat(prices=prices))
    with pytest.raises(BudgetError):
        session.ask("go", tools=[add], max_tokens=50, budget=60.0)
    assert len(transport.requests) == 1
    assert session.last is not None
    assert [one.name for one in session.last.tool_calls] == ["add"]


# -- which tools ----------------------------------------------------------------------------------


class Shelf:
    def __init__(self) -> None:
        self.books = {"Emma": 1815}

    def year(self, title: str) -> int:
        """The year of a book."""
        return self.books[title]


def test_names_of_the_namespace_with_commas_and_methods():
    """As ``--tools add,shelf.year`` says; the answer is looked up where the name was."""
    namespace = {"add": add, "shelf": Shelf()}
    transport = ScriptedTransport([call("shelf__year", title="Emma"), call("add", a=1)], "1815")
    Session(transport).ask("when?", tools="add,shelf.year", namespace=namespace)
    assert [tool["name"] for tool in transport.requests[0].tools] == ["add", "shelf__year"]
    assert [text_of(one) for one in results(transport.requests[1])] == ["1815", "2"]


def test_a_marked_function_is_a_tool_of_every_cell():
    """``nbchat.tool`` once, no option; named as well, it is there once."""

    @nbchat.tool
    def today() -> str:
        """The day."""
        return "Monday"

    for tools in ((), ("today",)):
        transport = ScriptedTransport(call("today"), "Monday.")
        Session(transport).ask("day?", namespace={"today": today, "add": add}, tools=tools)
        assert [tool["name"] for tool in transport.requests[0].tools] == ["today"]


def test_without_tools_nothing_of_them_is_sent():
    """A plain turn is what it was."""
    transport = ScriptedTransport("hi")
    Session(transport).ask("hi", namespace={"add": add})
    assert "tools" not in transport.requests[0].body()
    assert "tool_choice" not in transport.requests[0].body()


def test_what_cannot_be_a_tool_is_said_before_anything_is_sent():
    """A name that is not there, a value that cannot be called, a parameter without a JSON form."""

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
    """In plain Python there is no cell to run in."""
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
def test_approval_where_nobody_can_answer(approve: str | None, marked: str | None, runs: bool):
    """Functions the user named run unasked; where asking is due and nobody is there, it is a no, said to the model."""
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


# -- asking within a turn -------------------------------------------------------------------------


def test_a_tool_may_ask_by_itself():
    """A turn within a turn stands for itself: it sends no half-done history, and the outer one goes on."""
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


def test_a_tool_may_ask_in_another_conversation():
    """That one is not under way, so it goes on as always."""

    def consult(question: str) -> str:
        return session.ask(question, chat="side").text

    transport = ScriptedTransport(call("consult", question="why?"), "Because.", "ok")
    session = Session(transport)
    session.ask("ask him", tools=[consult])
    assert len(session.conversation("side").turns) == 1
    assert len(session.conversation("main").turns) == 1


def test_a_second_cell_goes_on_after_a_turn_with_tools():
    """The calls and their results are part of the history, and the turn of a cell that runs again is replaced."""
    transport = ScriptedTransport(["Adding.", call("add", a=1)], "It is 2.", "Yes.", "Yes again.")
    session = Session(transport)
    session.ask("1 + 1?", tools=[add], cell="a")
    session.ask("sure?", tools=[add], cell="b")
    must_be_valid(transport.requests[2])
    assert [one.role for one in transport.requests[2].messages] == ["user", "assistant", "user", "assistant", "user"]
    session.ask("really?", tools=[add], cell="b")
    assert len(transport.requests[3].messages) == 5


def test_a_cell_without_tools_after_one_with_tools():
    """The API takes calls in the history only where tools are defined: theirs are, and none may be called."""
    transport = ScriptedTransport(call("add", a=1), "It is 2.", "Yes.")
    session = Session(transport)
    session.ask("1 + 1?", tools=[add])
    session.ask("sure?")
    last = transport.requests[-1]
    must_be_valid(last)
    assert last.body()["tools"] == [{"name": "add", "input_schema": {"type": "object"}}]
    assert last.body()["tool_choice"] == {"type": "none"}


def test_an_answer_in_one_piece_runs_the_same_loop():
    """Without streaming the events are made of the message; the loop does not know."""
    message = {
        "type": "message", "id": "m", "role": "assistant", "model": "scripted", "stop_reason": "tool_use",
        "content": [{"type": "tool_use", "id": "toolu_9", "name": "add", "input": {"a": 4}}],
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }  # fmt: skip
    transport = ScriptedTransport(list(events_of(message)), "5")
    assert Session(transport).ask("4 + 1?", tools=[add], stream=False).text == "5"
    assert json.loads(json.dumps(results(transport.requests[1])))[0]["tool_use_id"] == "toolu_9"


def test_what_is_printed_while_another_thread_displays_is_recorded():
    """The view draws while run_python runs: the model gets every line all the same."""
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


def test_a_record_of_outputs_is_without_widgets_that_have_no_text() -> None:
    """The live view shows one through the same publisher while run_python runs."""
    record = OutputRecord(1000)
    record.show({"application/vnd.jupyter.widget-view+json": {"model_id": "m"}})
    record.write("plotting\n")
    record.show({"application/vnd.jupyter.widget-view+json": {"model_id": "n"}, "text/plain": "IntSlider(value=3)"})
    assert record.content() == ({"type": "text", "text": "plotting\nIntSlider(value=3)"},)
