"""The host of a session in IPython. :mod:`nbchat.notebook.place` answers what differs between places."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nbchat.core.turn_order import CellOrder
from nbchat.engine.host import Host, PlainHost
from nbchat.notebook import place
from nbchat.notebook.interception import noting_outputs
from nbchat.notebook.listener import listener_of
from nbchat.notebook.place import running_shell
from nbchat.notebook.saved_cells import NOT_SAVED, read_saved_cells

if TYPE_CHECKING:
    from nbchat.core.request import Sink
    from nbchat.engine.session import Session
    from nbchat.tools.toolbox import Tool

__all__ = ["ShellHost", "current_host", "notebook_session"]


#: The functions through which a cell calls a magic: two of IPython, and the one that `name = %claude …` calls.
_CALLS_MAGIC = frozenset({"run_cell_magic", "run_line_magic", "answer"})


def current_host() -> Host:
    """Return the host of the code that runs now: a shell's, or plain Python's."""
    shell = running_shell()
    if shell is not None:
        return ShellHost(shell)
    if "marimo" in sys.modules:
        from nbchat.notebook.marimo import MarimoHost, in_marimo

        if in_marimo():
            return MarimoHost()
    return PlainHost()


def notebook_session() -> Session | None:
    """Return the session of the shell that runs this code, or None without ``%load_ext nbchat``."""
    magics = getattr(running_shell(), "nbchat", None)
    return None if magics is None else magics.session


class ShellHost:
    """An IPython shell, in a notebook or in a terminal."""

    def __init__(self, shell: Any) -> None:
        self.shell = shell
        self._execution, self._turns = "", 0
        self._saved = NOT_SAVED

    @property
    def namespace(self) -> Mapping[str, Any]:
        namespace: Mapping[str, Any] = self.shell.user_ns
        return namespace

    def names_of_caller(self) -> Mapping[str, Any]:
        """Return the names that the code around the running magic can use.

        At the top of a cell these are the user's variables. A function that calls ``run_cell_magic`` has
        names of its own, which hide those of the notebook.
        """
        frame = sys._getframe()
        while frame.f_back is not None and frame.f_code.co_name not in _CALLS_MAGIC:
            frame = frame.f_back
        caller = frame.f_back
        if caller is None or caller.f_locals is self.namespace:
            return self.namespace
        return {**self.namespace, **caller.f_globals, **caller.f_locals}

    def ask(self, prompt: str) -> str:
        return place.ask_line(self.shell, prompt) if self.in_notebook else PlainHost().ask(prompt)

    @property
    def can_ask(self) -> bool:
        kernel = getattr(self.shell, "kernel", None)
        if kernel is None:
            return PlainHost().can_ask
        # nbclient and papermill take no input. ipykernel notes that for each cell.
        return bool(getattr(kernel, "_allow_stdin", True))

    @property
    def place(self) -> str:
        return "this session" if getattr(self.shell, "kernel", None) is None else "this notebook"

    def edit(self, text: str, language: str) -> str | None:
        # Not in a terminal with a simple prompt, which may have no control of its cursor.
        if getattr(self.shell, "kernel", None) is not None or getattr(self.shell, "pt_app", None) is None:
            return None
        from nbchat.notebook.terminal_editor import edited

        return edited(text, language)

    def say(self, text: str) -> None:
        print(text)  # an output of the cell

    def tell(self, text: str) -> None:
        """Show nothing: a cell has its views, and the Response of ``nbchat.ask`` shows its notes."""

    def views(self, cost: Any) -> tuple[Sink, ...]:
        """Return nothing: ``nbchat.ask`` in a cell shows its answer where the Response is displayed."""
        return ()

    def show_traceback(self, error: BaseException) -> None:
        # Imported here, because %load_ext makes a host and has to stay light.
        from nbchat.notebook.tracebacks import show_traceback

        show_traceback(error, self.shell)

    def run_python(self) -> Tool:
        from nbchat.notebook.run_python import RunPython

        return RunPython(self.shell)

    @property
    def in_notebook(self) -> bool:
        """True in a notebook, False in a terminal."""
        return place.in_kernel(self.shell)

    def cell_id(self) -> str | None:
        """Return the id of the cell that runs, or None where the front end does not tell it."""
        return place.cell_id(self.shell)

    def inserts_cells(self) -> bool:
        """Return True if the front end can put code into a new cell."""
        return place.inserts_cells(self.shell, self.cell_id())

    @contextlib.contextmanager
    def ends_fresh(self, fills_cell: bool, own_threads: Sequence[str]) -> Iterator[Callable[[], bool]]:
        """Yield a function that returns True if the final output has to be a new one, and may clear the others.

        Args:
            fills_cell: the cell does nothing but ask, so nothing was shown before.
            own_threads: the names of the threads that show the answer.
        """
        if not fills_cell or not self.in_notebook or place.keeps_metadata_of_updates(self.shell):
            yield lambda: False
            return
        with noting_outputs(self.shell, own_threads) as others_shown:
            yield lambda: not others_shown()

    def cell_key(self) -> str | None:
        """Return the key of the next turn of the running cell.

        A cell that asks more than once makes as many turns. Their keys are its id, then id#2, and so on.
        """
        cell_id = self.cell_id()
        if cell_id is None:
            return None
        execution = place.request_id(self.shell)
        self._turns = self._turns + 1 if execution == self._execution else 1
        self._execution = execution
        return cell_id if self._turns == 1 else f"{cell_id}#{self._turns}"

    def cell_order(self) -> CellOrder:
        """Return the places of the cells in the saved notebook, and the cells that are deleted."""
        saved = self._saved = read_saved_cells(place.notebook_path(self.shell), self._saved)
        listener = listener_of(self.shell)
        deleted = listener.deleted(saved.places, saved.saved_at) if listener is not None else frozenset()
        return CellOrder(saved.places, deleted)

    def number_of(self, cell_id: str) -> int | None:
        """Return the number that the notebook shows for a cell, or None where it is not known."""
        listener = listener_of(self.shell)
        number = listener.number_of(cell_id) if listener is not None else None
        return self._saved.numbers.get(cell_id) if number is None else number
