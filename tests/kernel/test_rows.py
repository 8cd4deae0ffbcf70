"""Runs over rows in a real kernel: the magic, the outputs, an interrupt, kill -9 and a restart."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.harness import Kernel, kernel_of
from tests.support.batches import BatchesApi
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

    def release_later(self, answered: int, seconds: float) -> None:
        """Release the rows that are held back, some seconds after so many were answered."""
        while sum(self.answered.values()) < answered:
            time.sleep(0.05)
        time.sleep(seconds)
        self.release.set()


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
    (output,) = cell.outputs
    opened = {content["comm_id"] for content in cell.of("comm_open")}
    assert opened == {content["comm_id"] for content in cell.of("comm_close")}, "no widget of the bar is left"
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
    (second,) = again.outputs
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


def test_the_bar_says_how_far_the_run_is(kernel: Kernel, service: Service):
    kernel.run("%config Nbchat.prices = {'test-model': {'input': 1.0, 'output': 1000.0}}")
    service.held_from = 30
    threading.Thread(target=service.release_later, args=(30, 1.5), daemon=True).start()
    cell = kernel.run(CELL)
    states = [content["data"]["state"] for content in cell.of("comm_open", "comm_msg")]
    texts = [state["value"].replace("\u2007", " ") for state in states if isinstance(state.get("value"), str)]
    held = [text for text in texts if "30/40" in text]
    assert re.search(r"30 done · \$0\.\d+ of about \$0\.\d+ · [\d,]+ tokens/s", held[-1]), held
    assert len(set(held)) > 1, "the time goes on while no row ends"


@pytest.mark.parametrize("missing", ["tqdm", "ipywidgets"])
def test_without_widgets_or_tqdm_a_line_says_how_far_the_run_is(missing: str, kernel: Kernel, service: Service):
    kernel.run(f"import sys; sys.modules[{missing!r}] = None")
    kernel.run("import nbchat.rows.views as v; v.has_tqdm = lambda: False" if missing == "tqdm" else "")
    service.held_from = 30
    threading.Thread(target=service.release_later, args=(30, 0.0), daemon=True).start()
    cell = kernel.run(CELL)
    (output,) = cell.outputs
    assert output.data["text/plain"].startswith("40 rows: all answered\n\n")
    lines = [content["data"]["text/plain"] for content in cell.of("update_display_data", "display_data")]
    assert any("of 40 rows" in line and " done" in line for line in lines), lines


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


def test_a_batch_outlives_an_interrupt_and_the_kernel(tmp_path: Path):
    cell = "%%claude half << --each tickets --via batches\nIs it urgent? {{ text }}"
    api = BatchesApi(ends=False)
    with serving(api) as server:
        with kernel_of(tmp_path, **variables(server)) as kernel:
            kernel.run(SETUP)
            assert "no batches" in kernel.run("%nbchat batches").stdout
            parent = kernel.start(cell)
            wait_for(lambda: bool(api.batches), 30)
            time.sleep(1.5)
            kernel.interrupt()
            stopped = kernel.finish(parent)
            assert stopped.reply["ename"] == "KeyboardInterrupt"
            assert "29 days" in stopped.stdout, "what to know is said before"
            assert kernel.value("[half.status, len(half.failed)]") == ["waiting", ROWS]
            listed = kernel.run("%nbchat batches").outputs[0].data["text/plain"]
            assert "msgbatch_1" in listed
            assert "1 batch open" in listed
            os.kill(kernel.pid, signal.SIGKILL)
        for batch in api.batches:
            api.end(batch)
        with kernel_of(tmp_path, **variables(server)) as kernel:
            kernel.run("%load_ext nbchat\nimport nbchat")
            kernel.run("job = nbchat.attach('msgbatch_1')")
            assert kernel.value("[job.status, len(job.frame), list(job.frame)[3]['answer']]") == [
                "complete", ROWS, "IS IT URGENT? TICKET 3",
            ]  # fmt: skip
            kernel.run(SETUP)
            again = kernel.run(cell)
            (output,) = again.outputs
            assert output.data["text/plain"].startswith("40 rows: all answered\n\n")
            assert kernel.value("[half.cost, half.counts.replayed]") == [0.0, ROWS]
        assert len(api.batches) == 1, "nothing is paid for twice"
