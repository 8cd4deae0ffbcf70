"""ChatStreamParser: events of one answer in, chunks out. No I/O.

The law:

1. Dispatch is on ``type`` strings. ``ping``, unknown events and unknown deltas give None.
2. A block the parser does not know is kept verbatim, with what its deltas brought.
3. ``usage`` of ``message_delta`` is cumulative and replaces; what only ``message_start`` has stays.
4. A missing ``content_block_stop`` is legal: the end of the message ends the block. Blocks may overlap.
5. Tool JSON is joined and parsed once, strictly, when its block ends.
6. The stream is whole at ``message_stop``. :meth:`ChatStreamParser.close` before it raises
   StreamError: a server that goes away cleanly leaves no other trace.
7. After an error the parser stays failed. One parser per answer; nothing is shared.

The events: https://platform.claude.com/docs/en/build-with-claude/streaming
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from nbchat.core.chunks import (
    BlockStart,
    BlockStop,
    Citation,
    Notice,
    OutputText,
    ResponseChunk,
    StreamChunk,
    Thinking,
    ToolInput,
)
from nbchat.core.errors import StreamError, from_api, redact
from nbchat.core.messages import TOOL_USE_TYPES, Block, ToolUseBlock, block_of
from nbchat.core.usage import Usage

__all__ = ["ChatStreamParser", "events_of"]

Event = Mapping[str, Any]


class _OpenBlock:
    """A block that is arriving: what it began with, and the pieces since."""

    __slots__ = ("citations", "data", "pieces", "signature")

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = dict(data)
        self.pieces: list[str] = []
        self.citations: list[dict[str, Any]] = list(data.get("citations") or ())
        self.signature = _text(data.get("signature") or "")
        if (kind := _text(data.get("type") or "")) in ("text", "thinking"):
            _text(data.get(kind) or "")
        elif kind in TOOL_USE_TYPES:
            _text(data.get("id", ""))
            _text(data.get("name", ""))

    def finish(self) -> Block:
        """The block of all that arrived."""
        data, joined = dict(self.data), "".join(self.pieces)
        kind = data.get("type")
        if kind == "text":
            data["text"] = (data.get("text") or "") + joined
            data["citations"] = self.citations
        elif kind == "thinking":
            data["thinking"] = (data.get("thinking") or "") + joined
            data["signature"] = self.signature
        elif kind in TOOL_USE_TYPES:
            return self._finish_tool(data, joined)
        return block_of(data)

    @staticmethod
    def _finish_tool(data: dict[str, Any], joined: str) -> Block:
        broken = ""
        if joined.strip():
            try:
                data["input"] = json.loads(joined, parse_constant=_refused)
            except (ValueError, RecursionError):  # not JSON, or nested thousands deep
                broken = joined
            if not broken and not isinstance(data["input"], dict):
                broken = joined
        if broken or not isinstance(data.get("input"), dict):
            data["input"] = {}
        block = block_of(data)
        if broken and isinstance(block, ToolUseBlock):
            return ToolUseBlock(block.id, block.name, {}, broken, block.type, block.extra)
        return block


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")  # Python reads NaN and Infinity; nobody takes them back


def _text(value: Any) -> str:
    """``value``, which must be a text: what is wrong is said when it arrives, not when it is joined."""
    if not isinstance(value, str):
        raise TypeError(f"a {type(value).__name__} where text belongs")
    return value


class ChatStreamParser:
    """Turns the events of one answer into chunks.

    :meth:`feed` gives a chunk or None for each event and raises StreamError for an ``error``
    event or a broken grammar; :meth:`close` raises it when the stream ended too early;
    :meth:`snapshot` gives what has arrived, at any time.
    """

    def __init__(self) -> None:
        self._message: dict[str, Any] | None = None
        self._usage: dict[str, Any] = {}
        self._done: dict[int, Block] = {}
        self._open: dict[int, _OpenBlock] = {}
        self._whole = False
        self._failure: StreamError | None = None

    def feed(self, event: Event) -> StreamChunk | None:
        """Take one event, as a dict of the Messages API.

        Raises:
            StreamError: the event is an ``error``, or it does not fit what came before.
        """
        if self._failure is not None:
            raise self._failure
        kind = event.get("type")
        handler = _HANDLERS.get(kind) if isinstance(kind, str) else None
        if handler is None or self._whole:
            return None
        try:
            return handler(self, event)
        except (KeyError, TypeError, AttributeError, ValueError) as wrong:
            reason = redact(repr(wrong))[:200]
        # Outside of the handler: what is wrong may quote the endpoint, and only our message is redacted.
        raise self._fail(
            f"the endpoint sent a {kind} event that does not fit the Messages API ({reason})",
            "What arrived is kept. If this endpoint is a gateway, see whether it speaks the Messages API.",
        )

    def close(self) -> None:
        """Say that the stream ended.

        Raises:
            StreamError: it ended before ``message_stop``, so the answer is not whole.
        """
        if self._failure is not None:
            raise self._failure
        if not self._whole:
            raise self._fail(
                "the connection ended before the answer was complete"
                if self._message is not None
                else "the endpoint ended the stream without an answer",
                "What arrived is kept. Run the cell again to ask anew.",
            )

    @property
    def whole(self) -> bool:
        """Whether ``message_stop`` has been seen."""
        return self._whole

    def snapshot(self) -> ResponseChunk:
        """The message so far: blocks as far as they came, usage as far as it was told."""
        blocks = dict(self._done)
        blocks.update((index, block.finish()) for index, block in self._open.items())
        ordered = tuple(blocks[index] for index in sorted(blocks))
        return ResponseChunk(dict(self._message or {}), ordered, Usage.from_api(self._usage))

    def _fail(self, message: str, hint: str, type: str | None = None) -> StreamError:
        self._failure = StreamError(message, hint, type=type)
        return self._failure

    # One method an event type; each gives a chunk or None.

    def _on_message_start(self, event: Event) -> None:
        if self._message is not None:
            raise ValueError("a second message_start")
        message = dict(event["message"])
        message.pop("content", None)
        self._usage = dict(message.pop("usage", None) or {})
        self._message = message

    def _on_block_start(self, event: Event) -> StreamChunk:
        if self._message is None:
            raise ValueError("no message_start before it")
        index = event["index"]
        if not isinstance(index, int):
            raise TypeError(f"index {index!r}")
        if index in self._open or index in self._done:
            raise ValueError(f"block {index} began twice")
        start = BlockStart(index, block_of(event["content_block"]))
        self._open[index] = _OpenBlock(event["content_block"])
        return start

    def _on_delta(self, event: Event) -> StreamChunk | None:
        index, delta = event["index"], event["delta"]
        block = self._open[index]
        match delta["type"]:
            case "text_delta":
                block.pieces.append(_text(delta["text"]))
                return OutputText(index, block.pieces[-1])
            case "thinking_delta":
                block.pieces.append(_text(delta["thinking"]))
                return Thinking(index, block.pieces[-1])
            case "input_json_delta":
                block.pieces.append(_text(delta["partial_json"]))
                return ToolInput(index, block.pieces[-1])
            case "citations_delta":
                block.citations.append(delta["citation"])
                return Citation(index, delta["citation"])
            case "signature_delta":
                block.signature = _text(delta["signature"])
                return Thinking(index, "", block.signature)
        # Rule 2: a delta of a later API (compaction_delta is one) brings the fields of its block.
        if block.data.get("type") not in {"text", "thinking", *TOOL_USE_TYPES}:
            block.data.update((key, value) for key, value in delta.items() if key != "type")
        return None

    def _on_block_stop(self, event: Event) -> StreamChunk | None:
        index = event["index"]
        if index in self._done:
            return None  # sent twice
        block = self._done[index] = self._open.pop(index).finish()
        return BlockStop(index, block)

    def _on_message_delta(self, event: Event) -> None:
        if self._message is None:
            raise ValueError("no message_start before it")
        delta = event.get("delta") or {}
        _text(delta.get("stop_reason") or "")
        self._message.update(delta)
        self._message.update((key, value) for key, value in event.items() if key not in ("type", "delta", "usage"))
        self._usage.update((key, value) for key, value in (event.get("usage") or {}).items() if value is not None)

    def _on_message_stop(self, event: Event) -> StreamChunk:
        if self._message is None:
            raise ValueError("no message_start before it")
        self._finish_open()
        self._whole = True
        return self.snapshot()

    def _on_error(self, event: Event) -> None:
        error = event.get("error") or {}
        reason = from_api(error.get("type"), str(error.get("message") or ""))
        raise self._fail(f"the answer broke off: {reason.message}", reason.hint, reason.type)

    def _on_notice(self, event: Event) -> StreamChunk:
        return Notice(event["text"], event.get("failed") or "")

    def _finish_open(self) -> None:
        self._done.update((index, block.finish()) for index, block in self._open.items())
        self._open.clear()


#: The whole grammar. ``notice`` is no event of the API: a transport of ours adds it.
_HANDLERS: dict[str, Callable[[ChatStreamParser, Event], StreamChunk | None]] = {
    "message_start": ChatStreamParser._on_message_start,
    "content_block_start": ChatStreamParser._on_block_start,
    "content_block_delta": ChatStreamParser._on_delta,
    "content_block_stop": ChatStreamParser._on_block_stop,
    "message_delta": ChatStreamParser._on_message_delta,
    "message_stop": ChatStreamParser._on_message_stop,
    "error": ChatStreamParser._on_error,
    "notice": ChatStreamParser._on_notice,
}


def events_of(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The events that would have streamed a finished ``message``: one delta for each part.

    This is how an answer that was not streamed goes through the same pipeline.
    """
    head = {key: value for key, value in message.items() if key not in ("content", "stop_reason", "stop_sequence")}
    yield {"type": "message_start", "message": {**head, "content": [], "stop_reason": None, "stop_sequence": None}}
    for index, block in enumerate(message.get("content") or ()):
        opening, deltas = _taken_apart(block)
        yield {"type": "content_block_start", "index": index, "content_block": opening}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    ending = {key: message.get(key) for key in ("stop_reason", "stop_sequence")}
    yield {"type": "message_delta", "delta": ending, "usage": dict(message.get("usage") or {})}
    yield {"type": "message_stop"}


def _taken_apart(block: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A whole content block as the block it began with and its deltas."""
    kind, opening = block.get("type"), dict(block)
    if kind == "text" and isinstance(block.get("text"), str):
        opening |= {"text": ""}
        cited = opening.pop("citations", None) or ()
        deltas = [{"type": "citations_delta", "citation": citation} for citation in cited]
        return opening, [{"type": "text_delta", "text": block["text"]}, *deltas]
    if kind == "thinking" and isinstance(block.get("thinking"), str):
        opening |= {"thinking": "", "signature": ""}
        signed = {"type": "signature_delta", "signature": block.get("signature") or ""}
        return opening, [{"type": "thinking_delta", "thinking": block["thinking"]}, signed]
    if kind in TOOL_USE_TYPES and isinstance(block.get("input"), Mapping):
        opening |= {"input": {}}
        joined = json.dumps(block["input"], ensure_ascii=False)
        return opening, [{"type": "input_json_delta", "partial_json": joined}]
    return opening, []
