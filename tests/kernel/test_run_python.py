"""run_python in a real ipykernel: the outputs the user sees, the result the model gets, and the state afterwards."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kernel.harness import Cell, Kernel, kernel_of

SETUP = """
import json
import re
from nbchat.context.tool_results import tool_content
from nbchat.notebook.run_python import RunPython
from nbchat.tools.toolbox import Toolbox, INTERRUPTED
from nbchat.tools.approval import Approval
from nbchat.core.messages import ToolUseBlock
tool = RunPython(get_ipython())
def held():
    import sys
    ip = get_ipython()
    things = (ip, ip.display_pub, ip.displayhook, sys.stdout, sys.stderr)
    names = ("publish", "clear_output", "write_format_data", "quiet", "_showtraceback", "ask_exit")
    return [(name, vars(thing)[name]) for thing in things for name in names if name in vars(thing)]
before = held()
def tell(outcome):
    global told
    told = json.dumps({"content": list(outcome.content), "is_error": outcome.is_error})
"""


class Ran:
    """One execution: the messages that the user's front end received, and the result that the model received."""

    def __init__(self, cell: Cell) -> None:
        self.cell, self.reply = cell, cell.reply
        self.stdout, self.stderr = cell.stream("stdout"), cell.stream("stderr")
        expression = cell.reply.get("user_expressions", {}).get("told", {})
        told = expression.get("data", {}).get("text/plain", "None")
        self.told: Any = None if told == "None" else json.loads(ast.literal_eval(told))

    @property
    def text(self) -> str:
        """Return the text that the model received."""
        assert self.told is not None, self.reply
        return "\n".join(part["text"] for part in self.told["content"] if part["type"] == "text")

    @property
    def images(self) -> list[dict[str, Any]]:
        """Return the images that the model received."""
        assert self.told is not None, self.reply
        return [part for part in self.told["content"] if part["type"] == "image"]

    @property
    def values(self) -> list[str]:
        """Return the values that the front end shows as ``Out``."""
        return [content["data"]["text/plain"] for content in self.cell.of("execute_result")]


