"""``%nbchat usage``: tokens and costs, from the ledger."""

from __future__ import annotations

import time

from nbchat.core.plural import counted
from nbchat.core.visible import visible
from nbchat.notebook.commands.arguments import Argument
from nbchat.notebook.commands.command import Call, command

__all__ = ["usage"]


@command(
    "usage",
    "tokens and costs; run: of this kernel, with the savings of replay",
    Argument("period", choices=("run", "today", "week", "month", "year", "all"), default="month"),
    Argument(
        "by",
        keyword="by",
        choices=("day", "model", "notebook", "chat", "endpoint", "kind", "month", "status"),
        suggested=("day", "model", "notebook", "chat"),
    ),
    Argument("csv", "FILE", keyword="csv", completes="files"),
)
def usage(call: Call, period: str, by: str | None, csv: str | None) -> None:
    """Show a plot and a table of a period, or write its requests to a CSV file."""
    from nbchat.store.entries import start_of, totals_of
    from nbchat.view.final import publish
    from nbchat.view.plot import usage_plot
    from nbchat.view.usage import joined, run_line, run_table, unknown_costs, usage_table

    accounting, ledger = call.session.accounting, call.session.accounting.ledger
    if period == "run" and not csv:
        if by is None:
            table = run_table(accounting.run, width=call.width)
        else:
            table = usage_table(totals_of(accounting.run, by), by, title=f"Usage by {by}, this run", width=call.width)
        publish(joined(table, unknown_costs(totals_of(accounting.run, "model"), width=call.width)))
        return
    since = accounting.began if period == "run" else start_of(period, time.time())
    if csv:
        rows = ledger.export_csv(csv, since)
        call.print(f"{counted(rows, 'request')} {'is' if rows == 1 else 'are'} in {visible(csv)}")
        return
    if accounting.run:
        call.print(run_line(accounting.run))
    title = {"all": "all time", "today": "today"}.get(period, f"this {period}")
    by = by or "model"
    publish(
        joined(
            usage_plot(ledger.totals("day", since), title=f"Cost by day, {title}", width=call.width),
            usage_table(ledger.totals(by, since), by, title=f"Usage by {by}, {title}", width=call.width),
            unknown_costs(ledger.totals("model", since), width=call.width),
        )
    )
