"""Markdown to safe HTML, of a whole text or of a text that grows.

The dialect is that of :mod:`nbchat.view.html.dialect`, with task lists and bare links. All HTML
that this module returns went through :func:`nbchat.view.html.safe.clean`.

The law: one text has one HTML, no matter in which pieces the text arrived.

While a text grows, everything that no later text can change is *finished*. To find it, the text is
cut into pieces. A cut is before a line that follows a blank line and begins a new top-level block.
No later line can reach back over a cut:

- Each look-ahead of the parser stops at a blank line: for the second line of a table, for the
  underline of a heading, for the title of a reference, for the end of a formula.
- The blocks that do continue after a blank line (lists, quotes, fences, indented code) would have
  taken the line as their own, so the line would not begin a top-level block.

- A fence that holds other fences and is not paired yet is not a whole block before the text ends
  (see :mod:`nbchat.view.html.nested_fence`).

One thing in Markdown reaches back further: a reference definition changes all links that name the
reference, even those far above. Here a definition counts only for the text after the definition.
A reference above it stays as it was written, so nothing changes that was shown. The definition
itself is shown as a line with its link.

Only the beginning of a very long text is Markdown (see :mod:`nbchat.view.html.long_text`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from nbchat.view.html.budget import Budget
from nbchat.view.html.long_text import markdown_length, plain_pieces, whole_pieces_length
from nbchat.view.html.nested_fence import GROWING
from nbchat.view.html.parser import MAX_BLOCK_DEPTH, citation_mark, markdown_parser
from nbchat.view.html.safe import allowed_address, clean, escape, neutral

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

__all__ = ["MarkdownStream", "normalized", "render_markdown", "rendered_tokens"]

#: The deepest nesting of emphasis and the like. A deeper line is shown as its source.
MAX_INLINE_DEPTH = 20
#: An open piece of more characters is parsed again only when the piece has grown by a tenth.
LONG_PIECE_CHARACTERS = 4_000


def render_markdown(text: str, budget: Budget | None = None) -> str:
    """Return the safe HTML of a whole Markdown text: blocks without an element around them. Never raises.

    Args:
        text: the Markdown.
        budget: the budget of the answer that the text belongs to. Without one, the text has its own.
    """
    stream = MarkdownStream(budget)
    stream.feed(text)
    stream.close()
    return "".join(stream.finished)


def normalized(text: str) -> str:
    """Return the text as the parser reads it: newlines only, and no characters that act unseen."""
    return neutral(text.replace("\r\n", "\n").replace("\r", "\n"))


def rendered_tokens(text: str) -> list[Token]:
    """Return the block tokens that the page renders of a whole :func:`normalized` text.

    A piece that the page shows as its source, for example because it nests too deep, has none.
    """
    tokens: list[Token] = []
    for piece in _pieces(text[: markdown_length(text)], closed=True):
        try:
            _check(piece.tokens)
        except ValueError:
            continue
        tokens += piece.tokens
    return tokens


class MarkdownStream:
    """Markdown that grows: pieces that are finished, and an open tail.

    ``finished`` only ever grows at its end. At any time ``"".join(finished) + tail()`` equals
    ``render_markdown`` of the text so far, except that a fence with other fences inside stays one
    block while it may still be paired. Feeding only appends; :meth:`advance` parses.

    ``may_be_cut`` is False if the end of the text may still change what the last :meth:`tail` showed
    as one block of code.

    Args:
        budget: the budget of the answer, which finished pieces spend. Without one, the text has its own.
    """

    def __init__(self, budget: Budget | None = None) -> None:
        self.finished: list[str] = []
        self.may_be_cut = True
        self._budget = budget or Budget()
        self._finished_length = 0  # characters of the text
        self._plain = False  # True if the open text comes after the Markdown
        self._fed: list[str] = []
        self._open = ""
        self._parsed_length = 0
        self._env: dict[str, Any] = {"references": {}, "addresses": {}, "budget": self._budget}

    def feed(self, text: str) -> None:
        """Take some more text."""
        self._fed.append(text)

    def cite(self, number: int, address: str | None = None) -> None:
        """Put ``[number]``, with a link, after the text so far (before white space at its end)."""
        self._gather()
        self._env["addresses"][str(number)] = address
        if self._plain or self._markdown_length() < len(self._open):
            self._open += f"[{number}]"
            return
        body = self._open.rstrip()
        space = self._open[len(body) :]
        if body.endswith("|"):  # the end of a table row: the mark belongs into the last cell
            body, space = body[:-1].rstrip(" \t"), " |" + space
        last_line = body[body.rfind("\n") + 1 :]
        if _MARKUP_LINE.match(last_line):  # text after a closing fence, a rule or an underline would undo it
            body += "\n\n"
        self._open = body + citation_mark(number) + space

    def advance(self) -> list[str]:
        """Finish the pieces that no later text can change, and return their HTML.

        The HTML is appended to ``finished`` too.
        """
        self._gather()
        left = self._leave_markdown()
        if self._plain:
            return left + self._finish_plain(closed=False)
        # This runs for every update of the live view, so the cheap checks come first: parsing an
        # open piece of 50 kB again for each word would take most of the time.
        growth = len(self._open) - self._parsed_length
        if not growth or (len(self._open) > LONG_PIECE_CHARACTERS and growth * 10 < self._parsed_length):
            return []
        if "\n" not in self._open[max(self._parsed_length - 1, 0) :]:  # no line has ended since
            return []
        if not _may_be_cut(self._open):
            return []
        return self._finish(closed=False)

    def tail(self) -> str:
        """Return the HTML of the text that is not finished, as if the text ended here."""
        self._gather()
        text = self._ended()
        length = 0 if self._plain else self._markdown_length()
        # Copies: a definition in the open text may still change, and must not count later on.
        env = {**self._env, "references": dict(self._env["references"]), "budget": self._budget.copy()}
        pieces = _pieces(text[:length], closed=True, grows=length == len(text)) if length or not self._plain else []
        self.may_be_cut = not any(token.meta.get("undecided") for piece in pieces for token in piece.tokens)
        return "".join(_render(piece, env) for piece in pieces) + "".join(plain_pieces(text[length:]))

    def close(self) -> list[str]:
        """Finish the rest, because the text is whole, and return its HTML."""
        self._gather()
        self._open = self._ended()
        left = self._leave_markdown()
        return left + (self._finish_plain(closed=True) if self._plain else self._finish(closed=True))

    def _markdown_length(self) -> int:
        """Return how many characters of the open text are Markdown."""
        return markdown_length(self._open, self._finished_length)

    def _leave_markdown(self) -> list[str]:
        """If the text is too long for Markdown, finish the Markdown, and return its HTML."""
        if self._plain or (length := self._markdown_length()) == len(self._open):
            return []
        self._open, rest = self._open[:length], self._open[length:]
        html = self._finish(closed=True) if length else []
        self._open, self._plain = rest, True
        return html

    def _finish_plain(self, closed: bool) -> list[str]:
        length = len(self._open) if closed else whole_pieces_length(self._open)
        html = list(plain_pieces(self._open[:length]))
        self._open = self._open[length:]
        self.finished += html
        return html

    def _finish(self, closed: bool) -> list[str]:
        pieces = _pieces(self._open, closed, grows=not closed)
        length = len(self._open)
        if not closed and pieces:
            self._open = pieces.pop().source
        elif closed:
            self._open = ""
        self._parsed_length = len(self._open)
        self._finished_length += length - self._parsed_length
        html = [_render(piece, self._env) for piece in pieces]
        self.finished += html
        return html

    def _gather(self) -> None:
        """Move the text that was fed to the open text.

        A carriage return at the end waits: the next character may be the newline of the same line end.
        """
        if self._fed:
            text = self._open[-1:] * self._open.endswith("\r") + "".join(self._fed)
            self._open = self._open.removesuffix("\r")
            self._fed.clear()
            waiting = "\r" if text.endswith("\r") else ""
            self._open += normalized(text.removesuffix("\r")) + waiting

    def _ended(self) -> str:
        return self._open.replace("\r", "\n")


_MARKUP_LINE = re.compile(r"[\s\-*_=`~:$>\\\]]*(?:[`~]{3,}.*)?\Z")


# --- pieces ---------------------------------------------------------------------------------------


class _Piece(NamedTuple):
    source: str
    tokens: Sequence[Token]


_BLANK_LINE = re.compile(r"\n[ \t]*\n[ \t]*[^\s]")
_OPEN_FENCE = re.compile(r" {0,3}(?P<fence>`{3,}|~{3,})")


def _may_be_cut(text: str) -> bool:
    """Return False if a cheap check shows that no piece of the text is finished.

    A piece needs a blank line with a line after it, and a fence at the beginning needs its end.
    """
    if not _BLANK_LINE.search(text):
        return False
    if opening := _OPEN_FENCE.match(text):
        return re.search(rf"\n {{0,3}}{opening['fence']}", text) is not None
    return True


def _pieces(text: str, closed: bool, grows: bool = False) -> list[_Piece]:
    """Return the pieces of a text.

    Args:
        text: the text.
        closed: the last piece ends with the text. Otherwise it is open: it may still change.
        grows: a fence that holds other fences may still be paired.
    """
    tokens: list[Token] = []
    try:
        parser = markdown_parser()
        parser.block.parse(text, parser, {"references": {}, GROWING: grows}, tokens)
    except Exception:  # a fault of the parser: the page shows the whole text as its source
        return [_Piece(text, ())]
    *whole, rest = text.split("\n")
    lines = [line + "\n" for line in whole] + [rest] * bool(rest)
    cuts = [(0, 0)]
    for index, token in enumerate(tokens):
        if token.level or token.nesting < 0 or not token.map:
            continue
        line = token.map[0]
        if not line or lines[line - 1].strip():
            continue
        # A line that has not ended may still become anything: "1" may become an item of the list
        # above, "-" a rule. Only a line that begins with a letter is sure to begin a paragraph.
        if closed or lines[line].endswith("\n") or lines[line][0].isalpha():
            cuts.append((line, index))
    ends = [*cuts[1:], (len(lines), len(tokens))]
    return [
        _Piece("".join(lines[line:end_line]), tokens[index:end])
        for (line, index), (end_line, end) in zip(cuts, ends, strict=True)
    ]


def _render(piece: _Piece, env: dict[str, Any]) -> str:
    """Return the HTML of a piece. The reference definitions of the piece are added to ``env``."""
    if not piece.source.strip():
        return ""
    budget: Budget = env["budget"]
    before = budget.copy()
    try:
        parser = markdown_parser()
        _check(piece.tokens)
        _parse_inside(piece.tokens, env, parser)
        html = parser.renderer.render(piece.tokens, parser.options, env)
        return clean(html.replace("\ufdd0", "").replace("\ufdd1", ""))
    except Exception:
        # A fault in a rule, or a text that nests too deep: the reader gets the source of the piece.
        budget.restore(before)
        return clean(f"<pre>{escape(piece.source.strip(chr(10)))}</pre>\n")


def _check(tokens: Sequence[Token]) -> None:
    """Raise ValueError if the parser has left something of the text out."""
    if not tokens:
        raise ValueError("the parser found nothing in a text")
    # The parser drops without a word what nests deeper than its limit.
    if any(token.level >= MAX_BLOCK_DEPTH - 1 for token in tokens):
        raise ValueError("nested too deep: the parser would leave out what is inside")


# --- inside a block -------------------------------------------------------------------------------

_BARE_LINK = re.compile(r"(?<![\w/@.:-])https?://[^\s<>\"`\\]+", re.IGNORECASE)
_TASK = re.compile(r"\[([ xX])\](?=\s)")
_BREAK = re.compile(r"<br[ ]?/?>", re.IGNORECASE)


def _parse_inside(tokens: Sequence[Token], env: dict[str, Any], parser: MarkdownIt) -> None:
    """Parse the text inside the blocks, then add what CommonMark does not know: links, tasks, breaks.

    Blocks are parsed in their order, and a reference definition is added to ``env`` when its turn
    comes. So a definition changes nothing that is before it.
    """
    from markdown_it.rules_core import StateCore, text_join

    for token in tokens:
        if token.type == "definition":
            env["references"].setdefault(token.meta["id"], {"title": "", "href": token.meta["url"]})
        elif token.type == "inline":
            env["searched"] = 0
            token.children = []
            parser.inline.parse(token.content, parser, env, token.children)
            if any(child.level > MAX_INLINE_DEPTH for child in token.children):
                token.children = [_text(token.content)]
    text_join(StateCore("", parser, env, list(tokens)))
    for index, token in enumerate(tokens):
        if token.type == "inline" and token.children:
            if index > 1 and tokens[index - 2].type == "list_item_open":
                _mark_task(token.children[0])
            token.children = _inside(token.children, tokens[index - 1].type in ("td_open", "th_open"))


def _inside(children: list[Token], cell: bool) -> list[Token]:
    """Return the tokens of a text with bare links as links and, in table cells, ``<br>`` as a line break.

    An image inside a link is marked, because a link must not contain another link.
    """
    depth = 0
    result: list[Token] = []
    for child in children:
        if child.type in ("link_open", "link_close"):
            depth += child.nesting
        elif child.type == "image":
            child.meta["linked"] = depth > 0
        elif child.type == "text":
            for number, line in enumerate(_BREAK.split(child.content) if cell else [child.content]):
                if number:
                    result.append(_text("", "hardbreak"))
                result += [_text(line)] if depth or "://" not in line else _bare_links(line)
            continue
        result.append(child)
    return result


def _text(content: str, kind: str = "text") -> Token:
    from markdown_it.token import Token

    return Token(kind, "br" if kind == "hardbreak" else "", 0, content=content)


def _bare_links(text: str) -> list[Token]:
    """Return a text with its addresses as links.

    Punctuation and surplus brackets after an address do not belong to the address, as on GitHub
    (https://github.github.com/gfm/#autolinks-extension-).
    """
    tokens: list[Token] = []
    done = 0
    for match in _BARE_LINK.finditer(text):
        address = match[0]
        surplus = {")": address.count(")") - address.count("("), "]": address.count("]") - address.count("[")}
        end = len(address)
        while end and (address[end - 1] in "?!.,:;*_~'" or surplus.get(address[end - 1], 0) > 0):
            end -= 1
            if address[end] in surplus:
                surplus[address[end]] -= 1
        address = address[:end]
        if not allowed_address(address):
            continue
        tokens += [_text(text[done : match.start()]), _text(address, "bare_link")]
        done = match.start() + len(address)
    return [*tokens, _text(text[done:])]


def _mark_task(first: Token) -> None:
    if first.type == "text" and (task := _TASK.match(first.content)):
        first.content = ("☐" if task[1] == " " else "☑") + first.content[task.end() :]
