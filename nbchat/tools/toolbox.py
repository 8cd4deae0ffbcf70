"""What a tool is, and the box that holds the tools of a turn.

A tool has a definition, which the model reads, and a call, which runs here. Functions
(:mod:`~nbchat.tools.functions`), the user's own namespace (:mod:`~nbchat.notebook.run_python`) and MCP
servers (:mod:`~nbchat.tools.mcp`) are the three kinds; the session sees only this.

Names: people write ``weather.today`` or ``files.read``. The API takes ``^[a-zA-Z0-9_-]{1,64}$``
(https://platform.claude.com/docs/en/agents-and-tools/tool-use/implement-tool-use), so on the wire
a dot is ``__`` and any other letter ``_``.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias, runtime_checkable

from nbchat.core.errors import OptionError, nearest, redact
from nbchat.core.messages import ToolUseBlock
from nbchat.tools.approval import Approval

__all__ = [
    "INTERRUPTED",
    "Content",
    "Outcome",
    "Tool",
    "Toolbox",
    "cut",
    "failure",
    "plain_content",
    "said",
    "wire_name",
]

Content: TypeAlias = tuple[dict[str, Any], ...]

#: Characters of one text that goes back to the model; about 25,000 tokens.
RESULT_LIMIT = 100_000

#: The blocks a tool result may hold, by the field that tells them from a dict of the user's own.
_BLOCK_FIELDS = {"text": "text", "image": "source", "document": "source", "search_result": "source"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a call.

    ``content`` are content blocks of the API, ready for a ``tool_result``. ``error`` is the
    exception whose traceback the user has not seen yet. ``value`` is what the tool returned.
    """

    content: Content
    is_error: bool = False
    error: BaseException | None = None
    value: Any = None

    @property
    def text(self) -> str:
        """The text parts, joined by new lines."""
        return "\n".join(part["text"] for part in self.content if part.get("type") == "text")


@runtime_checkable
class Tool(Protocol):
    """Something the model can call.

    ``name`` is the name on the wire, ``shown`` the one people read. ``approve`` is ``"ask"``,
    ``"always"``, ``"never"``, or None for what the turn says; where the turn says nothing, a
    ``trusted`` tool runs without asking. ``code`` names the argument that is source code, or is
    None.
    """

    name: str
    shown: str
    approve: str | None
    trusted: bool
    code: str | None

    def definition(self) -> dict[str, Any]:
        """The entry in ``tools`` of a request."""
        ...

    def call(self, arguments: Mapping[str, Any]) -> Outcome:
        """Run it, in the calling thread. Raises nothing but KeyboardInterrupt."""
        ...


def failure(message: str, error: BaseException | None = None) -> Outcome:
    """An error result with ``message``, keys taken out."""
    return Outcome(({"type": "text", "text": redact(message)},), is_error=True, error=error)


def said(error: BaseException) -> str:
    """Type and message of an exception, with its notes, as the last lines of a traceback have it."""
    return "".join(traceback.format_exception_only(error)).strip()


#: The answer to a call that the user stopped: without one the history could not be sent again.
INTERRUPTED = failure("The user interrupted this call; it did not finish.")


def wire_name(shown: str) -> str:
    """``shown`` as the API takes it: at most 64 of ASCII letters, digits, ``_`` and ``-``."""
    name = re.sub(r"[^a-zA-Z0-9_-]", "_", shown.replace(".", "__")) or "_"
    if len(name) <= 64:
        return name
    return f"{name[:55]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def cut(text: str, limit: int = RESULT_LIMIT) -> str:
    """``text`` with its middle left out where it is longer than ``limit`` characters, and a mark that says so."""
    if len(text) <= limit:
        return text
    head, tail = limit * 2 // 3, limit // 3
    return f"{text[:head]}\n[… {len(text) - head - tail:,} characters left out …]\n{text[-tail:]}"


