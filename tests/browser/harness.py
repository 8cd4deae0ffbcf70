"""A real JupyterLab or Notebook 7 in a real Chromium, for the browser tests and the benchmark.

``JupyterServer`` runs a server for a folder. ``Page`` is a notebook that is open in a front end. The front ends are
started with ``expose_app_in_browser``, so that tests can run commands without their menus. Everything else is as a
user has it.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import nbformat
from playwright.sync_api import Browser, Playwright, ViewportSize
from playwright.sync_api import Page as PlaywrightPage

ROOT = Path(__file__).parent.parent.parent
SCREENSHOTS = ROOT / "build" / "screenshots"
CHROMIUM_ARGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
FrontEnd = Literal["lab", "notebook"]
VIEWPORT: ViewportSize = {"width": 1300, "height": 1000}
#: The environment of kernels that do not know that a test runs them.
LIKE_A_PERSON = {"PYTEST_VERSION": "", "PYTEST_CURRENT_TEST": ""}


def launch_chromium(playwright: Playwright, *more_args: str) -> Browser:
    """Launch the Chromium that ``NBCHAT_CHROMIUM`` names, else the system's, else Playwright's own.

    The headless shell is the same browser without windows and menus, and loads a page in two thirds of the time.
    Playwright's own is a headless shell too.
    """
    names = ("chromium-headless-shell", "chromium")
    path = os.environ.get("NBCHAT_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    return playwright.chromium.launch(executable_path=path, args=[*CHROMIUM_ARGS, *more_args], timeout=180_000)


class JupyterServer:
    """A JupyterLab server (with Notebook 7) that has its own free port, token, settings and folders.

    ``root`` is the folder of the notebooks. ``env`` is added to the environment of the server and the kernels.
    """

    def __init__(self, root: Path, env: dict[str, str] | None = None, *args: str) -> None:
        self.root = root
        self.token = secrets.token_hex(16)
        home = root.parent / (root.name + "-jupyter")
        self._write_settings(home / "settings")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = home / "server.log"
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
            "JUPYTER_CONFIG_DIR": str(home / "config"),
            "JUPYTER_DATA_DIR": str(home / "data"),
            "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
            "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
            "IPYTHONDIR": str(home / "ipython"),
            **(env or {}),
        }
        command = [
            *(sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"),
            *(f"--ServerApp.port={self.port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={root}"),
            *(f"--IdentityProvider.token={self.token}", "--LabApp.news_url=None"),
            *("--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.extension_manager=readonly"),
            *("--LabApp.expose_app_in_browser=True", "--JupyterNotebookApp.expose_app_in_browser=True", *args),
        ]
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=self.log.open("wb"), stderr=subprocess.STDOUT
        )
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    @staticmethod
    def _write_settings(folder: Path) -> None:
        settings = {
            "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
            # The page contains every cell, also those that are not visible.
            "notebook-extension/tracker": {"windowingMode": "none"},
            "docmanager-extension/plugin": {"autosave": False},
        }
        for name, values in settings.items():
            path = folder / "@jupyterlab" / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(values))

    def _wait(self) -> None:
        deadline = time.monotonic() + 180
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                self.get("api/status")
                return
            except OSError:
                time.sleep(0.2)
        raise RuntimeError(f"JupyterLab did not start:\n{self.log.read_text()[-2000:]}")

    def get(self, path: str, method: str = "GET") -> Any:
        """Send a request to the server's REST interface and return the JSON of its answer."""
        request = urllib.request.Request(
            f"{self.url}/{path}", method=method, headers={"Authorization": f"token {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            body = answer.read()
        return json.loads(body) if body else None

    def write(self, name: str, *cells: str, metadata: dict[str, Any] | None = None) -> Path:
        """Write a notebook of code cells in the root folder."""
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
            | (metadata or {}),
        )
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, path)
        return path

    def shut_kernels(self) -> None:
        """Shut down all kernels, so that the next page starts a new one."""
        for session in self.get("api/sessions"):
            self.get(f"api/sessions/{session['id']}", "DELETE")

    def stop(self) -> None:
        """Stop the server and its kernels."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


class Page:
    """A notebook that is open in JupyterLab or Notebook 7. ``raw`` is Playwright's page.

    Each front end has a tab that stays, because loading takes most of a test's time.
    """

    def __init__(self, server: JupyterServer, browser: Browser, **context: Any) -> None:
        self.server = server
        self.context = browser.new_context(**{"viewport": VIEWPORT, **context})
        self.dialogs: list[str] = []
        self.errors: list[str] = []
        self.name = ""
        self.front_end: FrontEnd = "lab"
        self._tabs: dict[FrontEnd, PlaywrightPage] = {}
        self.raw = self._tab("lab")

    def _tab(self, front_end: FrontEnd) -> PlaywrightPage:
        """Return the tab of a front end. A tab that was used before loads faster."""
        if front_end not in self._tabs:
            tab = self._tabs[front_end] = self.context.new_page()
            tab.set_default_timeout(120_000)
            tab.on("dialog", lambda dialog: self._dismiss(tab, dialog))
            tab.on("pageerror", lambda error: self.errors.append(str(error)) if tab is self.raw else None)
        return self._tabs[front_end]

    def _dismiss(self, tab: PlaywrightPage, dialog: Any) -> None:
        if tab is self.raw:
            self.dialogs.append(dialog.message)
        dialog.dismiss()

    def open(self, name: str, front_end: FrontEnd = "lab") -> None:
        """Open a notebook of the server's folder and wait until its kernel is ready."""
        self.name, self.front_end = name, front_end
        self.raw = self._tab(front_end)
        self._close_documents()
        if front_end == "notebook":
            self.raw.goto(f"{self.server.url}/notebooks/{name}?token={self.server.token}")
        elif self._runs_lab():
            self.command("docmanager:open", {"path": name, "factory": "Notebook"})
        else:
            self.raw.goto(f"{self.server.url}/lab/tree/{name}?reset&token={self.server.token}")
        self._ready()

    def _runs_lab(self) -> bool:
        """Return True if JupyterLab is loaded in this tab and shows no dialog."""
        return bool(self.raw.evaluate("!!window.jupyterapp && !document.querySelector('.jp-Dialog')"))

    def clear(self) -> None:
        """Make the page ready for another test. JupyterLab stays loaded if it showed no dialog and had no error."""
        if self.front_end == "lab" and (self.dialogs or self.errors):
            self._tabs.pop("lab").close()
        else:
            self._close_documents()
            self.raw.set_viewport_size(VIEWPORT)
        self.raw, self.front_end = self._tab("lab"), "lab"
        self.dialogs.clear()
        self.errors.clear()

    def _close_documents(self) -> None:
        """Forget the changes of the open notebooks. JupyterLab closes them too; Notebook 7 always has one."""
        self.raw.evaluate(
            """isLab => {
                for (const widget of [...(window.jupyterapp?.shell.widgets('main') ?? [])]) {
                    if (widget.context) widget.context.model.dirty = false;
                    if (isLab) widget.dispose();
                }
            }""",
            self.front_end == "lab",
        )

    def reload(self) -> None:
        """Load the page again, as with F5."""
        self.raw.reload()
        self._ready()

    def _ready(self) -> None:
        self.wait_until(
            """() => {
                const widget = window.jupyterapp?.shell.currentWidget;
                const kernel = widget?.sessionContext?.session?.kernel;
                return widget?.context?.isReady && document.querySelector('.jp-Notebook .jp-Cell')
                    && kernel?.connectionStatus === 'connected' && kernel.status === 'idle';
            }"""
        )

    def wait_until(self, condition: str, argument: object = None, timeout: float = 120) -> None:
        """Wait until a function of JavaScript returns a true value. ``timeout`` is in seconds.

        Playwright would call the function in each frame, and the browser would draw each frame for that.
        """
        self.raw.wait_for_function(condition, arg=argument, polling=40, timeout=timeout * 1000)

    def command(self, name: str, args: dict[str, Any] | None = None) -> None:
        """Execute a command of the front end, and wait until it is done."""
        self.raw.evaluate(
            "async ([name, args]) => { await window.jupyterapp.commands.execute(name, args); }", [name, args or {}]
        )

    def start_all(self) -> None:
        """Run all cells. Do not wait for them."""
        self.raw.evaluate("() => { void window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
        self.wait_until("() => document.querySelector('.jp-CodeCell .jp-InputPrompt')?.textContent !== '[ ]:'")

    def watch_growth(self) -> None:
        """Note each length of the second cell's output while its live view grows, from now on."""
        self.raw.evaluate(
            """() => {
                window.grown = [];
                const cell = document.querySelectorAll('.jp-CodeCell')[1];
                new MutationObserver(() => {
                    if (!cell.querySelector('.nbchat-live')) return;
                    const length = cell.querySelector('.jp-OutputArea').textContent.length;
                    if (length > (window.grown.at(-1) ?? 0)) window.grown.push(length);
                }).observe(cell, {subtree: true, childList: true, characterData: true});
            }"""
        )

    def growth(self) -> list[int]:
        """Return the lengths that ``watch_growth`` noted, each greater than the one before."""
        lengths: list[int] = self.raw.evaluate("window.grown")
        return lengths

    def start_next(self) -> None:
        """Run the selected cell and select the next one. Do not wait for the cell."""
        self.raw.evaluate("() => { void window.jupyterapp.commands.execute('notebook:run-cell-and-select-next'); }")

    def run_all(self, timeout: float = 120) -> None:
        """Run all cells and wait until the last one is done and the page is drawn."""
        self.start_all()
        self.wait_idle(timeout)

    def wait_idle(self, timeout: float = 120) -> None:
        """Wait until no cell runs, the kernel is idle, and formulas and frames are drawn. ``timeout`` is in seconds."""
        self.wait_until(
            """() => {
                const prompts = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')];
                const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel;
                return kernel?.status === 'idle' && prompts.every(prompt => prompt.textContent !== '[*]:');
            }""",
            timeout=timeout,
        )
        self.settle()

    def settle(self, seconds: float = 0.5) -> None:
        """Wait until the page has not changed for some seconds."""
        self.raw.evaluate(
            """(quiet) => new Promise(resolve => {
                let timer;
                const observer = new MutationObserver(wait);
                function wait() {
                    clearTimeout(timer);
                    timer = setTimeout(() => { observer.disconnect(); resolve(null); }, quiet);
                }
                observer.observe(document.querySelector('.jp-Notebook') ?? document.body,
                                 {subtree: true, childList: true, characterData: true});
                wait();
                setTimeout(resolve, 20000);
            })""",
            seconds * 1000,
        )

    def save(self) -> nbformat.NotebookNode:
        """Save the notebook and return the content of its file."""
        self.raw.evaluate("async () => { await window.jupyterapp.shell.currentWidget.context.save(); }")
        return nbformat.read(self.server.root / self.name, as_version=4)

    def outputs(self) -> list[str]:
        """Return the HTML of each output on the page, in order."""
        shown: list[str] = self.raw.evaluate(
            "() => [...document.querySelectorAll('.jp-OutputArea-output')].map(output => output.innerHTML)"
        )
        return shown

    def screenshot(self, name: str, selector: str | None = None) -> Path:
        """Save a picture of the page, or of one element, in ``build/screenshots``."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        if selector:
            self.raw.locator(selector).first.screenshot(path=path)
        else:
            self.raw.screenshot(path=path)
        return path

    def close(self) -> None:
        """Close the page and delete its cookies."""
        self.context.close()


@contextmanager
def open_page(server: JupyterServer, browser: Browser, **context: Any) -> Iterator[Page]:
    """Yield a page. Close the page and shut down its kernels afterwards."""
    page = Page(server, browser, **context)
    try:
        yield page
    finally:
        page.close()
        server.shut_kernels()


def converted(notebook: Path, to: Literal["html", "markdown", "latex"], folder: Path) -> Path:
    """Convert a notebook with nbconvert and return the new file."""
    command = [sys.executable, "-m", "nbconvert", "--to", to, "--output-dir", str(folder), str(notebook)]
    subprocess.run(command, check=True, capture_output=True)
    return folder / notebook.with_suffix({"html": ".html", "markdown": ".md", "latex": ".tex"}[to]).name


def write_untrusted(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Write the notebook so that the signatures of its outputs are invalid, as if another user had written it."""
    for cell in notebook.cells:
        cell.source += "\n# not signed by anyone"
        cell.metadata.pop("trusted", None)
    nbformat.write(notebook, path)


def without_questions(outputs: Iterable[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Return outputs without the questions and answers of ``input()``, and the texts of one stream joined.

    The kernel may send one print in two messages.
    """
    kept: list[nbformat.NotebookNode] = []
    for output in outputs:
        if output.get("name") == "stdin":
            continue
        if kept and output.output_type == "stream" and kept[-1].get("name") == output.name:
            kept[-1] = nbformat.from_dict({**kept[-1], "text": kept[-1].text + output.text})
        else:
            kept.append(output)
    return kept


def notebook_outputs(notebook: nbformat.NotebookNode) -> Iterable[nbformat.NotebookNode]:
    """Return all outputs of a notebook, in order."""
    return (output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs)
