"""Tests of conversations in a real kernel: the history that each cell sends when cells run again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from nbchat.core.parser import events_of
from tests.kernel.harness import Cell, Kernel, environment, kernel_of, table_of
from tests.support.server import Received, Server, Wire, message, serving, streaming

THINKING = {"type": "thinking", "thinking": "Let me see.", "signature": "sig=="}
SEALED = {"type": "redacted_thinking", "data": "c2VhbGVk"}
UNKNOWN = {"type": "hologram", "shape": {"sides": 6}, "note": "of tomorrow"}


def answer(wire: Wire, request: Received) -> None:
    """Repeat the prompt. A few prompts have other answers."""
    if request.path != "/v1/messages":
        wire.json("404 Not Found", {"type": "error", "error": {"type": "not_found_error", "message": "no"}})
        return
    said = words(request.body["messages"][-1])
    text = {"type": "text", "text": f"You said {said}."}
    content: list[dict[str, Any]] = {
        "think": [THINKING, SEALED, text, UNKNOWN],
        "whisper": [{"type": "text", "text": " \n\t "}],
        "nothing": [],
        "halve": [{"type": "text", "text": "Half of it: \ud83d"}],
    }.get(said, [text])
    streaming(events_of(message(content)))(wire, request)


def words(message: dict[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def sent(request: Received) -> list[str]:
    """Return the messages of a request as role and text."""
    return [f"{message['role'][0]}: {words(message)}" for message in request.body["messages"]]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(answer) as server:
        yield server


@pytest.fixture(scope="module")
def one_kernel(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    home = tmp_path_factory.mktemp("conversations")
    with kernel_of(home, NBCHAT_ENDPOINT=server.url, NBCHAT_MAX_RETRIES="0") as kernel:
        kernel.run("%load_ext nbchat", None)
        yield kernel


@pytest.fixture
def kernel(one_kernel: Kernel) -> Kernel:
    """Return the kernel without a conversation."""
    one_kernel.run("get_ipython().nbchat.session.conversations.clear()", None)
    return one_kernel


def run(kernel: Kernel, code: str, metadata: dict[str, Any]) -> Cell:
    """Run a cell with the metadata of a front end."""
    return kernel.finish(kernel.start(code, metadata=metadata))


#: The metadata that front ends send for a cell. JupyterLab: jupyterlab#5033; VS Code: vscode-jupyter#8881, the id in
#: the cell's metadata or else the address of its document; Colab: its own key.
FRONT_ENDS = {
    "JupyterLab": lambda cell: {"cellId": f"{cell}fd2c1aa-9b1c-4a7e-8f00-000000000000", "deletedCells": []},
    "VS Code": lambda cell: {"cellId": f"vscode-notebook-cell:/home/me/a%20b.ipynb#W{cell}sZmlsZQ%3D%3D"},
    "Colab": lambda cell: {"colab": {"cell_id": f"xYz_{cell}aBc", "base_url": "https://colab.research.google.com"}},
}


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_a_cell_that_runs_again_replaces_its_own_turn(kernel: Kernel, server: Server, front_end: str):
    """A cell that runs again sends only the turns before its own, in each front end."""
    of = FRONT_ENDS[front_end]
    for cell, prompt in ((1, "one"), (2, "two"), (3, "three"), (2, "two again"), (3, "three again")):
        run(kernel, f"%%claude\n{prompt}", of(cell))
    one, two, again = (["u: " + said, f"a: You said {said}."] for said in ("one", "two", "two again"))
    assert [sent(request) for request in server.requests[-5:]] == [
        ["u: one"],
        [*one, "u: two"],
        [*one, *two, "u: three"],
        [*one, "u: two again"],
        [*one, *again, "u: three again"],
    ]
    _, *rows = table_of(run(kernel, "%nbchat history", of(4)))
    last = kernel.value("get_ipython().execution_count - 1")
    assert [row[1] for row in rows] == [f"[{number}]" for number in (last - 6, last - 3, last - 2)]
    assert [row[5] for row in rows] == ["one", "two again", "three again"]


def test_later_turns_stay_and_are_marked_stale(kernel: Kernel, server: Server):
    """Later turns become stale, and a new cell below still sends them as history."""
    for cell, prompt in ((1, "one"), (2, "two"), (1, "one again"), (3, "three")):
        kernel.run(f"%%claude\n{prompt}", f"cell-{cell}")
    assert sent(server.requests[-1]) == [
        "u: one again", "a: You said one again.", "u: two", "a: You said two.", "u: three",
    ]  # fmt: skip
    _, *rows = table_of(kernel.run("%nbchat history"))
    assert [row[4] for row in rows] == ["complete", "stale, complete", "complete"]


def save(path: Path, *cells: str) -> None:
    """Save a notebook with cells of these ids, as a front end does now and then."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(id=cell) for cell in cells])
    nbformat.write(notebook, path)


