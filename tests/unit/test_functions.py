"""Python functions as tools: definitions and calls."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import datetime
import enum
import functools
import json
import signal
import sys
import threading
import time
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal, Optional

import anthropic
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbchat.context.tool_results import tool_content
from nbchat.core.errors import InputError, OptionError, SchemaError
from nbchat.tools import functions
from nbchat.tools.coroutine import run_coroutine
from nbchat.tools.functions import is_tool, tool

# The engine passes in the function that makes content of values; so do these tests.
marked = functools.partial(functions.marked, to_content=tool_content)
resolve = functools.partial(functions.resolve, to_content=tool_content)


def FunctionTool(function, shown="", to_content=tool_content):
    return functions.FunctionTool(function, shown, to_content)


class Unit(enum.Enum):
    CELSIUS = "C"
    FAHRENHEIT = "F"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclasses.dataclass
class Place:
    """Somewhere on Earth."""

    lat: float
    lon: float = 0.0


class Visitor(pydantic.BaseModel):
    name: str = pydantic.Field(description="given name")
    born: datetime.date


class Span(typing.TypedDict):
    days: int
    hours: typing.NotRequired[int]


# -- the definition ---------------------------------------------------------------------------------


def google(city: str, unit: Unit = Unit.CELSIUS, days: Annotated[int, pydantic.Field(ge=1, le=14)] = 3) -> str:
    """Tell the weather.

    It is a forecast.

    Args:
        city: name of the city
        unit: unit of temperature
        days: how far to look
    """
    return f"{city} {unit} {days}"


def numpy_style(values: list[float], how: Literal["mean", "sum"] = "mean") -> float:
    """Sum up.

    Parameters
    ----------
    values : list of float
        the numbers
    how : str
        which way
    """
    return sum(values) / (len(values) if how == "mean" else 1)


def rest_style(place: Place, note: Optional[str] = None) -> str:  # noqa: UP045
    """Go there.

    :param place: where to
    :param note: what to remember
    """
    return f"{place} {note}"


def models(visitor: Visitor, others: list[Visitor], span: Span, level: Level = Level.LOW) -> str:
    """Register visitors."""
    return f"{visitor} {others} {span} {level}"


def bare(a, b=2):
    return a + b


def keywords(query: str, **more: int) -> str:
    """Look up."""
    return f"{query} {more}"


def _untitled(value: Any) -> Any:
    """Return a schema without titles, because nbchat leaves those of fields out."""
    if isinstance(value, dict):
        return {k: _untitled(v) for k, v in value.items() if not (k == "title" and isinstance(v, str))}
    return [_untitled(part) for part in value] if isinstance(value, list) else value


@pytest.mark.parametrize("function", [google, numpy_style, rest_style, bare, keywords])
def test_definitions_equal_those_of_the_sdk(function):
    """beta_tool of the SDK uses the same libraries and has the same result."""
    theirs = anthropic.beta_tool(function).to_dict()
    ours = FunctionTool(function, function.__name__).definition()
    assert _untitled(ours["input_schema"]) == _untitled(theirs["input_schema"])
    assert ours["name"] == theirs["name"]
    assert ours.get("description", "") == theirs["description"]


def test_definition_of_nested_types():
    """A typing.TypedDict works on Python 3.11 too, where pydantic alone refuses it."""
    schema = FunctionTool(models, "models").definition()["input_schema"]
    assert schema["required"] == ["visitor", "others", "span"]
    assert schema["properties"]["others"] == {"type": "array", "items": {"$ref": "#/$defs/Visitor"}}
    assert schema["$defs"]["Visitor"]["properties"]["name"] == {"type": "string", "description": "given name"}
    assert schema["$defs"]["Span"]["required"] == ["days"]
    assert schema["$defs"]["Level"]["enum"] == [1, 2]
    assert schema["properties"]["level"]["default"] == 1
    json.dumps(schema)


def test_descriptions_come_from_all_three_docstring_styles():
    said = {
        function.__name__: {
            name: part.get("description")
            for name, part in FunctionTool(function, "f").definition()["input_schema"]["properties"].items()
        }
        for function in (google, numpy_style, rest_style)
    }
    assert said == {
        "google": {"city": "name of the city", "unit": "unit of temperature", "days": "how far to look"},
        "numpy_style": {"values": "the numbers", "how": "which way"},
        "rest_style": {"place": "where to", "note": "what to remember"},
    }


def test_two_types_of_one_name_stay_apart():
    """Each parameter keeps its own type, also if classes of two modules have the same name."""
    one = dataclasses.make_dataclass("Point", [("x", int)])
    other = dataclasses.make_dataclass("Point", [("y", str)])
    one.__module__, other.__module__ = "one", "other"

    def f(a, b): ...

    f.__annotations__ = {"a": one, "b": other}
    schema = FunctionTool(f, "f").definition()["input_schema"]
    found = [schema["$defs"][part["$ref"].rpartition("/")[2]]["properties"] for part in schema["properties"].values()]
    assert [set(part) for part in found] == [{"x"}, {"y"}]


def undefined(x: Nowhere) -> None:  # noqa: F821
    """The annotation names nothing."""


def no_json(a: int, lock: threading.Thread) -> None:
    """A thread has no JSON form."""


def a_callable(key: Callable[[int], int]) -> None:
    """Nor has a function."""


def star(first: int, *rest: int) -> None:
    """Nameless values."""


@pytest.mark.parametrize(
    ("function", "parameter"),
    [(undefined, "parameter x"), (no_json, "parameter lock"), (a_callable, "parameter key"), (star, "parameter *rest")],
)
def test_an_error_about_a_signature_names_the_parameter(function, parameter):
    with pytest.raises(SchemaError) as caught:
        FunctionTool(function, "it")
    assert parameter in caught.value.message
    assert "tool it" in caught.value.message
    assert caught.value.hint
    assert isinstance(caught.value, InputError)


def test_only_parameters_are_read():
    """A return annotation that names something not imported does not matter."""

    def f(x: int) -> Nowhere:  # noqa: F821
        return x

    assert FunctionTool(f, "f").call({"x": 1}).value == 1


def test_a_type_of_the_enclosing_function_is_found():
    @dataclasses.dataclass
    class Local:
        n: int

    def f(x: Local) -> Any:
        return Local, x

    assert FunctionTool(f, "f").call({"x": {"n": 1}}).value == (Local, Local(1))


def test_parameter_names_that_a_class_body_could_not_hold():
    def f(self: int, model_config: int, _hidden: int, schema: int, items: int = 1):
        return (self, model_config, _hidden, schema, items)

    called = FunctionTool(f, "f").call({"self": 1, "model_config": 2, "_hidden": 3, "schema": 4})
    assert called.value == (1, 2, 3, 4, 1)


def test_the_model_neither_sees_nor_sets_what_a_partial_binds():
    def fetch(path: str, token: str, depth: int = 1) -> str:
        """Fetch it."""
        return f"{path} {token} {depth}"

    made = FunctionTool(functools.partial(fetch, token="secret-word"), "fetch")
    assert "secret-word" not in json.dumps(made.definition())
    assert list(made.definition()["input_schema"]["properties"]) == ["path", "depth"]
    assert made.definition()["description"] == "Fetch it."
    assert made.call({"path": "a", "depth": 2}).value == "a secret-word 2"
    assert made.call({"path": "a", "token": "mine"}).is_error


def test_a_decorated_function_is_described_as_itself():
    @functools.lru_cache
    def cached(n: int) -> int:
        """Double it."""
        return 2 * n

    made = FunctionTool(cached, "cached")
    assert made.definition()["description"] == "Double it."
    assert made.call({"n": 4}).value == 8


# -- names ----------------------------------------------------------------------------------------


class Shop:
    """A shop."""

    def __init__(self) -> None:
        self.sold: list[str] = []

    def sell(self, item: str) -> int:
        """Sell one item."""
        self.sold.append(item)
        return len(self.sold)

    def __call__(self, question: str) -> str:
        """Ask the shop."""
        return question.upper()


def test_resolve_finds_functions_methods_instances_partials_and_lambdas():
    shop = Shop()
    namespace = {
        "google": google,
        "shop": shop,
        "double": lambda n: n * 2,
        "part": functools.partial(numpy_style, how="sum"),
    }
    tools = resolve(["google", "shop.sell", "shop", "double", "part"], namespace)
    assert [one.name for one in tools] == ["google", "shop__sell", "shop", "double", "part"]
    assert [one.shown for one in tools] == ["google", "shop.sell", "shop", "double", "part"]
    assert tools[1].call({"item": "tea"}).value == 1
    assert shop.sold == ["tea"]
    assert tools[2].definition()["description"] == "Ask the shop."
    assert tools[2].call({"question": "hm"}).text == "HM"
    assert tools[3].call({"n": 21}).text == "42"
    assert tools[4].call({"values": [1, 2]}).text == "3.0"
    assert all(one.trusted for one in tools)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("googel", "Did you mean google?"),
        ("shop.sel", "Did you mean sell?"),
        ("number", "a value of type int, which cannot be called"),
        ("nothing_like_it", "Define the function"),
    ],
)
def test_the_error_about_a_wrong_name_suggests_the_nearest(name, said):
    with pytest.raises(OptionError) as caught:
        resolve([name], {"google": google, "shop": Shop(), "number": 3})
    assert said in f"{caught.value.message} {caught.value.hint}"


def test_functions_are_accepted_instead_of_names():
    def plus(a, b):
        return a + b

    assert [one.name for one in resolve([google, tool(plus, name="add")], {})] == ["google", "add"]
    with pytest.raises(SchemaError, match="lambda has no name"):
        resolve([lambda: 1], {})


@given(st.text(min_size=1))
def test_every_name_becomes_one_that_the_api_accepts(shown):
    """^[a-zA-Z0-9_-]{1,64}$ is the API's rule."""
    assert __import__("re").fullmatch(r"[a-zA-Z0-9_-]{1,64}", FunctionTool(bare, shown).name)


