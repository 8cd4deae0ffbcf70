"""Fixtures for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _own_environment(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the keys, settings and files of the person who runs the tests out of them."""
    for name in list(os.environ):
        if name.startswith(("ANTHROPIC_", "NBCHAT_")) and name != "NBCHAT_CHROMIUM":
            monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    for name in ("XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(home / name.lower()))
    monkeypatch.setenv("ANTHROPIC_CONFIG_DIR", str(home / "anthropic"))
    monkeypatch.setenv("IPYTHONDIR", str(home / "ipython"))


@pytest.fixture
def streams() -> Path:
    """Return the folder of recorded answers of the real API, which may lie next to the project."""
    folder = ROOT.parent / "shared" / "streams"
    if not folder.is_dir():
        pytest.skip("the recorded streams are not beside this checkout")
    return folder
