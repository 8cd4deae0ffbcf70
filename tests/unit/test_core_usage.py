"""Usage: reading it from the API, adding, storing."""

from __future__ import annotations

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
