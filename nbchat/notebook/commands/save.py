"""``%nbchat save``: write a conversation to a file."""

from __future__ import annotations

import json
from pathlib import Path

from nbchat.core.errors import InputError
from nbchat.notebook.commands.arguments import Argument
from nbchat.notebook.commands.command import Call, command
from nbchat.notebook.commands.conversation import CHAT, conversation_of

__all__ = ["save"]


@command("save", "write a conversation as JSON", Argument("file", "FILE", completes="files", required=True), CHAT)
def save(call: Call, file: str, chat: str | None) -> None:
    """Write the conversation as JSON. The keys of its cells are included, so cells can replace their turns later."""
    conversation = conversation_of(call, chat)
    text = json.dumps(conversation.to_dict(), ensure_ascii=False, indent=1) + "\n"
    try:
        Path(file).expanduser().write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"%nbchat save {file}: {error.strerror}", "Choose a path that can be written.") from None
    print(f"{len(conversation)} turns of {conversation.name!r} are in {file}")
