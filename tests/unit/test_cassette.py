"""Tests of the cassette: modes, recording, private data, the file format, and missing recordings."""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import sys
import textwrap
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbchat.core import errors
from nbchat.core.errors import CassetteMiss, InputError, OptionError
from nbchat.core.messages import Message
from nbchat.core.parser import ChatStreamParser, events_of
from nbchat.core.request import Request, Transport, digest_of
from nbchat.transports import cassette as cassette_module
from nbchat.transports.cassette import Cassette
from nbchat.transports.exchange import Exchange, portable, public


def request(prompt: str = "Say hi", **params) -> Request:
    stream = params.pop("stream", True)
    return Request("claude-test", (Message.of("user", prompt),), 64, params=params, stream=stream)


def answer(text: str, cut: int = 3) -> list[dict]:
    """Return the events of a small streamed answer."""
    pieces = [text[at : at + cut] for at in range(0, len(text), cut)]
    return [
        {
            "type": "message_start",
            "message": {
                "id": "msg_1",
                "model": "claude-test",
                "_request_id": "req_hidden",
                "usage": {"input_tokens": 5, "output_tokens": 1},
            },
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": p}} for p in pieces),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": len(pieces)}},
        {"type": "message_stop"},
    ]


class Echo:
    """An endpoint that answers with the prompt and the number of the request."""

    name = "echo"

    def __init__(self, make=None) -> None:
        self.asked: list[Request] = []
        self._make = make or (lambda prompt, number: answer(f"{prompt} #{number}"))

    @contextmanager
    def stream(self, request: Request):
        self.asked.append(request)
        yield iter(self._make(request.messages[-1].text, len(self.asked)))


def ask(cassette: Taped, asked: Request) -> str:
    """Return the text of the answer, read by the parser."""
    parser = ChatStreamParser()
    with cassette.stream(asked) as events:
        for event in events:
            parser.feed(event)
    parser.close()
    return "".join(block.text for block in parser.snapshot().blocks)


class Never:
    """An endpoint that must not be called."""

    name = "never"

    def stream(self, request: Request):
        raise AssertionError("a replay must not send anything")


never = Never()


class Taped:
    """A transport that combines a cassette and the endpoint it records."""

    def __init__(self, path, endpoint=never, **options) -> None:
        self.cassette, self.endpoint = Cassette(path, **options), endpoint
        self.name = endpoint.name

    def stream(self, request: Request):
        return self.cassette.stream(request, self.endpoint)

    def holds(self, request: Request) -> bool:
        return self.cassette.holds(request)

    def summary(self) -> dict:
        return self.cassette.summary()

    def __len__(self) -> int:
        return len(self.cassette)


def lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines()


# Modes


def test_auto_sends_a_request_once_and_then_replays_it(tmp_path):
    """The same request gets the same answer, in this run and in the next one."""
    file, inner = tmp_path / "talk.jsonl", Echo()
    cassette = Taped(file, inner)
    assert isinstance(cassette, Transport)
    assert [ask(cassette, request()) for _ in range(3)] == ["Say hi #1"] * 3
    assert ask(cassette, request("Other")) == "Other #2"
    again = Taped(file, Echo())
    assert ask(again, request("Other")) == "Other #2"
    assert ask(again, request()) == "Say hi #1"
    assert len(inner.asked) == 2
    assert cassette.summary() == {
        "file": str(file),
        "mode": "auto",
        "speed": "fast",
        "recordings": 2,
        "replayed": 2,
        "sent": 2,
        "recorded": 2,
        "missed": 0,
    }


def test_a_stream_has_its_endpoint_and_a_replayed_flag(tmp_path):
    """The stream says whether it is replayed, and which endpoint answered. The events themselves are unchanged."""
    file = tmp_path / "c.jsonl"
    with Taped(file, Echo()).stream(request()) as events:
        assert (events.replayed, events.endpoint) == (False, "echo")
        live = list(events)
    replaying = Taped(file, never, mode="replay")
    with replaying.stream(request()) as events:
        assert (events.replayed, events.endpoint) == (True, "echo")
        kept = list(events)
    assert live[0]["message"].pop("_request_id") == "req_hidden"
    assert kept == live


