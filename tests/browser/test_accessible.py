"""Tests of accessibility: axe-core finds nothing serious in either theme, and the keyboard reaches every part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import axe_playwright_python
import pytest
from answers import SETUP, finish, started, wait_for
from harness import VIEWPORT, JupyterServer, Page

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
#: An answer with all its parts, which waits before it ends.
ASK = """
from nbchat.core.chunks import *
from nbchat.core.messages import *
from nbchat.core.response import Response

cited = {"type": "web_search_result_location", "url": "https://example.org", "title": "A page", "cited_text": "words"}
blocks = (
    ThinkingBlock("Let me *think*.", "signed"),
    ToolUseBlock("t1", "add", {"a": 1, "b": 2}),
    TextBlock(TEXT, (cited,)),
)
view = views(get_ipython(), cell_id="x", environ={})[0]
view.begin(REQUEST)
view.feed(BlockStart(0, ThinkingBlock("")))
view.feed(Thinking(0, blocks[0].thinking))
view.feed(BlockStop(0, blocks[0]))
view.feed(BlockStart(1, ToolUseBlock("t1", "add", {})))
view.feed(ToolInput(1, '{"a": 1, "b": 2}'))
view.feed(BlockStop(1, blocks[1]))
view.feed(ToolResult("t1", (TextBlock("3 it is"),)))
view.feed(BlockStart(2, TextBlock("")))
view.feed(OutputText(2, TEXT))
view.feed(BlockStop(2, blocks[2]))
view.feed(Notice("waiting for a moment"))
hold()
result = OpaqueBlock({"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "3 it is"}]})
messages = (Message.of("user", "hi"), Message("assistant", blocks), Message("user", (result,)))
view.settle(Response(text=TEXT, blocks=blocks, messages=messages, status="interrupted"))
"""


@pytest.fixture
def tall(page: Page) -> Page:
    """Return the page, high enough for the whole notebook, because axe-core ignores hidden parts."""
    page.raw.set_viewport_size({**VIEWPORT, "height": 2600})
    return page


def findings(page: Page, selector: str) -> list[str]:
    """Return the serious and critical findings of axe-core under the selector."""
    if not page.raw.evaluate("!!window.axe"):
        page.raw.evaluate(AXE)
    # JupyterLab's body has no height and hides overflow, so axe-core would take the whole page for invisible.
    found: dict[str, Any] = page.raw.evaluate(
        """async selector => {
            Object.assign(document.body.style, {height: '100vh', overflow: 'visible'});
            const found = await axe.run(selector, {resultTypes: ['violations', 'passes']});
            Object.assign(document.body.style, {height: '', overflow: ''});
            return found;
        }""",
        selector,
    )
    assert {"color-contrast"} <= {rule["id"] for rule in found["passes"] + found["violations"]}, "nothing was looked at"
    return [
        f"{rule['id']}: {node['html']} {node['failureSummary']}"
        for rule in found["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


def summaries_by_keyboard(page: Page) -> list[str]:
    """Open each fold in the second cell's output by Tab and Enter. Return the texts of their summaries."""
    page.raw.evaluate("document.querySelectorAll('.jp-CodeCell')[1].querySelector('.jp-OutputArea-output').focus()")
    reached: list[str] = []
    for _ in range(12):
        page.raw.keyboard.press("Tab")
        name = page.raw.evaluate("document.activeElement.tagName === 'SUMMARY' && document.activeElement.innerText")
        if name and name.strip() not in reached:
            page.raw.keyboard.press("Enter")
            assert page.raw.evaluate("document.activeElement.parentElement.open"), name
            reached.append(name.strip())
    return reached


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_axe_finds_nothing_serious_in_the_live_and_the_final_view(server: JupyterServer, tall: Page, theme: str):
    """axe-core checks contrast, names and structure, both while the answer arrives and in the final output."""
    page, slug = tall, theme.split()[-1].lower()
    started(server, page, f"axe-{slug}.ipynb", ASK)
    page.command("apputils:change-theme", {"theme": theme})
    wait_for(page, "The last paragraph")
    wait_for(page, "waiting for a moment")
    page.settle()
    assert findings(page, ".nbchat-live") == []
    # The arguments stand beside the summary of a live call, because the summary is not sent again.
    assert summaries_by_keyboard(page) == ["Thinking", "Tool call: add"]
    wait_for(page, "3 it is")
    assert findings(page, ".nbchat-live") == []
    page.screenshot(f"accessible-live-{slug}")
    announced = page.raw.locator(".nbchat-live [aria-live=polite]").all_inner_texts()
    assert any("A heading first" in text for text in announced)
    finish(server, page)
    assert findings(page, ".nbchat") == []
    assert len(summaries_by_keyboard(page)) == 2
    assert findings(page, ".nbchat") == []
    page.screenshot(f"accessible-final-{slug}")


EVERY_COLOUR = """
from IPython.display import display
from nbchat.view.html.render import wrap_answer
from nbchat.view.html.safe import CODE_CLASSES, clean
spans = (f'<span class="{name}">{name} of code</span>\\n' for name in sorted(CODE_CLASSES))
code = '<div class="highlight"><pre><code class="highlight">' + "".join(spans) + "</code></pre></div>"
display({"text/html": wrap_answer(clean(code)), "text/plain": ""}, raw=True)
"""


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_every_colour_of_code_has_enough_contrast(server: JupyterServer, tall: Page, theme: str):
    """Each colour of code has enough contrast, also colours that the answer above does not use."""
    page = tall
    server.write("colours.ipynb", SETUP, EVERY_COLOUR)
    page.open("colours.ipynb")
    page.command("apputils:change-theme", {"theme": theme})
    page.run_all()
    page.settle(1)
    page.screenshot(f"colours-{theme.split()[-1].lower()}")
    colours = page.raw.locator(".nbchat span").evaluate_all("spans => spans.map(e => getComputedStyle(e).color)")
    assert len(set(colours)) >= 4
    assert findings(page, ".nbchat") == []
