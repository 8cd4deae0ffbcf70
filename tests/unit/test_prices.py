"""Prices: every tier, every endpoint, and None wherever a price is uncertain."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nbchat.core.errors import BudgetError
from nbchat.core.usage import Usage
from nbchat.store.prices import check_budget, cost_of, estimate_cost

NOW = datetime(2026, 11, 1, tzinfo=UTC)
SONNET = "claude-sonnet-5-5"  # 2 in, 10 out, 2.5 and 4 cache writes, 0.1 cache reads; dollars a million


def test_every_token_tier_has_its_own_price():
    """Input, 5-minute write, 1-hour write, read and output are each counted once, at their price."""
    assert cost_of(Usage(input_tokens=1_000_000), SONNET, "anthropic", at=NOW) == pytest.approx(2)
    assert cost_of(Usage(output_tokens=1_000_000), SONNET, "anthropic", at=NOW) == pytest.approx(10)
    assert cost_of(Usage(cache_read_input_tokens=1_000_000), SONNET, "anthropic", at=NOW) == pytest.approx(0.1)
    written = Usage(cache_creation_input_tokens=1_000_000)
    assert cost_of(written, SONNET, "anthropic", at=NOW) == pytest.approx(2.5)
    for_an_hour = Usage(cache_creation_input_tokens=1_000_000, cache_creation_1h_input_tokens=1_000_000)
    assert cost_of(for_an_hour, SONNET, "anthropic", at=NOW) == pytest.approx(2 * 2)
    mixed = Usage(
        input_tokens=1000,
        output_tokens=500,
        cache_creation_input_tokens=2000,
        cache_creation_1h_input_tokens=500,
        cache_read_input_tokens=3000,
    )
    by_hand = (1000 * 2 + 500 * 10 + 1500 * 2.5 + 500 * 4 + 3000 * 0.1) / 1e6
    assert cost_of(mixed, SONNET, "anthropic", at=NOW) == pytest.approx(by_hand)


@given(
    plain=st.integers(0, 10**6),
    output=st.integers(0, 10**6),
    read=st.integers(0, 10**6),
    written=st.integers(0, 10**6),
    hour=st.integers(0, 10**6),
)
def test_cost_is_the_sum_of_its_tiers(plain, output, read, written, hour):
    """For a model without steps in its price, cost is linear in every tier."""
    usage = Usage(plain, output, written + hour, read, hour)
    assume(usage.total_tokens)
    by_hand = (plain * 2 + output * 10 + written * 2.5 + hour * 4 + read * 0.1) / 1e6
    assert cost_of(usage, SONNET, "anthropic", at=NOW) == pytest.approx(by_hand)


def test_a_request_without_tokens_has_no_known_cost_unless_tokens_are_free():
    """Every request has a prompt, so a usage of 0 means that no number arrived. A cost of 0 would be made up."""
    assert cost_of(Usage(), SONNET, "anthropic", at=NOW) is None
    assert cost_of(Usage(), "m", "my-server", overrides={"m": {"input": 1, "output": 0}}) is None
    assert cost_of(Usage(), "m", "my-server", overrides={"m": {"input": 0, "output": 0}}) == 0.0
    assert cost_of(Usage(), "SmolLM2", "local") == cost_of(Usage(), "by hand", "scripted") == 0.0


def test_a_long_prompt_pays_the_long_price_for_every_token():
    """Haiku 5.5 costs five times as much above 100,000 prompt tokens, cached ones counted."""
    short = cost_of(Usage(input_tokens=100_000), "claude-haiku-5-5", "anthropic", at=NOW)
    assert short == pytest.approx(100_000 * 0.1 / 1e6)
    usage = Usage(input_tokens=50_000, cache_read_input_tokens=50_001)
    expected = (50_000 * 0.5 + 50_001 * 0.05) / 1e6
    assert cost_of(usage, "claude-haiku-5-5", "anthropic", at=NOW) == pytest.approx(expected)


def test_batch_halves_tokens_and_not_searches():
    """The batch discount is 50 % of the tokens; a web search costs a cent either way."""
    usage = Usage(input_tokens=1_000_000, web_search_requests=3)
    assert cost_of(usage, SONNET, "anthropic", at=NOW) == pytest.approx(2 + 0.03)
    batch = replace(usage, service_tier="batch")
    assert cost_of(batch, SONNET, "anthropic", at=NOW) == pytest.approx(1 + 0.03)


def test_half_is_what_genai_prices_has_for_batches():
    """Where genai-prices lists batch prices of the Claude API, ours are the same."""
    from genai_prices import Usage as Counted
    from genai_prices import calc_price, data_snapshot

    provider = next(p for p in data_snapshot.get_snapshot().providers if p.id == "anthropic")
    checked = 0
    for model in provider.models:
        if not any(variant.when == {"processing": "batch"} for variant in model.price_variants or ()):
            continue
        usage = Usage(input_tokens=7000, output_tokens=900, cache_read_input_tokens=11, cache_creation_input_tokens=5)
        counted = Counted(input_tokens=7016, output_tokens=900, cache_read_tokens=11, cache_write_tokens=5)
        theirs = calc_price(
            counted,
            model.id,
            provider_id="anthropic",
            genai_request_timestamp=NOW,
            price_context={"processing": "batch"},
        )
        ours = cost_of(replace(usage, service_tier="batch"), model.id, "anthropic", at=NOW)
        assert ours == pytest.approx(float(theirs.total_price)), model.id
        checked += 1
    assert checked > 5


def test_the_endpoint_is_considered():
    """Bedrock's regional profiles cost a tenth more than the global one. On Vertex the region decides."""
    usage = Usage(input_tokens=1_000_000)
    assert cost_of(usage, "global.anthropic.claude-opus-5-5", "bedrock", at=NOW) == pytest.approx(4)
    assert cost_of(usage, "eu.anthropic.claude-opus-5-5", "bedrock", at=NOW) == pytest.approx(4.4)
    assert cost_of(usage, "claude-opus-5-5", "vertex", at=NOW) == pytest.approx(4)
    assert cost_of(usage, "claude-opus-5-5", "vertex", at=NOW, region="global") == pytest.approx(4)
    assert cost_of(usage, "claude-opus-5-5", "vertex", at=NOW, region="europe-west1") == pytest.approx(4.4)
    for region in ("us", "eu"):  # the multi-region endpoints
        assert cost_of(usage, "claude-opus-5-5", "vertex", at=NOW, region=region) == pytest.approx(4.4)
    for region in ("global", "us-east5"):  # older models cost the same everywhere
        assert cost_of(usage, "claude-3-haiku", "vertex", at=NOW, region=region) == pytest.approx(0.25)
    assert cost_of(usage, SONNET, "foundry", at=NOW) == pytest.approx(2)
    assert cost_of(usage, SONNET, "https://api.anthropic.com", at=NOW) == pytest.approx(2)


