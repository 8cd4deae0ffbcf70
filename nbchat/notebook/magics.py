"""``%%claude``, ``%claude`` and ``%nbchat``: registration with IPython, and the only door to IPython.core.magic.

``%load_ext nbchat`` must be fast, so it does not import what a cell needs (:mod:`nbchat.notebook.cell`, the
session, the SDK). A background thread imports these modules, or the first cell does if it runs sooner.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, no_var_expand
from traitlets import TraitError

from nbchat.config import Nbchat
from nbchat.core.errors import OptionError
from nbchat.core.visible import escape_unencodable
from nbchat.notebook import commands, completion
from nbchat.notebook.host import ShellHost
from nbchat.notebook.line import help_text
from nbchat.notebook.listener import unwatch, watch
from nbchat.notebook.place import in_kernel, notebook_path
from nbchat.notebook.prompts import keep_prompts
from nbchat.notebook.waiting import Waiting
from nbchat.options import Option
from nbchat.threads import start_thread

if TYPE_CHECKING:
    from nbchat.core.response import Response
    from nbchat.engine.session import Session
    from nbchat.rows.job import Job

__all__ = ["ClaudeMagics", "install", "uninstall"]


@magics_class
class ClaudeMagics(Magics):
    """The magics of one shell, with their session."""

    def __init__(self, shell: Any, settings: Nbchat) -> None:
        super().__init__(shell)
        self.settings = settings
        self.host = ShellHost(shell)
        #: The session if it was made already. Completion reads it, and must not make one.
        self.existing_session: Session | None = None
        self._making = threading.Lock()

    @property
    def session(self) -> Session:
        """The session of this shell; the first use makes it."""
        # A thread can ask before the first cell does.
        with self._making:
            if self.existing_session is None:
                self.existing_session = self._make_session()
            return self.existing_session

    def _make_session(self) -> Session:
        from nbchat.engine.session import Session
        from nbchat.store.entries import notebook_name

        return Session(config=self.settings, notebook=notebook_name(notebook_path(self.shell)), host=self.host)

    # IPython would replace {x} and $x in the line by the values of variables. In prose they mean nothing.
    @no_var_expand
    @line_cell_magic
    def claude(self, line: str, cell: str | None = None) -> None:
        self._ask(line, cell)

    def answer(self, line: str) -> Response | Job | None:
        """Run ``%claude line`` and return its Response: the value that ``name = %claude …`` assigns.

        Returns None if nothing was asked, as with ``--dry-run``.
        """
        return self._ask(line, None)

    @no_var_expand
    @line_magic
    def nbchat(self, line: str) -> None:
        commands.run(line, self.session, self.host.shell)

    def _ask(self, line: str, cell: str | None) -> Response | Job | None:
        with Waiting(self.shell, self.host.cell_id()) as waiting:
            from nbchat.notebook.cell import run

            return run(self.host, self.session, line, cell, waiting)


def install(shell: Any) -> None:
    """Add the magics to a shell. A second ``%load_ext`` or a ``%reload_ext`` keeps the conversations.

    Raises:
        OptionError: a setting in the configuration file or in the environment is wrong.
    """
    if not in_kernel(shell):
        escape_unencodable(sys.stdout)  # a terminal
    if getattr(shell, "nbchat", None) is None:
        shell.nbchat = ClaudeMagics(shell, _settings(shell))
    magics = shell.nbchat
    if magics.settings not in shell.configurables:
        shell.configurables.append(magics.settings)  # %config searches this list
    _write_help(magics.settings)
    magics.settings.observe(_update_help, names=magics.settings.class_trait_names(config=True))
    shell.register_magics(magics)
    if keep_prompts not in shell.input_transformers_cleanup:
        # First, because the transformers after it already look for calls for help.
        shell.input_transformers_cleanup.insert(0, keep_prompts)
    completion.install(shell)
    watch(shell)
    start_thread(_preload_quietly, "nbchat-preload")


def uninstall(shell: Any) -> None:
    """Remove what :func:`install` added; the user's variables and conversations stay."""
    for kind in ("line", "cell"):
        for name in ("claude", "nbchat"):
            shell.magics_manager.magics[kind].pop(name, None)
    unwatch(shell)
    completion.uninstall(shell)
    if shell.nbchat.settings in shell.configurables:
        shell.configurables.remove(shell.nbchat.settings)
    if keep_prompts in shell.input_transformers_cleanup:
        shell.input_transformers_cleanup.remove(keep_prompts)


def _settings(shell: Any) -> Nbchat:
    """Return the settings from the configuration file and the environment, checked."""
    try:
        settings = Nbchat(parent=shell)
    except TraitError as error:
        raise OptionError(
            f"a setting in the configuration file is wrong: {error}", "Fix c.Nbchat.… in ipython_config.py."
        ) from None
    settings.check(shell.config.get("Nbchat", {}))
    return settings


def _write_help(settings: Nbchat) -> None:
    """Write the help of the magics, with the values that apply now."""

    def current(option: Option) -> Any:
        return getattr(settings, option.name, option.default)

    ClaudeMagics.claude.__doc__ = help_text(current)
    ClaudeMagics.nbchat.__doc__ = commands.help_text()


def _update_help(change: Any) -> None:
    _write_help(change["owner"])


def _preload_quietly() -> None:
    with contextlib.suppress(Exception):  # the first cell imports the same modules, and reports what is wrong
        _preload()


def _preload() -> None:
    """Import what the first answer needs, the largest part first: the SDK alone takes over a second."""
    from nbchat import telemetry
    from nbchat.transports import claude

    telemetry.start()
    claude.preload()
    from nbchat.notebook import cell  # noqa: F401
    from nbchat.store import prices
    from nbchat.view.live import view as live

    live.preload()
    prices.preload()
