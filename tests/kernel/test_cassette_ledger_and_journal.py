"""Tests of saved data in a real kernel: replays after a restart, costs, a budget, and recovery after kill -9."""

from __future__ import annotations

import csv
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.harness import TIMEOUT_S, Kernel, kernel_of
from tests.support.server import Received, Server, Wire, serving, streaming, text_events

PAUSE = 0.05  # seconds between two events of the slow answer


def answer(wire: Wire, request: Received) -> None:
    """Repeat the last prompt, slowly enough that the live view appears."""
    asked = request.body["messages"][-1]["content"]
    asked = asked if isinstance(asked, str) else asked[-1]["text"]
    streaming(text_events([f"{word} " for word in f"You said: {asked.strip()}".split()]), PAUSE)(wire, request)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(answer) as server:
        yield server


def kernel_at(server: Server, home: Path, **more: str):
    prices = json.dumps({"test-model": {"input": 1000, "output": 1000}, "asked": {"input": 1000, "output": 1000}})
    known = {"NBCHAT_ENDPOINT": server.url, "NBCHAT_MODEL": "asked", "NBCHAT_PRICES": prices}
    return kernel_of(home, **known, JPY_SESSION_NAME=str(home / "page.ipynb"), **more)


def run_all(kernel: Kernel, *prompts: str, speed: str = "fast") -> list[tuple[dict, str]]:
    """Run the cells of a page. Return the metadata of each answer, and everything that its cell sent."""
    kernel.run("%load_ext nbchat", "load")
    kernel.run(f"%nbchat cassette tape.jsonl --speed {speed}", "cassette")
    found = []
    for number, prompt in enumerate(prompts):
        cell = kernel.run(f"%%claude --once\n{prompt}", f"cell-{number}")
        found.append((cell.answer.metadata["nbchat"], cell.everything()))
    return found


def test_restart_and_run_all_sends_only_changed_cells(server: Server, tmp_path: Path):
    """After a restart two of three cells are replayed and one is sent.

    The cells and the run tell which, and the savings.
    """
    with kernel_at(server, tmp_path) as kernel:
        before = run_all(kernel, "one", "two", "three")
        assert all("sent, and recorded in tape.jsonl" in sent for _, sent in before)
        assert [about.get("replayed", False) for about, _ in before] == [False] * 3
    assert len(server.requests) == 3

    with kernel_at(server, tmp_path) as kernel:  # the restart
        after = run_all(kernel, "one", "two, changed", "three", speed="real")
        assert [about.get("replayed", False) for about, _ in after] == [True, False, True]
        assert "replayed from tape.jsonl" in after[0][1]
        assert "sent, and recorded in tape.jsonl" in after[1][1]
        assert "replayed from tape.jsonl" in after[2][1]
        assert len(server.requests) == 4
        assert [about["cost"] for about, _ in after] == [0.0, pytest.approx(before[1][0]["cost"], rel=0.5), 0.0]
        saved = before[0][0]["cost"] + before[2][0]["cost"]
        (said,) = kernel.run("%nbchat usage run").outputs
        line = said.data["text/plain"].splitlines()[0]
        assert line == f"This run: 2 answers replayed, which saved ${saved:.4f}; 1 request sent for $" + (
            f"{after[1][0]['cost']:.4f}"
        )
        assert [row.split()[1] for row in said.data["text/plain"].splitlines()[3:]] == ["replayed", "sent", "replayed"]
        assert kernel.run("%nbchat usage").stdout.strip() == line


def test_usage_by_period_group_and_file(server: Server, tmp_path: Path):
    """``%nbchat usage`` accepts each period, each grouping and a CSV file, and the DataFrame has the same rows."""
    with kernel_at(server, tmp_path) as kernel:
        kernel.run("%load_ext nbchat")
        kernel.run("%%claude -c one\nfirst")
        kernel.run("%%claude -c two\nsecond")
        for period in ("today", "week", "month", "year", "all", ""):
            groups = {"day": time.strftime("%Y-"), "model": "test-model", "notebook": "page", "chat": "two"}
            for by, group in groups.items():
                shown = kernel.run(f"%nbchat usage {period} by {by}").outputs[-1].data
                assert group in shown["text/plain"], (period, by)
                assert "Cost by day" in shown["text/plain"]
                assert "<table>" in shown["text/html"]
                assert "<script" not in shown["text/html"]
        assert kernel.run("%nbchat usage today csv usage.csv").stdout.strip() == "2 requests are in usage.csv"
        rows = list(csv.DictReader((tmp_path / "usage.csv").open(encoding="utf-8")))
        assert [row["chat"] for row in rows] == ["one", "two"]
        assert all(float(row["cost"]) > 0 for row in rows)
        frame = "__import__('nbchat').usage('today', by='chat')"
        assert kernel.value(f"sorted({frame}['chat'])") == ["one", "two"]


