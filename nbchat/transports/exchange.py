"""One exchange as a line of a cassette: how it is written, and what is removed from it first.

::

    {"digest": "…", "endpoint": "anthropic", "request": {…}, "events": […]}

``digest`` is the digest of the request. If :func:`portable` changes the request, ``also`` follows: the
digest of the portable request. Another machine finds the recording by ``also``, and so does a
conversation that continues after a replayed answer.

``request`` is the body for people to read, without private and bulky parts (:func:`public`). A replay
never reads it.

``events`` are in order. ``[ms, event]`` is one event, ``ms`` milliseconds after the event before it.
Consecutive deltas of one block (text, thinking or tool input) are one item:
``["text_delta", index, "the whole text", [ms, characters, ms, characters, …]]``. An answer can thus be
read as one text in a diff, and still replays delta by delta.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbchat.core.errors import InputError, redact
from nbchat.core.fields import Fields

__all__ = ["Exchange", "portable", "public"]

#: The types of deltas that are joined, because an answer has hundreds of them, and the field of each.
_RUN_FIELDS = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}
#: The longest pause in a recording: an hour. A damaged file must not let a replay sleep for years.
_MAX_PAUSE_MS = 3_600_000
_SURROGATE = re.compile(r"[\ud800-\udfff]")


# Removing what is private ----------------------------------------------------------------------

#: Any person's home folder, on any system: it contains a name. The slashes may be escaped in JSON.
_HOMES = re.compile(r"(?:[A-Za-z]:)?[\\/]{1,4}(?:home|homes|Users)[\\/]{1,4}[\w.@-]*\w")
#: Longer texts are shortened in ``request``, to this many characters at each end.
_LONG_CHARACTERS, _END_CHARACTERS = 10_000, 4_000


def portable(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of a request without anything that identifies its sender.

    Keys are removed, the user's home folder becomes ``⟨home⟩``, and ``metadata``, ``extra_headers`` and
    the tokens of MCP servers are left out. A second application changes nothing.
    """
    kept = {key: value for key, value in body.items() if key not in ("metadata", "extra_headers")}
    if isinstance(kept.get("mcp_servers"), list | tuple):
        kept["mcp_servers"] = [
            {key: value for key, value in server.items() if key != "authorization_token"}
            if isinstance(server, Mapping)
            else server
            for server in kept["mcp_servers"]
        ]
    homes = _homes()
    return {key: _map_texts(value, lambda text: _without_secrets(text, homes)) for key, value in kept.items()}


