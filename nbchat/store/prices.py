"""Prices: what a request cost, or could cost, in US dollars.

The law:

1. A price nobody can stand behind is None, and None stays None: it is never shown or added as 0.
2. The list prices are those of genai-prices, for the endpoint that answered. Every kind of token
   that was used needs a price of its own there; a price is not guessed from a neighbour's.
3. What genai-prices does not carry is taken from the pricing page of the API, named at each line.
4. Nothing here raises because of a price; only :func:`check_budget` raises, and on purpose.

https://platform.claude.com/docs/en/about-claude/pricing
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeAlias

from nbchat.core.errors import BudgetError
from nbchat.core.usage import Usage
from nbchat.models import DEFAULT_MODEL, FREE, PLATFORMS, Model

__all__ = ["Overrides", "check_budget", "cost_of", "dollars", "estimate_cost", "preload"]

#: Prices by model that the user gives: US dollars per million tokens under ``input``, ``output``,
#: ``cache_read``, ``cache_write`` and ``cache_write_1h``; per thousand under ``web_search``.
Overrides: TypeAlias = Mapping[str, Mapping[str, float]]

#: "Batch API … 50% discount on both input and output tokens"; cache tiers are halved with them,
#: web searches are not (pricing page, "Batch processing").
_BATCH_FACTOR = 0.5
#: "Specifying US-only inference … 1.1x multiplier on all token pricing" (pricing page, "Data residency").
_GEO_FACTORS = {None: 1.0, "": 1.0, "global": 1.0, "not_available": 1.0, "us": 1.1}
#: Regional and multi-region endpoints of Google Cloud cost 10 % more than the global one, from
#: Claude Sonnet 4.5 on (pricing page, "Third-party platform pricing"). Bedrock says it in the model's id.
_REGION_FACTOR = 1.1
#: Cache prices as multiples of the input price (pricing page, "Prompt caching"), for overrides that do not say.
_CACHE_MULTIPLES = {"cache_read": 0.1, "cache_write": 1.25, "cache_write_1h": 2.0}
_WEB_SEARCH = 10.0


def cost_of(
    usage: Usage,
    model: str,
    endpoint: str,
    *,
    batch: bool = False,
    at: datetime | None = None,
    overrides: Overrides | None = None,
    region: str | None = None,
) -> float | None:
    """The price of one request in US dollars, or None where it is not known.

    ``usage`` is that of one request: tiers differ from request to request, and some models price
    by the length of a prompt, so costs are added, not usages. ``endpoint`` is ``anthropic``,
    ``bedrock``, ``vertex``, ``foundry``, ``local`` (costs nothing) or the base URL of a provider
    that genai-prices knows; any other has no known price. ``batch`` is a request of the Batches
    API, ``at`` the time of the request (now, if not given: prices change), ``region`` the region of
    a Vertex endpoint. ``overrides`` go before everything.

    Never raises.
    """
    try:
        return _cost(usage, model, endpoint, batch or usage.service_tier == "batch", at, overrides or {}, region)
    except Exception:  # rule 4: a price that cannot be had is unknown, whatever the reason
        return None


def _cost(
    usage: Usage,
    model: str,
    endpoint: str,
    batch: bool,
    at: datetime | None,
    overrides: Overrides,
    region: str | None,
) -> float | None:
    given = overrides.get(model)
    if given is not None:
        tokens, searches = _given_price(usage, given)
    elif endpoint in FREE:
        return 0.0
    else:
        # Priority capacity is paid for in advance, at a price of each contract; "mixed" is a sum.
        if usage.service_tier in ("priority", "mixed") or usage.speed == "mixed":
            return None
        listed = _list_price(usage, model, endpoint, at, region)
        if listed is None:
            return None
        tokens, searches = listed
        # Bedrock and Vertex name the place in the model or the region instead.
        platform = PLATFORMS.get(endpoint)
        factor = 1.0 if platform and platform.place_in_name else _GEO_FACTORS.get(usage.inference_geo)
        if factor is None:
            return None
        tokens *= factor
    cost = tokens * (_BATCH_FACTOR if batch else 1.0) + searches
    return cost if math.isfinite(cost) and cost >= 0 else None


def _given_price(usage: Usage, given: Mapping[str, float]) -> tuple[float, float]:
    """Dollars for tokens and for searches at the user's own prices."""
    price = {key: float(given.get(key, times * given["input"])) for key, times in _CACHE_MULTIPLES.items()}
    written = usage.cache_creation_input_tokens - usage.cache_creation_1h_input_tokens
    tokens = (
        usage.input_tokens * float(given["input"])
        + usage.output_tokens * float(given["output"])
        + usage.cache_read_input_tokens * price["cache_read"]
        + written * price["cache_write"]
        + usage.cache_creation_1h_input_tokens * price["cache_write_1h"]
    )
    return tokens / 1e6, usage.web_search_requests * float(given.get("web_search", _WEB_SEARCH)) / 1e3


