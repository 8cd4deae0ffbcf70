"""docs/reference/ is what docs/make_reference.py writes from the code, and no public name is without an example."""

from __future__ import annotations

import inspect
import runpy
from pathlib import Path
from typing import Any

import pytest

from nbchat.config import Nbchat
from nbchat.notebook.commands import COMMANDS
from nbchat.options import OPTIONS
from nbchat.store.ledger import Ledger

REFERENCE: dict[str, Any] = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "make_reference.py"))
FOLDER: Path = REFERENCE["FOLDER"]


@pytest.mark.parametrize("name", REFERENCE["PAGES"])
def test_a_page_of_the_reference_is_what_the_code_says(name: str):
    """``make reference`` writes the pages again."""
    assert (FOLDER / name).read_text(encoding="utf-8") == REFERENCE["NOTE"] + REFERENCE["PAGES"][name]()


def test_no_other_page_is_in_the_folder():
    """A page that the script no longer writes is removed. The index is written by hand, and lists all pages."""
    assert {page.name for page in FOLDER.glob("*.md")} == {*REFERENCE["PAGES"], "index.md"}
    index = (FOLDER / "index.md").read_text(encoding="utf-8")
    assert all(f"({page})" in index for page in REFERENCE["PAGES"])


def page(name: str) -> str:
    """Return the committed text of a page."""
    return (FOLDER / name).read_text(encoding="utf-8")


def test_nothing_is_missing():
    """Each option, flag, setting, variable, command, action and error has its place."""
    for option in OPTIONS:
        assert f"({option.name})=" in page("options.md")
        assert all(flag in page("options.md") for flag in option.flags)
    for setting in Nbchat.class_trait_names(config=True):
        assert f"| `{setting}` | `NBCHAT_{setting.upper()}` |" in page("settings.md")
    for name, command in COMMANDS.items():
        assert f"### `%nbchat {name}`" in page("commands.md")
        assert all(f"\n%nbchat {usage}\n" in page("commands.md") for usage in command.usage.split(", "))
    for error in REFERENCE["error_classes"]():
        assert f"## `{error.__name__}`" in page("errors.md")
    for name in REFERENCE["public_names"]():
        assert f"## `{name}`" in page("python.md")


def test_the_ledger_has_the_columns_of_the_page(tmp_path: Path):
    """The page is made from the migrations. A file that was just created has the same columns."""
    import sqlite3

    ledger = Ledger(tmp_path / "ledger.sqlite")
    from nbchat.core.entries import Entry

    assert ledger.record(Entry(at=1.0, endpoint="anthropic", model="claude-sonnet-5-5"))
    columns = [row[1] for row in sqlite3.connect(ledger.path).execute("PRAGMA table_info(requests)")]
    assert columns
    assert all(f"| `{column}` |" in page("ledger.md") for column in columns)


def examples_needed() -> dict[str, Any]:
    """Return everything public whose docstring needs an example: names, errors, and methods of classes."""
    needed = dict(REFERENCE["public_names"]())
    needed |= {error.__name__: error for error in REFERENCE["error_classes"]()}
    for name, thing in list(needed.items()):
        # The example of a protocol is a whole class that follows the protocol.
        if inspect.isclass(thing) and not getattr(thing, "_is_protocol", False):
            for member, value in vars(thing).items():
                function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
                if inspect.isfunction(function) and not member.startswith("_"):
                    needed[f"{name}.{member}"] = function
    return needed


@pytest.mark.parametrize("name", examples_needed())
def test_every_public_docstring_has_an_example(name: str):
    """The ring ``doctests`` runs the examples."""
    assert ">>>" in (inspect.getdoc(examples_needed()[name]) or ""), f"{name} has no example"
