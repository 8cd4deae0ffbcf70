"""A transport whose answers are written by hand: for tests, docs, and users' tests of their notebooks.

    from nbchat import ScriptedTransport, Session

    transport = ScriptedTransport("Hello!", {"tool": "add", "input": {"a": 1, "b": 2}}, "It is 3.")
    session = Session(transport)
    session.ask("Hi").text                  # 'Hello!'
    transport.requests[0].messages[0].text  # 'Hi'

Nothing is sent. Each request takes the next answer of the script. To test a notebook, let its cells use
such a session::

    nbchat.use_session(Session(ScriptedTransport("Hello!", repeat=True)))

An answer may be

========================================  ====================================================
``"text"``                                an answer of one text block
``{"text": …}``, ``{"thinking": …}``      one block of that type
``{"tool": name, "input": {…}}``          a call of a tool; the answer then stops for ``tool_use``
``{"type": …}``, a Block                  any content block of the API
``{"type": "message", …}``                a whole message of the API
``[…, …]``                                several of these, as one answer. ``{"stop_reason": …}``,
                                          ``"stop_details"`` and ``"usage"`` in the list set these
                                          fields of the message. An exception at the end of the list
                                          breaks the answer off
an iterable of events                     these events, as the API streams them
an exception                              no answer: the exception is raised
a function of the Request                 what the function returns, which is any of these
========================================  ====================================================
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any, TypeAlias

from nbchat.core.errors import InputError, TransportError
from nbchat.core.messages import Block
from nbchat.core.pacing import Pacer
from nbchat.core.parser import events_of
from nbchat.core.plural import counted
from nbchat.core.request import Request

__all__ = ["Answer", "ScriptedTransport"]

#: One answer of a script. The table above lists the types; a recursive type alias would say less.
Answer: TypeAlias = Any


class ScriptedTransport:
    """A transport that answers each request with the next answer of a script.

    Args:
        answers: the script, one answer a request; the module's docstring lists what an answer may be.
        name: the name of the endpoint, as responses and the ledger show it.
        model: the model that answers, unless the request names one.
        delay: seconds to wait before each event, for example to watch a live view.
        piece: the number of characters in each delta of a streamed answer.
        repeat: True to start again at the first answer after the last one.

    Attributes:
        requests: every request so far, so that a test can check what would have been sent.

    Example:
        >>> from nbchat import ScriptedTransport, Session
        >>> transport = ScriptedTransport("Hello!", ["Half an ans", {"stop_reason": "max_tokens"}])
        >>> session = Session(transport)
        >>> session.ask("Hi").text
        'Hello!'
        >>> session.ask("And now a long story").status
        'incomplete'
        >>> [message.text for message in transport.requests[1].messages]
        ['Hi', 'Hello!', 'And now a long story']

        A notebook under test needs no change. Its cells ask the session of the kernel, so a test
        calls ``nbchat.use_session(Session(ScriptedTransport("Hello!", repeat=True)))`` first.
    """

    def __init__(
        self,
        *answers: Answer,
        name: str = "scripted",
        model: str = "scripted",
        delay: float = 0.0,
        piece: int = 8,
        repeat: bool = False,
    ) -> None:
        self.name, self.model = name, model
        self.requests: list[Request] = []
        self._answers, self._delay, self._piece, self._repeat = answers, delay, piece, repeat

    def __deepcopy__(self, memo: object) -> ScriptedTransport:
        """Return the transport itself.

        traitlets copies settings deeply, and a test looks at ``requests`` of the transport that the test
        put into ``c.Nbchat.endpoints``.
        """
        return self

    @contextmanager
    def stream(self, request: Request) -> Iterator[Iterator[dict[str, Any]]]:
        """Yield the events of the next answer.

        Raises:
            InputError: every answer of the script has been used.

        >>> from nbchat import Request
        >>> with ScriptedTransport("Hello!").stream(Request("any", (), max_tokens=9)) as events:
        ...     [event["type"] for event in events][:2]
        ['message_start', 'content_block_start']
        """
        yield self._paced(self._next(request))

    def open_async(self, *, has_spans: bool = False) -> _AsyncScript:
        """Return the script for an event loop, where requests take the answers in the order of their sending.

        >>> import asyncio
        >>> from nbchat import Request
        >>> async def ask():
        ...     door = ScriptedTransport("Hello!").open_async()
        ...     return [event["type"] async for event in door.events(Request("any", (), max_tokens=9))]
        >>> asyncio.run(ask())[:2]
        ['message_start', 'content_block_start']
        """
        return _AsyncScript(self)

    def _next(self, request: Request) -> Iterable[Mapping[str, Any]]:
        number = len(self.requests)
        self.requests.append(request)
        if number >= len(self._answers) and not (self._repeat and self._answers):
            raise InputError(
                f"the script of this ScriptedTransport has {counted(len(self._answers), 'answer')}, "
                f"and this is request {number + 1}",
                "Add an answer to the script, or pass repeat=True.",
            )
        return self._events(self._answers[number % len(self._answers)], request)

    def count_tokens(self, request: Request) -> int:
        """Return an estimate of the prompt's tokens: there is no model to ask.

        >>> from nbchat import Request
        >>> ScriptedTransport().count_tokens(Request("any", (), max_tokens=9)) > 0
        True
        """
        return _estimate_tokens(json.dumps(request.body(), ensure_ascii=False))

    def _paced(self, events: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        for event in events:
            if self._delay:
                time.sleep(self._delay)
            yield dict(event)

    def _events(self, answer: Answer, request: Request) -> Iterable[Mapping[str, Any]]:
        if isinstance(answer, BaseException):
            raise answer
        if callable(answer) and not isinstance(answer, type):
            return self._events(answer(request), request)
        if isinstance(answer, Mapping) and answer.get("type") == "message":
            return self._in_pieces(events_of(answer), request)
        if isinstance(answer, str | Mapping | Block):
            answer = [answer]
        if isinstance(answer, list | tuple):
            if any(_is_event(part) for part in answer):
                return answer
            *parts, last = answer or [None]
            if isinstance(last, BaseException):
                return self._broken_off(self._message(parts, request), request, last)
            return self._in_pieces(events_of(self._message(list(answer), request)), request)
        if isinstance(answer, Iterable):
            return answer
        raise _not_an_answer(answer)

    def _message(self, parts: list[Any], request: Request) -> dict[str, Any]:
        """Return the message of the API that has ``parts`` as its content."""
        fields: dict[str, Any] = {}
        content: list[dict[str, Any]] = []
        for part in parts:
            if isinstance(part, Mapping) and part and part.keys() <= _MESSAGE_FIELDS:
                fields |= part
            else:
                content.append(_block(part, f"toolu_scripted_{len(self.requests)}_{len(content)}"))
        calls_a_tool = any(block.get("type") == "tool_use" for block in content)
        return {
            "id": f"msg_scripted_{len(self.requests)}",
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": "tool_use" if calls_a_tool else "end_turn",
            "stop_sequence": None,
            **fields,
            "usage": {
                "input_tokens": self.count_tokens(request),
                "output_tokens": _estimate_tokens(json.dumps(content, ensure_ascii=False)),
                **fields.get("usage", {}),
            },
        }

    def _broken_off(
        self, message: dict[str, Any], request: Request, error: BaseException
    ) -> Iterator[Mapping[str, Any]]:
        """Yield the events of a message up to its last content, then raise ``error``."""
        # The API reports the final count in message_delta, which a broken answer does not reach.
        message["usage"] |= {"output_tokens": 1}
        for event in self._in_pieces(events_of(message), request):
            if event["type"] == "message_delta":
                raise error
            yield event

    def _in_pieces(self, events: Iterable[Mapping[str, Any]], request: Request) -> Iterator[Mapping[str, Any]]:
        """Yield the same events with small deltas, as a model sends them."""
        for event in events:
            delta: Mapping[str, Any] = event.get("delta", {}) if event["type"] == "content_block_delta" else {}
            key = _TEXT_FIELDS.get(delta.get("type", ""))
            if key is None or not request.stream:
                yield event
                continue
            text = delta[key]
            for start in range(0, len(text), self._piece):
                yield {**event, "delta": {**delta, key: text[start : start + self._piece]}}


class _AsyncScript:
    """A ScriptedTransport in an event loop."""

    def __init__(self, script: ScriptedTransport) -> None:
        self._script = script

    async def events(self, request: Request, pacer: Pacer | None = None) -> AsyncIterator[Mapping[str, Any]]:
        """Yield the events of the next answer. An error of the script that may pass is repeated as a pacer says."""
        attempt = 0
        while True:
            try:
                events = iter(self._script._next(request))
                first = next(events, None)
            except TransportError as failure:
                if pacer is None or not await pacer.wait(failure, attempt, failure.retry_after):
                    raise
                attempt += 1
                yield {"type": "notice", "text": failure.message, "failed": failure.type or type(failure).__name__}
                yield {"type": "notice", "text": ""}
                continue
            break
        for event in chain(() if first is None else [first], events):
            if self._script._delay:
                import asyncio

                await asyncio.sleep(self._script._delay)
            yield dict(event)

    async def close(self) -> None:
        """Close nothing."""


#: Keys of a mapping that sets fields of the message instead of adding a block.
_MESSAGE_FIELDS = {"stop_reason", "stop_details", "stop_sequence", "usage", "id", "model"}
#: The field of each delta that is cut into pieces.
_TEXT_FIELDS = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}


def _is_event(part: Any) -> bool:
    """Return True if a dict is an event and not a content block."""
    kind = part.get("type") if isinstance(part, Mapping) else None
    return isinstance(kind, str) and (
        kind in ("ping", "error", "notice") or kind.startswith(("message_", "content_block_"))
    )


def _block(part: Any, call_id: str) -> dict[str, Any]:
    match part:
        case str():
            return {"type": "text", "text": part}
        case {"tool": name, **rest}:
            return {"type": "tool_use", "id": rest.get("id", call_id), "name": name, "input": rest.get("input", {})}
        case {"type": _}:
            return dict(part)
        case {"thinking": thinking, **rest}:
            return {"type": "thinking", "thinking": thinking, "signature": rest.get("signature", "scripted")}
        case {"text": text, **rest}:
            return {"type": "text", "text": text} | {str(name): value for name, value in rest.items()}
    if isinstance(part, Block):
        return part.to_dict()
    raise _not_an_answer(part)


def _not_an_answer(part: Any) -> InputError:
    return InputError(
        f"a ScriptedTransport cannot make an answer of {type(part).__name__}",
        'Write a text, {"text": …}, {"thinking": …}, {"tool": name, "input": {…}}, or a list of those.',
    )


def _estimate_tokens(text: str) -> int:
    """Return about one token for four characters."""
    return -(-len(text) // 4)