def test_replay_never_makes_the_endpoint_and_a_miss_is_an_error(tmp_path):
    """A missing recording is an error that says what to do. The summary counts such errors."""
    file = tmp_path / "c.jsonl"
    ask(Taped(file, Echo()), request())
    cassette = Taped(file, never, mode="replay")
    assert ask(cassette, request()) == "Say hi #1"
    with pytest.raises(CassetteMiss) as missed, cassette.stream(request("Say hello")):
        pass
    assert missed.value.digest == request("Say hello").digest
    assert cassette.summary()["missed"] == 1
    assert str(file) in missed.value.message
    assert "1 recording" in missed.value.message
    assert "NBCHAT_CASSETTE_MODE" in missed.value.hint


def test_replay_without_a_file_is_an_error(tmp_path):
    """Replay without a cassette file raises an error and creates no file."""
    with pytest.raises(CassetteMiss, match="there is no cassette"):
        Taped(tmp_path / "no.jsonl", never, mode="replay")
    assert not list(tmp_path.iterdir())


def test_a_file_deleted_during_replay_is_a_miss(tmp_path):
    """Replay raises a CassetteMiss if the file is deleted after the cassette was opened."""
    file = tmp_path / "c.jsonl"
    ask(Taped(file, Echo()), request())
    cassette = Taped(file, never, mode="replay")
    file.unlink()
    with pytest.raises(CassetteMiss, match="there is no cassette"), cassette.stream(request()):
        pass


def test_record_always_sends_and_replaces_in_place(tmp_path):
    """A new recording replaces the old one in its line, so a diff shows one changed line."""
    file = tmp_path / "c.jsonl"
    first = Taped(file, Echo())
    for prompt in "abc":
        ask(first, request(prompt))
    before = lines(file)
    file.chmod(0o640)
    assert (
        ask(Taped(file, Echo(lambda prompt, number: answer("new " + prompt)), mode="record"), request("b")) == "new b"
    )
    after = lines(file)
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, True, False, True]
    assert file.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["c.jsonl"]
    assert ask(Taped(file, mode="replay"), request("b")) == "new b"
    assert ask(first, request("b")) == "new b", "another kernel that has the file open sees it"


def test_off_passes_through_and_touches_nothing(tmp_path):
    """Mode ``off`` neither reads nor writes the file."""
    cassette = Taped(tmp_path / "c.jsonl", Echo(), mode="off")
    assert ask(cassette, request()) == "Say hi #1"
    assert cassette.name == "echo"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "said"),
    [({"mode": "rply"}, "replay"), ({"speed": "slow"}, "fast, real")],
)
def test_a_wrong_mode_or_speed_names_the_right_one(tmp_path, given, said):
    """Mode and speed are checked when the cassette is made. The error names the valid values."""
    with pytest.raises(OptionError) as wrong:
        Taped(tmp_path / "c.jsonl", **given)
    assert said in wrong.value.hint


def test_holds_is_true_if_the_answer_is_recorded(tmp_path):
    """``holds`` returns True for a recorded request, so that a replay needs no budget and no token count."""
    cassette = Taped(tmp_path / "c.jsonl", Echo())
    assert not cassette.holds(request())
    ask(cassette, request())
    assert cassette.holds(request())
    assert not Taped(tmp_path / "c.jsonl", Echo(), mode="record").holds(request())


def test_one_cassette_serves_several_endpoints(tmp_path):
    """Requests to two models share one file and one summary."""
    cassette = Cassette(tmp_path / "c.jsonl")
    one, two = Taped(tmp_path / "c.jsonl", Echo()), Taped(tmp_path / "c.jsonl", Echo(lambda *_: answer("the other")))
    one.cassette = two.cassette = cassette
    assert ask(one, request("a")) == "a #1"
    assert ask(two, request("b")) == "the other"
    assert [ask(two, request("a")), ask(one, request("b"))] == ["a #1", "the other"]
    assert cassette.summary() == two.summary()
    assert cassette.summary()["replayed"] == 2


def test_a_relative_path_is_the_same_file_after_chdir(tmp_path, monkeypatch):
    """A relative path keeps its file when a notebook changes the working directory."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    cassette = Taped("sub/c.jsonl", Echo())
    monkeypatch.chdir(tmp_path / "elsewhere")
    ask(cassette, request())
    assert (tmp_path / "sub" / "c.jsonl").exists()


def test_streamed_and_unstreamed_answers_replace_each_other(tmp_path):
    """The digest ignores ``stream``, so each kind of request replays the other kind's recording."""
    whole = {"type": "message", "id": "msg_2", "content": [{"type": "text", "text": "whole"}], "usage": {}}
    file = tmp_path / "c.jsonl"
    ask(Taped(file, Echo(lambda *_: events_of(whole))), request("a", stream=False))
    assert ask(Taped(file, mode="replay"), request("a")) == "whole"
    ask(Taped(file, Echo()), request("b"))
    assert ask(Taped(file, mode="replay"), request("b", stream=False)) == "b #1"


