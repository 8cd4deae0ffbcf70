"""Tests of ``%nbchat``: its subcommands, their arguments, and the settings."""

from __future__ import annotations

import contextlib
import inspect
import json
import re
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from traitlets import TraitError
from traitlets.config import Config

from nbchat import ScriptedTransport, Session
from nbchat.config import Nbchat
from nbchat.core.errors import InputError, NbchatError, OptionError
from nbchat.notebook import commands
from nbchat.notebook.commands.command import Command, Group
from nbchat.notebook.commands.words import split_words
from nbchat.options import OPTIONS
from nbchat.store.entries import start_of
from nbchat.tools.functions import FunctionTool
from nbchat.transports.cassette import MODES, SPEEDS
from nbchat.transports.claude import ClaudeTransport
from tests.support.server import serving


@pytest.fixture
def session() -> Session:
    """Return a session with three turns in ``main``. The second cell ran again, so that the third turn is stale."""
    session = Session(ScriptedTransport("Fine.", repeat=True))
    for cell, prompt in (("cell-one", "First"), ("cell-two", "Second"), ("cell-three", "Third"), ("cell-two", "Again")):
        session.ask(prompt, cell=cell)
    return session


def do(session: Session, capsys: pytest.CaptureFixture[str], line: str, **names: object) -> str:
    """Run ``%nbchat line`` and return the printed text."""
    commands.run(line, session, SimpleNamespace(user_ns=names))
    return capsys.readouterr().out


def test_history_is_a_table_of_turns(session, capsys):
    """The table has the number, cell, model, tokens and state of each turn, and the beginning of its prompt."""
    title, head, _, *rows, remark = do(session, capsys, "history").splitlines()
    assert title == "3 turns of the conversation 'main'"
    assert remark.startswith("The turns are in the order in which their cells ran first")
    assert head.split() == ["turn", "cell", "model", "tokens", "state", "prompt"]
    cells = [re.split(r"  +", row) for row in rows]
    assert [row[0] for row in cells] == ["1", "2", "3"]
    assert [row[1] for row in cells] == ["cell-one", "cell-two", "cell-thr"]
    assert [row[4] for row in cells] == ["complete", "complete", "stale, complete"]
    assert [row[5] for row in cells] == ["First", "Again", "Third"]
    assert all(int(row[3].replace(",", "")) > 0 for row in cells)


def test_history_of_cells_of_vs_code(session, capsys):
    """The cell ids of VS Code are addresses that differ at the end. The second question of a cell has a number."""
    session.ask("Hi", chat="vs", cell="vscode-notebook-cell:/home/me/long/way/a.ipynb#W3sZmlsZQ%3D%3D")
    session.ask("Hi", chat="vs", cell="0fd2c1aa-1111-2222#2")
    rows = do(session, capsys, "history vs").splitlines()[3:-1]
    assert [row.split()[1] for row in rows] == ["W3sZmlsZ", "0fd2c1aa#2"]


def test_forget_removes_one_turn(session, capsys):
    """``forget`` removes one turn, and later turns become stale.

    The error for a wrong number names the valid numbers.
    """
    assert "stale" in do(session, capsys, "forget 1")
    assert [turn.messages[0].text for turn in session.conversation("main").turns] == ["Again", "Third"]
    assert "stale" not in do(session, capsys, "forget 2")
    for number in ("0", "2", "x"):
        with pytest.raises(OptionError, match="turns 1 to 1"):
            do(session, capsys, f"forget {number}")


def test_fork_copies_a_conversation_to_another_name(session, capsys):
    """A fork is a copy whose turns belong to no cell. Its name must not be used yet."""
    do(session, capsys, "fork idea")
    session.ask("Only here", chat="idea", cell="cell-two")
    assert len(session.conversation("idea")) == 4
    assert "Only here" not in str(session.conversation("main").to_dict())
    with pytest.raises(OptionError, match="there is a conversation"):
        do(session, capsys, "fork idea")


