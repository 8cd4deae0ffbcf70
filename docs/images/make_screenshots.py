"""Make ``build/screenshots/index.html``: pictures of what people see, to be looked through.

    python docs/images/make_screenshots.py [lab-light] [lab-dark] [notebook] [terminal]

Every scene is a cell that really runs, in a JupyterLab or Notebook 7 in Chromium, or in IPython in a
terminal. A script answers (:data:`CONFIGURATION`), so the pictures need no account and change only with nbchat.
"""

from __future__ import annotations

import html
import itertools
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
for folder in (ROOT, ROOT / "tests" / "browser"):
    sys.path.insert(0, str(folder))

from harness import LIKE_A_PERSON, SCREENSHOTS, FrontEnd, JupyterServer, Page, launch_chromium, open_page  # noqa: E402
from playwright.sync_api import Browser, sync_playwright  # noqa: E402

#: The configuration of IPython: the endpoint is a script that answers by the words of the prompt.
CONFIGURATION = r'''
import time
from nbchat import ScriptedTransport, errors

ANSWERS = {
    "regression": """A linear regression estimates how the mean of an outcome changes with its predictors:

$$\\hat{y}_i = \\beta_0 + \\beta_1\\,\\text{qty}_i$$

| term | meaning | unit |
|:-----|:--------|-----:|
| $\\beta_0$ | price of an empty order | € |
| $\\beta_1$ | price of **one more** item | € each |

```python
import numpy as np

slope, intercept = np.polyfit(orders["qty"], orders["price"], deg=1)
print(f"{slope:.2f} € for each item")  # an estimate, not a law
```
""",
    "lighthouse": "The keeper climbed the stairs with his lamp, step by step. "
    + " ".join(f"In night {number} the wind turned, and he counted {7 * number} waves." for number in range(1, 200)),
    "complaints": """[{"product": "kettle", "about": "delivery", "stars": 3},
        {"product": "mug", "about": "quality", "stars": 1}, {"product": "tea", "about": "price", "stars": 4}]""",
}
CODE = """large = orders[orders["qty"] > 10]
print(len(large), "of", len(orders), "orders")
large["price"].mean()"""


def answer(request):
    said = "\n".join(message.text for message in request.messages)
    if any(block.type == "tool_result" for block in request.messages[-1].content):
        return "**12 of 50 orders** have more than ten items; they cost 32.95 € on average."
    prompt = request.messages[-1].text
    if "large orders" in prompt:
        return ["I will count them.", {"tool": "run_python", "input": {"code": CODE}}]
    if "busy" in prompt:
        return errors.OverloadedError("the endpoint is overloaded", "Run the cell again in a minute.", status=529)
    text = next(text for word, text in ANSWERS.items() if word in prompt)
    schema = request.params.get("output_config", {}).get("format")
    return f'{{"items": {text}}}' if schema else text


c = get_config()
c.Nbchat.endpoints = {"scripted": ScriptedTransport(answer, repeat=True, delay=0.01, piece=20)}
c.Nbchat.endpoint = "scripted"
c.InteractiveShellApp.extensions = ["nbchat"]
c.InteractiveShellApp.exec_lines = [
    "from dataclasses import dataclass",
    "import pandas as pd",
    "orders = pd.DataFrame({'qty': range(1, 51), 'price': [3.5 + 1.9 * n for n in range(50)]})",
    "orders.loc[22:, 'qty'] = orders.loc[22:, 'qty'] % 9",
]
c.TerminalInteractiveShell.confirm_exit = False
c.TerminalInteractiveShell.enable_tip = False
'''


@dataclass(frozen=True)
class Scene:
    """One cell and its picture. ``typed`` answers the question of a tool; ``stop_at`` is the word to interrupt at."""

    name: str
    cell: str
    typed: str = ""
    stop_at: str = ""


