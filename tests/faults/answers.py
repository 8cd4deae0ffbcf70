"""The answers that the faults spoil: a text, thinking, and a call of a tool, each as events and as a message."""

from __future__ import annotations

import copy
import json
from typing import Any

from tests.support.server import start, text_delta, text_events

__all__ = ["KINDS", "MODEL", "body_of", "events_of", "follow_up", "frame", "message_of", "stream_of", "until"]

Event = dict[str, Any]
#: The kinds of answers.
KINDS = ("text", "thinking", "tool")
#: The model that answers. The ring has a price of its own for it.
MODEL = "test-model"


def _open(index: int, **block: Any) -> Event:
    return {"type": "content_block_start", "index": index, "content_block": block}


def _delta(index: int, kind: str, **fields: Any) -> Event:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}


def _stop(index: int) -> Event:
    return {"type": "content_block_stop", "index": index}


def _end(stop_reason: str) -> list[Event]:
    delta = {"stop_reason": stop_reason, "stop_sequence": None}
    return [{"type": "message_delta", "delta": delta, "usage": {"output_tokens": 7}}, {"type": "message_stop"}]


_EVENTS: dict[str, list[Event]] = {
    "text": [*list(text_events(["Hel", "lo ", "world."]))[:-2], *_end("end_turn")],
    "thinking": [
        start(),
        _open(0, type="thinking", thinking="", signature=""),
        _delta(0, "thinking_delta", thinking="Let me "),
        _delta(0, "thinking_delta", thinking="see."),
        _delta(0, "signature_delta", signature="c2lnbmF0dXJl"),
        _stop(0),
        _open(1, type="text", text=""),
        text_delta("Seen.", 1),
        _stop(1),
        *_end("end_turn"),
    ],
    "tool": [
        start(),
        _open(0, type="text", text=""),
        text_delta("I add.", 0),
        _stop(0),
        _open(1, type="tool_use", id="toolu_1", name="add", input={}),
        _delta(1, "input_json_delta", partial_json='{"a": 2'),
        _delta(1, "input_json_delta", partial_json=', "b": 3}'),
        _stop(1),
        *_end("tool_use"),
    ],
}


def events_of(kind: str) -> list[Event]:
    """Return the events of an answer, which the caller may change."""
    return copy.deepcopy(_EVENTS[kind])


def message_of(kind: str) -> dict[str, Any]:
    """Return an answer as a message that is not streamed, which the caller may change."""
    content = {
        "text": [{"type": "text", "text": "Hello world."}],
        "thinking": [
            {"type": "thinking", "thinking": "Let me see.", "signature": "c2lnbmF0dXJl"},
            {"type": "text", "text": "Seen."},
        ],
        "tool": [
            {"type": "text", "text": "I add."},
            {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 2, "b": 3}},
        ],
    }
    message = copy.deepcopy(_EVENTS["text"][0]["message"])
    message |= {"content": content[kind], "stop_reason": "tool_use" if kind == "tool" else "end_turn"}
    message["usage"] = {"input_tokens": 10, "output_tokens": 7}
    return dict(message)


def follow_up(text: str) -> list[Event]:
    """Return the events of a short text that ends a turn."""
    return list(text_events([text]))


def frame(event: Event | tuple[str, str]) -> bytes:
    """Return one server-sent event: of a dict, or of a name and the text of its data."""
    name, data = event if isinstance(event, tuple) else (event["type"], json.dumps(event))
    return f"event: {name}\ndata: {data}\n\n".encode("utf-8", "surrogatepass")


def stream_of(events: list[Any]) -> bytes:
    """Return the body of a stream. A part that is bytes already goes into it as it is."""
    return b"".join(part if isinstance(part, bytes) else frame(part) for part in events)


def body_of(message: Any) -> bytes:
    """Return the body of an answer that is not streamed."""
    return message if isinstance(message, bytes) else json.dumps(message).encode()


def until(events: list[Event], stage: str) -> int:
    """Return the number of events before a stage of the answer.

    Args:
        events: The events of an answer.
        stage: One of ``start`` (before ``message_start``), ``block``, ``delta``, ``middle`` (after the first delta
            of the last block), ``last delta``, ``last block``, ``delta of the message`` and ``stop`` (the last two
            are before ``message_delta`` and before ``message_stop``).
    """
    types = [event["type"] for event in events]
    last_start = len(types) - 1 - types[::-1].index("content_block_start")
    return {
        "start": 0,
        "block": 1,
        "delta": 2,
        "middle": last_start + 2,
        "last delta": types.index("message_delta") - 2,
        "last block": types.index("message_delta") - 1,
        "delta of the message": types.index("message_delta"),
        "stop": len(types) - 1,
    }[stage]
