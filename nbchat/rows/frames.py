"""Frames: rows of any kind as mappings for a template, and the answers in the same kind.

Kinds: pandas, polars and pyarrow tables, their Series and columns, any other eager table that narwhals
reads, mappings of columns, lists of dicts or of values, and iterators, which may be larger than memory.
A library is recognised through ``sys.modules`` and never imported: a frame in the user's hands means
that its library is loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol

from nbchat.core.errors import InputError
from nbchat.rows.tables import NO_TYPES, ROW, Arrow, Columns, Narwhals, Pandas, Polars, Types

__all__ = ["ROW", "Frame", "is_rows", "read_frame"]

_KINDS = "Give a pandas, polars or pyarrow table, a Series, a list of dicts or values, or an iterator over them."


class Frame(Protocol):
    """Rows in, and the same kind of frame out.

    Attributes:
        columns: the names of the columns; () if they are not known before the rows are read.
        count: the number of rows, or None for an iterator.
        once: True if the rows can be read only once.
    """

    columns: tuple[str, ...]
    count: int | None
    once: bool

    def rows(self) -> Iterator[Mapping[str, Any]]:
        """Yield each row as the names that its template sees. The whole row is under the name ``row``."""
        ...

    def head(self, count: int) -> Frame:
        """Return the frame of the first ``count`` rows, of the same kind."""
        ...

    def pick(self, places: Sequence[int]) -> Frame:
        """Return the frame of the rows at these places, of the same kind."""
        ...

    def build(self, answers: Mapping[str, Sequence[Any]], types: Types = NO_TYPES) -> Any:
        """Return a frame of the same kind and index with these columns added.

        Args:
            answers: the new columns by name, each with a value for every row.
            types: the types of columns, which a column without any value has too: parts of a table that are
                put together again must have the same types.
        """
        ...


def is_rows(value: Any) -> bool:
    """Return True if :func:`read_frame` takes the value."""
    if isinstance(value, str | bytes | bytearray | memoryview):
        return False
    # A query that has not run has rows, too; read_frame says what to do.
    return isinstance(value, Iterable) or hasattr(value, "collect")


def read_frame(value: Any) -> Frame:
    """Return the frame of rows of any kind.

    Raises:
        InputError: the value has no rows, or is a query that has not run.

    >>> frame = read_frame([{"text": "Good!"}, {"text": "Bad."}])
    >>> [row["text"] for row in frame.rows()]
    ['Good!', 'Bad.']
    >>> frame.build({"answer": ["positive", "negative"]})
    [{'text': 'Good!', 'answer': 'positive'}, {'text': 'Bad.', 'answer': 'negative'}]
    """
    if isinstance(value, str | bytes | bytearray | memoryview):
        raise InputError(f"rows cannot be a {type(value).__name__}", f"{_KINDS} For one text use nbchat.ask.")
    if (table := _table_of(value)) is not None:
        return table
    if isinstance(value, Mapping):
        return _columns_of(value)
    if isinstance(value, Iterator):
        return _Iterated(value)
    if isinstance(value, Sequence) or (isinstance(value, Collection) and not isinstance(value, Mapping)):
        return _Listed(value if isinstance(value, Sequence) else list(value))
    if isinstance(value, Iterable):
        return _Iterated(value)
    raise InputError(f"rows cannot be read from a {type(value).__name__}", _KINDS)


def _table_of(value: Any) -> Frame | None:
    """Return the frame of a table or a Series of a library, or None for any other value."""
    kind = type(value)
    library = kind.__module__.partition(".")[0]
    modules = sys.modules
    if (pandas := modules.get("pandas")) is not None:
        if isinstance(value, pandas.DataFrame):
            return Pandas(value)
        if isinstance(value, pandas.Series | pandas.Index):
            series = value if isinstance(value, pandas.Series) else value.to_series()
            return Pandas(series.to_frame(_name_of(series.name)), values=True)
    if (polars := modules.get("polars")) is not None:
        if isinstance(value, polars.DataFrame):
            return Polars(value)
        if isinstance(value, polars.Series):
            return Polars(value.to_frame(_name_of(value.name)), values=True)
        if isinstance(value, polars.LazyFrame):
            raise InputError("the rows are a polars LazyFrame, which has not run", "Call .collect() first.")
    if (pyarrow := modules.get("pyarrow")) is not None:
        if isinstance(value, pyarrow.Table | pyarrow.RecordBatch):
            return Arrow(value if isinstance(value, pyarrow.Table) else pyarrow.Table.from_batches([value]))
        if isinstance(value, pyarrow.RecordBatchReader):  # which may be larger than memory
            return _Iterated(row for batch in value for row in batch.to_pylist())
        if isinstance(value, pyarrow.Array | pyarrow.ChunkedArray):
            return Arrow(pyarrow.table({ROW: value}), values=True)
    if (numpy := modules.get("numpy")) is not None and isinstance(value, numpy.ndarray):
        if value.ndim == 1 and value.dtype.names:  # a structured array
            return _Listed([dict(zip(value.dtype.names, row, strict=True)) for row in value.tolist()])
        return _Listed(value.tolist() if value.ndim == 1 else list(value))
    if library not in ("builtins", "collections", "itertools") and (narwhals := modules.get("narwhals")) is not None:
        return _of_narwhals(value, narwhals)
    return None


def _of_narwhals(value: Any, narwhals: Any) -> Frame | None:
    read = narwhals.from_native(value, pass_through=True, allow_series=True)
    if isinstance(read, narwhals.LazyFrame):
        raise InputError(f"the rows are a {type(value).__name__}, a query that has not run", "Collect the rows first.")
    if isinstance(read, narwhals.DataFrame):
        return Narwhals(read)
    if isinstance(read, narwhals.Series):
        return Narwhals(read.alias(_name_of(read.name)).to_frame(), values=True)
    return None


def _name_of(name: Any) -> str:
    return str(name) if name not in (None, "") else ROW


def _fields_of(value: Any) -> dict[str, Any]:
    """Return the names that a template sees of one row that is not a table's."""
    if isinstance(value, Mapping):
        return {ROW: value, **{str(name): part for name, part in value.items()}}
    if hasattr(value, "_asdict"):  # a named tuple, as cursors and itertuples() give them
        return {ROW: value, **value._asdict()}
    return {ROW: value}


