"""Tests of the harness: both front ends open, run, save and load a notebook."""

from __future__ import annotations

import pytest
from harness import FrontEnd, JupyterServer, Page


@pytest.mark.parametrize("front_end", ["lab", "notebook"])
def test_a_notebook_runs_and_is_saved_and_loaded(server: JupyterServer, page: Page, front_end: FrontEnd) -> None:
    """The output of a cell is on the page, in the file, and on the page after a reload."""
    name = f"harness-{front_end}.ipynb"
    server.write(name, "from IPython.display import display, HTML\ndisplay(HTML('<b>shown</b>'))", "6 * 7")
    page.open(name, front_end)
    page.run_all()
    assert "<b>shown</b>" in page.outputs()[0]
    assert "42" in page.outputs()[1]
    saved = page.save()
    assert saved.cells[1].outputs[0].data["text/plain"] == "42"
    page.reload()
    assert "<b>shown</b>" in page.outputs()[0]
    assert page.screenshot(name.removesuffix(".ipynb")).stat().st_size > 5_000
    assert page.dialogs == []
