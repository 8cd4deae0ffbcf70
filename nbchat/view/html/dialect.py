"""The dialect of Markdown that all views share: the page, ``Response.code`` and the terminal.

CommonMark with tables, strikethrough and formulas, and with what models mean where CommonMark reads
something else: fences inside a fence, pipes inside code in a table, emphasis beside CJK characters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbchat.view.html.cjk import add_cjk_emphasis
from nbchat.view.html.formula import add_formulas
from nbchat.view.html.nested_fence import add_nested_fences
from nbchat.view.html.table_rule import add_tables

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

__all__ = ["dialect_parser"]


def dialect_parser(**options: Any) -> MarkdownIt:
    """Return a new parser of the dialect. Raw HTML is text.

    Args:
        options: options of the parser.
    """
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False, **options}).enable("strikethrough")
    add_tables(parser)
    add_formulas(parser)
    add_nested_fences(parser)
    add_cjk_emphasis(parser)
    return parser
