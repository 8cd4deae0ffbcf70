"""Usage: reading it from the API, adding, storing."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from nbchat.core.errors import InputError
from nbchat.core.usage import Usage
from nbchat.store.prices import cost_of

FULL = {
    "input_tokens": 10,
    "output_tokens": 7,
    "cache_creation_input_tokens": 100,
    "cache_read_input_tokens": 1000,
    "cache_creation": {"ephemeral_5m_input_tokens": 60, "ephemeral_1h_input_tokens": 40},
    "output_tokens_details": {"thinking_tokens": 3},
    "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 1},
    "service_tier": "standard",
    "later_field": {"x": 1},
}


def test_every_tier_is_counted():
    """The whole prompt is the sum of the three input tiers."""
    usage = Usage.from_api(FULL)
    assert usage.prompt_tokens == 1110
    assert usage.completion_tokens == 7
    assert usage.total_tokens == 1117
    assert usage.cache_creation_1h_input_tokens == 40
    assert usage.thinking_tokens == 3
    assert (usage.web_search_requests, usage.web_fetch_requests) == (2, 1)
    assert usage.cached_share == pytest.approx(1000 / 1110)


@pytest.mark.parametrize(
    "given",
    [
        None,
        {},
        {"input_tokens": None, "cache_creation": None, "server_tool_use": None},
        {"input_tokens": "many", "server_tool_use": []},
    ],
)
def test_missing_null_and_invalid_counts_are_zero(given):
    """Gateways leave fields out, and some put other things into them."""
    assert Usage.from_api(given) == Usage()
    assert Usage().cached_share == 0.0


def test_tiers_that_differ_are_mixed_and_those_that_agree_stay():
    """A sum over tiers has no single price."""
    standard, batch, none = Usage(service_tier="standard"), Usage(service_tier="batch"), Usage()
    assert (standard + none + standard).service_tier == "standard"
    assert (standard + batch).service_tier == "mixed"
    assert (standard + Usage(estimated=True)).estimated
    with pytest.raises(TypeError):
        standard + 1


def test_an_estimate_never_lowers_a_count():
    """The result is marked as an estimate."""
    usage = Usage(output_tokens=50).estimate_output(20)
    assert (usage.output_tokens, usage.estimated) == (50, True)
    assert Usage(output_tokens=1).estimate_output(20).output_tokens == 20


def test_the_dict_has_neutral_names_and_reads_back():
    """Empty fields are left out."""
    usage = Usage.from_api(FULL)
    kept = usage.to_dict()
    assert (kept["prompt_tokens"], kept["completion_tokens"], kept["total_tokens"]) == (1110, 7, 1117)
    assert "speed" not in kept
    assert Usage.from_dict(kept) == usage
    assert Usage.from_dict({}) == Usage()


@pytest.mark.parametrize(
    "bad", [True, False, -1, 10**12, 2**64, 10**400, 1.5, 12.0, "12", [], {}], ids=lambda bad: str(bad)[:9]
)
def test_what_is_not_a_count_is_0_and_has_no_cost(bad):
    """No cost is made up from nonsense, also not from the counts next to it."""
    usage = Usage.from_api({"input_tokens": 1000, "output_tokens": bad})
    assert (usage.input_tokens, usage.output_tokens, usage.uncertain) == (1000, 0, True)
    assert cost_of(usage, "claude-sonnet-5-5", "anthropic") is None
    assert cost_of(usage, "m", "mine", overrides={"m": {"input": 1, "output": 1}}) is None
    assert (usage + Usage(1)).uncertain
    assert Usage.from_dict(usage.to_dict()).uncertain
    assert not Usage.from_api({"input_tokens": 1, "output_tokens": None}).uncertain


def test_a_tier_that_cannot_be_encoded_is_storable():
    """Half a surrogate pair becomes U+FFFD."""
    assert Usage.from_api({"service_tier": "a\ud83d"}).service_tier == "a\ufffd"


def test_from_dict_names_the_field():
    """A damaged file is one InputError."""
    for bad in (True, -1, 2**63, "1", None, 1.5):
        with pytest.raises(InputError, match="the field input_tokens is "):
            Usage.from_dict({"input_tokens": bad})


# Iterations ----------------------------------------------------------------------------------

#: The numbers of the documentation: top-level counts without the compaction.
#: https://platform.claude.com/docs/en/build-with-claude/compaction-threshold
COMPACTED = {
    "input_tokens": 23_000,
    "output_tokens": 1_000,
    "cache_creation": {"ephemeral_1h_input_tokens": 0},
    "server_tool_use": {"web_search_requests": 2},
    "service_tier": "standard",
    "iterations": [
        {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3_500},
        {"type": "message", "input_tokens": 23_000, "output_tokens": 1_000},
    ],
}
#: The prompt was read twice by the executor, and once by an advisor of another model.
ADVISED = {
    "input_tokens": 412,
    "output_tokens": 531,
    "iterations": [
        {"type": "message", "input_tokens": 412, "output_tokens": 89},
        {"type": "advisor_message", "model": "claude-opus-4-7", "input_tokens": 823, "output_tokens": 1612},
        {"type": "message", "input_tokens": 1348, "cache_read_input_tokens": 412, "output_tokens": 442},
    ],
}


def test_the_tokens_of_a_request_are_those_of_its_iterations():
    """The API's top-level counts leave out what the service used for itself, and it bills all of it."""
    usage = Usage.from_api(COMPACTED)
    assert (usage.input_tokens, usage.output_tokens, usage.web_search_requests) == (203_000, 4_500, 2)
    assert [(part.model, part.usage.input_tokens) for part in usage.iterations] == [("", 180_000), ("", 23_000)]
    assert {part.usage.service_tier for part in usage.iterations} == {"standard"}
    assert sum((part.usage for part in usage.iterations), Usage()) == replace(usage, iterations=())
    usage = Usage.from_api(ADVISED)
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (2583, 412, 2143)
    assert [part.model for part in usage.iterations] == ["", "claude-opus-4-7", ""]
    assert not usage.uncertain