def _list_price(
    usage: Usage, model: str, endpoint: str, at: datetime | None, region: str | None
) -> tuple[float, float] | None:
    """Dollars for tokens and for searches by genai-prices, or None."""
    if endpoint not in PLATFORMS and "://" not in endpoint:
        return None  # a name the user gave a server: what runs there costs what its owner says
    import genai_prices  # 0.3 s and the data of a thousand models: not before a price is asked for

    counted = {
        "input_tokens": usage.prompt_tokens,  # genai-prices wants the whole, and its parts
        "cache_read_tokens": usage.cache_read_input_tokens,
        "cache_write_tokens": usage.cache_creation_input_tokens,
        "cache_write_1h_tokens": usage.cache_creation_1h_input_tokens,
        "output_tokens": usage.output_tokens,
    }
    counted = {key: count for key, count in counted.items() if count}
    fast = usage.speed == "fast"
    context = {"speed": "fast"} if fast else None
    used = genai_prices.Usage(**counted)
    if endpoint in PLATFORMS:
        provider = PLATFORMS[endpoint].price_provider
        found = genai_prices.calc_price(
            used, model, provider_id=provider, genai_request_timestamp=at, price_context=context
        )
    else:
        found = genai_prices.calc_price(
            used, model, provider_api_url=endpoint, genai_request_timestamp=at, price_context=context
        )
    prices = found.model_price
    if any(getattr(prices, key.replace("_tokens", "_mtok")) is None for key in (*counted, "input_tokens")):
        return None  # rule 2: genai-prices would charge those tokens as ordinary input
    if fast and not _has_fast_price(found):
        return None
    tokens = float(found.total_price)
    if endpoint == "vertex" and region not in (None, "", "global") and Model.of(found.model.id).has_regional_prices:
        tokens *= _REGION_FACTOR
    searches = 0.0
    if usage.web_search_requests:
        per_thousand: Any = prices.web_searches_kcount
        if per_thousand is None:
            return None
        searches = usage.web_search_requests * float(getattr(per_thousand, "base", per_thousand)) / 1e3
    return tokens, searches


def _has_fast_price(found: Any) -> bool:
    variants = getattr(found.model, "price_variants", None) or ()
    own = any(found.model is model for model in found.provider.models)
    return own and any(variant.when.get("speed") == "fast" for variant in variants)


def preload() -> None:
    """Load the price data now, in a thread of the caller's, so that no cell waits for it."""
    cost_of(Usage(), DEFAULT_MODEL, "anthropic")


def estimate_cost(
    prompt_tokens: int,
    max_tokens: int,
    model: str,
    endpoint: str,
    *,
    cache_ttl: str | None = "5m",
    batch: bool = False,
    at: datetime | None = None,
    overrides: Overrides | None = None,
    region: str | None = None,
    speed: str | None = None,
    inference_geo: str | None = None,
) -> float | None:
    """The most a request could cost, in US dollars: its whole prompt and a full answer. None if unknown.

    With prompt caching on, the whole prompt may be written to the cache, which costs more than
    reading it: ``cache_ttl`` is ``"5m"``, ``"1h"`` or None. Searches of server tools come on top;
    their number is not known before.
    """
    known: dict[str, Any] = {"output_tokens": max_tokens, "speed": speed, "inference_geo": inference_geo}
    plain = Usage(input_tokens=prompt_tokens, **known)
    costs = [cost_of(plain, model, endpoint, batch=batch, at=at, overrides=overrides, region=region)]
    if cache_ttl and costs[0] is not None:
        hour = prompt_tokens if cache_ttl == "1h" else 0
        written = Usage(cache_creation_input_tokens=prompt_tokens, cache_creation_1h_input_tokens=hour, **known)
        costs.append(cost_of(written, model, endpoint, batch=batch, at=at, overrides=overrides, region=region))
    # A model without a price for cache writes has no cache to write to.
    return max((cost for cost in costs if cost is not None), default=None)


def check_budget(
    limit: float | None,
    spent: float,
    estimate: float | None,
    *,
    unknown: int = 0,
    model: str = "",
    scope: str = "",
) -> None:
    """Refuse a request that could cost more than the budget leaves. US dollars; no limit, no check.

    ``spent`` and ``unknown`` are those of ``Ledger.spent``: the known cost, and how many requests
    have an unknown one. ``estimate`` is that of :func:`estimate_cost`; where it is None the budget
    cannot be kept, so the request is refused. ``scope`` names the budget in the message, for
    example ``this notebook today``.

    Raises:
        BudgetError: with ``.spent``, ``.limit`` and ``.estimate``; nothing was sent.
    """
    if limit is None:
        return
    held: dict[str, Any] = {"spent": spent, "limit": limit, "estimate": estimate}
    budget = f"the budget of {dollars(limit)}" + (f" for {scope}" if scope else "")
    also = f", and {unknown} request{'s' * (unknown != 1)} of unknown price" if unknown else ""
    so_far = f"{dollars(spent)} is spent{also}"
    if estimate is None:
        name = model or "this model"
        raise BudgetError(
            f"{budget} cannot be kept: the price of {name} here is unknown ({so_far})",
            f"Nothing was sent. Give its price in dollars per million tokens, c.Nbchat.prices = "
            f'{{"{model or "MODEL"}": {{"input": 3, "output": 15}}}}, or take the budget off.',
            **held,
        )
    # A thousandth of a cent: sums of floats are not exact.
    if spent + estimate > limit + 1e-5:
        raise BudgetError(
            f"this request could cost {dollars(estimate)}, more than {budget} leaves: {so_far}",
            "Nothing was sent. Lower --max-tokens, send less, choose a cheaper model with -m, "
            "or raise --budget (c.Nbchat.budget).",
            **held,
        )


def dollars(amount: float | None) -> str:
    """An amount to show: cents for large ones, four digits below a dollar; ``unknown`` for None."""
    if amount is None:
        return "unknown"
    if amount == 0 or amount >= 1:
        return f"${amount:,.2f}"
    return f"${amount:.4f}" if amount >= 0.00005 else "<$0.0001"
