"""The budget of a run: what was spent, and what the requests in flight could still cost."""

from __future__ import annotations

from nbchat.core.errors import BudgetError
from nbchat.core.money import dollars
from nbchat.core.request import Request
from nbchat.engine.accounting import Accounting
from nbchat.engine.endpoint import Endpoint
from nbchat.store.prices import check_budget

__all__ = ["Budget"]

#: An estimate of the tokens of a prompt can be too low by so much.
_MARGIN = 1.5
#: Sums of floats differ from the exact sum by less than this, in US dollars.
_ROUNDING_ERROR = 1e-9


class Budget:
    """Admits a request only if all that was spent and all that is in flight could not exceed the limit.

    Args:
        limit: the budget, in US dollars. It holds for the notebook and the day, as in a cell.
        accounting: knows what was spent before.
        endpoint: where the requests go.
        request: one of the requests.
        tier: ``batch`` if the requests go into batches, which cost half.
        in_flight: the most that earlier batches can still cost, in US dollars.

    Raises:
        BudgetError: the price is unknown, so that the budget cannot be guaranteed.
    """

    def __init__(
        self,
        limit: float,
        accounting: Accounting,
        endpoint: Endpoint,
        request: Request,
        *,
        tier: str | None = None,
        in_flight: float = 0.0,
    ) -> None:
        self._limit, self._scope, self._model = limit, accounting.scope, endpoint.model
        self._spent, self._unknown = accounting.spent_today()
        none, many = (accounting.estimate(tokens, request, endpoint, tier=tier) for tokens in (0, 1_000_000))
        if none is None or many is None:
            check_budget(limit, self._spent, None, unknown=self._unknown, model=self._model, scope=self._scope)
        # The most that an answer can cost, and what a token of a prompt costs.
        self._answer, self._token = none or 0.0, ((many or 0.0) - (none or 0.0)) / 1_000_000
        self._in_flight = in_flight

    @property
    def spent(self) -> float:
        """Return what was spent so far, in US dollars."""
        return self._spent

    @property
    def unspent(self) -> float:
        """Return what is left, in US dollars, if nothing in flight costs anything."""
        return self._limit - self._spent

    @property
    def left(self) -> float:
        """Return what is left, in US dollars, if everything in flight costs the most that it can."""
        return self._limit - self._spent - self._in_flight

    def most(self, tokens: int) -> float:
        """Return the most that a request with so many tokens can cost."""
        return self._answer + self._token * tokens * _MARGIN

    def allows(self, tokens: int) -> bool:
        """Return True if a request with so many tokens cannot exceed the budget."""
        return self.most(tokens) <= self.left + _ROUNDING_ERROR

    def reserve(self, tokens: int) -> float:
        """Take that a request is about to be sent, and return what is reserved for it.

        Raises:
            BudgetError: the request could exceed the budget.
        """
        most = self.most(tokens)
        if not self.allows(tokens):
            raise BudgetError(
                f"the next row could cost {dollars(most)}, more than the budget of {dollars(self._limit)} for "
                f"{self._scope} leaves: {dollars(self._spent)} is spent",
                "What is finished is kept: the same call goes on from there. Raise the budget, or lower max_tokens.",
                spent=self._spent,
                limit=self._limit,
                estimate=most,
            )
        self._in_flight += most
        return most

    def release(self, reserved: float, cost: float | None) -> None:
        """Take what a request really cost. An unknown cost counts as the most that it could be."""
        self._in_flight -= reserved
        self._spent += reserved if cost is None else cost
