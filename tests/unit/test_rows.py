"""Runs over rows, answered by scripts: frames in and out, failures as values, what is sent and what is not."""

from __future__ import annotations

import itertools
import sqlite3
from dataclasses import dataclass
from typing import Literal

import pandas
import polars
import pytest

import nbchat
from nbchat import NbchatError, ScriptedTransport, Session
from nbchat.core.errors import (
    AuthError,
    BadRequestError,
    BudgetError,
    CassetteMiss,
    InputError,
    OptionError,
    RateLimitError,
    RefusedError,
    TemplateError,
)
from nbchat.core.request import Request
from nbchat.rows.counts import Counts
from nbchat.rows.frames import read_frame
from nbchat.rows.pace import FIRST_IN_FLIGHT, SPACING, Pace, Rate
from nbchat.rows.plan import Plan, row_options
from nbchat.rows.result import Result
from nbchat.rows.run import ask_each
from nbchat.rows.store import Store

TABLE = {"text": ["a", "b", "a", "c"], "n": [1, 2, 3, 4]}


@dataclass
class Label:
    label: Literal["good", "bad"]
    sure: float


@pytest.fixture
def store() -> Store:
    return Store(":memory:")


def echo(request: Request) -> str:
    return request.messages[-1].text.upper()


def run(data, template="Is {{ text }} good?", *answers, store, session=None, **options):
    session = session or Session(ScriptedTransport(*(answers or (echo,)), repeat=not answers))
    known = {name: options.pop(name) for name in ("rows", "cassette", "fresh", "namespace") if name in options}
    return ask_each(session, data, template, session.options(options), store=store, **known)


def asked(job) -> int:
    return len(job.session.endpoints._fixed.requests)


# Frames ------------------------------------------------------------------------------------------


def dicts(frame):
    """Return the rows of any kind of frame as dicts."""
    if isinstance(frame, pandas.DataFrame):
        return frame.to_dict("records")
    if isinstance(frame, polars.DataFrame):
        return frame.to_dicts()
    if isinstance(frame, dict):
        return [dict(zip(frame, cells, strict=True)) for cells in zip(*frame.values(), strict=True)]
    return list(frame)


@pytest.mark.parametrize(
    ("data", "template", "kind"),
    [
        (pandas.DataFrame(TABLE, index=list("wxyz")), "{{ text }}", pandas.DataFrame),
        (pandas.Series(["a", "b", "a", "c"], name="text", index=[9, 8, 7, 6]), "{{ text }}", pandas.DataFrame),
        (pandas.Series(["a", "b", "a", "c"]), "{{ row }}", pandas.DataFrame),
        (polars.DataFrame(TABLE), "{{ text }}", polars.DataFrame),
        (polars.Series("text", ["a", "b", "a", "c"]), "{{ text }}", polars.DataFrame),
        ([{"text": text} for text in "abac"], "{{ text }}", list),
        ([{"my text": text} for text in "abac"], '{{ row["my text"] }}', list),
        (list("abac"), "{{ row }}", list),
        (tuple("abac"), "{{ row }}", list),
        (TABLE, "{{ text }}", dict),
        (iter([{"text": text} for text in "abac"]), "{{ text }}", None),
        ((text for text in "abac"), "{{ row }}", None),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str | type) else None,
)
def test_every_kind_of_rows_comes_back_as_its_kind(data, template, kind, store):
    job = run(data, template, store=store)
    assert kind is None or isinstance(job.frame, kind)
    rows = dicts(job.frame)
    assert [row["answer"] for row in rows] == ["A", "B", "A", "C"]
    assert [row["nbchat_error"] for row in rows] == [None] * 4 or all(pandas.isna(row["nbchat_error"]) for row in rows)
    assert asked(job) == 3, "equal rows are asked once"
    assert dicts(job.failed) == []
    assert list(getattr(job.failed, "columns", ())) == list(getattr(job.frame, "columns", ()))
    assert len(job.frame if not isinstance(job.frame, dict) else rows) == 4
    if hasattr(data, "index") and not isinstance(data, list | tuple):
        assert list(job.frame.index) == list(data.index)


