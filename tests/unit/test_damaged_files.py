"""Files that were damaged or made by others: each loads as a valid object, or fails with one InputError."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import nbchat
from nbchat.core.conversation import Conversation, Turn
from nbchat.core.errors import InputError, NbchatError
from nbchat.core.messages import Message, OpaqueBlock, ToolUseBlock
from nbchat.core.request import Request
from nbchat.core.response import Response
from nbchat.core.usage import Usage
from nbchat.engine.session import Session
from nbchat.notebook import commands
from nbchat.store.journal import JournalFolder
from nbchat.transports.cassette import Cassette
from nbchat.transports.exchange import Exchange
from nbchat.transports.scripted import ScriptedTransport

CALL = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": [1, {"b": 2}]}}
TEXT = {
    "type": "text",
    "text": "**Five** [1].\n\n```python\nx = 1\n```",
    "citations": [
        {"type": "web_search_result_location", "url": "https://example.org", "title": "A page", "cited_text": "five"}
    ],
}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "5"}]}
SEARCH = [
    {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"query": "five"}},
    {
        "type": "web_search_tool_result",
        "tool_use_id": "srv_1",
        "content": [{"type": "web_search_result", "url": "https://example.org", "title": "A page"}],
    },
]
MESSAGES = (
    Message.of("user", [{"type": "text", "text": "2 + 3?"}, {"type": "image", "source": {"type": "url", "url": "u"}}]),
    Message.of("assistant", [{"type": "thinking", "thinking": "Hm.", "signature": "s"}, *SEARCH, CALL]),
    Message.of("user", [RESULT]),
    Message.of("assistant", [TEXT]),
)
RESPONSE = Response(
    text=TEXT["text"],
    status="refused",
    blocks=MESSAGES[1].content + MESSAGES[3].content,
    usage=Usage(10, 5, 3, 2, 1, 4, 1, 1, "standard", "fast", "us", True),
    cost=0.01,
    model="claude-sonnet-5-5",
    endpoint="local",
    stop_reason="refusal",
    stop_details={"type": "refusal", "explanation": "No."},
    id="msg_1",
    request_id="req_1",
    duration=1.5,
    time_to_first_chunk=0.5,
    prompt="2 + 3?",
    messages=MESSAGES,
    digest="d",
    parsed=[{"a": 1, "b": "x"}],
    notes=("df: first 20 of 10,000 rows",),
).to_dict()
CONVERSATION = Conversation("review", [Turn("cell-1#2", MESSAGES, "m", tokens=7), Turn(None, MESSAGES)]).to_dict()
REQUEST = Request("m", (Message.of("user", "2 + 3?"),), 16)
EVENTS = [
    {"type": "message_start", "message": {"id": "m", "model": "m", "role": "assistant", "usage": {"input_tokens": 3}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Fi"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "ve."}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
]
RECORDING = json.loads(
    Exchange(REQUEST.digest, "anthropic", REQUEST.body(), tuple((5, event) for event in EVENTS)).to_line()
)
JOURNAL = [
    {
        "format": "nbchat.journal/1",
        **dict.fromkeys(("model", "endpoint", "notebook", "chat", "cell", "digest"), "m"),
        "at": 1_700_000_000.5,
        "prompt": MESSAGES[0].to_dict(),
    },
    {**EVENTS[1], "after": 0.1},
    {**EVENTS[2], "after": 0.2},
    {**EVENTS[4], "after": 0.3},
    {"type": "content_block_start", "index": 1, "content_block": CALL, "after": 0.3},
    {"type": "content_block_stop", "index": 1, "after": 0.3},
    {"type": "response", "message": {"stop_reason": "tool_use", "id": "m"}, "usage": {"input_tokens": 3}, "after": 0.4},
    {**RESULT, "type": "tool_result", "is_error": False, "after": 0.5},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "odd", "x": 1}, "after": 0.6},
    {"type": "content_block_stop", "index": 0, "block": {"type": "odd", "x": 2}, "after": 0.7},
]


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


BAD_VALUES = [
    *(None, True, False, 0, -1, 1.5, -0.5, 2**63, -(2**63) - 1, 10**400, 1e308, math.nan, math.inf, -math.inf),
    *("", "text", "a\nb\n\n# c", "<script>x</script>", "\ud83d", "x\udc00y", "\x00", "a" * 5_000, "\x1b[2J"),
    *([], {}, [None], [[]], [{}], {"type": None}, {"type": []}, [{"type": "text"}], [{"type": "text", "text": 5}]),
    *({"": ""}, {"a": {"\ud83d": 1}}, nested(20), nested(150), nested(600), {"a": nested(99)}),
]


def places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each value in the document."""
    yield path
    parts = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, part in parts:
        yield from places(part, (*path, key))


