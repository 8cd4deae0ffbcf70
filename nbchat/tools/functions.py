"""Python functions as tools: their definitions, and calling them.

A definition is made of the signature, the type hints and the docstring (Google, numpy or reST),
as the SDK's ``beta_tool`` makes it, of the same two libraries: pydantic and docstring_parser. It
is made here, parameter by parameter, so that an error can name the parameter, what the model
gives is checked with a message for each argument, and methods, partials and other callables are
described as well. A test holds the definitions against ``beta_tool``.
"""

from __future__ import annotations

import functools
import inspect
import json
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nbchat.core.errors import OptionError, ParseError, SchemaError, nearest
from nbchat.tools.coroutine import run_coroutine
from nbchat.tools.schema import adapter_of, modern, problems_of, schema_from
from nbchat.tools.toolbox import Content, Outcome, Tool, failure, plain_content, said, wire_name

__all__ = ["FunctionTool", "is_tool", "marked", "resolve", "tool"]

_MARK = "__nbchat_tool__"
_APPROVALS = ("ask", "always", "never")


@dataclass(frozen=True, slots=True)
class _Mark:
    name: str | None
    description: str | None
    approve: str | None


def tool(
    function: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    description: str | None = None,
    approve: str | None = None,
) -> Any:
    """Mark a function as a tool for every cell, plainly or with what is to differ from its own.

    ``approve`` is ``"ask"`` (before each call), ``"always"`` (runs without asking) or ``"never"``.
    The function itself is returned, and can be called as before.
    """
    if approve is not None and approve not in _APPROVALS:
        raise OptionError(f"approve={approve!r} is not one of {', '.join(_APPROVALS)}", "Leave it out for the default.")

    def mark(function: Callable[..., Any]) -> Callable[..., Any]:
        if not callable(function):
            raise OptionError(
                f"@nbchat.tool marks functions, not a value of type {type(function).__name__}", "Put it above a def."
            )
        try:
            setattr(function, _MARK, _Mark(name, description, approve))
        except AttributeError:
            raise OptionError(
                f"@nbchat.tool cannot mark {_own_name(function)}: it takes no attributes",
                "Put it above a def, of a method too, or name it with --tools.",
            ) from None
        return function

    return mark if function is None else mark(function)


def is_tool(value: Any) -> bool:
    """Whether ``nbchat.tool`` marked this value."""
    # Looked up without asking the value, as a namespace may hold proxies that compute or connect.
    return isinstance(inspect.getattr_static(value, _MARK, None), _Mark) and callable(value)


def marked(namespace: Mapping[str, Any], to_content: Callable[[Any], Content] = plain_content) -> list[Tool]:
    """The tools of all functions in a namespace that ``nbchat.tool`` marked, each once."""
    found: dict[int, Tool] = {}
    for name, value in list(namespace.items()):
        if not name.startswith("_") and is_tool(value) and id(value) not in found:
            found[id(value)] = FunctionTool(value, _own_name(value) or name, to_content)
    return list(found.values())


def resolve(
    names: Iterable[str | Callable[..., Any] | Tool],
    namespace: Mapping[str, Any],
    to_content: Callable[[Any], Content] = plain_content,
) -> list[Tool]:
    """The tools that ``--tools a,b`` names: functions, methods (``thing.method``), any callable.

    From Python the functions themselves may be given too.

    Raises:
        OptionError: a name is not defined, or what it names cannot be called.
        SchemaError: a function cannot be described.
    """
    return [_resolve_one(name, namespace, to_content) for name in names]


def _resolve_one(name: Any, namespace: Mapping[str, Any], to_content: Callable[[Any], Content]) -> Tool:
    if not isinstance(name, str):
        return name if _is_ready(name) else FunctionTool(name, _own_name(name), to_content)
    root, *steps = name.split(".")
    if root not in namespace:
        callables = (key for key, value in namespace.items() if callable(value) and not key.startswith("_"))
        hint = nearest(root, callables)
        raise OptionError(f"--tools: {root} is not defined", hint or "Define the function in a cell above.")
    value, path = namespace[root], root
    for step in steps:
        try:
            value = getattr(value, step)
        except AttributeError:
            hint = nearest(step, (one for one in dir(value) if not one.startswith("_")))
            raise OptionError(f"--tools: {path} has no attribute {step}", hint or "Check the name.") from None
        path = f"{path}.{step}"
    if _is_ready(value):
        return value
    if not callable(value):
        raise OptionError(
            f"--tools: {name} is a value of type {type(value).__name__}, which cannot be called",
            "Name a function or a method.",
        )
    return FunctionTool(value, name, to_content)


