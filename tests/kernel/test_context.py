"""Cells, their outputs and the last error as context, in a real ipykernel."""

from __future__ import annotations

import json
from pathlib import Path

import nbclient
import nbformat
import pytest

from tests.kernel.harness import ROOT, kernel_of


def run(*sources: str) -> list[nbformat.NotebookNode]:
    """Run a notebook in a new kernel, also past errors, and return its cells."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    client = nbclient.NotebookClient(
        notebook,
        kernel_name="python3",
        allow_errors=True,
        timeout=60,
        resources={"metadata": {"path": str(ROOT)}},
    )
    client.execute()
    return notebook.cells


def told(cell: nbformat.NotebookNode) -> dict:
    """Return the JSON that the cell printed. Fail with the cell's error if there is none."""
    text = "".join(output.get("text", "") for output in cell.outputs if output.output_type == "stream")
    assert text, "\n".join(line for output in cell.outputs for line in output.get("traceback", []))
    return json.loads(text)


WATCH = (
    "from nbchat.notebook.history import cells_of, gather_cells; "
    "from nbchat.notebook.listener import watch; kept = watch(get_ipython())"
)
TELL = """
import json
def short(block):
    return block["text"] if block["type"] == "text" else block["type"]
def tell(carried):
    print(json.dumps({"content": [short(block) for block in carried.content], "notes": carried.notes}))
"""


@pytest.fixture(scope="module")
def notebook() -> list[nbformat.NotebookNode]:
    """Run cells of each kind, and then cells that print the context that nbchat makes of them."""
    return run(
        WATCH,  # 1
        TELL,  # 2
        "print('loaded', 3)\n6 * 7",  # 3
        "%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([1, 2]);",  # 4
        "import sys\nprint('before')\nfig, ax = plt.subplots(); ax.plot([3]); display(fig); plt.close()\n"
        "print('after'); print('warned', file=sys.stderr)",  # 5
        "from IPython.display import clear_output\n"
        "for i in range(5):\n    clear_output(wait=True); display({'step': i})",  # 6
        "shown = display('one', display_id=True)\nshown.update('two')",  # 7
        "# nbchat: ignore\nsecret = 'do not send'\nprint(secret)",  # 8
        "%%writefile /dev/null\nnothing",  # 9
        "def inverse(x):\n    return 1 / x\nzero = 0\nhalf = 0.5\ninverse(zero) + half",  # 10
        "tell(gather_cells('3-7', get_ipython()))",  # 11
        "tell(gather_cells('above', get_ipython()))",  # 12
        "from nbchat.notebook.last_error import last_error, carry_failure\n"
        "tell(carry_failure(last_error(get_ipython())))",  # 13
        "tell(gather_cells('13', get_ipython()))\n",  # 14
        "x = (1 +\n",  # 15
        "tell(carry_failure(last_error(get_ipython())))",  # 16
        "gather_cells('99', get_ipython())",  # 17
        "raise KeyError('after ours')",  # 18
        "from nbchat.core.errors import OptionError\nraise OptionError('ours', 'does not count')",  # 19
        "print(json.dumps(repr(last_error(get_ipython()).error)))",  # 20
    )


def test_cells_bring_source_streams_and_results(notebook: list[nbformat.NotebookNode]) -> None:
    text = told(notebook[10])["content"][0]
    assert "<cell number=\"3\">\n<source>\nprint('loaded', 3)\n6 * 7\n</source>" in text
    assert '<output type="stdout">\nloaded 3\n</output>\n<output>\n42\n</output>\n</cell>' in text


def test_figures_of_a_cell_go_as_images_where_they_stood(notebook: list[nbformat.NotebookNode]) -> None:
    """Inline figures come after the cell, displayed figures inside it. Each has the number of its own cell."""
    content = told(notebook[10])["content"]
    assert content.count("image") == 2
    first, second = (place for place, block in enumerate(content) if block == "image")
    assert content[first - 1].rstrip().endswith("plt.plot([1, 2]);\n</source>\n<output>")
    assert content[first + 1].startswith('\n</output>\n</cell>\n<cell number="5">')
    assert content[second - 1].endswith('<output type="stdout">\nbefore\n</output>\n<output>\n')
    assert content[second + 1].startswith('\n</output>\n<output type="stdout">\nafter\n</output>')
    assert '<output type="stderr">\nwarned\n</output>' in content[second + 1]


