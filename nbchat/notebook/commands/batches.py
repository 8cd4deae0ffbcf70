"""``%nbchat batches``: the batches that were sent from this machine."""

from __future__ import annotations

import time

from nbchat.core.plural import counted
from nbchat.notebook.commands.command import Call, command

__all__ = ["batches"]


@command("batches", "the batches that were sent from here, and their state")
def batches(call: Call) -> None:
    """Show a table of the batches, the newest first. Nothing is sent."""
    from nbchat.rows.attach import batches as all_batches
    from nbchat.view.final import publish
    from nbchat.view.tables import table_bundle

    records = all_batches()
    if not records:
        call.print("no batches were sent from here; --via batches sends rows in batches")
        return
    waiting = sum(record.state == "open" for record in records)
    rows = [
        [
            record.service_id or record.id,
            time.strftime("%Y-%m-%d %H:%M", time.localtime(record.at)),
            record.state,
            record.model,
            record.endpoint,
            f"{record.requests:,}",
        ]
        for record in records
    ]
    below = [f"{counted(waiting, 'batch')} open: nbchat.attach(id) waits for the answers"] if waiting else []
    head = ["id", "sent", "state", "model", "endpoint", "requests"]
    publish(table_bundle("Batches", head, rows, left_columns=5, below=below, width=call.width))
