"""The code of an answer as a new cell below, for ``--code``.

The ``set_next_input`` payload inserts it. JupyterLab, Notebook, VS Code and the console obey this payload
(https://jupyter-client.readthedocs.io/en/stable/messaging.html#payloads-deprecated), and a terminal shows
the code at its next prompt. Colab and programs that run notebooks ignore it.
"""

from __future__ import annotations

from nbchat.core.response import Response
from nbchat.core.visible import visible
from nbchat.notebook.host import ShellHost

__all__ = ["cell_source", "put_below"]

#: Languages of fenced blocks that run in a cell as they are, and those that have a cell magic of IPython.
_PYTHON = frozenset({"python", "py", "python3", "ipython", "ipython3", "pycon"})
_MAGICS = {"bash": "%%bash", "sh": "%%bash", "shell": "%%bash", "html": "%%html", "javascript": "%%javascript"}
_MAGICS |= {"js": "%%javascript", "latex": "%%latex", "markdown": "%%markdown", "svg": "%%svg"}


def cell_source(response: Response) -> str:
    """Return the source of one cell: all Python blocks of the answer, or else its first block, or an empty text.

    Hidden characters are escaped: a bidirectional override would show the user other code than runs.
    """
    blocks = [(language, source.strip("\n")) for language, source in response.code_blocks if source.strip()]
    python = [source for language, source in blocks if language in _PYTHON]
    python = python or [source for language, source in blocks if not language]
    if python:
        return visible("\n\n".join(python))
    if not blocks:
        return ""
    language, source = blocks[0]
    return visible(f"{_MAGICS[language]}\n{source}" if language in _MAGICS else source)


def put_below(host: ShellHost, response: Response) -> None:
    """Put the code of an answer into a new cell below, or print it where no cell may appear."""
    source = cell_source(response)
    if not source:
        print("The answer has no fenced code, so there is no new cell.")
        return
    # `replace` would overwrite the cell that the user just ran.
    host.shell.set_next_input(source, replace=False)
    if not host.inserts_cells():
        print(f"If no new cell has appeared below, copy this into one:\n\n{source}")
