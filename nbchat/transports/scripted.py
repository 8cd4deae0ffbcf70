"""A transport written by hand: for tests, docs, and users' own tests of their notebooks.

    from nbchat import ScriptedTransport, Session

    session = Session(ScriptedTransport("Hello!", {"tool": "add", "input": {"a": 1, "b": 2}}, "It is 3."))
    session.ask("Hi").text          # 'Hello!'

Nothing is sent anywhere. Each request takes the next answer of the script.
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

#: One answer of a script: a text; a mapping (``{"text": …}``, ``{"thinking": …}``, ``{"tool": name,
#: "input": {…}}``, a content block, a whole message of the API); a list of those, for an answer of
#: several blocks; an iterable of events as the API sends them; an exception, which is raised; or a
#: function of the request that gives one of these.
Answer: TypeAlias = Any


class ScriptedTransport:
    """Answers requests with what was written beforehand.

    ``answers`` are taken in order, one a request; with ``repeat=True`` they begin again at the
    end. ``delay`` is the time in seconds between events. ``requests`` holds every request that
    came, so that a test can look at what would have been sent.
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
        if isinstance(answer, (str, Mapping)):
            answer = [answer]
        if isinstance(answer, list) and not any(_is_event(part) for part in answer):
            return self._in_pieces(events_of(self._message(answer, request)), request)
        return answer

    def _message(self, parts: list[Any], request: Request) -> dict[str, Any]:
        content = [_block(part, f"toolu_scripted_{len(self.requests)}_{at}") for at, part in enumerate(parts)]
        called = any(block.get("type") == "tool_use" for block in content)
        return {
            "id": f"msg_scripted_{len(self.requests)}",
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": "tool_use" if called else "end_turn",
            "stop_sequence": None,
            "usage": {
                "input_tokens": self.count_tokens(request),
                "output_tokens": _tokens(json.dumps(content, ensure_ascii=False)),
            },
        }

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


_CUT = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}


def _is_event(part: Any) -> bool:
    """Whether a dict is an event rather than a content block."""
    kind = part.get("type", "") if isinstance(part, Mapping) else ""
    return kind in ("ping", "error", "notice") or kind.startswith(("message_", "content_block_"))


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
    raise InputError(
        f"a ScriptedTransport cannot make an answer of {type(part).__name__}",
        'Write a text, {"text": …}, {"thinking": …}, {"tool": name, "input": {…}}, or a list of those.',
    )


def _tokens(text: str) -> int:
    return -(-len(text) // 4)
