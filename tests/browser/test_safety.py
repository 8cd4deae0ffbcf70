"""Tests of hostile answers in real front ends: no script runs, no request is sent, and nothing covers the page.

The same payloads through ``display(Markdown(...))`` show that they are effective. A canary server keeps each request,
which names its payload. A script of a payload sets ``window.__pwned``.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from harness import FrontEnd, JupyterServer, Page, converted, notebook_outputs, write_untrusted
from markup import audit
from payloads import PAYLOADS, armed
from playwright.sync_api import Browser
from playwright.sync_api import Page as PlaywrightPage

from tests.support.thorough import THOROUGH

#: Displays each payload as a separate output.
CELL = """
import json, base64
from IPython.display import display, HTML, Markdown
payloads = json.loads(base64.b64decode({payloads!r}))
{show}
for name, text in payloads:
    show(name, text)
"""
#: JupyterLab shows the first 50 outputs of a cell and hides the others behind a button.
PER_CELL = 40
END = """
from IPython.display import display, HTML
display(HTML("<p>the end of " + "the corpus</p>"))
"""
SAFE = """
from nbchat.core.messages import TextBlock, ThinkingBlock, ToolUseBlock
from nbchat.core.response import Response
from nbchat.view.final import render
def show(name, text):
    cited = {"type": "web_search_result_location", "url": text, "title": text, "cited_text": text}
    call = ToolUseBlock("id", text, {"code": text})
    response = Response(text=text, blocks=(ThinkingBlock(text), call, TextBlock(text, (cited,))))
    display(render(response), raw=True)
"""
PLAIN = """
def show(name, text):
    display(Markdown(text.encode("utf-8", "replace").decode()))  # half a surrogate pair cannot be sent
