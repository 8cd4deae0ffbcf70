"""The columns that the answers of a run make."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nbchat.core.errors import InputError, ParseError
from nbchat.engine.structured import fields_of, plain
from nbchat.rows.result import Result
from nbchat.tools.answer_type import AnswerType

__all__ = ["COST", "ERROR", "Answers"]

#: The columns that every frame gets.
ERROR, COST = "nbchat_error", "nbchat_cost"
#: The column of an answer that is a text or a list.
ANSWER = "answer"
#: Types that a column of a table can hold.
_SCALARS = (str, int, float, bool, datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID)


#: Types of JSON Schema as types of columns.
_TYPES: Mapping[Any, type] = {"string": str, "integer": int, "number": float, "boolean": bool}


class Answers:
    """Makes the columns of a frame from results.

    Args:
        schema: the type of the answers, or None for texts.

    >>> answers = Answers(None)
    >>> answers.names, answers.columns([Result("ab", "Hello!", cost=0.5)])["answer"]
    (('answer', 'nbchat_error', 'nbchat_cost'), ['Hello!'])
    """

    def __init__(self, schema: AnswerType | None) -> None:
        self._schema = schema
        properties = schema.schema.get("properties") if schema is not None and not schema.is_wrapped else None
        #: The columns of the answer itself.
        self.fields: tuple[str, ...] = tuple(properties) if properties else (ANSWER,)
        self._is_object = bool(properties)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of all columns that a frame gets, in order."""
        return (*self.fields, ERROR, COST)

    @property
    def types(self) -> dict[str, type | None]:
        """Return the types of all columns: str, int, float or bool; None where a column has another or several."""
        if self._schema is None:
            return {ANSWER: str, ERROR: str, COST: float}
        properties = self._schema.schema.get("properties") if self._is_object else {ANSWER: self._schema.source_schema}
        own = {name: _type_of(schema) for name, schema in (properties or {}).items()}
        return {**own, ERROR: str, COST: float}

    def refuse_columns(self, columns: Iterable[str]) -> None:
        """Refuse rows that have a column with the name of a field of the answer.

        Raises:
            InputError: the name, and what to do.
        """
        twice = [name for name in self.fields if name in set(columns)]
        if twice:
            what = "the answer" if not self._is_object else f"the schema has a field {twice[0]!r}, and the answer"
            raise InputError(
                f"the rows have a column {twice[0]!r}, and {what} would replace it; nothing was sent",
                "Rename the column or the field, or leave the column out.",
            )

    def values(self, result: Result) -> tuple[Any, ...]:
        """Return the values of one row, in the order of :attr:`names`."""
        error = result.error or None
        fields: Sequence[Any] = (None,) * len(self.fields)
        if result.ok:
            try:
                fields = self._read(result.text)
            except ParseError as failure:  # the type was changed since the answer came
                error = f"{failure.message}\n{failure.hint}"
        elif self._schema is None and result.text:
            fields = (result.text,)
        return (*fields, error, result.cost)

    def columns(self, results: Iterable[Result]) -> dict[str, list[Any]]:
        """Return the columns of many rows."""
        columns: dict[str, list[Any]] = {name: [] for name in self.names}
        lists = tuple(columns.values())
        for result in results:
            for column, value in zip(lists, self.values(result), strict=True):
                column.append(value)
        return columns

    def _read(self, text: str) -> tuple[Any, ...]:
        if self._schema is None:
            return (text,)
        value = self._schema.parse(text)
        if not self._is_object:
            return (_cell(value),)
        found = fields_of(value)
        aliased = plain(value) if any(name not in found for name in self.fields) else {}
        return tuple(_cell(found.get(name, aliased.get(name))) for name in self.fields)


def _type_of(schema: Any) -> type | None:
    """Return the type of the values that a JSON Schema allows, apart from null; None if there is not one."""
    if not isinstance(schema, Mapping):
        return None
    if isinstance(schema.get("anyOf"), list):
        kinds = {_type_of(part) for part in schema["anyOf"] if not _is_null(part)}
    elif isinstance(schema.get("enum"), list):
        kinds = {type(value) for value in schema["enum"] if value is not None}
    else:
        named = schema.get("type")
        kinds = {_TYPES.get(name) for name in (named if isinstance(named, list) else [named]) if name != "null"}
    kind = kinds.pop() if len(kinds) == 1 else None
    return kind if kind in _TYPES.values() else None


def _is_null(schema: Any) -> bool:
    return isinstance(schema, Mapping) and schema.get("type") == "null"


def _cell(value: Any) -> Any:
    """Return a value that a table can hold: models and dataclasses as dicts, enums as their values."""
    if isinstance(value, enum.Enum):
        value = value.value
    if value is None or isinstance(value, _SCALARS):
        return value
    if isinstance(value, Mapping | list | tuple | set | frozenset) or hasattr(value, "__dict__"):
        return plain(value)
    return value
