"""``%nbchat recover``: the answers of killed kernels."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from nbchat.core.errors import InputError, nearest
from nbchat.notebook.commands.arguments import Argument
from nbchat.notebook.commands.command import Call, command

if TYPE_CHECKING:
    from nbchat.store.journal import JournalEntry

__all__ = ["recover"]

MAX_PROMPT_CHARACTERS = 50


@command("recover", "answers whose kernel was killed", Argument("name", "NAME", completes="answers"))
def recover(call: Call, name: str | None) -> None:
    """List the answers that killed kernels left, or bind one to ``_claude`` and show it."""
    from nbchat.view.tables import text_table

    journals = call.session.recording.journals
    answers, damaged = journals.survey()
    entries = {entry.name: entry for entry in answers}
    if name in damaged:
        raise damaged[name]
    if name is None:
        for error in damaged.values():
            call.print(f"{error.message}\n{error.hint}")
    if not entries:
        if not damaged:
            call.print("nothing to recover: no kernel was killed in the middle of an answer")
    elif name is None:
        call.print(
            text_table(
                ("name", "asked", "notebook", "characters", "prompt"), map(_row, entries.values()), width=call.width
            )
        )
        call.print("%nbchat recover NAME brings one back as _claude")
    elif name not in entries:
        raise InputError(
            f"%nbchat recover {name}: there is no such answer",
            nearest(name, entries) or f"There are: {', '.join(entries)}.",
        )
    else:
        from nbchat.view.final import show

        response = call.session.recover(entries[name])
        call.shell.user_ns["_claude"] = response
        show(response)
        journals.discard(entries[name])


def _row(entry: JournalEntry) -> tuple[str, ...]:
    asked = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.at))
    prompt = " ".join(entry.prompt.split())[:MAX_PROMPT_CHARACTERS]
    return entry.name, asked, entry.notebook or "-", f"{len(entry.text):,}", prompt