def test_a_budget_stops_a_cell_before_it_is_sent(server: Server, tmp_path: Path):
    """``--budget`` and the setting stop a cell.

    The error has two lines with the spent amount, the limit and the estimate.
    """
    with kernel_at(server, tmp_path) as kernel:
        kernel.run("%load_ext nbchat")
        error = kernel.run("%%claude --budget 0.05 --max-tokens 100\nHi", fails=True).error
        assert len(error) == 2
        assert "could cost $0.1" in error[0]
        assert "$0.0500" in error[0]
        assert "$0.00 is spent" in error[0]
        asked = [request for request in server.requests if request.path.endswith("/messages")]
        assert asked == []
        kernel.run("%config Nbchat.budget = 0.12")
        kernel.run("%%claude --max-tokens 60\nHi")
        error = kernel.run("%%claude --max-tokens 100\nHi again", "b-cell", fails=True).error
        assert "is spent" in error[0]
        assert "$0.00 is spent" not in error[0]
        asked = [request for request in server.requests if request.path.endswith("/messages")]
        assert len(asked) == 1


def test_kill_9_in_the_middle_of_an_answer_and_recover_in_a_new_kernel(tmp_path: Path):
    """All text up to one second before SIGKILL is restored, marked as incomplete, and in the ledger."""
    said: list[tuple[float, str]] = []

    def slow(wire: Wire, _: Received) -> None:
        events = text_events(f"w{number} " for number in range(10_000))
        wire.head()
        for event in events:
            wire.event(event)
            if event["type"] == "content_block_delta":
                said.append((time.monotonic(), event["delta"]["text"].strip()))
            time.sleep(PAUSE)

    with serving(slow) as server:
        with kernel_at(server, tmp_path) as kernel:
            kernel.run("%load_ext nbchat")
            kernel.start("%%claude -c tales\nTell me a long story.")
            until = time.monotonic() + TIMEOUT_S
            while not said or time.monotonic() - said[0][0] < 3.0:
                assert time.monotonic() < until
                time.sleep(0.05)
            killed = time.monotonic()
            os.kill(kernel.pid, signal.SIGKILL)
        with kernel_at(server, tmp_path) as kernel:
            kernel.run("%load_ext nbchat")
            listed = kernel.run("%nbchat recover").stdout
            assert "Tell me a long story." in listed
            assert "page.ipynb" in listed
            name = listed.splitlines()[1].split()[0]
            shown = kernel.run(f"%nbchat recover {name}").outputs[-1]
            text = kernel.value("_claude.text")
            assert kernel.value("[_claude.status, bool(_claude), _claude.prompt]") == [
                "incomplete", False, "Tell me a long story.",
            ]  # fmt: skip
            due = [word for at, word in said if at < killed - 1.0]
            assert len(due) > 10
            assert text.split()[: len(due)] == due
            assert text.split() == [f"w{number}" for number in range(len(text.split()))]
            assert "broke off" in shown.data["text/plain"]
            assert kernel.value("_claude.usage.estimated") is True
            kernel.run("import nbchat")
            assert kernel.value("nbchat.load(_claude.save('kept.json')) == _claude") is True
            assert "nothing to recover" in kernel.run("%nbchat recover").stdout
            rows = "__import__('nbchat').usage('today').to_dict('records')"
            (row,) = kernel.value(f"[{{k: r[k] for k in ('kind', 'status', 'output_tokens', 'chat')}} for r in {rows}]")
            assert (row["kind"], row["status"], row["chat"]) == ("interrupted", "killed", "tales")
            assert row["output_tokens"] > 0
