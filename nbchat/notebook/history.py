"""What the kernel knows of the notebook: cells that were run, their outputs, the last error.

IPython keeps the sources (``input_hist_raw``), the streams and results
(``history_manager.outputs``, since 9.1) and the tracebacks. What a cell displays, its figures
first of all, ipykernel does not keep: with its switch ``store_display_history`` it files it under
the next cell's number, and never heeds ``clear_output`` or an update. So :func:`watch` listens
on the display publisher and puts displays where they belong, among the outputs of their cell.

A shell is taken as it comes, and nothing of IPython is imported.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nbchat.content.blocks import Carried
from nbchat.context.cells import Cell, Output, carry_cells, is_ignored
from nbchat.core.errors import NbchatError, OptionError

__all__ = ["Watch", "cells_of", "gather_cells", "select_cells", "unwatch", "watch", "watching"]

#: Characters of HTML that are kept of a display; an interactive figure has megabytes, all script.
HTML = 200_000

_MANAGEMENT = re.compile(r"%(?:nbchat\b|(?:re|un)?load_ext\s+nbchat\b).*|#.*|")


@dataclass(slots=True)
class Shown:
    """A display among the outputs of IPython's history; IPython reads the first two fields."""

    output_type: str
    bundle: dict[str, Any] = field(default_factory=dict)
    display_id: str | None = None


class Watch:
    """Notes which cell runs, what it displays and how it fails. One for each shell."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._running: list[Any] = []
        self._ids: dict[int, str] = {}
        self.failed: BaseException | None = None
        shell.events.register("pre_run_cell", self._begin)
        shell.events.register("post_run_cell", self._end)
        # A terminal's publisher has no hooks, and files what it shows rightly by itself.
        hook = getattr(shell.display_pub, "register_hook", None)
        self.listens = hook is not None
        if self.listens:
            hook(self._hear)

    def stop(self) -> None:
        """Listen no more."""
        for event, callback in (("pre_run_cell", self._begin), ("post_run_cell", self._end)):
            if callback in self._shell.events.callbacks[event]:
                self._shell.events.unregister(event, callback)
        if self.listens:
            self._shell.display_pub.unregister_hook(self._hear)

    def id_of(self, number: int) -> str | None:
        """The front end's id of the cell that ran under an execution count."""
        if number == self._number():
            return self._running[-1].cell_id
        return self._ids.get(number)

    def _number(self) -> int | None:
        """The execution count of the cell that runs; None for code that runs without one."""
        if not self._running or not self._running[-1].store_history:
            return None
        return len(self._shell.history_manager.input_hist_raw) - 1

    def _begin(self, info: Any) -> None:
        self._running.append(info)

    def _end(self, result: Any) -> None:
        info = getattr(result, "info", None)
        # A blank cell ends without having begun, so the stack is matched, not counted.
        if self._running and self._running[-1] is info:
            self._running.pop()
        number = getattr(result, "execution_count", None)
        if number is not None and getattr(info, "store_history", False) and getattr(info, "cell_id", None):
            self._ids[number] = info.cell_id
        error = getattr(result, "error_in_exec", None) or getattr(result, "error_before_exec", None)
        if isinstance(error, Exception) and not isinstance(error, NbchatError):
            self.failed = error

    def _hear(self, message: dict[str, Any]) -> dict[str, Any]:
        """A message of the display publisher, which goes on unchanged."""
        with contextlib.suppress(Exception):  # a display must never fail because someone listens
            self._file(message)
        return message

    def _file(self, message: Mapping[str, Any]) -> None:
        manager, number = self._shell.history_manager, self._number()
        if number is None:
            return
        # A list is made with its first entry: IPython reads the last one of any that is there.
        outputs = manager.outputs.get(number) or []
        kind, content = message["header"]["msg_type"], message["content"]
        if kind == "clear_output":
            if outputs:
                outputs[:] = _visible(outputs) if content.get("wait") else []
                outputs.append(Shown("clear_output"))
            return
        known = (content.get("transient") or {}).get("display_id")
        bundle = _kept(content["data"])
        if kind == "update_display_data":
            for listed in manager.outputs.values():
                for shown in listed:
                    if isinstance(shown, Shown) and known and shown.display_id == known:
                        shown.bundle = bundle
            return
        if bundle:
            manager.outputs.setdefault(number, outputs).append(Shown("display_data", bundle, known))


def _kept(data: Mapping[str, Any]) -> dict[str, Any]:
    """What may be sent of a mimebundle, as it stays in memory as long as the kernel."""
    kept = {
        mime: held
        for mime, held in data.items()
        if mime.startswith("image/") or (mime.startswith("text/") and (mime == "text/plain" or len(held) <= HTML))
    }
    return kept or ({"text/plain": f"[{', '.join(data)}]"} if data else {})


def _visible(outputs: Sequence[Any]) -> list[Any]:
    """The outputs that the last ``clear_output`` left: with ``wait`` it acts at the next output."""
    for place in range(len(outputs) - 1, -1, -1):
        if outputs[place].output_type == "clear_output" and place + 1 < len(outputs):
            return list(outputs[place + 1 :])
    return [shown for shown in outputs if shown.output_type != "clear_output"]