def test_inference_in_one_country_costs_a_tenth_more():
    """``inference_geo`` counts on the Claude API only, and a place without a known price makes the cost unknown."""
    usage = Usage(input_tokens=1_000_000, inference_geo="us")
    assert cost_of(usage, SONNET, "anthropic", at=NOW) == pytest.approx(2.2)
    assert cost_of(Usage(input_tokens=1_000_000, inference_geo="not_available"), SONNET, "anthropic", at=NOW) == 2
    assert cost_of(Usage(input_tokens=1_000_000, inference_geo="moon"), SONNET, "anthropic", at=NOW) is None


def test_fast_mode_has_its_own_price_or_none():
    """Opus 5.5 has a listed fast price; a model without one has no known price when fast."""
    fast = Usage(input_tokens=1_000_000, speed="fast")
    assert cost_of(fast, "claude-opus-5-5", "anthropic", at=NOW) == pytest.approx(8)
    assert cost_of(fast, SONNET, "anthropic", at=NOW) is None
    # On Foundry the name of the model has the speed, and the request does not.
    named = Usage(input_tokens=1_000_000)
    assert cost_of(named, "claude-opus-4-8", "foundry", at=NOW) == pytest.approx(5)
    assert cost_of(named, "claude-opus-4-8-fast", "foundry", at=NOW) is None  # and not the ordinary price
    assert cost_of(Usage(input_tokens=1_000_000, speed="standard"), SONNET, "anthropic", at=NOW) == 2


