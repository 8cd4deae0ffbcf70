"""Conversations that follow the notebook: turns, keyed by the cell that made them.

Running a cell again replaces the cell's own turn, and sends only the turns before that one. The turns
after it stay, and are marked stale.

The API rejects a whole request because of one message that it does not accept, so a conversation
sends only what :meth:`Turn.sendable` lets through. Otherwise a single interrupted cell would block
every later one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from nbchat.core.fields import Fields
from nbchat.core.messages import (
    Block,
    Message,
    OpaqueBlock,
    TextBlock,
    ThinkingBlock,
    ToolUseBlock,
    fits_json,
    stored,
    tool_calls,
)
from nbchat.core.response import Response
from nbchat.core.uploads import Upload

__all__ = ["Conversation", "Turn"]

_FORMAT = "nbchat.conversation/1"


@dataclass(frozen=True, slots=True)
class Turn:
    """The question of one cell, and all that answered it.

    Attributes:
        key: The cell's id; None where the front end does not tell it.
        messages: The prompt, then answers and tool results.
        model: The model that answered.
        status: The status of the turn's Response.
        tokens: The tokens of all requests of the turn.
        stale: True if an earlier turn changed after this one was made.
        endpoint: The endpoint that was asked.
        container: The service's container that code ran in, as in :class:`~nbchat.core.response.Response`.
    """

    key: str | None
    messages: tuple[Message, ...]
    model: str = ""
    status: str = "complete"
    tokens: int = 0
    stale: bool = False
    endpoint: str = ""
    container: Mapping[str, Any] | None = None

    @classmethod
    def of_response(cls, key: str | None, response: Response) -> Turn:
        """Return the turn of a cell whose answer is ``response``."""
        return cls(
            key,
            response.messages,
            response.model,
            response.status,
            response.usage.total_tokens,
            endpoint=response.endpoint,
            container=response.container,
        )

    def sendable(self) -> tuple[Message, ...]:
        """Return the messages that may be sent again; () if none of the turn may.

        The result begins with the prompt and ends with an answer. Each tool call has its result in
        it, and no message is empty.

        >>> call = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {}}
        >>> answer = Message.of("assistant", [{"type": "text", "text": "Let me add."}, call])
        >>> interrupted = Turn("cell-1", (Message.of("user", "2 + 2?"), answer))
        >>> [message.to_dict() for message in interrupted.sendable()]
        [{'role': 'user', 'content': '2 + 2?'}, {'role': 'assistant', 'content': 'Let me add.'}]
        """
        messages = self.messages
        if self.stale:
            # A thinking block's signature covers what was said before the block. The API rejects the
            # block when that has changed:
            # https://platform.claude.com/docs/en/build-with-claude/extended-thinking
            messages = tuple(_without_thinking(message) for message in messages)
        # Once is not enough: dropping a call can leave another block without its counterpart, for
        # example the result of a server tool in a later answer.
        while (dialogue := _dialogue(messages)) != messages:
            messages = dialogue
        return messages

    def to_dict(self) -> dict[str, Any]:
        """Return the turn as plain JSON values. :meth:`from_dict` reads them back."""
        return {
            "key": self.key,
            "model": self.model,
            "status": self.status,
            "tokens": self.tokens,
            "stale": self.stale,
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
            endpoint=data.name("endpoint", ""),
            container=data.optional_mapping("container"),
        )


def _without_thinking(message: Message) -> Message:
    blocks = tuple(block for block in message.content if block.type not in ("thinking", "redacted_thinking"))
    return replace(message, content=blocks)


def _dialogue(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return the prompt, answers and results up to the last answer whose calls all have results."""
    prompt, *rest = _merged(messages) or (Message("user", ()),)
    dialogue = [prompt]
    # A server tool's result may come in a later answer than its call, so both are searched in the
    # whole turn. Half of such a pair is dropped.
    server_calls = _server_calls(messages) & _server_results(messages)
    while rest and rest[0].role == "assistant":
        answer = rest.pop(0)
        results = rest.pop(0) if rest else Message("user", ())
        answered = {call for block in results.content if (call := _answered_call(block)) is not None}
        answer = _sendable_part(answer, answered, server_calls)
        calls = [call.id for call in tool_calls(answer.content)]
        if answer.content:
            dialogue.append(answer)
        if not calls:
            break
        dialogue.append(_results_for(calls, results))
    # The turn may have been interrupted after a tool had run. The next prompt is a user message, too,
    # so the dialogue must end with an answer. The results without one go, and with them their calls.
    while dialogue and dialogue[-1].role == "user":
        dialogue.pop()
        if dialogue:
            dialogue[-1] = _sendable_part(dialogue[-1], set(), server_calls)
            if not dialogue[-1].content:
                dialogue.pop()
    return tuple(dialogue)


