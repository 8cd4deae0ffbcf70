"""The Markdown parser of the page: the dialect with citations, and the HTML of its tokens.

Raw HTML stays text, an image becomes a link to the image, and code is coloured. What the parser
renders still has to pass :func:`nbchat.view.html.safe.clean`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nbchat.view.html.dialect import dialect_parser
from nbchat.view.html.highlight import code_html
from nbchat.view.html.nested_fence import fence_language
from nbchat.view.html.safe import allowed_address, escape, link_html

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

__all__ = ["MAX_BLOCK_DEPTH", "citation_mark", "markdown_parser", "without_marks"]

#: The deepest nesting of blocks. A list and its item count as two.
MAX_BLOCK_DEPTH = 20
#: The characters that failed searches for the end of a link may look at in one paragraph, together.
#: Without a limit, a paragraph of ``[[[[[…`` takes a time quadratic in its length.
MAX_LINK_SEARCH_CHARACTERS = 10_000_000


@functools.cache
def markdown_parser() -> MarkdownIt:
    """Return the one parser. It has no state of its own, so that all texts can share it."""
    parser = dialect_parser(maxNesting=MAX_BLOCK_DEPTH, inline_definitions=True)
    parser.inline.ruler.before("link", "citation", _citation)
    for name in ("link", "image"):
        _limit_search(parser, name)
    parser.validateLink = allowed_address  # type: ignore[method-assign, assignment]
    # The text of a link stays as the model wrote it: decoded, it could hide where the link leads.
    parser.normalizeLinkText = str  # type: ignore[method-assign, assignment]
    for kind, rule in _RENDER_RULES.items():
        parser.add_render_rule(kind, rule)
    return parser


def _limit_search(parser: MarkdownIt, name: str) -> None:
    """Make a rule give up after its failed searches in a paragraph looked at too many characters."""
    from markdown_it.rules_inline import image, link

    rule = {"link": link, "image": image}[name]

    def limited(state: StateInline, silent: bool) -> bool:
        if state.src[state.pos] not in "![" or state.env["searched"] > MAX_LINK_SEARCH_CHARACTERS:
            return False
        if rule(state, silent):
            return True
        state.env["searched"] += state.posMax - state.pos
        return False

    parser.inline.ruler.at(name, limited)


# --- citations ------------------------------------------------------------------------------------

# The two noncharacters cannot come from the model, because the text of the model went through
# ``neutral``. So no model can forge the mark of a citation.
_MARK = re.compile("\\[\ufdd0([0-9]+)\ufdd1\\]")


def citation_mark(number: int) -> str:
    """Return the mark that the parser turns into the number of a citation."""
    return f"[\ufdd0{number}\ufdd1]"


def without_marks(text: str) -> str:
    """Return the text with plain numbers for marks, for places where Markdown is not parsed."""
    return _MARK.sub(r"[\1]", text)


def _citation(state: StateInline, silent: bool) -> bool:
    mark = _MARK.match(state.src, state.pos) if state.src[state.pos] == "[" else None
    if not mark:
        return False
    if not silent:
        state.push("cited", "", 0).content = mark[1]
    state.pos = mark.end()
    return True


# --- tokens to HTML -------------------------------------------------------------------------------
# ``self`` is the renderer, and ``env`` is the environment that nbchat.view.html.markdown passes in.


def _fence(self: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    source = tokens[index].content.removesuffix("\n")
    return code_html(without_marks(source), fence_language(tokens[index].info), env.get("budget"))


def _image(self: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    # The page never loads an image: its address could carry the conversation to a server.
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
    definition = tokens[index].meta
    title = f" “{escape(definition['title'])}”" if definition["title"] else ""
    address = link_html(definition["url"], escape(definition["url"]))
    return f"<p>[{escape(definition['label'])}]: {address}{title}</p>\n"


def _cited(self: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    number = tokens[index].content
    return f"<sup>{link_html(env['addresses'].get(number), f'[{number}]')}</sup>"


def _cell(self: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    if not tokens[index + 1].content:
        # A short row of a wide table has many empty cells: they need no alignment, only bytes.
        return f"<{tokens[index].tag}>"
    # JupyterLab's own style sheet aligns the cells of HTML outputs to the right.
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
