"""Records of a session: what was spent, what is kept while it arrives, what replays.

It binds the stores, the prices and the cassettes, which are blind to each other, for the session.
"""

from __future__ import annotations

import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from nbchat.config import Nbchat
from nbchat.core.chunks import Notice, ResponseChunk, StreamChunk
from nbchat.core.entries import Entry, Kind
from nbchat.core.errors import InputError
from nbchat.core.messages import Message
from nbchat.core.request import Request, Sink, Transport
from nbchat.core.response import Response
from nbchat.core.usage import Usage
from nbchat.engine.draft import Draft
from nbchat.engine.endpoints import Endpoint
from nbchat.store.entries import start_of
from nbchat.store.journal import JournalEntry, JournalFolder
from nbchat.store.ledger import Ledger
from nbchat.store.prices import check_budget, cost_of, estimate_cost
from nbchat.transports.cassette import Cassette

__all__ = ["Account", "Records"]


class Records:
    """The records of one session. ``notebook`` names it in the ledger; ``now`` is the time of day."""

    def __init__(self, config: Nbchat, *, notebook: str = "", now: Callable[[], float] = time.time) -> None:
        self._config, self._now = config, now
        self.notebook, self.began = notebook, now()
        self.ledger = Ledger(warn=_warn)
        self.journals = JournalFolder(warn=_warn)
        #: What this session did since it began, a row for every request.
        self.run: deque[Entry] = deque(maxlen=10_000)
        self.cassette: Cassette | None = None
        if config.cassette:
            self.use_cassette(config.cassette)
        config.observe(self._follow, names=["cassette", "cassette_mode"])

    # Cassettes

    def _follow(self, change: Any) -> None:
        """A cassette that ``%config`` names is used from now on, and so is its mode."""
        if change["name"] == "cassette":
            self.use_cassette(change["new"])
        elif self.cassette is not None:
            self.use_cassette(str(self.cassette.path))

    def use_cassette(self, path: str | None, mode: str = "auto", speed: str = "fast") -> None:
        """Record and replay with this file from now on; None takes the cassette out.

        Raises:
            OptionError, InputError, CassetteMiss: as of :class:`Cassette`.
        """
        mode = self._config.cassette_mode or mode
        # A cassette that is off is none; one that sends gets its endpoint with each request.
        self.cassette = Cassette(path, _Unnamed(), mode=mode, speed=speed) if path else None

    @property
    def replays_only(self) -> bool:
        """Whether nothing may be sent."""
        return self.cassette is not None and self.cassette.mode == "replay"

    def recorded(self, draft: Draft, candidates: Callable[[], list[Endpoint]]) -> Endpoint | None:
        """The first of the endpoints whose answer to the draft is recorded, or None.

        In a replay without one it is the first: the miss then says what differs.
        """
        if self.cassette is None or self.cassette.mode not in ("auto", "replay"):
            return None
        known = candidates()
        found = (
            endpoint
            for endpoint in known
            if self.cassette.holds(draft.request(endpoint.model, endpoint.defaults, endpoint.way))
        )
        return next(found, known[0] if self.replays_only else None)

    def replays(self, request: Request) -> bool:
        """Whether the request would be answered by the cassette, or by nobody: it cannot cost anything."""
        return self.cassette is not None and (self.replays_only or self.cassette.holds(request))

    def said(self, *, replayed: bool) -> str:
        """The line for the status of an answer: whether the cassette has it, or it was sent."""
        if self.cassette is None or self.cassette.mode == "off":
            return ""
        return f"{'replayed from' if replayed else 'sent, and recorded in'} {self.cassette.path.name}"

    def transport(self, endpoint: Endpoint) -> Transport:
        """The endpoint's transport, behind the cassette if there is one."""
        return endpoint.transport if self.cassette is None else self.cassette.around(_Later(endpoint))

    # Costs

    def cost(self, usage: Usage, endpoint: Endpoint, model: str) -> float | None:
        """The price of one request in US dollars; None where it is not known."""
        return cost_of(usage, model or endpoint.model, endpoint.priced_as, overrides=self._config.prices)

    def usage(self, period: str = "all", by: str | Sequence[str] = ()) -> Any:
        """The ledger as a pandas DataFrame: a row for every request, or the sums ``by`` some columns.

        ``period`` is ``run`` (since this session began), ``today``, ``week``, ``month``, ``year``
        or ``all``.

        Raises:
            OptionError: there is no such period or column.
            InputError: pandas is not installed, or the ledger cannot be read.
        """
        from nbchat.view.usage import usage_frame

        since = self.began if period == "run" else start_of(period, self._now())
        if by:
            return usage_frame(self.ledger.totals(by, since), by)
        return usage_frame(self.run if period == "run" else self.ledger.rows(since))

    def estimate(self, tokens: int, max_tokens: int, endpoint: Endpoint) -> float | None:
        """The most that a request with a prompt of so many tokens could cost."""
        return estimate_cost(tokens, max_tokens, endpoint.model, endpoint.priced_as, overrides=self._config.prices)

    def check_budget(self, limit: float | None, tokens: Callable[[], int], max_tokens: int, endpoint: Endpoint) -> None:
        """Refuse a request that could cost more than this notebook's budget of today leaves.

        Raises:
            BudgetError: with what is spent, the limit and the estimate; nothing was sent.
        """
        if limit is None:
            return
        # Without a name it is the budget of all that have none, so that no notebook is refused for another.
        spent, unknown = self.ledger.spent(start_of("today", self._now()), self.notebook)
        estimate = self.estimate(tokens(), max_tokens, endpoint)
        scope = "this notebook today" if self.notebook else "notebooks without a name today"
        check_budget(limit, spent, estimate, unknown=unknown, model=endpoint.model, scope=scope)

    # What is written

    def journal(
        self, prompt: Message, request: Request, endpoint: Endpoint, chat: str, cell: str | None
    ) -> Iterable[Sink]:
        """The sink that keeps the answer on disk while it arrives."""
        if not self._config.journal:
            return ()
        known = {"model": endpoint.model, "endpoint": endpoint.name, "chat": chat, "cell": cell or ""}
        return (self.journals.open(prompt, notebook=self.notebook, digest=request.digest, **known),)

    def recovered(self, entry: JournalEntry) -> Response:
        """The answer whose kernel was killed, now in the ledger too: what had come was paid for."""
        response = self.journals.restore(entry)
        known = {name: getattr(entry, name) for name in ("at", "endpoint", "model", "notebook", "chat", "cell")}
        cost = cost_of(response.usage, entry.model, entry.endpoint, overrides=self._config.prices)
        row = Entry(**known, kind="interrupted", status="killed", usage=response.usage, digest=response.digest)
        self.write(replace(row, cost=cost, response_id=response.id))
        return response

    def account(
        self, endpoint: Endpoint, chat: str, cell: str | None, before: Callable[[Request], None] | None = None
    ) -> Account:
        """The account of a turn. ``before`` is called before each request after the first; it may refuse."""
        return Account(self, endpoint, chat, cell, self._now, before)

    def write(self, entry: Entry) -> None:
        """Put a row into the ledger; a ledger that cannot be written warns once and breaks nothing."""
        self.run.append(entry)
        if self._config.ledger:
            self.ledger.record(entry)