@pytest.mark.parametrize(
    "value", ["text", b"bytes", 5, None, {"a": 1}, {"a": [1], "b": [1, 2]}, polars.LazyFrame(TABLE)]
)
def test_what_has_no_rows_is_refused(value):
    with pytest.raises(InputError) as failure:
        read_frame(value)
    assert failure.value.hint


def test_no_rows_is_an_error(store):
    with pytest.raises(InputError, match="no rows"):
        run([], store=store)


def test_the_template_sees_the_row_the_columns_and_the_notebook_and_nothing_of_the_row_before(store):
    data = [{"a": 1, "b": 2}, {"a": 3}, {"a": 5, "b": 6}]
    template = "{{ a + base }} {{ [a for _ in range(2)] }} {{ row.get('b') }} {{ b if 'b' in row else b }}"
    job = run(data, template, store=store, namespace={"base": 10, "b": "outside"})
    texts = [row["answer"] for row in job.frame]
    assert texts == ["11 [1, 1] 2 2", "13 [3, 3] NONE OUTSIDE", "15 [5, 5] 6 6"]


def test_the_template_sees_the_index_by_its_names(store):
    index = pandas.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["id", "n"])
    table = pandas.DataFrame({"text": ["x", "y"], "n": [8, 9]}, index=index)
    job = run(table, "{{ id }} {{ n }} {{ text }}", store=store)
    assert job.frame["answer"].tolist() == ["A 8 X", "B 9 Y"], "a column wins over the index"
    assert job.frame.index.equals(index)
    assert list(job.frame.columns) == ["text", "n", "answer", "nbchat_error", "nbchat_cost"]


@pytest.mark.parametrize("name", [5, ("a", "b"), 2.5])
def test_a_whole_row_knows_columns_whose_names_are_not_texts(name, store):
    job = run(pandas.DataFrame({name: ["x"]}), f"{{{{ row[{name!r}] }}}} {{{{ row[{str(name)!r}] }}}}", store=store)
    assert job.frame.iloc[0, 1] == "X X"
    assert job.frame.columns.nlevels == (2 if isinstance(name, tuple) else 1)


@pytest.mark.parametrize(
    ("data", "template", "hint"),
    [
        ([{"my text": 1}], "{{ my text }}", "row['my text']"),
        ([{"unit-price": 1}], "{{ unit-price }}", "row['unit-price']"),
        ([{"class": 1}], "{{ class }}", "row['class']"),
        ([{"2024": 1}], "{{ 2024x }} {{ 2024 }}", "braces"),
        (["a", "b"], "{{ text }}", "{{ row }} is the value"),
        ([{"subject": 1, "body": 2}], "{{ zzz }}", "subject, body"),
        ([{"subject": 1}], "{{ row['zzz'] }}", "the column subject"),
        ([{"len": 1, "body": "a"}], "{{ len(body) }}", "hides"),
        ([{"subject": 1}], "{{ subjekt }}", "subject"),
        (pandas.DataFrame({f"column {n}": [n] for n in range(20)}), "{{ zzz }}", "and 8 more"),
    ],
)
def test_a_template_that_fits_no_row_gets_a_hint_that_knows_the_columns(data, template, hint, store):
    session = Session(ScriptedTransport())
    with pytest.raises(TemplateError) as failure:
        run(data, template, store=store, session=session)
    assert hint in failure.value.hint
    assert not session.endpoints._fixed.requests


@pytest.mark.parametrize("missing", [None, float("nan"), pandas.NaT, pandas.NA], ids=repr)
def test_a_row_without_any_value_is_not_sent(missing, store):
    job = run([{"a": missing, "b": 1}, {"a": "x", "b": 1}], "Is {{ a }} good?", store=store)
    assert asked(job) == 1
    assert [bool(row["nbchat_error"]) for row in job.frame] == [True, False]
    assert "has no value for {{ a }}" in job.frame[0]["nbchat_error"]
    both = run([{"a": missing, "b": 1}], "Is {{ a }} of {{ b }} good?", store=store)
    assert both.frame[0]["answer"], "a row with a part of its values is a row"