def test_only_what_is_still_to_be_seen_goes(notebook: list[nbformat.NotebookNode]) -> None:
    """``clear_output`` and updates of a display take effect."""
    text = told(notebook[10])["content"][-1]
    sixth, seventh = text.split('<cell number="6">')[1].split('<cell number="7">')
    assert "{'step': 4}" in sixth
    assert "{'step': 3}" not in sixth
    assert "<output>\n'two'\n</output>" in seventh
    assert "<output>\n'one'" not in seventh


def test_above_is_all_before_this_cell_but_the_ignored(notebook: list[nbformat.NotebookNode]) -> None:
    said = told(notebook[11])
    text = "".join(said["content"])
    assert "do not send" not in text
    assert "gather_cells('above'" not in text
    assert 'number="10"' in text
    assert "ZeroDivisionError" in text
    assert "\x1b" not in text
    assert said["notes"] == ["cell 8: left out, as it says # nbchat: ignore"]


def test_last_error_names_cell_line_and_values(notebook: list[nbformat.NotebookNode]) -> None:
    text = told(notebook[12])["content"][0]
    assert '<cell number="10">\ndef inverse(x):' in text
    assert '<error type="ZeroDivisionError">' in text
    assert "In[10], line 5, in <module>" in text
    assert "In[10], line 5, in <module>:\ninverse(zero) + half" in text or "inverse(zero)\n" in text
    assert "zero = 0" in text
    assert "In[10], line 2, in inverse:\nreturn 1 / x\nx = 0" in text.replace("    return", "return")
    assert "ipykernel" not in text, "a file name with a process id makes each run another request"


def test_a_syntax_error_is_an_error_too(notebook: list[nbformat.NotebookNode]) -> None:
    text = told(notebook[15])["content"][0]
    assert '<cell number="15">\nx = (1 +' in text
    assert '<error type="SyntaxError">' in text
    assert "In[15], line 1" in text


def test_a_cell_that_never_ran_is_named(notebook: list[nbformat.NotebookNode]) -> None:
    (failed,) = notebook[16].outputs
    assert failed.ename == "OptionError"
    assert "no cell has run under the number 99; the last is 16" in "\n".join(failed.traceback)


def test_errors_of_nbchat_are_not_the_last_error(notebook: list[nbformat.NotebookNode]) -> None:
    assert told(notebook[19]) == "KeyError('after ours')"


def test_watching_again_or_no_more_leaves_one_or_no_listener() -> None:
    """``%reload_ext`` must not record each display twice."""
    cells = run(
        WATCH,
        "kept = watch(get_ipython())\n" + TELL,
        "display('once')",
        "tell(gather_cells('3', get_ipython()))",
        "from nbchat.notebook.listener import unwatch; unwatch(get_ipython()); unwatch(get_ipython())\n"
        "print(json.dumps([len(get_ipython().display_pub._hooks), kept.failed]))",
    )
    assert told(cells[3])["content"][0].count("<output>\n'once'\n</output>") == 1
    assert told(cells[4]) == [0, None]


def test_ipythons_own_record_does_not_double_displays() -> None:
    """``store_display_history`` records a display under the next cell. Only the record of nbchat counts."""
    cells = run(
        "get_ipython().display_pub.store_display_history = True\n" + WATCH + TELL,
        "display('second')",
        "display('third')",
        "tell(gather_cells('2-3', get_ipython()))",
    )
    second, third = told(cells[3])["content"][0].split('<cell number="3">')
    assert second.count("'second'\n</output>") == 1
    assert "'third'\n</output>" not in second
    assert third.count("'third'\n</output>") == 1
    assert "'second'\n</output>" not in third


def test_above_knows_a_cell_by_its_id_where_the_front_end_gives_one(tmp_path: Path) -> None:
    """JupyterLab and VS Code send the cell id in the metadata of the request."""
    with kernel_of(tmp_path) as kernel:
        kernel.run(WATCH + TELL, "setup")
        kernel.run("data = 'first version'", "load")
        kernel.run("print(data)", "show")
        kernel.run("data = 'second version'", "load")
        kernel.run("print('an earlier run of the asking cell')", "ask")
        (text,) = json.loads(kernel.run("tell(gather_cells('above', get_ipython()))", "ask").stdout)["content"]
    assert "first version'" not in text
    assert "data = 'second version'" in text
    assert "print(data)" in text
    assert "an earlier run" not in text
