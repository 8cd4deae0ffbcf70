"""Fixtures for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Hypothesis fails a test whose example takes more than 200 ms, which says more about a busy machine than about nbchat.
settings.register_profile("nbchat", deadline=None)
settings.load_profile("nbchat")

ROOT = Path(__file__).parent.parent
#: The examples of each property in `make check`, which a person runs often. `make test` runs all of them.
QUICK_EXAMPLES = 25


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Reduce the examples of properties if the variable QUICK is set. Examples that are written down stay."""
    if not os.environ.get("QUICK"):
        return
    for item in items:
        test = getattr(item, "obj", None)
        own = getattr(test, "_hypothesis_internal_use_settings", None)
        if own is not None and own.max_examples > QUICK_EXAMPLES:
            test._hypothesis_internal_use_settings = settings(own, max_examples=QUICK_EXAMPLES)


@pytest.fixture
def streams() -> Path:
    """Return the folder of recorded answers of the real API. Skip the test if the folder does not exist."""
    folder = ROOT.parent / "shared" / "streams"
    if not folder.is_dir():
        pytest.skip("the recorded streams are not next to this checkout")
    return folder
