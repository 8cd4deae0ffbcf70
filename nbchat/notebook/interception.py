"""The ways by which code in a shell shows something to its user, each replaced for a while.

By the ways out themselves (``write`` of both streams as IPython's own history does it, since
ipykernel looks at the class of the stream), and each put back afterwards.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["before_outputs", "is_aside", "replaced", "streams"]

_aside = threading.local()


def is_aside() -> bool:
    """Whether what is shown now comes from what :func:`before_outputs` called, and is no output of the code."""
    return getattr(_aside, "now", False)


def streams() -> list[Any]:
    """Standard output and standard error, once if they are one."""
    return list({id(one): one for one in (sys.stdout, sys.stderr)}.values())


@contextlib.contextmanager
def before_outputs(shell: Any, act: Callable[[], None]) -> Iterator[None]:
    """Call ``act`` before whatever is shown inside: what is written, a display, the value of a cell.

    It is called in the thread that shows something, each time, and must be quick.
    """

    def first(show: Callable[..., Any]) -> Callable[..., Any]:
        def shown(*args: Any, **kwargs: Any) -> Any:
            if not is_aside():
                _aside.now = True
                try:
                    act()
                finally:
                    _aside.now = False
            return show(*args, **kwargs)

        return shown

    ways = [(stream, "write") for stream in streams()]
    ways += [(shell.display_pub, "publish"), (shell.displayhook, "write_format_data")]
    with contextlib.ExitStack() as stack:
        for thing, name in ways:
            stack.enter_context(replaced(thing, name, first(getattr(thing, name))))
        yield


@contextlib.contextmanager
def replaced(thing: Any, name: str, value: Any) -> Iterator[None]:
    """``thing.name`` is ``value`` inside, and afterwards what it was, in the instance or in the class."""
    own = vars(thing).get(name) if hasattr(thing, "__dict__") else None
    setattr(thing, name, value)
    try:
        yield
    finally:
        if own is None:
            delattr(thing, name)
        else:
            setattr(thing, name, own)