def test_a_sum_has_the_iterations_of_all_its_requests():
    """A request without iterations is one itself, so the iterations always add up to the sum."""
    usage, plain = Usage.from_api(ADVISED), Usage(5, 7)
    total = usage + plain + plain
    assert len(total.iterations) == 3 + 2
    assert sum(part.usage.total_tokens for part in total.iterations) == total.total_tokens
    assert Usage() + usage == usage
    assert (plain + plain).iterations == ()
    assert Usage.from_dict(json.loads(json.dumps(total.to_dict()))) == total


def fallback(*models: str) -> list[dict]:
    """Return the iterations of a turn that the last model answered."""
    entries = [{"type": "message", "model": model, "input_tokens": 1, "output_tokens": 1} for model in models]
    entries[-1]["type"] = "fallback_message"
    return entries


@pytest.mark.parametrize(
    ("usage", "uncertain"),
    [
        ({"iterations": fallback("claude-opus-5-5")}, False),  # it answered from the start
        ({"iterations": fallback("claude-opus-5-5", "claude-opus-5-5")}, False),
        # The first model refused. Nobody says what its part costs, and how large the credit for the cache is.
        ({"iterations": fallback("claude-fable-5-2", "claude-opus-5-5")}, True),
        ({"iterations": [{"type": "message", "input_tokens": 1}, *fallback("claude-opus-5-5")]}, True),
        ({"iterations": [{"type": "dream", "input_tokens": 1}]}, True),  # a type that the API may add
        ({"iterations": [{"type": ["message"], "input_tokens": 1}]}, True),
        ({"iterations": [{"type": "message", "input_tokens": "1"}]}, True),
        ({"iterations": ["message"]}, True),
        ({"iterations": [{"type": "advisor_message", "input_tokens": 1}]}, True),  # of an unknown model
        ({"output_tokens": 9, "iterations": [{"type": "message", "output_tokens": 8}]}, True),  # one is missing
        ({"speed": "fast", "iterations": [{"type": "message", "input_tokens": 1}]}, False),
        ({"speed": "fast", "iterations": [{"type": "compaction", "input_tokens": 1}]}, True),
        ({"iterations": []}, False),
        ({"iterations": None}, False),
        ({"cache_creation_input_tokens": 9, "fallback_credit": {"status": {"type": "redeemed"}}}, True),
        ({"cache_creation_input_tokens": 9, "fallback_credit": {"status": {"type": "not_applied"}}}, False),
        ({"cache_creation_input_tokens": 0, "fallback_credit": {"status": {"type": "redeemed"}}}, False),
        ({"cache_creation_input_tokens": 9, "fallback_credit": "redeemed"}, False),
    ],
)
def test_a_cost_is_unknown_where_the_iterations_do_not_tell_it(usage, uncertain):
    """An unknown cost is None, and never a cost that is made up."""
    assert Usage.from_api(usage).uncertain is uncertain


def test_nested_iterations_are_no_way_to_the_end_of_the_stack():
    """An endpoint may send anything."""
    entry: dict = {"type": "message", "input_tokens": 1}
    for _ in range(100_000):
        entry = {"type": "message", "input_tokens": 1, "iterations": [entry]}
    assert Usage.from_api(entry).input_tokens == 1


def test_without_a_cache_every_token_is_sent():
    """This is what the requests would have used without caching."""
    usage = Usage(
        10, 5, cache_creation_input_tokens=100, cache_read_input_tokens=1000, cache_creation_1h_input_tokens=40
    )
    assert usage.without_cache() == Usage(1110, 5)
    assert usage.used_cache
    assert not usage.without_cache().used_cache
    advised = Usage.from_api(ADVISED).without_cache()
    assert advised.iterations[2].usage == Usage(1760, 442)
