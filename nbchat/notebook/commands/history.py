"""``%nbchat history``: the turns of a conversation."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nbchat.core.fields import storable
from nbchat.core.plural import counted
from nbchat.core.turn_order import CellOrder, cell_of
from nbchat.notebook.commands.command import Call, command
from nbchat.notebook.commands.conversation import CHAT, conversation_of

if TYPE_CHECKING:
    from nbchat.core.conversation import Turn

__all__ = ["history"]

MAX_PROMPT_CHARACTERS = 120
MAX_CELL_ID_CHARACTERS = 8

#: What nbchat writes around a value, a file or a cell (:func:`nbchat.content.blocks.tagged`).
_TAGGED = r"""<(?P<tag>[a-z]+)(?: [a-z]+=(?P<value>"[^"]*"|'[^']*'))*>\n.*?</(?P=tag)>"""
#: Files, cells and errors come before the prompt, with a blank line between.
_ATTACHED = re.compile(rf"\s*{_TAGGED}[ \t]*\n\s*", re.DOTALL)
_INSERTED = re.compile(_TAGGED.replace("(?: ", "(?: (?:name|number)=(?P<name>\"[^\"]*\"|'[^']*'))?(?: "), re.DOTALL)


@command("history", "the turns of a conversation", CHAT)
def history(call: Call, chat: str | None) -> None:
    """Show a table of the turns, in the order in which they are sent."""
    from nbchat.view.final import publish
    from nbchat.view.tables import table_bundle

    conversation = conversation_of(call, chat)
    if not len(conversation):
        call.print(f"the conversation {conversation.name!r} has no turns")
        return
    order = call.session.host.cell_order()
    conversation.arrange(order)
    rows: list[tuple[str, ...]] = [
        (
            str(number),
            _cell(turn.key, call),
            turn.model or "-",
            f"{turn.tokens:,}",
            ", ".join(_states(turn, order)),
            storable(_shortened(own_words(turn.messages[0].text))),  # half a surrogate pair cannot be published
        )
        for number, turn in enumerate(conversation.turns, 1)
    ]
    title = f"{counted(len(rows), 'turn')} of the conversation {storable(conversation.name)!r}"
    head: tuple[str, ...] = ("turn", "cell", "model", "tokens", "state", "prompt")
    below = _remarks(conversation.turns, order, call)
    if not any(turn.key for turn in conversation.turns):  # a terminal does not tell its cells
        head, rows = (head[0], *head[2:]), [(row[0], *row[2:]) for row in rows]
    publish(table_bundle(title, head, rows, prose_columns=(len(head) - 1,), below=below, width=call.width))


def own_words(text: str) -> str:
    """Return the user's own words of a prompt: without attachments, and with names in the place of values.

    >>> own_words('<csv name="a.csv">\\n1\\n</csv>\\n\\nCompare <value name="df">\\n1 2\\n</value> with it.')
    'Compare {{ df }} with it.'
    """
    while attached := _ATTACHED.match(text):
        text = text[attached.end() :]
    return " ".join(_INSERTED.sub(_named, text).split())


def _named(part: re.Match[str]) -> str:
    return f"{{{{ {html.unescape(part['name'][1:-1])} }}}}" if part["name"] else f"<{part['tag']}>"


def _shortened(text: str) -> str:
    """Return the beginning of a text, which ends with a whole word if it has words."""
    if len(text) <= MAX_PROMPT_CHARACTERS:
        return text
    start = text[: MAX_PROMPT_CHARACTERS - 1]
    whole = start.rpartition(" ")[0]
    return (whole if len(whole) > MAX_PROMPT_CHARACTERS // 2 else start) + "…"


def _states(turn: Turn, order: CellOrder) -> list[str]:
    return [*["cell deleted"] * order.is_deleted(turn.key), *["stale"] * turn.stale, turn.status]


def _remarks(turns: Sequence[Turn], order: CellOrder, call: Call) -> list[str]:
    """Return what is known of the order of the turns, and what can be done about deleted cells."""
    deleted = sum(order.is_deleted(turn.key) for turn in turns)
    remarks = []
    if deleted:
        stay = "its turn is still sent" if deleted == 1 else "their turns are still sent"
        remarks.append(f"{counted(deleted, 'cell')} deleted: {stay}. %nbchat forget deleted leaves them out.")
    if len(turns) < 2:
        return remarks
    unplaced = [turn for turn in turns if not order.is_deleted(turn.key) and not order.has_place(turn.key)]
    if not any(turn.key for turn in turns):  # a terminal has no cells that could stand in another order
        return remarks
    if not order.places:
        remarks.append(
            "The turns are in the order in which their cells ran first: the order of the notebook is not known here."
        )
    elif unplaced:
        cells = ", ".join(dict.fromkeys(_cell(turn.key, call) for turn in unplaced if turn.key is not None))
        if cells:
            remarks.append(
                f"Not in the saved notebook yet: {cells}. Save the notebook, and their turns take the cells' places."
            )
    return remarks


def _cell(key: str | None, call: Call) -> str:
    """Return the number of a cell as the notebook shows it, or else the beginning of the cell's id."""
    if key is None:
        return "-"
    cell, question = cell_of(key)
    mark = f" #{question}" if question > 1 else ""
    number_of = getattr(call.session.host, "number_of", None)
    number = number_of(cell) if number_of is not None else None
    if number is not None:
        return f"[{number}]{mark}"
    # In VS Code a cell's id is an address that begins with the path of the notebook; only its end tells cells apart.
    short = cell.rpartition("#")[2] if "://" in cell or ":/" in cell else cell
    return storable(short[:MAX_CELL_ID_CHARACTERS] + mark.strip())