def test_the_iterations_of_a_request_are_priced_one_by_one():
    """Each has its own model and its own length: two prompts of 60,000 tokens are not one long prompt."""
    request = {"input_tokens": 60_000, "output_tokens": 100}
    summary = {"type": "compaction", "input_tokens": 60_000, "output_tokens": 50}
    usage = Usage.from_api({**request, "iterations": [summary, {"type": "message", **request}]})
    assert cost_of(usage, "claude-haiku-5-5", "anthropic", at=NOW) == pytest.approx(
        sum(cost_of(Usage(60_000, output), "claude-haiku-5-5", "anthropic", at=NOW) or 0 for output in (50, 100))
    )
    advice = {"type": "advisor_message", "model": "claude-opus-5-5", "input_tokens": 1_000_000, "output_tokens": 0}
    usage = Usage.from_api({**request, "iterations": [{"type": "message", **request}, advice]})
    own = cost_of(Usage(60_000, 100), SONNET, "anthropic", at=NOW)
    assert cost_of(usage, SONNET, "anthropic", at=NOW) == pytest.approx((own or 0) + 4)
    unknown = {**advice, "model": "claude-that-is-not"}
    usage = Usage.from_api({**request, "iterations": [{"type": "message", **request}, unknown]})
    assert cost_of(usage, SONNET, "anthropic", at=NOW) is None


def test_prices_are_those_of_the_day():
    """Opus 4.6 lost its long-prompt price on 2026-03-13."""
    usage = Usage(input_tokens=300_000)
    before = cost_of(usage, "claude-opus-4-6", "anthropic", at=datetime(2026, 3, 1, tzinfo=UTC))
    after = cost_of(usage, "claude-opus-4-6", "anthropic", at=NOW)
    assert (before, after) == (pytest.approx(3.0), pytest.approx(1.5))


@pytest.mark.parametrize(
    ("model", "endpoint"),
    [
        ("claude-that-is-not", "anthropic"),
        ("gpt-5", "anthropic"),
        ("", "anthropic"),
        (SONNET, "my-gateway"),
        (SONNET, "aws"),  # a name of a user's own, though genai-prices knows one like it
        (SONNET, "http://127.0.0.1:8000"),
        (SONNET, ""),
        ("any", "https://llm.example.org/v1"),
    ],
)
def test_unknown_is_none_and_never_zero(model, endpoint):
    """An unknown model or endpoint has no price."""
    assert cost_of(Usage(input_tokens=10, output_tokens=10), model, endpoint, at=NOW) is None


@pytest.mark.parametrize(
    "usage",
    [
        Usage(input_tokens=-1),
        Usage(cache_creation_1h_input_tokens=5),  # more than the whole that was written
        Usage(input_tokens=1, service_tier="priority"),
        Usage(input_tokens=1, service_tier="mixed"),
        Usage(input_tokens=1, service_tier="flex"),  # a tier that the API may add
        Usage(input_tokens=1, speed="mixed"),
        Usage(input_tokens=1, speed="turbo"),
        Usage(input_tokens=None),  # type: ignore[arg-type]
    ],
)
def test_usage_that_cannot_be_priced_is_none(usage):
    """Impossible counts, and capacity that is paid in advance: None, and no exception."""
    assert cost_of(usage, SONNET, "anthropic", at=NOW) is None


def test_a_tier_without_a_price_is_not_charged_as_another():
    """Claude 2 has no cache and Bedrock no web search: genai-prices alone would say input price and 0."""
    assert cost_of(Usage(input_tokens=10), "claude-2", "anthropic", at=NOW) is not None
    assert cost_of(Usage(input_tokens=10, cache_read_input_tokens=10), "claude-2", "anthropic", at=NOW) is None
    searched = Usage(input_tokens=10, web_search_requests=1)
    assert cost_of(searched, "anthropic.claude-opus-5-5", "bedrock", at=NOW) is None


def test_the_embedded_model_costs_nothing():
    """The embedded model is free; a replay's cost is the caller's 0."""
    assert cost_of(Usage(input_tokens=10, output_tokens=99), "SmolLM2-135M-Instruct", "local", at=NOW) == 0.0


def test_the_users_own_prices_replace_all_others():
    """They hold for any endpoint. Cache prices follow from the input price."""
    prices = {"mine": {"input": 1, "output": 2}, "whole": {"input": 1, "output": 2, "cache_read": 0.5}}
    usage = Usage(1_000_000, 1_000_000, cache_creation_input_tokens=2_000_000, cache_creation_1h_input_tokens=1_000_000)
    assert cost_of(usage, "mine", "my-gateway", overrides=prices) == pytest.approx(1 + 2 + 1.25 + 2)
    read = Usage(cache_read_input_tokens=1_000_000, web_search_requests=100)
    assert cost_of(read, "mine", "my-gateway", overrides=prices) == pytest.approx(0.1 + 1)
    assert cost_of(read, "whole", "my-gateway", overrides=prices) == pytest.approx(0.5 + 1)
    batch = replace(read, service_tier="batch")
    assert cost_of(batch, "whole", "my-gateway", overrides=prices) == pytest.approx(0.25 + 1)
    assert cost_of(read, "mine", "local", overrides={"mine": {"input": 1}}) is None  # half a price is none
    assert cost_of(usage, "free", "my-gateway", overrides={"free": {"input": 0, "output": 0}}) == 0.0


