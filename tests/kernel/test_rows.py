"""Runs over rows in a real kernel: the magic, the outputs, an interrupt, kill -9 and a restart."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.harness import Kernel, kernel_of
from tests.support.server import Received, Server, Wire, message, serving
from tests.support.waiting import wait_for

ROWS, CONCURRENCY = 40, 4


class Service:
    """A server that holds the rows from ``held_from`` on back until ``release`` is set."""

    def __init__(self) -> None:
        self.held_from, self.release = 10_000, threading.Event()
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.held: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, wire: Wire, request: Received) -> None:
        prompt = str(request.body["messages"][-1]["content"])
        with self._lock:
            self.asked[prompt] += 1
        if int(prompt.split()[-1]) >= self.held_from:
            with self._lock:
                self.held[prompt] += 1
            self.release.wait(20)
        wire.json("200 OK", message([{"type": "text", "text": f"answer to {prompt}"}]))
        with self._lock:
            self.answered[prompt] += 1

    def is_full(self) -> bool:
        """Return True if all that may be in flight is held, so that the rows before are finished."""
        return len(self.held) == CONCURRENCY


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def server(service: Service) -> Iterator[Server]:
    with serving(service) as server:
        yield server


def variables(server: Server) -> dict[str, str]:
    return {"NBCHAT_ENDPOINTS": repr({"mine": server.url}), "NBCHAT_ENDPOINT": "mine", "NBCHAT_MODEL": "m"}


SETUP = f"""
%load_ext nbchat
import nbchat, pandas
tickets = pandas.DataFrame({{"text": [f"ticket {{n}}" for n in range({ROWS})]}}, index=range(100, {100 + ROWS}))
"""
CELL = f"%%claude out << --each tickets --concurrency {CONCURRENCY}\nIs it urgent? {{{{ text }}}}"


@pytest.fixture
def kernel(tmp_path: Path, server: Server) -> Iterator[Kernel]:
    with kernel_of(tmp_path, **variables(server)) as kernel:
        kernel.run(SETUP)
        yield kernel


def test_the_magic_binds_the_job_and_leaves_one_static_output(kernel: Kernel, service: Service):
    cell = kernel.run(CELL)
    shown = [output for output in cell.outputs if output.get("data")]
    (output,) = shown
    assert sorted(output.data) == ["text/html", "text/plain"]
    assert output.data["text/plain"].startswith("40 rows: all answered\n\n")
    assert "answer to Is it urgent? ticket 0" in output.data["text/html"]
    assert "<script" not in output.data["text/html"]
    assert output.metadata["nbchat"]["requests"] == ROWS
    assert kernel.value("[out.status, list(out.frame.columns), int(out.frame.index[0]), _claude is out]") == [
        "complete", ["text", "answer", "nbchat_error", "nbchat_cost"], 100, True,
    ]  # fmt: skip
    again = kernel.run(CELL)
    assert sum(service.asked.values()) == ROWS, "nothing is paid for twice"
    (second,) = [output for output in again.outputs if output.get("data")]
    assert second.data == output.data, "the same output, byte for byte"
    as_nbclient = kernel.run(CELL, None)
    (third,) = as_nbclient.outputs
    assert third.data == output.data, "without a person only the static output"
    dry = kernel.run(CELL.replace("--concurrency 4", "--dry-run"))
    assert "40 answered before, 0 to send" in dry.stdout
    wrong = kernel.run(CELL.replace("tickets", "tikets"), fails=True)
    assert "Did you mean tickets?" in "\n".join(wrong.error)
    refused = kernel.run(CELL.replace("--concurrency 4", "--run"), fails=True)
    assert "rows cannot run code" in "\n".join(refused.error)
    alone = kernel.run("%%claude --rpm 5\nHi", fails=True)
    assert "--each" in "\n".join(alone.error)


def test_an_interrupt_binds_what_is_finished_and_the_cell_goes_on_from_there(kernel: Kernel, service: Service):
    service.held_from = 20
    parent = kernel.start(CELL)
    wait_for(service.is_full, 30)
    time.sleep(0.5)
    pressed = kernel.interrupt()
    cell = kernel.finish(parent)
    assert cell.reply["ename"] == "KeyboardInterrupt"
    assert time.monotonic() - pressed < 10
    assert kernel.value("[out.status, int(out.frame.answer.notna().sum())]") == ["interrupted", 20]
    service.release.set()
    kernel.run(CELL)
    assert kernel.value("[out.status, int(out.frame.answer.notna().sum())]") == ["complete", ROWS]
    assert all(count == 1 for prompt, count in service.asked.items() if int(prompt.split()[-1]) < 20)


def test_kill_9_loses_only_what_is_in_flight(tmp_path: Path, server: Server, service: Service):
    service.held_from = 20
    with kernel_of(tmp_path, **variables(server)) as kernel:
        kernel.run(SETUP)
        kernel.start(CELL)
        wait_for(service.is_full, 30)
        time.sleep(0.5)
        os.kill(kernel.pid, signal.SIGKILL)
    service.release.set()
    with kernel_of(tmp_path, **variables(server)) as kernel:
        kernel.run(SETUP)
        kernel.run(CELL)
        assert kernel.value("[out.status, int(out.frame.answer.notna().sum())]") == ["complete", ROWS]
        assert kernel.value("out.counts.replayed") >= 20
    twice = [prompt for prompt, count in service.asked.items() if count > 1]
    assert all(int(prompt.split()[-1]) >= 20 for prompt in twice), "a finished row was paid for twice"
    assert len(twice) <= 4, "only what was in flight"
