"""The Makefile: each target has a line of help, each folder of tests is a ring, and each ring is documented."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
RINGS = dict(re.findall(r"^\$\(call ring,(\w+),(.*)\)$", MAKEFILE, re.MULTILINE))
#: Folders of tests/ that hold no tests of their own.
NO_RING = {"support", "typing"}


def test_the_targets_that_people_want_have_a_line_of_help():
    """``make`` alone prints these lines."""
    help_lines = dict(re.findall(r"^# make (\w+) +(.+)$", MAKEFILE, re.MULTILINE))
    wanted = ("demo", "lab", "test", "check", "docs", "bench", "record", "screenshots", "dist")
    assert set(help_lines) == set(wanted)
    for target in wanted:
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), target
        assert target in MAKEFILE.split(".PHONY:")[1].split("\n")[0].split()


def test_every_folder_of_tests_is_in_a_ring():
    """A new folder is a line in the Makefile, or nobody would run its tests."""
    files = (path.relative_to(ROOT / "tests").parts for path in (ROOT / "tests").rglob("test_*.py"))
    for folder in {parts[0] for parts in files if len(parts) > 1} - NO_RING:
        assert any(f"tests/{folder}" in arguments for arguments in RINGS.values()), folder
    assert "tests/test_architecture.py" in RINGS["unit"]


def test_every_ring_is_explained():
    """CONTRIBUTING.md and the design say what a ring needs and what it asks."""
    for page in ("CONTRIBUTING.md", "docs/design.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        for ring in RINGS:
            assert re.search(rf"`(make )?{ring}`", text), f"{page}: {ring}"
