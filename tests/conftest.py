"""Fixtures for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def streams() -> Path:
    """Return the folder of recorded answers of the real API. Skip the test if the folder does not exist."""
    folder = ROOT.parent / "shared" / "streams"
    if not folder.is_dir():
        pytest.skip("the recorded streams are not next to this checkout")
    return folder
