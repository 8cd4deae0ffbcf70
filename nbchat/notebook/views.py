"""Choose the view of an answer for the place where it is shown."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from nbchat.core.request import Sink
from nbchat.view.final import FinalView
from nbchat.view.live.view import LiveView
from nbchat.view.status import Cost

__all__ = ["views"]


def views(
    shell: Any,
    *,
    cell_id: str | None,
    quiet: bool = False,
    cost: Cost | None = None,
    typed: bool = False,
    environ: Mapping[str, str] = os.environ,
) -> tuple[Sink, ...]:
    """Return the view for the place where this runs, as the sinks of one answer.

    Without a kernel, the place is a terminal. Without a cell id (nbclient, nbval, papermill) or under
    pytest nothing is live, because somebody will compare the saved notebook.

    Args:
        shell: the IPython shell.
        cell_id: the id of the running cell.
        quiet: show nothing.
        cost: the prices for the status line.
        typed: the answer is the JSON of a typed answer, as in :class:`~nbchat.view.live.view.LiveView`.
        environ: the environment variables.
    """
    if quiet:
        return ()
    if getattr(shell, "kernel", None) is None:
        from nbchat.view.terminal import TerminalView

        return (TerminalView(cost=cost),)
    if cell_id is None or environ.get("PYTEST_VERSION") or environ.get("PYTEST_CURRENT_TEST"):
        return (FinalView(),)
    return (LiveView(cost=cost, typed=typed),)
