"""``%nbchat resume``: a conversation goes on from the saved notebook after a restart of the kernel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from tests.kernel.harness import Kernel, kernel_of, table_of
from tests.kernel.test_cell import answer
from tests.support.server import Received, Server, serving

CELLS = {
    "first": "%%claude\none",
    "python": "x = 3",
    "value": "%%claude -m model-b\ntwo {{ x }} \\{{",
    "other": "%%claude -c other\naside",
    "once": "%%claude --once\nalone",
    "failed": "%%claude --max-token 3\nnever sent",
    "late": "%%claude\nthree",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(answer) as server:
        yield server


def texts(request: Received) -> list[str]:
    """Return what a request sends, a line for each message."""
    contents = [message["content"] for message in request.body["messages"]]
    return [content if isinstance(content, str) else "".join(part["text"] for part in content) for content in contents]


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Path:
    """Run the cells in a kernel that ends, and return the notebook that a front end would have saved."""
    folder = tmp_path_factory.mktemp("resume")
    cells = []
    with kernel_of(folder, NBCHAT_ENDPOINT=server.url) as kernel:
        kernel.run("%load_ext nbchat", "load")
        for name, source in CELLS.items():
            ran = kernel.run(source, name, fails=name == "failed")
            number = ran.reply["execution_count"]
            cells.append(nbformat.v4.new_code_cell(source, id=name, outputs=ran.outputs, execution_count=number))
    cells.append(nbformat.v4.new_code_cell("%%claude\nnot yet run", id="new"))
    path = folder / "analysis.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


@pytest.fixture
def kernel(notebook: Path, server: Server) -> Iterator[Kernel]:
    with kernel_of(notebook.parent, NBCHAT_ENDPOINT=server.url, JPY_SESSION_NAME=str(notebook)) as kernel:
        kernel.run("%load_ext nbchat", "load")
        yield kernel


def test_the_conversation_goes_on_from_the_notebook(kernel: Kernel, server: Server):
    """Nothing is sent. The next cell has all turns as its history, and a cell that runs again replaces its own."""
    before = len(server.requests)
    said = kernel.run("%nbchat resume", "resume").stdout
    assert len(server.requests) == before
    head, *remarks = said.splitlines()
    assert head.startswith("'main' goes on from 3 turns of analysis.ipynb, as saved at ")
    assert remarks[0].startswith("'other' goes on from 1 turn of analysis.ipynb")
    assert remarks[1:] == [
        "  cell [4]: {{ … }} stays as typed, because the notebook does not keep the values",
        "  cell [7] was left out: unknown option --max-token",
        "  cell 8 of the notebook was left out: it keeps no answer",
    ]
    kernel.run("%%claude\nfour", "new")
    one, two, three = "# You said\n\none, **and** so on.\n", "two {{ x }} \\{{", "three"
    sent = texts(server.requests[-1])
    assert sent[:3] == ["one", one, two]
    assert sent[4] == three
    assert sent[-1] == "four"
    kernel.run("%%claude\ntwo again", "value")
    assert texts(server.requests[-1]) == ["one", one, "two again"]
    _, *rows = table_of(kernel.run("%nbchat history"))
    # The numbers that the notebook shows: those of the last run of each cell, also of a run before the restart.
    assert [row[1] for row in rows] == ["[2]", "[4]", "[8]", "[3]"]
    assert [row[5] for row in rows] == ["one", "two again", "three", "four"]


def test_a_cell_that_ran_in_this_kernel_keeps_its_turn(kernel: Kernel, server: Server):
    """What is in the kernel is more complete than what the notebook keeps. A second ``resume`` changes nothing."""
    kernel.run("%%claude\nthree, after the restart", "late")
    for _ in range(2):
        kernel.run("%nbchat resume", "resume")
    kernel.run("%%claude\nfive", "another")
    prompts = texts(server.requests[-1])[::2]
    assert prompts == ["one", "two {{ x }} \\{{", "three, after the restart", "five"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "cannot be read"), ("no JSON", "not a valid notebook"), ('{"cells": 3}', "not a valid notebook")],
)
def test_another_file_can_be_named(kernel: Kernel, notebook: Path, content: str | None, reason: str):
    """A file that is not there or not a notebook is an error of two lines."""
    path = notebook.parent / "other.ipynb"
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_text(content, encoding="utf-8")
    error = kernel.run("%nbchat resume other.ipynb", "resume", fails=True).error
    assert reason in error[0]
    assert len(error) == 2
    assert "3 turns" in kernel.run(f"%nbchat resume {notebook.name}", "resume").stdout


def test_without_a_path_the_file_must_be_named(tmp_path: Path):
    """Where no front end tells the path, the error says what to type."""
    with kernel_of(tmp_path) as kernel:
        kernel.run("%load_ext nbchat", "load")
        error = kernel.run("%nbchat resume", "resume", fails=True).error
    assert error == [
        "OptionError: %nbchat resume: this front end does not tell which notebook runs",
        "Name the file: %nbchat resume NOTEBOOK.ipynb",
    ]
