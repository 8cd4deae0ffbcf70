"""Tests of ``Session.ask``: the steps of a request, and the rules that hold when a step fails."""

from __future__ import annotations

import time
import warnings
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nbchat import ScriptedTransport, Session
from nbchat.core.chunks import Notice
from nbchat.core.errors import (
    AnswerError,
    BudgetError,
    InputError,
    NbchatError,
    OptionError,
    OverloadedError,
    RefusedError,
    StreamError,
)
from nbchat.core.parser import events_of
from nbchat.core.request import Request
from nbchat.core.response import Response
from nbchat.engine.endpoint import Endpoint

#: An answer with a block of each kind, cut into small deltas.
MESSAGE = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-test",
    "content": [
        {"type": "thinking", "thinking": "Let me think", "signature": "s"},
        {"type": "text", "text": "Once upon a time"},
        {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"query": "time"}},
        {"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": []},
        {"type": "text", "text": " there was."},
    ],
    "stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 9, "output_tokens": 20},
}  # fmt: skip
EVENTS = list(events_of(MESSAGE))


class Sink:
    """A sink that keeps its calls, and fails in a chosen one."""

    def __init__(self, fails_at: int | None = None, how: BaseException | None = None, in_settle: bool = False) -> None:
        self.chunks: list[Any] = []
        self.settled: list[Response] = []
        self.fails_at, self.how, self.in_settle = fails_at, how, in_settle

    def begin(self, request) -> None:
        pass

    def feed(self, chunk: Any) -> None:
        self.chunks.append(chunk)
        if self.fails_at == len(self.chunks) - 1 and self.how is not None:
            raise self.how

    def settle(self, response: Response) -> None:
        self.settled.append(response)
        if self.in_settle and self.how is not None:
            raise self.how


def sent(transport: ScriptedTransport, number: int = -1) -> list[tuple[str, str]]:
    """Return the messages of a request as (role, text)."""
    return [(message.role, message.text) for message in transport.requests[number].messages]


# Sinks


FAILURES = [
    OverloadedError("busy"), StreamError("cut"), InputError("odd"),
    KeyboardInterrupt(), ValueError("a bug"), SystemExit(3),
]  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.integers(0, len(EVENTS)), st.sampled_from(FAILURES), st.booleans())
def test_every_sink_is_settled_exactly_once_after_any_failure(step: int, failure: BaseException, early: bool):
    """Each sink is settled once, after any event and any kind of failure.

    All get the Response that the session keeps.
    """

    def broken(request: Request) -> Any:
        def events() -> Any:
            yield from EVENTS[:step]
            raise failure

        if early and step == 0:
            raise failure
        return events()

    first, second = Sink(), Sink()
    session = Session(ScriptedTransport(broken, "And again"))
    with pytest.raises(type(failure)) as caught:
        session.ask("Tell me", sinks=[first, second])
    assert caught.value is failure
    assert first.settled == second.settled == [session.last]
    assert first.chunks == second.chunks
    response = session.last
    assert not response
    whole = step == len(EVENTS)
    if isinstance(failure, KeyboardInterrupt):
        assert response.status == "interrupted"
    elif isinstance(failure, StreamError):
        assert response.status == "incomplete"
        assert failure.partial is response
    else:
        assert response.status == "error"
    assert "Once upon a time\n\n there was.".startswith(response.text)
    assert response.usage.estimated is (0 < step <= EVENTS.index(EVENTS[-2]) and not whole)
    # The next request is valid: the roles alternate, and the question is last.
    assert session.ask("Again").text == "And again"
    roles = [message.role for message in session.endpoints._fixed.requests[-1].messages]
    assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]


@pytest.mark.parametrize("step", range(0, 12, 3))
def test_a_view_that_fails_is_dropped_with_one_warning(step: int):
    """A view that raises is dropped with one warning. The other sinks get the whole answer."""
    view, other = Sink(fails_at=step, how=ZeroDivisionError("no room")), Sink()
    with pytest.warns(RuntimeWarning, match=r"Sink failed \(ZeroDivisionError: no room\)") as warned:
        response = Session(ScriptedTransport(MESSAGE)).ask("Tell me", sinks=[view, other])
    assert len(warned) == 1
    assert response.status == "complete"
    assert other.settled == [response]
    assert view.settled == []
    assert len(view.chunks) == step + 1
    assert len(other.chunks) > step + 1


