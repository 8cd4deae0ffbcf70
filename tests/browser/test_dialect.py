"""Tests of the dialect in JupyterLab: nested fences, pipes in tables, CJK emphasis, money and formulas."""

from __future__ import annotations

from typing import Any

from answers import finish, look, started, wait_for
from harness import JupyterServer, Page

TEXT = r"""The README:

```markdown
# Title in the document

Install it:

```bash
pip install x  # not 5 $
```

## Use in the document

It costs $5 and $6.
```

It costs \$3, $20/month (billed in US$), ~$30–40/mo; NT$ 900, 从$5到10$之间, and $HOME/$USER is a path.
The $n$th of the $x$s, the $(k+1)$st, $k$-means, $p$值, R$^2$ and 10$\mu$m.

| operator | meaning of it |
|----------|---------------|
| `a || b` | or |
| `a|b` | $|x|$ is the absolute value |
| $P(A|B)$ | conditional | and more |
| $5 | $6 |

**重要：**请注意。**「A」**なので**「B」**、**“引用”**很，**중요(重要)**는。

The last words.
"""
#: Counts of what the output of the second cell shows.
COUNTS = """() => {
    const output = document.querySelectorAll('.jp-CodeCell')[1].querySelector('.jp-OutputArea-output');
    const count = selector => output.querySelectorAll(selector).length;
    return {
        blocks: count('pre code'), headings: count('h1, h2'), formulas: count('mjx-container'),
        errors: count('mjx-merror, [data-mjx-error]'), cells: count('td'),
        strong: [...output.querySelectorAll('strong')].map(strong => strong.innerText),
    };
}"""


def test_an_answer_means_the_same_live_and_finished(server: JupyterServer, page: Page) -> None:
    """A document in a fence is one block all the time, and dollars are typeset only in formulas."""
    page.raw.set_viewport_size({"width": 1300, "height": 1500})
    started(server, page, "dialect.ipynb", f"r = ask(slowly({{'text': {TEXT!r}}}, delay=0.01, held=True))")
    wait_for(page, "## Use in the document")
    page.screenshot("dialect-arriving")
    arriving: dict[str, Any] = page.raw.evaluate(COUNTS)
    assert (arriving["blocks"], arriving["headings"]) == (1, 0)
    wait_for(page, "The last words.")
    page.wait_until("() => document.querySelectorAll('.jp-OutputArea mjx-container').length >= 9")
    page.screenshot("dialect-live")
    live: dict[str, Any] = page.raw.evaluate(COUNTS)
    finish(server, page)
    page.screenshot("dialect-final")
    final: dict[str, Any] = page.raw.evaluate(COUNTS)
    assert live == final
    assert final == {
        "blocks": 1,
        "headings": 0,
        "formulas": 9,
        "errors": 0,
        "cells": 8,
        "strong": ["重要：", "「A」", "「B」", "“引用”", "중요(重要)"],
    }
    text = look(page)["text"]
    for part in (
        "$3, $20/month (billed in US$), ~$30–40/mo; NT$ 900, 从$5到10$之间",
        "a || b",
        "conditional | and more",
    ):
        assert part in text
