"""Asking the user before a tool runs.

The card of the call shows the call, and the question names it on one line. The user decides by both, so
characters that could hide or reorder a part are shown as escapes (:mod:`nbchat.core.call_text`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from nbchat.core.call_text import call_text, code_lines, line_count, numbered, shown_value, tool_name
from nbchat.core.errors import OptionError
from nbchat.core.plural import counted
from nbchat.core.visible import visible_line
from nbchat.options import APPROVALS
from nbchat.tools.line_editing import edited_arguments, edited_lines, read_arguments
from nbchat.tools.permissions import Permissions, PermittedTool

__all__ = [
    "CHANGED",
    "MAX_REASON_CHARACTERS",
    "NOBODY",
    "NOT_ALLOWED",
    "THEY_SAY",
    "Approval",
    "ApprovedTool",
    "Decision",
    "ShowCall",
    "describe_call",
]

#: How many unclear answers count as "no".
_MAX_UNCLEAR_ANSWERS = 3
#: What input() raises where nobody can type: a closed standard input (EOFError), a kernel whose front end
#: takes no input (ipykernel's StdinNotImplementedError), pytest (OSError).
_NOBODY_ANSWERS = (EOFError, NotImplementedError, OSError)
#: A longer reason is cut where people read the decision. The model gets all of it.
MAX_REASON_CHARACTERS = 200
#: A no, with or without a reason: "n", "no, use b.txt instead". Not "not now" or "node".
_NO = re.compile(r"(?:no?)(?:[\s,.:;!-]+(?P<reason>.*))?", re.IGNORECASE | re.DOTALL)

#: For the model, at the beginning of a result: the user declined the call, nobody could decide, the user changed
#: the arguments. A replay reads them again (:mod:`nbchat.tools.replayed_decision`).
NOT_ALLOWED, THEY_SAY = "The user did not allow this call of {}.", " They say: "
NOBODY = " needs the user's permission, and there is nobody to ask here"
CHANGED = "(The user changed the arguments before it ran: "

ShowCall: TypeAlias = Callable[[Mapping[str, Any], bool], bool]
"""Shows a call as it would run, with numbered lines if the second argument is True. Returns False if it cannot."""


class ApprovedTool(PermittedTool, Protocol):
    """The part of a tool that matters for approval. :class:`~nbchat.tools.toolbox.Tool` documents the fields."""

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
        text: For the user: the decision on one line; "" if a tool of their own runs as a matter of course.
    """

    allowed: bool
    arguments: Mapping[str, Any]
    reason: str = ""
    notice: str = ""
    text: str = field(default="", compare=False)


