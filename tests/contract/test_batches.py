"""Runs through the Message Batches API, against a local server that does what the documentation says."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas
import pytest

from nbchat import NbchatError, ScriptedTransport, Session
from nbchat.core.errors import AuthError, BadRequestError, BudgetError, InputError, OptionError, RateLimitError
from nbchat.rows import batches as sending
from nbchat.rows import collecting
from nbchat.rows.attach import attach, batches
from nbchat.rows.run import ask_each
from nbchat.rows.store import Store
from nbchat.transports.claude import ClaudeTransport
from tests.support.batches import BatchesApi, errored, fail, shouted
from tests.support.server import Server, serving

KEY = "sk-ant-api03-" + "k" * 40
NUMBERS = [f"row {number} \u2028 \x85 é" for number in range(40)]


@dataclass
class Label:
    label: Literal["good", "bad"]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(collecting, "FIRST_POLL_S", 0.01)
    monkeypatch.setattr(collecting, "LONGEST_POLL_S", 0.05)
    monkeypatch.setattr("nbchat.rows.run.TICK_S", 0.01)
    monkeypatch.setattr("nbchat.rows.attach.TICK_S", 0.01)


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "rows.sqlite")


def session_of(url: str) -> Session:
    transport = ClaudeTransport("mine", base_url=url, api_key=KEY, idle_timeout=5.0, sleep=lambda seconds: None)
    session = Session(transport, model="m")
    session.config.prices = {"m": {"input": 1.0, "output": 1_000.0}, "test-model": {"input": 1.0, "output": 1_000.0}}
    return session


def run(server: Server, data, template="{{ row }}", *, store, session=None, **options):
    session = session or session_of(server.url)
    known = {name: options.pop(name) for name in ("rows", "cassette", "fresh", "waits") if name in options}
    return ask_each(session, data, template, session.options({"via": "batches", **options}), store=store, **known)


def answers(job) -> list[object]:
    return [row["answer"] for row in job.frame]


def created(server: Server) -> list[int]:
    """Return the sizes of the batches that were sent."""
    return [
        len(request.body["requests"])
        for request in server.requests
        if request.method == "POST" and request.path == "/v1/messages/batches"
    ]


def test_results_in_any_order_find_their_rows_and_cost_half(store, capsys):
    with serving(BatchesApi()) as server:
        job = run(server, [*NUMBERS, NUMBERS[0]], store=store)
        again = run(server, NUMBERS, store=store)
    assert job.status == "complete"
    assert answers(job) == [text.upper() for text in [*NUMBERS, NUMBERS[0]]]
    assert created(server) == [40], "equal rows are sent once, and finished ones never again"
    assert answers(again) == answers(job)[:40]
    half = (10 * 1.0 + 5 * 1_000.0) / 1e6 / 2
    assert job.cost == pytest.approx(40 * half)
    entries = [entry for entry in job.session.accounting.run if entry.kind == "answer"]
    assert [entry.cost for entry in entries] == [pytest.approx(half)] * 40
    assert {entry.usage.service_tier for entry in entries} == {"batch"}
    assert len({entry.digest for entry in entries}) == 40
    told = capsys.readouterr().err
    assert "29 days" in told
    assert "spend limit" in told
    assert all(request.headers["host"] in server.url for request in server.requests)


def test_a_gateway_that_leaves_the_tier_out_is_booked_at_half_the_price(store):
    def untiered(params):
        outcome = shouted(params)
        del outcome["message"]["usage"]["service_tier"]
        return outcome

    with serving(BatchesApi(untiered)) as server:
        assert run(server, ["a"], store=store).cost == pytest.approx((10 + 5_000) / 2e6)


def test_a_run_is_split_by_the_limits(store, monkeypatch):
    monkeypatch.setattr(sending, "MOST_REQUESTS", 7)
    with serving(BatchesApi()) as server:
        job = run(server, NUMBERS, store=store)
    assert created(server) == [7, 7, 7, 7, 7, 5]
    assert answers(job) == [text.upper() for text in NUMBERS]
    monkeypatch.setattr(sending, "MOST_BYTES", 3_000)
    with serving(BatchesApi()) as server:
        run(server, [text * 10 for text in NUMBERS], store=store)
    sizes = [len(r.raw) for r in server.requests if r.method == "POST"]
    assert len(sizes) > 3
    assert max(sizes) < 3_100


def test_typed_answers_and_frames(store):
    def labelled(params):
        outcome = shouted(params)
        good = "GOOD" in outcome["message"]["content"][0]["text"]
        outcome["message"]["content"][0]["text"] = f'{{"label": "{"good" if good else "odd"}"}}'
        return outcome

    table = pandas.DataFrame({"text": ["good", "no"]}, index=["x", "y"])
    with serving(BatchesApi(labelled)) as server:
        job = run(server, table, "{{ text }}", store=store, schema=Label)
        assert job.frame["label"].tolist()[0] == "good"
        assert list(job.frame.index) == ["x", "y"]
        assert "does not fit" in job.frame["nbchat_error"].iloc[1]
        (batch,) = batches(store)
        attached = attach(session_of(server.url), batch.service_id, store=store)
        assert next(iter(attached.frame))["label"] == "good"


@pytest.mark.parametrize(
    "kind", ["api_error", "overloaded_error", "timeout_error", "rate_limit_error", "expired", "new"]
)
def test_only_what_expired_or_failed_on_the_services_side_is_sent_again(kind, store):
    tries: dict[str, int] = {}

    def flaky(params):
        text = params["messages"][-1]["content"]
        tries[text] = tries.get(text, 0) + 1
        if text == "invalid":
            return errored("invalid_request_error", f"key {KEY} was used")
        if text == "flaky" and tries[text] == 1:
            return {"type": "expired"} if kind == "expired" else errored(kind)
        return shouted(params)

    with serving(BatchesApi(flaky)) as server:
        job = run(server, ["fine", "flaky", "invalid"], store=store)
        assert created(server) == [3, 1]
        assert answers(job) == ["FINE", "FLAKY", None]
        assert "invalid_request_error" in job.frame[2]["nbchat_error"]
        assert KEY not in str(job.frame)
        assert job.counts.summary(job.status) == "3 rows: 2 of 3 answered, 1 failed"
        job.resume()
        assert created(server) == [3, 1, 1], "resume asks the failed one again"


def test_what_the_service_never_answers_fails_in_its_row(store):
    with serving(BatchesApi(lambda params: {"type": "expired"})) as server:
        job = run(server, ["a", "b"], store=store)
    assert created(server) == [2, 2, 2]
    assert all("3 batches" in row["nbchat_error"] for row in job.frame)
    assert job.cost == 0
    assert {entry.cost for entry in job.session.accounting.run} == {0.0}


@pytest.mark.parametrize(
    "outcome",
    [
        {"type": "succeeded", "message": {"content": "no list"}},
        {"type": "succeeded"},
        {"type": "errored", "error": "text"},
        {"type": "errored"},
        {"type": "something new"},
        None,
        {"type": "succeeded", "message": {"content": [], "stop_reason": "end_turn", "role": "assistant"}},
        {"type": "succeeded", "message": {"content": [{"type": "text", "text": "x"}], "stop_reason": "pause_turn"}},
    ],
)
def test_odd_outcomes_are_failures_of_their_rows(outcome, store):
    def odd(params):
        return outcome if params["messages"][-1]["content"] == "odd" else shouted(params)

    with serving(BatchesApi(odd)) as server:
        try:
            job = run(server, ["odd", "b"], store=store)
        except NbchatError as failure:
            job = failure.job
    assert answers(job)[1] == "B"
    assert job.frame[0]["nbchat_error"]


def test_a_new_batch_may_be_unknown_for_seconds(store):
    with serving(BatchesApi(unknown_s=0.3)) as server:
        job = run(server, ["a"], store=store)
    assert answers(job) == ["A"]
    assert created(server) == [1]


def test_a_refused_creation_is_an_error_and_leaves_nothing(store):
    def refuse(status, kind):
        return BatchesApi(before_create=lambda wire, request: fail(wire, status, kind, f"key {KEY}") is None)

    for status, kind, error, tries in (
        (401, "authentication_error", AuthError, 1),
        (400, "invalid_request_error", BadRequestError, 1),
        (413, "request_too_large", BadRequestError, 1),
        (429, "rate_limit_error", RateLimitError, 3),
    ):
        with serving(refuse(status, kind)) as server, pytest.raises(error) as failure:
            run(server, ["a"], store=store)
        assert KEY not in str(failure.value)
        assert failure.value.job.status == "stopped"
        assert len(created(server)) == tries
    assert {record.state for record in batches(store)} == {"lost"}
    with serving(BatchesApi()) as server:
        assert answers(run(server, ["a"], store=store)) == ["A"]


def test_an_answer_that_was_lost_on_the_way_is_not_paid_twice(store):
    def lose(wire, request):
        wire.reset()
        return True

    with serving(BatchesApi(after_create=lose)) as server:
        job = run(server, ["a", "b"], store=store)
    assert answers(job) == ["A", "B"]
    assert created(server) == [2]


def test_a_failure_that_leaves_it_open_and_made_no_batch_is_sent_again(store, monkeypatch):
    monkeypatch.setattr(collecting, "UNKNOWN_S", 0.3)
    times: list[float] = []

    def broken(wire, request):
        times.append(time.monotonic())
        if len(times) == 1:
            fail(wire, 500, "api_error", "no")
        return len(times) == 1

    with serving(BatchesApi(before_create=broken)) as server:
        job = run(server, ["a", "b"], store=store)
    assert answers(job) == ["A", "B"]
    assert created(server) == [2, 2]
    # The client's clock begins before the server's.
    assert times[1] - times[0] > 0.2, "the list was asked until the batch could no longer appear"


def killed_while_creating(url: str, path: str) -> None:
    session = session_of(url)
    ask_each(session, ["a", "b", "c"], "{{ row }}", session.options({"via": "batches"}), store=Store(path))


def test_a_kernel_killed_between_the_intent_and_the_answer_does_not_pay_twice(store, tmp_path):
    process = None

    def kill(wire, request):
        if len(api.batches) == 2:
            os.kill(process.pid, signal.SIGKILL)
            return True
        return False

    api = BatchesApi(after_create=kill, ends=False)
    with serving(api) as server:
        # Somebody else's batch of the same size, which was created a moment before.
        run(server, ["x", "y", "z"], store=Store(":memory:"), waits=False)
        process = multiprocessing.get_context("spawn").Process(
            target=killed_while_creating, args=(server.url, str(tmp_path / "rows.sqlite"))
        )
        process.start()
        process.join(20)
        assert process.exitcode == -signal.SIGKILL
        (record,) = batches(store)
        assert record.service_id == ""
        assert "not confirmed" in str(record)
        api.ends = True
        job = run(server, ["a", "b", "c"], store=store)
    assert answers(job) == ["A", "B", "C"]
    assert created(server) == [3, 3], "one of each"
    assert batches(store)[0].service_id == "msgbatch_2"
    assert batches(store)[0].not_ours == ("msgbatch_1",)


def test_a_restarted_kernel_lists_attaches_and_goes_on(store, tmp_path):
    api = BatchesApi(ends=False)
    with serving(api) as server:
        job = run(server, ["a", "b"], store=store, waits=False)
        assert job.status == "waiting"
        assert "works on its batch" in job.frame[0]["nbchat_error"]
        later = Store(tmp_path / "rows.sqlite")
        (record,) = batches(later)
        assert (record.service_id, record.state, record.requests) == ("msgbatch_1", "open", 2)
        attached = attach(session_of(server.url), "msgbatch_1", store=later, waits=False)
        assert attached.status == "waiting"
        api.ends = True
        attached.resume()
        assert attached.status == "complete"
        assert [(row["row"], row["answer"]) for row in attached.frame] == [("a", "A"), ("b", "B")]
        assert attached.cost == pytest.approx(2 * 5_010 / 2e6)
        booked = list(attached.session.accounting.run)
        assert len(booked) == 2
        assert answers(run(server, ["a", "b", "c"], store=later)) == ["A", "B", "C"]
        assert answers(job.resume()) == ["A", "B"]
        assert created(server) == [2, 1]
    with pytest.raises(InputError, match="no batch"):
        attach(session_of(server.url), "msgbatch_9", store=later)


def test_a_batch_at_another_endpoint_is_not_waited_for(store):
    with serving(BatchesApi(ends=False)) as one, serving(BatchesApi()) as two:
        assert run(one, ["a"], store=store, waits=False).status == "waiting"
        session = Session(two.url, model="m")
        assert answers(run(two, ["a"], store=store, session=session)) == ["A"]
        assert [record.state for record in batches(store)] == ["ended", "open"]


def test_an_interrupt_leaves_the_batch_and_the_same_call_waits_for_it(store):
    api = BatchesApi(ends=False)
    with serving(api) as server:
        session = session_of(server.url)
        threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            run(server, ["a", "b"], store=store, session=session)
        assert session.last_job.status == "waiting"
        api.ends = True
        assert answers(run(server, ["a", "b"], store=store)) == ["A", "B"]
    assert created(server) == [2]


def test_a_cancelled_batch_keeps_what_was_answered(store):
    api = BatchesApi(ends=False)
    with serving(api) as server:
        job = run(server, ["a", "b", "c"], store=store, waits=False)
        job.cancel()
        assert job.status == "interrupted"
        assert answers(job) == ["A", None, None]
        assert "cancelled" in job.frame[1]["nbchat_error"]
        api.ends = True
        assert answers(job.resume()) == ["A", "B", "C"]
    assert created(server) == [3, 2]


def test_a_budget_holds_over_batches_and_restarts(store):
    # At most $0.05 a row at half the price, and $0.0025 in truth.
    options = {"max_tokens": 100, "budget": 0.2, "schema": Label}

    def labelled(params):
        outcome = shouted(params)
        outcome["message"]["content"][0]["text"] = '{"label": "good"}'
        return outcome

    api = BatchesApi(labelled, ends=False)
    with serving(api) as server:
        session = session_of(server.url)
        session.accounting.notebook = "budget"
        job = run(server, [str(n) for n in range(6)], store=store, session=session, waits=False, **options)
        assert created(server) == [3], "a fourth could exceed the budget together with these"
        other = session_of(server.url)
        other.accounting.notebook = "budget"
        with pytest.raises(BudgetError):
            run(server, ["x", "y"], store=store, session=other, waits=False, **options)
        assert created(server) == [3]
        api.ends = True
        job.resume()
        assert job.status == "complete"
        assert created(server) == [3, 3]
        assert session.accounting.spent_today().known <= 0.2


def test_an_estimate_is_half(store):
    with serving(BatchesApi()) as server:
        full = ask_each(s := session_of(server.url), ["a", "b"], "{{ row }}", s.options({"dry_run": True}), store=store)
        half = run(server, ["a", "b"], store=store, dry_run=True)
    assert half.likely == pytest.approx(full.likely / 2)
    assert half.most == pytest.approx(full.most / 2)
    assert created(server) == []


def test_a_cassette_records_a_batch_and_replays_it_without_a_network(store, tmp_path):
    path = str(tmp_path / "rows.cassette.jsonl")

    def cut(params):
        outcome = shouted(params)
        if params["messages"][-1]["content"] == "b":
            outcome["message"]["stop_reason"] = "max_tokens"
        return outcome

    with serving(BatchesApi(cut)) as server:
        job = run(server, ["a", "b", "a"], store=store, cassette=path)
        assert created(server) == [2]
        assert job.counts.summary(job.status) == "3 rows: 1 of 2 distinct requests answered, 1 failed"
    offline = session_of("http://127.0.0.1:1")
    offline.config.cassette_mode = "replay"
    replay = run(server, ["a", "b", "a"], store=Store(":memory:"), session=offline, cassette=path)
    assert replay.frame == job.frame
    assert replay.counts.summary(replay.status) == job.counts.summary(job.status)


@pytest.mark.parametrize(
    "options", [{"retry": True}, {"rpm": 5}, {"concurrency": 5}, {"web_search": True}, {"tools": ["f"]}]
)
def test_options_that_batches_cannot_obey_are_refused(options, store):
    with serving(BatchesApi()) as server, pytest.raises(OptionError, match=next(iter(options))):
        run(server, ["a"], store=store, **options)
    assert not server.requests


def test_an_endpoint_without_batches_is_refused(store):
    session = Session(ScriptedTransport("x"))
    with pytest.raises(InputError, match="Message Batches"):
        ask_each(session, ["a"], "{{ row }}", session.options({"via": "batches"}), store=store)
    assert not session.endpoints._fixed.requests
    with pytest.raises(OptionError, match="via"):
        session.ask("Hi", via="batches")
    with pytest.raises(OptionError, match="wait"):
        ask_each(session, ["a"], "{{ row }}", session.options({}), store=store, waits=False)


def test_the_embedded_model_has_no_batches(store):
    """Its server speaks the Messages API, and answers the path of batches with a 404."""
    session = Session()
    with pytest.raises(InputError, match="'local' has no Message Batches API, so nothing was sent"):
        ask_each(session, ["a"], "{{ row }}", session.options({"via": "batches", "endpoint": "local"}), store=store)


def test_a_shared_beginning_is_kept_for_an_hour(store):
    system = "Be brief. " * 3_000
    with serving(BatchesApi()) as server:
        run(server, ["a"] * 2 + ["b"], "Classify: {{ row }}", store=store, system=system)
    body = next(request.body for request in server.requests if request.path == "/v1/messages/batches")
    marks = re.findall(r'"ttl": ?"(\w+)"', json.dumps(body))
    assert set(marks) == {"1h"}
    assert len(marks) == 2


def test_a_disk_that_cannot_be_written_stops_before_anything_is_sent(tmp_path):
    class Full(Store):
        def write_safely(self, work):
            self._path = ":memory:"
            self.close()

    with serving(BatchesApi()) as server, pytest.raises(InputError, match="noted on disk"):
        run(server, ["a"], store=Full(Path(tmp_path) / "rows.sqlite"))
    assert created(server) == []


class Slow(BatchesApi):
    """Sends the results in small pieces, with pauses, and may break off."""

    breaks_at = -1

    def _results(self, wire, batch):
        lines = [{"custom_id": id, "result": outcome} for id, outcome in batch.outcomes.items()]
        wire.head(content_type="application/x-jsonl")
        for place, line in enumerate(lines):
            if place == self.breaks_at:
                self.breaks_at = -1
                wire.reset()
                return
            wire.send(json.dumps(line).encode() + b"\n")
            time.sleep(0.05)
        wire.end()


def test_results_that_take_longer_than_any_pause_may_arrive(store, monkeypatch):
    monkeypatch.setattr("nbchat.transports.claude.batches.RESULTS_TIMEOUT_S", 0.5)
    with serving(Slow()) as server:
        job = run(server, NUMBERS, store=store)  # two seconds
    assert job.status == "complete"
    assert all(answers(job))


@pytest.mark.parametrize("breaks_at", [0, 5])
def test_results_that_break_off_are_read_on(breaks_at, store, monkeypatch):
    monkeypatch.setattr(collecting, "_TOGETHER", 1)
    api = Slow()
    api.breaks_at = breaks_at
    with serving(api) as server:
        if breaks_at:
            job = run(server, NUMBERS, store=store)
        else:
            with pytest.raises(NbchatError, match="broke off"):
                run(server, NUMBERS, store=store)
            job = run(server, NUMBERS, store=store)
        assert created(server) == [len(NUMBERS)]
    assert all(answers(job))
    assert len(job.session.accounting.run) == len(NUMBERS)