def test_save_and_load_give_the_same_conversation(session, capsys, tmp_path: Path):
    """A saved file has the keys of cells, so a cell that runs again after a restart replaces its turn."""
    file = tmp_path / "chat.json"
    do(session, capsys, f"save {file}")
    assert json.loads(file.read_text())["format"] == "nbchat.conversation/1"
    other = Session(ScriptedTransport("Fine.", repeat=True))
    do(other, capsys, f"load {file}")
    assert other.conversation("main").to_dict() == session.conversation("main").to_dict()
    other.ask("Once more", cell="cell-one")
    assert [turn.stale for turn in other.conversation("main").turns] == [False, True, True]
    assert "which replace the 3 it had" in do(other, capsys, f"load {file}")
    do(other, capsys, f"load {file} copy")
    assert len(other.conversation("copy")) == 3


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"name": "x", "turns": [1]}', '{"name": "x", "turns": [{}]}', "\xff"]
)
def test_a_file_that_is_not_a_conversation_is_not_loaded(session, capsys, tmp_path: Path, content: str):
    """A wrong file raises an InputError that names it, and no conversation changes."""
    file = tmp_path / "chat.json"
    file.write_text(content, encoding="latin-1")
    before = session.conversation("main").to_dict()
    with pytest.raises(InputError, match="no conversation could be read"):
        do(session, capsys, f"load {file}")
    assert session.conversation("main").to_dict() == before


def test_reset_removes_all_turns(session, capsys):
    """After ``reset`` the conversation is empty, and the next request has no history."""
    assert "3 turns" in do(session, capsys, "reset")
    session.ask("Hi")
    assert len(session.last.messages) == 2
    assert len(session.conversation("main")) == 1


def test_commands_use_the_conversation_in_the_settings(session, capsys):
    """``%nbchat`` without a name uses ``c.Nbchat.chat``, as cells do."""
    session.config.chat = "review"
    session.ask("Look")
    assert "Look" in do(session, capsys, "history")


@pytest.mark.parametrize("line", ["history nome", "hisory", "forget", "forget 1 2 3", "history 'x", "fork"])
def test_a_wrong_line_raises_an_error_with_a_hint(session, capsys, line):
    """The hint is the nearest name or the usage, and no conversation changes."""
    with pytest.raises(NbchatError) as wrong:
        do(session, capsys, line)
    assert wrong.value.hint
    assert len(session.conversation("main")) == 3


def test_the_system_prompt_is_shown_as_it_would_be_sent(session, capsys, tmp_path: Path):
    """Text is shown unchanged. A file or a variable is shown with its name and its text."""
    assert "no system prompt" in do(session, capsys, "system")
    session.config.system = "Be brief."
    assert do(session, capsys, "system") == "Be brief.\n"
    session.config.system = "role"
    assert do(session, capsys, "system", role="You are a pirate.") == "from role:\nYou are a pirate.\n"
    (tmp_path / "role.txt").write_text("You are a file.")
    session.config.system = str(tmp_path / "role.txt")
    assert "You are a file." in do(session, capsys, "system")


def test_models_are_listed_with_window_limit_price_and_capabilities(capsys):
    """The list comes from the Models API and the price list. An unknown value is a question mark."""
    yes, no = {"supported": True}, {"supported": False}
    listed = [
        {"type": "model", "id": "claude-sonnet-5-5", "max_input_tokens": 1_000_000, "max_tokens": 64_000,
         "capabilities": {"image_input": yes, "pdf_input": no, "thinking": {"supported": True, "types": {}}}},
        {"type": "model", "id": "claude-of-tomorrow"},
    ]  # fmt: skip

    def models(wire, request):
        wire.json("200 OK", {"data": listed, "has_more": False, "first_id": None, "last_id": None})

    with serving(models) as server:
        session = Session(ClaudeTransport("anthropic", base_url=server.url, api_key="sk-ant-test"))
        shown = do(session, capsys, "models")
    known, tomorrow = shown.splitlines()[1:]
    assert "1,000,000" in known
    assert "64,000" in known
    assert "image input, thinking" in known
    assert "pdf" not in known
    assert re.search(r"\d+(\.\d+)? / \d+", known)
    assert re.match(r"claude-of-tomorrow +\? +\? +\? / \?", tomorrow)


