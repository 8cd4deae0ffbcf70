"""Run cells in a real ipykernel and collect every message that a front end receives.

The kernel has an empty home folder and no API key. Most tests point its endpoint at a server of
:mod:`tests.support.server`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import queue
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import nbformat
import zmq
from jupyter_client import BlockingKernelClient, KernelManager

ROOT = Path(__file__).parents[2]
#: The modules of the tests, and one that makes the import of jsonschema quick.
PYTHONPATH = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support" / "without_grammar")])
TIMEOUT_S = 60.0  # long, because the machine may be busy: no test measures this time
START_TIMEOUT_S = 120.0
LOST_S = 5.0  # the kernel sends a reply before it is idle


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return an environment for a kernel whose home folder is ``home``.

    The variables of pytest are removed, because nbchat has no live view under pytest.
    """
    home.mkdir(parents=True, exist_ok=True)
    variables = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST_", "ANTHROPIC_", "NBCHAT_", "JPY_"))
    }
    variables |= {f"XDG_{kind}_HOME": str(home / kind.lower()) for kind in ("DATA", "STATE", "CACHE", "CONFIG")}
    variables |= {"HOME": str(home), "IPYTHONDIR": str(home / "ipython")}
    return variables | {"PYTHONPATH": PYTHONPATH, **more}


@dataclasses.dataclass
class Cell:
    """The messages of one execution, as a front end received them."""

    #: The time in seconds, and the message: of iopub, and the questions of ``input()`` where they were asked.
    messages: list[tuple[float, dict[str, Any]]]
    reply: dict[str, Any]
    parent: str

    def of(self, *kinds: str) -> list[dict[str, Any]]:
        """Return the contents of the messages of these kinds."""
        return [message["content"] for _, message in self.messages if message["msg_type"] in kinds]

    @property
    def kinds(self) -> list[str]:
        """Return the kinds of the messages in order, without those that every execution sends.

        ipykernel may send the text of one ``print`` in two messages, so messages of one stream in a row count once.
        """
        kinds: list[str] = []
        last = None
        for _, message in self.messages:
            kind = message["msg_type"]
            if kind in ("status", "execute_input"):
                continue
            stream = message["content"]["name"] if kind == "stream" else None
            if stream is None or stream != last:
                kinds.append(kind)
            last = stream
        return kinds

    def size(self, *kinds: str) -> int:
        """Return how many characters the contents of these kinds have as JSON."""
        return sum(len(json.dumps(content)) for content in self.of(*kinds))

    def stream(self, *names: str) -> str:
        """Return the text that was written to these streams."""
        return "".join(content["text"] for content in self.of("stream") if content["name"] in names)

    @property
    def stdout(self) -> str:
        """Return the text that was printed, to stdout or to stderr."""
        return self.stream("stdout", "stderr")

    @property
    def questions(self) -> list[str]:
        """Return the prompts of ``input()``, in the order in which they were asked."""
        return [content["prompt"] for content in self.of("input_request")]

    @property
    def outputs(self) -> list[nbformat.NotebookNode]:
        """Return the outputs that a front end saves, by the rules of the message specification."""
        outputs: list[nbformat.NotebookNode] = []
        places: dict[str, int] = {}
        for _, message in self.messages:
            if message["parent_header"].get("msg_id") != self.parent:
                continue  # a thread of another cell
            kind, content = message["msg_type"], message["content"]
            display_id = content.get("transient", {}).get("display_id")
            if kind == "update_display_data":
                outputs[places[display_id]].update(data=content["data"], metadata=content["metadata"])
            elif kind in ("display_data", "stream", "error", "execute_result"):
                if display_id:
                    places[display_id] = len(outputs)
                output = nbformat.v4.output_from_msg(message)
                if kind == "stream" and outputs and outputs[-1].get("name") == output.name:
                    outputs[-1].text += output.text  # as front ends do: one print may come in two messages
                else:
                    outputs.append(output)
        return outputs

    @property
    def answer(self) -> nbformat.NotebookNode:
        """Return the only output, which must be an answer: safe HTML, LaTeX and Markdown, nothing else."""
        (output,) = self.outputs
        assert output.output_type == "display_data", output
        assert sorted(output.data) == ["text/html", "text/latex", "text/plain"]
        return output

    @property
    def error(self) -> list[str]:
        """Return the lines of the error output."""
        (output,) = [output for output in self.outputs if output.output_type == "error"]
        return "\n".join(output.traceback).split("\n")

    @property
    def help(self) -> str:
        """Return the text that the pager would show."""
        return "".join(payload["data"]["text/plain"] for payload in self.reply["payload"])

    @property
    def seconds(self) -> float:
        """Return the time from the first message to the last, as the kernel sent them.

        On a busy machine, messages wait to be read and are read together.
        """
        first, last = (self.messages[place][1]["header"]["date"] for place in (0, -1))
        return float((last - first).total_seconds())

    def everything(self) -> str:
        """Return all that was sent, as text."""
        return json.dumps([message for _, message in self.messages], default=str) + json.dumps(self.reply, default=str)


