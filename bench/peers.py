"""Compare nbchat with its peers: ``python bench/peers.py`` checks the table of the README in their source.

The script downloads the wheels of the peers with pip, without their dependencies. It installs and runs nothing.
For each answer it looks for the line that shows the answer, or makes sure that no line speaks against it. It prints
the table, and exits with status 1 if a line is not as it was. ``--table`` prints the table and downloads nothing.

A comparison ages. The versions are those of November 2026. For another version, change VERSIONS and read what changed.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

VERSIONS = {
    "jupyter-ai `%%ai`": "jupyter-ai-magics==2.31.7",
    "jupyter-cc": "jupyter-cc==0.2.0",
    "chatlas": "chatlas==0.23.0",
    "claudette": "claudette==0.3.15",
}
AI, CC, CHATLAS, CLAUDETTE = VERSIONS


@dataclass(frozen=True)
class Has:
    """A pattern that a file of the wheel has; ``file`` is a glob."""

    file: str
    pattern: str
    expected: bool = True


def lacks(file: str, pattern: str) -> Has:
    """Return the evidence that no file of the wheel has a pattern."""
    return Has(file, pattern, expected=False)


@dataclass(frozen=True)
class Row:
    """A row of the table: nbchat's answer, and for each peer the answer and its evidence."""

    feature: str
    nbchat: str
    peers: dict[str, tuple[str, list[Has]]] = field(default_factory=dict)


MAGIC = r"@magics_class|register_magic|def load_ipython_extension"
ROWS = (
    Row(
        "a cell magic",
        "yes",
        {
            AI: ("yes", [Has("jupyter_ai_magics/magics.py", r"@line_cell_magic[\s\S]{0,80}def ai\(")]),
            CC: ("yes", [Has("jupyter_cc/magics.py", r"@magics_class")]),
            CHATLAS: ("no", [lacks("**/*.py", MAGIC)]),
            CLAUDETTE: ("no", [lacks("**/*.py", MAGIC)]),
        },
    ),
    Row(
        "the answer streams into the cell",
        "yes",
        {
            AI: (
                "no",
                [Has("jupyter_ai_magics/magics.py", r"provider\.generate\("), lacks("**/magics.py", r"\.stream\(")],
            ),
            CC: (
                "by blocks",
                [Has("jupyter_cc/client.py", r"TextBlock"), Has("jupyter_cc/display.py", r"widgets\.HTML")],
            ),
            CHATLAS: ("yes", [Has("chatlas/_display.py", r"update_display\(")]),
            CLAUDETTE: ("no: an iterator", [Has("claudette/core.py", r"yield from s\.text_stream")]),
        },
    ),
    Row(
        "the HTML of an answer is made safe",
        "yes",
        {
            AI: (
                "no",
                [
                    Has("jupyter_ai_magics/magics.py", r'"markdown": Markdown'),
                    lacks("**/*.py", r"nh3|bleach|saniti[sz]e"),
                ],
            ),
            CC: ("no", [Has("jupyter_cc/display.py", r"markdown output is not sanitized for HTML injection")]),
            CHATLAS: (
                "no",
                [
                    Has("chatlas/_display.py", r"Markdown\(self\._markdown\(\)\)"),
                    lacks("**/*.py", r"\bnh3\b|\bbleach\b"),
                ],
            ),
            CLAUDETTE: (
                "no",
                [Has("claudette/core.py", r"def _repr_markdown_"), lacks("**/*.py", r"\bnh3\b|\bbleach\b")],
            ),
        },
    ),
    Row(
        "the answer is in the saved notebook",
        "yes",
        {
            AI: ("yes", [Has("jupyter_ai_magics/magics.py", r"return self\.display_output\(")]),
            CC: (
                "no",
                [
                    Has("jupyter_cc/display.py", r"ipywidgets\.HTML"),
                    lacks("jupyter_cc/display.py", r"display\(Markdown"),
                ],
            ),
            CHATLAS: ("yes", [Has("chatlas/_display.py", r"display_id=self\._ipy_display_id")]),
            CLAUDETTE: ("yes", [Has("claudette/core.py", r"def _repr_markdown_")]),
        },
    ),
    Row(
        "the answer as an object, with its usage",
        "yes",
        {
            AI: ("no", [lacks("jupyter_ai_magics/magics.py", r"usage")]),
            CC: ("no", [lacks("jupyter_cc/*.py", r'user_ns\["_?(claude_)?(answer|response)')]),
            CHATLAS: ("yes", [Has("chatlas/_chat.py", r"def get_tokens\(")]),
            CLAUDETTE: ("yes", [Has("claudette/core.py", r"def cost\(self")]),
        },
    ),
    Row(
        "running a cell again replaces its turn",
        "yes",
        {
            AI: (
                "no",
                [
                    Has("jupyter_ai_magics/magics.py", r"self\.transcript\.append"),
                    lacks("**/magics.py", r"cellId|cell_id"),
                ],
            ),
            CC: ("no", [lacks("jupyter_cc/*.py", r"cellId")]),
            CHATLAS: ("–", []),
            CLAUDETTE: ("–", []),
        },
    ),
    Row(
        "replay without a key, for users",
        "yes",
        {peer: ("no", [lacks("**/*.py", r"cassette")]) for peer in VERSIONS},
    ),
    Row(
        "Python tools",
        "yes",
        {
            AI: ("no", [lacks("jupyter_ai_magics/magics.py", r"bind_tools|tool_calls")]),
            CC: ("its own", [Has("jupyter_cc/*.py", r"create_python_cell")]),
            CHATLAS: ("yes", [Has("chatlas/_chat.py", r"def register_tool\(")]),
            CLAUDETTE: ("yes", [Has("claudette/*.py", r"def toolloop\(")]),
        },
    ),
    Row(
        "other APIs than the Messages API",
        "by a gateway",
        {
            AI: ("yes", [Has("jupyter_ai_magics/providers.py", r"class GPT4AllProvider")]),
            CC: ("no", [Has("jupyter_cc/client.py", r"claude_agent_sdk")]),
            CHATLAS: ("yes", [Has("chatlas/__init__.py", r"ChatOpenAI")]),
            CLAUDETTE: ("no", [Has("claudette/core.py", r"anthropic")]),
        },
    ),
)


