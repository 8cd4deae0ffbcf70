"""Asking the user before a tool runs.

The prompt shows text that a model wrote, and the user decides by this text. So characters that could
hide or reorder a part of it are shown as escapes (https://trojansource.codes).
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from nbchat.core.errors import OptionError
from nbchat.options import APPROVALS

__all__ = ["Approval", "ApprovedTool", "Decision", "describe_call", "visible"]

#: How many unclear answers count as "no".
_MAX_UNCLEAR_ANSWERS = 3
#: What input() raises where nobody can type: a closed standard input (EOFError), a kernel whose front end
#: takes no input (ipykernel's StdinNotImplementedError), pytest (OSError).
_NOBODY_ANSWERS = (EOFError, NotImplementedError, OSError)
#: Unicode categories that are not visible as themselves: control, format (bidirectional overrides, zero
#: width), surrogate, private and unassigned characters, line and paragraph separators.
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


class ApprovedTool(Protocol):
    """The part of a tool that matters for approval. :class:`~nbchat.tools.toolbox.Tool` documents the fields."""

    name: str
    shown: str
    approve: str | None
    trusted: bool
    code: str | None


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to the question if a call may run.

    Attributes:
        allowed: True if the call may run.
        arguments: The arguments to run it with, which the user may have edited.
        reason: For the model: why the call did not run, or how the user changed the arguments.
        notice: For the user, if somebody else decided: why the call did not run.
    """

    allowed: bool
    arguments: Mapping[str, Any]
    reason: str = ""
    notice: str = ""