def test_each_tool_round_is_a_recorded_request(tmp_path):
    """Requests with different tool results have different recordings."""
    call = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1}}
    turn = (Message.of("user", "add"), Message.of("assistant", [call]))
    rounds = [
        replace(
            request(),
            messages=(*turn, Message.of("user", [{"type": "tool_result", "tool_use_id": "toolu_1", "content": value}])),
        )
        for value in ("3", "4")
    ]
    file = tmp_path / "c.jsonl"
    cassette = Taped(file, Echo(lambda _, number: answer(f"round {number}")))
    assert [ask(cassette, asked) for asked in rounds] == ["round 1", "round 2"]
    assert ask(Taped(file, mode="replay"), rounds[0]) == "round 1"


# Only complete answers are recorded


@pytest.mark.parametrize(
    "ending",
    [
        answer("half")[:-1],
        [*answer("half")[:4], {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}],
        [],
        [{"type": "message_stop"}],
    ],
    ids=["cut", "error", "nothing", "no beginning"],
)
def test_an_incomplete_answer_is_not_recorded(tmp_path, ending):
    """An incomplete answer is not recorded, so the next run sends the request again."""
    file = tmp_path / "c.jsonl"
    cassette = Taped(file, Echo(lambda *_: ending))
    with cassette.stream(request()) as events:
        assert list(events) == ending
    assert not file.exists()
    assert (cassette.summary()["sent"], cassette.summary()["recorded"]) == (1, 0)


def test_an_interrupted_answer_is_not_recorded(tmp_path):
    """The cassette raises KeyboardInterrupt again and writes nothing."""
    cassette = Taped(tmp_path / "c.jsonl", Echo())

    def interrupt() -> None:
        with cassette.stream(request()) as events:
            for event in events:
                if event["type"] == "content_block_delta":
                    raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert not list(tmp_path.iterdir())


def test_an_error_before_the_first_event_is_not_recorded(tmp_path):
    """An error before the first event is raised unchanged and not recorded."""

    class Refusing:
        name = "refusing"

        @contextmanager
        def stream(self, request):
            raise errors.from_api("rate_limit_error", "slow down")
            yield

    with pytest.raises(errors.RateLimitError), Taped(tmp_path / "c.jsonl", Refusing()).stream(request()):
        pass
    assert not list(tmp_path.iterdir())


def test_notices_of_a_retry_are_shown_and_not_recorded(tmp_path):
    """Notices of a retry are not recorded, because a replay does not wait for a server."""
    notice = {"type": "notice", "text": "busy; again in 3 s"}
    file = tmp_path / "c.jsonl"
    with Taped(file, Echo(lambda *_: [notice, *answer("hi")])).stream(request()) as events:
        assert next(iter(events)) == notice
        list(events)
    assert "busy" not in file.read_text()


def test_an_answer_that_cannot_be_written_is_still_shown(tmp_path):
    """If the answer cannot be recorded, it is still shown, because it was paid for. A warning gives the reason."""
    file = tmp_path / "c.jsonl"

    def meanwhile(prompt: str, number: int):
        file.mkdir()
        return answer(prompt)

    cassette = Taped(file, Echo(meanwhile))
    with pytest.warns(RuntimeWarning, match="could not be recorded"):
        assert ask(cassette, request()) == "Say hi"
    with pytest.raises(InputError, match="cannot be read"):
        ask(cassette, request())  # this time the error comes before anything is sent
    assert (cassette.summary()["sent"], cassette.summary()["recorded"]) == (1, 0)


# Data that the file never contains


