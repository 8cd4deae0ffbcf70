"""Tests of the names in ``nbchat``, which are imported on first use, and of ``ask`` and ``load``."""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import nbchat
from nbchat.distribution import DISTRIBUTION, installed_version
from nbchat.engine.session import use_session


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
    """``ask`` uses the session of the notebook, and its Response can be saved and loaded."""
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


def test_there_is_one_version():
    """The version is written in nbchat/distribution.py only, where hatchling reads it."""
    assert all(part.isdigit() for part in nbchat.__version__.split("."))


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
