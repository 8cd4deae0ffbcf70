"""numpy arrays as text: shape, dtype, range, and the values or the corners of them."""

from __future__ import annotations

import sys
from typing import Any

from nbchat.content.blocks import Carried, one_line
from nbchat.content.cutting import shorten
from nbchat.context.framing import between_tags, class_name, inline, room_inside

__all__ = ["carry_array"]

#: Values that numpy prints of a larger array: the first and the last of each axis.
CORNER_VALUES = 60
#: Characters kept free for the line above the values.
HEADING_CHARACTERS = 40


def carry_array(value: Any, name: str, limit: int) -> Carried | None:
    """Return a numpy array whole if it fits in ``limit`` characters, and otherwise its range and corners.

    Return None for other values.
    """
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, numpy.ndarray | numpy.generic):
        return None
    if isinstance(value, numpy.generic):
        return inline(str(value), name, limit)
    lines = [f"shape {value.shape}, dtype {value.dtype}"]
    if value.size and value.dtype.kind in "biuf":
        lines.append(_range(numpy, value))
    room = room_inside(limit, "array", name, type=class_name(value)) - sum(map(len, lines)) - HEADING_CHARACTERS
    # A value takes at least two characters. Printing a large array only to measure it would be slow.
    is_whole = value.size * 2 <= room
    text = _print(numpy, value, value.size + 1 if is_whole else CORNER_VALUES)
    notes: tuple[str, ...] = ()
    if is_whole and len(text) > room:
        is_whole, text = False, _print(numpy, value, CORNER_VALUES)
    if not is_whole and value.size > CORNER_VALUES:
        lines.append("values, first and last of each axis:")
        notes = (f"{one_line(name)}: shape, range and corners of {value.size:,} values",)
    text, more_notes = shorten(text, room, name)
    return between_tags("array", name, "\n".join([*lines, text]), (*notes, *more_notes), type=class_name(value))


def _print(numpy: Any, value: Any, threshold: int) -> str:
    if isinstance(value, numpy.ma.MaskedArray):
        return str(value)  # array2string ignores the mask
    return str(numpy.array2string(value, separator=", ", threshold=threshold, max_line_width=120))


def _range(numpy: Any, value: Any) -> str:
    if isinstance(value, numpy.ma.MaskedArray):
        value = value.compressed()
    if value.dtype.kind == "b":
        return f"{int(value.sum()):,} of {value.size:,} true"
    missing = int(numpy.isnan(value).sum()) if value.dtype.kind == "f" else 0
    if missing == value.size:
        return f"all {missing:,} are nan"
    low, high, mean, spread = numpy.min, numpy.max, numpy.mean, numpy.std
    if missing:  # these copy the array, which takes time and memory for a large one
        low, high, mean, spread = numpy.nanmin, numpy.nanmax, numpy.nanmean, numpy.nanstd
    with numpy.errstate(all="ignore"):
        text = f"min {low(value):.6g}, max {high(value):.6g}, mean {mean(value):.6g}, std {spread(value):.6g}"
    return text + (f", {missing:,} nan" if missing else "")