def test_a_view_that_raises_in_begin_or_settle_breaks_nothing():
    """A view that raises in ``begin`` or ``settle`` causes a warning. The answer stays complete."""

    class Begins(Sink):
        def begin(self, request: Request) -> None:
            raise OSError("no screen")

    view, begins, other = Sink(how=ZeroDivisionError("late"), in_settle=True), Begins(), Sink()
    with pytest.warns(RuntimeWarning) as warned:
        response = Session(ScriptedTransport("Hi")).ask("Hi", sinks=[view, begins, other])
    assert {"late" in str(warning.message) or "no screen" in str(warning.message) for warning in warned} == {True}
    assert len(warned) == 2
    assert response
    assert other.settled == [response]


def test_a_function_can_make_the_sinks_from_the_price():
    """A function can make the sinks.

    It receives the price, so that a view can show the cost while the answer arrives.
    """
    made: list[Any] = []

    def make(cost: Any) -> list[Sink]:
        made.append(cost)
        return [Sink()]

    session = Session(ScriptedTransport("Hi", model="claude-sonnet-5-5", name="anthropic"))
    response = session.ask("Hi", sinks=make)
    assert made[0](response.usage, "claude-sonnet-5-5") == response.cost
    assert response.cost is None or response.cost > 0


def test_an_error_before_sending_changes_nothing():
    """An error before sending calls no sink, and the last answer stays."""
    session, sink = Session(ScriptedTransport("Hi", repeat=True)), Sink()
    kept = session.ask("Hi")
    for wrong in ({"prompt": " "}, {"prompt": "{{ x", "namespace": {}}, {"prompt": "Hi", "effort": "huge"}):
        with pytest.raises(InputError):
            session.ask(**wrong, sinks=[sink])
    assert (sink.chunks, sink.settled) == ([], [])
    assert session.last is kept
    assert len(session.conversation("main")) == 1


# The turn in its conversation


def test_a_cell_that_is_run_again_replaces_its_own_turn():
    """A cell that runs again sends only the turns before its own. Later turns stay and become stale."""
    transport = ScriptedTransport("one", "two", "three", "one again", "four")
    session = Session(transport)
    for cell, prompt in (("a", "A"), ("b", "B"), ("c", "C")):
        session.ask(prompt, cell=cell)
    session.ask("A2", cell="a")
    assert sent(transport) == [("user", "A2")]
    turns = session.conversation("main").turns
    assert [(turn.key, turn.stale) for turn in turns] == [("a", False), ("b", True), ("c", True)]
    session.ask("D", cell="d")
    assert sent(transport) == [
        ("user", "A2"), ("assistant", "one again"), ("user", "B"), ("assistant", "two"),
        ("user", "C"), ("assistant", "three"), ("user", "D"),
    ]  # fmt: skip


def test_the_status_of_a_cell_that_runs_again_counts_the_stale_turns():
    """The notice is in the status line only: a saved notebook must not depend on the order of its runs."""
    session = Session(ScriptedTransport("Fine", repeat=True))
    said = []
    for cell, options in (("a", {}), ("b", {}), ("c", {}), ("a", {}), ("b", {}), ("c", {}), ("a", {"once": True})):
        sink = Sink()
        response = session.ask("Hi", cell=cell, sinks=[sink], **options)
        assert response.notes == ()
        said.append([chunk.text for chunk in sink.chunks if isinstance(chunk, Notice) and "stale" in chunk.text])
    assert said == [[], [], [], ["2 later turns become stale"], ["1 later turn becomes stale"], [], []]


def test_without_a_key_every_run_is_a_new_turn():
    """Each run is a new turn if the front end sends no cell id. nbclient, for example, sends none."""
    session = Session(ScriptedTransport("x", repeat=True))
    for _ in range(3):
        session.ask("Hi")
    assert len(session.conversation("main")) == 3


