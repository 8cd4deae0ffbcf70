"""Put the turns of a conversation into the order of the notebook's cells, where that order is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

__all__ = ["CellOrder", "arranged", "cell_of", "place_for"]


class CellOrder(NamedTuple):
    """What the front end tells about the cells of the notebook.

    Attributes:
        places: The place of each cell in the notebook, by the cell's id.
        deleted: The ids of cells that were deleted after they ran.
    """

    places: Mapping[str, int] = {}
    deleted: frozenset[str] = frozenset()

    def has_place(self, key: str | None) -> bool:
        """Return True if the place of the cell of a turn's key is known."""
        return key is not None and cell_of(key)[0] in self.places

    def is_deleted(self, key: str | None) -> bool:
        """Return True if the cell of a turn's key is deleted, as far as the front end tells it."""
        return key is not None and cell_of(key)[0] in self.deleted


class _Keyed(Protocol):
    @property
    def key(self) -> str | None: ...


_Turn = TypeVar("_Turn", bound=_Keyed)
_Place = tuple[int, int]


def cell_of(key: str) -> tuple[str, int]:
    """Return the id of the cell of a turn's key, and the number of the question in the cell.

    >>> cell_of("f3a1"), cell_of("f3a1#2"), cell_of("vscode-notebook-cell:/x.ipynb#W0")
    (('f3a1', 1), ('f3a1', 2), ('vscode-notebook-cell:/x.ipynb#W0', 1))
    """
    cell, _, number = key.rpartition("#")
    return (cell, int(number)) if cell and number.isdecimal() else (key, 1)


def arranged(turns: Sequence[_Turn], order: CellOrder) -> list[_Turn]:
    """Return the turns in the order of their cells.

    A turn whose place is not known stays after the turn that it came after.

    Args:
        turns: The turns, in the order that they have now.
        order: The places of the cells. Without any, nothing moves.
    """
    groups: list[tuple[_Place, list[_Turn]]] = [((-1, 0), [])]
    for turn in turns:
        place = _place(turn.key, order)
        if place is None:
            groups[-1][1].append(turn)
        else:
            groups.append((place, [turn]))
    return [turn for _, group in sorted(groups, key=lambda group: group[0]) for turn in group]


def place_for(key: str | None, turns: Sequence[_Turn], order: CellOrder) -> int:
    """Return the position that a new turn takes among the turns: before the first turn of a later cell.

    Args:
        key: The key of the new turn.
        turns: The turns, arranged.
        order: The places of the cells. A new turn whose place is not known comes last.
    """
    own = _place(key, order)
    if own is None:
        return len(turns)
    places = ((position, _place(turn.key, order)) for position, turn in enumerate(turns))
    return next((position for position, place in places if place is not None and place > own), len(turns))


def _place(key: str | None, order: CellOrder) -> _Place | None:
    if key is None:
        return None
    cell, number = cell_of(key)
    return (order.places[cell], number) if cell in order.places else None
