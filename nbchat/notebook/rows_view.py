"""The view of a run over rows in IPython: a live bar while it runs, and one static output that stays."""

from __future__ import annotations

import shutil
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

from nbchat.core.extension_points import provided
from nbchat.core.plural import counted
from nbchat.core.visible import visible, visible_line
from nbchat.notebook.host import ShellHost
from nbchat.notebook.place import is_live, keeps_metadata_of_updates
from nbchat.rows.counts import Counts, duration
from nbchat.rows.job import Job, RowsView
from nbchat.rows.views import TextView, advance, bar_arguments, has_tqdm
from nbchat.view.html.safe import escape
from nbchat.view.tables import OUTER_TAG, html_table, text_table

__all__ = ["current_view", "rows_bundle", "view_for"]

#: How many rows and how much of a cell the static output shows.
SHOWN_ROWS, SHOWN_CHARACTERS = 5, 200
#: How often the line of a notebook without tqdm is drawn again, in seconds.
REDRAW_S = 0.5
_HIDDEN = ("nbchat_cost",)
#: The fewest characters of a cell in a terminal.
_FEWEST_CHARACTERS = 10


def current_view() -> RowsView:
    """Return the view for the place where Python runs."""
    host = provided("host")()
    return view_for(host.shell) if isinstance(host, ShellHost) else TextView()


def view_for(shell: Any, hand_over: Callable[[], str | None] = lambda: None) -> RowsView:
    """Return the view for a shell.

    Args:
        shell: the IPython shell.
        hand_over: returns the display id of an output that the view replaces, or None.
    """
    if getattr(shell, "kernel", None) is None:
        return TerminalView(hand_over)
    return NotebookView(shell, live=is_live(shell, ShellHost(shell).cell_id()), hand_over=hand_over)


class TerminalView(TextView):
    """Shows a run in IPython in a terminal: a bar, and at the end a line and the first rows."""

    def __init__(self, hand_over: Callable[[], str | None] = lambda: None) -> None:
        super().__init__()
        self._hand_over = hand_over

    def begin(self, counts: Counts) -> None:
        """Begin to show a run."""
        self._hand_over()
        super().begin(counts)

    def settle(self, job: Job) -> None:
        """Remove the bar, and write what stays."""
        super().settle(job)
        width = shutil.get_terminal_size().columns
        names, cells = _first_rows(job)
        if cells and sys.stdout.isatty():
            # The columns share the width of the terminal.
            most = max(_FEWEST_CHARACTERS, width // len(names) - 2)
            print(text_table(names, [[visible_line(cell, most) for cell in row] for row in cells], ruled=True))


class NotebookView:
    """Shows a run in a notebook.

    Args:
        shell: the IPython shell.
        live: whether a person watches. Otherwise there is only the output at the end.
        hand_over: returns the display id of an output that the view replaces, or None.
    """

    def __init__(self, shell: Any, *, live: bool, hand_over: Callable[[], str | None] = lambda: None) -> None:
        self._shell, self._live, self._hand_over = shell, live, hand_over
        self._display_id = uuid.uuid4().hex
        self._shown = False
        self._bar: Any = None
        self._drawn_s = 0.0

    def begin(self, counts: Counts) -> None:
        """Begin to show a run."""
        if (replaced := self._hand_over()) is not None:
            self._display_id, self._shown = replaced, True
        if not self._live:
            return
        if has_tqdm():
            try:
                from tqdm.notebook import IProgress, tqdm

                if IProgress is None:
                    raise ImportError("no ipywidgets")  # tqdm would leave half an object, which fails again later
                self._bar = tqdm(**bar_arguments(counts), display=False)
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
            self._publish(self._line(counts))

    def settle(self, job: Job) -> None:
        """Replace the bar by the output that stays."""
        bundle, metadata = rows_bundle(job), {"nbchat": _metadata(job)}
        if self._shown and not keeps_metadata_of_updates(self._shell):
            self._publish({})
            self._shown, self._display_id = False, uuid.uuid4().hex
        try:
            self._publish(bundle, metadata)
        finally:
            # After the output is replaced, so that the page does not jump.
            if self._bar is not None:
                box = self._bar.container
                self._bar.close()
                _close_all(box)

    def _line(self, counts: Counts) -> dict[str, str]:
        self._drawn_s = time.monotonic()
        of = f" of {counts.rows:,}" if counts.rows is not None else ""
        rows = counted(counts.rows if counts.rows is not None else counts.read, "row").partition(" ")[2]
        now_s = time.monotonic()
        left_s = counts.left_s(now_s)
        left = [] if left_s is None else [f"about {duration(left_s)} left"]
        ended = round(counts.ended * counts.read / counts.distinct) if counts.distinct else 0
        line = visible_line(" · ".join([f"{ended:,}{of} {rows}", *counts.parts(now_s), *left]), 1_000)
        # OUTER_TAG keeps MathJax from reading two amounts in dollars as a formula.
        return {"text/html": f'{OUTER_TAG}<span role="status">{escape(line)}</span></div>', "text/plain": line}

    def _publish(self, bundle: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
        """Show a bundle in the output of the view."""
        where = {"display_id": self._display_id}
        self._shell.display_pub.publish(bundle, metadata or {}, transient=where, update=self._shown)
        self._shown = True


def _close_all(widget: Any) -> None:
    """Close a widget and all that belongs to it: tqdm closes only its box."""
    for part in (*getattr(widget, "children", ()), getattr(widget, "style", None), getattr(widget, "layout", None)):
        if part is not None:
            _close_all(part)
    widget.close()


def rows_bundle(job: Job) -> dict[str, str]:
    """Return the static output of a run: a summary, and the first rows as a table.

    There are no times and no costs in it: a recorded run writes the same output each time it is replayed.
    """
    line = job.counts.summary(job.status)
    lines = [line, *([str(job.error.message)] if job.error is not None else []), *_estimate_lines(job)]
    rows = job.head(SHOWN_ROWS)
    names, cells = _first_rows(job, rows)
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
    return {"text/html": f"{OUTER_TAG}{html}</div>", "text/plain": text}


def _first_rows(job: Job, rows: list[dict[str, Any]] | None = None) -> tuple[list[str], list[list[str]]]:
    """Return the names of the columns, and the cells of the first rows as texts."""
    rows = job.head(SHOWN_ROWS) if rows is None else rows
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in _HIDDEN]
    if not any(row.get("nbchat_error") for row in rows):
        names = [name for name in names if name != "nbchat_error"]
    return names, [[_cell(row.get(name)) for name in names] for row in rows]


def _estimate_lines(job: Job) -> list[str]:
    if job.estimate is None:
        return []
    rows = f"all {job.estimate.rows:,}" if job.task.total is not None else f"{job.estimate.rows:,} rows like these"
    return [f"a sample of {counted(job.counts.read, 'row')}; job.estimate says what {rows} would cost"]


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
