"""Fixtures for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support import quick_kernels
from tests.support.thorough import THOROUGH

# Hypothesis fails a test whose example takes more than 200 ms, which says more about a busy machine than about nbchat.
settings.register_profile("nbchat", deadline=None)
settings.load_profile("nbchat")

ROOT = Path(__file__).parent.parent
#: The most examples of a property in `make check`, which a person runs often.
QUICK_EXAMPLES = 25
#: The part of the examples of each property that `make test` tries. THOROUGH=1 tries all of them.
USUAL_PART = 1 / 4


def _examples(own: int) -> int:
    """Return how many of its own examples a property tries. Examples that are written down are tried in any case."""
    if THOROUGH:
        return own
    if os.environ.get("QUICK"):
        return min(own, QUICK_EXAMPLES)
    return min(own, max(QUICK_EXAMPLES, round(own * USUAL_PART)))


def pytest_configure(config: pytest.Config) -> None:
    """Offer quick kernels, once for all processes of pytest."""
    if not hasattr(config, "workerinput"):
        quick_kernels.offer()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Reduce the examples of properties."""
    for item in items:
        test = getattr(item, "obj", None)
        own = getattr(test, "_hypothesis_internal_use_settings", None)
        if own is not None and own.max_examples > _examples(own.max_examples):
            test._hypothesis_internal_use_settings = settings(own, max_examples=_examples(own.max_examples))


@pytest.fixture
def streams() -> Path:
    """Return the folder of recorded answers of the real API. Skip the test if the folder does not exist."""
    folder = ROOT.parent / "shared" / "streams"
    if not folder.is_dir():
        pytest.skip("the recorded streams are not next to this checkout")
    return folder
