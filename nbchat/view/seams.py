"""HTML of a code block or a table, cut between two of its lines or rows, while it is still being written.

Pure, and only of HTML that :mod:`nbchat.view.markdown` and :func:`nbchat.view.highlight.code_html`
made and :func:`nbchat.view.safe.clean` let through: newlines in code are ``&#10;``, the tags in it
(``span`` for what has a colour, ``em`` for comments) do not nest, and a row ends with a line of its
own. A line or row that is whole does not change while more come, but for the colours of code, if a
later line ends a string or a comment that it is in; the final output has those right.
"""

from __future__ import annotations

import re

__all__ = ["after", "last_cut", "parted", "shown_end", "units"]

_TAG = re.compile(r"<[^>]*>")
NEWLINE, ROW_END = "&#10;", "</tr>\n"
CODE_END, TABLE_END = "</code></pre></div>", "</tbody>\n</table>\n"
_ROW, _UNIT = re.compile(ROW_END), re.compile(f"{NEWLINE}|{ROW_END}")
#: Classes of the two sides of a cut: a style sheet takes the margins of code away there, and makes
#: one table of the parts.
GOES_ON, WENT_ON = "nbchat-goes-on", "nbchat-went-on"


def last_cut(html: str) -> int:
    """Where HTML that ends in code or a table can be cut, before its last line or row; 0 if it cannot.

    It is the place of the newline, or of the end of the row. A line that may yet become the end of
    the fence does not count as one.
    """
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


def shown_end(html: str) -> int:
    """Where the last letter is, in HTML that ends in code or a table."""
    if html.endswith(TABLE_END):
        return html.rindex(ROW_END)
    return len(html.rstrip("\n").removesuffix(CODE_END).removesuffix("</span>").removesuffix("</em>"))


def units(html: str, cut: int) -> int:
    """How many lines of code and rows there are up to a cut."""
    return sum(1 for _ in _UNIT.finditer(html, 0, cut)) + 1


def parted(html: str, cut: int) -> tuple[str, str]:
    """The HTML in front of a cut and behind it, each a whole by itself."""
    if html.startswith(ROW_END, cut):
        table, end = html.rfind("<table", 0, cut), cut + len(ROW_END)
        inner = html.index(">", table) + 1
        front = html[:table] + _classed(html[table:inner], GOES_ON) + html[inner:end] + TABLE_END
        return front, _classed("<table>", WENT_ON) + "\n<tbody>\n" + html[end:]
    block, inner = _block(html, cut)
    *_, tag = ["", *_TAG.findall(html, inner, cut)]
    tag = "" if tag.startswith("</") else tag
    closing = f"</{tag[1:-1].split()[0]}>" if tag else ""
    front = html[:block] + _classed(html[block:inner], GOES_ON) + html[inner:cut] + closing + CODE_END
    return front, _classed(html[block:inner], WENT_ON) + tag + html[cut + len(NEWLINE) :]


def after(html: str, count: int) -> str:
    """The HTML behind so many lines of code and rows, a whole by itself."""
    cut = -1
    for _ in range(count):
        found = _UNIT.search(html, cut + 1)
        if not found:
            return html
        cut = found.start()
    return parted(html, cut)[1] if count else html


def _block(html: str, cut: int) -> tuple[int, int]:
    """Where the block around a place in code begins, and where the code in it does."""
    pre = html.rfind("<pre>", 0, cut)
    return html.rfind("<div", 0, pre), html.index(">", html.index("<code", pre)) + 1


def _classed(opening: str, name: str) -> str:
    if "class=" in opening:
        return opening.replace('class="', f'class="{name} ', 1)
    return f'{opening[:-1]} class="{name}">'
