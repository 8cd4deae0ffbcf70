"""All sinks of a turn as one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nbchat.core.chunks import StreamChunk
from nbchat.core.request import Request, Sink
from nbchat.core.response import Response
from nbchat.core.visible import visible

__all__ = ["Sinks"]


class Sinks:
    """Pass an answer to several sinks. A sink that raises is dropped with one warning."""

    def __init__(self, sinks: Iterable[Sink]) -> None:
        self._sinks = list(sinks)

    def begin(self, request: Request) -> None:
        """Tell every sink that the turn begins."""
        self._each(lambda sink: sink.begin(request))

    def feed(self, chunk: StreamChunk) -> None:
        """Pass one chunk to every sink."""
        # The hot path: a call for each chunk and sink, and nothing else.
        for sink in self._sinks:
            try:
                sink.feed(chunk)
            except Exception as error:
                self._drop(sink, error)

    @property
    def shows_calls(self) -> bool:
        """True if a sink shows the calls of tools and the decisions about them."""
        return any(hasattr(sink, "show_call") for sink in self._sinks)

    def show_call(self, id: str, name: str, arguments: Mapping[str, Any], is_numbered: bool) -> bool:
        """Show a call to the user now, because they are asked about it. Return False if no sink can.

        Args:
            id: the id of the call.
            name: the name of the tool that people read.
            arguments: the arguments with which the call would run.
            is_numbered: write the number of each line of code before the line.
        """
        shown = False
        for sink in list(self._sinks):
            show = getattr(sink, "show_call", None)
            try:
                shown = (show is not None and show(id, name, arguments, is_numbered)) or shown
            except Exception as error:
                self._drop(sink, error)
        return shown

    def settle(self, response: Response) -> None:
        """Pass the Response to every sink, also where one of them is interrupted."""
        stopped: list[KeyboardInterrupt] = []

        def settle(sink: Sink) -> None:
            try:
                sink.settle(response)
            except KeyboardInterrupt as stop:
                # The signal is held back while a turn is settled, but code that a sink calls can
                # raise the exception too. The other sinks have files and widgets to close.
                stopped.append(stop)

        self._each(settle)
        if stopped:
            raise stopped[0]

    def _each(self, call: Callable[[Sink], None]) -> None:
        for sink in list(self._sinks):
            try:
                call(sink)
            except Exception as error:
                self._drop(sink, error)

    def _drop(self, sink: Sink, error: Exception) -> None:
        # A new list, because feed() may be iterating over the old one.
        self._sinks = [other for other in self._sinks if other is not sink]
        warnings.warn_explicit(
            visible(
                f"nbchat: {type(sink).__name__} failed ({type(error).__name__}: {error}) and was dropped. "
                "The answer itself is complete and bound."
            ),
            RuntimeWarning,
            "nbchat",
            1,
        )
