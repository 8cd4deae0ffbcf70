"""Markdown to safe HTML, whole or as it grows.

CommonMark with tables, strikethrough, task lists, bare links and formulas; raw HTML is text, an
image is a link to it, code is coloured. What comes out went through :func:`nbchat.view.html.safe.clean`.

One text gives one HTML, whichever way it came. It is cut into *pieces* at each line that
follows a blank line and begins a new top-level block: no later line can reach back over such a
cut, as every look-ahead of the parser (a table's second line, a setext underline, the title of a
reference, the end of a formula) stops at a blank line, and the blocks that do not (lists,
quotes, fences, indented code) would have taken the line. The one thing in Markdown that
reaches back further is a reference definition. Here it counts only for what comes after it,
and it shows: a definition is a line of its own with its link, a reference before it stays as
it was written, and nothing that was shown changes.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from nbchat.view.html.formula import add_formulas
from nbchat.view.html.highlight import code_html
from nbchat.view.html.safe import allowed_address, clean, escape, link_html, neutral

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

__all__ = ["MarkdownStream", "render_markdown"]

#: Blocks nest this deep, a list and its item counting as two; deeper text is shown as it came.
MAX_BLOCK_DEPTH = 20
#: Emphasis and the like nest this deep; a deeper line is shown as it came.
MAX_INLINE_DEPTH = 20
#: Characters that searches for the end of a link may look at in one paragraph, all together:
#: without a limit ``[[[[[…`` takes a time quadratic in its length.
MAX_LINK_SEARCH_CHARACTERS = 10_000_000
#: An open piece longer than this is looked at again only when it grew by a tenth.
LONG_PIECE_CHARACTERS = 4_000


def render_markdown(text: str) -> str:
    """Safe HTML of a whole Markdown text: blocks, with nothing around them. Never raises."""
    stream = MarkdownStream()
    stream.feed(text)
    stream.close()
    return "".join(stream.finished)


class MarkdownStream:
    """Markdown that grows: pieces that are finished, and an open tail.

    ``finished`` only ever grows at its end. At any time ``"".join(finished) + tail()`` is
    ``render_markdown`` of what was fed. Feeding only appends; :meth:`advance` parses.
    """

    def __init__(self) -> None:
        self.finished: list[str] = []
        self._fed: list[str] = []
        self._open = ""
        self._looked_at = 0
        self._env: dict[str, Any] = {"references": {}, "addresses": {}}

    def feed(self, text: str) -> None:
        """Take some more text."""
        self._fed.append(text)

    def cite(self, number: int, address: str | None = None) -> None:
        """Put ``[number]``, with a link, after the text so far (before white space at its end)."""
        self._gather()
        self._env["addresses"][str(number)] = address
        body = self._open.rstrip()
        space = self._open[len(body) :]
        mark = f"[\ufdd0{number}\ufdd1]"
        if body.endswith("|"):
            body, space = body[:-1].rstrip(), " |" + space
        last = body[body.rfind("\n") + 1 :]
        if _MARKUP_LINE.match(last):  # after a fence, a rule or an underline text would undo it
            body += "\n\n"
        self._open = body + mark + space

    def advance(self) -> list[str]:
        """Finish the pieces that no later text can change; gives their HTML, which ``finished`` now has too."""
        self._gather()
        grown = len(self._open) - self._looked_at
        if not grown or (len(self._open) > LONG_PIECE_CHARACTERS and grown * 10 < self._looked_at):
            return []
        if "\n" not in self._open[max(self._looked_at - 1, 0) :]:  # no line ended, none began
            return []
        if not _may_be_cut(self._open):
            return []
        return self._finish(closed=False)

    def tail(self) -> str:
        """The HTML of what is not finished, as if the text ended here."""
        self._gather()
        env = {**self._env, "references": dict(self._env["references"])}
        return "".join(_render(piece, env) for piece in _pieces(self._ended(), closed=True))

    def close(self) -> list[str]:
        """The text is whole: finish the rest. Gives its HTML."""
        self._gather()
        self._open = self._ended()
        return self._finish(closed=True)

    def _finish(self, closed: bool) -> list[str]:
        pieces = _pieces(self._open, closed)
        if not closed and pieces:
            self._open = pieces.pop().source
        elif closed:
            self._open = ""
        self._looked_at = len(self._open)
        new = [_render(piece, self._env) for piece in pieces]
        self.finished += new
        return new

    def _gather(self) -> None:
        """Move what was fed to the open text. A carriage return waits for the newline it may belong to."""
        if self._fed:
            text = self._open[-1:] * self._open.endswith("\r") + "".join(self._fed)
            self._open = self._open.removesuffix("\r")
            self._fed.clear()
            waiting = "\r" if text.endswith("\r") else ""
            text = text.removesuffix("\r").replace("\r\n", "\n").replace("\r", "\n")
            self._open += neutral(text) + waiting

    def _ended(self) -> str:
        return self._open.replace("\r", "\n")


_MARKUP_LINE = re.compile(r"[\s\-*_=`~:$>\\\]]*(?:[`~]{3,}.*)?\Z")


# --- pieces -------------------------------------------------------------------------------------


class _Piece(NamedTuple):
    source: str
    tokens: Sequence[Token]


_BLANK_LINE = re.compile(r"\n[ \t]*\n[ \t]*[^\s]")
_OPEN_FENCE = re.compile(r" {0,3}(?P<fence>`{3,}|~{3,})")


def _may_be_cut(text: str) -> bool:
    """A cheap look: is there a blank line with a line after it, and is what begins here no open fence?"""
    if not _BLANK_LINE.search(text):
        return False
    if opened := _OPEN_FENCE.match(text):
        return re.search(rf"\n {{0,3}}{opened['fence']}", text) is not None
    return True


def _pieces(text: str, closed: bool) -> list[_Piece]:
    """The pieces of a text. Unless ``closed``, the last one is open, as it may still change."""
    tokens: list[Token] = []
    try:
        parser = _parser()
        parser.block.parse(text, parser, {"references": {}}, tokens)
    except Exception:  # a fault of the parser: all of it is one piece, shown as it came
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
        # A line that has not ended may still become anything, unless it begins with a letter.
        if closed or lines[line].endswith("\n") or lines[line][0].isalpha():
            cuts.append((line, index))
    ends = [*cuts[1:], (len(lines), len(tokens))]
    return [
        _Piece("".join(lines[line:end_line]), tokens[index:end])
        for (line, index), (end_line, end) in zip(cuts, ends, strict=True)
    ]


def _render(piece: _Piece, env: dict[str, Any]) -> str:
    """The HTML of a piece; its reference definitions join those in ``env``."""
    if not piece.source.strip():
        return ""
    try:
        parser = _parser()
        _check(piece.tokens)
        _parse_inside(piece.tokens, env, parser)
        html = parser.renderer.render(piece.tokens, parser.options, env)
        return clean(html.replace("\ufdd0", "").replace("\ufdd1", ""))
    except Exception:
        return clean(f"<pre>{escape(piece.source.strip(chr(10)))}</pre>\n")


def _check(tokens: Sequence[Token]) -> None:
    if not tokens:
        raise ValueError("the parser found nothing in a text")
    if any(token.level >= MAX_BLOCK_DEPTH - 1 for token in tokens):
        raise ValueError("nested too deep: the parser would leave out what is inside")


# --- inside a block -----------------------------------------------------------------------------

_BARE_LINK = re.compile(r"(?<![\w/@.:-])https?://[^\s<>\"`\\]+", re.IGNORECASE)
_TASK = re.compile(r"\[([ xX])\](?=\s)")
_BREAK = re.compile(r"<br[ ]?/?>", re.IGNORECASE)


def _parse_inside(tokens: Sequence[Token], env: dict[str, Any], parser: MarkdownIt) -> None:
    """Parse the text of the blocks, and make of it what CommonMark does not know.

    A reference definition joins those in ``env`` when it is its turn, so that nothing before it changes.
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
    """Bare links as links, ``<br>`` in table cells as line breaks, images that are in a link marked so."""
    depth = 0
    made: list[Token] = []
    for child in children:
        if child.type in ("link_open", "link_close"):
            depth += child.nesting
        elif child.type == "image":
            child.meta["linked"] = depth > 0
        elif child.type == "text":
            for number, line in enumerate(_BREAK.split(child.content) if cell else [child.content]):
                if number:
                    made.append(_text("", "hardbreak"))
                made += [_text(line)] if depth or "://" not in line else _bare_links(line)
            continue
        made.append(child)
    return made


