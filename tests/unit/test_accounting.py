"""Tests of replays, costs, budgets, the ledger, and the files that a session writes."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import nbchat
from nbchat import Response, ScriptedTransport, Session
from nbchat.config import Nbchat
from nbchat.core.chunks import Notice, OutputText, StreamChunk
from nbchat.core.entries import Entry
from nbchat.core.errors import (
    AuthError,
    BadRequestError,
    BudgetError,
    CassetteMiss,
    ConnectionFailed,
    InputError,
    NbchatError,
    OptionError,
    OverloadedError,
    StreamError,
)
from nbchat.core.request import Request
from nbchat.core.usage import Usage
from nbchat.engine.accounting import Accounting
from nbchat.engine.current_session import use_session
from nbchat.models import DEFAULT_MODEL
from nbchat.transports.claude import ClaudeTransport
from nbchat.view.final import output_metadata
from nbchat.view.usage import run_line, run_table
from tests.support import server as api

#: A model that costs 3 and 15 dollars per million tokens.
SONNET = {"name": "anthropic", "model": "claude-sonnet-4-5"}


class Lines:
    """A sink that keeps the status lines."""

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
    """Ask each prompt in a cell of its own. Return each answer with its status lines."""
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
def test_run_all_replays_unchanged_cells_and_sends_changed_ones(tmp_path: Path, stream: bool):
    """After a restart, two unchanged cells are replayed and the changed cell is sent. The status line says which."""
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


def test_a_changed_cell_changes_later_requests_of_its_conversation(tmp_path: Path):
    """A request contains its history, so the turns after a changed turn are sent again."""
    tape = str(tmp_path / "tape.jsonl")
    first = Session(ScriptedTransport("1", "2", "3"))
    first.recording.use_cassette(tape)
    run(first, "a", "b", "c")
    again = Session(ScriptedTransport("2, new", "3, new"))
    again.recording.use_cassette(tape)
    after = run(again, "a", "b, changed", "c")
    assert [response.replayed for response, _ in after] == [True, False, False]


def test_usage_run_says_what_the_run_cost_and_what_replay_saved(tmp_path: Path):
    """The total counts a replayed answer as free, and as saving the cost of the original request."""
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


def test_a_run_counts_unknown_prices_failures_and_interrupts_separately():
    """An unknown price is not counted as 0, and a failed request is not counted as an answer."""
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
    lost = [Entry(**known, kind="failed", status="ConnectionFailed", cost=cost) for cost in (None, 0.5, 0.0)]
    assert run_line(lost) == "This run: 3 requests failed, for $0.5000 and 1 unknown amount"
    plain = run_table(entries)["text/plain"]
    assert len(plain.splitlines()) == 3 + 6
    for said in ("interrupted", "failed, tried again: overloaded_error", "failed: api_error", "unknown"):
        assert said in plain
    assert run_line([]) == "This run: nothing was asked yet"
    assert "<script" not in run_table([Entry(**known | {"model": "<script>"})])["text/html"]


def test_the_environment_variable_overrides_the_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """NBCHAT_CASSETTE_MODE overrides the notebook's mode.

    In replay a missing recording is an error, and nothing is sent.
    """
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
    assert kinds(again) == ["replayed"], "a request that was not sent has no row"


def test_a_tool_turn_replays_round_by_round(tmp_path: Path):
    """Each request of a turn has a row, when it is sent and when it is replayed.

    A turn of replayed answers is replayed.
    """
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
    """A refused attempt and the successful attempt are two rows."""
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
    """Each failed attempt has a row, also if all attempts fail."""
    busy = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    with api.serving(lambda wire, _: wire.json("529 Overloaded", busy)) as server:
        session = connected(server)
        with pytest.raises(OverloadedError):
            session.ask("Hi")
        assert len(server.requests) == 3
    assert [row.kind for row in session.accounting.ledger.rows()] == ["retry", "retry", "failed"]


def test_a_partial_answer_has_counted_input_and_estimated_output():
    """The API counted the input of a partial answer. The output is estimated from the text that arrived."""
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


def test_an_interrupted_answer_has_a_row_with_its_tokens():
    """The text before an interrupt was paid for, so the row contains its tokens."""

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
    assert (row.usage.input_tokens, row.usage.output_tokens) == (10, 3)  # "0 1 2 3 4 5 ": 12 characters
    assert session.last is not None
    assert session.last.usage == row.usage


def rows_after(
    raised: type[BaseException], *answers: Any, words: Sequence[str] = ()
) -> list[tuple[str, str, float | None]]:
    """Ask a server that answers like this, and return the kind, the status and the cost of each row."""
    with api.serving(*answers) as server:
        session = connected(server)
        session.config.prices = {DEFAULT_MODEL: {"input": 5, "output": 25}}
        with pytest.raises(raised):
            session.ask("Hi", sinks=[InterruptedBy(*words)])
    assert session.last is not None
    # A refused request is known to cost nothing. The others have an unknown cost.
    assert session.last.cost == (0.0 if raised is BadRequestError else None)
    return [(row.kind, row.status, row.cost) for row in session.accounting.run]


class InterruptedBy:
    """A sink that interrupts the turn at a text or a notice that contains one of these words."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def begin(self, request) -> None:
        pass

    def feed(self, chunk: StreamChunk) -> None:
        text = chunk.text if isinstance(chunk, OutputText | Notice) else ""
        if any(word in text for word in self.words):
            raise KeyboardInterrupt

    def settle(self, response: Response) -> None:
        pass


