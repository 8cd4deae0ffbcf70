"""``%nbchat endpoints``: who answers, and who could."""

from __future__ import annotations

from nbchat.core.errors import NbchatError
from nbchat.core.visible import visible
from nbchat.notebook.commands.command import Call, command

__all__ = ["endpoints"]


@command("endpoints", "who answers, and who could")
def endpoints(call: Call) -> None:
    """Print the endpoint that answers now, and the names that ``--endpoint`` accepts."""
    known = call.session.endpoints
    try:
        answering = known.find(call.session.options({}))
        call.print(visible(f"{answering.name} answers, with {answering.model}"))
    except NbchatError as error:
        call.print(f"none answers: {error.message}\n{error.hint}")
    call.print("known: " + ", ".join(known.names()) + ", or any base URL; name one with --endpoint")
