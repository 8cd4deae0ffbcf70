"""Records of a session: what replays, what it cost, what a budget refuses, what is written of each request."""

from __future__ import annotations

import json
import re
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

import nbchat
from nbchat import Response, ScriptedTransport, Session
from nbchat.config import Nbchat
from nbchat.core.chunks import Notice, OutputText, StreamChunk
from nbchat.core.entries import Entry
from nbchat.core.errors import BudgetError, CassetteMiss, NbchatError, OptionError, OverloadedError, StreamError
from nbchat.core.usage import Usage
from nbchat.engine.accounting import Accounting
from nbchat.engine.session import use_session
from nbchat.transports.claude import ClaudeTransport
from nbchat.view.final import output_metadata
from nbchat.view.usage import run_line, run_table
from tests.support import server as api

#: A model with a list price of 3 and 15 dollars a million tokens.
SONNET = {"name": "anthropic", "model": "claude-sonnet-4-5"}


class Lines:
    """A sink that keeps the lines for the status."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def begin(self, request) -> None:
        pass

    def feed(self, chunk: StreamChunk) -> None:
        if isinstance(chunk, Notice) and chunk.text:
            self.said.append(chunk.text)

    def settle(self, response: Response) -> None:
        pass


def run(session: Session, *prompts: str, **given: Any) -> list[tuple[Response, list[str]]]:
    """Ask each prompt as a cell of its own; gives the answers with what their status lines said."""
    asked = []
    for number, prompt in enumerate(prompts):
        lines = Lines()
        asked.append((session.ask(prompt, cell=f"c{number}", sinks=[lines], **given), lines.said))
    return asked


def kinds(session: Session) -> list[str]:
    return [entry.kind for entry in session.accounting.run]


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


TOOLED = ({"tool": "add", "input": {"a": 2, "b": 3}}, "It is 5.")


# Restart & Run All ---------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "in one piece"])
def test_run_all_replays_what_is_unchanged_and_sends_what_changed(tmp_path: Path, stream: bool):
    """A new kernel, the same cassette: two cells replay, the changed one is sent; each says which."""
    tape = str(tmp_path / "tape.jsonl")
    first = Session(ScriptedTransport("One.", "Two.", "Three.", **SONNET))
    first.recording.use_cassette(tape)
    before = run(first, "a", "b", "c", stream=stream, once=True)
    assert [said for _, said in before] == [["sent, and recorded in tape.jsonl"]] * 3

    again = Session(transport := ScriptedTransport("New.", **SONNET))
    again.recording.use_cassette(tape)
    after = run(again, "a", "b, changed", "c", stream=stream, once=True)
    assert [response.text for response, _ in after] == ["One.", "New.", "Three."]
    assert [response.replayed for response, _ in after] == [True, False, True]
    assert [said for _, said in after] == [
        ["replayed from tape.jsonl"], ["sent, and recorded in tape.jsonl"], ["replayed from tape.jsonl"],
    ]  # fmt: skip
    assert len(transport.requests) == 1
    assert kinds(again) == ["replayed", "answer", "replayed"]
    assert [response.cost for response, _ in after][::2] == [0.0, 0.0]
    assert after[1][0].cost > 0


def test_a_changed_cell_changes_those_that_follow_in_its_conversation(tmp_path: Path):
    """History is part of a request: what builds on a changed turn is asked anew, what does not is replayed."""
    tape = str(tmp_path / "tape.jsonl")
    first = Session(ScriptedTransport("1", "2", "3"))
    first.recording.use_cassette(tape)
    run(first, "a", "b", "c")
    again = Session(ScriptedTransport("2, new", "3, new"))
    again.recording.use_cassette(tape)
    after = run(again, "a", "b, changed", "c")
    assert [response.replayed for response, _ in after] == [True, False, False]


def test_usage_run_says_what_the_run_cost_and_what_replay_saved(tmp_path: Path):
    """The sums are those of the answers: replayed ones cost nothing and saved what they had cost."""
    tape = str(tmp_path / "tape.jsonl")
    first = Session(ScriptedTransport("One.", "Two.", **SONNET))
    first.recording.use_cassette(tape)
    one, two = (response for response, _ in run(first, "a", "b", once=True))
    assert run_line(first.accounting.run) == f"This run: 2 requests sent for ${one.cost + two.cost:.4f}"

    again = Session(ScriptedTransport("New.", **SONNET))
    again.recording.use_cassette(tape)
    _, new = (response for response, _ in run(again, "a", "c", once=True))
    said = f"This run: 1 answer replayed, which saved ${one.cost:.4f}; 1 request sent for ${new.cost:.4f}"
    assert run_line(again.accounting.run) == said
    bundle = run_table(again.accounting.run)
    assert bundle["text/plain"].startswith(said)
    replayed, sent = bundle["text/plain"].splitlines()[3:]
    assert re.match(rf"1 +replayed +main +claude-sonnet-4-5 .* \$0\.00 +\${one.cost:.4f}$", replayed)
    assert re.match(rf"2 +sent +main +claude-sonnet-4-5 .* \${new.cost:.4f}$", sent)
    assert bundle["text/html"].count("<tr>") == 3


def test_a_run_counts_unknown_prices_failures_and_interrupts_as_what_they_are():
    """Nothing unknown is shown as 0; a try that failed is not an answer."""
    tokens = Usage(input_tokens=1000, output_tokens=10)
    known = {"at": 0.0, "endpoint": "e", "model": "m", "usage": tokens}
    entries = [
        Entry(**known, cost=0.5),
        Entry(**known, cost=None),
        Entry(**known, kind="interrupted", status="interrupted", cost=0.25),
        Entry(**known, kind="retry", status="overloaded_error", cost=0.0),
        Entry(**known, kind="failed", status="api_error", cost=0.0),
        Entry(**known, kind="replayed", cost=0.0, saved=None),
    ]
    assert run_line(entries) == (
        "This run: 1 answer replayed, which saved an unknown amount; "
        "3 requests sent for $0.7500 and 1 unknown amount; 2 requests failed"
    )
    plain = run_table(entries)["text/plain"]
    assert len(plain.splitlines()) == 3 + 6
    for said in ("interrupted", "failed, tried again: overloaded_error", "failed: api_error", "unknown"):
        assert said in plain
    assert run_line([]) == "This run: nothing was asked yet"
    assert "<script" not in run_table([Entry(**known | {"model": "<script>"})])["text/html"]


def test_the_environment_decides_the_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """NBCHAT_CASSETTE_MODE goes before what the notebook says; in replay a miss is an error and nothing is sent."""
    tape = str(tmp_path / "tape.jsonl")
    first = Session(ScriptedTransport("One."))
    first.recording.use_cassette(tape)
    first.ask("a")
    monkeypatch.setenv("NBCHAT_CASSETTE_MODE", "replay")
    again = Session(transport := ScriptedTransport("never"))
    again.recording.use_cassette(tape, "record")
    assert again.ask("a").text == "One."
    with pytest.raises(CassetteMiss) as caught:
        again.ask("b")
    assert "b" in caught.value.difference
    assert transport.requests == []
    assert kinds(again) == ["replayed", "failed"]


def test_a_tool_turn_replays_round_by_round(tmp_path: Path):
    """Both requests of the turn are rows, sent and then replayed; a turn all of whose answers replay is replayed."""
    tape = str(tmp_path / "tape.jsonl")
    first = Session(ScriptedTransport(*TOOLED, **SONNET))
    first.recording.use_cassette(tape)
    sent = first.ask("2 + 3?", tools=[add])
    assert kinds(first) == ["tool_round", "answer"]
    assert [entry.round for entry in first.accounting.run] == [0, 1]
    assert sent.cost == pytest.approx(sum(entry.cost for entry in first.accounting.run))

    again = Session(transport := ScriptedTransport(**SONNET))
    again.recording.use_cassette(tape)
    replayed = again.ask("2 + 3?", tools=[add])
    assert (replayed.text, replayed.replayed, replayed.cost) == (sent.text, True, 0.0)
    assert kinds(again) == ["replayed", "replayed"]
    assert sum(entry.saved for entry in again.accounting.run) == pytest.approx(sent.cost)
    assert transport.requests == []


# Rows of the ledger ---------------------------------------------------------------------------


def connected(server: api.Server) -> Session:
    return Session(ClaudeTransport("test", base_url=server.url, sleep=lambda _: None), notebook="n.ipynb")


def test_a_retry_is_a_row_of_its_own():
    """A try that the service refused and the one that answered are two requests."""
    busy = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    with api.serving(
        lambda wire, _: wire.json("529 Overloaded", busy), api.streaming(api.text_events(["Hi", "!"]))
    ) as server:
        session = connected(server)
        assert session.ask("Hi").text == "Hi!"
        assert len(server.requests) == 2
    rows = session.accounting.ledger.rows()
    assert [(row.kind, row.status) for row in rows] == [("retry", "overloaded_error"), ("answer", "complete")]
    assert rows[0].usage == Usage()
    assert {row.notebook for row in rows} == {"n.ipynb"}


def test_a_request_that_fails_is_a_row():
    """Also when every try failed: as many rows as requests."""
    busy = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    with api.serving(lambda wire, _: wire.json("529 Overloaded", busy)) as server:
        session = connected(server)
        with pytest.raises(OverloadedError):
            session.ask("Hi")
        assert len(server.requests) == 3
    assert [row.kind for row in session.accounting.ledger.rows()] == ["retry", "retry", "failed"]


def test_an_answer_that_broke_off_counts_what_is_known_and_marks_the_output_estimated():
    """The input was counted by the API; the output is estimated from the text that came."""
    events = list(api.text_events(["word "] * 40))[:30]

    def broken(wire: api.Wire, _: api.Received) -> None:
        wire.head()
        for event in events:
            wire.event(event)
        wire.reset()

    with api.serving(broken) as server:
        session = connected(server)
        with pytest.raises(StreamError) as caught:
            session.ask("Hi")
    (row,) = session.accounting.ledger.rows()
    assert row.kind == "failed"
    assert (row.usage.input_tokens, row.usage.estimated) == (10, True)
    assert row.usage.output_tokens >= 28 * 5 // 4
    assert caught.value.partial.usage == row.usage


def test_an_interrupted_answer_is_a_row_with_what_arrived():
    """Ctrl-C: what had arrived was paid for."""

    class Stop:
        def begin(self, request) -> None:
            pass

        def feed(self, chunk: StreamChunk) -> None:
            if isinstance(chunk, OutputText) and "5" in chunk.text:
                raise KeyboardInterrupt

        def settle(self, response: Response) -> None:
            pass

    with api.serving(api.streaming(api.text_events(f"{number} " for number in range(100)))) as server:
        session = connected(server)
        with pytest.raises(KeyboardInterrupt):
            session.ask("Count.", sinks=[Stop()])
    (row,) = session.accounting.ledger.rows()
    assert (row.kind, row.status, row.usage.estimated) == ("interrupted", "interrupted", True)
    assert (row.usage.input_tokens, row.usage.output_tokens) == (10, 3)  # "0 1 2 3 4 5 ": 12 letters
    assert session.last is not None
    assert session.last.usage == row.usage


def test_an_unknown_price_is_none_everywhere():
    """A server of one's own has no known price: None in the Response and the row, never 0."""
    session = Session(ScriptedTransport("Hi", name="my-server", model="my-model"))
    assert session.ask("Hi").cost is None
    (row,) = session.accounting.ledger.rows()
    assert row.cost is None
    assert "unknown" in run_line(session.accounting.run)