def _is_ready(value: Any) -> bool:
    return isinstance(value, Tool) and not isinstance(value, type)


def _own_name(function: Any) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__name__", "") or type(function).__name__
    return "" if name == "<lambda>" else name


class FunctionTool:
    """A callable as a tool. ``shown`` is the name the user gave it.

    Raises:
        SchemaError: it cannot be described; the message names the parameter.
    """

    trusted = True
    code: str | None = None

    def __init__(
        self, function: Callable[..., Any], shown: str = "", to_content: Callable[[Any], Content] = plain_content
    ) -> None:
        mark = getattr(function, _MARK, None)
        mark = mark if isinstance(mark, _Mark) else _Mark(None, None, None)
        self.function = function
        self.shown = mark.name or shown
        if not self.shown:
            raise SchemaError("a lambda has no name to call it by", "Write a def, or nbchat.tool(…, name='…').")
        self.name = wire_name(self.shown)
        self.approve = mark.approve
        self._to_content = to_content
        self._signature = _signature_of(function, self.shown)
        documented = _docstring_of(function)
        self._description = mark.description or documented.text
        self._hints = {
            parameter.name: _hint_of(parameter, function, self.shown)
            for parameter in self._signature.parameters.values()
        }
        self._adapter, self._more = self._make_adapters()
        self._schema = self._describe(documented.parameters)

    def __repr__(self) -> str:
        return f"<tool {self.shown}{self._signature}>"

    def definition(self) -> dict[str, Any]:
        """The entry in ``tools`` of a request."""
        made: dict[str, Any] = {"name": self.name, "input_schema": self._schema}
        return {**made, "description": self._description} if self._description else made

    def _make_adapters(self) -> tuple[Any, Any]:
        """What turns the arguments into values of the hinted types, and the same for those of ``**more``."""
        import typing_extensions

        fields: dict[str, Any] = {}
        more: Any = None
        for name, parameter in self._signature.parameters.items():
            one = adapter_of(self._hints[name], f"tool {self.shown}: parameter {name}")
            if parameter.kind is parameter.VAR_KEYWORD:
                more = one
            elif _default_of(parameter) is parameter.empty:
                fields[name] = typing_extensions.Required[self._hints[name]]
            else:
                fields[name] = typing_extensions.NotRequired[self._hints[name]]
        # Made by a call, not a class body: a parameter may have a name that a body could not hold.
        arguments = typing_extensions.TypedDict("arguments", fields)  # type: ignore[operator,misc]
        return adapter_of(arguments, f"tool {self.shown}"), more

    def _describe(self, documented: Mapping[str, str]) -> dict[str, Any]:
        """The input schema: an object with a property for each parameter."""
        schema = schema_from(self._adapter)
        schema.pop("title", None)
        schema["additionalProperties"] = False
        for name, part in schema["properties"].items():
            default = _default_of(self._signature.parameters[name])
            if default is not inspect.Parameter.empty:
                part |= _default_schema(default)
            if name in documented:
                part.setdefault("description", documented[name])
        if self._more is not None:
            extra = schema_from(self._more)
            schema["$defs"] = {**schema.get("$defs", {}), **extra.pop("$defs", {})}
            schema["additionalProperties"] = extra or True
        if not schema.get("$defs"):
            schema.pop("$defs", None)
        return schema

    def _bind(self, arguments: Mapping[str, Any]) -> inspect.BoundArguments:
        """The arguments as the function takes them.

        Raises:
            ParseError: they do not fit; ``problems`` says which.
        """
        known = self._schema["properties"]
        extra = {name: value for name, value in arguments.items() if name not in known}
        given = {name: value for name, value in arguments.items() if name in known}
        values, problems = _checked(self._adapter, given)
        if self._more is None:
            problems += [f"{name}: there is no such parameter" for name in extra]
        else:
            for name in extra:
                extra[name], wrong = _checked(self._more, extra[name], name)
                problems += wrong
        if problems:
            raise ParseError("the arguments do not fit", problems=problems)
        bound = self._signature.bind_partial()
        for name, parameter in self._signature.parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:
                bound.arguments[name] = extra
            elif name in values:
                bound.arguments[name] = values[name]
            else:
                bound.arguments[name] = _default_of(parameter)
        return bound

    def call(self, arguments: Mapping[str, Any]) -> Outcome:
        """Check and convert the arguments, call the function, make content of what it returns."""
        try:
            bound = self._bind(arguments)
        except ParseError as error:
            listed = "\n".join(error.problems)
            return failure(f"The arguments do not fit, so {self.shown} did not run.\n{listed}")
        try:
            value = self.function(*bound.args, **bound.kwargs)
            if inspect.isawaitable(value):
                value = run_coroutine(value)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit and CancelledError must not end the kernel or the turn
            return failure(said(error), error)
        try:
            return Outcome(tuple(self._to_content(value)), value=value)
        except Exception as error:
            return failure(f"{self.shown} ran, but what it returned cannot be sent: {said(error)}", error)