def test_canaries(tmp_path, monkeypatch):
    """The file contains no key, header, path or user name from a prompt, an answer or the settings."""
    home = tmp_path / "srv" / "canaryhome"
    work = home / "canarywork"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(home))
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "canaryuser")
    assert getpass.getuser() == "canaryuser"
    errors.keep_secret("configured-canary-secret")
    prompt = textwrap.dedent(f"""
        key sk-ant-api03-CANARYkey_0-1 and configured-canary-secret, Bearer canarybearer0123
        File "{work / "mine.py"}", line 1
        File "/home/canarysomebody/x.py", C:\\Users\\canaryother\\y.py, /Users/canarymac/z
        environ({{'USER': 'canaryuser'}}) /scratch/canaryuser/data /tmp/pytest-of-canaryuser
    """)
    asked = Request(
        "claude-test",
        (Message.of("user", prompt),),
        64,
        system=f"You work in {home}",
        params={
            "metadata": {"user_id": "canaryuser@example.org"},
            "mcp_servers": [{"type": "url", "url": "https://mcp.example", "authorization_token": "canarytoken"}],
        },
    )

    class Talkative:
        name = "talkative"
        api_key = "sk-ant-canary-in-the-transport"

        @contextmanager
        def stream(self, request):
            said = f"You wrote sk-ant-api03-CANARYkey_0-1 and configured-canary-secret in {work / 'mine.py'}."
            events = answer(said, cut=2)
            events[0]["message"]["_headers"] = {"x-api-key": "canaryheader"}
            yield events

    cassette = Taped(work / "c.jsonl", Talkative())
    live = ask(cassette, asked)
    assert "CANARYkey" in live
    assert ask(cassette, asked) == f"You wrote sk-ant-… and … in {work / 'mine.py'}."
    stored = (work / "c.jsonl").read_text("utf-8")
    assert "in ⟨home⟩/canarywork/mine.py" in stored
    assert "canary" not in stored.lower().replace("canarywork", ""), "the folder's own name is all that is left"
    assert "req_hidden" not in stored
    assert str(tmp_path) not in stored


def test_a_conversation_with_a_typed_key_can_be_replayed(tmp_path):
    """The replayed answer does not contain the key. The next request of the conversation is still found."""
    key = "sk-ant-api03-abcdefgh"
    file = tmp_path / "c.jsonl"

    def talk(cassette: Cassette) -> str:
        prompt = Message.of("user", f"My key is {key}")
        first = ask(cassette, replace(request(), messages=(prompt,)))
        history = (prompt, Message.of("assistant", first), Message.of("user", "And now?"))
        return ask(cassette, replace(request(), messages=history))

    recorded = talk(Taped(file, Echo()))
    assert talk(Taped(file, mode="replay")) == recorded
    assert key not in file.read_text()


@pytest.mark.parametrize("home", ["/home/ada", "/export/data/ada"])
def test_the_home_folder_in_a_request_matches_any_user(tmp_path, monkeypatch, home):
    """A request that contains the user's own home folder matches the recording of another user. Other paths do not."""
    file = tmp_path / "c.jsonl"

    def at(home: str) -> Cassette:
        monkeypatch.setenv("HOME", home)
        return Taped(file, Echo(lambda prompt, _: answer(f"{prompt}: mend it", cut=1)))

    assert ask(at(home), request(f"{home}/x.py")) == f"{home}/x.py: mend it"
    assert ask(at(home), request(f"{home}/x.py")) == f"{home}/x.py: mend it"
    assert ask(at("/Users/grace"), request("/Users/grace/x.py")) == "/Users/grace/x.py: mend it"
    assert ask(at("/Users/grace"), request(f"{home}/x.py")) == "/Users/grace/x.py: mend it"
    assert "ada" not in file.read_text()
    assert len(lines(file)) == 2
    assert not at("/Users/grace").holds(request("/home/linus/x.py"))
    assert not at("/Users/grace").holds(request("/Users/graceful/x.py"))


def test_two_homes_in_two_requests_are_two_requests(tmp_path):
    """Two requests that name different home folders have different recordings."""
    cassette = Taped(tmp_path / "c.jsonl", Echo())
    assert [ask(cassette, request(f"Who owns /home/{who}?")) for who in ("ada", "bob")] == [
        "Who owns /home/ada? #1",
        "Who owns /home/bob? #2",
    ]


def test_the_digest_is_unchanged_if_nothing_is_private(tmp_path):
    """The digest in the file equals the digest in the metadata of the output."""
    file = tmp_path / "c.jsonl"
    ask(Taped(file, Echo()), request())
    assert json.loads(lines(file)[1])["digest"] == request().digest


def test_attached_data_is_a_hash_in_the_file_and_part_of_the_digest(tmp_path):
    """The file contains a hash instead of the data, so cassettes stay small. Another image is another request."""
    file = tmp_path / "c.jsonl"
    cassette = Taped(file, Echo(lambda _, number: answer(f"image {number}")))

    def picture(data: str) -> Request:
        source = {"type": "base64", "media_type": "image/png", "data": data}
        return replace(request(), messages=(Message.of("user", [{"type": "image", "source": source}]),))

    assert ask(cassette, picture("A" * 100_000)) == "image 1"
    assert ask(cassette, picture("B" * 100_000)) == "image 2"
    assert ask(cassette, request("x" * 99_000)) == "image 3"
    assert ask(cassette, picture("A" * 100_000)) == "image 1"
    assert file.stat().st_size < 12_000
    assert "100000 characters of base64" in lines(file)[1]


