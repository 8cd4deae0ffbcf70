"""Tests of the pictures that an answer made, in real front ends, also in a notebook that is not trusted."""

from __future__ import annotations

import pytest
from harness import FrontEnd, JupyterServer, Page, write_untrusted

SHOW = """
import base64
from IPython.display import display
from nbchat.core.files import AnswerFile, AnswerFiles
from nbchat.core.response import Response
from nbchat.view.html.render import render_response
png = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ"
    "AAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
name = '"><img src=x onerror="window.__pwned=1">.png'
files = AnswerFiles([AnswerFile("file_1", name, "image/png", len(png), data=png)])
display(render_response(Response("Here it is: ![x](https://evil.example/x.png)", files=files)), raw=True)
"""
PICTURES = """() => Array.from(document.querySelectorAll(".nbchat img"), image =>
    [image.src.slice(0, 22), image.complete && image.naturalWidth, image.alt])"""


@pytest.mark.parametrize("front_end", ["lab", "notebook"])
def test_a_picture_is_drawn_and_its_name_does_nothing(server: JupyterServer, page: Page, front_end: FrontEnd) -> None:
    name = f"picture-{front_end}.ipynb"
    server.write(name, SHOW)
    page.open(name, front_end)
    page.run_all()
    shown = [["data:image/png;base64,", 1, '"><img src=x onerror="window.__pwned=1">.png']]
    assert page.raw.evaluate(PICTURES) == shown
    write_untrusted(page.save(), server.root / f"untrusted-{name}")
    page.open(f"untrusted-{name}", front_end)
    page.settle()
    assert page.raw.evaluate(PICTURES) == shown
    assert page.raw.evaluate("() => window.__pwned") is None