def without_usage(wire: api.Wire, _: api.Received) -> None:
    """Begin an answer whose endpoint reports no tokens."""
    wire.head()
    wire.event({"type": "message_start", "message": {"id": "msg_1", "model": DEFAULT_MODEL, "content": []}})
    wire.event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
    wire.event({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "stop"}})


def test_what_was_sent_and_ended_before_its_usage_has_an_unknown_cost():
    """An interrupt and a lost connection before the first number cost an unknown amount, and never 0."""

    def press(wire: api.Wire, _: api.Received) -> None:
        # A signal between the last check of Python and its wait for the socket is seen only with the next one.
        os.kill(os.getpid(), signal.SIGINT)
        if not wire.gone(within=5):
            os.kill(os.getpid(), signal.SIGINT)
            wire.gone(within=10)

    assert rows_after(KeyboardInterrupt, press) == [("interrupted", "interrupted", None)]
    assert rows_after(KeyboardInterrupt, without_usage, words=["stop"]) == [("interrupted", "interrupted", None)]
    assert rows_after(StreamError, lambda wire, _: (without_usage(wire, _), wire.reset())) == [
        ("failed", "StreamError", None)
    ]
    lost = [("retry", "ConnectionFailed", None)] * 2 + [("failed", "ConnectionFailed", None)]
    assert rows_after(ConnectionFailed, lambda wire, _: wire.reset()) == lost


def test_what_was_refused_costs_nothing_and_what_was_never_connected_has_no_row():
    """The endpoint's own error is known to cost nothing. Nothing goes to an address where nobody listens."""
    refused = {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}
    assert rows_after(BadRequestError, lambda wire, _: wire.json("400 Bad Request", refused)) == [
        ("failed", "invalid_request_error", 0.0)
    ]
    session = Session(ClaudeTransport("test", base_url="http://127.0.0.1:9", sleep=lambda _: None))
    with pytest.raises(ConnectionFailed):
        session.ask("Hi")
    assert list(session.accounting.run) == []


def test_an_interrupt_in_the_countdown_is_not_a_request():
    """While a retry waits, nothing is under way, so only the failed attempt has a row."""
    busy = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    busy_for_a_second = lambda wire, _: wire.json("529 Overloaded", busy, retry_after="1")  # noqa: E731
    assert rows_after(KeyboardInterrupt, busy_for_a_second, words=["in 1 s"]) == [("retry", "overloaded_error", 0.0)]


def test_an_unknown_price_is_none_everywhere():
    """An unknown price is None in the Response and in the row, and never 0. A user's own server has no known price."""
    session = Session(ScriptedTransport("Hi", name="my-server", model="my-model"))
    assert session.ask("Hi").cost is None
    (row,) = session.accounting.ledger.rows()
    assert row.cost is None
    assert "unknown" in run_line(session.accounting.run)