def changed(document: Any, path: tuple[Any, ...], change: str, value: Any) -> Any:
    """Return a copy of the document with one value dropped, replaced, repeated or put into a list."""
    if not path:
        return value if change == "replace" else [document]
    document = copy.deepcopy(document)
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    match change:
        case "drop":
            del parent[path[-1]]
        case "replace":
            parent[path[-1]] = value
        case "wrap":
            parent[path[-1]] = [parent[path[-1]]]
        case "add" if isinstance(parent, dict):
            parent["extra"] = value
        case "add":
            parent.append(value)
    return document


@st.composite
def damaged(draw: st.DrawFn, document: Any) -> Any:
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from(list(places(document))))
        change = draw(st.sampled_from(["replace", "replace", "drop", "wrap", "add"]))
        document = changed(document, path, change, draw(st.sampled_from(BAD_VALUES)))
    return document


fuzz = settings(
    max_examples=int(os.environ.get("NBCHAT_FUZZ_EXAMPLES", "100")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


def printed(*values: object) -> str:
    """Print to a terminal that takes valid UTF-8 only, as most do."""
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
    print(*values, file=terminal, flush=True)
    return terminal.buffer.getvalue().decode()


def write(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document), encoding="ascii")
    return path


def check_error(error: InputError) -> None:
    assert "\n" not in error.message
    assert len(error.message) < 1_000
    assert error.hint
    printed(error)


def check_response(response: Response, folder: Path) -> None:
    """Show, print and save a Response in every way that a user has."""
    response._repr_mimebundle_()["text/plain"].encode()
    response._repr_mimebundle_()["text/html"].encode()
    printed(response, repr(response), f"{response.duration or 0:.1f} {response.cost or 0:.4f} {response.usage!r}")
    assert (response.code_blocks, response.thinking, response.tool_calls, bool(response)) is not None
    assert all("\n" not in note for note in response.notes)
    json.dumps(nbchat.load(response.save(folder / "again.json")).to_dict())


@fuzz
@given(damaged(RESPONSE))
@example({**RESPONSE, "parsed": {"a": {"\ud83d": 1}}})
@example({**RESPONSE, "notes": ["a\n\n# b", "<b>"]})
@example({**RESPONSE, "blocks": [{"type": "text", "text": "x", "citations": 5}]})
def test_a_damaged_response(tmp_path: Path, document: Any) -> None:
    """It is loaded and can be used, or one InputError names the field."""
    try:
        response = nbchat.load(write(tmp_path / "response.json", document))
    except InputError as error:
        check_error(error)
        return
    check_response(response, tmp_path)


@fuzz
@given(damaged(CONVERSATION))
def test_a_damaged_conversation(tmp_path: Path, document: Any) -> None:
    """Its turns can be listed, sent and saved again, or one InputError names the field."""
    session = Session(ScriptedTransport("Fine."))
    shell = SimpleNamespace(user_ns={})
    write(tmp_path / "chat.json", document)
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")):
        try:
            commands.run(f'load "{tmp_path / "chat.json"}"', session, shell)
        except InputError as error:
            check_error(error)
            return
        (name,) = session.conversations
        conversation = session.conversations[name]
        session.conversations["loaded"] = conversation
        commands.run("history loaded", session, shell)
        commands.run(f'save "{tmp_path / "again.json"}" loaded', session, shell)
        commands.run(f'load "{tmp_path / "again.json"}" again', session, shell)
    assert len(session.conversations["again"]) == len(conversation)
    json.dumps([message.to_dict() for message in conversation.history(None)], allow_nan=False)


@fuzz
@given(damaged(RECORDING))
def test_a_damaged_recording(tmp_path: Path, document: Any) -> None:
    """It replays, or the error of nbchat says which line is damaged."""
    file = tmp_path / "tape.jsonl"
    file.write_text('{"format":"nbchat.cassette/1"}\n' + json.dumps(document) + "\n", encoding="ascii")
    try:
        session = Session(ScriptedTransport("never"))
        session.recording.use_cassette(str(file), "replay")
        response = session.ask("2 + 3?", model="m", max_tokens=16)
    except NbchatError as error:
        printed(error)
    else:
        check_response(response, tmp_path)
    with contextlib.suppress(NbchatError), Cassette(file, mode="replay").stream(REQUEST, ScriptedTransport()) as events:
        assert all(isinstance(event, dict) for event in events)


@fuzz
@given(damaged(JOURNAL))
@example([{**JOURNAL[0], "at": None}])
@example([*JOURNAL[:-2], {**JOURNAL[-3], "content": [{"type": "new", "x": math.nan}]}])
def test_a_damaged_journal(tmp_path: Path, document: Any) -> None:
    """Its answer is listed and restored, or ``%nbchat recover`` names the field."""
    folder = JournalFolder(tmp_path / "journal")
    folder.path.mkdir(exist_ok=True)
    lines = document if isinstance(document, list) else [document]
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    (folder.path / "20260101-000000-dead-abc123.jsonl").write_text(text, encoding="ascii")
    session = Session(ScriptedTransport("Fine."))
    session.recording.journals = folder
    shell = SimpleNamespace(user_ns={})
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")):
        commands.run("recover", session, shell)
        entries, problems = folder.survey()
        assert len(entries) + len(problems) == 1
        for error in problems.values():
            check_error(error)
            with pytest.raises(InputError):
                commands.run("recover abc123", session, shell)
        for entry in entries:
            response = folder.restore(entry)
            assert response.duration is not None
            assert response.duration >= 0
            check_response(response, tmp_path)
            assert session.recover(entry).cost is None or session.accounting.run[-1].cost is not None


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"[" * 100_000, b"1" * 10_000, b"\x00", b'{"a":', b"NaN", b"null"])
def test_files_that_are_not_json(tmp_path: Path, data: bytes) -> None:
    """They fail in the same way, whatever is in them."""
    file = tmp_path / "file"
    file.write_bytes(data)
    session, shell = Session(ScriptedTransport("Fine.")), SimpleNamespace(user_ns={})
    with pytest.raises(InputError) as caught:
        nbchat.load(file)
    check_error(caught.value)
    with pytest.raises(InputError):
        commands.run(f'load "{file}"', session, shell)
    if data:
        with pytest.raises(InputError):
            Cassette(file)


