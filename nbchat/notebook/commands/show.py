"""``%nbchat show``: show an answer again."""

from __future__ import annotations

from nbchat.core.errors import InputError
from nbchat.notebook.commands.arguments import Argument
from nbchat.notebook.commands.command import Call, command

__all__ = ["show"]


@command("show", "show the last answer again, or the one in NAME", Argument("name", "NAME", completes="responses"))
def show(call: Call, name: str | None) -> None:
    """Show the Response in a variable, or the last one, as the output of this cell."""
    from nbchat.core.response import Response
    from nbchat.view.final import show as show_response

    response = call.shell.user_ns.get(name) if name else call.session.last
    if not isinstance(response, Response):
        problem = f"{name!r} is not a Response" if name else "there is no answer yet"
        raise InputError(f"%nbchat show: {problem}", "Name a variable that holds one, or ask with %%claude first.")
    show_response(response)