# --- words and arguments ----------------------------------------------------------------------------

WORDS = {
    "": [],
    "  history   main ": ["history", "main"],
    "save 'my chat.json'": ["save", "my chat.json"],
    'save "my chat.json" main': ["save", "my chat.json", "main"],
    'save "it\'s.json"': ["save", "it's.json"],
    "save '' main": ["save", "", "main"],
    "mcp add --header='A: b c' x": ["mcp", "add", "--header=A: b c", "x"],
    'mcp add x python -c "print(\\"hi\\")"': ["mcp", "add", "x", "python", "-c", 'print("hi")'],
    r"cassette C:\data\a.jsonl": ["cassette", r"C:\data\a.jsonl"],
    r'cassette "C:\my data\new.jsonl"': ["cassette", r"C:\my data\new.jsonl"],
    r"cassette 'C:\my data\new.jsonl'": ["cassette", r"C:\my data\new.jsonl"],
    r"cassette \\server\share\a.jsonl": ["cassette", r"\\server\share\a.jsonl"],
    r'cassette "\\server\my share\a.jsonl"': ["cassette", r"\\server\my share\a.jsonl"],
    r'mcp add files server "C:\my data\"': ["mcp", "add", "files", "server", "C:\\my data\\"],
}


@pytest.mark.parametrize("line", WORDS)
def test_quotation_marks_keep_spaces_and_backslashes_stay(line: str):
    r"""Quotation marks keep spaces.

    Backslashes stay, because they separate the folders of a Windows path. Only \" inside double quotes
    is a quotation mark.
    """
    assert split_words(line) == WORDS[line]


PATHS = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\"'"), min_size=1)


@given(PATHS.filter(lambda path: not path.endswith("\\")))
@example(r"C:\Users\Nora\new tables\n.jsonl")
def test_every_path_can_be_quoted(path: str):
    """Double and single quotation marks keep each path as one word."""
    assert split_words(f'save "{path}" main') == split_words(f"save '{path}' main") == ["save", path, "main"]


@given(st.text(max_size=60))
def test_no_line_breaks_the_splitter(line: str):
    """Splitting returns words or reports an open quotation mark. No other character is lost."""
    with contextlib.suppress(OptionError):
        kept = re.sub(r"[\s\"'\\]", "", "".join(split_words(line)))
        assert kept == re.sub(r"[\s\"'\\]", "", line)


WINDOWS = r"C:\data\new a.{}"


@pytest.mark.parametrize("quote", ["'", '"'])
def test_a_windows_path_is_not_changed(session, capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quote: str):
    """``save``, ``load``, ``cassette`` and ``csv`` keep the backslashes of a Windows path."""
    monkeypatch.chdir(tmp_path)
    for kind, line in {
        "json": "save {}",
        "jsonl": "cassette {} --mode record",
        "csv": "usage all csv {}",
    }.items():
        do(session, capsys, line.format(f"{quote}{WINDOWS.format(kind)}{quote}"))
        if kind == "jsonl":
            session.ask("Recorded")
        assert (tmp_path / WINDOWS.format(kind)).is_file(), line
    do(session, capsys, f"load {quote}{WINDOWS.format('json')}{quote} copy")
    assert len(session.conversation("copy")) == 3
    do(session, capsys, r"save C:\data\a.json")
    assert (tmp_path / r"C:\data\a.json").is_file()


