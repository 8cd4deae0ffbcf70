"""The journal: what arrived comes back, files go when they should, and no cell breaks."""

from __future__ import annotations

import json
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbchat.core import errors
from nbchat.core.chunks import BlockStart, Notice, OutputText, ResponseChunk, StreamChunk, ToolDecision, ToolResult
from nbchat.core.errors import InputError
from nbchat.core.messages import Message, TextBlock
from nbchat.core.parser import ChatStreamParser, events_of
from nbchat.core.response import Accumulator, Response
from nbchat.core.usage import Usage
from nbchat.store import journal as module
from nbchat.store.journal import Journal, JournalFolder
from nbchat.store.transcript import Transcript, header_line, read, respond
from tests.support.waiting import wait_for

PROMPT = Message.of("user", "What is 2 + 2?")
KNOWN = {"at": 1.0, "model": "m", "endpoint": "anthropic", "notebook": "n.ipynb", "chat": "main", "cell": "c1"}
MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "model": "claude-sonnet-5-5",
    "role": "assistant",
    "stop_reason": "tool_use",
    "usage": {"input_tokens": 12, "output_tokens": 34},
    "content": [
        {"type": "thinking", "thinking": "Let me see.", "signature": "c2ln"},
        {"type": "text", "text": "Four", "citations": [{"type": "char_location", "cited_text": "2+2"}]},
        {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "2+2"}},
        {"type": "web_search_tool_result", "tool_use_id": "s1", "content": [{"url": "https://example.org"}]},
        {"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 2, "b": 2}},
    ],
}


def chunks_of(message: dict[str, Any]) -> list[StreamChunk]:
    """The chunks of a whole message."""
    parser = ChatStreamParser()
    return [chunk for event in events_of(message) if (chunk := parser.feed(event)) is not None]


def through(chunks: list[StreamChunk], step: int = 3) -> Response:
    """Return the Response that is read back after chunks were written a few at a time."""
    transcript = Transcript()
    lines = [header_line(PROMPT, **KNOWN, digest="")]
    for start in range(0, len(chunks), step):
        lines += transcript.lines(
            (float(place), chunks[place]) for place in range(start, min(start + step, len(chunks)))
        )
    return respond(*read("\n".join(lines).encode()))


def folded(chunks: list[StreamChunk]) -> Accumulator:
    """The same chunks, folded as the session does."""
    turn = Accumulator(PROMPT, lambda: 0.0)
    for chunk in chunks:
        turn.feed(chunk)
    return turn


@pytest.mark.parametrize("step", [1, 2, 5, 1000])
def test_a_whole_round_comes_back_as_it_was(step: int):
    """Thinking with its signature, citations, server tools, tool calls, usage; however it was cut into writes."""
    chunks = chunks_of(MESSAGE)
    restored, expected = through(chunks, step), folded(chunks).respond("incomplete", model="m", endpoint="anthropic")
    assert restored.blocks == expected.blocks
    assert restored.usage == expected.usage
    assert restored.messages == expected.messages
    assert restored.text == "Four"
    assert restored.thinking == "Let me see."
    assert restored.status == "incomplete"
    assert not restored
    assert (restored.model, restored.endpoint, restored.prompt) == ("m", "anthropic", "What is 2 + 2?")


def test_a_restored_answer_can_be_saved_and_loaded(tmp_path: Path):
    """It is a Response like any other."""
    restored = through([*chunks_of(MESSAGE), ToolResult("t1", (TextBlock("4"),))])
    stored = json.loads(restored.save(tmp_path / "answer.json").read_text(encoding="utf-8"))
    assert Response.from_dict(stored) == restored


def test_the_part_of_a_round_that_arrived_is_kept():
    """Half a text and half a tool call: the call never runs, the output is estimated."""
    chunks = chunks_of(MESSAGE)
    cut = next(place for place, chunk in enumerate(chunks) if chunk.type == "tool_input" and chunk.index == 4)
    half = [*chunks[:cut], type(chunks[cut])(4, '{"a": 2, ')]
    restored = through(half)
    assert restored.text == "Four"
    assert restored.tool_calls[0].partial_json == '{"a": 2, '
    assert not restored.tool_calls[0].valid
    assert restored.usage.estimated
    assert restored.usage.output_tokens > 0


