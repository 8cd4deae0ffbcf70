"""``%nbchat forget``: remove one turn of a conversation, or the turns of deleted cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbchat.core.errors import OptionError
from nbchat.core.plural import counted
from nbchat.notebook.commands.arguments import Argument
from nbchat.notebook.commands.command import Call, command
from nbchat.notebook.commands.conversation import CHAT, conversation_of

if TYPE_CHECKING:
    from nbchat.core.conversation import Conversation
    from nbchat.core.turn_order import CellOrder

__all__ = ["forget"]

DELETED = "deleted"


@command(
    "forget",
    "remove turn N, or the turns of cells that are deleted",
    Argument("turn", "N|deleted", suggested=(DELETED,), completes="turns", required=True),
    CHAT,
)
def forget(call: Call, turn: str, chat: str | None) -> None:
    """Remove turns; the turns after them become stale."""
    conversation = conversation_of(call, chat)
    order = call.session.host.cell_order()
    conversation.arrange(order)  # the numbers are those that %nbchat history shows
    if turn == DELETED:
        _forget_deleted(call, conversation, order)
        return
    try:
        conversation.forget(int(turn))
    except (ValueError, IndexError):
        turns = f"turns 1 to {len(conversation)}" if len(conversation) else "no turns"
        raise OptionError(
            f"%nbchat forget {turn}: {conversation.name!r} has {turns}", "%nbchat history shows them."
        ) from None
    _say(call, f"turn {turn}", int(turn), conversation)


def _forget_deleted(call: Call, conversation: Conversation, order: CellOrder) -> None:
    numbers = [number for number, turn in enumerate(conversation.turns, 1) if order.is_deleted(turn.key)]
    if not numbers:
        call.print(f"{conversation.name!r} has no turn of a cell that is known to be deleted")
        return
    for number in reversed(numbers):
        conversation.forget(number)
    _say(call, counted(len(numbers), "turn"), numbers[0], conversation)


def _say(call: Call, forgotten: str, first: int, conversation: Conversation) -> None:
    later = len(conversation) - first + 1
    after = f"; {counted(later, 'later turn')} {'is' if later == 1 else 'are'} stale" if later else ""
    call.print(f"forgotten: {forgotten} of {conversation.name!r}{after}")
