"""A kernel, a server and a person at ■: they agree on the stage of a turn, so no test guesses a time.

A *mark* is the name of a stage that was reached. Marks come from code in the kernel (over a socket), from
the server, from what a front end sees, and from the system's table of connections. The person waits for
the mark of a stage, and presses ■ then.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.kernel.harness import Cell, Kernel
from tests.support.server import Received, Wire, message, start, text_delta, text_events

__all__ = ["Marks", "Pressed", "Service", "black_hole", "press", "run_and_press"]

WAIT_S = 60.0  # for a mark, on a busy machine
HOLD_S = 60.0  # how long the server holds an answer if nobody closes the connection
READ_S = 0.1  # in which the kernel reads a cell that was sent

LONG_PART = "## Part\n\nSome **bold** words, `code` and a [link](https://example.com).\n\n"
#: 60 kB.
LONG_TEXT = LONG_PART * 800


class Marks:
    """The marks that were reached. Code in the kernel connects to ``port`` to set one.

    With ``reach`` the kernel waits until :meth:`release` lets it go on. With ``tell`` it does not wait.
    """

    def __init__(self) -> None:
        self._reached: queue.Queue[str] = queue.Queue()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._held: list[socket.socket] = []
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            mark, _, manner = connection.makefile("r").readline().strip().partition(" ")
            if manner == "reach":
                self._held.append(connection)
            else:
                connection.close()
            self.reach(mark)

    def reach(self, mark: str) -> None:
        """Set a mark."""
        self._reached.put(mark)

    def wait(self, mark: str) -> None:
        """Wait for a mark. Other marks are dropped."""
        end = time.monotonic() + WAIT_S
        while True:
            remaining = end - time.monotonic()
            assert remaining > 0, f"the stage {mark} was not reached"
            with contextlib.suppress(queue.Empty):
                if self._reached.get(timeout=remaining) == mark:
                    return

    def release(self) -> None:
        """Let the kernel go on where it waits."""
        while self._held:
            with contextlib.suppress(OSError), self._held.pop() as connection:
                connection.sendall(b"g")

    def clear(self) -> None:
        """Forget all marks."""
        self.release()
        with contextlib.suppress(queue.Empty):
            while True:
                self._reached.get_nowait()

    def close(self) -> None:
        """End the listener."""
        self.release()
        self._listener.close()


def last_words(request: Received) -> str:
    """Return the last line of the last message, or "" if it has the results of calls."""
    content = request.body["messages"][-1]["content"]
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    texts = [block["text"] for block in blocks if block["type"] == "text"]
    return texts[-1].rpartition("\n")[2] if texts else ""


def call_events(calls: Sequence[tuple[str, dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """Yield the events of an answer with a text and these calls."""
    yield start()
    yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    yield text_delta("Let me look.")
    yield {"type": "content_block_stop", "index": 0}
    for index, (name, arguments) in enumerate(calls, 1):
        block = {"type": "tool_use", "id": f"toolu_{time.monotonic_ns()}_{index}", "name": name, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(arguments)}
        yield {"type": "content_block_start", "index": index, "content_block": block}
        yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    yield {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}}
    yield {"type": "message_stop"}


class Service:
    """The server's side: the prompt names the stage where the server stops and holds."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        #: The number of answers that the server holds at this moment.
        self.held = 0
        #: The bodies of the requests for an answer.
        self.bodies: list[dict[str, Any]] = []

    def __call__(self, wire: Wire, request: Received) -> None:
        if request.path.startswith("/v1/files"):
            self._hold(wire, "upload")
        if not request.path.endswith("/messages"):
            wire.json("404 No", {"type": "error", "error": {"type": "not_found_error", "message": "not here"}})
            return
        if "messages" not in request.body:
            return  # the client was stopped in the middle of its request
        self.bodies.append(request.body)
        stage, _, rest = last_words(request).partition(" ")
        if stage in ("headers", "unstreamed"):
            self._hold(wire, stage)
        elif stage == "countdown":
            error = {"type": "rate_limit_error", "message": "slow down"}
            wire.json("429 Slow", {"type": "error", "error": error}, retry_after="30")
        elif stage in ("first-event", "mid-block", "ping"):
            wire.head()
            wire.event(start())
            if stage != "first-event":
                wire.event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
                wire.event(text_delta("Once upon a time there "))
            if stage == "ping":
                wire.event({"type": "ping"})
            self._hold(wire, f"server-{stage}")
        elif stage == "flow":
            wire.head()
            for event in text_events(["word "] * 100_000):
                wire.event(event)
        elif stage == "call":
            self._send(wire, call_events([*json.loads(rest), ("second", {})]))
        elif stage in ("", "mixed"):  # the results of calls, or a turn with everything
            asked = stage == "mixed"
            self._send(wire, call_events([("quick", {}), ("second", {})]) if asked else text_events(["All ", "done."]))
        elif stage == "long":
            text = LONG_TEXT[: int(rest) * len(LONG_PART)] if rest else LONG_TEXT
            self._send(wire, text_events([text[at : at + 2000] for at in range(0, len(text), 2000)]))
        elif not request.body.get("stream"):
            wire.json("200 OK", message([{"type": "text", "text": f"You said {stage}"}]))
        else:
            self._send(wire, text_events(["You said ", stage]))

    def _hold(self, wire: Wire, mark: str) -> None:
        self.held += 1
        self._marks.reach(mark)
        wire.gone(HOLD_S)
        self.held -= 1
        raise ConnectionError

    def _send(self, wire: Wire, events: Iterator[dict[str, Any]]) -> None:
        wire.head()
        for event in events:
            wire.event(event)
        wire.end()