# The lines


def test_a_line_reads_as_prompt_and_answer(tmp_path):
    """A reviewer can read the prompt and the answer in a line.

    A change of the format must change this test and FORMAT.
    """
    file = tmp_path / "c.jsonl"
    ask(Taped(file, Echo(lambda *_: answer("Grüße, 你好 🙂"))), request("Sag „hallo“ 🙂", temperature=0))
    header, line = lines(file)
    assert header == '{"format":"nbchat.cassette/1"}'
    stored = json.loads(line)
    assert list(stored) == ["digest", "endpoint", "request", "events"]
    assert line.startswith(
        f'{{"digest":"{request("Sag „hallo“ 🙂", temperature=0).digest}","endpoint":"echo",'
        '"request":{"model":"claude-test","max_tokens":64,'
        '"messages":[{"role":"user","content":"Sag „hallo“ 🙂"}],"temperature":0},"events":['
    )
    run = next(item for item in stored["events"] if item[0] == "text_delta")
    assert run[:3] == ["text_delta", 0, "Grüße, 你好 🙂"]
    assert run[3][1::2] == [3, 3, 3, 2]
    assert all(isinstance(ms, int) for ms in run[3])


def test_the_line_does_not_depend_on_the_order_of_dicts(tmp_path):
    """A recorded request has the same text for each order of its dicts, so diffs stay small."""
    shuffled = [{"b": {"y": 1, "x": [2]}, "a": 1}, {"a": 1, "b": {"x": [2], "y": 1}}]
    written = [json.dumps(public(request("p", thinking=part).body())) for part in shuffled]
    assert written[0] == written[1]


_texts = st.text(max_size=12)
_odd_events = st.one_of(
    st.builds(
        lambda kind, index, text: {
            "type": "content_block_delta",
            "index": index,
            "delta": {"type": f"{kind}_delta", {"input_json": "partial_json"}.get(kind, kind): text},
        },
        st.sampled_from(["text", "thinking", "input_json", "signature", "new"]),
        st.integers(0, 2),
        st.one_of(_texts, st.text(st.characters(categories=["Cs"]), max_size=1)),
    ),
    st.builds(
        lambda text: {"delta": {"text": text, "type": "text_delta"}, "index": 0, "type": "content_block_delta"}, _texts
    ),
    st.fixed_dictionaries({"type": st.sampled_from(["ping", "later_event", "content_block_stop"]), "index": st.none()}),
)


@given(st.lists(st.tuples(st.integers(0, 5000), _odd_events), max_size=30))
def test_events_are_unchanged_after_writing_and_reading(events):
    """Writing joins deltas and reading cuts them again. Values, order of fields and times are unchanged."""
    exchange = Exchange("0" * 64, "e", {"model": "m"}, tuple(events))
    line = exchange.to_line()
    assert b"\n" not in line
    back = Exchange.from_line(line)
    assert json.dumps(back.events) == json.dumps(exchange.events)


