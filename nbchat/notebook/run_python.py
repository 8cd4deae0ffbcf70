"""The ``run_python`` tool: code in the user's own namespace, through the shell's own ``run_cell``.

``run_cell`` rather than ``exec``, so that magics, ``!commands``, top-level ``await``, the display
of the last value and the figures of the inline backend are what they are in a cell. Everything is
shown to the user as it comes, and recorded on the way for the model. A traceback is printed, not
sent as an ``error`` output: the cell itself did not fail, and papermill would say so.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from nbchat.core.errors import OptionError, redact
from nbchat.notebook.interception import is_aside, replaced, streams
from nbchat.tools.coroutine import run_coroutine
from nbchat.tools.toolbox import Content, Outcome, cut, failure, said

__all__ = ["RunPython", "show_traceback"]

_DESCRIPTION = """\
Run Python code in the user's live IPython session, the notebook they look at. Variables, imports \
and files are the user's own and stay afterwards. The value of the last expression, printed text, \
tracebacks and matplotlib figures come back, and the user sees them too. %magics, !shell commands \
and top-level await work. Look at data before you rely on it, and print only what you need."""

#: Characters of text, and images, that one call sends back.
TEXT_LIMIT, IMAGE_LIMIT = 20_000, 10
#: https://platform.claude.com/docs/en/build-with-claude/vision: an image may have 5 MB, as base64.
_IMAGE_BYTES = 5_000_000

_IMAGE_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")
# In code as IPython transforms it, where %%claude, %claude and %nbchat are calls of these.
_RECURSION = re.compile(
    r"""run_(?:cell|line)_magic\(\s*['"](?:claude|nbchat)['"]|\bnbchat\s*\.\s*(?:ask|ask_each|Session)\b"""
)
# CSI and OSC sequences: ECMA-48, section 5.4 and 8.3.89.
_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-_]")


class RunPython:
    """The tool ``run_python`` of one shell. ``limit`` is the characters of text a call sends back.

    Raises:
        OptionError: there is no shell.
    """

    name = shown = "run_python"
    trusted = False
    code: str | None = "code"

    def __init__(self, shell: Any, approve: str | None = None, limit: int = TEXT_LIMIT) -> None:
        if shell is None:
            raise OptionError("--run needs IPython, and this is plain Python", "Use it in a notebook or in ipython.")
        self.approve = approve
        self._shell, self._limit = shell, limit

    def definition(self) -> dict[str, Any]:
        """The entry in ``tools`` of a request."""
        return {
            "name": self.name,
            "description": _DESCRIPTION,
            "input_schema": {
                "type": "object",
                "properties": {"code": {"type": "string", "description": "the source of one notebook cell"}},
                "required": ["code"],
                "additionalProperties": False,
            },
        }

    def call(self, arguments: Mapping[str, Any]) -> Outcome:
        """Run the code; give its outputs. Raises nothing but KeyboardInterrupt.

        The traceback of an error has been shown, so ``error`` of the Outcome is None.
        """
        code = arguments.get("code")
        if set(arguments) != {"code"} or not isinstance(code, str) or not code.strip():
            return failure("run_python takes one argument, code: a text with the source to run.")
        try:
            transformed = self._shell.transform_cell(code)
        except Exception:
            transformed = code  # run_cell reports it, as it does in a cell
        if _RECURSION.search(transformed):
            return failure(
                "This code calls Claude itself (%%claude, %claude, %nbchat or nbchat.ask), so it did not run. "
                "Do the work here instead."
            )
        with _recording(self._shell, transformed, self._limit) as record:
            result = self._run(code, transformed)
        error = result.error_before_exec or result.error_in_exec if result is not None else None
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt
        if isinstance(error, (SystemExit, asyncio.CancelledError)):
            record.write(f"{said(error)}\n")
        if record.exits:
            record.write("exit() was not obeyed: the session goes on.\n")
        return Outcome(
            record.content(self._limit),
            is_error=error is not None or record.exits > 0,
            value=None if result is None else result.result,
        )

    def _run(self, code: str, transformed: str) -> Any:
        """The shell's ExecutionResult. No history entry: the cell's number and ``In`` stay the user's."""
        shell = self._shell
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return shell.run_cell(code, store_history=False)
        if not shell.should_run_async(code, transformed_cell=transformed):
            return shell.run_cell(code, store_history=False)
        # Top-level await under the kernel's loop, which run_cell cannot enter a second time.
        try:
            return run_coroutine(shell.run_cell_async(code, store_history=False, transformed_cell=transformed))
        finally:
            shell.events.trigger("post_execute")


