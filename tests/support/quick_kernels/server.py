"""The process that has imported the libraries, and forks for each kernel."""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

#: What every kernel imports sooner or later. nbchat is not among it.
LIBRARIES = ("anthropic", "anthropic.resources.messages", "ipykernel.kernelapp", "ipykernel.ipkernel", "ipywidgets")


def serve(folder: Path, owner: int) -> dict[str, Any] | None:
    """Fork for each client until the owner has ended. Return what the client asked for in a fork, else None."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "new"))
    listener.listen(64)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    os.rename(folder / "new", folder / "socket")
    clients: dict[int, tuple[socket.socket, int]] = {}  # by the process, with a descriptor that is readable at its end
    while _lives(owner):
        for key, _ in selector.select(1.0):
            if key.fileobj is listener:
                client, _ = listener.accept()
                request, descriptors = _read(client)
                if (pid := os.fork()) == 0:
                    selector.close()
                    os.setsid()  # before the client can pass a signal on to the group
                    client.sendall(f"{os.getpid()}\n".encode())
                    for open_one in (listener, client, *(other for other, _ in clients.values())):
                        open_one.close()
                    for _, end in clients.values():
                        os.close(end)
                    return {**request, "descriptors": descriptors}
                for descriptor in descriptors:
                    os.close(descriptor)
                clients[pid] = (client, os.pidfd_open(pid))
                selector.register(client, selectors.EVENT_READ, pid)
                selector.register(clients[pid][1], selectors.EVENT_READ, pid)
                continue
            pid = key.data
            if pid not in clients:
                continue
            client, end = clients.pop(pid)
            if key.fileobj is client:  # it was killed
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            with contextlib.suppress(OSError):
                client.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
            for one in (client, end):
                selector.unregister(one)
            client.close()
            os.close(end)
    return None


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _read(client: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Return what a client asks for, and its standard input, output and error."""
    _, descriptors, _, _ = socket.recv_fds(client, 1, 3)
    data = b""
    while not data.endswith(b"\n"):
        data += client.recv(1 << 16)
    return json.loads(data), descriptors


def become_kernel(request: dict[str, Any]) -> None:
    """Let this fork be what ``python -m ipykernel_launcher`` would be."""
    for number, descriptor in enumerate(request["descriptors"]):
        os.dup2(descriptor, number)
        os.close(descriptor)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    os.chdir(request["folder"])
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    sys.path[:0] = ["", *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    importlib.invalidate_caches()
    # What `site` does at the start of Python.
    sys.modules.pop("sitecustomize", None)
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module("sitecustomize")
    gc.unfreeze()
    sys.argv = ["ipykernel_launcher", *request["arguments"]]
    runpy.run_module("ipykernel_launcher", run_name="__main__", alter_sys=True)


def main(folder: Path) -> None:
    """Import the libraries and serve."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    del sys.path[0]  # the folder of this file
    for library in LIBRARIES:
        importlib.import_module(library)
    gc.collect()
    gc.freeze()  # a collection in a fork would copy all of this memory
    request = serve(folder, json.loads((folder / "owner.json").read_text())["process"])
    if request is not None:
        become_kernel(request)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