_ATTRIBUTE = "_nbchat_watch"


def watch(shell: Any) -> Watch:
    """Begin to note what this shell's cells display; again, where it is done already.

    Called when the extension is loaded. What was displayed before then is not known.
    """
    unwatch(shell)
    found = Watch(shell)
    setattr(shell, _ATTRIBUTE, found)
    return found


def unwatch(shell: Any) -> None:
    """End what :func:`watch` began."""
    found = watching(shell)
    if found is not None:
        found.stop()
        delattr(shell, _ATTRIBUTE)


def watching(shell: Any) -> Watch | None:
    """The Watch of this shell, if there is one."""
    found = getattr(shell, _ATTRIBUTE, None)
    return found if isinstance(found, Watch) else None


def cells_of(shell: Any) -> tuple[Cell, ...]:
    """All cells that ran, in the order of their execution counts, the one that runs now as the last."""
    manager = shell.history_manager
    seen = watching(shell)
    outputs = getattr(manager, "outputs", None) or {}
    failures = getattr(manager, "exceptions", None) or {}
    return tuple(
        Cell(
            number=number,
            source=source,
            outputs=_outputs(outputs.get(number) or (), failures.get(number), seen is not None and seen.listens),
            id=seen.id_of(number) if seen else None,
        )
        for number, source in enumerate(manager.input_hist_raw)
        if number and source
    )


def _outputs(kept: Sequence[Any], failure: Mapping[str, Any] | None, listens: bool) -> tuple[Output, ...]:
    made: list[Output] = []
    for shown in _visible(kept):
        match shown.output_type:
            case "out_stream" | "err_stream":
                stream = "stdout" if shown.output_type == "out_stream" else "stderr"
                made.append(Output("stream", {"text/plain": "".join(shown.bundle.get("stream") or ())}, stream))
            case "execute_result":
                made.append(Output("result", shown.bundle))
            case "display_data" if isinstance(shown, Shown) or not listens:
                made.append(Output("display", shown.bundle))
    if failure:
        made.append(Output("error", {"text/plain": "\n".join(failure.get("traceback") or ())}))
    return tuple(made)


def select_cells(spec: str, cells: Sequence[Cell], *, current: int | None = None) -> tuple[Cell, ...]:
    """The cells that ``--cells`` names: ``3``, ``3-5``, ``3,7``, ``3-``, ``above``, and lists of those.

    Numbers are execution counts. ``above`` is every cell that ran before ``current``, the cell that
    runs now, each in its last run only, without ``current``'s own earlier runs and without cells
    that only manage nbchat. Two runs are of one cell if the front end says so, or, where it gives
    no ids, if their sources are the same. The result is in the order of the execution counts.

    Raises:
        OptionError: a spec that is none, or a cell that did not run.
    """
    known = {cell.number: cell for cell in cells if cell.number is not None and cell.number != current}
    last = max(known, default=0)
    chosen: set[int] = set()
    for part in (part.strip() for part in spec.split(",")):
        if part.lower() == "above":
            chosen.update(_above(known, next((cell for cell in cells if cell.number == current), None)))
            continue
        found = re.fullmatch(r"(\d+)(?:\s*-\s*(\d*))?", part)
        if found is None:
            raise OptionError(
                f"--cells {spec}: {part or 'an empty part'} is no cell",
                "Write 3, 3-5, 3,7 (execution counts) or above.",
            )
        first = int(found[1])
        end = first if found[2] is None else int(found[2] or max(last, first))
        if end < first:
            raise OptionError(f"--cells {spec}: {part} runs backwards", f"Write {end}-{first}.")
        numbers = [number for number in range(first, min(end, last) + 1) if number in known]
        if first not in known or end not in known:
            missing = first if first not in known else end
            told = f"the last is {last}" if last else "none has"
            if missing == current:
                told = "it is the cell that runs now"
            raise OptionError(
                f"--cells {spec}: no cell has run under the number {missing}; {told}",
                "The number is the one in brackets beside the cell: [3].",
            )
        chosen.update(numbers)
    return tuple(known[number] for number in sorted(chosen))


def _above(known: Mapping[int, Cell], current: Cell | None) -> list[int]:
    latest: dict[str, int] = {}
    for number, cell in sorted(known.items()):
        if current is not None and number > (current.number or 0):
            continue
        if not all(_MANAGEMENT.fullmatch(line.strip()) for line in cell.source.split("\n")) or is_ignored(cell.source):
            latest[_identity(cell)] = number
    if current is not None:
        latest.pop(_identity(current), None)
    return list(latest.values())


def _identity(cell: Cell) -> str:
    return f"id {cell.id}" if cell.id else f"source {cell.source}"


def gather_cells(spec: str, shell: Any, *, answers: Mapping[int, str] | None = None) -> Carried:
    """The content of ``--cells SPEC`` in a shell whose cell runs now; ``answers`` as in ``carry_cells``."""
    cells = cells_of(shell)
    current = len(shell.history_manager.input_hist_raw) - 1
    return carry_cells(select_cells(spec, cells, current=current), answers=answers)
