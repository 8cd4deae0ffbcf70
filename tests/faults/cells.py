"""The side of the kernel: after each cell with a fault, write what is left to a file."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from IPython import get_ipython

from nbchat.core.errors import NbchatError
from nbchat.store.journal import JournalFolder
from nbchat.store.ledger import Ledger
from tests.faults.state import PRICES, Endpoint, check_error, open_sockets, state_of, threads
from tests.faults.table import case_of

__all__ = ["watch"]

#: How long views may take to close, in seconds.
_PATIENCE_S = 20.0


def watch(url: str, unused: str, folder: str) -> None:
    """Let the cells of this kernel ask the server of faults, and write the state after each to ``state.json``."""
    shell: Any = get_ipython()
    session = shell.nbchat.session
    session.endpoints._fixed = Endpoint(url, unused)
    session.config.prices = PRICES
    session.config.model = "test-model"
    ledger, journal = Path(folder) / "ledger.sqlite", Path(folder) / "journal"
    session.accounting.ledger, session.recording.journals = Ledger(ledger), JournalFolder(journal)
    sockets: list[int] = []

    def after_cell(result: Any) -> None:
        case = case_of(result.info.raw_cell or "")
        if case is None:
            return
        error = result.error_in_exec
        wrong = ""
        if error is not None:
            try:
                assert isinstance(error, NbchatError), repr(error)
                check_error(error)
            except AssertionError as problem:
                wrong = f"{type(error).__name__}: {problem}"
        state = state_of(session, case.id, error, ledger, journal)
        assert shell.user_ns["_claude"] is session.last
        sockets.append(open_sockets())
        state |= {
            "text": session.last.text,
            "threads": threads(),
            "widgets": _settled(_widgets),
            "comms": _settled(_comms),
            # A connection is kept for the next request.
            "sockets": wrong or max(0, sockets[-1] - sockets[0] - 1),
        }
        (Path(folder) / "state.json").write_text(json.dumps(state))

    shell.events.register("post_run_cell", after_cell)


def _settled(count: Callable[[], int]) -> int:
    """Return the number that is left when nothing changes any more: 0, or what does not go."""
    end = time.monotonic() + _PATIENCE_S
    while count() and time.monotonic() < end:
        time.sleep(0.001)
    return count()


def _widgets() -> int:
    import ipywidgets

    return len(ipywidgets.widgets.widget._instances)


def _comms() -> int:
    import comm

    return len(comm.get_comm_manager().comms)
