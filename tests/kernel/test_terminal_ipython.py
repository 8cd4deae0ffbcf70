"""``%%claude`` in terminal IPython: typed, interrupted, and with a pipe instead of a terminal."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from tests.kernel.harness import environment
from tests.kernel.test_cell import answer
from tests.support.server import Server, serving
from tests.support.thorough import THOROUGH

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


@pytest.mark.parametrize("columns", [80, 60])
def test_tables_fit_the_terminal(terminal: Terminal, columns: int):
    """The width is that of the terminal now. A prompt of several lines breaks between its words."""
    prompt = "Which words of this rather long question would a terminal of sixty or eighty columns break in the middle?"
    terminal.run(f"%claude {prompt}")
    terminal.run(f"import os; os.environ['COLUMNS'] = '{columns}'")
    for command in ("history", "usage run", "endpoints", "config"):
        shown = plain(terminal.run(f"%nbchat {command}")).replace("\r", "").split("\n")[1:]
        assert [line for line in shown if len(line) > columns and " " in line.strip() and line[0] != "%"] == []
        if command == "history":
            assert set(prompt.split()) <= set(" ".join(shown).split())
            assert "cell" not in " ".join(shown).split()
    terminal.run("os.environ['COLUMNS'] = '80'")


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


#: Terminals that have no letters of other languages, as variables of the environment.
ENCODINGS = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "the C locale": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}
#: An answer with a letter of each kind: of Latin-1, of Windows, of other scripts, an emoji, half a surrogate pair.
LETTERS = (
    "na\u00efve \u20ac \u65e5\u672c \U0001f600 \ud83d | a \u2502 b\n\n- x"
    "\n\n```python\n'\u03b1'\n```\n\n| \u03b2 |\n|--|\n| 1 |\n"
)
PROGRAM = f"""
get_ipython().run_line_magic("load_ext", "nbchat")
import nbchat
def tool(word: str):
    "A tool."
    print("says", word)
    return word
tool = nbchat.tool(tool, approve="ask")
answers = [{LETTERS!r}, {{"tool": "tool", "input": {{"word": {LETTERS.replace(chr(0xD83D), "")!r}}}}}, {LETTERS!r}]
get_ipython().nbchat.session.endpoints._fixed = nbchat.ScriptedTransport(*answers, repeat=True)
"""
CELLS = [
    "%claude Hi",
    "_claude",
    "%claude --tools tool Hi",
    "%nbchat usage",
    "%nbchat config",
    "%nbchat history",
    "%nbchat approvals",
    "%nbchat",
    "%claude --dry-run \\u20ac {{ 'h' + chr(0x65e5) }}",
    "%claude {{ chr(0x65e5) + nothing }}",
    "%claude --endpoint \\u20ac{{ Hi",
]


@pytest.mark.parametrize("name", ENCODINGS)
def test_a_terminal_that_is_not_utf8_shows_escapes(name: str, tmp_path: Path):
    """No letter ends an answer, an error or a table: what the terminal does not have is shown as an escape."""
    env = environment(tmp_path, TERM="xterm", COLUMNS="100", **ENCODINGS[name])
    (tmp_path / "setup.py").write_text(PROGRAM, encoding="utf-8")
    child = pexpect.spawn(
        IPYTHON[0],
        [*IPYTHON[1:], "--simple-prompt", "-i", "setup.py"],
        env=env, encoding="latin-1", timeout=TIMEOUT_S, dimensions=(50, 100), cwd=str(tmp_path),
    )  # fmt: skip
    shown = ""
    for number, cell in enumerate(CELLS, 1):
        child.expect(rf"In \[{number}\]: ")
        shown += str(child.before)
        child.sendline(cell)
        if "--tools" in cell:
            child.expect("lways")
            shown += str(child.before)
            child.sendline("y")
    child.expect(rf"In \[{len(CELLS) + 1}\]: ")
    shown = plain(shown + str(child.before))
    child.close(force=True)
    for word in ("UnicodeEncodeError", "was dropped", "Logging error", "Unexpected exception"):
        assert word not in shown, shown
    assert "\\u65e5\\u672c" in shown
    assert "says na" in shown
    assert "TemplateError" in shown


COMMANDS = ["doctor", "demo", "record", "--help"]
#: Each command in two of the encodings, and each encoding with two of the commands. THOROUGH=1 runs all.
RUNS = [
    (command, name)
    for row, command in enumerate(COMMANDS)
    for column, name in enumerate(ENCODINGS)
    if THOROUGH or (row + column) % 2 == 0
]


@pytest.mark.parametrize(("command", "name"), RUNS)
def test_the_command_line_in_a_terminal_that_is_not_utf8(name: str, command: str, tmp_path: Path):
    """No letter ends a command."""
    page = nbformat.v4.new_notebook()
    page.cells = [nbformat.v4.new_code_cell(f"print({LETTERS[:12]!r})\n{LETTERS[:9]!r}")]
    nbformat.write(page, tmp_path / "page.ipynb")
    # Port 9 refuses each connection, so the doctor reports an error.
    env = environment(tmp_path, NBCHAT_ENDPOINT="http://127.0.0.1:9", NBCHAT_MAX_RETRIES="0", **ENCODINGS[name])
    words = {"doctor": ["doctor"], "demo": ["demo", "page.ipynb"], "record": ["record", "nothing\u00e9.ipynb"]}
    shown, status = pexpect.run(
        shlex.join([sys.executable, "-m", "nbchat", *words.get(command, [command])]),
        env=env, encoding="latin-1", timeout=TIMEOUT_S, cwd=str(tmp_path), withexitstatus=True,
    )  # fmt: skip
    assert "UnicodeEncodeError" not in shown, shown
    assert "Traceback" not in shown, shown
    assert status == {"doctor": 1, "demo": 0, "record": 1, "--help": 0}[command], shown
    if command == "demo":
        assert "ve \\u20ac \\u65e5" in shown or (name == "cp1252" and "ve \x80 \\u65e5" in shown)


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (["\x1b[A\x1b[A", "\x05", "\rb = 5", "\x04"], "a = 1\nb = 5\n\nprint(a)"),
        (["x", "\x1b\r"], "a = 1\n\nprint(a)x"),
        (["x", "\x03"], "a = 1\n\nprint(a)"),
    ],
    ids=["ctrl-d", "escape-enter", "ctrl-c"],
)
def test_the_editor_of_a_terminal_begins_with_the_text(keys: list[str], text: str, tmp_path: Path):
    """It has several lines, and blank lines do not end it."""
    code = (
        "from nbchat.notebook.terminal_editor import edited\n"
        "print('edited:', repr(edited('a = 1\\n\\nprint(a)', 'python')))"
    )
    env = environment(tmp_path, TERM="xterm", PROMPT_TOOLKIT_NO_CPR="1")
    child = pexpect.spawn(
        sys.executable, ["-c", code], env=env, encoding="utf-8", timeout=TIMEOUT_S, dimensions=(24, 80)
    )
    child.expect("leaves it unchanged")
    child.expect("print")
    for key in keys:
        time.sleep(0.2)
        child.send(key)
    child.expect(r"edited: (.*)\r")
    assert child.match[1] == repr(text)
    child.close(force=True)
