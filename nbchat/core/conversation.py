"""Conversations that follow the notebook: turns keyed by the cell that made them.

Re-running a cell replaces exactly its own turn; what it sends before it are the turns before.
Later turns stay and are marked stale. What is sent is always valid: no lone user turn, no empty
assistant turn, no tool call without its result, no thinking that no longer fits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from nbchat.core.messages import (
    Block,
    Message,
    OpaqueBlock,
    TextBlock,
    ThinkingBlock,
    ToolUseBlock,
    stored,
    tool_calls,
)

__all__ = ["Conversation", "Turn"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One question and all that answered it.

    ``key`` is the cell's id, or None where the front end gives none. ``messages`` begins with
    the prompt. ``stale`` says that an earlier turn has changed since.
    """

    key: str | None
    messages: tuple[Message, ...]
    model: str = ""
    status: str = "complete"
    tokens: int = 0
    stale: bool = False

    def sendable(self) -> tuple[Message, ...]:
        """The messages as they may be sent again; () where nothing of the turn may."""
        messages = self.messages
        if self.stale:
            # A thinking block is bound to what was said before it; edited history makes it invalid:
            # https://platform.claude.com/docs/en/build-with-claude/extended-thinking
            messages = tuple(_without_thinking(message) for message in messages)
        # What is cut off may leave something else without its counterpart.
        while (left := _dialogue(messages)) != messages:
            messages = left
        return messages

    def to_dict(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "model": self.model,
            "status": self.status,
            "tokens": self.tokens,
            "stale": self.stale,
            "messages": [stored(message) for message in self.messages],
        }

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Turn:
        messages = tuple(Message.from_dict(message) for message in kept["messages"])
        rest = {key: kept[key] for key in ("key", "model", "status", "tokens", "stale") if key in kept}
        return cls(messages=messages, **{"key": None, **rest})


def _without_thinking(message: Message) -> Message:
    kept = tuple(block for block in message.content if block.type not in ("thinking", "redacted_thinking"))
    return replace(message, content=kept)


def _dialogue(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The prompt, answers and results, as far as each call has its result and an answer stands last."""
    prompt, *rest = _merged(messages) or (Message("user", ()),)
    kept, own = [prompt], _served_calls(messages) & _server_results(messages)
    while rest and rest[0].role == "assistant":
        answer = rest.pop(0)
        results = rest.pop(0) if rest else Message("user", ())
        answered = {_call_of(block) for block in results.content} - {None}
        answer = _whole(answer, answered, own)
        called = _calls(answer)
        if answer.content:
            kept.append(answer)
        if not called:
            break
        kept.append(_results_for(called, results))
    while kept and kept[-1].role == "user":  # nobody answered it
        kept.pop()
        if kept:
            kept[-1] = _whole(kept[-1], set(), own)
            if not kept[-1].content:
                kept.pop()
    return tuple(kept)


def _merged(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Answers that follow each other as one: a paused turn goes on in a second answer."""
    merged: list[Message] = []
    for message in messages:
        if merged and merged[-1].role == message.role == "assistant":
            merged[-1] = replace(message, content=merged[-1].content + message.content)
        else:
            merged.append(message)
    return tuple(merged)


def _call_of(block: Block) -> str | None:
    """The id of the call whose result a block is."""
    call = block.data.get("tool_use_id") if isinstance(block, OpaqueBlock) else None
    return call if isinstance(call, str) else None


def _calls(message: Message) -> list[str]:
    """The calls of the user's tools."""
    return [call.id for call in tool_calls(message.content)]


def _served_calls(messages: Iterable[Message]) -> set[str]:
    """The calls that the server runs itself."""
    return {
        block.id
        for message in messages
        for block in message.content
        if isinstance(block, ToolUseBlock) and block.type != "tool_use"
    }


def _server_results(messages: Iterable[Message]) -> set[str]:
    """The calls that the server answered, be it in a later answer of the turn."""
    answers = (block for message in messages if message.role == "assistant" for block in message.content)
    return {call for block in answers if (call := _call_of(block)) is not None}


def _results_for(called: list[str], results: Message) -> Message:
    """The results of these calls, one each, and what else the message says."""
    left = list(called)
    kept = []
    for block in results.content:
        call = _call_of(block)
        if call in left:
            left.remove(call)
        elif call is not None:
            continue
        kept.append(block)
    return replace(results, content=tuple(kept))


def _whole(message: Message, answered: set[str], served: set[str]) -> Message:
    """An answer without what may not be sent: calls without result, unsigned thinking, blanks.

    ``answered`` are calls whose result the next message has, ``served`` those of the server's own.
    """
    seen: set[tuple[str, str]] = set()

    def stands(block: Block) -> bool:
        match block:
            case TextBlock():
                return bool(block.text.strip())
            case ThinkingBlock():
                return bool(block.signature)
            case ToolUseBlock():
                again = (block.type, block.id) in seen
                seen.add((block.type, block.id))
                return not again and block.id in (answered if block.type == "tool_use" else served)
        return _call_of(block) is None or _call_of(block) in served

    kept = tuple(block for block in message.content if stands(block))
    if all(block.type in ("thinking", "redacted_thinking") for block in kept):
        kept = ()
    return replace(message, content=kept)


class Conversation:
    """An ordered list of turns under a name."""

    def __init__(self, name: str = "main", turns: Iterable[Turn] = ()) -> None:
        self.name = name
        self._turns: list[Turn] = list(turns)

    @property
    def turns(self) -> tuple[Turn, ...]:
        """All turns, in the order of the notebook's first runs."""
        return tuple(self._turns)

    def __len__(self) -> int:
        return len(self._turns)

    def history(self, key: str | None) -> tuple[Message, ...]:
        """What goes before the prompt of the cell ``key``: the turns before its own, or all."""
        place = self._place(key)
        before = self._turns if place is None else self._turns[:place]
        return tuple(message for turn in before for message in turn.sendable())

    def record(self, turn: Turn) -> None:
        """Put the turn in its cell's place and mark the later ones stale, or at the end."""
        place = self._place(turn.key)
        if place is None:
            self._turns.append(turn)
            return
        later = (replace(old, stale=True) for old in self._turns[place + 1 :])
        self._turns[place:] = [turn, *later]

    def forget(self, number: int) -> Turn:
        """Take out turn ``number``, counted from 1; the later ones become stale.

        Raises:
            IndexError: there is no such turn.
        """
        if not 1 <= number <= len(self._turns):
            raise IndexError(number)
        gone = self._turns.pop(number - 1)
        self._turns[number - 1 :] = [replace(turn, stale=True) for turn in self._turns[number - 1 :]]
        return gone

    def reset(self) -> None:
        """Take out every turn."""
        self._turns.clear()

    def fork(self, name: str) -> Conversation:
        """A copy under another name; its turns no longer belong to cells."""
        return Conversation(name, (replace(turn, key=None) for turn in self._turns))

    def _place(self, key: str | None) -> int | None:
        if key is None:
            return None
        return next((place for place, turn in enumerate(self._turns) if turn.key == key), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; :meth:`from_dict` reads them back."""
        turns = [turn.to_dict() for turn in self._turns]
        return {"format": "nbchat.conversation/1", "name": self.name, "turns": turns}

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Conversation:
        return cls(kept["name"], (Turn.from_dict(turn) for turn in kept["turns"]))
