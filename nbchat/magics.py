"""``%%claude``, ``%claude`` and ``%nbchat``: a skin, and the only door to IPython.core.magic.

``%load_ext nbchat`` must cost next to nothing, so what a cell needs (:mod:`nbchat.cell`, the
session, the SDK) is imported by a thread in the background, or by the first cell if that is sooner.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from functools import cached_property
from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, no_var_expand

from nbchat import commands
from nbchat.config import Nbchat
from nbchat.context.notebook import unwatch, watch
from nbchat.options import Option, help_text

if TYPE_CHECKING:
    from nbchat.session import Session

__all__ = ["ClaudeMagics", "install", "uninstall"]


@magics_class
class ClaudeMagics(Magics):
    """The magics of one shell, around one Session."""

    def __init__(self, shell: Any, settings: Nbchat) -> None:
        super().__init__(shell)
        self.settings = settings

    @cached_property
    def session(self) -> Session:
        """The session of this shell, made at its first use."""
        from nbchat.session import Session, make_current
        from nbchat.store.entries import notebook_name

        # Where Jupyter Server, or papermill, tells the notebook's path.
        path = os.environ.get("JPY_SESSION_NAME") or os.environ.get("PAPERMILL_OUTPUT_PATH")
        session = Session(config=self.settings, notebook=notebook_name(path))
        make_current(session)
        return session

    # IPython would fill {x} and $x in the line with variables; in prose those mean nothing.
    @no_var_expand
    @line_cell_magic
    def claude(self, line: str, cell: str | None = None) -> None:
        from nbchat.cell import run

        run(self.shell, self.session, line, cell)

    @no_var_expand
    @line_magic
    def nbchat(self, line: str) -> Any:
        return commands.run(line, self.session, self.shell)


def install(shell: Any) -> None:
    """Add the magics to ``shell``; a second ``%load_ext`` or ``%reload_ext`` keeps the conversations."""
    if getattr(shell, "nbchat", None) is None:
        settings = Nbchat(parent=shell)
        settings.check(shell.config.get("Nbchat", {}))
        shell.configurables.append(settings)  # what %config looks through
        shell.nbchat = ClaudeMagics(shell, settings)
    magics = shell.nbchat

    def current(option: Option) -> Any:
        return getattr(magics.settings, option.name, option.default)

    ClaudeMagics.claude.__doc__ = help_text(current)
    ClaudeMagics.nbchat.__doc__ = commands.help_text()
    shell.register_magics(magics)
    if _keep_prompt_on_the_line not in shell.input_transformers_cleanup:
        shell.input_transformers_cleanup.insert(0, _keep_prompt_on_the_line)
    watch(shell)
    threading.Thread(target=_preload_quietly, name="nbchat-preload", daemon=True).start()


def uninstall(shell: Any) -> None:
    """Take out what :func:`install` added; variables and conversations of the user stay."""
    for kind in ("line", "cell"):
        for name in ("claude", "nbchat"):
            shell.magics_manager.magics[kind].pop(name, None)
    unwatch(shell)
    if _keep_prompt_on_the_line in shell.input_transformers_cleanup:
        shell.input_transformers_cleanup.remove(_keep_prompt_on_the_line)


def _preload_quietly() -> None:
    with contextlib.suppress(Exception):  # the first cell imports the same, and says what is wrong
        _preload()


def _preload() -> None:
    """Import what the first answer needs, the largest part first: the SDK alone takes over a second."""
    from nbchat.transports import claude

    claude.preload()
    from nbchat import cell  # noqa: F401
    from nbchat.store import prices
    from nbchat.view import live

    live.preload()
    prices.preload()


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
