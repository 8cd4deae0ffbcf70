"""The view of a run in plain Python: a bar on a terminal, one line elsewhere."""

from __future__ import annotations

import importlib.util
import sys
import time
from typing import Any

from nbchat.core.visible import visible_line
from nbchat.rows.counts import Counts, duration
from nbchat.rows.job import Job

__all__ = ["TextView", "advance", "bar_arguments", "has_tqdm"]


#: A terminal has few columns, so that its bar has no rows a second. What is cut is at the end.
_BAR = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"


def has_tqdm() -> bool:
    """Return True if tqdm can draw a progress bar (the extra ``rows``)."""
    return importlib.util.find_spec("tqdm") is not None


def bar_arguments(counts: Counts) -> dict[str, Any]:
    """Return the arguments of a tqdm bar."""
    # With miniters=0 the bar also moves while no row ends: the time, and a pause that the service asked for.
    arguments = {"total": counts.rows, "unit": "row", "dynamic_ncols": True, "leave": False}
    # With smoothing=0 the time left comes from the whole run, so that it does not stay at nothing while all wait.
    return {**arguments, "mininterval": 0.2, "miniters": 0, "smoothing": 0}


def advance(bar: Any, counts: Counts) -> None:
    """Move a tqdm bar to where the run is. Equal rows move it together."""
    rows_of_request = counts.read / counts.distinct if counts.distinct else 0.0
    # What was answered before says nothing about the speed.
    bar.initial = round(counts.replayed * rows_of_request)
    bar.set_postfix_str(" · ".join(counts.parts(time.monotonic())), refresh=False)
    bar.update(round(counts.ended * rows_of_request) - bar.n)


class TextView:
    """Shows a run on standard error: a bar on a terminal with tqdm, else one line at the end."""

    def __init__(self) -> None:
        self._bar: Any = None

    def begin(self, counts: Counts) -> None:
        """Begin to show a run."""
        if sys.stderr.isatty() and has_tqdm():
            from tqdm.auto import tqdm

            self._bar = tqdm(**bar_arguments(counts), bar_format=_BAR)

    def update(self, counts: Counts) -> None:
        """Move the bar."""
        if self._bar is not None:
            advance(self._bar, counts)

    def settle(self, job: Job) -> None:
        """Remove the bar, and write the line that stays."""
        if self._bar is not None:
            self._bar.close()
        seconds = time.monotonic() - job.counts.began_s
        parts = [job.counts.summary(job.status), *job.counts.further_parts(time.monotonic()), duration(seconds)]
        print(visible_line(f"nbchat: {' · '.join(parts)}", 1_000), file=sys.stderr)