def test_the_words_after_the_name_belong_to_the_server(session, capsys):
    """All words after the name belong to the server, with their backslashes and quotation marks.

    Our options come first.
    """
    added: list[tuple[object, ...]] = []
    session._mcp = SimpleNamespace(add=lambda *args, **named: added.append((*args, named)) or ("files.read",))
    do(session, capsys, r"mcp add --approve=never files C:\Tools\server.exe --root 'C:\my data' --approve")
    do(session, capsys, "mcp add --header 'A: b: c' --header B:d web https://example.org/mcp")
    command = (r"C:\Tools\server.exe", "--root", r"C:\my data", "--approve")
    assert added == [
        ("files", command, {"headers": {}, "approve": "never"}),
        ("web", "https://example.org/mcp", {"headers": {"A": "b: c", "B": "d"}, "approve": None}),
    ]


def all_commands() -> list[Command]:
    """Return all subcommands, with the actions of groups one by one."""
    found: list[Command] = []
    for command in commands.COMMANDS.values():
        found += command.actions if isinstance(command, Group) else [command]
    return found


@pytest.mark.parametrize("command", all_commands(), ids=lambda command: command.name)
def test_a_function_has_the_parameters_that_its_subcommand_declares(command: Command):
    """The function's parameters have the declared names and order, after the call itself."""
    call, *parameters = inspect.signature(command.do).parameters.values()
    assert call.name == "call"
    assert [parameter.name for parameter in parameters] == [argument.name for argument in command.arguments]
    for parameter, argument in zip(parameters, command.arguments, strict=True):
        always = argument.required or argument.default is not None
        expected = "tuple[str, ...]" if argument.takes in ("several", "rest") else "str" if always else "str | None"
        assert parameter.annotation == expected
    assert command.help
    assert not command.help.endswith(".")


def test_the_usage_texts():
    """The usage texts are generated from the declarations."""
    assert {name: command.usage for name, command in commands.COMMANDS.items()} == {
        "show": "show [NAME]",
        "history": "history [CHAT]",
        "reset": "reset [CHAT]",
        "forget": "forget N|deleted [CHAT]",
        "fork": "fork NEW [CHAT]",
        "save": "save FILE [CHAT]",
        "load": "load FILE [CHAT]",
        "resume": "resume [FILE]",
        "batches": "batches",
        "cassette": "cassette [FILE|off] [--mode auto|replay|record|off] [--speed fast|real]",
        "usage": "usage [run|today|week|month|year|all] [by day|model|notebook|chat] [csv FILE]",
        "recover": "recover [NAME]",
        "mcp": "mcp add [--approve WHEN] [--header 'NAME: VALUE'] NAME COMMAND…|URL, mcp list, mcp remove NAME",
        "approvals": "approvals list, approvals clear [NAME]",
        "system": "system",
        "models": "models [ENDPOINT]",
        "endpoints": "endpoints",
        "config": "config",
        "doctor": "doctor [--report]",
    }