@contextlib.contextmanager
def black_hole() -> Iterator[int]:
    """Give a port of loopback that answers nothing: no connection to it is ever made or refused."""
    # Linux drops further requests for a connection when the queue of a listener is full.
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(("127.0.0.1", port))
        yield port


def connecting(port: int, process: int) -> bool:
    """Return True while the process tries to connect to a port of loopback (state SYN_SENT)."""
    sockets = set()
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(OSError):
            target = os.readlink(descriptor)
            if target.startswith("socket:"):
                sockets.add(target[8:-1])
    for line in Path(f"/proc/{process}/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if words[2].endswith(f":{port:04X}") and words[3] == "02" and words[9] in sockets:
            return True
    return False


def press(kernel: Kernel) -> None:
    """Press ■: send SIGINT to the kernel, as a front end does."""
    os.kill(kernel.pid, signal.SIGINT)


@dataclass(frozen=True)
class Pressed:
    """What came of a cell in which somebody pressed ■.

    Args:
        cell: The cell.
        behind: The cell behind it.
        times: The monotonic time of each press, in seconds.
    """

    cell: Cell
    behind: Cell
    times: list[float]


def run_and_press(
    kernel: Kernel,
    marks: Marks,
    code: str,
    mark: str,
    *,
    gaps: Sequence[float] = (),
    again_at: str = "",
    held: bool = False,
    seen: str = "",
    ready: Callable[[], bool] | None = None,
    asks: bool = False,
) -> Pressed:
    """Run a cell, press ■ when it reaches a mark, and again after each of the gaps in seconds.

    A second cell waits behind the first one, as in Run All.

    Args:
        kernel: the kernel.
        marks: the marks.
        code: the source of the cell.
        mark: the mark of the stage.
        gaps: the seconds between a press and the next one.
        again_at: a mark at which ■ is pressed once more, while the kernel waits there.
        held: the stage does not let an interrupt pass, so the kernel is let go after the first press. If the
            second press follows within 50 ms, it comes before that.
        seen: a text in a message of the kernel that sets the mark: the user sees it.
        ready: a function that sets the mark when it returns True.
        asks: a question of ``input()`` sets the mark.
    """
    marks.clear()
    parent = kernel.start(code, "a-cell", answers=[] if asks else None)
    behind = kernel.start("BEHIND.append(1)", "b-cell")
    pressed: list[float] = []

    def press_now() -> None:
        press(kernel)
        pressed.append(time.monotonic())

    def person() -> None:
        marks.wait(mark)
        # The kernel aborts the cells that it has read. A cell behind that arrives later would run.
        time.sleep(READ_S)
        press_now()
        released = not held
        for gap in gaps:
            if not released and gap > 0.05:
                marks.release()
                released = True
            time.sleep(gap)
            press_now()
        if again_at:
            marks.wait(again_at)
            press_now()
        marks.release()

    def wait_until_ready() -> None:
        assert ready is not None
        while not ready():
            time.sleep(0.005)
        marks.reach(mark)

    def watch(message: dict[str, Any]) -> None:
        if asks and message["msg_type"] == "input_request":
            message["msg_type"] = "input_request of a person who presses"  # nobody answers
            marks.reach(mark)
        elif (
            message["msg_type"] != "execute_input" and not pressed and seen and seen in json.dumps(message, default=str)
        ):
            marks.reach(mark)

    threads = [threading.Thread(target=person, daemon=True)]
    if ready is not None:
        threads.append(threading.Thread(target=wait_until_ready, daemon=True))
    for thread in threads:
        thread.start()
    cell = kernel.finish(parent, watch, must_reply=False)
    threads[0].join(WAIT_S)
    assert len(pressed) == 1 + len(gaps) + bool(again_at), f"the cell ended before the stage {mark}: {cell.reply}"
    return Pressed(cell, kernel.finish(behind, must_reply=False), pressed)
