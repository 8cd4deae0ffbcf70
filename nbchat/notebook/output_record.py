"""The outputs of code that a tool runs, recorded for the model while the user sees them."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from nbchat.content.bundles import image_of_bundle, text_of_bundle
from nbchat.content.cutting import LongOutput
from nbchat.content.images import image_or_reason
from nbchat.notebook.interception import is_aside, replaced, streams
from nbchat.notebook.old_ipython import ends_with_semicolon, prompt_writers
from nbchat.tools.toolbox import Content

__all__ = ["OutputRecord", "record_outputs"]

#: The most images of one result.
MAX_IMAGES = 10


class OutputRecord:
    """The outputs of one call in their order: texts and mimebundles.

    ``limit`` is about the most characters of text in :meth:`content`. ``exits`` counts calls of ``exit()``.
    """

    def __init__(self, limit: int) -> None:
        self.exits = 0
        self._limit = limit
        self._parts: list[LongOutput | dict[str, Any]] = []
        self._places: dict[str, int] = {}  # of displays that may be updated, by display id
        # The live view draws in another thread meanwhile. Only this thread's outputs are paused.
        self._thread = threading.local()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Record nothing in this thread, while the shell writes an output that is recorded in a better form."""
        before, self._thread.is_paused = self._is_paused, True
        try:
            yield
        finally:
            self._thread.is_paused = before

    @property
    def _is_paused(self) -> bool:
        return getattr(self._thread, "is_paused", False)

    def write(self, text: str) -> None:
        """Record text of stdout or stderr."""
        # A stream raises for bytes itself.
        if self._is_paused or not isinstance(text, str):
            return
        last = self._parts[-1] if self._parts else None
        if not isinstance(last, LongOutput):
            last = LongOutput(self._limit)
            self._parts.append(last)
        last.write(text)

    def show(self, bundle: Mapping[str, Any], display_id: str | None = None, update: bool = False) -> None:
        """Record a display, or the new state of one."""
        if update and display_id in self._places:
            self._parts[self._places[display_id]] = dict(bundle)
        elif not update:
            if display_id:
                self._places[display_id] = len(self._parts)
            self._parts.append(dict(bundle))

    def clear(self) -> None:
        """Forget all outputs, after ``clear_output``. The model gets only what the user still sees."""
        self._parts.clear()
        self._places.clear()

    def content(self) -> Content:
        """Return the outputs as content blocks."""
        parts = [part for part in map(self._text_or_image, self._parts) if part]
        texts = sum(isinstance(part, LongOutput) for part in parts)
        blocks: list[dict[str, Any]] = []
        images = 0
        for part in parts:
            if isinstance(part, LongOutput):
                block = {"type": "text", "text": part.shortened(self._limit // texts).strip("\n")}
            elif images < MAX_IMAGES:
                block, images = part, images + 1
            else:
                block = {"type": "text", "text": "[a further image, not sent]"}
            if block["type"] == "text" and not block["text"]:
                continue  # such as the empty text beside nbchat's own live view
            if block["type"] == "text" and blocks and blocks[-1]["type"] == "text":
                blocks[-1] = {"type": "text", "text": f"{blocks[-1]['text']}\n{block['text']}"}
            else:
                blocks.append(block)
        return tuple(blocks) or ({"type": "text", "text": "(it ran; there is no output)"},)

    def _text_or_image(self, part: LongOutput | dict[str, Any]) -> LongOutput | dict[str, Any] | None:
        """Return a part as text or as an image block, or None if it shows neither."""
        if isinstance(part, LongOutput):
            return part
        # The model cannot read a widget. One of them is nbchat's own live view, which may draw meanwhile.
        if all(mime.startswith("application/") for mime in part):
            return None
        text = text_of_bundle(part)
        data = image_of_bundle(part)
        if data is not None:
            (block,) = image_or_reason(data, "the image").content
            if block["type"] == "image":
                return block
            text = f"{block['text']}\n{text}".rstrip("\n")
        if not text:
            return None
        output = LongOutput(self._limit)
        output.write(text + "\n")
        return output


@contextlib.contextmanager
def record_outputs(shell: Any, code: str, limit: int) -> Iterator[OutputRecord]:
    """Record all outputs of a shell inside, while the user sees them as usual.

    Args:
        shell: The IPython shell.
        code: The code that runs inside, as IPython transformed it.
        limit: About the most characters of text to keep.
    """
    record = OutputRecord(limit)
    publisher, hook = shell.display_pub, shell.displayhook
    # run_cell puts its own result into the hook, and then None. The result of the outer cell would be lost.
    outer_result = hook.exec_result
    with contextlib.ExitStack() as stack:
        for stream in streams():
            stack.enter_context(replaced(stream, "write", _recording_write(stream.write, record, hook)))
        stack.enter_context(replaced(publisher, "publish", _recording_publish(publisher.publish, record)))
        stack.enter_context(replaced(publisher, "clear_output", _recording_clear(publisher.clear_output, record)))
        write_format_data = _recording_value(hook.write_format_data, record)
        stack.enter_context(replaced(hook, "write_format_data", write_format_data))
        for name in prompt_writers(hook):
            stack.enter_context(replaced(hook, name, _pausing(getattr(hook, name), record)))
        # IPython looks for a ";" at the end of the outer cell. The one at the end of this code counts.
        stack.enter_context(replaced(hook, "quiet", lambda: ends_with_semicolon(hook, code)))
        stack.enter_context(replaced(shell, "_showtraceback", _print_traceback))
        stack.enter_context(replaced(shell, "ask_exit", _counting_exit(record)))
        try:
            yield record
        finally:
            hook.exec_result = outer_result


def _recording_write(write: Callable[..., Any], record: OutputRecord, hook: Any) -> Callable[..., Any]:
    def write_and_record(text: Any, *args: Any, **kwargs: Any) -> Any:
        # The hook of a terminal writes Out[1]: and the value. These are recorded as a mimebundle.
        if not getattr(hook, "is_active", False):
            record.write(text)
        return write(text, *args, **kwargs)

    return write_and_record


def _pausing(write: Callable[..., Any], record: OutputRecord) -> Callable[..., Any]:
    def write_unrecorded(*args: Any, **kwargs: Any) -> Any:
        with record.paused():
            return write(*args, **kwargs)

    return write_unrecorded


def _recording_publish(publish: Callable[..., Any], record: OutputRecord) -> Callable[..., Any]:
    def publish_and_record(data: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        if not is_aside():
            display_id = (kwargs.get("transient") or {}).get("display_id")
            record.show(data, display_id, bool(kwargs.get("update")))
        with record.paused():
            return publish(data, *args, **kwargs)

    return publish_and_record


def _recording_clear(clear_output: Callable[..., Any], record: OutputRecord) -> Callable[..., Any]:
    def clear_and_record(*args: Any, **kwargs: Any) -> Any:
        record.clear()
        with record.paused():
            return clear_output(*args, **kwargs)

    return clear_and_record


def _recording_value(write_format_data: Callable[..., Any], record: OutputRecord) -> Callable[..., Any]:
    def write_and_record(format_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        record.show(format_dict)
        with record.paused():
            return write_format_data(format_dict, *args, **kwargs)

    return write_and_record


def _print_traceback(etype: Any, evalue: Any, stb: Any) -> None:
    """Print a traceback, which a kernel would send as an ``error`` output, though the cell itself did not fail."""
    if isinstance(evalue, KeyboardInterrupt | asyncio.CancelledError):
        return  # an interrupt continues, and the cell shows it
    print(stb if isinstance(stb, str) else "\n".join(stb), file=sys.stderr)


def _counting_exit(record: OutputRecord) -> Callable[..., None]:
    def ask_exit(*args: Any, **kwargs: Any) -> None:
        record.exits += 1

    return ask_exit
