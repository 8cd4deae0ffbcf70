"""``%nbchat forget``: remove one turn of a conversation."""

from __future__ import annotations

from nbchat.core.errors import OptionError
from nbchat.notebook.commands.arguments import Argument
from nbchat.notebook.commands.command import Call, command
from nbchat.notebook.commands.conversation import CHAT, conversation_of

__all__ = ["forget"]


@command("forget", "remove turn N", Argument("turn", "N", completes="turns", required=True), CHAT)
def forget(call: Call, turn: str, chat: str | None) -> None:
    """Remove one turn; the turns after it become stale."""
    conversation = conversation_of(call, chat)
    try:
        conversation.forget(int(turn))
    except (ValueError, IndexError):
        turns = f"turns 1 to {len(conversation)}" if len(conversation) else "no turns"
        raise OptionError(
            f"%nbchat forget {turn}: {conversation.name!r} has {turns}", "%nbchat history shows them."
        ) from None
    after = "; those after it are stale" if int(turn) <= len(conversation) else ""
    print(f"turn {turn} of {conversation.name!r} is forgotten{after}")