class Caller:
    """A kernel, and a test in the role of the model that calls ``run_python`` there."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def execute(self, code: str, typed: list[str] | None = None, *, interrupted: bool = False) -> Ran:
        """Run a cell as the user would.

        Args:
            code: The source of the cell.
            typed: What the user types at each question. None if nobody is at the keyboard.
            interrupted: True to interrupt the cell when it prints a line with the word "now".
        """

        def watch(message: dict[str, Any]) -> None:
            if interrupted and message["msg_type"] == "stream" and "now" in message["content"]["text"]:
                self.kernel.interrupt()

        expressions = {"told": "globals().get('told')"}
        parent = self.kernel.start(code, answers=typed, expressions=expressions)
        return Ran(self.kernel.finish(parent, watch))

    def run(self, code: str, *, interrupted: bool = False) -> Ran:
        """Run code as the model would, by a call of the tool."""
        return self.execute(f"told = None; tell(tool.call({{'code': {code!r}}}))", interrupted=interrupted)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    with kernel_of(tmp_path_factory.mktemp("run_python")) as kernel:
        kernel.run(SETUP)
        yield Caller(kernel)


def test_variables_stay_and_the_last_value_comes_back(kernel):
    ran = kernel.run("x = 20\nprint('hello')\nx + 1")
    assert ran.stdout == "hello\n"
    assert "21" in ran.values
    assert ran.told == {"content": [{"type": "text", "text": "hello\n21"}], "is_error": False}
    assert kernel.execute("assert x == 20 and _ == 21").reply["status"] == "ok"


def test_a_trailing_semicolon_and_none_show_nothing(kernel):
    assert kernel.run("41 + 1;").text == "(it ran; there is no output)"
    assert kernel.execute("tell(tool.call({'code': '41 + 1'}));").text == "42"
    assert kernel.run("y = 5").text == "(it ran; there is no output)"


def test_the_cells_own_number_and_history_stay_the_users(kernel):
    before = kernel.execute("n_in = len(In)").reply["execution_count"]
    kernel.run("1 + 1")
    kernel.execute("after = len(In)")
    numbers = kernel.execute("told = json.dumps([n_in, after])").told
    assert numbers == [before + 1, before + 3]
    assert kernel.execute("told = json.dumps(In[-1])").told.startswith("told = json")


def test_the_outer_cell_keeps_its_own_value(kernel):
    ran = kernel.execute("tool.call({'code': '1 + 1'}); 'outer'")
    assert ran.values == ["2", "'outer'"]
    assert (
        kernel.execute("get_ipython().run_cell(\"tool.call({'code': '3'}); 'mine'\").result == 'mine'").reply["status"]
        == "ok"
    )


def test_an_error_is_shown_as_text_and_sent_without_colours(kernel):
    """There is no output of type error: the cell did not fail, and papermill would stop there."""
    ran = kernel.run("def f(d):\n    return d['missing']\nprint('before')\nf({'here': 1})")
    assert ran.reply["status"] == "ok"
    assert ran.told["is_error"]
    assert ran.text.startswith("before\n")
    assert "KeyError: 'missing'" in ran.text
    assert "return d['missing']" in ran.text
    assert "\x1b" not in ran.text
    assert "error" not in ran.cell.kinds
    assert "KeyError" in ran.stderr


def test_a_syntax_error_is_an_error_result(kernel):
    ran = kernel.run("for x in\n  1")
    assert ran.told["is_error"]
    assert "SyntaxError" in ran.text
    assert ran.reply["status"] == "ok"
    assert "error" not in ran.cell.kinds


def test_a_wrong_magic_is_an_error_result(kernel):
    ran = kernel.run("%no_such_magic")
    assert ran.told["is_error"]
    assert "no_such_magic" in ran.text


def test_figures_are_shown_within_the_call_and_sent_as_images(kernel):
    ran = kernel.run("import matplotlib.pyplot as plt\nplt.plot([1, 3, 2])\nplt.title('t');\nprint('after')")
    (image,) = ran.images
    assert image["source"]["media_type"] == "image/png"
    assert image["source"]["data"].startswith("iVBORw0KGgo")
    assert "Figure size" not in ran.text
    assert "after" in ran.text
    shown = ran.cell.of("display_data")
    assert len(shown) == 1
    assert "image/png" in shown[0]["data"]
    again = kernel.run("fig, (a, b) = plt.subplots(1, 2)\nplt.figure()\nplt.bar([1], [2])")
    assert len(again.images) == 2


def test_displays_come_in_order_with_prints(kernel):
    ran = kernel.run(
        "import pandas as pd\nfrom IPython.display import Markdown\nprint('one')\n"
        "display(pd.DataFrame({'a': [1, 2]}))\nprint('two')\ndisplay(Markdown('**three**'))"
    )
    assert ran.text == "one\n   a\n0  1\n1  2\ntwo\n**three**"
    assert ran.cell.kinds == ["stream", "display_data", "stream", "display_data"]


def test_progress_bars_and_updates_are_sent_in_their_last_state(kernel):
    ran = kernel.run(
        "import sys\nh = display('0 %', display_id=True)\n"
        "for n in range(3):\n    h.update(f'{n} done')\n    print(f'\\rstep {n}', end='', file=sys.stderr)\n"
        "print('\\x1b[31mred\\x1b[0m')"
    )
    assert ran.text == "'2 done'\nstep 2red"


def test_what_is_cleared_is_not_sent(kernel):
    ran = kernel.run("from IPython.display import clear_output\nprint('old')\nclear_output()\nprint('new')")
    assert ran.text == "new"
    assert "clear_output" in ran.cell.kinds


def test_long_output_is_cut_with_a_mark_and_shown_whole(kernel):
    ran = kernel.run("print('first'); print('x' * 300_000); print('last')")
    assert 19_900 < len(ran.text) <= 20_000
    assert ran.text.startswith("first\n")
    assert ran.text.endswith("x\nlast")
    assert "… [cut: 300,012 characters in all] …" in ran.text
    assert len(ran.stdout) == 300_012
    many = kernel.run("for n in range(60_000):\n    print(n)")
    assert many.text.startswith("0\n1\n")
    assert many.text.endswith("59998\n59999")
    assert f"… [cut: {len(many.stdout):,} characters in all] …" in many.text
    assert 19_900 < len(many.text) <= 20_000


def test_magics_shell_commands_and_await_work(kernel):
    assert "variable_of_mine" in kernel.run("variable_of_mine = 3\n%who").text
    assert "from the shell" in kernel.run("!echo from the shell").text
    ran = kernel.run("import asyncio\nprint('waiting')\nz = await asyncio.sleep(0.01, 7)\nz")
    assert ran.text == "waiting\n7"
    assert ran.stdout == "waiting\n"
    assert kernel.execute("assert z == 7").reply["status"] == "ok"
    failed = kernel.run("await asyncio.sleep(0)\n1 / 0")
    assert failed.told["is_error"]
    assert "ZeroDivisionError" in failed.text


def test_leaving_is_not_obeyed(kernel):
    for code, text in (
        ("import sys\nsys.exit(3)", "SystemExit: 3"),
        ("raise SystemExit", "SystemExit"),
        ("exit()", "exit() was not obeyed"),
        ("quit", "exit() was not obeyed"),
    ):
        ran = kernel.run(code)
        assert ran.told["is_error"]
        assert text in ran.text
        assert ran.reply["status"] == "ok"
        assert not ran.reply.get("payload")
    assert kernel.execute("assert x == 20").reply["status"] == "ok"


def test_calling_claude_from_within_is_refused(kernel):
    for code in (
        "%%claude\nhello",
        "a = 1\n%claude hi",
        "r = %claude hi",
        "%nbchat reset",
        "get_ipython().run_cell_magic('claude', '', 'hello')",
        "import nbchat\nnbchat.ask('hello')",
    ):
        ran = kernel.run(code)
        assert ran.told["is_error"], code
        assert "calls Claude itself" in ran.text
    assert not kernel.run("s = 'a line that says %%claude'").told["is_error"]


def test_arguments_that_do_not_fit(kernel):
    for arguments in ({}, {"code": 3}, {"code": "  "}, {"code": "1", "more": 2}):
        ran = kernel.execute(f"told = None; tell(tool.call({arguments!r}))")
        assert ran.told["is_error"]
        assert "one argument, code" in ran.text


@pytest.mark.parametrize(
    "code",
    [
        "import time\nprint('now', flush=True)\ntime.sleep(30)",
        "import asyncio\nprint('now', flush=True)\nawait asyncio.sleep(30)",
    ],
)
def test_an_interrupt_stops_the_turn_and_everything_is_put_back(kernel, code):
    began = time.monotonic()
    ran = kernel.run(code, interrupted=True)
    assert time.monotonic() - began < 25
    assert ran.reply["status"] == "error"
    assert ran.reply["ename"] == "KeyboardInterrupt"
    assert "KeyboardInterrupt" not in ran.stderr
    after = kernel.execute("print('fine')\n1 / 0")
    assert after.stdout == "fine\n"
    assert "error" in after.cell.kinds
    assert kernel.execute("told = json.dumps(held() == before)").told is True


# -- approval, with a front end that can type, and one that cannot ---------------------------------

ASK = """
told, said = None, []
box = Toolbox([tool], Approval(None, get_ipython().kernel.raw_input, print))
tell(box.run(ToolUseBlock("toolu_1", "run_python", {"code": "ran = 'as asked'"}), said.append))
"""


def test_the_user_is_asked_by_the_front_end(kernel):
    ran = kernel.execute("ran = None\n" + ASK, typed=["y"])
    assert ran.stdout == "Claude wants to run run_python:\n    ran = 'as asked'\n"
    assert ran.cell.questions == [
        "Run 1 line of Python? [y]es, [n]o, [e]dit, [a]lways (run_python, in this session until it ends): "
    ]
    assert not ran.told["is_error"]
    assert kernel.execute("assert ran == 'as asked'").reply["status"] == "ok"


def test_no_and_an_edit_by_the_front_end(kernel):
    ran = kernel.execute("ran = None\n" + ASK, typed=["n, not now"])
    assert ran.told["is_error"]
    assert "They say: not now" in ran.text
    assert kernel.execute("assert ran is None").reply["status"] == "ok"
    ran = kernel.execute("ran = None\n" + ASK, typed=["e", "1: ran = 'edited'", "", "y"])
    assert "The user changed the arguments" in ran.text
    assert kernel.execute("assert ran == 'edited'").reply["status"] == "ok"


def test_where_no_stdin_can_answer_the_answer_is_no(kernel):
    """Under nbclient and in CI, allow_stdin is false, and ipykernel raises StdinNotImplementedError."""
    ran = kernel.execute("ran = None\n" + ASK + "\nprint(said[0])", typed=None)
    assert ran.told["is_error"]
    assert "nobody to ask" in ran.text
    assert "--approve always" in ran.stdout
    assert kernel.execute("assert ran is None").reply["status"] == "ok"


def test_an_async_function_runs_in_the_kernel_and_prints_into_its_cell(kernel):
    ran = kernel.execute(
        "import asyncio\nfrom nbchat.tools.functions import FunctionTool\n"
        "async def slow(n: int):\n    print('slowly')\n    await asyncio.sleep(0.01)\n    return n + 1\n"
        "told = None; tell(FunctionTool(slow, 'slow', tool_content).call({'n': 1}))"
    )
    assert ran.text == "2"
    assert ran.stdout == "slowly\n"


def test_figures_of_a_function_are_shown_under_its_call(kernel):
    """Not at the end of the cell, under the answer."""
    ran = kernel.execute(
        "import matplotlib.pyplot as plt\nfrom nbchat.tools.functions import FunctionTool\n"
        "def draw(n: int):\n    print('drawing')\n    plt.plot([n, 1])\n    return 'drawn'\n"
        "box = Toolbox([FunctionTool(draw, 'draw', tool_content)])\ntold = None\n"
        "tell(box.run(ToolUseBlock('t', 'draw', {'n': 3})))\nprint('after the call')"
    )
    assert ran.text == "drawn"
    assert ran.cell.kinds == ["stream", "display_data", "stream"]


def test_a_figure_that_a_function_leaves_open_and_returns_is_shown_once(kernel):
    """The model gets the picture, and the front end one display. A figure that was closed is not shown yet."""
    code = (
        "import matplotlib.pyplot as plt\nfrom nbchat.tools.functions import FunctionTool\n"
        "def draw(closed: bool):\n    figure, axes = plt.subplots()\n    axes.plot([3, 1])\n"
        "    if closed:\n        plt.close(figure)\n    return figure\n"
        "box = Toolbox([FunctionTool(draw, 'draw', tool_content)])\ntold = None\n"
        "done = box.run(ToolUseBlock('t', 'draw', {'closed': CLOSED}))\ntell(done)\nprint(done.shown)"
    )
    left_open = kernel.execute(code.replace("CLOSED", "False"))
    assert (len(left_open.images), left_open.stdout) == (1, "True\n")
    assert left_open.cell.kinds == ["display_data", "stream"]
    closed = kernel.execute(code.replace("CLOSED", "True"))
    assert (len(closed.images), closed.stdout) == (1, "False\n")
    assert closed.cell.kinds == ["stream"]


def test_the_traceback_of_a_function_begins_in_the_users_code(kernel):
    ran = kernel.execute(
        "from nbchat.tools.functions import FunctionTool\nfrom nbchat.notebook.tracebacks import show_traceback\n"
        "async def fails(n: int):\n    secret = n\n    raise ValueError('sk-ant-api03-abcdefgh')\n"
        "def too():\n    raise LookupError('here')\n"
        "show_traceback(FunctionTool(fails, 'fails', tool_content).call({'n': 1}).error, get_ipython())\n"
        "from nbchat.engine.host import PlainHost\n"
        "PlainHost().show_traceback(FunctionTool(too, 'too', tool_content).call({}).error)"
    )
    assert ran.reply["status"] == "ok"
    shown = re.sub(r"\x1b\[[0-9;]*m", "", ran.stderr)
    assert "secret = n" in shown
    assert "ValueError: sk-ant-…" in shown
    assert "LookupError: here" in shown
    assert "nbchat" not in shown
    assert "error" not in ran.cell.kinds


def test_terminal_ipython_records_each_output_once():
    """A terminal prints displays and values too. They must not be sent twice."""
    code = (
        "from nbchat.notebook.run_python import RunPython\n"
        "tool = RunPython(get_ipython())\n"
        "outcome = tool.call({'code': \"print('printed')\\ndisplay({'shown': 1})\\nimport asyncio\\n"
        "await asyncio.sleep(0, 'waited')\"})\n"
        "failed = tool.call({'code': '1 / 0'})\n"
        "print('TOLD', [outcome.text, outcome.is_error, failed.is_error, 'ZeroDivisionError' in failed.text])\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "IPython", "--simple-prompt", "--colors=nocolor", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    told = ast.literal_eval(done.stdout.partition("TOLD ")[2].splitlines()[0])
    assert told == ["printed\n{'shown': 1}\n'waited'", False, True, True]
    assert done.stdout.count("printed\n") == 1