def show_traceback(error: BaseException, shell: Any = None) -> None:
    """Print the traceback of a tool's error on stderr, from the first frame that is the user's own.

    As the shell formats it, where there is one. Printed, as an ``error`` output would say that the
    cell failed.
    """
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_globals.get("__name__", "").partition(".")[0] in _NOT_THEIRS:
        frames = frames.tb_next
    if shell is None:
        text = "".join(traceback.format_exception(type(error), error, frames))
    else:
        text = "\n".join(shell.InteractiveTB.structured_traceback(type(error), error, frames))
    print(redact(text.rstrip("\n")), file=sys.stderr)


#: Packages whose frames stand between the call and the user's function.
_NOT_THEIRS = frozenset({"nbchat", "asyncio", "concurrent", "pydantic", "contextvars"})


class _Text:
    """A run of text. What is long beyond use is not kept: the beginning and the end are."""

    def __init__(self) -> None:
        self.head, self.skipped = "", 0
        self._pieces: list[str] = []
        self._length = 0

    def write(self, piece: str, limit: int) -> None:
        self._pieces.append(piece)
        self._length += len(piece)
        if self._length <= 4 * limit:
            return
        text = "".join(self._pieces)
        if not self.head:
            self.head, text = text[:limit], text[limit:]
        self.skipped += len(text) - limit
        self._pieces, self._length = [text[-limit:]], limit

    def text(self, limit: int) -> str:
        tail = "".join(self._pieces)
        if not self.head:
            return cut(_as_seen(tail), limit)
        half = limit // 2
        left_out = self.skipped + max(len(self.head) - half, 0) + max(len(tail) - half, 0)
        return f"{_as_seen(self.head[:half])}\n[… {left_out:,} characters left out …]\n{_as_seen(tail[-half:])}"


def _as_seen(text: str) -> str:
    """Text as a terminal leaves it: no escape sequences, of a progress line only the last state."""
    return re.sub(r"[^\n]*\r(?=[^\r\n])", "", _ANSI.sub("", text).replace("\r\n", "\n"))


