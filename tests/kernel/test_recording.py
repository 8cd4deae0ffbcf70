"""Tests of ``python -m nbchat``: ``record`` records notebooks again and saves the replay, and ``demo`` runs one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from nbchat.__main__ import main
from nbchat.command_line.record import cassettes_of
from tests.support.server import Received, Server, Wire, serving, streaming, text_events


def answer(wire: Wire, request: Received) -> None:
    """Answer with the number of requests, so that each answer differs from the one before."""
    answer.count += 1  # type: ignore[attr-defined]
    streaming(text_events([f"Answer {answer.count}."]))(wire, request)  # type: ignore[attr-defined]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in [name for name in os.environ if name.startswith(("PYTEST_", "JPY_"))]:
        monkeypatch.delenv(name)
    answer.count = 0  # type: ignore[attr-defined]
    with serving(answer) as server:
        yield server


def page_of(path: Path, *sources: str) -> Path:
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    known = {"kernelspec": kernel, "language_info": {"name": "python"}, "widgets": {"state": {}}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=known), path)
    return path


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a notebook that was recorded once, and its cassette. Its answer is "Answer 0."."""
    folder = tmp_path_factory.mktemp("desk")
    page = page_of(folder / "page.ipynb", LOAD, TAPE, "%%claude --once\nOne?")
    with pytest.MonkeyPatch.context() as patch, serving(streaming(text_events(["Answer 0."]))) as server:
        for name in [name for name in os.environ if name.startswith(("PYTEST_", "JPY_", "ANTHROPIC_", "NBCHAT_"))]:
            patch.delenv(name)
        for kind in ("DATA", "STATE", "CACHE", "CONFIG"):
            patch.setenv(f"XDG_{kind}_HOME", str(folder.parent / "desk-home" / kind.lower()))
        assert main(["record", str(page), "--endpoint", server.url]) == 0
    return folder


@pytest.fixture
def page(desk: Path, tmp_path: Path) -> Path:
    """Return a copy of the recorded notebook, beside a copy of its cassette."""
    for name in ("page.ipynb", "tape.jsonl"):
        shutil.copy(desk / name, tmp_path / name)
    return tmp_path / "page.ipynb"


def texts(path: Path) -> list[str]:
    """Return the answers that a notebook shows."""
    outputs = [output for cell in nbformat.read(path, 4).cells for output in cell.outputs]
    return [output.data["text/plain"] for output in outputs if "nbchat" in output.get("metadata", {})]


def recorded(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()][1:]


LOAD, TAPE = "%load_ext nbchat", "%nbchat cassette tape.jsonl"


