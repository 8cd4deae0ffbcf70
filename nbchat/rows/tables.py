"""Tables of libraries, and columns: taken apart into rows, and put together with the answers.

A library is recognised through ``sys.modules`` and never imported.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias

from nbchat.core.errors import InputError

__all__ = ["NO_TYPES", "ROW", "Arrow", "Columns", "Narwhals", "Pandas", "Polars", "Types"]

#: The name of the whole row in a template, and of the column of values that have no name of their own.
ROW = "row"
#: Rows that are taken out of a frame in one step.
CHUNK_ROWS = 1_000

#: The types of columns by name: str, int, float or bool; None for any other.
Types: TypeAlias = Mapping[str, type | None]
NO_TYPES: Types = MappingProxyType({})


def _names(columns: Iterable[Any]) -> tuple[str, ...]:
    names = tuple(map(str, columns))
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"two columns of the rows have the name {twice!r}", "Rename one of them.")
    return names


class _Row(dict[str, Any]):
    """A whole row. A column whose name is not a text is there by its own name, too."""

    def __missing__(self, name: Any) -> Any:
        if isinstance(name, str):
            raise KeyError(name)
        return self[str(name)]


class _Table:
    """A table of a library: the rows are taken out in chunks, column by column, which is the fast way."""

    once = False

    def __init__(self, table: Any, *, values: bool = False) -> None:
        self._table, self._values = table, values
        own = list(self._column_names())
        self.columns = _names(own)
        self.count: int | None = self._length()
        self._row: type[dict[str, Any]] = dict if all(isinstance(name, str) for name in own) else _Row

    def rows(self) -> Iterator[Mapping[str, Any]]:
        names, index = self.columns, self._index_names()
        for start in range(0, self._length(), CHUNK_ROWS):
            chunk = self._chunk(start)
            labels = iter(zip(*self._index(start, index), strict=True)) if index else None
            for cells in zip(*chunk, strict=True):
                fields = self._row(zip(names, cells, strict=True))
                # A column with the name `row` wins over the whole row, and any column over the index.
                whole = cells[0] if self._values else fields
                if labels is None:
                    yield {ROW: whole, **fields}
                else:
                    yield {ROW: whole, **dict(zip(index, next(labels), strict=True)), **fields}

    def pick(self, places: Sequence[int]) -> _Table:
        raise NotImplementedError

    def head(self, count: int) -> _Table:
        raise NotImplementedError

    def build(self, answers: Mapping[str, Sequence[Any]], types: Types = NO_TYPES) -> Any:
        raise NotImplementedError

    def _index_names(self) -> tuple[str, ...]:
        """Return the names of the levels of the index that the template sees."""
        return ()

    def _index(self, start: int, names: Sequence[str]) -> list[list[Any]]:
        """Return these levels of the index of CHUNK_ROWS rows from ``start`` on, as Python values."""
        raise NotImplementedError

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

    def _index_names(self) -> tuple[str, ...]:
        names = list(self._table.index.names)
        return tuple(name for name in names if isinstance(name, str) and names.count(name) == 1 and name != ROW)

    def _index(self, start: int, names: Sequence[str]) -> list[list[Any]]:
        index = self._table.index[start : start + CHUNK_ROWS]
        return [index.get_level_values(name).tolist() for name in names]

    def pick(self, places: Sequence[int]) -> _Table:
        return Pandas(self._table.iloc[list(places)], values=self._values)

    def head(self, count: int) -> _Table:
        return Pandas(self._table.iloc[:count], values=self._values)

    def build(self, answers: Mapping[str, Sequence[Any]], types: Types = NO_TYPES) -> Any:
        pandas = sys.modules["pandas"]
        # A missing value changes the type of a column of int or bool, so those are left to pandas.
        floats = {name for name, kind in types.items() if kind is float}
        levels = self._table.columns.nlevels
        new = {
            name if levels == 1 else (name, *[""] * (levels - 1)): pandas.Series(
                list(values), index=self._table.index, dtype=float if name in floats else None
            )
            for name, values in answers.items()
        }
        table = self._table.drop(columns=[name for name in new if name in self._table.columns])
        for name, column in new.items():  # not assign(), which takes no names of several levels
            table[name] = column
        return table


class Polars(_Table):
    """Take a polars table apart, and put it together."""

    def _column_names(self) -> Iterable[Any]:
        return [*self._table.columns]

    def _chunk(self, start: int) -> list[list[Any]]:
        part = self._table.slice(start, CHUNK_ROWS)
        return [column.to_list() for column in part.get_columns()]

    def pick(self, places: Sequence[int]) -> _Table:
        # An empty list would choose no columns.
        return Polars(self._table[list(places)], values=self._values) if places else self.head(0)

    def head(self, count: int) -> _Table:
        return Polars(self._table.head(count), values=self._values)

    def build(self, answers: Mapping[str, Sequence[Any]], types: Types = NO_TYPES) -> Any:
        polars = sys.modules["polars"]
        kinds = {str: polars.String, float: polars.Float64, int: polars.Int64, bool: polars.Boolean}
        columns = []
        for name, values in answers.items():
            column, kind = polars.Series(name, list(values), strict=False), types.get(name)
            columns.append(column.cast(kinds[kind]) if kind in kinds and column.dtype == polars.Null else column)
        return self._table.with_columns(columns)


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
        # An empty list has no type.
        return Arrow(self._table.take(list(places)), values=self._values) if places else self.head(0)

    def head(self, count: int) -> _Table:
        return Arrow(self._table.slice(0, count), values=self._values)

    def build(self, answers: Mapping[str, Sequence[Any]], types: Types = NO_TYPES) -> Any:
        table = self._table
        for name, values in answers.items():
            if name in table.column_names:
                table = table.drop_columns([name])
            table = table.append_column(name, _arrow_array(list(values), types.get(name)))
        return table


def _arrow_array(values: list[Any], kind: type | None) -> Any:
    pyarrow = sys.modules["pyarrow"]
    kinds = {str: pyarrow.string(), float: pyarrow.float64(), int: pyarrow.int64(), bool: pyarrow.bool_()}
    try:
        array = pyarrow.array(values)
        return array.cast(kinds[kind]) if kind in kinds and pyarrow.types.is_null(array.type) else array
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
        return Narwhals(self._table[list(places)], values=self._values) if places else self.head(0)

    def head(self, count: int) -> _Table:
        return Narwhals(self._table.head(count), values=self._values)

    def build(self, answers: Mapping[str, Sequence[Any]], types: Types = NO_TYPES) -> Any:
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

    def build(self, answers: Mapping[str, Sequence[Any]], types: Types = NO_TYPES) -> Any:
        return {**self._table, **{name: list(values) for name, values in answers.items()}}
