"""Conversations that follow the notebook: turns, keyed by the cell that made them.

Running a cell again replaces the cell's own turn, and sends only the turns before that one. The turns
after it stay, and are marked stale. A new cell takes its place in the order of the notebook where that
order is known (:mod:`nbchat.core.turn_order`), and comes last where it is not.

The API rejects a whole request because of one message that it does not accept, so a conversation
sends only what :meth:`Turn.sendable` lets through. Otherwise a single interrupted cell would block
every later one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from nbchat.core.fields import Fields
from nbchat.core.messages import Message, stored
from nbchat.core.response import Response
from nbchat.core.sendable import dialogue
from nbchat.core.turn_order import CellOrder, arranged, place_for
from nbchat.core.uploads import Upload

__all__ = ["Conversation", "Turn"]

_FORMAT = "nbchat.conversation/1"
_UNKNOWN = CellOrder()


@dataclass(frozen=True, slots=True)
class Turn:
    """The question of one cell, and all that answered it.

    Attributes:
        key: The cell's id; None where the front end does not tell it.
        messages: The prompt, then answers and tool results.
        model: The model that answered, by the name that it has in the answer.
        status: The status of the turn's Response.
        tokens: The tokens of all requests of the turn.
        stale: True if an earlier turn changed after this one was made.
        asked: The model that was asked, which can be an alias; "" if it is not known.
        endpoint: The endpoint that was asked; "" if it is not known.
        container: The service's container that code ran in, as in :class:`~nbchat.core.response.Response`.
    """

    key: str | None
    messages: tuple[Message, ...]
    model: str = ""
    status: str = "complete"
    tokens: int = 0
    stale: bool = False
    asked: str = ""
    endpoint: str = ""
    container: Mapping[str, Any] | None = None

    @classmethod
    def of_response(cls, key: str | None, response: Response, asked: str = "") -> Turn:
        """Return the turn of a cell whose answer is ``response``; ``asked`` is the model that was asked."""
        return cls(
            key,
            response.messages,
            response.model,
            response.status,
            response.usage.total_tokens,
            asked=asked,
            endpoint=response.endpoint,
            container=response.container,
        )

    def sendable(self, model: str | None = None, endpoint: str | None = None) -> tuple[Message, ...]:
        """Return the messages that may be sent again; () if none of the turn may.

        The result begins with the prompt and ends with an answer. Each tool call has its result in
        it, and no message is empty (:mod:`nbchat.core.sendable`).

        Args:
            model: The model that will be asked; None for the model that was asked.
            endpoint: The endpoint that will be asked; None for the endpoint that was asked.

        >>> call = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {}}
        >>> answer = Message.of("assistant", [{"type": "text", "text": "Let me add."}, call])
        >>> interrupted = Turn("cell-1", (Message.of("user", "2 + 2?"), answer))
        >>> [message.to_dict() for message in interrupted.sendable()]
        [{'role': 'user', 'content': '2 + 2?'}, {'role': 'assistant', 'content': 'Let me add.'}]
        """
        # A refusal goes on if the turn that was refused is sent again:
        # https://platform.claude.com/docs/en/test-and-evaluate/strengthen-guardrails/handle-streaming-refusals
        if self.status == "refused":
            return ()
        foreign = endpoint not in (None, self.endpoint)
        # The signature of thinking covers what was said before. The API rejects the block if that has changed:
        # https://platform.claude.com/docs/en/build-with-claude/extended-thinking
        thinking = not (self.stale or foreign or model not in (None, self.asked))
        return dialogue(self.messages, thinking=thinking, foreign=foreign)

    def to_dict(self) -> dict[str, Any]:
        """Return the turn as plain JSON values. :meth:`from_dict` reads them back."""
        return {
            "key": self.key,
            "model": self.model,
            "status": self.status,
            "tokens": self.tokens,
            "stale": self.stale,
            **({"asked": self.asked} if self.asked else {}),
            **({"endpoint": self.endpoint} if self.endpoint else {}),
            **({"container": dict(self.container)} if self.container is not None else {}),
            "messages": [stored(message) for message in self.messages],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Turn:
        """Return the turn that :meth:`to_dict` stored.

        Raises:
            InputError: a field is missing or has another type.
        """
        return cls.of_fields(Fields(data))

    @classmethod
    def of_fields(cls, data: Fields) -> Turn:
        """Return the turn of the fields that :meth:`to_dict` stored.

        Raises:
            InputError: a field is missing or has another type.
        """
        messages = tuple(Message.of_fields(message) for message in data.each("messages"))
        if not messages or messages[0].role != "user":
            raise data.misfit("messages", "a list that begins with a message of the user")
        return cls(
            key=data.optional_text("key"),
            messages=messages,
            model=data.name("model", ""),
            status=data.name("status", "complete"),
            tokens=data.count("tokens", 0),
            stale=data.flag("stale", False),
            asked=data.name("asked", ""),
            endpoint=data.name("endpoint", ""),
            container=data.optional_mapping("container"),
        )


class Conversation:
    """A named, ordered list of turns.

    Args:
        name: The name, as ``-c`` takes it.
        turns: The turns to begin with.
        uploads: The files that were uploaded for the turns.

    >>> def turn(cell, question, answer):
    ...     return Turn(cell, (Message.of("user", question), Message.of("assistant", answer)))
    >>> conversation = Conversation("main")
    >>> conversation.record(turn("cell-1", "What is 2 + 2?", "4"))
    >>> conversation.record(turn("cell-2", "And doubled?", "8"))
    >>> [message.text for message in conversation.history("cell-2")]
    ['What is 2 + 2?', '4']

    The first cell runs again, so the second turn answers a question that has changed:

    >>> conversation.record(turn("cell-1", "What is 3 + 3?", "6"))
    >>> [turn.stale for turn in conversation.turns]
    [False, True]
    """

    def __init__(self, name: str = "main", turns: Iterable[Turn] = (), uploads: Iterable[Upload] = ()) -> None:
        self.name = name
        self._turns: list[Turn] = list(turns)
        #: The files that were uploaded for the conversation, by their addresses.
        self.uploads: dict[str, Upload] = {upload.address: upload for upload in uploads}

    @property
    def turns(self) -> tuple[Turn, ...]:
        """All turns, in the order in which they are sent."""
        return tuple(self._turns)

    def __len__(self) -> int:
        return len(self._turns)

    def history(self, key: str | None) -> tuple[Message, ...]:
        """Return the messages before the prompt of a cell, as they go to the models that answered them.

        Args:
            key: The cell's id, or None.

        >>> turn = Turn(None, (Message.of("user", "Hi"), Message.of("assistant", "Hello!")))
        >>> [message.text for message in Conversation(turns=[turn]).history(None)]
        ['Hi', 'Hello!']
        """
        return self.sendable(key)

    def sendable(self, key: str | None, model: str | None = None, endpoint: str | None = None) -> tuple[Message, ...]:
        """Return the messages to send before the prompt of a cell.

        Args:
            key: The cell's id, or None.
            model: The model that will be asked; None for the model that was asked in each turn.
            endpoint: The endpoint that will be asked; None for the endpoint that was asked in each turn.

        >>> refused = Turn(None, (Message.of("user", "Hi"), Message.of("assistant", "No.")), status="refused")
        >>> Conversation(turns=[refused]).sendable(None)
        ()
        """
        return tuple(message for turn in self.turns_before(key) for message in turn.sendable(model, endpoint))

    def turns_before(self, key: str | None, order: CellOrder = _UNKNOWN) -> tuple[Turn, ...]:
        """Return the turns before a cell's own turn, or before the place that a new turn of the cell takes.

        Args:
            key: The cell's id, or None.
            order: The order of the cells in the notebook.

        >>> conversation = Conversation(turns=[Turn(key, (Message.of("user", key),)) for key in ("cell-1", "cell-2")])
        >>> [turn.key for turn in conversation.turns_before("cell-2")]
        ['cell-1']
        """
        turns = self._arranged(order)
        return tuple(turns[: _position(key, turns, order)])

    def turns_after(self, key: str | None, order: CellOrder = _UNKNOWN) -> int:
        """Return the number of turns after the cell's own turn, or after the place that a new turn takes.

        Args:
            key: The cell's id, or None.
            order: The order of the cells in the notebook.

        >>> conversation = Conversation(turns=[Turn(key, (Message.of("user", key),)) for key in ("cell-1", "cell-2")])
        >>> conversation.turns_after("cell-1"), conversation.turns_after("cell-3")
        (1, 0)
        """
        turns = self._arranged(order)
        position = _position(key, turns, order)
        return len(turns) - position - _has(key, turns, position)

    def record(self, turn: Turn, order: CellOrder = _UNKNOWN) -> None:
        """Put a turn in its place, where it replaces the turn of the same cell. The later turns become stale.

        >>> conversation = Conversation()
        >>> conversation.record(Turn("cell-1", (Message.of("user", "Hi"),)))
        >>> conversation.record(Turn("cell-1", (Message.of("user", "Hello"),)))
        >>> len(conversation)
        1
        """
        self.arrange(order)
        position = _position(turn.key, self._turns, order)
        later = self._turns[position + _has(turn.key, self._turns, position) :]
        self._turns[position:] = [turn, *(replace(old, stale=True) for old in later)]

    def arrange(self, order: CellOrder) -> None:
        """Put the turns into the order of the notebook. The turns from the first that moved on become stale.

        >>> conversation = Conversation(turns=[Turn(key, (Message.of("user", key),)) for key in ("cell-1", "cell-2")])
        >>> conversation.arrange(CellOrder({"cell-2": 0, "cell-1": 1}))
        >>> [turn.key for turn in conversation.turns]
        ['cell-2', 'cell-1']
        """
        self._turns = self._arranged(order)

    def _arranged(self, order: CellOrder) -> list[Turn]:
        turns = arranged(self._turns, order)
        moved = next((place for place, turn in enumerate(turns) if turn is not self._turns[place]), len(turns))
        return [*turns[:moved], *(replace(turn, stale=True) for turn in turns[moved:])]

    def forget(self, number: int) -> Turn:
        """Remove a turn and return it. The later turns become stale.

        Args:
            number: The number of the turn, counted from 1.

        Raises:
            IndexError: There is no such turn.

        >>> conversation = Conversation(turns=[Turn(key, (Message.of("user", key),)) for key in ("cell-1", "cell-2")])
        >>> conversation.forget(1).key, [turn.stale for turn in conversation.turns]
        ('cell-1', [True])
        """
        if not 1 <= number <= len(self._turns):
            raise IndexError(number)
        removed = self._turns.pop(number - 1)
        self._turns[number - 1 :] = [replace(turn, stale=True) for turn in self._turns[number - 1 :]]
        return removed

    def reset(self, turns: Iterable[Turn] = ()) -> None:
        """Remove every turn, and begin again with ``turns``.

        >>> conversation = Conversation(turns=[Turn(None, (Message.of("user", "Hi"),))])
        >>> conversation.reset()
        >>> len(conversation)
        0
        """
        self._turns[:] = turns

    def fork(self, name: str) -> Conversation:
        """Return a copy under another name.

        The copy's turns belong to no cell, so running a cell again does not change them.

        >>> copy = Conversation(turns=[Turn("cell-1", (Message.of("user", "Hi"),))]).fork("idea")
        >>> copy.name, len(copy), copy.turns[0].key
        ('idea', 1, None)
        """
        return Conversation(name, (replace(turn, key=None) for turn in self._turns), self.uploads.values())

    def to_dict(self) -> dict[str, Any]:
        """Return the conversation as plain JSON values. :meth:`from_dict` reads them back.

        >>> Conversation("idea").to_dict()
        {'format': 'nbchat.conversation/1', 'name': 'idea', 'turns': []}
        """
        uploads = [upload.to_dict() for upload in self.uploads.values()]
        return {
            "format": _FORMAT,
            "name": self.name,
            **({"uploads": uploads} if uploads else {}),
            "turns": [turn.to_dict() for turn in self._turns],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Conversation:
        """Return the conversation that :meth:`to_dict` stored.

        Raises:
            InputError: a field is missing or has another type.

        >>> Conversation.from_dict({"format": "nbchat.conversation/1", "name": "idea", "turns": []}).name
        'idea'
        """
        fields = Fields(data)
        fields.check_format(_FORMAT)
        name = fields.name("name")
        if not name.strip():
            raise fields.misfit("name", "a name")
        uploads = [Upload.of_fields(upload) for upload in fields.each("uploads", ())]
        return cls(name, [Turn.of_fields(turn) for turn in fields.each("turns")], uploads)


def _position(key: str | None, turns: list[Turn], order: CellOrder) -> int:
    """Return the position of a cell's turn, or the position that its first turn takes."""
    own = (position for position, turn in enumerate(turns) if turn.key == key and key is not None)
    found = next(own, None)
    return place_for(key, turns, order) if found is None else found


def _has(key: str | None, turns: list[Turn], position: int) -> bool:
    """Return True if the turn at that position is the cell's own."""
    return key is not None and position < len(turns) and turns[position].key == key
