"""Check the notebooks as any user can: with strict nbval and replayed answers, without a key, a network or a model."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from nbchat.command_line.record import cassettes_of
from nbchat.core.errors import CassetteMiss
from tests.kernel.harness import kernel_of

ROOT = Path(__file__).parents[2]
SEAL = Path(__file__).parent / "sealed"
PAGES = sorted((ROOT / "notebooks").glob("*.ipynb"))
#: The notebooks that the project promises.
PROMISED = {"quickstart", "conversations", "data", "tools", "structured", "rows", "records"}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


@pytest.fixture
def attempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Block the network in each Python process of the test. Return the file that lists each blocked attempt."""
    file = tmp_path / "attempts"
    for name, value in {
        "PYTHONPATH": os.pathsep.join([str(SEAL), str(ROOT)]),
        "SEALED_ATTEMPTS": str(file),
        "NBCHAT_CASSETTE_MODE": "replay",
        "JUPYTER_PLATFORM_DIRS": "1",
        "MPLCONFIGDIR": str(tmp_path / "matplotlib"),
    }.items():
        monkeypatch.setenv(name, value)
    return file


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """Return a copy of the notebooks, because a run must not change the originals."""
    return Path(shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks"))


#: Runs pytest as ``python -m pytest`` does, twice if the first run passed. Each run has a new kernel.
_TWICE = "import sys, pytest; sys.exit(pytest.main(sys.argv[1:]) or pytest.main(sys.argv[1:]))"


def _nbval(page: Path, *, twice: bool = False) -> tuple[int, str]:
    """Run strict nbval on one notebook as a user would. Return the exit status and the output."""
    command = [sys.executable, *(("-c", _TWICE) if twice else ("-m", "pytest"))]
    command += ["--nbval", "--tb=short", "-p", "no:cacheprovider", "-c", os.devnull]
    done = subprocess.run(
        [*command, f"--rootdir={page.parent}", page.name],
        cwd=page.parent,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def _read(page: Path) -> Any:
    return nbformat.read(page, as_version=4)


def _code(page: Path) -> list[Any]:
    return [cell for cell in _read(page).cells if cell.cell_type == "code"]


def _outputs(page: Path) -> Iterator[Any]:
    for cell in _code(page):
        yield from cell.outputs


def test_all_promised_pages_are_there():
    """The repository contains each promised notebook."""
    assert {page.stem for page in PAGES} >= PROMISED


@each_page
def test_strict_nbval_passes_twice_with_the_network_cut(page: Path, desk: Path, attempts: Path):
    """Each cell passes twice in a row. Nothing is sent, no model is loaded, and no file changes."""
    copy = desk / page.name
    before = {file.name: file.read_bytes() for file in desk.iterdir() if file.is_file()}
    cells = len(_code(copy))
    status, said = _nbval(copy, twice=True)
    assert status == 0, said
    assert len(re.findall(rf"\b{cells} passed in ", said)) == 2, said  # none skipped, none expected to fail
    assert not attempts.exists(), attempts.read_text()
    assert {file.name: file.read_bytes() for file in desk.iterdir() if file.is_file()} == before


@each_page
def test_no_output_is_ignored(page: Path):
    """No marker and no tag excludes a cell from the comparison."""
    for cell in _code(page):
        assert not re.search(r"(NBVAL|PYTEST_VALIDATE)_\w+", cell.source), cell.source
        tags = cell.metadata.get("tags", [])
        assert not [tag for tag in tags if tag.startswith(("nbval", "pytest"))], cell.source


@each_page
def test_a_page_is_saved_as_it_is_replayed(page: Path):
    """All code cells were executed in order. Answers are plain outputs without widgets, times and paths."""
    cells = _code(page)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert "widgets" not in _read(page).metadata
    assert _read(page).metadata["kernelspec"]["name"] == "python3"
    assert len({cell.id for cell in _read(page).cells}) == len(_read(page).cells)
    for cell in cells:
        assert "execution" not in cell.metadata
        asks = re.match(r"%%claude\b", cell.source) and "--dry-run" not in cell.source
        if asks and "--quiet" not in cell.source and "raises-exception" not in cell.metadata.get("tags", []):
            assert [output for output in cell.outputs if "nbchat" in output.get("metadata", {})], cell.source
    for output in _outputs(page):
        assert "application/vnd.jupyter.widget-view+json" not in output.get("data", {})
        assert output.output_type != "stream" or output.name != "stderr", output.text
    text = page.read_text(encoding="utf-8")
    for volatile in (str(Path.home()), str(ROOT), "/tmp/", r"(?!00:00:00)\d\d:\d\d:\d\d", "sk-ant-"):
        assert not re.search(volatile if "\\" in volatile else re.escape(volatile), text), volatile


@each_page
def test_a_page_names_the_model_that_answered(page: Path):
    """A page says if the embedded model or a script answered, so that no reader believes it was Claude."""
    said = " ".join(cell.source for cell in _read(page).cells if cell.cell_type == "markdown").lower()
    about = [output.get("metadata", {}).get("nbchat", {}) for output in _outputs(page)]
    models = {answer.get("model") for answer in about}
    if any("SmolLM2" in str(model) for model in models):
        assert "embedded model" in said
    if "scripted" in models:
        assert "scripted" in said


@each_page
def test_cassettes_of_a_page_are_next_to_it_and_have_answers(page: Path):
    """The repository contains the cassettes that a page names."""
    for cassette in cassettes_of(_read(page), page.parent):
        lines = cassette.read_text(encoding="utf-8").splitlines()
        assert json.loads(lines[0]) == {"format": "nbchat.cassette/1"}
        assert len(lines) > 1


def test_a_changed_cassette_makes_nbval_fail(desk: Path, attempts: Path):
    """A page fails if one word of a recorded answer changes. Its other cells pass."""
    cassette = desk / "quickstart.cassette.jsonl"
    lines = cassette.read_text(encoding="utf-8").splitlines(keepends=True)
    recording = json.loads(lines[1])
    deltas = [event for _, event in recording["events"] if event.get("delta", {}).get("type") == "text_delta"]
    deltas[-1]["delta"]["text"] += " zebra"
    cassette.write_text("".join([lines[0], json.dumps(recording) + "\n", *lines[2:]]), encoding="utf-8")
    status, said = _nbval(desk / "quickstart.ipynb")
    assert status == 1
    assert "zebra" in said
    assert re.search(r"\d+ failed, \d+ passed", said), said


def test_a_page_that_cannot_be_replayed_fails(desk: Path, attempts: Path):
    """A page fails if a recording is missing. The cell says what to do, and sends nothing."""
    cassette = desk / "quickstart.cassette.jsonl"
    lines = cassette.read_text(encoding="utf-8").splitlines(keepends=True)
    cassette.write_text("".join(lines[:-1]), encoding="utf-8")
    status, said = _nbval(desk / "quickstart.ipynb")
    assert status == 1
    assert CassetteMiss.__name__ in said
    assert not attempts.exists()


def test_a_changed_cell_is_a_miss_that_shows_the_difference(desk: Path, attempts: Path):
    """A changed prompt is not sent during replay. The error shows the difference."""
    page = desk / "quickstart.ipynb"
    text = page.read_text(encoding="utf-8")
    assert "List three things" in text
    page.write_text(text.replace("List three things", "List eleven things"), encoding="utf-8")
    status, said = _nbval(page)
    assert status == 1
    assert "eleven" in said
    assert not attempts.exists()


_REACH = """
import socket, sys, urllib.request
def reach(call, *arguments):
    try:
        call(*arguments)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "reached"
listener = socket.create_server(("127.0.0.1", 0))
print(reach(socket.create_connection, listener.getsockname()))
print(reach(socket.create_connection, ("192.0.2.1", 80), 5))
print(reach(socket.create_connection, ("2001:db8::1", 80), 5))
print(reach(urllib.request.urlopen, "http://example.invalid/"))
print(reach(socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto, b"x", ("192.0.2.1", 53)))
print(reach(__import__, "xllamacpp"))
"""


def test_the_network_is_blocked_in_a_kernel(attempts: Path, tmp_path: Path):
    """Connections to addresses other than loopback fail in a kernel, and so does the import of the local model."""
    with kernel_of(tmp_path / "home", PYTHONPATH=os.environ["PYTHONPATH"]) as kernel:
        loopback, *others, model = kernel.run(_REACH).stdout.splitlines()
    assert loopback == "reached"
    assert len(others) == 4
    assert all("sealed: " in other for other in others), others
    assert model == "ImportError: sealed: import xllamacpp"
    assert len(attempts.read_text().splitlines()) == 5


def test_a_page_that_sends_a_request_is_detected(desk: Path, attempts: Path, monkeypatch: pytest.MonkeyPatch):
    """A page without replay tries to send a request. The attempt is blocked and written to the file."""
    monkeypatch.setenv("NBCHAT_CASSETTE_MODE", "off")
    monkeypatch.setenv("NBCHAT_ENDPOINT", "http://192.0.2.1")
    status, said = _nbval(desk / "quickstart.ipynb")
    assert status == 1, said
    assert "192.0.2.1" in attempts.read_text()