def test_columns_without_values_have_their_types(store):
    def fails(request: Request) -> str:
        return "not JSON" if "x" in request.messages[-1].text else '{"label": "good", "sure": 1}'

    for kind in (pandas.DataFrame, polars.DataFrame):
        job = run(kind({"text": ["x", "y"]}), "{{ text }}", fails, fails, store=store, schema=Label, fresh=True)
        assert job.counts.failed == 1
        if kind is polars.DataFrame:
            assert job.failed.schema == job.frame.schema
            assert polars.concat([job.frame, job.failed]).height == 3
        else:
            assert job.failed["nbchat_cost"].dtype == job.frame["nbchat_cost"].dtype == "float64"
            assert job.failed["sure"].dtype == "float64"


def test_a_structured_array_has_columns(store):
    numpy = pytest.importorskip("numpy")
    data = numpy.array([(1, "a"), (2, "b")], dtype=[("n", int), ("text", "U5")])
    assert [row["answer"] for row in run(data, "{{ text }}{{ n }}", store=store).frame] == ["A1", "B2"]


def test_an_image_in_a_row_is_content(store):
    pillow = pytest.importorskip("PIL.Image")
    rows = [{"name": name, "picture": pillow.new("RGB", (4, 4), name)} for name in ("red", "blue", "red")]
    job = run(rows, "What is {{ picture }}?", store=store)
    requests = job.session.endpoints._fixed.requests
    assert [block.type for block in requests[0].messages[-1].content] == ["text", "image", "text"]
    assert len(requests) == 2


def test_a_schema_gives_a_column_for_each_field(store):
    answers = ('{"label": "good", "sure": 0.9}', '{"label": "bad", "sure": 1}', '{"label": "good", "sure": 0.5}')
    job = run(pandas.DataFrame(TABLE), "{{ text }}", *answers, store=store, schema=Label)
    assert list(job.frame.columns) == ["text", "n", "label", "sure", "nbchat_error", "nbchat_cost"]
    assert job.frame["label"].tolist() == ["good", "bad", "good", "good"]


def test_a_column_that_the_answer_would_replace_is_refused(store):
    session = Session(ScriptedTransport())
    for options, column in (({}, "answer"), ({"schema": Label}, "label")):
        with pytest.raises(InputError, match=column):
            run([{column: 1}], "{{ row }}", store=store, session=session, **options)
    assert not session.endpoints._fixed.requests


# Failures ----------------------------------------------------------------------------------------


def test_a_failure_is_a_value_in_its_row_and_resume_asks_it_again(store):
    first = ("good", ["no", {"stop_reason": "refusal"}], ["half", {"stop_reason": "max_tokens"}])
    job = run(list("abc"), "{{ row }}", *first, store=store)
    rows = job.frame
    assert job.status == "complete"
    assert [bool(row["nbchat_error"]) for row in rows] == [False, True, True]
    assert rows[1]["nbchat_error"].count("\n") == 1, "the two lines of the error"
    assert [row["row"] for row in job.failed] == ["b", "c"]
    job.session = Session(ScriptedTransport("second", "third"))
    assert [row["answer"] for row in job.resume().frame] == ["good", "second", "third"]
    assert asked(job) == 2
    assert job.failed == []


def test_a_row_that_the_template_does_not_fit_fails_alone(store):
    job = run([{"n": 1}, {"n": 0}, {"n": 2}], "{{ 10 / n }}", store=store)
    assert [row["answer"] for row in job.frame] == ["10.0", None, "5.0"]
    assert "division by zero" in job.frame[1]["nbchat_error"]
    assert asked(job) == 2


@pytest.mark.parametrize(
    ("failure", "sent"),
    [
        (AuthError("no", status=401, type="authentication_error"), 1),
        (BadRequestError("no such model", status=404, type="not_found_error"), 1),
        (BadRequestError("the schema is refused", status=400, type="invalid_request_error"), 3),
    ],
)
def test_what_every_row_would_hit_stops_the_run(failure, sent, store):
    session = Session(ScriptedTransport(failure, repeat=True))
    with pytest.raises(type(failure)) as stopped:
        run([str(number) for number in range(500)], "{{ row }}", store=store, session=session)
    assert len(session.endpoints._fixed.requests) <= sent + FIRST_IN_FLIGHT, "what was in flight already"
    job = stopped.value.job
    assert job is session.last_job
    assert job.status == "stopped"
    assert len(job.frame) == 500
    assert all(row["nbchat_error"] for row in job.frame)