def plain_content(value: Any) -> Content:
    """Content blocks of a value, where nothing better is given.

    A text is a text, content blocks stay as they are, other values are their JSON, or else their
    ``repr``.
    """
    if _is_block(value):
        return (dict(value),)
    if isinstance(value, (list, tuple)) and value and all(_is_block(part) for part in value):
        return tuple(dict(part) for part in value)
    return ({"type": "text", "text": value if isinstance(value, str) else _as_text(value)},)


def _is_block(value: Any) -> bool:
    if not isinstance(value, Mapping) or not isinstance(value.get("type"), str):
        return False
    return _BLOCK_FIELDS.get(value["type"]) in value


def _as_text(value: Any) -> str:
    if value is None:
        return "None"
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        pass
    # Dataclasses, models, dates and enums have a JSON form too, which pydantic knows; without it
    # loaded the tool was not made of types.
    core = sys.modules.get("pydantic_core")
    if core is not None:
        try:
            return core.to_json(value).decode()
        except (ValueError, TypeError):
            pass
    return repr(value)


class Toolbox:
    """The tools of a turn, by their names on the wire.

    Raises:
        OptionError: two of them have the same name.
    """

    def __init__(self, tools: Iterable[Tool] = (), approval: Approval | None = None) -> None:
        self._approval = approval
        self._tools: dict[str, Tool] = {}
        for tool in tools:
            known = self._tools.setdefault(tool.name, tool)
            if known is not tool:
                raise OptionError(
                    f"two tools have the name {tool.name}: {known.shown} and {tool.shown}",
                    "Give one of them another with @nbchat.tool(name=…), or leave one out.",
                )

    def __bool__(self) -> bool:
        return bool(self._tools)

    def __len__(self) -> int:
        return len(self._tools)

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def get(self, name: str) -> Tool | None:
        """The tool with this name on the wire."""
        return self._tools.get(name)

    def definitions(self) -> tuple[dict[str, Any], ...]:
        """The ``tools`` of a request, in the order given: the same order keeps the prompt cache."""
        return tuple(tool.definition() for tool in self._tools.values())

    def run(self, call: ToolUseBlock, announce: Callable[[str], None] | None = None) -> Outcome:
        """Answer one call of a whole answer: look it up, ask where that is due, run it.

        Whatever goes wrong is an error result. ``announce`` is told, in a sentence, what the user
        should know and did not decide. Raises nothing but KeyboardInterrupt.
        """
        tool = self._tools.get(call.name)
        if tool is None:
            hint = nearest(call.name, self._tools)
            return failure(f"There is no tool {call.name}. {hint} There are: {', '.join(self._tools) or 'none'}.")
        if not call.valid:
            return failure(
                f"The arguments of {call.name} were no whole JSON object, so it did not run: {call.arguments}"
            )
        arguments: Mapping[str, Any] = call.input
        note = ""
        if self._approval is not None:
            decision = self._approval.decide(tool, arguments)
            if decision.notice and announce is not None:
                announce(decision.notice)
            if not decision.allowed:
                return failure(decision.reason)
            arguments, note = decision.arguments, decision.reason
        outcome = tool.call(arguments)
        _show_figures()
        content = _sendable(outcome.content)
        if note:
            content = ({"type": "text", "text": note}, *content)
        return replace(outcome, content=content)


def _show_figures() -> None:
    """Show the figures a tool left open now, under its call, and not at the end of the cell."""
    backend = sys.modules.get("matplotlib_inline.backend_inline")
    pyplot = sys.modules.get("matplotlib.pyplot")
    if backend is not None and pyplot is not None and pyplot.get_fignums() and "inline" in pyplot.get_backend():
        backend.flush_figures()


def _sendable(content: Content) -> Content:
    """The content cut to size, keys taken out. The API takes no text of white space only, so such a one goes."""
    kept = []
    for part in content:
        if part.get("type") != "text":
            kept.append(part)
        elif part["text"].strip():
            kept.append({**part, "text": cut(redact(part["text"]))})
    return tuple(kept) or ({"type": "text", "text": "(an empty result)"},)