class Account:
    """What one turn costs: a row of the ledger for every request, and the sum."""

    def __init__(
        self,
        records: Records,
        endpoint: Endpoint,
        chat: str,
        cell: str | None,
        now: Callable[[], float],
        before: Callable[[Request], None] | None = None,
    ) -> None:
        self._records, self._endpoint, self._now, self._before = records, endpoint, now, before
        self._known: dict[str, Any] = {"endpoint": endpoint.name, "chat": chat, "cell": cell or ""}
        self._round = -1
        self._began, self._digest = now(), ""
        self._costs: list[float | None] = []
        self.replayed: list[bool] = []

    def begin(self, request: Request) -> None:
        """A request is sent, unless ``before`` refuses it."""
        if self._before is not None and self._round >= 0:
            self._before(request)
        self._round += 1
        self._began, self._digest = self._now(), request.digest

    def feed(self, chunk: StreamChunk) -> None:
        """Take a notice of a try that failed and is repeated: that was a request as well."""
        if isinstance(chunk, Notice) and chunk.failed:
            self._write("retry", chunk.failed, Usage(), None, cost=0.0)
            self._began = self._now()

    def end(self, answer: ResponseChunk | None, status: str, *, replayed: bool = False, error: str = "") -> None:
        """The request ended, with this answer as far as it came."""
        usage = answer.usage if answer is not None else Usage()
        model = str(answer.message.get("model") or "") if answer is not None else ""
        price = self._records.cost(usage, self._endpoint, model) if usage.total_tokens else None
        self.replayed.append(replayed)
        if replayed:
            self._costs.append(0.0)
            self._write("replayed", status, usage, answer, model=model, cost=0.0, saved=price)
            return
        kind: Kind = "answer"
        if status == "interrupted":
            kind = "interrupted"
        elif error:
            kind = "failed"
        elif answer is not None and answer.stop_reason in ("tool_use", "pause_turn"):
            kind = "tool_round"
        if usage.total_tokens or not error:
            self._costs.append(price)
        spent = price if usage.total_tokens else 0.0
        self._write(kind, error or status, usage, answer, model=model, cost=spent)

    @property
    def cost(self) -> float | None:
        """The sum of the turn in US dollars; None where a part of it is not known."""
        known = [cost for cost in self._costs if cost is not None]
        return sum(known) if self._costs and len(known) == len(self._costs) else None

    @property
    def all_replayed(self) -> bool:
        """Whether every answer of the turn came from a cassette."""
        return bool(self.replayed) and all(self.replayed)

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
    ) -> None:
        now = self._now()
        self._records.write(
            Entry(
                at=self._began,
                model=model or self._endpoint.model,
                notebook=self._records.notebook,
                round=max(self._round, 0),
                kind=kind,
                status=status,
                usage=usage,
                cost=cost,
                saved=saved,
                digest=self._digest,
                response_id=str(answer.message.get("id") or "") if answer is not None else "",
                duration=now - self._began,
                **self._known,
            )
        )

    def settle(self, response: Response) -> None:
        """Nothing is left to do: each request was written when it ended."""


def _warn(message: str) -> None:
    """Say it to the user, without the path of this file in front."""
    warnings.warn_explicit(f"nbchat: {message}", RuntimeWarning, "nbchat", 1)


class _Unnamed:
    """What a cassette sends to before an endpoint is found: nothing."""

    name = "none"

    def stream(self, request: Request) -> Any:
        raise InputError("no endpoint was found for this request", "Name one with --endpoint.")


class _Later:
    """An endpoint as a transport that is made when something is really sent."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self.name = endpoint.name

    def stream(self, request: Request) -> Any:
        return self._endpoint.transport.stream(request)

    def count_tokens(self, request: Request) -> int:
        return self._endpoint.transport.count_tokens(request)  # type: ignore[attr-defined]
