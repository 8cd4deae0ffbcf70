"""Tests of the options of a cell: in the line, as values from Python, and in the table."""

from __future__ import annotations

import contextlib
import doctest
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nbchat import options as table
from nbchat.core.errors import OptionError
from nbchat.models import DEFAULT_MODEL
from nbchat.notebook import line as line_of_options
from nbchat.notebook.line import help_text, option_of, parse
from nbchat.options import OPTIONS, Option, Options

ONE_LINE: dict[str, tuple[dict[str, Any], str]] = {
    # the line, its options and its prompt
    "": ({}, ""),
    "Tell me a story": ({}, "Tell me a story"),
    "  Tell   me  ": ({}, "Tell   me"),
    "-m claude-x Tell me": ({"model": "claude-x"}, "Tell me"),
    "--model claude-x Tell me": ({"model": "claude-x"}, "Tell me"),
    "--model=claude-x Tell me": ({"model": "claude-x"}, "Tell me"),
    '-s "Be brief." Tell me': ({"system": "Be brief."}, "Tell me"),
    "-s 'Be \"brief\".' Tell me": ({"system": 'Be "brief".'}, "Tell me"),
    r'-s "say \"no\" \\ and \n" Tell me': ({"system": r'say "no" \ and \n'}, "Tell me"),
    '--system="Be brief." Tell me': ({"system": "Be brief."}, "Tell me"),
    "-s {{ style }} Tell me": ({"system": "{{ style }}"}, "Tell me"),
    "-s {{ {'a': 1}}} Tell me": ({"system": "{{ {'a': 1}}}"}, "Tell me"),
    "-s prompts/{{ name }}.txt Tell me": ({"system": "prompts/{{ name }}.txt"}, "Tell me"),
    "--max-tokens 1_000 Tell me": ({"max_tokens": 1000}, "Tell me"),
    "--budget 0.05 Tell me": ({"budget": 0.05}, "Tell me"),
    "--budget 0 Tell me": ({"budget": 0.0}, "Tell me"),
    "--no-stream --quiet Tell me": ({"stream": False, "quiet": True}, "Tell me"),
    "--effort low Tell me": ({"effort": "low"}, "Tell me"),
    "--stop END --stop 'THE END' Tell me": ({"stop": ("END", "THE END")}, "Tell me"),
    "--param temperature=0 Tell me": ({"param": ("temperature=0",)}, "Tell me"),
    '--param \'metadata={"user_id": "a b"}\' Tell me': ({"param": ('metadata={"user_id": "a b"}',)}, "Tell me"),
    "answer << Tell me": ({"output": "answer"}, "Tell me"),
    "answer<<Tell me": ({"output": "answer"}, "Tell me"),
    "answer << -m claude-x Tell me": ({"output": "answer", "model": "claude-x"}, "Tell me"),
    "-o answer Tell me": ({"output": "answer"}, "Tell me"),
    "-- -m is a flag of which tool?": ({}, "-m is a flag of which tool?"),
    "-m x -- --quiet please": ({"model": "x"}, "--quiet please"),
    "Why is -1 less than 0?": ({}, "Why is -1 less than 0?"),
    "-1 is less than 0, why?": ({}, "-1 is less than 0, why?"),
    "What is a --flag?": ({}, "What is a --flag?"),
    "Is 1 << 2 four?": ({}, "Is 1 << 2 four?"),
    "-m x -m x Tell me": ({"model": "x"}, "Tell me"),
    "Don't stop": ({}, "Don't stop"),
}  # fmt: skip


@pytest.mark.parametrize("line", ONE_LINE)
def test_a_line_is_split_into_options_and_a_prompt(line: str):
    """A line is split into options and a prompt."""
    parsed = parse(line)
    assert (parsed.given, parsed.prompt) == ONE_LINE[line]


