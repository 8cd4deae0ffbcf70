"""Typed answers: asking an endpoint for a type, and reading an instance of the type out of its answer.

There are three ways to ask, because endpoints differ:

* ``format``: structured outputs. The API compiles the schema into a grammar, so that the answer
  cannot have another form. https://platform.claude.com/docs/en/build-with-claude/structured-outputs
* ``tool``: one tool with the schema as its input, and ``tool_choice`` that forces the model to call
  it. Older models, and most servers that imitate the API, know tools but no structured outputs.
* ``words``: an instruction under the prompt. A forced tool is refused together with thinking, and
  would keep the model from calling other tools, so that these requests ask in words.

There is one way to read. The input of a forced tool is turned into text while it streams, so that
the parser, the views and the conversation only know one kind of answer: text that is JSON.
"""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from nbchat.core.chunks import ResponseChunk, status_of
from nbchat.core.errors import InputError, ParseError, TruncatedError
from nbchat.core.messages import Message, TextBlock
from nbchat.core.misfit import Misfit
from nbchat.core.request import Request
from nbchat.core.response import Response
from nbchat.models import StructuredMethod
from nbchat.tools.answer_type import AnswerType

__all__ = [
    "ForcedAnswer",
    "answer_tool",
    "asked_again",
    "correction",
    "fields_of",
    "forces_answer",
    "instruction",
    "output_format",
    "plain",
    "read_answer",
    "response_table",
    "shaped",
    "table",
]

_FORCED_TOOL = {"type": "tool", "name": "answer"}


# -- asking ---------------------------------------------------------------------------------------


def shaped(request: Request, T: Any, way: StructuredMethod) -> Request:
    """Return the request with the type asked for.

    Args:
        request: The request as it is without a type.
        T: A type, a JSON Schema in a dict, or an :class:`AnswerType`.
        way: How the endpoint is asked. ``tool`` falls back to ``words`` where a forced tool is not
            possible.

    Raises:
        SchemaError: The type has no JSON Schema that the API accepts.
    """
    answer_type = AnswerType.of(T)
    params = dict(request.params)
    if way == "format":
        params["output_config"] = {**(params.get("output_config") or {}), "format": output_format(answer_type)}
        return replace(request, params=params)
    # While the model thinks, the API accepts only the tool choices "auto" and "none".
    # https://platform.claude.com/docs/en/agents-and-tools/tool-use/implement-tool-use#forcing-tool-use
    thinks = (params.get("thinking") or {}).get("type", "disabled") != "disabled"
    if way == "tool" and not request.tools and not thinks:
        return replace(request, tools=(answer_tool(answer_type),), params={**params, "tool_choice": _FORCED_TOOL})
    *history, prompt = request.messages
    prompt = Message(prompt.role, (*prompt.content, TextBlock(f"\n\n{instruction(answer_type)}")))
    return replace(request, messages=(*history, prompt))


def asked_again(request: Request, sofar: tuple[Message, ...], problems: Iterable[str]) -> Request:
    """Return the request of the second try: the turn so far, and the problems of its answer.

    The tools are still defined, because the calls in ``sofar`` are only valid next to their
    definitions. The model must not call them again: the answer is all that is missing.
    """
    messages = (*request.messages, *sofar, Message.of("user", correction(problems)))
    choice = {"tool_choice": {"type": "none"}} if request.tools and not forces_answer(request) else {}
    return replace(request, messages=messages, params={**request.params, **choice})


def forces_answer(request: Request) -> bool:
    """Return True if the answer will be the input of the forced tool."""
    return request.params.get("tool_choice") == _FORCED_TOOL


# The three texts below are sent to the model, and are a part of the digests of recorded cassettes.


def output_format(T: Any) -> dict[str, Any]:
    """Return ``output_config.format`` of a request, for the way ``format``."""
    return {"type": "json_schema", "schema": AnswerType.of(T).schema}


def answer_tool(T: Any) -> dict[str, Any]:
    """Return the definition of the tool whose input is the answer, for the way ``tool``."""
    answer_type = AnswerType.of(T)
    return {
        "name": "answer",
        "description": f"Give the answer: {answer_type.name}. Call this once, with the whole answer.",
        "input_schema": answer_type.input_schema,
    }


def instruction(T: Any) -> str:
    """Return the text under the prompt, for the way ``words``."""
    return (
        "Answer with one JSON object and nothing else: no other text, no code fence. "
        f"It must fit this JSON Schema:\n{json.dumps(AnswerType.of(T).schema, ensure_ascii=False)}"
    )