def test_long_names_stay_apart():
    one, other = (FunctionTool(bare, "n" * 70 + end).name for end in "ab")
    assert one != other


def test_the_decorator_marks_and_returns_the_function():
    @tool
    def plain(x: int) -> int:
        """Plain."""
        return x

    @tool(name="renamed", description="Other words.", approve="ask")
    def full(x: int) -> int:
        """Own words."""
        return x

    assert plain(3) == 3
    assert is_tool(plain)
    assert not is_tool(bare)
    found = marked({"plain": plain, "again": plain, "full": full, "_private": full, "n": 3, "bare": bare})
    assert [(one.name, one.approve) for one in found] == [("plain", None), ("renamed", "ask")]
    assert found[1].definition()["description"] == "Other words."


def test_the_decorator_refuses_other_values():
    with pytest.raises(OptionError, match="approve='sometimes'"):
        tool(approve="sometimes")
    with pytest.raises(OptionError, match="marks functions"):
        tool(3)
    with pytest.raises(OptionError, match="cannot mark"):
        tool(Shop().sell)


# -- calling --------------------------------------------------------------------------------------


def test_arguments_are_converted_to_the_hinted_types():
    def f(visitor: Visitor, others: list[Visitor], span: Span, unit: Unit, place: Place, when: datetime.date):
        return locals()

    given = {
        "visitor": {"name": "Ada", "born": "1815-12-10"},
        "others": [],
        "span": {"days": 2},
        "unit": "F",
        "place": {"lat": 1},
        "when": "2026-01-02",
    }
    assert FunctionTool(f, "f").call(given).value == {
        "visitor": Visitor(name="Ada", born=datetime.date(1815, 12, 10)),
        "others": [],
        "span": {"days": 2},
        "unit": Unit.FAHRENHEIT,
        "place": Place(1.0),
        "when": datetime.date(2026, 1, 2),
    }