def _checked(adapter: Any, value: Any, place: str = "") -> tuple[Any, list[str]]:
    """A JSON value as the adapter's type, and what does not fit."""
    import pydantic

    try:
        # Through JSON, because that is what the model wrote: a strict model then takes a date for a text.
        return adapter.validate_json(json.dumps(value)), []
    except pydantic.ValidationError as error:
        return None, list(problems_of(error, place))


# -- describing -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Documentation:
    text: str
    parameters: Mapping[str, str]


def _docstring_of(function: Any) -> _Documentation:
    """What the docstring says of the function and of its parameters."""
    import docstring_parser

    source = _plain_function(function)
    text = inspect.getdoc(source) or ""
    if source is not function and not isinstance(function, functools.partial) and not inspect.ismethod(function):
        text = text or inspect.getdoc(type(function)) or ""
    try:
        parsed = docstring_parser.parse(text)
    except docstring_parser.ParseError:
        return _Documentation(text, {})
    said = "\n\n".join(part for part in (parsed.short_description, parsed.long_description) if part)
    return _Documentation(said, {one.arg_name.lstrip("*"): one.description for one in parsed.params if one.description})


def _plain_function(function: Any) -> Any:
    """The function with the code, the annotations and the docstring, under whatever wraps it."""
    while isinstance(function, functools.partial):
        function = function.func
    if not inspect.isroutine(function) and not isinstance(function, type) and callable(function):
        function = getattr(function, "__wrapped__", None) or type(function).__call__
    return getattr(function, "__func__", function)


def _signature_of(function: Any, shown: str) -> inspect.Signature:
    """The signature the model sees: what a partial has bound by keyword is not the model's to give, or to know."""
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        raise SchemaError(
            f"tool {shown}: its signature cannot be read", "Wrap it in a def with named parameters."
        ) from None
    bound: set[str] = set()
    inner = function
    while isinstance(inner, functools.partial):
        bound |= set(inner.keywords)
        inner = inner.func
    kept = [parameter for parameter in signature.parameters.values() if parameter.name not in bound]
    for parameter in kept:
        if parameter.kind is parameter.VAR_POSITIONAL:
            raise SchemaError(
                f"tool {shown}: parameter *{parameter.name} has no names by which the model could give its values",
                "Wrap it in a def that takes a list.",
            )
    return signature.replace(parameters=kept)


def _hint_of(parameter: inspect.Parameter, function: Any, shown: str) -> Any:
    """The type hint of one parameter, with names in it looked up where the function was written."""
    import pydantic.fields

    hint = parameter.annotation
    if hint is parameter.empty:
        hint = Any
    else:
        source = inspect.unwrap(_plain_function(function))
        if isinstance(source, type):
            source = source.__init__  # type: ignore[misc]
        holder = type("hints", (), {"__annotations__": {parameter.name: hint}})
        try:
            hint = typing.get_type_hints(
                holder, globalns=getattr(source, "__globals__", {}), localns=_locals_of(source), include_extras=True
            )[parameter.name]
        except Exception as error:
            raise SchemaError(
                f"tool {shown}: the type of parameter {parameter.name} cannot be read: {error}",
                "Import or define that name, or change the annotation.",
            ) from None
    if isinstance(parameter.default, pydantic.fields.FieldInfo):
        hint = typing.Annotated[hint, parameter.default]
    return modern(hint)


def _locals_of(function: Any) -> dict[str, Any]:
    """Names of the functions around it that its own code holds on to."""
    try:
        return dict(inspect.getclosurevars(function).nonlocals)
    except (TypeError, ValueError):
        return {}


def _default_of(parameter: inspect.Parameter) -> Any:
    """The default of a parameter, also where it is written as ``Field(default=…)``; ``empty`` without one."""
    import pydantic.fields

    if not isinstance(parameter.default, pydantic.fields.FieldInfo):
        return parameter.default
    if parameter.default.is_required():
        return parameter.empty
    return parameter.default.get_default(call_default_factory=True)


def _default_schema(default: Any) -> dict[str, Any]:
    """``{"default": …}`` where the default has a JSON form."""
    import pydantic_core

    try:
        return {"default": json.loads(pydantic_core.to_json(default))}
    except (pydantic_core.PydanticSerializationError, ValueError):
        return {}
