"""``python -m nbchat demo``: run a notebook in a real kernel, and print the answers as they arrive."""

from __future__ import annotations

import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from nbchat.command_line.execution import answers_of, execute, missing_library, read_notebook, usage_of
from nbchat.core.plural import counted
from nbchat.core.visible import visible

if TYPE_CHECKING:
    from nbformat import NotebookNode

__all__ = ["demo"]

POLL_INTERVAL_S = 0.02


def demo(notebook: Path, out: Path) -> None:
    """Run a notebook, print its cells and answers, and save it with its outputs as a notebook and as HTML.

    Args:
        notebook: the notebook; its file is not changed.
        out: the folder for the two files.

    Raises:
        OptionError: the file is not a notebook, or a library is not installed.
        InputError: a cell failed, or the kernel died.
    """
    page = read_notebook(notebook)
    try:
        import nbformat
        from nbconvert import HTMLExporter
    except ImportError as error:
        raise missing_library(error) from None
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        echo = Path(folder) / "echo.txt"
        echo.touch()
        # nbclient shows the outputs of a cell when the cell has ended. The echo file gets the text of an answer
        # while it arrives. Cassettes are off, because a demo asks a model and does not replay.
        environment = {"NBCHAT_ECHO": str(echo), "NBCHAT_CASSETTE_MODE": "off"}
        with _Follower(echo) as follower:

            def print_outputs(cell: NotebookNode) -> None:
                follower.catch_up()
                _print_outputs(cell)

            executed = execute(page, notebook, environment, on_start=_print_source, on_end=print_outputs)
    executed.metadata.pop("widgets", None)
    saved = out / notebook.name
    nbformat.write(executed, saved)
    html, _ = HTMLExporter().from_notebook_node(executed)
    saved.with_suffix(".html").write_text(html, encoding="utf-8")
    print(f"\n{_usage_line(executed)}")
    print(f"notebook  {saved}\nHTML      {saved.with_suffix('.html')}")


class _Follower:
    """A thread that prints what another process appends to a file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open(encoding="utf-8")
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> _Follower:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(1.0)
        self.catch_up()
        self._file.close()

    def _follow(self) -> None:
        while not self._stopped.wait(POLL_INTERVAL_S):
            self.catch_up()

    def catch_up(self) -> None:
        """Print the text that was appended since the last call."""
        with self._lock:  # the main thread calls this at the end of each cell
            print(self._file.read(), end="", flush=True)  # the echo has no escape sequences


def _print_source(cell: NotebookNode) -> None:
    if cell.cell_type == "code" and cell.source.strip():
        quoted = "\n".join(f"> {line}" for line in visible(cell.source).splitlines())
        print(f"\n\033[2m{quoted}\033[0m" if sys.stdout.isatty() else f"\n{quoted}")  # 2: faint


def _print_outputs(cell: NotebookNode) -> None:
    """Print the streams, the results and the tables of a cell. Its answers were printed from the echo file."""
    for output in cell.get("outputs", ()):
        if output.output_type == "stream":
            print(visible(output.text), end="")
        elif output.output_type in ("execute_result", "display_data") and "nbchat" not in output.get("metadata", {}):
            print(visible(output.data.get("text/plain", "")))


def _usage_line(page: NotebookNode) -> str:
    answers = answers_of(page)
    prompt = sum(answer["usage"]["prompt_tokens"] for answer in answers)
    completion = sum(answer["usage"]["completion_tokens"] for answer in answers)
    number, cost = usage_of(answers)
    return f"usage     {number}: {counted(prompt, 'token')} in, {counted(completion, 'token')} out, {cost}"
