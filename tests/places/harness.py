"""Run a kernel with the Python of a place, and send it what the front end of that place sends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jupyter_client import KernelManager
from jupyter_client.kernelspec import KernelSpec

from tests.kernel.harness import START_TIMEOUT_S, TIMEOUT_S, Kernel, environment
from tests.places.make_environments import Place

__all__ = ["PlaceKernel", "kernel_in"]


class PlaceKernel(Kernel):
    """The kernel of a place. Its cells have the metadata of the place's front end."""

    place: Place

    def start(
        self,
        code: str,
        cell_id: str | None = "a-cell",
        *,
        metadata: dict[str, Any] | None = None,
        answers: Sequence[str] | None = None,
        expressions: dict[str, str] | None = None,
    ) -> str:
        """Send a cell as the front end of the place does: Colab has a key of its own for the id."""
        if metadata is None and cell_id and self.place.name == "colab":
            metadata = {"colab": {"cell_id": cell_id}}
        return super().start(code, cell_id, metadata=metadata, answers=answers, expressions=expressions)

    def completed(self, before: str, after: str = "") -> set[str]:
        """Return the cell after each possible completion at the end of ``before``."""
        code = before + after
        self.client.complete(code, len(before))
        reply = self.client.get_shell_msg(timeout=TIMEOUT_S)["content"]
        assert reply["status"] == "ok", reply
        return {code[: reply["cursor_start"]] + match + code[reply["cursor_end"] :] for match in reply["matches"]}


class _Manager(KernelManager):
    """Starts a kernel with the Python of a place, which no kernel specification on this machine names."""

    python: Path

    @property
    def kernel_spec(self) -> KernelSpec:  # type: ignore[override]
        argv = [str(self.python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="place", language="python")


@contextlib.contextmanager
def kernel_in(place: Place, home: Path, **variables: str) -> Iterator[PlaceKernel]:
    """Start a kernel with the Python of a place, in the folder ``home``, and end it."""
    manager = _Manager()
    manager.python = place.python
    manager.start_kernel(env=environment(home, **variables), cwd=str(home))
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=START_TIMEOUT_S)
        kernel = PlaceKernel(manager, client)
        kernel.place = place
        yield kernel
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
