"""The SDK's values as plain dicts.

The SDK builds its classes without validating them: an event of an unknown type becomes an instance
of some other event's class. The dicts hold what the endpoint really sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nbchat.core.errors import from_api
from nbchat.core.fields import kind_of
from nbchat.transports.error_mapping import NotTheApi

__all__ = ["as_dict", "brings_content", "whole_message", "with_request_id"]


def as_dict(value: Any) -> dict[str, Any]:
    """Return an event, or another value of the SDK, as the dict the endpoint sent.

    Raises:
        NotTheApi: The endpoint sent JSON that is not an object.
    """
    # `warnings=False`: pydantic warns about each field that does not fit the class it was put into.
    try:
        plain = value.to_dict(mode="json", warnings=False) if hasattr(value, "to_dict") else value
    except UnicodeEncodeError:  # half of a surrogate pair in the name of a field, which pydantic refuses
        plain = json.loads(json.dumps(value.to_dict(warnings=False), default=str))
    except (ValueError, RecursionError) as error:
        raise NotTheApi("a value that is nested too deeply") from error
    if not isinstance(plain, dict):
        raise NotTheApi(f"{kind_of(plain)} where an object belongs")
    if isinstance(block := plain.get("content_block"), dict) and "input" in block and plain is not value:
        # pydantic writes infinity as null in JSON, and a tool would run with the null.
        block["input"] = value.to_dict(warnings=False)["content_block"]["input"]
    return plain


#: The deltas that give a chunk, and the field of each with the content.
_CONTENT_FIELDS = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "input_json_delta": "partial_json",
    "citations_delta": "citation",
    "signature_delta": "signature",
}


def brings_content(event: Mapping[str, Any]) -> bool:
    """Return True if an event brings a part of the answer.

    Pings, unknown events and empty deltas do not: an endpoint that sends nothing else has stalled.
    Neither does the end of a block, because some gateways send it again and again.

    >>> brings_content({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hi"}})
    True
    >>> brings_content({"type": "content_block_delta", "delta": {"type": "text_delta", "text": ""}})
    False
    """
    if event.get("type") == "content_block_start":
        return True
    delta = event.get("delta")
    if event.get("type") != "content_block_delta" or not isinstance(delta, Mapping):
        return False
    kind = delta.get("type")
    return isinstance(kind, str) and bool(delta.get(_CONTENT_FIELDS.get(kind, "")))


def whole_message(answer: Any, request_id: str | None) -> dict[str, Any]:
    """Return a message that was not streamed, together with the id of its request.

    Args:
        answer: The message, as a value of the SDK or as JSON.
        request_id: The ``request-id`` header.

    Raises:
        TransportError: The answer is an error of the API, sent under HTTP status 200.
        NotTheApi: The answer is neither a message nor an error.
    """
    message = as_dict(answer)
    if isinstance(error := message.get("error"), Mapping):
        raise from_api(error.get("type"), str(error.get("message") or ""), status=200, request_id=request_id)
    content = message.get("content")
    if not isinstance(content, list) or not all(isinstance(block, Mapping) for block in content):
        raise NotTheApi("JSON without content" if content is None else "content that is not a list of blocks")
    return {**message, "_request_id": request_id}


def with_request_id(event: dict[str, Any], request_id: str | None) -> dict[str, Any]:
    """Return a ``message_start`` event whose message has the id of its request; other events as they are.

    The SDK adds ``_request_id`` to an answer that is not streamed. This does the same for a stream.
    """
    message = event.get("message")
    if event.get("type") == "message_start" and isinstance(message, Mapping):
        return {**event, "message": {**message, "_request_id": request_id}}
    return event
