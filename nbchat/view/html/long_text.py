"""A text that is too long for Markdown: where its Markdown ends, and the HTML of the rest.

The parser needs 5 s for 1 MB of Markdown. So only the beginning of a text that is longer than the
answer of any model is Markdown. The rest is shown as it was written, in pieces that cost next to
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from nbchat.view.html.parser import without_marks
from nbchat.view.html.safe import escape

__all__ = ["markdown_length", "plain_pieces", "whole_pieces_length"]

#: Only this many characters of a text are Markdown. An answer of 128 000 tokens has about as many.
MAX_MARKDOWN_CHARACTERS = 500_000
#: The end of the Markdown in a longer text is the last end of a line among this many characters.
LAST_LINE_CHARACTERS = 10_000
#: The size of a piece of the text after the Markdown.
PLAIN_PIECE_CHARACTERS = 100_000


def markdown_length(text: str, before: int = 0) -> int:
    """Return how many characters of a text are Markdown: all, or the whole lines below the limit.

    Args:
        text: the text, or its end.
        before: the characters before it, which are whole lines of Markdown.
    """
    limit = MAX_MARKDOWN_CHARACTERS - before
    if len(text) <= limit:
        return len(text)
    end = text.rfind("\n", max(limit - LAST_LINE_CHARACTERS, 0), limit) + 1
    # The last end of a line may be that of the text before.
    return end or (0 if before and limit < LAST_LINE_CHARACTERS else limit)


def plain_pieces(text: str) -> Iterator[str]:
    """Return the HTML of the text after the Markdown, piece by piece."""
    for begin in range(0, len(text), PLAIN_PIECE_CHARACTERS):
        lines = escape(without_marks(text[begin : begin + PLAIN_PIECE_CHARACTERS])).replace("\n", "&#10;")
        yield f"<pre><code>{lines}</code></pre>\n"


def whole_pieces_length(text: str) -> int:
    """Return how many characters of an open text are whole pieces, which no later text can change."""
    # A carriage return at the end may become a newline together with the next character.
    return len(text.removesuffix("\r")) // PLAIN_PIECE_CHARACTERS * PLAIN_PIECE_CHARACTERS
