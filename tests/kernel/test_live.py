"""The live view in a real ipykernel: the messages of a cell, as a front end receives them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.kernel.harness import ROOT, Kernel, environment, kernel_of

COMMS = ("comm_open", "comm_msg", "comm_close")
SETUP = """
import threading, time
import nbchat
from nbchat.notebook.host import ShellHost
from nbchat.notebook.views import views
from nbchat.view.live import view as live

live.preload()

def ask(answer, **how):
    session = nbchat.Session(nbchat.ScriptedTransport(answer, **how))
    shell = get_ipython()
    return session.ask("hi", sinks=views(shell, cell_id=ShellHost(shell).cell_id()))

def open_widgets():
    from ipywidgets.widgets import widget
    return len(widget._instances)
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with kernel_of(tmp_path_factory.mktemp("live")) as kernel:
        kernel.run(SETUP)
        yield kernel


ANSWER = "# Head\n\nSome *text*.\n\n```python\nx = 1\n```\n\nAnd $y$ at the end.\n" * 5


def test_a_cell_ends_in_one_plain_output(kernel: Kernel):
    """The output has safe HTML and the original Markdown. No widget is left, and all comms are closed."""
    cell = kernel.run(f"r = ask({ANSWER!r}, delay=0.02)\nprint(open_widgets())")
    final, printed = cell.outputs
    assert (final.output_type, sorted(final.data)) == ("display_data", ["text/html", "text/latex", "text/plain"])
    assert final.data["text/plain"] == ANSWER
    assert printed.text == "0\n"
    opened = {content["comm_id"] for content in cell.of("comm_open")}
    assert opened == {content["comm_id"] for content in cell.of("comm_close")}
    about = final.metadata["nbchat"]
    assert about["model"] == "scripted"
    assert about["digest"]
    assert "hi" not in json.dumps(about["usage"])


def test_the_text_grows_before_the_end(kernel: Kernel):
    """The front end receives the text in many steps, and each finished block once."""
    cell = kernel.run(f"r = ask({ANSWER!r}, delay=0.05)")
    states = [content["data"]["state"] for content in cell.of("comm_open", "comm_msg")]
    values = [state["value"] for state in states if state.get("value", "").startswith(("<h", "<p", "<i", "<d"))]
    assert len([value for value in values if "nbchat-status" not in value]) >= 8


def test_every_message_is_of_the_cell_that_asked(kernel: Kernel):
    """The drawing thread sends messages of the same cell. Otherwise a front end shows them under another cell."""
    cell = kernel.run(f"r = ask({ANSWER!r}, delay=0.01)")
    assert {message["parent_header"]["msg_id"] for _, message in cell.messages} == {cell.parent}


def test_prints_between_stay_and_keep_their_place(kernel: Kernel):
    """A tool prints while the answer is live, and the printed text is still there at the end."""
    code = f"""
events = nbchat.core.parser.events_of({{"id": "m", "type": "message", "role": "assistant", "model": "x",
    "content": [{{"type": "text", "text": {ANSWER!r}}}], "stop_reason": "end_turn", "usage": {{}}}})
def noisy():
    for event in events:
        time.sleep(0.1)
        print("printed", event["type"])
        yield event
r = ask(noisy())
"""
    cell = kernel.run("import nbchat.core.parser\n" + code)
    kinds = [output.output_type for output in cell.outputs]
    assert kinds.count("display_data") == 1
    assert "printed message_stop" in cell.stdout
    assert cell.outputs[kinds.index("display_data")].data["text/plain"] == ANSWER


