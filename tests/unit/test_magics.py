"""Tests of the magics in a shell without a kernel: lines with prompts, loading, unloading, and wrong settings."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import nbchat
from nbchat.core.errors import OptionError
from nbchat.notebook.host import ShellHost
from nbchat.notebook.magics import install, uninstall
from nbchat.notebook.prompts import keep_prompts
from tests.kernel.test_cell import answer
from tests.support.server import serving

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    """Return a shell with the extension and scripted answers. No thread imports the SDK."""
    monkeypatch.setattr("nbchat.notebook.magics._preload", lambda: None)
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    install(shell)
    shell.nbchat.session.endpoints._fixed = nbchat.ScriptedTransport(*[f"Answer {number}." for number in range(1, 10)])
    yield shell
    uninstall(shell)
    InteractiveShell.clear_instance()


def transformed(cell: str) -> str:
    """Return a cell as keep_prompts rewrites it."""
    return "".join(keep_prompts(cell.splitlines(keepends=True)))


CALL = "get_ipython().run_line_magic('claude', {!r})\n"


@pytest.mark.parametrize(
    ("cell", "kept"),
    [
        ("%claude why?\n", CALL.format("why?")),
        ("%claude why?", CALL.format("why?")),
        ("  %claude  why?  \n", "  " + CALL.format("why?")),
        ('%claude it\'s "so"?\n', CALL.format('it\'s "so"?')),
        ("x = 1\n%claude why x?\ny = 2\n", "x = 1\n" + CALL.format("why x?") + "y = 2\n"),
        ("x = [\n  1]\n%claude x?\n", "x = [\n  1]\n" + CALL.format("x?")),
        ("r = %claude hi\n", "r = get_ipython().nbchat.answer('hi')\n"),
        ("a.b['c'] = %claude hi?\n", "a.b['c'] = get_ipython().nbchat.answer('hi?')\n"),
        ("%%claude why?", "%%claude why?\n\n"),
        ("\n%%claude -m x why?\n\n", "%%claude -m x why?\n\n"),
        ("%%claude", "%%claude\n\n"),
        # Continued lines. An empty line for each one keeps the numbers of the lines below.
        ("r = %claude one \\\ntwo\n", "r = get_ipython().nbchat.answer('one two')\n\n"),
        ("%claude one \\\n   two \\\nthree?\nx = 1\n", CALL.format("one two three?") + "\n\nx = 1\n"),
        ("%claude one \\  \ntwo\n", CALL.format("one two") + "\n"),
        ("%claude one\\\r\ntwo\r\n", CALL.format("one two") + "\n"),
        ("%claude \\\n-m x \\\nwhy\n", CALL.format("-m x why") + "\n\n"),
        ("if a:\n    %claude one \\\n        two\n    b\n", "if a:\n    " + CALL.format("one two") + "\n    b\n"),
        ("a.b['c'] = %claude one \\\n\nb\n", "a.b['c'] = get_ipython().nbchat.answer('one')\n\nb\n"),
        ("%%claude -m x \\\n  --once\nwhy \\\nnot\n", "%%claude -m x --once\nwhy \\\nnot\n"),
        ("%%claude one \\\ntwo", "%%claude one two\n\n"),
    ],
)
def test_prompts_that_ipython_would_misread(cell: str, kept: str):
    """The transformer changes prompts that IPython would take for calls for help, empty cell magics or assignments."""
    assert transformed(cell) == kept


@pytest.mark.parametrize(
    "cell",
    [
        "%claude hello\n",
        "%claude the last backslash \\\n",
        "s = '''\n%claude one \\\ntwo\n'''\n",
        "%%html\n%claude one \\\ntwo\n",
        "x = 1 + \\\n2\n",
        "%claude?\n",
        "%%claude?\n",
        "%%claude??",
        "?%claude\n",
        "%claudette why?\n",
        "%%claudette why?",
        "%%claude\nwhy?\n%claude why?\n",
        "%%time\n%claude why?\n",
        "%%html\n<b>%claude why?</b>\n%claude why?\n",
        "x = 5 % claude\n",
        "print('%claude why?')\n",
        "text = '''\n%claude why?\nr = %claude hi\n'''\n",
        "call(\n%claude why?\n)\n",
        "# %claude why?\n",
        "x == %claude why?\n",
        "",
    ],
)
def test_all_other_lines_are_unchanged(cell: str):
    """The transformer does not change strings, brackets, other cell magics, their bodies and calls for help."""
    assert transformed(cell) == cell


@given(st.text(alphabet="%claude? =x'\"\n()#\\\t", max_size=60))
def test_the_transformer_never_fails_and_changes_nothing_twice(cell: str):
    """The transformer accepts any text. A second run changes nothing."""
    once = transformed(cell)
    assert transformed(once) == once


@given(st.text(min_size=1).filter(lambda text: len(text.splitlines()) == 1 and text.strip() == text))
def test_any_one_line_prompt_is_complete(prompt: str):
    """The rewritten line is a Python call with the complete prompt as a string."""
    called: list[str] = []
    shell = SimpleNamespace(run_line_magic=lambda name, line: called.append(line))
    exec(transformed(f"%claude {prompt}?"), {"get_ipython": lambda: shell})
    assert called == [f"{prompt}?"]


# --- a cell -----------------------------------------------------------------------------------------


def test_a_line_is_answered_and_bound(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]):
    """The answer of a line magic is assigned, and printed if the shell has no kernel."""
    shell.run_cell("r = %claude hello")
    assert "Answer 1." in capsys.readouterr().out
    assert shell.user_ns["r"].text == "Answer 1."
    assert shell.user_ns["_claude"] is shell.user_ns["r"]
    shell.run_cell("%%claude second <<\nhello again")
    assert shell.user_ns["second"].text == "Answer 2."


def test_a_dry_run_does_not_assign_the_last_response(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]):
    """A dry run does not assign the last Response, because that is not the answer to its line."""
    shell.run_cell("%claude hello")
    shell.run_cell("r = %claude --dry-run hello")
    assert shell.user_ns["r"] is None
    assert "dry run" in capsys.readouterr().out


def test_an_early_error_binds_nothing_and_has_two_lines(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]):
    """An error before sending changes no variable, and is shown in two lines."""
    result = shell.run_cell("%claude --modle x hello")
    assert isinstance(result.error_in_exec, OptionError)
    assert "_claude" not in shell.user_ns
    said = capsys.readouterr().out
    assert "OptionError: unknown option --modle\nDid you mean --model?" in said
    assert "Traceback" not in said


def test_an_interrupt_before_anything_was_sent_says_so(shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch):
    """The error says that nothing was sent, without a traceback through this library."""

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shell.nbchat.session, "prepare", stop)
    with pytest.raises(KeyboardInterrupt) as stopped:
        shell.run_line_magic("claude", "hello")
    assert stopped.value._render_traceback_() == ["KeyboardInterrupt: stopped; nothing was sent"]


def test_turns_of_one_cell_have_keys_of_their_own():
    """The first key is the cell's id. A new execution counts from the start. Without an id there is no key."""
    parent = {"header": {"msg_id": "one"}, "metadata": {"cellId": "cell"}}
    host = ShellHost(SimpleNamespace(kernel=SimpleNamespace(get_parent=lambda channel: parent)))
    assert [host.cell_key() for _ in range(3)] == ["cell", "cell#2", "cell#3"]
    parent = {"header": {"msg_id": "two"}, "metadata": {"cellId": "cell"}}
    assert host.cell_key() == "cell"
    parent = {"header": {"msg_id": "three"}, "metadata": {}}
    assert host.cell_key() is None


