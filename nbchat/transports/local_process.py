"""The child process of the embedded model: load a GGUF file, serve, and end with the kernel.

:mod:`nbchat.transports.local` starts this module with ``python -m``. The two talk through pipes. The
parent writes one line of JSON, the order, to standard input and keeps that pipe open. The child writes
one line of JSON to standard output: ``{"url": …}`` when it is ready, else ``{"error": …}``. Everything
else that is printed goes to the log, which is standard error.

This module is the only door to xllamacpp, so the kernel itself never loads llama.cpp.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from typing import Any, NoReturn, TypedDict

__all__ = ["Order"]

#: A running server empties its log when the log is longer.
MAX_LOG_BYTES = 1_000_000
#: Time between two checks of the parent and of the log.
WATCH_INTERVAL_S = 1.0


class Order(TypedDict):
    """The settings of one server. ``context`` is in tokens; 0 means the length that the model was trained for."""

    path: str
    alias: str
    context: int
    key: str


def main() -> NoReturn:
    """Read the order, load the model, report the address, and end when the parent ends."""
    if sys.stdin is None or sys.stdin.isatty():
        sys.exit("nbchat starts this process automatically. To see what is installed: python -m nbchat doctor")
    # Ctrl-C and Jupyter's interrupt mean the cell, not the model.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(0, 65536)
        if not piece:
            os._exit(0)
        line += piece
    # Standard output is for the answer alone. What C++ prints there belongs in the log.
    answers = os.dup(1)
    os.dup2(2, 1)
    _end_while_loading()
    try:
        answer = {"url": _load(json.loads(line))}
    except BaseException as error:
        answer = {"error": f"{error}".rstrip(".") or type(error).__name__}
    with contextlib.suppress(OSError):
        os.write(answers, json.dumps(answer).encode() + b"\n")
    os.close(answers)
    if "error" in answer:
        os._exit(1)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    # The parent writes nothing more. This read returns when the last write end of the pipe is closed,
    # which the system does for a parent that was killed, too.
    with contextlib.suppress(OSError):
        while os.read(0, 65536):
            pass
    os._exit(0)  # not sys.exit: there is nothing to save, and a generation may be running


#: llama.cpp stops serving when the server object is collected.
_servers: list[Any] = []


def _load(order: Order) -> str:
    """Start the server of the order and return its base URL."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = order["path"]
    params.model_alias = {order["alias"]}
    params.n_ctx = order["context"]
    # One slot: requests wait for each other. Each additional slot takes the memory of a whole context,
    # and on two cores four slots were no faster together. Slots that share one context (kv_unified) cost
    # nothing, but then an answer at temperature 0 depends on the other requests of that moment.
    params.n_parallel = 1
    params.cache_ram_mib = 0  # else up to 8 GB of old prompts; the last prompt stays cached anyway
    params.cache_idle_slots = False
    # llama.cpp looks for cancelled requests after each batch of the prompt. With 128 instead of 2,048
    # tokens a batch, an interrupt in a long prompt frees the server soon. On a CPU it is as fast.
    params.n_batch = params.n_ubatch = 128
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [order["key"]]
    # With an empty Access-Control-Allow-Origin no web page can read an answer. "null" would allow
    # sandboxed frames: https://developer.mozilla.org/docs/Web/HTTP/Headers/Access-Control-Allow-Origin
    params.cors_origins = ""
    params.cors_headers = ""
    params.cors_methods = ""
    params.cors_credentials = False
    params.ui = False
    params.endpoint_slots = False  # this endpoint would show one request's prompt to the next
    params.offline = True
    params.verbosity = 3  # loading, timings and warnings, but never a prompt
    server = xllamacpp.Server(params)
    _servers.append(server)
    return str(server.listening_address)


def _end_while_loading() -> None:
    """Let the system end this process if the parent ends while the model is loading.

    xllamacpp holds the GIL while it loads, so no Python code could notice the closed pipe. With O_ASYNC
    the kernel of the system sends SIGIO then, whose default action ends the process (fcntl(2)).
    """
    if sys.platform == "win32":
        return
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)


def _watch(parent: int) -> None:
    """End if the parent is gone although a fork of it holds the pipe open; empty a long log."""
    while True:
        time.sleep(WATCH_INTERVAL_S)
        if os.name == "posix" and os.getppid() != parent:
            os._exit(0)
        with contextlib.suppress(OSError):
            if os.fstat(2).st_size > MAX_LOG_BYTES:
                os.ftruncate(2, 0)


if __name__ == "__main__":
    main()
