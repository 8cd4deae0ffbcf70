"""Faults of fields: a value of the wrong type in each field of each event, and in each field of a body."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.faults.answers import KINDS, body_of
from tests.faults.fault import BROKE, LIVES, LOST, Fault, streamed, whole

__all__ = ["faults"]

#: The odd values, as JSON texts.
ODD = {
    "null": "null", "a number": "5", "a number below 0": "-1", "a fraction": "0.5", "text": '"x"', "no text": '""',
    "a list": "[[1]]", "an object": '{"a": 1}', "true": "true", "1e400": "1e400", "400 digits": "9" * 400,
    "half of a pair": '"\\ud800"', "control characters": '"a\\u001b[31m\\u0000\\u202e"',
    "150 levels": "[" * 150 + "]" * 150,
}  # fmt: skip
TEXTS = frozenset({"text", "no text", "half of a pair", "control characters"})
ALL = frozenset(ODD)
_MARK = "⟨value⟩"


def faults() -> Iterator[Fault]:
    """Yield the faults."""
    for event, path, lives in _EVENT_FIELDS:
        for title in ODD:
            yield _of_event(event, path, title, _seen(path, title, lives))
    for path, lives in _BODY_FIELDS:
        for title in ODD:
            yield _of_body(path, title, _seen_in_body(path, title, lives))


_TITLES_OF_TEXT = TEXTS | {"null", "1e400"}  # the SDK makes null of 1e400
_INDEX = {"": frozenset({"true"}), "text": frozenset()}  # True is 1, and the text has the block 0
#: The event, the field, and the values with which the answer lives. All others break it off. Where kinds of answers
#: differ, the values are by the kind. The text of a call is a field that nobody knows.
_EVENT_FIELDS: tuple[tuple[str, str, Mapping[str, frozenset[str]]], ...] = (
    ("message_start", "message.model", {"": ALL}),
    ("message_start", "message.id", {"": ALL}),
    ("message_start", "message.usage", {"": ALL}),
    ("message_start", "message.usage.input_tokens", {"": ALL}),
    ("message_start", "message.content", {"": ALL}),
    ("message_start", "message.stop_reason", {"": ALL}),
    ("message_start", "message.container", {"": ALL}),
    ("message_start", "message.more", {"": ALL}),
    ("message_start", "message", {"": frozenset({"an object"})}),
    ("content_block_start", "index", _INDEX),
    ("content_block_start", "content_block", {"": frozenset()}),
    ("content_block_start", "content_block.type", {"": TEXTS - {"no text"}}),
    ("content_block_start", "content_block.text", {"": _TITLES_OF_TEXT, "tool": ALL - {"150 levels"}}),
    ("content_block_start", "content_block.citations", {"": ALL - {"150 levels"}}),
    ("content_block_delta", "index", _INDEX),
    ("content_block_delta", "delta", {"": frozenset()}),
    ("content_block_delta", "delta.type", {"": TEXTS}),
    ("content_block_delta", "delta.text", {"": TEXTS, "tool": ALL}),
    ("content_block_stop", "index", _INDEX),
    ("message_delta", "delta", {"": frozenset({"null", "no text", "1e400", "an object"})}),
    ("message_delta", "delta.stop_reason", {"": TEXTS | {"null", "1e400"}}),
    ("message_delta", "delta.stop_details", {"": ALL}),
    ("message_delta", "usage", {"": ALL}),
    ("message_delta", "usage.output_tokens", {"": ALL}),
    ("message_stop", "more", {"": ALL}),
)
_BODY_FIELDS: tuple[tuple[str, Mapping[str, frozenset[str]]], ...] = (
    ("model", {"": ALL}),
    ("id", {"": ALL}),
    ("role", {"": ALL}),
    ("type", {"": ALL}),
    ("usage", {"": ALL}),
    ("usage.output_tokens", {"": ALL}),
    ("container", {"": ALL}),
    ("more", {"": ALL}),
    ("stop_reason", {"": TEXTS | {"null", "1e400"}}),
    ("content", {"": frozenset()}),
    ("content.0", {"": frozenset()}),
    ("content.0.type", {"": TEXTS - {"no text"}}),
    ("content.0.citations", {"": ALL - {"150 levels"}, "text": ALL, "tool": ALL}),
    ("content.0.text", {"": _TITLES_OF_TEXT, "thinking": ALL - {"150 levels"}}),
)


def _seen(path: str, title: str, lives: Mapping[str, frozenset[str]]) -> dict[str, str]:
    """Return the class of the error or the status for each kind of answer."""
    seen = {kind: LIVES if title in lives.get(kind, lives[""]) else BROKE for kind in KINDS}
    if (path == "delta.type" and title in TEXTS) or (path, title) == ("delta.text", "no text"):
        seen["thinking"] = "AnswerError"  # without the delta, the text after the thinking is empty
    return seen


def _seen_in_body(path: str, title: str, lives: Mapping[str, frozenset[str]]) -> dict[str, str]:
    """Return the class of the error or the status for each kind of answer."""
    seen = {kind: LIVES if title in lives.get(kind, lives[""]) else BROKE for kind in KINDS}
    if path == "content" or (path == "content.0" and title != "an object"):
        return {"": LOST}  # not a message of the API
    if path == "content.0.text" and title in ("null", "no text", "1e400"):
        seen["text"] = "AnswerError"
    return seen


def _put(value: Any, path: str) -> None:
    """Put the mark into the field of an event."""
    *way, last = path.split(".")
    for name in way:
        value = value[int(name)] if isinstance(value, list) else value[name]
    value[int(last) if isinstance(value, list) else last] = _MARK


def _of_event(event: str, path: str, title: str, seen: Mapping[str, str]) -> Fault:
    def change(events: list[dict[str, Any]]) -> list[Any]:
        # The last of the type: the text or the call.
        place = max(number for number, part in enumerate(events) if part["type"] == event)
        _put(events[place], path)
        data = json.dumps(events[place], ensure_ascii=False).replace(f'"{_MARK}"', ODD[title])
        return [*events[:place], (event, data), *events[place + 1 :]]

    kinds = KINDS if event.startswith("content") else ("text",)
    return streamed(f"{event}.{path} is {title}", seen, change, kinds=kinds)


def _of_body(path: str, title: str, seen: Mapping[str, str]) -> Fault:
    def change(message: dict[str, Any]) -> bytes:
        _put(message, path)
        return body_of(message).replace(json.dumps(_MARK).encode(), ODD[title].encode())

    kinds = KINDS if path.startswith("content") else ("text",)
    return whole(f"{path} of a body is {title}", seen, change, kinds=kinds)
