"""DataFrames and Series as text: shape, dtypes, missing counts, and as many first rows as fit.

A pandas object is read with its own methods, since its index is data. All other libraries that
narwhals supports (polars, pyarrow, modin, cuDF, DuckDB, Ibis, Dask, PySpark) are read through narwhals.
A lazy frame is asked for its schema and its first rows, and never for its length, which would compute it.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from nbchat.content.blocks import Carried, carry_text, one_line, tagged
from nbchat.content.cutting import cut_mark, shorten
from nbchat.core.plural import counted

if TYPE_CHECKING:
    import narwhals

__all__ = ["carry_table", "is_table"]

_LIBRARIES = {"pandas", "geopandas", "polars", "pyarrow", "modin", "cudf", "dask", "duckdb", "ibis", "pyspark"}
_LIBRARIES |= {"sqlframe", "narwhals"}
_FRAMES = {"DataFrame", "LazyFrame", "Table", "DuckDBPyRelation", "GeoDataFrame"}
_CLASSES = _FRAMES | {"Series", "ChunkedArray", "GeoSeries"}
#: A longer cell of a table is cut, so that one long text does not leave out the other rows.
CELL_CHARACTERS = 200
#: The most rows to ask of a lazy frame.
MAX_LAZY_ROWS = 1_000
#: Characters kept free for the line above the rows.
HEADING_CHARACTERS = 80
#: Rows that should fit next to their header, when columns are left out.
FEW_ROWS = 4

Rows: TypeAlias = tuple[list[str], list[Sequence[Any]]]


@dataclass(frozen=True, slots=True)
class Table:
    """A table of any library.

    Attributes:
        kind: The library and the class, as in ``pandas.DataFrame``.
        row_count: The number of rows, or None for a lazy frame.
        columns: The names and the dtypes of the columns.
        count_missing: Counts the missing values of a column by its position. None for a lazy frame.
        head: Returns the header and the first rows of the first columns, called as ``head(rows, columns)``.
        index: A description of the index, if it is data.
        is_series: True for a Series, which has one column.
    """

    kind: str
    row_count: int | None
    columns: Sequence[tuple[str, str]]
    count_missing: Callable[[int], int] | None
    head: Callable[[int, int], Rows]
    index: str = ""
    is_series: bool = False


def is_table(value: Any) -> bool:
    """Return True if the value is a DataFrame or Series of a supported library. Imports nothing."""
    for kind in type(value).__mro__:
        if kind.__name__ in _CLASSES and kind.__module__.partition(".")[0] in _LIBRARIES:
            return True
    return False


def carry_table(value: Any, name: str, limit: int) -> Carried | None:
    """Return a summary of a table in at most ``limit`` characters, or None if narwhals cannot read it."""
    table = _read_pandas(value) if _is_pandas(value) else _read_narwhals(value)
    if table is None:
        return None
    tag = "series" if table.is_series else "dataframe"
    room = limit - len(tagged(tag, name, "", type=table.kind))
    body, notes = _summary(table, one_line(name), room)
    body, more_notes = shorten(body, room, name)
    return carry_text(tagged(tag, name, body, type=table.kind), *notes, *more_notes)


def _is_pandas(value: Any) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, pandas.DataFrame | pandas.Series)


def _read_pandas(value: Any) -> Table:
    import pandas

    is_series = isinstance(value, pandas.Series)
    frame = value.to_frame(value.name if value.name is not None else "value") if is_series else value
    # The index 0, 1, 2, … that pandas itself makes is not data.
    is_default = isinstance(frame.index, pandas.RangeIndex) and frame.index.name is None and frame.index.start == 0
    is_default = is_default and frame.index.step == 1
    levels = [] if is_default else [str(level) if level is not None else "index" for level in frame.index.names]

    def head(rows: int, columns: int) -> Rows:
        part = frame.iloc[:rows, :columns]
        # By position, since several columns may have one name.
        cells = [part.iloc[:, place].tolist() for place in range(part.shape[1])]
        keys = [part.index.get_level_values(place).tolist() for place in range(len(levels))]
        return [*levels, *map(str, part.columns)], list(zip(*keys, *cells, strict=True))

    dtypes = frame.dtypes.tolist()
    return Table(
        kind=f"pandas.{'Series' if is_series else 'DataFrame'}",
        row_count=len(frame),
        columns=[(str(label), str(dtype)) for label, dtype in zip(frame.columns, dtypes, strict=True)],
        count_missing=lambda place: int(frame.iloc[:, place].isna().sum()),
        head=head,
        index="" if is_default else f"{type(frame.index).__name__} {', '.join(levels)} ({_index_dtypes(frame.index)})",
        is_series=is_series,
    )


def _index_dtypes(index: Any) -> str:
    return ", ".join(map(str, index.dtypes)) if index.nlevels > 1 else str(index.dtype)


def _read_narwhals(value: Any) -> Table | None:
    try:
        import narwhals as nw
    except ImportError:
        return None
    kind = f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}"
    frame: Any = nw.from_native(value, pass_through=True, allow_series=True)
    is_series = isinstance(frame, nw.Series)
    if is_series:
        frame = frame.to_frame()
    if isinstance(frame, nw.LazyFrame):
        return _read_lazy(frame, kind)
    return _read_eager(frame, kind, is_series) if isinstance(frame, nw.DataFrame) else None


def _read_eager(frame: narwhals.DataFrame[Any], kind: str, is_series: bool) -> Table:
    names = frame.columns
    return Table(
        kind=kind,
        row_count=len(frame),
        columns=[(label, str(dtype)) for label, dtype in frame.schema.items()],
        count_missing=lambda place: int(frame[names[place]].null_count()),
        head=lambda rows, columns: (names[:columns], list(frame.head(rows).select(*names[:columns]).rows())),
        is_series=is_series,
    )


def _read_lazy(frame: narwhals.LazyFrame[Any], kind: str) -> Table:
    schema = frame.collect_schema()
    names = schema.names()
    return Table(
        kind=kind,
        row_count=None,
        columns=[(label, str(dtype)) for label, dtype in schema.items()],
        count_missing=None,
        # The rows are collected before columns are chosen: the same query as `frame.head(n)` of the user.
        head=lambda rows, columns: (names[:columns], list(frame.head(rows).collect().select(*names[:columns]).rows())),
    )


def _summary(table: Table, name: str, limit: int) -> tuple[str, tuple[str, ...]]:
    """Return the shape, the columns and the rows of a table as text, and notes on those that were left out."""
    shape = _shape(table)
    used = len(shape) + HEADING_CHARACTERS
    # Columns may take up to half of the limit: a table with thousands of them still shows some rows.
    column_lines = _column_lines(table, limit / 2 - used)
    used += sum(len(line) + 1 for line in column_lines)
    lines, notes = [shape, *column_lines], []
    shown = len(column_lines)
    if shown < len(table.columns):
        kept = f"first {shown:,} of {len(table.columns):,} columns"
        lines.append(cut_mark(kept))
        notes.append(f"{name}: {kept}")
    width = _fitting_columns(table, shown, limit - used)
    rows = _fitting_rows(table, width, limit - used)
    if rows.lines:
        kept = _kept(table, rows, width if width < shown else None)
        lines += [f"{kept}, as CSV:", *rows.lines]
        if rows.count and (not rows.are_all or width < shown):
            notes.append(f"{name}: {kept}")
    if rows.has_cut_cells:
        notes.append(f"{name}: cells cut at {CELL_CHARACTERS} characters")
    return "\n".join(lines), tuple(notes)


def _shape(table: Table) -> str:
    count = len(table.columns)
    if table.row_count is None:
        shape = f"lazy, not computed: number of rows unknown, {count:,} columns"
    elif table.is_series:
        shape = f"{table.row_count:,} values"
    else:
        shape = f"{counted(table.row_count, 'row')} × {counted(count, 'column')}"
    return shape + (f"; index: {table.index}" if table.index else "")


def _column_lines(table: Table, room: float) -> list[str]:
    """Return a line for each of the first columns that fit in ``room`` characters, and for at least one."""
    lines: list[str] = []
    for place, (label, dtype) in enumerate(table.columns):
        missing = table.count_missing(place) if table.count_missing and table.row_count else 0
        line = f"- {one_line(label, 80)}: {dtype}" + (f", {missing:,} missing" if missing else "")
        if lines and len(line) > room:
            break
        lines.append(line)
        room -= len(line) + 1
    return lines


def _kept(table: Table, rows: FittingRows, width: int | None) -> str:
    """Return the words that say which rows follow, and how many columns of them unless ``width`` is None."""
    what = "values" if table.is_series else "rows"
    total = f" of {table.row_count:,}" if table.row_count is not None else ""
    kept = f"all {what}" if rows.are_all else f"first {rows.count:,}{total} {what}"
    return kept + (f", first {width:,} columns" if width is not None else "")


def _fitting_columns(table: Table, columns: int, room: int) -> int:
    """Return how many columns the rows show, so that a few rows fit next to their header."""
    if table.row_count is None or not table.row_count or not columns:
        return columns
    header, values = table.head(1, columns)
    width = len(_csv_line(header)) + FEW_ROWS * max(len(_csv_line(values[0])), 1)
    return columns if width <= room else max(1, columns * max(room, 0) // width)


@dataclass(frozen=True, slots=True)
class FittingRows:
    """The first rows of a table as CSV lines under their header."""

    lines: Sequence[str] = ()
    are_all: bool = True
    has_cut_cells: bool = False

    @property
    def count(self) -> int:
        """Return the number of rows, without the header."""
        return len(self.lines) - 1


def _fitting_rows(table: Table, columns: int, room: int) -> FittingRows:
    """Return the first rows that fit in ``room`` characters, and at least one."""
    if not columns or table.row_count == 0:
        return FittingRows()
    # A row takes at least two characters a column. So this many rows are enough, and one read is.
    most = max(1, room // (2 * columns) + 1)
    most = min(most, MAX_LAZY_ROWS if table.row_count is None else table.row_count)
    header, values = table.head(most, columns)
    lines, has_cut_cells = [_csv_line(header)], False
    room -= len(lines[0])
    for row in values:
        line = _csv_line(row)
        room -= len(line) + 1
        if room < 0 and len(lines) > 1:
            break
        lines.append(line)
        has_cut_cells = has_cut_cells or "characters]" in line
    count = len(lines) - 1
    # A lazy frame does not know its length: fewer rows than asked for are all that it has.
    are_all = count == table.row_count if table.row_count is not None else count == len(values) < most
    return FittingRows(lines, are_all, has_cut_cells)


def _csv_line(row: Sequence[Any]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow([_cell_text(value) for value in row])
    return buffer.getvalue()


def _cell_text(value: Any) -> str:
    # Missing values are empty, as in a CSV file. NaN is the only float that is not equal to itself,
    # and comparing NA raises, so NA and NaT are recognized by their class.
    if value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value):
        return ""
    text = str(value)
    # The mark is shorter than that of `shorten`, since it may be in each cell of a column.
    return text if len(text) <= CELL_CHARACTERS else f"{text[:CELL_CHARACTERS]}…[{len(text):,} characters]"
