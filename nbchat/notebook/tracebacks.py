"""The traceback of an error that a tool raised, shown to the user."""

from __future__ import annotations

import sys
import traceback
from typing import Any

from nbchat.core.errors import redact

__all__ = ["show_traceback"]

#: Packages whose frames are between the call of a tool and the user's function.
_CALLING_PACKAGES = frozenset({"nbchat", "asyncio", "concurrent", "pydantic", "contextvars"})


def show_traceback(error: BaseException, shell: Any = None) -> None:
    """Print the traceback of a tool's error on stderr, from the first frame of the user's own code.

    Args:
        error: The exception.
        shell: The IPython shell that formats the traceback, or None to format it as Python does.
    """
    frames = error.__traceback__
    while frames is not None:
        package = frames.tb_frame.f_globals.get("__name__", "").partition(".")[0]
        if package not in _CALLING_PACKAGES:
            break
        frames = frames.tb_next
    if shell is None:
        text = "".join(traceback.format_exception(type(error), error, frames))
    else:
        text = "\n".join(shell.InteractiveTB.structured_traceback(type(error), error, frames))
    # Printed, since an `error` output would mean that the cell failed, and papermill would stop there.
    print(redact(text.rstrip("\n")), file=sys.stderr)
