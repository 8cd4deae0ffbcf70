"""Tools of MCP servers (https://modelcontextprotocol.io), through the ``mcp`` library.

All servers of a session live in one background thread with an event loop of its own, so that they
go on between cells and the kernel's loop is left alone; the kernel waits for one call at a time,
and can be interrupted while it waits. A stdio server is a child with its standard input held by
this process alone: however the kernel ends, the server reads the end of its input and goes too.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import json
import math
import os
import re
import shlex
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from nbchat.core.errors import ConnectionFailed, InputError, NbchatError, OptionError, keep_secret, nearest, redact
from nbchat.tools.mcp_content import content_of, text_of
from nbchat.tools.toolbox import Outcome, Tool, failure, wire_name

__all__ = ["McpServers", "ServerState"]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")

_T = TypeVar("_T")
#: Named here, as inside the class "list" is a method.
_Tools: TypeAlias = list[Tool]


@dataclass(frozen=True, slots=True)
class ServerState:
    """A server as ``%nbchat mcp list`` shows it; ``problem`` says why it does not run."""

    name: str
    target: str
    tools: tuple[str, ...]
    running: bool
    problem: str = ""


@dataclass(slots=True)
class _Server:
    name: str
    target: str
    #: Makes a new transport, given a file for what the server says on its standard error.
    connect: Callable[[Any], Any]
    approve: str | None = None
    client: Any = None
    tools: tuple[Any, ...] = ()
    stop: asyncio.Event | None = None
    ended: concurrent.futures.Future[None] | None = None
    problem: str = ""
    log: Any = field(default=None, repr=False)


class McpServers:
    """The MCP servers of a session.

    ``start_timeout`` is for connecting and listing the tools, ``timeout`` for one call, in seconds.
    """

    def __init__(self, timeout: float = 300, start_timeout: float = 30) -> None:
        self.timeout, self.start_timeout = timeout, start_timeout
        self._servers: dict[str, _Server] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(
        self,
        name: str,
        target: str | Iterable[str],
        *,
        headers: Mapping[str, str] | None = None,
        approve: str | None = None,
    ) -> tuple[str, ...]:
        """Start a server by its command, or connect to it by its URL; give the names of its tools.

        A command is a line or a list of words; words like ``KEY=value`` before it are its
        environment, beside the few variables (``PATH``, ``HOME`` …) that every server gets.
        ``$NAME`` there and in ``headers`` (of a URL) is looked up in this environment, so that no
        key stands in a notebook. The same name and target again is the server that runs already;
        another target replaces it.

        Raises:
            OptionError: the name or the target is none.
            InputError: the ``mcp`` library is missing, or the command does not start.
            ConnectionFailed: it started, or was called, and did not answer as an MCP server.
        """
        _import_mcp()
        if not _NAME.fullmatch(name):
            raise OptionError(
                f"{name!r} is no name for an MCP server", "Use letters, digits, - and _, at most 32, a letter first."
            )
        server = _server_of(name, target, headers, approve)
        known = self._servers.get(name)
        if known is not None and known.target == server.target and known.client is not None:
            known.approve = approve
            return tuple(f"{name}.{tool.name}" for tool in known.tools)
        if known is not None:
            self.remove(name)
        self._start(server)
        self._servers[name] = server
        return tuple(f"{name}.{tool.name}" for tool in server.tools)

    def remove(self, name: str) -> None:
        """Stop a server and forget it.

        Raises:
            OptionError: there is no such server.
        """
        self._stop(self._find(name))
        del self._servers[name]

    def list(self) -> tuple[ServerState, ...]:
        """The servers, in the order they were added."""
        return tuple(
            ServerState(
                server.name,
                server.target,
                tuple(f"{server.name}.{tool.name}" for tool in server.tools),
                server.client is not None,
                server.problem,
            )
            for server in self._servers.values()
        )

    def owns(self, name: str) -> bool:
        """Whether a name in ``--tools`` means a server here (``files``) or a tool of one (``files.read``)."""
        return name.partition(".")[0] in self._servers

    def tools(self, names: Iterable[str] | None = None) -> _Tools:
        """The tools of all servers, or of those named: ``files`` for all of one, ``files.read`` for one.

        A server that ended meanwhile is started again.

        Raises:
            OptionError: there is no such server or tool.
            InputError, ConnectionFailed: a server that ended does not start again.
        """
        found: dict[str, Tool] = {}
        for name in self._servers if names is None else names:
            root, _, wanted = name.partition(".")
            server = self._find(root)
            self._refresh(server)
            offered = {tool.name: tool for tool in server.tools}
            if wanted and wanted not in offered:
                hint = nearest(wanted, offered)
                raise OptionError(
                    f"the MCP server {root} has no tool {wanted}", hint or f"It has {', '.join(offered)}."
                )
            for tool in [offered[wanted]] if wanted else offered.values():
                made = _McpTool(self, server, tool)
                found[made.name] = made
        return list(found.values())

    def close(self) -> None:
        """Stop all servers and the thread."""
        for server in list(self._servers.values()):
            self._stop(server)
        self._servers.clear()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._loop = None
            atexit.unregister(self.close)

    # -- servers ----------------------------------------------------------------------------------

    def _find(self, name: str) -> _Server:
        if name not in self._servers:
            hint = nearest(name, self._servers) or "Add one with %nbchat mcp add NAME command… (or a URL)."
            raise OptionError(f"there is no MCP server {name}", hint)
        return self._servers[name]

    def _start(self, server: _Server) -> None:
        ready: concurrent.futures.Future[None] = concurrent.futures.Future()
        server.ended = self._submit(self._serve(server, ready))
        try:
            _wait(ready, self.start_timeout + 10)
        except Exception as error:
            explained = self._explain_start(server, error)
            self._stop(server)
            raise explained from None
        except BaseException:
            self._stop(server)
            raise

    async def _serve(self, server: _Server, ready: concurrent.futures.Future[None]) -> None:
        """The life of one connection: opened and closed in this one task, as anyio's scopes want it."""
        import anyio
        from mcp import Client

        server.stop = asyncio.Event()
        server.problem = ""
        server.log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115

        try:
            with anyio.fail_after(self.start_timeout) as starting:
                transport = server.connect(server.log)
                async with Client(transport, read_timeout_seconds=self.timeout) as client:
                    server.tools = await _list_tools(client)
                    starting.deadline = math.inf
                    server.client = client
                    ready.set_result(None)
                    await server.stop.wait()
        except BaseException as error:
            if not ready.done():
                ready.set_exception(_innermost(error))
            elif not isinstance(error, asyncio.CancelledError):
                server.problem = redact(str(_innermost(error)))
        finally:
            server.client = None

    def _stop(self, server: _Server) -> None:
        if server.stop is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(server.stop.set)
        if server.ended is not None and not concurrent.futures.wait((server.ended,), timeout=10).done:
            server.ended.cancel()
        server.client = server.ended = server.stop = None
        if server.log is not None:
            server.log.close()
            server.log = None

    def _revive(self, server: _Server) -> None:
        """Start a server again that has ended."""
        if server.client is None:
            self._stop(server)
            self._start(server)

    def _refresh(self, server: _Server) -> None:
        """List the tools anew, as a server may change them at any time; start it again where it ended."""
        if server.client is not None:
            try:
                server.tools = _wait(self._submit(_list_tools(server.client)), self.start_timeout)
                return
            except Exception:
                self._stop(server)
        self._revive(server)

    def _explain_start(self, server: _Server, error: BaseException) -> NbchatError:
        said = _last_words(server.log)
        if isinstance(error, (FileNotFoundError, PermissionError)):
            return InputError(
                f"the MCP server {server.name} does not start: {error.strerror}: {error.filename}",
                "Check the command; the kernel looks for it on its own PATH.",
            )
        reason = f"no answer within {self.start_timeout:g} s" if isinstance(error, TimeoutError) else _first(error)
        return ConnectionFailed(
            f"the MCP server {server.name} did not answer: {reason}" + (f"\nIt said: {said}" if said else ""),
            f"Check that {server.target} is an MCP server (stdio, or streamable HTTP), and add it again.",
        )

    # -- calls ------------------------------------------------------------------------------------

    def call(self, server: _Server, tool: str, arguments: Mapping[str, Any]) -> Outcome:
        """Call a tool of a server. Raises nothing but KeyboardInterrupt."""
        shown = f"{server.name}.{tool}"
        try:
            self._revive(server)
            result = _wait(
                self._submit(server.client.call_tool(tool, dict(arguments), read_timeout_seconds=self.timeout)),
                self.timeout + 10,
            )
        except KeyboardInterrupt:
            raise
        except NbchatError as error:
            return failure(f"{shown} did not run: {error.message}")
        except BaseException as error:
            return self._explain_call(server, shown, _innermost(error))
        content = tuple(part for block in result.content for part in content_of(block))
        if not content and result.structured_content is not None:
            content = text_of(json.dumps(result.structured_content, ensure_ascii=False))
        return Outcome(content or text_of("(an empty result)"), bool(result.is_error), value=result.structured_content)

    def _explain_call(self, server: _Server, shown: str, error: BaseException) -> Outcome:
        from mcp_types import CONNECTION_CLOSED, REQUEST_TIMEOUT

        code = getattr(error, "code", None)
        if isinstance(error, TimeoutError) or code == REQUEST_TIMEOUT:
            return failure(f"{shown} did not answer within {self.timeout:g} s.")
        if code == CONNECTION_CLOSED or type(error).__name__ in ("ClosedResourceError", "BrokenResourceError"):
            said = _last_words(server.log)
            self._stop(server)
            server.problem = "it ended during a call"
            return failure(
                f"The MCP server {server.name} ended while {shown} ran; it starts again with the next call."
                + (f"\nIt said: {said}" if said else "")
            )
        return failure(f"{shown}: {_first(error)}")

    def _submit(self, coroutine: Coroutine[Any, Any, _T]) -> concurrent.futures.Future[_T]:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, name="nbchat-mcp", daemon=True).start()
            atexit.register(self.close)
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)