def test_a_ledger_that_cannot_be_written_warns_once_and_breaks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Two cells cause one warning and still get their answers."""
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    session = Session(ScriptedTransport("1", "2"))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert [session.ask("a").text, session.ask("b").text] == ["1", "2"]
    assert len([warning for warning in warned if "ledger" in str(warning.message)]) == 1
    assert len(session.accounting.run) == 2


# nbchat.usage() ------------------------------------------------------------------------------


def test_usage_returns_a_data_frame(tmp_path: Path):
    """The frame has a row for each request. ``by`` adds up the rows, and a period selects them."""
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
    """The estimate consists of the counted prompt and ``max_tokens``.

    The error has the spent amount and the limit too.
    """
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


def test_the_budget_counts_this_notebook_today_only():
    """``c.Nbchat.budget`` applies to one notebook and one day."""
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
    """Costs before local midnight do not count for the next day."""
    midnight = time.mktime((2026, 11, 22, 0, 0, 0, 0, 0, -1))
    clock = [midnight - 60]
    accounting = Accounting(Nbchat(), notebook="n.ipynb", now=lambda: clock[0])
    endpoint = Session(ScriptedTransport(**SONNET)).endpoints.find(Session().options({}))
    endpoint.name = endpoint.priced_as = "anthropic"
    endpoint.model = "claude-sonnet-4-5"
    accounting.ledger.record(Entry(clock[0], "anthropic", "m", notebook="n.ipynb", cost=1.0))
    request = Request(endpoint.model, (), 100)
    with pytest.raises(BudgetError):
        accounting.check_budget(0.5, 10, request, endpoint)
    clock[0] = midnight + 60
    accounting.check_budget(0.5, 10, request, endpoint)


def test_replay_is_free_under_any_budget(tmp_path: Path):
    """A recorded answer is replayed even if the budget is 0. A request without a recording is refused."""
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
    """The first round fits the budget and is sent. The second would exceed the budget, so it is not sent."""
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


def test_a_budget_without_a_known_price_is_refused():
    """A budget needs a known price. The error explains how to set the price."""
    session = Session(transport := ScriptedTransport("Hi", name="my-server", model="my-model"))
    with pytest.raises(BudgetError, match="unknown"):
        session.ask("Hi", budget=5.0)
    assert transport.requests == []
    priced = Session(
        ScriptedTransport("Hi", name="my-server", model="my-model"),
        config=Nbchat(prices={"my-model": {"input": 1, "output": 2}}),
    )
    assert priced.ask("Hi", budget=5.0).cost > 0


# Metadata and saved answers ---------------------------------------------------------------------


def test_output_metadata_has_no_prompt_and_no_answer():
    """The metadata has the id, model, usage, cost and digest of the Response, but no prompt, no answer and no time."""
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
    """A loaded Response equals the saved one, except for its chunks. The file is readable JSON."""
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
    """A loaded partial answer is still incomplete, and its usage is still estimated."""
    with api.serving(api.streaming(list(api.text_events(["some ", "words"]))[:4])) as server:
        session = connected(server)
        with pytest.raises(StreamError) as caught:
            session.ask("Hi")
    loaded = nbchat.load(caught.value.partial.save(tmp_path / "partial.json"))
    assert (loaded.text, loaded.status, bool(loaded)) == ("some words", "incomplete", False)
    assert loaded.usage.estimated


def test_a_file_that_is_not_a_response_is_named(tmp_path: Path):
    """The error names the file that could not be loaded."""
    files = {"none.json": None, "broken.json": "{", "other.json": "[1]", "cells.json": '{"cells": []}'}
    for name, text in files.items():
        if text is not None:
            (tmp_path / name).write_text(text)
        with pytest.raises(NbchatError, match=re.escape(name)):
            nbchat.load(tmp_path / name)


def test_the_endpoint_counts_the_prompt():
    """The estimate uses the endpoint's token count and not the number of characters. Only the count is requested."""
    with api.serving(lambda wire, _: wire.json("200 OK", {"input_tokens": 1_000_000})) as server:
        transport = ClaudeTransport("anthropic", base_url=server.url, api_key="k")
        with pytest.raises(BudgetError) as caught:
            Session(transport).ask("Hi", model="claude-sonnet-4-5", budget=1.0, max_tokens=100)
        assert [request.path.partition("?")[0] for request in server.requests] == ["/v1/messages/count_tokens"]
    assert caught.value.estimate > 3.0


