"""The echo: the text of answers into a file as it arrives, for whoever follows that file."""

from __future__ import annotations

from pathlib import Path

from nbchat.core.chunks import OutputText, StreamChunk
from nbchat.core.request import Request
from nbchat.core.response import Response

__all__ = ["Echo"]


class Echo:
    """A sink that appends the text of an answer to ``path`` as it arrives, and a blank line at its end."""

    def __init__(self, path: str) -> None:
        self._file = Path(path).expanduser().open("a", encoding="utf-8")

    def begin(self, request: Request) -> None:
        """Write nothing yet."""

    def feed(self, chunk: StreamChunk) -> None:
        if isinstance(chunk, OutputText):
            self._file.write(chunk.text)
            self._file.flush()

    def settle(self, response: Response) -> None:
        with self._file:
            self._file.write("\n\n")
