"""Blocks and messages as frozen values.

The API expects its blocks back exactly as it sent them. So a block keeps every field: those that this
module does not know are in ``extra``, and a block of an unknown type is an :class:`OpaqueBlock` with
the whole dict. The ``type`` string decides, because the Messages API adds types without notice
(https://platform.claude.com/docs/en/api/versioning).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from nbchat.core.fields import Fields, storable, storable_value

__all__ = [
    "Block",
    "Message",
    "OpaqueBlock",
    "TextBlock",
    "ThinkingBlock",
    "ToolUseBlock",
    "block_of",
    "blocks_of",
    "content_of",
    "fits_json",
    "joined_text",
    "line_ends_between",
    "stored",
    "tool_calls",
]

#: The block types whose input arrives as deltas of JSON text.
TOOL_USE_TYPES = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})


@dataclass(frozen=True, slots=True)
class TextBlock:
    """A block of text.

    Attributes:
        text: The text.
        citations: The citations that support the text, as dicts of the API.
        extra: The fields that nbchat does not know.
    """

    text: str
    citations: tuple[dict[str, Any], ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    type: str = field(default="text", init=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the block as the API takes it."""
        # Copies: the caller may add `cache_control` to the dict, and the block is shared.
        cited = {"citations": copy.deepcopy(list(self.citations))} if self.citations else {}
        return {"type": "text", "text": self.text, **cited, **copy.deepcopy(dict(self.extra))}


