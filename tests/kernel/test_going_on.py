"""``--continue`` as a cell: in a notebook, after a restart of the kernel, and in a terminal."""

from __future__ import annotations

import subprocess
from pathlib import Path

import nbformat

from nbchat.notebook.going_on import GO_ON
from tests.kernel.harness import TIMEOUT_S, Kernel, environment, kernel_of
from tests.kernel.test_terminal_ipython import IPYTHON

SETUP = """
%load_ext nbchat
import nbchat
nb = get_ipython().nbchat.settings
nb.endpoints = {"script": nbchat.ScriptedTransport(
    ["One, two, thr", {"stop_reason": "max_tokens"}], ["ee, fo", {"stop_reason": "max_tokens"}], "ur. In words.",
    repeat=True,
)}
nb.endpoint = "script"
def sent():
    messages = nb.endpoints["script"].requests[-1].body()["messages"]
    return [part if isinstance(part, str) else "".join(block["text"] for block in part)
            for part in (message["content"] for message in messages)]
"""
CELLS = {"count": "%%claude\nCount to four.", "line": "%claude --continue", "cell": "%%claude --continue\nIn words."}


def history(kernel: Kernel) -> list[str]:
    """Return the texts that the last request of a kernel sent."""
    texts: list[str] = kernel.value("sent()")
    return texts


def test_an_answer_goes_on_and_a_restart_keeps_its_turns(tmp_path: Path):
    """Each cell goes on from the cell above it. ``resume`` reads both forms of the cell."""
    cells = []
    with kernel_of(tmp_path) as kernel:
        kernel.run(SETUP, "setup")
        error = kernel.run("%claude --continue", "early", fails=True).error
        assert error[0] == "InputError: --continue: 'main' has no answer above this cell"
        for name, source in CELLS.items():
            ran = kernel.run(source, name)
            number = ran.reply["execution_count"]
            cells.append(nbformat.v4.new_code_cell(source, id=name, outputs=ran.outputs, execution_count=number))
        assert "[stopped at max_tokens: %claude --continue goes on]" in cells[1].outputs[0].data["text/plain"]
        assert kernel.value("_claude.text") == "ur. In words."
        asked = history(kernel)
        assert asked[:2] == ["Count to four.", "One, two, thr"]
        assert asked[2].startswith(GO_ON)
        assert asked[2].endswith("It ends with: One, two, thr")
        assert asked[3] == "ee, fo"
        assert asked[4].startswith(GO_ON)
        assert asked[4].endswith("It ends with: ee, fo\n\nIn words.")
        assert "was not cut" in kernel.run("%claude --continue", "late", fails=True).error[0]
        # A cell that runs again replaces its own turn, and goes on from the turns before it.
        kernel.run(CELLS["line"], "line")
        assert [text.partition(" It")[0] for text in history(kernel)] == ["Count to four.", "One, two, thr", GO_ON]
    path = tmp_path / "count.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    with kernel_of(tmp_path) as kernel:
        kernel.run(SETUP, "setup")
        assert "goes on from 3 turns" in kernel.run(f"%nbchat resume {path.name}", "resume").stdout
        kernel.run("%%claude\nAnd five?", "new")
        assert history(kernel)[:-1] == [
            *("Count to four.", "One, two, thr", GO_ON, "ee, fo"),
            *(f"{GO_ON}\n\nIn words.", "ur. In words."),
        ]


def test_a_terminal_goes_on(tmp_path: Path):
    """A terminal has no cells, so the answer before goes on."""
    code = f"{SETUP}\n%claude Count to four.\n%claude --continue\nprint(len(sent()), _claude.text)"
    done = subprocess.run(
        [*IPYTHON, "-c", code],
        env=environment(tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "3 ee, fo"
    assert done.stdout.startswith("One, two, thr\n[stopped at max_tokens: %claude --continue goes on]\nee, fo")
