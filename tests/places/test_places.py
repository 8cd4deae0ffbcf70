"""What a user does in a notebook, in each place: Colab's frozen set, the oldest and the newest versions allowed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.harness import Cell
from tests.places.harness import PlaceKernel
from tests.places.make_environments import APART, EXTRAS, PLACES, make, oldest

SUPPORT = Path(__file__).parents[1] / "support"

ANSWER = "# Head\n\nSome *text*.\n\n```python\nx = 1\n```\n\nAnd $y$ at the end.\n" * 5
#: Signs of a traceback through nbchat or of a warning. Help names the file of a magic too, but no line of the file.
_TROUBLE = re.compile(
    r"/nbchat/[\w/]+\.py(?:\\?\"?, line |:\d| in )"
    r"|the live view failed|Warning:|AttributeError|ImportError|ModuleNotFoundError"
)
COMMS = ("comm_open", "comm_msg", "comm_close")


@pytest.fixture(autouse=True)
def no_traceback(kernel: PlaceKernel) -> Any:
    """Check after each test that nothing of nbchat printed a traceback or a warning, live or not."""
    kernel.sent.clear()
    yield
    sent = re.sub(r"\\u001b\[[0-9;]*m", "", "".join(kernel.sent))
    if sign := _TROUBLE.search(sent):
        pytest.fail(sent[max(0, sign.start() - 2_000) : sign.end() + 500])


def version(kernel: PlaceKernel, package: str) -> str:
    return str(kernel.value(f"__import__('importlib.metadata').metadata.version({package!r})"))


def payloads(cell: Cell) -> list[dict[str, Any]]:
    return [payload for payload in cell.reply["payload"] if payload["source"] == "set_next_input"]


# -- the environment ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["colab"])
def test_nbchat_moves_no_version_of_a_frozen_set(name: str):
    """pip would replace what the running kernel has imported, and the session would be broken."""
    place = PLACES[name]
    make(place)
    before, after = set(place.frozen("before")), set(place.frozen("after"))
    assert len(before) > 30
    assert before - after == set()
    assert any("nbchat" in line or "-e " in line for line in after - before)


def test_the_oldest_place_has_the_lower_bounds_of_pyproject():
    """Each bound is installed as it is. No resolver chose a newer version."""
    place = PLACES["oldest"]
    make(place)
    after = dict(line.split("==") for line in place.frozen("after") if "==" in line)
    for line in oldest():
        name, bound = re.sub(r"\[.*\]", "", line).split("==")
        installed = after[name]
        assert re.sub(r"(\.0)+$", "", installed) == re.sub(r"(\.0)+$", "", bound), line


def test_every_extra_has_lower_bounds():
    """An extra without a bound would accept versions that nobody ever ran."""
    assert len(oldest((*EXTRAS, *APART))) > len(oldest(()))


def test_the_kernel_has_the_versions_of_its_place(kernel: PlaceKernel):
    """The test would mean nothing with the versions of the tests' own environment."""
    newer = kernel.place.name == "newest"
    assert version(kernel, "ipython").startswith("7.") != newer
    assert version(kernel, "ipywidgets").startswith("7.") != newer


def test_every_error_class_of_the_sdk_is_mapped(kernel: PlaceKernel):
    """No class of this place's versions would reach the user bare, and the walk finds the classes."""
    # By its folder: a library of an environment may bring a package `tests` of its own.
    kernel.run(f"import sys; sys.path.insert(0, {str(SUPPORT)!r})")
    kernel.run("from error_classes import error_classes, named, unmapped\nclasses = error_classes()")
    assert {"anthropic.APIStatusError", "httpx2.ReadTimeout"} <= set(kernel.value("list(classes)"))
    assert kernel.value("len(classes)") > 70
    assert kernel.value("unmapped(classes)") == []


# -- cells ----------------------------------------------------------------------------------------


def test_a_cell_is_live_and_ends_in_one_plain_output(kernel: PlaceKernel):
    """The text grows in widgets, all of them are closed, and one safe output stays."""
    kernel.run(f"script('First.', {ANSWER!r}, delay=0.04)")
    kernel.run("%%claude --once\nload what the first cell loads", "live")
    cell = kernel.run("%%claude --once\nhi", "live")
    assert cell.answer.data["text/plain"] == ANSWER
    assert cell.answer.metadata["nbchat"]["status"] == "complete"
    values = [content["data"]["state"].get("value", "") for content in cell.of("comm_open", "comm_msg")]
    assert len([value for value in values if value.startswith(("<h", "<p", "<i", "<d"))]) >= 4
    assert {content["comm_id"] for content in cell.of("comm_open")} == {
        content["comm_id"] for content in cell.of("comm_close")
    }
    assert {message["parent_header"]["msg_id"] for _, message in cell.messages} == {cell.parent}
    assert kernel.run("print(open_widgets())").stdout == "0\n"


