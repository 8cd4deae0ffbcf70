r"""The safe HTML of an answer as LaTeX: what ``jupyter nbconvert --to latex`` puts into its document.

The input is the HTML of :mod:`nbchat.view.html`, which has a short list of tags. So an export to PDF shows what
the page shows. The exceptions: of a fold that is closed, only the head is shown, and code has no colours.

The law: each macro of the output is written in this package. Text of others goes through
:mod:`nbchat.view.latex.signs`, and formulas through :mod:`nbchat.view.latex.formula`.

LaTeX ends the whole document at one mistake, so this module avoids what fails: lists that nest deeper than four,
counters (a letter has no number 27), a list without an item, a line break where no line is, and a bracket where an
optional argument may be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import unescape
from typing import NamedTuple

from nbchat.view.latex.formula import latex_formula
from nbchat.view.latex.signs import latex_address, latex_code, latex_lines, latex_text
from nbchat.view.latex.table import latex_table

__all__ = ["MAX_HTML_CHARACTERS", "latex_document"]

#: The LaTeX of longer HTML is not made: TeX would need minutes for it, and the notebook would grow too much.
MAX_HTML_CHARACTERS = 2_000_000
#: The deepest nesting of lists and quotes. LaTeX has four levels of each kind of list.
MAX_LIST_DEPTH = 4


class _Element(NamedTuple):
    tag: str
    attributes: str
    children: list[_Element | str]


class _Place(NamedTuple):
    """The place of an inline text.

    Attributes:
        alone: a formula may have a line of its own here.
        code: the text is code.
    """

    alone: bool = True
    code: bool = False


_TAG = re.compile(r"<(/?)([a-z][a-z0-9]*)((?:[^<>\"]|\"[^\"]*\")*)>")
_VOID = frozenset(["br", "hr", "img"])
_INLINE = frozenset(["a", "br", "code", "del", "em", "img", "s", "small", "span", "strong", "sup"])
_WHITE_SPACE = re.compile(r"[ \t\n\r\f]+")
_START = re.compile(r'start="(\d{1,9})"')
_HREF = re.compile(r'href="([^"]*)"')
_ALIGNMENT = re.compile(r"text-align:(left|right|center)")
_MACROS = {"strong": "textbf", "em": "emph", "del": "sout", "s": "sout", "sup": "textsuperscript"}
#: A list whose items are not paragraphs has no space between them, as on the page.
_TIGHT = r"\setlength{\itemsep}{0pt}\setlength{\parskip}{0pt}"
_HEADINGS = {"h1": "subsection*", "h2": "subsubsection*"}


def latex_document(html: str) -> str:
    """Return safe HTML as a part of a LaTeX document, "" if the HTML is too long.

    Args:
        html: HTML that went through :func:`nbchat.view.html.safe.clean`.

    >>> latex_document("<p>5 &gt; 4, <strong>really</strong></p>")
    '5 \\\\textgreater{} 4, \\\\textbf{really}'
    """
    if len(html) > MAX_HTML_CHARACTERS:
        return ""
    return _flow(_tree(html).children, 0)


def _tree(html: str) -> _Element:
    """Return the elements of HTML. Text that is not in a known form is text."""
    root = _Element("", "", [])
    path, at = [root], 0
    for tag in _TAG.finditer(html):
        if tag.start() > at:
            path[-1].children.append(unescape(html[at : tag.start()]))
        at = tag.end()
        closes, name, attributes = tag.groups()
        if not closes:
            element = _Element(name, attributes, [])
            path[-1].children.append(element)
            if name not in _VOID:
                path.append(element)
        elif name in (element.tag for element in path):
            while path.pop().tag != name:
                pass
    if at < len(html):
        path[-1].children.append(unescape(html[at:]))
    return root


def _elements(element: _Element) -> list[_Element]:
    return [child for child in element.children if isinstance(child, _Element)]


# --- blocks ---------------------------------------------------------------------------------------


def _flow(nodes: Sequence[_Element | str], depth: int) -> str:
    """Return blocks, with text between them as paragraphs.

    Args:
        nodes: the blocks and texts.
        depth: how many lists and quotes are around them.
    """
    parts: list[str] = []
    run: list[_Element | str] = []
    for node in nodes:
        if isinstance(node, str) or node.tag in _INLINE:
            run.append(node)
            continue
        parts += [_paragraph(run), _block(node, depth)]
        run = []
    return "\n\n".join(part for part in (*parts, _paragraph(run)) if part)


def _paragraph(nodes: Sequence[_Element | str]) -> str:
    return _inline(nodes, _Place()).strip() if nodes else ""


def _block(element: _Element, depth: int) -> str:
    match element.tag:
        case "h1" | "h2" | "h3" | "h4" | "h5" | "h6":
            return _heading(element, depth)
        case "ul" | "ol":
            return _list(element, depth)
        case "blockquote":
            return _environment("quote", _flow(element.children, depth + 1), depth)
        case "pre":
            return _code_lines(_text_of(element))
        case "hr":
            return r"\noindent\hrulefill"
        case "table":
            return _table(element)
        case "details":
            return _fold(element, depth)
        case "p":
            return _paragraph(element.children)
    return _flow(element.children, depth)


def _heading(element: _Element, depth: int) -> str:
    title = _inline(element.children, _Place(alone=False)).strip()
    macro = "" if depth else _HEADINGS.get(element.tag, "")
    if not title:
        return ""
    return rf"\{macro}{{{title}}}" if macro else rf"\textbf{{{title}}}"


def _list(element: _Element, depth: int) -> str:
    start = _START.search(element.attributes)
    number = int(start[1]) if start else 1
    items: list[str] = []
    for item in _elements(element):
        # LaTeX labels the second level with the letters a to z, and fails at item 27.
        label = f"[{{{number}.}}]" if element.tag == "ol" else "{}"
        number += 1
        content = _flow(item.children, depth + 1)
        if depth < MAX_LIST_DEPTH:
            items.append(rf"\item{label} {content}")
        else:
            items.append(f"{label.strip('[{}]') or '-'} {content}")
    if depth < MAX_LIST_DEPTH:
        loose = any(
            isinstance(node, _Element) and node.tag == "p" for item in _elements(element) for node in item.children
        )
        return _environment("itemize", ("" if loose else f"{_TIGHT}\n") * bool(items) + "\n".join(items), depth)
    return "\n\n".join(items)


def _environment(name: str, content: str, depth: int) -> str:
    if not content.strip() or depth >= MAX_LIST_DEPTH:
        return content
    return f"\\begin{{{name}}}\n{content}\n\\end{{{name}}}"


def _code_lines(text: str) -> str:
    lines = latex_lines(text.strip("\n"))
    if not lines.strip():
        return ""
    return f"\\begin{{Verbatim}}[commandchars=\\\\\\{{\\}}]\n{lines}\n\\end{{Verbatim}}"


def _fold(element: _Element, depth: int) -> str:
    head, rest = "", []
    for node in element.children:
        if isinstance(node, _Element) and node.tag == "summary":
            head = _inline(node.children, _Place(alone=False)).strip()
        else:
            rest.append(node)
    if "open" not in element.attributes:
        return rf"\emph{{{head}}}" * bool(head)
    return "\n\n".join(part for part in (rf"\textbf{{{head}}}" * bool(head), _flow(rest, depth)) if part)


def _table(element: _Element) -> str:
    place = _Place(alone=False)
    rows: list[list[str]] = []
    widths: list[list[int]] = []
    alignments: list[str] = []
    head = 0
    for row in _rows_of(element):
        cells = _elements(row)
        if not cells:
            continue
        is_head = all(cell.tag == "th" for cell in cells)
        head += is_head and head == len(rows)
        rows.append([])
        widths.append([])
        for number, cell in enumerate(cells):
            content = _inline(cell.children, place).strip()
            rows[-1].append(rf"\textbf{{{content}}}" if cell.tag == "th" and content else content)
            lines = _text_of(cell).split("\n")
            widths[-1].append(max(map(len, lines)) if len(lines) == 1 else 1_000)
            if number == len(alignments):
                alignment = _ALIGNMENT.search(cell.attributes)
                alignments.append(alignment[1][0] if alignment else "l")
    return latex_table(rows, widths, alignments, head)


def _rows_of(element: _Element) -> Iterator[_Element]:
    for child in _elements(element):
        if child.tag == "tr":
            yield child
        else:
            yield from _rows_of(child)


# --- text -----------------------------------------------------------------------------------------


def _inline(nodes: Sequence[_Element | str], place: _Place) -> str:
    return "".join(
        _shown(_WHITE_SPACE.sub(_one_space, node), place) if isinstance(node, str) else _inline_element(node, place)
        for node in nodes
    )


def _one_space(space: re.Match[str]) -> str:
    return "\n" if "\n" in space[0] else " "


def _shown(text: str, place: _Place) -> str:
    return latex_code(text) if place.code else latex_text(text)


def _inline_element(element: _Element, place: _Place) -> str:
    inside = place._replace(alone=False)
    match element.tag:
        case "strong" | "em" | "del" | "s" | "sup":
            content = _inline(element.children, inside)
            return rf"\{_MACROS[element.tag]}{{{content}}}" if content.strip() else content
        case "small":
            return rf"{{\small {_inline(element.children, inside)}}}"
        case "code":
            content = _inline(element.children, inside._replace(code=True))
            return rf"\texttt{{{content}}}" if content else ""
        case "br":
            return r"\leavevmode\newline{}"
        case "a":
            address = _HREF.search(element.attributes)
            content = _inline(element.children, inside)
            return rf"\href{{{latex_address(unescape(address[1]))}}}{{{content}}}" if address else content
        case "span" if "mathjax_process" in element.attributes:
            return _formula(_text_of(element), place)
        case "img":
            return ""
    return _inline(element.children, place)


def _formula(text: str, place: _Place) -> str:
    return latex_formula(text[2:-2], text.startswith(r"\["), alone=place.alone)


def _text_of(element: _Element) -> str:
    """Return the text inside an element, with its line ends."""
    parts = [
        "\n" if not isinstance(node, str) and node.tag == "br" else node if isinstance(node, str) else _text_of(node)
        for node in element.children
    ]
    return "".join(parts)
