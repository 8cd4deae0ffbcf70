"""Blocks and messages as frozen values.

A block keeps everything the API sent with it, and goes back as it came: the fields this
module does not know stay in ``extra``, and a block of an unknown type is an
:class:`OpaqueBlock` that holds the whole dict. Dispatch is on ``type`` strings, as the
Messages API adds types without notice (https://platform.claude.com/docs/en/api/versioning).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

__all__ = [
    "Block",
    "Message",
    "OpaqueBlock",
    "TextBlock",
    "ThinkingBlock",
    "ToolUseBlock",
    "block_of",
    "content_of",
    "stored",
    "tool_calls",
]

#: Block types whose input arrives as JSON deltas.
TOOL_USE_TYPES = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})


@dataclass(frozen=True, slots=True)
class TextBlock:
    """Text, with the citations that support it (dicts as the API sent them)."""

    text: str
    citations: tuple[dict[str, Any], ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    type: str = field(default="text", init=False)

    def to_dict(self) -> dict[str, Any]:
        cited = {"citations": copy.deepcopy(list(self.citations))} if self.citations else {}
        return {"type": "text", "text": self.text, **cited, **copy.deepcopy(dict(self.extra))}


@dataclass(frozen=True, slots=True)
class ThinkingBlock:
    """Thinking, with the signature that the API wants back unchanged."""

    thinking: str
    signature: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    type: str = field(default="thinking", init=False)

    def to_dict(self) -> dict[str, Any]:
        return {
            "type": "thinking",
            "thinking": self.thinking,
            "signature": self.signature,
            **copy.deepcopy(dict(self.extra)),
        }


@dataclass(frozen=True, slots=True)
class ToolUseBlock:
    """A call of a tool, ours or the server's.

    ``input`` is the strictly parsed JSON. Where what arrived is no JSON object (the answer was
    cut short, say) it is empty and ``partial_json`` holds the text; such a call never runs.
    """

    id: str
    name: str
    input: Mapping[str, Any]
    partial_json: str = ""
    type: str = "tool_use"
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def valid(self) -> bool:
        """Whether the whole input arrived."""
        return not self.partial_json

    @property
    def arguments(self) -> str:
        """The input as JSON text to show: as far as it came."""
        return self.partial_json or json.dumps(self.input, ensure_ascii=False, indent=2)

    def to_dict(self) -> dict[str, Any]:
        return {
            "type": self.type,
            "id": self.id,
            "name": self.name,
            "input": copy.deepcopy(dict(self.input)),
            **copy.deepcopy(dict(self.extra)),
        }


@dataclass(frozen=True, slots=True)
class OpaqueBlock:
    """Any other block, verbatim: results of server tools, redacted thinking, what is not known yet."""

    data: Mapping[str, Any]

    @property
    def type(self) -> str:
        return str(self.data.get("type", ""))

    def to_dict(self) -> dict[str, Any]:
        return copy.deepcopy(dict(self.data))


Block: TypeAlias = TextBlock | ThinkingBlock | ToolUseBlock | OpaqueBlock


def block_of(data: Mapping[str, Any]) -> Block:
    """The block for a content dict, as the API sends or takes it, or as :func:`stored` has it."""
    kind = data.get("type")
    if kind == "text" and isinstance(data.get("text"), str):
        extra = _rest(data, "text", "citations")
        return TextBlock(data["text"], tuple(data.get("citations") or ()), extra)
    if kind == "thinking" and isinstance(data.get("thinking"), str):
        return ThinkingBlock(data["thinking"], data.get("signature") or "", _rest(data, "thinking", "signature"))
    if kind in TOOL_USE_TYPES and isinstance(data.get("input"), Mapping):
        extra = _rest(data, "id", "name", "input", "partial_json")
        broken = str(data.get("partial_json") or "")
        return ToolUseBlock(data.get("id", ""), data.get("name", ""), data["input"], broken, str(kind), extra)
    return OpaqueBlock(dict(data))


def stored(part: Block | Message) -> dict[str, Any]:
    """A block or message to be kept and read back here: with what a broken tool call had, which no API takes."""
    if isinstance(part, Message):
        plain = part.to_dict()
        return (
            plain
            if isinstance(plain["content"], str)
            else plain | {"content": [stored(block) for block in part.content]}
        )
    broken = part.partial_json if isinstance(part, ToolUseBlock) else ""
    return part.to_dict() | ({"partial_json": broken} if broken else {})


def _rest(data: Mapping[str, Any], *known: str) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key != "type" and key not in known}


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a conversation: a role and its blocks."""

    role: str
    content: tuple[Block, ...]

    @classmethod
    def of(cls, role: str, content: str | Iterable[Block | Mapping[str, Any]]) -> Message:
        """A message of a text or of blocks, given as values or as dicts."""
        return cls(role, content_of(content))

    @property
    def text(self) -> str:
        """The text blocks joined with nothing between: citations split sentences into blocks."""
        return "".join(block.text for block in self.content if isinstance(block, TextBlock))

    def to_dict(self) -> dict[str, Any]:
        """As the API takes it; a message of one plain text block has its text as content."""
        match self.content:
            case (TextBlock(text=text, citations=(), extra=extra),) if not extra:
                return {"role": self.role, "content": text}
        return {"role": self.role, "content": [block.to_dict() for block in self.content]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Message:
        return cls.of(data["role"], data["content"])


def content_of(content: str | Iterable[Block | Mapping[str, Any]]) -> tuple[Block, ...]:
    """Blocks of a text or of an iterable of blocks and dicts."""
    if isinstance(content, str):
        return (TextBlock(content),)
    return tuple(block_of(part) if isinstance(part, Mapping) else part for part in content)


def tool_calls(blocks: Iterable[Block]) -> tuple[ToolUseBlock, ...]:
    """The calls of the user's own tools, in order; the service answers those of other types itself."""
    return tuple(block for block in blocks if isinstance(block, ToolUseBlock) and block.type == "tool_use")
