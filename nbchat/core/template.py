"""``{{ expression }}`` in a prompt.

Any Python expression, evaluated once in the user's namespace. Values are never scanned again,
single braces mean nothing, and ``\\{{`` is a literal ``{{``.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from dataclasses import dataclass
from types import CodeType
from typing import Any

from nbchat.core.errors import TemplateError, nearest

__all__ = ["Filled", "fill", "split"]


@dataclass(frozen=True, slots=True)
class Expression:
    """The source between ``{{`` and ``}}``, compiled; ``line`` counts from 1."""

    source: str
    code: CodeType
    line: int


@dataclass(frozen=True, slots=True)
class Filled:
    """A value that stood between ``{{`` and ``}}``, and the source it came of."""

    source: str
    value: Any


def split(text: str) -> list[str | Expression]:
    """The text as literal parts and expressions, in order.

    Raises:
        TemplateError: a ``{{`` that is not closed, or that holds no Python expression.
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
    """The expression that opens at ``start``, and where the text goes on.

    The first ``}}`` that leaves valid Python closes it, so dicts and strings may hold braces.
    """
    line = text.count("\n", 0, start) + 1
    end, wrong = text.find("}}", start + 2), None
    while end >= 0:
        # `}}}` closes a dict first: try the later pair before giving up.
        source = text[start + 2 : end].strip()
        try:
            if not source:
                raise SyntaxError("it is empty")  # Python would read () as an empty tuple
            return Expression(source, compile(f"({source}\n)", "<prompt>", "eval"), line), end + 2
        except (SyntaxError, ValueError) as error:
            wrong = wrong or (source, error)
        end = text.find("}}", end + 1)
    if wrong is None:
        raise TemplateError(
            f"line {line} of the prompt opens {{{{ and never closes it",
            "Close it with }}, or write \\{{ for literal braces.",
        )
    source, error = wrong
    reason = getattr(error, "msg", None) or str(error)
    shown = f"{{{{ {source} }}}}" if source else "{{ }}"
    raise TemplateError(
        f"{shown} in line {line} of the prompt is no Python expression: {reason}",
        "Mend the expression, or write \\{{ for literal braces.",
    ) from error


def fill(text: str, namespace: Mapping[str, Any]) -> list[str | Filled]:
    """The text with its expressions evaluated in ``namespace``, as literal parts and values.

    Raises:
        TemplateError: an undefined name (with the nearest one), or whatever the expression raised.
    """
    scope = namespace if isinstance(namespace, dict) else dict(namespace)
    return [part if isinstance(part, str) else Filled(part.source, _evaluate(part, scope)) for part in split(text)]


def _evaluate(expression: Expression, scope: dict[str, Any]) -> Any:
    where = f"{{{{ {expression.source} }}}} in line {expression.line} of the prompt"
    try:
        return eval(expression.code, scope)  # the user's own expression, in the user's own kernel
    except NameError as error:
        name = getattr(error, "name", None) or ""
        names = [key for key in (*scope, *dir(builtins)) if not key.startswith("_")]
        hint = nearest(name, names) or "Define it in a cell above and run that first."
        raise TemplateError(f"{where}: name {name!r} is not defined", hint) from error
    except Exception as error:
        raise TemplateError(
            f"{where} raised {type(error).__name__}: {error}", "Mend the expression; nothing was sent."
        ) from error