def test_tool_rounds_come_back_in_order():
    """Prompt, call, result, second round: the messages are those that were sent."""
    result = ToolResult("t1", (TextBlock("4"),), False)
    second = [BlockStart(0, TextBlock("")), OutputText(0, "It is "), OutputText(0, "four.")]
    restored = through([*chunks_of(MESSAGE), result, *second])
    assert [message.role for message in restored.messages] == ["user", "assistant", "user", "assistant"]
    assert restored.messages[2].to_dict()["content"][0]["content"] == [{"type": "text", "text": "4"}]
    assert restored.text == "Four\n\nIt is four."
    decision = ToolDecision("t1", "files.read", True, "allowed as edited", {"path": "b"})
    assert through([*chunks_of(MESSAGE), decision, result, *second]).decisions == (decision,)
    died_in_the_tool = through([*chunks_of(MESSAGE), result])
    assert [message.role for message in died_in_the_tool.messages] == ["user", "assistant", "user"]


def test_unknown_blocks_come_back_whole():
    """The end of the block has the content of its unknown deltas."""
    parser = ChatStreamParser()
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"model": "m"}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "compaction", "content": None}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "compaction_delta", "content": "short"}},
        {"type": "content_block_stop", "index": 0},
    ]
    restored = through([chunk for event in events if (chunk := parser.feed(event)) is not None])
    assert restored.blocks[0].to_dict() == {"type": "compaction", "content": "short"}


def test_a_line_that_was_cut_off_is_ignored():
    """The kernel died in the middle of a write."""
    transcript = Transcript()
    arrived = [(0.1, BlockStart(0, TextBlock(""))), (0.2, OutputText(0, "whole "))]
    lines = [header_line(PROMPT, **KNOWN, digest=""), *transcript.lines(arrived)]
    data = "\n".join(lines).encode() + b'\n{"type": "content_block_del'
    assert respond(*read(data)).text == "whole "


@given(st.lists(st.text(min_size=1), min_size=1), st.integers(1, 4))
def test_any_text_comes_back(pieces: list[str], step: int):
    """Joining and splitting lose no character."""
    chunks: list[StreamChunk] = [BlockStart(0, TextBlock("")), *(OutputText(0, piece) for piece in pieces)]
    message: dict[str, Any] = {"model": "m", "stop_reason": "end_turn"}
    restored = through([*chunks, ResponseChunk(message, (TextBlock("".join(pieces)),), Usage())], step)
    assert restored.text == errors.redact("".join(pieces))


@settings(deadline=None)
@given(st.integers(1, 12), st.text(max_size=8), st.text(max_size=8))
def test_a_key_never_reaches_the_lines_whole_or_in_halves(size: int, before: str, after: str):
    """A model repeats a key, and each write has some characters of it."""
    key = "sk-ant-api03-CANARYcanary"
    text = f"{before} {key} {after}"
    transcript = Transcript()
    lines = transcript.lines([(0.0, BlockStart(0, TextBlock("")))])
    for start in range(0, len(text), size):
        lines += transcript.lines([(0.0, OutputText(0, text[start : start + size]))])
    lines += transcript.lines([(0.0, ResponseChunk({}, (), Response("").usage))])
    written = "".join(json.loads(line).get("delta", {}).get("text", "") for line in lines)
    assert "CANARY" not in written
    assert "canary" not in written
    assert written.startswith(before)
    assert written.endswith(after)


def test_a_key_in_the_prompt_is_removed():
    """Also a key of a form that only this user's gateway has."""
    line = header_line(Message.of("user", "my key is sk-ant-api03-CANARYcanary"), **KNOWN)
    assert "CANARY" not in line
    assert json.loads(line)["prompt"]["content"].startswith("my key is sk-ant-")


# Files


