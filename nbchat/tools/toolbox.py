"""The interface of a tool, and the box that contains the tools of a turn.

A tool has a definition, which the model reads, and a call, which runs here. There are three kinds of tools:
functions (:mod:`nbchat.tools.functions`), ``run_python``, and the tools of MCP servers
(:mod:`nbchat.tools.mcp`). The engine knows only this interface.
"""

from __future__ import annotations

import hashlib
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias, runtime_checkable

from nbchat.content.cutting import shorten
from nbchat.core.errors import OptionError, nearest, redact
from nbchat.core.messages import ToolUseBlock
from nbchat.tools.approval import Approval, Decision, ShowCall
from nbchat.tools.printing import noting_prints
from nbchat.tools.replayed_decision import replayed_decision

__all__ = [
    "INTERRUPTED",
    "Content",
    "Decided",
    "Outcome",
    "ToContent",
    "Tool",
    "Toolbox",
    "described",
    "error_text",
    "failure",
    "wire_name",
]

#: Content blocks of the Messages API.
Content: TypeAlias = tuple[dict[str, Any], ...]
#: Makes content blocks of the value that a tool returned. The engine passes it in, since this package
#: does not know how a prompt shows values.
ToContent: TypeAlias = Callable[[Any], Content]

#: Characters of one text in a result, about 25,000 tokens.
RESULT_CHARACTERS = 100_000
#: The API accepts ^[a-zA-Z0-9_-]{1,64}$:
#: https://platform.claude.com/docs/en/agents-and-tools/tool-use/implement-tool-use
MAX_NAME_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a call.

    Attributes:
        content: Content blocks of the API, ready for a ``tool_result``.
        is_error: True if the call failed.
        error: The exception, if its traceback has not been shown to the user yet.
        value: The value that the tool returned.
        shown: True if the user saw all of the content while the tool ran.
    """

    content: Content
    is_error: bool = False
    error: BaseException | None = None
    value: Any = None
    shown: bool = False

    @property
    def text(self) -> str:
        """Return the text blocks, joined by line breaks."""
        return "\n".join(part["text"] for part in self.content if part.get("type") == "text")


@runtime_checkable
class Tool(Protocol):
    """A tool that the model can call.

    Attributes:
        name: The name in requests.
        shown: The name that people read.
        approve: ``"ask"``, ``"always"``, ``"never"``, or None to do as the turn says.
        trusted: True to run without asking if neither ``approve`` nor the turn says otherwise.
        code: The name of the argument that is source code, or None.

    A tool may also have ``origin``, the objects that a permission for it depends on
    (:mod:`nbchat.tools.permissions`), and ``read_arguments``, a function that returns the input of a call with
    the names that the tool itself uses and the user reads.
    """

    name: str
    shown: str
    approve: str | None
    trusted: bool
    code: str | None

    def definition(self) -> dict[str, Any]:
        """Return the entry in ``tools`` of a request."""
        ...

    def call(self, arguments: Mapping[str, Any]) -> Outcome:
        """Run the tool in the calling thread. Raises only KeyboardInterrupt."""
        ...


def failure(message: str, error: BaseException | None = None) -> Outcome:
    """Return an error result with ``message``, without keys."""
    return Outcome(({"type": "text", "text": redact(message)},), is_error=True, error=error)


def error_text(error: BaseException) -> str:
    """Return the type, the message and the notes of an exception, as at the end of a traceback."""
    return "".join(traceback.format_exception_only(error)).strip()


#: The result of a call that the user interrupted. The API refuses a history with a call that has no result.
INTERRUPTED = failure("The user interrupted this call; it did not finish.")


def wire_name(shown: str, *, apart: bool = False) -> str:
    """Return the name in requests: at most 64 ASCII letters, digits, ``_`` and ``-``.

    People write ``weather.today`` or ``files.read``. A dot becomes ``__``, and any other character ``_``.

    Args:
        shown: The name that people read.
        apart: Add a digest of the name, since another tool has the name that it would get otherwise.
    """
    name = re.sub(r"[^a-zA-Z0-9_-]", "_", shown.replace(".", "__")) or "_"
    if shown.isascii() and len(name) <= MAX_NAME_CHARACTERS and not apart:
        return name
    # Two long names that begin alike must stay different, and so must two names in Chinese.
    source = name if shown.isascii() and not apart else shown
    if not shown.isascii():
        name = name.strip("_") or "tool"
    digest = hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{name[: MAX_NAME_CHARACTERS - len(digest) - 1]}_{digest}"


def described(shown: str, description: str) -> str:
    """Return the description of a tool, with its name if the name in requests tells the model nothing."""
    if shown.isascii():
        return description
    return f"{shown}: {description}" if description else shown


class Toolbox:
    """The tools of a turn, by their names in requests.

    Raises:
        OptionError: Two tools have the same name.
    """

    def __init__(self, tools: Iterable[Tool] = (), approval: Approval | None = None) -> None:
        self._approval = approval
        self._tools: dict[str, Tool] = {}
        for tool in tools:
            first = self._tools.setdefault(tool.name, tool)
            if first is not tool:
                raise OptionError(
                    f"two tools have the name {tool.name}: {first.shown} and {tool.shown}",
                    "Give one of them another name with @nbchat.tool(name=…), or leave one out.",
                )

    def __bool__(self) -> bool:
        return bool(self._tools)

    def definitions(self) -> tuple[dict[str, Any], ...]:
        """Return the ``tools`` of a request. They keep their order, since another order misses the prompt cache."""
        return tuple(tool.definition() for tool in self._tools.values())

    def shown_name(self, name: str) -> str:
        """Return the name that people read for a name in requests."""
        tool = self._tools.get(name)
        return name if tool is None else tool.shown

    def run(self, call: ToolUseBlock, announce: Callable[[str], None] | None = None) -> Outcome:
        """Decide about one call and run it. :meth:`decide` and :meth:`perform` do the same in two steps.

        Args:
            call: A call of a finished answer.
            announce: Shows the user a sentence about a decision that was not theirs.
        """
        decided = self.decide(call)
        if announce is not None and decided.decision is not None and decided.decision.notice:
            announce(decided.decision.notice)
        return self.perform(decided)

    def decide(
        self,
        call: ToolUseBlock,
        show_call: ShowCall | None = None,
        recorded: Callable[[], str | None] = lambda: None,
        *,
        can_ask: bool = True,
    ) -> Decided:
        """Find the tool of one call, and ask the user if needed. Raise nothing but KeyboardInterrupt.

        Args:
            call: A call of a finished answer.
            show_call: Shows the call before the question.
            recorded: Returns the first text of the recorded result of the call, or None if there is none.
            can_ask: True if somebody can be asked here.
        """
        tool = self._tools.get(call.name)
        if tool is None:
            hint = nearest(call.name, self._tools)
            return Decided(
                refusal=failure(f"There is no tool {call.name}. {hint} There are: {', '.join(self._tools) or 'none'}.")
            )
        if not call.valid:
            return Decided(
                tool,
                refusal=failure(
                    f"The arguments of {call.name} were no whole JSON object, so it did not run: {call.arguments}"
                ),
            )
        read = getattr(tool, "read_arguments", None)
        arguments: Mapping[str, Any] = read(call.input) if read is not None else call.input
        if self._approval is None:
            return Decided(tool, Decision(True, arguments))
        decision = self._replayed(tool, arguments, recorded, can_ask)
        decision = decision or self._approval.decide(tool, arguments, show_call)
        is_changed = decision.allowed and dict(decision.arguments) != dict(arguments)
        return Decided(tool, decision, is_changed, None if decision.allowed else failure(decision.reason))

    def _replayed(
        self, tool: Tool, arguments: Mapping[str, Any], recorded: Callable[[], str | None], can_ask: bool
    ) -> Decision | None:
        """Return the decision of a recorded call about which the user would be asked, if it can be replayed."""
        if self._approval is None or self._approval.policy_for(tool) != "ask" or (result := recorded()) is None:
            return None
        return replayed_decision(tool, arguments, result, INTERRUPTED.text, can_ask=can_ask)

    def perform(self, decided: Decided) -> Outcome:
        """Run a call, and make its result ready to send. Every failure is an error result.

        Raise nothing but KeyboardInterrupt.
        """
        if decided.refusal is not None or decided.tool is None or decided.decision is None:
            return decided.refusal or INTERRUPTED
        with noting_prints(RESULT_CHARACTERS) as printed:
            outcome = decided.tool.call(decided.decision.arguments)
        shown_figures = _show_figures()
        content = _sendable(outcome.content)
        if decided.decision.reason:
            content = ({"type": "text", "text": decided.decision.reason}, *content)
        is_shown = (
            outcome.shown
            or any(outcome.value is figure for figure in shown_figures)
            or (isinstance(outcome.value, str) and outcome.value.strip() == printed().strip() != "")
        )
        return replace(outcome, content=content, shown=is_shown)


@dataclass(frozen=True, slots=True)
class Decided:
    """A call about which it is decided if it runs.

    Attributes:
        tool: The tool, or None if no tool has this name.
        decision: The decision, or None if there was nothing to decide.
        is_changed: True if the user changed the arguments.
        refusal: The result of a call that does not run.
    """

    tool: Tool | None = None
    decision: Decision | None = None
    is_changed: bool = False
    refusal: Outcome | None = None


def _show_figures() -> list[Any]:
    """Show the figures that a tool left open under its call, and return them.

    IPython itself shows them only after the cell.
    """
    backend = sys.modules.get("matplotlib_inline.backend_inline")
    pyplot = sys.modules.get("matplotlib.pyplot")
    if backend is None or pyplot is None or not pyplot.get_fignums() or "inline" not in pyplot.get_backend():
        return []
    figures = [pyplot.figure(number) for number in pyplot.get_fignums()]
    backend.flush_figures()
    return figures


def _sendable(content: Content) -> Content:
    """Return the content with long texts cut, and without keys and blank texts, which the API refuses."""
    blocks = []
    for block in content:
        if block.get("type") != "text":
            blocks.append(block)
        elif block["text"].strip():
            text, _ = shorten(redact(block["text"]), RESULT_CHARACTERS, "result", tail=True)
            blocks.append({**block, "text": text})
    return tuple(blocks) or ({"type": "text", "text": "(an empty result)"},)
