"""``%nbchat doctor``: what is installed, and whether an endpoint answers."""

from __future__ import annotations

from nbchat.notebook.commands.command import Call, command

__all__ = ["doctor"]


@command("doctor", "what is installed, and whether an endpoint answers")
def doctor(call: Call) -> None:
    """Print what is installed, and ask one short question with the settings of this session."""
    from nbchat.engine.doctor import examine

    examine(call.session)
