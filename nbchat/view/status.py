"""The status line of an answer that is arriving. Pure: the caller reads the clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from nbchat.core.chunks import Notice, OutputText, ResponseChunk, StreamChunk, Thinking, ToolInput
from nbchat.core.messages import OpaqueBlock
from nbchat.core.money import cache_effect, dollars
from nbchat.core.plural import counted
from nbchat.core.request import Request
from nbchat.core.usage import Usage
from nbchat.core.visible import visible_line

__all__ = ["Cost", "Status"]

Cost: TypeAlias = Callable[[Usage, str], "float | None"]
"""Returns the cost of a usage of a model in US dollars, or None if the price is unknown."""

#: About how many characters a token has (https://platform.claude.com/docs/en/about-claude/glossary#tokens).
CHARACTERS_PER_TOKEN = 4
MAX_NOTICE_CHARACTERS = 1_000


class Status:
    """Counts what has arrived, and writes the status line.

    Args:
        began: the time at which the request is sent, in seconds of the caller's clock.
        cost: the prices. Without them, the line has no cost.
    """

    def __init__(self, began: float, cost: Cost | None = None) -> None:
        self._began_at, self._cost = began, cost
        self.model = ""
        self._notices: dict[str, str] = {}
        self._first_at: float | None = None
        self._prompt_characters: int | None = None  # None if they say nothing about the number of tokens
        self._characters = 0  # of the round that is arriving
        self._usage = Usage()  # of the rounds that ended
        self._spent: float | None = 0.0  # for the rounds that ended, in US dollars
        self._cache_saved = 0.0  # by the rounds that ended, in US dollars

    def begin(self, request: Request) -> None:
        """Take the model and the size of the prompt from the request."""
        self.model = request.model
        if any(isinstance(block, OpaqueBlock) for message in request.messages for block in message.content):
            self._prompt_characters = None  # an image or a PDF costs tokens that its bytes do not tell
            return
        system = request.system or ""
        text = system if isinstance(system, str) else "".join(str(part.get("text", "")) for part in system)
        self._prompt_characters = len(text) + sum(len(message.text) for message in request.messages)

    def count(self, characters: int, now: float) -> None:
        """Count characters of the answer."""
        if self._first_at is None:
            self._first_at = now
        self._characters += characters

    def take(self, chunk: StreamChunk, now: float) -> None:
        """Count one chunk of any type."""
        match chunk:
            case OutputText(text=text) | Thinking(text=text) | ToolInput(partial_json=text):
                self.count(len(text), now)
            case ResponseChunk(usage=usage):
                # The API has counted this round: its figures replace the estimate.
                self._usage, self._characters = self._usage + usage, 0
                self.model = chunk.message.get("model") or self.model
                self._add_cost(usage)
            case Notice(text=text, about=about):
                self._notices[about] = text

    @property
    def waiting(self) -> bool:
        """True until the first character of the answer arrives."""
        return self._first_at is None

    @property
    def notice(self) -> str:
        """The notices that are in force, for example a countdown to the next try."""
        return " · ".join(text for text in self._notices.values() if text)

    def line(self, now: float, ended: bool = False) -> str:
        """Return the line: ``claude-sonnet-5-5 · 12 s · ~340 tokens · 28 tokens/s · ~$0.0052``."""
        # The endpoint wrote the name of the model, and notices quote its errors.
        parts = [visible_line(self.model), _elapsed(now - self._began_at)]
        estimated_tokens = _tokens(self._characters)
        tokens = self._usage.completion_tokens + estimated_tokens
        if self._first_at is None:
            parts.append("" if ended else "waiting for the first word")
        elif tokens:
            sign = "~" if estimated_tokens or self._usage.estimated else ""
            parts.append(f"{sign}{counted(tokens, 'token')}")
            if now - self._first_at >= 1:  # before that, the speed would be a division by almost nothing
                parts.append(f"{tokens / (now - self._first_at):.0f} tokens/s")
            parts.append(self._cost_so_far(estimated_tokens))
            parts.append(cache_effect(self._cache_saved))
        parts.append(visible_line(self.notice, MAX_NOTICE_CHARACTERS))
        return " · ".join(part for part in parts if part)

    def _add_cost(self, usage: Usage) -> None:
        """Add the cost of a round that ended. Rounds are priced one by one, as the API bills them."""
        if self._cost is None:
            return
        cost = self._cost(usage, self.model)
        self._spent = None if self._spent is None or cost is None else self._spent + cost
        if usage.used_cache and cost is not None and (uncached := self._cost(usage.without_cache(), self.model)):
            self._cache_saved += uncached - cost

    def _cost_so_far(self, estimated_tokens: int) -> str:
        """Return the cost as text, "" if the cost is unknown."""
        if self._cost is None or self._spent is None:
            return ""
        if not estimated_tokens:
            return dollars(self._spent)
        if self._prompt_characters is None:
            return ""
        round_so_far = Usage(input_tokens=_tokens(self._prompt_characters), output_tokens=estimated_tokens)
        cost = self._cost(round_so_far, self.model)
        if cost is None:
            return ""
        amount = dollars(self._spent + cost)
        return f"~{amount}" if not amount.startswith("<") else amount


def _tokens(characters: int) -> int:
    return -(-characters // CHARACTERS_PER_TOKEN)


def _elapsed(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"
