"""``%nbchat doctor``: what is installed, and whether an endpoint answers."""

from __future__ import annotations

import sys

from nbchat.notebook.commands.arguments import Argument
from nbchat.notebook.commands.command import Call, command

__all__ = ["doctor"]


@command(
    "doctor",
    "what is installed, and whether an endpoint answers; --report: what a report of a fault needs",
    Argument("report", keyword="--report", takes="flag"),
)
def doctor(call: Call, report: str | None) -> None:
    """Print what is installed, and ask one short question with the settings of this session.

    ``--report`` prints what a report of a fault needs, as Markdown. It sends nothing, and the text has no prompt,
    no answer and no key.
    """
    if report:
        from nbchat.engine.fault_report import fault_report

        print(fault_report(call.session, _place(call.shell), getattr(sys, "last_value", None)))
        return
    from nbchat.engine.doctor import examine

    examine(call.session)


def _place(shell: object) -> dict[str, str]:
    """Return what this front end can do, as a name and a word."""
    from nbchat.notebook.host import ShellHost

    kernel = getattr(shell, "kernel", None)
    widgets = sys.modules.get("ipywidgets")
    return {
        "kernel": "none: a terminal" if kernel is None else f"{kernel.implementation} {kernel.implementation_version}",
        "cell ids": "yes" if ShellHost(shell).cell_id() is not None else "no",
        "widgets": getattr(widgets, "__version__", "not loaded"),
    }
