"""The package's front door: names that come when they are asked for, ``ask`` and ``load``."""

from __future__ import annotations

from pathlib import Path

import pytest

import nbchat
from nbchat.engine.session import use_session


def test_every_public_name_is_listed_and_comes_from_its_home():
    """``dir`` shows them before they are used, as completion needs."""
    assert set(nbchat.__all__) <= set(dir(nbchat))
    from nbchat.core.response import Response
    from nbchat.engine.session import Session

    assert nbchat.Response is Response
    assert nbchat.Session is Session
    assert nbchat.errors.NbchatError is nbchat.NbchatError


def test_a_name_that_is_not_there_is_an_attribute_error():
    """So that hasattr works."""
    assert not hasattr(nbchat, "responses")
    with pytest.raises(ImportError):
        from nbchat import responses  # noqa: F401


def test_ask_goes_by_the_session_of_the_notebook(tmp_path: Path):
    """And what it gives can be saved and loaded."""
    session = nbchat.Session(nbchat.ScriptedTransport("One.", "Two."))
    use_session(session)
    first, second = nbchat.ask("first"), nbchat.ask("second", max_tokens=7)
    assert (first.text, second.text) == ("One.", "Two.")
    assert session.last is second
    assert [turn.messages[0].text for turn in session.conversation("main").turns] == ["first", "second"]
    loaded = nbchat.load(second.save(tmp_path / "second.json"))
    assert loaded == second
    with pytest.raises(nbchat.errors.OptionError, match="Did you mean max_tokens"):
        nbchat.ask("third", max_token=7)


def test_the_version_is_one():
    """hatchling reads it from here."""
    assert all(part.isdigit() for part in nbchat.__version__.split("."))
