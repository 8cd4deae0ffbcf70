"""``--fix`` and ``--explain``: the last error of the notebook as a prompt."""

from __future__ import annotations

from typing import Any

from nbchat.content.blocks import Carried
from nbchat.notebook.last_error import carry_failure, last_error
from nbchat.options import Options

__all__ = ["carry_error", "prompt_about"]

_FIX = (
    "This cell of my notebook failed; its source, the error, and the values in the failing lines are above. "
    "Give the whole cell again, mended, in one fenced Python block that I can run in its place, "
    "and say in a sentence or two what was wrong. If the fault is in an earlier cell or in the data, say so."
)
_EXPLAIN = (
    "This cell of my notebook failed; its source, the error, and the values in the failing lines are above. "
    "Explain what the error means and why it happened here, with the values given, and how to put it right."
)
_BOTH = f"{_FIX} Then explain why the error happened here, with the values given."


def carry_error(shell: Any) -> Carried:
    """What goes along: the failing cell, the traceback, the lines under way with their values.

    Raises:
        OptionError: no cell has failed.
    """
    return carry_failure(last_error(shell))


def prompt_about(options: Options, remark: str) -> str:
    """The prompt: what is wanted, and the user's remark, if there is one."""
    wanted = (_BOTH if options.explain else _FIX) if options.fix else _EXPLAIN
    return f"{wanted}\n\n{remark}" if remark.strip() else wanted