def _text(content: str, kind: str = "text") -> Token:
    from markdown_it.token import Token

    return Token(kind, "br" if kind == "hardbreak" else "", 0, content=content)


def _bare_links(text: str) -> list[Token]:
    """Text with its addresses as links, cut as GitHub does (https://github.github.com/gfm/#autolinks-extension-)."""
    made: list[Token] = []
    done = 0
    for found in _BARE_LINK.finditer(text):
        address = found[0]
        surplus = {")": address.count(")") - address.count("("), "]": address.count("]") - address.count("[")}
        end = len(address)
        while end and (address[end - 1] in "?!.,:;*_~'" or surplus.get(address[end - 1], 0) > 0):
            end -= 1
            if address[end] in surplus:
                surplus[address[end]] -= 1
        address = address[:end]
        if not allowed_address(address):
            continue
        link = _text(address, "bare_link")
        made += [_text(text[done : found.start()]), link]
        done = found.start() + len(address)
    return [*made, _text(text[done:])]


def _mark_task(first: Token) -> None:
    if first.type == "text" and (task := _TASK.match(first.content)):
        first.content = ("☐" if task[1] == " " else "☑") + first.content[task.end() :]


# --- the parser ---------------------------------------------------------------------------------


@functools.cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": MAX_BLOCK_DEPTH, "inline_definitions": True})
    parser.enable(["table", "strikethrough"])
    add_formulas(parser)
    parser.inline.ruler.before("link", "citation", _citation)
    for name in ("link", "image"):
        _bound(parser, name)
    parser.validateLink = allowed_address  # type: ignore[method-assign, assignment]
    parser.normalizeLinkText = str  # type: ignore[method-assign, assignment]  # as written: decoding it hides where it leads
    for kind, rule in _RENDER_RULES.items():
        parser.add_render_rule(kind, rule)
    return parser


