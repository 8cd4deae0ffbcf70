"""Prices: the cost of a request, or the most that it could cost, in US dollars.

The rules:

1. An uncertain price is None, and None stays None: it is never shown or added up as 0.
2. List prices come from genai-prices, for the endpoint that answered. Each kind of token that was used
   needs a price of its own there. The price of another kind, model or provider is never used instead.
3. What genai-prices does not know comes from the pricing page of the API. The comment at each constant
   names the section.
4. A price that cannot be found is not an error. Only :func:`check_budget` raises, because it is asked to.

https://platform.claude.com/docs/en/about-claude/pricing
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias

from nbchat.core.errors import BudgetError, how_to_set
from nbchat.core.money import dollars
from nbchat.core.plural import counted
from nbchat.core.usage import Iteration, Usage
from nbchat.models import DEFAULT_MODEL, FREE, PLATFORMS, is_fast, is_regional

if TYPE_CHECKING:
    from genai_prices.types import PriceCalculation

__all__ = ["Overrides", "check_budget", "cost_of", "estimate_cost", "preload"]

#: The user's own prices, by model: US dollars per million tokens as ``input``, ``output``, ``cache_read``,
#: ``cache_write`` and ``cache_write_1h``, and US dollars per thousand searches as ``web_search``.
Overrides: TypeAlias = Mapping[str, Mapping[str, float]]

#: "Batch API … 50% discount on both input and output tokens". Cache tokens are discounted too, but web
#: searches are not (pricing page, "Batch processing").
_BATCH_FACTOR = 0.5
#: "Specifying US-only inference … 1.1x multiplier on all token pricing" (pricing page, "Data residency").
_GEO_FACTORS = {None: 1.0, "": 1.0, "global": 1.0, "not_available": 1.0, "us": 1.1}
#: The speeds of a usage.
_SPEEDS = ("standard", "fast")
#: Regional and multi-region endpoints of Google Cloud cost 10 % more than the global endpoint, from Claude
#: Sonnet 4.5 on (pricing page, "Third-party platform pricing"). On Bedrock the id of the model names the
#: region, and genai-prices lists each id.
_REGION_FACTOR = 1.1
#: Cache prices as multiples of the input price (pricing page, "Prompt caching"), for the user's own prices
#: if they leave them out.
_CACHE_MULTIPLES = {"cache_read": 0.1, "cache_write": 1.25, "cache_write_1h": 2.0}
#: "$10 per 1,000 searches" (pricing page, "Web search tool").
_WEB_SEARCH_PER_THOUSAND = 10.0
#: Sums of floats are not exact: a budget may be exceeded by a thousandth of a cent.
_ROUNDING_ERROR = 1e-5


def cost_of(
    usage: Usage,
    model: str,
    endpoint: str,
    *,
    at: datetime | None = None,
    overrides: Overrides | None = None,
    region: str | None = None,
) -> float | None:
    """Return the cost of one request in US dollars, or None if it is not known. Never raise.

    Add up the costs of requests, not their usages: the service tier differs from request to request, and
    the prices of some models depend on the length of the prompt.

    Args:
        usage: the usage of the one request. The cost is the sum over its iterations, if it has any. A usage
            without tokens has a known cost only where tokens are free.
        model: the model that answered (:func:`nbchat.models.price_model`).
        endpoint: ``anthropic``, ``bedrock``, ``vertex``, ``foundry``, ``local`` (which costs nothing) or the
            base URL of a provider that genai-prices knows. Any other endpoint has no known price.
        at: the time of the request, because prices change; None means now.
        overrides: the user's own prices, which replace all others.
        region: the region of a Vertex endpoint.
    """
    # Every request has tokens. Where the endpoint reported none, the cost is known only if tokens are free.
    is_counted = not usage.uncertain and usage != Usage()
    counted = usage if is_counted else replace(usage, input_tokens=1, output_tokens=1, iterations=())
    parts = counted.iterations or (Iteration("", counted),)
    try:
        costs = [_cost(part.usage, part.model or model, endpoint, at, overrides or {}, region) for part in parts]
    except Exception:  # rule 4, also if genai-prices cannot be imported
        return None
    known = [cost for cost in costs if cost is not None]
    cost = sum(known) if len(known) == len(costs) else None
    return cost if is_counted or not cost else None


def _cost(
    usage: Usage, model: str, endpoint: str, at: datetime | None, overrides: Overrides, region: str | None
) -> float | None:
    given = overrides.get(model)
    if given is not None:
        tokens, searches = _given_price(usage, given)
    elif endpoint in FREE:
        return 0.0
    else:
        # Priority capacity is paid in advance, at the price of a contract. A tier or a speed that is not
        # known here has no known price, and neither has a sum over several ("mixed").
        if usage.service_tier not in (None, "", "standard", "batch") or usage.speed not in (None, "", *_SPEEDS):
            return None
        # List prices change with time, and no faster than each minute.
        listed = _list_price(usage, model, endpoint, at, region, None if at is not None else time.time() // 60)
        if listed is None:
            return None
        tokens, searches = listed
        # On Bedrock and Vertex, the model's name or the region decides the price, not inference_geo.
        platform = PLATFORMS.get(endpoint)
        factor = 1.0 if platform and platform.place_in_name else _GEO_FACTORS.get(usage.inference_geo)
        if factor is None:
            return None
        tokens *= factor
    cost = tokens * (_BATCH_FACTOR if usage.service_tier == "batch" else 1.0) + searches
    return cost if math.isfinite(cost) and cost >= 0 else None


def _given_price(usage: Usage, given: Mapping[str, float]) -> tuple[float, float]:
    """Return the dollars for tokens and for searches at the user's own prices."""
    price = {key: float(given.get(key, times * given["input"])) for key, times in _CACHE_MULTIPLES.items()}
    written = usage.cache_creation_input_tokens - usage.cache_creation_1h_input_tokens
    tokens = (
        usage.input_tokens * float(given["input"])
        + usage.output_tokens * float(given["output"])
        + usage.cache_read_input_tokens * price["cache_read"]
        + written * price["cache_write"]
        + usage.cache_creation_1h_input_tokens * price["cache_write_1h"]
    )
    return tokens / 1e6, usage.web_search_requests * float(given.get("web_search", _WEB_SEARCH_PER_THOUSAND)) / 1e3


