"""Tests of completion without a front end: the suggestions for Tab at a place in a cell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from nbchat import ScriptedTransport, Session
from nbchat.config import Nbchat
from nbchat.notebook.completion import complete, install, uninstall
from nbchat.tools.mcp import ServerState


@dataclass
class Weather:
    city: str


def lookup(city: str) -> str:
    """A tool."""
    return city


class Shop:
    def find(self, item: str) -> str:
        return item


class Magics:
    """The attribute `nbchat` of the shell, as completion reads it."""

    def __init__(self, session: Session | None) -> None:
        self.settings = Nbchat(environment={})
        self.existing_session = session

    @property
    def session(self) -> Session:
        raise AssertionError("completion makes no session")


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InteractiveShell:
    """Return a shell with a session that has two conversations, in a folder with some files."""
    monkeypatch.chdir(tmp_path)
    for name in ("sales.csv", "sales report.pdf", "model.gguf"):
        (tmp_path / name).touch()
    (tmp_path / "data").mkdir()
    shell = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))
    session = Session(ScriptedTransport("a", repeat=True))
    for chat in ("main", "main", "review"):
        session.ask("Hi", chat=chat)
    shell.nbchat = Magics(session)
    shell.user_ns |= {
        "Weather": Weather,
        "lookup": lookup,
        "role": "You are brief.",
        "sales": {"north": 120},
        "shop": Shop(),
    }
    shell.user_ns["answer"] = session.last
    return shell


def proposed(shell: InteractiveShell, marked: str) -> list[str] | None:
    """Return the suggestions at the place of ``|``."""
    before, after = marked.split("|")
    found = complete(shell, before + after, before.count("\n"), len(before.rpartition("\n")[2]))
    if found is None:
        return None
    assert before.endswith(found.fragment)
    return [text for text, _ in found.words]


@pytest.mark.parametrize(
    ("marked", "expected"),
    [
        ("%%claude --eff|", ["--effort"]),
        ("%claude --eff|", ["--effort"]),
        ("plan = %claude --eff|", ["--effort"]),
        ("x = 1\n%claude --eff|\nprint()", ["--effort"]),
        ("%%claude --effort h|", ["high"]),
        ("%%claude --effort=m|", ["medium", "max"]),
        ("%%claude plan << --effort x|\nHi", ["xhigh"]),
        ("%%claude --once --effort l|", ["low"]),
        ("%%claude -c r|", ["review"]),
        ("%%claude --chat |", ["main", "review"]),
        ("%%claude --endpoint l|", ["local"]),
        ("%%claude --tools |", ["lookup"]),
        ("%%claude --tools lookup,|", []),
        ("%%claude --attach sa|", ['"sales report.pdf"', "sales.csv"]),
        ('%%claude --attach "sales r|', ['"sales report.pdf"']),
        ("%%claude --attach sales.csv d|", ["data/"]),
        ("%%claude --attach sales.csv --onc|", ["--once"]),
        ("%%claude -m ./mo|", ["./model.gguf"]),
        ("%%claude -m ./sa|", []),
        ("%%claude --schema W|", ["Weather"]),
        ("%%claude --schema |", ["Weather", "list[Weather]"]),
        ("%%claude --schema list[|", ["list[Weather]"]),
        ("%%claude --tools shop.|", ["shop.find"]),
        ("%%claude --max-tokens 8|", ["8192"]),
        ("%%claude --param temp|", ["temperature="]),
        ("%%claude -o |", ["answer"]),
        ("%nbchat help his|", ["history"]),
        ("%%claude -s ro|", ["role"]),
        ("%nbchat hi|", ["history"]),
        ("%nbchat history |", ["main", "review"]),
        ("%nbchat forget |", ["deleted", "1", "2"]),
        ("%nbchat forget 1 r|", ["review"]),
        ("%nbchat cassette --mode re|", ["replay", "record"]),
        ("%nbchat cassette sa|", ["sales.csv", '"sales report.pdf"']),
        ("%nbchat usage we|", ["week"]),
        ("%nbchat usage week by m|", ["model"]),
        ("%nbchat show an|", ["answer"]),
        ("%nbchat usage |", ["run", "today", "week", "month", "year", "all", "by", "csv"]),
        ("%nbchat usage week |", ["by", "csv"]),
        ("%nbchat usage csv sales.|", ["sales.csv"]),
        ("%nbchat cassette x.jsonl |", ["--mode", "--speed"]),
        ("%nbchat cassette --mode=re|", ["replay", "record"]),
        ("%nbchat cassette --mode wrong |", []),
        ("%nbchat history main |", []),
        ("%nbchat mcp |", ["add", "list", "remove"]),
        ("%nbchat mcp r|", ["remove"]),
        ("%nbchat mcp add --a|", ["--approve"]),
        ("%nbchat mcp add --approve a|", ["ask", "always"]),
        ("%nbchat mcp add files server --a|", []),
        ("%nbchat models v|", ["vertex"]),
    ],
)
def test_suggestions(shell, marked, expected):
    """Tab suggests options, values and subcommands after each kind of magic."""
    assert sorted(proposed(shell, marked) or []) == sorted(expected)


def test_mcp_servers_and_their_tools_are_suggested(shell):
    """``--tools`` suggests functions and MCP tools. ``%nbchat mcp remove`` suggests only servers."""
    states = (ServerState("files", "server", ("files.read", "files.write"), running=True),)
    shell.nbchat.existing_session._mcp = SimpleNamespace(list=lambda: states)
    assert proposed(shell, "%%claude --tools f|") == ["files", "files.read", "files.write"]
    assert proposed(shell, "%%claude --tools files.read,files.|") == ["files.write"]
    assert proposed(shell, "%nbchat mcp remove |") == ["files"]


def test_functions_of_the_user_come_before_those_of_libraries(shell):
    """The user's own functions are first, then those that a cell imported."""
    lookup.__module__ = "__main__"
    shell.user_ns |= {"dataclass": dataclass, "complete": complete}
    assert proposed(shell, "%%claude --tools |") == ["lookup", "complete", "dataclass"]


