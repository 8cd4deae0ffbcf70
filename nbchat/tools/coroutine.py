"""Running asynchronous code from synchronous code, also while the kernel's own event loop runs.

A kernel runs cells inside its event loop. asyncio refuses to enter a running loop a second time, so
asynchronous work of nbchat runs in another thread while the cell waits for it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import math
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from nbchat.core.stopping import unstoppable

__all__ = ["BackgroundLoop", "run_coroutine", "wait_for"]

_T = TypeVar("_T")

#: Python on Windows does not notice an interrupt during a long wait, so we wait in short steps.
_WAIT_STEP_S = 0.2
#: How long an interrupted coroutine has for its cleanup.
_CLEANUP_S = 2


def wait_for(future: concurrent.futures.Future[_T], timeout_s: float = math.inf) -> _T:
    """Return the result of a future of another thread.

    Raises:
        TimeoutError: There is no result after ``timeout_s``. The work goes on.
    """
    waited_s = 0.0
    while not concurrent.futures.wait((future,), timeout=_WAIT_STEP_S).done:
        waited_s += _WAIT_STEP_S
        if waited_s > timeout_s:
            raise TimeoutError
    return future.result()


def run_coroutine(awaitable: Awaitable[_T]) -> _T:
    """Run an awaitable to its end, and return its result. An interrupt cancels it."""

    async def coroutine() -> _T:
        return await awaitable

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine())
    return _run_in_thread(coroutine())


def _run_in_thread(coroutine: Coroutine[Any, Any, _T]) -> _T:
    result: concurrent.futures.Future[_T] = concurrent.futures.Future()
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []
    stopped = threading.Event()

    async def cancellable() -> _T:
        task = asyncio.current_task()
        assert task is not None  # a coroutine always runs in a task
        running.append((asyncio.get_running_loop(), task))
        if stopped.is_set():  # the interrupt came before there was a task to cancel
            task.cancel()
        return await coroutine

    def cancel() -> None:
        stopped.set()
        for loop, task in running:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(task.cancel)

    def work() -> None:
        try:
            result.set_result(asyncio.run(cancellable()))
        except BaseException as error:
            # The waiting thread raises it. Also SystemExit, which would only end this thread here.
            result.set_exception(error)

    # ipykernel finds the cell that a print belongs to by a context variable, which a new thread lacks.
    context = contextvars.copy_context()
    # A daemon, so that a coroutine that swallows its cancellation cannot keep the kernel from ending.
    thread = threading.Thread(target=context.run, args=(work,), name="nbchat-tool", daemon=True)
    try:
        # Inside, because the coroutine can run before start() returns, and an interrupt can come then.
        thread.start()
        return wait_for(result)
    except KeyboardInterrupt:
        unstoppable(cancel)
        concurrent.futures.wait((result,), timeout=_CLEANUP_S)
        raise


class BackgroundLoop:
    """An event loop in a thread of its own, for work that outlives a cell. The first coroutine starts the thread."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def running(self) -> bool:
        """True while there is a thread."""
        return self._loop is not None

    def submit(self, coroutine: Coroutine[Any, Any, _T]) -> concurrent.futures.Future[_T]:
        """Start a coroutine in the thread."""
        if self._loop is None:
            loop = asyncio.new_event_loop()
            try:
                threading.Thread(target=loop.run_forever, name=self._name, daemon=True).start()
            except BaseException:  # an interrupt: the thread runs or not, and nobody would use it
                loop.call_soon_threadsafe(loop.stop)
                raise
            self._loop = loop
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def run(self, coroutine: Coroutine[Any, Any, _T], timeout_s: float) -> _T:
        """Run a coroutine in the thread, and return its result. A timeout or an interrupt cancels it.

        Raises:
            TimeoutError: There is no result after ``timeout_s``.
        """
        future = self.submit(coroutine)
        try:
            return wait_for(future, timeout_s)
        except BaseException:
            future.cancel()
            raise

    def call(self, function: Callable[[], object]) -> None:
        """Call a function in the thread, for objects of asyncio, which no other thread may touch."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(function)

    def close(self) -> None:
        """End the thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._loop = None
