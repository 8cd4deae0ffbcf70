"""The embedded model with real processes: it answers, is shared, and never outlives its kernel."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from nbchat.core.errors import ConnectionFailed
from nbchat.transports import local, local_process
from tests.kernel.harness import TIMEOUT_S, kernel_of

posix_only = pytest.mark.skipif(os.name != "posix", reason="signals, process groups and forks are POSIX's")


@pytest.fixture(autouse=True)
def _servers_end_with_the_test() -> Iterator[None]:
    """No server is left over, from this process or from any a test started."""
    yield
    local.stop()


def _until(true: Callable[[], object]) -> bool:
    end = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.05)
    return False


def _gone(pid: int) -> bool:
    """Return True if a process has ended, also if nobody has waited for it yet."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _post(
    server: local.LocalServer, text: str, *, key: str | None = None, **body: Any
) -> tuple[dict[str, Any], dict[str, str]]:
    """Ask once, without the SDK: the answer's body and its headers."""
    request = urllib.request.Request(
        f"{server.base_url}/v1/messages",
        json.dumps({"model": "any", "max_tokens": 8, "messages": [{"role": "user", "content": text}]} | body).encode(),
        {
            "Authorization": f"Bearer {key or server.api_key}",
            "Content-Type": "application/json",
            "Origin": "http://page.example",
        },
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=TIMEOUT_S) as answer:
        return json.load(answer), dict(answer.headers)


# ── it answers ───────────────────────────────────────────────────────────────────────────────────


def test_it_answers_in_the_shape_of_the_messages_api_under_its_own_name() -> None:
    """The model names itself, not the path of its file, and counts tokens."""
    server = local.serve()
    message, _ = _post(server, "Say hello.")
    assert message["type"] == "message"
    assert message["model"] == server.model == local.BUILT_IN
    assert message["content"][0]["text"].strip()
    assert message["usage"]["output_tokens"] > 0


def test_a_request_needs_the_key_and_no_web_page_may_read_an_answer() -> None:
    """A wrong key is a 401, and no origin is allowed, not even on a good answer."""
    server = local.serve()
    with pytest.raises(urllib.error.HTTPError) as caught:
        _post(server, "hi", key="wrong")
    assert caught.value.code == 401
    assert json.load(caught.value)["error"]["type"] == "authentication_error"
    _, headers = _post(server, "hi")
    assert headers.get("Access-Control-Allow-Origin", "") == ""
    listening = {connection.laddr.ip for connection in psutil.Process(server.pid).net_connections("inet")}
    assert listening == {"127.0.0.1"}


def test_no_other_process_and_no_log_shows_the_key() -> None:
    """Not on the command line, not in the environment, not in the log; nor is the prompt in the log."""
    server = local.serve()
    _post(server, "a prompt about quetzals")
    child = psutil.Process(server.pid)
    assert server.api_key not in " ".join(child.cmdline())
    assert server.api_key not in " ".join(child.environ().values())
    log = server.log.read_text()
    assert "listening" in log
    assert server.api_key not in log
    assert "quetzals" not in log


def test_at_temperature_zero_answers_do_not_depend_on_other_requests() -> None:
    """The same request gets the same text, so two runs of a notebook can be compared."""
    server = local.serve()

    def ask() -> str:
        return _post(server, "Name three animals.", max_tokens=24, temperature=0)[0]["content"][0]["text"]

    first = ask()
    others = [threading.Thread(target=_post, args=(server, f"Tell me about the number {n}.")) for n in range(3)]
    for thread in others:
        thread.start()
    meanwhile = ask()
    for thread in others:
        thread.join()
    assert [meanwhile, ask()] == [first, first]


def test_a_closed_connection_frees_the_server() -> None:
    """An interrupt closes the connection. llama.cpp drops the answer and takes the next request."""
    import anthropic

    server = local.serve()
    client = anthropic.Anthropic(base_url=server.base_url, auth_token=server.api_key, api_key=None, max_retries=0)
    messages: Any = [{"role": "user", "content": "Write a very long story about the sea, with many chapters."}]
    with client.messages.create(model="any", max_tokens=3000, messages=messages, stream=True) as stream:
        for number, _ in enumerate(stream):
            if number == 5:
                break
    message, _ = _post(server, "Say hello.")
    assert message["usage"]["output_tokens"] > 0
    assert "cancel task" in server.log.read_text()


# ── it is shared ─────────────────────────────────────────────────────────────────────────────────


