"""The words of a ``%nbchat`` line."""

from __future__ import annotations

import re

from nbchat.core.errors import OptionError

__all__ = ["split_words"]

# A backslash is an ordinary character, because it separates the folders of a Windows path; shlex.split would
# remove it. The one exception is \" inside double quotes, which is a quotation mark. A path may end with a
# backslash too, as in "C:\my data\": the regular expression backtracks there and reads the \ as a character.
_PIECE = re.compile(r""""(?P<double>(?:\\"|[^"])*)"|'(?P<single>[^']*)'|(?P<bare>[^\s"']+)|(?P<space>\s+)""")


def split_words(line: str) -> list[str]:
    """Return the words of a line without their quotation marks.

    Quotation marks, ``"…"`` or ``'…'``, keep spaces in a word. Backslashes stay as they are.

    Raises:
        OptionError: a quotation mark is not closed.

    >>> split_words(r"save 'my chat.json' C:\\data\\a.jsonl")
    ['save', 'my chat.json', 'C:\\\\data\\\\a.jsonl']
    """
    words: list[str] = []
    position, in_word = 0, False
    while position < len(line):
        piece = _PIECE.match(line, position)
        if piece is None:
            raise OptionError(
                # The rest of the line is not quoted, because it may have a token of an MCP server.
                f"%nbchat {line.strip().split()[0]}: a quotation mark is not closed",
                'Close it. A text with an apostrophe needs double quotes: "don\'t".',
            )
        position = piece.end()
        if piece["space"] is not None:
            in_word = False
            continue
        # Pieces without a space between them are one word: --header="A: b".
        text = piece["bare"] or piece["single"] or (piece["double"] or "").replace('\\"', '"')
        words[len(words) - in_word :] = [words[-1] + text] if in_word else [text]
        in_word = True
    return words