@pytest.fixture
def saved(kernel: Kernel, tmp_path: Path) -> Iterator[Path]:
    """Return the path of the notebook, which the server tells the kernel."""
    path = tmp_path / "order.ipynb"
    kernel.run(f"import os; os.environ['JPY_SESSION_NAME'] = {str(path)!r}", None)
    yield path
    kernel.run("del os.environ['JPY_SESSION_NAME']", None)


def test_an_inserted_cell_takes_its_place(kernel: Kernel, server: Server, saved: Path):
    """A cell between two others sends the turns above it. The turns below become stale, and cells below send it."""
    save(saved, "first", "last", "after")
    for cell in ("first", "last"):
        kernel.run(f"%%claude\n{cell}", cell)
    save(saved, "first", "middle", "last", "after")
    kernel.run("%%claude\nmiddle", "middle")
    assert sent(server.requests[-1]) == ["u: first", "a: You said first.", "u: middle"]
    kernel.run("%%claude\nafter", "after")
    assert [words for words in sent(server.requests[-1]) if words[0] == "u"] == [
        "u: first", "u: middle", "u: last", "u: after"
    ]  # fmt: skip
    _, *rows = table_of(kernel.run("%nbchat history"))
    assert [(row[4], row[5]) for row in rows] == [
        ("complete", "first"), ("complete", "middle"), ("stale, complete", "last"), ("complete", "after")
    ]  # fmt: skip


def test_a_cell_that_is_not_saved_yet_gets_its_place_later(kernel: Kernel, server: Server, saved: Path):
    """Until the notebook is saved, the turn of a new cell comes last, and the history says so."""
    save(saved, "first", "last")
    for cell in ("first", "last", "middle"):
        kernel.run(f"%%claude\n{cell}", cell)
    assert len(server.requests[-1].body["messages"]) == 5
    said = kernel.run("%nbchat history").outputs[-1].data["text/plain"]
    assert "Not in the saved notebook yet: [" in said
    save(saved, "first", "middle", "last")
    history = kernel.run("%nbchat history")
    assert [row[5] for row in table_of(history)[1:]] == ["first", "middle", "last"]
    assert "Not in the saved" not in history.outputs[-1].data["text/plain"]


@pytest.mark.parametrize("tell", ["front end", "saved notebook"])
def test_the_turn_of_a_deleted_cell_is_seen_and_forgotten(kernel: Kernel, server: Server, saved: Path, tell: str):
    """JupyterLab tells deleted cells with the next run; a later save of the notebook tells them too."""
    save(saved, "first", "second", "third")
    for cell in ("first", "second"):
        kernel.run(f"%%claude\n{cell}", cell)
    if tell == "front end":
        run(kernel, "1", {"cellId": "elsewhere", "deletedCells": ["first", 3, None]})
    else:
        save(saved, "second", "third")
        later = saved.stat().st_mtime + 60
        os.utime(saved, (later, later))
    history = kernel.run("%nbchat history", "third")
    assert {row[5]: row[4] for row in table_of(history)[1:]} == {
        "first": "cell deleted, complete", "second": "complete"
    }  # fmt: skip
    assert "1 cell deleted: its turn is still sent" in history.outputs[-1].data["text/plain"]
    assert "forgotten: 1 turn of 'main'; 1 later turn is stale" in kernel.run("%nbchat forget deleted", "third").stdout
    kernel.run("%%claude\nthird", "third")
    assert sent(server.requests[-1]) == ["u: second", "a: You said second.", "u: third"]
    assert "no turn of a cell that is known to be deleted" in kernel.run("%nbchat forget deleted", "third").stdout
    if tell == "front end":  # Undo brings the cell back
        kernel.run("%%claude\nfirst", "first")
        assert "deleted" not in kernel.run("%nbchat history", "third").outputs[-1].data["text/plain"]


