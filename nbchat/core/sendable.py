"""Decide what may be sent again of the messages of a turn. The API rejects a whole request because of one block.

1. Every call has its result, and every result its call.
2. A finished turn ends with an answer, so that the next prompt can follow.
3. No block is empty, and JSON in UTF-8 can hold each one.
4. No thinking goes to another model or endpoint: a signature is valid only where it was made.
5. No field goes back that only the API may write.
6. Another endpoint gets only the blocks and fields of the Messages API. The endpoint that sent others
   gets them back as they were.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from nbchat.core.messages import (
    Block,
    Message,
    OpaqueBlock,
    TextBlock,
    ThinkingBlock,
    ToolUseBlock,
    block_of,
    fits_json,
    tool_calls,
)

__all__ = ["ACCEPTED_FIELDS", "dialogue", "resumable", "sendable_block"]

_THINKING = ("thinking", "redacted_thinking")
#: The fields that the API takes in the blocks of an answer, besides ``type``: the ``*Param`` types of the SDK.
ACCEPTED_FIELDS: Mapping[str, frozenset[str]] = {
    kind: frozenset(fields.split())
    for kind, fields in {
        "text": "text citations cache_control",
        "thinking": "thinking signature",
        "redacted_thinking": "data",
        "tool_use": "id name input caller toolset_name cache_control",
        "server_tool_use": "id name input caller cache_control",
        "mcp_tool_use": "id name input server_name cache_control",
        "mcp_tool_listing": "mcp_server_name tools",
        "mcp_tool_result": "tool_use_id content is_error cache_control",
        "web_search_tool_result": "tool_use_id content caller cache_control",
        "web_fetch_tool_result": "tool_use_id content caller cache_control",
        "code_execution_tool_result": "tool_use_id content cache_control",
        "bash_code_execution_tool_result": "tool_use_id content cache_control",
        "text_editor_code_execution_tool_result": "tool_use_id content cache_control",
        "tool_search_tool_result": "tool_use_id content cache_control",
        "advisor_tool_result": "tool_use_id content cache_control",
        "container_upload": "file_id cache_control",
        "compaction": "content encrypted_content signature tool_changes cache_control",
        "fallback": "from to trigger",
    }.items()
}
#: Fields of a block that only the API, or the SDK of a gateway, writes.
_RESPONSE_ONLY = frozenset({"parsed_output"})


def sendable_block(block: Block, *, foreign: bool = False) -> Block | None:
    """Return a block of an answer as it may be sent again, or None if it may not.

    Args:
        block: The block as it arrived.
        foreign: True for an endpoint other than the one that sent the block.

    >>> sendable_block(block_of({"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}, "caller": None}))
    ToolUseBlock(id='toolu_1', name='f', input={}, partial_json='', type='tool_use', extra={})
    >>> sendable_block(TextBlock(" "))
    """
    # "messages: text content blocks must contain non-whitespace text" (HTTP 400)
    if not block.type or (isinstance(block, TextBlock) and not block.text.strip()) or not fits_json(block):
        return None
    fields = block.to_dict()
    accepted = ACCEPTED_FIELDS.get(block.type)
    if accepted is None:
        return None if foreign else block
    # An absent field and a null mean the same, but the API refuses null in some fields. Only the summary
    # of a compaction may be null, and goes back as it is.
    keeps_null = block.type == "compaction"
    kept = {"type": block.type} | {
        name: value
        for name, value in fields.items()
        if name not in _RESPONSE_ONLY and (value is not None or keeps_null) and (name in accepted or not foreign)
    }
    if block.type == "text" and "citations" in kept:
        # https://platform.claude.com/docs/en/build-with-claude/citations: the id of the file is only told.
        kept["citations"] = [_without(citation, "file_id") for citation in kept["citations"]]
    elif block.type.endswith("code_execution_tool_result"):
        kept = _without(kept, "citations")
    return block if kept == fields else block_of(kept)


def _without(value: Any, name: str) -> Any:
    """Return a JSON value without the field ``name`` of its objects."""
    if isinstance(value, Mapping):
        return {key: _without(part, name) for key, part in value.items() if key != name}
    return [_without(part, name) for part in value] if isinstance(value, list | tuple) else value


def resumable(messages: Iterable[Message]) -> tuple[Message, ...]:
    """Return the answers and results of a running turn, as the next request of the turn takes them.

    Thinking stays, and so does the call of a server tool whose result is still to come: the service
    continues an answer that it paused.
    """
    given = tuple(messages)
    sent: list[Message] = []
    calls: list[str] = []
    for message, following in zip(given, (*given[1:], Message("user", ())), strict=False):
        if message.role == "assistant":
            message = _own_parts(message)
            answered = _answered_calls(following) if following.role == "user" else set()
            open_calls = [call for call in tool_calls(message.content) if call.id not in answered]
            message = replace(message, content=tuple(block for block in message.content if block not in open_calls))
            calls = [call.id for call in tool_calls(message.content)]
        else:
            message, calls = _results_for(calls, message), []
        if message.content:
            sent.append(message)
    return tuple(sent)


def dialogue(messages: tuple[Message, ...], *, thinking: bool = True, foreign: bool = False) -> tuple[Message, ...]:
    """Return the messages of a finished turn that may be sent again; () if none may.

    The result begins with the prompt and ends with an answer.

    Args:
        messages: The prompt, then answers and tool results.
        thinking: False to leave thinking out.
        foreign: True for an endpoint other than the one that answered.
    """
    messages = tuple(
        message if message.role == "user" else _own_parts(message, thinking=thinking, foreign=foreign)
        for message in messages
    )
    # Once is not enough: dropping a call can leave another block without its counterpart, for
    # example the result of a server tool in a later answer.
    while (shorter := _dialogue(messages)) != messages:
        messages = shorter
    return messages


def _own_parts(answer: Message, *, thinking: bool = True, foreign: bool = False) -> Message:
    """Return an answer with those of its blocks that may be sent, each for itself."""
    blocks = (sendable_block(block, foreign=foreign) for block in answer.content)
    kept = (block for block in blocks if block is not None and (thinking or block.type not in _THINKING))
    return replace(answer, content=tuple(kept))


def _dialogue(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return the prompt, answers and results up to the last answer whose calls all have results."""
    prompt, *rest = _merged(messages) or (Message("user", ()),)
    dialogue = [prompt]
    # A server tool's result may come in a later answer than its call, so both are searched in the
    # whole turn. Half of such a pair is dropped.
    server_calls = _server_calls(messages) & _server_results(messages)
    while rest and rest[0].role == "assistant":
        answer = rest.pop(0)
        results = rest.pop(0) if rest else Message("user", ())
        answer = _paired_part(answer, _answered_calls(results), server_calls)
        calls = [call.id for call in tool_calls(answer.content)]
        if answer.content:
            dialogue.append(answer)
        if not calls:
            break
        dialogue.append(_results_for(calls, results))
    # The turn may have been interrupted after a tool had run. The next prompt is a user message, too,
    # so the dialogue must end with an answer. The results without one go, and with them their calls.
    while dialogue and dialogue[-1].role == "user":
        dialogue.pop()
        if dialogue:
            dialogue[-1] = _paired_part(dialogue[-1], set(), server_calls)
            if not dialogue[-1].content:
                dialogue.pop()
    return tuple(dialogue)


def _merged(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return the messages with answers that follow each other joined into one.

    A service that pauses a long turn continues it in a second answer:
    https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons#pause-turn
    """
    merged: list[Message] = []
    for message in messages:
        if merged and merged[-1].role == message.role == "assistant":
            merged[-1] = replace(message, content=merged[-1].content + message.content)
        else:
            merged.append(message)
    return tuple(merged)


def _answered_call(block: Block) -> str | None:
    """Return the id of the call whose result ``block`` is; None if it is not a result."""
    call = block.data.get("tool_use_id") if isinstance(block, OpaqueBlock) else None
    return call if isinstance(call, str) else None


def _answered_calls(message: Message) -> set[str]:
    """Return the ids of the calls whose results a message has."""
    return {call for block in message.content if (call := _answered_call(block)) is not None}


def _server_calls(messages: Iterable[Message]) -> set[str]:
    """Return the ids of the calls that the service runs itself."""
    return {
        block.id
        for message in messages
        for block in message.content
        if isinstance(block, ToolUseBlock) and block.type != "tool_use"
    }


def _server_results(messages: Iterable[Message]) -> set[str]:
    """Return the ids of the calls whose results are in an answer, where the service puts its own."""
    return {call for message in messages if message.role == "assistant" for call in _answered_calls(message)}


def _results_for(calls: list[str], results: Message) -> Message:
    """Return the message with one result for each call. Blocks that are not results stay."""
    unanswered = list(calls)
    blocks = []
    for block in results.content:
        call = _answered_call(block)
        if call in unanswered:
            unanswered.remove(call)
        elif call is not None:
            continue
        blocks.append(block)
    return replace(results, content=tuple(blocks))


def _paired_part(answer: Message, answered: set[str], server_calls: set[str]) -> Message:
    """Return the answer without calls that have no result, and without results that have no call.

    Args:
        answer: A message of the assistant.
        answered: The calls whose results are in the next message.
        server_calls: The calls of the service that have their results in an answer.
    """
    seen: set[tuple[str, str]] = set()

    def accepted(block: Block) -> bool:
        match block:
            case ThinkingBlock():
                # The signature comes last, so thinking that was interrupted has none.
                return bool(block.signature)
            case ToolUseBlock():
                repeated = (block.type, block.id) in seen
                seen.add((block.type, block.id))
                return not repeated and block.id in (answered if block.type == "tool_use" else server_calls)
        return _answered_call(block) is None or _answered_call(block) in server_calls

    blocks = tuple(block for block in answer.content if accepted(block))
    # Thinking leads to something. An answer of nothing else was interrupted before its first word.
    if all(block.type in _THINKING for block in blocks):
        blocks = ()
    return replace(answer, content=blocks)