class Approval:
    """Decides about the calls of a session.

    Args:
        policy: ``--approve`` of the cell: ``"ask"``, ``"always"`` (run without asking), ``"never"``
            (run nothing), or None. With None, functions that the user named run, and ``run_python``
            and MCP tools ask. A tool's own ``approve`` has precedence.
        ask: Shows a prompt and returns the line that the user typed. None if nobody can answer.
        show: Prints a text above the prompt, because some front ends have room for a single
            line only. With None, the text is a part of the prompt.
        remembered: The tools that need no more questions. "always" as an answer adds a tool, and the
            session passes the object to the next turn. With the policy ``"ask"`` they are asked for too.
        edit: Opens an editor with a text in a language, and returns the text as the user leaves it, or None if
            there is no editor here. Without it, the user changes line by line.
        place: Where "always" holds, for example "this notebook".

    Raises:
        OptionError: There is no such policy.
    """

    def __init__(
        self,
        policy: str | None = None,
        ask: Callable[[str], str] | None = None,
        show: Callable[[str], None] | None = None,
        remembered: Permissions | None = None,
        *,
        edit: Callable[[str, str], str | None] | None = None,
        place: str = "this session",
    ) -> None:
        if policy is not None and policy not in APPROVALS:
            raise OptionError(f"--approve {policy}: there is no such policy", f"Use one of {', '.join(APPROVALS)}.")
        self.policy, self._ask, self._show, self._edit = policy, ask, show, edit
        self.remembered = Permissions() if remembered is None else remembered
        self._place = place
        self._unshown = ""

    def policy_for(self, tool: ApprovedTool) -> str:
        """Return the policy for one tool: its own, else the turn's, else the default of its kind."""
        return tool.approve or self.policy or ("always" if tool.trusted else "ask")

    def decide(self, tool: ApprovedTool, arguments: Mapping[str, Any], show_call: ShowCall | None = None) -> Decision:
        """Decide about one call. Ask the user if the policy says so. Raise nothing but KeyboardInterrupt.

        Args:
            tool: The tool.
            arguments: The arguments of the call.
            show_call: Shows the call before the question. Without it, the call is printed.
        """
        policy = self.policy_for(tool)
        if policy == "always":
            return Decision(True, arguments, text=self._without_asking(tool))
        if policy == "never":
            source = "approve='never'" if tool.approve else "--approve never"
            return Decision(
                False,
                arguments,
                f"The user lets no call of {tool.shown} run (approve=never). Do not call it again.",
                f"{tool_name(tool.shown)} was not run: approve is never.",
                f"declined: {source}",
            )
        # Who writes --approve ask, or sets it, wants to be asked, whatever they answered before.
        if self.policy != "ask" and tool in self.remembered:
            return Decision(True, arguments, text=self._always(tool))
        try:
            return _Question(self, tool, arguments, show_call).answer()
        except _NOBODY_ANSWERS as error:
            return _nobody(tool, arguments, error)

    def say(self, text: str) -> None:
        """Print a text above the next prompt."""
        if self._show is not None:
            self._show(text)
        else:
            self.hint(text)

    def hint(self, text: str) -> None:
        """Show a line in the next prompt, which leaves no trace in a saved notebook."""
        self._unshown += f"{text}\n"

    def type(self, prompt: str) -> str:
        """Return the line that the user types.

        Raises:
            EOFError, NotImplementedError, OSError: Nobody can type.
        """
        if self._ask is None:
            raise EOFError("there is nobody to ask")
        unshown, self._unshown = self._unshown, ""
        return self._ask(unshown + prompt)

    def open_editor(self, text: str, language: str) -> str | None:
        """Return the text as the user leaves it in an editor, or None if there is no editor here."""
        return None if self._edit is None else self._edit(text, language)

    @property
    def duration(self) -> str:
        """How long "always" holds."""
        return f"in {self._place} until {'the kernel ends' if self._place == 'this notebook' else 'it ends'}"

    def _without_asking(self, tool: ApprovedTool) -> str:
        if tool.approve:
            return "run without asking (approve='always')"
        return "run without asking (--approve always)" if self.policy else ""

    def _always(self, tool: ApprovedTool) -> str:
        return f"allowed always for {tool_name(tool.shown)} in {self._place}"

    def allow_always(self, tool: ApprovedTool) -> str:
        """Allow a tool from now on, and return the decision as people read it."""
        if self.policy == "ask":
            return "allowed once, because of --approve ask"
        self.remembered.add(tool)
        return self._always(tool)


