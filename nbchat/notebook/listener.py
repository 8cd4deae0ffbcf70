"""A listener to a shell, for the parts of its history that IPython does not keep under a kernel.

ipykernel does not keep what a cell displays, such as figures. It has a switch for that,
``store_display_history``, but files a display under the number of the next cell, and ignores
``clear_output`` and updates. So the listener adds each display to the outputs of its cell in
``history_manager.outputs``. It also notes the ids of cells, deleted cells, and the last error.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nbchat.context.tracebacks import traceback_of
from nbchat.core.errors import NbchatError
from nbchat.notebook.old_ipython import cell_numbers, keeps_outputs, outputs_of
from nbchat.notebook.place import cell_id, deleted_cells

__all__ = ["Listener", "Shown", "listener_of", "unwatch", "visible", "watch"]

#: Longest HTML to keep of a display. An interactive figure has megabytes, and all of them are script.
MAX_HTML_CHARACTERS = 200_000

#: The attribute of a shell that has its listener.
_ATTRIBUTE = "_nbchat_listener"


@dataclass(slots=True)
class Shown:
    """A display among the outputs in IPython's history. IPython itself reads the first two fields."""

    output_type: str
    bundle: dict[str, Any] = field(default_factory=dict)
    display_id: str | None = None


class Listener:
    """A listener that notes which cell runs, its displays, and the last error. There is one for each shell."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._running: list[Any] = []  # run_cell may call run_cell
        self._ids: dict[int, str] = {}
        #: The tracebacks of failed cells by their execution counts, where IPython keeps none.
        self.tracebacks: dict[int, str] = {}
        self._running_id: str | None = None
        self._ran_at: dict[str, float] = {}
        self._deleted: set[str] = set()
        self.failed: BaseException | None = None
        shell.events.register("pre_run_cell", self._begin)
        shell.events.register("post_run_cell", self._end)
        # The publisher of a terminal has no hooks, and files its displays under the right cell.
        register_hook = getattr(shell.display_pub, "register_hook", None)
        self.listens = register_hook is not None
        if register_hook is not None:
            register_hook(self._hear)

    def stop(self) -> None:
        """Stop listening."""
        for event, callback in (("pre_run_cell", self._begin), ("post_run_cell", self._end)):
            if callback in self._shell.events.callbacks[event]:
                self._shell.events.unregister(event, callback)
        if self.listens:
            self._shell.display_pub.unregister_hook(self._hear)

    def id_of(self, number: int) -> str | None:
        """Return the front end's id of the cell that ran under an execution count."""
        if number == self._number():
            return self._running_id
        return self._ids.get(number)

    def number_of(self, cell_id: str) -> int | None:
        """Return the execution count of the last run of a cell, or None if it did not run."""
        if self._running and self._running_id == cell_id:
            return self._number()
        return max((number for number, own in list(self._ids.items()) if own == cell_id), default=None)

    def deleted(self, places: Mapping[str, int], saved_at: float) -> frozenset[str]:
        """Return the ids of the cells that ran and are deleted.

        JupyterLab and Notebook tell it with the next cell that runs. A notebook that was saved after
        a cell had run, without that cell, tells it too.

        Args:
            places: the cells of the saved notebook, by their ids.
            saved_at: the time of the save, in seconds since the epoch.
        """
        # A file system can round the time down.
        gone = {cell for cell, ran_at in list(self._ran_at.items()) if places and ran_at < saved_at - 1}
        return frozenset((gone - places.keys()) | self._deleted)

    def _number(self) -> int | None:
        """Return the execution count of the running cell, or None for code that runs without one."""
        if not self._running or not self._running[-1].store_history:
            return None
        return len(self._shell.history_manager.input_hist_raw) - 1

    def _begin(self, info: Any) -> None:
        self._running.append(info)
        self._running_id = cell_id(self._shell)
        self._deleted.update(deleted_cells(self._shell))
        if self._running_id:
            self._ran_at[self._running_id] = time.time()
            self._deleted.discard(self._running_id)  # the deletion was undone

    def _end(self, result: Any) -> None:
        info = getattr(result, "info", None)
        # IPython reports the end of a blank cell, but not its beginning. So only a matching one is removed.
        if self._running and self._running[-1] is info:
            self._running.pop()
        number = getattr(result, "execution_count", None)
        error = getattr(result, "error_in_exec", None) or getattr(result, "error_before_exec", None)
        if number is not None and getattr(info, "store_history", False):
            if self._running_id:
                self._ids[number] = self._running_id
            if not keeps_outputs(self._shell.history_manager):
                self._keep_end(number, error)
        if isinstance(error, Exception) and not isinstance(error, NbchatError):
            self.failed = error

    def _keep_end(self, number: int, error: BaseException | None) -> None:
        """Keep the value or the traceback of a cell for an IPython that keeps neither as an output."""
        manager = self._shell.history_manager
        value = manager.output_hist_reprs.get(number)
        if value is not None:
            outputs_of(manager)[number].append(Shown("execute_result", {"text/plain": value}))
        if error is not None:
            self.tracebacks[number] = traceback_of(error, cell_numbers(self._shell))

    def _hear(self, message: dict[str, Any]) -> dict[str, Any]:
        """Return a message of the display publisher unchanged, after its display is filed."""
        with contextlib.suppress(Exception):  # a display must never fail because nbchat listens
            self._file(message)
        return message

    def _file(self, message: Mapping[str, Any]) -> None:
        outputs_by_cell, number = outputs_of(self._shell.history_manager), self._number()
        if number is None:
            return
        # This is a defaultdict. An empty list in it breaks the next print: IPython reads its last output.
        # So a list is added only with its first output.
        outputs = outputs_by_cell.get(number) or []
        kind, content = message["header"]["msg_type"], message["content"]
        if kind == "clear_output":
            if outputs:
                outputs[:] = visible(outputs) if content.get("wait") else []
                outputs.append(Shown("clear_output"))
            return
        display_id = (content.get("transient") or {}).get("display_id")
        bundle = _kept(content["data"])
        if kind == "update_display_data":
            _update(outputs_by_cell.values(), display_id, bundle)
        elif bundle:
            outputs_by_cell.setdefault(number, outputs).append(Shown("display_data", bundle, display_id))


