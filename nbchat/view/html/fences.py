"""The fenced code blocks of a Markdown text: the same blocks that the page shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbchat.view.html.markdown import normalized, rendered_tokens
from nbchat.view.html.nested_fence import fence_language

if TYPE_CHECKING:
    from markdown_it.token import Token

__all__ = ["fenced_code"]


def fenced_code(text: str) -> list[tuple[str, str]]:
    r"""Return the fenced code blocks of a Markdown text, also those inside lists and quotes.

    The text is read by the parser that renders the page, so that code which the reader sees as
    code, and only that, is code for ``Response.code`` too.

    A fence that is not closed ends with its text, list item or quote, and counts if it has lines:
    an answer that stopped at a limit may end in the middle of its code.

    Args:
        text: Markdown, whole or as far as it arrived.

    Returns:
        For each block its language, in lower case ("" without one), and its source, without the
        newline before the closing fence.

    >>> fenced_code("Call it:\n\n> ```Python\n> f(1)\n> ```\n")
    [('python', 'f(1)')]
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    return [
        (fence_language(token.info).lower(), _source(token, lines))
        for token in rendered_tokens(normalized(text))
        if token.type == "fence" and token.map and token.map[1] - token.map[0] > 1
    ]


def _source(token: Token, lines: list[str]) -> str:
    """Return the source of a fence, character by character as the model wrote it.

    The parser has read a text in which characters that act unseen are replaced. That is right for
    the page, but the code may be data: a JSON string may hold a bidirectional mark. A replacement
    has the length of the original, and the parser changes only the indent of a line. So the rest of
    a line is taken from the original.
    """
    if "\ufffd" not in token.content:
        return token.content.removesuffix("\n")
    assert token.map is not None
    source = []
    for line, original in zip(token.content.removesuffix("\n").split("\n"), lines[token.map[0] + 1 :], strict=False):
        rest = line.lstrip(" \t")
        source.append(line[: len(line) - len(rest)] + original[len(original) - len(rest) :])
    return "\n".join(source)
