"""``python -m nbchat demo | doctor | record``."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from nbchat.core.errors import NbchatError, OptionError


def main(arguments: list[str] | None = None) -> int:
    """Run a command of the command line; gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m nbchat", description="Claude in a notebook cell.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("doctor", help="what is installed, and whether an endpoint answers")
    demo = commands.add_parser("demo", help="run a notebook in a real kernel and show the answers as they come")
    demo.add_argument("notebook", nargs="?", type=Path, default=Path("notebooks/quickstart.ipynb"))
    demo.add_argument("--out", type=Path, default=Path("build/demo"), help="where the executed notebook goes")
    record = commands.add_parser(
        "record", help="run notebooks anew, record their cassettes, and save them as they replay"
    )
    record.add_argument("notebooks", nargs="+", type=Path)
    record.add_argument("--endpoint", help="who answers: anthropic, local, …; else as %%%%claude would choose")
    record.add_argument("--missing", action="store_true", help="keep what is recorded; ask only what is not")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "record":
            return _record(chosen.notebooks, chosen.endpoint, chosen.missing)
        return _doctor() if chosen.command == "doctor" else _demo(chosen.notebook, chosen.out)
    except NbchatError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1


def _doctor() -> int:
    from nbchat.engine.doctor import examine
    from nbchat.engine.session import Session

    return 0 if examine(Session()) else 1


def _record(notebooks: list[Path], endpoint: str | None, missing: bool) -> int:
    from nbchat.command_line.record import record

    for notebook in notebooks:
        print(record(notebook, endpoint=endpoint, missing=missing), flush=True)
    return 0


def _demo(notebook: Path, out: Path) -> int:
    try:
        import nbformat
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError, DeadKernelError
        from nbconvert import HTMLExporter
    except ImportError as error:
        raise OptionError(
            f"the demo needs {error.name}, which is not installed",
            "Install it: pip install nbclient nbconvert ipykernel",
        ) from None
    try:
        page = nbformat.read(notebook, as_version=4)
    except (OSError, ValueError) as error:
        raise OptionError(f"the notebook {notebook} cannot be read ({error})", "Give the path of one.") from None
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        echo = Path(folder) / "echo.txt"
        echo.touch()
        os.environ["NBCHAT_ECHO"] = str(echo)
        os.environ["NBCHAT_CASSETTE_MODE"] = "off"  # a demo asks, it does not replay
        follower = _Follower(echo)

        def announce(cell: Any, cell_index: int) -> None:
            if cell.cell_type == "code" and cell.source.strip():
                print(f"\n\033[2m{_quoted(cell.source)}\033[0m" if sys.stdout.isatty() else f"\n{_quoted(cell.source)}")

        client = NotebookClient(
            page,
            kernel_name="python3",
            extra_arguments=["--log-level=ERROR"],
            timeout=600,
            resources={"metadata": {"path": str(notebook.parent)}},
            on_cell_start=announce,
            on_cell_executed=lambda **about: follower.catch_up() or _print_streams(about["cell"]),
        )
        try:
            with follower:
                client.execute()
        except CellExecutionError as error:
            print(f"\nA cell of {notebook} failed:\n{error.ename}: {error.evalue}", file=sys.stderr)
            print("python -m nbchat doctor says what is installed and which endpoint answers.", file=sys.stderr)
            return 1
        except DeadKernelError:
            print(
                f"\nThe kernel died while {notebook} ran; run it again, or look at it with make lab.", file=sys.stderr
            )
            return 1
    page.metadata.pop("widgets", None)
    executed = out / notebook.name
    nbformat.write(page, executed)
    html, _ = HTMLExporter().from_notebook_node(page)
    executed.with_suffix(".html").write_text(html, encoding="utf-8")
    print(f"\n{_usage_line(page)}")
    print(f"notebook  {executed}\nHTML      {executed.with_suffix('.html')}")
    return 0


class _Follower:
    """Prints what is appended to a file, as it comes."""

    def __init__(self, path: Path) -> None:
        self._file = path.open(encoding="utf-8")
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> _Follower:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(1.0)
        self.catch_up()
        self._file.close()

    def _follow(self) -> None:
        while not self._over.is_set():
            self.catch_up()
            time.sleep(0.02)

    def catch_up(self) -> None:
        """Print what has come since."""
        with self._lock:
            print(self._file.read(), end="", flush=True)


def _quoted(source: str) -> str:
    return "\n".join(f"> {line}" for line in source.splitlines())


def _print_streams(cell: Any) -> None:
    """What a cell printed, and its plain results; answers have been shown by the echo."""
    for output in cell.get("outputs", ()):
        if output.output_type == "stream":
            print(output.text, end="")
        elif output.output_type == "execute_result":
            print(output.data.get("text/plain", ""))


def _usage_line(page: Any) -> str:
    """The sum over the answers, of the metadata of their outputs."""
    about = [
        output.metadata["nbchat"]
        for cell in page.cells
        for output in cell.get("outputs", ())
        if "nbchat" in output.get("metadata", {})
    ]
    prompt = sum(answer["usage"]["prompt_tokens"] for answer in about)
    completion = sum(answer["usage"]["completion_tokens"] for answer in about)
    costs = [answer.get("cost") for answer in about]
    cost = f"${sum(costs):.4f}" if costs and None not in costs else "cost unknown"
    models = ", ".join(sorted({answer["model"] for answer in about}))
    return f"usage     {len(about)} answers of {models}: {prompt} tokens in, {completion} tokens out, {cost}"


if __name__ == "__main__":
    sys.exit(main())