def _merged(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return the messages with answers that follow each other joined into one.

    A service that pauses a long turn continues it in a second answer:
    https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons#pause-turn
    """
    merged: list[Message] = []
    for message in messages:
        if merged and merged[-1].role == message.role == "assistant":
            merged[-1] = replace(message, content=merged[-1].content + message.content)
        else:
            merged.append(message)
    return tuple(merged)


def _answered_call(block: Block) -> str | None:
    """Return the id of the call whose result ``block`` is; None if it is not a result."""
    call = block.data.get("tool_use_id") if isinstance(block, OpaqueBlock) else None
    return call if isinstance(call, str) else None


def _server_calls(messages: Iterable[Message]) -> set[str]:
    """Return the ids of the calls that the service runs itself."""
    return {
        block.id
        for message in messages
        for block in message.content
        if isinstance(block, ToolUseBlock) and block.type != "tool_use"
    }


def _server_results(messages: Iterable[Message]) -> set[str]:
    """Return the ids of the calls whose results are in an answer, where the service puts its own."""
    blocks = (block for message in messages if message.role == "assistant" for block in message.content)
    return {call for block in blocks if (call := _answered_call(block)) is not None}


def _results_for(calls: list[str], results: Message) -> Message:
    """Return the message with one result for each call. Blocks that are not results stay."""
    unanswered = list(calls)
    blocks = []
    for block in results.content:
        call = _answered_call(block)
        if call in unanswered:
            unanswered.remove(call)
        elif call is not None:
            continue
        blocks.append(block)
    return replace(results, content=tuple(blocks))


def _sendable_part(answer: Message, answered: set[str], server_calls: set[str]) -> Message:
    """Return the answer without the blocks that the API would reject.

    Args:
        answer: A message of the assistant.
        answered: The calls whose results are in the next message.
        server_calls: The calls of the service that have their results in an answer.
    """
    seen: set[tuple[str, str]] = set()

    def accepted(block: Block) -> bool:
        if not fits_json(block):
            return False
        match block:
            case TextBlock():
                # "messages: text content blocks must contain non-whitespace text" (HTTP 400)
                return bool(block.text.strip())
            case ThinkingBlock():
                # The signature comes last, so thinking that was interrupted has none.
                return bool(block.signature)
            case ToolUseBlock():
                repeated = (block.type, block.id) in seen
                seen.add((block.type, block.id))
                return not repeated and block.id in (answered if block.type == "tool_use" else server_calls)
        return _answered_call(block) is None or _answered_call(block) in server_calls

    blocks = tuple(block for block in answer.content if accepted(block))
    # Thinking leads to something. An answer of nothing else was interrupted before its first word.
    if all(block.type in ("thinking", "redacted_thinking") for block in blocks):
        blocks = ()
    return replace(answer, content=blocks)


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
        """All turns, in the order in which their cells first ran."""
        return tuple(self._turns)

    def __len__(self) -> int:
        return len(self._turns)

    def history(self, key: str | None) -> tuple[Message, ...]:
        """Return the messages to send before the prompt of a cell.

        These are the turns before the cell's own turn. For a cell that has none, they are all turns.

        Args:
            key: The cell's id, or None.
        """
        return tuple(message for turn in self.turns_before(key) for message in turn.sendable())

    def turns_before(self, key: str | None) -> tuple[Turn, ...]:
        """Return the turns before a cell's own turn; all turns for a cell that has none."""
        return tuple(self._turns[: self._position(key)])

    def turns_after(self, key: str | None) -> int:
        """Return the number of turns after the cell's own turn; 0 if the cell has none.

        Args:
            key: The cell's id, or None.
        """
        position = self._position(key)
        return 0 if position is None else len(self._turns) - position - 1

    def record(self, turn: Turn) -> None:
        """Replace the turn of the same cell and mark the later turns stale, or append a new turn."""
        position = self._position(turn.key)
        if position is None:
            self._turns.append(turn)
            return
        later = (replace(old, stale=True) for old in self._turns[position + 1 :])
        self._turns[position:] = [turn, *later]

    def forget(self, number: int) -> Turn:
        """Remove a turn and return it. The later turns become stale.

        Args:
            number: The number of the turn, counted from 1.

        Raises:
            IndexError: There is no such turn.
        """
        if not 1 <= number <= len(self._turns):
            raise IndexError(number)
        removed = self._turns.pop(number - 1)
        self._turns[number - 1 :] = [replace(turn, stale=True) for turn in self._turns[number - 1 :]]
        return removed

    def reset(self, turns: Iterable[Turn] = ()) -> None:
        """Remove every turn, and begin again with ``turns``."""
        self._turns[:] = turns

    def fork(self, name: str) -> Conversation:
        """Return a copy under another name.

        The copy's turns belong to no cell, so running a cell again does not change them.
        """
        return Conversation(name, (replace(turn, key=None) for turn in self._turns), self.uploads.values())

    def _position(self, key: str | None) -> int | None:
        if key is None:
            return None
        return next((position for position, turn in enumerate(self._turns) if turn.key == key), None)

    def to_dict(self) -> dict[str, Any]:
        """Return the conversation as plain JSON values. :meth:`from_dict` reads them back."""
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
        """
        fields = Fields(data)
        fields.check_format(_FORMAT)
        name = fields.name("name")
        if not name.strip():
            raise fields.misfit("name", "a name")
        uploads = [Upload.of_fields(upload) for upload in fields.each("uploads", ())]
        return cls(name, [Turn.of_fields(turn) for turn in fields.each("turns")], uploads)