@dataclass(frozen=True, slots=True)
class ThinkingBlock:
    """A block of the model's thinking.

    Attributes:
        thinking: The text.
        signature: The proof that the text is the model's own. The API rejects a block without it.
        extra: The fields that nbchat does not know.
    """

    thinking: str
    signature: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    type: str = field(default="thinking", init=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the block as the API takes it."""
        return {
            "type": "thinking",
            "thinking": self.thinking,
            "signature": self.signature,
            **copy.deepcopy(dict(self.extra)),
        }


@dataclass(frozen=True, slots=True)
class ToolUseBlock:
    """A call of a tool, which nbchat runs (``tool_use``) or the service (the other types).

    Attributes:
        id: The id of the call, which its result refers to.
        name: The name of the tool.
        input: The arguments; {} if the text that arrived is not a JSON object.
        partial_json: That text, if it is not a JSON object. It is often half an object, because the
            answer was cut short. Such a call is never run.
        type: ``tool_use``, ``server_tool_use`` or ``mcp_tool_use``.
        extra: The fields that nbchat does not know.
    """

    id: str
    name: str
    input: Mapping[str, Any]
    partial_json: str = ""
    type: str = "tool_use"
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def valid(self) -> bool:
        """True if the whole input arrived."""
        return not self.partial_json

    @property
    def arguments(self) -> str:
        """The input as JSON text for display, as far as it arrived."""
        return self.partial_json or json.dumps(self.input, ensure_ascii=False, indent=2)

    def to_dict(self) -> dict[str, Any]:
        """Return the block as the API takes it, without ``partial_json``."""
        return {
            "type": self.type,
            "id": self.id,
            "name": self.name,
            "input": copy.deepcopy(dict(self.input)),
            **copy.deepcopy(dict(self.extra)),
        }


@dataclass(frozen=True, slots=True)
class OpaqueBlock:
    """Any other block, as the dict the API sent.

    Examples are results of server tools, redacted thinking, images, and types of a later API.
    """

    data: Mapping[str, Any]

    @property
    def type(self) -> str:
        """The ``type`` in the dict; "" if it is missing or not text."""
        kind = self.data.get("type")
        return kind if isinstance(kind, str) else ""

    def to_dict(self) -> dict[str, Any]:
        """Return a copy of the dict."""
        return copy.deepcopy(dict(self.data))


Block: TypeAlias = TextBlock | ThinkingBlock | ToolUseBlock | OpaqueBlock


def block_of(data: Mapping[str, Any]) -> Block:
    """Return the block for a dict: one of the API, or one that :func:`stored` returned.

    >>> block_of({"type": "text", "text": "Hello"}).text
    'Hello'
    >>> block_of({"type": "of_next_year", "field": 1})
    OpaqueBlock(data={'type': 'of_next_year', 'field': 1})
    """
    # One place for the text of prompts, results and answers: half of a surrogate pair cannot be sent or saved.
    data = storable_value(data)
    # A known type with a field missing or of the wrong type is an OpaqueBlock, too. That keeps what
    # an odd gateway sent, and the other classes can rely on their fields.
    kind = data.get("type")
    if kind == "text" and isinstance(data.get("text"), str) and _are_mappings(citations := data.get("citations") or ()):
        return TextBlock(data["text"], tuple(citations), _rest(data, "text", "citations"))
    if kind == "thinking" and _are_texts(data.get("thinking"), signature := data.get("signature") or ""):
        return ThinkingBlock(data["thinking"], signature, _rest(data, "thinking", "signature"))
    # A file may have a list there, which has no hash and so cannot be looked for in a set.
    if isinstance(kind, str) and kind in TOOL_USE_TYPES and isinstance(data.get("input"), Mapping):
        extra = _rest(data, "id", "name", "input", "partial_json")
        id, name, broken = data.get("id", ""), data.get("name", ""), data.get("partial_json") or ""
        if _are_texts(id, name, broken):
            return ToolUseBlock(id, name, data["input"], broken, kind, extra)
    return OpaqueBlock(dict(data))


def _are_texts(*values: Any) -> bool:
    return all(isinstance(value, str) for value in values)


def _are_mappings(values: Any) -> bool:
    return isinstance(values, list | tuple) and all(isinstance(value, Mapping) for value in values)


def stored(part: Block | Message) -> dict[str, Any]:
    """Return a block or a message as a dict for a file.

    The dict is the one that the API takes, and also has the ``partial_json`` of an incomplete tool
    call. The API would reject that field.
    """
    if isinstance(part, Message):
        message = part.to_dict()
        if not isinstance(message["content"], str):
            message["content"] = [stored(block) for block in part.content]
        return message
    partial_json = part.partial_json if isinstance(part, ToolUseBlock) else ""
    return part.to_dict() | ({"partial_json": partial_json} if partial_json else {})


def _rest(data: Mapping[str, Any], *known: str) -> dict[str, Any]:
    """Return the fields of a block that its class has no attribute for."""
    return {key: value for key, value in data.items() if key != "type" and key not in known}


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a conversation.

    Attributes:
        role: "user" or "assistant".
        content: The blocks of the message.

    >>> Message.of("user", "Hello").to_dict()
    {'role': 'user', 'content': 'Hello'}
    >>> image = {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}
    >>> message = Message.of("user", [TextBlock("What is this?"), image])
    >>> message.text, [block.type for block in message.content]
    ('What is this?', ['text', 'image'])
    """

    role: str
    content: tuple[Block, ...]

    @classmethod
    def of(cls, role: str, content: str | Iterable[Block | Mapping[str, Any]]) -> Message:
        """Return a message with a text, or with blocks that are values or dicts."""
        return cls(role, content_of(content))

    @property
    def text(self) -> str:
        """The text of all text blocks."""
        # Joined without a separator, because citations split a sentence into several blocks.
        return "".join(block.text for block in self.content if isinstance(block, TextBlock))

    def to_dict(self) -> dict[str, Any]:
        """Return the message as the API takes it. One plain text block becomes a string."""
        # A text and a block with the same text are the same request, so both must have the same
        # bytes: a cassette finds its recording by the digest of the body.
        match self.content:
            case (TextBlock(text=text, citations=(), extra=extra),) if not extra:
                return {"role": self.role, "content": text}
        return {"role": self.role, "content": [block.to_dict() for block in self.content]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Message:
        """Return the message for a dict: one of the API, or one that :func:`stored` returned.

        Raises:
            InputError: a field is missing or has another type.
        """
        return cls.of_fields(Fields(data))

    @classmethod
    def of_fields(cls, data: Fields) -> Message:
        """Return the message of the fields that :func:`stored` returned.

        Raises:
            InputError: a field is missing or has another type.
        """
        role = data.choice("role", ("user", "assistant"))
        if data.is_text("content"):
            return cls.of(role, data.text("content"))
        message = cls(role, blocks_of(data, "content"))
        # An answer may hold an infinite number, and is then not sent again. A prompt is always sent.
        if role == "user" and not all(fits_json(block) for block in message.content):
            raise data.misfit("content", "a list of blocks that JSON can hold (it has an infinite number or NaN)")
        return message


def blocks_of(data: Fields, name: str) -> tuple[Block, ...]:
    """Return the blocks of a list in a file.

    Raises:
        InputError: the field is not a list of blocks.
    """
    return tuple(block_of(block.plain()) for block in data.each(name))


def content_of(content: str | Iterable[Block | Mapping[str, Any]]) -> tuple[Block, ...]:
    """Return a text, or an iterable of blocks and dicts, as blocks."""
    if isinstance(content, str):
        return (TextBlock(storable(content)),)
    return tuple(block_of(part) if isinstance(part, Mapping) else part for part in content)


def joined_text(blocks: Iterable[Block]) -> str:
    """Return the text of text blocks, with a blank line where a block of another type is between two texts.

    >>> search = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
    >>> parts = ["It is ", "cold.", "Let me look:", search, "```python", "..."]
    >>> blocks = content_of({"type": "text", "text": part} if isinstance(part, str) else part for part in parts)
    >>> joined_text(blocks)
    'It is cold.Let me look:\\n\\n```python...'
    """
    text, apart = "", False
    for block in blocks:
        if not isinstance(block, TextBlock):
            apart = True
        elif block.text:
            # Without a separator between two texts, because citations split a sentence into several blocks.
            text += (line_ends_between(text, block.text) if apart else "") + block.text
            apart = False
    return text


def line_ends_between(before: str, after: str) -> str:
    """Return the line ends that are missing for a blank line between two texts; "" if one of them is empty.

    >>> line_ends_between("a", "b"), line_ends_between("a\\n", "b"), line_ends_between("a", "\\n\\nb")
    ('\\n\\n', '\\n', '')
    """
    if not before or not after:
        return ""
    present = len(before) - len(before.rstrip("\n")) + len(after) - len(after.lstrip("\n"))
    return "\n" * (2 - present)


def tool_calls(blocks: Iterable[Block]) -> tuple[ToolUseBlock, ...]:
    """Return the calls of the user's own tools, in order. The service runs tools of other types itself."""
    return tuple(block for block in blocks if isinstance(block, ToolUseBlock) and block.type == "tool_use")


def fits_json(block: Block) -> bool:
    """Return True if JSON can hold the block.

    An endpoint can send ``1e400``, which Python reads as infinity, and JSON has no infinity. Such a
    block can be shown, but it cannot be sent back. UTF-8 must be able to encode the block, too.

    >>> fits_json(TextBlock("Hello")), fits_json(OpaqueBlock({"type": "score", "value": float("inf")}))
    (True, False)
    """
    try:
        json.dumps(block.to_dict(), ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, TypeError, RecursionError):
        return False
    return True
