"""Structured answers in a request: how an endpoint is asked for a type, and its answer read.

Three ways: ``format`` (structured outputs of the API), ``tool`` (a forced tool whose input is the
answer), ``words`` (an instruction under the prompt). The input of a forced tool is turned into
text as it arrives, so that the parser, the views and the conversation know one kind of answer.
https://platform.claude.com/docs/en/build-with-claude/structured-outputs
"""

from __future__ import annotations

import dataclasses
import enum
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from nbchat.core.chunks import ResponseChunk
from nbchat.core.errors import InputError, ParseError, SchemaError, TruncatedError
from nbchat.core.messages import Message, TextBlock
from nbchat.core.request import Request
from nbchat.core.response import Response, fenced_code
from nbchat.models import StructuredMethod
from nbchat.tools.schema import adapter_of, json_schema, problems_of, schema_of, type_name, wrapper_of

__all__ = [
    "ForcedAnswer",
    "Growing",
    "answer_tool",
    "asked_again",
    "correction",
    "forces_answer",
    "instruction",
    "output_format",
    "parse_answer",
    "partial",
    "plain",
    "read_answer",
    "read_sofar",
    "response_table",
    "shaped",
    "table",
]


_FORCED = {"type": "tool", "name": "answer"}


#: What the json module raises for a text it cannot read: wrong, or nested thousands deep.
_UNREADABLE = (ValueError, RecursionError)


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


def output_format(T: Any) -> dict[str, Any]:
    """``output_config.format`` of a request, for endpoints that have structured outputs."""
    return {"type": "json_schema", "schema": schema_of(T)}


def answer_tool(T: Any) -> dict[str, Any]:
    """The definition of a tool whose input is the answer, for endpoints that only force a tool."""
    return {
        "name": "answer",
        "description": f"Give the answer: {type_name(T)}. Call this once, with the whole answer.",
        "input_schema": schema_of(T),
    }


def instruction(T: Any) -> str:
    """What to write under a prompt for an endpoint that has neither."""
    return (
        "Answer with one JSON object and nothing else: no other text, no code fence. "
        f"It must fit this JSON Schema:\n{json.dumps(schema_of(T), ensure_ascii=False)}"
    )


def correction(problems: Iterable[str]) -> str:
    """The prompt of the second try, after a ParseError."""
    listed = "\n".join(f"- {problem}" for problem in problems)
    return f"That answer does not fit the schema:\n{listed}\nGive the whole answer again, mended, and nothing else."


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


def parse_answer(answer: str | Mapping[str, Any], T: Any) -> Any:
    """The instance of ``T`` in an answer: its text, or the input of a forced tool.

    A fenced block around the JSON, and prose around that, are forgiven. Where ``T`` is a JSON
    Schema the plain value is returned.

    Raises:
        ParseError: no JSON, or JSON that does not fit; ``problems`` says where.
        SchemaError: ``T`` has no JSON form.
    """
    key = wrapper_of(json_schema(T))
    value = _find_json(answer, T) if isinstance(answer, str) else dict(answer)
    if key and isinstance(value, Mapping) and set(value) == {key}:
        value = value[key]
    if isinstance(T, Mapping):
        _raise_for(_schema_problems(value, T), T)
        return value
    import pydantic

    try:
        return adapter_of(T).validate_json(json.dumps(value))
    except pydantic.ValidationError as error:
        problems = problems_of(error)
    _raise_for(problems, T)
    return None


def _raise_for(problems: tuple[str, ...], T: Any) -> None:
    if not problems:
        return
    listed = "\n".join(f"  {problem}" for problem in problems[:10])
    more = f"\n  and {len(problems) - 10} more" if len(problems) > 10 else ""
    raise ParseError(
        f"the answer does not fit {type_name(T)}:\n{listed}{more}",
        "--retry asks once more with these problems; the answer as it came is in .response.text.",
        problems=problems,
    )


