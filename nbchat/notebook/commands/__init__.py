"""The subcommands of ``%nbchat``: one table, one function each.

The functions import what they need when they run: this table is read by ``%load_ext``.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbchat.core.errors import OptionError, nearest
from nbchat.notebook.commands import about, books, chats, servers
from nbchat.notebook.commands.call import Call

if TYPE_CHECKING:
    from nbchat.engine.session import Session

__all__ = ["COMMANDS", "help_text", "run"]


@dataclass(frozen=True, slots=True)
class Command:
    """A row of the table. ``words`` is how few and how many words may follow."""

    usage: str
    help: str
    do: Callable[[Call], Any]
    words: tuple[int, int] = (0, 1)


COMMANDS: dict[str, Command] = {
    "show": Command("show [NAME]", "show the last answer again, or the one in NAME", about.show),
    "history": Command("history [CHAT]", "the turns of a conversation", chats.history),
    "reset": Command("reset [CHAT]", "take out all turns", chats.reset),
    "forget": Command("forget N [CHAT]", "take out turn N", chats.forget, (1, 2)),
    "fork": Command("fork NEW [CHAT]", "go on from here under another name", chats.fork, (1, 2)),
    "save": Command("save FILE [CHAT]", "write a conversation as JSON", chats.save, (1, 2)),
    "load": Command("load FILE [CHAT]", "read it back", chats.load, (1, 2)),
    "cassette": Command(
        "cassette [FILE|off] [--mode auto|replay|record|off] [--speed fast|real]",
        "record answers in FILE, and replay them",
        books.cassette,
        (0, 5),
    ),
    "usage": Command(
        "usage [run|today|week|month|year|all] [by day|model|notebook|chat] [csv FILE]",
        "what was spent; run: by this kernel, and what replay saved",
        books.usage,
        (0, 5),
    ),
    "recover": Command("recover [NAME]", "answers whose kernel was killed", books.recover),
    "mcp": Command(
        "mcp add [--approve WHEN] [--header 'NAME: VALUE'] NAME COMMAND…|URL, mcp list, mcp remove NAME",
        "tools of MCP servers, for --tools NAME or NAME.TOOL",
        servers.mcp,
        (0, 1_000),
    ),
    "system": Command("system", "the system prompt of this session", about.system, (0, 0)),
    "models": Command("models [ENDPOINT]", "the models of an endpoint", about.models),
    "endpoints": Command("endpoints", "who answers, and who could", about.endpoints, (0, 0)),
    "config": Command("config", "every setting and where it came from", about.config, (0, 0)),
    "doctor": Command("doctor", "what is installed, and whether an endpoint answers", about.doctor, (0, 0)),
}


def run(line: str, session: Session, shell: Any) -> Any:
    """Do what the line of a ``%nbchat`` says.

    Raises:
        OptionError: no such subcommand (with the nearest), or its words are off.
    """
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise OptionError(f"%nbchat {line}: {error}", "Close the quotation mark.") from None
    if not words:
        print(help_text())
        return None
    name, *rest = words
    command = COMMANDS.get(name)
    if command is None:
        raise OptionError(f"%nbchat {name}: there is no such subcommand", nearest(name, COMMANDS) or help_text())
    call = Call(name, command.usage, rest, session, shell)
    call.between(*command.words)
    return command.do(call)


def help_text() -> str:
    """The help of ``%nbchat``, made of the table."""
    rows = [f"  %nbchat {command.usage}\n      {command.help}" for command in COMMANDS.values()]
    return "Manage nbchat:\n\n" + "\n".join(rows)
