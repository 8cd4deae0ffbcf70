"""Book what a session costs: prices, the budget, and a ledger row for every request."""

from __future__ import annotations

import time
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from nbchat.config import Nbchat
from nbchat.core.chunks import Notice, ResponseChunk
from nbchat.core.entries import Entry, Kind, Spent
from nbchat.core.errors import NOT_CONNECTED, ConnectionFailed
from nbchat.core.request import Request
from nbchat.core.response import Response
from nbchat.core.usage import Usage
from nbchat.core.visible import visible
from nbchat.engine.endpoint import Endpoint, region_of
from nbchat.models import price_model
from nbchat.store.entries import start_of
from nbchat.store.journal import JournalEntry
from nbchat.store.ledger import Ledger
from nbchat.store.prices import check_budget, cost_of, estimate_cost
from nbchat.threads import has_threads

__all__ = ["Account", "Accounting", "warn"]


def warn(message: str) -> None:
    """Warn the user, without the path of this file in front of the message."""
    # Python in a browser has no threads and keeps no files. That is no fault, and %nbchat doctor says it.
    if has_threads():
        warnings.warn_explicit(visible(f"nbchat: {message}"), RuntimeWarning, "nbchat", 1)


class Accounting:
    """The costs of one session.

    Args:
        config: the settings: prices of the user's own, and whether there is a ledger.
        notebook: the session's name in the ledger.
        now: the time of day, in seconds since the epoch.
        clock: seconds on a clock that never goes back, for durations.
    """

    def __init__(
        self,
        config: Nbchat,
        *,
        notebook: str = "",
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config, self._now, self._clock = config, now, clock
        self.notebook, self.began = notebook, now()
        self.ledger = Ledger(warn=warn)
        #: The rows of this session, also without a ledger. Old rows go, so that a kernel that runs
        #: for weeks does not grow.
        self.run: deque[Entry] = deque(maxlen=10_000)

    def cost(self, usage: Usage, endpoint: Endpoint, model: str) -> float | None:
        """Return the price of one request in US dollars, or None where no price is known."""
        return self.price(usage, endpoint, self._priced(endpoint.name, endpoint.model, model))

    def price(self, usage: Usage, endpoint: Endpoint, model: str) -> float | None:
        """Return the price of a usage of a model that the endpoint has, in US dollars, or None."""
        return cost_of(usage, model, endpoint.priced_as, overrides=self._config.prices, region=endpoint.region)

    def _priced(self, endpoint: str, asked: str, answered: str) -> str:
        """Return the name of the model whose price a request has: one that the user set a price for, if any."""
        own = (name for name in (answered, asked) if name in self._config.prices)
        return next(own, price_model(endpoint, asked, answered))

    def estimate(
        self,
        tokens: int,
        request: Request,
        endpoint: Endpoint,
        *,
        answer: int | None = None,
        tier: str | None = None,
    ) -> float | None:
        """Return the most that a request could cost in US dollars.

        Args:
            tokens: the tokens of the prompt.
            request: the request.
            endpoint: where the request goes.
            answer: the tokens of the answer; None for the longest answer.
            tier: ``batch`` for a request of a batch.
        """
        return estimate_cost(
            tokens,
            request.max_tokens if answer is None else answer,
            self._priced(endpoint.name, request.model, ""),
            endpoint.priced_as,
            cache_ttl=request.cache_ttl,
            overrides=self._config.prices,
            region=endpoint.region,
            speed=request.params.get("speed"),
            inference_geo=request.params.get("inference_geo"),
            service_tier=tier,
        )

    def check_budget(self, limit: float, tokens: int, request: Request, endpoint: Endpoint) -> None:
        """Refuse a request that could cost more than the notebook's budget of today has left.

        Raises:
            BudgetError: it has what was spent, the limit and the estimate.
        """
        spent, unknown = self.spent_today()
        estimate = self.estimate(tokens, request, endpoint)
        check_budget(limit, spent, estimate, unknown=unknown, model=endpoint.model, scope=self.scope)

    def usage(self, period: str = "all", by: str | Sequence[str] = ()) -> Any:
        """Return the ledger as a pandas DataFrame: a row for each request, or the sums by some columns.

        Args:
            period: ``run`` (since the session began), ``today``, ``week``, ``month``, ``year`` or ``all``.
            by: the columns to group by.

        Raises:
            OptionError: there is no such period or column.
            InputError: pandas is not installed, or the ledger cannot be read.
        """
        from nbchat.view.usage import usage_frame

        since = self.began if period == "run" else start_of(period, self._now())
        if by:
            return usage_frame(self.ledger.totals(by, since), by)
        return usage_frame(self.run if period == "run" else self.ledger.rows(since))

    def account(
        self,
        endpoint: Endpoint,
        chat: str,
        cell: str | None,
        allow: Callable[[Request], None] | None = None,
        write: Callable[[Entry], None] | None = None,
    ) -> Account:
        """Return the account of one turn.

        Args:
            endpoint: where requests go.
            chat: the name of the conversation.
            cell: the key of the turn.
            allow: may refuse each request after the first.
            write: takes each row; None writes the row immediately.
        """
        return Account(self, endpoint, chat, cell, self._now, self._clock, allow, write or self.write)

    def write_recovered(self, entry: JournalEntry, response: Response) -> None:
        """Write the row of an answer whose kernel was killed: what had arrived was paid for."""
        row = Entry(
            at=entry.at,
            endpoint=entry.endpoint,
            model=entry.model,
            notebook=entry.notebook,
            chat=entry.chat,
            cell=entry.cell,
            kind="interrupted",
            status="killed",
            usage=response.usage,
            digest=response.digest,
        )
        cost = cost_of(
            response.usage,
            self._priced(entry.endpoint, entry.model, response.model),
            entry.endpoint,
            at=datetime.fromtimestamp(entry.at, UTC),
            overrides=self._config.prices,
            region=region_of(entry.endpoint),
        )
        self.write(replace(row, cost=cost, response_id=response.id))

    def write(self, entry: Entry) -> None:
        """Write a row. A ledger that cannot be written warns once and breaks nothing."""
        self.write_all([entry])

    def write_all(self, entries: Sequence[Entry]) -> None:
        """Write rows in one transaction, as :meth:`write` does."""
        self.run.extend(entries)
        if self._config.ledger and entries:
            self.ledger.record(*entries)

    def spent_today(self) -> Spent:
        """Return what the notebook has cost today."""
        # All notebooks without a name share one budget, so that no named notebook is refused for another one.
        return self.ledger.spent(start_of("today", self._now()), self.notebook)

    @property
    def scope(self) -> str:
        """Return in words whose costs the budget limits."""
        return "this notebook today" if self.notebook else "notebooks without a name today"


class Account:
    """The costs of one turn: a row for every request, and the sum."""

    def __init__(
        self,
        accounting: Accounting,
        endpoint: Endpoint,
        chat: str,
        cell: str | None,
        now: Callable[[], float],
        clock: Callable[[], float],
        allow: Callable[[Request], None] | None,
        write: Callable[[Entry], None],
    ) -> None:
        self._accounting, self._endpoint, self._allow = accounting, endpoint, allow
        self._now, self._clock, self._write_entry = now, clock, write
        self._chat, self._cell = chat, cell or ""
        self._round = -1
        self._begin()
        self._request = Request("", (), 0)
        self._costs: list[float | None] = []
        self._prices: list[float | None] = []
        self._replayed: list[bool] = []
        self._was_refused = False

    def begin(self, request: Request) -> None:
        """Take that a request is about to be sent.

        Raises:
            BudgetError: the request could exceed the budget. The first request of a turn was checked
                before the turn began.
        """
        if self._allow is not None and self._round >= 0:
            self._allow(request)
        self._round += 1
        self._request = request
        self._begin()

    def _begin(self) -> None:
        self._began, self._began_on_clock = self._now(), self._clock()

    def retry(self, notice: Notice) -> None:
        """Take that a try failed and is repeated. The failed try was a request as well."""
        if notice.failed == NOT_CONNECTED:  # nothing was sent
            self._begin()
            return
        # Of the failures that are retried, only a lost connection leaves it open if an answer was generated.
        cost = self._accounting.cost(Usage(), self._endpoint, "") if notice.failed == ConnectionFailed.__name__ else 0.0
        if cost is None:
            self._costs.append(None)
        self._write("retry", notice.failed, Usage(), None, cost=cost)
        self._begin()

    def end(
        self,
        answer: ResponseChunk | None,
        status: str,
        *,
        replayed: bool = False,
        error: str = "",
        refused: bool = False,
    ) -> None:
        """Take that a request ended.

        Args:
            answer: the answer as far as it arrived.
            status: how the answer ended.
            replayed: whether a cassette answered.
            error: the type of the error, if there was one.
            refused: whether the endpoint refused the request, which costs nothing.
        """
        usage = answer.usage if answer is not None else Usage()
        model = str(answer.message.get("model") or "") if answer is not None else ""
        price = self._accounting.cost(usage, self._endpoint, model)
        uncached = self._accounting.cost(usage.without_cache(), self._endpoint, model) if usage.used_cache else None
        self._replayed.append(replayed)
        self._prices.append(price)
        if replayed:
            self._costs.append(0.0)
            self._write("replayed", status, usage, answer, model=model, cost=0.0, saved=price)
            return
        kind: Kind = "answer"
        if status == "interrupted":
            kind = "interrupted"
        elif error:
            kind = "failed"
        elif answer is not None and (answer.calls or self._request.is_continued_after(answer.stop_reason)):
            kind = "tool_round"
        # What was sent and not refused may be billed, also if it ended before its usage arrived. The cost is
        # then unknown, and not 0.
        refused = refused and not usage.total_tokens and not usage.uncertain
        if refused:
            self._was_refused = True
        else:
            self._costs.append(price)
        cache_saved = uncached - price if uncached is not None and price is not None else None
        cost = 0.0 if refused else price
        self._write(kind, error or status, usage, answer, model=model, cost=cost, cache_saved=cache_saved)

    @property
    def cost(self) -> float | None:
        """Return the sum in US dollars, or None where a part of it is unknown. What was refused costs nothing."""
        if self._was_refused and not self._costs:
            return 0.0
        known = [cost for cost in self._costs if cost is not None]
        return sum(known) if self._costs and len(known) == len(self._costs) else None

    @property
    def price(self) -> float | None:
        """Return what the answers cost where they are sent, in US dollars; None where a part of it is unknown.

        A replay has the same price as the recorded answer, though it costs nothing.
        """
        known = [price for price in self._prices if price is not None]
        return sum(known) if self._prices and len(known) == len(self._prices) else None

    @property
    def all_replayed(self) -> bool:
        """Return True if a cassette gave every answer of the turn."""
        return bool(self._replayed) and all(self._replayed)

    def _write(
        self,
        kind: Kind,
        status: str,
        usage: Usage,
        answer: ResponseChunk | None,
        *,
        model: str = "",
        cost: float | None = None,
        saved: float | None = None,
        cache_saved: float | None = None,
    ) -> None:
        self._write_entry(
            Entry(
                at=self._began,
                endpoint=self._endpoint.name,
                model=model or self._endpoint.model,
                notebook=self._accounting.notebook,
                chat=self._chat,
                cell=self._cell,
                round=max(self._round, 0),
                kind=kind,
                status=status,
                usage=usage,
                cost=cost,
                saved=saved,
                cache_saved=cache_saved,
                digest=self._request.digest,
                response_id=str(answer.message.get("id") or "") if answer is not None else "",
                duration=self._clock() - self._began_on_clock,
            )
        )
