"""The estimate of a run: its rows, its tokens and its cost, before and after a sample."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nbchat.core.money import dollars
from nbchat.core.plural import counted
from nbchat.core.usage import Usage
from nbchat.core.visible import visible
from nbchat.engine.session import Session
from nbchat.rows.plan import Plan

__all__ = ["Estimate", "answer_tokens", "counted_tokens", "estimate", "load_prices"]

#: How many tokens a text answer has, and how many each field of a typed one, where nothing was measured.
_TEXT_TOKENS, _FIELD_TOKENS = 250, 16


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run would send and cost.

    Attributes:
        rows: the number of rows.
        distinct: the number of requests; equal rows make one.
        finished: the requests that have their answers already, and cost nothing.
        tokens: the tokens of the prompts that would be sent.
        answer_tokens: the tokens of one answer that ``likely`` assumes.
        likely: the cost in US dollars if answers have that length; None if no price is known.
        most: the cost if every answer has ``max_tokens``.
        request: what the first row sends.

    ``str(estimate)`` is a text for people.
    """

    rows: int
    distinct: int
    finished: int
    tokens: int
    answer_tokens: int
    likely: float | None
    most: float | None
    request: Mapping[str, Any] = field(repr=False)
    measured: bool = False

    def __str__(self) -> str:
        to_send = self.distinct - self.finished
        how = "as measured" if self.measured else "a guess; rows=20 measures it"
        lines = [
            f"{counted(self.rows, 'row')}, {counted(self.distinct, 'distinct request')}, "
            f"{self.finished:,} answered before, {to_send:,} to send",
            f"about {self.tokens:,} tokens of prompts, and {self.answer_tokens:,} an answer ({how})",
            f"cost: likely {dollars(self.likely)}, at most {dollars(self.most)}",
            "",
            "The first row sends:",
            json.dumps(self.request, ensure_ascii=False, indent=2),
        ]
        return visible("\n".join(lines))

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))


def answer_tokens(plan: Plan) -> int:
    """Return a guess of the tokens of one answer."""
    fields = len(plan.answers.fields) if plan.prepared.draft.schema is not None else 0
    guess = _FIELD_TOKENS * (fields + 1) if fields else _TEXT_TOKENS
    return min(guess, plan.prepared.request.max_tokens)


def estimate(
    session: Session,
    plan: Plan,
    *,
    rows: int,
    distinct: int,
    finished: int,
    tokens: int,
    usage: Usage,
    sent: int,
    tier: str | None = None,
) -> Estimate:
    """Return the estimate of a run.

    Args:
        session: knows the prices, and counts the first row's tokens.
        plan: makes the requests.
        rows: the number of rows.
        distinct: the number of requests.
        finished: the requests that are answered.
        tokens: about how many tokens the prompts have that would be sent.
        usage: the tokens of requests that were answered before.
        sent: how many requests those were.
        tier: ``batch`` if the requests go into batches.
    """
    endpoint, request = plan.prepared.endpoint, plan.prepared.request  # without the mark, whose gain nobody knows
    answer = max(1, round(usage.output_tokens / sent)) if sent else answer_tokens(plan)
    to_send = distinct - finished

    def cost(each: int) -> float | None:
        if not to_send:
            return 0.0
        one = session.accounting.estimate(round(tokens / to_send), request, endpoint, answer=each, tier=tier)
        return None if one is None else one * to_send

    body = plan.first.body()
    return Estimate(
        rows, distinct, finished, tokens, answer, cost(answer), cost(request.max_tokens), body, measured=bool(sent)
    )


def counted_tokens(session: Session, plan: Plan, tokens: int) -> int:
    """Return estimated tokens, corrected by what the endpoint counts for the first row."""
    count = session.count(plan.prepared.request, plan.prepared.endpoint)
    return round(tokens * count.tokens / plan.first_tokens) if count.exact and plan.first_tokens else tokens


def load_prices(session: Session, plan: Plan) -> None:
    """Load the list prices, which takes a tenth of a second, if the run needs them."""
    asked = plan.prepared
    session.accounting.cost(Usage(input_tokens=1, output_tokens=1), asked.endpoint, asked.request.model)
