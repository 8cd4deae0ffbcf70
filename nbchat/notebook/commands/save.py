"""``%nbchat save``: write a conversation to a file."""

from __future__ import annotations

from nbchat.core.errors import InputError
from nbchat.core.plural import counted
from nbchat.core.saved_files import write_json
from nbchat.core.visible import visible
from nbchat.notebook.commands.arguments import Argument
from nbchat.notebook.commands.command import Call, command
from nbchat.notebook.commands.conversation import CHAT, conversation_of

__all__ = ["save"]


@command("save", "write a conversation as JSON", Argument("file", "FILE", completes="files", required=True), CHAT)
def save(call: Call, file: str, chat: str | None) -> None:
    """Write the conversation as JSON. The keys of its cells are included, so cells can replace their turns later."""
    conversation = conversation_of(call, chat)
    try:
        write_json(file, conversation)
    except InputError as error:
        raise InputError(f"%nbchat save: {error.message}", error.hint) from None
    turns = len(conversation)
    call.print(f"{counted(turns, 'turn')} of {conversation.name!r} {'is' if turns == 1 else 'are'} in {visible(file)}")
