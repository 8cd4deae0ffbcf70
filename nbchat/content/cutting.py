"""Long texts, cut with a mark that tells the model, and a note that tells the user.

The marks are part of prompts. A changed mark changes the digest of a request, and its recorded
answer is not found any more.
"""

from __future__ import annotations

from nbchat.content.blocks import one_line
from nbchat.content.terminal_text import as_seen

__all__ = ["LongOutput", "cut_mark", "shorten"]


def cut_mark(kept: str) -> str:
    """Return the mark at the place of a cut, such as ``… [cut: first 20 of 100 items]``."""
    return f"… [cut: {kept}]"


def shorten(text: str, limit: int, name: str, *, tail: bool = False) -> tuple[str, tuple[str, ...]]:
    """Return ``text`` in at most ``limit`` characters, and a note if it was cut.

    Args:
        text: The text.
        limit: The most characters to return, the mark included.
        name: The name of the text in the note.
        tail: Cut the middle, and keep twice as much of the end as of the beginning. Tracebacks
            and logs have their most important lines at the end.
    """
    if len(text) <= limit:
        return text, ()
    first, last = _shares(len(text), limit, tail=tail)
    note = f"{one_line(name)}: {first + last:,} of {len(text):,} characters"
    return _with_mark(text[:first], text[-last:] if last else "", len(text)), (note,)


def _total_mark(total: int) -> str:
    return cut_mark(f"{total:,} characters in all") + " …"


def _shares(total: int, limit: int, *, tail: bool) -> tuple[int, int]:
    """Return how many characters of the beginning and of the end fit around the mark."""
    room = max(limit - len(_total_mark(total)) - 2, 0)  # two line breaks
    last = room * 2 // 3 if tail else 0
    return room - last, last


def _with_mark(start: str, end: str, total: int) -> str:
    return f"{start}\n{_total_mark(total)}" + (f"\n{end}" if end else "")


class LongOutput:
    """Terminal output that arrives in pieces, of which the first and the last ``limit`` characters are kept.

    A loop that prints may write gigabytes, and only ``limit`` characters are ever sent.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._head = ""
        self._pieces: list[str] = []
        self._pieces_length = 0
        self._skipped = 0

    def write(self, piece: str) -> None:
        """Append a piece."""
        self._pieces.append(piece)
        self._pieces_length += len(piece)
        # Joining the pieces copies them, so they are joined only after every few `limit` characters.
        if self._pieces_length <= 4 * self._limit:
            return
        text = "".join(self._pieces)
        if not self._head:
            self._head, text = text[: self._limit], text[self._limit :]
        self._skipped += len(text) - self._limit
        self._pieces, self._pieces_length = [text[-self._limit :]], self._limit

    def shortened(self, limit: int) -> str:
        """Return the output as a person saw it, in at most ``limit`` characters, with the middle cut."""
        end = "".join(self._pieces)
        if not self._head:
            return shorten(as_seen(end), limit, "output", tail=True)[0]
        total = len(self._head) + self._skipped + len(end)
        first, last = _shares(total, limit, tail=True)
        return _with_mark(as_seen(self._head[:first]), as_seen(end[-last:] if last else ""), total)
