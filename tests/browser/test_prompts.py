"""Tests of the colours of prompts: Markdown in a ``%%claude`` cell, Python in every other one."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import ROOT, FrontEnd, JupyterServer, Page
from playwright.sync_api import Locator

PROMPT = r"""%%claude -m claude-opus-5-5 answer <<
In **three** points, what *is* a p-value, and give it for {{ df["a"].mean() }}, not for \{{ b }}:

- if `scipy` has it
"""
PYTHON = "for x in range(3):\n    print(x, {{1}})"
BASH = "%%bash\nfor x in 1; do echo **no**; done"
#: The texts of a cell's editor that are keywords of Python, strong, marked as an expression, or the line of options.
LOOK = """content => {
    const texts = selector => [...content.querySelectorAll(selector)].map(element => element.textContent);
    const keywords = [...content.querySelectorAll('span')].filter(
        span => !span.children.length && getComputedStyle(span).fontWeight === '700'
            && /^(for|in|is|if|and|not)$/.test(span.textContent));
    const strong = [...content.querySelectorAll('span')].filter(
        span => getComputedStyle(span).fontWeight === '700' && /three/.test(span.textContent));
    return {keywords: keywords.map(span => span.textContent), strong: strong.length > 0,
            expressions: texts('.nbchat-expression').join(''), options: texts('.nbchat-options').join('')};
}"""


def assert_look(page: Page, number: int, **expected: object) -> None:
    """Assert that an editor has this look soon: it draws its colours when it has time."""
    for _ in range(100):
        seen = editor(page, number).evaluate(LOOK)
        if seen | expected == seen:
            break
        page.raw.wait_for_timeout(100)
    assert seen | expected == seen


def editor(page: Page, number: int) -> Locator:
    return page.raw.locator(".jp-CodeCell .cm-content").nth(number)


@pytest.mark.parametrize("front_end", ["lab", "notebook"])
def test_a_prompt_is_markdown_and_code_stays_python(server: JupyterServer, page: Page, front_end: FrontEnd):
    """The cell changes its colours with its first line, while it is typed."""
    server.write("prompts.ipynb", PROMPT, PYTHON, BASH)
    page.open("prompts.ipynb", front_end)
    editor(page, 0).locator(".nbchat-expression").first.wait_for()
    page.settle()
    page.screenshot(f"prompts-{front_end}")
    options = "%%claude -m claude-opus-5-5 answer <<"
    assert_look(page, 0, keywords=[], strong=True, expressions='{{ df["a"].mean() }}', options=options)
    assert_look(page, 1, keywords=["for", "in"], strong=False, expressions="", options="")
    assert_look(page, 2, expressions="", options="")

    editor(page, 1).click()
    page.raw.keyboard.press("Control+Home")
    page.raw.keyboard.type("%%claude\n")
    assert_look(page, 1, keywords=[], strong=False, expressions="{{1}}", options="%%claude")
    page.raw.keyboard.press("Control+Z")
    assert_look(page, 1, keywords=["for", "in"])
    assert not [error for error in page.errors if "nbchat" in error]


def test_the_wheel_puts_the_extension_where_jupyter_looks():
    """The folder of the extension, the entry of the wheel and the names inside agree."""
    import json
    import tomllib

    shared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    (folder, target), *_ = shared["shared-data"].items()
    package = json.loads((ROOT / folder / "package.json").read_text())
    assert target == f"share/jupyter/labextensions/{package['name']}"
    entry: Path = ROOT / folder / package["jupyterlab"]["_build"]["load"]
    assert f"['{package['name']}'] =" in entry.read_text()
