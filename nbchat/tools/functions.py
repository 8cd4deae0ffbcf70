"""Python functions as tools: which ones the model may call, their definitions, and the calls."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard, TypeVar, overload

from nbchat.core.errors import OptionError, SchemaError, nearest
from nbchat.options import APPROVALS
from nbchat.tools.coroutine import run_coroutine
from nbchat.tools.input_schema import InputSchema
from nbchat.tools.schema import JsonType
from nbchat.tools.signature import default_of, default_schema, documentation_of, hint_of, name_of, signature_of
from nbchat.tools.toolbox import Outcome, ToContent, Tool, described, error_text, failure, wire_name

__all__ = ["FunctionTool", "is_tool", "marked", "resolve", "tool"]

_F = TypeVar("_F", bound=Callable[..., Any])

_MARK = "__nbchat_tool__"


@dataclass(frozen=True, slots=True)
class _Mark:
    """The arguments of ``nbchat.tool``, kept as an attribute of the function."""

    name: str | None = None
    description: str | None = None
    approve: str | None = None


@overload
def tool(function: _F, *, name: str | None = ..., description: str | None = ..., approve: str | None = ...) -> _F: ...


@overload
def tool(
    function: None = None, *, name: str | None = ..., description: str | None = ..., approve: str | None = ...
) -> Callable[[_F], _F]: ...


def tool(
    function: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    description: str | None = None,
    approve: str | None = None,
) -> Any:
    """Mark a function as a tool, so that Claude may call it in every cell.

    Use it as a decorator, with or without arguments. The model reads the signature, the type hints
    and the docstring of the function.

    Args:
        function: The function to mark.
        name: The name of the tool. The default is the name of the function.
        description: The text that tells the model what the tool is for. The default is the docstring.
        approve: ``"ask"`` asks the user before each call, ``"always"`` runs the tool without asking,
            ``"never"`` does not run it. The default is ``--approve`` of the cell.

    Returns:
        The function itself, which can be called as before.

    Raises:
        OptionError: ``approve`` has another value, or the value cannot be marked.

    >>> import nbchat
    >>> @nbchat.tool(approve="ask")
    ... def order(item: str, count: int = 1) -> str:
    ...     '''Order an item from the shop.'''
    ...     return f"ordered {count} x {item}"
    >>> order("tea")
    'ordered 1 x tea'
    """
    if approve is not None and approve not in APPROVALS:
        raise OptionError(f"approve={approve!r} is not one of {', '.join(APPROVALS)}", "Leave it out for the default.")

    def mark(function: Callable[..., Any]) -> Callable[..., Any]:
        if not callable(function):
            raise OptionError(
                f"@nbchat.tool marks functions, not a value of type {type(function).__name__}", "Put it above a def."
            )
        try:
            setattr(function, _MARK, _Mark(name, description, approve))
        except AttributeError:
            # Bound methods and functions written in C.
            raise OptionError(
                f"@nbchat.tool cannot mark {name_of(function)}, because it takes no attributes",
                "Put it above a def (also in a class), or name the function with --tools.",
            ) from None
        return function

    return mark if function is None else mark(function)


def is_tool(value: Any) -> bool:
    """Return True if ``nbchat.tool`` marked this value."""
    # getattr_static runs no code of the value. A namespace may hold proxies, which connect to a
    # server or compute a table when any attribute is read.
    return isinstance(inspect.getattr_static(value, _MARK, None), _Mark) and callable(value)


def marked(namespace: Mapping[str, Any], to_content: ToContent) -> list[Tool]:
    """Return the tools of all functions in a namespace that ``nbchat.tool`` marked, each once.

    Args:
        namespace: The user's variables. Names that begin with an underscore are skipped.
        to_content: The function that makes content blocks of the value that a tool returns.

    Raises:
        SchemaError: A function cannot be described.
    """
    tools: dict[int, Tool] = {}
    # A copy, because describing a function runs code, which may define a variable.
    for name, value in list(namespace.items()):
        if not name.startswith("_") and is_tool(value) and id(value) not in tools:
            tools[id(value)] = FunctionTool(value, name_of(value) or name, to_content)
    return list(tools.values())


def resolve(
    names: Iterable[str | Callable[..., Any] | Tool],
    namespace: Mapping[str, Any],
    to_content: ToContent,
) -> list[Tool]:
    """Return the tools that ``--tools a,b`` names.

    Args:
        names: Names of functions, methods (``thing.method``) or other callables, or these themselves.
        namespace: The user's variables, in which names are looked up.
        to_content: The function that makes content blocks of the value that a tool returns.

    Raises:
        OptionError: A name is not defined, or its value cannot be called.
        SchemaError: A function cannot be described.
    """
    return [
        _looked_up(name, namespace, to_content) if isinstance(name, str) else _as_tool(name, name_of(name), to_content)
        for name in names
    ]


def _looked_up(name: str, namespace: Mapping[str, Any], to_content: ToContent) -> Tool:
    root, *attributes = name.split(".")
    if root not in namespace:
        callables = (key for key, value in namespace.items() if callable(value) and not key.startswith("_"))
        hint = nearest(root, callables)
        raise OptionError(f"--tools: {root} is not defined", hint or "Define the function in a cell above.")
    value, path = namespace[root], root
    for attribute in attributes:
        try:
            value = getattr(value, attribute)
        except AttributeError:
            hint = nearest(attribute, (one for one in dir(value) if not one.startswith("_")))
            raise OptionError(f"--tools: {path} has no attribute {attribute}", hint or "Check the name.") from None
        path = f"{path}.{attribute}"
    if not _is_ready(value) and not callable(value):
        raise OptionError(
            f"--tools: {name} is a value of type {type(value).__name__}, which cannot be called",
            "Name a function or a method.",
        )
    return _as_tool(value, name, to_content)


def _as_tool(value: Any, shown: str, to_content: ToContent) -> Tool:
    return value if _is_ready(value) else FunctionTool(value, shown, to_content)


def _typed_dict(fields: dict[str, Any]) -> Any:
    """Return a type for the arguments with these names.

    A TypedDict and not a pydantic model, and made by a call and not by a class body: parameters
    may be named "self", "model_config" or "_hidden", which a model could not have as fields.
    """
    import typing_extensions

    arguments: Any = typing_extensions.TypedDict("arguments", fields)  # type: ignore[misc]  # not a literal
    return arguments


def _with_code(function: object) -> tuple[object, ...]:
    """Return the function and its code: %autoreload puts new code into the old function."""
    return (function, function.__code__) if inspect.isfunction(function) else (function,)


def _is_ready(value: object) -> TypeGuard[Tool]:
    """Return True for an object that is a tool already, such as one of an MCP server."""
    return isinstance(value, Tool) and not isinstance(value, type)


class FunctionTool:
    """A callable as a tool.

    Args:
        function: Any callable: a function, a method, a partial, an instance with ``__call__``.
        shown: The name that the user gave it.
        to_content: The function that makes content blocks of the value that the callable returns.

    Raises:
        SchemaError: The callable cannot be described. The message names the parameter.
    """

    trusted = True
    code: str | None = None

    def __init__(self, function: Callable[..., Any], shown: str, to_content: ToContent) -> None:
        mark = getattr(function, _MARK, None)
        mark = mark if isinstance(mark, _Mark) else _Mark()
        self.function = function
        self.shown = mark.name or shown
        if not self.shown:
            raise SchemaError("a lambda has no name to call it by", "Write a def, or nbchat.tool(…, name='…').")
        self.name = wire_name(self.shown)
        self.approve = mark.approve
        self._to_content = to_content
        self._signature = signature_of(function, self.shown)
        documentation = documentation_of(function)
        self._description = mark.description or documentation.text
        self._arguments, self._extra = self._types_of_arguments()
        self._parameters = self._parameters_of_properties()
        self._schema = self._described(documentation.parameters)
        self._input = InputSchema.of(self._schema, f"tool {self.shown}")

    def __repr__(self) -> str:
        return f"<tool {self.shown}{self._signature}>"

    @property
    def origin(self) -> tuple[object, ...]:
        """The objects that a permission for this tool depends on (:mod:`nbchat.tools.permissions`)."""
        function = self.function
        if inspect.ismethod(function):
            # Python makes a new method object each time that obj.method is read.
            return (function.__self__, *_with_code(function.__func__))
        if inspect.isbuiltin(function) and not inspect.ismodule(function.__self__):
            return (function.__self__, getattr(type(function.__self__), function.__name__, None))
        return _with_code(function)

    def definition(self) -> dict[str, Any]:
        """Return the entry in ``tools`` of a request."""
        definition: dict[str, Any] = {"name": self.name, "input_schema": self._input.schema}
        description = described(self.shown, self._description)
        return {**definition, "description": description} if description else definition

    def read_arguments(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the input of a call with the names that the function itself uses."""
        restored: Mapping[str, Any] = self._input.restored(arguments)
        return restored

    def _types_of_arguments(self) -> tuple[JsonType, JsonType | None]:
        """Return the type of all named arguments together, and the type of each one in ``**extra``."""
        import typing_extensions

        hints: dict[str, Any] = {}
        fields: dict[str, Any] = {}
        extra: JsonType | None = None
        for name, parameter in self._signature.parameters.items():
            hint = hint_of(parameter, self.function, self.shown)
            if parameter.kind is parameter.VAR_KEYWORD:
                extra = JsonType.of(hint, f"tool {self.shown}: parameter {name}")
                continue
            required = default_of(parameter) is parameter.empty
            hints[name] = hint
            fields[name] = typing_extensions.Required[hint] if required else typing_extensions.NotRequired[hint]
        arguments = _typed_dict(fields)
        try:
            return JsonType.of(arguments, f"tool {self.shown}"), extra
        except SchemaError:
            # Each one alone, for an error that names the parameter.
            for name, hint in hints.items():
                JsonType.of(hint, f"tool {self.shown}: parameter {name}")
            raise

    def _parameters_of_properties(self) -> dict[str, str]:
        """Return the names of the parameters by those of their properties. They differ with ``Field(alias=…)``."""
        properties = self._arguments.schema["properties"]
        names = [name for name, one in self._signature.parameters.items() if one.kind is not one.VAR_KEYWORD]
        if set(properties) == set(names):
            return {name: name for name in names}
        found: dict[str, str] = {}
        for name in names:
            hint = hint_of(self._signature.parameters[name], self.function, self.shown)
            alone: Any = _typed_dict({name: hint})
            for key in JsonType.of(alone, f"tool {self.shown}: parameter {name}").schema["properties"]:
                if key in found:
                    raise SchemaError(
                        f"tool {self.shown}: parameters {found[key]} and {name} have the same name {key}",
                        "Give one of them another alias.",
                    )
                found[key] = name
        return found

    def _described(self, descriptions: Mapping[str, str]) -> dict[str, Any]:
        """Return the input schema: an object with a property for each parameter."""
        schema = copy.deepcopy(self._arguments.schema)
        schema.pop("title", None)
        schema["additionalProperties"] = False
        for name, part in schema["properties"].items():
            parameter = self._parameters[name]
            default = default_of(self._signature.parameters[parameter])
            if default is not inspect.Parameter.empty:
                part |= default_schema(default)
            if parameter in descriptions:
                part.setdefault("description", descriptions[parameter])
        if self._extra is not None:
            extra = copy.deepcopy(self._extra.schema)
            schema["$defs"] = {**schema.get("$defs", {}), **extra.pop("$defs", {})}
            schema["additionalProperties"] = extra or True
        if not schema.get("$defs"):
            schema.pop("$defs", None)
        return schema

    def _converted(self, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
        """Return the named arguments and the extra ones as Python values, and the problems, one line each."""
        parameters = self._schema["properties"]
        named = {name: value for name, value in arguments.items() if name in parameters}
        values, misfits = self._arguments.read(named)
        problems = list(misfits)
        extra: dict[str, Any] = {}
        for name, value in arguments.items():
            if name in parameters:
                continue
            if self._extra is None:
                problems.append(f"{name}: there is no such parameter")
            else:
                extra[name], misfits = self._extra.read(value, name)
                problems += misfits
        return values, extra, problems

    def _bound(self, values: Mapping[str, Any], extra: Mapping[str, Any]) -> inspect.BoundArguments:
        """Return the arguments in the form in which the function takes them: by position or by keyword."""
        bound = self._signature.bind_partial()
        for name, parameter in self._signature.parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:
                bound.arguments[name] = extra
            else:
                # Python's own default, because not every default survives the way through JSON.
                bound.arguments[name] = values[name] if name in values else default_of(parameter)
        return bound

    def call(self, arguments: Mapping[str, Any]) -> Outcome:
        """Check and convert the arguments, call the function, and return its value as content.

        An async function runs to its end. Raise nothing but KeyboardInterrupt: any other exception
        becomes an error result, which the model reads.
        """
        values, extra, problems = self._converted(self.read_arguments(arguments))
        if problems:
            listed = "\n".join(problems)
            return failure(f"The arguments do not fit, so {self.shown} did not run.\n{listed}")
        bound = self._bound(values, extra)
        try:
            value = self.function(*bound.args, **bound.kwargs)
            if inspect.isawaitable(value):
                value = run_coroutine(value)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            # Not only Exception: SystemExit (argparse, click) would end the kernel, and CancelledError
            # of the user's own task would end the turn without a result for this call.
            return failure(error_text(error), error)
        try:
            return Outcome(tuple(self._to_content(value)), value=value)
        except Exception as error:
            return failure(f"{self.shown} ran, but what it returned cannot be sent: {error_text(error)}", error)
