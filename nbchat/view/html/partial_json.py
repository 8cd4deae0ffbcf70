"""The value of a JSON text that has not arrived in full."""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["value_so_far"]


def value_so_far(text: str) -> Any:
    """Return the value of a JSON text as far as the text has arrived, or None before a value begins.

    An unfinished string or number counts as far as it has arrived. An unfinished ``true`` is left
    out. Prose or a code fence around the value is ignored. A root that was wrapped for the API, as
    ``{"items": […]}``, is unwrapped.

    >>> value_so_far('{"items": [{"name": "Ada", "age": 3')
    [{'name': 'Ada', 'age': 3}]
    """
    value = _parsed(text)
    if isinstance(value, dict) and len(value) == 1 and isinstance(value.get("items"), list):
        return value["items"]
    return value


def _parsed(text: str) -> Any:
    from pydantic_core import from_json

    start = re.search(r"[{\[]", text)
    if start is None:
        return None
    body = text[start.start() :]
    try:
        return from_json(body, allow_partial="trailing-strings")
    except ValueError:
        pass  # from_json refuses text after the value, such as the end of a code fence
    try:
        return json.JSONDecoder().raw_decode(body)[0]
    except (ValueError, RecursionError):  # not JSON, or nested thousands of levels deep
        return None