def test_the_original_timing_is_kept_and_replayed_if_requested(tmp_path, monkeypatch):
    """Times are whole milliseconds. The waits add up to the recorded duration, and are shorter for a slow reader."""
    now, slept = [100.0], []

    def sleep(seconds: float) -> None:
        slept.append(round(seconds, 3))
        now[0] += seconds

    monkeypatch.setattr(cassette_module.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(cassette_module.time, "sleep", sleep)

    def slowly(*_):
        for number, event in enumerate(answer("abcdef")):
            now[0] += 0.4 if number == 0 else 0.0104
            yield event

    file = tmp_path / "c.jsonl"
    ask(Taped(file, Echo(slowly)), request())
    ask(Taped(file, mode="replay"), request())
    assert slept == []
    ask(Taped(file, mode="replay", speed="real"), request())
    assert slept[0] == 0.4
    assert sum(slept) == pytest.approx(0.4 + 0.0104 * 7, abs=0.001)
    slept.clear()
    with Taped(file, mode="replay", speed="real").stream(request()) as events:
        for _ in events:
            now[0] += 10  # a reader that takes longer than the answer did
    assert slept == [0.4]


# The file


def filled(tmp_path: Path, prompts: str = "abc") -> Path:
    file = tmp_path / "c.jsonl"
    cassette = Taped(file, Echo())
    for prompt in prompts:
        ask(cassette, request(prompt))
    return file


@pytest.mark.parametrize("cut", [1, 2, 40, 150])
def test_a_last_line_that_was_cut_is_repaired_by_the_next_writer(tmp_path, cut):
    """A killed kernel loses at most its last line.

    The next writer repairs the file, and a reader does not change it.
    """
    file = filled(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole[:-cut])
    replaying = Taped(file, mode="replay")
    assert ask(replaying, request("b")) == "b #2"
    assert file.read_bytes() == whole[:-cut]
    assert len(replaying) == (3 if cut == 1 else 2)
    ask(Taped(file, Echo()), request("d"))
    ask(Taped(file, Echo()), request("c"))
    assert sorted(json.loads(line)["request"]["messages"][0]["content"] for line in lines(file)[1:]) == [*"abcd"]


@pytest.mark.parametrize(
    "begun", [b"", b'{"form', b'{"format":"nbchat.cassette/1"}', b'{"format":"nbchat.cassette/1"}\n']
)
def test_an_empty_or_just_begun_file_is_a_new_cassette(tmp_path, begun):
    """A file from ``touch``, or from a kernel that was killed while it wrote the header, counts as a new cassette."""
    file = tmp_path / "c.jsonl"
    file.write_bytes(begun)
    ask(Taped(file, Echo()), request("a"))
    assert len(lines(file)) == 2
    assert ask(Taped(file, mode="replay"), request("a")) == "a #1"


def test_other_line_ends_and_other_spaces_are_read(tmp_path):
    """git may change line ends, an editor may add a byte order mark, and a formatter may add spaces."""
    file = filled(tmp_path)
    rows = lines(file)
    rows[2] = json.dumps(dict(sorted(json.loads(rows[2]).items(), reverse=True)))
    file.write_bytes(b"\xef\xbb\xbf" + "\r\n".join([*rows, "", ""]).encode())
    assert [ask(Taped(file, mode="replay"), request(prompt)) for prompt in "abc"] == ["a #1", "b #2", "c #3"]
    ask(Taped(file, Echo(lambda *_: answer("new b")), mode="record"), request("b"))
    assert [ask(Taped(file, mode="replay"), request(prompt)) for prompt in "abc"] == ["a #1", "new b", "c #3"]


def test_the_last_of_two_lines_counts_and_a_new_recording_replaces_both(tmp_path):
    """A union merge of two branches can keep two lines for one request. The last one counts."""
    file = filled(tmp_path, "ab")
    other = filled(tmp_path / "other", "ba")
    file.write_text("\n".join([*lines(file), *lines(other)[1:], ""]))
    assert ask(Taped(file, mode="replay"), request("a")) == "a #2"
    ask(Taped(file, Echo(lambda *_: answer("anew")), mode="record"), request("a"))
    assert len(lines(file)) == 4
    assert ask(Taped(file, mode="replay"), request("a")) == "anew"


def test_a_merge_conflict_is_an_error_with_a_hint(tmp_path):
    """Every mode refuses a file with conflict markers, and sends nothing."""
    file = filled(tmp_path)
    rows = lines(file)
    file.write_text("\n".join([*rows[:2], "<<<<<<< HEAD", rows[2], "=======", rows[3], ">>>>>>> branch", ""]))
    for mode in ("auto", "replay", "record"):
        with pytest.raises(InputError, match=r"line 3 of the cassette .*conflict marker") as wrong:
            Taped(file, Echo(), mode=mode)
        assert "keep the lines of both sides" in wrong.value.hint


def test_a_damaged_line_is_an_error_with_its_number(tmp_path):
    """An invalid line raises an error on opening. A line with invalid events raises an error when it is replayed."""
    file = filled(tmp_path)
    rows = lines(file)
    file.write_text("\n".join([rows[0], rows[1][:90], *rows[2:], ""]))
    with pytest.raises(InputError, match=r"line 2 of the cassette .* is damaged"):
        Taped(file, mode="replay")
    file.write_text("\n".join([rows[0], rows[1].replace(',"events":[', ',"events":[[1],'), *rows[2:], ""]))
    cassette = Taped(file, mode="replay")
    assert ask(cassette, request("b")) == "b #2"
    with pytest.raises(InputError, match=r"line 2 of the cassette .* is damaged"):
        ask(cassette, request("a"))


def test_a_later_format_and_other_files_are_refused_and_not_changed(tmp_path):
    """A file of a later format or of another kind is refused and not changed."""
    later, notebook, words = tmp_path / "later.jsonl", tmp_path / "n.ipynb", tmp_path / "words.txt"
    later.write_text('{"format":"nbchat.cassette/2"}\n')
    notebook.write_text('{"cells": []}')
    words.write_text("hello")
    for file, said in (
        (later, "has format 2; this nbchat reads up to 1"),
        (notebook, "not a cassette"),
        (words, "not a cassette"),
    ):
        before = file.read_text()
        with pytest.raises(InputError, match=said):
            Taped(file, Echo())
        assert file.read_text() == before


def test_a_full_disk_leaves_no_half_line(tmp_path, monkeypatch):
    """If the disk is full, the file is unchanged, the answer is shown, and a warning is given."""
    file = filled(tmp_path)
    before = file.read_bytes()
    write = os.write

    def full(handle: int, data) -> int:
        if len(data) < 100:
            raise OSError(28, "No space left on device")
        return write(handle, data[:50])

    monkeypatch.setattr("nbchat.transports.recordings.os.write", full)
    for mode, prompt in (("auto", "d"), ("record", "a")):
        with pytest.warns(RuntimeWarning, match="No space left"):
            assert ask(Taped(file, Echo(), mode=mode), request(prompt)) == f"{prompt} #1"
        assert file.read_bytes() == before
        assert os.listdir(tmp_path) == ["c.jsonl"]


def test_a_link_to_a_cassette_stays_a_link(tmp_path):
    """A new recording changes the file that a symbolic link points to. The link stays."""
    file = filled(tmp_path, "a")
    link = tmp_path / "link.jsonl"
    link.symlink_to(file)
    ask(Taped(link, Echo(lambda *_: answer("new")), mode="record"), request("a"))
    assert link.is_symlink()
    assert ask(Taped(file, mode="replay"), request("a")) == "new"


def test_threads_of_one_cassette_lose_nothing(tmp_path):
    """Threads can record through one cassette at the same time, as ``ask_each`` does."""
    file = tmp_path / "c.jsonl"
    cassette = Taped(file, Echo(lambda prompt, _: answer(prompt)))
    names = [f"row {number}" for number in range(40)]
    threads = [threading.Thread(target=ask, args=(cassette, request(name))) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [cassette.summary()["sent"], cassette.summary()["recorded"], len(lines(file))] == [40, 40, 41]
    assert [ask(Taped(file, mode="replay"), request(name)) for name in names] == names


_KERNEL = """
import sys
sys.path.insert(0, {tests!r})
from test_cassette import Taped, Echo, answer, ask, request
who, file = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
recording = Taped(file, Echo(lambda prompt, _: answer(prompt + who)))
again = Taped(file, Echo(lambda prompt, _: answer(prompt + who)), mode="record")
for number in range(30):
    ask(recording, request(f"{{who}} {{number}}"))
    ask(recording, request(f"shared {{number}}"))
    ask(again, request("the same"))
"""


def test_two_kernels_that_write_one_file_lose_nothing(tmp_path):
    """Two processes can record in one file, one appending and one replacing. Each request has one line in the end."""
    file = tmp_path / "c.jsonl"
    source = textwrap.dedent(_KERNEL).format(tests=str(Path(__file__).parent))
    kernels = [
        subprocess.Popen(
            [sys.executable, "-c", source, who, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for who in "AB"
    ]
    for kernel in kernels:
        assert kernel.stdout.readline() == "ready\n"
    for kernel in kernels:
        kernel.stdin.write("go\n")
        kernel.stdin.flush()
    assert [kernel.wait(60) for kernel in kernels] == [0, 0]
    for kernel in kernels:
        kernel.stdin.close()
        kernel.stdout.close()
    cassette = Taped(file, mode="replay")
    for number in range(30):
        assert ask(cassette, request(f"A {number}")) == f"A {number}A"
        assert ask(cassette, request(f"B {number}")) == f"B {number}B"
        assert ask(cassette, request(f"shared {number}")) in (f"shared {number}A", f"shared {number}B")
    assert ask(cassette, request("the same")) in ("the sameA", "the sameB")
    assert len(lines(file)) == 1 + 30 * 3 + 1
    assert os.listdir(tmp_path) == ["c.jsonl"]


# Missing recordings


def test_a_miss_shows_what_differs_from_the_nearest_recording(tmp_path):
    """The difference has only the changed lines, compared with the most similar recording."""
    file = tmp_path / "c.jsonl"
    cassette = Taped(file, Echo())
    poem = "Write a poem. It should be short. It should rhyme. It should be about the sea and its many ships."
    for prompt in ("Tell me a joke about bread", poem + " Use four lines.", "What is 2 + 2?"):
        ask(cassette, request(prompt, temperature=0))
    with (
        pytest.raises(CassetteMiss) as missed,
        Taped(file, mode="replay").stream(request(poem + " Use five lines.", temperature=0)),
    ):
        pass
    assert "3 recordings; the nearest is on line 3" in missed.value.message
    assert missed.value.difference.splitlines() == [
        "--- recorded, line 3",
        "+++ this request",
        "…",
        " It should be about the sea and its many ships.",
        '-Use four lines."',
        '+Use five lines."',
        "   }",
    ]
    assert missed.value._render_traceback_()[-1] == missed.value.difference


def test_a_difference_is_short_and_contains_no_key(tmp_path):
    """A difference has about twenty lines, without keys and home folders."""
    file = tmp_path / "c.jsonl"
    ask(Taped(file, Echo()), request("\n".join(f"row {number}" for number in range(200))))
    new = "\n".join(f"line {number} sk-ant-canary0123 /home/canary/x" for number in range(200))
    with pytest.raises(CassetteMiss) as missed, Taped(file, mode="replay").stream(request(new)):
        pass
    shown = missed.value.difference.splitlines()
    assert len(shown) == 21
    assert shown[-1].startswith("… and ")
    assert "canary" not in missed.value.difference


def test_a_miss_in_an_empty_cassette_has_nothing_to_compare(tmp_path):
    """An empty cassette has no recording to compare with. The error says so."""
    file = tmp_path / "c.jsonl"
    file.touch()
    with pytest.raises(CassetteMiss, match="0 recordings") as missed, Taped(file, mode="replay").stream(request()):
        pass
    assert missed.value.difference == ""


# Digests

_json = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**53), 2**53),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=8),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=4)),
    max_leaves=12,
)