"""
#: These payloads would spoil the plain run: ``<meta>`` leaves the page, and ``<base>`` makes JupyterLab
#: load its own scripts from the canary, so that MathJax and mermaid are never loaded.
SPOILERS = ("meta-", "load-15")


class Canary:
    """A server that must receive no request. ``heard`` are the paths of the requests."""

    def __init__(self) -> None:
        canary = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                canary.heard.append(self.path)
                self.send_response(200)
                self.send_header("Access-Control-Allow-Origin", "*")
                self.end_headers()

            do_POST = do_HEAD = do_OPTIONS = do_GET

            def log_message(self, *_: object) -> None:
                """Write nothing to the terminal."""

        self.heard: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def names(self) -> set[str]:
        """Return the names of the payloads that sent a request."""
        return {path.strip("/").split("/")[0].split("?")[0] for path in self.heard}

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def canary() -> Iterator[Canary]:
    canary = Canary()
    yield canary
    canary.stop()


def corpus_cells(canary: Canary, show: str, skip: tuple[str, ...] = ()) -> list[str]:
    """Return cells that display the payloads."""
    payloads = [(name, armed(text, f"{canary.url}/{name}")) for name, text in PAYLOADS if not name.startswith(skip)]
    cells = []
    for start in range(0, len(payloads), PER_CELL):
        packed = base64.b64encode(json.dumps(payloads[start : start + PER_CELL]).encode()).decode()
        cells.append(CELL.format(payloads=packed, show=show))
    return [*cells, END]


def wait_for_corpus(page: Page) -> None:
    """Wait until all payloads are on the page and their effects are over."""
    assert page.raw.locator("[data-mime-type='application/vnd.jupyter.stderr']").all_inner_texts() == []
    page.wait_until("() => document.body.textContent.includes('the end of the corpus')", timeout=30)
    page.settle(2)


def wait_for_requests(page: PlaywrightPage, canary: Canary, enough: Callable[[set[str]], bool]) -> None:
    """Wait until enough payloads have sent a request. A busy machine draws them late."""
    for _ in range(300):
        if enough(canary.names()):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"only these payloads sent a request: {sorted(canary.names())}")


def commands_run(page: Page) -> int:
    """Click all buttons, inputs and command links in the outputs. Return the number of panels that opened."""
    count = """() => [...window.jupyterapp.shell.widgets('main')].length"""
    before: int = page.raw.evaluate(count)
    page.raw.evaluate(
        """() => document.querySelectorAll(
            ['[data-commandlinker-command]', 'button', 'input'].map(kind => '.jp-OutputArea-output ' + kind).join()
        ).forEach(element => element.click())"""
    )
    page.settle(1)
    after: int = page.raw.evaluate(count)
    return after - before


def open_all(page: Page) -> None:
    """Open each ``<details>``, so that its content is drawn."""
    page.raw.evaluate(
        "() => document.querySelectorAll('.jp-OutputArea-output details').forEach(d => { d.open = true; })"
    )
    page.settle(1)


#: Elements that must not be in an output, except for those that MathJax makes.
TAGS = (
    "script|style|iframe|frame|object|embed|img|video|audio|source|link|meta|base|form|input|button|svg|math|template"
)
FOREIGN = f"""() => [...document.querySelectorAll('.jp-OutputArea-output *')]
    .filter(e => !e.closest('mjx-container'))
    .filter(e => /^({TAGS})$/i.test(e.tagName)
              || [...e.attributes].some(a => /^on|^(src|srcset|id|name|action|data-commandlinker)/i.test(a.name))
              || /^fixed|^absolute/.test(getComputedStyle(e).position))
    .map(e => e.outerHTML.slice(0, 200))"""
#: Formulas of MathJax that load or link something, or are much higher than a line. There must be none.
FORMULAS = """() => [...document.querySelectorAll('mjx-container')].filter(e => {
    const box = e.getBoundingClientRect();
    return e.querySelector('a, img, mjx-mglyph, [href], [src]') || box.height > 400;
}).map(e => e.outerHTML.slice(0, 300))"""


def assert_inert(page: Page, canary: Canary, where: str) -> None:
    """Assert that all payloads are on the page and have no effect."""
    open_all(page)
    assert page.raw.evaluate("() => window.__pwned") is None, where
    assert page.dialogs == [], where
    assert canary.heard == [], where
    assert page.raw.evaluate(FOREIGN) == [], where
    assert page.raw.evaluate(FORMULAS) == [], where
    shown = [html for html in page.outputs() if "nbchat" in html]
    assert len(shown) == len(PAYLOADS), where
    assert commands_run(page) == 0, where
    assert page.raw.url.startswith(page.server.url), where
    assert canary.heard == [], where


@pytest.mark.parametrize("front_end", ["lab", "notebook"])
def test_the_payloads_have_no_effect(
    server: JupyterServer, browser: Browser, page: Page, canary: Canary, tmp_path: Path, front_end: FrontEnd
) -> None:
    """The payloads have no effect in a new page, after a reload, in an untrusted copy, and in a page of nbconvert."""
    name = f"inert-{front_end}.ipynb"
    server.write(name, *corpus_cells(canary, SAFE))
    page.open(name, front_end)
    page.run_all()
    wait_for_corpus(page)
    page.screenshot(f"safety-{front_end}-fresh")
    assert_inert(page, canary, "fresh")

    saved = page.save()
    outputs = [output for output in notebook_outputs(saved) if "nbchat" in output.data["text/html"]]
    assert len(outputs) == len(PAYLOADS)
    assert {key for output in outputs for key in output.data} == {"text/html", "text/latex", "text/plain"}
    for output in outputs:
        audit(output.data["text/html"])
    page.reload()
    wait_for_corpus(page)
    assert_inert(page, canary, "reloaded, trusted")

    copy = f"untrusted-{front_end}.ipynb"
    write_untrusted(saved, server.root / copy)
    page.open(copy, front_end)
    wait_for_corpus(page)
    assert_inert(page, canary, "reopened, untrusted")

    if front_end == "lab":
        assert_inert_as_page(browser, canary, server.root / name, tmp_path)


@contextmanager
def exported_page(browser: Browser, canary: Canary, notebook: Path, folder: Path) -> Iterator[PlaywrightPage]:
    """Yield the open page that nbconvert makes of a notebook. Requests for its own scripts are blocked."""
    exported = converted(notebook, "html", folder)
    context = browser.new_context()
    page = context.new_page()
    page.route(lambda url: not url.startswith(("file:", "data:", "about:", canary.url)), lambda route: route.abort())
    page.goto(exported.as_uri(), wait_until="domcontentloaded")
    page.wait_for_timeout(3_000)
    yield page
    context.close()


def assert_inert_as_page(browser: Browser, canary: Canary, notebook: Path, folder: Path) -> None:
    """Assert that the payloads have no effect in the page that nbconvert makes."""
    with exported_page(browser, canary, notebook, folder) as page:
        assert "the end of the corpus" in page.inner_text("body")
        assert page.evaluate("() => window.__pwned") is None
        assert canary.heard == []
        foreign = FOREIGN.replace(".jp-OutputArea-output *", ".jp-OutputArea-output .nbchat *")
        assert page.evaluate(foreign) == []
        assert page.url.startswith("file:")


# Notebook 7 draws Markdown as JupyterLab does. THOROUGH=1 shows that.
@pytest.mark.parametrize("front_end", ["lab", *["notebook"] * THOROUGH])
def test_the_payloads_are_effective_as_markdown(
    server: JupyterServer, browser: Browser, new_page: Page, canary: Canary, tmp_path: Path, front_end: FrontEnd
) -> None:
    """The same payloads, displayed as Markdown, run scripts, send requests and have command links, exported too."""
    page, name = new_page, f"bites-{front_end}.ipynb"
    server.write(name, *corpus_cells(canary, PLAIN, skip=SPOILERS))
    page.open(name, front_end)
    page.run_all()
    wait_for_corpus(page)
    page.screenshot(f"safety-{front_end}-plain")
    assert page.raw.evaluate("() => window.__pwned") == 1
    kinds = {"load", "style", "tex", "frame", "fence", "mermaid"}

    def enough(heard: set[str]) -> bool:
        return len(heard) >= 25 and all(any(one.startswith(kind) for one in heard) for kind in kinds)

    wait_for_requests(page.raw, canary, enough)
    assert page.raw.locator(".jp-OutputArea-output [data-commandlinker-command]").count() >= 3
    if front_end == "lab":
        page.save()
        canary.heard.clear()
        with exported_page(browser, canary, server.root / name, tmp_path) as exported:
            assert exported.evaluate("() => window.__pwned") == 1
            wait_for_requests(exported, canary, lambda heard: len(heard) >= 20)


def test_many_payloads_run_a_script_as_markdown(server: JupyterServer, new_page: Page, canary: Canary) -> None:
    """Many payloads of several classes run a script if they are displayed as Markdown, one by one."""
    show = """
import re
def show(name, text):
    text = re.sub(r"\\b(window|top)\\.__pwned", "top.__by_" + name.replace("-", "_"), text)
    display(Markdown(text.encode("utf-8", "replace").decode()))
"""
    page = new_page
    server.write("one-by-one.ipynb", *corpus_cells(canary, show, skip=SPOILERS))
    page.open("one-by-one.ipynb")
    page.run_all()
    wait_for_corpus(page)
    keys = "Object.keys(window).filter(key => key.startsWith('__by_'))"
    page.wait_until(f"() => {keys}.length >= 30", timeout=30)
    ran = {key.removeprefix("__by_") for key in page.raw.evaluate(keys)}
    assert len(ran) >= 30, sorted(ran)
    assert {one.rsplit("_", 1)[0] for one in ran} >= {"script", "handler", "frame", "fence", "svg"}, sorted(ran)