def test_choices_are_those_of_the_lower_packages():
    """The declarations repeat the choices, because %load_ext imports neither transports nor the ledger."""
    _, mode, speed = commands.COMMANDS["cassette"].arguments
    assert (mode.choices, speed.choices) == (MODES, SPEEDS)
    period, by, _ = commands.COMMANDS["usage"].arguments
    ledger = Session(ScriptedTransport()).accounting.ledger
    for group in by.choices:
        ledger.totals(group, 0.0)
    for name in period.choices:
        assert name == "run" or start_of(name, 0.0) is not None


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("forget", "%nbchat forget needs N|deleted", "Usage: %nbchat forget N|deleted [CHAT]"),
        ("mcp add --approve ask", "%nbchat mcp add needs NAME and COMMAND…|URL", "Usage: %nbchat mcp add"),
        ("mcp add files", "%nbchat mcp add needs COMMAND…|URL", "Usage: %nbchat mcp add"),
        ("mcp add --aprove ask x y", "%nbchat mcp add: unknown option --aprove", "Did you mean --approve?"),
        ("mcp add --approve x y", "--approve x: not one of ask, always, never", "Usage: %nbchat mcp add"),
        ("mcp add --header x y z", "--header: NAME: VALUE is needed", "For example"),
        ("mcp lst", "%nbchat mcp lst: not one of add, list, remove", "Did you mean list?"),
        ("mcp list all", "%nbchat mcp list: unexpected 'all'", "Usage: %nbchat mcp list"),
        ("mcp remove", "%nbchat mcp remove needs NAME", "Usage: %nbchat mcp remove NAME"),
        ("history main other", "%nbchat history: unexpected 'other'", "Usage: %nbchat history [CHAT]"),
        ("cassette --mode", "%nbchat cassette: --mode needs a value: auto|replay", "Usage: %nbchat cassette"),
        ("cassette a --mode rec", "--mode rec: not one of auto, replay, record, off", "Did you mean record?"),
        ("cassette --mode auto --mode off", "%nbchat cassette: --mode is given twice", "Give it once."),
        ("usage wek", "%nbchat usage wek: not one of run, today, week", "Did you mean week?"),
        ("usage modell", "%nbchat usage modell: not one of run, today, week", "Usage: %nbchat usage"),
        ("usage by modell", "by modell: not one of day, model", "Did you mean model?"),
        ("doctor --report=x", "%nbchat doctor: --report has no value", "Write --report alone."),
        ("save 'x", "%nbchat save: a quotation mark is not closed", "Close it."),
        ("hisory", "%nbchat hisory: there is no such subcommand", "Did you mean history?"),
    ],
)
def test_wrong_arguments_are_named_with_a_hint(session, capsys, line: str, message: str, hint: str):
    """The message names the subcommand or the flag. The hint is the nearest word or the usage."""
    with pytest.raises(OptionError) as refused:
        do(session, capsys, line)
    assert refused.value.message.startswith(message)
    assert refused.value.hint.startswith(hint)


# --- settings -------------------------------------------------------------------------------------


def test_every_option_for_several_cells_can_be_set():
    """An option that is useful for more than one cell can be set by traitlets and by the environment."""
    values = {"int": ("7", 7), "number": ("0.5", 0.5), "switch": ("1", True), "list": ("x", ["x"])}
    for option in OPTIONS:
        if not option.setting:
            continue
        text, value = values.get(option.kind, (option.choices[0],) * 2 if option.choices else ("x", "x"))
        settings = Nbchat(environment={f"NBCHAT_{option.name.upper()}": text})
        assert getattr(settings, option.name) == value
        assert settings.sources == {option.name: f"NBCHAT_{option.name.upper()}"}
        configured = Nbchat(environment={}, config=Config({"Nbchat": {option.name: value}}))
        assert getattr(configured, option.name) == value
        assert configured.sources == {option.name: "configuration file"}


def test_config_shows_every_value_and_its_source(capsys):
    """The environment overrides a file, and %config overrides both."""
    settings = Nbchat(
        environment={"NBCHAT_EFFORT": "high", "NBCHAT_MODEL": "from-environment"},
        config=Config({"Nbchat": {"model": "from-file", "chat": "notes"}}),
    )
    settings.max_tokens = 99
    shown = do(Session(ScriptedTransport(), config=settings), capsys, "config").splitlines()[1:]
    table = {row[0]: row[1:] for row in (re.split(r"  +", line) for line in shown)}
    assert table["effort"] == ["'high'", "NBCHAT_EFFORT"]
    assert table["model"] == ["'from-environment'", "NBCHAT_MODEL"]
    assert table["chat"] == ["'notes'", "configuration file"]
    assert table["max_tokens"] == ["99", "%config"]
    assert table["thinking"] == ["False", "default"]
    assert set(table) == set(settings.class_trait_names(config=True))


def test_a_set_option_is_sent_unless_the_cell_has_its_own():
    """The value in the settings is sent, unless the cell has its own value."""
    transport = ScriptedTransport("Fine.", repeat=True)
    session = Session(transport, config=Nbchat(environment={"NBCHAT_EFFORT": "high", "NBCHAT_SYSTEM": "Be brief."}))
    session.ask("Hi")
    session.ask("Hi", effort="low")
    assert [request.params["output_config"]["effort"] for request in transport.requests] == ["high", "low"]
    assert transport.requests[0].system == "Be brief."