def test_once_sends_no_history_and_joins_no_conversation():
    """``once`` sends no history, and the next cell does not send the turn."""
    transport = ScriptedTransport("one", "two", "three")
    session = Session(transport)
    session.ask("A")
    response = session.ask("B", once=True)
    assert sent(transport) == [("user", "B")]
    assert response.text == "two"
    session.ask("C")
    assert sent(transport) == [("user", "A"), ("assistant", "one"), ("user", "C")]


def test_conversations_are_separate():
    """A conversation sends only its own turns."""
    transport = ScriptedTransport("one", "two", "three")
    session = Session(transport)
    session.ask("A", chat="left")
    session.ask("B", chat="right")
    session.ask("C", chat="left")
    assert sent(transport) == [("user", "A"), ("assistant", "one"), ("user", "C")]
    assert {name for name, chat in session.conversations.items() if len(chat)} == {"left", "right"}


def test_a_failed_run_of_a_cell_keeps_its_earlier_turn():
    """A run without an answer keeps the cell's earlier turn. A partial answer replaces the earlier turn."""
    transport = ScriptedTransport("one", OverloadedError("busy"), ["half", StreamError("cut")], "next")
    session = Session(transport)
    session.ask("A", cell="a")
    with pytest.raises(OverloadedError):
        session.ask("A2", cell="a")
    assert session.conversation("main").turns[0].messages[0].text == "A"
    with pytest.raises(StreamError):
        session.ask("A3", cell="a")
    assert [turn.status for turn in session.conversation("main").turns] == ["incomplete"]
    session.ask("B", cell="b")
    assert sent(transport) == [("user", "A3"), ("assistant", "half"), ("user", "B")]


# The end of an answer


def test_a_paused_answer_is_continued():
    """The second request contains the partial answer unchanged. Both parts are one Response."""
    paused = {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"query": "x"}}
    transport = ScriptedTransport(["Let me see. ", paused, {"stop_reason": "pause_turn"}], "Here it is.")
    session, sink = Session(transport), Sink()
    response = session.ask("Look it up", sinks=[sink])
    assert len(transport.requests) == 2
    (question, answer) = transport.requests[1].messages
    assert (question.role, question.text) == ("user", "Look it up")
    assert answer.role == "assistant"
    assert [block.to_dict() for block in answer.content] == [{"type": "text", "text": "Let me see. "}, paused]
    assert response.text == "Let me see. \n\nHere it is."
    assert response.status == "complete"
    usages = [chunk.usage for chunk in response.chunks if chunk.type == "response"]
    assert response.usage == usages[0] + usages[1]
    assert len(sink.settled) == 1


def test_a_refusal_is_an_error_that_holds_the_response():
    """A refusal raises an error that holds the Response. The cell fails, so Run All stops."""
    refused = ["I cannot", {"stop_reason": "refusal", "stop_details": {"explanation": "too odd"}}]
    session, sink = Session(ScriptedTransport(refused)), Sink()
    with pytest.raises(RefusedError, match="too odd") as caught:
        session.ask("Hi", sinks=[sink])
    response = caught.value.response
    assert response is session.last
    assert sink.settled == [response]
    assert (response.status, response.text, response.stop_reason) == ("refused", "I cannot", "refusal")


@pytest.mark.parametrize("reason", ["max_tokens", "model_context_window_exceeded"])
def test_an_answer_that_ends_at_a_limit_is_incomplete(reason: str):
    """An answer that reaches a token limit is returned, but it is not complete, so it is false."""
    response = Session(ScriptedTransport(["Once upon", {"stop_reason": reason}])).ask("Hi")
    assert (response.status, response.stop_reason, bool(response)) == ("incomplete", reason, False)


@pytest.mark.parametrize("reason", ["end_turn", "stop_sequence", "of_next_year"])
def test_other_stop_reasons_are_complete(reason: str):
    """Every other stop reason means a complete answer, also one that a later API adds."""
    assert Session(ScriptedTransport(["Done", {"stop_reason": reason}])).ask("Hi").status == "complete"


def test_an_empty_answer_is_an_error_with_a_response():
    """An empty answer raises an AnswerError with the Response, because an empty output would look like success."""
    session = Session(ScriptedTransport([]))
    with pytest.raises(AnswerError) as caught:
        session.ask("Hi")
    assert caught.value.response is session.last