def test_a_strict_model_accepts_a_date_as_json_text():
    class Strict(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(strict=True)
        day: datetime.date

    def f(x): ...

    f.__annotations__ = {"x": Strict}
    assert not FunctionTool(f, "f").call({"x": {"day": "2026-01-02"}}).is_error


def test_an_argument_that_does_not_fit_is_named():
    ran = []

    def f(count: int, unit: Unit, place: Place) -> None:
        ran.append(1)

    outcome = FunctionTool(f, "f").call({"count": "many", "unit": "K", "place": {}, "extra": 1})
    assert outcome.is_error
    assert outcome.error is None
    for said in ("count: ", '(got "many")', "unit: ", "'C' or 'F'", "place.lat: missing", "extra: there is no such"):
        assert said in outcome.text
    assert not ran


def test_a_missing_argument_is_named_and_a_default_is_not_converted():
    marker = object()

    def f(a: int, b: Any = marker):
        return b

    assert "a: missing" in FunctionTool(f, "f").call({}).text
    assert FunctionTool(f, "f").call({"a": 1}).value is marker


def test_keyword_positional_only_and_field_defaults():
    def f(a: int, /, b: int = pydantic.Field(5, ge=1), *, c: int = 7, **more: float):
        return a, b, c, more

    made = FunctionTool(f, "f")
    assert made.call({"a": 1}).value == (1, 5, 7, {})
    assert made.call({"a": 1, "c": 2, "x": 3}).value == (1, 5, 2, {"x": 3.0})
    assert "x: Input should be" in made.call({"a": 1, "x": "no"}).text
    assert "b: Input should be greater" in made.call({"a": 1, "b": 0}).text


def test_an_exception_is_an_error_result_with_type_and_message():
    def f(x: int):
        raise LookupError(f"no row {x} for sk-ant-api03-abcdefgh")

    outcome = FunctionTool(f, "f").call({"x": 3})
    assert outcome.is_error
    assert outcome.text == "LookupError: no row 3 for sk-ant-…"
    assert isinstance(outcome.error, LookupError)
    assert outcome.error.__traceback__ is not None


def test_system_exit_is_an_error_result_but_an_interrupt_is_raised():
    def leave():
        raise SystemExit(2)

    def stop():
        raise KeyboardInterrupt

    assert FunctionTool(leave, "leave").call({}).text == "SystemExit: 2"
    with pytest.raises(KeyboardInterrupt):
        FunctionTool(stop, "stop").call({})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("text", "text"),
        (None, "None"),
        (3.5, "3.5"),
        ({"k": [1, None]}, '{"k": [1, null]}'),
        (
            Place(1.0),
            f'<json name="result" type="{Place.__module__}.Place">\n{{"lat": 1.0, "lon": 0.0}}\n</json>',
        ),
        (sys, repr(sys)),
        ({"type": "text", "text": "a block"}, "a block"),
        ({"type": "text"}, '{"type": "text"}'),
        ([], "[]"),
    ],
)
def test_results_are_content(value, text):
    def f():
        return value

    (part,) = FunctionTool(f, "f").call({}).content
    assert part == {"type": "text", "text": text}