def test_a_typo_in_the_template_is_one_error(store):
    session = Session(ScriptedTransport())
    with pytest.raises(TemplateError, match="txet") as failure:
        run([{"text": "a"}], "{{ txet }}", store=store, session=session)
    assert "text" in failure.value.hint
    assert not session.endpoints._fixed.requests


@pytest.mark.parametrize(
    "options",
    [
        {"tools": ["f"]},
        {"run": True},
        {"approve": "always"},
        {"chat": "pets"},
        {"upload": True},
        {"code_execution": True},
        {"trim": True},
        {"go_on": True},
    ],
)
def test_what_rows_cannot_do_is_refused_before_anything_is_sent(options, store):
    session = Session(ScriptedTransport())
    with pytest.raises(OptionError, match=next(iter(options))):
        run(["a"], "{{ row }}", store=store, session=session, **options)
    assert not session.endpoints._fixed.requests


def test_marked_tools_of_the_notebook_are_not_sent(store):
    @nbchat.tool
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    job = run(["a"], "{{ row }}", store=store, namespace={"add": add})
    assert job.session.endpoints._fixed.requests[0].tools == ()


def test_the_options_of_rows_are_refused_elsewhere():
    for name in ("rpm", "tpm", "concurrency", "rows"):
        with pytest.raises(OptionError, match=name):
            Session(ScriptedTransport("Hi")).ask("Hi", **{name: 5})
    with pytest.raises(OptionError, match="each"):
        Session(ScriptedTransport("Hi")).ask("Hi", each="df")


# The store ---------------------------------------------------------------------------------------


def test_the_same_call_pays_for_nothing_twice(store):
    job = run(pandas.DataFrame(TABLE), store=store)
    again = run(pandas.DataFrame(TABLE), store=store)
    assert asked(job) == 3
    assert asked(again) == 0
    pandas.testing.assert_frame_equal(job.frame, again.frame)
    more = run(["a", "b", "d"], "Is {{ row }} good?", store=store)
    assert asked(more) == 1, "another frame with the same prompts"
    assert asked(run(["a"], "Is {{ row }} good?", store=store, fresh=True)) == 1


def test_the_digests_of_rows_are_those_of_the_same_cells(store):
    for options in ({}, {"schema": Label}, {"system": "Be brief."}, {"max_tokens": 50, "stop": "x"}):
        session = Session(ScriptedTransport())
        rows = [{"text": text} for text in ("a", 'é "quoted" \\ \n', "\ud83d half", "")]
        plan = Plan(session, "T: {{ text }}", row_options(session.options(options)), rows)
        for row in rows:
            planned = plan.row(row)
            cell = session.prepare("T: {{ text }}", session.options({**options, "once": True}), namespace=row)
            assert planned.digest == cell.request.digest == plan.request(planned).digest


def test_a_failure_does_not_replace_an_answer(store):
    digest = "ab" * 32
    store.add([Result(digest, "good")])
    store.add([Result.failed(digest, RefusedError("no"))])
    assert store.find([digest])[digest].text == "good"
    store.forget([digest])
    assert store.find([digest]) == {}


def test_a_file_that_is_no_store_is_warned_of_and_the_run_goes_on(tmp_path):
    path = tmp_path / "rows.sqlite"
    path.write_bytes(b"not a database, and long enough to be read as one" * 100)
    told: list[str] = []
    job = run(["a"], "{{ row }}", store=Store(path, warn=told.append))
    assert [row["answer"] for row in job.frame] == ["A"]
    assert len(told) == 1
    assert "kept in memory" in told[0]


