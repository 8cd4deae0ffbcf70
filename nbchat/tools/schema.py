"""Types to JSON Schema and back: the arguments of tools, and structured answers.

A type becomes a schema that the model reads. The JSON that comes back becomes an instance, or a
list of problems that say where they are. The work is pydantic's, which is installed with the SDK.
The API accepts less for answers than for the arguments of tools: see :mod:`~nbchat.tools.answer_schema`.
"""

from __future__ import annotations

import builtins
import functools
import json
import re
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbchat.core.errors import OptionError, SchemaError, nearest

if TYPE_CHECKING:
    import pydantic
    from pydantic.json_schema import GenerateJsonSchema
    from pydantic_core import ErrorDetails

__all__ = ["SUPPORTED_TYPES_HINT", "JsonType", "modern", "type_name", "type_of"]

SUPPORTED_TYPES_HINT = (
    "Use str, int, float, bool, Literal, an Enum, list, dict, a dataclass, a TypedDict or a pydantic model."
)
#: Longer values are cut in messages.
_MAX_SHOWN_CHARACTERS = 60


def type_of(expression: str, namespace: Mapping[str, Any]) -> Any:
    """Return the type or JSON Schema that ``--schema EXPRESSION`` names, such as ``Person`` or ``list[Person]``.

    Raises:
        OptionError: The expression cannot be evaluated, or its value is not a type.
    """
    try:
        value = eval(expression, {**vars(builtins), **namespace})
    except Exception as error:
        if expression.strip().endswith(".json"):
            raise OptionError(
                f"--schema {expression}: this is not a type, and a file is not read",
                f"Read it in a cell above, and name the variable: "
                f"schema = json.loads(Path({expression.strip()!r}).read_text())",
            ) from None
        if not isinstance(error, NameError):
            raise OptionError(
                f"--schema {expression}: {type(error).__name__}: {error}", "Give a type's name."
            ) from None
        hint = nearest(error.name or "", (name for name in namespace if not name.startswith("_")))
        raise OptionError(f"--schema {expression}: {error}", hint or "Define it in a cell above.") from None
    if isinstance(value, (type, Mapping)) or typing.get_origin(value) is not None:
        return value
    raise OptionError(
        f"--schema {expression}: this is a value of type {type(value).__name__}, not a type",
        "Give a pydantic model, a dataclass, a TypedDict, list[…] of one, or a dict with a JSON Schema.",
    )


def type_name(T: Any) -> str:
    """Return the name of a type in messages, without the modules: ``list[Person]``."""
    if isinstance(T, Mapping):
        return str(T.get("title") or "the JSON Schema")
    if isinstance(T, type) and not typing.get_args(T):
        return T.__name__
    try:
        return re.sub(r"\b(?:\w+\.)+(?=\w)", "", str(T))
    except Exception:  # not a type, and an object that cannot be shown
        return f"a {type(T).__name__}"


@dataclass(frozen=True, slots=True)
class JsonType:
    """A type that is read from JSON, and the JSON Schema that describes it.

    Keep the object for as long as the type is needed, because pydantic takes milliseconds to make
    it. There is deliberately no cache by type. ``int | str`` equals ``str | int`` but has another
    schema, and a dataclass whose annotations are strings changes its meaning when the user runs
    the cell of another class again.
    """

    schema: dict[str, Any]
    _adapter: pydantic.TypeAdapter[Any]

    @classmethod
    def of(cls, T: Any, name: str = "") -> JsonType:
        """Return the JsonType of a type.

        Args:
            T: A type, or a form such as ``list[Person]`` or ``Person | None``.
            name: The name of the type in messages.

        Raises:
            SchemaError: The type has no JSON form.
        """
        import pydantic

        try:
            adapter = pydantic.TypeAdapter(modern(T))
            return cls(adapter.json_schema(schema_generator=_generator()), adapter)
        except (pydantic.errors.PydanticUserError, pydantic.errors.PydanticUndefinedAnnotation) as error:
            message = f"{name or type_name(T)} has no JSON form: {_first_line(error)}"
        except Exception as error:  # also of the user's own code, such as a __repr__ that fails
            message = f"{name or type_name(T)} cannot be read as a type: {_first_line(error)}"
        raise SchemaError(message, SUPPORTED_TYPES_HINT)

    def read(self, value: object, place: str = "") -> tuple[Any, tuple[str, ...]]:
        """Return the instance in a plain JSON value, and the problems that prevent it, one line each.

        Args:
            value: What ``json.loads`` returned.
            place: The path of the value, which the paths in the problems begin with.
        """
        import pydantic

        try:
            # As JSON text and not as Python values, because the model wrote JSON. In pydantic's strict
            # mode a date is accepted as text in JSON, but not as a Python str.
            return self._adapter.validate_json(json.dumps(value)), ()
        except pydantic.ValidationError as error:
            details = error.errors(include_url=False, include_context=False)
            return None, tuple(_problem(detail, place) for detail in details)