@pytest.mark.parametrize("line", ["answer", "-m x answer", " größe ", "--attach a.csv -m x plan"])
def test_a_name_alone_above_a_prompt_gets_a_note(line: str):
    """The name may have been meant as a binding. The prompt is sent all the same."""
    (note,) = parse(line, has_body=True).notes
    name = line.split()[-1]
    assert note == f"{name!r} is a part of the prompt; to bind the Response to a variable, write {name} <<"
    assert parse(line, has_body=True).prompt == name
    assert parse(line).notes == ()


@pytest.mark.parametrize("line", ["a << b", "Summary:", "two words", "-- answer", "why?", "", "{{ x }}", "x.y"])
def test_other_prompts_above_a_prompt_get_no_note(line: str):
    """Such a line cannot be a binding with a forgotten sign."""
    assert parse(line, has_body=True).notes == ()


@pytest.mark.parametrize(
    "line", ["answer =", "answer <", "answer<-", "answer := ", "answer >>", "answer ->", "-m x a ="]
)
def test_a_binding_with_another_sign_is_refused(line: str):
    """Nobody writes such a line as text. The error says how the binding is written."""
    with pytest.raises(OptionError, match="binds nothing") as refused:
        parse(line, has_body=True)
    assert "<< with two signs" in refused.value.hint


def test_a_quoted_value_may_begin_with_a_quotation_mark():
    """Only a quotation mark that is never closed is refused."""
    assert parse(r'-m "\""').given == {"model": '"'}
    assert parse(r'-m "\"a b\"" Hi').given == {"model": '"a b"'}


def test_a_list_takes_all_words_if_the_cell_has_a_body():
    """In a cell with a body, all words of the line are files. Without a body, only the next word is a file."""
    assert parse("--attach a.csv 'b c.pdf' -m x", has_body=True).given == {"attach": ("a.csv", "b c.pdf"), "model": "x"}
    assert parse("--attach a.csv b.csv", has_body=True).given == {"attach": ("a.csv", "b.csv")}
    assert parse("--attach a.csv -- Sum it up", has_body=True) == parse("--attach a.csv Sum it up")
    assert parse("--attach a.csv Sum it up").prompt == "Sum it up"


#: Lines, a part of each message, and a part of each hint.
WRONG = [
    ("--modle x", "--modle", "--model"),
    ("--qiet", "--qiet", "--quiet"),
    ("--zzz", "--zzz", "%%claude?"),
    ("-m", "-m MODEL", "the model"),
    ("--model --quiet hi", "--model", "the model"),
    ("--max-tokens", "--max-tokens N", "tokens"),
    ("--max-tokens 0 hi", "--max-tokens 0", "1000"),
    ("--max-tokens -5 hi", "--max-tokens -5", "1000"),
    ("--max-tokens 1.5 hi", "--max-tokens 1.5", "1000"),
    ("--budget -1 hi", "--budget -1", "0.5"),
    ("--budget nan hi", "--budget nan", "0.5"),
    ("--budget inf hi", "--budget inf", "0.5"),
    (f"--budget {'9' * 400} hi", "--budget 999", "0.5"),
    (f"--max-tokens {'9' * 400} hi", "--max-tokens 999", "1000"),
    ("--effort hihg hi", "low, medium, high", "Did you mean high?"),
    ("--quiet=1 hi", "--quiet takes no value", "alone"),
    ("-m a -m b hi", "-m b", "once"),
    ("a << -o b hi", "-o b", "once"),
    ("Tell me -m x", "-m comes after", "--"),
    ("Tell me --no-stream", "--no-stream comes after", "--"),
    ("1a << hi", "'1a'", "answer <<"),
    ("class << hi", "'class'", "answer <<"),
    ("-o a.b hi", "'a.b'", "-o answer"),
    ('-s "Be brief. Tell me', '-s "Be', "Close it"),
    ("-s 'Be brief. Tell me", "-s 'Be", "Close it"),
    ('--attach "a b.csv', '--attach "a', "Close it"),
]


