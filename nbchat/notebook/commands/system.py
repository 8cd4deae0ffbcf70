"""``%nbchat system``: the system prompt."""

from __future__ import annotations

from nbchat.core.visible import visible
from nbchat.notebook.commands.command import Call, command

__all__ = ["system"]


@command("system", "the system prompt of this session")
def system(call: Call) -> None:
    """Print the system prompt as it is sent, and the file or the variable that holds it."""
    from nbchat.engine.system_prompt import system_of

    source = call.session.options({}).system
    if not source:
        call.print("no system prompt is set; %config Nbchat.system = '…' sets one, -s gives one for a cell")
        return
    text = system_of(source, call.shell.user_ns) or ""
    print(visible(text if text == source else f"from {source}:\n{text}"))
