"""Stand for a kernel: Jupyter starts this program, which asks the server for a fork, and ends when the fork ends."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

#: How long the server may need to import the libraries, in seconds.
START_S = 120.0
#: Variables of this kind have their effect when Python starts, so a fork would come too late.
EARLY = ("PYTHON", "LC_", "LANG")
#: These have their effect in a fork as well.
LATE = ("PYTHONPATH", "PYTHONSTARTUP", "PYTHONDONTWRITEBYTECODE")


def early(environment: dict[str, str]) -> dict[str, str]:
    """Return the variables that a fork cannot change."""
    return {name: value for name, value in environment.items() if name.startswith(EARLY) and name not in LATE}


def connected(folder: Path, environment: dict[str, str]) -> socket.socket:
    """Connect to the server. Start it if there is none."""
    connection = socket.socket(socket.AF_UNIX)
    address = str(folder / "socket")
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(address):
            environment = {name: value for name, value in environment.items() if name not in LATE}
            with open(folder / "log", "wb") as log:
                subprocess.Popen(
                    [sys.executable, str(Path(__file__).with_name("server.py")), str(folder)],
                    env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                )  # fmt: skip
            end = time.monotonic() + START_S
            while not os.path.exists(address) and time.monotonic() < end:
                time.sleep(0.02)
    connection.connect(address)
    return connection


def main(folder: Path, arguments: list[str]) -> None:
    """Become a kernel, or stand for one until it ends."""
    environment = dict(os.environ)
    usual = json.loads((folder / "owner.json").read_text())["environment"]
    if environment.pop("FRESH_KERNEL", None) or early(environment) != early(usual):
        os.execve(sys.executable, [sys.executable, "-m", "ipykernel_launcher", *arguments], environment)
    connection = connected(folder, usual)
    request = {"arguments": arguments, "environment": environment, "folder": os.getcwd()}
    socket.send_fds(connection, [b"-"], [0, 1, 2])
    connection.sendall(json.dumps(request).encode() + b"\n")
    answers = connection.makefile("r")
    pid = int(answers.readline())
    # For tests that look at the kernel itself.
    Path(arguments[arguments.index("-f") + 1] + ".pid").write_text(str(pid))

    def pass_on(number: int, _: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, number)  # the kernel leads a group of processes, as Jupyter's kernels do

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    code = int(answers.readline() or -signal.SIGKILL)
    if code < 0:  # end as the kernel did, by a signal
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
