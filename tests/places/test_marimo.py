"""``nbchat.ask`` in a real marimo in Chromium: the answer while it arrives, and the safe answer that stays."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import LIKE_A_PERSON, launch_chromium
from playwright.sync_api import Page, sync_playwright

from tests.places.make_environments import MARIMO, make_marimo
from tests.support.waiting import wait_for

NOTEBOOK = '''
import marimo

app = marimo.App()


@app.cell
def _():
    import contextlib, os, time
    import nbchat

    ANSWER = r"""# Title

A formula $\\beta_1\\,x < 2$, <script>window.unsafe = 1</script><img src=x onerror="window.unsafe = 1">
and $\\href{javascript:window.unsafe=1}{click}$ at a price of $5 or $6.

| a | b |
|---|--:|
| 1 | 2 |

$$\\int_0^1 x\\,dx$$

The end.
"""

    class Held(nbchat.ScriptedTransport):
        "Sends the beginning and the end of an answer when the test has made a file."

        @contextlib.contextmanager
        def stream(self, request):
            with super().stream(request) as events:
                yield self.held(events)

        def held(self, events):
            text = ""
            for event in events:
                while not os.path.exists("begin"):
                    time.sleep(0.02)
                while "dx" in text and not os.path.exists("end"):
                    time.sleep(0.1)
                    # marimo draws what arrives when something arrives.
                    yield {**event, "delta": {"type": "text_delta", "text": " "}}
                yield event
                text += event.get("delta", {}).get("text", "")

    nbchat.use_session(nbchat.Session(Held(ANSWER, repeat=True, delay=0.02)))
    return (nbchat,)


@app.cell
def _(nbchat):
    nbchat.ask("Shown")
    return


@app.cell
def _(nbchat):
    kept = nbchat.ask("Not shown")
    return (kept,)


@app.cell
def _(kept):
    f"the other one: {kept.status}, {len(kept.text)} characters"
    return


if __name__ == "__main__":
    app.run()
'''


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    """Yield the page of the notebook, which runs its cells now."""
    make_marimo()
    (tmp_path / "notebook.py").write_text(NOTEBOOK)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    host, port = address.split(":")
    command = [MARIMO, "-q", "run", "notebook.py", "--headless", "--no-token", "--host", host, "--port", port]
    env = {**os.environ, **LIKE_A_PERSON, "HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    env.pop("PYTHONPATH", None)
    server = subprocess.Popen(command, cwd=tmp_path, env=env, stdin=subprocess.DEVNULL)
    try:
        wait_for(lambda: _answers(f"http://{address}/health"), seconds=180)
        with sync_playwright() as playwright:
            browser = launch_chromium(playwright)
            page = browser.new_page(viewport={"width": 1000, "height": 900})
            page.set_default_timeout(60_000)
            page.goto(f"http://{address}")
            yield page
            browser.close()
    finally:
        server.terminate()
        server.wait(60)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False


def test_an_answer_arrives_live_and_stays_safe(page: Page, tmp_path: Path):
    """The cell shows the answer as it grows. In the end it shows the Response, and a cell without one shows nothing."""
    page.get_by_text("waiting for the first word").wait_for()
    (tmp_path / "begin").touch()
    answer = page.locator(".nbchat")
    answer.get_by_text("A formula").first.wait_for()
    assert "The end." not in answer.inner_text(), "the first picture came while the answer arrived"
    assert re.search(r"scripted · \d+ s · ~\d+ tokens", answer.inner_text())
    (tmp_path / "end").touch()

    page.get_by_text("the other one: complete").wait_for()
    assert answer.count() == 1, "the answer that is only assigned was cleared"
    assert "The end." in answer.inner_text()
    assert "waiting" not in page.locator("body").inner_text()
    assert answer.locator("h1, table, td").count() == 4
    assert answer.locator("h1").evaluate("title => parseFloat(getComputedStyle(title).fontSize)") > 20
    assert answer.locator(".katex").count() >= 2
    assert answer.locator("script, img, [onerror], a[href^=javascript]").count() == 0
    assert "$5 or $6" in answer.inner_text()
    for click in answer.get_by_text("click").all():
        click.click()
    assert page.evaluate("window.unsafe") is None
