"""TolerantDecoder: it takes out of a stream what the SDK cannot read and the answer does not need."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol

from nbchat.core.arguments import is_too_deep

__all__ = ["TolerantDecoder"]

_BOM = b"\xef\xbb\xbf"
#: The names of the events that an answer consists of.
_KNOWN = frozenset(
    {
        *("message_start", "content_block_start", "content_block_delta", "content_block_stop"),
        *("message_delta", "message_stop", "error", "ping"),
    }
)


class _Decoder(Protocol):
    """The decoder of the SDK: it makes server-sent events of the bytes of a body."""

    def iter_bytes(self, iterator: Iterator[bytes], /) -> Iterator[Any]: ...

    def aiter_bytes(self, iterator: AsyncIterator[bytes], /) -> AsyncIterator[Any]: ...


class TolerantDecoder:
    """A decoder around the SDK's own, for streams that are slightly wrong.

    Args:
        decoder: The SDK's decoder.
    """

    def __init__(self, decoder: _Decoder) -> None:
        self._decoder = decoder

    def iter_bytes(self, iterator: Iterator[bytes]) -> Iterator[Any]:
        """Yield the server-sent events that the SDK can read.

        A byte order mark at the beginning is removed. An event without a name gets the type in its data as
        its name, because the SDK would leave it out. Data without a type get the name of the event as their
        type, because a part of the answer would be missing without a word. An event of an unknown name is left
        out if its data is not a JSON object, or is nested too deeply: the SDK would end the stream with an error.
        """
        for event in self._decoder.iter_bytes(_without_bom(iterator)):
            if (readable := _readable(event)) is not None:
                yield readable

    async def aiter_bytes(self, iterator: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        """Yield what :meth:`iter_bytes` yields, for an asynchronous body."""
        async for event in self._decoder.aiter_bytes(_without_bom_async(iterator)):
            if (readable := _readable(event)) is not None:
                yield readable


def _readable(event: Any) -> Any:
    """Return the event as the SDK can read it, or None if the SDK cannot."""
    if event.event is None and (kind := _type_in(event)) in _KNOWN:
        event = type(event)(event=kind, data=event.data, id=event.id, retry=event.retry)
    if event.event == "error" and _has_odd_type(event):
        event = type(event)(event="error", data=_text_of_error(event))
    if event.event in _KNOWN and (text := _with_type(event)) is not event.data:
        event = type(event)(event=event.event, data=text, id=event.id, retry=event.retry)
    return event if event.event in _KNOWN or event.event is None or _is_object(event) else None


def _without_bom(parts: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the bytes of a body without a byte order mark.

    https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
    """
    beginning = b""
    for part in parts:
        beginning += part
        if len(beginning) >= len(_BOM):
            yield beginning.removeprefix(_BOM)
            break
    else:
        if beginning:
            yield beginning
        return
    yield from parts


async def _without_bom_async(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    beginning: bytes | None = b""
    async for part in parts:
        if beginning is None:
            yield part
            continue
        beginning += part
        if len(beginning) >= len(_BOM):
            yield beginning.removeprefix(_BOM)
            beginning = None
    if beginning:
        yield beginning


def _type_in(event: Any) -> object:
    """Return the type in the data of an event, or None."""
    try:
        data = event.json()
        return data.get("type") if isinstance(data, dict) and isinstance(data.get("type"), str) else None
    except (ValueError, RecursionError):
        return None


def _with_type(event: Any) -> str:
    """Return the data of an event, with the name of the event as the type if there is no type."""
    text: str = event.data
    if text.startswith(('{"type"', '{ "type"')):  # so begin the events of the API
        return text
    try:
        data = event.json()
    except (ValueError, RecursionError):
        return text
    return json.dumps({"type": event.event, **data}) if isinstance(data, dict) and "type" not in data else text


def _has_odd_type(event: Any) -> bool:
    """Return True for an error whose type is not text: the SDK would raise a TypeError of its own."""
    try:
        data = event.json()
    except (ValueError, RecursionError):
        return False
    error = data.get("error") if isinstance(data, dict) else None
    return isinstance(error, dict) and not isinstance(error.get("type"), str | None)


def _text_of_error(event: Any) -> str:
    """Return the data of an error without its type."""
    data = event.json()
    del data["error"]["type"]
    return json.dumps(data)


def _is_object(event: Any) -> bool:
    try:
        data = event.json()
        return isinstance(data, dict) and not is_too_deep(data)
    except (ValueError, RecursionError):
        return False
