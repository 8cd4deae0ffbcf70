"""``--code``: the code of an answer as a new cell below.

By the ``set_next_input`` payload, which JupyterLab, Notebook, VS Code and the console obey
(https://jupyter-client.readthedocs.io/en/stable/messaging.html#payloads-deprecated) and a terminal
has as its next line. Colab, and programs that run notebooks, take no notice of it.
"""

from __future__ import annotations

import sys
from typing import Any

from nbchat.core.response import Response

__all__ = ["cell_source", "put_below"]

#: Languages of fenced blocks that are Python in a cell, and those that have a cell magic of IPython.
_PYTHON = frozenset({"python", "py", "python3", "ipython", "ipython3", "pycon"})
_MAGICS = {"bash": "%%bash", "sh": "%%bash", "shell": "%%bash", "html": "%%html", "javascript": "%%javascript"}
_MAGICS |= {"js": "%%javascript", "latex": "%%latex", "markdown": "%%markdown", "svg": "%%svg"}


def cell_source(response: Response) -> str:
    """The source of one cell of the answer's fenced code: its Python, else its first block; "" without any."""
    blocks = [(language, source.strip("\n")) for language, source in response.code_blocks if source.strip()]
    python = [source for language, source in blocks if language in _PYTHON]
    python = python or [source for language, source in blocks if not language]
    if python:
        return "\n\n".join(python)
    if not blocks:
        return ""
    language, source = blocks[0]
    return f"{_MAGICS[language]}\n{source}" if language in _MAGICS else source


def put_below(shell: Any, response: Response, cell_id: str | None) -> None:
    """Put the code of an answer into a new cell below; where none may appear, show it to copy."""
    source = cell_source(response)
    if not source:
        print("The answer has no fenced code, so there is no new cell.")
        return
    # Not shown twice in a notebook, where the new cell replaces nothing.
    shell.set_next_input(source, replace=False)
    if ignores_payloads(shell, cell_id):
        print(f"If no new cell has appeared below, copy this into one:\n\n{source}")


def ignores_payloads(shell: Any, cell_id: str | None) -> bool:
    """Whether this front end is known, or likely, to add no cell: Colab, and what runs notebooks unattended."""
    if getattr(shell, "kernel", None) is None:
        return False  # a terminal: the code stands on the next line
    return "google.colab" in sys.modules or cell_id is None