@pytest.mark.parametrize(
    ("variable", "text"),
    [("NBCHAT_EFFORT", "hihg"), ("NBCHAT_MAX_TOKENS", "many"), ("NBCHAT_MAX_TOKENS", "0"), ("NBCHAT_BUDGET", "-1")],
)
def test_a_wrong_value_names_its_variable(variable, text):
    """The message contains the variable and its value."""
    with pytest.raises(OptionError) as refused:
        Nbchat(environment={variable: text})
    assert variable in refused.value.message
    assert text in refused.value.message


def test_a_wrong_value_of_a_choice_is_refused_where_it_is_set():
    """The assignment raises the error, not the next request."""
    with pytest.raises(TraitError, match="hihg"):
        Nbchat(environment={}).effort = "hihg"


def test_a_typo_names_the_nearest_key():
    """A typo in a file or in %config names the nearest key. Other programs' variables are ignored."""
    settings = Nbchat(environment={})
    with pytest.raises(OptionError) as wrong:
        settings.update_config(Config({"Nbchat": {"modle": "x"}}))
    assert "modle" in wrong.value.message
    assert wrong.value.hint == "Did you mean model?"
    with pytest.warns(RuntimeWarning, match="NBCHAT_MODLE is not a setting.*NBCHAT_MODEL"):
        Nbchat(environment={"NBCHAT_MODLE": "x"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Nbchat(environment={"NBCHAT_CHROMIUM": "/usr/bin/chromium"})


def test_a_cassette_that_is_set_later_is_used(tmp_path: Path):
    """``%config Nbchat.cassette`` and ``cassette_mode`` apply to the next request."""
    session = Session(ScriptedTransport("Fine."), config=Nbchat(environment={}))
    session.config.cassette = str(tmp_path / "c.jsonl")
    session.ask("Hi")
    assert (tmp_path / "c.jsonl").read_text().count("\n") >= 1
    session.config.cassette_mode = "replay"
    assert session.recording.replays_only
    assert session.ask("Hi", once=True).replayed
    session.config.cassette = None
    assert session.recording.cassette is None


def test_approvals_lists_the_tools_that_are_allowed_always_and_takes_that_back(session, capsys):
    """A server chose the names of its tools, so they are escaped."""
    assert "no tool is allowed always" in do(session, capsys, "approvals")
    functions = {"read": len, "write": abs, "x\x1b]0;": hash}
    for name, function in functions.items():
        session.approved.add(FunctionTool(function, name, lambda value: ()))
    assert do(session, capsys, "approvals").splitlines()[1:] == ["  read", "  write", "  x\\x1b]0;"]
    assert do(session, capsys, "approvals list") == do(session, capsys, "approvals")
    assert "read is taken back" in do(session, capsys, "approvals clear read")
    assert list(session.approved) == ["write", "x\x1b]0;"]
    with pytest.raises(OptionError, match="not allowed always") as caught:
        do(session, capsys, "approvals clear writ")
    assert caught.value.hint == "Did you mean write?"
    assert "2 approvals taken back" in do(session, capsys, "approvals clear")
    assert not session.approved


def test_reset_takes_back_what_is_allowed_always(session, capsys):
    """The next call of each tool is asked for again."""
    session.approved.add(FunctionTool(len, "read", lambda value: ()))
    assert "1 approval taken back; each tool is asked for again" in do(session, capsys, "reset")
    assert not session.approved
    assert "approval" not in do(session, capsys, "reset")


def test_help_is_a_word_too(session, capsys):
    """``help`` shows all subcommands, and with a name the one of that name."""
    whole = do(session, capsys, "")
    for line in ("help", "--help", "-h"):
        assert do(session, capsys, line) == whole
    usage = "  %nbchat forget N|deleted [CHAT]\n"
    for line in ("help forget", "forget --help", "forget -h"):
        assert do(session, capsys, line).startswith(usage)
        assert len(do(session, capsys, line).splitlines()) == 2
    with pytest.raises(OptionError, match="Did you mean forget"):
        do(session, capsys, "help forgt")
