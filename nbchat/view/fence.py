"""HTML of code, cut between two of its lines, for a code block that is still being written.

Pure, and only of HTML that :func:`nbchat.view.highlight.code_html` made and
:func:`nbchat.view.safe.clean` let through: newlines in code are ``&#10;``, and the tags in it
(``span`` for what has a colour, ``em`` for comments) do not nest. A line that is whole does not
change while more lines come, but for its colours, if a later line ends a string or a comment that
it is in; the final output has those right.
"""

from __future__ import annotations

import re

__all__ = ["after_lines", "code_end", "last_cut", "parted"]

_TAG = re.compile(r"<[^>]*>")
NEWLINE = "&#10;"
END = "</code></pre></div>"
#: Classes of the two sides of a cut: a style sheet takes the margins away there.
GOES_ON, WENT_ON = "nbchat-goes-on", "nbchat-went-on"


def last_cut(html: str) -> int:
    """Where HTML that ends in code can be cut, before its last line; 0 if it cannot.

    A line that may yet become the end of the fence does not count as one.
    """
    code = html.rstrip("\n").removesuffix(END)
    begin, cut = html.rfind("<pre>"), len(code)
    while begin >= 0 and len(code) < len(html.rstrip("\n")):
        end, cut = cut, html.rfind(NEWLINE, begin, cut)
        if cut < 0:
            break
        if _TAG.sub("", html[cut + len(NEWLINE) : end]).strip("`~ "):
            return cut
    return 0


def code_end(html: str) -> int:
    """Where the last letter is, in HTML that ends in code."""
    return len(html.rstrip("\n").removesuffix(END).removesuffix("</span>").removesuffix("</em>"))


def parted(html: str, cut: int) -> tuple[str, str]:
    """The HTML in front of a newline in code and behind it, each a whole by itself."""
    block, inner = _block(html, cut)
    *_, tag = ["", *_TAG.findall(html, inner, cut)]
    tag = "" if tag.startswith("</") else tag
    closing = f"</{tag[1:-1].split()[0]}>" if tag else ""
    front = html[:block] + _classed(html[block:inner], GOES_ON) + html[inner:cut] + closing + END
    return front, _classed(html[block:inner], WENT_ON) + tag + html[cut + len(NEWLINE) :]


def after_lines(html: str, lines: int) -> str:
    """The HTML behind so many newlines in code, a whole by itself."""
    cut = -1
    for _ in range(lines):
        cut = html.find(NEWLINE, cut + 1)
        if cut < 0:
            return html
    return parted(html, cut)[1] if lines else html


def _block(html: str, cut: int) -> tuple[int, int]:
    """Where the block around a place in code begins, and where the code in it does."""
    pre = html.rfind("<pre>", 0, cut)
    return html.rfind("<div", 0, pre), html.index(">", html.index("<code", pre)) + 1


def _classed(opening: str, name: str) -> str:
    return opening.replace('class="', f'class="{name} ', 1)
