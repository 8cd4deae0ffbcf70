"""The subcommands of ``%nbchat``: one module for each, and the table of all.

``%load_ext`` imports these modules, so they import what they need in their functions, when they run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbchat.core.errors import OptionError, nearest
from nbchat.notebook.commands import (
    approvals,
    batches,
    cassette,
    config,
    doctor,
    endpoints,
    forget,
    fork,
    history,
    load,
    mcp,
    models,
    recover,
    reset,
    resume,
    save,
    show,
    system,
    usage,
)
from nbchat.notebook.commands.command import Call, Command, Group
from nbchat.notebook.commands.words import split_words

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from nbchat.engine.session import Session

__all__ = ["COMMANDS", "help_text", "run"]

#: In the order of the help.
COMMANDS: dict[str, Command | Group] = {
    command.name: command
    for command in (
        show.show,
        history.history,
        reset.reset,
        forget.forget,
        fork.fork,
        save.save,
        load.load,
        resume.resume,
        cassette.cassette,
        usage.usage,
        batches.batches,
        recover.recover,
        mcp.mcp,
        approvals.approvals,
        system.system,
        models.models,
        endpoints.endpoints,
        config.config,
        doctor.doctor,
    )
}


def run(line: str, session: Session, shell: InteractiveShell) -> None:
    """Run the line of a ``%nbchat`` magic; print the help if the line is empty.

    Raises:
        OptionError: there is no such subcommand (the hint is the nearest one), or its arguments are wrong.
        NbchatError: the subcommand itself failed.
        KeyboardInterrupt: the user stopped the subcommand.
    """
    words = split_words(line)
    if words in ([], ["help"], ["--help"], ["-h"]):
        Call("", session, shell).print(help_text())
        return
    name, *rest = words[1:] if words[0] == "help" else words
    found = COMMANDS.get(name)
    if found is None:
        raise OptionError(f"%nbchat {name}: there is no such subcommand", nearest(name, COMMANDS) or help_text())
    if words[0] == "help" or rest in (["--help"], ["-h"]):
        Call(name, session, shell).print(_help_of(found))
        return
    command, rest = found.find(rest)
    try:
        command.run(rest, session, shell)
    except KeyboardInterrupt as stop:
        from nbchat.notebook.tracebacks import shorten

        shorten(stop, f"%nbchat {name} did not finish")
        raise


def help_text() -> str:
    """Return the help of ``%nbchat``: the usage and one sentence for each subcommand."""
    return "Manage nbchat:\n\n" + "\n".join(map(_help_of, COMMANDS.values()))


def _help_of(command: Command | Group) -> str:
    return f"  %nbchat {command.usage}\n      {command.help}"
