"""The ledger and the journal among real processes: twenty writers, forks, and kill -9."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbchat.core.entries import Entry
from nbchat.store.journal import JournalFolder
from nbchat.store.ledger import Ledger
from tests.kernel.harness import Kernel, kernel_of
from tests.support.waiting import wait_for

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kill -9 and fork are POSIX's")

_WRITER = """
import sys, time
from pathlib import Path
from nbchat.store.ledger import Ledger
from nbchat.core.entries import Entry
path, me, rows = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
ledger = Ledger(path, patience=60)
print("ready", flush=True)
sys.stdin.readline()
for number in range(rows):
    if not ledger.record(Entry(at=time.time(), endpoint="e", model="m", cell=f"{me}/{number}", cost=0.5)):
        sys.exit(f"{me}/{number} was not written")
    print(number, flush=True)
    if "slow" in sys.argv:
        time.sleep(0.005)
"""


def _writers(path: Path, count: int, rows: int, *more: str) -> list[subprocess.Popen[str]]:
    command = [sys.executable, "-W", "error", "-c", _WRITER, str(path)]
    return [
        subprocess.Popen(
            [*command, str(number), str(rows), *more],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]


def _start(writers: list[subprocess.Popen[str]]) -> None:
    """Start all at the same moment: each has reported that it is ready, and none has created the file."""
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()


def test_twenty_kernels_writing_at_once_lose_no_row(tmp_path: Path):
    """Twenty processes and one new file: each row is there once, and the sum is right."""
    path = tmp_path / "data" / "ledger.sqlite"
    writers = _writers(path, 20, 25)
    _start(writers)
    for writer in writers:
        _, said = writer.communicate(timeout=240)
        assert (writer.returncode, said) == (0, "")
    ledger = Ledger(path)
    assert sorted(row.cell for row in ledger.rows()) == sorted(f"{me}/{row}" for me in range(20) for row in range(25))
    assert ledger.spent() == (250.0, 0)


def test_kill_9_loses_no_row_that_was_recorded(tmp_path: Path):
    """Each row for which record() returned True is there after SIGKILL in the middle of a write."""
    path = tmp_path / "ledger.sqlite"
    writers = _writers(path, 4, 100_000, "slow")
    _start(writers)
    time.sleep(1.0)
    for writer in writers:
        writer.kill()
    said = [writer.communicate(timeout=60)[0].split() for writer in writers]
    assert all(said)
    warned: list[str] = []
    ledger = Ledger(path, warn=warned.append)
    assert ledger.record(Entry(at=1.0, endpoint="e", model="m", cell="after"))
    cells = {row.cell for row in ledger.rows()}
    for me, numbers in enumerate(said):
        assert {f"{me}/{number}" for number in numbers} <= cells
    assert "after" in cells
    assert warned == []


def test_a_fork_inherits_no_connection(tmp_path: Path):
    """A forked child and its parent both continue to write. No row is lost, doubled or damaged."""
    code = """
import os, sys, time
from nbchat.store.ledger import Ledger
from nbchat.core.entries import Entry
ledger = Ledger(sys.argv[1], patience=60)
def write(who):
    for number in range(30):
        assert ledger.record(Entry(at=1.0, endpoint="e", model="m", cell=f"{who}/{number}"))
write("before")
children = []
for name in ("one", "two"):
    child = os.fork()
    if not child:
        assert ledger._connection is None
        write(name)
        os._exit(0)
    children.append(child)
write("parent")
assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
"""
    path = tmp_path / "ledger.sqlite"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    expected = [f"{who}/{number}" for who in ("before", "one", "two", "parent") for number in range(30)]
    assert sorted(row.cell for row in Ledger(path).rows()) == sorted(expected)


_ANSWER = """
import os, sys, time
from nbchat.core.chunks import BlockStart, OutputText
from nbchat.core.messages import Message, TextBlock
from nbchat.store.journal import JournalFolder
journal = JournalFolder({path!r}).open(
    Message.of("user", "Count."), model="m", endpoint="anthropic", notebook="n.ipynb", cell="c7", digest="d1")
journal.feed(BlockStart(0, TextBlock("")))
if {fork!r} and not os.fork():
    time.sleep(120)
    os._exit(0)
for number in range(100_000):
    journal.feed(OutputText(0, f"{{number}} "))
    with open({said!r}, "a") as said:
        said.write(f"{{number}} {{time.time()}}\\n")
    time.sleep(0.01 if number != {pause!r} else 120)
"""


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    with kernel_of(tmp_path / "home") as kernel:
        yield kernel


@pytest.mark.parametrize("silent", [False, True], ids=["in mid-stream", "in a silence"])
def test_kill_9_of_a_kernel_loses_at_most_the_last_second(kernel: Kernel, tmp_path: Path, silent: bool):
    """Chunks that arrived a second before SIGKILL come back. They were not listed while the kernel lived."""
    path, said = tmp_path / "journal", tmp_path / "said"
    kernel.start(_ANSWER.format(path=str(path), said=str(said), fork=False, pause=150 if silent else -1))
    wait_for(said.exists, 60)
    wait_for(lambda: len(said.read_text().splitlines()) > 150, 60)
    if silent:
        time.sleep(1.0)
    folder = JournalFolder(path)
    assert list(path.glob("*.jsonl"))
    assert folder.recoverable() == []

    killed = time.time()
    os.kill(kernel.pid, signal.SIGKILL)
    wait_for(folder.recoverable, 60)

    (entry,) = folder.recoverable()
    assert (entry.prompt, entry.notebook, entry.cell, entry.model) == ("Count.", "n.ipynb", "c7", "m")
    response = folder.restore(entry)
    assert (response.status, response.digest) == ("incomplete", "d1")
    arrived = [line.split() for line in said.read_text().splitlines()]
    due = [number for number, at in arrived if float(at) < killed - 1.0]
    assert len(due) > 20
    kept = response.text.split()
    assert kept[: len(due)] == due  # in order, none missing, none twice
    if silent:
        assert kept[150] == "150"
    folder.discard(entry)
    assert folder.recoverable() == []


def test_a_child_that_outlives_its_kernel_does_not_hide_the_answer(tmp_path: Path):
    """A forked worker of the killed kernel still runs, but the answer counts as dead."""
    path, said = tmp_path / "journal", tmp_path / "said"
    code = _ANSWER.format(path=str(path), said=str(said), fork=True, pause=-1)
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    try:
        wait_for(lambda: list(path.glob("*.jsonl")), 60)
        folder = JournalFolder(path)
        assert folder.recoverable() == []
        process.kill()
        process.wait(60)
        os.killpg(process.pid, 0)  # the child is alive
        assert [entry.prompt for entry in folder.recoverable()] == ["Count."]
    finally:
        os.killpg(process.pid, signal.SIGKILL)