def test_without_a_cell_id_there_is_one_output(kernel: PlaceKernel):
    """nbclient sends no id: nothing is live, and the output is the same."""
    kernel.run(f"script({ANSWER!r})")
    cell = kernel.run("%%claude --once\nhi", None)
    assert cell.kinds == ["display_data"]
    assert cell.answer.data["text/plain"] == ANSWER


def test_an_interrupt_keeps_what_arrived(kernel: PlaceKernel):
    """The cell fails with one line, and its output is the partial answer with a mark."""
    kernel.run(f"script({ANSWER!r}, delay=0.1)")
    interrupted: list[float] = []

    def watch(message: dict[str, Any]) -> None:
        if not interrupted and "Head" in json.dumps(message["content"].get("data", "")):
            interrupted.append(kernel.interrupt())

    cell = kernel.finish(kernel.start("%%claude --once\nhi", "stopped"), watch)
    assert cell.reply["ename"] == "KeyboardInterrupt"
    final, error = cell.outputs
    assert "Head" in final.data["text/html"]
    assert "interrupted" in final.data["text/html"]
    assert len(error.traceback) == 1
    # ipykernel 6 can lose what the next cell prints, also without nbchat: after 1 of 160 interrupts of a sleep.
    kernel.run("print('lost or not')")
    assert kernel.value("_claude.status") == "interrupted"
    assert kernel.run("print(open_widgets())").stdout == "0\n"


def test_a_cell_that_runs_again_replaces_its_turn(kernel: PlaceKernel):
    """The id of the cell is the key of its turn, also where the front end has a key of its own for the id."""
    kernel.run("script('One.', 'Two.', 'Three.')")
    kernel.run("%%claude -c again\nfirst", "cell-1")
    kernel.run("%%claude -c again\nsecond", "cell-2")
    kernel.run("%%claude -c again\nfirst, changed", "cell-1")
    assert kernel.value("[message['content'] for message in sent()['messages']]") == ["first, changed"]
    assert kernel.value("[message['content'] for message in sent(1)['messages']]")[0] == "first"


def test_an_error_of_nbchat_is_two_lines(kernel: PlaceKernel):
    """IPython 7 calls the hook for tracebacks, too."""
    cell = kernel.run("%%claude --efort high\nhi", fails=True)
    assert len(cell.error) == 2
    assert "--effort" in "".join(cell.error)


def test_one_line_and_the_value_of_an_assignment(kernel: PlaceKernel):
    """The input transformer works in IPython 7, whose tokenizer reads `?` as a call for help."""
    kernel.run("script('Fine.', 'Good.')")
    kernel.run("%claude --once how are you?", "line")
    kernel.run("said = %claude --once and you?", "assignment")
    assert kernel.value("said.text") == "Good."


def test_help_is_shown(kernel: PlaceKernel):
    """The options are generated into the docstring."""
    assert "--effort" in kernel.run("%%claude?").help


# -- tools, code, errors --------------------------------------------------------------------------


def test_a_tool_asks_and_its_print_is_under_its_call(kernel: PlaceKernel):
    """Somebody types y, and the answer goes on after the tool."""
    kernel.run('script(["Let me add.", {"tool": "add", "input": {"a": 1, "b": 2}}], "It is **3**.")')
    cell = kernel.finish(kernel.start("%%claude --once --tools add --approve ask\n1 + 2?", "tool", answers=["y"]))
    assert cell.reply["status"] == "ok", cell.reply
    assert cell.questions == ["Run add(a=1, b=2)? [y]es, [n]o, [e]dit: "]
    assert "adding 1 and 2\n" in cell.stdout
    assert cell.outputs[-1].data["text/plain"] == "It is **3**."
    assert kernel.value("_claude.text").endswith("It is **3**.")


def test_an_async_tool_runs(kernel: PlaceKernel):
    """Its coroutine runs in a loop of its own."""
    kernel.run('async def later(x: int) -> int:\n    return x + 1\nscript({"tool": "later", "input": {"x": 1}}, "2.")')
    kernel.run("%%claude --once --tools later\ngo", "async")
    assert kernel.value("sent()['messages'][-1]['content'][0]['content'][0]['text']") == "2"


