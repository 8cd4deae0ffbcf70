"""Source code as coloured HTML.

Pygments adds classes only. The colours come from the theme of the front end, so that they fit it.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from nbchat.view.html.safe import CODE_CLASSES, escape

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["code_html"]

#: Longer code is shown without colours.
MAX_COLOURED_CHARACTERS = 200_000

#: The languages that are coloured, each with all its names. The first name is that of the lexer. The
#: list is short on purpose: the model chooses the name, and not each of pygments' hundreds of lexers
#: is quick on a hostile text.
_LANGUAGES = """
python py python3 ipython ipython3 | pycon | bash sh shell zsh | console shell-session | powershell ps1
javascript js jsx mjs node | typescript ts tsx | json json5 jsonc jsonl ipynb | yaml yml | toml | ini cfg conf
xml svg | html htm | css | scss sass | sql sqlite postgresql postgres mysql | r rscript | julia jl | c h
cpp c++ cc hpp cxx | csharp cs c# | java | kotlin kt | scala | go golang | rust rs | swift | ruby rb | php
perl pl | lua | haskell hs | ocaml | elixir ex | clojure clj | fortran f90 | matlab | octave | diff patch
docker dockerfile | make makefile | cmake | nginx | http | graphql | protobuf proto | tex latex | markdown md
rst | dart | groovy | objective-c objc | stata | sas | bat cmd
"""
LANGUAGES: dict[str, str] = {
    name: names[0] for line in _LANGUAGES.replace("\n", "|").split("|") if (names := line.split()) for name in names
}


@functools.cache
def _lexer(name: str) -> Any:
    from pygments.lexers import get_lexer_by_name

    return get_lexer_by_name(name, stripnl=False, ensurenl=False)


#: A replacement for the classes of comments, which are shown in italics and not in a colour.
COMMENT_CLASS = "c"


@functools.cache
def _class_of() -> Callable[[Any], str]:
    from pygments.token import STANDARD_TYPES, Comment

    @functools.cache
    def class_of(kind: Any) -> str:
        while kind not in STANDARD_TYPES:
            kind = kind.parent
        if kind in Comment:
            return COMMENT_CLASS
        name: str = STANDARD_TYPES[kind]
        return name if name in CODE_CLASSES else ""

    return class_of


def code_html(source: str, language: str = "") -> str:
    """Return source code in a ``<pre>``, coloured if the language is in the list above.

    The caller has to clean the HTML.

    Args:
        source: the code.
        language: any name of the language.
    """
    inner = None
    if (name := LANGUAGES.get(language.lower())) and len(source) <= MAX_COLOURED_CHARACTERS:
        try:
            inner = _coloured(source, name)
        except Exception:  # a fault of a lexer must cost the colours only, not the code
            inner = None
    if inner is None:
        inner = escape(source)
    # JupyterLab's style sheet gives a <pre> directly under jp-RenderedHTMLCommon the margins that code
    # has in its own Markdown, and colours what is inside "highlight".
    return f'<div class="jp-RenderedHTMLCommon"><pre><code class="highlight">{inner}</code></pre></div>\n'


def _coloured(source: str, name: str) -> str:
    class_of = _class_of()
    spans: list[tuple[str, list[str]]] = []
    for kind, text in _lexer(name).get_tokens(source):
        style = class_of(kind)
        # White space joins the span before it: fewer tags, and tags that never nest.
        if spans and (spans[-1][0] == style or text.isspace()):
            spans[-1][1].append(text)
        elif text:
            spans.append((style, [text]))
    parts = ((style, escape("".join(texts))) for style, texts in spans)
    return "".join(_styled(style, text) for style, text in parts)


def _styled(style: str, text: str) -> str:
    if style == COMMENT_CLASS:
        return f"<em>{text}</em>"
    return f'<span class="{style}">{text}</span>' if style else text
