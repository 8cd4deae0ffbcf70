"""``%nbchat history``: the turns of a conversation."""

from __future__ import annotations

from nbchat.core.fields import storable
from nbchat.notebook.commands.command import Call, command
from nbchat.notebook.commands.conversation import CHAT, conversation_of

__all__ = ["history"]

MAX_PROMPT_CHARACTERS = 50
MAX_CELL_ID_CHARACTERS = 8


@command("history", "the turns of a conversation", CHAT)
def history(call: Call, chat: str | None) -> None:
    """Print a table of the turns, the oldest first."""
    from nbchat.view.tables import text_table

    conversation = conversation_of(call, chat)
    if not len(conversation):
        print(f"the conversation {conversation.name!r} has no turns")
        return
    rows = []
    for number, turn in enumerate(conversation.turns, 1):
        state = ("stale, " if turn.stale else "") + turn.status
        prompt = storable(" ".join(turn.messages[0].text.split()))  # print() cannot encode half a surrogate pair
        if len(prompt) > MAX_PROMPT_CHARACTERS:
            prompt = prompt[: MAX_PROMPT_CHARACTERS - 1] + "…"
        rows.append((str(number), storable(_short_id(turn.key)), turn.model or "-", f"{turn.tokens:,}", state, prompt))
    print(text_table(("turn", "cell", "model", "tokens", "state", "prompt"), rows))


def _short_id(key: str | None) -> str:
    """Return the beginning of a cell's id, with the number of its question if the cell asked more than once."""
    if key is None:
        return "-"
    cell, mark, number = key.rpartition("#") if key.rpartition("#")[2].isdigit() else (key, "", "")
    # In VS Code a cell's id is an address that begins with the path of the notebook; only its end tells cells apart.
    short = cell.rpartition("#")[2] if "://" in cell or ":/" in cell else cell
    return short[:MAX_CELL_ID_CHARACTERS] + mark + number
