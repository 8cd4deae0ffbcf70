"""The line that a cell shows while its request is prepared, in a real ipykernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernel.harness import Cell, Kernel, kernel_of

SETUP = """
%load_ext nbchat
import nbchat, time
shell = get_ipython()
shell.nbchat.session.endpoints._fixed = nbchat.ScriptedTransport("Hello!", repeat=True)
shell.run_line_magic("claude", "--quiet warm up")

def slow(value="a value"):
    time.sleep(1)
    return value
"""
LINE = "preparing the request …"


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with kernel_of(tmp_path_factory.mktemp("waiting")) as kernel:
        kernel.run(SETUP)
        yield kernel


def lines(cell: Cell) -> list[str]:
    """Return the display ids of the lines that the cell showed."""
    shown = cell.of("display_data")
    return [content["transient"]["display_id"] for content in shown if content["data"].get("text/plain") == LINE]


def test_a_slow_cell_shows_the_line_and_then_its_answer_in_the_same_output(kernel: Kernel):
    """The answer takes the place of the line. What the cell printed before stays above."""
    code = "print('before')\nget_ipython().run_cell_magic('claude', '', 'About {{ slow() }}')"
    cell = kernel.run(code)
    (display_id,) = lines(cell)
    assert {content["transient"]["display_id"] for content in cell.of("update_display_data")} == {display_id}
    printed, final = cell.outputs
    assert printed.text == "before\n"
    assert final.data["text/plain"] == "Hello!"
    assert final.metadata["nbchat"]["model"] == "scripted"


@pytest.mark.parametrize(
    ("code", "fails"),
    [
        ("%claude About {{ slow(undefined) }}{{ slow() }}", True),
        ("%claude About {{ slow() + 1 }}", True),
        ("%claude --quiet About {{ slow() }}", False),
        ("%claude --dry-run About {{ slow() }}", False),
    ],
)
def test_nothing_of_the_line_stays_without_an_answer(kernel: Kernel, code: str, fails: bool):
    """An error, a quiet cell and a dry run leave an output without content."""
    cell = kernel.run(code, fails=fails)
    assert LINE not in [output.get("data", {}).get("text/plain") for output in cell.outputs]
    assert len(lines(cell)) == (0 if "undefined" in code else 1)


def test_an_interrupt_of_the_preparation_takes_the_line_away(kernel: Kernel):
    """The cell ends with one short error and without the line."""
    parent = kernel.start("%claude About {{ time.sleep(60) }}")
    cell = kernel.finish(parent, lambda message: message["msg_type"] == "display_data" and kernel.interrupt())
    assert cell.error[-1] == "KeyboardInterrupt: stopped; nothing was sent"
    assert [output.data for output in cell.outputs if output.output_type == "display_data"] == [{}]


@pytest.mark.parametrize(
    ("code", "cell_id"),
    [("%claude At once", "a-cell"), ("%claude About {{ slow() }}", None)],
)
def test_a_fast_cell_and_a_cell_that_nobody_watches_show_no_line(kernel: Kernel, code: str, cell_id: str | None):
    """The only output is the answer."""
    cell = kernel.run(code, cell_id)
    assert lines(cell) == []
    (final,) = cell.outputs
    assert final.data["text/plain"] == "Hello!"
