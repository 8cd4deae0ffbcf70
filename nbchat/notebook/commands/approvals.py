"""``%nbchat approvals [clear]``: the tools that run without a question, because the user answered "always"."""

from __future__ import annotations

from nbchat.core.errors import OptionError, nearest
from nbchat.core.plural import counted
from nbchat.core.visible import visible_line
from nbchat.notebook.commands.arguments import Argument
from nbchat.notebook.commands.command import Call, Group, command

__all__ = ["approvals"]


@command("approvals list", "the tools that you allowed always")
def list_approvals(call: Call) -> None:
    """Print the names of the tools, one on each line."""
    names = list(call.session.approved)
    if not names:
        call.print(
            "no tool is allowed always; the answer a to a question allows one until its server or function changes"
        )
        return
    call.print("allowed always, until %nbchat approvals clear:")
    for name in names:
        call.print(f"  {visible_line(name, strict=True)}")


@command("approvals clear", "ask again for all tools, or for the tool NAME", Argument("name", "NAME"))
def clear(call: Call, name: str | None) -> None:
    """Take permissions back, so that the next call of each tool is asked for again."""
    approved = call.session.approved
    if name is None:
        number = len(approved)
        approved.clear()
        call.print(f"{counted(number, 'approval')} taken back; each tool is asked for again")
        return
    names = list(approved)
    if not approved.discard(name):
        raise OptionError(
            f"%nbchat approvals clear {name}: this tool is not allowed always",
            nearest(name, names) or "%nbchat approvals lists the tools that are.",
        )
    call.print(f"the approval of {visible_line(name, strict=True)} is taken back; the tool is asked for again")


approvals = Group(
    "approvals",
    "the tools that you allowed always; clear takes that back",
    (list_approvals, clear),
    list_approvals,
)
