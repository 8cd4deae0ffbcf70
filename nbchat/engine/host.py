"""The host: the place that the engine runs in, which is a notebook, a terminal or a script."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from nbchat.core.errors import OptionError, redact
from nbchat.core.turn_order import CellOrder
from nbchat.core.visible import visible

if TYPE_CHECKING:
    from nbchat.core.request import Sink
    from nbchat.core.usage import Usage
    from nbchat.tools.toolbox import Tool

__all__ = ["Host", "PlainHost", "first_user_frame"]


class Host(Protocol):
    """The place a session runs in. :mod:`nbchat.notebook.host` has the one for IPython."""

    @property
    def namespace(self) -> Mapping[str, Any]:
        """The names that ``--tools`` and ``--schema`` can mean where a request has no namespace of its own."""
        ...

    def ask(self, prompt: str) -> str:
        """Ask the user for one line.

        Raises:
            EOFError, NotImplementedError: nobody can answer.
        """
        ...

    @property
    def can_ask(self) -> bool:
        """Return False if nobody can type an answer here."""
        ...

    @property
    def place(self) -> str:
        """Return how people call what lives as long as the process: "this notebook" or "this session"."""
        ...

    def edit(self, text: str, language: str) -> str | None:
        """Open an editor with a text, and return the text as the user leaves it.

        None means that there is no editor here. The user then changes line by line.

        Args:
            text: the text that the editing begins with.
            language: "python" or "json".
        """
        ...

    def say(self, text: str) -> None:
        """Show the user a line about a tool."""
        ...

    def tell(self, text: str) -> None:
        """Tell the user a line about a request that nothing else shows. Each line is told once."""
        ...

    def views(self, cost: Callable[[Usage, str], float | None]) -> Iterable[Sink]:
        """Return the sinks that show an answer for which the caller has none."""
        ...

    def show_traceback(self, error: BaseException) -> None:
        """Show the traceback of an error that a tool raised."""
        ...

    def run_python(self) -> Tool:
        """Return the tool that runs code in the user's namespace.

        Raises:
            OptionError: there is no such namespace here.
        """
        ...

    def cell_key(self) -> str | None:
        """Return the key of the turn that the running cell makes, or None where cells have no ids."""
        ...

    def cell_order(self) -> CellOrder:
        """Return the order of the notebook's cells, as far as the front end tells it."""
        ...


#: What this process has told its user already. A script may ask a thousand times.
_told: set[str] = set()


class PlainHost:
    """Python without IPython: questions and notes are on the terminal."""

    @property
    def namespace(self) -> Mapping[str, Any]:
        return {}

    place = "this session"

    @property
    def can_ask(self) -> bool:
        return sys.stdin is not None and sys.stdin.isatty()

    def edit(self, text: str, language: str) -> str | None:
        return None

    def ask(self, prompt: str) -> str:
        if not self.can_ask:
            raise EOFError("there is nobody to ask")
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        return input(prompt.encode(encoding, "backslashreplace").decode(encoding))

    def say(self, text: str) -> None:
        # Standard output belongs to the script.
        print(text, file=sys.stderr)

    def tell(self, text: str) -> None:
        # An endpoint says why it was chosen the first time, and later only who answers.
        if not any(line.endswith(text) for line in _told):
            _told.add(text)
            self.say(visible(f"nbchat: {text}"))

    def views(self, cost: Callable[[Usage, str], float | None]) -> Iterable[Sink]:
        return ()

    def show_traceback(self, error: BaseException) -> None:
        lines = traceback.format_exception(type(error), error, first_user_frame(error))
        print(visible(redact("".join(lines).rstrip("\n"))), file=sys.stderr)

    def run_python(self) -> Tool:
        raise OptionError("--run needs IPython, and this is plain Python", "Use --run in a notebook or in ipython.")

    def cell_key(self) -> str | None:
        return None

    def cell_order(self) -> CellOrder:
        return CellOrder()


#: Packages whose frames are between the call and the user's function.
_PACKAGES_BETWEEN = frozenset({"nbchat", "asyncio", "concurrent", "pydantic", "contextvars"})


def first_user_frame(error: BaseException) -> TracebackType | None:
    """Return the traceback of an error from the first frame that is the user's own."""
    frames = error.__traceback__
    while frames is not None:
        module = str(frames.tb_frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] not in _PACKAGES_BETWEEN:
            break
        frames = frames.tb_next
    return frames
