"""The object for engines: what it refuses, that it travels, and what its shards keep."""

from __future__ import annotations

import pickle
import time
from dataclasses import dataclass

import numpy
import pandas
import polars
import pytest

import nbchat
from nbchat import ScriptedTransport, Session
from nbchat.core.errors import AuthError, InputError, OptionError
from nbchat.rows import engines
from nbchat.rows.engines import Each, merge
from nbchat.rows.result import Result
from nbchat.rows.shards import ShardedStore, read_shards
from nbchat.rows.store import Store
from nbchat.rows.worker import Worker

TABLE = {"text": ["a", "b", "a"]}


@dataclass
class Label:
    label: str


@pytest.fixture
def worker(monkeypatch):
    """Let this process be a worker whose endpoint is a script."""

    def use(*answers, **more) -> Session:
        session = Session(ScriptedTransport(*answers, **more))
        of_process = (session, {}, Worker())
        monkeypatch.setattr(engines, "_of_process", lambda: of_process)
        return session

    return use


def upper(request) -> str:
    return request.messages[-1].text.upper()


@pytest.mark.parametrize(
    "part",
    [
        pandas.DataFrame(TABLE, index=[7, 8, 9]),
        polars.DataFrame(TABLE),
        TABLE,
        {"text": numpy.array(TABLE["text"])},
    ],
    ids=lambda part: type(part).__module__,
)
def test_a_part_of_any_kind_gets_the_columns(part, worker):
    session = worker(upper, repeat=True)
    each = pickle.loads(pickle.dumps(Each("{{ text }}")))
    done = each(part)
    assert list(done["answer"]) == ["A", "B", "A"]
    names = list(done) if isinstance(done, dict) else list(done.columns)
    assert names == ["text", *each.columns]
    assert len(session.endpoints._fixed.requests) == 2
    if isinstance(part, pandas.DataFrame):
        assert list(done.index) == [7, 8, 9]


def test_the_columns_of_an_empty_part_have_the_types_of_a_full_one(worker):
    worker('{"label": "good"}', repeat=True)
    each = Each("{{ text }}", {"schema": Label})
    table = pandas.DataFrame(TABLE)
    meta, done = each.meta(table), each(table)
    assert list(meta.columns) == list(done.columns)
    own = ["nbchat_error", "nbchat_cost", "nbchat_input_tokens", "nbchat_output_tokens"]
    assert [meta[name].dtype for name in own] == [done[name].dtype for name in own]


@pytest.mark.parametrize(
    "options", [{"budget": 1.0}, {"via": "batches"}, {"tools": ["f"]}, {"rows": 3}, {"modle": "m"}]
)
def test_what_workers_cannot_do_is_refused_where_the_object_is_made(options):
    with pytest.raises(OptionError, match=next(iter(options))):
        Each("{{ text }}", options)


@pytest.mark.parametrize("share", [0, -1, 1.5, 8])
def test_a_share_is_a_part(share):
    with pytest.raises(OptionError, match="share"):
        Each("{{ text }}", share=share)


def test_a_share_divides_the_limits_and_the_settings_of_the_notebook_travel():
    session = Session(ScriptedTransport(), system="Be brief.", model="m")
    each = Each("{{ text }}", {"rpm": 100, "tpm": 3}, share=1 / 8, session=session)
    assert (each.options["concurrency"], each.options["rpm"], each.options["tpm"]) == (8, 12, 1)
    assert (each.options["system"], each.options["model"]) == ("Be brief.", "m")


def test_names_of_the_notebook_are_given(worker):
    worker(upper, repeat=True)
    each = Each("{{ rules }}: {{ text }}", names={"rules": "r"})
    assert each(pandas.DataFrame(TABLE))["answer"].tolist() == ["R: A", "R: B", "R: A"]


def test_an_error_that_every_row_would_hit_can_travel_to_the_driver(worker):
    worker(AuthError("no", "fix it", status=401, type="authentication_error"), repeat=True)
    with pytest.raises(AuthError) as failure:
        Each("{{ text }}")(pandas.DataFrame(TABLE))
    travelled = pickle.loads(pickle.dumps(failure.value))
    assert str(travelled) == str(failure.value)


def test_a_part_that_is_done_again_pays_for_nothing_twice(worker, tmp_path):
    each = Each("{{ text }}", shards=tmp_path / "shards")
    worker(upper, repeat=True)
    first = each(pandas.DataFrame(TABLE))
    # Another worker, after the first one was killed while it wrote.
    (shard,) = (tmp_path / "shards").iterdir()
    with open(shard, "a") as file:
        file.write('{"digest": "ab')
    other = worker(upper, repeat=True)
    again = each(pandas.DataFrame({"text": ["a", "b", "c"]}))
    assert again["answer"].tolist() == ["A", "B", "C"]
    assert len(other.endpoints._fixed.requests) == 1
    assert first["answer"].tolist() == ["A", "B", "A"]

    store, session = Store(":memory:"), Session(ScriptedTransport())
    assert merge(session, tmp_path / "shards", store=store) == 3
    assert merge(session, tmp_path / "shards", store=store) == 0
    assert len(session.accounting.run) == 3
    booked = session.accounting.run[0]
    assert booked.endpoint == "scripted"
    assert abs(booked.at - time.time()) < 60, "when the answer came, not when the shards were merged"
    with pytest.raises(InputError, match="no folder"):
        merge(session, tmp_path / "nowhere")


def test_a_store_of_shards_reads_on_where_it_stopped(tmp_path):
    one, two = ShardedStore(tmp_path), ShardedStore(tmp_path)
    for number in range(3):
        one.add([Result(f"{number:064x}", f"text \u2028 {number}", message={"a": number})])
        two.refresh()
        assert two.find([f"{number:064x}"])[f"{number:064x}"].text == f"text \u2028 {number}"
    shards = list(read_shards(tmp_path))
    assert [result.message for shard in shards for result in shard.results] == [{"a": number} for number in range(3)]


def test_the_public_names_are_there():
    assert nbchat.each("{{ text }}").columns[0] == "answer"
