"""Chunks: the typed values that the parser makes from events and that sinks are fed.

A chunk is a small frozen value with a ``type`` string. ``index`` is the position of the chunk's block
in its message. The parser makes all chunks except three. A ``tool_decision`` and a ``tool_result`` come from
the session. A ``notice`` comes from a transport (which waits for a retry) or from the session (which cut
something).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

from nbchat.core.fields import Fields
from nbchat.core.messages import Block, ToolUseBlock, tool_calls
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
    "ToolDecision",
    "ToolInput",
    "ToolResult",
    "stands_apart",
    "status_of",
]

#: The status of an answer that ended normally and is not complete: at a limit, or with a refusal
#: (https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons).
_STATUS: dict[str, Literal["incomplete", "refused"]] = {
    "max_tokens": "incomplete",
    "model_context_window_exceeded": "incomplete",
    "refusal": "refused",
    "repetition": "incomplete",  # the embedded model alone (nbchat.transports.repetition)
    "length": "incomplete",  # these two are of the Chat Completions API, and some gateways pass them on
    "content_filter": "refused",
}


def status_of(stop_reason: str | None) -> Literal["complete", "incomplete", "refused"]:
    """Return the status of an answer that ended normally, for its reason to end.

    >>> status_of("end_turn"), status_of("max_tokens"), status_of(None)
    ('complete', 'incomplete', 'complete')
    """
    return _STATUS.get(stop_reason or "", "complete")


@dataclass(frozen=True, slots=True)
class BlockStart:
    """A block begins.

    Attributes:
        block: The block as the API sent it so far. A block of a type without deltas (the result of a
            server tool, for example) is already complete.
    """

    type: ClassVar[str] = "block_start"
    index: int
    block: Block


@dataclass(frozen=True, slots=True)
class OutputText:
    """The next piece of the answer's text."""

    type: ClassVar[str] = "output_text"
    index: int
    text: str


@dataclass(frozen=True, slots=True)
class Thinking:
    """The next piece of the model's thinking.

    Attributes:
        signature: The signature of the block, in its last chunk. That chunk has no text.
    """

    type: ClassVar[str] = "thinking"
    index: int
    text: str
    signature: str = ""


@dataclass(frozen=True, slots=True)
class ToolInput:
    """The next piece of a tool call's arguments, as JSON text."""

    type: ClassVar[str] = "tool_input"
    index: int
    partial_json: str


@dataclass(frozen=True, slots=True)
class Citation:
    """A citation for the text block at ``index``, as a dict of the API."""

    type: ClassVar[str] = "citation"
    index: int
    citation: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BlockStop:
    """A block is complete."""

    type: ClassVar[str] = "block_stop"
    index: int
    block: Block


@dataclass(frozen=True, slots=True)
class ResponseChunk:
    """The answer is complete. The parser makes this chunk once, at ``message_stop``.

    Attributes:
        message: The message as the API returns it without streaming, except for ``content`` and
            ``usage``.
        blocks: The content of the message.
        usage: The tokens of this request.
    """

    type: ClassVar[str] = "response"
    message: Mapping[str, Any]
    blocks: tuple[Block, ...]
    usage: Usage

    @property
    def stop_reason(self) -> str | None:
        """The API's reason for the end of the answer, such as "end_turn"; None if it has not ended."""
        return self.message.get("stop_reason")

    @property
    def calls(self) -> tuple[ToolUseBlock, ...]:
        """The calls that nbchat should run, in order; () if the answer was cut or is a refusal.

        The calls decide and not the reason ``tool_use``, for which gateways send ``end_turn``, ``stop`` or null.
        """
        if status_of(self.stop_reason) != "complete" or self.stop_reason == "stop_sequence":
            return ()
        # A model that declined was replaced by another one at a block "fallback". Its calls are not answered:
        # https://platform.claude.com/docs/en/build-with-claude/refusals-and-fallback
        start = max((place for place, block in enumerate(self.blocks) if block.type == "fallback"), default=0)
        return tool_calls(self.blocks[start:])


@dataclass(frozen=True, slots=True)
class ToolDecision:
    """The decision if a call runs. It comes before the call runs.

    Attributes:
        tool_use_id: The id of the call.
        name: The name of the tool that people read.
        allowed: True if the call runs.
        text: The decision on one line, for example "allowed"; "" if there was nothing to decide.
        arguments: The arguments with which the call runs, if the user changed them.
    """

    type: ClassVar[str] = "tool_decision"
    tool_use_id: str
    name: str
    allowed: bool
    text: str = ""
    arguments: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values, which :meth:`of_fields` reads."""
        changed = {} if self.arguments is None else {"arguments": dict(self.arguments)}
        return {
            "tool_use_id": self.tool_use_id,
            "name": self.name,
            "allowed": self.allowed,
            "text": self.text,
            **changed,
        }

    @classmethod
    def of_fields(cls, fields: Fields) -> ToolDecision:
        """Return the decision that :meth:`to_dict` wrote.

        Raises:
            InputError: a field is missing or has another type.
        """
        return cls(
            fields.text("tool_use_id"),
            fields.text("name"),
            fields.flag("allowed", False),
            fields.text("text", ""),
            fields.optional_mapping("arguments"),
        )


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The result of a tool that nbchat ran.

    Attributes:
        tool_use_id: The id of the call.
        content: The result, as blocks for the model.
        is_error: True if the tool failed.
        shown: True if the tool itself showed all of the result to the user.
    """

    type: ClassVar[str] = "tool_result"
    tool_use_id: str
    content: tuple[Block, ...]
    is_error: bool = False
    shown: bool = False


@dataclass(frozen=True, slots=True)
class Notice:
    """A line for the status display. It is not part of the answer.

    Attributes:
        text: The line; "" to clear it.
        failed: The type of the error, in the first notice about a failed attempt; else "".
        about: The subject. A notice replaces an earlier one with the same subject. Notices about
            different subjects are shown together: a wait must not hide that something was cut.

    >>> Notice("The service is busy: next attempt in 4 s", failed="overloaded_error").type
    'notice'
    """

    type: ClassVar[str] = "notice"
    text: str
    failed: str = ""
    about: str = ""


def stands_apart(chunk: StreamChunk) -> bool:
    """Return True if the text after the chunk is apart from the text before it, as in ``Response.text``."""
    return isinstance(chunk, ToolResult) or (isinstance(chunk, BlockStart) and chunk.block.type != "text")


StreamChunk: TypeAlias = (
    BlockStart
    | OutputText
    | Thinking
    | ToolInput
    | Citation
    | BlockStop
    | ResponseChunk
    | ToolDecision
    | ToolResult
    | Notice
)
