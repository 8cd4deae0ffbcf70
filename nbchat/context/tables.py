"""DataFrames and Series as text: shape, dtypes, missing counts, and as many first rows as fit.

pandas is read with its own methods, since its index is data; everything else that narwhals
knows (polars, pyarrow, modin, cuDF, DuckDB, Ibis, Dask, PySpark) is read through narwhals.
A lazy frame is asked for its schema and its first rows, never for its length.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from nbchat.content.blocks import Carried, carry_text, one_line, shorten, tagged

__all__ = ["carry_table", "is_table"]

_LIBRARIES = {"pandas", "geopandas", "polars", "pyarrow", "modin", "cudf", "dask", "duckdb", "ibis", "pyspark"}
_LIBRARIES |= {"sqlframe", "narwhals"}
_FRAMES = {"DataFrame", "LazyFrame", "Table", "DuckDBPyRelation", "GeoDataFrame"}
_NAMES = _FRAMES | {"Series", "ChunkedArray", "GeoSeries"}
#: A cell of a table that is longer is cut: one long text must not crowd out the rows.
CELL = 200
#: Rows asked of a lazy frame at most.
LAZY_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class Table:
    """What is asked of any library: ``missing`` is None where counting would compute everything.

    ``head(rows, columns)`` gives the header and the first rows of the first columns.
    """

    kind: str
    rows: int | None
    columns: Sequence[tuple[str, str]]
    missing: Callable[[int], int] | None
    head: Callable[[int, int], tuple[list[str], list[Sequence[Any]]]]
    index: str = ""
    series: bool = False


def is_table(value: Any) -> bool:
    """Whether the value is a DataFrame or Series of a library that is loaded; imports nothing."""
    for kind in type(value).__mro__:
        if kind.__name__ in _NAMES and kind.__module__.partition(".")[0] in _LIBRARIES:
            return True
    return False


def carry_table(value: Any, name: str, limit: int) -> Carried | None:
    """The summary of a table in at most ``limit`` characters; None where narwhals does not know it."""
    table = _of_pandas(value) if _is_pandas(value) else _of_narwhals(value)
    if table is None:
        return None
    tag = "series" if table.series else "dataframe"
    room = limit - len(tagged(tag, name, "", type=table.kind))
    body, notes = _summary(table, name, room)
    body, more = shorten(body, room, name)
    return carry_text(tagged(tag, name, body, type=table.kind), *notes, *more)


def _is_pandas(value: Any) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, pandas.DataFrame | pandas.Series)


def _of_pandas(value: Any) -> Table:
    import pandas

    series = isinstance(value, pandas.Series)
    frame = value.to_frame(value.name if value.name is not None else "value") if series else value
    plain = isinstance(frame.index, pandas.RangeIndex) and frame.index.name is None and frame.index.start == 0
    plain = plain and frame.index.step == 1
    levels = [] if plain else [str(level) if level is not None else "index" for level in frame.index.names]

    def head(rows: int, columns: int) -> tuple[list[str], list[Sequence[Any]]]:
        part = frame.iloc[:rows, :columns]
        cells = [part.iloc[:, place].tolist() for place in range(part.shape[1])]
        keys = [] if plain else [part.index.get_level_values(place).tolist() for place in range(part.index.nlevels)]
        return [*levels, *map(str, part.columns)], list(zip(*keys, *cells, strict=True))

    dtypes = frame.dtypes.tolist()
    return Table(
        kind=f"pandas.{'Series' if series else 'DataFrame'}",
        rows=len(frame),
        columns=[(str(label), str(dtype)) for label, dtype in zip(frame.columns, dtypes, strict=True)],
        missing=lambda place: int(frame.iloc[:, place].isna().sum()),
        head=head,
        index="" if plain else f"{type(frame.index).__name__} {', '.join(levels)} ({_index_dtype(frame.index)})",
        series=series,
    )


def _index_dtype(index: Any) -> str:
    dtypes = getattr(index, "dtypes", None)
    return ", ".join(map(str, dtypes)) if index.nlevels > 1 else str(index.dtype)


def _of_narwhals(value: Any) -> Table | None:
    try:
        import narwhals as nw
    except ImportError:
        return None
    kind = f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}"
    frame = nw.from_native(value, pass_through=True, allow_series=True)
    series = isinstance(frame, nw.Series)
    if series:
        frame = frame.to_frame()
    if isinstance(frame, nw.LazyFrame):
        lazy = frame
        schema = list(frame.collect_schema().items())
        rows: int | None = None
        missing = None

        def first(count: int) -> Any:
            return lazy.head(count).collect()

    elif isinstance(frame, nw.DataFrame):
        eager = frame
        schema, rows = list(frame.schema.items()), len(frame)

        def missing(place: int) -> int:
            return int(eager[schema[place][0]].null_count())

        def first(count: int) -> Any:
            return eager.head(count)

    else:
        return None

    def head(count: int, columns: int) -> tuple[list[str], list[Sequence[Any]]]:
        names = [label for label, _ in schema[:columns]]
        return names, first(count).select(*names).rows()

    return Table(
        kind=kind,
        rows=rows,
        columns=[(label, str(dtype)) for label, dtype in schema],
        missing=missing,
        head=head,
        series=series,
    )


def _summary(table: Table, name: str, limit: int) -> tuple[str, tuple[str, ...]]:
    name, notes = one_line(name), []
    count = len(table.columns)
    if table.rows is None:
        shape = f"lazy, not computed: number of rows unknown, {count:,} columns"
    elif table.series:
        shape = f"{table.rows:,} values"
    else:
        shape = f"{table.rows:,} rows × {count:,} column{'s' * (count != 1)}"
    lines = [shape + (f"; index: {table.index}" if table.index else "")]
    # Columns may take up to half: a table with thousands of them still shows some rows.
    used, shown = len(lines[0]) + 80, 0
    for place, (label, dtype) in enumerate(table.columns):
        missing = table.missing(place) if table.missing and table.rows else 0
        line = f"- {one_line(label, 80)}: {dtype}" + (f", {missing:,} missing" if missing else "")
        if shown and used + len(line) > limit / 2:
            break
        lines.append(line)
        used, shown = used + len(line) + 1, shown + 1
    if shown < count:
        lines.append(f"… [cut: first {shown:,} of {count:,} columns]")
        notes.append(f"{name}: first {shown:,} of {count:,} columns")
    across = _across(table, shown, limit - used)
    rows, taken, whole, long_cells = _rows(table, across, limit - used)
    if rows:
        what, of = "values" if table.series else "rows", f" of {table.rows:,}" if table.rows is not None else ""
        told = f"all {what}" if whole else f"first {taken:,}{of} {what}"
        if across < shown:
            told += f", first {across:,} columns"
        lines += [f"{told}, as CSV:", *rows]
        if taken and (not whole or across < shown):
            notes.append(f"{name}: {told}")
    if long_cells:
        notes.append(f"{name}: cells cut at {CELL} characters")
    return "\n".join(lines), tuple(notes)


def _across(table: Table, columns: int, room: int) -> int:
    """How many columns the rows show, so that a few rows fit beside their header."""
    if table.rows is None or not table.rows or not columns:
        return columns
    header, values = table.head(1, columns)
    width = len(_csv(header)) + 4 * max(len(_csv(values[0])), 1)
    return columns if width <= room else max(1, columns * max(room, 0) // width)


def _rows(table: Table, columns: int, room: int) -> tuple[list[str], int, bool, bool]:
    """The rows that fit as CSV lines under their header; how many; whether all; whether cells were cut."""
    if not columns or table.rows == 0:
        return [], 0, True, False
    # A row takes two characters a column at least, so no more than this can fit: one bounded read.
    most = max(1, room // (2 * columns) + 1)
    most = min(most, LAZY_ROWS if table.rows is None else table.rows)
    header, values = table.head(most, columns)
    lines, left, long_cells = [_csv(header)], room, False
    left -= len(lines[0])
    for row in values:
        line = _csv(row)
        left -= len(line) + 1
        if left < 0 and len(lines) > 1:
            break
        lines.append(line)
        long_cells = long_cells or "characters]" in line
    taken = len(lines) - 1
    whole = taken == table.rows if table.rows is not None else taken == len(values) < most
    return lines, taken, whole, long_cells


def _csv(row: Sequence[Any]) -> str:
    held = io.StringIO()
    csv.writer(held, lineterminator="").writerow([_cell(value) for value in row])
    return held.getvalue()


def _cell(value: Any) -> str:
    # Missing values are empty, as in a CSV file: None, NaN, NaT and NA are not equal to themselves.
    if value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value):
        return ""
    text = str(value)
    return text if len(text) <= CELL else f"{text[:CELL]}…[{len(text):,} characters]"
