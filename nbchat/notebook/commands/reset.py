"""``%nbchat reset``: remove all turns of a conversation."""

from __future__ import annotations

from nbchat.core.plural import counted
from nbchat.notebook.commands.command import Call, command
from nbchat.notebook.commands.conversation import CHAT, conversation_of

__all__ = ["reset"]


@command("reset", "remove all turns of a conversation", CHAT)
def reset(call: Call, chat: str | None) -> None:
    """Remove all turns, so that the next request has no history, and take back what is allowed always."""
    conversation = conversation_of(call, chat)
    turns = len(conversation)
    conversation.reset()
    approvals = len(call.session.approved)
    call.session.approved.clear()
    call.print(f"the conversation {conversation.name!r} is empty now ({counted(turns, 'turn')} removed)")
    if approvals:
        call.print(f"{counted(approvals, 'approval')} taken back; each tool is asked for again")
