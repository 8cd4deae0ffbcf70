"""The rules of the Messages API for a history, written apart from the code of nbchat that keeps them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

__all__ = ["problems_of"]

#: The blocks that an answer may have.
_ANSWERS = ("text", "thinking", "redacted_thinking", "tool_use", "server_tool_use", "web_search_tool_result")


def problems_of(messages: list[dict[str, Any]]) -> list[str]:
    """Return what the API would not accept in the messages of a request.

    >>> problems_of([{"role": "user", "content": "Hi"}, {"role": "user", "content": " "}])
    ['1: two messages of the user in a row', '1: blank text']
    """
    return [*_problems(messages)]


def _problems(messages: list[dict[str, Any]]) -> Iterator[str]:
    try:
        json.dumps(messages, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        yield f"not JSON in UTF-8: {error}"
    if messages[0]["role"] != "user" or messages[-1]["role"] != "user":
        yield "the first and the last message must be the user's"
    calls: list[str] = []
    for number, message in enumerate(messages):
        if number and messages[number - 1]["role"] == message["role"]:
            yield f"{number}: two messages of the {message['role']} in a row"
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if not blocks:
            yield f"{number}: no content"
        results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        if sorted(results) != sorted(calls):
            yield f"{number}: the calls {calls} and the results {results}"
        calls = [block["id"] for block in blocks if block["type"] == "tool_use"]
        if len(set(calls)) != len(calls):
            yield f"{number}: two calls have one id"
        # The endpoint that sent thinking without a signature gets it back while the turn runs.
        is_running = number >= max(place for place, part in enumerate(messages) if _is_prompt(part))
        if any(block["type"] == "thinking" and not block.get("signature") for block in blocks) and not is_running:
            yield f"{number}: thinking without a signature"
        for block in blocks:
            yield from (f"{number}: {problem}" for problem in _of_block(block, message["role"]))


def _is_prompt(message: dict[str, Any]) -> bool:
    content = message["content"]
    return message["role"] == "user" and (isinstance(content, str) or content[0]["type"] != "tool_result")


def _of_block(block: dict[str, Any], role: str) -> Iterator[str]:
    kind = block["type"]
    if kind == "text" and (not isinstance(block["text"], str) or not block["text"].strip()):
        yield "blank text"
    if kind == "tool_use":
        if not all(isinstance(block.get(name), str) and block[name] for name in ("id", "name")):
            yield f"a call without an id or a name: {block}"
        if not isinstance(block.get("input"), dict):
            yield "arguments that are not an object"
    if role == "user" and kind not in ("text", "tool_result"):
        yield f"a block {kind} of the user"
    if not isinstance(kind, str) or not kind:
        yield f"a block of the type {kind!r}"
