"""One ``%%claude`` cell: gather what goes along, ask with the view that fits, bind the Response."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nbchat.context.content import Carried
from nbchat.context.files import attach
from nbchat.context.notebook import gather_cells
from nbchat.core.errors import InputError
from nbchat.core.request import Sink
from nbchat.options import Options, parse
from nbchat.preview import preview
from nbchat.session import Session
from nbchat.view import live
from nbchat.view.echo import Echo

__all__ = ["run"]


def run(shell: Any, session: Session, line: str, body: str | None) -> None:
    """Do what a ``%%claude`` cell or a ``%claude`` line says.

    Raises what :meth:`Session.ask` raises; whatever arrived is bound before that.
    """
    has_body = bool(body and body.strip())
    parsed = parse(line, has_body=has_body)
    prompt = "\n\n".join(part for part in (parsed.prompt, body if has_body else "") if part)
    options = session.options(parsed.given)
    if not prompt:
        raise InputError(
            "there is no prompt, so nothing was sent",
            "Write it below the %%claude line, or behind it; %%claude? shows how.",
        )
    cell_id = live.cell_id(shell)
    before = session.last
    try:
        prepared = session.prepare(
            prompt.removesuffix("\n"),
            options,
            namespace=shell.user_ns,
            cell=_turns.key(shell, cell_id),
            carried=_carried(shell, options),
        )
        if options.dry_run:
            print(preview(prepared, session))
            if options.output:
                shell.user_ns[options.output] = prepared.request.body()
            return
        session.send(prepared, lambda cost: _sinks(shell, session, cell_id, options, cost))
    except KeyboardInterrupt as stop:
        # One line instead of a traceback through this library; the cell fails all the same.
        sent = session.last is not before
        said = f"stopped; {'what had arrived is in _claude' if sent else 'nothing was sent'}"
        stop._render_traceback_ = lambda: [f"KeyboardInterrupt: {said}"]
        raise
    finally:
        if session.last is not before:
            shell.user_ns["_claude"] = session.last
            if options.output:
                shell.user_ns[options.output] = session.last


class _Turns:
    """The keys of turns. A cell that asks more than once has as many turns: its id, then its id#2, and so on."""

    def __init__(self) -> None:
        self._execution, self._count = "", 0

    def key(self, shell: Any, cell_id: str | None) -> str | None:
        """The key of the next turn of the cell that runs; None where the cell has no id."""
        if cell_id is None:
            return None
        execution = shell.kernel.get_parent("shell")["header"]["msg_id"]
        self._count = self._count + 1 if execution == self._execution else 1
        self._execution = execution
        return cell_id if self._count == 1 else f"{cell_id}#{self._count}"


_turns = _Turns()


def _carried(shell: Any, options: Options) -> list[Carried]:
    """What goes along besides the prompt: files and cells."""
    carried = [attach(options.attach, root=Path.cwd())] if options.attach else []
    return [*carried, gather_cells(options.cells, shell)] if options.cells else carried


def _sinks(shell: Any, session: Session, cell_id: str | None, options: Options, cost: Any) -> list[Sink]:
    views = live.views(shell, cell_id=cell_id, quiet=options.quiet, cost=cost)
    echo = session.config.echo
    return [*views, Echo(echo)] if echo else list(views)
