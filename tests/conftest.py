"""Fixtures for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

# Hypothesis fails a test whose example takes more than 200 ms, which says more about a busy machine than about nbchat.
settings.register_profile("nbchat", deadline=None)
settings.load_profile("nbchat")

ROOT = Path(__file__).parent.parent


@pytest.fixture
def streams() -> Path:
    """Return the folder of recorded answers of the real API. Skip the test if the folder does not exist."""
    folder = ROOT.parent / "shared" / "streams"
    if not folder.is_dir():
        pytest.skip("the recorded streams are not next to this checkout")
    return folder
