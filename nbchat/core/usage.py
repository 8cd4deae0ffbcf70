"""Usage: the tokens of an answer, in the four tiers that the API bills, and the samplings that they belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

from nbchat.core.fields import Fields, storable

__all__ = ["Iteration", "Usage"]

#: The most tokens that one request can have. The largest context windows have a few million.
MAX_TOKENS = 10**9
#: The samplings that the service runs for one request, by the ``type`` in ``usage.iterations``:
#: https://platform.claude.com/docs/en/build-with-claude/compaction-threshold
_ITERATION_TYPES = frozenset({"message", "compaction", "advisor_message", "fallback_message"})


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens of one or more requests. ``a + b`` adds two usages; ``Usage()`` is zero.

    Attributes:
        input_tokens: Tokens of the prompt that were neither written to the cache nor read from it.
            This is the API's meaning of the name. The whole prompt is :attr:`prompt_tokens`.
        output_tokens: Tokens of the answer, including thinking.
        cache_creation_input_tokens: Tokens of the prompt that were written to the cache.
        cache_read_input_tokens: Tokens of the prompt that were read from the cache.
        cache_creation_1h_input_tokens: The part of ``cache_creation_input_tokens`` that is kept for
            an hour, at a higher price.
        thinking_tokens: The part of ``output_tokens`` that was spent on thinking.
        web_search_requests: Searches that the service ran. They are billed one by one.
        web_fetch_requests: Pages that the service fetched.
        service_tier: The API's service tier; "mixed" for a sum over several.
        speed: The API's speed; "mixed" for a sum over several.
        inference_geo: The region that answered; "mixed" for a sum over several.
        estimated: True if ``output_tokens`` is an estimate by nbchat, because the answer broke off
            before the API reported the number.
        uncertain: True if the tokens do not tell the cost, for example because the endpoint sent something
            that is not a count. The request has no known cost.
        iterations: The samplings of a request for which the service ran several (compaction, an advisor, a
            fallback, the rounds of server tools). They add up to the tokens of this usage.

    >>> first = Usage(input_tokens=10, output_tokens=5)
    >>> second = Usage(input_tokens=4, cache_read_input_tokens=86, output_tokens=7)
    >>> total = first + second
    >>> total.prompt_tokens, total.completion_tokens, total.total_tokens
    (100, 12, 112)
    >>> second.cached_share
    0.9555555555555556
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_1h_input_tokens: int = 0
    thinking_tokens: int = 0
    web_search_requests: int = 0
    web_fetch_requests: int = 0
    service_tier: str | None = None
    speed: str | None = None
    inference_geo: str | None = None
    estimated: bool = False
    uncertain: bool = field(default=False, compare=False)
    iterations: tuple[Iteration, ...] = ()

    @classmethod
    def from_api(cls, usage: Mapping[str, Any] | None) -> Usage:
        """Return the Usage for a ``usage`` object of the API.

        >>> Usage.from_api({"input_tokens": 3, "output_tokens": None}).input_tokens
        3
        """
        # Gateways leave fields out, send null, or put something else into them. A request must not
        # fail because of its bill, so whatever is not a count is 0, and only null is 0 for certain.
        usage = usage if isinstance(usage, Mapping) else {}
        is_uncertain = _is_credited(usage)

        def part(key: str) -> Mapping[str, Any]:
            value = usage.get(key)
            return value if value is not None and isinstance(value, Mapping) else {}

        def count(source: Mapping[str, Any], key: str) -> int:
            nonlocal is_uncertain
            value = source.get(key)
            # In Python, True is an int: 1.
            if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_TOKENS:
                return value
            is_uncertain = is_uncertain or value is not None
            return 0

        def word(key: str) -> str | None:
            return storable(value) if isinstance(value := usage.get(key), str) else None

        counts: dict[str, Any] = {
            "input_tokens": count(usage, "input_tokens"),
            "output_tokens": count(usage, "output_tokens"),
            "cache_creation_input_tokens": count(usage, "cache_creation_input_tokens"),
            "cache_read_input_tokens": count(usage, "cache_read_input_tokens"),
            "cache_creation_1h_input_tokens": count(part("cache_creation"), "ephemeral_1h_input_tokens"),
            "thinking_tokens": count(part("output_tokens_details"), "thinking_tokens"),
            "web_search_requests": count(part("server_tool_use"), "web_search_requests"),
            "web_fetch_requests": count(part("server_tool_use"), "web_fetch_requests"),
        }
        counted = cls(
            **counts,
            service_tier=word("service_tier"),
            speed=word("speed"),
            inference_geo=word("inference_geo"),
            uncertain=is_uncertain,
        )
        entries = usage.get("iterations")
        return _iterated(counted, entries) if isinstance(entries, list | tuple) and entries else counted

    @property
    def prompt_tokens(self) -> int:
        """All tokens of the prompt, cached or not.

        OpenTelemetry calls this number ``gen_ai.usage.input_tokens``.
        """
        return self.input_tokens + self.cache_creation_input_tokens + self.cache_read_input_tokens

    @property
    def completion_tokens(self) -> int:
        """All tokens of the answer, including thinking."""
        return self.output_tokens

    @property
    def total_tokens(self) -> int:
        """All tokens of the prompt and of the answer."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def cached_share(self) -> float:
        """The share of the prompt that was read from the cache, from 0 to 1."""
        return self.cache_read_input_tokens / self.prompt_tokens if self.prompt_tokens else 0.0

    def __add__(self, other: Usage) -> Usage:
        if not isinstance(other, Usage):
            return NotImplemented
        total: dict[str, Any] = {}
        for part in fields(Usage):
            mine, theirs = getattr(self, part.name), getattr(other, part.name)
            if part.name == "iterations":
                # If only one side has iterations, the other side is one itself: the sum must be complete.
                total[part.name] = self._parts() + other._parts() if mine or theirs else ()
            elif isinstance(mine, bool):  # a bool is an int too: True + True would be 2
                total[part.name] = mine or theirs
            elif isinstance(mine, int):
                total[part.name] = mine + theirs
            else:
                # A tier, a speed or a region: each has its own price, so a sum over two has none.
                # "mixed" says so. None means that the endpoint did not say, and does not count.
                words = {word for word in (mine, theirs) if word is not None}
                total[part.name] = words.pop() if len(words) == 1 else ("mixed" if words else None)
        return Usage(**total)

    def __radd__(self, other: object) -> Usage:
        return self if other == 0 else NotImplemented  # `sum` starts with the number 0

    def _parts(self) -> tuple[Iteration, ...]:
        return self.iterations or ((Iteration("", self),) if self.total_tokens else ())

    @property
    def used_cache(self) -> bool:
        """Return True if the prompt cache was written or read."""
        return bool(self.cache_creation_input_tokens or self.cache_read_input_tokens)

    def without_cache(self) -> Usage:
        """Return the usage that the same requests would have without a prompt cache.

        >>> Usage(input_tokens=3, cache_read_input_tokens=90, output_tokens=5).without_cache().input_tokens
        93
        """
        return replace(
            self,
            input_tokens=self.prompt_tokens,
            cache_creation_input_tokens=0,
            cache_read_input_tokens=0,
            cache_creation_1h_input_tokens=0,
            iterations=tuple(Iteration(part.model, part.usage.without_cache()) for part in self.iterations),
        )

    def estimate_output(self, tokens: int) -> Usage:
        """Return a copy whose output has at least ``tokens`` tokens, marked as an estimate.

        This is for an answer that broke off. The API reports the real number in ``message_delta``,
        close to the end. Until then, ``message_start`` has only a placeholder of a few tokens.

        >>> cut = Usage(input_tokens=10, output_tokens=1).estimate_output(40)
        >>> cut.output_tokens, cut.estimated
        (40, True)
        """
        # Without a count of the prompt, no part of the bill is known.
        uncertain = self.uncertain or not self.prompt_tokens
        return replace(self, output_tokens=max(tokens, self.output_tokens), estimated=True, uncertain=uncertain)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values, together with the vendor-neutral names.

        The four billed tiers are always there; other fields only if they are not empty.

        >>> Usage(input_tokens=3, output_tokens=4).to_dict()["total_tokens"]
        7
        """
        values = {part.name: getattr(self, part.name) for part in fields(self)}
        values["iterations"] = [{"model": part.model, **part.usage.to_dict()} for part in self.iterations]
        tiers = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
        return {name: value for name, value in values.items() if value or name in tiers} | {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.total_tokens,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Usage:
        """Return the Usage that :meth:`to_dict` stored.

        Raises:
            InputError: a field has another type.

        >>> Usage.from_dict({"input_tokens": 3, "output_tokens": 4}).total_tokens
        7
        """
        return cls.of_fields(Fields(stored))

    @classmethod
    def of_fields(cls, stored: Fields) -> Usage:
        """Return the Usage of the fields that :meth:`to_dict` stored.

        Raises:
            InputError: a field has another type.

        >>> Usage.of_fields(Fields({"input_tokens": 3})).input_tokens
        3
        """
        usage = cls._of_counts(stored)
        iterations = (Iteration(part.name("model", ""), cls._of_counts(part)) for part in stored.each("iterations", ()))
        return replace(usage, iterations=tuple(iterations))

    @classmethod
    def _of_counts(cls, stored: Fields) -> Usage:
        """Return the Usage of the fields without their iterations."""
        values: dict[str, Any] = {}
        for part in fields(cls):
            if part.name == "iterations":
                continue
            if isinstance(part.default, bool):
                values[part.name] = stored.flag(part.name, False)
            elif isinstance(part.default, int):
                values[part.name] = stored.count(part.name, 0)
            else:
                values[part.name] = stored.optional_text(part.name)
        return cls(**values)


class Iteration(NamedTuple):
    """One sampling of a request for which the service ran several.

    Attributes:
        model: The model of the sampling; "" for the model of the answer.
        usage: The tokens of the sampling.
    """

    model: str
    usage: Usage


def _iterated(counted: Usage, entries: Sequence[Any]) -> Usage:
    """Return the usage of a request with its iterations, whose tokens are what is billed.

    The top-level counts of the API leave out what compaction and an advisor used, and count a prompt once that
    several samplings read (https://platform.claude.com/docs/en/agents-and-tools/tool-use/advisor-tool).
    """
    # The API reports the tier, the speed and the place once for the whole request.
    words = {name: getattr(counted, name) for name in ("service_tier", "speed", "inference_geo")}
    kinds, parts = [], []
    for entry in entries:
        plain = dict(entry) if isinstance(entry, Mapping) else {}
        plain.pop("iterations", None)
        kind, model = plain.get("type"), plain.get("model")
        kinds.append(kind if isinstance(kind, str) else "")
        name = storable(model) if isinstance(model, str) else ""
        parts.append(Iteration(name, replace(Usage.from_api(plain), **words)))
    whole = sum((part.usage for part in parts), Usage())
    if whole.output_tokens < counted.output_tokens:  # entries are missing
        return replace(counted, uncertain=True)
    uncertain = (
        any(usage.uncertain for usage in (counted, *(part.usage for part in parts)))
        or not _ITERATION_TYPES.issuperset(kinds)
        or any(kind == "advisor_message" and not part.model for kind, part in zip(kinds, parts, strict=True))
        # The API does not say at which speed its own samplings ran.
        or (counted.speed == "fast" and set(kinds) != {"message"})
        # A refused sampling may cost nothing, and the one after it gets a credit for its cache writes.
        or ("fallback_message" in kinds and len({part.model for part in parts}) > 1)
    )
    # These counts are reported for the whole request. One of the parts gets them, so that the parts add up.
    once = {name: getattr(counted, name) for name in ("thinking_tokens", "web_search_requests", "web_fetch_requests")}
    parts[0] = parts[0]._replace(usage=replace(parts[0].usage, **once))
    return replace(sum((part.usage for part in parts), Usage()), uncertain=uncertain, iterations=tuple(parts))


def _is_credited(usage: Mapping[str, Any]) -> bool:
    """Return True if a fallback credit lowers the price of cache writes, by an amount that the API does not report.

    https://platform.claude.com/docs/en/build-with-claude/fallback-credit
    """
    credit = usage.get("fallback_credit")
    status = credit.get("status") if isinstance(credit, Mapping) else None
    return (
        isinstance(status, Mapping)
        and status.get("type") == "redeemed"
        and bool(usage.get("cache_creation_input_tokens"))
    )
