"""Tracebacks as text that is the same in each run."""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping

__all__ = ["traceback_of"]

#: Files that ipykernel and IPython make of cells. Their names contain process ids and hashes.
_CELL_FILE = re.compile(r'File "[^"\n]*(?:ipykernel_\d+[/\\]\d+\.py|<ipython-input-[^"\n]*>)"')


def traceback_of(error: BaseException, cells: Mapping[str, int] | None = None) -> str:
    """Return the traceback as Python prints it, without the frames of IPython that ran the cell.

    Args:
        error: The exception.
        cells: Execution counts by file name. These cells are named as in ``In[3]``.
    """
    formatted = traceback.TracebackException.from_exception(error)
    parts: list[traceback.TracebackException | None] = [formatted]
    while parts:
        part = parts.pop()
        if part is None:
            continue
        while part.stack and "IPython/core/" in part.stack[0].filename.replace("\\", "/"):
            del part.stack[0]
        parts += [part.__cause__, part.__context__, *(getattr(part, "exceptions", None) or ())]
    text = "".join(formatted.format()).rstrip("\n")
    for file, number in (cells or {}).items():
        text = text.replace(f'File "{file}"', f"In[{number}]")
    # A file name that differs in each run would make each run another request, which no cassette has.
    return _CELL_FILE.sub("a cell", text)