def table() -> str:
    """Return the table as the README has it."""
    lines = ["| | nbchat | " + " | ".join(VERSIONS) + " |", "| --- |" + " :-: |" * (1 + len(VERSIONS))]
    for row in ROWS:
        cells = [row.nbchat, *(row.peers[peer][0] for peer in VERSIONS)]
        lines.append(f"| {row.feature} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def download(requirement: str, folder: Path) -> Path:
    """Download a wheel, and return the folder of its files."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--ignore-requires-python"]
    subprocess.run([*command, "--dest", str(folder), requirement], check=True, stderr=subprocess.DEVNULL)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "files")
    return folder / "files"


def is_as_it_was(evidence: Has, folder: Path) -> bool:
    """Return True if the files still show what the table says."""
    files = [file for file in folder.glob(evidence.file) if "/tests/" not in file.as_posix()]
    found = any(re.search(evidence.pattern, file.read_text(encoding="utf-8")) for file in files)
    return bool(files) and found == evidence.expected


def main() -> int:
    """Check every row and print the table."""
    print(table())
    if "--table" in sys.argv:
        return 0
    wrong = 0
    with tempfile.TemporaryDirectory() as place:
        for number, (peer, requirement) in enumerate(VERSIONS.items()):
            folder = Path(place, str(number))
            folder.mkdir()
            files = download(requirement, folder)
            for row in ROWS:
                answer, evidence = row.peers[peer]
                for one in evidence:
                    if not is_as_it_was(one, files):
                        wrong += 1
                        print(f"FAIL {requirement}: {row.feature} = {answer}: {one}")
    print(
        f"{'FAIL' if wrong else 'PASS'}: {wrong} lines are not as they were"
        if wrong
        else "PASS: every line is as it was"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
