"""Every fault, in plain Python: what is raised, what is held, what is booked, and what is left running.

Each fault is in two of its modes and kinds of answer, unless THOROUGH=1.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nbchat.config import Nbchat
from nbchat.engine.session import Session
from nbchat.store.journal import JournalFolder
from nbchat.store.ledger import Ledger
from tests.faults.state import PRICES, Endpoint, check_error, state_of, threads
from tests.faults.table import Asked, Case, cases, fault_server, half_of_the_cases
from tests.faults.what_people_see import SNAPSHOT, Outcome, outcomes, text_of
from tests.support.thorough import THOROUGH

__all__ = ["Ring", "ring_in"]


@dataclass
class Ring:
    """A session, and the server that it asks."""

    session: Session
    endpoint: Endpoint
    asked: Asked
    ledger: Path
    journal: Path

    def run(self, case: Case) -> dict[str, Any]:
        """Ask the prompt of a case, and return the state after it."""
        ran: list[Any] = []

        def add(a: Any = None, b: Any = None) -> str:
            """Add two numbers."""
            ran.append({"a": a, "b": b})
            return "5"

        error = None
        try:
            answer = self.session.ask(
                case.prompt,
                chat=case.id,
                cell=case.id,
                stream=case.mode == "stream",
                tools=[add] if case.kind == "tool" else (),
            )
            assert answer is self.session.last
        except Exception as raised:
            check_error(raised)
            error = raised
        state = state_of(self.session, case.id, error, self.ledger, self.journal)
        return {**state, "asked": self.asked.first.get(case.id, 0), "ran": [str(call)[:100] for call in ran]}

    def ask_again(self, case: Case) -> None:
        """Ask in the same conversation, which must go on."""
        # Without thinking, which another model must not get; the server checks the history.
        again = self.session.ask(f"{case.id} again", chat=case.id)
        assert again.text == "Done."

    def connections(self) -> list[Any]:
        """Return the connections of the client."""
        client: Any = self.endpoint.server._client
        pool = client._client._transport._transports["http"]._pool
        return list(pool.connections)


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ring]:
    with ring_in(tmp_path_factory.mktemp("ring")) as ring:
        yield ring


class ring_in:
    """A context manager over a ring whose files are in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> Ring:
        self._server = fault_server()
        url, asked = self._server.__enter__()
        # Nobody listens on this port, and nobody else can.
        self._unused = socket.socket()
        self._unused.bind(("127.0.0.1", 0))
        endpoint = Endpoint(url, f"http://127.0.0.1:{self._unused.getsockname()[1]}")
        session = Session(endpoint, config=Nbchat(prices=PRICES), model="test-model")
        ledger, journal = self._folder / "ledger.sqlite", self._folder / "journal"
        session.accounting.ledger = Ledger(ledger)
        session.recording.journals = JournalFolder(journal)
        return Ring(session, endpoint, asked, ledger, journal)

    def __exit__(self, *exception: Any) -> None:
        self._unused.close()
        self._server.__exit__(None, None, None)


@pytest.fixture(scope="module")
def expected() -> dict[str, Outcome]:
    """Return what the snapshot says of each case."""
    return outcomes()


CASES = cases() if THOROUGH else half_of_the_cases()


def test_the_snapshot_has_every_case_and_no_other(expected: dict[str, Outcome]) -> None:
    """A fault that was added or renamed needs a new snapshot, and somebody who reads it."""
    assert text_of(expected) == SNAPSHOT.read_text("utf-8")


@pytest.mark.parametrize("case", CASES, ids=[f"{case.fault.name}-{case.mode}-{case.kind}" for case in CASES])
def test_a_fault(case: Case, ring: Ring, expected: dict[str, Outcome]) -> None:
    """The error or the status is the one of the table, the rest is as in the snapshot, and nothing is left over."""
    state = ring.run(case)
    assert Outcome.of(case, state) == expected[case.id]
    seen = case.fault.seen_by(case.mode, case.kind)
    assert (state["error"] or state["status"]) == seen, state
    assert state["asked"] == case.fault.asked_in(case.mode, case.kind), state
    assert len(state["rows"]) == ring.asked.posts.get(case.id, 0), state
    assert state["journal"] == 0
    assert threads() == []
    assert all(connection.is_idle() for connection in ring.connections())
    assert len(ring.connections()) <= 1
    ring.ask_again(case)
    assert ring.asked.problems == []
