"""Tests of the names in ``nbchat``, which are imported on first use, and of ``ask`` and ``load``."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import nbchat
from nbchat.distribution import DISTRIBUTION, installed_version
from nbchat.engine.current_session import use_session


def test_every_public_name_is_listed_and_imported_from_its_module():
    """``dir`` lists the names before their first use, because completion needs them."""
    assert set(nbchat.__all__) <= set(dir(nbchat))
    from nbchat.core.response import Response
    from nbchat.engine.session import Session

    assert nbchat.Response is Response
    assert nbchat.Session is Session
    assert nbchat.errors.NbchatError is nbchat.NbchatError


def test_an_unknown_name_raises_an_attribute_error():
    """An unknown name raises AttributeError, so that ``hasattr`` works."""
    assert not hasattr(nbchat, "responses")
    with pytest.raises(ImportError):
        from nbchat import responses  # noqa: F401


def test_ask_uses_the_session_of_the_notebook(tmp_path: Path):
    """``ask`` uses the chosen session, and its Response can be saved. Each question stands alone."""
    transport = nbchat.ScriptedTransport("One.", "Two.")
    session = nbchat.Session(transport)
    use_session(session)
    first, second = nbchat.ask("first"), nbchat.ask("second", max_tokens=7)
    assert (first.text, second.text) == ("One.", "Two.")
    assert session.last is second
    assert [len(request.messages) for request in transport.requests] == [1, 1]
    assert not session.conversations
    loaded = nbchat.load(second.save(tmp_path / "second.json"))
    assert loaded == second
    with pytest.raises(nbchat.errors.OptionError, match="Did you mean max_tokens"):
        nbchat.ask("third", max_token=7)


def test_ask_with_a_chat_continues_the_chat():
    """A question with ``chat`` is sent with the earlier turns of that conversation, also of ``main``."""
    transport = nbchat.ScriptedTransport("One.", "Two.", "Three.", "Four.")
    use_session(nbchat.Session(transport))
    nbchat.ask("first", chat="main")
    nbchat.ask("second", chat="main")
    nbchat.ask("third")
    nbchat.ask("fourth", chat="main", once=True)
    assert [len(request.messages) for request in transport.requests] == [1, 3, 1, 1]


def test_there_is_one_version():
    """The version is written in nbchat/distribution.py only, where hatchling, Sphinx and towncrier read it."""
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|rc\d+)?", nbchat.__version__)
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert nbchat.__version__ not in text
    tools = tomllib.loads(text)["tool"]
    assert tools["hatch"]["version"]["path"] == "nbchat/distribution.py"
    assert tools["towncrier"]["package"] == "nbchat"


def test_the_distribution_has_one_name():
    """pyproject.toml and the code have the same name.

    It is not "nbchat", which is another project on the package index.
    """
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] == DISTRIBUTION
    assert DISTRIBUTION != "nbchat"


def test_the_version_is_known_without_an_installed_distribution(monkeypatch: pytest.MonkeyPatch):
    """The version is known in a checkout that was never installed."""
    monkeypatch.setattr(metadata, "version", lambda name: {DISTRIBUTION: "9.9.9"}[name])
    assert installed_version() == "9.9.9"

    def not_installed(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", not_installed)
    assert installed_version() == nbchat.__version__
