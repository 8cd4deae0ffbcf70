"""Conversations: history, reset, forget, fork, save, load."""

from __future__ import annotations

import json
from pathlib import Path

from nbchat.core.conversation import Conversation
from nbchat.core.errors import InputError, OptionError, nearest
from nbchat.notebook.commands.call import Call, table


def history(call: Call) -> None:
    conversation = _conversation(call, 0)
    if not len(conversation):
        print(f"the conversation {conversation.name!r} has no turns")
        return
    rows = []
    for number, turn in enumerate(conversation.turns, 1):
        state = ("stale, " if turn.stale else "") + turn.status
        prompt = " ".join(turn.messages[0].text.split())
        short = prompt if len(prompt) <= 50 else prompt[:49] + "…"
        rows.append((str(number), _cell(turn.key), turn.model or "-", f"{turn.tokens:,}", state, short))
    print(table(("turn", "cell", "model", "tokens", "state", "prompt"), rows))


def _cell(key: str | None) -> str:
    """A cell's id, short; VS Code's are addresses whose last part tells."""
    if key is None:
        return "-"
    cell, mark, number = key.rpartition("#") if key.rpartition("#")[2].isdigit() else (key, "", "")
    return (cell.rpartition("#")[2] if "://" in cell or ":/" in cell else cell)[:8] + mark + number


def reset(call: Call) -> None:
    conversation = _conversation(call, 0)
    turns = len(conversation)
    conversation.reset()
    print(f"the conversation {conversation.name!r} begins anew ({turns} turns taken out)")


def forget(call: Call) -> None:
    number, conversation = call.word(0), _conversation(call, 1)
    try:
        conversation.forget(int(number))
    except (ValueError, IndexError):
        turns = f"turns 1 to {len(conversation)}" if len(conversation) else "no turns"
        raise OptionError(
            f"%nbchat forget {number}: {conversation.name!r} has {turns}", "%nbchat history shows them."
        ) from None
    after = "; those after it are stale" if int(number) <= len(conversation) else ""
    print(f"turn {number} of {conversation.name!r} is forgotten{after}")


def fork(call: Call) -> None:
    new, source = call.word(0), _conversation(call, 1)
    if len(call.session.conversation(new)):
        raise OptionError(
            f"%nbchat fork {new}: there is a conversation of that name", "Take another name, or reset it."
        )
    call.session.conversations[new] = source.fork(new)
    print(f"{new!r} begins with the {len(source)} turns of {source.name!r}; use it with -c {new}")


def save(call: Call) -> None:
    conversation = _conversation(call, 1)
    text = json.dumps(conversation.to_dict(), ensure_ascii=False, indent=1) + "\n"
    try:
        Path(call.word(0)).expanduser().write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"%nbchat save {call.word(0)}: {error.strerror}", "Give a path that can be written.") from None
    print(f"{len(conversation)} turns of {conversation.name!r} are in {call.word(0)}")


def load(call: Call) -> None:
    try:
        stored = json.loads(Path(call.word(0)).expanduser().read_text(encoding="utf-8"))
        loaded = Conversation.from_dict(stored)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"%nbchat load {call.word(0)}: no conversation could be read ({type(error).__name__}: {error})",
            "Give a file that %nbchat save wrote.",
        ) from None
    loaded.name = call.word(1, loaded.name)
    replaced = len(call.session.conversations.get(loaded.name, ()))
    call.session.conversations[loaded.name] = loaded
    instead = f", in the place of its {replaced}" if replaced else ""
    print(f"{loaded.name!r} has {len(loaded)} turns{instead}; use it with -c {loaded.name}")


def _conversation(call: Call, place: int) -> Conversation:
    """The conversation that a word names, or the one that cells belong to."""
    usual = call.session.options({}).chat
    name, known = call.word(place, usual), call.session.conversations
    if name not in known and name not in ("main", usual):
        raise OptionError(
            f"%nbchat {call.name} {name}: there is no conversation {name!r}",
            nearest(name, known) or f"There are: {', '.join(known) or 'none yet'}.",
        )
    return call.session.conversation(name)
