"""Measure rendering at its worst: ``python bench/rendering.py``.

Code that makes lexers slow, formulas without end, and an answer of 50 MB. The times are those of the
processor. Prints a table, then PASS or FAIL for each limit. The exit status is 1 if a limit failed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from nbchat.core.chunks import OutputText
from nbchat.core.messages import TextBlock
from nbchat.core.response import Response
from nbchat.view.html.highlight import MAX_COLOURING_S, code_html
from nbchat.view.html.markdown import render_markdown
from nbchat.view.html.render import render_response
from nbchat.view.live.parts import Parts
from nbchat.view.live.view import LiveView

#: A block may take the budget, and one token in addition: nothing can stop a lexer inside a token.
MAX_BLOCK_S = MAX_COLOURING_S + 0.3
MAX_FORMULAS_S = 3.0
MAX_ANSWER_S = 10.0
#: A queue of chunks is taken in a time that is proportional to its length.
MAX_GROWTH = 2.0
CODE = {
    "csharp": "\ta\n",
    "c": "\n",
    "java": "a b.c",
    "groovy": "a\n",
    "matlab": "\n",
    "ocaml": "1",
    "scala": "a {",
    "console": "\\begin{",
    "cpp": "/",
}


def seconds(act: Callable[[], object]) -> float:
    """Return the processor time that a function takes."""
    began = time.thread_time()
    act()
    return time.thread_time() - began


def updates_s(count: int) -> float:
    """Return the time in which the live view takes a queue of ``count`` chunks, in as many updates as it needs."""
    view = LiveView()
    view._widgets = SimpleNamespace(sent=0, segments=0)
    view._parts = Parts(view._widgets, view._status)
    view._parts.show = lambda now: None  # what is drawn is measured elsewhere
    view._parts._feed_text = lambda texts, now: texts.clear()
    view._pending.extend([OutputText(0, "word ")] * count)

    def update() -> None:
        while view._pending:
            view._update()

    return seconds(update) / count


def main() -> int:
    """Measure, print, and return the exit status."""
    for language in CODE:
        code_html("a = 1\n", language)  # each lexer builds its tables at its first text
    answer = Response(text=(text := "word *b* `c`\n\n- x\n" * 2_800_000), blocks=(TextBlock(text),))
    results = []
    for language, pattern in CODE.items():
        source = (pattern * 20_000)[:20_000]
        results.append(
            (f"20 kB of {language}, {pattern!r}", seconds(partial(code_html, source, language)), MAX_BLOCK_S)
        )
    results.append(("100 kB of formulas", seconds(lambda: render_markdown("$a$ " * 25_000)), MAX_FORMULAS_S))
    results.append((f"an answer of {len(text) / 1e6:.0f} MB", seconds(lambda: render_response(answer)), MAX_ANSWER_S))
    few, many = updates_s(20_000), updates_s(400_000)
    for name, measured_s, limit_s in results:
        print(f"{'PASS' if measured_s <= limit_s else 'FAIL'}  {name:<36} {measured_s:6.2f} s  (limit {limit_s:.1f} s)")
    growth = many / few
    fits = growth <= MAX_GROWTH
    said = f"a chunk of a queue 20 times as long costs {growth:.2f} times (limit {MAX_GROWTH})"
    print(f"{'PASS' if fits else 'FAIL'}  {said}")
    return int(not fits or any(measured_s > limit_s for _, measured_s, limit_s in results))


if __name__ == "__main__":
    sys.exit(main())
