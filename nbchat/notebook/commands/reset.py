"""``%nbchat reset``: remove all turns of a conversation."""

from __future__ import annotations

from nbchat.notebook.commands.command import Call, command
from nbchat.notebook.commands.conversation import CHAT, conversation_of

__all__ = ["reset"]


@command("reset", "remove all turns of a conversation", CHAT)
def reset(call: Call, chat: str | None) -> None:
    """Remove all turns; the next request has no history."""
    conversation = conversation_of(call, chat)
    turns = len(conversation)
    conversation.reset()
    print(f"the conversation {conversation.name!r} is empty now ({turns} turns removed)")
