"""Blocks and messages: they go back to the API exactly as they came."""

from __future__ import annotations

import pytest

from nbchat.core.messages import Message, OpaqueBlock, TextBlock, ThinkingBlock, ToolUseBlock, block_of, stored


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ({"type": "text", "text": "hi"}, TextBlock),
        ({"type": "text", "text": "hi", "citations": [{"cited_text": "h"}], "cache_control": {"type": "x"}}, TextBlock),
        ({"type": "thinking", "thinking": "hm", "signature": "s"}, ThinkingBlock),
        ({"type": "tool_use", "id": "t", "name": "f", "input": {"a": [1]}, "caller": {"type": "direct"}}, ToolUseBlock),
        ({"type": "server_tool_use", "id": "t", "name": "web_search", "input": {}}, ToolUseBlock),
        ({"type": "mcp_tool_use", "id": "t", "name": "f", "input": {}, "server_name": "s"}, ToolUseBlock),
        ({"type": "redacted_thinking", "data": "xyz"}, OpaqueBlock),
        ({"type": "image", "source": {"type": "url", "url": "u"}}, OpaqueBlock),
        ({"type": "of_next_year", "deep": {"er": [1]}}, OpaqueBlock),
        ({"type": "text", "text": None}, OpaqueBlock),
        ({"no type": 1}, OpaqueBlock),
    ],
)
def test_a_block_goes_back_as_it_came(data, kind):
    """That is so for known fields, unknown fields and unknown types."""
    block = block_of(data)
    assert type(block) is kind
    assert block.to_dict() == data
    assert block_of(block.to_dict()) == block
    assert block.type == data.get("type", "")


def test_to_dict_returns_a_copy():
    """A change of the dict does not change the conversation."""
    block = block_of({"type": "tool_use", "id": "t", "name": "f", "input": {"a": [1]}, "x": {"y": [2]}})
    given = block.to_dict()
    given["input"]["a"].append(9)
    given["x"]["y"].append(9)
    assert block.to_dict()["input"] == {"a": [1]}
    assert block.to_dict()["x"] == {"y": [2]}
    opaque = block_of({"type": "later", "x": [1]})
    opaque.to_dict()["x"].append(9)
    assert opaque.to_dict()["x"] == [1]


def test_an_incomplete_call_is_sent_without_its_partial_json():
    """Files have it. The API does not take it."""
    call = ToolUseBlock("t", "f", {}, '{"a": 1')
    assert not call.valid
    assert call.arguments == '{"a": 1'
    assert call.to_dict() == {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    assert block_of(stored(call)) == call
    message = Message("assistant", (TextBlock("so"), call))
    assert Message.from_dict(stored(message)) == message
    assert ToolUseBlock("t", "f", {"a": "ü"}).arguments == '{\n  "a": "ü"\n}'


def test_a_message_of_one_plain_text_is_that_text():
    """A text and a block with this text make the same request."""
    assert Message.of("user", "hi") == Message.of("user", [{"type": "text", "text": "hi"}])
    assert Message.of("user", "hi").to_dict() == {"role": "user", "content": "hi"}
    cached = Message.of("user", [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}])
    assert isinstance(cached.to_dict()["content"], list)
    assert Message.from_dict(cached.to_dict()) == cached


def test_the_text_of_a_message_has_no_separators():
    """Citations split sentences into blocks."""
    message = Message.of("assistant", [TextBlock("The sky "), {"type": "later"}, TextBlock("is blue.")])
    assert message.text == "The sky is blue."
