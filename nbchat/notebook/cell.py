"""One ``%%claude`` cell: collect what it attaches, ask with the view that fits, bind the Response."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbchat.content.blocks import Carried
from nbchat.context.cells import cite_cells
from nbchat.context.files import attach
from nbchat.core.chunks import StreamChunk
from nbchat.core.errors import InputError
from nbchat.core.request import Request, Sink
from nbchat.core.response import Response
from nbchat.core.visible import visible
from nbchat.engine.draft import file_form, refuse_row_options
from nbchat.engine.prepared import Prepared
from nbchat.engine.session import Session
from nbchat.notebook.dry_run import describe
from nbchat.notebook.going_on import prompt_to_go_on
from nbchat.notebook.history import gather_cells
from nbchat.notebook.host import ShellHost
from nbchat.notebook.interception import before_outputs
from nbchat.notebook.last_error import carry_failure, last_error, prompt_about
from nbchat.notebook.line import parse
from nbchat.notebook.next_cell import put_below
from nbchat.notebook.tracebacks import shorten
from nbchat.notebook.views import views
from nbchat.notebook.waiting import WAITING_THREAD, Waiting
from nbchat.options import Options
from nbchat.view.echo import Echo
from nbchat.view.live.split import SplitView
from nbchat.view.live.view import DRAWING_THREAD

if TYPE_CHECKING:
    from nbchat.rows.job import Job

__all__ = ["run"]


def run(host: ShellHost, session: Session, line: str, body: str | None, waiting: Waiting) -> Response | Job | None:
    """Run a ``%%claude`` cell or a ``%claude`` line, and return the Response, or the Job of ``--each``.

    A dry run has none.

    ``waiting`` shows a line until the view of the answer begins.

    Raises what :meth:`Session.ask` raises. Whatever arrived is bound before that.
    """
    key = host.cell_key()
    prompt, options, notes = _read(session, line, body, key)
    if options.each:
        from nbchat.notebook.rows_cell import run_rows

        return run_rows(host, session, prompt, options, _attachments(host, options), waiting)
    refuse_row_options(options)
    binding = Binding(host.shell.user_ns, ["_claude", *([options.output] if options.output else [])])
    try:
        prepared = session.prepare(
            prompt,
            options,
            namespace=host.names_of_caller(),
            cell=key,
            carried=[Carried(notes=notes), *_attachments(host, options)],
        )
        if options.dry_run:
            _show_dry_run(host, session, prepared)
            return None
        with host.ends_fresh(body is not None, (DRAWING_THREAD, WAITING_THREAD)) as fresh:
            response = session.send(
                prepared, lambda cost: [binding, *_views(host, session, prepared, cost, waiting, fresh)]
            )
    except KeyboardInterrupt as stop:
        shorten(stop, f"the answer up to here is in {binding.names[-1]}" if binding.bound else "nothing was sent")
        raise
    if options.code or options.fix:
        put_below(host, response)
    return response


class Binding:
    """The sink that binds the Response to the user's names.

    It comes before the views: an answer that cannot be shown is in the namespace all the same. It binds
    the Response of its own turn. ``session.last`` can be the answer of a background thread.
    """

    def __init__(self, namespace: dict[str, Any], names: Sequence[str]) -> None:
        self._namespace, self.names = namespace, names
        self.bound = False

    def begin(self, request: Request) -> None:
        """Bind nothing yet: the names keep their values until there is an answer."""

    def feed(self, chunk: StreamChunk) -> None:
        """Wait for the end."""

    def settle(self, response: Response) -> None:
        """Bind the Response."""
        self._namespace.update(dict.fromkeys(self.names, response))
        self.bound = True


def _read(session: Session, line: str, body: str | None, cell: str | None) -> tuple[str, Options, tuple[str, ...]]:
    """Return the prompt and the options of a cell, and notes on its line.

    Raises:
        OptionError: an option is wrong.
        InputError: there is no prompt.
    """
    # A terminal ends a cell with an empty line. Empty lines around a prompt mean nothing anywhere.
    body = body.strip("\n") if body and body.strip() else ""
    parsed = parse(line, has_body=bool(body))
    prompt = "\n\n".join(part for part in (parsed.prompt, body) if part)
    options = session.options(parsed.given)
    if options.fix or options.explain:
        prompt = prompt_about(options, prompt)
    if options.go_on:
        prompt = prompt_to_go_on(session, options, cell, prompt)
    if not prompt:
        raise InputError(
            "there is no prompt, so nothing was sent",
            "Write the prompt below the %%claude line, or after %claude. %%claude? shows how.",
        )
    return prompt, options, parsed.notes


def _attachments(host: ShellHost, options: Options) -> list[Carried]:
    """Return the content that goes before the prompt: files, cells, the last error."""
    form = file_form(options)
    carried = [attach(options.attach, root=Path.cwd(), form=form)] if options.attach else []
    if options.cells:
        cells = gather_cells(options.cells, host.shell)
        carried.append(cite_cells(cells, f"cells {options.cells}") if form.cite else cells)
    if options.fix or options.explain:
        carried.append(carry_failure(last_error(host.shell)))
    return carried


def _views(
    host: ShellHost, session: Session, prepared: Prepared, cost: Any, waiting: Waiting, fresh: Callable[[], bool]
) -> list[Sink]:
    """Return the sinks that show the answer."""
    options = prepared.options
    typed = options.schema is not None

    def chosen() -> tuple[Sink, ...]:
        return views(
            host.shell,
            cell_id=host.cell_id(),
            quiet=options.quiet,
            cost=cost,
            typed=typed,
            notes=prepared.draft.notes,
            shown_name=prepared.toolbox.shown_name,
            display_id=None if options.quiet else waiting.hand_over(),
            ends_fresh=fresh,
        )

    # A terminal prints things in the order they come. In a notebook, what a tool prints belongs under its call.
    in_notebook = host.in_notebook and not options.quiet
    shown = (SplitView(lambda: chosen()[0], partial(before_outputs, host.shell)),) if in_notebook else chosen()
    echo = session.config.echo
    return [*shown, Echo(echo)] if echo else list(shown)


def _show_dry_run(host: ShellHost, session: Session, prepared: Prepared) -> None:
    print(visible(describe(prepared, session)))
    if prepared.options.output:
        host.shell.user_ns[prepared.options.output] = prepared.request.body()
