"""The snapshot ``what_people_see.md``: for each fault, what is said, held, sent next and booked.

Write it again with ``python -m tests.faults.what_people_see``, and read the difference.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.table import FAULTS, Case, cases

__all__ = ["SNAPSHOT", "Outcome", "outcomes", "text_of"]

SNAPSHOT = Path(__file__).with_suffix(".md")
_TITLE = """# What people see of each fault

Written by `python -m tests.faults.what_people_see`. A quotation is the error; there is none if the answer lives.
Then follow, for the cases with the same outcome: the status, and how often nbchat asked; what the Response holds;
what would be sent before the next prompt; the rows of the ledger with their costs in US dollars (`?` is unknown).
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What comes of a case.

    Args:
        said: The class of the error, and its message.
        left: The status, what is held, what is sent next and what is booked.
    """

    said: str
    left: str

    @classmethod
    def of(cls, case: Case, state: Mapping[str, Any]) -> Outcome:
        """Return the outcome of a state."""
        # The conversation of a case is its prompt, too.
        following = [line for line in state["next"] if case.id not in line]
        flat = ", ".join(line.partition(": ")[2] for line in following)
        held = ", ".join(state["held"]) or "nothing"
        notes = [f"noted {'; '.join(state['notes'])}"] if state["notes"] else []
        parts = (
            f"{state['status']}, asked {state['asked']}",
            f"held {held}",
            f"next {'as held' if flat == held else ' · '.join(following) or 'nothing'}",
            f"booked {', '.join(state['rows']) or 'nothing'}",
            *notes,
        )
        said = f"{state['error']}: {state['said']}" if state["error"] else ""
        return cls(_escaped(said), _escaped(" ¦ ".join(parts)))


def _escaped(text: str) -> str:
    """Return a text with an escape for each character that an editor would not show."""
    return "".join(
        character if character.isprintable() or character == "\n" else character.encode("unicode_escape").decode()
        for character in text
    )


def outcomes() -> dict[str, Outcome]:
    """Return the outcome of each case that the snapshot has."""
    found: dict[str, Outcome] = {}
    numbers = {fault.name: number for number, fault in enumerate(FAULTS)}
    sections = SNAPSHOT.read_text("utf-8").split("\n## ")[1:]
    for section in sections:
        name, _, rest = section.partition("\n")
        said: list[str] = []
        is_after_cases = False
        for line in rest.strip().split("\n"):
            if line.startswith("> "):
                said = [*([] if is_after_cases else said), line[2:]]
                is_after_cases = False
            elif line.startswith("- "):
                is_after_cases = True
                labels, _, left = line[2:].partition(": ")
                for label in labels.split(", "):
                    mode, kind = label.split()
                    found[Case(numbers[name], mode, kind).id] = Outcome("\n".join(said), left)
    return found


def text_of(found: Mapping[str, Outcome]) -> str:
    """Return the text of the snapshot for the outcome of each case."""
    parts = [_TITLE]
    for number, fault in enumerate(FAULTS):
        parts.append(f"## {fault.name}\n")
        groups: dict[Outcome, list[str]] = {}
        for mode, kind in fault.cases():
            groups.setdefault(found[Case(number, mode, kind).id], []).append(f"{mode} {kind}")
        for said in sorted({outcome.said for outcome in groups}):
            parts += [*(f"> {line}" for line in said.split("\n")), ""] if said else []
            parts += [
                f"- {', '.join(labels)}: {outcome.left}" for outcome, labels in groups.items() if outcome.said == said
            ]
            parts.append("")
    return "\n".join(parts)


def _run() -> dict[str, Outcome]:
    from tests.faults.test_in_python import ring_in

    with tempfile.TemporaryDirectory() as folder:
        for name in ("XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "ANTHROPIC_CONFIG_DIR"):
            os.environ[name] = folder
        with ring_in(Path(folder)) as ring:
            return {case.id: Outcome.of(case, ring.run(case)) for case in cases()}


if __name__ == "__main__":
    SNAPSHOT.write_text(text_of(_run()), "utf-8")
