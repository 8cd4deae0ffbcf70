"""``%%claude`` in terminal IPython: typed, interrupted, and with a pipe instead of a terminal."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.harness import environment
from tests.kernel.test_cell import answer
from tests.support.server import Server, serving

pexpect = pytest.importorskip("pexpect", reason="a terminal of POSIX is needed")
IPYTHON = [sys.executable, "-m", "IPython", "--no-banner", "--no-confirm-exit", "--colors=NoColor"]
TIMEOUT_S = 90  # long, because the machine may be busy


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(answer) as server:
        yield server


class Terminal:
    """A terminal of 24 lines that runs IPython."""

    def __init__(self, home: Path, url: str) -> None:
        env = environment(home, NBCHAT_ENDPOINT=url, NBCHAT_MAX_RETRIES="0", TERM="xterm", COLUMNS="80", LINES="24")
        command = [*IPYTHON[1:], "--simple-prompt"]
        self.child = pexpect.spawn(
            IPYTHON[0], command, env=env, encoding="utf-8", timeout=TIMEOUT_S, dimensions=(24, 80), cwd=str(home)
        )
        self._number = 0
        self.ready()

    def ready(self) -> str:
        """Wait for the next prompt, and return the text before it."""
        self._number += 1
        self.child.expect(rf"In \[{self._number}\]: ")
        return str(self.child.before)

    def run(self, *lines: str) -> str:
        """Type a cell, and return the text that it showed."""
        for line in lines:
            self.child.sendline(line)
        return self.ready()

    def interrupt(self, line: str, when: str) -> str:
        """Type a cell, press Ctrl-C after ``when`` appeared, and return the text that the cell showed."""
        self.child.sendline(line)
        self.child.expect(when)
        shown = str(self.child.before) + str(self.child.after)
        time.sleep(0.3)
        self.child.sendintr()
        return shown + self.ready()


@pytest.fixture(scope="module")
def terminal(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path_factory.mktemp("home"), server.url)
    terminal.run("%load_ext nbchat")
    yield terminal
    terminal.child.close(force=True)


def plain(shown: str) -> str:
    """Return the text without escape sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)


def test_a_line_is_answered_in_the_terminal(terminal: Terminal):
    """The answer is text with a line of tokens below it, not the repr of a display object."""
    shown = plain(terminal.run("%claude Hello, why?"))
    assert "Hello, why?, and so on." in shown
    assert "8 tokens" in shown
    assert "<IPython" not in shown


def test_a_cell_can_be_typed_to_its_end(terminal: Terminal):
    """The cell goes on after its first line. An empty line ends the cell."""
    shown = plain(terminal.run("%%claude two <<", "of two", "lines", "", ""))
    assert "of two lines, and so on." in " ".join(shown.split())
    assert "'of two\\nlines'" in terminal.run("two.prompt")


@pytest.mark.parametrize(
    ("prompt", "when"), [("flow", "and more and more"), ("wait", "Some words"), ("wait before the headers", "waiting")]
)
def test_ctrl_c_keeps_what_arrived(terminal: Terminal, prompt: str, when: str):
    """There is one line without a traceback, and IPython continues."""
    shown = plain(terminal.interrupt(f"%claude {prompt}", when))
    assert "[interrupted]" in shown
    assert "KeyboardInterrupt: stopped; the answer up to here is in _claude" in shown
    assert "Traceback" not in shown
    assert "'interrupted'" in terminal.run("_claude.status")


def test_an_error_is_two_lines(terminal: Terminal):
    """The lines say what happened and what to do."""
    shown = plain(terminal.run("%claude --modle x hi"))
    assert "OptionError: unknown option --modle\r\nDid you mean --model?" in shown
    assert "Traceback" not in shown


def test_without_a_terminal_the_text_is_written_as_it_comes(server: Server, tmp_path: Path):
    """In a pipe the output is Markdown without escape sequences, and stderr is empty."""
    env = environment(tmp_path, NBCHAT_ENDPOINT=server.url)
    code = "%load_ext nbchat\n%claude Hello\nprint('after')"
    done = subprocess.run(
        [*IPYTHON, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert done.returncode == 0
    assert done.stdout == "# You said\n\nHello, **and** so on.\nafter\n"
    assert done.stderr == ""
