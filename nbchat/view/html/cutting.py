"""HTML of a code block, a table or a list, cut between two lines, rows or items, while it is still being written.

Pure, and only of HTML that :mod:`nbchat.view.html.markdown` and :func:`nbchat.view.html.highlight.code_html`
made and :func:`nbchat.view.html.safe.clean` let through: newlines in code are ``&#10;``, the tags in it
(``span`` for what has a colour, ``em`` for comments) do not nest, and a row and an item end with a
line of their own. A line or row that is whole does not change while more come, but for the colours
of code, if a later line ends a string or a comment that it is in; the final output has those right.
An item does: a blank line makes all items of its list loose ones
(https://spec.commonmark.org/0.31.2/#loose).
"""

from __future__ import annotations

import itertools
import re

__all__ = [
    "count_units",
    "html_after",
    "html_between",
    "html_up_to",
    "is_in_list",
    "last_cut",
    "shown_length",
    "split_at",
]

_TAG = re.compile(r"<[^>]*>")
NEWLINE, ROW_END, ITEM_END = "&#10;", "</tr>\n", "</li>\n"
CODE_END, TABLE_END, LIST_ENDS = "</code></pre></div>", "</tbody>\n</table>\n", ("</ul>\n", "</ol>\n")
_ROW, _UNIT = re.compile(ROW_END), re.compile(f"{NEWLINE}|{ROW_END}|{ITEM_END}")
_LIST = re.compile(f"<(?P<end>/?)[uo]l\\b[^>]*>|{ITEM_END}")
_START = re.compile(r' start="(-?\d+)"')
#: Classes of the two sides of a cut: a style sheet takes the margins of code and lists away there,
#: and makes one table of the parts.
CLASS_BEFORE_CUT, CLASS_AFTER_CUT = "nbchat-goes-on", "nbchat-went-on"


def last_cut(html: str) -> int:
    """Where HTML that ends in code, a table or a list can be cut, before its last line, row or item; 0 if it cannot.

    It is the place of the newline, or of the end of the row or item. A line that may yet become the
    end of the fence does not count as one.
    """
    if html.endswith(LIST_ENDS):
        _, ends = _list(html, len(html))
        return ends[-2] if len(ends) > 1 else 0
    return _last_row(html) if html.endswith(TABLE_END) else _last_line(html)


def _last_line(html: str) -> int:
    code = html.rstrip("\n").removesuffix(CODE_END)
    begin, cut = html.rfind("<pre>"), len(code)
    while begin >= 0 and len(code) < len(html.rstrip("\n")):
        end, cut = cut, html.rfind(NEWLINE, begin, cut)
        if cut < 0:
            break
        if _TAG.sub("", html[cut + len(NEWLINE) : end]).strip("`~ "):
            return cut
    return 0


def _last_row(html: str) -> int:
    rows = [row.start() for row in _ROW.finditer(html, html.rfind("<tbody>"))]
    even = (len(rows) - 1) // 2 * 2  # style sheets colour every other row
    return rows[even - 1] if even > 0 else 0


def _list(html: str, before: int) -> tuple[int, list[int]]:
    """The outermost list that is last in front of a place: where it begins, and where items of its own end there."""
    begin, depth, ends = 0, 0, []
    for tag in _LIST.finditer(html, 0, before):
        if tag[0] == ITEM_END:
            ends += [tag.start()] if depth == 1 else []
        elif tag["end"]:
            depth -= 1
        else:
            if not depth:
                begin, ends = tag.start(), []
            depth += 1
    return begin, ends


def shown_length(html: str) -> int:
    """Where the last letter is, in HTML that ends in code, a table or a list."""
    if html.endswith(TABLE_END):
        return html.rindex(ROW_END)
    if html.endswith(LIST_ENDS):
        return html.rindex(ITEM_END)
    return len(html.rstrip("\n").removesuffix(CODE_END).removesuffix("</span>").removesuffix("</em>"))


def count_units(html: str, cut: int) -> int:
    """How many lines of code, rows and items there are up to a cut."""
    return sum(1 for _ in _UNIT.finditer(html, 0, cut)) + 1


def html_up_to(html: str, count: int) -> str:
    """The HTML up to the end of an item that is the last of so many lines of code, rows and items."""
    return html[: _nth_cut(html, count) + len(ITEM_END)]


def is_in_list(html: str, cut: int) -> bool:
    """Whether a cut is one between two items."""
    return html.startswith(ITEM_END, cut)


def split_at(html: str, cut: int) -> tuple[str, str]:
    """The HTML in front of a cut and behind it, each a whole by itself."""
    if html.startswith(ROW_END, cut):
        table, end = html.rfind("<table", 0, cut), cut + len(ROW_END)
        inner = html.index(">", table) + 1
        front = html[:table] + _with_class(html[table:inner], CLASS_BEFORE_CUT) + html[inner:end] + TABLE_END
        return front, _with_class("<table>", CLASS_AFTER_CUT) + "\n<tbody>\n" + html[end:]
    if is_in_list(html, cut):
        begin, ends = _list(html, cut)
        inner, end = html.index(">", begin) + 1, cut + len(ITEM_END)
        opening, kind = html[begin:inner], html[begin + 1 : begin + 3]
        front = html[:begin] + _with_class(opening, CLASS_BEFORE_CUT) + html[inner:end] + f"</{kind}>\n"
        first = int(found[1]) if (found := _START.search(opening)) else 1
        start = f' start="{first + len(ends) + 1}"' if kind == "ol" else ""
        return front, _with_class(f"<{kind}{start}>", CLASS_AFTER_CUT) + html[end - 1 :]
    block, inner = _block(html, cut)
    *_, tag = ["", *_TAG.findall(html, inner, cut)]
    tag = "" if tag.startswith("</") else tag
    closing = f"</{tag[1:-1].split()[0]}>" if tag else ""
    front = html[:block] + _with_class(html[block:inner], CLASS_BEFORE_CUT) + html[inner:cut] + closing + CODE_END
    return front, _with_class(html[block:inner], CLASS_AFTER_CUT) + tag + html[cut + len(NEWLINE) :]


def html_after(html: str, count: int) -> str:
    """The HTML behind so many lines of code, rows and items, a whole by itself."""
    cut = _nth_cut(html, count) if count else -1
    return html if cut < 0 else split_at(html, cut)[1]


def html_between(html: str, first: int, last: int) -> str:
    """The HTML behind the first so many lines of code, rows and items up to the last, a whole by itself."""
    rest = html_after(html, first)
    return split_at(rest, _nth_cut(rest, last - first))[0]


def _nth_cut(html: str, count: int) -> int:
    """The cut with so many :func:`count_units`, -1 if there are fewer."""
    found = next(itertools.islice(_UNIT.finditer(html), count - 1, None), None)
    return found.start() if found else -1


def _block(html: str, cut: int) -> tuple[int, int]:
    """Where the block around a place in code begins, and where the code in it does."""
    pre = html.rfind("<pre>", 0, cut)
    return html.rfind("<div", 0, pre), html.index(">", html.index("<code", pre)) + 1


def _with_class(opening: str, name: str) -> str:
    if "class=" in opening:
        return opening.replace('class="', f'class="{name} ', 1)
    return f'{opening[:-1]} class="{name}">'
