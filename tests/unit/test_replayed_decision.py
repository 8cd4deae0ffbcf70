"""Tests of recorded decisions: which of them a replay takes over, and when it asks again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import nbchat
from nbchat import Response, ScriptedTransport, Session
from nbchat.core.errors import CassetteMiss
from nbchat.engine.host import PlainHost


class Keyboard(PlainHost):
    """A place where somebody types these answers. Without any, nobody is there."""

    def __init__(self, *answers: str) -> None:
        self.answers, self.questions = list(answers), 0

    can_ask = property(lambda self: bool(self.answers))

    def ask(self, prompt: str) -> str:
        if not self.answers:
            raise EOFError
        self.questions += 1
        return self.answers.pop(0)


class Place:
    """One cassette, and sessions that record and replay one prompt with a call."""

    def __init__(self, path: Path) -> None:
        self.path, self.ran = str(path), []

    def answer(self, mode: str, *typed: str, arguments: Any = None, **options: Any) -> tuple[Response, int]:
        """Ask, and return the Response and how many questions the user was asked."""

        def report(city: str) -> str:
            self.ran.append(city)
            return f"rain in {city}"

        call = {"tool": "report", "input": arguments or {"city": "Oslo"}}
        host = Keyboard(*typed)
        session = Session(ScriptedTransport(call, "Done."), host=host)
        session.recording.use_cassette(self.path, mode)
        tool = nbchat.tool(report, approve=options.pop("approve_tool", None))
        response = session.ask("The weather?", tools=[tool], **{"approve": "ask", "once": True, **options})
        return response, host.questions


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "tape.jsonl")


@pytest.mark.parametrize(
    ("typed", "text"),
    [("n", "declined"), ("n not today", "declined: not today"), ("", "declined"), ("no: ask me ⟨later⟩", None)],
)
@pytest.mark.parametrize("somebody", [True, False])
def test_a_declined_call_is_declined_again_everywhere(place: Place, typed: str, text: str | None, somebody: bool):
    """Nothing is asked, nothing runs, and the output is the one that was recorded."""
    recorded, _ = place.answer("auto", typed)
    again, questions = place.answer("replay", *["y"] * somebody)
    assert (again.text, questions, place.ran) == ("Done.", 0, [])
    assert again.replayed
    assert again.decisions == recorded.decisions
    assert again.decisions[0].text == (text or "declined: ask me ⟨later⟩")
    assert again.messages == recorded.messages


def test_a_call_that_ran_runs_again_where_nobody_can_be_asked(place: Place):
    """Where somebody is there, they are asked as before, and may decide in another way."""
    recorded, _ = place.answer("auto", "y")
    again, _ = place.answer("replay")
    assert (again.text, again.decisions, place.ran) == ("Done.", recorded.decisions, ["Oslo", "Oslo"])
    asked, questions = place.answer("replay", "y")
    assert (asked.text, questions) == ("Done.", 1)
    with pytest.raises(CassetteMiss):
        place.answer("replay", "n")


def test_an_edited_call_runs_as_it_was_edited(place: Place):
    """The arguments are those that the user typed, in the request after the call too."""
    recorded, _ = place.answer("auto", "e", '{"city": "Bonn"}', "y", arguments={"city": "Rome"})
    assert place.ran == ["Bonn"], place.ran
    again, _ = place.answer("replay", arguments={"city": "Rome"})
    assert (again.text, place.ran) == ("Done.", ["Bonn", "Bonn"])
    assert again.decisions == recorded.decisions
    assert again.decisions[0].text == "allowed as edited"


def test_what_asks_nobody_decides_as_ever(place: Place):
    """``--approve always`` and ``never`` have no question, and a new answer has no decision."""
    place.answer("auto", "n")
    with pytest.raises(CassetteMiss):
        place.answer("replay", approve="always")
    assert place.ran == ["Oslo"]
    response, questions = place.answer("record", "y")
    assert (questions, response.decisions[0].text, place.ran) == (1, "allowed", ["Oslo", "Oslo"])


def test_a_call_that_nobody_could_allow_stays_so(place: Place):
    """A run without a keyboard that was recorded says the same again."""
    first, _ = place.answer("auto")
    again, questions = place.answer("replay")
    assert (again.decisions, questions, place.ran) == (first.decisions, 0, [])


def test_another_call_with_the_same_id_has_no_decision(place: Place):
    """Not every endpoint has unique ids. The recorded call must have had the same arguments."""
    place.answer("auto", "y")
    session = Session(ScriptedTransport("x"))
    session.recording.use_cassette(place.path, "auto")
    cassette = session.recording.cassette
    assert cassette is not None
    call = {"id": "toolu_scripted_1_0", "name": "report", "input": {"city": "Oslo"}}
    assert cassette.result_of(call) == "rain in Oslo"
    assert cassette.result_of({**call, "input": {"city": "Rome"}}) is None
    assert cassette.result_of({**call, "name": "delete"}) is None
    assert cassette.result_of({**call, "id": "toolu_2"}) is None
