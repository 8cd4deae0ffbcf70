"""Tests of an answer whose kernel is killed in the middle, in JupyterLab and Notebook 7."""

from __future__ import annotations

import os
import signal

import nbformat
import pytest
from harness import FrontEnd, Page

TEXT = """# A heading first

The cost is $5, and $E = mc^2$ is a formula.

| a | b |
|---|---|
| 1 | 2 |

```python
def add(a, b):

    return a + b
```

- one
- two

"""
SETUP = f"""
%load_ext nbchat
import nbchat, os
TEXT = {TEXT!r} + "More words follow. " * 2000
settings = get_ipython().nbchat.settings

def look(place: str) -> str:
    return "seen"

answers = [{{"thinking": "Let me *think*."}}, {{"tool": "look", "input": {{"place": "$1 <b>$2"}}}}], [{{"text": TEXT}}]
settings.endpoints = {{"script": nbchat.ScriptedTransport(*answers, delay=0.02)}}
settings.endpoint = "script"
open("pid", "w").write(str(os.getpid()))
"""
ASK = "%%claude --tools look\nTell me more."


def kill_in_mid_answer(page: Page, name: str, front_end: FrontEnd) -> None:
    """Kill the kernel when the list of the answer has arrived."""
    page.server.write(name, SETUP, ASK)
    page.open(name, front_end)
    page.start_all()
    page.wait_until("() => document.querySelector('.nbchat-live')?.innerText.includes('More words follow')")
    os.kill(int((page.server.root / "pid").read_text()), signal.SIGKILL)


@pytest.mark.parametrize("front_end", ["lab", "notebook"])
def test_what_had_arrived_stays(page: Page, front_end: FrontEnd) -> None:
    """The text stands on the page, in the saved notebook and after a reload, without a widget and without an icon."""
    name = f"killed-{front_end}.ipynb"
    kill_in_mid_answer(page, name, front_end)
    page.raw.wait_for_selector(".nbchat-live", state="detached", timeout=60_000)
    page.settle()
    page.screenshot(f"killed-{front_end}-1-page")
    saved = page.save()
    page.reload()
    page.raw.wait_for_selector(".nbchat mjx-container", state="attached")
    page.settle()
    page.screenshot(f"killed-{front_end}-2-reloaded")
    shown = page.raw.locator(".nbchat").inner_text()
    for part in ("A heading first", "The cost is $5, and", "return a + b", "More words follow.", "broke off"):
        assert part in shown, part
    heads = page.raw.locator(".nbchat details > summary").all_inner_texts()
    assert heads == ["Thinking", "Tool call: look(place='$1 <b>$2')"]
    assert page.raw.locator(".nbchat details em").text_content() == "think"
    assert page.raw.locator(".nbchat table td").all_inner_texts() == ["1", "2"]
    assert page.raw.locator(".nbchat li").count() == 2
    assert page.raw.locator(".nbchat mjx-container").count() == 1
    assert page.raw.locator(".jupyter-widgets, .jupyter-widgets-disconnected").count() == 0
    (output,) = saved.cells[1].outputs
    assert sorted(output.data) == ["text/html", "text/plain"]
    assert output.metadata == {"nbchat": {"status": "incomplete"}}
    html, text = output.data["text/html"], output.data["text/plain"]
    assert r"\(E = mc^2\)" in html
    assert html.count("mathjax_ignore") == 1
    assert "&#10;&#10;" in html
    assert "\n\n" not in html
    assert "def add(a, b):" in text
    assert text.endswith("[the answer broke off: the kernel ended]")
    assert "widget" not in nbformat.writes(saved)


def test_without_the_extension_no_icon_is_shown(plain_page: Page) -> None:
    """Where the wheel is not beside JupyterLab, the page still shows the text without the icons of dead widgets."""
    page = plain_page
    kill_in_mid_answer(page, "plain.ipynb", "lab")
    page.raw.wait_for_selector(".jupyter-widgets-disconnected", state="attached", timeout=60_000)
    page.screenshot("killed-plain")
    icons = page.raw.evaluate(
        """() => [...document.querySelectorAll('.jupyter-widgets-disconnected')]
            .map(element => getComputedStyle(element, '::before').display)"""
    )
    assert set(icons) == {"none"}
    assert "More words follow" in page.raw.locator(".nbchat-live").inner_text()
