"""Where an interrupt may stop a turn, and where it has to wait.

Python can raise KeyboardInterrupt between any two instructions, also inside ``finally``. A second ■
that arrives while a turn is being settled would leave a widget, a file and a span open, and lose an
answer that was paid for.

A flag that opens and closes the window cannot be exact: there is always an instruction between the
change of the flag and the code that it protects. The stack is exact. The handler looks outward from
the interrupted frame, and the first function that it knows decides.

After an interrupt was raised, the code that it stops closes its connections and child processes. A second ■
would break that off, and leave them open. So it waits for a moment.
"""

from __future__ import annotations

import _thread
import math
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

from nbchat.core.stopping import stoppable, unstoppable

__all__ = ["Interrupts", "interrupts_held"]

#: How long a callback of the garbage collector, or the work of ``unstoppable``, takes at most, usually, in seconds.
_SHORT_S = 0.01
#: How long the code that an interrupt stopped may take to close what it has open, in seconds. IPython needs
#: 0.1 to 0.3 s to end the process of ``!sleep 20``.
_CLEANUP_S = 1.0
#: The callbacks of weak references in the standard library. Python prints an exception in such a callback
#: and goes on, as in ``__del__`` (https://docs.python.org/3/library/weakref.html#weakref.ref). While long
#: text is parsed, one interrupt of four arrives in one.
_CALLBACKS: frozenset[CodeType] = frozenset(
    callback.__code__
    for callback in (
        weakref.WeakSet()._remove,  # type: ignore[attr-defined]
        weakref.WeakKeyDictionary()._remove,  # type: ignore[attr-defined]
        weakref.WeakValueDictionary()._remove,  # type: ignore[attr-defined]
        weakref.finalize.__call__,
    )
)


class Interrupts:
    """The handler of SIGINT while a turn runs."""

    def __init__(self, outer: Callable[[int, FrameType | None], Any], decides: dict[CodeType, bool]) -> None:
        self._outer, self._decides = outer, decides
        self._noted, self._raised_at = False, -math.inf
        self._timer: threading.Timer | None = None
        #: Whether an interrupt was raised. Code in between can swallow the exception, but not this.
        self.raised = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        inner, in_callback = frame, False
        while inner is not None:
            raises = self._decides.get(inner.f_code)
            if raises and not in_callback:
                # Drawing has nothing open.
                rest_s = 0.0 if inner.f_code is stoppable.__code__ else self._raised_at + _CLEANUP_S - time.monotonic()
                if rest_s > 0:
                    self._noted = True
                    self._interrupt_after(rest_s)  # for code that caught the last one and goes on
                else:
                    self._noted, self.raised, self._raised_at = False, True, time.monotonic()
                    self._outer(number, frame)
                return
            if raises is not None:
                break
            in_callback = in_callback or _ignores_exceptions(inner)
            inner = inner.f_back
        self._noted = True
        if inner is not None and (raises or inner.f_code is unstoppable.__code__):
            # The code around would be stopped immediately, and this is over soon.
            self._interrupt_after(_SHORT_S)

    def _interrupt_after(self, seconds: float) -> None:
        # A timer that waits is not cancelled here: this is a signal handler, and cancelling takes a lock that
        # the interrupted code may hold.
        if self._timer is not None:
            return
        self._timer = threading.Timer(seconds, self._interrupt_again)
        self._timer.daemon = True
        self._timer.start()

    def _interrupt_again(self) -> None:
        self._timer = None
        if not (self._noted and signal.getsignal(signal.SIGINT) is self):
            return
        main = threading.main_thread().ident
        if main is not None and hasattr(signal, "pthread_kill"):  # not on Windows
            # A real signal, because interrupt_main() does not wake a main thread that sleeps or reads.
            signal.pthread_kill(main, signal.SIGINT)
        else:
            _thread.interrupt_main()

    def raise_noted(self) -> None:
        """Raise the interrupt that was noted, if there was one."""
        if self._noted:
            self._noted = False
            raise KeyboardInterrupt

    def _pass_on(self) -> None:
        """Give the interrupt that was noted to the handler from before, which may be another turn's."""
        if self._timer is not None:
            self._timer.cancel()
        if self._noted:
            self._noted = False
            self._outer(signal.SIGINT, sys._getframe(1))


def _ignores_exceptions(frame: FrameType) -> bool:
    """Return True if Python ignores an exception that leaves this frame."""
    return frame.f_code in _CALLBACKS or frame.f_code.co_name == "__del__"


def _handler() -> Any:
    """Return the handler of SIGINT in this thread, or None where no signal arrives."""
    if threading.current_thread() is not threading.main_thread():
        return None
    try:
        return signal.getsignal(signal.SIGINT)
    except (AttributeError, OSError, ValueError):
        return None


@contextmanager
def interrupts_held(*, except_in: CodeType, held_in: tuple[CodeType, ...]) -> Iterator[Interrupts]:
    """Hold interrupts back until the block ends, and then raise one.

    :func:`nbchat.core.stopping.stoppable` and ``unstoppable`` decide inside of all these functions.

    In threads other than the main one this changes nothing, since Python delivers no signal there.
    The same is true where Python does not handle SIGINT, for instance where it is ignored.

    Args:
        except_in: the code of the function in which an interrupt is raised immediately, as usual.
        held_in: the code of functions in which an interrupt is noted, also where ``except_in`` calls
            them. The function that settles has to be among them, so that a turn that a tool of
            another turn asks for is protected as well.
    """
    outer = _handler()
    decides = {
        except_in: True,
        **dict.fromkeys(held_in, False),
        stoppable.__code__: True,
        unstoppable.__code__: False,
    }
    interrupts = Interrupts(outer if callable(outer) else signal.default_int_handler, decides)
    if not callable(outer):
        yield interrupts
        return
    try:
        signal.signal(signal.SIGINT, interrupts)
    except (AttributeError, OSError, ValueError):  # a place without signals, such as a browser
        yield interrupts
        return
    try:
        yield interrupts
        if interrupts.raised:
            raise KeyboardInterrupt  # somebody caught the one that was raised
    finally:
        signal.signal(signal.SIGINT, outer)
        interrupts._pass_on()