def _first_line(error: BaseException) -> str:
    """Return the first line of a message, without pydantic's advice to those who write models."""
    return re.sub(r" Set `arbitrary_types_allowed.*", "", str(error).strip().split("\n")[0])


@functools.cache
def _generator() -> type[GenerateJsonSchema]:
    """Return pydantic's generator, but without titles of fields.

    pydantic makes a title of the name of each field (``"first_name"``, ``"First Name"``). The model
    learns nothing from the title, and each one costs tokens.
    """
    from pydantic.json_schema import GenerateJsonSchema

    class Untitled(GenerateJsonSchema):
        def field_title_should_be_set(self, schema: Any) -> bool:
            return False

    return Untitled


def modern(T: Any) -> Any:
    """Return ``T`` with each ``typing.TypedDict`` replaced by a TypedDict of typing_extensions.

    Before Python 3.12, pydantic refuses the former.
    https://docs.pydantic.dev/latest/errors/usage_errors/#typed-dict-version
    """
    if sys.version_info >= (3, 12):
        return T
    if typing.is_typeddict(T) and type(T).__module__ == "typing":
        return _modern_typed_dict(T)
    arguments = typing.get_args(T)
    changed = tuple(modern(argument) for argument in arguments)
    # The arguments of a Literal are values, not types.
    if changed == arguments or typing.get_origin(T) is typing.Literal:
        return T
    if isinstance(T, types.UnionType):
        return functools.reduce(lambda one, other: one | other, changed)
    if typing.get_origin(T) is typing.Annotated:
        return typing.Annotated[(changed[0], *T.__metadata__)]
    # Forms of typing (List[…]) can copy themselves, those of builtins (list[…]) are subscribed again.
    return T.copy_with(changed) if hasattr(T, "copy_with") else typing.get_origin(T)[changed]


def _modern_typed_dict(T: Any) -> Any:
    import typing_extensions

    hints = {key: modern(hint) for key, hint in typing_extensions.get_type_hints(T, include_extras=True).items()}
    fields = {
        key: hint if key in T.__required_keys__ else typing_extensions.NotRequired[hint] for key, hint in hints.items()
    }
    copy: Any = typing_extensions.TypedDict(T.__name__, fields)  # type: ignore[misc]  # fields are known at run time only
    copy.__doc__, copy.__module__ = T.__doc__, T.__module__
    return copy


def _problem(detail: ErrorDetails, place: str) -> str:
    """Return one error of pydantic as a line: ``people.0.age: Input should be a valid integer (got "x")``."""
    path = ".".join([*([place] if place else []), *(str(step) for step in detail["loc"])]) or "the answer"
    if detail["type"] == "missing":
        return f"{path}: missing"
    if detail["type"] == "extra_forbidden":
        return f"{path}: there is no such field"
    return f"{path}: {detail['msg']} (got {_shortened(detail['input'])})"


def _shortened(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= _MAX_SHOWN_CHARACTERS else f"{text[: _MAX_SHOWN_CHARACTERS - 3]}..."
