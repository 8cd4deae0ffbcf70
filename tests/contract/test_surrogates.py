"""Half of a surrogate pair goes to a server, and comes from one: nothing fails, and a note says what was changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nbchat
from nbchat import Session
from nbchat.config import Nbchat
from nbchat.core.chunks import OutputText, Thinking
from nbchat.core.errors import InputError
from nbchat.core.messages import Message, TextBlock
from nbchat.core.parser import ChatStreamParser, events_of
from nbchat.core.request import Request
from nbchat.notebook.dry_run import describe
from nbchat.options import Options
from nbchat.transports.claude import ClaudeTransport
from tests.support.server import Received, Wire, message, serving

HALF = "\ud83d"
LOW = "\ude00"
REPLACED = "\ufffd"


class Endpoint:
    """A server that keeps what it got, and gives these contents, then "fine"."""

    def __init__(self, *contents: list[dict[str, Any]]) -> None:
        self.contents, self.bodies = list(contents), []

    def __call__(self, wire: Wire, request: Received) -> None:
        self.bodies.append(request.body)
        content = self.contents.pop(0) if self.contents else [{"type": "text", "text": "fine"}]
        calls = any(block["type"] == "tool_use" for block in content)
        # JSON of ASCII: half of a pair is an escape there, as gateways send it.
        wire.json("200 OK", message(content, "tool_use" if calls else "end_turn"))


def session_at(url: str, **config: Any) -> Session:
    return Session(
        ClaudeTransport("anthropic", base_url=url, api_key="sk-ant-test"), config=Nbchat(**config), stream=False
    )


def echo(word: str) -> str:
    """Return a word with half of a surrogate pair."""
    return word + HALF


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"prompt": f"a {HALF} b"}, "the prompt"),
        ({"prompt": [f"a{LOW}", {"key" + HALF: 1}]}, "the prompt"),
        ({"prompt": "{{ name }}", "namespace": {"name": HALF}}, "the prompt"),
        ({"prompt": "{{ rows }}", "namespace": {"rows": [{"a": HALF}, {LOW: 2}]}}, "the prompt"),
        ({"prompt": "Hi", "system": f"Be {HALF}."}, "the system prompt"),
        ({"prompt": "Hi", "system": "style", "namespace": {"style": HALF}}, "the system prompt"),
        ({"prompt": "Hi", "stop": [HALF]}, "an option"),
        ({"prompt": "Hi", "param": ['metadata={"user_id": "\\ud83d"}']}, "an option"),
    ],
)
def test_half_of_a_pair_is_sent_as_a_replacement_with_one_note(given: dict[str, Any], place: str):
    """The endpoint gets U+FFFD, and the digest is the digest of what it gets."""
    with serving(endpoint := Endpoint()) as server:
        session = session_at(server.url)
        prompt, namespace = given.pop("prompt"), given.pop("namespace", None)
        response = session.ask(prompt, namespace=namespace, **given)
    assert REPLACED in json.dumps(endpoint.bodies[0], ensure_ascii=False)
    assert response.text == "fine"
    (note,) = response.notes
    assert note.startswith(f"{place} had half of a surrogate pair")
    endpoint.bodies[0].pop("stream", None)
    assert response.digest == nbchat.core.request.digest_of(endpoint.bodies[0])


def test_the_name_of_a_file_may_have_half_of_a_pair(tmp_path: Path):
    """Python reads a name in Latin-1 on a disk in UTF-8 as such a name. The file is found and sent."""
    path = tmp_path / b"caf\xe9.txt".decode("utf-8", "surrogateescape")
    path.write_text("contents", encoding="utf-8")
    with serving(endpoint := Endpoint()) as server:
        response = session_at(server.url).ask(["Sum it up:", path])
    assert "contents" in json.dumps(endpoint.bodies[0])
    assert response.notes


def test_a_file_that_cannot_have_its_name_is_missing(tmp_path: Path):
    """No file of a disk has the name. The error can be printed."""
    with serving(endpoint := Endpoint()) as server, pytest.raises(InputError) as refused:
        session_at(server.url).ask(["Sum it up:", tmp_path / f"nota{HALF}.txt"])
    str(refused.value).encode()
    assert endpoint.bodies == []


def test_the_prompt_and_its_conversation_can_be_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A dry run, print, a saved Response, a saved conversation and the journal work."""
    with serving(Endpoint()) as server:
        session = session_at(server.url)
        options = session.options({"chat": f"c{HALF}", "system": HALF})
        prepared = session.prepare(f"a{HALF}", options)
        print(describe(prepared, session))
        response = session.send(prepared)
    print(response, response.prompt, *response.notes, *session.conversations)
    capsys.readouterr().out.encode()
    loaded = nbchat.load(response.save(tmp_path / "r.json"))
    assert loaded.prompt == f"a{REPLACED}"
    (conversation,) = session.conversations.values()
    assert conversation.name == f"c{REPLACED}"
    json.dumps(conversation.to_dict(), ensure_ascii=False).encode()


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "text", "text": f"broken {HALF}"}],
        [{"type": "thinking", "thinking": HALF, "signature": "s"}, {"type": "text", "text": "so"}],
        [{"type": "text", "text": "so", "citations": [{"type": "char_location", "cited_text": f"a{LOW}"}]}],
        [{"type": "of_next_year", "field": {HALF: [HALF]}}, {"type": "text", "text": "so"}],
        [{"type": "tool_use", "id": "t1", "name": f"echo{HALF}", "input": {}}],
        [{"type": "tool_use", "id": "t1", "name": "echo", "input": {"word": "a"}}],
    ],
    ids=["text", "thinking", "citation", "unknown block", "name of a tool", "result of a tool"],
)
def test_an_answer_with_half_of_a_pair_does_not_end_the_conversation(
    content: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """The answer has U+FFFD and a note, can be kept, is replayed, and goes back with the next question."""
    cassette = str(tmp_path / "c.jsonl")

    def ask(url: str, **config: Any) -> tuple[Any, Any]:
        session = session_at(url, **config)
        response = session.ask("Hi", tools=[echo])
        assert session.ask("And now?").text == "fine"
        return session, response

    with serving(endpoint := Endpoint(content)) as server:
        session, response = ask(server.url, cassette=cassette)
    assert REPLACED in json.dumps(endpoint.bodies[-1]["messages"], ensure_ascii=False)
    assert ["half of a surrogate pair" in note for note in response.notes] == [True]
    print(response)
    capsys.readouterr().out.encode()
    json.dumps(response.to_dict(), ensure_ascii=False).encode()
    json.dumps(session.conversation("main").to_dict(), ensure_ascii=False).encode()
    replayed = ask("http://127.0.0.1:9", cassette=cassette, cassette_mode="replay")[1]
    assert replayed.replayed
    assert (replayed.text, replayed.blocks, replayed.notes) == (response.text, response.blocks, response.notes)


def test_a_call_with_half_of_a_pair_in_an_argument_does_not_run_changed(tmp_path: Path):
    """The model is told, since an argument with U+FFFD could name another file. The conversation goes on."""
    call = {"type": "tool_use", "id": "t1", "name": "echo", "input": {"word": HALF}}
    with serving(endpoint := Endpoint([call])) as server:
        session = session_at(server.url)
        assert session.ask("Hi", tools=[echo]).text == "fine"
        assert session.ask("And now?").text == "fine"
    (result,) = endpoint.bodies[1]["messages"][-1]["content"]
    assert result["is_error"]
    assert "did not run" in result["content"][0]["text"]


def test_an_encoding_error_is_never_told_as_a_bad_key():
    """A transport that gets text which UTF-8 cannot encode says so. Nothing was sent."""
    with serving(endpoint := Endpoint()) as server:
        transport = ClaudeTransport("anthropic", base_url=server.url, api_key="sk-ant-test")
        request = Request("m", (Message("user", (TextBlock(HALF),)),), max_tokens=10)
        with pytest.raises(InputError, match="half of a surrogate pair"), transport.stream(request) as events:
            list(events)
    assert endpoint.bodies == []


PIECES = st.lists(st.text(alphabet=st.sampled_from(["a", "é", "日", "😀", HALF, LOW]), max_size=4), max_size=6)


@pytest.mark.parametrize(
    ("block", "delta", "field", "chunk"),
    [("text", "text_delta", "text", OutputText), ("thinking", "thinking_delta", "thinking", Thinking)],
)
@given(PIECES)
def test_a_pair_that_is_cut_between_two_deltas_is_whole_again(
    block: str, delta: str, field: str, chunk: Callable[..., Any], pieces: list[str]
):
    """The block has what a UTF-16 reader sees in all pieces joined; the chunks show it, but for a half at the end."""
    parser = ChatStreamParser()
    parser.feed({"type": "message_start", "message": {}})
    parser.feed({"type": "content_block_start", "index": 0, "content_block": {"type": block, field: ""}})
    chunks = [
        parser.feed({"type": "content_block_delta", "index": 0, "delta": {"type": delta, field: piece}})
        for piece in pieces
    ]
    parser.feed({"type": "content_block_stop", "index": 0})
    joined = "".join(pieces).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    (finished,) = parser.snapshot().blocks
    assert getattr(finished, field) == joined
    assert all(isinstance(each, chunk) for each in chunks)
    shown = "".join(each.text for each in chunks)
    assert joined in (shown, shown + REPLACED)
    assert parser.has_lone_half is (REPLACED in joined)


texts = st.text(alphabet=st.sampled_from(["a", "日", HALF, LOW]), max_size=5)
values = st.recursive(texts, lambda parts: st.lists(parts, max_size=3) | st.dictionaries(texts, parts, max_size=3))


fields = st.fixed_dictionaries(
    {"type": texts.filter(bool) | st.sampled_from(["text", "thinking", "redacted_thinking"])},
    optional={"text": texts, "thinking": texts, "data": values, "content": values},
)


@given(st.lists(fields, max_size=3))
def test_whatever_an_answer_has_can_be_sent_and_saved(content: list[dict[str, Any]]):
    """Each block of a finished answer can be encoded, and the parser knows if it changed one."""
    parser = ChatStreamParser()
    for event in events_of({"content": content}):
        parser.feed(event)
    blocks = [block.to_dict() for block in parser.snapshot().blocks]
    json.dumps(blocks, ensure_ascii=False).encode()
    assert parser.has_lone_half is (REPLACED in json.dumps(blocks, ensure_ascii=False))


def test_the_name_of_a_chat_is_one_name():
    """The options hold the name that can be printed and saved."""
    assert Options.of({"chat": f"a{HALF}"}).chat == f"a{REPLACED}"