@pytest.mark.skipif(os.name != "posix", reason="devices and pipes are files on POSIX only")
def test_devices_and_pipes_are_refused_and_nothing_hangs(tmp_path: Path) -> None:
    """Reading /dev/full never ends, and opening a pipe waits for its other side."""
    link, pipe = tmp_path / "link.jsonl", tmp_path / "pipe-a.jsonl"
    link.symlink_to("/dev/full")
    os.mkfifo(pipe)
    began = time.thread_time()
    for place in (link, pipe, tmp_path):
        for read in (Cassette, nbchat.load):
            with pytest.raises(InputError, match=r"a folder|a device or a pipe"):
                read(place)
    assert JournalFolder(tmp_path).recoverable() == []
    with pytest.raises(InputError, match="cannot be written"):
        Response("Hi").save(link)
    assert time.thread_time() - began < 5


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_files_with_prompts_are_for_their_owner(tmp_path: Path) -> None:
    """Also where an older file was readable for everybody."""
    before = os.umask(0o022)
    try:
        (tmp_path / "old.json").write_text("")
        session = Session(ScriptedTransport("Fine."))
        session.recording.use_cassette(str(tmp_path / "tape.jsonl"))
        response = session.ask("Hi")
        commands.run(f'save "{tmp_path / "chat.json"}"', session, SimpleNamespace(user_ns={}))
        response.save(tmp_path / "old.json")
        response.save(tmp_path / "new.json")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(("old.json", "new.json", "chat.json", "tape.jsonl"), 0o600)


