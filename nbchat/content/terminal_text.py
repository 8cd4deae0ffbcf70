"""Terminal output as plain text."""

from __future__ import annotations

import re

__all__ = ["as_seen"]

# CSI, OSC and two-character escape sequences: ECMA-48, sections 5.3, 5.4 and 8.3.89.
# The two-character form is the last, since its second character may also be the [ of a CSI.
_ESCAPE_SEQUENCE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-_]")


def as_seen(text: str) -> str:
    """Return terminal output as a person saw it: without colors, and with progress bars in their last state."""
    text = _ESCAPE_SEQUENCE.sub("", text).replace("\r\n", "\n")
    if "\r" in text:
        # A return alone moves to the start of the line, and the next state is written over the last one.
        # Some bars write the return after each state, so one at the end of a line clears nothing.
        text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return text