def test_the_store_can_be_read_by_its_owner_only(tmp_path):
    path = tmp_path / "rows.sqlite"
    Store(path).add([Result("ab" * 32, "x")])
    assert path.stat().st_mode & 0o077 == 0
    assert sqlite3.connect(path).execute("SELECT count(*) FROM results").fetchone() == (1,)


def test_an_iterator_is_read_lazily_and_resumed_where_it_stopped(store):
    read = itertools.count()

    def rows():
        for number in range(3_000):
            next(read)
            yield {"text": str(number % 500)}

    failing = [AuthError("revoked", status=401)]
    session = Session(ScriptedTransport(*(["yes"] * 40), *failing))
    with pytest.raises(AuthError) as stopped:
        run(rows(), "{{ text }}", store=store, session=session, concurrency=1)
    job = stopped.value.job
    assert next(read) < 3_000, "the iterator is not read to its end"
    job.session = Session(ScriptedTransport("no", repeat=True))
    job.resume()
    answers = [row["answer"] for row in job.frame]
    assert len(answers) == 3_000
    assert answers[:500].count("yes") == 40
    assert asked(job) == 460


def test_a_fault_in_an_iterator_stops_the_run_and_keeps_what_came(store):
    def rows():
        for number in range(300):
            yield str(number)
        raise ValueError("the file ends here")

    session = Session(ScriptedTransport(echo, repeat=True))
    with pytest.raises(ValueError, match="ends here"):
        run(rows(), "{{ row }}", store=store, session=session)
    job = session.last_job
    assert job.status == "stopped"
    assert len(list(job.frame)) >= 250


def test_a_cassette_records_and_replays_bit_for_bit(tmp_path, store):
    path = str(tmp_path / "rows.cassette.jsonl")
    answers = ("x", "y", ["z", {"stop_reason": "max_tokens"}])
    first = run(pandas.DataFrame(TABLE), "{{ text }}", *answers, store=store, cassette=path)
    replay = run(pandas.DataFrame(TABLE), store=Store(":memory:"), template="{{ text }}", cassette=path)
    assert asked(replay) == 0
    pandas.testing.assert_frame_equal(first.frame, replay.frame)
    assert replay.counts.summary(replay.status) == first.counts.summary(first.status)


def test_answers_of_the_store_go_into_a_cassette_without_being_asked_again(tmp_path, store):
    path = str(tmp_path / "rows.cassette.jsonl")
    first = run(list("abc"), "{{ row }}", store=store)
    second = run(list("abc"), "{{ row }}", store=store, cassette=path)
    assert asked(second) == 0
    third = run(list("abc"), "{{ row }}", store=Store(":memory:"), cassette=path)
    assert asked(third) == 0
    assert third.frame == second.frame == first.frame


def test_a_miss_of_a_replay_stops_the_run(tmp_path, store):
    path = str(tmp_path / "rows.cassette.jsonl")
    run(["a"], "{{ row }}", store=store, cassette=path)
    session = Session(ScriptedTransport("b"))
    session.config.cassette_mode = "replay"
    with pytest.raises(CassetteMiss):
        run(["a", "b"], "{{ row }}", store=Store(":memory:"), session=session, cassette=path)
    assert not session.endpoints._fixed.requests
    assert session.last_job.status == "stopped"


# Cost --------------------------------------------------------------------------------------------


def priced(*answers, **more) -> Session:
    session = Session(ScriptedTransport(*answers, name="paid", model="m", **more))
    session.config.prices = {"m": {"input": 1.0, "output": 1_000.0}}  # a dollar for a thousand tokens of answers
    return session


def test_a_budget_is_never_exceeded_and_the_run_goes_on_when_it_is_raised(store):
    usage = {"usage": {"input_tokens": 1, "output_tokens": 100}}  # $0.10 each
    session = priced(['{"label": "good", "sure": 1}', usage], repeat=True)
    data = [str(number) for number in range(15)]  # a guess of 48 tokens for each: the run is begun
    options = {"schema": Label, "max_tokens": 100, "concurrency": 8}
    with pytest.raises(BudgetError) as stopped:
        run(data, "{{ row }}", store=store, session=session, budget=1.0, **options)
    job = stopped.value.job
    assert 0.85 <= job.cost <= 1.0
    assert session.accounting.spent_today().known <= 1.0
    assert job.counts.done == len(session.endpoints._fixed.requests)
    again = run(data, "{{ row }}", store=store, session=session, budget=9.0, **options)
    assert again.counts.replayed == job.counts.done
    assert len(session.endpoints._fixed.requests) == 15


