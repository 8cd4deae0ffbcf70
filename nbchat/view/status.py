"""The status line of an answer that is arriving. Pure: the clock is whoever calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from nbchat.core.chunks import Notice, OutputText, ResponseChunk, StreamChunk, Thinking, ToolInput
from nbchat.core.messages import OpaqueBlock
from nbchat.core.money import dollars
from nbchat.core.request import Request
from nbchat.core.usage import Usage

__all__ = ["Cost", "Status"]

Cost: TypeAlias = Callable[[Usage, str], "float | None"]
"""The cost of a usage with a model, in US dollars, or None where no price is known."""

#: Characters a token, about (https://platform.claude.com/docs/en/about-claude/glossary#tokens).
CHARACTERS_PER_TOKEN = 4


class Status:
    """Counts what arrives: model, elapsed time, tokens, speed, cost, and what is waited for."""

    def __init__(self, began: float, cost: Cost | None = None) -> None:
        self._began_at, self._cost = began, cost
        self.model = ""
        self._notices: dict[str, str] = {}
        self._first_at: float | None = None
        self._prompt_characters: int | None = None  # characters of the prompt; None where they do not tell its tokens
        self._characters = 0  # of the round that is arriving
        self._usage = Usage()  # of the rounds that ended

    def begin(self, request: Request) -> None:
        """Take what is asked."""
        self.model = request.model
        if any(isinstance(block, OpaqueBlock) for message in request.messages for block in message.content):
            self._prompt_characters = None
            return
        system = request.system or ""
        asked = system if isinstance(system, str) else "".join(str(part.get("text", "")) for part in system)
        self._prompt_characters = len(asked) + sum(len(message.text) for message in request.messages)

    def count(self, characters: int, now: float) -> None:
        """Count characters of the answer."""
        if self._first_at is None:
            self._first_at = now
        self._characters += characters

    def take(self, chunk: StreamChunk, now: float) -> None:
        """Take any chunk."""
        match chunk:
            case OutputText(text=text) | Thinking(text=text) | ToolInput(partial_json=text):
                self.count(len(text), now)
            case ResponseChunk(usage=usage):
                self._usage, self._characters = self._usage + usage, 0
                self.model = chunk.message.get("model") or self.model
            case Notice(text=text, about=about):
                self._notices[about] = text

    @property
    def waiting(self) -> bool:
        """Whether nothing of the answer is there yet."""
        return self._first_at is None

    @property
    def notice(self) -> str:
        """What is waited for, what was cut, and what else there is to say."""
        return " · ".join(text for text in self._notices.values() if text)

    def line(self, now: float, ended: bool = False) -> str:
        """The line: ``claude-sonnet-5-5 · 12 s · ~340 tokens · 28 tokens/s · ~$0.0052``."""
        parts = [self.model, _elapsed(now - self._began_at)]
        running = -(-self._characters // CHARACTERS_PER_TOKEN)
        tokens = self._usage.completion_tokens + running
        if self._first_at is None:
            parts.append("" if ended else "waiting for the first word")
        elif tokens:
            about = "~" if running or self._usage.estimated else ""
            parts.append(f"{about}{tokens:,} tokens")
            if now - self._first_at >= 1:
                parts.append(f"{tokens / (now - self._first_at):.0f} tokens/s")
            parts.append(self._cost_so_far(running))
        parts.append(self.notice)
        return " · ".join(part for part in parts if part)

    def _cost_so_far(self, running: int) -> str:
        if self._cost is None or (running and self._prompt_characters is None):
            return ""
        arriving = (
            Usage(input_tokens=-(-(self._prompt_characters or 0) // CHARACTERS_PER_TOKEN), output_tokens=running)
            if running
            else Usage()
        )
        cost = self._cost(self._usage + arriving, self.model)
        return "" if cost is None else f"{'~' if running and not dollars(cost).startswith('<') else ''}{dollars(cost)}"


def _elapsed(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"