def _update(lists: Iterable[Sequence[Any]], display_id: str | None, bundle: dict[str, Any]) -> None:
    """Replace the bundle of all displays with this id, which may be outputs of earlier cells."""
    for outputs in lists:
        for shown in outputs:
            if isinstance(shown, Shown) and display_id and shown.display_id == display_id:
                shown.bundle = bundle


def _kept(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of a mimebundle that may be sent. They stay in memory as long as the kernel."""
    kept = {
        mime: value
        for mime, value in data.items()
        if mime.startswith("image/")
        or (mime.startswith("text/") and (mime == "text/plain" or len(value) <= MAX_HTML_CHARACTERS))
    }
    return kept or ({"text/plain": f"[{', '.join(data)}]"} if data else {})


def visible(outputs: Sequence[Any]) -> list[Any]:
    """Return the outputs after the last ``clear_output``. One with ``wait`` clears only at the next output."""
    for place in range(len(outputs) - 1, -1, -1):
        if outputs[place].output_type == "clear_output" and place + 1 < len(outputs):
            return list(outputs[place + 1 :])
    return [shown for shown in outputs if shown.output_type != "clear_output"]


def watch(shell: Any) -> Listener:
    """Begin to note the displays of this shell's cells. A second call replaces the first listener.

    Displays before the first call are not known.
    """
    unwatch(shell)
    listener = Listener(shell)
    setattr(shell, _ATTRIBUTE, listener)
    return listener


def unwatch(shell: Any) -> None:
    """Remove the listener of this shell, if there is one."""
    listener = listener_of(shell)
    if listener is not None:
        listener.stop()
        delattr(shell, _ATTRIBUTE)


def listener_of(shell: Any) -> Listener | None:
    """Return the listener of this shell, or None."""
    value = getattr(shell, _ATTRIBUTE, None)
    return value if isinstance(value, Listener) else None
