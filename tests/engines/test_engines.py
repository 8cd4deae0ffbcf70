"""Ray Data and Dask with several workers, one of which is killed, against a local server."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from nbchat import Session
from nbchat.rows.engines import merge
from nbchat.rows.run import ask_each
from nbchat.rows.store import Store
from tests.engines.in_engines import ROWS, SCHEMA
from tests.engines.make_environment import PYTHON, ROOT, make
from tests.support.server import Received, Wire, message, serving


@pytest.fixture(scope="module", autouse=True)
def environment_of_engines() -> None:
    """Make the environment with the engines, which takes a minute the first time."""
    make()


def labelled(wire: Wire, request: Received) -> None:
    if request.method != "POST" or "count_tokens" in request.path:
        wire.json("404 No", {"type": "error", "error": {"type": "not_found_error", "message": "no"}})
        return
    text = str(request.body["messages"][-1]["content"])
    wire.json("200 OK", message([{"type": "text", "text": json.dumps({"label": text.removeprefix("Classify: ")})}]))


@pytest.mark.parametrize("engine", ["dask", "ray", "ray-async"])
def test_an_engine_asks_each_row_once_also_after_a_worker_is_killed(engine, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(tmp_path), "RAY_DEDUP_LOGS": "0"}
    script = Path(__file__).with_name("in_engines.py")
    with serving(labelled) as server:
        done = subprocess.run(
            [PYTHON, script, engine, server.url, tmp_path],
            env=environment, capture_output=True, text=True, timeout=400, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3_000:]
        made = json.loads(done.stdout.strip().splitlines()[-1])
        assert made["columns"] == ["number", "text", *made["each"]]
        assert [row["label"] for row in made["rows"]] == [f"text {number % 50}" for number in range(ROWS)]
        assert not any(row["nbchat_error"] for row in made["rows"])
        assert (tmp_path / "killed").exists() == (engine != "ray-async")
        sent = [request for request in server.requests if request.path.partition("?")[0] == "/v1/messages"]
        # Equal rows of different parts may be asked by two workers at the same time.
        assert 50 <= len(sent) <= 60
        # Ray decides how many asynchronous actors get a part.
        assert len(list((tmp_path / "shards").iterdir())) > (engine != "ray-async")

        # A resume on the driver merges the shards, and sends nothing.
        store = Store(tmp_path / "rows.sqlite")
        session = Session(server.url, model="m")
        before = len(server.requests)
        assert merge(session, tmp_path / "shards", store=store) == 50
        assert merge(session, tmp_path / "shards", store=store) == 0
        # A worker that was killed has not noted what it had in flight.
        assert 50 <= len(session.accounting.run) <= len(sent)
        rows = [{"text": f"text {number}"} for number in range(50)]
        job = ask_each(session, rows, "Classify: {{ text }}", session.options({"schema": SCHEMA}), store=store)
        assert [row["label"] for row in job.frame] == [row["text"] for row in rows]
        assert not [r for r in server.requests[before:] if r.path.partition("?")[0] == "/v1/messages"]
