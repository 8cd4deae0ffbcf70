"""A transport written by hand: for tests, docs, and users' own tests of their notebooks.

    from nbchat import ScriptedTransport, Session

    transport = ScriptedTransport("Hello!", {"tool": "add", "input": {"a": 1, "b": 2}}, "It is 3.")
    session = Session(transport)
    session.ask("Hi").text                  # 'Hello!'
    transport.requests[0].messages[0].text  # 'Hi'

Nothing is sent anywhere. Each request takes the next answer of the script. In a notebook under test::

    nbchat.use_session(Session(ScriptedTransport("Hello!", repeat=True)))

An answer may be

========================================  ====================================================
``"text"``                                an answer of one text
``{"text": …}``, ``{"thinking": …}``      a block of it
``{"tool": name, "input": {…}}``          a call of a tool; the answer then stops for ``tool_use``
``{"type": …}``, a Block                  any content block of the API
``{"type": "message", …}``                a whole message of the API
``[…, …]``                                several of these, as one answer. ``{"stop_reason": …}``,
                                          ``"stop_details"`` and ``"usage"`` among them are of the
                                          message; an exception at the end breaks the answer off
an iterable of events                     as the API streams them
an exception                              is raised, and there is no answer
a function of the Request                 gives one of these
========================================  ====================================================
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

from nbchat.core.errors import InputError
from nbchat.core.messages import Block
from nbchat.core.parser import events_of
from nbchat.core.request import Request

__all__ = ["Answer", "ScriptedTransport"]

#: One answer of a script; the table above says what it may be.
Answer: TypeAlias = Any


class ScriptedTransport:
    """Answers requests with what was written beforehand.

    ``answers`` are taken in order, one a request; with ``repeat=True`` they begin again at the
    end. ``name`` and ``model`` are those of the endpoint. ``delay`` is the time in seconds before
    each event, ``piece`` the characters of each delta. ``requests`` holds every request that came,
    so that a test can look at what would have been sent.
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

    def __deepcopy__(self, memo: Any) -> ScriptedTransport:
        """Itself: settings are copied, and the one in ``c.Nbchat.endpoints`` is the one that is asked."""
        return self

    @contextmanager
    def stream(self, request: Request) -> Iterator[Iterator[dict[str, Any]]]:
        """The events of the next answer.

        Raises:
            InputError: the script has no further answer.
        """
        number = len(self.requests)
        self.requests.append(request)
        if number >= len(self._answers) and not (self._repeat and self._answers):
            raise InputError(
                f"the script of this ScriptedTransport has {len(self._answers)} answers, "
                f"and this is request {number + 1}",
                "Write a further answer, or pass repeat=True.",
            )
        yield self._paced(self._events(self._answers[number % len(self._answers)], request))

    def count_tokens(self, request: Request) -> int:
        """About four characters a token, as there is no model to ask."""
        return _tokens(json.dumps(request.body(), ensure_ascii=False))

    def _paced(self, events: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        for event in events:
            if self._delay:
                time.sleep(self._delay)
            yield dict(event)

    def _events(self, answer: Answer, request: Request) -> Iterable[Mapping[str, Any]]:
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, Callable) and not isinstance(answer, type):
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
        raise _no_answer(answer)

    def _message(self, parts: list[Any], request: Request) -> dict[str, Any]:
        told: dict[str, Any] = {}
        content = []
        for part in parts:
            if isinstance(part, Mapping) and part and part.keys() <= _OF_THE_MESSAGE:
                told |= part
            else:
                content.append(_block(part, f"toolu_scripted_{len(self.requests)}_{len(content)}"))
        called = any(block.get("type") == "tool_use" for block in content)
        return {
            "id": f"msg_scripted_{len(self.requests)}",
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": "tool_use" if called else "end_turn",
            "stop_sequence": None,
            **told,
            "usage": {
                "input_tokens": self.count_tokens(request),
                "output_tokens": _tokens(json.dumps(content, ensure_ascii=False)),
                **told.get("usage", {}),
            },
        }

    def _broken_off(
        self, message: dict[str, Any], request: Request, error: BaseException
    ) -> Iterator[Mapping[str, Any]]:
        """The events of a message up to the end of its last delta, then the error."""
        message["usage"] |= {"output_tokens": 1}
        for event in self._in_pieces(events_of(message), request):
            if event["type"] == "message_delta":
                raise error
            yield event

    def _in_pieces(self, events: Iterable[Mapping[str, Any]], request: Request) -> Iterator[Mapping[str, Any]]:
        """The same events with their deltas cut small, as a model sends them."""
        for event in events:
            delta = event.get("delta") if event["type"] == "content_block_delta" else None
            key = _CUT.get(delta["type"]) if delta else None
            if key is None or not request.stream:
                yield event
                continue
            for at in range(0, len(delta[key]), self._piece):
                yield {**event, "delta": {**delta, key: delta[key][at : at + self._piece]}}


#: What is said of a message rather than in it.
_OF_THE_MESSAGE = {"stop_reason", "stop_details", "stop_sequence", "usage", "id", "model"}
_CUT = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}


def _is_event(part: Any) -> bool:
    """Whether a dict is an event rather than a content block."""
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
            return {"type": "text", "text": text, **rest}
    if isinstance(part, Block):
        return part.to_dict()
    raise _no_answer(part)


def _no_answer(part: Any) -> InputError:
    return InputError(
        f"a ScriptedTransport cannot make an answer of {type(part).__name__}",
        'Write a text, {"text": …}, {"thinking": …}, {"tool": name, "input": {…}}, or a list of those.',
    )


def _tokens(text: str) -> int:
    return -(-len(text) // 4)