class Kernel:
    """A kernel and the front end that runs cells in it, one after the other."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.manager, self.client = manager, client
        self.sent: list[str] = []  # everything the kernel ever sent, as text
        self._answers: dict[str, list[str]] = {}  # what a person types into each running cell
        self._replies: dict[str, dict[str, Any]] = {}  # those that nobody asked for yet

    @property
    def pid(self) -> int:
        """Return the process id of the kernel."""
        own = Path(self.manager.connection_file + ".pid")  # a quick kernel is not the process that Jupyter started
        return int(own.read_text()) if own.exists() else self.manager.provisioner.pid  # type: ignore[union-attr, no-any-return]

    def start(
        self,
        code: str,
        cell_id: str | None = "a-cell",
        *,
        metadata: dict[str, Any] | None = None,
        answers: Sequence[str] | None = None,
        expressions: dict[str, str] | None = None,
    ) -> str:
        """Send a cell, and return the id of the request.

        Args:
            code: The source of the cell.
            cell_id: The id that JupyterLab would send in the metadata. None as nbclient, which sends none.
            metadata: The metadata of the request, instead of the one with ``cell_id``.
            answers: What a person types at each ``input()``. None if nobody is at the keyboard.
            expressions: Expressions that the kernel evaluates after the cell; the reply has the values.
        """
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": expressions or {},
            "allow_stdin": answers is not None,
            "stop_on_error": True,
        }
        if metadata is None:
            metadata = {"cellId": cell_id} if cell_id else {}
        message = self.client.session.msg("execute_request", content, metadata=metadata)
        parent = str(message["header"]["msg_id"])
        if answers is not None:
            self._answers[parent] = list(answers)
        self.client.shell_channel.send(message)
        return parent

    def finish(
        self, parent: str, watch: Callable[[dict[str, Any]], object] = lambda message: None, *, must_reply: bool = True
    ) -> Cell:
        """Read all that a cell sends until the cell is idle, and call ``watch`` with each message.

        Without ``must_reply`` a reply that the kernel lost is empty.
        """
        answers = self._answers.pop(parent, [])
        messages: list[tuple[float, dict[str, Any]]] = []
        while True:
            message = self._next_message()
            messages.append((time.monotonic(), message))
            watch(message)
            own = message["parent_header"].get("msg_id") == parent
            if message["msg_type"] == "input_request":
                assert answers, f"nobody expected the question {message['content']['prompt']!r}"
                self.client.input(answers.pop(0))
            elif own and message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                break
        assert answers == [], "the cell asked fewer questions"
        try:
            reply = self._reply(parent, TIMEOUT_S if must_reply else LOST_S)
        except queue.Empty:
            if must_reply:
                raise
            reply = {}
        cell = Cell(messages, reply, parent)
        self.sent.append(cell.everything())
        return cell

    def _next_message(self) -> dict[str, Any]:
        """Return the next message of iopub or stdin."""
        channels = (self.client.stdin_channel, self.client.iopub_channel)
        poller = zmq.Poller()
        for channel in channels:
            poller.register(channel.socket, zmq.POLLIN)
        ready = dict(poller.poll(TIMEOUT_S * 1000))
        for channel in channels:
            if channel.socket in ready:
                message: dict[str, Any] = channel.get_msg(timeout=TIMEOUT_S)
                return message
        raise TimeoutError(f"the kernel sent nothing for {TIMEOUT_S:.0f} s")

    def _reply(self, parent: str, timeout: float) -> dict[str, Any]:
        while parent not in self._replies:
            message = self.client.get_shell_msg(timeout=timeout)
            self._replies[str(message["parent_header"].get("msg_id"))] = dict(message["content"])
        return self._replies.pop(parent)

    def run(
        self,
        code: str,
        cell_id: str | None = "a-cell",
        *,
        fails: bool = False,
        answers: Sequence[str] | None = None,
    ) -> Cell:
        """Run a cell to its end, and check that the cell failed if and only if ``fails`` is true.

        A kernel aborts the cells that arrive right after an error, so such a cell is sent again.
        """
        cell = self.finish(self.start(code, cell_id, answers=answers))
        while cell.reply["status"] == "aborted":
            cell = self.finish(self.start(code, cell_id, answers=answers))
        assert (cell.reply["status"] == "error") == fails, cell.reply
        return cell

    def value(self, expression: str) -> Any:
        """Return the value of an expression in the user's namespace, converted to JSON and back."""
        return json.loads(self.run(f"import json; print(json.dumps({expression}))").stdout)

    def interrupt(self) -> float:
        """Interrupt the kernel as the ■ button of a front end does, and return the time in seconds."""
        self.manager.interrupt_kernel()
        return time.monotonic()


def table_of(cell: Cell) -> list[list[str]]:
    """Return the rows of the last output of a cell, a table, as the texts of their cells. The head is the first row."""
    lines = cell.outputs[-1].data["text/plain"].splitlines()
    rule = next(place for place, line in enumerate(lines) if line.startswith("──"))
    rows = [re.split(r"  +", line.strip()) for line in [lines[rule - 1], *lines[rule + 1 :]]]
    return [row for row in rows if len(row) == len(rows[0])]


@contextlib.contextmanager
def kernel_of(home: Path, **variables: str) -> Iterator[Kernel]:
    """Start a kernel in the folder ``home`` with these environment variables, and end it."""
    with tempfile.TemporaryDirectory(prefix="kernel-") as folder:
        manager = KernelManager(kernel_name="python3", connection_file=f"{folder}/kernel.json")
        # Not TCP: another process could take a port that was chosen before the kernel can listen there.
        manager.transport = "ipc"
        manager.start_kernel(env=environment(home, **variables), cwd=str(home))
        client = manager.blocking_client()
        try:
            client.start_channels()
            client.wait_for_ready(timeout=START_TIMEOUT_S)
            yield Kernel(manager, client)
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
