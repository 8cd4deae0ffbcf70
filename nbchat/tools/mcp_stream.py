"""The messages of an MCP server, checked before the ``mcp`` library sees them.

The library refuses the whole list of tools for one invalid tool in it, and writes a traceback for each line that is
not a message. So the stream from the server is wrapped: tools that cannot be offered are taken out of the list, and
text that the server prints between its messages is skipped. Each of these is a note for the user.
https://modelcontextprotocol.io/specification/2025-11-25/basic/transports#stdio
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import re
from collections.abc import AsyncIterator, Callable, Mapping
from types import TracebackType
from typing import Any, Protocol, TypeAlias

from nbchat.content.blocks import one_line
from nbchat.core.errors import SchemaError, redact
from nbchat.tools.input_schema import InputSchema

__all__ = ["checked", "input_schema"]

#: The beginning of a message after text without a line break, such as a progress bar.
_MESSAGE = re.compile(r'\{\s*"(?:jsonrpc|id|result|error|method)"')
_MAX_BEGINNINGS = 5
_QUOTED_CHARACTERS = 60

#: A stream of the library, and a message in it or an exception. Their types are only in :mod:`nbchat.tools.mcp_server`.
_Stream: TypeAlias = Any
_Item: TypeAlias = Any

# Without a handler, Python prints the tracebacks of the library under the cell. The handlers of the user get them.
logging.getLogger("mcp").addHandler(logging.NullHandler())


def input_schema(schema: Mapping[str, Any]) -> InputSchema:
    """Return the InputSchema of a tool of a server.

    Raises:
        SchemaError: The API would refuse the schema.
    """
    try:
        return _input_schema(json.dumps(schema))
    except RecursionError:
        raise SchemaError("its inputSchema is nested too deeply", "") from None


# Tools are listed again for each request.
@functools.lru_cache(maxsize=1_000)
def _input_schema(text: str) -> InputSchema:
    import jsonschema

    schema = InputSchema.of(json.loads(text), "its inputSchema")
    try:
        jsonschema.Draft202012Validator.check_schema(schema.schema)
    except jsonschema.SchemaError as error:
        raise SchemaError(f"its inputSchema is not a valid JSON Schema: {error.message}", "") from None
    return schema


@contextlib.asynccontextmanager
async def checked(
    transport: contextlib.AbstractAsyncContextManager[tuple[_Stream, _Stream]],
    note: Note,
    message: Callable[[Any], _Item],
) -> AsyncIterator[tuple[_Stream, _Stream]]:
    """Connect as ``transport`` does, and check what the server writes.

    Args:
        transport: The connection to the server.
        note: Called with a line for the user, and with its kind if only the first line of a kind is wanted.
        message: Makes an item of the stream of a JSON-RPC message.
    """
    async with transport as (reading, writing):
        yield _CheckedStream(reading, note, message), writing


class Note(Protocol):
    """A function that keeps a line for the user."""

    def __call__(self, text: str, kind: str = "") -> None: ...


class _CheckedStream:
    """Read the messages that a server writes. Leave out other text, and tools that cannot be offered."""

    def __init__(self, stream: _Stream, note: Note, message: Callable[[Any], _Item]) -> None:
        self._stream, self._note, self._message = stream, note, message

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)  # the library looks for more than its protocol has

    async def receive(self) -> _Item:
        return self._checked(await self._stream.receive())

    def __aiter__(self) -> _CheckedStream:
        return self

    async def __anext__(self) -> _Item:
        return self._checked(await self._stream.__anext__())

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def __aenter__(self) -> _CheckedStream:
        await self._stream.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        handled: bool | None = await self._stream.__aexit__(kind, error, traceback)
        return handled

    def _checked(self, item: _Item) -> _Item:
        if isinstance(item, Exception):
            return self._recovered(item)
        result = getattr(item.message, "result", None)
        if isinstance(result, dict) and "tools" in result and "content" not in result:
            result["tools"] = list(self._offered(result["tools"]))
            if not isinstance(result.get("nextCursor", ""), str):
                del result["nextCursor"]
        return item

    def _recovered(self, error: Exception) -> _Item:
        """Return the message at the end of a line that begins with other text, or the error."""
        import pydantic
        from mcp_types import jsonrpc_message_adapter

        if not isinstance(error, pydantic.ValidationError):
            return error
        line = error.errors(include_url=False, include_context=False)[0]["input"]
        text = line if isinstance(line, str) else json.dumps(line, ensure_ascii=False, default=str)
        if not text.strip():
            return error
        message = None
        starts = [match.start() for match in _MESSAGE.finditer(text)] if isinstance(line, str) else []
        for start in starts[:_MAX_BEGINNINGS]:
            with contextlib.suppress(ValueError):
                message = self._message(jsonrpc_message_adapter.validate_json(text[start:], by_name=False))
                text = text[:start]
                break
        shown = redact(one_line(text, _QUOTED_CHARACTERS))
        text = f"text on its standard output was skipped: {shown} (a server logs to its standard error)"
        self._note(text, "standard output")
        return message if message is not None else error

    def _offered(self, tools: Any) -> Any:
        """Yield the tools of a list that can be offered, in a form that the library accepts."""
        if not isinstance(tools, list):
            self._note(f"its list of tools is not a list: {one_line(repr(tools))}")
            return
        for tool in tools:
            name = tool.get("name") if isinstance(tool, dict) else tool
            if not isinstance(tool, dict) or not isinstance(name, str) or not name.strip():
                self._note(f"a tool was left out: its name is {one_line(repr(name))}")
                continue
            try:
                schema = _schema_of(tool)
            except SchemaError as error:
                self._note(f"the tool {one_line(name)} was left out: {one_line(error.message, 200)}")
                continue
            yield _form(tool, schema)


def _schema_of(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Return the input schema of a tool in the form that MCP demands.

    Raises:
        SchemaError: There is none, or the API would refuse it.
    """
    schema = tool.get("inputSchema")
    if not isinstance(schema, dict):
        raise SchemaError(f"its inputSchema is {'missing' if schema is None else repr(schema)}", "")
    # An empty array of PHP is its empty object.
    schema = {word: {} if word == "properties" and not part else part for word, part in schema.items()}
    schema = {word: part for word, part in schema.items() if part is not None}
    if not isinstance(schema.get("$schema", ""), str):
        del schema["$schema"]
    input_schema(schema)
    if "object" in (kinds := schema.get("type", "object")) or kinds == "any":
        schema["type"] = "object"
    return schema


def _form(tool: Mapping[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Return a tool in the form that the library accepts: optional fields of a wrong type are left out."""
    import pydantic
    from mcp_types import Tool

    whole = {**tool, "inputSchema": schema}
    try:
        Tool.model_validate(whole, by_name=False)
        return whole
    except pydantic.ValidationError:
        description = tool.get("description")
        optional = {"description": description} if isinstance(description, str) else {}
        return {"name": tool["name"], **optional, "inputSchema": schema}
