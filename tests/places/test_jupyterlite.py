"""Cells in a place like JupyterLite: no threads, no signals, no file locks, no SQLite, no home folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import Received, Wire, serving, streaming, text_events

ROOT = Path(__file__).parents[2]
WORDS = [f"word{number} " for number in range(60)]
PAUSE_S = 0.05


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Run the cells against a server that streams, in a process of their own."""
    home = tmp_path_factory.mktemp("lite")
    keep = {
        name: value for name, value in os.environ.items() if not name.startswith(("ANTHROPIC_", "NBCHAT_", "PYTEST_"))
    }
    stream, ends = streaming(text_events(WORDS), PAUSE_S), []

    def answer(wire: Wire, request: Received) -> None:
        stream(wire, request)
        ends.append(time.monotonic())

    with serving(answer) as server:
        variables = {"NBCHAT_ENDPOINT": server.url, "NBCHAT_MODEL": "asked", "IPYTHONDIR": str(home)}
        sources = [
            "%load_ext nbchat",
            "%%claude\nhi",
            "%nbchat doctor",
            "%%claude\nagain",
            "%nbchat usage",
        ]
        done = subprocess.run(
            [sys.executable, str(ROOT / "tests/places/jupyterlite.py"), *sources],
            env=keep | variables | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=300,
            cwd=home,
        )
        assert done.returncode == 0, done.stderr
        found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
        assert server.requests[-1].body["messages"][0]["content"] == "hi"
    assert not (home / "~").exists()
    found[1]["end"], found[3]["end"] = ends[0], ends[-1]
    return found


def test_every_cell_runs_and_warns_of_nothing(cells: list[dict[str, Any]]):
    """What is missing is no fault, so no cell speaks of it, and no thread was started."""
    for cell in cells[:-1]:
        assert (cell["ok"], cell["warnings"], cell["stderr"]) == (True, [], ""), cell
    assert cells[-1]["threads"] == 1


@pytest.mark.parametrize("number", [1, 3])
def test_the_cell_streams(cells: list[dict[str, Any]], number: int):
    """The text grows in widgets while it arrives, and one plain output stays."""
    cell = cells[number]
    growing = [(at, value) for at, value in cell["values"] if "word1" in value and "nbchat-status" not in value]
    lengths = [len(value) for _, value in growing]
    assert len(set(lengths)) >= 3  # more on a machine that is not busy
    assert lengths == sorted(lengths)
    assert growing[0][0] < cell["end"], "the first words were shown before the server sent the last one"
    box, final = cell["shown"]
    assert "application/vnd.jupyter.widget-view+json" in box["data"]
    assert (final["update"], sorted(final["data"])) == (True, ["text/html", "text/latex", "text/plain"])
    assert final["data"]["text/plain"] == "".join(WORDS)
    assert final["metadata"]["nbchat"]["status"] == "complete"


def test_the_doctor_says_once_what_is_off(cells: list[dict[str, Any]]):
    """Each part that does not work here has one line with its reason."""
    lines = cells[2]["stdout"].splitlines()
    assert [line for line in lines if line.startswith("embedded model")] == [
        "embedded model no: no process can start here"
    ]
    off = [line for line in lines if line.startswith("off here")]
    for part, reason in (
        ("MCP servers and async tools", "no thread can start here"),
        ("the journal", "the user has no home folder"),
        ("the usage ledger", "SQLite"),
    ):
        (line,) = [line for line in off if part in line]
        assert reason in line or part == "the usage ledger", line
    assert "tried          it answered" in cells[2]["stdout"]


def test_usage_of_this_session_is_known(cells: list[dict[str, Any]]):
    """The ledger is kept in memory."""
    assert "This run: 2 requests sent" in cells[4]["stdout"]
