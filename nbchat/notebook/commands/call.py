"""A subcommand of ``%nbchat`` as it was called."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbchat.core.errors import OptionError

if TYPE_CHECKING:
    from nbchat.engine.session import Session

__all__ = ["Call", "table"]


@dataclass(frozen=True, slots=True)
class Call:
    """A subcommand as it was called: its words, how it is used, and whom it works on."""

    name: str
    usage: str
    words: list[str]
    session: Session
    shell: Any

    def between(self, least: int, most: int) -> None:
        """Raise OptionError if there are more or fewer words."""
        if len(self.words) > most:
            raise OptionError(
                f"%nbchat {self.name}: {' '.join(self.words[most:])!r} is too much", f"Usage: %nbchat {self.usage}"
            )
        if len(self.words) < least:
            raise OptionError(f"%nbchat {self.name} needs more", f"Usage: %nbchat {self.usage}")

    def word(self, place: int, default: str = "") -> str:
        """The word at a place, or a default."""
        return self.words[place] if len(self.words) > place else default


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Plain columns, each as wide as it needs."""
    lines = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