#: One pixel.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAACklEQVR4nGMAAQAABQABDQottAAAAABJRU5ErkJggg=="


def test_content_blocks_pass_through_and_a_better_converter_is_used():
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}

    def f():
        return [image, {"type": "text", "text": "that"}]

    assert FunctionTool(f, "f").call({}).content == (image, {"type": "text", "text": "that"})
    outcome = FunctionTool(f, "f", lambda value: ({"type": "text", "text": str(len(value))},)).call({})
    assert outcome.text == "2"
    assert outcome.value == f()


def test_a_result_that_cannot_be_sent_says_that_the_tool_ran():
    def f():
        return 1

    def refuse(value):
        raise ValueError("too large")

    outcome = FunctionTool(f, "f", refuse).call({})
    assert outcome.is_error
    assert outcome.text == "f ran, but what it returned cannot be sent: ValueError: too large"


# -- coroutines -----------------------------------------------------------------------------------


async def double(n: int) -> int:
    """Double it, slowly."""
    await asyncio.sleep(0.01)
    return 2 * n


def test_async_tools_run_without_a_loop_and_under_a_running_one():
    """A kernel's main thread has a running loop, which asyncio.run would refuse."""
    made = FunctionTool(double, "double")

    async def kernel():
        return made.call({"n": 4})

    assert made.call({"n": 3}).value == 6
    assert asyncio.run(kernel()).value == 8


def test_an_async_tool_sees_the_context_and_its_error_is_its_own():
    word = contextvars.ContextVar("word")

    async def f():
        if word.get() == "fail":
            raise TimeoutError("its own")
        return word.get()

    made = FunctionTool(f, "f")

    async def kernel(value):
        word.set(value)
        return made.call({})

    assert asyncio.run(kernel("here")).text == "here"
    assert asyncio.run(kernel("fail")).text == "TimeoutError: its own"


def test_an_interrupt_cancels_the_coroutine():
    """After SIGINT the coroutine is cancelled, and KeyboardInterrupt is raised in the kernel's thread."""
    cancelled = threading.Event()

    async def forever():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def kernel():
        timer = threading.Timer(0.3, signal.raise_signal, (signal.SIGINT,))
        handler = signal.signal(signal.SIGINT, signal.default_int_handler)
        timer.start()
        try:
            run_coroutine(forever())
        except KeyboardInterrupt:
            return True
        finally:
            signal.signal(signal.SIGINT, handler)
            timer.join()
        return False

    began = time.monotonic()
    loop = asyncio.new_event_loop()
    try:
        assert loop.run_until_complete(kernel())
    finally:
        loop.close()
    assert cancelled.wait(30)
    assert time.monotonic() - began < 50


def test_nothing_heavy_is_imported_with_the_module():
    """pydantic and docstring_parser are imported with the first tool."""
    import subprocess
    import sys

    code = (
        "import sys, nbchat.tools.functions, nbchat.tools.approval, nbchat.engine.structured, nbchat.tools.schema\n"
        "heavy = ('pydantic', 'pydantic_core', 'docstring_parser', 'anthropic', 'pandas', 'mcp')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
