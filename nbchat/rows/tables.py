"""Tables of libraries, and columns: taken apart into rows, and put together with the answers.

A library is recognised through ``sys.modules`` and never imported.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from nbchat.core.errors import InputError

__all__ = ["ROW", "Arrow", "Columns", "Narwhals", "Pandas", "Polars"]

#: The name of the whole row in a template, and of the column of values that have no name of their own.
ROW = "row"
#: Rows that are taken out of a frame in one step.
CHUNK_ROWS = 1_000


def _names(columns: Iterable[Any]) -> tuple[str, ...]:
    names = tuple(map(str, columns))
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"two columns of the rows have the name {twice!r}", "Rename one of them.")
    return names


class _Table:
    """A table of a library: the rows are taken out in chunks, column by column, which is the fast way."""

    once = False

    def __init__(self, table: Any, *, values: bool = False) -> None:
        self._table, self._values = table, values
        self.columns = _names(self._column_names())
        self.count: int | None = self._length()

    def rows(self) -> Iterator[Mapping[str, Any]]:
        names = self.columns
        for start in range(0, self._length(), CHUNK_ROWS):
            for cells in zip(*self._chunk(start), strict=True):
                fields = dict(zip(names, cells, strict=True))
                # A column with the name `row` wins over the whole row.
                yield {ROW: cells[0] if self._values else fields, **fields}

    def _column_names(self) -> Iterable[Any]:
        raise NotImplementedError

    def _length(self) -> int:
        return len(self._table)

    def _chunk(self, start: int) -> list[list[Any]]:
        """Return the columns of CHUNK_ROWS rows from ``start`` on, as Python values."""
        raise NotImplementedError


class Pandas(_Table):
    """Take a pandas table apart, and put it together."""

    def _column_names(self) -> Iterable[Any]:
        return [*self._table.columns]

    def _chunk(self, start: int) -> list[list[Any]]:
        part = self._table.iloc[start : start + CHUNK_ROWS]
        # By position, because two columns may have one name.
        return [part.iloc[:, place].tolist() for place in range(len(self.columns))]

    def pick(self, places: Sequence[int]) -> _Table:
        return Pandas(self._table.iloc[list(places)], values=self._values)

    def head(self, count: int) -> _Table:
        return Pandas(self._table.iloc[:count], values=self._values)

    def build(self, answers: Mapping[str, Sequence[Any]]) -> Any:
        pandas = sys.modules["pandas"]
        new = {name: pandas.Series(list(values), index=self._table.index) for name, values in answers.items()}
        return self._table.drop(columns=[name for name in new if name in self._table.columns]).assign(**new)


class Polars(_Table):
    """Take a polars table apart, and put it together."""

    def _column_names(self) -> Iterable[Any]:
        return [*self._table.columns]

    def _chunk(self, start: int) -> list[list[Any]]:
        part = self._table.slice(start, CHUNK_ROWS)
        return [column.to_list() for column in part.get_columns()]

    def pick(self, places: Sequence[int]) -> _Table:
        return Polars(self._table[list(places)], values=self._values)

    def head(self, count: int) -> _Table:
        return Polars(self._table.head(count), values=self._values)

    def build(self, answers: Mapping[str, Sequence[Any]]) -> Any:
        polars = sys.modules["polars"]
        return self._table.with_columns(
            polars.Series(name, list(values), strict=False) for name, values in answers.items()
        )


class Arrow(_Table):
    """Take a pyarrow table apart, and put it together."""

    def _column_names(self) -> Iterable[Any]:
        return [*self._table.column_names]

    def _length(self) -> int:
        return int(self._table.num_rows)

    def _chunk(self, start: int) -> list[list[Any]]:
        part = self._table.slice(start, CHUNK_ROWS)
        return [column.to_pylist() for column in part.columns]

    def pick(self, places: Sequence[int]) -> _Table:
        return Arrow(self._table.take(list(places)), values=self._values)

    def head(self, count: int) -> _Table:
        return Arrow(self._table.slice(0, count), values=self._values)

    def build(self, answers: Mapping[str, Sequence[Any]]) -> Any:
        table = self._table
        for name, values in answers.items():
            if name in table.column_names:
                table = table.drop_columns([name])
            table = table.append_column(name, _arrow_array(list(values)))
        return table


def _arrow_array(values: list[Any]) -> Any:
    pyarrow = sys.modules["pyarrow"]
    try:
        return pyarrow.array(values)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError):  # values of several types
        return pyarrow.array([None if value is None else str(value) for value in values])


class Narwhals(_Table):
    """Take any other eager table apart that narwhals reads, such as one of modin or cuDF."""

    def _column_names(self) -> Iterable[Any]:
        names: Iterable[Any] = self._table.columns
        return names

    def _chunk(self, start: int) -> list[list[Any]]:
        part = self._table[start : start + CHUNK_ROWS]
        return [part[name].to_list() for name in self.columns]

    def pick(self, places: Sequence[int]) -> _Table:
        return Narwhals(self._table[list(places)], values=self._values)

    def head(self, count: int) -> _Table:
        return Narwhals(self._table.head(count), values=self._values)

    def build(self, answers: Mapping[str, Sequence[Any]]) -> Any:
        narwhals = sys.modules["narwhals"]
        backend = self._table.implementation
        columns = [narwhals.new_series(name, list(values), backend=backend) for name, values in answers.items()]
        return self._table.with_columns(*columns).to_native()


class Columns(_Table):
    """Take a mapping of columns of one length apart, and put it together."""

    def _column_names(self) -> Iterable[Any]:
        return [*self._table]

    def _length(self) -> int:
        return len(next(iter(self._table.values())))

    def _chunk(self, start: int) -> list[list[Any]]:
        return [column[start : start + CHUNK_ROWS] for column in self._table.values()]

    def pick(self, places: Sequence[int]) -> _Table:
        return Columns({name: [column[place] for place in places] for name, column in self._table.items()})

    def head(self, count: int) -> _Table:
        return Columns({name: column[:count] for name, column in self._table.items()})

    def build(self, answers: Mapping[str, Sequence[Any]]) -> Any:
        return {**self._table, **{name: list(values) for name, values in answers.items()}}
