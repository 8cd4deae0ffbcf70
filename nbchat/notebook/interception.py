"""The functions by which code in a shell shows output to the user, replaced for a while.

These are ``write`` of both streams, ``publish`` of the display publisher, and ``write_format_data`` of the
display hook. The streams themselves are not replaced, since ipykernel looks at their class.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

__all__ = ["before_outputs", "is_aside", "noting_outputs", "replaced", "streams"]

_thread = threading.local()


def is_aside() -> bool:
    """Return True while :func:`before_outputs` calls ``act``, whose displays are not outputs of the code."""
    return getattr(_thread, "is_aside", False)


def streams() -> list[Any]:
    """Return standard output and standard error, or one stream if both are the same."""
    return list({id(stream): stream for stream in (sys.stdout, sys.stderr)}.values())


@contextlib.contextmanager
def before_outputs(shell: Any, act: Callable[[], None]) -> Iterator[None]:
    """Call ``act`` before each output inside: a text, a display, or the value of a cell.

    ``act`` is called in the thread that shows the output. It must be quick.
    """

    def act_first(show: Callable[..., Any]) -> Callable[..., Any]:
        def act_and_show(*args: Any, **kwargs: Any) -> Any:
            # `act` may show something itself, which must not call it again.
            if not is_aside():
                _thread.is_aside = True
                try:
                    act()
                finally:
                    _thread.is_aside = False
            return show(*args, **kwargs)

        return act_and_show

    functions = [(stream, "write") for stream in streams()]
    functions += [(shell.display_pub, "publish"), (shell.displayhook, "write_format_data")]
    with contextlib.ExitStack() as stack:
        for owner, name in functions:
            stack.enter_context(replaced(owner, name, act_first(getattr(owner, name))))
        yield


@contextlib.contextmanager
def noting_outputs(shell: Any, own_threads: Sequence[str]) -> Iterator[Callable[[], bool]]:
    """Yield a function that returns True if something was shown inside, except by threads with these names."""
    shown: list[bool] = []

    def note() -> None:
        if threading.current_thread().name not in own_threads:
            shown.append(True)

    with before_outputs(shell, note):
        yield lambda: bool(shown)


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Set the attribute ``name`` of ``owner`` inside, and restore it afterwards."""
    # An attribute of the class is restored by deleting that of the instance. Setting it again would
    # leave a bound method in the instance, which hides later changes of the class.
    own = vars(owner).get(name) if hasattr(owner, "__dict__") else None
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own is None:
            delattr(owner, name)
        else:
            setattr(owner, name, own)