def correction(problems: Iterable[str]) -> str:
    """Return the prompt of the second try, after a ParseError. Recorded cassettes contain this text too."""
    listed = "\n".join(f"- {problem}" for problem in problems)
    return f"That answer does not fit the schema:\n{listed}\nGive the whole answer again, mended, and nothing else."


# -- reading --------------------------------------------------------------------------------------


class ForcedAnswer:
    """Translates the events of a forced tool call into the events of a text.

    Events of an unexpected form are returned unchanged: judging them is the parser's work.
    """

    def __init__(self) -> None:
        #: The indexes of the blocks that are translated.
        self._indexes: set[Any] = set()

    def translate(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the event, with the input of the forced tool as text."""
        block, delta, index = event.get("content_block"), event.get("delta"), event.get("index")
        if isinstance(block, Mapping) and block.get("type") == "tool_use" and block.get("name") == _FORCED_TOOL["name"]:
            self._indexes.add(index)
            # The input is {} here and arrives in deltas. Servers that do not stream send the complete input.
            arguments = block.get("input")
            text = json.dumps(arguments, ensure_ascii=False) if arguments else ""
            return {**event, "content_block": {"type": "text", "text": text}}
        if not self._indexes or not isinstance(delta, Mapping):
            return event
        if delta.get("type") == "input_json_delta" and index in self._indexes:
            return {**event, "delta": {"type": "text_delta", "text": delta.get("partial_json")}}
        if delta.get("stop_reason") == "tool_use":
            # Nobody will answer the call, so the turn ends here.
            return {**event, "delta": {**delta, "stop_reason": "end_turn"}}
        return event


def read_answer(answer: ResponseChunk | None, T: Any) -> Any:
    """Return the instance of ``T`` in a finished answer, or None if the model refused.

    Raises:
        TruncatedError: The answer ended at a limit before its JSON was complete.
        ParseError: The answer does not fit. ``problems`` lists each misfit with its path.
    """
    answer_type = AnswerType.of(T)
    reason = answer.stop_reason if answer is not None else None
    if status_of(reason) == "refused":
        # The text is an apology, and "not JSON" would hide the reason. The turn raises RefusedError.
        return None
    text = Message("assistant", answer.blocks).text if answer is not None else ""
    try:
        return answer_type.parse(text)
    except ParseError as error:
        if status_of(reason) == "incomplete":
            raise TruncatedError(
                f"the answer ended at a limit ({reason}) before its JSON was complete",
                "Raise --max-tokens, or ask for less.",
            ) from error
        raise


# -- as a table -----------------------------------------------------------------------------------


def table(value: Any) -> Any:
    """Return a pandas DataFrame with a row for each item of a list, or one row for any other value.

    Args:
        value: Instances of dataclasses or pydantic models, dicts, or plain values.

    Raises:
        InputError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise InputError("a table needs the library pandas, which is not installed", "pip install pandas") from None
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    return pandas.DataFrame([fields_of(item) for item in items])


def response_table(response: Response) -> Any:
    """Return :func:`table` of the typed answer in a Response.

    Raises:
        InputError: The answer is not a typed one, or pandas is not installed.
        ParseError: The answer did not fit its type.
    """
    if isinstance(response.parsed, Misfit):
        response.parsed.refuse()
    if response.parsed is None:
        raise InputError(
            "this Response has no typed answer to show as a table",
            "Ask with --schema TYPE, such as --schema list[Person].",
        )
    return table(response.parsed)


def plain(value: Any) -> Any:
    """Return a typed answer as plain JSON values: models and dataclasses as dicts, enums as their values."""
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value)


def fields_of(item: Any) -> dict[str, Any]:
    """Return the fields of an instance by name. A plain value is in the field ``value``."""
    if isinstance(item, Mapping):
        fields = {str(key): part for key, part in item.items()}
    elif dataclasses.is_dataclass(item) and not isinstance(item, type):
        # Not asdict(), which also takes nested instances apart.
        fields = {field.name: getattr(item, field.name) for field in dataclasses.fields(item)}
    elif hasattr(type(item), "model_fields"):
        fields = dict(item)
    else:
        fields = {"value": item}
    return {key: part.value if isinstance(part, enum.Enum) else part for key, part in fields.items()}