MAIL = (
    "%%claude complaints << --schema list[Complaint]\nWhich complaints are in this mail?\n"
    "The kettle came two weeks late: three stars. My mug lost its handle, one star. The tea got dearer: four."
)
SCENES = (
    Scene("answer", "%%claude\nWhat does a linear regression of these {{ len(orders) }} orders estimate?"),
    Scene("tool", "%%claude --run\nHow many large orders are there in `orders`, and what do they cost?", typed="y"),
    Scene("declined", "%%claude --run --once\nCount the large orders again.", typed="n"),
    Scene("option", "%%claude --modle claude-opus-5-5\nHello"),
    Scene("error", "%%claude --once\nAre you busy?"),
    Scene("interrupted", "%%claude --once\nTell a story of a lighthouse.", stop_at="lamp, step"),
    Scene("class", "@dataclass\nclass Complaint:\n    product: str\n    about: str\n    stars: int"),
    Scene("typed", MAIL),
    Scene("history", "%nbchat history"),
    Scene("usage", "%nbchat usage"),
)
#: Scenes that only prepare another one.
UNSEEN = ("class",)


def write_configuration(folder: Path) -> None:
    """Write the configuration into the default profile of an IPython folder."""
    profile = folder / "profile_default"
    profile.mkdir(parents=True)
    (profile / "ipython_config.py").write_text(CONFIGURATION)


# Notebooks ---------------------------------------------------------------------------------------


def photograph_notebook(server: JupyterServer, browser: Browser, place: str) -> Iterator[Path]:
    """Run all scenes in a front end, and yield a picture of each."""
    front_end: FrontEnd = "notebook" if place == "notebook" else "lab"
    server.write(f"{place}.ipynb", *(scene.cell for scene in SCENES))
    with open_page(server, browser, viewport={"width": 1060, "height": 1500}, device_scale_factor=1.5) as page:
        page.open(f"{place}.ipynb", front_end)
        if place == "lab-dark":
            page.command("apputils:change-theme", {"theme": "JupyterLab Dark"})
        if front_end == "lab":
            page.command("application:toggle-left-area")
        for number, scene in enumerate(SCENES):
            yield from _photograph_cell(page, place, number, scene)
        page.raw.set_viewport_size({"width": 1060, "height": 4200})
        page.settle()
        yield page.screenshot(f"{place}-page")


def _photograph_cell(page: Page, place: str, number: int, scene: Scene) -> Iterator[Path]:
    cell = page.raw.locator(".jp-Notebook .jp-Cell").nth(number)
    # Whoever answers a question is in its cell, which would run again.
    page.raw.evaluate("number => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = number; }", number)
    page.start_next()
    if scene.typed:
        box = page.raw.locator("input.jp-Stdin-input, textarea.jp-Stdin-input")
        box.wait_for()
        page.settle()
        yield _picture(page, number, f"{place}-{scene.name}-question")
        box.fill(scene.typed)
        box.press("Enter")
        page.settle()
        if box.count() and not box.input_value():
            box.press("Enter")  # no reason
    if scene.stop_at:
        cell.get_by_text(scene.stop_at).first.wait_for()
        page.settle(0.05)
        yield _picture(page, number, f"{place}-{scene.name}-before")
        page.command("notebook:interrupt-kernel")
    page.wait_idle()
    if scene.name not in UNSEEN:
        yield _picture(page, number, f"{place}-{scene.name}")


def _picture(page: Page, number: int, name: str) -> Path:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    path = SCREENSHOTS / f"{name}.png"
    page.raw.locator(".jp-Notebook .jp-Cell").nth(number).screenshot(path=path)
    return path


# The terminal ------------------------------------------------------------------------------------

COLUMNS, LINES = 100, 34
#: The colours that pyte names, as a light terminal shows them.
COLOURS = {
    "default": "#1f2328",
    "black": "#1f2328",
    "red": "#b3261e",
    "green": "#1a7f37",
    "brown": "#8a6100",
    "blue": "#0550ae",
    "magenta": "#8250df",
    "cyan": "#0e7490",
    "white": "#6e7781",
    "brightblack": "#6e7781",
    "brightred": "#cf222e",
    "brightgreen": "#2da44e",
    "brightbrown": "#9a6700",
    "brightblue": "#218bff",
    "brightmagenta": "#a475f9",
    "brightcyan": "#3192aa",
    "brightwhite": "#8c959f",
}


