"""Cells in Pyodide, the Python of JupyterLite, under Node: a scripted answer, and what has no compiled part."""

from __future__ import annotations

import json
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from tests.places.make_environments import HERE, ROOT, make_pyodide

RUN = """
const {loadPyodide} = require("pyodide");
(async () => {
  const [source, site, program] = process.argv.slice(1);
  const python = await loadPyodide();
  python.mountNodeFS("/src", source);
  python.mountNodeFS("/site", site);
  console.log(await python.runPythonAsync(require("fs").readFileSync(program, "utf8")));
})().catch(error => { console.error(String(error)); process.exit(1); });
"""
CELLS = [
    "%load_ext nbchat",
    "import nbchat\n"
    "settings = get_ipython().nbchat.settings\n"
    "settings.endpoints = {'script': nbchat.ScriptedTransport('# Head\\n\\n<b>hi</b> *you*', delay=0.02)}\n"
    "settings.endpoint = 'script'",
    "%%claude\nhi",
    "%nbchat usage",
    "_claude",
    # The whole doctor asks an endpoint, and pydantic, which the SDK needs, has no wheel for Pyodide on PyPI.
    "from nbchat.engine import doctor\nfor part, reason in doctor._off(False):\n    print(part, reason)",
]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run the cells in Pyodide."""
    modules = make_pyodide()
    if modules is None:
        pytest.skip("there is no Node and npm, or npm could not install pyodide")
    program = tmp_path_factory.mktemp("pyodide") / "cells.py"
    program.write_text(f"CELLS = {CELLS!r}\n{(HERE / 'pyodide_cell.py').read_text()}")
    node = shutil.which("node")
    assert node
    done = subprocess.run(
        [node, "-e", RUN, str(ROOT), sysconfig.get_paths()["purelib"], str(program)],
        capture_output=True,
        text=True,
        timeout=400,
        cwd=Path(modules).parent,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_cells_run_in_a_python_of_the_browser(ran: dict[str, Any]):
    """No cell fails, though no thread starts."""
    assert ran["platform"] == "emscripten"
    for cell in ran["cells"]:
        assert (cell["ok"], cell["error"]) == (True, "None"), cell
    assert ran["answer"] == "# Head\n\n<b>hi</b> *you*"
    assert "This run: 1 request sent" in ran["cells"][3]["printed"]


def test_without_nh3_the_answer_is_plain_text(ran: dict[str, Any]):
    """Nothing that the model wrote becomes markup."""
    final = ran["cells"][2]["shown"][-1]
    assert final["metadata"]["nbchat"]["status"] == "complete"
    assert final["data"]["text/plain"] == "# Head\n\n<b>hi</b> *you*"
    assert "&lt;b&gt;hi" in final["data"]["text/html"]
    assert "<b>" not in final["data"]["text/html"]
    assert ran["cells"][4]["shown"] == [] or "<b>" not in json.dumps(ran["cells"][4]["shown"])


def test_nothing_is_said_of_nh3_but_by_the_doctor(ran: dict[str, Any]):
    """A cell prints no warning and no traceback, and shows no box that stays empty."""
    cells = ran["cells"]
    assert [cell["printed"] for cell in cells[:3]] == [""] * 3
    assert [sorted(shown["data"]) for shown in cells[2]["shown"]] == [["text/html", "text/plain"]]
    (line,) = [line for line in cells[5]["printed"].splitlines() if "nh3 does not work here" in line]
    assert line.startswith("formatted answers")
