"""Errors in a template over rows: those of a cell, with hints that name the columns."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from typing import Any

from nbchat.core.errors import TemplateError
from nbchat.rows.tables import ROW

__all__ = ["explain", "is_missing"]

#: How many columns and how many characters of a name a hint shows.
_SHOWN_COLUMNS, _SHOWN_CHARACTERS = 12, 60
#: Missing values of pandas, whose comparison is not a bool.
_MISSING = frozenset({"NAType", "NaTType"})


def explain(failure: TemplateError, fields: Mapping[str, Any]) -> TemplateError:
    """Return the error of a template with a hint for rows.

    Args:
        failure: the error, as of a cell.
        fields: the names that the template sees of one row.

    >>> from nbchat.core.template import split
    >>> try:
    ...     split("About {{ my text }}")
    ... except TemplateError as error:
    ...     explain(error, {"row": {}, "my text": "Hi"}).hint
    "The column 'my text' is not a Python name, so write {{ row['my text'] }}."
    """
    source = failure.message.partition("{{ ")[2].partition(" }}")[0]
    if source in fields and not source.isidentifier():
        hint = f"The column {source!r} is not a Python name, so write {{{{ row[{source!r}] }}}}."
    elif source in fields and "is not a Python expression" in failure.message:
        hint = f"{source!r} is a word of Python, so write {{{{ row[{source!r}] }}}}."
    elif _names_a_column(failure) and not _suggests(failure, fields):
        hint = f"{_columns(fields)} Or write \\{{{{ for literal braces."
    elif hidden := _hidden(source, fields):
        hint = f"The column {hidden!r} hides the {hidden!r} of Python. Rename the column."
    else:
        return failure
    explained = TemplateError(failure.message, hint)
    explained.__cause__ = failure.__cause__
    return explained


def _names_a_column(failure: TemplateError) -> bool:
    return isinstance(failure.__cause__, NameError | KeyError | AttributeError)


def _suggests(failure: TemplateError, fields: Mapping[str, Any]) -> bool:
    """Return True if the hint names a column that was meant."""
    meant = failure.hint.removeprefix("Did you mean ").partition("?")[0]
    return meant != failure.hint and meant in fields


def _hidden(source: str, fields: Mapping[str, Any]) -> str:
    """Return the column that an expression calls as a function of Python, or ""."""
    called = (name for name in fields if f"{name}(" in source and hasattr(builtins, name))
    return next((name for name in called if not callable(fields[name])), "")


def _columns(fields: Mapping[str, Any]) -> str:
    names = [name for name in fields if name != ROW]
    if not names:
        return "The rows are values without names: {{ row }} is the value."
    shown = ", ".join(name[:_SHOWN_CHARACTERS] for name in names[:_SHOWN_COLUMNS])
    more = f" and {len(names) - _SHOWN_COLUMNS} more" if len(names) > _SHOWN_COLUMNS else ""
    return f"The rows have {'the column' if len(names) == 1 else 'the columns'} {shown}{more}."


def is_missing(value: Any) -> bool:
    """Return True for the values that stand for no value: None, NaN, NaT and NA.

    >>> is_missing(None), is_missing(float("nan")), is_missing(""), is_missing(0)
    (True, True, False, False)
    """
    if value is None or type(value).__name__ in _MISSING:
        return True
    return isinstance(value, float) and value != value
