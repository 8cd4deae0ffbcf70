"""The view of a run over rows in IPython: a live bar while it runs, and one static output that stays."""

from __future__ import annotations

import time
import uuid
from typing import Any

from nbchat.core.extension_points import provided
from nbchat.core.visible import visible, visible_line
from nbchat.notebook.host import ShellHost
from nbchat.notebook.place import is_live
from nbchat.rows.counts import Counts
from nbchat.rows.job import Job, RowsView
from nbchat.rows.views import TextView, advance, bar_arguments, has_tqdm
from nbchat.view.html.safe import escape
from nbchat.view.tables import html_table, text_table

__all__ = ["current_view", "rows_bundle", "view_for"]

#: How many rows and how much of a cell the static output shows.
SHOWN_ROWS, SHOWN_CHARACTERS = 5, 200
#: How often the line of a notebook without tqdm is drawn again, in seconds.
REDRAW_S = 0.5
_HIDDEN = ("nbchat_cost",)


def current_view() -> RowsView:
    """Return the view for the place where Python runs."""
    host = provided("host")()
    return view_for(host.shell) if isinstance(host, ShellHost) else TextView()


def view_for(shell: Any) -> RowsView:
    """Return the view for a shell."""
    if getattr(shell, "kernel", None) is None:
        return TextView()
    return NotebookView(shell, live=is_live(shell, ShellHost(shell).cell_id()))


class NotebookView:
    """Shows a run in a notebook.

    Args:
        shell: the IPython shell.
        live: whether a person watches. Otherwise there is only the output at the end.
    """

    def __init__(self, shell: Any, *, live: bool) -> None:
        self._shell, self._live = shell, live
        self._display_id = uuid.uuid4().hex
        self._bar: Any = None
        self._drawn_s = 0.0

    def begin(self, counts: Counts) -> None:
        """Begin to show a run."""
        if not self._live:
            return
        if has_tqdm():
            try:
                from tqdm.notebook import tqdm

                self._bar = tqdm(**{**bar_arguments(counts), "leave": True}, display=False)
                # Without text/plain: a notebook that is saved now must not keep a picture of a bar.
                model = {"model_id": self._bar.container.model_id, "version_major": 2, "version_minor": 0}
                self._publish({"application/vnd.jupyter.widget-view+json": model})
                return
            except Exception:  # no widgets in this place
                self._bar = None
        self._publish(self._line(counts))

    def update(self, counts: Counts) -> None:
        """Move the bar."""
        if self._bar is not None:
            advance(self._bar, counts)
        elif self._live and time.monotonic() - self._drawn_s >= REDRAW_S:
            self._publish(self._line(counts), update=True)

    def settle(self, job: Job) -> None:
        """Replace the bar by the output that stays."""
        if self._bar is not None:
            self._bar.close()
        if self._live:
            self._publish({}, update=True)
        self._shell.display_pub.publish(rows_bundle(job), {"nbchat": _metadata(job)})

    def _line(self, counts: Counts) -> dict[str, str]:
        self._drawn_s = time.monotonic()
        of = f" of {counts.rows:,}" if counts.rows is not None else ""
        line = visible_line(f"{counts.read:,}{of} rows · " + " · ".join(counts.parts(time.monotonic())), 1_000)
        return {"text/html": f'<div role="status">{escape(line)}</div>', "text/plain": line}

    def _publish(self, bundle: dict[str, Any], *, update: bool = False) -> None:
        self._shell.display_pub.publish(bundle, transient={"display_id": self._display_id}, update=update)


def rows_bundle(job: Job) -> dict[str, str]:
    """Return the static output of a run: a summary, and the first rows as a table.

    There are no times and no costs in it: a recorded run writes the same output each time it is replayed.
    """
    line = job.counts.summary(job.status)
    lines = [line, *([str(job.error.message)] if job.error is not None else []), *_estimate_lines(job)]
    rows = job.head(SHOWN_ROWS)
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in _HIDDEN]
    if not any(row.get("nbchat_error") for row in rows):
        names = [name for name in names if name != "nbchat_error"]
    cells = [[_cell(row.get(name)) for name in names] for row in rows]
    html = "".join(f"<p>{escape(visible(text))}</p>" for text in lines)
    text = "\n".join(visible(text) for text in lines)
    if cells:
        # JupyterLab aligns cells of tables to the right, which is for numbers.
        sides = [
            ' style="text-align: left"' if any(isinstance(row.get(name), str) for row in rows) else "" for name in names
        ]
        head = "".join(
            f'<th scope="col"{side}>{escape(visible_line(name, SHOWN_CHARACTERS))}</th>'
            for name, side in zip(names, sides, strict=True)
        )
        html += html_table(
            ("".join(f"<td{side}>{escape(cell)}</td>" for cell, side in zip(row, sides, strict=True)) for row in cells),
            head=head,
        )
        text += "\n\n" + text_table(names, cells, ruled=True)
    return {"text/html": html, "text/plain": text}


def _estimate_lines(job: Job) -> list[str]:
    if job.estimate is None:
        return []
    return [f"a sample of {job.counts.read:,} rows; job.estimate says what all {job.estimate.rows:,} would cost"]


def _cell(value: Any) -> str:
    text = "" if value is None else str(value)
    return visible_line(text.partition("\n")[0], SHOWN_CHARACTERS)


def _metadata(job: Job) -> dict[str, Any]:
    counts = job.counts
    return {
        "model": ", ".join(sorted(counts.models)),
        "rows": counts.read,
        "requests": counts.distinct,
        "failed": counts.failed,
        "status": job.status,
        "usage": (counts.usage + counts.replayed_usage).to_dict(),
        "cost": counts.known_cost(),
    }
