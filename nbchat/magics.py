"""``%%claude``, ``%claude`` and ``%nbchat``: a skin over Session, and the only door to IPython.core.magic.

A magic reads its line, asks, and binds the Response; it decides nothing else.
"""

from __future__ import annotations

import re
from typing import Any

from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, no_var_expand

from nbchat import commands, session
from nbchat.config import Nbchat
from nbchat.core.errors import InputError
from nbchat.options import Option, help_text, parse
from nbchat.session import Session
from nbchat.transports import claude as claude_transport
from nbchat.view import live

__all__ = ["ClaudeMagics", "install", "uninstall"]


@magics_class
class ClaudeMagics(Magics):
    """The magics of one shell, around one Session."""

    def __init__(self, shell: Any, session: Session) -> None:
        super().__init__(shell)
        self.session = session

    # IPython would fill {x} and $x in the line with variables; in prose those mean nothing.
    @no_var_expand
    @line_cell_magic
    def claude(self, line: str, cell: str | None = None) -> None:
        has_body = bool(cell and cell.strip())
        parsed = parse(line, has_body=has_body)
        prompt = "\n\n".join(part for part in (parsed.prompt, cell if has_body else "") if part)
        options = self.session.options(parsed.given)
        if not prompt:
            raise InputError(
                "there is no prompt, so nothing was sent",
                "Write it below the %%claude line, or behind it; %%claude? shows how.",
            )
        cell_id = live.cell_id(self.shell)
        before = self.session.last
        try:
            self.session.ask(
                prompt.removesuffix("\n"),
                namespace=self.shell.user_ns,
                cell=cell_id,
                sinks=live.views(self.shell, cell_id=cell_id, quiet=options.quiet),
                options=options,
            )
        except KeyboardInterrupt as stop:
            # One line instead of a traceback through this library; the cell fails all the same.
            stop._render_traceback_ = lambda: ["KeyboardInterrupt: stopped; what had arrived is in _claude"]
            raise
        finally:
            if self.session.last is not before:
                self._bind(options.output)

    @no_var_expand
    @line_magic
    def nbchat(self, line: str) -> Any:
        return commands.run(line, self.session, self.shell)

    def _bind(self, name: str | None) -> None:
        bound = {"_claude": self.session.last} | ({name: self.session.last} if name else {})
        self.shell.user_ns.update(bound)


def install(shell: Any) -> None:
    """Add the magics to ``shell``; a second ``%load_ext`` or ``%reload_ext`` keeps the conversations."""
    if getattr(shell, "nbchat", None) is None:
        config = Nbchat(parent=shell)
        config.check(shell.config.get("Nbchat", {}))
        shell.configurables.append(config)  # what %config looks through
        shell.nbchat = ClaudeMagics(shell, Session(config=config))
        session.make_current(shell.nbchat.session)
    magics = shell.nbchat
    ClaudeMagics.claude.__doc__ = help_text(lambda option: _current(magics.session, option))
    ClaudeMagics.nbchat.__doc__ = commands.help_text()
    shell.register_magics(magics)
    if _keep_prompt_on_the_line not in shell.input_transformers_cleanup:
        shell.input_transformers_cleanup.insert(0, _keep_prompt_on_the_line)
    claude_transport.preload()


def uninstall(shell: Any) -> None:
    """Take out what :func:`install` added; variables and conversations of the user stay."""
    for kind in ("line", "cell"):
        for name in ("claude", "nbchat"):
            shell.magics_manager.magics[kind].pop(name, None)
    if _keep_prompt_on_the_line in shell.input_transformers_cleanup:
        shell.input_transformers_cleanup.remove(_keep_prompt_on_the_line)


def _current(session: Session, option: Option) -> Any:
    return getattr(session.config, option.name, option.default)


def _keep_prompt_on_the_line(lines: list[str]) -> list[str]:
    """Let a cell that is one line of ours through, where IPython would not.

    It refuses a cell magic with an empty body (``run_cell_magic``), and takes a line that ends
    with ``?`` for a call for help (``HelpEnd``): ``%claude what is x?`` would show the help of x.
    """
    text = "".join(lines).strip()
    if "\n" in text:
        return lines
    if re.match(r"%%claude\s+\S", text):
        return [text + "\n", "\n"]
    if found := re.match(r"%claude\s+(?P<prompt>\S.*\?)$", text):
        return [f"get_ipython().run_line_magic('claude', {found['prompt']!r})\n"]
    return lines
