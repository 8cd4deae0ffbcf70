"""The fragments in changes/ have names that towncrier takes, and say in a sentence or two what is different."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["towncrier"]
KINDS = [kind["directory"] for kind in SETTINGS["type"]]
FRAGMENTS = [path for path in sorted((ROOT / "changes").iterdir()) if path.name not in ("README.md", "template.md")]


@pytest.mark.parametrize("fragment", FRAGMENTS, ids=lambda path: path.name)
def test_a_fragment_has_a_name_and_a_sentence(fragment: Path):
    """A wrong name would be left out of the changelog without a word."""
    assert re.fullmatch(rf"(\+[\w-]+|\d+)\.({'|'.join(KINDS)})(\.\d+)?\.md", fragment.name)
    text = fragment.read_text(encoding="utf-8").strip()
    assert text.endswith((".", "!", ")"))
    assert len(text) < 400
    assert "\n\n" not in text


def test_a_release_finds_its_place():
    """towncrier writes below this line."""
    assert SETTINGS["start_string"] in (ROOT / SETTINGS["filename"]).read_text(encoding="utf-8")
    assert (ROOT / SETTINGS["template"]).is_file()
