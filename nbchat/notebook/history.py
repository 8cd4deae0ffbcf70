"""The cells that ran in this kernel, with their outputs, and the ones that ``--cells`` names.

IPython keeps the sources (``input_hist_raw``), the streams and results (``history_manager.outputs``, since
9.1) and the tracebacks. It does not keep what a cell displays, such as figures, under a kernel. ipykernel has
a switch for that, ``store_display_history``, but files a display under the number of the next cell, and ignores
``clear_output`` and updates. So :func:`watch` listens to the display publisher, and adds each display to the
outputs of its cell.

Nothing of IPython is imported here.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nbchat.content.blocks import Carried
from nbchat.context.cells import Cell, Output, carry_cells, is_ignored
from nbchat.core.errors import NbchatError, OptionError

__all__ = ["Watch", "cells_of", "gather_cells", "select_cells", "unwatch", "watch", "watching"]

#: Longest HTML to keep of a display. An interactive figure has megabytes, and all of them are script.
MAX_HTML_CHARACTERS = 200_000

# Lines of a cell that only manages nbchat: its magics, comments and blank lines.
_MANAGEMENT = re.compile(r"%(?:nbchat\b|(?:re|un)?load_ext\s+nbchat\b).*|#.*|")
_RANGE = re.compile(r"(\d+)(?:\s*-\s*(\d*))?")


@dataclass(slots=True)
class Shown:
    """A display among the outputs in IPython's history. IPython itself reads the first two fields."""

    output_type: str
    bundle: dict[str, Any] = field(default_factory=dict)
    display_id: str | None = None


class Watch:
    """A listener that notes which cell runs, its displays, and the last error. There is one for each shell."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._running: list[Any] = []  # run_cell may call run_cell
        self._ids: dict[int, str] = {}
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
            cell_id: str | None = self._running[-1].cell_id
            return cell_id
        return self._ids.get(number)

    def _number(self) -> int | None:
        """Return the execution count of the running cell, or None for code that runs without one."""
        if not self._running or not self._running[-1].store_history:
            return None
        return len(self._shell.history_manager.input_hist_raw) - 1

    def _begin(self, info: Any) -> None:
        self._running.append(info)

    def _end(self, result: Any) -> None:
        info = getattr(result, "info", None)
        # IPython reports the end of a blank cell, but not its beginning. So only a matching one is removed.
        if self._running and self._running[-1] is info:
            self._running.pop()
        number = getattr(result, "execution_count", None)
        cell_id = getattr(info, "cell_id", None)
        if number is not None and cell_id and getattr(info, "store_history", False):
            self._ids[number] = cell_id
        error = getattr(result, "error_in_exec", None) or getattr(result, "error_before_exec", None)
        if isinstance(error, Exception) and not isinstance(error, NbchatError):
            self.failed = error

    def _hear(self, message: dict[str, Any]) -> dict[str, Any]:
        """Return a message of the display publisher unchanged, after its display is filed."""
        with contextlib.suppress(Exception):  # a display must never fail because nbchat listens
            self._file(message)
        return message

    def _file(self, message: Mapping[str, Any]) -> None:
        outputs_by_cell, number = self._shell.history_manager.outputs, self._number()
        if number is None:
            return
        # This is a defaultdict. An empty list in it breaks the next print: IPython reads its last output.
        # So a list is added only with its first output.
        outputs = outputs_by_cell.get(number) or []
        kind, content = message["header"]["msg_type"], message["content"]
        if kind == "clear_output":
            if outputs:
                outputs[:] = _visible(outputs) if content.get("wait") else []
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


def _visible(outputs: Sequence[Any]) -> list[Any]:
    """Return the outputs after the last ``clear_output``. One with ``wait`` clears only at the next output."""
    for place in range(len(outputs) - 1, -1, -1):
        if outputs[place].output_type == "clear_output" and place + 1 < len(outputs):
            return list(outputs[place + 1 :])
    return [shown for shown in outputs if shown.output_type != "clear_output"]


_ATTRIBUTE = "_nbchat_watch"


def watch(shell: Any) -> Watch:
    """Begin to note the displays of this shell's cells. A second call replaces the first listener.

    Displays before the first call are not known.
    """
    unwatch(shell)
    new_watch = Watch(shell)
    setattr(shell, _ATTRIBUTE, new_watch)
    return new_watch


def unwatch(shell: Any) -> None:
    """Remove the listener of this shell, if there is one."""
    old_watch = watching(shell)
    if old_watch is not None:
        old_watch.stop()
        delattr(shell, _ATTRIBUTE)


def watching(shell: Any) -> Watch | None:
    """Return the listener of this shell, or None."""
    value = getattr(shell, _ATTRIBUTE, None)
    return value if isinstance(value, Watch) else None


def cells_of(shell: Any) -> tuple[Cell, ...]:
    """Return all cells that ran, in the order of their execution counts. The running cell is the last."""
    manager = shell.history_manager
    current_watch = watching(shell)
    outputs = getattr(manager, "outputs", None) or {}
    failures = getattr(manager, "exceptions", None) or {}
    listens = current_watch is not None and current_watch.listens
    return tuple(
        Cell(
            number=number,
            source=source,
            outputs=_outputs(outputs.get(number) or (), failures.get(number), listens),
            id=current_watch.id_of(number) if current_watch else None,
        )
        for number, source in enumerate(manager.input_hist_raw)
        if number and source
    )


def _outputs(kept: Sequence[Any], failure: Mapping[str, Any] | None, listens: bool) -> tuple[Output, ...]:
    """Return the outputs in IPython's history, and the traceback, as outputs of a cell."""
    outputs: list[Output] = []
    for shown in _visible(kept):
        match shown.output_type:
            case "out_stream" | "err_stream":
                stream = "stdout" if shown.output_type == "out_stream" else "stderr"
                outputs.append(Output("stream", {"text/plain": "".join(shown.bundle.get("stream") or ())}, stream))
            case "execute_result":
                outputs.append(Output("result", shown.bundle))
            # A display that IPython filed itself is here twice, and possibly under the wrong cell.
            case "display_data" if isinstance(shown, Shown) or not listens:
                outputs.append(Output("display", shown.bundle))
    if failure:
        outputs.append(Output("error", {"text/plain": "\n".join(failure.get("traceback") or ())}))
    return tuple(outputs)