@functools.lru_cache(maxsize=2_000)
def _list_price(
    usage: Usage, model: str, endpoint: str, at: datetime | None, region: str | None, minute: float | None
) -> tuple[float, float] | None:
    """Return the dollars for tokens and for searches as genai-prices lists them, or None.

    A price is kept for the ``minute``, because genai-prices takes 0.3 ms, and the rows of a run use equal tokens.
    """
    if endpoint not in PLATFORMS and "://" not in endpoint:
        return None  # a name that the user gave to a server: its owner sets the price
    import genai_prices  # 0.3 s, and the data of a thousand models: not before a price is needed

    counts = {
        "input_tokens": usage.prompt_tokens,  # genai-prices wants the sum, and of it the cached tokens
        "cache_read_tokens": usage.cache_read_input_tokens,
        "cache_write_tokens": usage.cache_creation_input_tokens,
        "cache_write_1h_tokens": usage.cache_creation_1h_input_tokens,
        "output_tokens": usage.output_tokens,
    }
    counts = {key: count for key, count in counts.items() if count}
    fast = usage.speed == "fast" or is_fast(endpoint, model)
    if is_fast(endpoint, model):
        model = model.removesuffix(PLATFORMS[endpoint].fast_suffix)
    context = {"speed": "fast"} if fast else None
    used = genai_prices.Usage(**counts)
    known = endpoint in PLATFORMS
    who = {"provider_id": PLATFORMS[endpoint].price_provider} if known else {"provider_api_url": endpoint}
    try:
        found = genai_prices.calc_price(used, model, **who, genai_request_timestamp=at, price_context=context)
    except LookupError:  # a provider or a model without a list price, which is kept for the minute, too
        return None
    prices = found.model_price
    if any(getattr(prices, key.replace("_tokens", "_mtok")) is None for key in (*counts, "input_tokens")):
        return None  # rule 2: genai-prices would charge these tokens as ordinary input
    if fast and not _has_fast_price(found):
        return None
    tokens = float(found.total_price)
    if is_regional(endpoint, found.model.id, region):
        tokens *= _REGION_FACTOR
    searches = 0.0
    if usage.web_search_requests:
        per_thousand: Any = prices.web_searches_kcount
        if per_thousand is None:
            return None
        searches = usage.web_search_requests * float(getattr(per_thousand, "base", per_thousand)) / 1e3
    return tokens, searches


