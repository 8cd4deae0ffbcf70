"""Tests of the capabilities of a model: the form of thinking, and the errors before sending."""

from __future__ import annotations

import pytest

from nbchat.core.errors import AttachmentError, OptionError, SchemaError
from nbchat.core.messages import Message
from nbchat.core.request import Request
from nbchat.engine.capabilities import (
    accepted_thinking,
    asks_much,
    filters_no_results,
    refuse_unaccepted,
    thinking_of,
    window_of,
)

YES, NO = {"supported": True}, {"supported": False}
SEARCH = {"type": "web_search_20250305", "name": "web_search"}
CODE = {"type": "code_execution_20250825", "name": "code_execution"}


def about(**more):
    """Return a model of the Models API that can do everything, except for the arguments."""
    can = {
        "image_input": YES, "pdf_input": YES, "structured_outputs": YES,
        "server_tools": {"supported": True, "web_search": YES, "code_execution": YES},
        "effort": {"supported": True, "low": YES, "medium": YES, "high": YES, "xhigh": NO, "max": NO},
        "thinking": {"supported": True, "types": {"adaptive": YES, "enabled": NO, "disabled": YES}},
    }  # fmt: skip
    return {"id": "m", "max_tokens": 64_000, "max_input_tokens": 200_000, "capabilities": can | more}


def request(content="Hi", **more):
    return Request(**({"model": "m", "messages": (Message.of("user", content),), "max_tokens": 1000} | more))


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("claude-sonnet-5-5", "adaptive"), ("claude-fable-5", "adaptive"), ("claude-opus-4-6", "adaptive"),
        ("claude-opus-4-8", "adaptive"), ("claude-mythos-preview", "adaptive"), ("some-model", "adaptive"),
        ("us.anthropic.claude-sonnet-4-6-v1:0", "adaptive"), ("claude-haiku-4-5", "enabled"),
        ("claude-haiku-4-5-20251001", "enabled"), ("claude-opus-4-5@20251101", "enabled"),
        ("claude-sonnet-4-20250514", "enabled"), ("claude-3-7-sonnet-20250219", "enabled"),
        ("anthropic/claude-opus-4.1", "enabled"), ("anthropic.claude-haiku-4-5-20251001-v1:0", "enabled"),
    ],
)  # fmt: skip
def test_thinking_takes_the_form_of_the_model(model, kind):
    """Models up to 4.5 get a thinking budget. Later models get adaptive thinking."""
    assert thinking_of(model, 8192)["type"] == kind


def test_a_budget_leaves_room_for_the_answer():
    """The budget is at least 1,024 and less than ``max_tokens``. If that is impossible, ``--thinking`` is refused."""
    for limit in (1_025, 2_000, 8_192, 64_000):
        assert 1_024 <= thinking_of("claude-haiku-4-5", limit)["budget_tokens"] < limit
    with pytest.raises(OptionError, match="--max-tokens"):
        thinking_of("claude-haiku-4-5", 1_024)


def test_the_models_api_overrides_the_name():
    """The Models API decides which form of thinking is sent, whatever the name of the model suggests."""
    only_budget = about(thinking={"supported": True, "types": {"adaptive": NO, "enabled": YES}})
    assert accepted_thinking({"type": "adaptive"}, only_budget, 8_192)["type"] == "enabled"
    assert accepted_thinking({"type": "enabled", "budget_tokens": 2_000}, about(), 8_192)["type"] == "adaptive"
    assert accepted_thinking({"type": "adaptive"}, {}, 8_192) == {"type": "adaptive"}


@pytest.mark.parametrize(
    ("asked", "told", "said"),
    [
        ({"params": {"output_config": {"effort": "max"}}}, about(), "low, medium, high"),
        ({"params": {"output_config": {"effort": "low"}}}, about(effort=NO), "--effort"),
        ({"params": {"thinking": {"type": "adaptive"}}}, about(thinking=NO), "--thinking"),
        ({"params": {"thinking": {"type": "enabled"}}}, about(), "adaptive"),
        ({"max_tokens": 100_000}, about(), "64,000"),
        ({"tools": (SEARCH,)}, about(server_tools={"web_search": NO}), "--web-search"),
        ({"tools": (CODE,)}, about(server_tools={"code_execution": NO}), "--code-execution"),
    ],
)  # fmt: skip
def test_an_unsupported_option_is_refused_by_its_name(asked, told, said):
    """The error names the option and the values that the model accepts."""
    with pytest.raises(OptionError) as refused:
        refuse_unaccepted(request(**asked), told)
    assert said in f"{refused.value.message} {refused.value.hint}"
    refuse_unaccepted(request(**asked), {})  # a model without capabilities refuses nothing


def test_images_and_pdfs_for_a_model_that_cannot_see():
    """Images and PDFs are refused, also in tool results. A text document is not a PDF."""
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}
    pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AA=="}}
    text = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}}
    inside = {"type": "tool_result", "tool_use_id": "t", "content": [image]}
    for content, told in (([image], "image_input"), ([pdf], "pdf_input"), ([inside], "image_input")):
        with pytest.raises(AttachmentError, match="does not read"):
            refuse_unaccepted(request(content), about(**{told: NO}))
        refuse_unaccepted(request(content), about())
    refuse_unaccepted(request([text]), about(pdf_input=NO))


def test_a_schema_for_a_model_without_structured_answers():
    """A schema raises a SchemaError before sending if the model has no structured outputs."""
    asked = request(params={"output_config": {"format": {"type": "json_schema", "schema": {}}}})
    with pytest.raises(SchemaError):
        refuse_unaccepted(asked, about(structured_outputs=NO))


def test_a_users_own_tool_is_not_a_server_tool():
    """A user's own tool that is called ``web_search`` is not refused."""
    own = request(tools=({"name": "web_search", "input_schema": {}},))
    refuse_unaccepted(own, about(server_tools={"web_search": NO}))
    assert not asks_much(own)


def test_code_that_cannot_call_tools_needs_the_basic_versions():
    """Only an explicit report counts."""
    assert filters_no_results(about(code_execution=NO))
    assert not filters_no_results(about(code_execution=YES))
    assert not filters_no_results({})


def test_a_plain_question_needs_no_models_api():
    """The Models API is asked only about features that some models lack."""
    assert not asks_much(request(params={"cache_control": {"type": "ephemeral"}}))
    assert asks_much(request(params={"thinking": {"type": "adaptive"}}))
    assert asks_much(request(max_tokens=9_000))


def test_an_unknown_window_is_none():
    """A window that is missing, None or zero is unknown."""
    assert window_of(about()) == 200_000
    assert window_of({}) is window_of({"max_input_tokens": 0}) is window_of({"max_input_tokens": None}) is None