@pytest.mark.parametrize(("line", "named", "way"), WRONG)
def test_a_mistake_is_named_with_a_hint(line: str, named: str, way: str):
    """No option is guessed, and no option is sent as text."""
    with pytest.raises(OptionError) as caught:
        parse(line)
    assert named in caught.value.message
    assert way in caught.value.hint


def values(option: Option) -> st.SearchStrategy[Any]:
    """Return a strategy for the values that an option of a line can have."""
    if option.choices:
        return st.sampled_from(option.choices)
    words = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=12)
    return {
        "int": st.integers(1, 10**9),
        "number": st.floats(0, 1e6, allow_nan=False),
        "switch": st.just(option.value),
        "name": st.sampled_from(["answer", "a1", "_x", "größe"]),
        "list": st.lists(words, min_size=1, max_size=3).map(tuple),
        "text": words,
    }[option.kind]


def quoted(value: Any) -> str:
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


@st.composite
def chosen(draw: Any) -> tuple[dict[str, Any], list[str]]:
    """Draw some options, and the words of a line that sets them by any of their flags."""
    given: dict[str, Any] = {}
    words: list[str] = []
    for option in draw(st.lists(st.sampled_from(OPTIONS), max_size=6, unique_by=lambda option: option.name)):
        value = given[option.name] = draw(values(option))
        flag = draw(st.sampled_from(option.flags))
        join = draw(st.sampled_from([" ", "="])) if flag.startswith("--") else " "
        for part in value if option.kind == "list" else [value]:
            words.append(flag if option.kind == "switch" else f"{flag}{join}{quoted(part)}")
    return given, words


@given(chosen(), st.sampled_from(["", "Tell me", "{{ x }} and more"]))
@example(({"stop": ("--retry",)}, ['--stop "--retry"']), "")
@example(({"system": "-m"}, ["--system=-m"]), "")
def test_every_option_has_the_value_from_the_line(options: tuple[dict[str, Any], list[str]], prompt: str):
    """A line sets the same options as a call from Python, for any value."""
    known, words = options
    parsed = parse(" ".join([*words, prompt]))
    assert parsed.given == known
    assert parsed.prompt == prompt
    assert Options.of(parsed.given).own() == Options.of(known).own()


@given(st.text(max_size=60), st.booleans())
def test_no_line_breaks_the_parser(line: str, has_body: bool):
    """The parser returns options or raises OptionError, for any line."""
    with contextlib.suppress(OptionError):
        parsed = parse(line, has_body=has_body)
        assert all(option_of_name(name) for name in parsed.given)


def option_of_name(name: str) -> bool:
    return any(option.name == name for option in OPTIONS)


# Options as values


def test_defaults_come_from_the_table():
    """An option that was not set has the default of the table."""
    options = Options.of({})
    for option in OPTIONS:
        assert getattr(options, option.name) == (() if option.kind == "list" else option.default)
    assert options.model == DEFAULT_MODEL
    assert options.own() == {}


def test_the_request_overrides_the_settings_and_these_the_defaults():
    """A value in the request overrides the settings, and these override the default.

    `given` has the request's names.
    """
    options = Options.of({"model": "mine"}, {"model": "set", "max_tokens": 5, "of_another": 1})
    assert (options.model, options.max_tokens, options.chat) == ("mine", 5, "main")
    assert options.given == {"model"}
    assert options.own() == {"model": "mine"}
    assert repr(options) == "Options(model='mine')"
    with pytest.raises(AttributeError):
        _ = options.of_another


def test_one_word_for_a_list_is_a_list_of_one():
    """A single word becomes a list of one word. A text is not split into characters."""
    assert Options.of({"stop": "END"}).stop == ("END",)
    assert Options.of({"stop": ["A", "B"]}).stop == ("A", "B")


