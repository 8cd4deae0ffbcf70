"""One exchange as a line of a cassette: what may be stored of it, and how it is written.

::

    {"digest": "…", "endpoint": "anthropic", "request": {…}, "events": […]}

``digest`` is the request's own. Where :func:`portable` changes the request, the digest of that
follows as ``also``: by it the recording is found on another machine, and by a conversation that
goes on from a replayed answer. ``request`` is the body for people to read: :func:`public` took
out of it what is private or bulky. ``events`` holds, in order, ``[ms, event]`` for one event,
``ms`` milliseconds after the one before it; consecutive text, thinking or tool-input deltas of a
block are one item ``["text_delta", index, "the whole text", [ms, characters, ms, characters, …]]``,
so that an answer reads as a text and still replays delta by delta.
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

from nbchat.core.errors import redact

__all__ = ["Exchange", "portable", "public"]

#: The deltas that come in hundreds, and the one field of each.
_RUNS = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}
_SURROGATE = re.compile(r"[\ud800-\udfff]")


# What may be stored --------------------------------------------------------------------------

# Somebody's home, on any system: the name in it is private. For people to read only.
_HOMES = re.compile(r"(?:[A-Za-z]:)?[\\/]{1,4}(?:home|homes|Users)[\\/]{1,4}[\w.@-]*\w")
_LONG, _KEPT = 10_000, 4_000  # characters


def portable(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a request without what says who sends it.

    Keys are taken out, the home folder of whoever runs this is ``⟨home⟩``, and there are no
    ``metadata``, ``extra_headers`` and tokens of MCP servers. Applied twice it changes nothing more.
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
    return {key: _mapped(value, lambda text: _cleaned(text, homes)) for key, value in kept.items()}


def public(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body as it stands in the file: :func:`portable`, short, and in a fixed order of keys.

    The data of images and documents, and the middle of very long texts, are given by their hash.
    """
    here = _here()

    def shown(text: str) -> str:
        for pattern, instead in here:
            text = pattern.sub(instead, text)
        if len(text) <= _LONG:
            return text
        return f"{text[:_KEPT]} … {len(text) - 2 * _KEPT} characters, {_hash(text)} … {text[-_KEPT:]}"

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

    return ordered(portable(body))


def _here() -> list[tuple[re.Pattern[str], str]]:
    """What else names a person in a text: any home, the working folder, the user's name in a path."""
    found = [(_HOMES, "~")]
    folder = os.getcwd()
    if len(Path(folder).parts) > 2:
        found.append((re.compile(re.escape(folder) + r"(?![\w-])"), "."))
    with contextlib.suppress(Exception):  # a container may run as a user without a name
        name = getpass.getuser()
        if len(name) > 2 and name != "root":
            found.append((re.compile(rf"(?<=[\\/=:'\"@_-]){re.escape(name)}(?!\w)"), "…"))
    return found


def _homes() -> list[tuple[str, str]]:
    """The home folder of whoever runs this, as texts have it, with the mark for each."""
    home = Path.home()
    if len(home.parts) < 3:
        return []  # /root, /content, /: of everybody, and common words in answers
    written = {
        str(home): "⟨home⟩",
        json.dumps(str(home), ensure_ascii=False)[1:-1]: "⟨home, escaped⟩",
        home.as_posix(): "⟨home, with slashes⟩",
    }
    if len(written) == 1:
        return [(str(home), "⟨home⟩")]
    return sorted(written.items(), key=lambda pair: -len(pair[0]))


def _cleaned(text: str, homes: list[tuple[str, str]]) -> str:
    """The text without keys, and with marks for the home."""
    text = redact(text)
    for home, mark in homes:
        if home in text:
            text = re.sub(re.escape(home) + r"(?![\w-])", mark, text)
    return text


def _restored(text: str, homes: list[tuple[str, str]]) -> str:
    """The text with the home of whoever replays it in the place of the marks."""
    for home, mark in homes:
        text = text.replace(mark, home)
    return text


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """A JSON value with ``change`` made to its texts, but for base64 data, which holds no words."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        encoded = value.get("type") == "base64"
        return {key: part if encoded and key == "data" else _mapped(part, change) for key, part in value.items()}
    return [_mapped(part, change) for part in value] if isinstance(value, list | tuple) else value


def _hash(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


# One exchange, one line ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request, as :func:`public` has it, and the whole answer: (milliseconds, event) in order."""

    digest: str
    endpoint: str
    request: Mapping[str, Any]
    events: tuple[tuple[int, Mapping[str, Any]], ...]
    also: str = ""

    def to_line(self) -> bytes:
        """The line of the file, without its end. Keys and the home are taken out of the answer here."""
        fields = {
            "digest": self.digest,
            **({"also": self.also} if self.also else {}),
            "endpoint": self.endpoint,
            "request": self.request,
            "events": list(_packed(self.events)),
        }
        text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
        # Half a surrogate pair has no UTF-8, but it has a JSON escape.
        return _SURROGATE.sub(lambda half: f"\\u{ord(half[0]):04x}", text).encode()

    @classmethod
    def from_line(cls, line: bytes) -> Exchange:
        """The exchange of a line. Raises ValueError, KeyError, IndexError or TypeError where it is damaged."""
        fields = json.loads(line)
        items = fields["events"]
        homes = _homes()
        if "⟨home".encode() in line:
            items = _mapped(items, lambda text: _restored(text, homes))
        events = tuple(_unpacked(items))
        return cls(fields["digest"], fields["endpoint"], fields["request"], events, fields.get("also", ""))


def _run_of(event: Mapping[str, Any]) -> tuple[str, int, str] | None:
    """(kind, index, text) of a delta that can join a run: exactly its three fields, in their order."""
    if list(event) != ["type", "index", "delta"] or event["type"] != "content_block_delta":
        return None
    delta = event["delta"]
    if not isinstance(delta, Mapping) or list(delta) != ["type", _RUNS.get(delta.get("type"))]:
        return None
    kind = delta["type"]
    text = delta[_RUNS[kind]]
    # Two halves of a pair would become one character of the joined text.
    return None if not isinstance(text, str) or _SURROGATE.search(text) else (kind, event["index"], text)


def _packed(events: Iterable[tuple[int, Mapping[str, Any]]]) -> Iterator[list[Any]]:
    homes = _homes()
    run: tuple[str, int] | None = None
    pieces: list[str] = []
    cuts: list[int] = []
    for ms, event in (*events, (0, {})):
        part = _run_of(event)
        if run and (part is None or part[:2] != run):
            # A key is found only in the joined text: the pieces are tokens.
            yield [*run, _cleaned("".join(pieces), homes), cuts]
            run, pieces, cuts = None, [], []
        if part is not None:
            run = part[:2]
            pieces.append(part[2])
            cuts += [ms, len(part[2])]
        elif event:
            yield [ms, _mapped(event, lambda text: _cleaned(text, homes))]


def _unpacked(items: Iterable[list[Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
    for item in items:
        if isinstance(item[0], int):
            ms, event = item
            if not isinstance(event, dict):
                raise TypeError(event)
            yield ms, event
            continue
        kind, index, text, cuts = item
        field, at = _RUNS[kind], 0
        ends = [*cuts[1::2]]
        ends[-1] = len(text)  # where something was taken out, the last piece has the rest
        for ms, length in zip(cuts[::2], ends, strict=True):
            delta = {"type": kind, field: text[at : at + length]}
            yield ms, {"type": "content_block_delta", "index": index, "delta": delta}
            at += length
