"""Conversations that follow the notebook: turns keyed by the cell that made them.

Re-running a cell replaces exactly its own turn; what it sends before it are the turns before.
Later turns stay and are marked stale. What is sent is always valid: no lone user turn, no empty
assistant turn, no tool call without its result, no thinking that no longer fits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from nbchat.core.messages import TOOL_USE_TYPES, Block, Message, OpaqueBlock, TextBlock, ThinkingBlock, ToolUseBlock

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
        messages = list(self.messages)
        if self.stale:
            # A thinking block is bound to what was said before it; edited history makes it invalid:
            # https://platform.claude.com/docs/en/build-with-claude/extended-thinking
            messages = [_without_thinking(message) for message in messages]
        while messages and messages[-1].role == "assistant":
            last = _whole(messages[-1])
            if last.content:
                messages[-1] = last
                break
            messages.pop()
            while messages and messages[-1].role == "user":
                messages.pop()  # its results, or the prompt that nobody answered
        return tuple(messages) if messages and messages[-1].role == "assistant" else ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "model": self.model,
            "status": self.status,
            "tokens": self.tokens,
            "stale": self.stale,
            "messages": [message.to_dict() for message in self.messages],
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Turn:
        messages = tuple(Message.from_dict(message) for message in stored["messages"])
        rest = {key: stored[key] for key in ("key", "model", "status", "tokens", "stale") if key in stored}
        return cls(messages=messages, **{"key": None, **rest})


def _without_thinking(message: Message) -> Message:
    kept = tuple(block for block in message.content if block.type not in ("thinking", "redacted_thinking"))
    return replace(message, content=kept)


def _whole(message: Message) -> Message:
    """A last assistant message without what may not stand last: open calls, unsigned thinking, blanks."""
    answered = {
        block.data["tool_use_id"]
        for block in message.content
        if isinstance(block, OpaqueBlock) and "tool_use_id" in block.data
    }

    def stands(block: Block) -> bool:
        match block:
            case TextBlock():
                return bool(block.text.strip())
            case ThinkingBlock():
                return bool(block.signature)
            case ToolUseBlock():
                return block.type in TOOL_USE_TYPES and block.id in answered
        return True

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
    def from_dict(cls, stored: Mapping[str, Any]) -> Conversation:
        return cls(stored["name"], (Turn.from_dict(turn) for turn in stored["turns"]))
