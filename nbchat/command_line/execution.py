"""Notebooks: read, executed in a fresh kernel, and the answers that they hold."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbchat.core.errors import InputError, OptionError
from nbchat.core.money import dollars
from nbchat.core.plural import counted

if TYPE_CHECKING:
    from nbformat import NotebookNode

__all__ = ["answers_of", "execute", "missing_library", "read_notebook", "usage_of"]

CELL_TIMEOUT_S = 600


def read_notebook(path: Path) -> NotebookNode:
    """Return the notebook of a file.

    Raises:
        OptionError: nbformat is not installed, or the file is not a notebook.
    """
    try:
        import nbformat
    except ImportError as error:
        raise missing_library(error) from None
    try:
        page: NotebookNode = nbformat.read(path, as_version=4)
    except (OSError, ValueError) as error:
        raise OptionError(f"the notebook {path} cannot be read ({error})", "Give the path of a notebook.") from None
    return page


def execute(
    page: NotebookNode,
    path: Path,
    environment: Mapping[str, str],
    *,
    on_start: Callable[[NotebookNode], None] | None = None,
    on_end: Callable[[NotebookNode], None] | None = None,
) -> NotebookNode:
    """Execute a copy of a notebook in a fresh kernel, and return the copy with its outputs.

    Args:
        page: the notebook.
        path: the file that the notebook is from; the kernel works in its folder.
        environment: variables for the kernel, added to those of this process.
        on_start: is called with each cell before it runs.
        on_end: is called with each cell after it ran.

    Raises:
        OptionError: a library for executing notebooks is not installed.
        InputError: a cell failed, or the kernel died.
    """
    try:
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError, DeadKernelError
    except ImportError as error:
        raise missing_library(error) from None
    page = copy.deepcopy(page)
    client = NotebookClient(
        page,
        kernel_name="python3",
        extra_arguments=["--log-level=ERROR"],
        timeout=CELL_TIMEOUT_S,
        resources={"metadata": {"path": str(path.parent)}},
        on_cell_start=_hook(on_start),
        on_cell_executed=_hook(on_end),
    )
    try:
        client.execute(env={**os.environ, **environment})
    except CellExecutionError as error:
        raise InputError(
            f"a cell of {path} failed: {error.ename}: {error.evalue}",
            "The notebook was not changed. python -m nbchat doctor tells which endpoint answers.",
        ) from None
    except DeadKernelError:
        raise InputError(
            f"the kernel died while {path} ran", "The notebook was not changed. Run the command again."
        ) from None
    return page


def _hook(function: Callable[[NotebookNode], None] | None) -> Callable[..., None] | None:
    """Return a function with the signature that nbclient calls, or None."""
    if function is None:
        return None

    def hook(cell: NotebookNode, **_: Any) -> None:
        function(cell)

    return hook


def missing_library(error: ImportError) -> OptionError:
    """Return the error that names a missing library and the command that installs it."""
    return OptionError(
        f"executing notebooks needs {error.name}, which is not installed",
        "Install it: pip install nbclient nbconvert ipykernel",  # nbformat comes with nbclient
    )


def answers_of(page: NotebookNode) -> list[Mapping[str, Any]]:
    """Return what the outputs of a notebook tell about its answers: model, usage, cost."""
    return [
        output.metadata["nbchat"]
        for cell in page.cells
        for output in cell.get("outputs", ())
        if "nbchat" in output.get("metadata", {})
    ]


def usage_of(answers: list[Mapping[str, Any]]) -> tuple[str, str]:
    """Return the number of answers with their models, and their total cost, as texts."""
    models = ", ".join(sorted({str(answer.get("model")) for answer in answers}))
    costs = [answer.get("cost") for answer in answers]
    known = [cost for cost in costs if cost is not None]
    cost = dollars(sum(known)) if known and len(known) == len(costs) else "cost unknown"
    # A run over rows is one output with many answers.
    number = sum(int(answer.get("requests", 1)) for answer in answers)
    return f"{counted(number, 'answer')} of {models}", cost
