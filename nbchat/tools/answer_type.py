"""The type that an answer should have: its schema for the API, and the reading of its instances.

The API takes the schema in a narrower form than pydantic writes (:mod:`~nbchat.tools.answer_schema`),
but the answer is checked against the type itself. So a limit that the API does not enforce, such as
``minimum``, is still a problem that the user sees.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nbchat.core.errors import InputError, ParseError, SchemaError
from nbchat.core.extension_points import provided
from nbchat.tools.answer_schema import answer_schema, wrapper_key
from nbchat.tools.input_schema import InputSchema
from nbchat.tools.references import with_root_references
from nbchat.tools.schema import JsonType, type_name

__all__ = ["AnswerType"]

#: The exceptions of the json module: for a text that is not JSON, and for one that is nested too deeply.
_UNREADABLE = (ValueError, RecursionError)
#: How many braces in prose are tried as the beginning of the JSON value.
_MAX_BEGINNINGS = 64
_MAX_SHOWN_PROBLEMS = 10


@dataclass(frozen=True, slots=True)
class _DictType:
    """A JSON Schema that the user wrote as a dict. Its instances are plain values."""

    schema: dict[str, Any]
    _validator: Any

    @classmethod
    def of(cls, schema: Mapping[str, Any], name: str) -> _DictType:
        """Return the _DictType of a schema. All errors come before anything is sent and paid for.

        Raises:
            SchemaError: The dict is not a JSON Schema.
            InputError: The library jsonschema is not installed.
        """
        try:
            import jsonschema
        except ImportError:
            raise InputError(
                "--schema with a JSON Schema in a dict needs the library jsonschema, which is not installed",
                "pip install jsonschema, or give a dataclass or a pydantic model instead.",
            ) from None
        try:
            # A copy, because the user may change the dict before the answer is read.
            copy: dict[str, Any] = json.loads(json.dumps(schema))
        except (TypeError, *_UNREADABLE) as error:
            raise SchemaError(f"{name} is not JSON: {error}", 'Write types as text: {"type": "string"}.') from None
        # First the errors of our own, which name the field by its path. The check below explains the others.
        with contextlib.suppress(AttributeError, TypeError):
            answer_schema(copy, name)
            copy = with_root_references(copy, name)
        validator = jsonschema.validators.validator_for(copy, jsonschema.Draft202012Validator)
        try:
            validator.check_schema(copy)
        except jsonschema.SchemaError as error:
            raise SchemaError(f"{name} is not a valid JSON Schema: {error.message}", "See json-schema.org.") from None
        return cls(copy, validator(copy))

    def read(self, value: object) -> tuple[Any, tuple[str, ...]]:
        """Return the value, and its problems, one line each. The API does not enforce the limits of the schema."""
        errors = sorted(self._validator.iter_errors(value), key=lambda error: [str(step) for step in error.path])
        return value, tuple(f"{'.'.join(map(str, error.path)) or 'the answer'}: {error.message}" for error in errors)


@dataclass(frozen=True, slots=True)
class AnswerType:
    """A type that an answer should have, with all that is computed from it.

    Make one per request and pass it on: asking and reading then share one schema.

    Attributes:
        name: The name of the type, for messages and for the model.
        schema: The JSON Schema in the form that the API accepts.
    """

    name: str
    schema: dict[str, Any]
    _wrapper: str
    _source: JsonType | _DictType
    _input: InputSchema

    @classmethod
    def of(cls, T: Any) -> AnswerType:
        """Return the AnswerType of a type or of a JSON Schema in a dict. An AnswerType is returned as it is.

        Raises:
            SchemaError: The type has no JSON Schema, or none that the API accepts.
            InputError: The library that checks a JSON Schema in a dict is not installed.
        """
        if isinstance(T, cls):
            return T
        name = type_name(T)
        source = _DictType.of(T, name) if isinstance(T, Mapping) else JsonType.of(T)
        schema = answer_schema(source.schema, name)
        return cls(name, schema, wrapper_key(source.schema), source, InputSchema.of(schema, name))

    @property
    def is_wrapped(self) -> bool:
        """Return True if the type is not an object, and the API is asked for an object around its value."""
        return bool(self._wrapper)

    @property
    def source_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the type itself, which :meth:`of` takes."""
        return self._source.schema

    @property
    def input_schema(self) -> dict[str, Any]:
        """Return the schema in the form for the input of a tool, where properties have other names."""
        return self._input.schema

    def parse(self, text: str) -> Any:
        """Return the instance in the text of an answer. The JSON may be fenced, and may have prose around it.

        Raises:
            ParseError: There is no JSON, or it does not fit. ``problems`` lists each misfit with its path.
        """
        try:
            value = _json_in(text)
        except ValueError as error:
            raise _misfit(self.name, (str(error),)) from None
        value = self._input.restored(value)
        # Models often leave the wrapper out when they are asked in words, so it is optional here.
        if self._wrapper and isinstance(value, Mapping) and set(value) == {self._wrapper}:
            value = value[self._wrapper]
        instance, problems = self._source.read(value)
        if problems:
            raise _misfit(self.name, problems)
        return instance


def _json_in(text: str) -> Any:
    """Return the JSON value in a text: the whole text, a fenced block, or the first value in the prose.

    Raises:
        ValueError: There is none.
    """
    try:
        return json.loads(text)
    except _UNREADABLE as error:
        problem = str(error)
    for _, source in sorted(provided("fenced_code")(text), key=lambda block: block[0] != "json"):
        try:
            return json.loads(source)
        except _UNREADABLE as error:
            problem = str(error)
    # Prose has braces of its own, so a brace that begins no value is passed over. The number of tries
    # has a limit, because each one may read to the end of the text: a text of braces only would take
    # quadratic time.
    for match in itertools.islice(re.finditer(r"[{\[]", text), _MAX_BEGINNINGS):
        try:
            return json.JSONDecoder().raw_decode(text, match.start())[0]
        except _UNREADABLE:
            continue
    raise ValueError(f"not JSON: {problem}" if text.strip() else "the answer is empty")


def _misfit(name: str, problems: tuple[str, ...]) -> ParseError:
    lines = [f"  {problem}" for problem in problems[:_MAX_SHOWN_PROBLEMS]]
    if len(problems) > _MAX_SHOWN_PROBLEMS:
        lines.append(f"  and {len(problems) - _MAX_SHOWN_PROBLEMS} more")
    return ParseError(
        "\n".join([f"the answer does not fit {name}:", *lines]),
        "--retry asks once more and lists these problems. The answer is in the Response, as .text.",
        problems=problems,
    )
