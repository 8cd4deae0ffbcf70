"""{{ expression }}: any Python, evaluated once; single braces mean nothing."""

from __future__ import annotations

import pytest

from nbchat.core.errors import TemplateError
from nbchat.core.template import Filled, fill


def said(text: str, **namespace) -> str:
    return "".join(str(part.value) if isinstance(part, Filled) else part for part in fill(text, namespace))


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("a {{ x }} b", "a 3 b"),
        ("{{x}}{{x}}", "33"),
        ("{{ x + 1 }}", "4"),
        ("{{ [i * x for i in range(3)] }}", "[0, 3, 6]"),
        ("{{ {'a': x} }}", "{'a': 3}"),
        ("{{ {'a': x}['a'] }}", "3"),
        ("{{{'a': x}}}", "{'a': 3}"),
        ("{{ '}}' }}", "}}"),
        ("{{ '{{ x }}' }}", "{{ x }}"),
        ('{{ f"{x:02d}" }}', "03"),
        ("{{ x  # why\n}}", "3"),
        ("{{ x if x\n else 0 }}", "3"),
        ("{{ x }}}", "3}"),
        ("{ x } {x} }} {", "{ x } {x} }} {"),
        (r"\{{ x }}", "{{ x }}"),
        (r"\{{ x }} and {{ x }}", "{{ x }} and 3"),
        ('{"json": {"a": 1}}', '{"json": {"a": 1}}'),
        ("", ""),
    ],
)
def test_examples(text, filled):
    """What a prompt says and what is sent."""
    assert said(text, x=3) == filled


def test_a_value_is_not_read_again():
    """Data may hold braces, also hostile ones."""
    assert said("{{ row }}", row="{{ secret }}", secret="no") == "{{ secret }}"


def test_values_stay_values():
    """A DataFrame goes along as what it is; its source names it."""
    marker = object()
    assert fill("look: {{ table }}", {"table": marker}) == ["look: ", Filled("table", marker)]


def test_expressions_are_evaluated_once_and_in_order():
    """Also with side effects."""
    calls = []
    assert said("{{ f(1) }} {{ f(2) }}", f=lambda n: calls.append(n) or n) == "1 2"
    assert calls == [1, 2]


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("one\n{{ tabel }}", "line 2 of the prompt: name 'tabel' is not defined", "Did you mean table?"),
        ("{{ prnt }}", "name 'prnt' is not defined", "Did you mean print?"),
        ("{{ qqqqqq }}", "name 'qqqqqq' is not defined", "Define it in a cell above"),
        ("{{ 1 / 0 }}", "raised ZeroDivisionError: division by zero", "nothing was sent"),
        ("{{ 1 + }}", "is no Python expression", "Mend the expression"),
        ("{{ import os }}", "is no Python expression", "Mend the expression"),
        ("{{ }}", "is no Python expression: it is empty", "literal braces"),
        ("text\n\n{{ x", "line 3 of the prompt opens {{ and never closes it", "Close it with }}"),
    ],
)
def test_what_cannot_be_filled_is_explained(text, message, hint):
    """With the line of the prompt, the nearest name, and what to do."""
    with pytest.raises(TemplateError) as wrong:
        fill(text, {"table": 1})
    assert message in wrong.value.message
    assert hint in wrong.value.hint


def test_an_interrupt_in_an_expression_is_an_interrupt():
    """Nothing swallows it."""

    def slow() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill("{{ slow() }}", {"slow": slow})
