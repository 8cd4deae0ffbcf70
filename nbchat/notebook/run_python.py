"""The tool ``run_python``, which runs code in the user's own namespace.

The code runs through the shell's ``run_cell``. With ``exec``, magics, ``!commands``, top-level ``await``,
the display of the last value and the figures of the inline backend would not work as in a cell. The user
sees all outputs as they come, and the model gets a record of them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any

from nbchat.notebook.output_record import record_outputs
from nbchat.tools.coroutine import run_coroutine
from nbchat.tools.toolbox import Outcome, error_text, failure

__all__ = ["RunPython"]

# The model reads this text.
_DESCRIPTION = """\
Run Python code in the user's live IPython session, the notebook they look at. Variables, imports \
and files are the user's own and stay afterwards. The value of the last expression, printed text, \
tracebacks and matplotlib figures come back, and the user sees them too. %magics, !shell commands \
and top-level await work. Look at data before you rely on it, and print only what you need."""

#: Characters of text in the result of one call.
RESULT_CHARACTERS = 20_000

# Calls of nbchat in code as IPython transforms it: %%claude, %claude and %nbchat become calls of run_…_magic.
_RECURSION = re.compile(
    r"""run_(?:cell|line)_magic\(\s*['"](?:claude|nbchat)['"]|\bnbchat\s*\.\s*(?:ask|ask_each|Session)\b"""
)


class RunPython:
    """The tool ``run_python`` of one shell."""

    name = shown = "run_python"
    approve: str | None = None
    trusted = False
    code: str | None = "code"

    def __init__(self, shell: Any) -> None:
        self._shell = shell

    @property
    def origin(self) -> tuple[object, ...]:
        """The object that a permission for this tool depends on (:mod:`nbchat.tools.permissions`)."""
        return (self._shell,)

    def definition(self) -> dict[str, Any]:
        """Return the entry in ``tools`` of a request."""
        return {
            "name": self.name,
            "description": _DESCRIPTION,
            "input_schema": {
                "type": "object",
                "properties": {"code": {"type": "string", "description": "the source of one notebook cell"}},
                "required": ["code"],
                "additionalProperties": False,
            },
        }

    def call(self, arguments: Mapping[str, Any]) -> Outcome:
        """Run the code and return its outputs. Raises only KeyboardInterrupt.

        The user has seen the traceback of an error already, so ``error`` of the Outcome is None.
        """
        code = arguments.get("code")
        if set(arguments) != {"code"} or not isinstance(code, str) or not code.strip():
            return failure("run_python takes one argument, code: a text with the source to run.")
        try:
            transformed = self._shell.transform_cell(code)
        except Exception:
            transformed = code  # run_cell reports the error, as it does in a cell
        if _RECURSION.search(transformed):
            return failure(
                "This code calls Claude itself (%%claude, %claude, %nbchat or nbchat.ask), so it did not run. "
                "Do the work here instead."
            )
        with record_outputs(self._shell, transformed, RESULT_CHARACTERS) as record:
            result = self._run(code, transformed)
        error = result.error_before_exec or result.error_in_exec if result is not None else None
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt
        if isinstance(error, SystemExit | asyncio.CancelledError):
            # IPython prints no traceback of these.
            record.write(f"{error_text(error)}\n")
        if record.exits:
            record.write("exit() was not obeyed: the session goes on.\n")
        return Outcome(
            record.content(),
            is_error=error is not None or record.exits > 0,
            shown=True,
            value=None if result is None else result.result,
        )

    def _run(self, code: str, transformed: str) -> Any:
        """Run the code and return the shell's ExecutionResult."""
        shell = self._shell
        # Without a history entry: the number of the user's cell and `In` must not change.
        if not _in_loop() or not shell.should_run_async(code, transformed_cell=transformed):
            return shell.run_cell(code, store_history=False)
        # Top-level await needs a loop of its own, since run_cell cannot enter the kernel's loop a second time.
        try:
            return run_coroutine(shell.run_cell_async(code, store_history=False, transformed_cell=transformed))
        finally:
            # run_cell does this, and run_cell_async does not. The inline backend shows figures then.
            shell.events.trigger("post_execute")


def _in_loop() -> bool:
    """Return True if an event loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
