"""ChatStreamParser: takes the events of one answer and makes chunks of them, without any I/O.

The rules:

1. The ``type`` string of an event decides. ``ping``, unknown events and unknown deltas give None,
   because the API adds types without notice.
2. A block of an unknown type is kept as the dict it is, together with the fields of its deltas.
3. The ``usage`` in ``message_delta`` is cumulative, so it replaces earlier numbers. Fields that only
   ``message_start`` has are kept.
4. ``content_block_stop`` may be missing: then the end of the message ends the block. Blocks may overlap.
5. The JSON of a tool call is joined and parsed once, strictly, when its block ends.
6. The answer is complete at ``message_stop``. :meth:`ChatStreamParser.close` raises a StreamError
   before that, because a connection that ends cleanly leaves no other trace of a missing rest.
7. After an error the parser stays failed. Each answer has its own parser, and parsers share nothing.

All events are described at https://platform.claude.com/docs/en/build-with-claude/streaming
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from nbchat.core.arguments import can_be_sent, is_too_deep, read_arguments, with_usable_input
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
from nbchat.core.events import events_of
from nbchat.core.fields import has_lone_half, kind_of, one_line, storable, storable_value
from nbchat.core.messages import TOOL_USE_TYPES, Block, ToolUseBlock, block_of
from nbchat.core.usage import Usage

__all__ = ["ChatStreamParser", "events_of"]

Event = Mapping[str, Any]
T = TypeVar("T")


class _OpenBlock:
    """A block that is still arriving: the dict it began with, and the pieces of its deltas."""

    __slots__ = ("_half", "citations", "data", "has_lone_half", "pieces", "signature")

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = dict(data)
        # Pieces are joined once, in `finish`. Adding each to a string would copy the text again for
        # every token, which becomes visible in long answers.
        self.pieces: list[str] = []
        self.citations: list[Any] = [
            citation for citation in _items(data.get("citations")) if isinstance(citation, Mapping)
        ]
        self.signature = _text(data.get("signature") or "")
        self._half = ""
        self.has_lone_half = False
        # A field of the wrong type is reported now, with the event that has it. `finish` must never
        # fail: it is also called for the remains of a stream that broke off.
        if (kind := _text(data.get("type") or "")) in ("text", "thinking"):
            _text(data.get(kind) or "")
        elif kind in TOOL_USE_TYPES:
            _text(data.get("id", ""))
            _text(data.get("name", ""))

    def take(self, piece: str) -> str:
        """Add a piece of the text, and return what can be shown of it.

        Half of a surrogate pair at the end waits for the other half: some gateways cut a text between the two.
        """
        self.pieces.append(piece)
        if piece.isascii() and not self._half:
            return piece
        shown = self._half + piece
        self._half = shown[-1] if "\ud800" <= shown[-1:] <= "\udbff" else ""
        return storable(shown.removesuffix(self._half))

    def finish(self) -> Block:
        """Return the block with everything that arrived."""
        data, joined = dict(self.data), "".join(self.pieces)
        kind = data.get("type")
        if kind == "text":
            data["text"] = (data.get("text") or "") + joined
            data["citations"] = self.citations
            self.has_lone_half = has_lone_half(data["text"])
        elif kind == "thinking":
            data["thinking"] = (data.get("thinking") or "") + joined
            data["signature"] = self.signature
            self.has_lone_half = has_lone_half(data["thinking"])
        elif kind in TOOL_USE_TYPES:
            return self._finish_tool(data, joined)
        return block_of(data)

    @staticmethod
    def _finish_tool(data: dict[str, Any], joined: str) -> Block:
        if joined.strip():
            arguments = read_arguments(joined)
        else:  # a tool without parameters has no deltas, or empty ones
            given = data.get("input") or {}
            arguments = given if isinstance(given, dict) and can_be_sent(given) else None
            joined = "…"  # shown for arguments that came with the block and cannot be used
        if arguments is not None:
            return block_of({**data, "input": arguments})
        block = block_of({**data, "input": {}})
        return replace(block, partial_json=storable(joined)) if isinstance(block, ToolUseBlock) else block


#: The fields of a message that are used, and the type of each. A gateway may send anything in them.
_FIELD_TYPES: dict[str, Any] = {"id": str, "model": str, "stop_reason": str | None, "stop_details": Mapping | None}
#: A longer name of a model could not be loaded with a saved Response.
_LONGEST_MODEL_CHARACTERS = 200


def _usable_fields(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a message without those of the wrong type, and with a model on one line.

    An answer must not fail because of a field that is not its content.
    """
    fields = {
        key: value
        for key, value in message.items()
        if isinstance(value, _FIELD_TYPES.get(key, object)) and not is_too_deep(value)
    }
    if "model" in fields:
        fields["model"] = one_line(fields["model"])[:_LONGEST_MODEL_CHARACTERS]
    return fields


class _Misfit(ValueError):
    """An event does not fit the Messages API. The message says why, in words for people."""