class Terminal:
    """IPython in a terminal, whose screen can be read."""

    def __init__(self, home: Path) -> None:
        import pexpect
        import pyte

        self.screen = pyte.HistoryScreen(COLUMNS, LINES, history=1000)
        self._stream = pyte.ByteStream(self.screen)
        command = ["-m", "IPython", "--no-banner", "--colors=neutral", f"--ipython-dir={home / 'ipython'}"]
        env = {
            **os.environ,
            **LIKE_A_PERSON,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
            "PROMPT_TOOLKIT_NO_CPR": "1",
            "XDG_DATA_HOME": str(home / "data"),
            "HOME": str(home),
        }
        self.child = pexpect.spawn(sys.executable, command, env=env, dimensions=(LINES, COLUMNS), cwd=str(home))

    def wait(self, text: str = "", seconds: float = 60, quiet: float = 0.7) -> None:
        """Read what the terminal shows until ``text`` is there and nothing has changed for ``quiet`` seconds."""
        import pexpect

        deadline = time.monotonic() + seconds
        last = time.monotonic()
        while time.monotonic() < deadline:
            try:
                self._stream.feed(self.child.read_nonblocking(65536, timeout=0.1))
                last = time.monotonic()
                if not quiet and text in "\n".join(self.screen.display):
                    return
            except pexpect.TIMEOUT:
                if text in "\n".join(self.screen.display) and time.monotonic() - last > quiet:
                    return
        raise TimeoutError(f"the terminal does not show {text!r}:\n" + "\n".join(self.screen.display))

    def run(self, scene: Scene) -> None:
        """Type a cell, answer its questions, and wait for the next prompt."""
        self.child.sendcontrol("l")
        self.wait("In [")
        self.screen.history.top.clear()
        prompts = self._prompts()
        for line in scene.cell.split("\n"):
            self.child.send(line.lstrip() if scene.name == "class" else line)
            self.child.send("\r")
            self.wait(quiet=0.15)
        self.child.send("\x1b\r")  # Alt and Enter run the cell
        if scene.typed:
            self.wait("[y]es")
            self.child.send(scene.typed + "\r")
            self.wait()
            if self._prompts() <= prompts:
                self.child.send("\r")  # no reason
        if scene.stop_at:
            self.wait(scene.stop_at, quiet=0)
            self.child.sendintr()
        deadline = time.monotonic() + 30
        while self._prompts() <= prompts and time.monotonic() < deadline:
            self.wait()

    def _prompts(self) -> int:
        numbers = [line.split("[")[1].split("]")[0] for line in self.screen.display if line.startswith("In [")]
        return int(numbers[-1]) if numbers else 0

    def page(self) -> str:
        """Return the screen, with what scrolled out of it, as HTML."""
        rows = [*self.screen.history.top, *(self.screen.buffer[number] for number in range(LINES))]
        lines = [_line([row[column] for column in range(COLUMNS)]) for row in rows]
        while lines and not lines[-1].replace(" ", ""):
            lines.pop()
        style = (
            "margin:0;padding:12px 16px;background:#fff;font:14px/1.35 'DejaVu Sans Mono',monospace;width:max-content"
        )
        return f'<pre style="{style};color:{COLOURS["default"]}">' + "\n".join(lines) + "</pre>"


def _line(cells: list[Any]) -> str:
    """Return a line of the screen as HTML, with one element for each run of a style."""
    runs = itertools.groupby(cells, lambda cell: cell._replace(data=""))
    return "".join(_run(style, "".join(cell.data for cell in run)) for style, run in runs)