# --- loading ----------------------------------------------------------------------------------------


def test_loading_twice_is_loading_once(shell: InteractiveShell):
    """Loading twice keeps the session, and adds one line in %config and one transformer."""
    session = shell.nbchat.session
    install(shell)
    assert shell.nbchat.session is session
    assert shell.input_transformers_cleanup.count(keep_prompts) == 1
    assert [type(one).__name__ for one in shell.configurables].count("Nbchat") == 1


def test_unloading_restores_the_shell(shell: InteractiveShell):
    """Unloading restores the shell, except for variables. Loading again continues with the same session."""
    shell.run_cell("%claude hello")
    session = shell.nbchat.session
    uninstall(shell)
    assert shell.find_line_magic("claude") is None
    assert shell.find_cell_magic("claude") is None
    assert shell.find_line_magic("nbchat") is None
    assert keep_prompts not in shell.input_transformers_cleanup
    assert "Nbchat" not in [type(one).__name__ for one in shell.configurables]
    assert shell.user_ns["_claude"].text == "Answer 1."
    install(shell)
    assert shell.nbchat.session is session


def test_the_help_shows_the_settings(shell: InteractiveShell):
    """The help shows the current values of the settings."""
    shell.nbchat.settings.model = "another-model"
    shell.run_line_magic("config", "Nbchat.max_tokens = 77")
    help_now = shell.find_cell_magic("claude").__doc__
    assert "(now: another-model)" in help_now
    assert "(now: 77)" in help_now