def _bound(parser: MarkdownIt, name: str) -> None:
    """Make a rule give up when its failed searches in a paragraph add up to MAX_LINK_SEARCH_CHARACTERS."""
    from markdown_it.rules_inline import image, link

    rule = {"link": link, "image": image}[name]

    def bounded(state: StateInline, silent: bool) -> bool:
        if state.src[state.pos] not in "![" or state.env["searched"] > MAX_LINK_SEARCH_CHARACTERS:
            return False
        if rule(state, silent):
            return True
        state.env["searched"] += state.posMax - state.pos
        return False

    parser.inline.ruler.at(name, bounded)


_MARK = re.compile("\\[\ufdd0([0-9]+)\ufdd1\\]")


def _citation(state: StateInline, silent: bool) -> bool:
    mark = _MARK.match(state.src, state.pos) if state.src[state.pos] == "[" else None
    if not mark:
        return False
    if not silent:
        state.push("cited", "", 0).content = mark[1]
    state.pos = mark.end()
    return True


def _fence(self: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    source = tokens[index].content.removesuffix("\n")
    words = tokens[index].info.split(maxsplit=1)
    return code_html(_unmarked(source), words[0].strip("{}.") if words else "")


def _unmarked(text: str) -> str:
    return _MARK.sub(r"[\1]", text)


def _image(self: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    token = tokens[index]
    alt = self.renderInlineAsText(token.children or [], options, env)
    text = escape(f"[image: {alt}]" if alt else "[image]")
    return text if token.meta.get("linked") else link_html(str(token.attrs["src"]), text)


def _link_open(self: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    return link_html(str(tokens[index].attrs["href"]), "").removesuffix("</a>")


def _bare_link(self: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    address = tokens[index].content
    return link_html(address, escape(address))


def _definition(self: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    about = tokens[index].meta
    title = f" “{escape(about['title'])}”" if about["title"] else ""
    return f"<p>[{escape(about['label'])}]: {link_html(about['url'], escape(about['url']))}{title}</p>\n"


def _cited(self: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    number = tokens[index].content
    return f"<sup>{link_html(env['addresses'].get(number), f'[{number}]')}</sup>"


def _cell(self: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    if not tokens[index + 1].content:  # a short row of a wide table has many of these
        return f"<{tokens[index].tag}>"
    # JupyterLab's own style sheet has the cells of HTML outputs to the right.
    return f'<{tokens[index].tag} style="{tokens[index].attrs.get("style", "text-align:left")}">'


_RENDER_RULES = {
    "fence": _fence,
    "code_block": _fence,
    "image": _image,
    "link_open": _link_open,
    "bare_link": _bare_link,
    "definition": _definition,
    "cited": _cited,
    "th_open": _cell,
    "td_open": _cell,
}
