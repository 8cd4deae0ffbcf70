"""Tests of the service's container: which later requests name it, and what happens when it is gone."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from nbchat import Conversation, Response, ScriptedTransport, Session
from nbchat.core.errors import BadRequestError, OverloadedError
from nbchat.core.parser import ChatStreamParser

LATER, EARLIER = "2099-01-01T00:00:00Z", "2026-01-01T00:00:00.730129Z"
GONE = BadRequestError("the endpoint answered 400 invalid_request_error: container: container_1 has expired")


def answer(text: str = "Done.", id: str | None = "container_1", expires_at: str = LATER, **more: Any) -> dict[str, Any]:
    message = {"type": "message", "content": [{"type": "text", "text": text}], "stop_reason": "end_turn", **more}
    return message if id is None else message | {"container": {"id": id, "expires_at": expires_at}}


def containers(transport: ScriptedTransport) -> list[Any]:
    return [request.body().get("container") for request in transport.requests]


def calling(call_id: str, **more: Any) -> dict[str, Any]:
    call = {"type": "tool_use", "id": call_id, "name": "double", "input": {"number": 2}}
    return answer(content=[call], **{"stop_reason": "tool_use", **more})


def double(number: int) -> int:
    """Double a number."""
    return 2 * number


def test_the_container_goes_with_the_rounds_of_a_turn_and_with_later_turns():
    transport = ScriptedTransport(calling("toolu_1"), calling("toolu_2", id=None), answer(id=None), answer(id=None))
    session = Session(transport, code_execution=True, tools=[double])
    first = session.ask("Double it.")
    assert first.container == {"id": "container_1", "expires_at": LATER}
    session.ask("And once more.")
    assert containers(transport) == [None, "container_1", "container_1", "container_1"]


def test_a_paused_turn_goes_on_in_its_container():
    transport = ScriptedTransport(answer("Let me see.", stop_reason="pause_turn"), answer("4"))
    assert Session(transport, code_execution=True).ask("2 + 2?").text == "Let me see.4"
    assert containers(transport) == [None, "container_1"]


@pytest.mark.parametrize("place", ["message_start", "message_delta", "both, and null at the end"])
def test_the_container_may_arrive_at_the_start_or_at_the_end(place: str):
    container = {"id": "container_1", "expires_at": LATER}
    parser = ChatStreamParser()
    parser.feed(
        {
            "type": "message_start",
            "message": {"id": "m"} | ({} if place == "message_delta" else {"container": container}),
        }
    )
    delta: dict[str, Any] = {"stop_reason": "end_turn"}
    delta |= {"container": container} if place == "message_delta" else {"container": None}
    parser.feed({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 1}})
    assert parser.snapshot().message["container"] == container


def test_a_container_that_expired_is_not_named():
    transport = ScriptedTransport(answer(expires_at=EARLIER), answer(id="container_2"), answer())
    session = Session(transport, code_execution=True)
    for question in ("One?", "Two?", "Three?"):
        session.ask(question)
    assert containers(transport) == [None, None, "container_2"]


@pytest.mark.parametrize("expires_at", [None, "soon", 7, "2099-01-01"])
def test_a_time_that_cannot_be_read_leaves_the_decision_to_the_service(expires_at: Any):
    transport = ScriptedTransport(answer(expires_at=expires_at), answer())
    session = Session(transport, code_execution=True)
    session.ask("One?")
    session.ask("Two?")
    assert containers(transport) == [None, "container_1"]


@pytest.mark.parametrize(
    ("options", "container"),
    [
        ({}, "container_1"),
        ({"once": True}, None),
        ({"chat": "other"}, None),
        ({"code_execution": False}, None),
        (
            {"code_execution": False, "web_search": True},
            None,
        ),
        ({"model": "claude-haiku-5-5"}, None),
        ({"model": "claude-sonnet-4-6"}, "container_1"),
        ({"endpoint": "second"}, None),
        ({"param": ['container="container_of_mine"']}, "container_of_mine"),
        ({"param": ['container={"id": "container_of_mine"}']}, {"id": "container_of_mine"}),
        (
            {"param": ['container={"skills": [{"type": "anthropic", "skill_id": "xlsx"}]}']},
            {"id": "container_1", "skills": [{"type": "anthropic", "skill_id": "xlsx"}]},
        ),
        ({"param": ['container={"id": null, "skills": []}']}, {"id": "container_1", "skills": []}),
    ],
    ids=str,
)
def test_the_container_goes_only_where_it_holds(options: dict[str, Any], container: Any):
    transport = ScriptedTransport(answer(model="claude-sonnet-5-5"), answer(), model="claude-sonnet-5-5")
    second = ScriptedTransport(answer(), name="second")
    session = Session(transport, code_execution=True)
    session.config.endpoints = {"second": second}
    session.ask("One?", model="claude-sonnet-5-5")
    session.ask("Two?", **options)
    assert containers(second if "endpoint" in options else transport)[-1] == container


def test_a_cell_that_runs_again_starts_where_it_started_before():
    transport = ScriptedTransport(answer(id="container_1"), answer(id="container_2"), answer(id="container_3"))
    session = Session(transport, code_execution=True)
    session.ask("One?", cell="a")
    session.ask("Two?", cell="b")
    session.ask("One, again?", cell="a")
    assert containers(transport) == [None, "container_1", None]


def test_a_container_that_the_service_refuses_is_left_with_a_notice():
    transport = ScriptedTransport(answer(), GONE, answer("New.", id="container_2"), answer())
    session = Session(transport, code_execution=True)
    session.ask("One?")
    second = session.ask("Two?")
    assert second.text == "New."
    assert second.notes == ("the container of the earlier turns was gone, with the files in it; a new one was used",)
    session.ask("Three?")
    assert containers(transport) == [None, "container_1", None, "container_2"]


def test_a_refused_container_is_not_tried_again_if_the_answer_needed_none():
    transport = ScriptedTransport(answer(), GONE, answer(id=None), answer(id=None))
    session = Session(transport, code_execution=True)
    for question in ("One?", "Two?", "Three?"):
        session.ask(question)
    assert containers(transport) == [None, "container_1", None, None]


def test_a_result_that_says_expired_ends_the_container():
    error = {"type": "bash_code_execution_tool_result_error", "error_code": "container_expired"}
    result = {"type": "bash_code_execution_tool_result", "tool_use_id": "srvtoolu_1", "content": error}
    call = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "bash_code_execution", "input": {"command": "ls"}}
    text = {"type": "text", "text": "The files are gone."}
    transport = ScriptedTransport(answer(), answer(content=[call, result, text]), answer())
    session = Session(transport, code_execution=True)
    for question in ("One?", "Two?", "Three?"):
        session.ask(question)
    assert containers(transport) == [None, "container_1", None]


@pytest.mark.parametrize("failure", [BadRequestError("messages: too long"), OverloadedError("the container is busy")])
def test_other_refusals_are_not_about_the_container(failure: Exception):
    session = Session(ScriptedTransport(answer(), failure), code_execution=True)
    session.ask("One?")
    with pytest.raises(type(failure)):
        session.ask("Two?")


def test_a_turn_with_calls_from_its_container_is_not_asked_elsewhere():
    session = Session(ScriptedTransport(calling("toolu_1"), GONE), code_execution=True, tools=[double])
    with pytest.raises(BadRequestError):
        session.ask("Double it.")
    assert session.last is not None
    assert session.last.container == {"id": "container_1", "expires_at": LATER}


def test_a_container_of_the_users_own_is_never_left():
    transport = ScriptedTransport(answer(id="container_2"), GONE, answer())
    session = Session(transport, code_execution=True)
    session.ask("One?")
    for param in ('container="container_1"', 'container={"id": "container_1"}'):
        transport.requests[1:] = []
        with pytest.raises(BadRequestError):
            session.ask("Two?", param=[param])


def test_the_container_is_kept_in_files():
    session = Session(ScriptedTransport(answer()), code_execution=True)
    response = session.ask("One?")
    assert Response.from_dict(response.to_dict()).container == response.container
    loaded = Conversation.from_dict(session.conversation("main").to_dict())
    assert loaded.turns == session.conversation("main").turns
    assert loaded.turns[0].endpoint == "scripted"

    transport = ScriptedTransport(answer())
    other = Session(transport, code_execution=True)
    other.conversations["main"] = loaded
    other.ask("Two?")
    assert containers(transport) == ["container_1"]


@pytest.mark.parametrize("replayed_at", ["before it expires", "after it expires"])
@pytest.mark.parametrize("mode", ["replay", "auto"])
def test_a_recording_is_found_whatever_the_time(
    replayed_at: str, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def ask_twice(session: Session) -> list[str]:
        return [session.ask(question).text for question in ("One?", "Two?")]

    recording = Session(ScriptedTransport(answer("1"), answer("2", id="container_2")), code_execution=True)
    recording.recording.use_cassette(str(tmp_path / "answers.jsonl"))
    assert ask_twice(recording) == ["1", "2"]
    if replayed_at == "after it expires":
        monkeypatch.setattr(time, "time", lambda: 5_000_000_000.0)
    replaying = Session(ScriptedTransport(), code_execution=True)
    replaying.recording.use_cassette(str(tmp_path / "answers.jsonl"), mode)
    assert ask_twice(replaying) == ["1", "2"]


def test_a_recording_made_without_the_container_is_found_with_one(tmp_path: Path):
    """The container had expired between the two cells when they were recorded."""
    recording = Session(ScriptedTransport(answer("1", expires_at=EARLIER), answer("2")), code_execution=True)
    recording.recording.use_cassette(str(tmp_path / "answers.jsonl"))
    recording.ask("One?")
    recording.ask("Two?")
    text = (tmp_path / "answers.jsonl").read_text().replace(EARLIER, LATER)
    (tmp_path / "answers.jsonl").write_text(text)
    replaying = Session(ScriptedTransport(), code_execution=True)
    replaying.recording.use_cassette(str(tmp_path / "answers.jsonl"), "replay")
    assert [replaying.ask(question).text for question in ("One?", "Two?")] == ["1", "2"]
