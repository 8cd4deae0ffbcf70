"""Locks between processes and threads; what the cassette and the journal build on."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from nbchat.file_locks import hold_for_life, writing

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the child processes here are POSIX's")

_HOLDER = """
import os, sys
from nbchat.file_locks import hold_for_life
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
held = hold_for_life(descriptor)
if sys.argv[2] == "fork" and os.fork() == 0:
    sys.stdin.readline()
    os._exit(0)
print(held, flush=True)
sys.stdin.readline()
"""
_WRITER = """
import sys
from pathlib import Path
from nbchat.file_locks import writing
path = Path(sys.argv[1])
for _ in range(int(sys.argv[2])):
    with writing(path):
        number = int(path.read_text() or 0)
        other = path.with_suffix(f".{sys.argv[3]}")  # half of the writers replace the file
        target = other if sys.argv[3] == "0" else path
        target.write_text(str(number + 1))
        if target is other:
            other.replace(path)
"""


def holder(path: Path, how: str = "alone") -> subprocess.Popen[str]:
    """A process that holds the lock on a file."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(path), how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    return process


@pytest.mark.parametrize("how", ["alone", "fork"])
def test_a_lock_lives_exactly_as_long_as_its_process(tmp_path: Path, how: str):
    """Also after kill -9, and also if a fork of the process lives on."""
    path = tmp_path / "file"
    process = holder(path, how)
    descriptor = os.open(path, os.O_RDWR)
    try:
        assert hold_for_life(descriptor) is False
        process.kill()
        process.wait()
        assert hold_for_life(descriptor) is True
    finally:
        os.close(descriptor)
        if process.stdin:
            process.stdin.close()  # the fork ends


def test_writers_do_not_lose_a_write(tmp_path: Path):
    """Three processes count in one file, and one of them replaces the file each time."""
    path, each = tmp_path / "count", 60
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, str(path), str(each), str(number)]) for number in range(3)
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert path.read_text() == str(3 * each)


def test_threads_exclude_each_other_too(tmp_path: Path):
    """A lock of the process would let every thread of the process in."""
    path, inside, most = tmp_path / "file", [0], [0]

    def work() -> None:
        for _ in range(20):
            with writing(path):
                inside[0] += 1
                time.sleep(0.0005)  # another thread runs now, if the lock lets it
                most[0] = max(most[0], inside[0])
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_the_lock_is_free_after_an_error_in_the_block(tmp_path: Path):
    """A full disk in one write must not stop the next."""
    path = tmp_path / "file"
    with pytest.raises(OSError, match="full"), writing(path):
        raise OSError("full")
    with writing(path):
        assert path.read_bytes() == b""
