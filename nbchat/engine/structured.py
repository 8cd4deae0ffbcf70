"""Structured answers in a request: how an endpoint is asked for a type, and its answer read.

Three ways: ``format`` (structured outputs of the API), ``tool`` (a forced tool whose input is the
answer), ``words`` (an instruction under the prompt). The input of a forced tool is turned into
text as it arrives, so that the parser, the views and the conversation know one kind of answer.
https://platform.claude.com/docs/en/build-with-claude/structured-outputs
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from nbchat.core.chunks import ResponseChunk
from nbchat.core.errors import ParseError, TruncatedError
from nbchat.core.messages import Message, TextBlock
from nbchat.core.request import Request
from nbchat.engine.answers import Growing, answer_tool, correction, instruction, output_format, parse_answer
from nbchat.models import StructuredMethod

__all__ = ["ForcedAnswer", "asked_again", "forces_answer", "read_answer", "read_sofar", "shaped"]

_FORCED = {"type": "tool", "name": "answer"}


def shaped(request: Request, T: Any, way: StructuredMethod) -> Request:
    """The request with the type asked for.

    A forced tool leaves no room for other tools, and thinking forbids it
    (https://platform.claude.com/docs/en/agents-and-tools/tool-use/implement-tool-use); words do then.

    Raises:
        SchemaError: the type has no JSON Schema that the API takes.
    """
    params = dict(request.params)
    if way == "format":
        params["output_config"] = {**(params.get("output_config") or {}), "format": output_format(T)}
        return replace(request, params=params)
    thinks = (params.get("thinking") or {}).get("type", "disabled") != "disabled"
    if way == "tool" and not request.tools and not thinks:
        return replace(request, tools=(answer_tool(T),), params={**params, "tool_choice": _FORCED})
    *before, prompt = request.messages
    asked = Message(prompt.role, (*prompt.content, TextBlock(f"\n\n{instruction(T)}")))
    return replace(request, messages=(*before, asked))


def asked_again(request: Request, sofar: tuple[Message, ...], problems: Iterable[str]) -> Request:
    """The request of the second try: the turn so far, and what did not fit."""
    messages = (*request.messages, *sofar, Message.of("user", correction(problems)))
    choice = {"tool_choice": {"type": "none"}} if request.tools and not forces_answer(request) else {}
    return replace(request, messages=messages, params={**request.params, **choice})


def forces_answer(request: Request) -> bool:
    """Whether the answer comes as the input of the forced tool."""
    return request.params.get("tool_choice") == _FORCED


class ForcedAnswer:
    """Translate the events of a forced tool call into the events of a text.

    The parser, the views and the conversation then know one kind of answer only.
    """

    def __init__(self) -> None:
        self._indexes: set[Any] = set()  # of the blocks that are translated

    def translate(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the event with the input of the forced tool as text."""
        block, delta, index = event.get("content_block"), event.get("delta"), event.get("index")
        if isinstance(block, Mapping) and block.get("type") == "tool_use" and block.get("name") == _FORCED["name"]:
            self._indexes.add(index)
            arguments = block.get("input")
            text = json.dumps(arguments, ensure_ascii=False) if arguments else ""
            return {**event, "content_block": {"type": "text", "text": text}}
        if not self._indexes or not isinstance(delta, Mapping):
            return event
        if delta.get("type") == "input_json_delta" and index in self._indexes:
            return {**event, "delta": {"type": "text_delta", "text": delta.get("partial_json")}}
        if delta.get("stop_reason") == "tool_use":
            return {**event, "delta": {**delta, "stop_reason": "end_turn"}}
        return event


def read_sofar(text: str) -> Any:
    """What an unfinished answer says so far, as plain values; None before it says anything."""
    return Growing().feed(text)


def read_answer(answer: ResponseChunk | None, T: Any) -> Any:
    """The instance in an answer; None where the model declined.

    Raises:
        TruncatedError: it ended at a limit before the JSON was whole.
        ParseError: it does not fit; ``problems`` says where.
    """
    reason = answer.stop_reason if answer is not None else None
    if reason == "refusal":
        return None
    text = Message("assistant", answer.blocks).text if answer is not None else ""
    try:
        return parse_answer(text, T)
    except ParseError as error:
        if reason in ("max_tokens", "model_context_window_exceeded"):
            raise TruncatedError(
                f"the answer ended at a limit ({reason}) before its JSON was whole",
                "Raise --max-tokens, or ask for less.",
            ) from error
        raise