def _turned(value):
    if isinstance(value, dict):
        return {key: _turned(part) for key, part in reversed(value.items())}
    return tuple(_turned(part) for part in value) if isinstance(value, list) else value


@given(st.dictionaries(st.text(max_size=6), _json, max_size=5))
def test_the_digest_depends_only_on_the_json_value(body):
    """The digest ignores the order of dicts and the kind of sequence, and JSON does not change it."""
    assert digest_of(_turned(body)) == digest_of(body) == digest_of(json.loads(json.dumps(body)))


@given(st.dictionaries(st.text(max_size=6), _json, max_size=5))
def test_removing_private_data_twice_changes_nothing(body):
    """Private data is removed once, so a request made of replayed parts has the digest of the original request."""
    once = portable(body)
    assert portable(once) == once
    assert json.dumps(public(once)) == json.dumps(public(body))


def test_digests_never_change():
    """A changed digest here would make every existing cassette useless. The cache mark does not change it.

    Half of a surrogate pair was never sent: its digest is that of U+FFFD, which is.
    """
    asked = Request(
        "claude-test",
        (
            Message.of("user", "Grüße 🙂 \ud83d"),
            Message.of("assistant", [{"type": "text", "text": "x", "b": 1.5, "a": 1e22}]),
        ),
        64,
        system="s",
        tools=({"name": "t", "input_schema": {"type": "object"}},),
        params={"temperature": 0.0, "stop_sequences": ("a",), "cache_control": {"type": "ephemeral"}},
    )
    assert asked.digest == "775f0c33f48f637b41542b03d6c53ded7b911a2e3c10b0851212aef1192c03d1"
    other = {"stop_sequences": ["a"], "temperature": 0}
    for mark in ({}, {"cache_control": {"type": "ephemeral", "ttl": "1h"}}, {"cache_control": None}):
        assert replace(asked, params=other | mark, stream=False).digest == asked.digest
    assert replace(asked, params={"temperature": 1}).digest != asked.digest


def test_a_value_that_is_not_json_is_named_before_sending(tmp_path):
    """The error names the place of the value in the request, and nothing is sent."""
    for value, said in ((float("nan"), "thinking.budget is nan"), ({1}, "thinking.budget is a set")):
        with (
            pytest.raises(InputError, match=said),
            Taped(tmp_path / "c.jsonl", never).stream(request(thinking={"budget": value})),
        ):
            pass