def public(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body as the file shows it: :func:`portable`, shortened, and with its keys in a fixed order.

    A hash replaces the data of images and documents, and the middle of very long texts.
    """
    replacements = _personal_patterns()

    def shown(text: str) -> str:
        for pattern, replacement in replacements:
            text = pattern.sub(replacement, text)
        if len(text) <= _LONG_CHARACTERS:
            return text
        start, end = text[:_END_CHARACTERS], text[-_END_CHARACTERS:]
        return f"{start} … {len(text) - 2 * _END_CHARACTERS} characters, {_hash(text)} … {end}"

    # The keys that tell most come first, so that a diff of the file can be read from left to right.
    first = ("type", "role", "name", "model", "max_tokens", "system", "tools", "messages")
    places = {key: place for place, key in enumerate(first)}

    def ordered(value: Any) -> Any:
        if isinstance(value, Mapping):
            if value.get("type") == "base64" and isinstance(value.get("data"), str):
                value = {**value, "data": f"{_hash(value['data'])} ({len(value['data'])} characters of base64)"}
            keys = sorted(value, key=lambda key: (places.get(key, len(first)), str(key)))
            return {str(key): ordered(value[key]) for key in keys}
        if isinstance(value, list | tuple):
            return [ordered(part) for part in value]
        return shown(value) if isinstance(value, str) else value

    result: dict[str, Any] = ordered(portable(body))
    return result


def _personal_patterns() -> list[tuple[re.Pattern[str], str]]:
    """Return what else names a person (any home, the working folder, the user's name), with replacements."""
    patterns = [(_HOMES, "~")]
    with contextlib.suppress(OSError):  # the working folder may have been deleted
        folder = os.getcwd()
        if len(Path(folder).parts) > 2:
            patterns.append((re.compile(re.escape(folder) + r"(?![\w-])"), "."))
    with contextlib.suppress(Exception):  # a container may run as a user without a name
        name = getpass.getuser()
        # A name can also be an ordinary word, so only a name that is part of a path or an address counts.
        if len(name) > 2 and name != "root":
            patterns.append((re.compile(rf"(?<=[\\/=:'\"@_-]){re.escape(name)}(?!\w)"), "…"))
    return patterns


def _homes() -> list[tuple[str, str]]:
    """Return the user's home folder in each spelling that texts have, with the mark for each."""
    try:
        home = Path.home()
    except RuntimeError:  # some containers run as a user without a home folder
        return []
    if len(home.parts) < 3:
        return []  # /root, /content and / name nobody, and are common words in answers
    marks = {
        str(home): "⟨home⟩",
        json.dumps(str(home), ensure_ascii=False)[1:-1]: "⟨home, escaped⟩",
        home.as_posix(): "⟨home, with slashes⟩",
    }
    if len(marks) == 1:  # on POSIX all three spellings are the same: the dict kept the last mark
        return [(str(home), "⟨home⟩")]
    return sorted(marks.items(), key=lambda pair: -len(pair[0]))


def _without_secrets(text: str, homes: list[tuple[str, str]]) -> str:
    """Return the text without keys, and with marks instead of the home folder."""
    text = redact(text)
    for home, mark in homes:
        if home in text:
            text = re.sub(re.escape(home) + r"(?![\w-])", mark, text)
    return text


def _restored(text: str, homes: list[tuple[str, str]]) -> str:
    """Return the text with the home folder of the user who replays it instead of the marks."""
    for home, mark in homes:
        text = text.replace(mark, home)
    return text


def _map_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Return a JSON value with ``change`` applied to all its texts except base64 data."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        encoded = value.get("type") == "base64"
        return {key: part if encoded and key == "data" else _map_texts(part, change) for key, part in value.items()}
    return [_map_texts(part, change) for part in value] if isinstance(value, list | tuple) else value


def _hash(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


# The line ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request in its public form, and its whole answer.

    ``events`` are pairs of an event and, before it, the milliseconds since the event before.
    """

    digest: str
    endpoint: str
    request: Mapping[str, Any]
    events: tuple[tuple[int, Mapping[str, Any]], ...]
    also: str = ""

    def to_line(self) -> bytes:
        """Return the line of the file, without its line end. Keys and the home folder are removed from the answer."""
        fields = {
            "digest": self.digest,
            **({"also": self.also} if self.also else {}),
            "endpoint": self.endpoint,
            "request": self.request,
            "events": list(_packed(self.events)),
        }
        text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
        # Half of a surrogate pair has no encoding in UTF-8, but JSON has an escape for it.
        return _SURROGATE.sub(lambda half: f"\\u{ord(half[0]):04x}", text).encode()

    @classmethod
    def from_line(cls, line: bytes) -> Exchange:
        """Return the exchange of a line.

        Raises:
            InputError: the line is not JSON, or a field is missing or has another type.
        """
        try:
            fields = Fields(json.loads(line))
        except (ValueError, RecursionError):
            raise InputError("it is not JSON") from None
        items = fields.list("events")
        if "⟨home".encode() in line:
            homes = _homes()
            items = tuple(_map_texts(_bounded(items), lambda text: _restored(text, homes)))
        events = tuple(event for number, item in enumerate(items) for event in _unpacked(item, f"events[{number}]"))
        also = fields.text("also", "")
        return cls(fields.text("digest"), fields.name("endpoint"), fields.mapping("request"), events, also)


def _run_of(event: Mapping[str, Any]) -> tuple[str, int, str] | None:
    """Return (type, index, text) of a delta that can be joined, else None.

    A delta with other fields, or with its fields in another order, would not come back as it was.
    """
    if list(event) != ["type", "index", "delta"] or event["type"] != "content_block_delta":
        return None
    delta = event["delta"]
    if not isinstance(delta, Mapping) or list(delta) != ["type", _RUN_FIELDS.get(str(delta.get("type")))]:
        return None
    kind = delta["type"]
    text = delta[_RUN_FIELDS[kind]]
    # Two halves of a surrogate pair would become one character of the joined text.
    return None if not isinstance(text, str) or _SURROGATE.search(text) else (kind, event["index"], text)


def _packed(events: Iterable[tuple[int, Mapping[str, Any]]]) -> Iterator[list[Any]]:
    """Yield the items of ``events`` in the file, with consecutive deltas joined."""
    homes = _homes()
    run: tuple[str, int] | None = None
    pieces: list[str] = []
    cuts: list[int] = []
    for ms, event in (*events, (0, {})):  # the empty event ends the last run
        part = _run_of(event)
        if run and (part is None or part[:2] != run):
            # A key is recognised only in the joined text, because each piece is only a token of it.
            yield [*run, _without_secrets("".join(pieces), homes), cuts]
            run, pieces, cuts = None, [], []
        if part is not None:
            run = part[:2]
            pieces.append(part[2])
            cuts += [ms, len(part[2])]
        elif event:
            yield [ms, _map_texts(event, lambda text: _without_secrets(text, homes))]


def _bounded(items: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the items, or raise InputError if they are nested so deeply that no function could walk them."""
    Fields({"events": items}).value("events")
    return items


def _unpacked(item: Any, path: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the events of one item, each with its milliseconds.

    Raises:
        InputError: the item has another form.
    """
    match item:
        case [int(ms), dict(event)]:
            Fields({path: event}).value(path)  # not nested too deeply; halves of surrogate pairs stay as recorded
            yield _milliseconds(ms, path), event
        case [str(kind), int(index), str(text), list(cuts)] if kind in _RUN_FIELDS and cuts and not len(cuts) % 2:
            field, start = _RUN_FIELDS[kind], 0
            lengths = [_whole(length, path) for length in cuts[1::2]]
            lengths[-1] = len(text)  # if a key or the home was replaced, the last piece has the rest of the text
            for ms, length in zip(cuts[::2], lengths, strict=True):
                delta = {"type": kind, field: text[start : start + length]}
                yield _milliseconds(ms, path), {"type": "content_block_delta", "index": index, "delta": delta}
                start += length
        case _:
            raise InputError(f"the field {path} is neither an event nor a run of deltas")


def _milliseconds(value: Any, path: str) -> int:
    return min(_whole(value, path), _MAX_PAUSE_MS)


def _whole(value: Any, path: str) -> int:
    return Fields({path: value}).count(path)