# The content of a prompt


def test_a_prompt_may_be_texts_and_values():
    """A prompt can be a list of texts and values, which are sent in their order."""
    import pandas

    transport = ScriptedTransport("Fine")
    response = Session(transport).ask(["Sum this up:", pandas.DataFrame({"size": [1, 2]}), "Briefly."])
    text = transport.requests[0].messages[0].text
    assert text.index("Sum this up:") < text.index("size") < text.index("Briefly.")
    assert response.prompt == text


def test_braces_are_filled_only_if_there_is_a_namespace():
    """Braces are text if there is no namespace. Braces inside a value are not filled."""
    transport = ScriptedTransport("Fine", repeat=True)
    session = Session(transport)
    session.ask("Is {{ x + 1 }} even?", namespace={"x": 41, "y": 1})
    session.ask("Is {{ x }} even?")
    session.ask("{{ text }}", namespace={"text": "{{ y }}", "y": 1})
    assert [request.messages[-1].text for request in transport.requests] == [
        "Is 42 even?",
        "Is {{ x }} even?",
        "{{ y }}",
    ]


def test_a_shortened_value_makes_a_note_and_a_notice():
    """The user sees a notice before the answer, and the Response keeps the note."""
    import pandas

    frame = pandas.DataFrame({"n": range(100_000)})
    sink = Sink()
    response = Session(ScriptedTransport("Fine")).ask("{{ frame }}", namespace={"frame": frame}, sinks=[sink])
    assert len(response.notes) >= 1
    assert "100,000" in " ".join(response.notes).replace("100000", "100,000")
    notices = [chunk.text for chunk in sink.chunks if isinstance(chunk, Notice)]
    assert set(response.notes) <= set(notices)


# Limits


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that makes a session whose endpoint has a small context window."""

    def make(transport: ScriptedTransport, window: int = 1000) -> Session:
        session = Session(transport, max_tokens=80)
        endpoint = Endpoint("scripted", "scripted", lambda: transport, window=window)
        monkeypatch.setattr(session.endpoints, "find", lambda options: endpoint)
        return session

    return make


def test_a_request_beyond_the_window_names_its_largest_parts(small: Any):
    """A request that exceeds the window is not sent. The error names its three largest parts."""
    transport = ScriptedTransport("answer " * 300, repeat=True)
    session = small(transport, 2000)
    session.ask("question " * 200, system="system " * 40)
    with pytest.raises(InputError) as caught:
        session.ask("again " * 600, system="system " * 40)
    assert len(transport.requests) == 1
    named = caught.value.message.partition("Largest: ")[2].split("; ")
    assert len(named) == 3
    assert "the prompt" in named[0]
    assert "turn 1 of the history, the answer" in named[1]
    assert "turn 1 of the history, the prompt" in named[2]
    for way in ("--once", "--trim"):
        assert way in caught.value.hint


def test_trim_drops_the_oldest_turns_and_says_so(small: Any):
    """``trim`` drops as few of the oldest turns as possible from the request. The conversation keeps them."""
    transport = ScriptedTransport("answer " * 200, repeat=True)
    session = small(transport, 1200)
    session.ask("first " * 100)
    session.ask("second " * 100)
    with pytest.raises(InputError):
        session.ask("third " * 100)
    response = session.ask("third " * 100, trim=True)
    assert sent(transport)[0][1].startswith("second")
    assert any("--trim dropped the oldest turn" in note for note in response.notes)
    assert len(session.conversation("main")) == 3


def test_a_budget_refuses_before_anything_is_sent():
    """A request over the budget is not sent. The error has the spent amount, the limit and the estimate."""
    transport = ScriptedTransport("Hi", repeat=True, name="anthropic", model="claude-sonnet-4-5")
    session = Session(transport)
    with pytest.raises(BudgetError) as caught:
        session.ask("Hi", budget=0.000001)
    assert transport.requests == []
    assert caught.value.limit == 0.000001
    assert caught.value.estimate > caught.value.limit
    assert session.ask("Hi", budget=5).cost > 0
    with pytest.raises(BudgetError) as caught:
        session.ask("Hi", budget=0)
    assert caught.value.spent > 0


# Options


def test_a_sessions_settings_go_into_every_request():
    """Each request uses the settings of the session, unless it has its own. An unknown setting raises an error."""
    transport = ScriptedTransport("Hi", repeat=True)
    session = Session(transport, system="Be brief.", max_tokens=5)
    session.ask("A")
    session.ask("B", system="Be long.")
    assert [(request.system, request.max_tokens) for request in transport.requests] == [
        ("Be brief.", 5),
        ("Be long.", 5),
    ]
    with pytest.raises(InputError, match="sytem"):
        Session(transport, sytem="x")


def test_every_request_has_a_row_in_the_ledger(recwarn: pytest.WarningsRecorder):
    """The ledger has a row for each request, also for failed and interrupted ones."""
    answers = [
        "fine",
        OverloadedError("busy"),
        ["half", StreamError("cut")],
        KeyboardInterrupt(),
        ["part", KeyboardInterrupt()],
    ]
    session = Session(ScriptedTransport(*answers), notebook="rows.ipynb")
    for _ in answers:
        try:
            session.ask("Hi", once=True)
        except (NbchatError, KeyboardInterrupt):
            continue
    assert [row.kind for row in session.accounting.ledger.rows()] == [
        "answer",
        "failed",
        "failed",
        "interrupted",
        "interrupted",
    ]
    assert not [warning for warning in recwarn if issubclass(warning.category, RuntimeWarning)]


def test_a_plain_question_causes_no_warning():
    """A plain question causes no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Session(ScriptedTransport(MESSAGE)).ask("Hi")