def _text(value: Any) -> str:
    """Return ``value``, or raise a _Misfit if it is not a string."""
    if not isinstance(value, str):
        raise _Misfit(f"{kind_of(value)} where text belongs")
    return value


def _reason(error: Exception) -> str:
    """Return in words why an event does not fit. The texts of Python's own errors are for programmers."""
    match error:
        case _Misfit():
            return str(error)
        case KeyError(args=(str(field),)):
            return f"the field {field!r} is missing"
        case KeyError(args=(index,)):
            return f"there is no open block {index!r}"
        case RecursionError():
            return "nested too deeply"
    return "a field has a value of the wrong type"


def _items(value: Any) -> list[Any]:
    """Return the items of a list, or no items of a value that is not a list."""
    return list(value) if isinstance(value, list | tuple) else []


def _check_depth(value: Any) -> None:
    """Raise a ValueError if a value is nested so deeply that it could be neither copied nor saved."""
    if is_too_deep(value):
        raise _Misfit("nested too deeply")


class ChatStreamParser:
    """The parser of one answer: it takes events and makes chunks of them.

    Call :meth:`feed` with each event, and :meth:`close` after the last one. :meth:`snapshot` returns
    what has arrived so far, at any time.

    >>> parser = ChatStreamParser()
    >>> parser.feed({"type": "message_start", "message": {"id": "msg_1", "usage": {"input_tokens": 8}}})
    >>> block = {"type": "text", "text": ""}
    >>> parser.feed({"type": "content_block_start", "index": 0, "content_block": block}).type
    'block_start'
    >>> delta = {"type": "text_delta", "text": "Hello!"}
    >>> parser.feed({"type": "content_block_delta", "index": 0, "delta": delta})
    OutputText(index=0, text='Hello!')

    The connection ends here, before ``message_stop``. The text so far is not lost:

    >>> parser.snapshot().blocks[0].text
    'Hello!'
    >>> parser.close()
    Traceback (most recent call last):
        ...
    nbchat.core.errors.StreamError: the connection ended before the answer was complete
    The part that arrived is kept. Run the cell again to get a complete answer.
    """

    def __init__(self) -> None:
        self._message: dict[str, Any] | None = None
        self._usage: dict[str, Any] = {}
        self._done: dict[int, Block] = {}
        self._open: dict[int, _OpenBlock] = {}
        self._call_ids: set[str] = set()
        self._whole = False
        self._failure: StreamError | None = None
        #: True if U+FFFD replaces half of a surrogate pair somewhere in the message.
        self.has_lone_half = False

    def feed(self, event: Event) -> StreamChunk | None:
        """Take one event and return its chunk, or None if it has none.

        Args:
            event: A dict of the Messages API.

        Raises:
            StreamError: The event is an ``error``, or does not fit the events before it.
        """
        if self._failure is not None:
            raise self._failure
        kind = event.get("type")
        handler = _HANDLERS.get(kind) if isinstance(kind, str) else None
        if handler is None or self._whole:
            return None  # rules 1 and 6: some gateways send more events after `message_stop`
        try:
            # The text of deltas is joined first: the other half of a pair may come with the next one.
            return handler(self, event if kind == "content_block_delta" else self._encodable(with_usable_input(event)))
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            # The methods below read the fields as if they were there. Checking each field before
            # would cost time for every token.
            reason = redact(_reason(error))[:200]
        # Raised outside the handler: Python would attach `error` as the context, and its text, which
        # may quote a key that the endpoint sent back, is not redacted.
        raise self._fail(
            f"the endpoint sent a {kind} event that does not fit the Messages API ({reason})",
            "The part that arrived is kept. If this endpoint is a gateway, check that it speaks the Messages API.",
        )

    def close(self) -> None:
        """Report the end of the stream.

        Raises:
            StreamError: The stream ended before ``message_stop``, so the answer is not complete.
        """
        if self._failure is not None:
            raise self._failure
        if self._whole:
            return
        if self._message is None:
            raise self._fail(
                "the endpoint ended the stream without an answer",
                "Run the cell again. If this happens each time, check the endpoint with %nbchat doctor.",
            )
        raise self._fail(
            "the connection ended before the answer was complete",
            "The part that arrived is kept. Run the cell again to get a complete answer.",
        )

    @property
    def whole(self) -> bool:
        """True if ``message_stop`` has arrived."""
        return self._whole

    def snapshot(self) -> ResponseChunk:
        """Return the message so far: its blocks and its usage, as far as they arrived."""
        blocks = dict(self._done)
        blocks.update((index, self._finish(block)) for index, block in self._open.items())
        ordered = tuple(blocks[index] for index in sorted(blocks))
        usage = Usage.from_api(self._usage)
        if usage.output_tokens and not usage.prompt_tokens:
            usage = replace(usage, uncertain=True)  # no prompt is empty, so its count is missing
        return ResponseChunk(dict(self._message or {}), ordered, usage)

    def _encodable(self, value: T) -> T:
        """Return a value of the API that can be sent and saved: U+FFFD replaces half of a surrogate pair."""
        usable = storable_value(value)
        if usable is not value:
            self.has_lone_half = self.has_lone_half or has_lone_half(value)
        return usable

    def _finish(self, block: _OpenBlock) -> Block:
        finished = block.finish()
        self.has_lone_half = self.has_lone_half or block.has_lone_half
        return finished

    def _fail(self, message: str, hint: str, type: str | None = None) -> StreamError:
        """Put the parser into its failed state (rule 7) and return the error to raise."""
        self._failure = StreamError(message, hint, type=type)
        return self._failure

    # One method for each event type. Each takes the event and returns a chunk or None.

    def _on_message_start(self, event: Event) -> None:
        if self._message is not None:
            raise _Misfit("a second message_start")
        if not isinstance(message := event["message"], Mapping):
            raise _Misfit(f"{kind_of(message)} where a message belongs")
        message = dict(message)
        message.pop("content", None)  # always empty here: the blocks have events of their own
        # A gateway may put anything into `usage`. An answer must not fail because of its bill.
        usage = message.pop("usage", None)
        self._usage = dict(usage) if isinstance(usage, Mapping) else {}
        self._message = _usable_fields(message)

    def _on_block_start(self, event: Event) -> StreamChunk:
        if self._message is None:
            raise _Misfit("no message_start before it")
        index = event["index"]
        if not isinstance(index, int):
            raise _Misfit(f"{kind_of(index)} where the number of a block belongs")
        if index in self._open or index in self._done:
            raise _Misfit(f"block {index} began twice")
        data = event["content_block"]
        if not _text(data["type"]):
            raise _Misfit("a block without a type")
        # Arguments that are nested too deeply are broken arguments. Any other field would be kept and sent again.
        _check_depth({key: value for key, value in data.items() if key != "input"})
        if data.get("type") in TOOL_USE_TYPES and (call_id := data.get("id")):
            # The API rejects a history in which two calls have one id, and results would be mixed up.
            if call_id in self._call_ids:
                raise _Misfit(f"two calls have the id {call_id}")
            self._call_ids.add(call_id)
        start = BlockStart(index, block_of(data))
        self._open[index] = _OpenBlock(data)
        return start

    def _on_delta(self, event: Event) -> StreamChunk | None:
        index, delta = event["index"], event["delta"]
        block = self._open[index]
        match _text(delta["type"]):
            case "text_delta":
                return OutputText(index, block.take(_text(delta["text"])))
            case "thinking_delta":
                return Thinking(index, block.take(_text(delta["thinking"])))
            case "input_json_delta":
                return ToolInput(index, block.take(_text(delta["partial_json"])))
            case "citations_delta":
                if not isinstance(delta["citation"], Mapping):
                    return None  # the text lives without it
                _check_depth(delta["citation"])
                block.citations.append(self._encodable(delta["citation"]))
                return Citation(index, block.citations[-1])
            case "signature_delta":
                block.signature = _text(delta["signature"])
                return Thinking(index, "", block.signature)
        _check_depth(delta)
        # Rule 2: an unknown delta, such as compaction_delta, brings the fields of its block.
        if block.data.get("type") not in {"text", "thinking", *TOOL_USE_TYPES}:
            block.data.update((key, value) for key, value in self._encodable(delta).items() if key != "type")
        return None

    def _on_block_stop(self, event: Event) -> StreamChunk | None:
        index = event["index"]
        if index in self._done:
            return None  # some gateways send it twice
        block = self._done[index] = self._finish(self._open.pop(index))
        return BlockStop(index, block)

    def _on_message_delta(self, event: Event) -> None:
        if self._message is None:
            raise _Misfit("no message_start before it")
        delta = event.get("delta") or {}
        _text(delta.get("stop_reason") or "")
        # A null carries no information: `container` may have come in `message_start` already.
        came = {**delta, **{key: value for key, value in event.items() if key not in ("type", "delta", "usage")}}
        self._message.update(
            (key, value) for key, value in _usable_fields(came).items() if value is not None or key not in self._message
        )
        # Rule 3. The numbers are cumulative: adding them to those of `message_start` would count the
        # prompt twice.
        if isinstance(usage := event.get("usage"), Mapping):
            self._usage.update((key, value) for key, value in usage.items() if value is not None)

    def _on_message_stop(self, event: Event) -> StreamChunk:
        if self._message is None:
            raise _Misfit("no message_start before it")
        self._done.update((index, self._finish(block)) for index, block in self._open.items())  # rule 4
        self._open.clear()
        self._whole = True
        return self.snapshot()

    def _on_error(self, event: Event) -> None:
        error = event.get("error") or {}
        reason = from_api(error.get("type"), str(error.get("message") or ""))
        raise self._fail(f"the answer broke off: {reason.message}", reason.hint, reason.type)

    def _on_notice(self, event: Event) -> StreamChunk:
        return Notice(event["text"], event.get("failed") or "")


#: Every event type the parser knows. ``notice`` is not an event of the API: nbchat's transports add it.
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
