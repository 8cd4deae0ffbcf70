"""Hundreds of cells in one kernel: nothing grows with the number of cells."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.faults.interrupting import Marks, Service
from tests.kernel.harness import Kernel, kernel_of
from tests.support.server import serving
from tests.support.thorough import THOROUGH

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")

#: What grows is compared between these three cells.
FIRST, MIDDLE, LAST = (100, 300, 500) if THOROUGH else (60, 160, 260)

SETUP = """
%load_ext nbchat
import ctypes, gc, os, pathlib, sys, threading, time
import nbchat

SESSION = get_ipython().nbchat.session

def add(a: int = 1) -> int:
    "Add one."
    return a + 1

def measure():
    from comm import get_comm_manager
    from ipywidgets.widgets import widget
    for _ in range(3):
        gc.collect()
    kinds = {}
    for thing in gc.get_objects():
        kinds[type(thing).__name__] = kinds.get(type(thing).__name__, 0) + 1
    # Free memory that malloc keeps for later is given back: it differs from run to run by some megabytes.
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return {
        "kilobytes": pages * os.sysconf("SC_PAGE_SIZE") // 1024,
        "threads": threading.active_count(),
        "files": len(os.listdir("/proc/self/fd")),
        "comms": len(get_comm_manager().comms),
        "widgets": len(widget._instances),
        "observers": len(SESSION.config._trait_notifiers),
        "journals": len(list(SESSION.recording.journals._files())),
        "objects": sum(kinds.values()),
        "kinds": kinds,
    }

def settled():
    "Wait until the threads that close the widgets of the last answer are gone."
    end = time.monotonic() + 10
    while time.monotonic() < end and any(t.name.startswith("nbchat-close") for t in threading.enumerate()):
        time.sleep(0.05)
    # ipykernel holds two files for each thread that sent a message, and closes those of ended threads every 10 s.
    iopub = get_ipython().kernel.iopub_thread
    iopub.io_loop.add_callback(iopub._event_pipe_gc)
    while time.monotonic() < end and not all(thread.is_alive() for thread in iopub._event_pipes):
        time.sleep(0.01)
    # ZeroMQ closes them in a thread of its own.
    files, still = 0, 0
    while time.monotonic() < end and still < 5:
        before, files = files, len(os.listdir("/proc/self/fd"))
        still = still + 1 if files == before else 0
        time.sleep(0.01)
"""
#: The cells in turn: an answer, a tool, an error, an attachment, an answer with a name, a replaced turn, Python.
CELLS = [
    ("%%claude -c soak\nhello", False),
    ("%%claude -c soak --tools add\nmixed", False),
    ("%%claude --once\nSay {{ missing_name }}", True),
    ("%%claude --once --attach notes.txt\nread", False),
    ("%%claude answer << --once\nlong 80", False),
    ("%%claude --once --no-stream\nhello", False),
    ("nbchat.ask('hello')", False),
    ("%nbchat history soak", False),
    ("%%claude --once --unknown\nhello", True),
    ("%claude -c soak hello", False),
]
#: How much may be added by all these cells. One object, file or byte a cell would be hundreds.
LIMITS = {"threads": 0, "files": 2, "comms": 0, "widgets": 0, "observers": 0, "journals": 0}
#: IPython keeps the source of each cell, `Out`, and a row in its history; the session keeps a row for each request.
#: Measured: 5 objects, and 3 to 5 kB.
OBJECTS_PER_CELL = 10
KILOBYTES_PER_CELL = 20


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    home = tmp_path_factory.mktemp("soak")
    (home / "notes.txt").write_text("Notes.\n" * 100)
    with (
        serving(Service(Marks())) as server,
        kernel_of(home, NBCHAT_ENDPOINT=server.url, NBCHAT_MODEL="test-model") as kernel,
    ):
        yield kernel


def test_hundreds_of_cells_leave_nothing(kernel: Kernel):
    """Threads, files, comms and widgets stay as they are, and memory and objects nearly so."""
    kernel.run(SETUP)
    measured = {}
    for number in range(1, LAST + 1):
        code, fails = CELLS[number % len(CELLS)]
        # The ids repeat: a person runs the same cells again and again.
        kernel.run(code, f"cell-{number % 20}", fails=fails)
        if number in (FIRST, MIDDLE, LAST):
            kernel.run("settled()")
            measured[number] = kernel.value("measure()")
            kernel.sent.clear()
    before, middle, after = measured[FIRST], measured[MIDDLE], measured[LAST]
    grown = {name: after[name] - before[name] for name in after if name != "kinds"}
    kinds = {
        name: count - before["kinds"].get(name, 0)
        for name, count in after["kinds"].items()
        if count - before["kinds"].get(name, 0) >= 50
    }
    # What leaks grows in both halves. The memory of a process also grows in single steps, in one of them.
    kilobytes = min(middle["kilobytes"] - before["kilobytes"], after["kilobytes"] - middle["kilobytes"])
    print(grown, kinds, kilobytes)
    for name, limit in LIMITS.items():
        assert grown[name] <= limit, (grown, kinds)
    assert grown["objects"] <= OBJECTS_PER_CELL * (LAST - FIRST), (grown, kinds)
    assert kilobytes <= KILOBYTES_PER_CELL * (LAST - MIDDLE), (grown, kinds, kilobytes)
    # The cells asked, with an answer for each request.
    rows = kernel.value("[row.kind for row in SESSION.accounting.run]")
    assert len(rows) >= 0.8 * LAST
    assert set(rows) == {"answer", "tool_round"}
