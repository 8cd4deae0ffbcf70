"""Markdown in a terminal: the dialect of the page, drawn by rich.

Formulas are written as the model wrote them, because a terminal has no typesetting.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from nbchat.view.html.dialect import dialect_parser
from nbchat.view.html.nested_fence import GROWING

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token
    from rich.console import RenderableType

__all__ = ["finished", "markdown"]


def finished(text: str) -> int:
    """Return the number of characters of an open Markdown text that no later text can change.

    They end before the last top-level block that begins after a blank line. No block reaches back
    over such a place, as :mod:`nbchat.view.html.markdown` explains.
    """
    tokens = _parser().parse(text, {GROWING: True})
    lines = [line + "\n" for line in text.split("\n")]  # splitlines would split at U+2028 too, the parser does not
    lines[-1] = lines[-1].removesuffix("\n")
    for token in reversed(tokens):
        if token.level == 0 and token.nesting >= 0 and token.map and token.map[0]:
            first = token.map[0]
            if not lines[first - 1].strip() and lines[first].endswith("\n"):
                return sum(map(len, lines[:first]))
    return 0


def markdown(text: str, grows: bool = False) -> RenderableType:
    """Return Markdown for the terminal. Addresses are written out, because a terminal link hides its address.

    Args:
        text: the Markdown.
        grows: the text is not whole.
    """
    from rich.markdown import Markdown

    # The usual code theme of rich is a dark box in a light terminal. This one has the terminal's own colors.
    shown = Markdown("", hyperlinks=False, code_theme="ansi_dark")
    tokens = _parser().parse(text, {GROWING: grows})  # the parser of rich loses raw HTML
    for token in tokens:
        token.children = token.children and list(_images_as_links(map(_verbatim, token.children)))
    shown.markup, shown.parsed = text, [token for block in tokens for token in _formula_as_lines(block)]
    return shown


def _verbatim(token: Token) -> Token:
    """Return a formula as the text that the model wrote. A terminal has no typesetting."""
    from markdown_it.token import Token

    if token.type != "formula":
        return token
    return Token("text", "", 0, content=token.markup + token.content + token.info)


def _formula_as_lines(block: Token) -> list[Token]:
    """Return the tokens of a block, with a formula as a paragraph of its lines."""
    from markdown_it.token import Token

    if block.type != "formula_block":
        return [block]
    lines = [Token("text", "", 0, content=line) for line in block.meta["source"].split("\n")]
    breaks = [token for line in lines for token in (Token("hardbreak", "br", 0), line)][1:]
    return [
        Token("paragraph_open", "p", 1),
        Token("inline", "", 0, children=breaks),
        Token("paragraph_close", "p", -1),
    ]


def _images_as_links(children: Iterable[Token]) -> Iterator[Token]:
    """Yield the tokens with each image as a link to the image, as on the page.

    Rich would print an image before its line, and without an address.
    """
    from markdown_it.token import Token

    depth = 0
    for child in children:
        depth += child.nesting if child.type in ("link_open", "link_close") else 0
        if child.type != "image":
            yield child
            continue
        label = Token("text", "", 0, content=f"[image: {child.content}]" if child.content else "[image]")
        if depth:  # a link must not contain another link
            yield label
            continue
        yield from (
            Token("link_open", "a", 1, attrs={"href": child.attrs["src"]}),
            label,
            Token("link_close", "a", -1),
        )


@functools.cache
def _parser() -> MarkdownIt:
    return dialect_parser()