def test_a_run_that_likely_costs_more_than_the_budget_is_not_begun(store):
    session = priced("x", repeat=True)
    with pytest.raises(BudgetError, match="likely"):
        run([str(number) for number in range(1_000)], "{{ row }}", store=store, session=session, budget=1.0)
    assert not session.endpoints._fixed.requests


def test_a_dry_run_sends_nothing_and_says_what_a_run_would_cost(store):
    session = priced("x", repeat=True)
    made = run(pandas.DataFrame(TABLE), store=store, session=session, dry_run=True, max_tokens=1_000)
    assert not session.endpoints._fixed.requests
    assert (made.rows, made.distinct, made.finished) == (4, 3, 0)
    assert 0 < made.likely < made.most
    assert made.most == pytest.approx(3.0, rel=0.01)
    assert made.request["messages"][0]["content"] == "Is a good?"
    assert "likely" in str(made)


def test_a_dry_run_counts_what_the_cassette_has(store, tmp_path):
    file = str(tmp_path / "rows.cassette.jsonl")
    run(list("ab"), "{{ row }}", store=store, cassette=file)
    made = run(list("abc"), "{{ row }}", store=Store(":memory:"), cassette=file, dry_run=True)
    assert (made.distinct, made.finished) == (3, 2)
    assert 0 < made.tokens < 20


def test_what_a_cassette_answered_is_told_apart_from_what_was_sent(store, tmp_path):
    file = str(tmp_path / "rows.cassette.jsonl")
    usage = {"usage": {"input_tokens": 7, "output_tokens": 3}}
    sent = run(list("ab"), "{{ row }}", store=store, session=priced(["x", usage], repeat=True), cassette=file)
    again = run(list("ab"), "{{ row }}", store=Store(":memory:"), session=priced(), cassette=file)
    assert sent.counts.models == again.counts.models == {"m"}
    assert (sent.usage.total_tokens, sent.counts.replayed_usage.total_tokens) == (20, 0)
    assert (again.usage.total_tokens, again.counts.replayed_usage.total_tokens) == (0, 20)


def test_a_sample_says_what_all_rows_would_cost(store):
    usage = {"usage": {"input_tokens": 1, "output_tokens": 100}}
    job = run([str(number) for number in range(100)], "{{ row }}", store=store, rows=10,
              session=priced(["x", usage], repeat=True))  # fmt: skip
    assert len(job.frame) == 10
    assert job.estimate.measured
    assert job.estimate.likely == pytest.approx(9.0, rel=0.05)  # 90 rows are left


