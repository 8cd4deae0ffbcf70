"""Requests, their digest, and the two protocols an answer travels between: Transport and Sink."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from nbchat.core.errors import InputError
from nbchat.core.fields import storable_value
from nbchat.core.messages import Message
from nbchat.core.uploads import with_file_ids

if TYPE_CHECKING:
    from nbchat.core.chunks import StreamChunk
    from nbchat.core.response import Response

__all__ = ["Digests", "Request", "Sink", "Transport", "digest_of", "request_digest"]


@dataclass(frozen=True, slots=True)
class Request:
    """One request of the Messages API, as values.

    Args:
        model: the model's id.
        messages: the conversation; the prompt is the last message.
        max_tokens: the longest answer, in tokens.
        system: the system prompt, as a text or as text blocks.
        tools: the definitions of tools, as dicts of the API.
        params: further fields of the body (``thinking``, ``output_config``, ``stop_sequences``,
            ``tool_choice``, ``cache_control``, ``temperature`` …).
        stream: whether the answer is streamed. The digest ignores this field, because it
            changes how the answer travels and not what is asked. For the same reason the digest ignores
            the field ``cache_control``.
        container: the id of the service's container that an earlier answer used, or "". The digest
            ignores ids that the service gave, because another day's ids ask the same.
        file_ids: the id of each uploaded file at the endpoint, by the file's address (:mod:`nbchat.core.uploads`).
            The digest covers the address, which is a hash of the content.
        file_tokens: about how many tokens the uploaded files take.
        shared: the beginning that many requests share, if the service should keep it in its cache: so many
            content blocks of the prompt, and so many characters of the text block after them. (0, 0) is
            everything before the prompt. None sends no mark. The digest ignores this field, too.
        shared_ttl: how long the service keeps that beginning, ``5m`` or ``1h``.

    >>> request = Request("claude-sonnet-5-5", (Message.of("user", "Hi"),), max_tokens=100)
    >>> request.body()
    {'model': 'claude-sonnet-5-5', 'max_tokens': 100, 'messages': [{'role': 'user', 'content': 'Hi'}]}
    >>> request.digest[:12]
    '1823838d2155'
    """

    model: str
    messages: tuple[Message, ...]
    max_tokens: int
    system: str | tuple[Mapping[str, Any], ...] | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    stream: bool = True
    container: str = ""
    file_ids: Mapping[str, str] = field(default_factory=dict)
    file_tokens: int = 0
    shared: tuple[int, int] | None = None
    shared_ttl: str = "5m"
    _digest: str = field(default="", init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # A request holds only text that can be encoded (its messages do so already), so that the digest is
        # the digest of what is sent.
        for name in ("model", "system", "tools", "params"):
            object.__setattr__(self, name, storable_value(getattr(self, name)))

    def body(self) -> dict[str, Any]:
        """Return the JSON body that is sent, without ``stream``.

        >>> Request("claude-sonnet-5-5", (), max_tokens=9, container="container_1").body()["container"]
        'container_1'
        """
        body = self.asked()
        if self.shared is not None:
            _mark_shared(body, self.shared, self.shared_ttl)
        if self.file_ids:
            body["messages"] = with_file_ids(body["messages"], self.file_ids)
        if self.container:
            given = body.get("container")
            if given is None:
                body["container"] = self.container
            elif isinstance(given, Mapping) and not given.get("id"):  # the user names skills, and no container
                body["container"] = {
                    "id": self.container,
                    **{key: value for key, value in given.items() if key != "id"},
                }
        return body

    def asked(self) -> dict[str, Any]:
        """Return the JSON body without the ids that the service gave. The digest is the digest of this body.

        >>> "container" in Request("claude-sonnet-5-5", (), max_tokens=9, container="container_1").asked()
        False
        """
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

    def is_continued_after(self, stop_reason: str | None) -> bool:
        """Return True if an answer with this stop reason is a part, and the service continues when asked again.

        https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons

        >>> Request("claude-sonnet-5-5", (), max_tokens=9).is_continued_after("pause_turn")
        True
        """
        # A request with the field `compaction` asks for the summary alone.
        return stop_reason == "pause_turn" or (stop_reason == "compaction" and not self.params.get("compaction"))

    @property
    def cache_ttl(self) -> str | None:
        """Return how long the service keeps the prompt in its cache, ``5m`` or ``1h``; None for no caching."""
        mark = self.params.get("cache_control")
        if self.shared is not None:
            return self.shared_ttl
        return str(mark.get("ttl") or "5m") if isinstance(mark, Mapping) else None

    @property
    def digest(self) -> str:
        """Return :func:`request_digest` of what is asked. Equal requests have equal digests on every machine.

        Raises:
            InputError: the body holds a value that JSON cannot hold.
        """
        # Attachments can have megabytes, and the journal, the ledger, the cassette and the
        # Response all want the digest: compute the hash once.
        if not self._digest:
            object.__setattr__(self, "_digest", request_digest(self.asked()))
        return self._digest


def request_digest(body: Mapping[str, Any]) -> str:
    """Return the digest of a request's body, which does not depend on how the service caches the prompt."""
    return digest_of({**body, "cache_control": _MARK_OF_FIRST_CASSETTES})