def test_the_models_of_the_endpoint_come_first(shell):
    """The models of the endpoint in the line are first, in alphabetical order. The endpoint is asked once."""
    asked = []

    class Mine:
        name = "mine"

        def models(self):
            asked.append(1)
            return [{"id": "zeta"}, {"id": "alpha"}, {}]

        def stream(self, request):
            raise AssertionError

    shell.nbchat.existing_session.config.endpoints = {"mine": Mine()}
    for _ in range(2):
        found = proposed(shell, "%%claude --endpoint mine --model |")
        assert found[:2] == ["alpha", "zeta"]
        assert found[2:] == sorted(found[2:])
    assert asked == [1]
    assert proposed(shell, "%%claude --model |")[0] == "scripted"


def test_every_option_is_suggested_except_those_in_the_line(shell):
    """Each option is suggested after the magic and a space.

    An option in the line is suggested again if it can be repeated.
    """
    found = proposed(shell, "%%claude --once --stop END |")
    assert {"--model", "--dry-run", "--stop"} <= set(found)
    assert "--once" not in found
    assert "-m" not in found
    assert "-m" in proposed(shell, "%%claude -|")


def test_models_are_suggested_without_the_sdk(shell):
    """The suggested models are a built-in list and the model in the settings. The SDK is not loaded."""
    shell.nbchat.settings.model = "claude-of-tomorrow"
    found = proposed(shell, "%%claude -m claude-|")
    assert {"claude-sonnet-5-5", "claude-opus-5-5", "claude-haiku-4-5", "claude-of-tomorrow"} <= set(found)
    assert len(found) == len(set(found))


@pytest.mark.parametrize(
    "marked",
    [
        "--eff|", "print(1)\n--eff|", "%%bash\n%claude --eff|", "%%claude\n--eff|", "%%claude what is --eff|",
        "%%claude -- --eff|", "%clau|", "%claude|", "%time --eff|", "x = 'a %claude --eff|'", "%%claude\nHi }} |",
        "%%claude\n\\{{ sal|", "%%claude\n{{ sales }} sal|",
    ],
)  # fmt: skip
def test_nothing_is_suggested_elsewhere(shell, marked):
    """Nothing is suggested in code, other magics, the prompt, or after an expression that is closed or escaped."""
    assert not proposed(shell, marked)


@pytest.mark.parametrize(
    ("marked", "expected"),
    [
        ("%%claude\nLook at {{ sal|", "sales"),
        ("%%claude\nLook at {{ sales }} and {{ sal| }}", "sales"),
        ("%%claude\n{{\n  sal|", "sales"),
        ("%claude what of {{ sal|", "sales"),
        ("%%claude --once\nLook at {{ answer.usa|", ".usage"),
        ("%%claude\n{{ len(sal|", "sales"),
        ("%%claude\n{{ sales['no|", "north"),
    ],
)
def test_names_and_attributes_in_an_expression(shell, marked, expected):
    """The user's own values are completed in an expression, by IPython."""
    assert any(text.endswith(expected) or text == expected.lstrip(".") for text in proposed(shell, marked) or [])


def test_the_users_own_names_come_first(shell):
    """The user's names come before the built-in names.

    Files and magics are not suggested, as they are not expressions.
    """
    found = proposed(shell, "%%claude\n{{ |")
    assert {"sales", "role", "answer"} <= set(found[:10])
    assert not any(text.startswith("%") or text == "sales.csv" for text in found)


def test_completion_makes_no_session(shell):
    """Completion makes no session, because a user waits for it. The first cell makes the session."""
    shell.nbchat = Magics(None)
    assert proposed(shell, "%%claude -c |") == ["main"]
    assert proposed(shell, "%nbchat forget |") == ["deleted"]


def test_it_is_installed_once_and_removed(shell):
    """Loading twice adds one matcher, and unloading removes it."""
    before = list(shell.Completer.custom_matchers)
    install(shell)
    install(shell)
    assert len(shell.Completer.custom_matchers) == len(before) + 1
    _, matches = shell.complete("", "%claude --eff", 13)
    assert matches == ["--effort"]
    uninstall(shell)
    assert shell.Completer.custom_matchers == before


@pytest.mark.parametrize(
    "name",
    [
        "run\x1b]0;x\x07",
        "run\u202efdp",
        "run\u200bx",
        "run\nimport os",
        "run\tx",
        "run --approve always",
        "run,x",
        'run"',
        "-x",
    ],
    ids=ascii,
)
def test_a_name_that_cannot_be_seen_or_is_no_word_is_not_suggested(shell, name):
    """An MCP server, a file and a table choose their names themselves, and Tab puts them into the cell."""
    states = (ServerState("files", "npx …", (f"files.{name}" if name[0] != "-" else name, "files.read"), True, ""),)
    shell.nbchat.existing_session._mcp = SimpleNamespace(list=lambda: states)
    assert proposed(shell, "%claude --tools f|") == ["files", "files.read"]
    assert name not in proposed(shell, "%claude --tools |")
    if not name.isprintable():
        Path(f"sales{name}.csv").touch()
        shell.user_ns["sales"][f"n{name}"] = 1
        assert sorted(proposed(shell, "%%claude --attach sal|")) == ['"sales report.pdf"', "sales.csv"]
        assert not any(name in word for word in proposed(shell, "%claude {{ sales['n|") or ())
