"""{{ expression }}: any Python, evaluated once; single braces mean nothing."""

from __future__ import annotations

import time

import pytest

from nbchat.core.errors import TemplateError
from nbchat.core.template import Filled, fill


def filled_text(text: str, **namespace) -> str:
    """Return the prompt with its values as text."""
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
    """Braces in Python, in plain text and after a backslash."""
    assert filled_text(text, x=3) == filled


def test_a_value_is_not_scanned_again():
    """Data may contain braces, also hostile ones."""
    assert filled_text("{{ row }}", row="{{ secret }}", secret="no") == "{{ secret }}"


def test_values_stay_values():
    """A DataFrame is kept as a value, together with the source that names it."""
    marker = object()
    assert fill("look: {{ table }}", {"table": marker}) == ["look: ", Filled("table", marker)]


def test_expressions_are_evaluated_once_and_in_order():
    """Side effects happen once, in order."""
    calls = []
    assert filled_text("{{ f(1) }} {{ f(2) }}", f=lambda n: calls.append(n) or n) == "1 2"
    assert calls == [1, 2]


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("one\n{{ tabel }}", "line 2 of the prompt: name 'tabel' is not defined", "Did you mean table?"),
        ("{{ prnt }}", "name 'prnt' is not defined", "Did you mean print?"),
        ("{{ qqqqqq }}", "name 'qqqqqq' is not defined", "Define the name in a cell above"),
        ("{{ 1 / 0 }}", "raised ZeroDivisionError: division by zero", "Nothing was sent"),
        ("{{ 1 + }}", "is not a Python expression", "Fix the expression"),
        ("{{ import os }}", "is not a Python expression", "Fix the expression"),
        ("{{ }}", "is not a Python expression: it is empty", "literal braces"),
        ("{{#each items}}", "is not a Python expression: it is empty", "literal braces"),
        ("text\n\n{{ x", "line 3 of the prompt opens {{ and never closes it", "Close it with }}"),
    ],
)
def test_an_invalid_expression_is_explained(text, message, hint):
    """The error names the line of the prompt, the nearest name, and what to do."""
    with pytest.raises(TemplateError) as caught:
        fill(text, {"table": 1})
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    "pasted",
    [
        "env:\n  TOKEN: ${{ secrets.TOKEN }}", "runs-on: ${{ matrix.os }}", "{{ cookiecutter.project }}/setup.py",
        "{{ user.name | upper }}", "<p>{{ $t('hello') }}</p>", "<p>{{ message.split('').reverse() }}</p>",
        "{{ .Values.image }}", "{{- include \"chart\" . }}", "{{#if ready}}yes{{/if}}", "{{! a comment }}",
        "{{> part}}",
        r"\newcommand{\x}{{\bf y}}", r"\frac{{a}}{{b}}", "style={{ color: 'red' }}", "{{ table.rows }}", "{{", "{{}}",
        "{{ ref('orders') }}", "{{ ds }}", "{{1,2},{3,4}}",
    ],
)  # fmt: skip
def test_pasted_braces_are_explained(pasted: str):
    """Braces of other languages: the hint says how to send them as they are, and doing so sends them."""
    with pytest.raises(TemplateError) as caught:
        fill(pasted, {"table": 1})
    assert "write \\{{ for literal braces" in caught.value.hint
    assert "".join(map(str, fill(pasted.replace("{{", "\\{{"), {}))) == pasted


def test_python_names_are_suggested_for_a_typo_only():
    """``secrets`` of GitHub Actions is not the typo of ``credits``."""
    with pytest.raises(TemplateError) as caught:
        fill("${{ secrets.TOKEN }}", {})
    assert "Did you mean" not in caught.value.hint


def test_an_interrupt_in_an_expression_is_an_interrupt():
    """It passes through."""

    def slow() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill("{{ slow() }}", {"slow": slow})


@pytest.mark.parametrize("opening", ["-", "not ", "(", "[", "lambda:", "a.b.", "1+", "1**", "a["])
def test_an_expression_that_is_nested_too_deeply_is_explained(opening: str):
    """Python answers some of them with a RecursionError or a MemoryError."""
    with pytest.raises(TemplateError, match=r"line 1 of the prompt is not a Python expression") as caught:
        fill("{{ " + opening * 10_000 + "1 }}", {})
    assert len(str(caught.value)) < 500


def test_an_end_that_is_far_away_is_none():
    """A text of this length is a document with pasted braces."""
    with pytest.raises(TemplateError, match=r"opens {{ and does not close it in the next 100,000 characters"):
        fill("{{ " + "x" * 100_001 + " }}", {})


@pytest.mark.parametrize("opening", ["{{ '", "{{ (", "{{ a b", "{{ f'{"])
def test_thousands_of_ends_are_not_tried(opening: str):
    """Each try compiles the text from its beginning, so a long document with pasted braces would take minutes."""
    began = time.thread_time()
    with pytest.raises(TemplateError):
        fill(opening + " }}" * 300_000, {})
    assert time.thread_time() - began < 3
