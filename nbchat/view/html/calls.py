"""The card of a tool call: what was called with what, who allowed the call, and the result."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nbchat.core.call_text import CODE_TOOLS, call_lines, call_text, code_lines, numbered, shown_json, tool_name
from nbchat.core.chunks import ToolDecision
from nbchat.core.messages import ToolUseBlock
from nbchat.core.visible import visible
from nbchat.view.html.highlight import code_html
from nbchat.view.html.safe import clean, escape

if TYPE_CHECKING:
    from nbchat.view.html.budget import Budget

__all__ = [
    "arguments_html",
    "call_head",
    "call_html",
    "details",
    "json_text",
    "outcome_html",
    "plain_call",
    "render_tool_call",
    "result_html",
]

#: A tool result is shown up to this length. ``response.messages`` has all of it.
MAX_RESULT_CHARACTERS = 20_000


def details(summary: str, inner_html: str, open: bool = False) -> str:
    """Return a fold, which the reader opens and closes.

    Args:
        summary: the text of the head. Line breaks become spaces.
        inner_html: safe HTML.
        open: the fold is open at first.
    """
    summary = " ".join(summary.split())
    tag = '<details open="">' if open else "<details>"
    return f"{tag}\n<summary>{escape(summary)}</summary>\n{inner_html}</details>\n"


def render_tool_call(
    call: ToolUseBlock,
    decision: ToolDecision | None = None,
    result: str | None = None,
    is_error: bool = False,
    budget: Budget | None = None,
    *,
    is_numbered: bool = False,
) -> str:
    """Return a tool call in a fold. The fold of code that runs in the user's own namespace is open.

    Args:
        call: the call.
        decision: the decision about the call, None while there is none.
        result: the text of the result, None while there is none.
        is_error: the tool failed.
        budget: what the answer may still cost.
        is_numbered: write numbers before the lines of code.
    """
    inner = call_html(call, decision, budget, is_numbered=is_numbered)
    # The reason of a call that did not run is in the head.
    if result is not None and (decision is None or decision.allowed):
        inner += outcome_html(result, is_error)
    return details(call_head(call, decision, is_error), clean(inner), call.name in CODE_TOOLS)


def call_head(call: ToolUseBlock, decision: ToolDecision | None = None, is_error: bool = False) -> str:
    """Return the head of the fold of a call: what was called with what, and who allowed the call.

    >>> call_head(ToolUseBlock("toolu_1", "weather", {"city": "Oslo"}))
    "Tool call: weather(city='Oslo')"
    """
    name = call.name if decision is None else decision.name
    head = f"Tool call: {call_text(name, _arguments(call, decision)) if call.valid else tool_name(name)}"
    if is_error and (decision is None or decision.allowed):
        head += " (failed)"
    return f"{head} · {visible(decision.text)}" if decision is not None and decision.text else head


def call_html(
    call: ToolUseBlock, decision: ToolDecision | None, budget: Budget | None, *, is_numbered: bool = False
) -> str:
    """Return the arguments with which a call runs as HTML, which the caller has to clean."""
    if not call.valid:
        return arguments_html(call.partial_json, budget)
    return _fields_html(_arguments(call, decision), budget, is_numbered=is_numbered)


def _arguments(call: ToolUseBlock, decision: ToolDecision | None) -> Mapping[str, Any]:
    """Return the arguments with which a call runs. The user may have changed them."""
    return call.input if decision is None or decision.arguments is None else decision.arguments


_CODE_ARGUMENTS = {"code": "python", "command": "bash", "sql": "sql", "query_sql": "sql"}


def arguments_html(arguments: str, budget: Budget | None = None) -> str:
    """Return the arguments of a call as HTML, which the caller has to clean.

    An argument that holds code or a command is shown as code, not as a JSON string. Only code can be slow to
    colour, so only code is in the budget: the lexer of JSON reads each character once.
    """
    try:
        fields = json.loads(arguments)
    except (ValueError, RecursionError):
        return code_html(arguments, "json") if arguments.strip() else ""
    if not isinstance(fields, dict):
        return code_html(shown_json(fields), "json")
    return _fields_html(fields, budget)


def _fields_html(fields: Mapping[str, Any], budget: Budget | None, *, is_numbered: bool = False) -> str:
    # The user may decide by this text, so nothing in it is hidden (nbchat.core.call_text).
    rest, blocks = dict(fields), []
    for key, language in _CODE_ARGUMENTS.items():
        if isinstance(code := rest.get(key), str):
            del rest[key]
            lines = numbered(code) if is_numbered else code_lines(code)
            blocks.append(code_html("\n".join(lines), "" if is_numbered else language, budget))
    return "".join([code_html(shown_json(rest), "json")] * bool(rest) + blocks)


def outcome_html(result: str, is_error: bool) -> str:
    """Return a tool result under a line "Result" or "Error", as HTML that the caller has to clean."""
    return f"<p>{'Error' if is_error else 'Result'}</p>\n{result_html(result)}"


def result_html(result: str) -> str:
    """Return the text of a result as HTML that the caller has to clean. A long text is cut."""
    hidden = len(result) - MAX_RESULT_CHARACTERS
    shown = result[:MAX_RESULT_CHARACTERS] if hidden > 0 else result
    language = "json" if hidden <= 0 and shown[:1] in ("{", "[") and _is_json(shown) else ""
    note = f"<p><em>… {hidden:,} more characters</em></p>\n" if hidden > 0 else ""
    return code_html(shown.rstrip("\n"), language) + note


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def json_text(value: object) -> str:
    """Return a value as JSON on several lines."""
    return json.dumps(value, ensure_ascii=False, indent=2, default=str)


def plain_call(call: ToolUseBlock, decision: ToolDecision | None) -> str:
    """Return a call as plain text, with the decision about it and with code as lines of code."""
    name = call.name if decision is None else decision.name
    head, *code = call_lines(name, _arguments(call, decision) if call.valid else call.partial_json).split("\n")
    if decision is not None and decision.text:
        head += f" · {visible(decision.text)}"
    return "\n".join([head, *code])