class _McpTool:
    """One tool of a server: ``server.tool`` for people, ``server__tool`` on the wire."""

    trusted = False
    code: str | None = None

    def __init__(self, servers: McpServers, server: _Server, tool: Any) -> None:
        self._servers, self._server, self._tool = servers, server, tool
        self.shown = f"{server.name}.{tool.name}"
        self.name = wire_name(self.shown)
        self.approve = server.approve

    def __repr__(self) -> str:
        return f"<MCP tool {self.shown}>"

    def definition(self) -> dict[str, Any]:
        """The entry in ``tools`` of a request."""
        schema = {"type": "object", "properties": {}, **self._tool.input_schema}
        said = {"description": self._tool.description} if self._tool.description else {}
        return {"name": self.name, **said, "input_schema": schema}

    def call(self, arguments: Mapping[str, Any]) -> Outcome:
        """Send the call to the server and wait for its result."""
        return self._servers.call(self._server, self._tool.name, arguments)


def _import_mcp() -> None:
    try:
        from mcp import Client  # noqa: F401
    except ImportError:
        raise InputError(
            "MCP servers need the library mcp, release 2 or later, which is not installed",
            'pip install "nbchat[mcp]" and restart the kernel.',
        ) from None


def _server_of(
    name: str, target: str | Iterable[str], headers: Mapping[str, str] | None, approve: str | None
) -> _Server:
    """A server that is not started yet."""
    if isinstance(target, str) and re.match(r"https?://", target.strip()):
        url = target.strip()
        # What stands before an @ is a password; what stands behind ? may be a key.
        shown = re.sub(r"\?.*", "?…", re.sub(r"//[^/@]*@", "//…@", url))
        filled = {key: os.path.expandvars(value) for key, value in (headers or {}).items()}
        for value in filled.values():
            keep_secret(value.rpartition(" ")[2])
        return _Server(name, shown, lambda log: _http_transport(url, filled), approve)
    words = shlex.split(target) if isinstance(target, str) else list(target)
    environment: dict[str, str] = {}
    while words and _ASSIGNMENT.match(words[0]):
        key, _, value = words.pop(0).partition("=")
        environment[key] = os.path.expandvars(value)
    if not words:
        raise OptionError(f"%nbchat mcp add {name}: no command and no URL", "Say how to start it, or where it is.")
    words = [os.path.expanduser(os.path.expandvars(word)) for word in words]
    shown = " ".join([*(f"{key}=…" for key in environment), shlex.join(words)])
    return _Server(name, shown, lambda log: _stdio_transport(words, environment, log), approve)


