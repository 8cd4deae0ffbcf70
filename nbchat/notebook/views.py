"""Choose the view of an answer for the place where it is shown."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nbchat.core.request import Sink
from nbchat.notebook.place import in_kernel, is_live
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
    notes: Iterable[str] = (),
    shown_name: Callable[[str], str] = str,
    display_id: str | None = None,
    ends_fresh: Callable[[], bool] = lambda: False,
    environ: Mapping[str, str] = os.environ,
) -> tuple[Sink, ...]:
    """Return the view for the place where this runs, as the sinks of one answer.

    Without a kernel, the place is a terminal.

    Args:
        shell: the IPython shell.
        cell_id: the id of the running cell.
        quiet: show nothing.
        cost: the prices for the status line.
        typed: the answer is the JSON of a typed answer, as in :class:`~nbchat.view.live.view.LiveView`.
        notes: lines on what was cut of the prompt, for a terminal. The Response has them for a notebook.
        shown_name: returns the name of a tool that people read, for its name in requests.
        display_id: the output that the live view replaces.
        ends_fresh: tells the live view to end in a new output, as :class:`~nbchat.view.live.view.LiveView` says.
        environ: the environment variables.
    """
    if quiet:
        return ()
    if not in_kernel(shell):
        from nbchat.view.terminal import TerminalView

        return (TerminalView(cost=cost, notes=notes, shown_name=shown_name),)
    if not is_live(shell, cell_id, environ):
        return (FinalView(),)
    return (LiveView(cost=cost, typed=typed, shown_name=shown_name, display_id=display_id, ends_fresh=ends_fresh),)
