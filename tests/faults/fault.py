"""Fault: what a server does wrong, and what the person who asked must see."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from tests.faults.answers import KINDS, body_of, events_of, message_of, stream_of
from tests.support.server import Wire

__all__ = ["BROKE", "LIVES", "LOST", "MODES", "Fault", "always", "end_with", "streamed", "whole"]

#: Answer a request with an answer of a kind.
Serve: TypeAlias = Callable[[Wire, str], None]
#: A value, or values for some modes and kinds: the key ``""`` has the value of all others.
Cases: TypeAlias = Mapping[str, Any]

#: An answer is streamed, or comes in one piece.
MODES = ("stream", "whole")
LIVES, BROKE, LOST = "complete", "StreamError", "ConnectionFailed"


@dataclass(frozen=True, slots=True)
class Fault:
    """What a server does wrong, and what must come of it.

    Args:
        name: What the server does, in words. It is unique.
        seen: The class of the error, or the status of the answer if there is no error.
        stream: What the server does if the answer is streamed; None if the fault is not of streams.
        whole: What the server does if the answer is not streamed; None if the fault is of streams.
        asked: How often nbchat asks, with its retries.
        kinds: The kinds of answers that can have the fault.
    """

    name: str
    seen: str | Cases
    stream: Serve | None = None
    whole: Serve | None = None
    asked: int | Cases = 1
    kinds: tuple[str, ...] = KINDS

    def cases(self) -> list[tuple[str, str]]:
        """Return the mode and the kind of each case."""
        modes = [mode for mode in MODES if getattr(self, mode) is not None]
        return [(mode, kind) for mode in modes for kind in self.kinds]

    def seen_by(self, mode: str, kind: str) -> str:
        """Return the class of the error of a case, or the status."""
        return str(_of_case(self.seen, mode, kind))

    def asked_in(self, mode: str, kind: str) -> int:
        """Return how often nbchat asks in a case."""
        return int(_of_case(self.asked, mode, kind))

    def serve(self, wire: Wire, mode: str, kind: str) -> None:
        """Answer a request with the fault."""
        do = self.stream if mode == "stream" else self.whole
        assert do is not None
        do(wire, kind)


def _of_case(value: Any, mode: str, kind: str) -> Any:
    if not isinstance(value, Mapping):
        return value
    return next(value[key] for key in (f"{mode} {kind}", kind, mode, "") if key in value)


def end_with(wire: Wire, ending: str) -> None:
    """End a body: ``end`` as HTTP has it, ``close`` in the middle of it, or ``reset``."""
    if ending == "end":
        wire.end()
    elif ending == "reset":
        wire.reset()
    else:
        wire.chunked = False  # the server closes the connection


def always(
    name: str, seen: str | Cases, serve: Serve, *, asked: int | Cases = 1, kinds: tuple[str, ...] = ("text",)
) -> Fault:
    """Return a fault that is the same for an answer that is streamed and for one that is not.

    No answer comes, so its kind makes no difference.
    """
    return Fault(name, seen, serve, serve, asked, kinds)


def streamed(
    name: str,
    seen: str | Cases,
    change: Callable[[list[dict[str, Any]]], list[Any] | bytes],
    *,
    ending: str = "end",
    asked: int | Cases = 1,
    kinds: tuple[str, ...] = KINDS,
) -> Fault:
    """Return a fault of a stream: ``change`` makes the wrong events of the right ones."""

    def serve(wire: Wire, kind: str) -> None:
        wire.head()
        changed = change(events_of(kind))
        if data := changed if isinstance(changed, bytes) else stream_of(changed):
            wire.send(data)
        end_with(wire, ending)

    return Fault(name, seen, stream=serve, asked=asked, kinds=kinds)


def whole(
    name: str,
    seen: str | Cases,
    change: Callable[[dict[str, Any]], Any],
    *,
    ending: str = "end",
    content_type: str = "application/json",
    asked: int | Cases = 1,
    kinds: tuple[str, ...] = KINDS,
    also_streamed: bool = False,
) -> Fault:
    """Return a fault of an answer that is not streamed: ``change`` makes the wrong message of the right one."""

    def serve(wire: Wire, kind: str) -> None:
        wire.head(content_type=content_type)
        if data := body_of(change(message_of(kind))):
            wire.send(data)
        end_with(wire, ending)

    return Fault(name, seen, serve if also_streamed else None, serve, asked, kinds)
