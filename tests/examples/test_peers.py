"""The comparison in the README is the one that bench/peers.py checks in the source of the peers."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]
PEERS = runpy.run_path(str(ROOT / "bench" / "peers.py"))


def test_the_readme_has_the_table_and_the_versions():
    """``python bench/peers.py --table`` prints the table for the README."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert PEERS["table"]() in readme
    for requirement in PEERS["VERSIONS"].values():
        assert requirement.replace("==", " ") in readme


def test_every_answer_has_evidence():
    """An answer about a peer names a line of its source. "–" means that the question makes no sense."""
    for row in PEERS["ROWS"]:
        assert row.peers.keys() == PEERS["VERSIONS"].keys()
        assert all(evidence or answer == "–" for answer, evidence in row.peers.values()), row.feature
