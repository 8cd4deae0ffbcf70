"""Note what a tool prints, so that a result that the user has read already is not shown again."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["noting_prints"]


@contextlib.contextmanager
def noting_prints(limit: int) -> Iterator[Callable[[], str]]:
    """Yield a function that returns what was printed inside to standard output, which is shown as usual.

    The stream itself is not replaced, since ipykernel looks at its class.

    Args:
        limit: No more characters are noted than this and those of the last ``print``.
    """
    stream, printed, length = sys.stdout, [], 0
    write = getattr(stream, "write", None)

    def note_and_write(text: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal length
        if isinstance(text, str) and length <= limit:
            printed.append(text)
            length += len(text)
        return write(text, *args, **kwargs)  # type: ignore[misc]  # checked below

    def noted() -> str:
        return "".join(printed)

    own = getattr(stream, "__dict__", {}).get("write")
    try:
        if write is not None:
            stream.write = note_and_write  # type: ignore[method-assign]
    except AttributeError:  # a stream that takes no attributes, such as one written in C
        yield noted
        return
    try:
        yield noted
    finally:
        if own is None:
            with contextlib.suppress(AttributeError):
                del stream.write
        else:
            stream.write = own  # type: ignore[method-assign]
