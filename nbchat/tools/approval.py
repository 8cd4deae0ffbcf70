"""Asking the user before a tool runs.

It has its own room because it is the only part of the tools that talks to a person. What is shown
was written by a model: characters that could hide or reorder it are shown as escapes
(https://trojansource.codes).
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nbchat.core.errors import OptionError
from nbchat.tools.toolbox import Tool

__all__ = ["Approval", "Decision", "describe_call", "visible"]

POLICIES = ("ask", "always", "never")
#: How often an answer that is none of the four is asked again.
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a call may run, and with which arguments.

    ``reason`` is for the model: why not, or what the user changed. ``notice`` is for the user,
    where the decision was not theirs.
    """

    allowed: bool
    arguments: Mapping[str, Any]
    reason: str = ""
    notice: str = ""


class Approval:
    """Decides about the calls of a session.

    ``policy`` is the turn's ``--approve``: ``"ask"``, ``"always"`` (run without asking),
    ``"never"`` (run nothing), or None for the default of each kind: functions that the user named
    run, ``run_python`` and MCP tools ask. What a tool says of itself goes first. ``ask`` shows a
    prompt and gives the typed line; ``show`` prints the call above it, so that the prompt stays
    one line where the front end has room for one only. ``remembered`` are the names the user
    answered "always" for; the session keeps that set from turn to turn.

    Raises:
        OptionError: the policy is none of these.
    """

    def __init__(
        self,
        policy: str | None = None,
        ask: Callable[[str], str] | None = None,
        show: Callable[[str], None] | None = None,
        remembered: set[str] | None = None,
    ) -> None:
        if policy is not None and policy not in POLICIES:
            raise OptionError(f"--approve {policy}: there is no such policy", f"It takes {', '.join(POLICIES)}.")
        self.policy, self._ask, self._show = policy, ask, show
        self.remembered: set[str] = set() if remembered is None else remembered
        self._held = ""

    def policy_for(self, tool: Tool) -> str:
        """What holds for one tool: its own word, else the turn's, else the default of its kind."""
        return tool.approve or self.policy or ("always" if tool.trusted else "ask")

    def decide(self, tool: Tool, arguments: Mapping[str, Any]) -> Decision:
        """Decide about one call, by asking where that is due. Raises nothing but KeyboardInterrupt."""
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
        return self._decide_by_asking(tool, arguments)

    def _decide_by_asking(self, tool: Tool, arguments: Mapping[str, Any]) -> Decision:
        current, edited = arguments, False
        tries = 0
        self._present(tool, current)
        while tries < _TRIES:
            try:
                answer = self._type(f"Run {tool.shown}? [y]es, [n]o, [a]lways, [e]dit: ").strip()
            except (EOFError, NotImplementedError, OSError) as error:
                return _nobody(tool, arguments, error)
            word, _, remark = answer.partition(" ")
            match word.lower().rstrip(",:"):
                case "y" | "yes":
                    return Decision(True, current, _told(current) if edited else "")
                case "a" | "always":
                    self.remembered.add(tool.name)
                    return Decision(True, current, _told(current) if edited else "")
                case "" | "n" | "no":
                    return Decision(False, arguments, _refusal(tool, remark.strip()))
                case "e" | "edit":
                    try:
                        changed = self._edit(tool, current)
                    except (EOFError, NotImplementedError, OSError) as error:
                        return _nobody(tool, arguments, error)
                    if changed is not None:
                        current, edited = changed, edited or dict(changed) != dict(arguments)
                        self._present(tool, current)
                case _:
                    tries += 1
                    self._say("Please answer y, n, a or e. Text after n goes to Claude as the reason.")
        return Decision(False, arguments, _refusal(tool, ""), f"{tool.shown} was not run: no clear answer.")

    def _present(self, tool: Tool, arguments: Mapping[str, Any]) -> None:
        self._say(describe_call(tool, arguments))

    def _say(self, text: str) -> None:
        if self._show is not None:
            self._show(text)
        else:
            self._held += f"{text}\n"

    def _type(self, prompt: str) -> str:
        if self._ask is None:
            raise EOFError("there is nobody to ask")
        held, self._held = self._held, ""
        return self._ask(held + prompt)

    def _edit(self, tool: Tool, arguments: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The arguments as the user types them; None where that was nothing, or no JSON object."""
        if tool.code:
            lines: list[str] = []
            prompt = "New code, line by line; an empty line ends it: "
            while (line := self._type(prompt)).strip():
                lines.append(line)
                prompt = "… "
            return {**arguments, tool.code: "\n".join(lines)} if lines else None
        typed = self._type("New arguments, as JSON on one line: ").strip()
        if not typed:
            return None
        try:
            changed = json.loads(typed)
        except ValueError as error:
            self._say(f"That is not JSON ({error}); the arguments stay as they were.")
            return None
        if not isinstance(changed, dict):
            self._say('That is no JSON object, such as {"name": 1}; the arguments stay as they were.')
            return None
        return changed


def _nobody(tool: Tool, arguments: Mapping[str, Any], error: BaseException) -> Decision:
    return Decision(
        False,
        arguments,
        f"{tool.shown} needs the user's permission, and there is nobody to ask here, so it did not run. "
        "Do not call it again; say what you would have done.",
        f"{tool.shown} was not run: it asks first, and no input can be typed here "
        f"({type(error).__name__}). Allow it with --approve always.",
    )


def _refusal(tool: Tool, remark: str) -> str:
    return f"The user did not allow this call of {tool.shown}." + (f" They say: {remark}" if remark else "")


def _told(arguments: Mapping[str, Any]) -> str:
    return f"(The user changed the arguments before it ran: {json.dumps(dict(arguments), ensure_ascii=False)})"


def describe_call(tool: Tool, arguments: Mapping[str, Any]) -> str:
    """A call as the user reads it before deciding: the name and every argument, code as code."""
    code = arguments.get(tool.code) if tool.code else None
    rest = {name: value for name, value in arguments.items() if not (name == tool.code and isinstance(code, str))}
    lines = [f"Claude wants to run {tool.shown}" + (":" if arguments else ", without arguments.")]
    if isinstance(code, str):
        lines += [f"    {line}" for line in visible(code).split("\n")]
    for name, value in rest.items():
        lines.append(visible(f"    {name} = {json.dumps(value, ensure_ascii=False)}"))
    return "\n".join(lines)


def visible(text: str) -> str:
    """``text`` with each character that a reader could not see as it is shown as an escape."""
    return "".join(
        letter if letter in "\n\t" or unicodedata.category(letter) not in _HIDDEN else ascii(letter)[1:-1]
        for letter in text
    )


#: Control, format (bidirectional overrides, zero width), surrogate and private characters, line separators.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
