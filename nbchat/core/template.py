"""Templates: a prompt with ``{{ expression }}`` in it.

An expression is any Python expression, evaluated once in the user's namespace. Single braces mean
nothing, and ``\\{{`` is a literal ``{{``.

The values are never scanned for ``{{`` again. They are often data from elsewhere (a web page, a row
of a table), and an expression in them must not run in the user's kernel.
"""

from __future__ import annotations

import builtins
import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import CodeType
from typing import Any

from nbchat.core.errors import TemplateError, nearest

__all__ = ["Expression", "Filled", "fill", "fill_parts", "split"]


#: The end of a hint: braces of GitHub Actions, Jinja, Vue, LaTeX and others are pasted into prompts.
_LITERALLY = "write \\{{ for literal braces."
#: Nothing, or comments only, as in ``{{#each items}}`` of Handlebars.
_ONLY_COMMENTS = re.compile(r"\s*(?:#[^\n]*\s*)*")


#: How similar an undefined name must be to one of Python's own names to be taken for a typo.
TYPO_SIMILARITY = 0.8
#: A longer text is not taken for an expression, and no more ends of one are tried. A prompt may hold thousands of
#: pasted braces, and each try compiles the text from its beginning.
MAX_EXPRESSION_CHARACTERS = 100_000
MAX_ENDS = 1_000
#: The part of an expression that a message quotes.
MAX_QUOTED_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression of a prompt.

    Attributes:
        source: The text between ``{{`` and ``}}``.
        code: The compiled source.
        line: The line of the prompt, counted from 1.
    """

    source: str
    code: CodeType
    line: int


@dataclass(frozen=True, slots=True)
class Filled:
    """The value of an expression, together with its source."""

    source: str
    value: Any


def split(text: str) -> list[str | Expression]:
    """Split a prompt into literal parts and expressions, in order.

    Raises:
        TemplateError: A ``{{`` is not closed, or contains something that is not a Python expression.
    """
    parts: list[str | Expression] = []
    literal, at = "", 0
    while (start := text.find("{{", at)) >= 0:
        if start and text[start - 1] == "\\":
            literal, at = literal + text[at : start - 1] + "{{", start + 2
            continue
        expression, end = _expression(text, start)
        if literal + text[at:start]:
            parts.append(literal + text[at:start])
        parts.append(expression)
        literal, at = "", end
    if literal + text[at:]:
        parts.append(literal + text[at:])
    return parts


def _expression(text: str, start: int) -> tuple[Expression, int]:
    """Compile the expression that opens at ``start``.

    Returns:
        The expression, and the position in ``text`` after its ``}}``.
    """
    line = text.count("\n", 0, start) + 1
    end = text.find("}}", start + 2)
    first_failure: tuple[str, Exception] | None = None
    ends = 0
    # The first `}}` that leaves valid Python closes the expression. Looking for the first `}}` alone
    # would cut {{ {'a': {'b': 1}} }} and {{ '}}' }} in half. In `}}}` the dict's own brace comes
    # first, so the search goes on one character further, not two.
    while end >= 0 and (ends := ends + 1) <= MAX_ENDS and end - start <= MAX_EXPRESSION_CHARACTERS:
        source = text[start + 2 : end].strip()
        try:
            if _ONLY_COMMENTS.fullmatch(source):
                raise SyntaxError("it is empty")  # Python would read () as an empty tuple
            # Parentheses let the expression span lines. The line break ends a comment in it.
            return Expression(source, compile(f"({source}\n)", "<prompt>", "eval"), line), end + 2
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            # Python raises the last two for an expression that is nested thousands deep.
            # The shortest candidate is the one the user most likely meant.
            first_failure = first_failure or (source, error)
        end = text.find("}}", end + 1)
    if first_failure is None:
        never = (
            f"does not close it in the next {MAX_EXPRESSION_CHARACTERS:,} characters" if end >= 0 else "never closes it"
        )
        raise TemplateError(
            f"line {line} of the prompt opens {{{{ and {never}",
            f"Close it with }}}}, or {_LITERALLY}",
        )
    source, failure = first_failure
    is_deep = isinstance(failure, RecursionError | MemoryError)
    reason = "it is nested too deeply" if is_deep else getattr(failure, "msg", None) or str(failure)
    shown = f"{{{{ {_quoted(source)} }}}}" if source else "{{ }}"
    raise TemplateError(
        f"{shown} in line {line} of the prompt is not a Python expression: {reason}",
        f"Fix the expression, or {_LITERALLY}",
    ) from failure


def _quoted(source: str) -> str:
    """Return an expression as a message quotes it: cut if it is long."""
    return source if len(source) <= MAX_QUOTED_CHARACTERS else source[: MAX_QUOTED_CHARACTERS - 1] + "…"


def fill(text: str, namespace: Mapping[str, Any]) -> list[str | Filled]:
    """Evaluate the expressions of a prompt, each once and in order.

    The values stay values, because a prompt can carry a table or an image as more than its text.

    Args:
        text: The prompt.
        namespace: The names that the expressions can use.

    Returns:
        The literal parts, and a :class:`Filled` for each expression.

    Raises:
        TemplateError: The prompt contains an invalid expression, or an expression raised an
            exception. For an undefined name, the hint has the nearest defined one.

    >>> fill("Add {{ n + 1 }} and \\\\{{ n }}.", {"n": 2})
    ['Add ', Filled(source='n + 1', value=3), ' and {{ n }}.']
    """
    # `eval` accepts only a real dict as its globals, and adds `__builtins__` to it.
    return fill_parts(split(text), namespace if isinstance(namespace, dict) else dict(namespace))


def fill_parts(parts: Iterable[str | Expression], scope: dict[str, Any]) -> list[str | Filled]:
    """Evaluate the expressions of a prompt that :func:`split` took apart. Raises as :func:`fill` does."""
    return [part if isinstance(part, str) else Filled(part.source, _evaluate(part, scope)) for part in parts]


def _evaluate(expression: Expression, scope: dict[str, Any]) -> Any:
    where = f"{{{{ {_quoted(expression.source)} }}}} in line {expression.line} of the prompt"
    try:
        return eval(expression.code, scope)  # the user's own expression, in the user's own kernel
    except NameError as error:
        name = getattr(error, "name", None) or ""
        # The names of Python are suggested for a typo only. Pasted braces hold names that are similar by chance.
        typos = difflib.get_close_matches(name, dir(builtins), cutoff=TYPO_SIMILARITY)
        similar = nearest(name, [*(key for key in scope if not key.startswith("_")), *typos])
        hint = f"{similar} Or {_LITERALLY}" if similar else f"Define the name in a cell above, or {_LITERALLY}"
        raise TemplateError(f"{where}: name {name!r} is not defined", hint) from error
    except Exception as error:
        raise TemplateError(
            f"{where} raised {type(error).__name__}: {error}", f"Fix the expression, or {_LITERALLY} Nothing was sent."
        ) from error
