"""Read the arguments of a tool call from their JSON, strictly. What cannot be used or sent is broken arguments."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["DEEPEST_NESTING", "can_be_sent", "is_too_deep", "read_arguments", "with_usable_input"]

#: How deep a value of the API may be nested. Python's own functions end at a few hundred levels, with
#: a RecursionError that can come from anywhere: a copy, a comparison, a view.
DEEPEST_NESTING = 100


def read_arguments(text: str) -> dict[str, Any] | None:
    """Return the arguments of a call, or None if their text is not a JSON object that can be sent again.

    >>> read_arguments('{"a": 1}'), read_arguments('{"a": 1'), read_arguments('{"a": 1e400}')
    ({'a': 1}, None, None)
    """
    # The parser is strict on purpose. A lenient one completes JSON that was cut off: a call that
    # writes a file would then run with half of the file, and nothing would look wrong.
    try:
        arguments = json.loads(text, parse_constant=_reject_constant)
    except (ValueError, RecursionError):  # not JSON, or nested thousands deep
        return None
    return arguments if isinstance(arguments, dict) and can_be_sent(arguments) else None


def _reject_constant(constant: str) -> None:
    # Python's parser accepts NaN and Infinity, which JSON does not have. The API would reject them
    # when the call goes back in the history (https://www.rfc-editor.org/rfc/rfc8259#section-6).
    raise ValueError(f"{constant} is not JSON")


def is_too_deep(value: Any) -> bool:
    """Return True if a JSON value has more than DEEPEST_NESTING levels.

    >>> deep = []
    >>> for _ in range(DEEPEST_NESTING):
    ...     deep = [deep]
    >>> is_too_deep({"a": [1, 2]}), is_too_deep(deep)
    (False, True)
    """
    level = [value]
    for _ in range(DEEPEST_NESTING + 1):
        containers = [part for part in level if isinstance(part, (dict, list, tuple))]
        if not containers:
            return False
        level = [child for part in containers for child in (part.values() if isinstance(part, dict) else part)]
    return True


def can_be_sent(arguments: Mapping[str, Any]) -> bool:
    """Return True if arguments can go back in the history.

    ``1e400`` is valid JSON, and Python reads it as infinity, for which JSON has no text. Half of a
    surrogate pair has an escape in JSON, and no encoding in UTF-8. No tool runs with U+FFFD instead: an
    argument that was changed can be the name of a file.
    """
    try:
        json.dumps(arguments, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return False
    return not is_too_deep(arguments)


def with_usable_input(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the start of a block with a text in the place of arguments that cannot be sent.

    No tool runs with a text. U+FFFD would replace half of a surrogate pair otherwise.

    >>> with_usable_input({"content_block": {"input": {"path": "\\ud800"}}})
    {'content_block': {'input': '…'}}
    """
    block = event.get("content_block")
    if not isinstance(block, Mapping) or not isinstance(arguments := block.get("input"), Mapping):
        return event
    return event if can_be_sent(arguments) else {**event, "content_block": {**block, "input": "…"}}
