"""The places of the cells in the notebook: read from the saved notebook, since no front end sends the order.

A front end that tells the path of the notebook (:func:`nbchat.notebook.place.notebook_path`) saves the notebook now
and then. A cell that is newer than the file has no place yet, and gets one with the next save.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbchat.context.regular_files import open_regular

__all__ = ["NOT_SAVED", "SavedCells", "read_saved_cells"]

#: A larger notebook is not read, because reading it would delay every cell.
MAX_NOTEBOOK_BYTES = 30_000_000


@dataclass(frozen=True, slots=True)
class SavedCells:
    """The cells of a saved notebook.

    Attributes:
        places: the place of each cell by its id.
        numbers: the execution count that the notebook shows for a cell, by the cell's id.
        saved_at: the time of the last save, in seconds since the epoch.
        mark: changes with each save.
    """

    places: Mapping[str, int] = field(default_factory=dict)
    numbers: Mapping[str, int] = field(default_factory=dict)
    saved_at: float = 0.0
    mark: tuple[str, int, int] = ("", 0, 0)


#: No notebook was saved, or nobody tells where.
NOT_SAVED = SavedCells()


def read_saved_cells(path: str | None, before: SavedCells = NOT_SAVED) -> SavedCells:
    """Return the cells of the notebook as it was saved last; no cells if it cannot be read.

    Args:
        path: the path of the notebook, or None.
        before: the result of the last call. It is returned again if the file has not changed.
    """
    if not path:
        return NOT_SAVED
    try:
        state = os.stat(path)
        mark = (path, state.st_mtime_ns, state.st_size)
        if mark == before.mark:
            return before
        if state.st_size > MAX_NOTEBOOK_BYTES:
            return SavedCells(mark=mark)
        with open_regular(Path(path)) as file:
            notebook = json.load(file)
    except (OSError, ValueError, RecursionError):  # not there, being written, or not a notebook
        return NOT_SAVED
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    ids = list(map(_id, cells)) if isinstance(cells, list) else []
    return SavedCells(
        places={cell_id: place for place, cell_id in enumerate(ids) if cell_id},
        numbers={
            cell_id: cell["execution_count"]
            for cell, cell_id in zip(cells or (), ids, strict=False)
            if cell_id and type(cell.get("execution_count")) is int
        },
        saved_at=state.st_mtime,
        mark=mark,
    )


def _id(cell: Any) -> str:
    """Return the id of a cell; "" for one without, as notebooks before version 4.5 of the format have."""
    found = cell.get("id") if isinstance(cell, dict) else None
    return found if isinstance(found, str) else ""