@pytest.mark.parametrize(
    ("code", "result"),
    [
        ("total = 6 * 7\nprint('hm')\ntotal", "hm\n42"),
        ("total;", "(it ran; there is no output)"),
        ("import asyncio\nawait asyncio.sleep(0)\n'awaited'", "'awaited'"),
        ("%who_ls", "["),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_run_python_sees_what_a_cell_sees(kernel: PlaceKernel, code: str, result: str):
    """Prints, values, a value hidden by `;`, top-level await, magics and errors."""
    kernel.run(f'total = 1\nscript({{"tool": "run_python", "input": {{"code": {code!r}}}}}, "Done.")')
    cell = kernel.run("%%claude --once --run --approve always\ngo", "run")
    told = kernel.value("sent()['messages'][-1]['content'][0]['content'][0]['text']")
    assert result in told
    assert cell.outputs[-1].data["text/plain"].endswith("Done.")


def test_a_figure_of_run_python_is_sent(kernel: PlaceKernel):
    """The inline backend of matplotlib shows it, as in a cell."""
    if not kernel.value("__import__('importlib.util').util.find_spec('matplotlib') is not None"):
        pytest.skip("this place has no matplotlib")
    code = "import matplotlib.pyplot as plt\nfig, ax = plt.subplots(figsize=(1, 1))\n_ = ax.plot([1, 2])"
    kernel.run(f'script({{"tool": "run_python", "input": {{"code": {code!r}}}}}, "Done.")')
    cell = kernel.run("%%claude --once --run --approve always\ngo", "figure")
    assert any("image/png" in output.get("data", {}) for output in cell.outputs)
    assert kernel.value("sent()['messages'][-1]['content'][0]['content'][-1]['type']") == "image"


def test_code_goes_into_a_new_cell_or_is_shown_to_copy(kernel: PlaceKernel):
    """Colab ignores the payload, so it gets the code as text, and a line that says so."""
    kernel.run('script("```python\\na = 1\\n```")')
    cell = kernel.run("%%claude --once --code\ngo", "code")
    assert payloads(cell) == [{"source": "set_next_input", "text": "a = 1", "replace": False}]
    to_copy = "copy this into one:\n\na = 1"
    assert (to_copy in cell.stdout) == (kernel.place.name == "colab")


def test_fix_sends_the_failing_cell(kernel: PlaceKernel):
    """IPython 7 keeps no names of the files of its cells, but the source and the values are sent all the same."""
    kernel.run("prices = {'tea': 3}\nitem = 'coffee'\nprices[item]", "broken", fails=True)
    kernel.run("script('Like this:\\n```python\\nprices.get(item)\\n```')", "script")
    kernel.sent.clear()  # the traceback of the cell above is the user's own
    cell = kernel.run("%claude --once --fix", "fix")
    prompt = kernel.value("_claude.prompt")
    for part in ("KeyError", "prices[item]", "item = 'coffee'", "{'tea': 3}", "In["):
        assert part in prompt
    assert ("copy this" in cell.stdout) == (kernel.place.name == "colab")


def test_cells_carry_sources_values_displays_and_errors(kernel: PlaceKernel):
    """``--cells`` works where IPython keeps no outputs of its own."""
    kernel.run("from IPython.display import HTML, display\ndisplay(HTML('<b>shown</b>'))\n'the value'", "carried")
    count = kernel.value("len(get_ipython().history_manager.input_hist_raw)")
    kernel.run("raise LookupError('the failure')", "failing", fails=True)
    kernel.run("script('Fine.')", "script")
    kernel.sent.clear()
    kernel.run(f"%%claude --once --cells {count - 2}-{count}\nwhat is this?", "cells")
    prompt = kernel.value("json.dumps(sent()['messages'][-1]['content'])")
    for part in ("'the value'", "shown", "the failure"):
        assert part in prompt


# -- management -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("%%claude --eff", "", "%%claude --effort"),
        ("%%claude --dry", "\nHello", "%%claude --dry-run\nHello"),
        ("%%claude --effort h", "", "%%claude --effort high"),
        ("%%claude --tools ad", "", "%%claude --tools add"),
        ("%%claude\nSum up {{ open_wid", " }} please", "%%claude\nSum up {{ open_widgets }} please"),
        ("%nbchat his", "", "%nbchat history"),
        ("open_wid", "", "open_widgets"),
        ("%%clau", "", "%%claude"),
    ],
)
def test_tab_completes(kernel: PlaceKernel, before: str, after: str, expected: str):
    """The completer of IPython 7 has no interface for a whole cell, and completes all the same."""
    found = {code.replace("open_widgets(", "open_widgets") for code in kernel.completed(before, after)}
    assert expected in found