def test_the_error_names_the_field(tmp_path: Path) -> None:
    """It has the path of the field, its type and the type that it should have."""
    document = changed(CONVERSATION, ("turns", 1, "messages", 0, "role"), "replace", 5)
    with pytest.raises(InputError, match=r"turns\[1\]\.messages\[0\]\.role is a number, not one of user, assistant"):
        commands.run(
            f'load "{write(tmp_path / "c.json", document)}"', Session(ScriptedTransport()), SimpleNamespace(user_ns={})
        )
    with pytest.raises(InputError, match=r"usage\.input_tokens is a number out of range, not a whole number"):
        nbchat.load(write(tmp_path / "r.json", {**RESPONSE, "usage": {"input_tokens": -3}}))
    assert isinstance(Message.of("user", [RESULT]).content[0], OpaqueBlock)


def test_a_note_stays_on_its_line() -> None:
    """In an export it can be neither another paragraph nor a tag."""
    html = Response("Hi", blocks=Message.of("assistant", "Hi").content, notes=("a\n\n# b\u2028<b>c</b>",))
    shown = html._repr_mimebundle_()["text/html"]
    assert "[a # b &lt;b&gt;c&lt;/b&gt;]" in shown


def response_of(place: str, depth: int) -> Response:
    """Return a Response that holds a value of this depth."""
    value, empty = nested(depth), Response("Hi")
    match place:
        case "input":
            call = ToolUseBlock("t1", "f", {"a": value})
            return replace(empty, blocks=(call,), messages=(Message("assistant", (call,)),))
        case "block":
            return replace(empty, blocks=(OpaqueBlock({"type": "new", "x": value}),))
        case "parsed":
            return replace(empty, parsed=value)
    return replace(empty, stop_details={"type": "new", "x": value})


def session_of(response: Response) -> Session:
    """Return a session whose conversation has the messages of a Response."""
    session = Session(ScriptedTransport("x"))
    messages = (Message.of("user", "?"), *response.messages)
    session.conversation("main").record(Turn("c1", messages, "m", "complete"))
    return session


PLACES = ["input", "block", "parsed", "stop_details"]


@pytest.mark.parametrize("depth", [1, 50, 98, 105, 110])
@pytest.mark.parametrize("place", PLACES)
def test_what_is_saved_can_be_loaded(place: str, depth: int, tmp_path: Path):
    """The parser accepts 100 levels, and each of them comes back."""
    response = response_of(place, depth)
    loaded = nbchat.load(response.save(tmp_path / "r.json"))
    assert (loaded.blocks, loaded.parsed, loaded.stop_details) == (
        response.blocks, response.parsed, response.stop_details,
    )  # fmt: skip
    session, shell = session_of(response), SimpleNamespace(user_ns={})
    commands.run(f"save {tmp_path / 'c.json'}", session, shell)
    commands.run(f"load {tmp_path / 'c.json'} copy", session, shell)
    assert session.conversation("copy").turns[0].messages == session.conversation("main").turns[0].messages


@pytest.mark.parametrize("depth", [121, 150, 330, 900, 5_000])
@pytest.mark.parametrize("place", PLACES)
def test_what_loading_would_refuse_is_not_saved(place: str, depth: int, tmp_path: Path):
    """An older file of that name stays."""
    file = tmp_path / "r.json"
    file.write_text("older")
    response = response_of(place, depth)
    with pytest.raises(InputError, match="was not written, because it could not be loaded again"):
        response.save(file)
    if place == "input":
        with pytest.raises(InputError, match=r"%nbchat save: .* was not written"):
            commands.run(f"save {file}", session_of(response), SimpleNamespace(user_ns={}))
    assert file.read_text() == "older"