def select_cells(spec: str, cells: Sequence[Cell], *, current: int | None = None) -> tuple[Cell, ...]:
    """Return the cells that ``--cells`` names, in the order of their execution counts.

    ``above`` means every cell that ran before the current one, each in its last run only. It leaves out
    earlier runs of the current cell, and cells that only manage nbchat. Two runs are of the same cell if the
    front end's ids are equal, or, without ids, if the sources are equal.

    Args:
        spec: ``3``, ``3-5``, ``3,7``, ``3-``, ``above``, or a list of these. Numbers are execution counts.
        cells: All cells that ran.
        current: The execution count of the running cell.

    Raises:
        OptionError: The spec is not valid, or a cell did not run.
    """
    by_number = {cell.number: cell for cell in cells if cell.number is not None and cell.number != current}
    chosen: set[int] = set()
    for part in (part.strip() for part in spec.split(",")):
        if part.lower() == "above":
            chosen.update(_above(by_number, next((cell for cell in cells if cell.number == current), None)))
        else:
            chosen.update(_range(spec, part, by_number, current))
    return tuple(by_number[number] for number in sorted(chosen))


def _range(spec: str, part: str, by_number: Mapping[int, Cell], current: int | None) -> list[int]:
    """Return the execution counts of one number or range. Numbers between its ends may be missing."""
    match = _RANGE.fullmatch(part)
    if match is None:
        raise OptionError(
            f"--cells {spec}: {part or 'an empty part'} is not a cell",
            "Write 3, 3-5, 3,7 (execution counts) or above.",
        )
    last = max(by_number, default=0)
    start = int(match[1])
    end = start if match[2] is None else int(match[2] or max(last, start))
    if end < start:
        raise OptionError(f"--cells {spec}: {part} runs backwards", f"Write {end}-{start}.")
    for number in (start, end):
        if number not in by_number:
            reason = f"the last is {last}" if last else "none has"
            if number == current:
                reason = "it is the cell that runs now"
            raise OptionError(
                f"--cells {spec}: no cell has run under the number {number}; {reason}",
                "The number is the one in brackets next to the cell: [3].",
            )
    return [number for number in by_number if start <= number <= end]


def _above(by_number: Mapping[int, Cell], current: Cell | None) -> list[int]:
    latest: dict[str, int] = {}
    for number, cell in sorted(by_number.items()):
        if current is not None and number > (current.number or 0):
            continue
        # An ignored cell stays in the list, since its note tells the user that it was left out.
        if not all(_MANAGEMENT.fullmatch(line.strip()) for line in cell.source.split("\n")) or is_ignored(cell.source):
            latest[_identity(cell)] = number
    if current is not None:
        latest.pop(_identity(current), None)
    return list(latest.values())


def _identity(cell: Cell) -> str:
    return f"id {cell.id}" if cell.id else f"source {cell.source}"


def gather_cells(spec: str, shell: Any, *, answers: Mapping[int, str] | None = None) -> Carried:
    """Return the content of ``--cells SPEC`` in a shell whose cell runs now.

    Args:
        spec: As for :func:`select_cells`.
        shell: The IPython shell.
        answers: The answers of ``%%claude`` cells by execution count.

    Raises:
        OptionError: The spec is not valid, or a cell did not run.
    """
    cells = cells_of(shell)
    current = len(shell.history_manager.input_hist_raw) - 1
    return carry_cells(select_cells(spec, cells, current=current), answers=answers)
