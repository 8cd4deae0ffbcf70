"""Show an error that a tool raised, and an interrupt, in a shell."""

from __future__ import annotations

import re
import sys
from typing import Any

from nbchat.core.errors import redact
from nbchat.core.visible import visible
from nbchat.engine.host import first_user_frame

__all__ = ["shorten", "show_traceback"]

#: A color or style: https://www.ecma-international.org/publications-and-standards/standards/ecma-48/ (SGR).
_COLOR = re.compile(r"(\x1b\[[0-9;]*m)")


def show_traceback(error: BaseException, shell: Any) -> None:
    """Print the traceback of a tool's error on stderr as the shell formats it, from the user's own code on."""
    frames = first_user_frame(error)
    text = "\n".join(shell.InteractiveTB.structured_traceback(type(error), error, frames))
    # Printed, since an `error` output would mean that the cell failed, and papermill would stop there.
    print(_visible_with_colors(redact(text.rstrip("\n"))), file=sys.stderr)


def shorten(stop: KeyboardInterrupt, outcome: str) -> None:
    """Let IPython show one line for an interrupt, not a traceback through this library. The cell still fails."""
    line = f"KeyboardInterrupt: stopped; {outcome}"
    stop._render_traceback_ = lambda: [line]  # type: ignore[attr-defined]  # IPython's hook


def _visible_with_colors(text: str) -> str:
    """Return the text with its colors, and every other character that acts on a terminal as an escape."""
    # The message of the error may quote a web page or a file. With one group, the odd pieces are the separators.
    pieces = _COLOR.split(text)
    return "".join(piece if number % 2 else visible(piece) for number, piece in enumerate(pieces))
