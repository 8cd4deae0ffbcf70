"""Request: what is sent, its digest, and the two protocols it travels between."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from nbchat.core.errors import InputError
from nbchat.core.messages import Message

if TYPE_CHECKING:
    from nbchat.core.chunks import StreamChunk
    from nbchat.core.response import Response

__all__ = ["Request", "Sink", "Transport", "digest_of"]


@dataclass(frozen=True, slots=True)
class Request:
    """One request of the Messages API, as values.

    ``max_tokens`` limits the answer, in tokens. ``system`` is a text or text blocks; ``tools``
    are definitions as dicts. ``params`` are further fields of the body (``thinking``,
    ``output_config``, ``stop_sequences``, ``tool_choice``, ``cache_control``, ``temperature`` …).
    ``stream`` says how the answer travels, not what is asked, so the digest leaves it out.
    """

    model: str
    messages: tuple[Message, ...]
    max_tokens: int
    system: str | tuple[Mapping[str, Any], ...] | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    stream: bool = True

    def body(self) -> dict[str, Any]:
        """The JSON body, without ``stream``."""
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": self.max_tokens,
            "messages": [message.to_dict() for message in self.messages],
        }
        if self.system:
            body["system"] = self.system if isinstance(self.system, str) else [dict(part) for part in self.system]
        if self.tools:
            body["tools"] = [dict(tool) for tool in self.tools]
        return body | dict(self.params)

    @property
    def digest(self) -> str:
        """:func:`digest_of` the body: the same request, the same digest, on any machine."""
        return digest_of(self.body())


def digest_of(body: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical form of a request's body, in hexadecimal.

    Canonical is JSON with sorted keys, no white space and plain UTF-8, as RFC 8785 has it but for
    the writing of floats, where Python's shortest form is kept; a whole float is written as the
    integer it equals, so ``temperature=0`` and ``0.0`` are the same request.

    Raises:
        InputError: the body holds what JSON cannot.
    """
    canonical = json.dumps(_canonical(body, ""), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()


def _canonical(value: Any, where: str) -> Any:
    """The value as plain JSON, whatever kind of mapping, sequence or number it was given as."""
    match value:
        case None | bool() | str() | int():
            return value
        case float() if math.isfinite(value):
            return int(value) if value.is_integer() and abs(value) < 2**53 else value
        case Mapping():
            return {str(key): _canonical(part, f"{where}.{key}") for key, part in value.items()}
        case list() | tuple():
            return [_canonical(part, f"{where}[{place}]") for place, part in enumerate(value)]
    said = repr(value) if isinstance(value, float) else f"a {type(value).__name__}"
    raise InputError(
        f"the request's {where.removeprefix('.')} is {said}, which JSON cannot hold",
        "Give it as a plain str, int, float, bool, None, list or dict.",
    )


@runtime_checkable
class Transport(Protocol):
    """A way to answer a Request."""

    #: The endpoint's name, as ``--endpoint`` takes it.
    name: str

    def stream(self, request: Request) -> AbstractContextManager[Iterable[Mapping[str, Any]]]:
        """A context manager over event dicts. Leaving it closes the connection.

        Retries happen only before the first event. An error before it is a TransportError, one
        after it a StreamError; no error of a library below gets through.
        """
        ...


@runtime_checkable
class Sink(Protocol):
    """Whoever is told of an answer as it arrives."""

    def feed(self, chunk: StreamChunk) -> None:
        """Take one chunk; called many times."""
        ...

    def settle(self, response: Response) -> None:
        """Take the end: called exactly once, also after an error or an interrupt."""
        ...