# Unexpected events from an endpoint

plain = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.floats(), st.text(max_size=6))
junk = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def spoilt(draw: Any) -> list[dict[str, Any]]:
    """Return the events of an answer. In some of them a field is missing or has an unexpected value."""
    events = [dict(event) for event in EVENTS]
    for _ in range(draw(st.integers(1, 3))):
        event = holder = draw(st.sampled_from(events))
        key = draw(st.sampled_from([key for key in event if key != "type"] or ["type"]))
        while isinstance(event.get(key), dict) and event[key] and draw(st.booleans()):
            holder = event[key] = dict(event[key])
            event, key = holder, draw(st.sampled_from(list(holder)))
        if draw(st.booleans()):
            event[key] = draw(junk)
        else:
            event.pop(key, None)
    return events


@settings(deadline=None, max_examples=150)
@given(spoilt())
def test_unexpected_events_raise_only_errors_of_nbchat(events: list[dict[str, Any]]):
    """Unexpected events lead to an answer or to an error of nbchat, and the turn is settled."""
    sink, session = Sink(), Session(ScriptedTransport(lambda request: iter(events), "Fine"))
    try:
        response = session.ask("Tell me", sinks=[sink])
    except NbchatError:
        response = session.last
    assert sink.settled == [response]
    assert isinstance(response.to_dict(), dict)
    assert session.ask("And now?").text == "Fine"


CELL_OPTIONS = {"attach": "a.csv", "cells": "above", "code": True, "fix": True, "explain": True, "dry_run": True,
                "go_on": True}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [*CELL_OPTIONS.items(), ("output", "x")])
def test_an_option_of_cells_is_refused_from_python(name: str, value: Any):
    """An option that only a cell can use raises an error from Python, because nbchat ignores no option."""
    transport = ScriptedTransport("Never said.")
    with pytest.raises(OptionError, match=f"{name}: only a %%claude cell"):
        Session(transport).ask("Hi", **{name: value})
    assert transport.requests == []


def test_a_clock_that_is_set_back_gives_no_negative_time(monkeypatch):
    """Durations come from a clock that cannot be set."""
    now = [time.time()]

    def an_hour_back() -> float:
        now[0] -= 3600
        return now[0]

    monkeypatch.setattr(time, "time", an_hour_back)
    session = Session(ScriptedTransport("Hello", repeat=True))
    for _ in range(3):
        answer = session.ask("Hi")
        assert answer.time_to_first_chunk is not None
        assert 0 <= answer.time_to_first_chunk <= answer.duration < 60
