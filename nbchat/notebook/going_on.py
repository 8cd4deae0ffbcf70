"""``--continue``: the prompt that lets the model go on where its last answer was cut.

The Messages API has no request for that. Newer models refuse a request that ends with the beginning of an answer
(https://platform.claude.com/docs/en/build-with-claude/prompt-engineering/prefill-claudes-response), so the
answer is in the history as far as it arrived, and the prompt asks for the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbchat.core.errors import InputError, OptionError

if TYPE_CHECKING:
    from nbchat.engine.session import Session
    from nbchat.options import Options

__all__ = ["GO_ON", "prompt_to_go_on"]

MAX_QUOTE_CHARACTERS = 80
#: The request without the end of the answer.
GO_ON = "Your last answer was cut. Go on exactly where it ends, without an introduction, and repeat nothing of it."


def prompt_to_go_on(session: Session, options: Options, cell: str | None, remark: str) -> str:
    """Return the prompt of ``--continue``, with the user's remark after it, if there is one.

    Args:
        session: the conversations.
        options: the options of the cell.
        cell: the key of the cell, or None.
        remark: the prompt of the cell.

    Raises:
        OptionError: ``--once`` sends no history.
        InputError: there is no answer that was cut before this cell.
    """
    if options.once:
        raise OptionError("--continue goes on in a conversation, and --once sends none", "Leave out one of them.")
    conversation = session.conversation(options.chat)
    before = conversation.turns_before(cell, session.host.cell_order())
    if not before:
        raise InputError(f"--continue: {options.chat!r} has no answer above this cell", "Ask first, or name a chat.")
    if before[-1].status not in ("incomplete", "interrupted") or not before[-1].sendable():
        raise InputError(
            f"--continue: the last answer of {options.chat!r} above this cell was not cut",
            "Write a prompt instead; %nbchat history shows the turns.",
        )
    end = " ".join(before[-1].sendable()[-1].text.split())[-MAX_QUOTE_CHARACTERS:]
    request = f"{GO_ON} It ends with: {end}"
    return f"{request}\n\n{remark}" if remark.strip() else request