def _has_fast_price(found: PriceCalculation) -> bool:
    """Return True if the price of ``found`` is the one for the speed ``fast``."""
    # Without a variant for the speed, genai-prices silently uses the ordinary price.
    variants = getattr(found.model, "price_variants", None) or ()
    is_listed = any(found.model is model for model in found.provider.models)
    return is_listed and any(variant.when.get("speed") == "fast" for variant in variants)


def preload() -> None:
    """Load the price list. Call this in a thread of your own, so that no cell waits for it."""
    cost_of(Usage(), DEFAULT_MODEL, "anthropic")


def estimate_cost(
    prompt_tokens: int,
    max_tokens: int,
    model: str,
    endpoint: str,
    *,
    cache_ttl: str | None = None,
    overrides: Overrides | None = None,
    region: str | None = None,
    speed: str | None = None,
    inference_geo: str | None = None,
    service_tier: str | None = None,
) -> float | None:
    """Return the most that a request could cost in US dollars, or None if its price is unknown.

    The estimate is for an answer of ``max_tokens``. The whole prompt may be written to the prompt cache, which
    costs more than sending it. The estimate does not include what the service does on its own (searches,
    compaction, an advisor, a fallback), because nobody knows in advance how often it does that.

    Args:
        prompt_tokens: the tokens of the prompt.
        max_tokens: the longest answer, in tokens.
        model: the model.
        endpoint: as in :func:`cost_of`.
        cache_ttl: how long the prompt is kept in the cache, ``"5m"`` or ``"1h"``; None for no caching.
        overrides: as in :func:`cost_of`.
        region: as in :func:`cost_of`.
        speed: the field ``speed`` of the request.
        inference_geo: the field ``inference_geo`` of the request.
        service_tier: ``batch`` for a request of a batch, which costs half.
    """
    fields: dict[str, Any] = {"output_tokens": max_tokens, "speed": speed, "inference_geo": inference_geo}
    fields["service_tier"] = service_tier
    plain = Usage(input_tokens=prompt_tokens, **fields)
    costs = [cost_of(plain, model, endpoint, overrides=overrides, region=region)]
    if cache_ttl and costs[0] is not None:
        hour = prompt_tokens if cache_ttl == "1h" else 0
        written = Usage(cache_creation_input_tokens=prompt_tokens, cache_creation_1h_input_tokens=hour, **fields)
        costs.append(cost_of(written, model, endpoint, overrides=overrides, region=region))
    # A model without a price for cache writes has no prompt cache, so None among the costs is not unknown.
    return max((cost for cost in costs if cost is not None), default=None)


def check_budget(
    limit: float,
    spent: float,
    estimate: float | None,
    *,
    unknown: int,
    model: str,
    scope: str,
) -> None:
    """Refuse a request that could cost more than is left of the budget. All amounts are in US dollars.

    Args:
        limit: the budget.
        spent: the known costs so far, as ``Ledger.spent`` returns them.
        estimate: the result of :func:`estimate_cost`. With None the budget cannot be guaranteed, so the
            request is refused.
        unknown: the number of requests so far whose cost is unknown.
        model: the model, for the message.
        scope: the period or the notebook of the budget, for the message; for example ``this notebook today``.

    Raises:
        BudgetError: the request was refused, and nothing was sent. The error has ``.spent``, ``.limit`` and
            ``.estimate``.
    """
    amounts: dict[str, Any] = {"spent": spent, "limit": limit, "estimate": estimate}
    budget = f"the budget of {dollars(limit)} for {scope}"
    others = f", and {counted(unknown, 'request')} of unknown price" if unknown else ""
    so_far = f"{dollars(spent)} is spent{others}"
    if estimate is None:
        price = how_to_set("prices", f'{{"{model}": {{"input": 3, "output": 15}}}}')
        raise BudgetError(
            f"{budget} cannot be guaranteed: the price of {model} here is unknown ({so_far})",
            "Nothing was sent. Remove the budget, or set the price in dollars per million tokens: " + price,
            **amounts,
        )
    if spent + estimate > limit + _ROUNDING_ERROR:
        raise BudgetError(
            f"this request could cost {dollars(estimate)}, more than {budget} leaves: {so_far}",
            "Nothing was sent. Lower --max-tokens, send less, choose a cheaper model with -m, or raise --budget.",
            **amounts,
        )
