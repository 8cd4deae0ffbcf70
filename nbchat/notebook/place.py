"""Answer where this session runs: what the kernel, the front end and their versions can do.

All differences between places are here and in :mod:`nbchat.notebook.old_ipython`, and
:class:`~nbchat.notebook.host.ShellHost` passes the answers on. No other module asks for the name or the version
of a place.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

__all__ = [
    "ask_line",
    "cell_id",
    "deleted_cells",
    "in_kernel",
    "inserts_cells",
    "is_live",
    "keeps_metadata_of_updates",
    "notebook_path",
    "request_id",
    "running_shell",
]


def running_shell() -> Any:
    """Return the IPython shell that runs this code, or None. IPython is not imported to find out."""
    package = sys.modules.get("IPython")
    return package.get_ipython() if package is not None else None


def in_kernel(shell: Any) -> bool:
    """Return True if the shell belongs to a kernel of a notebook, and False in a terminal."""
    return getattr(shell, "kernel", None) is not None


def _parent(shell: Any) -> Mapping[str, Any]:
    """Return the request that runs in this shell, or {} where nobody tells it."""
    get_parent = getattr(getattr(shell, "kernel", None), "get_parent", None)
    if get_parent is None:
        return {}
    try:
        parent = get_parent("shell")
    except TypeError:
        # The kernel of JupyterLite takes no channel:
        # https://github.com/jupyterlite/pyodide-kernel/blob/main/py/pyodide-kernel/pyodide_kernel/kernel.py
        parent = get_parent()
    return parent if isinstance(parent, Mapping) else {}


def cell_id(shell: Any) -> str | None:
    """Return the id of the cell that runs, or None where the front end does not tell it.

    JupyterLab, Notebook and VS Code send ``cellId``, Colab sends ``colab.cell_id``. nbclient, papermill and
    terminals send none.
    """
    metadata = _parent(shell).get("metadata") or {}
    found: str | None = metadata.get("cellId") or (metadata.get("colab") or {}).get("cell_id")
    return found


def deleted_cells(shell: Any) -> tuple[str, ...]:
    """Return the ids of the cells that were deleted since the last cell ran, where the front end tells them."""
    told = (_parent(shell).get("metadata") or {}).get("deletedCells")
    return tuple(cell for cell in told if isinstance(cell, str)) if isinstance(told, list) else ()


def request_id(shell: Any) -> str:
    """Return the id of the request that runs the cell, or "" where nobody tells it."""
    return str((_parent(shell).get("header") or {}).get("msg_id", ""))


def is_live(shell: Any, running_cell: str | None, environ: Mapping[str, str] = os.environ) -> bool:
    """Return True if a person watches the output of the running cell in a notebook.

    Without a cell id (nbclient, nbval, papermill) or under pytest somebody will compare the saved notebook.
    """
    is_tested = environ.get("PYTEST_VERSION") or environ.get("PYTEST_CURRENT_TEST")
    return in_kernel(shell) and bool(running_cell) and not is_tested


def inserts_cells(shell: Any, running_cell: str | None) -> bool:
    """Return True if the front end obeys ``set_next_input``. Colab and programs that run notebooks ignore it.

    A terminal shows the code at its next prompt.
    """
    if not in_kernel(shell):
        return True
    # Only interactive front ends send cell ids.
    return running_cell is not None and not _in_colab(shell)


def keeps_metadata_of_updates(shell: Any) -> bool:
    """Return True if the front end saves the metadata of an output that was updated.

    VS Code takes the data alone: https://github.com/microsoft/vscode-jupyter/issues/8621
    """
    return "__vsc_ipynb_file__" not in getattr(shell, "user_ns", ()) and not os.environ.get("VSCODE_PID")


def ask_line(shell: Any, prompt: str) -> str:
    """Ask the user of a notebook for one line.

    Raises:
        EOFError, NotImplementedError: the front end takes no input.
    """
    raw_input = getattr(shell.kernel, "raw_input", None)
    # JupyterLite's kernel has no raw_input. There, the builtin asks the browser.
    return str(input(prompt) if raw_input is None else raw_input(prompt))


def notebook_path(shell: Any) -> str | None:
    """Return the path of the notebook that runs in this kernel, or None where nobody tells it.

    Jupyter Server and papermill tell the path in the environment, VS Code in a variable.
    """
    path = os.environ.get("JPY_SESSION_NAME") or os.environ.get("PAPERMILL_OUTPUT_PATH")
    return path or shell.user_ns.get("__vsc_ipynb_file__")


def _in_colab(shell: Any) -> bool:
    # A later cell of Colab may run before google.colab is imported, but its metadata is always there.
    return "google.colab" in sys.modules or "colab" in (_parent(shell).get("metadata") or {})