def _run(cell: Any, text: str) -> str:
    """Return a text in the style of a cell of the screen."""
    front, back = (_colour(name) for name in (cell.fg, cell.bg))
    if cell.reverse:
        front, back = (back if cell.bg != "default" else "#fff"), front
    styles = [f"color:{front}"] if cell.fg != "default" or cell.reverse else []
    styles += [f"background:{back}"] if cell.bg != "default" or cell.reverse else []
    styles += ["font-weight:bold"] * cell.bold + ["font-style:italic"] * cell.italics
    styles += ["text-decoration:underline"] * cell.underscore + ["text-decoration:line-through"] * cell.strikethrough
    text = html.escape(text)
    return f'<span style="{";".join(styles)}">{text}</span>' if styles else text


def _colour(name: str) -> str:
    return COLOURS.get(name, f"#{name}" if len(name) == 6 else COLOURS["default"])


def photograph_terminal(browser: Browser, home: Path) -> Iterator[Path]:
    """Run all scenes in a terminal, and yield a picture of each."""
    write_configuration(home / "ipython")
    terminal = Terminal(home)
    page = browser.new_page(device_scale_factor=1.5)
    try:
        terminal.wait("In [1]")
        for scene in SCENES:
            terminal.run(scene)
            if scene.name in UNSEEN:
                continue
            page.set_content(terminal.page())
            path = SCREENSHOTS / f"terminal-{scene.name}.png"
            page.locator("pre").screenshot(path=path)
            yield path
    finally:
        page.close()
        terminal.child.close(force=True)


# The page of pictures ----------------------------------------------------------------------------

PLACES = ("lab-light", "lab-dark", "notebook", "terminal")


def write_index() -> Path:
    """Write the page with all pictures, one column a place."""
    rows = []
    names = {path.stem.removeprefix(f"{place}-") for place in PLACES for path in SCREENSHOTS.glob(f"{place}-*.png")}
    order = [scene.name for scene in SCENES]
    for name in sorted(names, key=lambda name: (order.index(name.split("-")[0]) if name != "page" else 99, name)):
        cells = [f"{place}-{name}.png" for place in PLACES]
        shown = [f'<td><img src="{cell}">' if (SCREENSHOTS / cell).exists() else "<td>" for cell in cells]
        rows.append(f"<tr><th>{html.escape(name)}{''.join(shown)}")
    heading = "".join(f"<th>{place}" for place in PLACES)
    style = "img{width:640px} td,th{vertical-align:top;padding:6px;border:1px solid #ccc;font-family:sans-serif}"
    path = SCREENSHOTS / "index.html"
    path.write_text(f"<!doctype html><meta charset=utf-8><style>{style}</style><table><tr><th>{heading}{''.join(rows)}")
    return path


#: The pictures that the README shows.
README = ("lab-light-answer", "lab-dark-tool", "terminal-answer")


def write_readme_pictures() -> None:
    """Write the pictures of the README next to this script, with 128 colours: a third of the bytes."""
    from PIL import Image

    for name in README:
        if (source := SCREENSHOTS / f"{name}.png").exists():
            Image.open(source).convert("RGB").quantize(128).save(Path(__file__).with_name(f"{name}.png"), optimize=True)


@contextmanager
def _server(folder: Path) -> Iterator[JupyterServer]:
    (folder / "notebooks").mkdir()
    shutil.copytree(ROOT / "labextension", folder / "notebooks-jupyter" / "data" / "labextensions" / "nbchat-prompts")
    write_configuration(folder / "notebooks-jupyter" / "ipython")
    server = JupyterServer(folder / "notebooks", {**LIKE_A_PERSON, "XDG_DATA_HOME": str(folder / "data")})
    try:
        yield server
    finally:
        server.stop()


def main(places: list[str]) -> None:
    """Make the pictures of these places, or of all."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    places = places or list(PLACES)
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        folder, browser = Path(temporary), launch_chromium(playwright)
        if "terminal" in places:
            (folder / "home").mkdir()
            for path in photograph_terminal(browser, folder / "home"):
                print(path)
        if notebooks := [place for place in places if place != "terminal"]:
            with _server(folder) as server:
                for place in notebooks:
                    for path in photograph_notebook(server, browser, place):
                        print(path)
        browser.close()
    write_readme_pictures()
    print(write_index())


if __name__ == "__main__":
    main(sys.argv[1:])
