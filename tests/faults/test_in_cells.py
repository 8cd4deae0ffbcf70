"""Every fault, in cells of one real kernel: what a front end gets, and what is left in the kernel.

Each fault is in one of its modes and kinds of answer, unless THOROUGH=1. test_in_python.py has more of them.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.state import plain
from tests.faults.table import Asked, Case, cases, fault_server, some_cases
from tests.faults.what_people_see import Outcome, outcomes
from tests.kernel.harness import Kernel, kernel_of
from tests.support.thorough import THOROUGH

#: The cases that one test runs. A test for each would report 2,000 lines, and pytest costs more than a case.
_PER_TEST = 50
_SETUP = """
%load_ext nbchat
from tests.faults.cells import watch
watch({url!r}, {unused!r}, {folder!r})
def add(a=None, b=None):
    "Add two numbers."
    return "5"
"""


class Ring:
    """A kernel, and the server that its cells ask."""

    def __init__(self, kernel: Kernel, folder: Path, asked: Asked) -> None:
        self.kernel, self.folder, self.asked = kernel, folder, asked

    def run(self, case: Case) -> tuple[dict[str, Any], list[str]]:
        """Run the cell of a case. Return the state after it, and what is wrong with what the front end got."""
        options = (
            f"-c {case.id} {'' if case.mode == 'stream' else '--no-stream'} {'-t add' if case.kind == 'tool' else ''}"
        )
        parent = self.kernel.start(f"%%claude {options}\n{case.prompt}", case.id)
        cell = self.kernel.finish(parent)
        state = json.loads((self.folder / "state.json").read_text())
        wrong = []
        outputs = cell.outputs
        displays = [output for output in outputs if output.output_type == "display_data"]
        errors = [output for output in outputs if output.output_type == "error"]
        if len(displays) + len(errors) != len(outputs):
            wrong.append(f"other outputs: {outputs}")
        # The line of a wait has no data after the wait, and a front end shows nothing.
        shown = [output for output in displays if output.data]
        # An answer with a text has LaTeX.
        always = {"text/html", "text/plain", *["text/latex"] * bool(state["text"].strip())}
        if any(not always <= set(output.data) <= {"text/html", "text/latex", "text/plain"} for output in shown):
            wrong.append(f"an output that is not static: {[list(output.data) for output in shown]}")
        if len(shown) > 1:
            wrong.append(f"{len(shown)} answers")
        if state["text"] and not shown:
            wrong.append("the answer is not shown")
        lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for output in errors for line in output.traceback]
        said = plain("\n".join(lines).removeprefix(f"{state['error']}: "))
        if said != state["said"]:
            wrong.append(f"the cell says {said!r}")
        if (cell.reply["status"] == "error") != bool(state["error"]):
            wrong.append(f"the cell ended with {cell.reply['status']}")
        for name in ("threads", "widgets", "comms", "sockets"):
            if state[name]:
                wrong.append(f"{name} are left: {state[name]}")
        if "sk-ant-ring" in cell.everything():
            wrong.append("the key is shown")
        return {**state, "asked": self.asked.first.get(case.id, 0)}, wrong


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ring]:
    folder = tmp_path_factory.mktemp("ring")
    unused = socket.socket()
    unused.bind(("127.0.0.1", 0))
    with fault_server() as (url, asked), kernel_of(folder) as kernel, unused:
        nobody = f"http://127.0.0.1:{unused.getsockname()[1]}"
        kernel.run(_SETUP.format(url=url, unused=nobody, folder=str(folder)))
        yield Ring(kernel, folder, asked)


@pytest.fixture(scope="module")
def expected() -> dict[str, Outcome]:
    """Return what the snapshot says of each case."""
    return outcomes()


ALL = cases() if THOROUGH else some_cases()
PARTS = [ALL[start : start + _PER_TEST] for start in range(0, len(ALL), _PER_TEST)]


def test_each_fault_has_a_case() -> None:
    """No fault is missing, and the cases have each mode with each kind of answer."""
    assert {case.number for case in ALL} == {case.number for case in cases()}
    assert {(case.mode, case.kind) for case in ALL} == {(case.mode, case.kind) for case in cases()}


@pytest.mark.parametrize("part", PARTS, ids=[f"{part[0].id}-and-{len(part) - 1}-more" for part in PARTS])
def test_faults(part: list[Case], ring: Ring, expected: dict[str, Outcome]) -> None:
    """A cell shows what plain Python raises, and leaves nothing behind."""
    failures = []
    for case in part:
        state, wrong = ring.run(case)
        outcome = Outcome.of(case, state)
        if outcome != expected[case.id]:
            wrong.append(f"{outcome}, not {expected[case.id]}")
        if len(state["rows"]) != ring.asked.posts.get(case.id, 0):
            wrong.append(f"rows {state['rows']}")
        failures += [f"{case.fault.name} ({case.id}): {problem}" for problem in wrong]
    assert not failures, "\n".join(failures[:20])
    assert ring.asked.problems == []
