"""SECURITY.md names only tests and files that exist, so that each promise has its test."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
#: Every path in code or in a link: ``tests/unit/test_x.py::test_y``, ``bench/x.py``.
NAMED = sorted(set(re.findall(r"[`(]((?:tests|bench|nbchat)/[\w/.]+(?:::\w+)?)[`)]", PAGE)))


@pytest.mark.parametrize("named", NAMED)
def test_what_the_page_names_exists(named: str):
    """A test that is renamed or removed changes the page too."""
    path, _, name = named.partition("::")
    assert (ROOT / path).is_file()
    if name:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_each_promise_names_a_test():
    """A promise is an item of a list under "What is promised"."""
    promises = PAGE.split("## What is promised")[1].split("## What is not promised")[0]
    for part in re.split(r"\n(?=- )", promises)[1:]:
        promise = part.split("\n\n")[0]
        assert re.search(r"`tests/[\w/]+\.py::test_\w+`", promise), promise


def test_the_page_is_linked_and_names_no_address():
    """An advisory is private, and an address that nobody reads is not."""
    assert "(SECURITY.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert "@" not in PAGE