def test_a_notebook_is_recorded_again_and_its_replay_is_saved(
    server: Server, page: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Each recording sends all requests again and removes the old recordings. The file has the outputs of a replay."""
    assert (texts(page), len(recorded(tmp_path / "tape.jsonl"))) == (["Answer 0."], 1)
    page_of(page, LOAD, TAPE, "%%claude --once\nOne?", "print(_claude.replayed, _claude.cost)")
    ids = [cell.id for cell in nbformat.read(page, 4).cells]
    assert main(["record", str(page), "--endpoint", server.url]) == 0
    assert (texts(page), len(server.requests)) == (["Answer 1."], 1)
    assert len(recorded(tmp_path / "tape.jsonl")) == 1
    assert "1 answer of test-model, cost unknown; tape.jsonl" in capsys.readouterr().out
    saved = nbformat.read(page, 4)
    assert [cell.id for cell in saved.cells] == ids
    assert saved.cells[-1].outputs[0].text == "True 0.0\n"
    assert set(saved.metadata) == {"kernelspec", "language_info"}
    assert saved.metadata["language_info"] == {"name": "python"}
    assert not [cell for cell in saved.cells if "execution" in cell.metadata]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["page.ipynb", "tape.jsonl"]


def test_missing_sends_only_requests_without_a_recording(server: Server, page: Path):
    """``--missing`` sends only the request of a new cell. The other cells keep their answers."""
    page_of(page, LOAD, TAPE, "%%claude --once\nOne?", "%%claude --once\nTwo?")
    assert main(["record", "--missing", str(page), "--endpoint", server.url]) == 0
    assert (texts(page), len(server.requests)) == (["Answer 0.", "Answer 1."], 1)


@pytest.mark.parametrize("broken", ["1 / 0", "%%claude --no-such-option\nHi"])
def test_a_failing_cell_changes_no_file(server: Server, page: Path, capsys: pytest.CaptureFixture[str], broken: str):
    """A failing cell changes neither the notebook nor the cassette. The command names the notebook and fails."""
    tape = page.with_name("tape.jsonl")
    before = tape.read_bytes()
    page_of(page, LOAD, TAPE, "%%claude\nOther?", broken)
    written = page.read_bytes()
    assert main(["record", str(page), "--endpoint", server.url]) == 1
    assert (page.read_bytes(), tape.read_bytes()) == (written, before)
    assert "page.ipynb failed" in capsys.readouterr().err


def test_a_notebook_that_does_not_replay_is_not_saved(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """A prompt that differs at each run is an error, so that no notebook without a replay is committed."""
    page = page_of(tmp_path / "page.ipynb", LOAD, TAPE, "import uuid", "%%claude\nIs {{ uuid.uuid4() }} random?")
    written = page.read_bytes()
    assert main(["record", str(page), "--endpoint", server.url]) == 1
    assert page.read_bytes() == written
    assert not (tmp_path / "tape.jsonl").exists()
    assert "CassetteMiss" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "files"),
    [
        ("%nbchat cassette a.jsonl", ["a.jsonl"]),
        ("  %nbchat  cassette 'a b.jsonl' --mode auto\n%nbchat cassette sub/c.jsonl", ["a b.jsonl", "sub/c.jsonl"]),
        ("%nbchat cassette --mode record a.jsonl", ["a.jsonl"]),
        ("%nbchat cassette 'a.jsonl", []),
        ("%nbchat cassette", []),
        ("%nbchat cassette off", []),
        ("%nbchat cassette --mode replay", []),
        ("%%claude\nWhat does\n%nbchat cassette a.jsonl\ndo?", []),
    ],
)
def test_the_cassettes_of_a_notebook_are_those_it_names(source: str, files: list[str]):
    """The cassettes of a notebook are the files that its ``%nbchat cassette`` lines name."""
    page = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    assert cassettes_of(page, Path("here")) == [Path("here") / file for file in files]


def test_a_demo_prints_the_answers_and_saves_the_executed_notebook(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Sources, prints, results and answers are printed once and in order. The original notebook does not change."""
    monkeypatch.setenv("NBCHAT_ENDPOINT", server.url)
    page = page_of(tmp_path / "page.ipynb", LOAD, "print('printed')\n6 * 7", "%%claude\nOne?")
    before = page.read_bytes()
    assert main(["demo", str(page), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    order = ["> %load_ext nbchat", "> print('printed')", "\nprinted\n", "\n42\n", "> %%claude", "> One?", "Answer 1."]
    assert [printed.count(text) for text in order] == [1] * len(order)
    assert sorted(order, key=printed.index) == order
    assert "1 answer of test-model: " in printed
    assert page.read_bytes() == before
    assert texts(tmp_path / "out" / "page.ipynb") == ["Answer 1."]
    assert "Answer 1." in (tmp_path / "out" / "page.html").read_text(encoding="utf-8")


def test_a_demo_with_a_failing_cell_prints_the_error(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """The error and a hint are printed on standard error, and nothing is saved."""
    monkeypatch.setenv("NBCHAT_ENDPOINT", server.url)
    page = page_of(tmp_path / "page.ipynb", "1 / 0")
    assert main(["demo", str(page), "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "page.ipynb failed: ZeroDivisionError: division by zero" in error
    assert "python -m nbchat doctor" in error
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("command", ["demo", "record"])
def test_a_file_that_is_not_a_notebook_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str):
    """The error names the file that cannot be read as a notebook."""
    (tmp_path / "page.ipynb").write_text("nothing")
    for name in ("page.ipynb", "missing.ipynb"):
        assert main([command, str(tmp_path / name)]) == 1
        assert f"OptionError: the notebook {tmp_path / name} cannot be read" in capsys.readouterr().err