def test_a_clock_that_is_set_back_changes_no_duration():
    """The time of day may jump by an hour, for example after a correction from the network."""
    times = itertools.chain([1_790_003_600.0] * 2, itertools.repeat(1_790_000_003.0))
    session = Session(ScriptedTransport("Fine."))
    session.accounting._now = lambda: next(times)
    response = session.ask("Hi")
    assert 0 < session.accounting.run[-1].duration < 600
    assert response.duration >= 0


def test_a_request_that_was_not_sent_has_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Neither without credentials, nor with a damaged cassette, nor in a replay."""
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    session = Session(ScriptedTransport("Fine."))
    with pytest.raises(AuthError):
        session.ask("Hi", endpoint="anthropic")
    session.recording.use_cassette(str(tmp_path / "tape.jsonl"))
    session.ask("Hi", once=True)
    text = (tmp_path / "tape.jsonl").read_text()
    (tmp_path / "tape.jsonl").write_text(text.replace('"events":[', '"events":[5,'))
    with pytest.raises(InputError, match=r"line 2 of the cassette .* is damaged: the field events\[0\]"):
        session.ask("Hi", once=True)
    assert kinds(session) == ["answer"]


def test_without_a_home_folder_a_question_is_answered_and_each_file_warns_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A container may run as a user without one."""
    import platformdirs

    def fail(*names: object, **options: object) -> str:
        raise RuntimeError("Could not determine home directory.")

    for name in ("user_data_dir", "user_state_dir", "user_log_path"):
        monkeypatch.setattr(platformdirs, name, fail)
    monkeypatch.setattr(Path, "home", fail)
    monkeypatch.chdir(tmp_path)
    session = Session(ScriptedTransport(*["Fine. " * 4] * 3, delay=0.2), config=Nbchat({}))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            assert session.ask("Hi").text.startswith("Fine.")
    messages = [str(warning.message) for warning in caught]
    assert len([message for message in messages if "usage ledger" in message]) == 1
    assert len([message for message in messages if "the journal" in message]) == 1
    assert list(tmp_path.iterdir()) == []
    session.recording.use_cassette("tape.jsonl")
    assert session.ask("Hi again").text.startswith("Fine.")


# Prices that depend on the endpoint and on the cache -----------------------------------------

MILLION = {"input_tokens": 1_000_000, "output_tokens": 0}


@pytest.mark.parametrize(
    ("name", "model", "region", "dollars"),
    [
        ("vertex", "claude-opus-5-5", "europe-west1", 4.4),
        ("vertex", "claude-opus-5-5", "us", 4.4),
        ("vertex", "claude-opus-5-5", "global", 4.0),
        ("vertex", "claude-opus-5-5", "", 4.0),
        ("bedrock", "global.anthropic.claude-opus-5-5", "", 4.0),
        ("bedrock", "us.anthropic.claude-opus-5-5", "", 4.4),
        ("anthropic", "claude-opus-5-5", "europe-west1", 4.0),  # a variable of another platform
    ],
)
def test_a_turn_costs_the_price_of_its_region(
    name: str, model: str, region: str, dollars: float, monkeypatch: pytest.MonkeyPatch
):
    """Row, Response, estimate and status agree. The answer names the model without its region."""
    monkeypatch.setenv("CLOUD_ML_REGION", region)
    answer = ["Hi.", {"usage": MILLION, "model": "claude-opus-5-5"}]
    session = Session(ScriptedTransport(answer, name=name, model=model))
    response = session.ask("Hi", once=True)
    assert response.cost == pytest.approx(dollars)
    assert [entry.cost for entry in session.accounting.run] == [pytest.approx(dollars)]
    prepared = session.prepare("Hi", session.options({"once": True, "max_tokens": 1}))
    estimate = session.accounting.estimate(1_000_000, prepared.request, prepared.endpoint, answer=0)
    assert estimate == pytest.approx(dollars)


def test_an_estimate_has_the_price_of_what_is_sent():
    """The cache, the speed and the place of inference of the request."""
    session = Session(ScriptedTransport(name="anthropic", model="claude-opus-5-5"))

    def estimated(**given: Any) -> float | None:
        prepared = session.prepare("Hi", session.options(given))
        return session.accounting.estimate(1_000_000, prepared.request, prepared.endpoint, answer=0)

    assert estimated(once=True) == pytest.approx(4)
    assert estimated() == pytest.approx(5)
    assert estimated(cache="1h") == pytest.approx(8)
    assert estimated(cache="off") == pytest.approx(4)
    assert estimated(once=True, param='speed="fast"') == pytest.approx(8)
    assert estimated(once=True, param='inference_geo="us"') == pytest.approx(4.4)
    assert estimated(once=True, param='inference_geo="moon"') is None


