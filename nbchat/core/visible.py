"""Text of others, shown so that each character of the text can be seen.

A model, an endpoint, an MCP server or a file wrote the text. On a terminal, an escape sequence in the text
could set the title of the window or write to the clipboard. In a notebook, a bidirectional override could
reorder a line of code (https://trojansource.codes). So these characters are shown as escapes.

Only shown text changes. Data (the text of a Response, what is sent) stays as it is.
"""

from __future__ import annotations

import codecs
import io
import re
import unicodedata
from typing import TextIO

__all__ = ["escape_unencodable", "visible", "visible_line"]

#: Unicode categories that are not visible as themselves: control, format (bidirectional overrides, zero
#: width), surrogate, private and unassigned characters, line and paragraph separators.
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
#: Characters of other categories that show nothing (Default_Ignorable_Code_Point in
#: https://www.unicode.org/reports/tr44/), and the blank of Braille.
_BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
#: Format characters that do show: the number signs of Arabic, Syriac and Kaithi.
_SHOWN_FORMATS = re.compile("[\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd]")
#: Emoji that are newer than Python's table of characters are "unassigned" there.
_NEW_EMOJI = re.compile("[\U0001f000-\U0001faff]")

# The sequences of ordinary text that need an invisible character. Everywhere else it is escaped.
_EMOJI = (
    "[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u23ff\u2460-\u24ff\u25a0-\u27bf\u2900-\u297f\u2b00-\u2bff"
    "\u3030\u303d\u3297\u3299\U0001f000-\U0001faff][\ufe0e\ufe0f]?[\U0001f3fb-\U0001f3ff]?"
)
#: Scripts whose spelling uses the joiners U+200C and U+200D, or U+200B between words: Arabic to Myanmar,
#: Khmer, Mongolian, and the presentation forms of Arabic.
_JOINING = "[\u0620-\u06ff\u0710-\u0fff\u1000-\u109f\u1780-\u17b3\u17b6-\u17ff\u1820-\u18af\ufb50-\ufdff\ufe70-\ufefc]"
_IDEOGRAPH = "[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
_ORDINARY = (
    "[0-9#*]\ufe0f\u20e3",  # a keycap
    "\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{1,6}\U000e007f",  # the flag of Scotland
    f"{_EMOJI}(?:\u200d{_EMOJI})*",
    f"{_JOINING}[\u200b-\u200d]",
    "[\u1820-\u18af][\u180b-\u180d\u180f]",
    f"{_IDEOGRAPH}[\ufe00-\ufe02\U000e0100-\U000e01ef]",
)
_PIECE = re.compile(f"({'|'.join(_ORDINARY)})|[^ -~\n\t]")


def visible(text: str, *, strict: bool = False) -> str:
    r"""Return ``text`` with an escape for each character that a reader would not see as itself.

    Newlines, tabs, the letters of all languages and emoji stay.

    Args:
        text: The text of others.
        strict: Also escape the invisible characters that ordinary text needs, such as the joiners in emoji,
            and spaces other than the common one. For texts that the user decides by.

    >>> visible("safe\x1b]0;title\x07, 👩‍🔬")
    'safe\\x1b]0;title\\x07, 👩‍🔬'
    """
    if _shows_itself(text):
        return text
    if not strict:
        # A return before a newline moves the cursor to where the newline moves it anyway.
        text = text.replace("\r\n", "\n")
    # To look at each character of a long answer takes seconds, and most lines have nothing to escape.
    escape = _escape_piece_strictly if strict else _escape_piece
    return "\n".join(line if _shows_itself(line) else _PIECE.sub(escape, line) for line in text.split("\n"))


def _shows_itself(text: str) -> bool:
    """Return True if no character of the text is escaped. False says nothing: a joiner in an emoji is not escaped."""
    return text.replace("\n", "").replace("\t", "").isprintable() and (text.isascii() or not _BLANK.search(text))


def visible_line(text: str, max_characters: int = 80, *, strict: bool = False) -> str:
    r"""Return ``text`` as one line for a name or a cell of a table: newlines and tabs are escaped too.

    Args:
        text: The text of others.
        max_characters: A longer line is cut in its middle, so that its beginning and its end can be read.
        strict: As in :func:`visible`.

    >>> visible_line("list?\nRun files.list")
    'list?\\nRun files.list'
    """
    line = visible(text, strict=strict).replace("\n", "\\n").replace("\t", "\\t")
    if len(line) <= max_characters:
        return line
    end = max_characters // 3
    return f"{line[: max_characters - end - 1]}…{line[-end:]}"


def escape_unencodable(stream: TextIO | None) -> None:
    r"""Let a stream write an escape for each character that its encoding does not have.

    A terminal that is not UTF-8 would end an answer at its first other letter, and an error at its "…".
    UTF-8 has every character, and a stream with a rule of its own keeps the rule.

    Args:
        stream: standard output, which may be missing or may be an object of another program.

    >>> import io
    >>> stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    >>> escape_unencodable(stream)
    >>> _ = stream.write("naïve")
    >>> stream.buffer.getvalue()
    b'na\\xefve'
    """
    if not isinstance(stream, io.TextIOWrapper) or stream.errors not in ("strict", "surrogateescape"):
        return
    if codecs.lookup(stream.encoding).name not in ("utf-8", "utf-16", "utf-32"):
        stream.reconfigure(errors="backslashreplace")


def _escape_piece(piece: re.Match[str]) -> str:
    if piece[1] and not _is_hidden(piece[1][0]):
        return piece[1]
    return "".join(map(_escape, piece[0]))


def _escape_piece_strictly(piece: re.Match[str]) -> str:
    return "".join(map(_escape_strictly, piece[0]))


def _escape(character: str) -> str:
    # ascii() is the escape of Python itself, so the character is the same one in a string of a cell.
    return ascii(character)[1:-1] if _is_hidden(character) else character


def _escape_strictly(character: str) -> str:
    category = unicodedata.category(character)
    return ascii(character)[1:-1] if category in _HIDDEN_CATEGORIES | {"Zs"} or _BLANK.match(character) else character


def _is_hidden(character: str) -> bool:
    if _BLANK.match(character):
        return True
    if unicodedata.category(character) not in _HIDDEN_CATEGORIES:
        return False
    return not _SHOWN_FORMATS.match(character) and not _NEW_EMOJI.match(character)