def _stdio_transport(words: list[str], environment: Mapping[str, str], log: Any) -> Any:
    from mcp.client.stdio import StdioServerParameters, stdio_client

    # Its standard error goes to a file, as a kernel's own sys.stderr has no file behind it.
    return stdio_client(StdioServerParameters(command=words[0], args=words[1:], env=dict(environment)), errlog=log)


def _http_transport(url: str, headers: Mapping[str, str]) -> Any:
    from mcp.client.streamable_http import create_mcp_http_client, streamable_http_client

    return streamable_http_client(url, http_client=create_mcp_http_client(dict(headers)) if headers else None)


async def _list_tools(client: Any) -> tuple[Any, ...]:
    """All pages of the server's tools."""
    tools: list[Any] = []
    cursor: str | None = None
    for _ in range(100):
        page = await client.list_tools(cursor=cursor)
        tools += page.tools
        cursor = page.next_cursor
        if not cursor:
            break
    return tuple(tools)


def _wait(future: concurrent.futures.Future[_T], timeout: float) -> _T:
    """The result of work in the other thread; an interrupt cancels it, and goes on."""
    waited = 0.0
    try:
        # By short waits, as Windows does not wake a long one for an interrupt.
        while not concurrent.futures.wait((future,), timeout=0.2).done:
            waited += 0.2
            if waited > timeout:
                raise TimeoutError
    except BaseException:
        future.cancel()
        raise
    return future.result()


def _innermost(error: BaseException) -> BaseException:
    """The one error inside the groups that anyio makes of it."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return error


def _first(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0]


def _last_words(log: Any) -> str:
    """The end of what a server said on its standard error."""
    if log is None or log.closed:
        return ""
    log.seek(0)
    lines = [line.strip() for line in log.read()[-4000:].splitlines() if line.strip()]
    return redact(" / ".join(lines[-2:]))[:500]
