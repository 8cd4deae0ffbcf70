"""Tests of ``-s``: a variable, a file or a text, and never the name of one that does not exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbchat.core.errors import OptionError
from nbchat.engine.system_prompt import system_of

NAMES = {"system_prompt": "You are a variable.", "role": "A role.", "n": 3, "_private_role": "x"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "role.md").write_text("You are a file.", encoding="utf-8")
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "pirate.txt").write_text("Arr.", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("missing.md", "Check the path"), ("rolle.md", "Did you mean role.md?"),
        ("prompts/pirat.txt", "Did you mean prompts/pirate.txt?"), ("prompts/", "Check the path"),
        ("nowhere/role.md", "Check the path"), ("~/no/such.txt", "Check the path"), ("./role", "Check the path"),
        ("./my prompts/role.md", "Check the path"), ("C:\\prompts\\role.txt", "Check the path"),
        ("プロンプト/役割.md", "Check the path"), ("config.system", "Check the path"),
        ("https://example.org/role.md", "Check the path"),
    ],
)  # fmt: skip
def test_the_name_of_a_missing_file_is_refused(given: str, hint: str):
    """The hint names a file of nearly the same name, and how to send the name as a text."""
    with pytest.raises(OptionError) as caught:
        system_of(given, NAMES)
    assert caught.value.message == f"-s {given}: there is no such file"
    assert hint in caught.value.hint
    assert system_of(f"{{{{ {given!r} }}}}", NAMES) == given


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("sytem_prompt", "Did you mean system_prompt?"), ("System_Prompt", "Did you mean system_prompt?"),
        ("system_promt", "Did you mean system_prompt?"), ("roles", "Did you mean role?"),
        ("my_own_prompt", "Define it in a cell above"), ("private_role", "Define it in a cell above"),
    ],
)  # fmt: skip
def test_the_name_of_a_missing_variable_is_refused(given: str, hint: str):
    with pytest.raises(OptionError) as caught:
        system_of(given, NAMES)
    assert caught.value.message == f"-s {given}: there is no variable of that name"
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "Be brief.", "Pirate", "Answer like README.md", "Summarize the file report.md", "yes or no / nothing else",
        "U.S.", "e.g.", "v1.5", "はい/いいえで答えて", "簡潔に答えてください。", "...", "-", "Answer in C++/Rust only",
        "First line\nrole.txt", "x" * 300 + ".md", "Réponds en français.",
    ],
)  # fmt: skip
def test_a_text_is_a_text(text: str):
    assert system_of(text, NAMES) == text


def test_from_python_there_are_no_variables_but_files():
    """A line break at the end makes a text of a name."""
    assert system_of("my_own_prompt") == "my_own_prompt"
    assert system_of("role.md") == "You are a file."
    with pytest.raises(OptionError, match="no such file") as caught:
        system_of("missing.md")
    assert "line break" in caught.value.hint
    assert system_of("missing.md\n") == "missing.md\n"
