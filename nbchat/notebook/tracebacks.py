"""The traceback of an error that a tool raised, shown to the user of a shell."""

from __future__ import annotations

import sys
from typing import Any

from nbchat.core.errors import redact
from nbchat.engine.host import first_user_frame

__all__ = ["show_traceback"]


def show_traceback(error: BaseException, shell: Any) -> None:
    """Print the traceback of a tool's error on stderr as the shell formats it, from the user's own code on."""
    frames = first_user_frame(error)
    text = "\n".join(shell.InteractiveTB.structured_traceback(type(error), error, frames))
    # Printed, since an `error` output would mean that the cell failed, and papermill would stop there.
    print(redact(text.rstrip("\n")), file=sys.stderr)
