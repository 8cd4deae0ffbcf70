"""The cells that ran in this kernel, with their outputs, and the ones that ``--cells`` names.

IPython keeps the sources (``input_hist_raw``), the streams and results (``history_manager.outputs``, since
9.1) and the tracebacks. :mod:`nbchat.notebook.listener` adds the displays.

Nothing of IPython is imported here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from nbchat.content.blocks import Carried
from nbchat.context.cells import Cell, Output, carry_cells, is_ignored
from nbchat.core.errors import OptionError
from nbchat.notebook.listener import Shown, listener_of, visible
from nbchat.notebook.old_ipython import outputs_of

__all__ = ["cells_of", "gather_cells", "select_cells"]

# Lines of a cell that only manages nbchat: its magics, comments and blank lines.
_MANAGEMENT = re.compile(r"%(?:nbchat\b|(?:re|un)?load_ext\s+nbchat\b).*|#.*|")
_RANGE = re.compile(r"(\d+)(?:\s*-\s*(\d*))?")


def cells_of(shell: Any) -> tuple[Cell, ...]:
    """Return all cells that ran, in the order of their execution counts. The running cell is the last."""
    manager = shell.history_manager
    listener = listener_of(shell)
    outputs = outputs_of(manager)
    failures = getattr(manager, "exceptions", None) or {}
    if listener is not None:
        failures = {number: {"traceback": [text]} for number, text in listener.tracebacks.items()} | failures
    listens = listener is not None and listener.listens
    return tuple(
        Cell(
            number=number,
            source=source,
            outputs=_outputs(outputs.get(number) or (), failures.get(number), listens),
            id=listener.id_of(number) if listener else None,
        )
        for number, source in enumerate(manager.input_hist_raw)
        if number and source
    )


def _outputs(kept: Sequence[Any], failure: Mapping[str, Any] | None, listens: bool) -> tuple[Output, ...]:
    """Return the outputs in IPython's history, and the traceback, as outputs of a cell."""
    outputs: list[Output] = []
    for shown in visible(kept):
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


def gather_cells(spec: str, shell: Any) -> Carried:
    """Return the content of ``--cells SPEC`` in a shell whose cell runs now.

    Args:
        spec: As for :func:`select_cells`.
        shell: The IPython shell.

    Raises:
        OptionError: The spec is not valid, or a cell did not run.
    """
    current = len(shell.history_manager.input_hist_raw) - 1
    return carry_cells(select_cells(spec, cells_of(shell), current=current))
