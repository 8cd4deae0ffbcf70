"""The notebook file after Run All: nbclient executes it, and strict nbval compares it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from tests.kernel.harness import environment
from tests.support.server import Received, Server, Wire, serving, start, text_delta, text_events

HOLD = 30.0  # seconds: how long the server holds a connection that nobody closes


class Endpoint:
    """A server that answers ``says``. If a prompt contains "wait", the answer never ends."""

    def __init__(self) -> None:
        self.says = "Some **bold** words and $x$.\n"
        self.server: Server | None = None

    def __call__(self, wire: Wire, request: Received) -> None:
        wire.head()
        if "wait" in json.dumps(request.body["messages"][-1]):
            wire.event(start())
            wire.event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
            wire.event(text_delta("Some words "))
            wire.gone(HOLD)
            return
        for event in text_events([self.says[at : at + 4] for at in range(0, len(self.says), 4)]):
            wire.event(event)
        wire.end()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    with serving(endpoint) as endpoint.server:
        yield endpoint


def notebook_of(*sources: str) -> nbformat.NotebookNode:
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


def variables(tmp_path: Path, endpoint: Endpoint) -> dict[str, str]:
    assert endpoint.server is not None
    return environment(tmp_path / "home", NBCHAT_ENDPOINT=endpoint.server.url, NBCHAT_MAX_RETRIES="0")


def run_all(notebook: nbformat.NotebookNode, tmp_path: Path, endpoint: Endpoint) -> NotebookClient:
    """Execute the notebook in place, as ``jupyter execute`` does."""
    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env=variables(tmp_path, endpoint))
    return client


def test_the_file_holds_one_static_output_for_an_answer(tmp_path: Path, endpoint: Endpoint):
    """The output is safe HTML and Markdown. The file has no widget, no widget state and no number that changes."""
    notebook = notebook_of("%load_ext nbchat", "%%claude r <<\nHello", "print(r.usage.total_tokens)")
    run_all(notebook, tmp_path, endpoint)
    nbformat.validate(notebook)
    loaded, asked, printed = notebook.cells
    assert loaded.outputs == []
    (output,) = asked.outputs
    assert output.output_type == "display_data"
    assert sorted(output.data) == ["text/html", "text/latex", "text/plain"]
    assert output.data["text/plain"] == endpoint.says
    assert "<strong>bold</strong>" in output.data["text/html"]
    assert printed.outputs[0].text == "18\n"
    assert "widgets" not in notebook.metadata
    saved = nbformat.writes(notebook)
    assert "widget" not in saved
    assert "text/markdown" not in saved
    assert "Hello" not in json.dumps(output.metadata)
    assert not {"duration", "time_to_first_chunk"} & set(output.metadata["nbchat"])


def test_two_runs_make_the_same_file(tmp_path: Path, endpoint: Endpoint):
    """No output depends on time or chance, so a commit only shows real changes."""
    texts = []
    for _ in range(2):
        notebook = notebook_of("%load_ext nbchat", "%%claude\nHello", "%claude again")
        run_all(notebook, tmp_path, endpoint)
        texts.append(json.dumps([cell.outputs for cell in notebook.cells]))
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("source", "ename"), [("%%claude --modle x\nHello", "OptionError"), ("%%claude part <<\nwait", "KeyboardInterrupt")]
)
def test_run_all_stops_at_a_cell_that_fails(tmp_path: Path, endpoint: Endpoint, source: str, ename: str):
    """After an error or an interrupt, the partial answer is in the file, and the next cell did not run."""
    notebook = notebook_of("%load_ext nbchat", source, "print('ran')")
    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}})
    assert endpoint.server is not None
    requests, over = endpoint.server.requests, threading.Event()

    def interrupt() -> None:
        while not requests:
            if over.wait(0.05):
                return
        time.sleep(1.0)
        os.kill(client.km.provisioner.pid, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(CellExecutionError) as raised:
            client.execute(env=variables(tmp_path, endpoint))
    finally:
        over.set()
        thread.join()
    assert raised.value.ename == ename
    _, asked, after = notebook.cells
    assert after.execution_count is None
    assert after.outputs == []
    *shown, error = asked.outputs
    assert error.ename == ename
    if ename == "KeyboardInterrupt":
        (partial,) = shown
        assert partial.data["text/plain"].startswith("Some words")
        assert partial.metadata["nbchat"]["status"] == "interrupted"
        assert "interrupted" in partial.data["text/html"]
    else:
        assert shown == []
        assert requests == []


def test_strict_nbval_passes_twice_and_sees_a_changed_answer(tmp_path: Path, endpoint: Endpoint):
    """nbval compares each output, its HTML and its Markdown."""
    notebook = notebook_of(
        "%load_ext nbchat", "%%claude r <<\nHello", "%claude What is {{ r.text }}?", "print(r.status)"
    )
    run_all(notebook, tmp_path, endpoint)
    for name in ("asked.ipynb", "again.ipynb"):
        nbformat.write(notebook, tmp_path / name)

    def compared(*names: str) -> str:
        command = [sys.executable, "-m", "pytest", "--nbval", *names, "-q", "-p", "no:cacheprovider"]
        env = variables(tmp_path, endpoint)
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=240)
        return done.stdout + done.stderr

    told = compared("asked.ipynb", "again.ipynb")
    assert "8 passed" in told, told
    assert "failed" not in told, told
    endpoint.says = endpoint.says.replace("bold", "other")
    told = compared("asked.ipynb")
    assert "2 failed, 2 passed" in told, told


FORMATTED = """\
# Results of *today*

- **bold** with `code_1`
- $x^2 \\le 1$ and $\\input{x}$

| a | b |
|---|--:|
| 1 | 2 |

```python
d = {"a": 1}
```

See [the page](https://example.org/a_b). \\input{x} \\write18{ls}
"""


def test_an_export_to_latex_shows_the_answer_and_runs_nothing_of_it(tmp_path: Path, endpoint: Endpoint):
    """nbconvert takes the LaTeX of the output as it is, so that LaTeX has only macros that nbchat wrote."""
    from nbconvert import LatexExporter, RSTExporter

    endpoint.says = FORMATTED
    notebook = notebook_of("%load_ext nbchat", "%%claude r <<\nHello", "r")
    run_all(notebook, tmp_path, endpoint)
    shown = notebook.cells[1].outputs[0].data["text/latex"]
    assert notebook.cells[2].outputs[0].data["text/latex"] == shown
    latex = LatexExporter().from_notebook_node(notebook)[0]
    body = latex.split(r"\begin{document}")[1]
    assert body.count(shown) == 2
    for part in (
        r"\subsection*{Results of \emph{today}}",
        r"\item{} \textbf{bold} with \texttt{code\_1}",
        r"\(x^{2}\le1\)",
        r"\begin{tabular}{lr}",
        '\\begin{Verbatim}[commandchars=\\\\\\{\\}]\nd = \\{"a": 1\\}\n\\end{Verbatim}',
        r"\href{https://example.org/a\_b}{the page}",
    ):
        assert part in shown, part
    assert not re.search(r"\\(?:input|write)", body)
    # The format of Sphinx would take LaTeX for a formula: it gets the HTML.
    assert "<strong>bold</strong>" in RSTExporter().from_notebook_node(notebook)[0]
