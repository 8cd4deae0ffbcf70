"""Tests of the look of a finished answer in JupyterLab: formulas, colours in both themes, tables, money."""

from __future__ import annotations

import pytest
from harness import JupyterServer, Page

ANSWER = r'''
# Heading one

A paragraph with *emphasis*, **strong**, ~~struck~~, `code`, and money: it costs $5 and $10, not $x$ dollars.
Inline $e^{i\pi} + 1 = 0$ and \(\frac{a}{b}\), and a display:

$$
\int_0^\infty e^{-x^2}\,dx = \frac{\sqrt{\pi}}{2}
$$

\[
\begin{aligned} a &= b + c \\[2pt] &= \text{if $x > 0$} \end{aligned}
\]

## Lists

- [ ] a task to do
- [x] a task done
- an item
  1. nested, with code

     ```python
     def mean(values: list[float]) -> float:
         """The mean."""
         return sum(values) / len(values)  # no check

     print(mean([1, 2.5]), "done")
     ```
  2. and a formula: $a_1$

> A quotation with a [link](https://example.com) and https://example.org/bare.

| left | centre | right | unsaid |
|:-----|:------:|------:|--------|
| a    | b      | 1.00  | text   |
| c<br>d | $x^2$ | 22.50 | `code` |

```
no language,

with a blank line
```

![a chart](https://example.com/chart.png) and <b>raw</b> HTML.

---

The end.
'''

CELL = f"""
from IPython.display import display
from nbchat.core.messages import Message, OpaqueBlock, TextBlock, ThinkingBlock, ToolUseBlock
from nbchat.core.response import Response
from nbchat.view.html.render import render_response
web = {{"type": "web_search_result_location", "url": "https://example.com/a", "title": "A page", "cited_text": "so"}}
call = ToolUseBlock("t", "run_python", {{"code": "x = 1\\nprint(x)", "timeout": 3}})
result = OpaqueBlock({{"type": "tool_result", "tool_use_id": "t", "content": [{{"type": "text", "text": "1"}}]}})
text = TextBlock({ANSWER!r}), TextBlock("It is so", (web,)), TextBlock(".\\n")
blocks = (ThinkingBlock("Let me *think*."), call, *text)
answer = Response(text="", status="interrupted", blocks=blocks, messages=(Message("user", (result,)),))
display(render_response(answer), raw=True)
"""
COLOUR = "e => getComputedStyle(e).color"
#: Returns the variable of a theme as a computed colour.
VARIABLE = """name => {
    const probe = document.body.appendChild(document.createElement('i'));
    probe.style.color = `var(${name})`;
    const colour = getComputedStyle(probe).color;
    probe.remove();
    return colour;
}"""


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_an_answer_in_jupyterlab(server: JupyterServer, page: Page, theme: str) -> None:
    """Formulas are typeset, and amounts of money are not.

    Code has the theme's colours, and tables keep their alignment.
    """
    name = f"appearance-{theme.split()[-1].lower()}.ipynb"
    server.write(name, CELL)
    page.open(name)
    page.command("apputils:change-theme", {"theme": theme})
    page.run_all()
    page.raw.set_viewport_size({"width": 1300, "height": 2600})
    page.raw.wait_for_selector(".nbchat mjx-container")
    page.raw.evaluate("() => document.querySelectorAll('.nbchat details').forEach(d => { d.open = true; })")
    page.settle(1)
    page.screenshot(name.removesuffix(".ipynb"))

    assert page.raw.locator(".nbchat mjx-container").count() == 7
    assert page.raw.locator(".nbchat mjx-container[display='true']").count() == 2
    assert page.raw.locator(".nbchat mjx-merror, .nbchat [data-mjx-error]").count() == 0
    assert "it costs $5 and $10, not" in page.raw.inner_text(".nbchat > h1 + p")
    for style, variable in {"k": "keyword", "s2": "string", "mi": "number"}.items():
        shown = page.raw.eval_on_selector(f".nbchat li .highlight .{style}", COLOUR)
        assert shown == page.raw.evaluate(VARIABLE, f"--jp-mirror-editor-{variable}-color"), style
    comment = page.raw.locator(".nbchat li .highlight em")
    assert comment.inner_text().strip() == "# no check"
    assert comment.evaluate("e => getComputedStyle(e).fontStyle") == "italic"
    cells = page.raw.eval_on_selector_all(
        ".nbchat tbody tr:first-child td", "es => es.map(e => getComputedStyle(e).textAlign)"
    )
    assert cells == ["left", "center", "right", "left"]
    assert page.raw.eval_on_selector(".nbchat", "e => e.scrollWidth <= e.clientWidth")
    assert page.raw.locator(".nbchat details").count() == 2
    assert page.raw.inner_text(".nbchat > p:last-child") == "[interrupted]"
    assert page.dialogs == []
    assert page.errors == []
