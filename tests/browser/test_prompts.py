"""Tests of the colours of prompts: Markdown in a ``%%claude`` cell, Python in every other one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import ROOT, FrontEnd, JupyterServer, Page, open_page
from playwright.sync_api import Browser, Locator

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


@pytest.fixture(scope="module")
def coloured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterServer]:
    """Yield a server that has the extension as the wheel installs it."""
    root = tmp_path_factory.mktemp("prompts")
    home = root.parent / f"{root.name}-jupyter"
    shutil.copytree(ROOT / "labextension", home / "data" / "labextensions" / "nbchat-prompts")
    server = JupyterServer(root)
    yield server
    server.stop()


def editor(page: Page, number: int) -> Locator:
    return page.raw.locator(".jp-CodeCell .cm-content").nth(number)


@pytest.mark.parametrize("front_end", ["lab", "notebook"])
def test_a_prompt_is_markdown_and_code_stays_python(coloured: JupyterServer, browser: Browser, front_end: FrontEnd):
    """The cell changes its colours with its first line, while it is typed."""
    coloured.write("prompts.ipynb", PROMPT, PYTHON, BASH)
    with open_page(coloured, browser) as page:
        page.open("prompts.ipynb", front_end)
        editor(page, 0).locator(".nbchat-expression").first.wait_for()
        page.settle()
        page.screenshot(f"prompts-{front_end}")
        prompt, python, bash = (editor(page, number).evaluate(LOOK) for number in range(3))
        assert prompt == {
            "keywords": [],
            "strong": True,
            "expressions": '{{ df["a"].mean() }}',
            "options": "%%claude -m claude-opus-5-5 answer <<",
        }
        assert python == {"keywords": ["for", "in"], "strong": False, "expressions": "", "options": ""}
        assert (bash["expressions"], bash["options"]) == ("", "")

        editor(page, 1).click()
        page.raw.keyboard.press("Control+Home")
        page.raw.keyboard.type("%%claude\n")
        page.settle()
        typed = editor(page, 1).evaluate(LOOK)
        assert typed == {"keywords": [], "strong": False, "expressions": "{{1}}", "options": "%%claude"}
        page.raw.keyboard.press("Control+Z")
        page.settle()
        assert editor(page, 1).evaluate(LOOK)["keywords"] == ["for", "in"]
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
