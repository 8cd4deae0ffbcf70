"""Start a thread where the place has threads. Python in a browser (Pyodide) has none."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable

from nbchat.core.stopping import unstoppable

__all__ = ["has_threads", "start_thread", "thread_time"]

#: Return the seconds that this thread has computed, and not those of the clock on the wall: other threads and other
#: programs may hold the processor. Pyodide has one thread, and no such clock.
thread_time: Callable[[], float] = getattr(time, "thread_time", time.process_time)


def start_thread(work: Callable[[], object], name: str) -> threading.Thread | None:
    """Run ``work`` in a new thread, and return the thread, or None where no thread can start.

    The thread is a daemon, so that it cannot keep the process from ending. It runs in a copy of the caller's
    context: ipykernel 7 keeps the message of the running cell in a context variable, so that what the thread
    shows belongs to this cell. ipykernel 6 keeps that message in the process.

    >>> thread = start_thread(lambda: None, "an-example")
    >>> thread.join()
    """
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(work,), name=name, daemon=True)
    try:
        # An interrupt in between would leave a thread that cannot be joined.
        unstoppable(thread.start)
    except RuntimeError:  # "can't start new thread": https://pyodide.org/en/stable/usage/wasm-constraints.html
        return None
    return thread


def has_threads() -> bool:
    """Return True if a thread can start now. One is started to find out.

    >>> has_threads()
    True
    """
    return start_thread(lambda: None, "nbchat-probe") is not None
