"""``%nbchat``: conversations, what there is, and the settings."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
from traitlets import TraitError
from traitlets.config import Config

from nbchat import ScriptedTransport, Session
from nbchat.config import Nbchat
from nbchat.core.errors import InputError, NbchatError, OptionError
from nbchat.notebook import commands
from nbchat.options import OPTIONS
from nbchat.transports.claude import ClaudeTransport
from tests.support.server import serving


@pytest.fixture
def session() -> Session:
    """Three turns by cells in ``main``, the second run again, so that the third is stale."""
    session = Session(ScriptedTransport("Fine.", repeat=True))
    for cell, prompt in (("cell-one", "First"), ("cell-two", "Second"), ("cell-three", "Third"), ("cell-two", "Again")):
        session.ask(prompt, cell=cell)
    return session


def do(session: Session, capsys: pytest.CaptureFixture[str], line: str, **names: object) -> str:
    """What ``%nbchat line`` prints."""
    commands.run(line, session, SimpleNamespace(user_ns=names))
    return capsys.readouterr().out


def test_history_is_a_table_of_turns(session, capsys):
    """Number, cell, model, tokens, whether stale, and the beginning of the prompt."""
    head, *rows = do(session, capsys, "history").splitlines()
    assert head.split() == ["turn", "cell", "model", "tokens", "state", "prompt"]
    cells = [re.split(r"  +", row) for row in rows]
    assert [row[0] for row in cells] == ["1", "2", "3"]
    assert [row[1] for row in cells] == ["cell-one", "cell-two", "cell-thr"]
    assert [row[4] for row in cells] == ["complete", "complete", "stale, complete"]
    assert [row[5] for row in cells] == ["First", "Again", "Third"]
    assert all(int(row[3].replace(",", "")) > 0 for row in cells)


def test_history_of_cells_of_vs_code(session, capsys):
    """Their ids are addresses; the end tells them apart. The second question of a cell has its number."""
    session.ask("Hi", chat="vs", cell="vscode-notebook-cell:/home/me/long/way/a.ipynb#W3sZmlsZQ%3D%3D")
    session.ask("Hi", chat="vs", cell="0fd2c1aa-1111-2222#2")
    rows = do(session, capsys, "history vs").splitlines()[1:]
    assert [row.split()[1] for row in rows] == ["W3sZmlsZ", "0fd2c1aa#2"]


def test_forget_takes_out_one_turn(session, capsys):
    """Those after it are stale; the last one has none after it; a wrong number says what there is."""
    assert "stale" in do(session, capsys, "forget 1")
    assert [turn.messages[0].text for turn in session.conversation("main").turns] == ["Again", "Third"]
    assert "stale" not in do(session, capsys, "forget 2")
    for number in ("0", "2", "x"):
        with pytest.raises(OptionError, match="turns 1 to 1"):
            do(session, capsys, f"forget {number}")


def test_fork_goes_on_under_another_name(session, capsys):
    """A copy whose turns belong to no cell; the name must be free."""
    do(session, capsys, "fork idea")
    session.ask("Only here", chat="idea", cell="cell-two")
    assert len(session.conversation("idea")) == 4
    assert "Only here" not in str(session.conversation("main").to_dict())
    with pytest.raises(OptionError, match="there is a conversation"):
        do(session, capsys, "fork idea")


def test_save_and_load_give_the_same_conversation(session, capsys, tmp_path: Path):
    """As JSON, with the keys of cells, so that a cell run again after a restart replaces its turn."""
    file = tmp_path / "chat.json"
    do(session, capsys, f"save {file}")
    assert json.loads(file.read_text())["format"] == "nbchat.conversation/1"
    other = Session(ScriptedTransport("Fine.", repeat=True))
    do(other, capsys, f"load {file}")
    assert other.conversation("main").to_dict() == session.conversation("main").to_dict()
    other.ask("Once more", cell="cell-one")
    assert [turn.stale for turn in other.conversation("main").turns] == [False, True, True]
    assert "in the place of its 3" in do(other, capsys, f"load {file}")
    do(other, capsys, f"load {file} copy")
    assert len(other.conversation("copy")) == 3


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"name": "x", "turns": [1]}', '{"name": "x", "turns": [{}]}', "\xff"]
)
def test_what_is_no_conversation_is_not_loaded(session, capsys, tmp_path: Path, content: str):
    """An InputError with the file, and the conversations stay as they were."""
    file = tmp_path / "chat.json"
    file.write_text(content, encoding="latin-1")
    before = session.conversation("main").to_dict()
    with pytest.raises(InputError, match="no conversation could be read"):
        do(session, capsys, f"load {file}")
    assert session.conversation("main").to_dict() == before


def test_reset_takes_out_all(session, capsys):
    """The conversation begins anew; the next request has no history."""
    assert "3 turns" in do(session, capsys, "reset")
    session.ask("Hi")
    assert len(session.last.messages) == 2
    assert len(session.conversation("main")) == 1


def test_commands_follow_the_conversation_that_is_set(session, capsys):
    """``c.Nbchat.chat`` is the conversation of cells, and so of ``%nbchat`` without a name."""
    session.config.chat = "review"
    session.ask("Look")
    assert "Look" in do(session, capsys, "history")


@pytest.mark.parametrize("line", ["history nome", "hisory", "forget", "forget 1 2 3", "history 'x", "fork"])
def test_what_makes_no_sense_is_said(session, capsys, line):
    """An error with the nearest name or the usage; nothing changes."""
    with pytest.raises(NbchatError) as wrong:
        do(session, capsys, line)
    assert wrong.value.hint
    assert len(session.conversation("main")) == 3


def test_the_system_prompt_is_shown_as_it_would_be_sent(session, capsys, tmp_path: Path):
    """Words as they are; of a file or a variable its text and where it is from."""
    assert "no system prompt" in do(session, capsys, "system")
    session.config.system = "Be brief."
    assert do(session, capsys, "system") == "Be brief.\n"
    session.config.system = "role"
    assert do(session, capsys, "system", role="You are a pirate.") == "from role:\nYou are a pirate.\n"
    (tmp_path / "role.txt").write_text("You are a file.")
    session.config.system = str(tmp_path / "role.txt")
    assert "You are a file." in do(session, capsys, "system")


def test_models_are_listed_with_window_limit_price_and_capabilities(capsys):
    """From the Models API and the price list; what is not known is a question mark."""
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


# --- settings -------------------------------------------------------------------------------------


def test_every_option_of_the_table_can_be_set():
    """Those that make sense for more than one cell, by traitlets and by the environment."""
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


def test_config_shows_every_value_and_where_it_came_from(capsys):
    """The environment goes before a file, and %config before both."""
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


def test_a_set_option_goes_into_requests_and_a_cells_own_goes_before_it():
    """What is set is what is sent."""
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
    """With the value and what the setting is."""
    with pytest.raises(OptionError) as refused:
        Nbchat(environment={variable: text})
    assert variable in refused.value.message
    assert text in refused.value.message


def test_a_wrong_value_of_a_choice_is_refused_where_it_is_set():
    """Not first by the request."""
    with pytest.raises(TraitError, match="hihg"):
        Nbchat(environment={}).effort = "hihg"


def test_a_typo_names_the_nearest_key():
    """In a configuration file, by %config, and in the environment, where others may have names of their own."""
    settings = Nbchat(environment={})
    with pytest.raises(OptionError) as wrong:
        settings.update_config(Config({"Nbchat": {"modle": "x"}}))
    assert "modle" in wrong.value.message
    assert wrong.value.hint == "Did you mean model?"
    with pytest.warns(RuntimeWarning, match="NBCHAT_MODLE is no setting.*NBCHAT_MODEL"):
        Nbchat(environment={"NBCHAT_MODLE": "x"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Nbchat(environment={"NBCHAT_CHROMIUM": "/usr/bin/chromium"})


def test_a_cassette_that_is_set_later_is_used(tmp_path: Path):
    """``%config Nbchat.cassette`` and ``cassette_mode`` hold from then on."""
    session = Session(ScriptedTransport("Fine."), config=Nbchat(environment={}))
    session.config.cassette = str(tmp_path / "c.jsonl")
    session.ask("Hi")
    assert (tmp_path / "c.jsonl").read_text().count("\n") >= 1
    session.config.cassette_mode = "replay"
    assert session.recording.replays_only
    assert session.ask("Hi", once=True).replayed
    session.config.cassette = None
    assert session.recording.cassette is None