def _dict_of(value: Any) -> dict[str, Any]:
    """Return one row as a dict for the frame that goes out."""
    fields = _fields_of(value)
    return {name: part for name, part in fields.items() if name != ROW} if len(fields) > 1 else fields


def _columns_of(columns: Mapping[Any, Any]) -> Frame:
    """Return the frame of a mapping of columns, as engines give their batches."""
    lists = {str(name): list(column) for name, column in columns.items() if _is_column(column)}
    if not lists or len(lists) < len(columns) or len({len(column) for column in lists.values()}) > 1:
        raise InputError(
            "the rows are a mapping, but not of columns of one length",
            "Give {name: [value, value, …], …}, or a list with one dict for each row.",
        )
    return Columns(lists)


def _is_column(column: Any) -> bool:
    return isinstance(column, Iterable) and not isinstance(column, str | bytes | Mapping)


class _Listed:
    """A list of dicts or of values. Out comes a list of dicts; a value is under the name ``row``."""

    once = False

    def __init__(self, rows: Sequence[Any]) -> None:
        self._rows = rows
        first = _fields_of(rows[0]) if len(rows) else {}
        self.columns = tuple(first)[1:] or tuple(first)
        self.count: int | None = len(rows)

    def rows(self) -> Iterator[Mapping[str, Any]]:
        return map(_fields_of, self._rows)

    def pick(self, places: Sequence[int]) -> Frame:
        return _Listed([self._rows[place] for place in places])

    def head(self, count: int) -> Frame:
        return _Listed(self._rows[:count])

    def build(self, answers: Mapping[str, Sequence[Any]], types: Types = NO_TYPES) -> Any:
        return [
            {**_dict_of(row), **{name: values[place] for name, values in answers.items()}}
            for place, row in enumerate(self._rows)
        ]


class _Iterated:
    """An iterator, or another iterable without a length. Its rows are never in memory all at once.

    A job keeps the plain values of such rows in its store, and makes its frame from there.
    """

    columns: tuple[str, ...] = ()
    count: int | None = None

    def __init__(self, rows: Iterable[Any], limit: int | None = None) -> None:
        self.once = isinstance(rows, Iterator)
        self._rows, self._limit = rows, limit

    def rows(self) -> Iterator[Mapping[str, Any]]:
        rows = iter(self._rows)
        return map(_fields_of, rows if self._limit is None else islice(rows, self._limit))

    def head(self, count: int) -> Frame:
        return _Iterated(self._rows, count)

    def pick(self, places: Sequence[int]) -> Frame:
        return _Listed([])

    def build(self, answers: Mapping[str, Sequence[Any]], types: Types = NO_TYPES) -> Any:
        names = tuple(answers)
        return [dict(zip(names, values, strict=True)) for values in zip(*answers.values(), strict=True)]
