"""Tests of ``%nbchat doctor --report``: what a report of a fault needs, and nothing private."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from nbchat import ScriptedTransport, Session
from nbchat.__main__ import main
from nbchat.config import Nbchat
from nbchat.core.errors import OptionError
from nbchat.engine.fault_report import LIBRARIES, fault_report
from nbchat.notebook import commands


def failed(error: BaseException) -> BaseException:
    """Return an error as it is after it was raised."""
    try:
        raise error
    except BaseException as raised:
        return raised


def test_a_report_has_what_a_reader_needs_and_sends_nothing(capsys: pytest.CaptureFixture[str]):
    """Versions, the place, the last answer and its status."""
    transport = ScriptedTransport("The answer is forty-two.")
    session = Session(transport)
    session.ask("How much is it?")
    commands.run("doctor --report", session, SimpleNamespace(user_ns={}))
    report = capsys.readouterr().out
    assert all(library in report for library in ("nbchat", *LIBRARIES))
    for line in ("kernel         none: a terminal", "status         complete", "blocks         text"):
        assert line in report
    assert len(transport.requests) == 1
    assert "forty-two" not in report
    assert "How much" not in report


def test_a_report_has_no_secret_and_no_private_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """No key, password, prompt, path of a person, nor the message of an error that may quote data."""
    environment = {
        "NBCHAT_ENDPOINT": "http://ada:pw@127.0.0.1:1/k3y/v1",
        "NBCHAT_ENDPOINTS": "{'lab': {'base_url': 'http://u:hunter2@127.0.0.1:1', 'headers': {'X-Team': 'chem'}}}",
        "NBCHAT_SYSTEM": "You work for Miss Marple.",
        "NBCHAT_PARAM": "metadata={'user_id': 'ada@example.org'}",
        "NBCHAT_CASSETTE": str(tmp_path / "private.jsonl"),
        "NBCHAT_LOCAL_MODEL": "/home/ada/models/x.gguf",
    }
    session = Session(ScriptedTransport("ready"), config=Nbchat(environment))
    report = fault_report(session, {}, failed(ValueError("the password is hunter3")))
    private = ("pw@", "k3y", "hunter", "chem", "Marple", "ada@", str(tmp_path), "/home/ada", str(Path.home()))
    assert not [word for word in private if word in report]
    assert "builtins.ValueError" in report
    assert "setting        system = … (from NBCHAT_SYSTEM)" in report


def test_a_report_shows_where_the_code_failed():
    """Files of nbchat and of libraries by their place there, the user's as "…". Causes are in it, too."""
    error = OptionError("unknown option --modle")
    try:
        Session(ScriptedTransport()).options({"modle": 1})
    except OptionError as raised:
        error = raised
    error.__cause__ = failed(KeyError("secret"))
    report = fault_report(Session(ScriptedTransport()), {}, error)
    assert "nbchat.core.errors.OptionError: unknown option 'modle'" in report
    assert "nbchat/options.py:" in report
    assert "builtins.KeyError" in report
    assert "  …:" in report
    assert "secret" not in report


def test_a_circle_of_causes_ends():
    """Two errors can be the context of each other."""
    one, two = failed(ValueError()), failed(KeyError())
    one.__context__, two.__context__ = two, one
    assert fault_report(Session(ScriptedTransport()), {}, one).count("ValueError") == 1


def test_the_last_error_of_the_shell_is_in_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """IPython keeps it in sys.last_value."""
    monkeypatch.setattr(sys, "last_value", failed(ZeroDivisionError("1/0")), raising=False)
    commands.run("doctor --report", Session(ScriptedTransport()), SimpleNamespace(user_ns={}))
    assert "builtins.ZeroDivisionError" in capsys.readouterr().out


def test_a_terminal_prints_it_too(capsys: pytest.CaptureFixture[str]):
    """``python -m nbchat doctor --report`` works where no notebook does."""
    assert main(["doctor", "--report"]) == 0
    assert "last answer    none" in capsys.readouterr().out
