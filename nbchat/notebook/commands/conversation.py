"""The CHAT argument of subcommands, and the conversation that it names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbchat.core.errors import OptionError, nearest
from nbchat.core.fields import storable
from nbchat.notebook.commands.arguments import Argument
from nbchat.notebook.commands.command import Call

if TYPE_CHECKING:
    from nbchat.core.conversation import Conversation

__all__ = ["CHAT", "conversation_of"]

CHAT = Argument("chat", "CHAT", completes="chats")


def conversation_of(call: Call, chat: str | None) -> Conversation:
    """Return the conversation of a name; without a name, the one that cells belong to.

    Raises:
        OptionError: there is no conversation of that name; the hint is the nearest name.
    """
    usual = call.session.options({}).chat
    name, existing = storable(chat or usual), call.session.conversations
    if name not in existing and name not in ("main", usual):
        raise OptionError(
            f"%nbchat {call.name} {name}: there is no conversation {name!r}",
            nearest(name, existing) or f"There are: {', '.join(existing) or 'none yet'}.",
        )
    return call.session.conversation(name)
