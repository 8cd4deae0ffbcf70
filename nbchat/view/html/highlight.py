"""Source code as coloured HTML.

Pygments adds classes only. The colours come from the theme of the front end, so that they fit it.

Many lexers need a time that is quadratic in the length of a hostile text. For example, 16 kB of
``\\ta\\n`` in a C# fence took 38 s. So only the first characters of a block are coloured, and a block
is shown without colours in these cases:

- It has a long run of white space or, for some lexers, a long line. The expressions of many lexers
  search such a run again from each of its characters, and nothing can stop the search of one token.
- The lexer is too slow. A lexer returns one token after another, and the clock is read between them.

All limits but the last depend on nothing but the text. So the same text has the same HTML on every
machine, except for a text that is made to be slow.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

from nbchat.threads import thread_time
from nbchat.view.html.safe import CODE_CLASSES, escape

if TYPE_CHECKING:
    from collections.abc import Callable

    from nbchat.view.html.budget import Budget

__all__ = ["code_html"]

#: The rest of longer code is shown without colours.
MAX_COLOURED_CHARACTERS = 50_000
#: A block with a longer run of white space has no colours.
MAX_WHITE_SPACE_CHARACTERS = 400
#: A block with a longer line has no colours, if its lexer is one of ``LINE_LEXERS``.
MAX_LINE_CHARACTERS = 1_000
#: The lexers that search a long line again from each of its characters.
LINE_LEXERS = frozenset({"console", "ini", "ocaml", "matlab", "octave", "ruby"})
#: A block has no colours if its lexer needs more time than this,
MAX_COLOURING_S = 0.2
#: or more than this for each character: ordinary code needs a fifth of that.
MAX_COLOURING_S_PER_CHARACTER = 10e-6
#: A busy machine must not cost the colours, so this is not the clock on the wall.
_clock = thread_time
#: The clock is read after this many tokens, because reading it costs as much as a short token.
TOKENS_BETWEEN_READINGS = 16

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


class TooSlowError(Exception):
    """The lexer needs too much time for a text."""


def code_html(source: str, language: str = "", budget: Budget | None = None) -> str:
    """Return source code in a ``<pre>``, coloured if the language is in the list above.

    The caller has to clean the HTML.

    Args:
        source: the code.
        language: any name of the language.
        budget: how many slow blocks the answer may still have.
    """
    inner = None
    if (name := LANGUAGES.get(language.lower())) and (budget is None or budget.slow_blocks):
        try:
            inner = _coloured(source, name)
        except TooSlowError:
            if budget is not None:
                budget.slow_blocks -= 1
        except Exception:  # a fault of a lexer must cost the colours only, not the code
            inner = None
    if inner is None:
        inner = escape(source)
    # JupyterLab's style sheet gives a <pre> directly under jp-RenderedHTMLCommon the margins that code
    # has in its own Markdown, and colours what is inside "highlight".
    return f'<div class="jp-RenderedHTMLCommon"><pre><code class="highlight">{inner}</code></pre></div>\n'


_LONG_WHITE_SPACE = re.compile(rf"\s{{{MAX_WHITE_SPACE_CHARACTERS + 1}}}")


def _coloured(source: str, name: str) -> str | None:
    """Return code with colours, or None if the code may be too slow for its lexer.

    Raises:
        TooSlowError: the lexer needs too much time.
    """
    source, rest = _split_at_limit(source)
    if _is_slow_for(name, source):
        return None
    # This lexer reads whole lines only, and would drop a last line without a newline.
    added = "\n" if name == "console" and not source.endswith("\n") else ""
    spans = _spans(source + added, name)
    length = sum(len(text) for _, texts in spans for text in texts)
    if length < len(source.removeprefix("\ufeff").replace("\r\n", "\n")):
        return None  # a fault of the lexer must not cost any code
    if added and spans:
        spans[-1][1][-1] = spans[-1][1][-1].removesuffix(added)
    parts = ((style, escape("".join(texts))) for style, texts in spans)
    return "".join(_styled(style, text) for style, text in parts) + escape(rest)


def _is_slow_for(name: str, source: str) -> bool:
    """Return True if a lexer is known to need too much time for code like this."""
    if name != "json" and _LONG_WHITE_SPACE.search(source):
        return True
    return name in LINE_LEXERS and max(map(len, source.splitlines()), default=0) > MAX_LINE_CHARACTERS


def _spans(source: str, name: str) -> list[tuple[str, list[str]]]:
    """Return the code as spans of one style each, with the texts of each span.

    Raises:
        TooSlowError: the lexer needs too much time.
    """
    class_of, lexer = _class_of(), _lexer(name)
    end = _clock() + max(MAX_COLOURING_S, MAX_COLOURING_S_PER_CHARACTER * len(source))
    spans: list[tuple[str, list[str]]] = []
    for number, (kind, text) in enumerate(lexer.get_tokens(source)):
        if not number % TOKENS_BETWEEN_READINGS and _clock() > end:
            raise TooSlowError
        style = class_of(kind)
        # White space joins the span before it: fewer tags, and tags that never nest.
        if spans and (spans[-1][0] == style or text.isspace()):
            spans[-1][1].append(text)
        elif text:
            spans.append((style, [text]))
    return spans


def _split_at_limit(source: str) -> tuple[str, str]:
    """Return the lines that are coloured, and the rest."""
    if len(source) <= MAX_COLOURED_CHARACTERS:
        return source, ""
    cut = source.rfind("\n", 0, MAX_COLOURED_CHARACTERS) + 1 or MAX_COLOURED_CHARACTERS
    return source[:cut], source[cut:]


def _styled(style: str, text: str) -> str:
    if style == COMMENT_CLASS:
        return f"<em>{text}</em>"
    return f'<span class="{style}">{text}</span>' if style else text
