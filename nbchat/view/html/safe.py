"""The allow-list of the page: the tags, attributes, classes and addresses that HTML may have.

The law: everything that a model, a tool or a source writes is hostile. All HTML on the page went
through :func:`clean` or :func:`escape`.

The page gets ``text/html``, not ``text/markdown``. Measured in a browser, every form of Markdown let
something through, because the front end parses Markdown in another way than any filter before it.
Only sanitised HTML let nothing through.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape as _escape

if TYPE_CHECKING:
    import nh3

__all__ = [
    "ALIGNMENTS",
    "ATTRIBUTES",
    "CLASSES",
    "SCHEMES",
    "TAGS",
    "NoCleaner",
    "check_cleaner",
    "clean",
    "escape",
    "link_html",
    "neutral",
]

#: The pygments classes that the themes of JupyterLab and nbconvert colour. Other classes only cost
#: bytes. Errors and comments are left out: their colours in JupyterLab's light and dark themes are
#: too faint to read (https://www.w3.org/TR/WCAG22/#contrast-minimum).
_CODE_CLASSES = "dl il k kc kd kn kp kr kt m mb mf mh mi mo o ow p pm s s1 s2 sa sb sc sd se sh si sr ss sx"
CODE_CLASSES = frozenset(_CODE_CLASSES.split())
#: MathJax typesets nothing inside the first classes, except inside the second ones. JupyterLab has
#: MathJax 3, which reads ``mathjax_…``; nbconvert has MathJax 2, which reads ``tex2jax_…``
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
#: JupyterLab marks links by their colour alone, which not everybody can see.
UNDERLINE = "text-decoration:underline"
ALIGNMENTS = frozenset({"text-align:left", "text-align:right", "text-align:center"})
#: The attributes that a tag may have, each with the values it may have. None allows any value, and for
#: ``href`` any address of ``SCHEMES``. ``rel`` of links is always ``REL``.
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

#: Characters that act without being seen: controls, bidirectional overrides and isolates, which show
#: code in another order than it runs (https://trojansource.codes), lone surrogates, noncharacters.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


def neutral(text: str) -> str:
    """Return the text with U+FFFD for each character that acts unseen. Tabs and newlines stay."""
    return _UNSEEN.sub("\ufffd", text)


def escape(text: str) -> str:
    """Return HTML that shows the text and does nothing else."""
    return _escape(neutral(text), {'"': "&quot;"})


def allowed_address(address: str) -> bool:
    """Return True if a link may lead to the address: an absolute http, https or mailto address.

    A relative address would lead into the user's own Jupyter server.
    """
    return bool(_ADDRESS.match(address))


def link_html(address: str | None, inner: str) -> str:
    """Return ``inner``, which is HTML, inside a link, or without one if the address is not allowed."""
    if not address or not allowed_address(address):
        return inner
    target = "" if address[:7].lower() == "mailto:" else ' target="_blank"'
    return f'<a href="{escape(address)}" style="{UNDERLINE}"{target}>{inner}</a>'


class NoCleaner(Exception):
    """nh3 does not work in this Python, so no HTML can be made safe. JupyterLite has no wheel of nh3 on PyPI."""


def check_cleaner() -> None:
    """Check that HTML can be made safe here.

    Raises:
        NoCleaner: nh3 is missing or broken.
    """
    _cleaner()


@functools.cache
def _cleaner() -> nh3.Cleaner:
    try:
        return _new_cleaner()
    except Exception as error:
        raise NoCleaner(f"nh3 does not work here: {error}") from error


def _new_cleaner() -> nh3.Cleaner:
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
    """Return the HTML with nothing but what the lists above allow. Cleaning it again changes nothing.

    The result has no blank line, and newlines in ``<pre>`` are ``&#10;``. ``nbconvert --to markdown``
    pastes the HTML into a Markdown file. A blank line would end the HTML block there, and the text
    after the blank line would be parsed as Markdown (https://spec.commonmark.org/0.31.2/#html-blocks).
    """
    html = _cleaner().clean(neutral(html))
    return _LINES.sub(lambda part: part[0].replace("\n", "&#10;") if part[0][0] == "<" else "\n", html)
