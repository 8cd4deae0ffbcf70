"""Tests of the view and the host for marimo, with a stand-in for the module. tests/places runs the real one."""

from __future__ import annotations

import itertools
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from nbchat import Response, ScriptedTransport, Session
from nbchat.core.chunks import StreamChunk
from nbchat.core.errors import OverloadedError
from nbchat.engine.host import PlainHost
from nbchat.notebook import host as hosts
from nbchat.notebook.host import current_host
from nbchat.notebook.marimo import MarimoHost, MarimoView


class Output:
    """The output of a cell: the HTML of each picture, and "" where it was cleared."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def replace(self, html: str) -> None:
        self.shown.append(html)

    def clear(self) -> None:
        self.shown.append("")


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> Output:
    """Let this code run in a cell of marimo."""
    output = Output()
    module = SimpleNamespace(output=output, Html=str, running_in_notebook=lambda: True)
    monkeypatch.setitem(sys.modules, "marimo", module)  # type: ignore[arg-type]
    monkeypatch.setattr(hosts, "running_shell", lambda: None)
    return output


def test_a_cell_shows_the_answer_while_it_arrives(output: Output):
    """Each picture is safe HTML. At the end the cell shows what marimo shows for it."""
    seconds = itertools.count()
    now = [0]

    class Tick(MarimoView):
        def feed(self, chunk: StreamChunk) -> None:
            now[0] = next(seconds)
            super().feed(chunk)

    view = Tick(clock=lambda: now[0])
    session = Session(ScriptedTransport("Some **bold** words, <b>raw</b> and $x^2$", piece=10))
    session.ask("Hi", sinks=[view])
    assert output.shown[-1] == ""
    assert len(output.shown) > 4
    last = output.shown[-2]
    assert "<strong>bold</strong>" in last
    assert "&lt;b&gt;raw" in last
    assert '<marimo-tex class="arithmatex">||(x^2||)</marimo-tex>' in last
    assert "waiting for the first word" in output.shown[0]


@pytest.mark.parametrize("end", [OverloadedError("busy"), KeyboardInterrupt()])
def test_the_output_is_cleared_however_the_answer_ends(output: Output, end: BaseException):
    """marimo then shows the error."""
    with pytest.raises(type(end)):
        Session(ScriptedTransport(["Half an ans", end])).ask("Hi")
    assert output.shown[-1] == ""


def test_ask_finds_the_view_only_where_a_cell_runs(output: Output, monkeypatch: pytest.MonkeyPatch):
    """A script may import marimo too."""
    assert isinstance(current_host(), MarimoHost)
    module: Any = sys.modules["marimo"]
    module.running_in_notebook = lambda: False
    assert type(current_host()) is PlainHost
    Session(ScriptedTransport("Fine.")).ask("Hi")
    assert output.shown == []


@pytest.mark.parametrize(
    ("text", "typeset"),
    [
        (r"$\beta_1$", r"||(\beta_1||)"),
        (r"\(a < b\)", "||(a &lt; b||)"),
        ("$$\nx\n$$", "||["),
        (r"\[ \sum_i x_i \]", "||["),
        ("\\begin{align}\na &= b\n\\end{align}", "||["),
    ],
)
def test_formulas_are_typeset_by_marimo(text: str, typeset: str):
    """The HTML that Jupyter gets keeps the delimiters of MathJax."""
    response: Response = Session(ScriptedTransport(text)).ask("Hi")
    kind, html = response._mime_()
    assert kind == "text/html"
    assert typeset in html
    assert "mathjax_process" not in html
    assert "mathjax_process" in response._repr_mimebundle_()["text/html"]