class _Record:
    """The outputs of one call, in order: runs of text, and display bundles."""

    def __init__(self, limit: int) -> None:
        self.exits = 0
        self._limit = limit
        self._parts: list[_Text | dict[str, Any]] = []
        self._by_id: dict[str, int] = {}
        self._sleep = threading.local()  # the view draws in another thread meanwhile

    @contextlib.contextmanager
    def sleeping(self) -> Iterator[None]:
        """While the shell itself writes what is recorded in a better form."""
        before, self._sleep.now = self._asleep, True
        try:
            yield
        finally:
            self._sleep.now = before

    @property
    def _asleep(self) -> bool:
        return getattr(self._sleep, "now", False)

    def write(self, text: str) -> None:
        """Text of stdout or stderr."""
        if self._asleep or not isinstance(text, str):
            return
        if not self._parts or not isinstance(self._parts[-1], _Text):
            self._parts.append(_Text())
        part = self._parts[-1]
        assert isinstance(part, _Text)
        part.write(text, self._limit)

    def show(self, bundle: Mapping[str, Any], display_id: str | None = None, update: bool = False) -> None:
        """A display, or a new state of one."""
        if update and display_id in self._by_id:
            self._parts[self._by_id[display_id]] = dict(bundle)
        elif not update:
            if display_id:
                self._by_id[display_id] = len(self._parts)
            self._parts.append(dict(bundle))

    def clear(self) -> None:
        """``clear_output``: what the user no longer sees, the model does not get."""
        self._parts.clear()
        self._by_id.clear()

    def content(self, limit: int) -> Content:
        """The content blocks: text of at most about ``limit`` characters in all, and images."""
        parts = [part for part in (self._part(one) for one in self._parts) if part]
        texts = sum(isinstance(part, _Text) for part in parts)
        made: list[dict[str, Any]] = []
        images = 0
        for part in parts:
            if isinstance(part, _Text):
                block = {"type": "text", "text": part.text(limit // texts).strip("\n")}
            elif images < IMAGE_LIMIT:
                block, images = part, images + 1
            else:
                block = {"type": "text", "text": "[a further image, not sent]"}
            if block["type"] == "text" and made and made[-1]["type"] == "text":
                made[-1] = {"type": "text", "text": f"{made[-1]['text']}\n{block['text']}"}
            elif block.get("text", "x"):
                made.append(block)
        return tuple(made) or ({"type": "text", "text": "(it ran; there is no output)"},)

    def _part(self, part: _Text | dict[str, Any]) -> _Text | dict[str, Any] | None:
        """A part as text, or as an image block."""
        if isinstance(part, _Text):
            return part
        text = _Text()
        for mime in _IMAGE_TYPES:
            if mime in part:
                data = part[mime]
                data = base64.b64encode(data).decode() if isinstance(data, bytes) else "".join(str(data).split())
                if len(data) <= _IMAGE_BYTES:
                    return {"type": "image", "source": {"type": "base64", "media_type": mime, "data": data}}
                text.write(f"[an image of {len(data) / 1e6:.1f} MB, too large to send]\n", self._limit)
                return text
        plain = str(part.get("text/plain", ""))
        if not plain or plain.startswith("<IPython.core.display."):
            named = (str(part[mime]) for mime in ("text/markdown", "text/latex", "text/html") if mime in part)
            plain = next(named, plain)
        if plain:
            text.write(plain + "\n", self._limit)
        return text if plain else None


@contextlib.contextmanager
def _recording(shell: Any, code: str, limit: int) -> Iterator[_Record]:
    """Record what goes to the user while it goes there.

    By the ways out themselves (:mod:`nbchat.notebook.interception`): ``write`` of both streams, ``publish`` and
    ``clear_output`` of the display publisher, ``write_format_data`` of the display hook, and
    ``_showtraceback``, the place where a shell says tracebacks may be put.
    """
    record = _Record(limit)
    publisher, hook = shell.display_pub, shell.displayhook

    def publish(data: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        if not is_aside():
            display_id = (kwargs.get("transient") or {}).get("display_id")
            record.show(data, display_id, bool(kwargs.get("update")))
        with record.sleeping():
            return originals["publish"](data, *args, **kwargs)

    def clear_output(*args: Any, **kwargs: Any) -> Any:
        record.clear()
        with record.sleeping():
            return originals["clear_output"](*args, **kwargs)

    def write_format_data(format_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        record.show(format_dict)
        with record.sleeping():
            return originals["write_format_data"](format_dict, *args, **kwargs)

    def show_traceback(etype: Any, evalue: Any, stb: Any) -> None:
        if isinstance(evalue, (KeyboardInterrupt, asyncio.CancelledError)):
            return  # an interrupt goes on, and the cell shows it
        text = stb if isinstance(stb, str) else "\n".join(stb)
        print(text, file=sys.stderr)

    def ask_exit(*args: Any, **kwargs: Any) -> None:
        record.exits += 1

    originals: dict[str, Callable[..., Any]] = {
        "publish": publisher.publish,
        "clear_output": publisher.clear_output,
        "write_format_data": hook.write_format_data,
    }
    # An outer cell's result would be lost: run_cell puts its own into the hook, then None.
    outer = hook.exec_result
    with contextlib.ExitStack() as stack:
        for stream in streams():
            stack.enter_context(replaced(stream, "write", _heard(stream.write, record, hook)))
        stack.enter_context(replaced(publisher, "publish", publish))
        stack.enter_context(replaced(publisher, "clear_output", clear_output))
        stack.enter_context(replaced(hook, "write_format_data", write_format_data))
        # A ";" at the end counts where it stands in this code, not in the cell around it.
        stack.enter_context(replaced(hook, "quiet", lambda: hook.semicolon_at_end_of_expression(code)))
        stack.enter_context(replaced(shell, "_showtraceback", show_traceback))
        stack.enter_context(replaced(shell, "ask_exit", ask_exit))
        try:
            yield record
        finally:
            hook.exec_result = outer


def _heard(write: Callable[..., Any], record: _Record, hook: Any) -> Callable[..., Any]:
    """``write`` of a stream that tells the record, too; not the ``Out[1]:`` that a terminal's hook writes."""

    def heard(text: Any, *args: Any, **kwargs: Any) -> Any:
        if not getattr(hook, "is_active", False):
            record.write(text)
        return write(text, *args, **kwargs)

    return heard