def test_a_price_that_the_user_sets_for_the_name_in_the_request_holds():
    """The answer may name the model with a date. The message of a BudgetError names the model of the request."""
    config = Nbchat()
    config.prices = {"mine": {"input": 1, "output": 1}}
    answer = ["Hi.", {"usage": MILLION, "model": "mine-20260901"}]
    session = Session(ScriptedTransport(answer, name="gateway", model="mine"), config=config)
    assert session.ask("Hi").cost == pytest.approx(1)


def test_a_row_has_what_the_cache_saved():
    """Writing for five minutes costs a quarter more, for an hour twice as much, and reading a tenth."""
    written = {"cache_creation_input_tokens": 1_000_000}
    hour = {**written, "cache_creation": {"ephemeral_1h_input_tokens": 1_000_000}}
    read = {"cache_read_input_tokens": 1_000_000}
    answers = [["Hi.", {"usage": {"output_tokens": 0, "input_tokens": 0, **usage}}] for usage in (written, hour, read)]
    session = Session(ScriptedTransport(*answers, "Hi.", name="anthropic", model="claude-opus-4-8"))
    run(session, "a", "b", "c", "d")
    rows = list(session.accounting.run)
    assert [row.usage.cache_creation_1h_input_tokens for row in rows] == [0, 1_000_000, 0, 0]
    assert [row.cache_saved for row in rows] == [pytest.approx(-1.25), pytest.approx(-5), pytest.approx(4.5), None]
    assert [total.cache_saved for total in session.accounting.ledger.totals(())] == [pytest.approx(-1.75)]
    unknown = Session(ScriptedTransport(answers[0], name="gateway", model="m"))
    run(unknown, "a")
    assert [row.cache_saved for row in unknown.accounting.run] == [None]


def test_a_question_that_stands_alone_is_not_written_to_the_cache():
    """A question in a tool is never read again, and neither is one with ``--once``. A turn with tools is."""
    transport = ScriptedTransport("One.", "Two.", *TOOLED, *TOOLED)
    session = Session(transport)

    def ask_again(a: int, b: int) -> str:
        """Ask."""
        return session.ask("Inside").text

    session.ask("a")
    session.ask("b", once=True)
    session.ask("c", once=True, tools=[add])
    ask_again.__name__ = "add"
    transport._answers = (*transport._answers[:4], TOOLED[0], "Inside.", TOOLED[1])
    session.ask("d", once=True, tools=[ask_again])
    marks = [request.cache_ttl for request in transport.requests]
    assert marks == ["5m", None, "5m", "5m", "5m", None, "5m"]


def test_every_iteration_of_a_request_is_booked():
    """Compaction is not a part of the top-level counts, and it is billed. A pause after it is not the end."""
    counted = {"input_tokens": 1_000_000, "output_tokens": 0}
    usage = {**counted, "iterations": [{"type": "compaction", **counted}, {"type": "message", **counted}]}
    session = Session(
        ScriptedTransport(
            ["", {"usage": usage, "stop_reason": "compaction"}],
            ["Done.", {"usage": MILLION}],
            name="anthropic",
            model="claude-opus-5-5",
        )
    )
    response = session.ask("Hi")
    assert (response.text, response.status) == ("Done.", "complete")
    assert [(entry.kind, entry.usage.input_tokens, entry.cost) for entry in session.accounting.run] == [
        ("tool_round", 2_000_000, pytest.approx(8)),
        ("answer", 1_000_000, pytest.approx(4)),
    ]
    assert response.cost == pytest.approx(12)
    assert response.usage.input_tokens == 3_000_000


def test_a_request_for_a_summary_ends_with_the_summary():
    """With the field ``compaction`` the stop reason ``compaction`` is the end, and not a pause."""
    transport = ScriptedTransport(["", {"stop_reason": "compaction"}], "Not asked for.")
    Session(transport).ask("Hi", param='compaction={"type": "summarize"}')
    assert len(transport.requests) == 1
