"""``%nbchat fork``: continue a conversation under another name."""

from __future__ import annotations

from nbchat.core.errors import OptionError
from nbchat.core.fields import storable
from nbchat.core.plural import counted
from nbchat.notebook.commands.arguments import Argument
from nbchat.notebook.commands.command import Call, command
from nbchat.notebook.commands.conversation import CHAT, conversation_of

__all__ = ["fork"]


@command("fork", "copy a conversation under a new name", Argument("new", "NEW", required=True), CHAT)
def fork(call: Call, new: str, chat: str | None) -> None:
    """Copy the turns into a new conversation; the copied turns belong to no cell."""
    source, new = conversation_of(call, chat), storable(new)
    if len(call.session.conversation(new)):
        raise OptionError(
            f"%nbchat fork {new}: there is a conversation of that name", "Choose another name, or reset it first."
        )
    call.session.conversations[new] = source.fork(new)
    call.print(f"{new!r} begins with {counted(len(source), 'turn')} of {source.name!r}; use it with -c {new}")
