"""``%%claude --each ROWS``: one prompt for each row of a table of the notebook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nbchat.content.blocks import Carried
from nbchat.core.errors import NbchatError, OptionError, nearest
from nbchat.core.visible import visible
from nbchat.engine.session import Session
from nbchat.notebook.host import ShellHost
from nbchat.notebook.rows_view import view_for
from nbchat.notebook.tracebacks import shorten
from nbchat.notebook.waiting import Waiting
from nbchat.options import Options
from nbchat.rows.estimate import Estimate
from nbchat.rows.frames import is_rows
from nbchat.rows.job import Job
from nbchat.rows.run import ask_each

__all__ = ["run_rows"]


def run_rows(
    host: ShellHost,
    session: Session,
    template: str,
    options: Options,
    carried: Sequence[Carried],
    waiting: Waiting,
) -> Job | None:
    """Ask the template for each row, and bind the job, also of a run that was stopped. A dry run has none.

    Raises:
        InputError, BudgetError: nothing was sent.
        NbchatError: something that every row would hit.
        KeyboardInterrupt: the user stopped the run.
    """
    names = host.names_of_caller()
    rows = _rows_of(options, names)
    bound = [*(["_claude"] if not options.dry_run else []), *([options.output] if options.output else [])]
    session.last_job = None
    try:
        made = ask_each(
            session,
            rows,
            template,
            options,
            namespace=names,
            rows=options.rows,
            carried=carried,
            cell=host.cell_key(),
            view=None if options.quiet or options.dry_run else view_for(host.shell, waiting.hand_over),
        )
    except (KeyboardInterrupt, NbchatError) as stop:
        if (job := session.last_job) is not None:
            host.shell.user_ns.update(dict.fromkeys(bound, job))
        if isinstance(stop, KeyboardInterrupt):
            kept = f"{bound[-1]}.frame has the rows up to here; run the cell again to go on"
            shorten(stop, kept if job is not None else "nothing was sent")
        raise
    host.shell.user_ns.update(dict.fromkeys(bound, made))
    if isinstance(made, Estimate):
        print(visible(str(made)))
        return None
    return made


def _rows_of(options: Options, names: Any) -> Any:
    """Return the rows that ``--each`` names.

    Raises:
        OptionError: there is no variable of that name, or it has no rows.
    """
    name = options.each or ""
    if name not in names:
        tables = [key for key, value in names.items() if not key.startswith("_") and is_rows(value)]
        raise OptionError(
            f"--each {name}: there is no variable of that name",
            nearest(name, tables) or "Define it in a cell above: a table, a list or an iterator.",
        )
    if not is_rows(names[name]):
        raise OptionError(
            f"--each {name}: the variable holds {type(names[name]).__name__}, which has no rows",
            "Give a table, a Series, a list of dicts or values, or an iterator.",
        )
    return names[name]
