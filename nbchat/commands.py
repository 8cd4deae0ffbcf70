"""The subcommands of ``%nbchat``: one table, one function each."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbchat.core.conversation import Conversation
from nbchat.core.errors import InputError, NbchatError, OptionError, nearest

if TYPE_CHECKING:
    from nbchat.session import Session

__all__ = ["COMMANDS", "help_text", "run"]


@dataclass(frozen=True, slots=True)
class Call:
    """A subcommand as it was called: its words, and whom it works on."""

    name: str
    words: list[str]
    session: Session
    shell: Any

    def at_most(self, number: int) -> None:
        if len(self.words) > number:
            raise OptionError(
                f"%nbchat {self.name}: {' '.join(self.words[number:])!r} is too much",
                f"Usage: {COMMANDS[self.name].usage}",
            )


@dataclass(frozen=True, slots=True)
class Command:
    """A row of the table."""

    usage: str
    help: str
    do: Callable[[Call], Any]


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
    if name not in COMMANDS:
        raise OptionError(f"%nbchat {name}: there is no such subcommand", nearest(name, COMMANDS) or help_text())
    return COMMANDS[name].do(Call(name, rest, session, shell))


def help_text() -> str:
    """The help of ``%nbchat``, made of the table."""
    rows = [f"  {command.usage:<40} {command.help}" for command in COMMANDS.values()]
    return "Manage nbchat:\n\n" + "\n".join(rows)


def _show(call: Call) -> None:
    call.at_most(1)
    response = call.shell.user_ns.get(call.words[0]) if call.words else call.session.last
    if not hasattr(response, "_repr_mimebundle_") or not hasattr(response, "status"):
        what = f"{call.words[0]!r} is no Response" if call.words else "there is no answer yet"
        raise InputError(f"%nbchat show: {what}", "Name a variable that holds one, or ask with %%claude first.")
    from nbchat.view import live

    live.show(response)


def _history(call: Call) -> None:
    call.at_most(1)
    conversation = _conversation(call, call.words[0] if call.words else "main")
    if not len(conversation):
        print(f"the conversation {conversation.name!r} has no turns")
        return
    rows = [("turn", "cell", "model", "tokens", "state", "prompt")]
    for number, turn in enumerate(conversation.turns, 1):
        state = ("stale, " if turn.stale else "") + turn.status
        prompt = " ".join(turn.messages[0].text.split())
        short = prompt if len(prompt) <= 50 else prompt[:49] + "…"
        rows.append((str(number), (turn.key or "-")[:8], turn.model or "-", str(turn.tokens), state, short))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip())


def _reset(call: Call) -> None:
    call.at_most(1)
    conversation = _conversation(call, call.words[0] if call.words else "main")
    turns = len(conversation)
    conversation.reset()
    print(f"the conversation {conversation.name!r} begins anew ({turns} turns taken out)")


def _forget(call: Call) -> None:
    call.at_most(2)
    number = call.words[0] if call.words else ""
    conversation = _conversation(call, call.words[1] if len(call.words) > 1 else "main")
    try:
        conversation.forget(int(number))
    except (ValueError, IndexError):
        raise OptionError(
            f"%nbchat forget {number}: {conversation.name!r} has turns 1 to {len(conversation)}"
            if len(conversation)
            else f"%nbchat forget {number}: {conversation.name!r} has no turns",
            "%nbchat history shows them.",
        ) from None
    print(f"turn {number} of {conversation.name!r} is forgotten; those after it are stale")


def _fork(call: Call) -> None:
    call.at_most(2)
    if not call.words:
        raise OptionError("%nbchat fork needs a name for the new conversation", f"Usage: {COMMANDS['fork'].usage}")
    new, source = call.words[0], _conversation(call, call.words[1] if len(call.words) > 1 else "main")
    if len(call.session.conversation(new)):
        raise OptionError(
            f"%nbchat fork {new}: there is a conversation of that name", "Take another name, or reset it."
        )
    call.session.conversations[new] = source.fork(new)
    print(f"{new!r} begins with the {len(source)} turns of {source.name!r}; use it with -c {new}")


def _save(call: Call) -> None:
    call.at_most(2)
    if not call.words:
        raise OptionError("%nbchat save needs a file", f"Usage: {COMMANDS['save'].usage}")
    conversation = _conversation(call, call.words[1] if len(call.words) > 1 else "main")
    path = Path(call.words[0]).expanduser()
    path.write_text(json.dumps(conversation.to_dict(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"{len(conversation)} turns of {conversation.name!r} are in {call.words[0]}")


def _load(call: Call) -> None:
    call.at_most(2)
    if not call.words:
        raise OptionError("%nbchat load needs a file", f"Usage: {COMMANDS['load'].usage}")
    try:
        stored = json.loads(Path(call.words[0]).expanduser().read_text(encoding="utf-8"))
        loaded = Conversation.from_dict(stored)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"%nbchat load {call.words[0]}: no conversation could be read ({type(error).__name__}: {error})",
            "Give a file that %nbchat save wrote.",
        ) from None
    loaded.name = call.words[1] if len(call.words) > 1 else loaded.name
    call.session.conversations[loaded.name] = loaded
    print(f"{loaded.name!r} has {len(loaded)} turns; use it with -c {loaded.name}")


def _conversation(call: Call, name: str) -> Conversation:
    known = call.session.conversations
    if name not in known and name != "main":
        raise OptionError(
            f"%nbchat {call.name} {name}: there is no conversation {name!r}",
            nearest(name, known) or f"There are: {', '.join(known) or 'none yet'}.",
        )
    return call.session.conversation(name)


def _endpoints(call: Call) -> None:
    call.at_most(0)
    options = call.session.options({})
    try:
        answering = call.session.endpoints.find(options)
        print(f"{answering.name} answers, with {answering.model}")
    except NbchatError as error:
        print(f"none answers: {error.message}\n{error.hint}")
    print("known: " + ", ".join(call.session.endpoints.names()) + ", or any base URL; name one with --endpoint")


def _models(call: Call) -> None:
    call.at_most(1)
    options = call.session.options({"endpoint": call.words[0]} if call.words else {})
    endpoint = call.session.endpoints.find(options)
    listing = getattr(endpoint.transport, "models", None)
    if listing is None:
        print(f"{endpoint.name}: {endpoint.model}")
        return
    rows = [("model", "context", "output", "name")]
    for model in listing():
        context, output = model.get("max_input_tokens"), model.get("max_tokens")
        rows.append(
            (
                model.get("id", "?"),
                f"{context:,}" if context else "?",
                f"{output:,}" if output else "?",
                model.get("display_name") or "",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip())


def _config(call: Call) -> None:
    call.at_most(0)
    config = call.session.config
    settings = config.settings()
    width = max(map(len, settings))
    for name, value in sorted(settings.items()):
        print(f"{name:<{width}}  {value!r:<24}  {config.sources.get(name, 'default')}")


def _doctor(call: Call) -> None:
    call.at_most(0)
    from nbchat.doctor import examine

    examine(call.session)


COMMANDS: dict[str, Command] = {
    "show": Command("show [NAME]", "show the last answer again, or the one in NAME", _show),
    "history": Command("history [CHAT]", "the turns of a conversation", _history),
    "reset": Command("reset [CHAT]", "take out all turns", _reset),
    "forget": Command("forget N [CHAT]", "take out turn N", _forget),
    "fork": Command("fork NEW [CHAT]", "go on from here under another name", _fork),
    "save": Command("save FILE [CHAT]", "write a conversation as JSON", _save),
    "load": Command("load FILE [CHAT]", "read it back", _load),
    "models": Command("models [ENDPOINT]", "the models of an endpoint", _models),
    "endpoints": Command("endpoints", "who answers, and who could", _endpoints),
    "config": Command("config", "every setting and where it came from", _config),
    "doctor": Command("doctor", "what is installed, and whether an endpoint answers", _doctor),
}