def test_conversations_are_separate_and_once_sends_no_history(kernel: Kernel, server: Server):
    """``-c`` names another conversation. ``--once`` sends no history, and its turn is not kept."""
    kernel.run("%%claude\none", "cell-1")
    kernel.run("%%claude -c other\ntwo", "cell-2")
    assert sent(server.requests[-1]) == ["u: two"]
    kernel.run("%%claude --once\nthree", "cell-3")
    assert sent(server.requests[-1]) == ["u: three"]
    kernel.run("%%claude\nfour", "cell-4")
    assert sent(server.requests[-1]) == ["u: one", "a: You said one.", "u: four"]
    kernel.run("%%claude -c other\nfive", "cell-5")
    assert sent(server.requests[-1]) == ["u: two", "a: You said two.", "u: five"]


def test_a_cell_that_moves_to_another_conversation_moves_its_turn(kernel: Kernel, server: Server):
    """The turn is in one conversation only. The same is true of ``--once``."""
    for cell, prompt in ((1, "one"), (2, "two")):
        kernel.run(f"%%claude\n{prompt}", f"cell-{cell}")
    kernel.run("%%claude -c other\none", "cell-1")
    kernel.run("%%claude --once\ntwo", "cell-2")
    kernel.run("%%claude\nthree", "cell-3")
    assert sent(server.requests[-1]) == ["u: three"]


def test_a_cell_that_asks_twice_has_two_turns(kernel: Kernel, server: Server):
    """A cell that asks twice replaces both turns when it runs again."""
    for _ in range(2):
        kernel.run("%claude one\n%claude two", "cell-1")
        assert sent(server.requests[-1]) == ["u: one", "a: You said one.", "u: two"]
    _, *rows = table_of(kernel.run("%nbchat history"))
    assert [row[1].partition("]")[2] for row in rows] == ["", " #2"]


def test_thinking_stays_with_its_model(kernel: Kernel, server: Server):
    """The API refuses the thinking of another model. Its unknown blocks go to every model of the endpoint."""
    kernel.run("%%claude -m claude-opus-5-5\nthink", "cell-1")
    kernel.run("%%claude -m claude-sonnet-5-5\nmore", "cell-2")
    content = server.requests[-1].body["messages"][1]["content"]
    assert [block["type"] for block in content] == ["text", "hologram"]


def test_half_of_a_surrogate_pair_ends_nothing(kernel: Kernel, server: Server, tmp_path: Path):
    """In a prompt, in a name and in an answer: the next cells go on, and everything can be printed and saved."""
    cell = kernel.run('half = "a\\ud83d"\n%claude say {{ half }}', "cell-1")
    assert words(server.requests[-1].body["messages"][-1]) == "say a\ufffd"
    assert "half of a surrogate pair" in cell.answer.data["text/html"]
    assert "Half of it: \ufffd" in kernel.run("%%claude\nhalve", "cell-2").answer.data["text/html"]
    kernel.run("%%claude\nmore", "cell-3")
    assert "a: Half of it: \ufffd" in sent(server.requests[-1])
    assert "say a\ufffd" in kernel.run("%claude --dry-run say {{ half }}", "cell-4").stdout
    assert "3 turns" in kernel.run(f"%nbchat save '{tmp_path / 'saved.json'}'\nprint(_claude)").stdout
    assert "\ufffd" in (tmp_path / "saved.json").read_text("utf-8")