def test_a_ledger_that_cannot_be_written_warns_once_and_breaks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Two cells, one warning, two answers."""
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    session = Session(ScriptedTransport("1", "2"))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert [session.ask("a").text, session.ask("b").text] == ["1", "2"]
    assert len([warning for warning in warned if "ledger" in str(warning.message)]) == 1
    assert len(session.accounting.run) == 2


# nbchat.usage() ------------------------------------------------------------------------------


def test_usage_gives_a_data_frame(tmp_path: Path):
    """A row for every request with its cost; by a column, the sums; by a period, those since."""
    session = Session(ScriptedTransport("1", "2", "3", **SONNET), notebook="n.ipynb")
    use_session(session)
    session.ask("a")
    session.ask("b", chat="other")
    frame = nbchat.usage()
    assert list(frame["chat"]) == ["main", "other"]
    assert frame["cost"].sum() == pytest.approx(sum(entry.cost for entry in session.accounting.run))
    assert str(frame["time"].dtype).startswith("datetime64")
    by = nbchat.usage("today", by=["notebook", "chat"])
    assert list(by["notebook"]) == ["n.ipynb", "n.ipynb"]
    assert sorted(by["chat"]) == ["main", "other"]

    later = Session(ScriptedTransport("3", **SONNET))
    use_session(later)
    later.ask("c")
    assert len(nbchat.usage("run")) == 1
    assert len(nbchat.usage("all")) == 3
    assert list(nbchat.usage("run", by="model")["requests"]) == [1]
    with pytest.raises(OptionError, match="no period 'dya'"):
        nbchat.usage("dya")


# Budget --------------------------------------------------------------------------------------


def test_a_budget_refuses_before_anything_is_sent():
    """The counted prompt and max_tokens are what it could cost; the error has spent, limit and estimate."""
    session = Session(transport := ScriptedTransport("Hi", **SONNET), notebook="n.ipynb")
    with pytest.raises(BudgetError) as caught:
        session.ask("Hi", budget=0.05, max_tokens=8000)
    error = caught.value
    assert (error.spent, error.limit) == (0.0, 0.05)
    assert error.estimate == pytest.approx(8000 * 15e-6, rel=0.02)
    for said in ("$0.12", "$0.05", "$0.00 is spent", "this notebook today"):
        assert said in error.message
    assert transport.requests == []
    assert session.accounting.ledger.rows() == []
    assert session.ask("Hi", budget=0.05, max_tokens=1000).text == "Hi"


def test_what_was_spent_today_counts_and_other_notebooks_and_days_do_not():
    """c.Nbchat.budget is per notebook and day."""
    config = Nbchat(budget=0.05)
    now = time.time()
    session = Session(ScriptedTransport("Hi", "Hi", **SONNET), config=config, notebook="n.ipynb")
    for at, notebook in ((now - 3 * 86_400, "n.ipynb"), (now, "other.ipynb"), (now, "")):
        session.accounting.ledger.record(Entry(at, "anthropic", "m", notebook=notebook, cost=1.0))
    assert session.ask("Hi", max_tokens=1000)
    session.accounting.ledger.record(Entry(now, "anthropic", "m", notebook="n.ipynb", cost=0.04))
    with pytest.raises(BudgetError) as caught:
        session.ask("Hi", max_tokens=1000)
    assert caught.value.spent == pytest.approx(0.04, abs=0.001)


def test_a_day_ends_at_local_midnight(monkeypatch: pytest.MonkeyPatch):
    """What was spent before midnight is yesterday's."""
    midnight = time.mktime((2026, 11, 22, 0, 0, 0, 0, 0, -1))
    clock = [midnight - 60]
    accounting = Accounting(Nbchat(), notebook="n.ipynb", now=lambda: clock[0])
    endpoint = Session(ScriptedTransport(**SONNET)).endpoints.find(Session().options({}))
    endpoint.name = endpoint.priced_as = "anthropic"
    endpoint.model = "claude-sonnet-4-5"
    accounting.ledger.record(Entry(clock[0], "anthropic", "m", notebook="n.ipynb", cost=1.0))
    with pytest.raises(BudgetError):
        accounting.check_budget(0.5, 10, 100, endpoint)
    clock[0] = midnight + 60
    accounting.check_budget(0.5, 10, 100, endpoint)


