"""The line that a cell shows while its request is prepared, before the view of the answer can show anything.

The first cell imports the SDK, which takes over a second. Any cell can wait for the Models API, for a
count of tokens, or for a large file. This module must not import any of what the cell waits for.
"""

from __future__ import annotations

import contextvars
import os
import sys
import threading
import uuid
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from nbchat.notebook.place import in_kernel, is_live

__all__ = ["WAITING_THREAD", "Waiting"]

#: The line appears after this time. A cell that is faster shows only its answer.
SHOWN_AFTER_S = 0.2
#: The name of the thread that shows the line.
WAITING_THREAD = "nbchat-waiting"
LINE = "preparing the request"
_HTML = f'<div role="status" style="font-size: 11px; color: var(--jp-content-font-color2, #616161)">{LINE} …</div>'


class Waiting:
    """The context of one cell: shows a line if the first view of the answer takes a while.

    Args:
        shell: the IPython shell.
        cell_id: the id of the running cell, or None.
        environ: the environment variables.
    """

    def __init__(self, shell: Any, cell_id: str | None, environ: Mapping[str, str] = os.environ) -> None:
        self._shell = shell
        self._in_notebook = is_live(shell, cell_id, environ)
        self._in_terminal = not in_kernel(shell) and sys.stdout.isatty()
        self._display_id, self._shown, self._ended = uuid.uuid4().hex, False, False
        self._lock = threading.Lock()
        # ipykernel keeps the message of the running cell in a context variable.
        self._timer = threading.Timer(SHOWN_AFTER_S, contextvars.copy_context().run, (self._show,))
        self._timer.daemon = True
        self._timer.name = WAITING_THREAD

    def __enter__(self) -> Waiting:
        if self._in_notebook or self._in_terminal:
            try:
                self._timer.start()
            except RuntimeError:
                pass  # a place without threads shows no line
            except BaseException:  # an interrupt: Python does not call __exit__, and the thread may run
                self.hand_over()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # No view took the line: an error, a dry run or a cell that shows nothing.
        if self.hand_over() is not None:
            self._publish({}, update=True)

    def hand_over(self) -> str | None:
        """End the wait, and return the display id of the line if the notebook shows it.

        The next view replaces the output with that id, so that nothing on the page moves.
        """
        self._timer.cancel()
        with self._lock:
            self._ended, shown = True, self._shown
            self._shown = False
        if shown and self._in_terminal:
            print("\r\033[K", end="", flush=True)
        return self._display_id if shown and self._in_notebook else None

    def _show(self) -> None:
        with self._lock:
            if self._ended:
                return
            self._shown = True
            if self._in_terminal:
                print(f"{LINE} …", end="", flush=True)
            else:
                self._publish({"text/html": _HTML, "text/plain": f"{LINE} …"})

    def _publish(self, bundle: dict[str, str], *, update: bool = False) -> None:
        self._shell.display_pub.publish(bundle, transient={"display_id": self._display_id}, update=update)
