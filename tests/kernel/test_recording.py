"""``python -m nbchat``: ``record`` records notebooks again and saves them as they replay; ``demo`` runs one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from nbchat.__main__ import main
from nbchat.command_line.record import cassettes_of
from tests.support.server import Received, Server, Wire, serving, streaming, text_events


def answer(wire: Wire, request: Received) -> None:
    """How many requests there were, so that a new answer differs from the one before."""
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


def texts(path: Path) -> list[str]:
    """The answers that a notebook shows."""
    outputs = [output for cell in nbformat.read(path, 4).cells for output in cell.outputs]
    return [output.data["text/plain"] for output in outputs if "nbchat" in output.get("metadata", {})]


def recorded(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()][1:]


LOAD, TAPE = "%load_ext nbchat", "%nbchat cassette tape.jsonl"


def test_a_notebook_is_recorded_anew_and_saved_as_it_replays(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Twice: the second asks again, and leaves nothing of the first; the file holds what a replay shows."""
    page = page_of(tmp_path / "page.ipynb", LOAD, TAPE, "%%claude\nOne?", "print(_claude.replayed, _claude.cost)")
    ids = [cell.id for cell in nbformat.read(page, 4).cells]
    command = ["record", str(page), "--endpoint", server.url]
    assert main(command) == 0
    assert (texts(page), len(server.requests)) == (["Answer 1."], 1)
    assert main(command) == 0
    assert (texts(page), len(server.requests)) == (["Answer 2."], 2)
    assert len(recorded(tmp_path / "tape.jsonl")) == 1
    assert "1 answer of test-model, cost unknown; tape.jsonl" in capsys.readouterr().out
    saved = nbformat.read(page, 4)
    assert [cell.id for cell in saved.cells] == ids
    assert saved.cells[-1].outputs[0].text == "True 0.0\n"
    assert set(saved.metadata) == {"kernelspec", "language_info"}
    assert saved.metadata["language_info"] == {"name": "python"}
    assert not [cell for cell in saved.cells if "execution" in cell.metadata]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["page.ipynb", "tape.jsonl"]


def test_missing_asks_only_what_is_not_recorded(server: Server, tmp_path: Path):
    """A cell was added: the others keep their answers."""
    page = page_of(tmp_path / "page.ipynb", LOAD, TAPE, "%%claude --once\nOne?")
    assert main(["record", str(page), "--endpoint", server.url]) == 0
    page_of(page, LOAD, TAPE, "%%claude --once\nOne?", "%%claude --once\nTwo?")
    assert main(["record", "--missing", str(page), "--endpoint", server.url]) == 0
    assert (texts(page), len(server.requests)) == (["Answer 1.", "Answer 2."], 2)


@pytest.mark.parametrize("broken", ["1 / 0", "%%claude --no-such-option\nHi"])
def test_a_cell_that_fails_leaves_everything_as_it_was(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], broken: str
):
    """The notebook, and the cassette that was there, are not touched; the command says which cell and fails."""
    page = page_of(tmp_path / "page.ipynb", LOAD, TAPE, "%%claude\nOne?")
    assert main(["record", str(page), "--endpoint", server.url]) == 0
    before = (tmp_path / "tape.jsonl").read_bytes()
    page_of(page, LOAD, TAPE, "%%claude\nOther?", broken)
    written = page.read_bytes()
    assert main(["record", str(page), "--endpoint", server.url]) == 1
    assert (page.read_bytes(), (tmp_path / "tape.jsonl").read_bytes()) == (written, before)
    assert "page.ipynb failed" in capsys.readouterr().err


def test_a_notebook_that_does_not_replay_is_not_saved(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """A prompt that differs from run to run is found out before it is committed."""
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
    page = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    assert cassettes_of(page, Path("here")) == [Path("here") / file for file in files]


def test_a_demo_prints_the_answers_and_saves_the_executed_notebook(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Sources, streams, results and answers in their order, each once; the notebook itself stays as it was."""
    monkeypatch.setenv("NBCHAT_ENDPOINT", server.url)
    page = page_of(tmp_path / "page.ipynb", LOAD, "print('printed')\n6 * 7", "%%claude\nOne?")
    before = page.read_bytes()
    assert main(["demo", str(page), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    order = ["> %load_ext nbchat", "> print('printed')", "\nprinted\n", "42", "> %%claude", "> One?", "Answer 1."]
    assert [printed.count(text) for text in order] == [1] * len(order)
    assert sorted(order, key=printed.index) == order
    assert "1 answer of test-model: " in printed
    assert page.read_bytes() == before
    assert texts(tmp_path / "out" / "page.ipynb") == ["Answer 1."]
    assert "Answer 1." in (tmp_path / "out" / "page.html").read_text(encoding="utf-8")


def test_a_demo_whose_cell_fails_says_which_error(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """On standard error, with what to do; nothing is saved."""
    monkeypatch.setenv("NBCHAT_ENDPOINT", server.url)
    page = page_of(tmp_path / "page.ipynb", "1 / 0")
    assert main(["demo", str(page), "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "page.ipynb failed: ZeroDivisionError: division by zero" in error
    assert "python -m nbchat doctor" in error
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("command", ["demo", "record"])
def test_a_file_that_is_not_a_notebook_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str):
    (tmp_path / "page.ipynb").write_text("nothing")
    for name in ("page.ipynb", "missing.ipynb"):
        assert main([command, str(tmp_path / name)]) == 1
        assert f"OptionError: the notebook {tmp_path / name} cannot be read" in capsys.readouterr().err
