"""The echo: a file that receives the text of answers as it arrives, for ``tail -f`` in a terminal."""

from __future__ import annotations

from pathlib import Path

from nbchat.core.chunks import OutputText, StreamChunk, stands_apart
from nbchat.core.messages import line_ends_between
from nbchat.core.request import Request
from nbchat.core.response import Response
from nbchat.view.html.safe import neutral

__all__ = ["Echo"]


class Echo:
    """A sink that appends the text of an answer to a file, and a blank line after the answer.

    Args:
        path: the file. ``~`` stands for the home folder.

    Raises:
        OSError: the file cannot be opened for writing.
    """

    def __init__(self, path: str) -> None:
        self._file = Path(path).expanduser().open("a", encoding="utf-8")
        self._last = ""  # the text that was written last
        self._apart = False  # another block came after that text

    def begin(self, request: Request) -> None:
        """Write nothing: the file holds answers only."""

    def feed(self, chunk: StreamChunk) -> None:
        """Append the text of one chunk."""
        self._apart = self._apart or stands_apart(chunk)
        if isinstance(chunk, OutputText) and chunk.text:
            # `tail -f` shows the file on a terminal, where an escape sequence of the model would act. A chunk may
            # end inside an emoji, so only characters that need no look at their neighbors are replaced.
            text = neutral(chunk.text.replace("\r\n", "\n"))
            self._file.write((line_ends_between(self._last, text) if self._apart else "") + text)
            self._last, self._apart = text, False
            self._file.flush()  # a reader of the file sees each chunk as it arrives

    def settle(self, response: Response) -> None:
        """Append a blank line and close the file."""
        with self._file:
            self._file.write("\n\n")
