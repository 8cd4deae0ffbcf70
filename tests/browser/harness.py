"""A real JupyterLab or Notebook 7 in a real Chromium, for the browser tests and the benchmark.

``JupyterServer`` runs a server for a folder. ``Page`` is a notebook that is open in a front end. The front ends are
started with ``expose_app_in_browser``, so that tests can run commands without their menus. Everything else is as a
user has it.
"""

from __future__ import annotations

import json
import os
import secrets
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
from playwright.sync_api import Browser, Playwright
from playwright.sync_api import Page as PlaywrightPage

ROOT = Path(__file__).parent.parent.parent
SCREENSHOTS = ROOT / "build" / "screenshots"
CHROMIUM_ARGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
FrontEnd = Literal["lab", "notebook"]
#: The environment of kernels that do not know that a test runs them.
LIKE_A_PERSON = {"PYTEST_VERSION": "", "PYTEST_CURRENT_TEST": ""}


def launch_chromium(playwright: Playwright, *more_args: str) -> Browser:
    """Launch the Chromium that ``NBCHAT_CHROMIUM`` names, else the system's, else Playwright's own."""
    system = "/usr/bin/chromium"
    path = os.environ.get("NBCHAT_CHROMIUM") or (system if Path(system).exists() else None)
    return playwright.chromium.launch(executable_path=path, args=[*CHROMIUM_ARGS, *more_args])


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
        deadline = time.monotonic() + 90
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
        with urllib.request.urlopen(request, timeout=10) as answer:
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
    """A notebook that is open in JupyterLab or Notebook 7. ``raw`` is Playwright's page."""

    def __init__(self, server: JupyterServer, browser: Browser, **context: Any) -> None:
        self.server = server
        self.context = browser.new_context(**{"viewport": {"width": 1300, "height": 1000}, **context})
        self.dialogs: list[str] = []
        self.errors: list[str] = []
        self.name = ""
        self.front_end: FrontEnd = "lab"
        self.raw = self._new_tab()

    def _new_tab(self) -> PlaywrightPage:
        tab = self.context.new_page()
        tab.set_default_timeout(120_000)
        tab.on("dialog", self._dismiss)
        tab.on("pageerror", lambda error: self.errors.append(str(error)))
        return tab

    def _dismiss(self, dialog: Any) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def open(self, name: str, front_end: FrontEnd = "lab") -> None:
        """Open a notebook of the server's folder and wait until its kernel is ready."""
        self.name, self.front_end = name, front_end
        if front_end == "lab" and self._runs_lab():
            self.command("docmanager:open", {"path": name, "factory": "Notebook"})
        else:
            place = f"lab/tree/{name}?reset&" if front_end == "lab" else f"notebooks/{name}?"
            self.raw.goto(f"{self.server.url}/{place}token={self.server.token}")
        self._ready()

    def _runs_lab(self) -> bool:
        """Return True if JupyterLab is loaded in this tab and has no notebook open."""
        is_empty = "() => !!window.jupyterapp && !document.querySelector('.jp-NotebookPanel, .jp-Dialog')"
        return self.raw.url.startswith(f"{self.server.url}/lab") and bool(self.raw.evaluate(is_empty))

    def clear(self) -> None:
        """Make the page ready for another test. JupyterLab stays loaded, because loading takes most of a test's time.

        A page that showed a dialog or had an error is not used again, and neither is one of Notebook 7.
        """
        had_trouble = bool(self.dialogs or self.errors)
        self.dialogs.clear()
        self.errors.clear()
        if had_trouble or self.front_end != "lab" or not self.raw.url.startswith(f"{self.server.url}/lab"):
            self.raw.close()
            self.raw = self._new_tab()
            return
        self.raw.evaluate(
            """() => {
                for (const widget of [...window.jupyterapp.shell.widgets('main')]) {
                    if (widget.context) widget.context.model.dirty = false;
                    widget.dispose();
                }
            }"""
        )

    def reload(self) -> None:
        """Load the page again, as with F5."""
        self.raw.reload()
        self._ready()

    def _ready(self) -> None:
        self.raw.wait_for_selector(".jp-Notebook .jp-Cell")
        self.raw.wait_for_function("() => window.jupyterapp && window.jupyterapp.shell.currentWidget?.context?.isReady")
        self.raw.wait_for_function(
            """() => {
                const kernel = window.jupyterapp.shell.currentWidget.sessionContext?.session?.kernel;
                return kernel && kernel.connectionStatus === 'connected' && kernel.status === 'idle';
            }"""
        )

    def command(self, name: str, args: dict[str, Any] | None = None) -> None:
        """Execute a command of the front end, and wait until it is done."""
        self.raw.evaluate(
            "async ([name, args]) => { await window.jupyterapp.commands.execute(name, args); }", [name, args or {}]
        )

    def start_all(self) -> None:
        """Run all cells. Do not wait for them."""
        self.raw.evaluate("() => { void window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
        self.raw.wait_for_function(
            "() => document.querySelector('.jp-CodeCell .jp-InputPrompt')?.textContent !== '[ ]:'"
        )

    def start_next(self) -> None:
        """Run the selected cell and select the next one. Do not wait for the cell."""
        self.raw.evaluate("() => { void window.jupyterapp.commands.execute('notebook:run-cell-and-select-next'); }")

    def run_all(self, timeout: float = 120) -> None:
        """Run all cells and wait until the last one is done and the page is drawn."""
        self.start_all()
        self.wait_idle(timeout)

    def wait_idle(self, timeout: float = 120) -> None:
        """Wait until no cell runs, the kernel is idle, and formulas and frames are drawn. ``timeout`` is in seconds."""
        self.raw.wait_for_function(
            """() => {
                const prompts = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')];
                const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel;
                return kernel?.status === 'idle' && prompts.every(prompt => prompt.textContent !== '[*]:');
            }""",
            timeout=timeout * 1000,
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


def notebook_outputs(notebook: nbformat.NotebookNode) -> Iterable[nbformat.NotebookNode]:
    """Return all outputs of a notebook, in order."""
    return (output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs)
