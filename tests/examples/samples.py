"""Files that the examples of the pages attach."""

from __future__ import annotations

from pathlib import Path

__all__ = ["write_contract"]

_PDF = """%PDF-1.4
1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj
3 0 obj<</Type/Page/Parent 2 0 R>>endobj
trailer<</Root 1 0 R>>
%%EOF"""


def write_contract() -> None:
    """Write report.pdf and a folder of notes."""
    Path("report.pdf").write_text(_PDF, encoding="ascii")
    Path("notes").mkdir()
    Path("notes/contract.md").write_text("The contract ends in May.", encoding="utf-8")