@pytest.mark.parametrize(
    "given",
    [
        {"modle": "x"}, {"effort": "huge"}, {"max_tokens": 0}, {"max_tokens": True}, {"max_tokens": 1.5},
        {"max_tokens": "9"}, {"max_tokens": None}, {"stream": "no"}, {"stream": 0}, {"budget": -1}, {"budget": "1"},
        {"model": None}, {"model": 3}, {"system": ["Be brief."]}, {"stop": [3]}, {"stop": None},
        {"output": "not a name"}, {"output": "class"}, {"chat": None},
    ],
    ids=str,
)  # fmt: skip
def test_values_from_python_are_checked_too(given: dict[str, Any]):
    """A wrong value from Python raises an error before the request is sent."""
    with pytest.raises(OptionError) as caught:
        Options.of(given)
    assert next(iter(given)) in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    "given",
    [
        {"effort": None},
        {"effort": "max"},
        {"max_tokens": 1},
        {"budget": 0},
        {"budget": None},
        {"budget": 1},
        {"system": None},
    ],
    ids=str,
)
def test_values_that_python_can_pass(given: dict[str, Any]):
    """Python can pass any value of the right type, and None if the default is None."""
    assert Options.of(given).own() == given


def test_numbers_of_other_libraries_are_numbers():
    """A number of numpy counts as a number, because users read numbers from tables."""
    import numpy

    assert Options.of({"max_tokens": numpy.int64(5)}).max_tokens == 5
    assert Options.of({"budget": numpy.float64(0.5)}).budget == 0.5
    assert type(Options.of({"max_tokens": numpy.int64(5)}).max_tokens) is int, "it becomes JSON"


def test_python_may_pass_functions_and_types():
    """Python can pass a type as a schema and functions as tools, which need no name in the notebook."""
    options = Options.of({"schema": dict, "tools": [print, "lookup"]})
    assert (options.schema, options.tools) == (dict, (print, "lookup"))


# The table itself


def test_names_and_flags_are_unique():
    """Each name and each flag belongs to one option."""
    names = [option.name for option in OPTIONS]
    assert len(set(names)) == len(names)
    flags = [flag for option in OPTIONS for flag in option.flags]
    assert len(set(flags)) == len(flags)
    assert all(name.isidentifier() for name in names)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_row_is_complete(option: Option):
    """Each row has the data that help, completion and settings need."""
    assert option.help
    assert not option.help.endswith(".")
    assert option.kind in ("text", "name", "int", "number", "switch", "list")
    assert (option.kind == "switch") is not bool(option.metavar)
    assert any(flag.startswith("--") for flag in option.flags)
    assert all(option_of(flag) is option for flag in option.flags)
    if option.kind == "switch":
        assert option.value is not option.default, "giving it changes something"
    if option.kind != "list":
        assert Options.of({option.name: option.default}) if option.default is not None else True


def test_every_option_is_in_the_help():
    """The help shows each option with its flags and its value. A value from the settings is shown."""
    text = help_text(lambda option: "claude-set" if option.name == "model" else option.default)
    for option in OPTIONS:
        for flag in option.flags:
            assert flag in text
        if option.metavar:
            assert option.metavar in text
    assert "(now: claude-set)" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 110


@pytest.mark.parametrize("module", [table, line_of_options], ids=lambda module: module.__name__)
def test_the_examples_in_docstrings_run(module: Any):
    """The examples in the docstrings run as doctests."""
    results = doctest.testmod(module)
    assert results.attempted
    assert not results.failed


class WithoutRepr:
    def __repr__(self) -> str:
        raise ValueError("odd")


@pytest.mark.parametrize(
    "value", [WithoutRepr(), "x" * 100_000, 10**5_000, [10**5_000], b"\xff" * 9_000, {"a": 1}], ids=type
)
@pytest.mark.parametrize("name", ["max_tokens", "budget", "stream", "stop", "effort", "model", "output"])
def test_any_object_of_python_is_refused_in_one_short_message(name: str, value: object):
    """Also an object that cannot be shown."""
    if name in ("model", "output") and isinstance(value, str):
        return  # a text can be a model, and this one is a Python name
    if name == "stop" and isinstance(value, str | dict):
        return  # a text, and the texts of its keys
    with pytest.raises(OptionError) as caught:
        Options.of({name: value})
    assert len(str(caught.value)) < 600