def test_options_do_not_complete_to_files(kernel: PlaceKernel):
    """Only what fits is proposed."""
    assert kernel.completed("%%claude --effort ") == {
        f"%%claude --effort {level}" for level in ("low", "medium", "high", "xhigh", "max")
    }


def test_usage_is_shown(kernel: PlaceKernel):
    """The ledger is written and read."""
    kernel.run("script('Fine.')")
    kernel.run("%%claude --once\nhi", "used")
    assert "This run:" in kernel.run("%nbchat usage").stdout
    assert kernel.run("%nbchat usage run").outputs


def test_a_cassette_records_and_replays(kernel: PlaceKernel):
    """The second run sends nothing, and the output is the same."""
    kernel.run("%nbchat cassette tape.jsonl")
    kernel.run("script('Once only.')")
    first = kernel.run("%%claude --once\nremember", "tape").answer
    second = kernel.run("%%claude --once\nremember", "tape").answer
    kernel.run("%nbchat cassette off")
    assert second.data == first.data
    assert second.metadata["nbchat"]["replayed"] is True


def test_the_extension_unloads_and_loads_again(kernel: PlaceKernel):
    """Nothing of it stays in the completer, the events or the display publisher, and it works again."""
    kernel.run("%unload_ext nbchat")
    assert "%%claude --effort" not in kernel.completed("%%claude --eff")
    kernel.run("%load_ext nbchat")
    assert "%%claude --effort" in kernel.completed("%%claude --eff")


# -- VS Code --------------------------------------------------------------------------------------


@pytest.fixture
def vs_code(kernel: PlaceKernel) -> Any:
    """Set the variable by which the kernel knows that VS Code shows its outputs."""
    kernel.run("__vsc_ipynb_file__ = '/home/somebody/page.ipynb'")
    yield
    kernel.run("del __vsc_ipynb_file__")


def test_vs_code_gets_the_metadata_with_a_new_output(kernel: PlaceKernel, vs_code: None):
    """VS Code ignores the metadata of an update, so the last output is a new one in the place of the live one."""
    kernel.run(f"script({ANSWER!r}, delay=0.02)")
    cell = kernel.run("%%claude --once\nhi", "vs")
    shown = [kind for kind in cell.kinds if kind not in COMMS]
    assert shown == ["display_data", "clear_output", "display_data"]
    assert cell.of("clear_output") == [{"wait": True}]
    last = cell.of("display_data")[-1]
    assert last["metadata"]["nbchat"]["status"] == "complete"
    assert last["data"]["text/plain"] == ANSWER


def test_vs_code_keeps_what_others_showed(kernel: PlaceKernel, vs_code: None):
    """After a tool printed, or in a cell with other code, nothing is cleared."""
    kernel.run('script(["Let me add.", {"tool": "add", "input": {"a": 1}}], "It is **2**.", delay=0.1)')
    cell = kernel.run("%%claude --once --tools add\n1 + 1?", "vs-tool")
    assert cell.kinds.count("clear_output") <= 1  # before the print
    assert "adding 1 and 1\n" in cell.stdout
    assert cell.kinds.index("stream") > max([at for at, kind in enumerate(cell.kinds) if kind == "clear_output"] + [-1])
    kernel.run(f"script({ANSWER!r}, delay=0.02)")
    cell = kernel.run("print('before')\n%claude --once hi", "vs-line")
    assert "clear_output" not in cell.kinds
    assert "before\n" in cell.stdout


def test_an_error_before_the_first_word_leaves_only_the_error_in_vs_code(kernel: PlaceKernel, vs_code: None):
    """The box was shown while the server was silent. Nothing of it stays."""
    kernel.run(
        "import time\nfrom nbchat.core.errors import OverloadedError\n"
        "def silent():\n    time.sleep(0.6)\n    raise OverloadedError('no room')\n    yield\n"
        "script(silent())"
    )
    cell = kernel.run("%%claude --once\nhi", "vs-error", fails=True)
    kinds = [kind for kind in cell.kinds if kind not in COMMS]
    assert kinds[-1] == "error"
    assert all("nbchat" not in output.get("metadata", {}) for output in cell.outputs)
