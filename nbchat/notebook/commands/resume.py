"""``%nbchat resume``: take the conversations from the saved notebook."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from nbchat.core.errors import InputError, OptionError
from nbchat.core.plural import counted
from nbchat.notebook.commands.arguments import Argument
from nbchat.notebook.commands.command import Call, command
from nbchat.notebook.place import notebook_path

if TYPE_CHECKING:
    from nbchat.core.conversation import Conversation, Turn

__all__ = ["resume"]


@command(
    "resume",
    "go on after a restart: take the turns from the saved notebook; sends nothing",
    Argument("file", "FILE", completes="files"),
)
def resume(call: Call, file: str | None) -> None:
    """Read the notebook, and put each ``%%claude`` cell with a kept answer into its conversation."""
    from nbchat.context.cells import read_notebook
    from nbchat.context.regular_files import open_regular
    from nbchat.notebook.saved_turns import turns_of

    path = Path(file).expanduser() if file else _this_notebook(call)
    try:
        with open_regular(path) as notebook:
            cells = read_notebook(notebook.read(), path.name)
    except OSError as error:
        raise InputError(
            f"%nbchat resume: {path} cannot be read ({error.strerror})", "Save the notebook, or name another file."
        ) from None
    saved = turns_of(cells, call.session)
    if not saved.by_chat:
        call.print(f"{path.name} keeps no answer of a %%claude cell")
    for chat, turns in saved.by_chat.items():
        _merge(call.session.conversation(chat), turns)
        at = time.strftime("%H:%M", time.localtime(path.stat().st_mtime))
        call.print(f"{chat!r} goes on from {counted(len(turns), 'turn')} of {path.name}, as saved at {at}")
    for remark in saved.remarks:
        call.print(f"  {remark}")


def _this_notebook(call: Call) -> Path:
    path = notebook_path(call.shell)
    if path is None:
        raise OptionError(
            "%nbchat resume: this front end does not tell which notebook runs",
            "Name the file: %nbchat resume NOTEBOOK.ipynb",
        )
    return Path(path)


def _merge(conversation: Conversation, turns: list[Turn]) -> None:
    """Put the saved turns in the order of the notebook. A cell that ran in this kernel keeps its own turn."""
    own = {turn.key: turn for turn in conversation.turns if turn.key is not None}
    saved = [own.pop(turn.key, turn) if turn.key is not None else turn for turn in turns]
    later = [turn for turn in conversation.turns if turn.key is None or turn.key in own]
    conversation.reset([*saved, *later])
