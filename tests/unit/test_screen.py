"""Tables and lines on a screen of 80, 60 or fewer characters: no line is too wide, and no word is broken."""

from __future__ import annotations

import doctest
import io
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbchat import ScriptedTransport, Session
from nbchat.notebook import commands
from nbchat.notebook.commands.command import Call
from nbchat.rows import attach
from nbchat.view import screen
from nbchat.view.screen import width_of, wrapped
from nbchat.view.tables import table_bundle, text_table

WORDS = st.text(alphabet="abcdefgh,.ñ→", min_size=1, max_size=14)
CELLS = st.lists(WORDS, max_size=12).map(" ".join)
LONG_ADDRESS = "https://example.org/" + "a-long-path/" * 10
PROMPTS = (
    "First of all, what do you think of the migration of the storks in Northern Germany and beyond?",
    "短い質問。日本語の長い文章はどこで折り返されるのでしょうか、それが問題です。もう少し長くしましょう。",
    f"Summarise {LONG_ADDRESS} please",
    "an\nindented\n\n    list = [1, 2, 3]",
    "x" * 200,
)


def too_wide(text: str, width: int) -> list[str]:
    """Return the lines that are wider than a screen, without lines of one word and lines to be copied."""
    return [line for line in text.split("\n") if width_of(line) > width and " " in line.strip() and line[0] != "%"]


def words(text: str) -> set[str]:
    """Return the words of a text, without the lines and bars that are drawn."""
    return {word for word in text.split() if word.strip("─█▏▎▍▌▋▊▉")}


def test_the_examples_in_the_docstrings_are_right():
    """Run the doctests."""
    result = doctest.testmod(screen)
    assert result.attempted
    assert not result.failed


@given(
    head=st.lists(WORDS, min_size=3, max_size=3),
    rows=st.lists(st.lists(CELLS, min_size=3, max_size=3), max_size=5),
    width=st.integers(16, 90),
    left=st.integers(0, 3),
)
def test_a_table_fits_the_screen_and_breaks_no_word(head: list[str], rows: list[list[str]], width: int, left: int):
    """The same words are there as without a screen, whatever the cells are."""
    table = text_table(head, rows, left_columns=left, prose_columns=[1], ruled=True, width=width)
    assert too_wide(table, width) == []
    assert {word for row in rows for cell in row for word in cell.split()} <= words(table)
    wide = text_table(head, rows, left_columns=left, ruled=True)
    if all(width_of(line) <= width for line in wide.split("\n")):
        assert table == wide


@given(text=st.text(), width=st.integers(1, 90))
def test_wrapped_lines_lose_only_blanks(text: str, width: int):
    """Every character but the blanks at a break stays, in its order."""
    assert "".join(wrapped(text, width).split()) == "".join(text.split())


def test_cells_wrap_between_words_below_their_column():
    """The widest column wraps, and numbers do not."""
    table = text_table(
        ["name", "what it does", "n"],
        [["add", "returns the sum of two whole numbers", "1,000"], ["b", "", "1"]],
        left_columns=2,
        ruled=True,
        width=30,
    )
    assert table.split("\n") == [
        "name  what it does           n",
        "──────────────────────────────",
        "add   returns the sum    1,000",
        "      of two whole",
        "      numbers",
        "b                            1",
    ]


def test_japanese_breaks_between_characters_and_before_no_full_stop():
    """A Japanese character takes two columns."""
    lines = wrapped("日本語です。はい、そうです。", 10).split("\n")
    assert lines == ["日本語で", "す。はい、", "そうです。"]


def test_an_output_of_a_notebook_does_not_depend_on_the_screen():
    """Without a width the plain text is the same in every terminal that runs the notebook."""
    rows = [["a " * 80, "1"]]
    assert "a " * 79 + "a" in table_bundle("T", ["prose", "n"], rows, left_columns=1)["text/plain"]


class _Servers:
    def list(self):
        tools = ("search_all_of_the_documents_of_the_house", "read")
        return [
            SimpleNamespace(name="files", running=True, problem="", target="npx -y server /data /more", tools=tools),
            SimpleNamespace(name="web", running=False, problem="it said that no", target=LONG_ADDRESS, tools=()),
        ]


@pytest.fixture
def busy_session(monkeypatch: pytest.MonkeyPatch) -> Session:
    """Return a session with turns, requests, permissions, servers and batches."""
    session = Session(ScriptedTransport("Fine.", repeat=True), model="a-model-with-a-long-name-2026-11-30")
    for number, prompt in enumerate(PROMPTS):
        session.ask(prompt, cell=f"cell-{number}")
    session.ask("hi", model="another/model-of-a-vendor")
    monkeypatch.setattr(type(session), "mcp", _Servers(), raising=False)
    approved = ["run_python", "a_tool_with_a_very_long_name_that_goes_on " * 3]
    monkeypatch.setattr(type(session), "approved", approved, raising=False)
    batch = SimpleNamespace(service_id="msgbatch_01HkcTjaV5uDC8jWR4ZsDV8d", at=1e9, state="open", requests=100_000)
    batch.model, batch.endpoint, batch.id = "claude-haiku-4-5-20251001", "anthropic", "x"
    monkeypatch.setattr(attach, "batches", lambda: [batch, batch])
    return session


@pytest.mark.parametrize("width", [80, 60, 30])
@pytest.mark.parametrize(
    "line",
    [
        *("history", "usage", "usage run", "usage run by model", "mcp list", "approvals", "batches", "endpoints"),
        *("config", "", "mcp --help", "cassette", "system", "forget deleted"),
    ],
)
def test_what_nbchat_prints_fits_a_terminal(line: str, width: int, busy_session, capsys, monkeypatch):
    """No line is wider than the screen, and all words are whole."""

    def run(columns: int | None) -> str:
        monkeypatch.setattr(Call, "width", columns)
        commands.run(line, busy_session, SimpleNamespace(user_ns={}))
        return capsys.readouterr().out

    wide, shown = run(None), run(width)
    assert too_wide(shown, width) == []
    # The one line that sets prices has no second half in a terminal, and an empty column has no lines.
    lost = {word for word in words(wide) - words(shown) if word.isascii()}
    assert lost <= {"(outside", "a", "notebook:", "the", "variable", "NBCHAT_PRICES)", "Saved"}


def test_the_history_of_a_terminal_has_no_column_of_cells(capsys):
    """A terminal does not tell its cells, and has no order of cells that could be unknown."""
    session = Session(ScriptedTransport("Fine.", repeat=True))
    session.ask("One")
    session.ask("Two")
    commands.run("history", session, SimpleNamespace(user_ns={}))
    title, head, _, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["turn", "model", "tokens", "state", "prompt"]
    assert [row.split()[-1] for row in rows] == ["One", "Two"]
    assert title == "2 turns of the conversation 'main'"


def test_the_width_is_that_of_the_terminal_and_none_in_a_notebook_or_a_pipe(monkeypatch):
    """A kernel has no screen, although its environment may have a number of columns."""
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setenv("COLUMNS", "61")
    monkeypatch.setattr("sys.stdout", terminal)
    assert Call("history", None, SimpleNamespace()).width == 61
    assert Call("history", None, SimpleNamespace(kernel=object())).width is None
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert Call("history", None, SimpleNamespace()).width is None