#: The mark that every request had when the first cassettes were recorded. With it, these stay valid.
_MARK_OF_FIRST_CASSETTES = {"type": "ephemeral"}


def _mark_shared(body: dict[str, Any], shared: tuple[int, int], ttl: str) -> None:
    """Put a cache mark at the end of what a request shares with others.

    https://platform.claude.com/docs/en/build-with-claude/prompt-caching#explicit-cache-breakpoints
    """
    mark = {"cache_control": {"type": "ephemeral", **({"ttl": "1h"} if ttl == "1h" else {})}}
    blocks, characters = shared
    if not blocks and not characters:
        if isinstance(system := body.get("system"), str):
            body["system"] = [{"type": "text", "text": system, **mark}]
        elif system:
            body["system"] = [*system[:-1], {**system[-1], **mark}]
        elif tools := body.get("tools"):
            body["tools"] = [*tools[:-1], {**tools[-1], **mark}]
        return
    prompt = body["messages"][-1]
    content = prompt["content"]
    content = [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
    if characters:
        text = content[blocks]["text"]
        rest = [{**content[blocks], "text": text[characters:]}] if text[characters:].strip() else []
        content[blocks : blocks + 1] = [{"type": "text", "text": text[:characters], **mark}, *rest]
    else:
        content[blocks - 1] = {**content[blocks - 1], **mark}
    body["messages"] = [*body["messages"][:-1], {**prompt, "content": content}]


def digest_of(body: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the canonical form of a request's body, in hexadecimal.

    The canonical form is JSON with sorted keys, no white space and plain UTF-8, as in RFC 8785.
    Floats are the one difference: they have Python's shortest form, and a whole float is written
    as an integer, so that ``temperature=0`` and ``temperature=0.0`` are the same request.

    Raises:
        InputError: the body holds a value that JSON cannot hold.
    """
    return hashlib.sha256(_canonical_bytes(body)).hexdigest()


def _canonical_bytes(body: Mapping[str, Any]) -> bytes:
    canonical = json.dumps(_canonical(body, ""), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return canonical.encode("utf-8", "surrogatepass")


class Digests:
    """Computes the digests of many requests that differ in one text, each in microseconds.

    Args:
        request_of: returns the request with a text.

    >>> digests = Digests(lambda text: Request("claude-sonnet-5-5", (Message.of("user", text),), 100))
    >>> digests.of("Hi") == Request("claude-sonnet-5-5", (Message.of("user", "Hi"),), 100).digest
    True
    """

    #: A text that no template and no system prompt contains.
    _MARK = "\ue000nbchat:the text of a row\ue000"

    def __init__(self, request_of: Callable[[str], Request]) -> None:
        body = request_of(self._MARK).asked()
        canonical = _canonical_bytes({**body, "cache_control": _MARK_OF_FIRST_CASSETTES})
        before, found, after = canonical.partition(json.dumps(self._MARK, ensure_ascii=False).encode())
        if not found or self._MARK.encode() in after:
            raise ValueError("the text is in the request more than once, or changed")
        self._before, self._after = hashlib.sha256(before), after

    def of(self, text: str) -> str:
        """Return the digest of the request with this text, which has no half of a surrogate pair."""
        digest = self._before.copy()
        digest.update(json.dumps(text, ensure_ascii=False).encode())
        digest.update(self._after)
        return digest.hexdigest()


def _canonical(value: Any, path: str) -> Any:
    """Return the value as plain JSON. ``path`` names the value in the error."""
    match value:
        case None | bool() | str() | int():
            return value
        case float() if math.isfinite(value):
            return int(value) if value.is_integer() and abs(value) < 2**53 else value
        case Mapping():
            return {str(key): _canonical(part, f"{path}.{key}") for key, part in value.items()}
        case list() | tuple():
            return [_canonical(part, f"{path}[{place}]") for place, part in enumerate(value)]
    shown = repr(value) if isinstance(value, float) else f"a {type(value).__name__}"
    raise InputError(
        f"the request's {path.removeprefix('.')} is {shown}, which JSON cannot hold",
        "Give a plain str, int, float, bool, None, list or dict.",
    )


@runtime_checkable
class Transport(Protocol):
    """A place that answers requests, such as an endpoint, a recording or a script.

    A transport needs a name and one method. This one answers every prompt in upper case:

    >>> from contextlib import contextmanager
    >>> from nbchat.core.parser import events_of
    >>> class Shouting:
    ...     name = "shouting"
    ...
    ...     @contextmanager
    ...     def stream(self, request):
    ...         text = request.messages[-1].text.upper()
    ...         content = [{"type": "text", "text": text}]
    ...         yield events_of({"role": "assistant", "content": content, "stop_reason": "end_turn"})
    >>> from nbchat import Session
    >>> Session(Shouting()).ask("hello").text
    'HELLO'

    A transport may have more members. nbchat looks for them by name, and does without them:

    ``model: str``
        the model that is asked where the user names none.
    ``structured: "format" | "tool" | "words"``
        how the endpoint is asked for a typed answer. The default is ``"format"``.
    ``count_tokens(request) -> int``
        the tokens of the prompt, as the endpoint counts them. The default is an estimate.
    ``models() -> list[dict]``
        the models of the endpoint, as dicts of the Models API.
    ``describe(model) -> dict``
        the Models API's description of one model: its limits and capabilities.
    ``file_metadata(file_id) -> dict``
        the Files API's description of a file: its name, size and media type.
    ``download(file_id, write) -> None``
        gives the content of a file to ``write``, piece by piece, as bytes.
    ``upload(name, media_type, content) -> dict``
        uploads bytes, or the file of a path, and returns the Files API's description of the file.
    """

    #: The name of the endpoint, as ``--endpoint`` takes it.
    name: str

    def stream(self, request: Request) -> AbstractContextManager[Iterable[Mapping[str, Any]]]:
        """Return a context manager over the events of the answer, as dicts.

        Leaving the context closes the connection. Retries happen only before the first event.

        Raises:
            TransportError: no answer came. Raised by the context manager or by the iteration.
            StreamError: the answer broke off after its first event.
        """
        ...


@runtime_checkable
class Sink(Protocol):
    """A receiver of an answer while it arrives: a view, a journal, a logger.

    nbchat calls ``begin`` once, ``feed`` for each chunk, and ``settle`` exactly once, also after
    an error or an interrupt. A sink that raises is dropped with one warning: the answer is more
    important than any view of it.

    >>> class Counter:
    ...     def begin(self, request):
    ...         self.chunks = 0
    ...
    ...     def feed(self, chunk):
    ...         self.chunks += 1
    ...
    ...     def settle(self, response):
    ...         print(f"{response.status}, {self.chunks} chunks")
    >>> from nbchat import ScriptedTransport, Session
    >>> response = Session(ScriptedTransport("Hello!")).ask("Hi", sinks=[Counter()])
    complete, 5 chunks
    """

    def begin(self, request: Request) -> None:
        """Prepare for the answer to ``request``."""
        ...

    def feed(self, chunk: StreamChunk) -> None:
        """Take one chunk of the answer."""
        ...

    def settle(self, response: Response) -> None:
        """Take the finished Response."""
        ...
