"""Read a callable: its name, its docstring, and the types and defaults of its parameters.

The SDK's ``beta_tool`` reads functions with the same two libraries, pydantic and docstring_parser,
and a test compares the results. We read them here for what ``beta_tool`` does not do: an error that
names the parameter, and methods, partials and other callables that are not plain functions.
"""

from __future__ import annotations

import functools
import inspect
import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nbchat.core.errors import SchemaError
from nbchat.tools.schema import modern

__all__ = [
    "Documentation",
    "default_of",
    "default_schema",
    "documentation_of",
    "hint_of",
    "name_of",
    "signature_of",
]


@dataclass(frozen=True, slots=True)
class Documentation:
    """A docstring: the text about the function, and the text about each parameter."""

    text: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def name_of(function: Any) -> str:
    """Return the name of a callable, or "" for a lambda."""
    while isinstance(function, functools.partial):
        function = function.func
    name: str = getattr(function, "__name__", "") or type(function).__name__
    return "" if name == "<lambda>" else name


def documentation_of(function: Any) -> Documentation:
    """Return the docstring of a callable, in Google, numpy or reST style."""
    import docstring_parser

    source = _innermost(function)
    text = inspect.getdoc(source) or ""
    # An instance with __call__ is described by its class if the method has no docstring of its own.
    if source is not function and not isinstance(function, functools.partial) and not inspect.ismethod(function):
        text = text or inspect.getdoc(type(function)) or ""
    try:
        parsed = docstring_parser.parse(text)
    except docstring_parser.ParseError:
        return Documentation(text)
    description = "\n\n".join(part for part in (parsed.short_description, parsed.long_description) if part)
    return Documentation(
        description, {one.arg_name.lstrip("*"): one.description for one in parsed.params if one.description}
    )


def _innermost(function: Any) -> Any:
    """Return the function that has the code, the annotations and the docstring, without its wrappers."""
    while isinstance(function, functools.partial):
        function = function.func
    if not inspect.isroutine(function) and not isinstance(function, type) and callable(function):
        # Decorators such as functools.lru_cache return an object with __wrapped__. Other objects define __call__.
        function = getattr(function, "__wrapped__", None) or type(function).__call__
    return getattr(function, "__func__", function)


def signature_of(function: Any, shown: str) -> inspect.Signature:
    """Return the signature that the model sees.

    Args:
        function: Any callable.
        shown: The name of the tool, for messages.

    Raises:
        SchemaError: The signature cannot be read, or has ``*args``.
    """
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        raise SchemaError(
            f"tool {shown}: its signature cannot be read", "Wrap it in a def with named parameters."
        ) from None
    # inspect shows keywords that a partial binds as parameters with a default. The user bound them so
    # that nobody passes another value, and a bound key or password must not reach the model.
    bound: set[str] = set()
    inner = function
    while isinstance(inner, functools.partial):
        bound |= set(inner.keywords)
        inner = inner.func
    parameters = [parameter for parameter in signature.parameters.values() if parameter.name not in bound]
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            raise SchemaError(
                f"tool {shown}: parameter *{parameter.name} takes values without names, and the model names each value",
                "Wrap it in a def that takes a list.",
            )
    return signature.replace(parameters=parameters)


def hint_of(parameter: inspect.Parameter, function: Any, shown: str) -> Any:
    """Return the type hint of a parameter, or ``Any``.

    Args:
        parameter: The parameter.
        function: The callable that has it.
        shown: The name of the tool, for messages.

    Raises:
        SchemaError: The hint contains a name that is not defined.
    """
    import pydantic.fields

    hint = Any if parameter.annotation is parameter.empty else _evaluated(parameter, function, shown)
    if isinstance(parameter.default, pydantic.fields.FieldInfo):
        hint = typing.Annotated[hint, parameter.default]
    return modern(hint)


def _evaluated(parameter: inspect.Parameter, function: Any, shown: str) -> Any:
    """Return the annotation of a parameter with the names in it looked up where the function was written."""
    source = inspect.unwrap(_innermost(function))
    if isinstance(source, type):
        source = inspect.getattr_static(source, "__init__")
    # One parameter at a time: get_type_hints(function) would fail for all of them if one name is not
    # defined, even if it is only in the return annotation, which no tool needs.
    holder = type("hints", (), {"__annotations__": {parameter.name: parameter.annotation}})
    try:
        hints = typing.get_type_hints(
            holder, globalns=getattr(source, "__globals__", {}), localns=_locals_of(source), include_extras=True
        )
    except Exception as error:
        raise SchemaError(
            f"tool {shown}: the type of parameter {parameter.name} cannot be read: {error}",
            "Import or define that name, or change the annotation.",
        ) from None
    return hints[parameter.name]


def _locals_of(function: Any) -> dict[str, Any]:
    """Return the variables of enclosing functions that the code of a function uses."""
    try:
        return dict(inspect.getclosurevars(function).nonlocals)
    except (TypeError, ValueError):
        return {}


def default_of(parameter: inspect.Parameter) -> Any:
    """Return the default of a parameter, also one written as ``Field(default=…)``, or ``Parameter.empty``."""
    import pydantic.fields

    if not isinstance(parameter.default, pydantic.fields.FieldInfo):
        return parameter.default
    if parameter.default.is_required():
        return parameter.empty
    return parameter.default.get_default(call_default_factory=True)


def default_schema(default: Any) -> dict[str, Any]:
    """Return ``{"default": …}``, or an empty dict if the default has no JSON form."""
    import pydantic_core

    try:
        return {"default": json.loads(pydantic_core.to_json(default))}
    except (pydantic_core.PydanticSerializationError, ValueError):
        return {}
