"""marimo: the answer is shown while it arrives, and formulas are typeset, in marimo's own output.

marimo runs cells without IPython. ``nbchat.ask(…)`` as the last expression of a cell shows its Response.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from nbchat.core.chunks import OutputText, StreamChunk, stands_apart
from nbchat.core.messages import line_ends_between
from nbchat.core.request import Request, Sink
from nbchat.core.response import Response
from nbchat.core.visible import visible_line
from nbchat.engine.host import PlainHost
from nbchat.view.final import render
from nbchat.view.html.markdown import render_markdown
from nbchat.view.html.render import wrap_answer
from nbchat.view.html.safe import escape
from nbchat.view.status import Status

if TYPE_CHECKING:
    from nbchat.view.status import Cost

__all__ = ["MarimoHost", "MarimoView", "in_marimo", "mime_of"]

#: Time between two pictures of an answer, and the share of the time that drawing may take.
INTERVAL_S, DRAWING_SHARE = 0.25, 0.1
#: A formula in safe HTML, as :mod:`nbchat.view.html.formula` writes it.
_FORMULA = re.compile(r'<span class="mathjax_process tex2jax_process">\\([(\[])([^<]*)\\[)\]]</span>')


def in_marimo() -> bool:
    """Return True if a cell of marimo runs this code. marimo is not imported to find out."""
    package = sys.modules.get("marimo")
    return package is not None and bool(package.running_in_notebook())


def mime_of(response: Response) -> tuple[str, str]:
    """Return the media type and the safe HTML of a Response, as marimo's ``_mime_`` protocol wants them."""
    return "text/html", _as_markdown(render(response)["text/html"])


def _as_markdown(html: str) -> str:
    """Return the HTML of an answer with the look of marimo's own Markdown.

    The classes are those of ``mo.md``. Formulas become the elements that marimo typesets, with KaTeX, which
    by default refuses commands that make links or HTML: https://katex.org/docs/options#trust
    """

    def typeset(formula: re.Match[str]) -> str:
        opening, tex = formula.groups()
        return f'<marimo-tex class="arithmatex">||{opening}{tex}||{")" if opening == "(" else "]"}</marimo-tex>'

    return f'<div class="markdown prose dark:prose-invert">\n{_FORMULA.sub(typeset, html)}</div>'


class MarimoHost(PlainHost):
    """A cell of marimo. Questions of tools have nobody to answer them, as in a script without a terminal."""

    def views(self, cost: Cost) -> Iterable[Sink]:
        return [MarimoView(cost)]

    @property
    def can_ask(self) -> bool:
        return False

    def ask(self, prompt: str) -> str:
        raise EOFError("marimo has no line to ask on")


class MarimoView:
    """A sink that shows an answer in the output of the cell until the answer is complete.

    Then the cell shows what marimo shows for it: the value of its last expression.
    """

    def __init__(self, cost: Cost | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._status = clock, Status(clock(), cost)
        self._text, self._apart, self._next = "", False, 0.0

    def begin(self, request: Request) -> None:
        self._status.begin(request)
        self._draw()

    def feed(self, chunk: StreamChunk) -> None:
        self._status.take(chunk, self._clock())
        self._apart = self._apart or stands_apart(chunk)
        if isinstance(chunk, OutputText) and chunk.text:
            self._text += (line_ends_between(self._text, chunk.text) if self._apart else "") + chunk.text
            self._apart = False
        if self._clock() >= self._next:
            self._draw()

    def settle(self, response: Response) -> None:
        self._output().clear()

    def _draw(self) -> None:
        began = self._clock()
        line = escape(visible_line(self._status.line(began)))
        html = wrap_answer(render_markdown(self._text) + f"<p><small>{line}</small></p>\n")
        self._output().replace(sys.modules["marimo"].Html(_as_markdown(html)))
        # marimo sends the whole output each time. A long answer is drawn less often.
        self._next = self._clock() + max(INTERVAL_S, (self._clock() - began) / DRAWING_SHARE)

    @staticmethod
    def _output() -> Any:
        return sys.modules["marimo"].output