class Approval:
    """Decides about the calls of a session.

    Args:
        policy: ``--approve`` of the cell: ``"ask"``, ``"always"`` (run without asking), ``"never"``
            (run nothing), or None. With None, functions that the user named run, and ``run_python``
            and MCP tools ask. A tool's own ``approve`` has precedence.
        ask: Shows a prompt and returns the line that the user typed. None if nobody can answer.
        show: Prints the call above the prompt, because some front ends have room for a single
            line only. With None, the call is a part of the prompt.
        remembered: The names of tools that need no more questions. "always" as an answer adds to
            this set, and the session passes it to the next turn.

    Raises:
        OptionError: There is no such policy.
    """

    def __init__(
        self,
        policy: str | None = None,
        ask: Callable[[str], str] | None = None,
        show: Callable[[str], None] | None = None,
        remembered: set[str] | None = None,
    ) -> None:
        if policy is not None and policy not in APPROVALS:
            raise OptionError(f"--approve {policy}: there is no such policy", f"Use one of {', '.join(APPROVALS)}.")
        self.policy, self._ask, self._show = policy, ask, show
        self.remembered: set[str] = set() if remembered is None else remembered
        self._unshown = ""

    def policy_for(self, tool: ApprovedTool) -> str:
        """Return the policy for one tool: its own, else the turn's, else the default of its kind."""
        return tool.approve or self.policy or ("always" if tool.trusted else "ask")

    def decide(self, tool: ApprovedTool, arguments: Mapping[str, Any]) -> Decision:
        """Decide about one call. Ask the user if the policy says so. Raise nothing but KeyboardInterrupt."""
        policy = self.policy_for(tool)
        if policy == "always":
            return Decision(True, arguments)
        if policy == "never":
            return Decision(
                False,
                arguments,
                f"The user lets no call of {tool.shown} run (approve=never). Do not call it again.",
                f"{tool.shown} was not run: approve is never.",
            )
        if tool.name in self.remembered:
            return Decision(True, arguments)
        try:
            return self._asked(tool, arguments)
        except _NOBODY_ANSWERS as error:
            return _nobody(tool, arguments, error)

    def _asked(self, tool: ApprovedTool, arguments: Mapping[str, Any]) -> Decision:
        """Return the user's decision."""
        current = arguments
        unclear = 0
        self._say(describe_call(tool, current))
        while unclear < _MAX_UNCLEAR_ANSWERS:
            word, _, remark = self._type(f"Run {tool.shown}? [y]es, [n]o, [a]lways, [e]dit: ").strip().partition(" ")
            match word.lower().rstrip(",:"):
                case "y" | "yes":
                    return Decision(True, current, _edited(arguments, current))
                case "a" | "always":
                    self.remembered.add(tool.name)
                    return Decision(True, current, _edited(arguments, current))
                case "" | "n" | "no":
                    return Decision(False, arguments, _refusal(tool, remark.strip()))
                case "e" | "edit":
                    changed = self._edit(tool, current)
                    if changed is not None:
                        current = changed
                        # The user decides about what will run, so the call is shown again.
                        self._say(describe_call(tool, current))
                case _:
                    unclear += 1
                    self._say("Please answer y, n, a or e. Text after n is sent to Claude as the reason.")
        return Decision(False, arguments, _refusal(tool, ""), f"{tool.shown} was not run: no clear answer.")

    def _say(self, text: str) -> None:
        if self._show is not None:
            self._show(text)
        else:
            self._unshown += f"{text}\n"

    def _type(self, prompt: str) -> str:
        if self._ask is None:
            raise EOFError("there is nobody to ask")
        unshown, self._unshown = self._unshown, ""
        return self._ask(unshown + prompt)

    def _edit(self, tool: ApprovedTool, arguments: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return the arguments that the user types, or None if they are empty or not a JSON object."""
        if tool.code:
            lines: list[str] = []
            prompt = "New code, line by line; an empty line ends it: "
            while (line := self._type(prompt)).strip():
                lines.append(line)
                prompt = "… "
            return {**arguments, tool.code: "\n".join(lines)} if lines else None
        text = self._type("New arguments, as JSON on one line: ").strip()
        if not text:
            return None
        try:
            changed = json.loads(text)
        except ValueError as error:
            self._say(f"This is not JSON ({error}). The arguments are unchanged.")
            return None
        if not isinstance(changed, dict):
            self._say('This is not a JSON object, such as {"name": 1}. The arguments are unchanged.')
            return None
        return changed


# The reasons are sent to the model, in the result of the call.


def _nobody(tool: ApprovedTool, arguments: Mapping[str, Any], error: BaseException) -> Decision:
    return Decision(
        False,
        arguments,
        f"{tool.shown} needs the user's permission, and there is nobody to ask here, so it did not run. "
        "Do not call it again; say what you would have done.",
        f"{tool.shown} was not run: it needs your approval, and nobody can type an answer here "
        f"({type(error).__name__}). Allow it with --approve always.",
    )


def _refusal(tool: ApprovedTool, remark: str) -> str:
    return f"The user did not allow this call of {tool.shown}." + (f" They say: {remark}" if remark else "")


def _edited(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return the note that tells the model about changed arguments, or "" if they are the same."""
    if dict(before) == dict(after):
        return ""
    return f"(The user changed the arguments before it ran: {json.dumps(dict(after), ensure_ascii=False)})"


def describe_call(tool: ApprovedTool, arguments: Mapping[str, Any]) -> str:
    """Return a call as the user reads it before deciding: the name and every argument, code as lines of code."""
    code = arguments.get(tool.code) if tool.code else None
    rest = {name: value for name, value in arguments.items() if not (name == tool.code and isinstance(code, str))}
    lines = [f"Claude wants to run {tool.shown}" + (":" if arguments else ", without arguments.")]
    if isinstance(code, str):
        lines += [f"    {line}" for line in visible(code).split("\n")]
    for name, value in rest.items():
        lines.append(visible(f"    {name} = {json.dumps(value, ensure_ascii=False)}"))
    return "\n".join(lines)


def visible(text: str) -> str:
    """Return ``text`` with an escape for each character that a reader would not see as itself."""
    return "".join(
        character
        if character in "\n\t" or unicodedata.category(character) not in _HIDDEN_CATEGORIES
        else ascii(character)[1:-1]
        for character in text
    )
