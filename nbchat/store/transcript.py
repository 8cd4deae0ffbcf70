"""A transcript: the chunks of an answer as JSON lines, and the way back to a Response. No I/O.

The first line is the header, with the prompt. The other lines are events of the Messages API, so that
the parser that read the answer can read it again. Only chunks without such an event have a type of their
own. Deltas of one block are joined. Each line has ``after``, the seconds since the request.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
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
    ToolDecision,
    ToolInput,
    ToolResult,
)
from nbchat.core.errors import InputError, StreamError, redact
from nbchat.core.fields import Fields
from nbchat.core.messages import Message, OpaqueBlock, blocks_of, fits_json
from nbchat.core.parser import ChatStreamParser
from nbchat.core.response import Accumulator, Response
from nbchat.core.usage import Usage

__all__ = ["Transcript", "header_line", "read", "respond"]

_FORMAT = "nbchat.journal/1"
_HINT = "The file is damaged, or this version of nbchat did not write it."
#: The start of a key at the end of a text. It is not written before the next text, with which the whole
#: key can be recognised and removed.
_KEY_START = re.compile(r"(?<![A-Za-z0-9])(?:s|sk|sk-[A-Za-z0-9_\-]{0,200})\Z")
_DELTA_FIELDS = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}


def header_line(prompt: Message, **fields: Any) -> str:
    """Return the first line: the prompt and other ``fields`` of the request, without keys."""
    return redact(json.dumps({"format": _FORMAT, **fields, "prompt": prompt.to_dict()}, ensure_ascii=False))


class Transcript:
    """A writer of lines. No line has a key or half of a key."""

    def __init__(self) -> None:
        self._run: _Run | None = None

    def lines(self, arrived: Iterable[tuple[float, StreamChunk]]) -> list[str]:
        """Return the lines for chunks, each given with its seconds since the request."""
        lines: list[str] = []
        for after, chunk in arrived:
            piece = _run_of(chunk, after)
            if piece is not None and self._run is not None and self._run.absorb(piece):
                continue
            if self._run is not None:
                lines.append(self._run.line())
            self._run = piece
            if piece is None and not isinstance(chunk, Notice):
                lines.append(_line(chunk, after))
        if self._run is not None:
            run, self._run = self._run, self._run.cut_key_start()
            if run.text:
                lines.append(run.line())
        return [redact(line) for line in lines]


@dataclass(slots=True)
class _Run:
    """Deltas of one kind and one block, which become one line."""

    kind: str
    index: int
    text: str
    after: float

    def absorb(self, other: _Run) -> bool:
        """Append the other run if it is of the same kind and block. Return True if it is."""
        matches = (self.kind, self.index) == (other.kind, other.index)
        if matches:
            self.text, self.after = self.text + other.text, other.after
        return matches

    def cut_key_start(self) -> _Run | None:
        """Remove the start of a key from the end of the text, and return it as a run of its own."""
        key_start = _KEY_START.search(self.text)
        if key_start is None:
            return None
        self.text = self.text[: key_start.start()]
        return _Run(self.kind, self.index, key_start.group(), self.after)

    def line(self) -> str:
        return _json(_delta(self.index, self.kind, **{_DELTA_FIELDS[self.kind]: self.text}), self.after)


def _run_of(chunk: StreamChunk, after: float) -> _Run | None:
    match chunk:
        case OutputText(index, text):
            return _Run("text_delta", index, text, after)
        case Thinking(index, text, ""):
            return _Run("thinking_delta", index, text, after)
        case ToolInput(index, text):
            return _Run("input_json_delta", index, text, after)
    return None


def _delta(index: int, kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}


def _json(event: Mapping[str, Any], after: float) -> str:
    return json.dumps({**event, "after": round(after, 3)}, ensure_ascii=False)


def _line(chunk: StreamChunk, after: float) -> str:
    event: dict[str, Any]
    match chunk:
        case BlockStart(index, block):
            event = {"type": "content_block_start", "index": index, "content_block": block.to_dict()}
        case Thinking(index, _, signature):
            event = _delta(index, "signature_delta", signature=signature)
        case Citation(index, citation):
            event = _delta(index, "citations_delta", citation=dict(citation))
        case BlockStop(index, block):
            event = {"type": "content_block_stop", "index": index}
            if isinstance(block, OpaqueBlock):  # no chunk has the deltas of an unknown block
                event["block"] = block.to_dict()
        case ResponseChunk(message, _, usage):
            event = {"type": "response", "message": dict(message), "usage": usage.to_dict()}
        case ToolResult(tool_use_id, content, is_error):
            blocks = [block.to_dict() for block in content]
            event = {"type": "tool_result", "tool_use_id": tool_use_id, "content": blocks, "is_error": is_error}
        case ToolDecision():
            event = {"type": "tool_decision", **chunk.to_dict()}
        case _:
            event = {"type": chunk.type}
    return _json(event, after)


def read(data: bytes) -> tuple[Fields, list[Fields]]:
    """Return the header and the events of a transcript, without a last line that was cut off.

    Raises:
        InputError: the data is not a transcript of this format.
    """
    first, *others = data.split(b"\n")
    try:
        header = Fields(json.loads(first), "header")
    except (ValueError, RecursionError):
        raise InputError("the first line is not JSON", _HINT) from None
    if "format" not in header:
        raise InputError("the first line has no format", _HINT)
    header.check_format(_FORMAT)
    events = []
    for number, line in enumerate(others, 2):
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            break
        events.append(Fields(event, f"line {number}"))
    return header, events


def respond(header: Fields, events: Iterable[Fields]) -> Response:
    """Fold the events, as the session would have done, into a Response of status ``incomplete``.

    The output tokens of a round that did not end are estimated. The tokens of its prompt are not known and
    count as 0.

    Raises:
        InputError: a field is missing or has another type.
    """
    now = 0.0
    known = {name: header.name(name) for name in ("model", "endpoint", "digest")}
    turn = Accumulator(Message.of_fields(header.fields("prompt")), lambda: now)
    parser, has_results = _new_parser(known["model"]), False
    for event in events:
        now = max(now, event.amount("after"))  # the clock of a damaged file may go back
        kind = event.text("type")
        if kind == "tool_decision":
            turn.feed(ToolDecision.of_fields(event))
            continue
        if kind == "tool_result":
            blocks = blocks_of(event, "content")
            if not all(map(fits_json, blocks)):
                raise event.misfit("content", "a list of blocks that JSON can hold")
            turn.feed(ToolResult(event.text("tool_use_id"), blocks, event.flag("is_error")))
            has_results = True
            continue
        if has_results:
            turn.answer_tools()
            has_results = False
        if kind == "response":
            usage = Usage.of_fields(event.fields("usage"))
            turn.feed(ResponseChunk(_message_of(event.fields("message")), parser.snapshot().blocks, usage))
            parser = _new_parser(known["model"])
            continue
        if "block" in event:  # the parser adds the fields of an unknown delta to its block
            fields = {key: value for key, value in event.mapping("block").items() if key != "type"}
            _feed(parser, event, _delta(event.count("index"), "whole_delta", **fields))
        if (chunk := _feed(parser, event, event.plain())) is not None:
            turn.feed(chunk)
    if has_results:
        turn.answer_tools()
    if (rest := parser.snapshot()).blocks:
        turn.cut(rest)
    return turn.respond("incomplete", **known)


def _message_of(message: Fields) -> dict[str, Any]:
    """Return the message of an answer, with the fields that a Response takes from it checked."""
    return message.plain() | {
        **{name: message.optional_text(name) for name in ("model", "id", "stop_reason", "_request_id")},
        "stop_details": message.optional_mapping("stop_details"),
    }


def _feed(parser: ChatStreamParser, event: Fields, plain: Mapping[str, Any]) -> StreamChunk | None:
    """Feed one event to the parser, which reads what an endpoint sends and trusts its types."""
    try:
        return parser.feed(plain)
    except (StreamError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise event.misfit("type", f"an event that can follow here ({type(error).__name__})") from error


def _new_parser(model: str) -> ChatStreamParser:
    parser = ChatStreamParser()
    parser.feed({"type": "message_start", "message": {"model": model, "role": "assistant"}})
    return parser
