"""Tests that a streamed answer stays in its notebook: after a restart, in other formats, and for other users."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from answers import TEXT
from harness import (
    FrontEnd,
    JupyterServer,
    Page,
    converted,
    notebook_outputs,
    write_untrusted,
)
from playwright.sync_api import Browser

from tests.kernel.harness import environment

SETUP = f"""
%load_ext nbchat
import nbchat

TEXT = {TEXT!r}
PROGRAM = "x = 1\\n\\nprint(x)"

def add(a: int, b: int) -> int:
    "Adds."
    return a + b

script = nbchat.ScriptedTransport(
    [{{"thinking": "Let me *think*."}}, {{"tool": "add", "input": {{"a": 1, "b": 2}}}}],
    [{{"text": TEXT}}, {{"text": f"\\n```python\\n{{PROGRAM}}\\n```\\n"}}],
    delay=0.03,
)
settings = get_ipython().nbchat.settings
settings.endpoints, settings.endpoint = {{"script": script}}, "script"
"""
ASK = "%%claude answer << --tools add\nAdd, and tell me more."
CELLS = (SETUP, ASK, "print(answer.status)")
#: Words of each part of the answer, as a page shows them.
PARTS = ("Let me think.", "Tool call: add", "Result", "A heading first", "nested", "A quote of somebody.", "print(x)")
#: Returns the text of the answer, with all folds opened.
SAYS = """() => {
    const answers = [...document.querySelectorAll('.nbchat')];
    for (const fold of document.querySelectorAll('.nbchat details')) fold.open = true;
    return answers.map(answer => answer.innerText).join('\\n');
}"""


def says(page: Page) -> str:
    page.settle(1)
    said: str = page.raw.evaluate(SAYS)
    return said


def streamed(page: Page, name: str, front_end: FrontEnd) -> nbformat.NotebookNode:
    """Run a notebook in a front end, wait until its answer was streamed, and save the notebook."""
    page.server.write(name, *CELLS)
    page.open(name, front_end)
    page.start_all()
    page.raw.wait_for_selector(".nbchat-live h1", state="attached", timeout=60_000)
    page.wait_idle()
    return page.save()


@pytest.mark.parametrize("front_end", ["lab", "notebook"])
def test_the_answer_stays_after_reload_restart_and_reopening(
    server: JupyterServer, page: Page, front_end: FrontEnd
) -> None:
    """The answer stays after a reload, a kernel restart, reopening, and opening by a user who does not trust it."""
    name = f"stays-{front_end}.ipynb"
    saved = streamed(page, name, front_end)
    said = says(page)
    for part in (*PARTS, "costs $5 and not $6"):
        assert part in said, part
    answer, printed = notebook_outputs(saved)
    assert sorted(answer.data) == ["text/html", "text/latex", "text/plain"]
    assert printed.text == "complete\n"
    assert "widget" not in nbformat.writes(saved)
    page.reload()
    assert says(page) == said
    page.raw.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.restartKernel()")
    page.wait_idle()
    assert says(page) == said
    server.shut_kernels()
    page.open(name, front_end)
    assert says(page) == said
    write_untrusted(saved, server.root / f"untrusted-{name}")
    page.open(f"untrusted-{name}", front_end)
    assert page.raw.evaluate("window.jupyterapp.shell.currentWidget.content.model.cells.get(1).trusted") is False
    assert says(page) == said
    page.screenshot(f"lasting-untrusted-{front_end}")
    assert page.dialogs == []


def test_other_formats_contain_the_answer(server: JupyterServer, page: Page, browser: Browser, tmp_path: Path) -> None:
    """nbconvert writes a page that needs no script, Markdown with the answer as one block of HTML, and LaTeX."""
    path = server.root / "convert.ipynb"
    streamed(page, path.name, "lab")
    exported = converted(path, "html", tmp_path)
    context = browser.new_context(java_script_enabled=False, viewport={"width": 1000, "height": 2000}, offline=True)
    tab = context.new_page()
    tab.goto(exported.as_uri(), wait_until="domcontentloaded")
    answer = tab.locator(".nbchat")
    assert "Let me think." not in answer.inner_text()
    for fold in answer.locator("summary").all():
        fold.click()
    for part in PARTS:
        assert part in answer.inner_text(), part
    assert answer.locator("em").first.evaluate("e => getComputedStyle(e).fontStyle") == "italic"
    context.close()

    from markdown_it import MarkdownIt

    text = converted(path, "markdown", tmp_path).read_text(encoding="utf-8")
    assert "&#10;&#10;" in text
    (block,) = (token for token in MarkdownIt("commonmark").parse(text) if 'class="nbchat' in token.content)
    assert block.type == "html_block"
    for part in ("<summary>Thinking</summary>", "A quote of somebody.", "&#10;&#10;", "</div>"):
        assert part in block.content, part
    assert "widget" not in text

    latex = converted(path, "latex", tmp_path).read_text(encoding="utf-8")
    assert r"\begin{document}" in latex
    for part in (
        r"\subsection*{A heading first",
        "\\begin{quote}\nA quote of somebody.",
        r"\begin{Verbatim}",
        "print(x)",
    ):
        assert part in latex, part
    assert "<details" not in latex


def test_a_streamed_answer_passes_strict_nbval_twice(page: Page) -> None:
    """A notebook that was run live and saved by JupyterLab passes nbval, which compares each output."""
    streamed(page, "nbval.ipynb", "lab")
    home = page.server.root / "home"
    command = [sys.executable, "-m", "pytest", "--nbval", "nbval.ipynb", "-q", "-p", "no:cacheprovider"]
    for _ in range(2):
        done = subprocess.run(
            command, cwd=page.server.root, env=environment(home), capture_output=True, text=True, timeout=300
        )
        assert "3 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("front_end", ["lab", "notebook"])
def test_show_displays_an_answer_whose_page_was_reloaded(
    server: JupyterServer, page: Page, front_end: FrontEnd
) -> None:
    """``%nbchat show`` displays the answer that the kernel kept when the page was reloaded during the answer."""
    server.write(f"reload-{front_end}.ipynb", SETUP, ASK, "%nbchat show")
    page.open(f"reload-{front_end}.ipynb", front_end)
    for _ in range(2):
        page.start_next()
    page.raw.wait_for_selector(".nbchat-live ul", timeout=60_000)
    page.save()
    page.reload()
    page.wait_idle()
    page.raw.locator(".jp-CodeCell").nth(2).locator(".jp-InputArea-editor").click()
    page.command("notebook:run-cell")
    page.wait_idle()
    shown = page.raw.locator(".jp-CodeCell").nth(2).locator(".nbchat")
    shown.wait_for()
    said = says(page)
    for part in (*PARTS, "costs $5 and not $6"):
        assert part in said, part
    assert page.raw.locator(".nbchat-live").count() == 0
