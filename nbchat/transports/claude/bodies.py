"""Read the body of an answer that came in one piece. A value that Python cannot read spoils only itself."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from nbchat.core.arguments import DEEPEST_NESTING
from nbchat.core.messages import TOOL_USE_TYPES
from nbchat.transports.error_mapping import NotTheApi

__all__ = ["message_in"]

#: A message has a few levels around the arguments of a call.
_DEEPEST_BODY = DEEPEST_NESTING + 10
#: A longer number cannot be converted: https://docs.python.org/3/library/stdtypes.html#int-max-str-digits
_LONGEST_INTEGER_DIGITS = 4_000
#: A string, which may contain brackets, or a bracket.
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


def message_in(body: bytes, content_type: str) -> Any:
    """Return the JSON of a body.

    A value that is nested too deeply, and a number with thousands of digits, become NaN. A call with NaN in
    its arguments has broken arguments and does not run. Anywhere else, NaN and infinity become None.

    Args:
        body: The body.
        content_type: Its content type, for the error.

    Raises:
        NotTheApi: The body is not JSON.

    >>> message_in(b'{"usage": 1e400, "content": [1]}', "application/json")
    {'usage': None, 'content': [1]}
    """
    try:
        return _with_finite_numbers(_parsed(body))
    except (ValueError, RecursionError):
        pass
    raise NotTheApi(f"{content_type or 'a body without a content type'}, and not whole JSON")


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise
    except (ValueError, RecursionError):  # thousands of digits, or thousands of levels
        text = body.decode(json.detect_encoding(body), "surrogatepass")
        return json.loads(_without_depths(text), parse_int=_integer)


def _integer(digits: str) -> float:
    return int(digits) if len(digits) <= _LONGEST_INTEGER_DIGITS else math.nan


def _without_depths(text: str) -> str:
    """Return the text of a JSON value with ``NaN`` in the place of each list or object that is too deep in it."""
    kept, start, depth = [], 0, 0
    for match in _STRING_OR_BRACKET.finditer(text):
        if match[0] in ("[", "{"):
            depth += 1
            if depth == _DEEPEST_BODY + 1:
                kept.append(text[start : match.start()] + "NaN")
        elif match[0] in ("]", "}"):
            if depth == _DEEPEST_BODY + 1:
                start = match.end()
            depth -= 1
    # An open end of the text is an open end of the JSON, too.
    return "".join(kept) + (text[start:] if depth <= _DEEPEST_BODY else "")


def _with_finite_numbers(value: Any) -> Any:
    """Return a JSON value with None for NaN and infinity, except in the arguments of calls."""
    try:
        json.dumps(value, allow_nan=False)
        return value
    except RecursionError:
        return value  # the parser says which field is nested too deeply
    except ValueError:
        return _replaced(value)


def _replaced(value: Any) -> Any:
    if isinstance(value, Mapping):
        is_call = value.get("type") in TOOL_USE_TYPES if isinstance(value.get("type"), str) else False
        return {key: part if is_call and key == "input" else _replaced(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_replaced(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
