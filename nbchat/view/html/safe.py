"""What may stand on the page: the allow-list, and the one way through it.

What a model, a tool or a source writes is hostile. Everything that goes to the page as HTML
went through :func:`clean` or :func:`escape`. Measured in a browser, only sanitised ``text/html``
held: no ``text/markdown``, raw or canonical, did.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape as _escape

if TYPE_CHECKING:
    import nh3

__all__ = ["ALIGNMENTS", "ATTRIBUTES", "CLASSES", "SCHEMES", "TAGS", "clean", "escape", "link_html", "neutral"]

#: The pygments classes that the themes of JupyterLab and nbconvert colour; others only cost bytes.
#: Not those for errors and comments, as the colours these have in JupyterLab's light and its dark
#: theme are too faint (https://www.w3.org/TR/WCAG22/#contrast-minimum).
_CODE_CLASSES = "dl il k kc kd kn kp kr kt m mb mf mh mi mo o ow p pm s s1 s2 sa sb sc sd se sh si sr ss sx"
CODE_CLASSES = frozenset(_CODE_CLASSES.split())
#: MathJax of JupyterLab (3) and of nbconvert (2) looks away from the one and into the other
#: (https://docs.mathjax.org/en/v3.2-latest/options/document.html).
NO_FORMULAS = ("mathjax_ignore", "tex2jax_ignore")
A_FORMULA = ("mathjax_process", "tex2jax_process")

_TAGS = (
    "a blockquote br code del details div em h1 h2 h3 h4 h5 h6 hr li ol p pre s span strong "
    "summary sup table tbody td th thead tr ul"
)
TAGS = frozenset(_TAGS.split())
CLASSES = {
    "div": frozenset({"nbchat", "jp-RenderedHTMLCommon", *NO_FORMULAS}),
    "code": frozenset({"highlight"}),
    "span": CODE_CLASSES.union(A_FORMULA),
}
#: JupyterLab tells links from the words around them by colour alone, which not everybody sees.
UNDERLINE = "text-decoration:underline"
ALIGNMENTS = frozenset({"text-align:left", "text-align:right", "text-align:center"})
#: The attributes a tag may have, with the values they may take; None is any value (of ``href``:
#: any of ``SCHEMES``). ``rel`` of links is always ``REL``.
ATTRIBUTES: dict[str, dict[str, frozenset[str] | None]] = {
    "a": {"href": None, "target": frozenset({"_blank"}), "style": frozenset({UNDERLINE})},
    "ol": {"start": None},
    "td": {"style": ALIGNMENTS},
    "th": {"style": ALIGNMENTS},
    "details": {"open": frozenset({""})},
}
SCHEMES = frozenset({"http", "https", "mailto"})
REL = "noopener noreferrer nofollow"

_ADDRESS = re.compile(r"(?:https?://[^\s/?#]|mailto:[^\s])[^\s\x00-\x20<>\"`\\]*\Z", re.IGNORECASE)

#: Controls, bidirectional overrides and isolates (https://trojansource.codes), lone surrogates
#: and noncharacters.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


def neutral(text: str) -> str:
    """Text with U+FFFD for every character that acts unseen; tabs and newlines stay."""
    return _UNSEEN.sub("\ufffd", text)


def escape(text: str) -> str:
    """Text as HTML that shows it and does nothing."""
    return _escape(neutral(text), {'"': "&quot;"})


def allowed_address(address: str) -> bool:
    """Whether a link may lead there: an absolute http, https or mailto address."""
    return bool(_ADDRESS.match(address))


def link_html(address: str | None, inner: str) -> str:
    """``inner`` (HTML) as a link, or as it is where the address is not allowed."""
    if not address or not allowed_address(address):
        return inner
    target = "" if address[:7].lower() == "mailto:" else ' target="_blank"'
    return f'<a href="{escape(address)}" style="{UNDERLINE}"{target}>{inner}</a>'


@functools.cache
def _cleaner() -> nh3.Cleaner:
    import nh3

    any_value: dict[str, set[str]] = {}
    one_of: dict[str, dict[str, set[str]]] = {}
    for tag, attributes in ATTRIBUTES.items():
        for name, values in attributes.items():
            if values is None:
                any_value.setdefault(tag, set()).add(name)
            else:
                one_of.setdefault(tag, {})[name] = set(values)
    return nh3.Cleaner(
        tags=set(TAGS),
        clean_content_tags={"script", "style"},
        attributes=any_value,
        tag_attribute_values=one_of,
        allowed_classes={tag: set(names) for tag, names in CLASSES.items()},
        url_schemes=set(SCHEMES),
        url_relative="deny",
        link_rel=REL,
    )


_LINES = re.compile(r"<pre>.*?</pre>|\n\s*\n", re.DOTALL)


def clean(html: str) -> str:
    """HTML with what is on the lists above and nothing else; cleaning it again changes nothing.

    No blank line is left, and newlines in ``<pre>`` are ``&#10;``: a blank line would end the HTML
    block of a Markdown file the output is pasted into (https://spec.commonmark.org/0.31.2/#html-blocks),
    and what follows would be Markdown again.
    """
    html = _cleaner().clean(neutral(html))
    return _LINES.sub(lambda part: part[0].replace("\n", "&#10;") if part[0][0] == "<" else "\n", html)