def test_a_sample_of_an_iterator_says_what_a_thousand_rows_would_cost(store):
    """Half of the rows are equal, so half as many requests are sent. That the sample is paid for says nothing."""
    usage = {"usage": {"input_tokens": 1, "output_tokens": 100}}
    rows = (str(number // 2) for number in itertools.count())
    job = run(rows, "{{ row }}", store=store, rows=10, session=priced(["x", usage], repeat=True))
    assert len(job.frame) == 10
    assert (job.estimate.rows, job.estimate.distinct, job.estimate.finished) == (1_000, 500, 0)
    assert job.estimate.measured
    assert job.estimate.likely == pytest.approx(50.0, rel=0.05)


@pytest.mark.parametrize("rows", [0, -3, True, "20", 2.5])
def test_a_sample_has_at_least_one_row(rows, store):
    session = Session(ScriptedTransport())
    with pytest.raises(OptionError, match="rows="):
        run(["a", "b", "c", "d"], "{{ row }}", store=store, session=session, rows=rows)
    assert not session.endpoints._fixed.requests


def test_an_estimate_is_what_the_service_counts(store):
    """The arithmetic by hand: 80 requests of 37 and 11 tokens at 3 and 15 dollars a million."""
    usage = {"usage": {"input_tokens": 37, "output_tokens": 11}}
    data = [f"row {number % 80}" for number in range(100)]

    def ask(**options):
        session = Session(ScriptedTransport(["ok", usage], repeat=True))
        session.config.prices = {"scripted": {"input": 3.0, "output": 15.0}}
        return run(data, "{{ row }}", store=store, session=session, max_tokens=1_000, **options)

    one, longest = (37 * 3 + 11 * 15) / 1e6, (37 * 3 + 1_000 * 15) / 1e6
    dry = ask(dry_run=True)
    assert dry.likely == pytest.approx(dry.tokens * 3e-6 + 80 * dry.answer_tokens * 15e-6, rel=0.01)
    assert dry.most == pytest.approx(dry.tokens * 3e-6 + 80 * 1_000 * 15e-6, rel=0.01)
    for _ in range(2):  # the second time, the store answers
        sample = ask(rows=20)
        assert sample.estimate.measured
        assert sample.estimate.likely == pytest.approx(80 * one)
        assert sample.estimate.most == pytest.approx(80 * longest)
    whole = ask()
    assert whole.cost == pytest.approx(60 * one)
    assert sum(row["nbchat_cost"] for row in whole.frame) == pytest.approx(80 * one)


def test_every_request_has_a_row_in_the_ledger(store):
    job = run(list("abc"), "{{ row }}", "x", RateLimitError("slow", retry_after=0.01), "y", "z", store=store)
    kinds = sorted(entry.kind for entry in job.session.accounting.run)
    assert kinds == ["answer", "answer", "answer", "retry"]


def test_the_cost_of_equal_rows_is_counted_once(store):
    usage = {"usage": {"input_tokens": 1_000, "output_tokens": 10}}
    job = run(list("aab"), "{{ row }}", store=store, session=priced(["x", usage], repeat=True))
    assert [row["nbchat_cost"] for row in job.frame] == [pytest.approx(0.011), 0.0, pytest.approx(0.011)]
    assert job.cost == pytest.approx(0.022)


# Caching -----------------------------------------------------------------------------------------


def test_what_all_rows_share_is_marked_once_if_it_is_long_enough(store):
    guide = "Read the guide. " * 400  # about 1,600 tokens
    for template, system in (("G: " + guide + "{{ row }}", None), ("{{ row }} {{ row }}", guide)):
        session = Session(ScriptedTransport(echo, repeat=True))
        options = {"system": system} if system else {}
        run(["a", "b", "c"], template, store=store, session=session, **options)
        bodies = [request.body() for request in session.endpoints._fixed.requests]
        marks = [str(body).count("'cache_control'") for body in bodies]
        assert marks == [1, 1, 1]
        assert "cache_control" not in bodies[0], "no mark at the top level: it would write an entry for each row"
        shared = bodies[0]["system"][0] if system else bodies[0]["messages"][0]["content"][0]
        assert shared["cache_control"] == {"type": "ephemeral"}
        assert not system or shared["text"] == guide
    short = Session(ScriptedTransport(echo, repeat=True))
    run(["a", "b"], "Short: {{ row }}", store=store, session=short)
    assert "cache_control" not in str(short.endpoints._fixed.requests[0].body())


def test_a_cache_mark_does_not_change_the_digest():
    request = Request("m", (nbchat.core.messages.Message.of("user", "shared text and a row"),), 10)
    from dataclasses import replace

    marked = replace(request, shared=(0, 11))
    assert marked.digest == request.digest
    first, rest = marked.body()["messages"][0]["content"]
    assert (first["text"], rest["text"]) == ("shared text", " and a row")


# The pace ----------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("per_minute", [1, 7, 60, 1_000])
def test_a_rate_is_never_exceeded_in_any_minute(per_minute):
    rate, now, used = Rate(per_minute, 0.0), 0.0, []
    for _ in range(per_minute * 3):
        now += rate.wait_s(1, now) + 1e-9
        rate.use(1, now)
        used.append(now)
    for start in used:
        assert sum(start <= at < start + 60 for at in used) <= per_minute
    assert used[-1] < 3 * 60 * 2.1, "and it is used"


def test_a_pace_grows_with_answers_and_with_time_and_halves_once_for_one_refusal():
    clock = Clock()
    pace = Pace(1_000, clock=clock)
    assert pace.limit == FIRST_IN_FLIGHT
    for _ in range(FIRST_IN_FLIGHT):
        pace.start(10)
    assert pace.wait_s(10) > 0
    clock.now = 0.3
    assert pace.wait_s(10) == 0
    assert pace.limit == 2 * FIRST_IN_FLIGHT
    began = clock.now
    for _ in range(5):
        pace.refuse(began - 0.1, 2.0)
    assert pace.limit == FIRST_IN_FLIGHT
    assert pace.wait_s(10) == pytest.approx(2.0)
    clock.now += 2.0
    assert pace.in_flight == FIRST_IN_FLIGHT


def test_requests_start_evenly_over_the_time_of_an_answer():
    """Answers that come together are not asked again together."""
    clock = Clock()
    pace = Pace(FIRST_IN_FLIGHT, clock=clock)
    for _ in range(FIRST_IN_FLIGHT):
        assert pace.wait_s(1) == 0, "before the first answer nothing is known"
        pace.start(1)
    clock.now += 3.2
    for _ in range(FIRST_IN_FLIGHT):
        pace.end(1, (1, 1), took_s=3.2)
    starts = []
    while pace.in_flight < FIRST_IN_FLIGHT:
        clock.now += pace.wait_s(1)
        starts.append(clock.now)
        pace.start(1)
    gaps = [later - earlier for earlier, later in itertools.pairwise(starts)]
    assert max(gaps) == pytest.approx(SPACING * 3.2 / FIRST_IN_FLIGHT)
    assert gaps.count(0.0) < 6, "some late starts are made up for"


def test_after_a_refusal_without_a_time_one_request_asks_if_the_service_is_back():
    clock = Clock()
    pace = Pace(64, clock=clock)
    pauses = []
    for _ in range(4):
        pauses.append(pace.refuse(clock.now, None))
        clock.now += pauses[-1]
        assert pace.limit == 1
    assert pauses == sorted(pauses)
    pace.start(1)
    pace.end(1, (1, 1))
    assert pace.limit > 1


def test_a_limit_that_is_used_up_holds_the_next_request_back():
    from datetime import UTC, datetime, timedelta

    pace = Pace(4, clock=lambda: 0.0)
    reset = (datetime.now(UTC) + timedelta(seconds=50)).isoformat()
    pace.note({"anthropic-ratelimit-requests-remaining": "0", "anthropic-ratelimit-requests-reset": reset})
    assert 30 < pace.wait_s(1) <= 50
    pace.note({"anthropic-ratelimit-requests-remaining": "0", "anthropic-ratelimit-requests-reset": "tomorrow"})


def test_a_summary_has_no_times_and_no_costs():
    counts = Counts(rows=3, read=3, distinct=3, done=2, failed=1, cost=1.5, sent=3, paused_s=9.0)
    assert counts.summary("complete") == "3 rows: 2 of 3 answered, 1 failed"


# The asynchronous twin ---------------------------------------------------------------------------


def test_aask_records_the_turn_and_raises_what_ask_raises():
    import asyncio

    session = Session(ScriptedTransport("Hello!", ["no", {"stop_reason": "refusal"}]))
    assert asyncio.run(session.aask("Hi")).text == "Hello!"
    assert len(session.conversation("main")) == 1
    with pytest.raises(RefusedError):
        asyncio.run(session.aask("Hi again"))
    with pytest.raises(NbchatError):
        asyncio.run(session.aask("Hi", bogus=1))


def test_aask_runs_tools():
    import asyncio

    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    session = Session(ScriptedTransport({"tool": "add", "input": {"a": 1, "b": 2}}, "It is 3."))
    response = asyncio.run(session.aask("1 + 2?", tools=[add]))
    assert response.text.endswith("It is 3.")
