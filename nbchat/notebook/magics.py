"""``%%claude``, ``%claude`` and ``%nbchat``: a skin, and the only door to IPython.core.magic.

``%load_ext nbchat`` must cost next to nothing, so what a cell needs (:mod:`nbchat.notebook.cell`, the
session, the SDK) is imported by a thread in the background, or by the first cell if that is sooner.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import tokenize
from functools import cached_property
from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, no_var_expand
from traitlets import TraitError

from nbchat.config import Nbchat
from nbchat.core.errors import OptionError
from nbchat.notebook import commands, completion
from nbchat.notebook.host import ShellHost
from nbchat.notebook.line import help_text
from nbchat.notebook.listener import unwatch, watch
from nbchat.options import Option

if TYPE_CHECKING:
    from nbchat.core.response import Response
    from nbchat.engine.session import Session

__all__ = ["ClaudeMagics", "install", "uninstall"]


@magics_class
class ClaudeMagics(Magics):
    """The magics of one shell, around one Session."""

    def __init__(self, shell: Any, settings: Nbchat) -> None:
        super().__init__(shell)
        self.settings = settings
        self.host = ShellHost(shell)

    @cached_property
    def session(self) -> Session:
        """The session of this shell, made at its first use."""
        from nbchat.engine.session import Session, use_session
        from nbchat.store.entries import notebook_name

        # Where Jupyter Server, papermill, or VS Code tells the notebook's path.
        path = os.environ.get("JPY_SESSION_NAME") or os.environ.get("PAPERMILL_OUTPUT_PATH")
        path = path or self.shell.user_ns.get("__vsc_ipynb_file__")
        session = Session(config=self.settings, notebook=notebook_name(path), host=self.host)
        use_session(session)
        return session

    # IPython would fill {x} and $x in the line with variables; in prose those mean nothing.
    @no_var_expand
    @line_cell_magic
    def claude(self, line: str, cell: str | None = None) -> None:
        from nbchat.notebook.cell import run

        run(self.host, self.session, line, cell)

    def answer(self, line: str) -> Response | None:
        """What ``name = %claude …`` assigns: the Response of the line."""
        from nbchat.notebook.cell import run

        return run(self.host, self.session, line, None)

    @no_var_expand
    @line_magic
    def nbchat(self, line: str) -> Any:
        return commands.run(line, self.session, self.shell)


def install(shell: Any) -> None:
    """Add the magics to ``shell``; a second ``%load_ext`` or ``%reload_ext`` keeps the conversations.

    Raises:
        OptionError: a setting of the configuration file or of the environment is wrong.
    """
    if getattr(shell, "nbchat", None) is None:
        shell.nbchat = ClaudeMagics(shell, _settings(shell))
    magics = shell.nbchat
    if magics.settings not in shell.configurables:
        shell.configurables.append(magics.settings)  # what %config looks through
    _write_help(magics.settings)
    magics.settings.observe(_help_again, names=magics.settings.class_trait_names(config=True))
    shell.register_magics(magics)
    if _keep_prompts not in shell.input_transformers_cleanup:
        shell.input_transformers_cleanup.insert(0, _keep_prompts)
    completion.install(shell)
    watch(shell)
    threading.Thread(target=_preload_quietly, name="nbchat-preload", daemon=True).start()


def uninstall(shell: Any) -> None:
    """Take out what :func:`install` added; variables and conversations of the user stay."""
    for kind in ("line", "cell"):
        for name in ("claude", "nbchat"):
            shell.magics_manager.magics[kind].pop(name, None)
    unwatch(shell)
    completion.uninstall(shell)
    if shell.nbchat.settings in shell.configurables:
        shell.configurables.remove(shell.nbchat.settings)
    if _keep_prompts in shell.input_transformers_cleanup:
        shell.input_transformers_cleanup.remove(_keep_prompts)


def _settings(shell: Any) -> Nbchat:
    try:
        settings = Nbchat(parent=shell)
    except TraitError as error:
        raise OptionError(
            f"a setting of the configuration file is wrong: {error}", "Mend c.Nbchat.… in ipython_config.py."
        ) from None
    settings.check(shell.config.get("Nbchat", {}))
    return settings


def _write_help(settings: Nbchat) -> None:
    """The help shows the values that hold now."""

    def current(option: Option) -> Any:
        return getattr(settings, option.name, option.default) or None

    ClaudeMagics.claude.__doc__ = help_text(current)
    ClaudeMagics.nbchat.__doc__ = commands.help_text()


def _help_again(change: Any) -> None:
    _write_help(change["owner"])


def _preload_quietly() -> None:
    with contextlib.suppress(Exception):  # the first cell imports the same, and says what is wrong
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


_ONE_LINE = re.compile(r"%%claude(?:[ \t].*)?")
_ASKS = re.compile(
    r"(?P<indent>[ \t]*)(?:(?P<target>[^\W\d][\w.]*(?:\[[^\]]*\])*)[ \t]*=[ \t]*)?%claude[ \t]+(?P<line>\S.*)"
)


def _keep_prompts(lines: list[str]) -> list[str]:
    """Let prompts through where IPython would not, as they are prose and no Python.

    It refuses a cell magic with an empty body (``run_cell_magic``), and takes a line that ends
    with ``?`` for a call for help (``HelpEnd``): ``%claude what is x?`` would show the help of x.
    What ``name = %claude …`` assigns would be None, as the magic shows its answer itself.
    """
    text = "".join(lines).strip()
    if _ONE_LINE.fullmatch(text):
        return [text + "\n", "\n"]
    if text.startswith("%%") or "%claude" not in text:
        return lines  # the body of another cell magic, which may be no Python at all
    kept: list[str] = []
    for line in lines:
        asks = _ASKS.fullmatch(line.rstrip())
        if asks and (asks["target"] or asks["line"].endswith("?")) and _begins_statement(kept):
            said = asks["line"]
            call = f"get_ipython().run_line_magic('claude', {said!r})"
            if asks["target"]:
                call = f"{asks['target']} = get_ipython().nbchat.answer({said!r})"
            line = f"{asks['indent']}{call}\n"
        kept.append(line)
    return kept


# IPython leaves such a transformer out when it asks whether a cell is complete: a terminal would
# else take the first line of a %%claude cell for all of it.
_keep_prompts.has_side_effects = True  # type: ignore[attr-defined]


def _begins_statement(before: list[str]) -> bool:
    """Whether the line after these begins a statement: it may as well be inside a string, or brackets."""
    try:
        for _ in tokenize.generate_tokens(iter(before).__next__):
            pass
    except tokenize.TokenError as error:  # Python 3.11: EOF in multi-line string; 3.12: unterminated triple-quoted …
        return not re.search("multi-line|triple-quoted", str(error))
    except SyntaxError:
        pass
    return True
