"""Chunks: the vocabulary between the parser and everyone else.

A chunk is a small frozen value with a ``type`` string. ``index`` is the position of the block
in its message. The parser makes all of them but two: the session makes ``tool_result``, and a
``notice`` may come from a transport (waiting for a retry) or from the session (what was cut).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from nbchat.core.messages import Block
from nbchat.core.usage import Usage

__all__ = [
    "BlockStart",
    "BlockStop",
    "Citation",
    "Notice",
    "OutputText",
    "ResponseChunk",
    "StreamChunk",
    "Thinking",
    "ToolInput",
    "ToolResult",
]


@dataclass(frozen=True, slots=True)
class BlockStart:
    """A block begins. ``block`` is what the API sent of it: whole for blocks that have no deltas."""

    type: ClassVar[str] = "block_start"
    index: int
    block: Block


@dataclass(frozen=True, slots=True)
class OutputText:
    """Some more text of the answer."""

    type: ClassVar[str] = "output_text"
    index: int
    text: str


@dataclass(frozen=True, slots=True)
class Thinking:
    """Some more thinking; the last chunk of a block has no text and the ``signature``."""

    type: ClassVar[str] = "thinking"
    index: int
    text: str
    signature: str = ""


@dataclass(frozen=True, slots=True)
class ToolInput:
    """Some more of a tool call's arguments, as JSON text."""

    type: ClassVar[str] = "tool_input"
    index: int
    partial_json: str


@dataclass(frozen=True, slots=True)
class Citation:
    """A citation for the text block at ``index``, as the API sent it."""

    type: ClassVar[str] = "citation"
    index: int
    citation: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BlockStop:
    """A block is whole."""

    type: ClassVar[str] = "block_stop"
    index: int
    block: Block


@dataclass(frozen=True, slots=True)
class ResponseChunk:
    """The answer is whole: sent once, at ``message_stop``.

    ``message`` is the finished message as the API would have given it without streaming, but for
    its content, which is in ``blocks``.
    """

    type: ClassVar[str] = "response"
    message: Mapping[str, Any]
    blocks: tuple[Block, ...]
    usage: Usage

    @property
    def stop_reason(self) -> str | None:
        return self.message.get("stop_reason")


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool of ours answered. ``content`` goes back to the model as blocks."""

    type: ClassVar[str] = "tool_result"
    tool_use_id: str
    content: tuple[Block, ...]
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class Notice:
    """One line for the status, of no weight for the answer: waiting, cut, replayed. "" clears it.

    ``failed`` is the type of the error of a try that will be repeated, on its first notice.
    Notices with the same ``about`` take each other's place; those about different things stand
    side by side, so that a wait does not wipe out what was said to be cut.
    """

    type: ClassVar[str] = "notice"
    text: str
    failed: str = ""
    about: str = ""


StreamChunk: TypeAlias = (
    BlockStart | OutputText | Thinking | ToolInput | Citation | BlockStop | ResponseChunk | ToolResult | Notice
)
