"""Usage: the tokens of an answer, in the four tiers the API bills."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

__all__ = ["Usage"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one or several requests; ``a + b`` adds them, ``Usage()`` is the zero.

    ``input_tokens`` counts what was neither written to nor read from the cache, as the
    Messages API does: the whole prompt is ``prompt_tokens``, the sum of the three input tiers
    (what OpenTelemetry calls ``gen_ai.usage.input_tokens``). ``cache_creation_1h_input_tokens``
    is the part of ``cache_creation_input_tokens`` with the one-hour price, ``thinking_tokens``
    the part of ``output_tokens`` spent on thinking. ``estimated`` says that the output was
    counted here because the answer broke off before the API counted it.
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

    @classmethod
    def from_api(cls, usage: Mapping[str, Any] | None) -> Usage:
        """Read a ``usage`` object of the API; missing and null counts are 0, and so is what is no count."""
        usage = usage if isinstance(usage, Mapping) else {}

        def count(source: Any, key: str) -> int:
            value = source.get(key) if isinstance(source, Mapping) else None
            return value if isinstance(value, int) else 0

        def word(key: str) -> str | None:
            return value if isinstance(value := usage.get(key), str) else None

        return cls(
            input_tokens=count(usage, "input_tokens"),
            output_tokens=count(usage, "output_tokens"),
            cache_creation_input_tokens=count(usage, "cache_creation_input_tokens"),
            cache_read_input_tokens=count(usage, "cache_read_input_tokens"),
            cache_creation_1h_input_tokens=count(usage.get("cache_creation"), "ephemeral_1h_input_tokens"),
            thinking_tokens=count(usage.get("output_tokens_details"), "thinking_tokens"),
            web_search_requests=count(usage.get("server_tool_use"), "web_search_requests"),
            web_fetch_requests=count(usage.get("server_tool_use"), "web_fetch_requests"),
            service_tier=word("service_tier"),
            speed=word("speed"),
            inference_geo=word("inference_geo"),
        )

    @property
    def prompt_tokens(self) -> int:
        """All tokens of the prompt, cached or not."""
        return self.input_tokens + self.cache_creation_input_tokens + self.cache_read_input_tokens

    @property
    def completion_tokens(self) -> int:
        """All tokens of the answer, thinking included."""
        return self.output_tokens

    @property
    def total_tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def cached_share(self) -> float:
        """The share of the prompt read from the cache, 0 to 1."""
        return self.cache_read_input_tokens / self.prompt_tokens if self.prompt_tokens else 0.0

    def __add__(self, other: Usage) -> Usage:
        if not isinstance(other, Usage):
            return NotImplemented
        added: dict[str, Any] = {}
        for field in fields(Usage):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if field.name == "estimated":
                added[field.name] = mine or theirs
            elif isinstance(mine, int):
                added[field.name] = mine + theirs
            else:  # a tier, a speed, a region: kept while they agree
                known = {value for value in (mine, theirs) if value is not None}
                added[field.name] = known.pop() if len(known) == 1 else ("mixed" if known else None)
        return Usage(**added)

    def __radd__(self, other: object) -> Usage:
        return self if other == 0 else NotImplemented  # so that sum() works

    def estimate_output(self, tokens: int) -> Usage:
        """The same usage with the output counted here: for an answer that broke off."""
        return replace(self, output_tokens=max(tokens, self.output_tokens), estimated=True)

    def to_dict(self) -> dict[str, Any]:
        """All fields that hold something, with the neutral names beside the API's."""
        held = {field.name: getattr(self, field.name) for field in fields(self)}
        counts = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
        return {key: value for key, value in held.items() if value or key in counts} | {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.total_tokens,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Usage:
        """The inverse of :meth:`to_dict`."""
        return cls(**{field.name: stored[field.name] for field in fields(cls) if field.name in stored})