def test_replay_is_free_under_any_budget(tmp_path: Path):
    """With nothing left, what is recorded is still answered, and the first that is not is refused."""
    tape = str(tmp_path / "tape.jsonl")
    first = Session(ScriptedTransport("One.", **SONNET))
    first.recording.use_cassette(tape)
    first.ask("a", once=True)
    again = Session(ScriptedTransport(**SONNET), budget=0.0)
    again.recording.use_cassette(tape)
    assert again.ask("a", once=True).replayed
    with pytest.raises(BudgetError):
        again.ask("b", once=True)


def test_each_request_of_a_turn_is_checked():
    """The first round fits the budget and is paid; the second would not: the turn ends before it is sent."""
    long = "x" * 4000
    transport = ScriptedTransport([long, {"tool": "add", "input": {"a": 2, "b": 3}}], "It is 5.", **SONNET)
    session = Session(transport, notebook="n.ipynb")
    with pytest.raises(BudgetError) as caught:
        session.ask("2 + 3?", tools=[add], max_tokens=2000, budget=0.04)
    assert len(transport.requests) == 1
    assert caught.value.spent > 0
    assert kinds(session) == ["tool_round"]
    assert session.last is not None
    assert session.last.cost == pytest.approx(caught.value.spent)


def test_a_budget_that_cannot_be_kept_is_refused():
    """No price, no promise: the error says how to give one."""
    session = Session(transport := ScriptedTransport("Hi", name="my-server", model="my-model"))
    with pytest.raises(BudgetError, match="unknown"):
        session.ask("Hi", budget=5.0)
    assert transport.requests == []
    priced = Session(
        ScriptedTransport("Hi", name="my-server", model="my-model"),
        config=Nbchat(prices={"my-model": {"input": 1, "output": 2}}),
    )
    assert priced.ask("Hi", budget=5.0).cost > 0