class Dead:
    """A folder whose files belong to a process that died: another process's name, no lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def add(self, name: str, text: str = "half an ans", *, age: float = 0.0, at: float = 1.0) -> Path:
        lines = [header_line(PROMPT, **KNOWN | {"at": at}, digest="")]
        lines += Transcript().lines([(0.1, BlockStart(0, TextBlock(""))), (0.2, OutputText(0, text))])
        path = self.path / f"{name}.jsonl"
        path.write_text("\n".join(lines) + "\n")
        os.utime(path, (time.time() - age,) * 2)
        return path


@pytest.fixture
def warned() -> list[str]:
    return []


@pytest.fixture
def folder(tmp_path: Path, warned: list[str]) -> JournalFolder:
    return JournalFolder(tmp_path / "state" / "journal", warn=warned.append)


def opened(folder: JournalFolder, clock: Any = time.monotonic) -> Journal:
    """A journal whose clock the test moves."""
    return Journal(folder, header_line(PROMPT, **KNOWN, digest=""), clock)


def files(folder: JournalFolder) -> list[Path]:
    return sorted(folder.path.glob("*"))


def test_a_quick_answer_never_touches_the_disk(folder: JournalFolder):
    """No folder, no file, nothing to remove."""
    journal = folder.open(PROMPT, model="m", endpoint="local")
    for chunk in chunks_of(MESSAGE | {"stop_reason": "end_turn", "content": MESSAGE["content"][:-1]}):
        journal.feed(chunk)
    journal.settle(Response("Four"))
    assert not folder.path.parent.exists()


def test_feed_writes_when_its_time_has_come_and_settle_removes(folder: JournalFolder):
    """The clock is moved by hand; the timer of its own thread is held still by the same lock."""
    now = [0.0]
    journal = opened(folder, lambda: now[0])
    journal.feed(BlockStart(0, TextBlock("")))
    journal.feed(OutputText(0, "early"))
    now[0] = 1.0
    journal.feed(OutputText(0, " late"))
    (path,) = files(folder)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 or os.name != "posix"
    assert respond(*read(path.read_bytes())).text == "early late"
    journal.settle(Response("early late"))
    assert files(folder) == []


def test_the_thread_writes_the_last_chunks_before_a_pause(folder: JournalFolder):
    """No other chunk arrives, and the text is on disk anyway."""
    journal = opened(folder)
    journal.feed(BlockStart(0, TextBlock("")))
    journal.feed(OutputText(0, "and then silence"))
    wait_for(lambda: files(folder))
    assert respond(*read(files(folder)[0].read_bytes())).text == "and then silence"
    journal.settle(Response(""))
    assert files(folder) == []


def test_chunks_are_written_before_a_tool_runs(folder: JournalFolder):
    """At the end of a round with calls, and after each result, without waiting for the clock."""
    journal = opened(folder, lambda: 0.0)
    for chunk in chunks_of(MESSAGE):
        journal.feed(chunk)
    (path,) = files(folder)
    assert respond(*read(path.read_bytes())).tool_calls[0].input == {"a": 2, "b": 2}
    journal.feed(ToolResult("t1", (TextBlock("4"),)))
    assert len(respond(*read(path.read_bytes())).messages) == 3
    journal.settle(Response(""))


def test_a_running_kernels_answers_are_not_listed(folder: JournalFolder):
    """This process is alive, and listing does not free its lock."""
    journal = opened(folder, lambda: 0.0)
    for chunk in chunks_of(MESSAGE):
        journal.feed(chunk)
    assert len(files(folder)) == 1
    assert folder.recoverable() == []
    journal.settle(Response(""))


def test_dead_answers_are_listed_restored_and_discarded(folder: JournalFolder):
    """Newest first. A damaged file is skipped. restore() keeps the file, and discard() deletes it."""
    dead = Dead(folder.path)
    dead.add("20261101-100000-aaaaaaaa-000001", "the older", at=10.0)
    dead.add("20261101-110000-bbbbbbbb-000002", "the newer", at=20.0)
    (folder.path / "20261101-120000-cccccccc-000003.jsonl").write_text("no journal\n")
    newer, older = folder.recoverable()
    assert (newer.name, newer.text, newer.prompt, newer.at) == ("000002", "the newer", "What is 2 + 2?", 20.0)
    assert (older.notebook, older.chat, older.cell, older.model) == ("n.ipynb", "main", "c1", "m")
    response = folder.restore(newer)
    assert (response.status, response.text, bool(response)) == ("incomplete", "the newer", False)
    assert newer.path.exists()
    folder.discard(newer)
    folder.discard(newer)
    assert [entry.name for entry in folder.recoverable()] == ["000001"]
    with pytest.raises(InputError, match="000002 cannot be restored"):
        folder.restore(newer)


def test_old_and_too_many_files_are_deleted_when_a_journal_opens(folder: JournalFolder, tmp_path: Path):
    """Seven days and 50 MB by default; here a day and 3 KB."""
    small = JournalFolder(folder.path, max_age=86_400, max_bytes=3_000)
    dead = Dead(folder.path)
    dead.add("20261101-100000-aaaaaaaa-000001", age=90_000)
    dead.add("20261101-110000-aaaaaaaa-000002", "x" * 1_000)
    dead.add("20261101-120000-aaaaaaaa-000003", "y" * 1_000)
    dead.add("20261101-130000-aaaaaaaa-000004", "z" * 1_000)
    path, descriptor = small.create()
    os.close(descriptor)
    assert [file.stem[-6:] for file in files(folder)] == ["000003", "000004", path.stem[-6:]]


def test_an_answer_larger_than_the_journal_stops_being_kept(folder: JournalFolder, warned: list[str]):
    """The limit holds for a single answer, too, and the cell continues."""
    now = [0.0]
    journal = opened(JournalFolder(folder.path, max_bytes=2_000, warn=warned.append), lambda: now[0])
    journal.feed(BlockStart(0, TextBlock("")))
    for number in range(1, 20):
        now[0] = float(number)
        journal.feed(OutputText(0, "x" * 500))
    assert files(folder)[0].stat().st_size <= 2_000
    journal.settle(Response(""))
    assert files(folder) == []
    assert len(warned) == 1


def test_a_disk_that_refuses_warns_once_and_breaks_nothing(
    folder: JournalFolder, warned: list[str], monkeypatch: pytest.MonkeyPatch
):
    """A full disk during two answers: one warning, at the end of the first."""

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "write", full)
    for _ in range(2):
        now = [0.0]
        journal = opened(folder, lambda now=now: now[0])
        for chunk in chunks_of(MESSAGE):
            now[0] += 1.0
            journal.feed(chunk)
        journal.settle(Response("Four"))
    assert len(warned) == 1
    assert "No space left on device" in warned[0]
    assert files(folder) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_really_full_disk(folder: JournalFolder, warned: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The system's own ENOSPC, from /dev/full."""
    path = tmp_path / "answer.jsonl"
    monkeypatch.setattr(folder, "create", lambda: (path, os.open("/dev/full", os.O_WRONLY)))
    journal = opened(folder, lambda: 0.0)
    for chunk in chunks_of(MESSAGE):
        journal.feed(chunk)
    journal.settle(Response(""))
    assert len(warned) == 1
    assert "No space left" in warned[0]


def test_a_folder_that_cannot_be_created(tmp_path: Path, warned: list[str]):
    """A file has its name."""
    (tmp_path / "state").write_text("in the way")
    folder = JournalFolder(tmp_path / "state" / "journal", warn=warned.append)
    assert folder.recoverable() == []
    journal = opened(folder, lambda: 0.0)
    for chunk in chunks_of(MESSAGE):
        journal.feed(chunk)
    journal.settle(Response(""))
    assert len(warned) == 1


def test_a_notice_is_not_kept_and_threads_end(folder: JournalFolder):
    """The text of the status line is not a part of the answer. No thread outlives the answer."""
    journal = opened(folder, lambda: 0.0)
    journal.feed(Notice("waiting"))
    timer = journal._timer
    assert timer is not None
    assert timer.daemon
    journal.settle(Response(""))
    timer.join(10)
    assert not timer.is_alive()
    assert Transcript().lines([(0.0, Notice("waiting"))]) == []


def test_where_journals_are_by_default():
    """In the user's state folder, as platformdirs has it."""
    import platformdirs

    assert JournalFolder().path == Path(platformdirs.user_state_dir("nbchat", appauthor=False)) / "journal"
