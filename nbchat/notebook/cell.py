"""One ``%%claude`` cell: gather what goes along, ask with the view that fits, bind the Response."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from nbchat.content.blocks import Carried
from nbchat.context.files import attach
from nbchat.core.errors import InputError
from nbchat.core.request import Sink
from nbchat.engine.session import Session
from nbchat.engine.structured import read_sofar
from nbchat.notebook.dry_run import preview
from nbchat.notebook.history import gather_cells
from nbchat.notebook.interception import before_outputs
from nbchat.notebook.next_cell import put_below
from nbchat.notebook.repair import carry_error, prompt_about
from nbchat.options import Options, parse
from nbchat.view.echo import Echo
from nbchat.view.live.split import Acts
from nbchat.view.live import view as live

__all__ = ["run"]


def run(shell: Any, session: Session, line: str, body: str | None) -> None:
    """Do what a ``%%claude`` cell or a ``%claude`` line says.

    Raises what :meth:`Session.ask` raises; whatever arrived is bound before that.
    """
    # A terminal ends a cell with an empty line; empty lines around a prompt say nothing anywhere.
    body = body.strip("\n") if body and body.strip() else ""
    parsed = parse(line, has_body=bool(body))
    prompt = "\n\n".join(part for part in (parsed.prompt, body) if part)
    options = session.options(parsed.given)
    if options.fix or options.explain:
        prompt = prompt_about(options, prompt)
    if not prompt:
        raise InputError(
            "there is no prompt, so nothing was sent",
            "Write it below the %%claude line, or behind it; %%claude? shows how.",
        )
    cell_id = live.cell_id(shell)
    before = session.last
    try:
        prepared = session.prepare(
            prompt,
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
        response = session.send(prepared, lambda cost: _sinks(shell, session, cell_id, options, cost))
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
    if options.code or options.fix:
        put_below(shell, response, cell_id)


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
    """What goes along besides the prompt: files, cells, the last error."""
    carried = [attach(options.attach, root=Path.cwd())] if options.attach else []
    if options.cells:
        carried.append(gather_cells(options.cells, shell))
    if options.fix or options.explain:
        carried.append(carry_error(shell))
    return carried


def _sinks(shell: Any, session: Session, cell_id: str | None, options: Options, cost: Any) -> list[Sink]:
    read = read_sofar if options.schema is not None else None

    def views() -> tuple[Sink, ...]:
        return live.views(shell, cell_id=cell_id, quiet=options.quiet, cost=cost, read=read)

    # A terminal prints in the order things come; in a notebook what tools print belongs under their calls.
    in_notebook = getattr(shell, "kernel", None) is not None and not options.quiet
    shown = (Acts(lambda: views()[0], partial(before_outputs, shell)),) if in_notebook else views()
    echo = session.config.echo
    return [*shown, Echo(echo)] if echo else list(shown)