def test_threads_and_cells_share_one_server() -> None:
    """Eight threads that ask at the same moment get the same server, and later callers get it, too."""
    found: list[local.LocalServer] = []
    threads = [threading.Thread(target=lambda: found.append(local.serve())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert set(found) == {local.serve(local.BUILT_IN)}
    assert len(psutil.Process().children()) == 1


def test_a_server_outlives_the_thread_that_started_it() -> None:
    """A server that a background thread starts must stay."""
    found: list[local.LocalServer] = []
    thread = threading.Thread(target=lambda: found.append(local.serve()))
    thread.start()
    thread.join()
    time.sleep(2 * local_process.WATCH_INTERVAL_S)
    assert _post(found[0], "hi")[0]["type"] == "message"
    assert local.serve() == found[0]


def test_two_models_answer_side_by_side_each_under_its_name(tmp_path: Path) -> None:
    """Any GGUF file is a model, named by its file."""
    other = tmp_path / "other model.gguf"
    shutil.copy(local.find_weights(), other)
    first, second = local.serve(), local.serve(other)
    assert first.pid != second.pid
    assert _post(first, "hi")[0]["model"] == local.BUILT_IN
    assert _post(second, "hi")[0]["model"] == second.model == "other model"
    assert local.serve() == first
    local.stop()
    assert _gone(first.pid)
    assert _gone(second.pid)


def test_a_server_that_died_is_replaced_with_another_key() -> None:
    """The next cell works again, and the user has to do nothing."""
    first = local.serve()
    psutil.Process(first.pid).kill()
    assert _until(lambda: local.serve() != first)
    second = local.serve()
    assert second.pid != first.pid
    assert second.api_key != first.api_key
    assert _post(second, "hi")[0]["type"] == "message"


def test_a_long_log_starts_again() -> None:
    """A kernel that runs for weeks does not fill the disk."""
    server = local.serve()
    with server.log.open("ab") as log:
        log.write(b"x" * (local_process.MAX_LOG_BYTES + 1))
    assert _until(lambda: server.log.stat().st_size < local_process.MAX_LOG_BYTES)
    _post(server, "hi")
    assert b"slot" in server.log.read_bytes()


# ── it does not start ────────────────────────────────────────────────────────────────────────────


def test_the_error_of_a_broken_model_quotes_the_log_of_the_server(tmp_path: Path) -> None:
    """The log has the reason. The hint shows it, and no process is left."""
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(local.find_weights().read_bytes()[:1_000_000])
    with pytest.raises(ConnectionFailed) as caught:
        local.serve(broken)
    assert "The local model broken does not start" in caught.value.message
    assert "The last lines of its log:" in caught.value.hint
    assert " E " in caught.value.hint
    assert "The whole log: " in caught.value.hint
    assert psutil.Process().children() == []


def test_a_server_that_is_not_ready_in_time_is_ended() -> None:
    """No process is left, and the next try is a new one."""
    with pytest.raises(ConnectionFailed, match=r"not ready after 0\.01 s"):
        local.serve(timeout=0.01)
    assert psutil.Process().children() == []
    assert local.serve().pid


@posix_only
def test_an_interrupt_while_it_starts_leaves_nothing_behind() -> None:
    """■ in the first seconds: KeyboardInterrupt, no process, and the next cell starts a new server."""

    def interrupt(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(KeyboardInterrupt):
            local.serve()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert psutil.Process().children() == []
    assert local.serve().pid


# ── it ends with its parent, and only then ───────────────────────────────────────────────────────


@contextlib.contextmanager
def _parent(code: str) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A Python process that runs ``code``, and the numbers in its first line: the server's pid first."""
    script = f"import os, signal, subprocess, sys, time\nfrom nbchat.transports import local\n{code}"
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    numbers: list[int] = []
    try:
        numbers = [int(word) for word in process.stdout.readline().split()]
        yield process, numbers
    finally:
        for pid in [*numbers, process.pid]:  # a fork holds standard output open: it goes first
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(pid).kill()
        process.communicate()


def test_it_ends_when_its_parent_exits() -> None:
    """At a normal exit."""
    with _parent("print(local.serve().pid, flush=True); sys.stdin.readline()") as (process, [pid]):
        assert not _gone(pid)
        process.communicate("go\n", timeout=TIMEOUT_S)
        assert process.returncode == 0
        assert _until(lambda: _gone(pid))


@posix_only
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_when_its_parent_is_killed(number: signal.Signals) -> None:
    """kill -9, and a plain kill, after which Python runs no code either."""
    with _parent("print(local.serve().pid, flush=True); time.sleep(600)") as (process, [pid]):
        os.kill(process.pid, number)
        process.wait(TIMEOUT_S)
        assert _until(lambda: _gone(pid))


@posix_only
def test_it_ends_when_its_parent_is_killed_in_mid_answer() -> None:
    """A running generation does not keep the server alive."""
    code = """
import json, urllib.request
server = local.serve()
body = {"model": "m", "max_tokens": 3000, "stream": True, "messages": [{"role": "user", "content": "A long story."}]}
request = urllib.request.Request(server.base_url + "/v1/messages", json.dumps(body).encode(),
    {"Authorization": "Bearer " + server.api_key, "Content-Type": "application/json"})
answer = urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request)
answer.readline()
print(server.pid, flush=True)
time.sleep(600)
"""
    with _parent(code) as (process, [pid]):
        os.kill(process.pid, signal.SIGKILL)
        process.wait(TIMEOUT_S)
        assert _until(lambda: _gone(pid))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the signal of a closed pipe is Linux's")
def test_it_ends_when_its_parent_is_killed_while_a_large_model_loads(tmp_path: Path) -> None:
    """Loading keeps the GIL, for minutes with a large file: no Python runs, and the child ends all the same.

    A loader that takes as long and keeps the GIL the same way stands in for the large file.
    """
    (tmp_path / "xllamacpp.py").write_text("""
import ctypes, types
class CommonParams:
    def __init__(self): self.model = types.SimpleNamespace()
class Server:
    def __init__(self, params):
        print("loading", flush=True)
        ctypes.PyDLL(None).sleep(600)
""")
    code = f"""
sys.path.insert(0, {str(tmp_path)!r})
import psutil, threading
threading.Thread(target=local.serve, kwargs={{"timeout": 600}}, daemon=True).start()
while not psutil.Process().children():
    time.sleep(0.01)
log = None
while not log or "loading" not in log.read_text():
    time.sleep(0.01)
    import platformdirs
    log = next(platformdirs.user_log_path("nbchat", appauthor=False).glob("local-*.log"), None)
print(psutil.Process().children()[0].pid, flush=True)
time.sleep(600)
"""
    with _parent(code) as (process, [pid]):
        assert not _gone(pid)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(TIMEOUT_S)
        assert _until(lambda: _gone(pid))


@posix_only
@pytest.mark.parametrize(
    "fork",
    [
        pytest.param("other = os.fork()\nif other == 0: time.sleep(600)", id="os.fork"),
        pytest.param(
            "import multiprocessing\n"
            "worker = multiprocessing.get_context('fork').Process(target=time.sleep, args=[600])\n"
            "worker.start(); other = worker.pid",
            id="multiprocessing",
        ),
        pytest.param(
            "[(_, child)] = local._running.values(); os.set_inheritable(child.stdin.fileno(), True)\n"
            "other = subprocess.Popen(['sleep', '600'], close_fds=False, stdout=subprocess.DEVNULL).pid",
            id="a process that inherits every file",
        ),
    ],
)
def test_it_ends_although_another_child_of_its_parent_lives_on(fork: str) -> None:
    """A fork holds copies of the parent's pipes. The server ends anyway, and the fork continues."""
    code = f"pid = local.serve().pid\n{fork}\nprint(pid, other, flush=True)\ntime.sleep(600)"
    with _parent(code) as (process, [pid, other]):
        os.kill(process.pid, signal.SIGKILL)
        process.wait(TIMEOUT_S)
        assert _until(lambda: _gone(pid))
        assert not _gone(other)


@posix_only
def test_a_fork_starts_its_own_server_and_leaves_its_parents_alone() -> None:
    """A fork that asks, stops and exits takes nothing from its parent."""
    code = """
server = local.serve()
read, write = os.pipe()
if os.fork() == 0:
    own = local.serve()
    os.write(write, f"{own.pid} {os.getppid()}".encode())
    local.stop()
    sys.exit()  # through atexit, as a careless fork does
os.close(write)
own, parent = os.read(read, 100).split()
os.wait()
assert int(parent) == os.getpid()
assert local.serve() == server
print(server.pid, int(own), flush=True)
sys.stdin.readline()
"""
    with _parent(code) as (_, [pid, own]):
        assert own != pid
        assert _until(lambda: _gone(own))
        assert not _gone(pid)


@posix_only
def test_ctrl_c_in_a_terminal_does_not_reach_it() -> None:
    """SIGINT goes to the whole process group of the kernel: to the kernel, not to the server."""
    code = """
try:
    print(local.serve().pid, flush=True)
    time.sleep(600)
except KeyboardInterrupt:
    print("interrupted", flush=True)
sys.stdin.readline()
"""
    with _parent(code) as (process, [pid]):
        assert process.stdout is not None
        assert os.getsid(pid) == pid
        time.sleep(0.2)
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        psutil.Process(pid).send_signal(signal.SIGINT)  # nor if one is aimed at it
        time.sleep(2 * local_process.WATCH_INTERVAL_S)
        assert not _gone(pid)


def test_in_a_kernel_it_survives_an_interrupt_and_ends_with_kill_9(tmp_path: Path) -> None:
    """The whole life in a real ipykernel: started by a cell, interrupted, used again, killed."""
    with kernel_of(tmp_path) as kernel:
        pid = int(kernel.run("from nbchat.transports import local; print(local.serve().pid)").stdout)
        threading.Timer(1.0, kernel.interrupt).start()
        assert kernel.run("import time; time.sleep(600)", fails=True).reply["ename"] == "KeyboardInterrupt"
        assert int(kernel.run("print(local.serve().pid)").stdout) == pid
        assert not _gone(pid)
    assert _until(lambda: _gone(pid))
