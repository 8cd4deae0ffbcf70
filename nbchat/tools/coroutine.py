"""Running a coroutine to its end from synchronous code, also under a running loop: ``async def`` tools, ``await``."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import threading
from collections.abc import Coroutine
from typing import Any

__all__ = ["run_coroutine"]


def run_coroutine(awaitable: Any) -> Any:
    """Run an awaitable to its end from synchronous code, and give its result.

    In a kernel the main thread has a running loop already, which cannot be entered again; the
    awaitable then runs in a thread with a loop of its own, with this context's variables (prints
    reach this cell by them). An interrupt cancels it.
    """

    async def whole() -> Any:
        return await awaitable

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(whole())
    return _run_beside(whole())


def _run_beside(coroutine: Coroutine[Any, Any, Any]) -> Any:
    result: concurrent.futures.Future[Any] = concurrent.futures.Future()
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []

    async def watched() -> Any:
        task = asyncio.current_task()
        assert task is not None
        running.append((asyncio.get_running_loop(), task))
        return await coroutine

    def work() -> None:
        try:
            result.set_result(asyncio.run(watched()))
        except BaseException as error:
            result.set_exception(error)

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(work,), name="nbchat-tool", daemon=True).start()
    try:
        # By short waits, as Windows does not wake a long one for an interrupt.
        while not concurrent.futures.wait((result,), timeout=0.2).done:
            pass
    except KeyboardInterrupt:
        for loop, task in running:
            loop.call_soon_threadsafe(task.cancel)
        concurrent.futures.wait((result,), timeout=2)
        raise
    return result.result()