def test_an_estimate_is_an_upper_limit():
    """The whole prompt may be written to the cache, and the whole answer used."""
    assert estimate_cost(1_000_000, 0, SONNET, "anthropic") == pytest.approx(2)
    assert estimate_cost(1_000_000, 0, SONNET, "anthropic", cache_ttl="5m") == pytest.approx(2.5)
    assert estimate_cost(1_000_000, 0, SONNET, "anthropic", cache_ttl="1h") == pytest.approx(4)
    assert estimate_cost(0, 1_000_000, SONNET, "anthropic") == pytest.approx(10)
    assert estimate_cost(1_000_000, 0, "claude-2", "anthropic", cache_ttl="5m") == pytest.approx(8)
    assert estimate_cost(10, 10, "unheard-of", "anthropic", cache_ttl="5m") is None
    assert estimate_cost(10, 10, "SmolLM2", "local", cache_ttl="5m") == 0.0
    assert estimate_cost(1_000_000, 0, SONNET, "anthropic", inference_geo="us") == pytest.approx(2.2)
    assert estimate_cost(1_000_000, 0, SONNET, "vertex", region="europe-west1") == pytest.approx(2.2)
    assert estimate_cost(1_000_000, 0, "claude-opus-5-5", "anthropic", speed="fast") == pytest.approx(8)
    assert estimate_cost(1_000_000, 0, SONNET, "anthropic", speed="fast") is None


@given(st.integers(0, 10**6), st.integers(0, 10**5), st.integers(0, 10**6), st.integers(0, 10**5))
def test_no_answer_costs_more_than_its_estimate(cached, plain, output, written):
    """Whatever the cache does, the estimate of prompt and ``max_tokens`` was enough."""
    usage = Usage(plain, output, written, cached)
    assume(usage.total_tokens)
    estimate = estimate_cost(usage.prompt_tokens, output, SONNET, "anthropic", cache_ttl="5m")
    assert cost_of(usage, SONNET, "anthropic") <= estimate + 1e-9


def test_a_budget_refuses_before_it_is_spent():
    """The message and the attributes of the error have the costs so far, the limit and the estimate."""
    about: dict[str, Any] = {"unknown": 0, "model": "claude-new", "scope": "this notebook today"}
    check_budget(0.05, 0.02, 0.03, **about)  # exactly what is left
    check_budget(0, 0, 0.0, **about)  # a budget of nothing lets the embedded model answer
    with pytest.raises(BudgetError) as caught:
        check_budget(0.05, 0.02, 0.0312, **about)
    error = caught.value
    assert (error.spent, error.limit, error.estimate) == (0.02, 0.05, 0.0312)
    assert error.message == (
        "this request could cost $0.0312, more than the budget of $0.0500 for this notebook today leaves: "
        "$0.0200 is spent"
    )
    assert "Nothing was sent" in error.hint
    with pytest.raises(BudgetError, match="and 2 requests of unknown price"):
        check_budget(0.05, 0.06, 0.0, **about | {"unknown": 2})


def test_a_budget_refuses_a_request_of_unknown_price():
    """The hint says how to set a price."""
    with pytest.raises(BudgetError) as caught:
        check_budget(0.05, 0.0, None, unknown=0, model="claude-new", scope="this notebook today")
    assert "the price of claude-new here is unknown" in caught.value.message
    assert '%config Nbchat.prices = {"claude-new": {"input": 3, "output": 15}}' in caught.value.hint
    assert caught.value.estimate is None


def test_the_price_list_is_loaded_when_it_is_needed():
    """Neither the import nor a free endpoint loads genai-prices."""
    code = (
        "import sys; from nbchat.store import prices, ledger, journal; from nbchat.view import usage;"
        "from nbchat.core.usage import Usage;"
        "assert prices.cost_of(Usage(1, 1), 'x', 'local') == 0.0;"
        "assert prices.cost_of(Usage(1, 1), 'x', 'mine') is None;"
        "print([n for n in ('genai_prices', 'sqlite3', 'platformdirs', 'pandas') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
