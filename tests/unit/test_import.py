"""The package's front door: names that come when they are asked for, ``ask`` and ``load``."""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import nbchat
from nbchat.distribution import DISTRIBUTION, installed_version
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
    """hatchling reads it from nbchat/distribution.py."""
    assert all(part.isdigit() for part in nbchat.__version__.split("."))


def test_the_distribution_has_one_name():
    """pyproject.toml and the code agree; it is not nbchat, which is somebody else's project on the package index."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] == DISTRIBUTION
    assert DISTRIBUTION != "nbchat"


def test_the_version_is_known_without_an_installed_distribution(monkeypatch: pytest.MonkeyPatch):
    """As in a checkout that was never installed."""
    monkeypatch.setattr(metadata, "version", lambda name: {DISTRIBUTION: "9.9.9"}[name])
    assert installed_version() == "9.9.9"

    def not_installed(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", not_installed)
    assert installed_version() == nbchat.__version__
