"""Asking the user before a tool runs.

The prompt shows text that a model wrote, and the user decides by this text. So characters that could
hide or reorder a part of it are shown as escapes (https://trojansource.codes).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

from nbchat.core.errors import OptionError
from nbchat.core.visible import visible, visible_line
from nbchat.options import APPROVALS
from nbchat.tools.permissions import Permissions, PermittedTool

__all__ = ["Approval", "ApprovedTool", "Decision", "describe_call"]

#: How many unclear answers count as "no".
_MAX_UNCLEAR_ANSWERS = 3
#: What input() raises where nobody can type: a closed standard input (EOFError), a kernel whose front end
#: takes no input (ipykernel's StdinNotImplementedError), pytest (OSError).
_NOBODY_ANSWERS = (EOFError, NotImplementedError, OSError)
#: Longer names of tools and arguments are cut in their middle.
MAX_NAME_CHARACTERS = 80
#: Runs of more blank lines or spaces are replaced by their number.
MAX_BLANK_LINES = 2
_SPACES = re.compile(r"[ \t]{41,}")
_PLAIN_NAME = re.compile(r"[\w.…-]+")
#: A no, with or without a reason: "n", "no, use b.txt instead". Not "not now" or "node".
_NO = re.compile(r"(?:no?)(?:[\s,.:;!-]+(?P<reason>.*))?", re.IGNORECASE | re.DOTALL)


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
        remembered: The tools that need no more questions. "always" as an answer adds a tool, and the
            session passes the object to the next turn. With the policy ``"ask"`` they are asked for too.

    Raises:
        OptionError: There is no such policy.
    """

    def __init__(
        self,
        policy: str | None = None,
        ask: Callable[[str], str] | None = None,
        show: Callable[[str], None] | None = None,
        remembered: Permissions | None = None,
    ) -> None:
        if policy is not None and policy not in APPROVALS:
            raise OptionError(f"--approve {policy}: there is no such policy", f"Use one of {', '.join(APPROVALS)}.")
        self.policy, self._ask, self._show = policy, ask, show
        self.remembered = Permissions() if remembered is None else remembered
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
                f"{_shown_name(tool.shown)} was not run: approve is never.",
            )
        # Who writes --approve ask, or sets it, wants to be asked, whatever they answered before.
        if self.policy != "ask" and tool in self.remembered:
            return Decision(True, arguments)
        try:
            return self._asked(tool, arguments)
        except _NOBODY_ANSWERS as error:
            return _nobody(tool, arguments, error)

    def _asked(self, tool: ApprovedTool, arguments: Mapping[str, Any]) -> Decision:
        """Return the user's decision."""
        current = arguments
        unclear = 0
        name = _shown_name(tool.shown)
        self._say(describe_call(tool, current))
        choices = "[y]es, [n]o, [e]dit" if self.policy == "ask" else "[y]es, [n]o, [a]lways, [e]dit"
        while unclear < _MAX_UNCLEAR_ANSWERS:
            answer = self._type(f"Run {name}? {choices}: ").strip()
            # Only a whole word allows a call: "yes, but remove the rm" and "a moment" do not.
            match answer.casefold():
                case "y" | "yes":
                    return Decision(True, current, _edited(arguments, current))
                case "a" | "always":
                    if self.policy == "ask":
                        self._say("This call runs. With --approve ask, the next one is asked for again.")
                    else:
                        self.remembered.add(tool)
                    return Decision(True, current, _edited(arguments, current))
                case "":
                    return Decision(False, arguments, _refusal(tool, ""))
                case "e" | "edit":
                    changed = self._edit(tool, current)
                    if changed is not None:
                        current = changed
                        # The user decides about what will run, so the call is shown again.
                        self._say(describe_call(tool, current))
                case _ if no := _NO.fullmatch(answer):
                    return Decision(False, arguments, _refusal(tool, (no["reason"] or "").strip()))
                case _:
                    unclear += 1
                    self._say(
                        "Nothing has run. Please answer y, n, a or e and nothing else. "
                        "Text after n is sent to Claude as the reason."
                    )
        return Decision(False, arguments, _refusal(tool, ""), f"{name} was not run: no clear answer.")

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
        f"{_shown_name(tool.shown)} was not run: it needs your approval, and nobody can type an answer here "
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
    code_lines = _lines_of(code) if isinstance(code, str) else []
    # Said before the code, since the end of long code may be all that is on the screen.
    length = f", {len(code_lines):,} lines" if len(code_lines) > 1 else ""
    lines = [f"Claude wants to run {_shown_name(tool.shown)}{length}" + (":" if arguments else ", without arguments.")]
    lines += _fold_blanks(code_lines)
    for name, value in rest.items():
        shown = visible(json.dumps(value, ensure_ascii=False), strict=True)
        lines.append(f"    {_shown_name(name)} = {_fold_spaces(shown)}")
    return "\n".join(lines)


def _shown_name(name: str) -> str:
    """Return the name of a tool or an argument on one short line, in quotes unless it is a plain name.

    An MCP server chooses these names. Without quotes, the name ``list? [y]es, [n]o: y`` would read as a
    question that has an answer already.
    """
    line = visible_line(name, MAX_NAME_CHARACTERS, strict=True)
    return line if _PLAIN_NAME.fullmatch(line) else json.dumps(line, ensure_ascii=False).replace("\\\\", "\\")


def _lines_of(code: str) -> list[str]:
    """Return the lines that Python will read, with hidden characters escaped."""
    # Python reads a lone return as the end of a line, so code after "# comment\r" runs. The return is
    # shown, and the code after it is on a line of its own.
    code = code.replace("\r\n", "\n").replace("\r", "\r\n")
    return visible(code.strip("\n"), strict=True).split("\n")


def _fold_blanks(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines of code with an indent. Long runs of blank lines, which push code off the screen, are counted."""
    for is_blank, run in groupby(lines, key=lambda line: not line.strip()):
        run_lines = list(run)
        if is_blank and len(run_lines) > MAX_BLANK_LINES:
            # Less indented than code, so code cannot look like this line.
            yield f"  [{len(run_lines):,} blank lines]"
        else:
            yield from (f"    {_fold_spaces(line)}" for line in run_lines)


def _fold_spaces(line: str) -> str:
    """Return the line with long runs of spaces counted, which could push code off the right edge of the screen."""
    return _SPACES.sub(lambda spaces: f"[{len(spaces[0]):,} spaces]", line)
