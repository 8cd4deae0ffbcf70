"""Cut the HTML of a code block, a table or a list into two, while the block is still being written.

Pure. The HTML must come from :mod:`nbchat.view.html.markdown` or
:func:`nbchat.view.html.highlight.code_html`, and must have passed :func:`nbchat.view.html.safe.clean`.
The cutting relies on what these make:

- A newline in code is ``&#10;``.
- The tags in code (``span`` for colours, ``em`` for comments) do not nest.
- Each row and each item ends with a newline of its own.

A cut is between two *units*: two lines of code, two rows or two items. A whole line or row does not
change when more of them arrive. The colours of code are the exception: a later line may end a string
or a comment that began above. The final output has those colours right. An item does change: a blank
line makes all items of its list loose (https://spec.commonmark.org/0.31.2/#loose).
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
#: The classes of the blocks on the two sides of a cut. The style sheet of the live view removes the
#: margins of code and lists there, and makes one table of the two halves.
CLASS_BEFORE_CUT, CLASS_AFTER_CUT = "nbchat-goes-on", "nbchat-went-on"


def last_cut(html: str) -> int:
    """Return the place of the last cut in HTML that ends in code, a table or a list; 0 if there is none.

    The place is that of the newline, or of the end of the row or item. The last unit stays after
    the cut, because it is still being written.
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
        # A line of backticks may become the end of the fence, and would vanish from the code.
        if _TAG.sub("", html[cut + len(NEWLINE) : end]).strip("`~ "):
            return cut
    return 0


def _last_row(html: str) -> int:
    rows = [row.start() for row in _ROW.finditer(html, html.rfind("<tbody>"))]
    # An even number of rows: style sheets colour every other row, counted in each half from 1.
    even = (len(rows) - 1) // 2 * 2
    return rows[even - 1] if even > 0 else 0


def _list(html: str, before: int) -> tuple[int, list[int]]:
    """Return where the last outermost list before a place begins, and where its own items end."""
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
    """Return the place after the last character that HTML shows, if it ends in code, a table or a list."""
    if html.endswith(TABLE_END):
        return html.rindex(ROW_END)
    if html.endswith(LIST_ENDS):
        return html.rindex(ITEM_END)
    return len(html.rstrip("\n").removesuffix(CODE_END).removesuffix("</span>").removesuffix("</em>"))


def count_units(html: str, cut: int) -> int:
    """Return the number of units (lines of code, rows, items) before a cut."""
    return sum(1 for _ in _UNIT.finditer(html, 0, cut)) + 1


def html_up_to(html: str, count: int) -> str:
    """Return the HTML up to the end of unit number ``count``, which must be an item."""
    return html[: _nth_cut(html, count) + len(ITEM_END)]


def is_in_list(html: str, cut: int) -> bool:
    """Return True if a cut is between two items."""
    return html.startswith(ITEM_END, cut)


def split_at(html: str, cut: int) -> tuple[str, str]:
    """Return the HTML before a cut and the HTML after the cut. In each of them, all tags are closed."""
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
        # The numbers go on in the second half.
        first = int(match[1]) if (match := _START.search(opening)) else 1
        start = f' start="{first + len(ends) + 1}"' if kind == "ol" else ""
        return front, _with_class(f"<{kind}{start}>", CLASS_AFTER_CUT) + html[end - 1 :]
    block, inner = _code_block(html, cut)
    # A string or a comment may cross the cut: its tag is closed before the cut and opened again after it.
    *_, tag = ["", *_TAG.findall(html, inner, cut)]
    tag = "" if tag.startswith("</") else tag
    closing = f"</{tag[1:-1].split()[0]}>" if tag else ""
    front = html[:block] + _with_class(html[block:inner], CLASS_BEFORE_CUT) + html[inner:cut] + closing + CODE_END
    return front, _with_class(html[block:inner], CLASS_AFTER_CUT) + tag + html[cut + len(NEWLINE) :]


def html_after(html: str, count: int) -> str:
    """Return the HTML after the first ``count`` units, with all tags closed."""
    cut = _nth_cut(html, count) if count else -1
    return html if cut < 0 else split_at(html, cut)[1]


def html_between(html: str, first: int, last: int) -> str:
    """Return the HTML after unit number ``first``, up to and with unit number ``last``, with all tags closed."""
    rest = html_after(html, first)
    return split_at(rest, _nth_cut(rest, last - first))[0]


def _nth_cut(html: str, count: int) -> int:
    """Return the cut that has ``count`` units before it, or -1 if there are fewer units."""
    match = next(itertools.islice(_UNIT.finditer(html), count - 1, None), None)
    return match.start() if match else -1


def _code_block(html: str, cut: int) -> tuple[int, int]:
    """Return where the block around a place in code begins, and where the code in it begins."""
    pre = html.rfind("<pre>", 0, cut)
    return html.rfind("<div", 0, pre), html.index(">", html.index("<code", pre)) + 1


def _with_class(opening: str, name: str) -> str:
    if "class=" in opening:
        return opening.replace('class="', f'class="{name} ', 1)
    return f'{opening[:-1]} class="{name}">'
