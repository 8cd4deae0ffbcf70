"""A typed answer as a table: while the answer arrives, and when it is whole.

A list of records has one row for each record. One record has one row for each field. The values are
plain (dicts, lists, scalars) or instances of dataclasses, pydantic models and enums. All their text
is treated as hostile.
"""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Iterable, Mapping
from typing import Any

from nbchat.view.html.partial_json import value_so_far
from nbchat.view.html.safe import clean, escape
from nbchat.view.tables import html_table

__all__ = ["TypedTable", "render_value"]

#: A table shows at most this many rows and columns. ``response.parsed`` has all of them.
MAX_ROWS, MAX_COLUMNS = 200, 30
#: A cell shows at most this many characters.
MAX_CELL_CHARACTERS = 2_000


def render_value(value: Any) -> str:
    """Return the safe HTML of a value, "" for None."""
    plain = _plain(value)
    if plain is None:
        return ""
    if isinstance(plain, list) and plain and all(isinstance(row, dict) for row in plain):
        return clean(_rows(plain))
    if isinstance(plain, list):
        items = "".join(f"<li>{_cell(item)}</li>\n" for item in plain[:MAX_ROWS])
        return clean(f"<ol>\n{items}</ol>\n{_more(len(plain) - MAX_ROWS, 'items')}")
    if isinstance(plain, dict):
        fields = list(plain.items())
        rows = [_part("th", escape(name)) + _part("td", _cell(part)) for name, part in fields[:MAX_ROWS]]
        return clean(html_table(rows, line_end="\n") + _more(len(fields) - MAX_ROWS, "fields"))
    return clean(f"<p>{_cell(plain)}</p>\n")


def _rows(rows: list[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    numeric = {name: _is_numeric(row.get(name) for row in rows[:MAX_ROWS]) for name in names[:MAX_COLUMNS]}
    head = "".join(_part("th", escape(name), is_number=numeric[name]) for name in numeric)
    body = [
        "".join(_part("td", _cell(row.get(name)), is_number=numeric[name]) for name in numeric)
        for row in rows[:MAX_ROWS]
    ]
    table = html_table(body, head=head, line_end="\n")
    return table + _more(len(rows) - MAX_ROWS, "rows") + _more(len(names) - MAX_COLUMNS, "columns")


def _part(tag: str, content: str, *, is_number: bool = False) -> str:
    """Return a cell with its alignment. JupyterLab would align text to the right, and GitHub numbers to the left."""
    return f'<{tag} style="text-align:{"right" if is_number else "left"}">{content}</{tag}>'


def _is_numeric(values: Iterable[Any]) -> bool:
    """Return True if a column has numbers only, and at least one."""
    present = [value for value in values if value is not None]
    return bool(present) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in present)


def _more(count: int, noun: str) -> str:
    return f"<p><em>… {count:,} more {noun}</em></p>\n" if count > 0 else ""


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(part, str | int | float) for part in value):
        text = ", ".join(str(part) for part in value)
    elif isinstance(value, dict | list):
        text = json.dumps(value, ensure_ascii=False, default=str)
    else:
        text = str(value)
    return escape(text if len(text) <= MAX_CELL_CHARACTERS else text[: MAX_CELL_CHARACTERS - 1] + "…")


def _plain(value: Any) -> Any:
    """Return an instance as dicts, lists and scalars."""
    if isinstance(value, enum.Enum):
        return _plain(value.value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(type(value), "model_fields"):  # a pydantic model, recognised without importing pydantic
        return {str(name): _plain(part) for name, part in value}
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(part) for part in value]
    return value


class TypedTable:
    """The JSON text of a typed answer as a table that grows."""

    may_be_cut = True

    def __init__(self) -> None:
        self._pieces: list[str] = []

    def feed(self, text: str) -> None:
        """Take some more text."""
        self._pieces.append(text)

    def advance(self) -> list[str]:
        """Return []: until the answer ends, a later row may still add a column to all rows."""
        return []

    def tail(self) -> str:
        """Return the table as far as the text has arrived."""
        return render_value(value_so_far("".join(self._pieces))) if self._pieces else ""

    def close(self) -> list[str]:
        """Return the whole table as finished HTML."""
        html = self.tail()
        self._pieces.clear()
        return [html] if html else []