class _Question:
    """One call that waits for the user's answer."""

    def __init__(
        self, approval: Approval, tool: ApprovedTool, arguments: Mapping[str, Any], show_call: ShowCall | None
    ) -> None:
        self._approval, self._tool, self._first, self._show_call = approval, tool, arguments, show_call
        self._current = arguments

    def answer(self) -> Decision:
        """Ask, and return the user's decision."""
        unclear = 0
        self._show()
        while unclear < _MAX_UNCLEAR_ANSWERS:
            answer = self._approval.type(self._prompt()).strip()
            # Only a whole word allows a call: "yes, but remove the rm" and "a moment" do not.
            match answer.casefold():
                case "y" | "yes":
                    return self._allowed("allowed")
                case "a" | "always":
                    return self._allowed(self._approval.allow_always(self._tool))
                case "":
                    return self._declined("")
                case "e" | "edit":
                    self._current = self._edited()
                    # The user decides about what will run, so the call is shown again.
                    self._show()
                case _ if no := _NO.fullmatch(answer):
                    return self._declined((no["reason"] or "").strip())
                case _:
                    unclear += 1
                    self._approval.hint(
                        "Nothing has run. Please answer y, n, e or a and nothing else. "
                        "Text after n is sent to Claude as the reason."
                    )
        refusal = self._declined("")
        notice = f"{tool_name(self._tool.shown)} was not run: no clear answer."
        return Decision(False, self._first, refusal.reason, notice, "declined: no clear answer")

    def _prompt(self) -> str:
        tool = self._tool
        code = self._current.get(tool.code) if tool.code else None
        if isinstance(code, str):
            what = f"{counted(line_count(code), 'line')} of Python"
        else:
            what = call_text(tool.shown, self._current)
        changed = ", as edited" if self._is_edited else ""
        always = ""
        if self._approval.policy != "ask":
            always = f", [a]lways ({tool_name(tool.shown)}, {self._approval.duration})"
        return f"Run {what}{changed}? [y]es, [n]o, [e]dit{always}: "

    @property
    def _is_edited(self) -> bool:
        return dict(self._first) != dict(self._current)

    def _show(self, is_numbered: bool = False) -> None:
        if self._show_call is None or not self._show_call(self._current, is_numbered):
            self._approval.say(describe_call(self._tool, self._current, is_numbered=is_numbered))

    def _allowed(self, text: str) -> Decision:
        if not self._is_edited:
            return Decision(True, self._current, text=text)
        changed = json.dumps(dict(self._current), ensure_ascii=False)
        return Decision(
            True,
            self._current,
            f"{CHANGED}{changed})",
            text=text.replace("allowed", "allowed as edited", 1),
        )

    def _declined(self, remark: str) -> Decision:
        reason = NOT_ALLOWED.format(self._tool.shown)
        if not remark:
            return Decision(False, self._first, reason, text="declined")
        shown = visible_line(remark, MAX_REASON_CHARACTERS)
        return Decision(False, self._first, f"{reason}{THEY_SAY}{remark}", text=f"declined: {shown}")

    def _edited(self) -> Mapping[str, Any]:
        """Return the arguments as the user changes them. The editing begins with those of the call."""
        code = self._current.get(self._tool.code) if self._tool.code else None
        if isinstance(code, str):
            return self._with_code(self._edited_code(code))
        return self._edited_arguments()

    def _with_code(self, code: str) -> Mapping[str, Any]:
        return {**self._current, str(self._tool.code): code}

    def _edited_code(self, code: str) -> str:
        changed = self._approval.open_editor(code, "python")
        if changed is None:
            return edited_lines(code, self._approval.type, self._approval.hint, self._show_lines)
        return changed if changed.strip() else code

    def _show_lines(self, code: str) -> None:
        self._current = self._with_code(code)
        self._show(is_numbered=True)

    def _edited_arguments(self) -> Mapping[str, Any]:
        text = json.dumps(dict(self._current), ensure_ascii=False, indent=2)
        while True:
            changed = self._approval.open_editor(text, "json")
            if changed is None:
                return edited_arguments(self._tool.shown, self._current, self._approval.type, self._approval.hint)
            try:
                return read_arguments(changed)
            except ValueError as error:
                text = changed
                self._approval.say(str(error))


# The reasons are sent to the model, in the result of the call.


def _nobody(tool: ApprovedTool, arguments: Mapping[str, Any], error: BaseException) -> Decision:
    why = f"it needs your approval, and nobody can type an answer here ({type(error).__name__})."
    way_out = "Allow it with --approve always."
    return Decision(
        False,
        arguments,
        f"{tool.shown}{NOBODY}, so it did not run. Do not call it again; say what you would have done.",
        f"{tool_name(tool.shown)} was not run: {why} {way_out}",
        f"declined: {why} {way_out}",
    )


def describe_call(tool: ApprovedTool, arguments: Mapping[str, Any], *, is_numbered: bool = False) -> str:
    """Return a call as the user reads it before deciding: the name and every argument, code as lines of code.

    Args:
        tool: The tool.
        arguments: The arguments of the call.
        is_numbered: Write the number of each line of code before the line.
    """
    code = arguments.get(tool.code) if tool.code else None
    rest = {name: value for name, value in arguments.items() if not (name == tool.code and isinstance(code, str))}
    # Said before the code, since the end of long code may be all that is on the screen.
    length = ""
    lines: list[str] = []
    if isinstance(code, str):
        length = f", {line_count(code):,} lines" if line_count(code) > 1 else ""
        lines = [f"    {line}" for line in (numbered(code) if is_numbered else code_lines(code))]
    lines += [f"    {tool_name(name)} = {shown_value(value)}" for name, value in rest.items()]
    head = f"Claude wants to run {tool_name(tool.shown)}{length}{':' if lines else ', without arguments.'}"
    return "\n".join([head, *lines])