# What the notebook keeps ------------------------------------------------------------------------


def test_output_metadata_is_what_the_design_says_and_no_prompt():
    """Response id, model, usage, cost and digest; neither prompt nor answer nor a time."""
    response = Session(ScriptedTransport("An answer.", **SONNET)).ask("A secret question sk-ant-api03-canary")
    about = output_metadata(response)["nbchat"]
    assert about["id"] == response.id
    assert about["model"] == "claude-sonnet-4-5"
    assert about["usage"]["prompt_tokens"] == response.usage.prompt_tokens
    assert about["cost"] == response.cost
    assert about["digest"] == response.digest
    kept = json.dumps(about)
    for canary in ("secret", "canary", "An answer", "duration"):
        assert canary not in kept


@pytest.mark.parametrize(
    "answers",
    [
        ("Plain.",),
        ([{"thinking": "Let me see."}, "Done.\n\n```python\n1\n```\n"],),
        TOOLED,
        ([{"type": "text", "text": "Cited.", "citations": [{"type": "char_location", "cited_text": "é…\ud83d"}]}],),
    ],
    ids=["text", "thinking", "tools", "citations"],
)
def test_save_and_load_are_inverse(tmp_path: Path, answers: tuple[Any, ...]):
    """Everything but the chunks comes back, and the file is JSON that a person can read."""
    session = Session(ScriptedTransport(*answers, **SONNET))
    response = session.ask("Hi", tools=[add])
    path = response.save(tmp_path / "response.json")
    loaded = nbchat.load(str(path))
    assert loaded == response
    assert (loaded.text, loaded.usage, loaded.cost, loaded.messages) == (
        response.text, response.usage, response.cost, response.messages,
    )  # fmt: skip
    assert loaded.tool_calls == response.tool_calls
    assert loaded.code == response.code
    assert "\n " in path.read_text(encoding="utf-8")
    assert nbchat.load(loaded.save(path)) == response