def test_an_interrupt_keeps_what_arrived(kernel: Kernel):
    """The cell fails within half a second, and its output is the partial answer with a mark."""
    interrupted_at: list[float] = []

    def watch(message: dict[str, Any]) -> None:
        if not interrupted_at and "Head" in json.dumps(message["content"].get("data", "")):
            interrupted_at.append(kernel.interrupt())

    cell = kernel.finish(kernel.start(f"r = ask({ANSWER!r}, delay=0.4)"), watch)
    # Half a second on a machine with nothing else to do, and 10 s without the interrupt.
    assert cell.messages[-1][0] - interrupted_at[0] < 5.0
    assert cell.reply["ename"] == "KeyboardInterrupt"
    final, error = cell.outputs
    assert "Head" in final.data["text/html"]
    assert "interrupted" in final.data["text/html"]
    assert error.output_type == "error"
    assert kernel.run("print(open_widgets())").stdout == "0\n"


def test_an_error_before_the_first_word_leaves_only_the_error(kernel: Kernel):
    """The widget was never displayed, and no empty output is saved."""
    cell = kernel.run("from nbchat.errors import OverloadedError\nask(OverloadedError('no room'))", fails=True)
    assert [output.output_type for output in cell.outputs] == ["error"]
    assert kernel.run("print(open_widgets())").stdout == "0\n"


def test_without_a_cell_id_there_is_one_display_data(kernel: Kernel):
    """nbclient, nbval and papermill send no cell id, so there is no live view and no update."""
    cell = kernel.run(f"r = ask({ANSWER!r})", cell_id=None)
    assert cell.kinds == ["display_data"]
    assert cell.outputs[0].data["text/plain"] == ANSWER


def test_both_ways_give_the_same_output(kernel: Kernel):
    """A streamed answer and one without a live view are saved as the same output, so strict nbval passes."""
    live = kernel.run(f"r = ask({ANSWER!r}, delay=0.01)").outputs
    batch = kernel.run(f"r = ask({ANSWER!r})", cell_id=None).outputs
    assert live[0].data == batch[0].data


def test_messages_and_bytes_stay_within_bounds(kernel: Kernel):
    """At most 25 messages a second plus 60, and 6 times the bytes of the final output plus 500 for each message."""
    text = ANSWER * 40
    cell = kernel.run(f"r = ask({text!r}, piece=5)")
    assert len(cell.messages) <= 25 * cell.seconds + 60
    shown = cell.size(*COMMS, "display_data", "update_display_data")
    final = cell.size("update_display_data")
    assert shown <= 6 * final + 500 * len(cell.messages)


def test_bytes_grow_with_the_answer_and_not_faster(kernel: Kernel):
    """Five times the text needs at most six times the bytes."""

    def size(times: int) -> int:
        return kernel.run(f"r = ask({ANSWER * times!r}, piece=5)").size(*COMMS, "display_data", "update_display_data")

    assert size(100) <= 6 * size(20)


def test_the_notebook_that_was_streamed_passes_strict_nbval_twice(kernel: Kernel, tmp_path: Path):
    """nbval compares each output of the notebook, which is saved as a front end saves it."""
    setup = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{SETUP}"
    ask = f"r = ask({ANSWER!r}, delay=0.01)"
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(setup),
            nbformat.v4.new_code_cell(ask, outputs=kernel.run(ask).outputs),
            nbformat.v4.new_code_cell("print(r.text == '')", outputs=kernel.run("print(r.text == '')").outputs),
        ],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    for number, cell in enumerate(notebook.cells, 1):
        cell.execution_count = number
    nbformat.validate(notebook)
    for name in ("streamed.ipynb", "again.ipynb"):
        nbformat.write(notebook, tmp_path / name)
    notebook.cells[1].outputs[0].data["text/plain"] += "another word"
    nbformat.write(notebook, tmp_path / "changed.ipynb")
    names = ["streamed.ipynb", "again.ipynb", "changed.ipynb"]
    command = [sys.executable, "-m", "pytest", "--nbval", *names, "-q", "-p", "no:cacheprovider"]
    env = environment(tmp_path / "home")
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=240)
    assert "1 failed, 8 passed" in done.stdout, done.stdout + done.stderr
    assert "FAILED changed.ipynb" in done.stdout, "nbval would not notice a changed answer"
