"""``%nbchat load``: read a conversation from a file."""

from __future__ import annotations

from nbchat.core.errors import InputError
from nbchat.core.fields import storable
from nbchat.core.plural import counted
from nbchat.core.saved_files import read_json
from nbchat.notebook.commands.arguments import Argument
from nbchat.notebook.commands.command import Call, command
from nbchat.notebook.commands.conversation import CHAT

__all__ = ["load"]


@command("load", "read a saved conversation", Argument("file", "FILE", completes="files", required=True), CHAT)
def load(call: Call, file: str, chat: str | None) -> None:
    """Read a conversation that ``%nbchat save`` wrote; without CHAT it keeps its name."""
    from nbchat.core.conversation import Conversation

    try:
        loaded = Conversation.from_dict(read_json(file))
    except InputError as error:
        hint = f"Give a file that %nbchat save wrote. {error.hint}"
        raise InputError(f"%nbchat load {file}: no conversation could be read: {error.message}", hint) from None
    loaded.name = storable(chat or loaded.name)
    replaced = len(call.session.conversations.get(loaded.name, ()))
    call.session.conversations[loaded.name] = loaded
    instead = f", which replace{'s' * (len(loaded) == 1)} the {replaced} it had" if replaced else ""
    call.print(f"{loaded.name!r} has {counted(len(loaded), 'turn')}{instead}; use it with -c {loaded.name}")
