"""An auditor for HTML: a real parser that knows what may be in it, on a list of its own.

The list is written out here a second time on purpose: a tag or attribute that slips onto the
list of the package must be let in here too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from html.parser import HTMLParser
from typing import Any

from nbchat.view.html.sources import Sources

TAGS = {
    *("a", "blockquote", "br", "code", "del", "details", "div", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr"),
    *(
        "li",
        "ol",
        "p",
        "pre",
        "s",
        "span",
        "strong",
        "summary",
        "sup",
        "table",
        "tbody",
        "td",
        "th",
        "thead",
        "tr",
        "ul",
    ),
}
VOID = {"br", "hr"}
LINK = re.compile(r"(?:https?://|mailto:)[!#$%&'()*+,\-./0-9:;=?@A-Za-z\[\]_~|{}^]+\Z")
REL = "noopener noreferrer nofollow"
ALIGN = {"text-align:left", "text-align:right", "text-align:center"}
DIV_CLASSES = {"nbchat", "mathjax_ignore", "tex2jax_ignore", "jp-RenderedHTMLCommon"}
SPAN_CLASS = re.compile(r"(?:mathjax_process tex2jax_process|[a-z][a-z0-9]{0,2})\Z")
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef]")
#: Macros of MathJax that must never stand where MathJax looks.
MACROS = re.compile(
    r"\\(mmltoken|require|autoload|includegraphics|unicode|href|url|mathtip|texttip|toggle|class|style|cssid|data|bbox"
    r"|enclose|html\w*|f?colorbox|definecolor|\w*def|let|global|(?:re)?new\w+|providecommand|declare\w+|mathtoolsset"
    r"|setoptions|csname|smash|[rl]lap)(?![A-Za-z])",
    re.IGNORECASE,
)


class Auditor(HTMLParser):
    """Walks HTML and fails at what is not allowed."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.path: list[str] = []
        self.formula: str | None = None
        self.links: list[str] = []
        self.text: list[str] = []
        self.formulas: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS, f"<{tag}>"
        assert len(self.path) < 200, "nested too deep for a browser"
        given = dict(attrs)
        assert len(given) == len(attrs), f"an attribute twice in <{tag}>"
        for name, value in attrs:
            self.attribute(tag, name, value or "")
        if tag == "a":
            assert "a" not in self.path, "a link in a link"
            assert "href" not in given or given["rel"] == REL
        if tag not in VOID:
            self.path.append(tag)
        assert self.formula is None, "a tag in a formula"
        if "mathjax_process" in (given.get("class") or ""):
            self.formula = ""

    def attribute(self, tag: str, name: str, value: str) -> None:
        match tag, name:
            case "a", "href":
                assert LINK.match(value), f"href={value!r}"
                self.links.append(value)
            case "a", "rel":
                assert value == REL
            case "a", "target":
                assert value == "_blank"
            case "ol", "start":
                assert value.isdigit()
            case ("a", "style"):
                assert value == "text-decoration:underline", value
            case (("td" | "th"), "style"):
                assert value in ALIGN
            case "details", "open":
                assert value == ""
            case "div", "class":
                assert set(value.split()) <= DIV_CLASSES, value
            case "code", "class":
                assert value == "highlight"
            case "span", "class":
                assert SPAN_CLASS.match(value), value
            case _:
                raise AssertionError(f"<{tag} {name}={value!r}>")

    def handle_endtag(self, tag: str) -> None:
        assert self.path[-1:] == [tag], f"</{tag}> in {self.path}"
        self.path.pop()
        if self.formula is not None:
            assert re.match(r"\\\(.*\\\)\Z|\\\[.*\\\]\Z", self.formula, re.DOTALL), self.formula
            assert not MACROS.search(self.formula), self.formula
            self.formulas.append(self.formula)
            self.formula = None

    def handle_data(self, data: str) -> None:
        assert not UNSEEN.search(data), f"a character that acts unseen in {data!r}"
        self.text.append(data)
        if self.formula is not None:
            self.formula += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data!r}")

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(f"a declaration: {decl!r}")

    def handle_pi(self, data: str) -> None:
        raise AssertionError(f"a processing instruction: {data!r}")

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(f"a section: {data!r}")


def audit(html: str) -> Auditor:
    """Fail unless ``html`` has only what is allowed; gives what was in it."""
    auditor = Auditor()
    auditor.feed(html)
    auditor.close()
    assert not auditor.path, f"left open: {auditor.path}"
    assert not re.search(r"\n[ \t]*\n", html), "a blank line would end the HTML block of a Markdown file"
    for pre in re.findall(r"<pre.*?</pre>", html, re.DOTALL):
        assert "\n" not in pre, "a newline in <pre> that is not &#10;"
    return auditor


def sources_html(citations: Iterable[Mapping[str, Any]]) -> str:
    """Return the list of sources of these citations, as the page shows the list."""
    sources = Sources()
    for citation in citations:
        sources.add(citation)
    return sources.html()