@pytest.mark.parametrize(
    ("settings", "variables", "said"),
    [
        ({"max_tokens": "lots"}, {}, "max_tokens"),
        ({"max_tokens": -1}, {}, "max_tokens"),
        ({"modle": "x"}, {}, "Did you mean model?"),
        ({}, {"NBCHAT_MAX_TOKENS": "lots"}, "NBCHAT_MAX_TOKENS"),
        ({}, {"NBCHAT_THINKING": "perhaps"}, "NBCHAT_THINKING"),
    ],
)
def test_wrong_settings_raise_an_error_at_loading(
    settings: dict[str, Any], variables: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
):
    """The error names the setting, and nothing is installed."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    bare = InteractiveShell(config=Config({"Nbchat": settings}))
    with pytest.raises(OptionError) as refused:
        install(bare)
    assert said in str(refused.value)
    assert len(str(refused.value).splitlines()) == 2
    assert bare.find_line_magic("claude") is None


def test_a_first_question_right_after_loading(tmp_path: Path):
    """The import in the background and the import of the first cell do not block each other."""
    code = (
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance()\n"
        "shell.run_line_magic('load_ext', 'nbchat')\n"
        "import nbchat\n"
        "shell.nbchat.session.endpoints._fixed = nbchat.ScriptedTransport('At once.')\n"
        "shell.run_line_magic('claude', 'hello')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "At once." in done.stdout


def test_ask_is_of_the_notebook_from_loading_on(tmp_path: Path):
    """``nbchat.ask`` before the first magic obeys ``%config``, and books in the notebook's session, from any thread."""
    code = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance()\n"
        "import nbchat\n"
        "shell.run_line_magic('load_ext', 'nbchat')\n"
        "shell.run_line_magic('config', 'Nbchat.endpoint = \"http://127.0.0.1:9\"')\n"
        "shell.run_line_magic('config', 'Nbchat.budget = 0.0')\n"
        "def ask(number):\n"
        "    try:\n"
        "        nbchat.ask('hello')\n"
        "    except nbchat.errors.BudgetError as error:\n"
        "        return str(error)\n"
        "from nbchat.engine.current_session import current_session\n"
        "with ThreadPoolExecutor(4) as pool:\n"
        "    sessions = set(pool.map(lambda _: id(current_session()), range(4)))\n"
        "assert sessions == {id(shell.nbchat.session)}\n"
        "assert 'budget' in ask(0), ask(0)\n"
        "chosen = nbchat.Session(nbchat.ScriptedTransport('Mine.'))\n"
        "nbchat.use_session(chosen)\n"
        "shell.nbchat.session\n"
        "print(nbchat.ask('hello').text)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "Mine.\n"), done.stderr


def test_the_budget_of_the_notebook_holds_for_ask(tmp_path: Path):
    """``nbchat.ask`` in a loop stops before the budget that ``%config`` sets is exceeded, before any magic has run."""
    with serving(answer) as server:
        code = (
            "from IPython.core.interactiveshell import InteractiveShell\n"
            "shell = InteractiveShell.instance()\n"
            "import nbchat\n"
            "shell.run_line_magic('load_ext', 'nbchat')\n"
            f"shell.run_line_magic('config', 'Nbchat.endpoint = \"{server.url}\"')\n"
            "shell.run_line_magic('config', 'Nbchat.model = \"vendor-x\"')\n"
            'shell.run_line_magic(\'config\', \'Nbchat.prices = {"vendor-x": {"input": 1000, "output": 1000}}\')\n'
            "shell.run_line_magic('config', 'Nbchat.budget = 0.25')\n"
            "costs = []\n"
            "try:\n"
            "    for _ in range(100):\n"
            "        costs.append(nbchat.ask('hello', max_tokens=50).cost)\n"
            "except nbchat.errors.BudgetError as error:\n"
            "    assert 0 < sum(costs) < 0.25, costs\n"
            "    print(len(costs), abs(error.spent - sum(costs)) < 1e-9)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
        sent = [request for request in server.requests if not request.path.endswith("/count_tokens")]
    assert done.returncode == 0, done.stderr
    assert 1 < len(sent) < 100
    assert done.stdout == f"{len(sent)} True\n"


@pytest.mark.parametrize(
    "call",
    [
        "get_ipython().run_line_magic('claude', 'About {{ x }} and {{ top }}')",
        "get_ipython().run_cell_magic('claude', '--quiet', 'About {{ x }} and {{ top }}')",
        "_ = get_ipython().nbchat.answer('About {{ x }} and {{ top }}')",
    ],
)
def test_a_function_fills_its_own_names(shell: InteractiveShell, call: str):
    """A function that calls a magic has names of its own. They hide a variable of the notebook of the same name."""
    shell.run_cell(f"x, top = 'the notebook', 'the top'\ndef ask(x):\n    {call}\nask('the function')").raise_error()
    assert shell.user_ns["_claude"].prompt == "About the function and the top"
    shell.run_cell(f"class Cell:\n    x = 'a class'\n    {call}").raise_error()
    assert shell.user_ns["_claude"].prompt == "About a class and the top"
    shell.run_cell(call).raise_error()
    assert shell.user_ns["_claude"].prompt == "About the notebook and the top"


def test_an_assignment_in_an_expression_reaches_the_notebook(shell: InteractiveShell):
    """At the top of a cell an expression works on the notebook's own variables."""
    shell.run_cell("%claude About {{ (y := 3) }}").raise_error()
    assert shell.user_ns["y"] == 3
