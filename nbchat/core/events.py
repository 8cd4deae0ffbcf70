"""The events of an answer that did not stream. With them it goes through the same parser as any other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from nbchat.core.messages import TOOL_USE_TYPES

__all__ = ["events_of"]


def events_of(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the events that would have streamed a complete ``message``, with one delta for each text.

    With them, an answer that was not streamed goes through the same parser as any other.

    >>> [event["type"] for event in events_of({"id": "msg_1", "content": [{"type": "text", "text": "Hi"}]})][:3]
    ['message_start', 'content_block_start', 'content_block_delta']
    """
    head = {key: value for key, value in message.items() if key not in ("content", "stop_reason", "stop_sequence")}
    yield {"type": "message_start", "message": {**head, "content": [], "stop_reason": None, "stop_sequence": None}}
    for index, block in enumerate(message.get("content") or ()):
        opening, deltas = _opening_and_deltas(block)
        yield {"type": "content_block_start", "index": index, "content_block": opening}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    ending = {key: message.get(key) for key in ("stop_reason", "stop_sequence")}
    yield {"type": "message_delta", "delta": ending, "usage": message.get("usage")}
    yield {"type": "message_stop"}


def _opening_and_deltas(block: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the dict that a complete block would have begun with, and its deltas."""
    kind, opening = block.get("type"), dict(block)
    if not isinstance(kind, str):
        return opening, []
    if kind == "text" and isinstance(block.get("text"), str):
        opening |= {"text": ""}
        cited = opening.pop("citations", None)
        cited = cited if isinstance(cited, list | tuple) else ()
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