def test_blocks_from_the_api_are_sent_back_unchanged(kernel: Kernel, server: Server):
    """Thinking with its signature, redacted thinking and blocks of an unknown type are sent back unchanged."""
    kernel.run("%%claude\nthink", "cell-1")
    kernel.run("%%claude\nmore", "cell-2")
    assert server.requests[-1].body["messages"][1]["content"] == [
        THINKING, SEALED, {"type": "text", "text": "You said think."}, UNKNOWN,
    ]  # fmt: skip


def test_a_stale_turn_is_sent_without_its_thinking(kernel: Kernel, server: Server):
    """A stale turn is sent without its thinking, which belongs to the history before it. Other blocks are unchanged."""
    for cell, prompt in ((1, "one"), (2, "think"), (1, "one again"), (3, "more")):
        kernel.run(f"%%claude\n{prompt}", f"cell-{cell}")
    assert server.requests[-1].body["messages"][3]["content"] == [{"type": "text", "text": "You said think."}, UNKNOWN]


@pytest.mark.parametrize("said", ["whisper", "nothing"])
def test_an_answer_of_white_space_is_never_sent_back(kernel: Kernel, server: Server, said: str):
    """The API refuses such an answer, and also a prompt without an answer, so neither is sent."""
    kernel.finish(kernel.start(f"%%claude\n{said}", "cell-1"))
    kernel.run("%%claude\nmore", "cell-2")
    assert sent(server.requests[-1]) == ["u: more"]


def test_a_failed_turn_leaves_no_question_without_an_answer(kernel: Kernel, server: Server):
    """A request without an answer leaves nothing in the history."""
    kernel.run("%%claude --endpoint http://127.0.0.1:9\none", "cell-1", fails=True)
    kernel.run("%%claude\ntwo", "cell-2")
    assert sent(server.requests[-1]) == ["u: two"]


def test_a_conversation_can_be_forked_saved_and_loaded(kernel: Kernel, server: Server):
    """The copy has the turns of the original. A new turn in one is not in the other."""
    kernel.run("%%claude\none", "cell-1")
    kernel.run("%nbchat fork idea\n%nbchat save chat.json")
    kernel.run("%%claude -c idea\ntwo", "cell-2")
    assert sent(server.requests[-1]) == ["u: one", "a: You said one.", "u: two"]
    kernel.run("%nbchat reset\n%nbchat load chat.json")
    kernel.run("%%claude\nthree", "cell-3")
    assert sent(server.requests[-1]) == ["u: one", "a: You said one.", "u: three"]
    kernel.run("%nbchat forget 1")
    kernel.run("%%claude\nfour", "cell-4")
    assert sent(server.requests[-1]) == ["u: three", "a: You said three.", "u: four"]


def test_without_ids_every_execution_is_a_turn(kernel: Kernel, server: Server):
    """papermill, nbclient and nbval send no cell ids, and run each cell once."""
    for prompt in ("one", "two", "two"):
        kernel.run(f"%%claude\n{prompt}", None)
    assert sent(server.requests[-1]) == ["u: one", "a: You said one.", "u: two", "a: You said two.", "u: two"]


def test_a_notebook_under_nbclient(server: Server, tmp_path: Path):
    """The cells are turns in order, although nbclient does not send the cell ids of the notebook."""
    cells = ["%load_ext nbchat", "%%claude\none", "%%claude\ntwo", "%%claude\nthree"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    variables = environment(tmp_path, NBCHAT_ENDPOINT=server.url)
    NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute(
        env=variables
    )
    assert sent(server.requests[-1]) == ["u: one", "a: You said one.", "u: two", "a: You said two.", "u: three"]
    assert [len(cell.outputs) for cell in notebook.cells] == [0, 1, 1, 1]
