"""One MCP server (https://modelcontextprotocol.io) from its start to its end, through the ``mcp`` library.

A server lives longer than a cell, and the library is asynchronous. So all servers of a session live
in one background thread with an event loop of its own, and the kernel's loop is left alone. The
kernel waits for one call at a time, and an interrupt ends the wait.

The standard input of a stdio server is a pipe whose other end only this process has. However the
kernel ends, also by ``kill -9``, the server then reads the end of its input and exits.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import math
import os
import re
import shlex
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from nbchat.certificates import check_certificates
from nbchat.content.blocks import one_line
from nbchat.core.errors import ConnectionFailed, InputError, NbchatError, redact
from nbchat.tools.coroutine import BackgroundLoop, wait_for
from nbchat.tools.mcp_content import content_of, text_of
from nbchat.tools.mcp_stream import checked
from nbchat.tools.toolbox import Outcome, failure

if TYPE_CHECKING:
    import mcp
    import mcp_types
    from mcp.client import Transport
    from mcp.client._transport import TransportStreams

__all__ = ["Address", "Command", "McpServer", "Timeouts"]

#: How much longer the kernel waits than the library, whose own TimeoutError says more.
_GRACE_S = 10
#: How long the kernel waits for a server to end.
_STOP_S = 10
#: A server that always returns a next page would be read forever.
_MAX_PAGES = 100
#: The end of the standard error that messages quote.
_MAX_LOG_BYTES = 4000
_MAX_QUOTED_CHARACTERS = 500


#: A variable in a word of a command, as ``os.path.expandvars`` reads it.
_VARIABLE = re.compile(r"\$(?:(\w+)|\{([^}]*)\})", re.ASCII)
#: A shorter value is hidden only where it is a whole word: "dev" is a part of "device".
_LONG_VALUE_CHARACTERS = 8


@dataclass(slots=True)
class Timeouts:
    """Times in seconds: ``start_s`` for connecting and listing the tools, ``call_s`` for one call."""

    call_s: float = 300
    start_s: float = 30


@dataclass(frozen=True, repr=False, slots=True)
class Command:
    """A server that is started as a child process, with ``environment`` and little else as its environment."""

    words: tuple[str, ...]
    environment: Mapping[str, str]
    #: The words before variables such as $TOKEN were replaced.
    typed: tuple[str, ...]

    def __str__(self) -> str:
        """Return the command line without the values of variables and of the environment, which may be keys."""
        return " ".join([*(f"{name}=…" for name in self.environment), " ".join(map(_quoted, self.typed))])

    @property
    def hidden(self) -> tuple[str, ...]:
        """The values that messages do not show: those of variables and of the environment. Paths are shown."""
        names = [name or braced for word in self.typed for name, braced in _VARIABLE.findall(word)]
        filled = [word for word, typed in zip(self.words, self.typed, strict=True) if word != typed]
        values = [*self.environment.values(), *filled, *(os.environ.get(name, "") for name in names)]
        return tuple(value for value in values if value and not os.path.exists(os.path.expanduser(value)))

    def connect(self, log: TextIO) -> Transport:
        """Start the command and connect to its standard input and output. Its standard error goes to ``log``."""
        from mcp.client.stdio import StdioServerParameters, stdio_client

        command, *arguments = self.words
        # The library adds a few variables such as PATH and HOME, but not the rest of this environment with its keys.
        # A server that prints in another encoding must not end the connection.
        parameters = StdioServerParameters(
            command=command, args=arguments, env=dict(self.environment), encoding_error_handler="replace"
        )
        return stdio_client(parameters, errlog=log)


@dataclass(frozen=True, repr=False, slots=True)
class Address:
    """A server that runs already, at a URL."""

    url: str
    headers: Mapping[str, str]

    @property
    def hidden(self) -> tuple[str, ...]:
        """The values that messages do not show: those of the headers."""
        return tuple(filter(None, self.headers.values()))

    def __str__(self) -> str:
        """Return the URL without keys: a password is before the @, and a key may be after the ?."""
        return re.sub(r"\?.*", "?…", re.sub(r"//[^/@]*@", "//…@", self.url))

    @contextlib.asynccontextmanager
    async def connect(self, log: TextIO) -> AsyncIterator[TransportStreams]:
        """Connect to the URL. The standard error of the server is not here, so ``log`` stays empty."""
        from mcp.client import streamable_http

        # The library closes only a client that it made itself, so we close this one.
        async with (
            # The module does not export this name explicitly, but the module that defines it is private.
            streamable_http.create_mcp_http_client(dict(self.headers)) as client,  # type: ignore[attr-defined]
            streamable_http.streamable_http_client(self.url, http_client=client) as streams,
        ):
            yield streams


class Membership:
    """The membership of a server in its session. It ends when the server is removed, also if the object lives on."""


class McpServer:
    """A server, which may run or not.

    Attributes:
        name: The user's name for the server.
        target: The command or the address. ``str(target)`` contains no keys.
        approve: The policy for its tools, or None for the default.
        tools: The tools as the server last listed them.
        problem: Why the server does not run, or "".
        membership: None after the server was removed. The user's permissions for its tools end with it.
    """

    def __init__(
        self,
        name: str,
        target: Command | Address,
        *,
        loop: BackgroundLoop,
        timeouts: Timeouts,
        approve: str | None = None,
    ) -> None:
        self.name, self.target, self.approve = name, target, approve
        self.tools: tuple[mcp_types.Tool, ...] = ()
        self.problem = ""
        self._notes: dict[str, str] = {}
        self._told = 0
        self.membership: Membership | None = Membership()
        self._loop, self._timeouts = loop, timeouts
        self._client: mcp.Client | None = None
        #: Set in the background thread to end the connection.
        self._stop: asyncio.Event | None = None
        self._ended: concurrent.futures.Future[None] | None = None
        self._log: TextIO | None = None

    @property
    def running(self) -> bool:
        """True while the connection is open."""
        return self._client is not None

    def start(self) -> None:
        """Start or connect to the server, and list its tools.

        Raises:
            InputError: The command does not exist or may not be run.
            ConnectionFailed: There was no answer, or not one of an MCP server.
        """
        ready: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._ended = self._loop.submit(self._serve(ready))
        try:
            wait_for(ready, self._timeouts.start_s + _GRACE_S)
        except Exception as error:
            explained = self._explain_start(error)  # before stop(), which closes the log
            self.stop()
            raise explained from None
        except BaseException:
            self.stop()
            raise

    async def _serve(self, ready: concurrent.futures.Future[None]) -> None:
        """Open the connection, wait for :meth:`stop`, and close the connection.

        All of this is in one task, because anyio's cancel scopes, of which the library is made,
        must be left in the task that entered them. Calls come from other tasks, and only use the client.
        """
        import anyio
        from mcp import Client
        from mcp.shared.message import SessionMessage

        self._stop = asyncio.Event()
        self.problem = ""
        # A file and not sys.stderr: the one of a kernel has no file descriptor that a child could inherit.
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115

        try:
            with anyio.fail_after(self._timeouts.start_s) as starting:
                connection = checked(self.target.connect(self._log), self._note, SessionMessage)
                async with Client(connection, read_timeout_seconds=self._timeouts.call_s) as client:
                    self.tools = await self._list_tools(client)
                    # The scope of the timeout surrounds the whole life of the connection, so the timeout is lifted.
                    starting.deadline = math.inf
                    self._client = client
                    ready.set_result(None)
                    await self._stop.wait()
        except BaseException as error:
            if not ready.done():
                ready.set_exception(_innermost(error))
            elif not isinstance(error, asyncio.CancelledError):
                self.problem = self._hide(str(_innermost(error)))
        finally:
            self._client = None

    def stop(self) -> None:
        """End the connection. A stdio server ends too."""
        if self._stop is not None:
            self._loop.call(self._stop.set)
        if self._ended is not None and self._client is None:
            # Not connected yet: the task is still opening the connection and does not look at the event.
            self._ended.cancel()
        if self._ended is not None and not concurrent.futures.wait((self._ended,), timeout=_STOP_S).done:
            self._ended.cancel()
        self._client = self._ended = self._stop = None
        if self._log is not None:
            self._log.close()
            self._log = None

    def refresh(self) -> None:
        """List the tools again, because a server may change them at any time. Restart a server that ended.

        Raises:
            InputError, ConnectionFailed: The server does not start again.
        """
        if self._client is not None:
            try:
                self.tools = self._loop.run(self._list_tools(self._client), self._timeouts.start_s)
                return
            except Exception:
                # The client does not notice that a server is gone before it sends something. Whatever
                # the error is, a fresh start either repairs it or explains it better.
                self.stop()
        self._running_client()

    async def _list_tools(self, client: mcp.Client) -> tuple[mcp_types.Tool, ...]:
        """Return the tools of all pages, each name once."""
        tools: dict[str, mcp_types.Tool] = {}
        cursors: list[str | None] = [None]
        while len(cursors) <= _MAX_PAGES:
            page = await client.list_tools(cursor=cursors[-1])
            for tool in page.tools:
                if tools.setdefault(tool.name, tool) is not tool:
                    self._note(f"the tool {one_line(tool.name)} is listed twice, and the first one is offered")
            if not page.next_cursor:
                break
            if page.next_cursor in cursors:
                self._note("its list of tools has a page that leads back to itself")
                break
            cursors.append(page.next_cursor)
        return tuple(tools.values())

    def _note(self, text: str, kind: str = "") -> None:
        """Keep a note, and of those of one kind only the first: a server may print in each call."""
        self._notes.setdefault(kind or text, text)

    def new_notes(self) -> tuple[str, ...]:
        """Return what was skipped or left out of what the server wrote, a line for each, and each line only once."""
        new = tuple(self._notes.values())[self._told :]
        self._told = len(self._notes)
        return new

    def _running_client(self) -> mcp.Client:
        """Return the client of the open connection. Restart a server that ended."""
        if self._client is None:
            self.stop()
            self.start()
        if self._client is None:
            raise ConnectionFailed(f"the MCP server {self.name} ended immediately after its start", "Add it again.")
        return self._client

    def call(self, tool: str, arguments: Mapping[str, Any]) -> Outcome:
        """Call a tool and wait for its result. Raise nothing but KeyboardInterrupt."""
        shown = f"{self.name}.{tool}"
        timeout_s = self._timeouts.call_s
        try:
            call = self._running_client().call_tool(tool, dict(arguments), read_timeout_seconds=timeout_s)
            result = self._loop.run(call, timeout_s + _GRACE_S)
        except KeyboardInterrupt:
            raise
        except NbchatError as error:
            return failure(f"{shown} did not run: {error.message}")
        except BaseException as error:
            return self._explain_call(shown, _innermost(error))
        content = tuple(part for block in result.content for part in content_of(block))
        # A tool with an output schema may leave the readable content out.
        if not content and result.structured_content is not None:
            content = text_of(json.dumps(result.structured_content, ensure_ascii=False))
        return Outcome(content or text_of("(an empty result)"), bool(result.is_error), value=result.structured_content)

    # -- errors -----------------------------------------------------------------------------------

    def _explain_start(self, error: BaseException) -> NbchatError:
        if isinstance(error, (FileNotFoundError, PermissionError)):
            if error.filename is None:  # not of the command: httpx opens the certificates
                try:
                    check_certificates()
                except InputError as wrong:
                    return wrong
            return InputError(
                f"the MCP server {self.name} does not start: {error.strerror}: {self._hide(str(error.filename))}",
                "Check the command. The kernel looks for it on its own PATH.",
            )
        late = isinstance(error, TimeoutError)
        reason = f"no answer within {self._timeouts.start_s:g} s" if late else self._hide(_first_line(error))
        return ConnectionFailed(
            f"the MCP server {self.name} did not answer: {reason}{self._last_lines()}",
            f"Check that {self.target} is an MCP server (stdio, or streamable HTTP), and add it again.",
        )

    def _explain_call(self, shown: str, error: BaseException) -> Outcome:
        """Return the error result of a call, which is sent to the model."""
        import anyio
        from mcp_types import CONNECTION_CLOSED, REQUEST_TIMEOUT

        code = getattr(error, "code", None)
        if isinstance(error, TimeoutError) or code == REQUEST_TIMEOUT:
            return failure(f"{shown} did not answer within {self._timeouts.call_s:g} s.")
        # The library reports a dead server as its own error, or lets anyio's error about the pipe through.
        if code == CONNECTION_CLOSED or isinstance(error, (anyio.ClosedResourceError, anyio.BrokenResourceError)):
            last_lines = self._last_lines()  # before stop(), which closes the log
            # The connection is broken, but the library keeps it open, and each later call would fail.
            # We close it, so that the next call finds no client and starts the server again.
            self.stop()
            self.problem = "it ended during a call"
            return failure(
                f"The MCP server {self.name} ended while {shown} ran; it starts again with the next call.{last_lines}"
            )
        return failure(f"{shown}: {self._hide(_first_line(error))}")

    def _last_lines(self) -> str:
        """Return the end of the server's standard error as a line of a message, or ""."""
        if self._log is None or self._log.closed:
            return ""
        # Only the end, since a server may have written gigabytes.
        self._log.seek(max(os.fstat(self._log.fileno()).st_size - _MAX_LOG_BYTES, 0))
        lines = [line.strip() for line in self._log.read().splitlines() if line.strip()]
        quoted = self._hide(" / ".join(lines[-2:]))[:_MAX_QUOTED_CHARACTERS]
        return f"\nIt said: {quoted}" if quoted else ""

    def _hide(self, text: str) -> str:
        """Return a text of the server or of the system without keys and without the hidden values of the target."""
        for value in sorted(self.target.hidden, key=len, reverse=True):
            before, after = ("", "") if len(value) >= _LONG_VALUE_CHARACTERS else (r"(?<!\w)", r"(?!\w)")
            text = re.sub(f"{before}{re.escape(value)}{after}", "…", text)
        return redact(text)


def _quoted(word: str) -> str:
    """Return a word as a shell needs it. The name of a variable stays readable."""
    return word if _VARIABLE.search(word) else shlex.quote(word)


def _innermost(error: BaseException) -> BaseException:
    """Return the error inside the exception groups that anyio's task groups raise."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0]
