"""A kernel with nbchat loaded, and a front end that keeps all it is sent.

The kernel has an empty home and no key; its endpoint is a server of :mod:`tests.support.server`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client import BlockingKernelClient, KernelManager
from jupyter_client.manager import start_new_kernel

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0  # seconds: a bound for a busy machine, not a measure


def environment(home: Path, **more: str) -> dict[str, str]:
    """The environment of a kernel that does not know that it runs under pytest, with a home of its own."""
    home.mkdir(parents=True, exist_ok=True)
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST_", "ANTHROPIC_", "NBCHAT_", "JPY_"))
    }
    own |= {f"XDG_{kind}_HOME": str(home / kind.lower()) for kind in ("DATA", "STATE", "CACHE", "CONFIG")}
    own |= {"HOME": str(home), "IPYTHONDIR": str(home / "ipython")}
    return own | {"PYTHONPATH": str(ROOT), **more}


@dataclasses.dataclass
class Cell:
    """What one execution brought to a front end."""

    messages: list[tuple[float, dict[str, Any]]]  # of iopub: when, in seconds, and what
    reply: dict[str, Any]
    parent: str

    def of(self, *kinds: str) -> list[dict[str, Any]]:
        """The contents of the messages of these kinds."""
        return [message["content"] for _, message in self.messages if message["msg_type"] in kinds]

    @property
    def stdout(self) -> str:
        return "".join(content["text"] for content in self.of("stream"))

    @property
    def outputs(self) -> list[nbformat.NotebookNode]:
        """The outputs a front end saves, by the rules of the message specification."""
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
                outputs.append(nbformat.v4.output_from_msg(message))
        return outputs

    @property
    def answer(self) -> nbformat.NotebookNode:
        """The one output, which must be an answer: safe HTML and the Markdown, nothing else."""
        (output,) = self.outputs
        assert output.output_type == "display_data", output
        assert sorted(output.data) == ["text/html", "text/plain"]
        return output

    @property
    def error(self) -> list[str]:
        """The lines of the error output."""
        (output,) = [output for output in self.outputs if output.output_type == "error"]
        return "\n".join(output.traceback).split("\n")

    @property
    def help(self) -> str:
        """What the pager would show."""
        return "".join(payload["data"]["text/plain"] for payload in self.reply["payload"])

    @property
    def seconds(self) -> float:
        """From the first message to the last."""
        return self.messages[-1][0] - self.messages[0][0]

    def everything(self) -> str:
        """All that was sent, as text."""
        return json.dumps([message for _, message in self.messages], default=str) + json.dumps(self.reply, default=str)


class Kernel:
    """A kernel, and the cells it ran. ``cell_id`` is what the front end tells of the cell, or None."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.manager, self.client = manager, client
        self.sent: list[str] = []  # all it ever sent, as text

    def start(self, code: str, cell_id: str | None = "a-cell") -> str:
        """Send a cell; gives the id of the message."""
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
        metadata = {"cellId": cell_id} if cell_id else {}
        message = self.client.session.msg("execute_request", content | {"stop_on_error": True}, metadata=metadata)
        self.client.shell_channel.send(message)
        return str(message["header"]["msg_id"])

    def finish(self, parent: str, watch: Callable[[dict[str, Any]], None] = lambda message: None) -> Cell:
        """Read all that a cell sends until it is idle; ``watch`` sees each message."""
        messages: list[tuple[float, dict[str, Any]]] = []
        while True:
            message = self.client.get_iopub_msg(timeout=PATIENCE)
            messages.append((time.monotonic(), message))
            watch(message)
            own = message["parent_header"].get("msg_id") == parent
            if own and message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                break
        cell = Cell(messages, self._reply(parent), parent)
        self.sent.append(cell.everything())
        return cell

    def _reply(self, parent: str) -> dict[str, Any]:
        while True:
            message = self.client.get_shell_msg(timeout=PATIENCE)
            if message["parent_header"].get("msg_id") == parent:
                return dict(message["content"])

    def run(self, code: str, cell_id: str | None = "a-cell", *, fails: bool = False) -> Cell:
        """Run a cell to its end, which is an error if ``fails`` and none if not."""
        cell = self.finish(self.start(code, cell_id))
        assert (cell.reply["status"] == "error") == fails, cell.reply
        return cell

    def value(self, expression: str) -> Any:
        """A value of the user's namespace, by way of JSON."""
        return json.loads(self.run(f"import json; print(json.dumps({expression}))").stdout)

    def interrupt(self) -> float:
        """What the ■ of a front end does; gives when."""
        self.manager.interrupt_kernel()
        return time.monotonic()


@contextlib.contextmanager
def kernel_of(home: Path, **variables: str) -> Iterator[Kernel]:
    """A new kernel in the folder ``home``, with these environment variables."""
    manager, client = start_new_kernel(kernel_name="python3", env=environment(home, **variables), cwd=str(home))
    try:
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