def _find_json(text: str, T: Any) -> Any:
    """The JSON value of a text: all of it, or its fenced block, or the first that stands in the prose."""
    try:
        return json.loads(text)
    except _UNREADABLE as error:
        problem = str(error)
    blocks = sorted(fenced_code(text), key=lambda block: block[0] != "json")
    for _, source in blocks:
        try:
            return json.loads(source)
        except _UNREADABLE as error:
            problem = str(error)
    # A value of any size is a whole answer here, so that braces in prose are passed by, but only
    # so many: the search must not be quadratic in hostile text.
    starts = (match.start() for match, _ in zip(re.finditer(r"[{\[]", text), range(64), strict=False))
    for start in starts:
        try:
            return json.JSONDecoder().raw_decode(text, start)[0]
        except _UNREADABLE:
            continue
    _raise_for((f"not JSON: {problem}" if text.strip() else "the answer is empty",), T)
    return None


def _schema_problems(value: Any, schema: Mapping[str, Any]) -> tuple[str, ...]:
    """What does not fit a JSON Schema that was given as a dict."""
    try:
        import jsonschema
    except ImportError:
        raise InputError(
            "--schema with a JSON Schema in a dict needs the library jsonschema",
            "pip install jsonschema, or give a dataclass or a pydantic model instead.",
        ) from None
    validator = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
    try:
        validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise SchemaError(f"this is no valid JSON Schema: {error.message}", "See json-schema.org.") from None
    found = sorted(validator(schema).iter_errors(value), key=lambda error: [str(step) for step in error.absolute_path])
    return tuple(f"{'.'.join(str(s) for s in error.absolute_path) or 'the answer'}: {error.message}" for error in found)


def table(value: Any) -> Any:
    """A pandas DataFrame of a list of instances, dicts or plain values: a row each; of one, a single row.

    Raises:
        InputError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise InputError("a table needs pandas, which is not installed", 'pip install "nbchat[data]"') from None
    rows = list(value) if isinstance(value, (list, tuple)) else [value]
    return pandas.DataFrame([_row(row) for row in rows])


def response_table(response: Response) -> Any:
    """Return :func:`table` of the typed answer in a Response.

    Raises:
        InputError: the answer is not a typed one, or pandas is not installed.
    """
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


def _row(value: Any) -> dict[str, Any]:
    return {key: part.value if isinstance(part, enum.Enum) else part for key, part in _fields(value)}


def _fields(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((str(key), part) for key, part in value.items())
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
    elif hasattr(type(value), "model_fields"):
        yield from dict(value).items()
    else:
        yield "value", value


# -- showing --------------------------------------------------------------------------------------


def partial(text: str) -> Any:
    """What an unfinished JSON text says so far, as plain values; None before anything does.

    An unfinished text or number is what has come of it; an unfinished ``true`` is left out.
    """
    from pydantic_core import from_json

    start = re.search(r"[{\[]", text)
    if start is None:
        return None
    body = text[start.start() :] if start.start() else text
    try:
        return from_json(body, allow_partial="trailing-strings")
    except ValueError:
        pass
    try:
        # Prose or a fence may stand behind the value.
        return json.JSONDecoder().raw_decode(body)[0]
    except _UNREADABLE:
        return None


class Growing:
    """The values of a JSON text that arrives in pieces, for the live view.

    The text is read again only when it has grown by a tenth since the last time, so that all the
    readings together cost no more than eleven of the whole text, however many pieces it came in.
    """

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._length = 0
        self._due = 1

    def feed(self, piece: str) -> Any:
        """Take a piece; give the value so far where it was read anew, else None."""
        self._pieces.append(piece)
        self._length += len(piece)
        if self._length < self._due:
            return None
        return self.value()

    def value(self) -> Any:
        """The value so far, read now. A root that was wrapped for the API is unwrapped."""
        text = "".join(self._pieces)
        self._pieces = [text]
        self._due = self._length + max(self._length // 10, 16)
        found = partial(text)
        if isinstance(found, dict) and len(found) == 1 and isinstance(found.get("items"), list):
            return found["items"]
        return found


def read_sofar(text: str) -> Any:
    """What an unfinished answer says so far, as plain values; None before it says anything."""
    return Growing().feed(text)
