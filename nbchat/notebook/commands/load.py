"""``%nbchat load``: read a conversation from a file."""

from __future__ import annotations

import json
from pathlib import Path

from nbchat.core.errors import InputError
from nbchat.notebook.commands.arguments import Argument
from nbchat.notebook.commands.command import Call, command
from nbchat.notebook.commands.conversation import CHAT

__all__ = ["load"]


@command("load", "read a saved conversation", Argument("file", "FILE", completes="files", required=True), CHAT)
def load(call: Call, file: str, chat: str | None) -> None:
    """Read a conversation that ``%nbchat save`` wrote; without CHAT it keeps its name."""
    from nbchat.core.conversation import Conversation

    try:
        stored = json.loads(Path(file).expanduser().read_text(encoding="utf-8"))
        loaded = Conversation.from_dict(stored)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"%nbchat load {file}: no conversation could be read ({type(error).__name__}: {error})",
            "Give a file that %nbchat save wrote.",
        ) from None
    loaded.name = chat or loaded.name
    replaced = len(call.session.conversations.get(loaded.name, ()))
    call.session.conversations[loaded.name] = loaded
    instead = f", which replace the {replaced} it had" if replaced else ""
    print(f"{loaded.name!r} has {len(loaded)} turns{instead}; use it with -c {loaded.name}")