def test_a_partial_answer_can_be_saved_too(tmp_path: Path):
    """What broke off comes back as what it is."""
    with api.serving(api.streaming(list(api.text_events(["some ", "words"]))[:4])) as server:
        session = connected(server)
        with pytest.raises(StreamError) as caught:
            session.ask("Hi")
    loaded = nbchat.load(caught.value.partial.save(tmp_path / "partial.json"))
    assert (loaded.text, loaded.status, bool(loaded)) == ("some words", "incomplete", False)
    assert loaded.usage.estimated


def test_loading_what_is_no_response_says_so(tmp_path: Path):
    """A wrong file is a message, not a traceback through this library."""
    files = {"none.json": None, "broken.json": "{", "other.json": "[1]", "cells.json": '{"cells": []}'}
    for name, text in files.items():
        if text is not None:
            (tmp_path / name).write_text(text)
        with pytest.raises(NbchatError, match=re.escape(name)):
            nbchat.load(tmp_path / name)


def test_the_prompt_is_counted_by_the_endpoint():
    """What the endpoint counts is what the estimate is made of, not the letters; and counting is all that is asked."""
    with api.serving(lambda wire, _: wire.json("200 OK", {"input_tokens": 1_000_000})) as server:
        transport = ClaudeTransport("anthropic", base_url=server.url, api_key="k")
        with pytest.raises(BudgetError) as caught:
            Session(transport).ask("Hi", model="claude-sonnet-4-5", budget=1.0, max_tokens=100)
        assert [request.path.partition("?")[0] for request in server.requests] == ["/v1/messages/count_tokens"]
    assert caught.value.estimate > 3.0
