"""The MCP servers of a session, and their tools (https://modelcontextprotocol.io)."""

from __future__ import annotations

import atexit
import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from nbchat.core.errors import InputError, OptionError, keep_secret, nearest
from nbchat.core.visible import visible_line
from nbchat.tools.coroutine import BackgroundLoop
from nbchat.tools.mcp_server import Address, Command, McpServer, Timeouts
from nbchat.tools.mcp_stream import input_schema
from nbchat.tools.toolbox import Outcome, Tool, described, wire_name

if TYPE_CHECKING:
    import mcp_types

__all__ = ["McpServers", "ServerState"]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")
_NOTE_CHARACTERS = 300
_PLAIN = re.compile(r"[A-Za-z0-9_-]+")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")

#: An alias, because inside the class "list" is a method.
_Tools: TypeAlias = list[Tool]


@dataclass(frozen=True, slots=True)
class ServerState:
    """A server as ``%nbchat mcp list`` shows it. ``problem`` says why the server does not run."""

    name: str
    target: str
    tools: tuple[str, ...]
    running: bool
    problem: str = ""


class McpServers:
    """The MCP servers of a session, by the names that the user gave them.

    Args:
        timeout: Seconds for one call.
        start_timeout: Seconds for starting a server and listing its tools.
        say: Shows the user a line about a server, such as a tool that was left out.
    """

    def __init__(
        self, timeout: float = 300, start_timeout: float = 30, *, say: Callable[[str], None] | None = None
    ) -> None:
        self.timeouts = Timeouts(timeout, start_timeout)
        self._servers: dict[str, McpServer] = {}
        self._loop = BackgroundLoop("nbchat-mcp")
        self._say = say or (lambda text: None)

    def add(
        self,
        name: str,
        target: str | Iterable[str],
        *,
        headers: Mapping[str, str] | None = None,
        approve: str | None = None,
    ) -> tuple[str, ...]:
        """Start a server by its command, or connect to it by its URL.

        A server with the same name and target that already runs is kept, because cells are run
        many times. Another target replaces the server.

        ``$NAME`` in the command, in its environment and in ``headers`` is replaced by that variable
        of the kernel's environment, so that notebooks need to contain no keys.

        Args:
            name: The user's name for the server. The tool ``read`` of ``files`` is ``files.read``.
            target: A URL, or a command as a line or a list of words. ``KEY=value`` words before the
                command are its environment, in addition to the few variables (``PATH``, ``HOME`` …)
                that every server gets.
            headers: HTTP headers for a URL.
            approve: The policy for the tools of this server, or None for the default.

        Returns:
            The names of the tools.

        Raises:
            OptionError: The name is not valid, or the target is empty.
            InputError: The ``mcp`` library is not installed, or the command does not start.
            ConnectionFailed: There was no answer, or not one of an MCP server.
        """
        _require_library()
        if not _NAME.fullmatch(name):
            raise OptionError(
                f"{name!r} is not a name for an MCP server",
                "Use at most 32 letters, digits, - and _, and begin with a letter.",
            )
        wanted = _target_of(name, target, headers or {})
        server = self._servers.get(name)
        if server is not None and server.target == wanted and server.running:
            server.approve = approve
            return _tool_names(server)
        if server is not None:
            self.remove(name)
        server = McpServer(name, wanted, loop=self._loop, timeouts=self.timeouts, approve=approve)
        if not self._loop.running:
            atexit.register(self.close)
        try:
            server.start()
        finally:
            self._tell(server)  # also after a failure, which the text may explain
        self._servers[name] = server
        return _tool_names(server)

    def remove(self, name: str) -> None:
        """Stop a server and forget it.

        Raises:
            OptionError: There is no such server.
        """
        server = self._find(name)
        server.membership = None
        server.stop()
        del self._servers[name]

    def list(self) -> tuple[ServerState, ...]:
        """Return the servers in the order in which they were added."""
        return tuple(
            ServerState(server.name, str(server.target), _tool_names(server), server.running, server.problem)
            for server in self._servers.values()
        )

    def owns(self, name: str) -> bool:
        """Return True if a name in ``--tools`` means a server (``files``) or a tool of one (``files.read``)."""
        return name.partition(".")[0] in self._servers

    def tools(self, names: Iterable[str]) -> _Tools:
        """Return the tools that names in ``--tools`` mean. A server that ended is started again.

        Args:
            names: ``files`` for all tools of a server, ``files.read`` for one.

        Raises:
            OptionError: There is no such server or tool.
            InputError, ConnectionFailed: A server that ended does not start again.
        """
        tools: dict[str, Tool] = {}
        for name in names:
            server_name, _, tool_name = name.partition(".")
            server = self._find(server_name)
            server.refresh()
            self._tell(server)
            offered = _offered(server)
            if tool_name and tool_name not in offered:
                hint = nearest(tool_name, offered)
                raise OptionError(
                    f"the MCP server {server_name} has no tool {tool_name}", hint or f"It has {', '.join(offered)}."
                )
            for tool in [offered[tool_name]] if tool_name else offered.values():
                tools[tool.name] = tool
        return list(tools.values())

    def has_tool(self, name: str) -> bool:
        """Return True if a server has a tool of exactly this name, which may contain a comma."""
        server_name, _, tool_name = name.partition(".")
        server = self._servers.get(server_name)
        return server is not None and any(tool.name == tool_name for tool in server.tools)

    def _tell(self, server: McpServer) -> None:
        """Say what was skipped or left out of what a server wrote, each line once."""
        for note in server.new_notes():
            self._say(visible_line(f"{server.name}: {note}", _NOTE_CHARACTERS))

    def close(self) -> None:
        """Stop all servers and the background thread."""
        for server in self._servers.values():
            server.membership = None
            server.stop()
        self._servers.clear()
        self._loop.close()
        atexit.unregister(self.close)

    def _find(self, name: str) -> McpServer:
        if name not in self._servers:
            hint = nearest(name, self._servers) or "Add one with %nbchat mcp add NAME command… (or a URL)."
            raise OptionError(f"there is no MCP server {name}", hint)
        return self._servers[name]


class _McpTool:
    """One tool of a server: ``server.tool`` for people, ``server__tool`` for the API."""

    trusted = False
    code: str | None = None

    def __init__(self, server: McpServer, tool: mcp_types.Tool, *, apart: bool = False) -> None:
        self._server, self._tool = server, tool
        self.shown = f"{server.name}.{tool.name}"
        self.name = wire_name(self.shown, apart=apart)
        self._input = input_schema(tool.input_schema)
        self.approve = server.approve

    def __repr__(self) -> str:
        return f"<MCP tool {self.shown}>"

    @property
    def origin(self) -> tuple[object, ...]:
        """The object that a permission for this tool depends on (:mod:`nbchat.tools.permissions`)."""
        return (self._server.membership,)

    def definition(self) -> dict[str, Any]:
        """Return the entry in ``tools`` of a request."""
        text = described(self._tool.name, self._tool.description or "")
        description = {"description": text} if text else {}
        return {"name": self.name, **description, "input_schema": self._input.schema}

    def read_arguments(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the input of a call with the names that the server itself uses."""
        restored: Mapping[str, Any] = self._input.restored(arguments)
        return restored

    def call(self, arguments: Mapping[str, Any]) -> Outcome:
        """Send the call to the server and wait for its result."""
        return self._server.call(self._tool.name, self.read_arguments(arguments))


def _offered(server: McpServer) -> dict[str, _McpTool]:
    """Return the tools of a server by their own names. Two of them never have the same name in requests."""
    tools: dict[str, _McpTool] = {}
    taken: set[str] = set()
    # A tool whose name needs no change keeps the name, also if it is listed later.
    for definition in sorted(server.tools, key=lambda one: _PLAIN.fullmatch(one.name) is None):
        tool = _McpTool(server, definition)
        if tool.name in taken:
            tool = _McpTool(server, definition, apart=True)
        taken.add(tool.name)
        tools[definition.name] = tool
    return {definition.name: tools[definition.name] for definition in server.tools}


def _tool_names(server: McpServer) -> tuple[str, ...]:
    return tuple(f"{server.name}.{tool.name}" for tool in server.tools)


def _require_library() -> None:
    try:
        from mcp import Client  # noqa: F401  # which release 1 does not have
    except ImportError:
        raise InputError(
            "MCP servers need the library mcp, release 2 or later, which is not installed",
            'pip install "mcp>=2" and restart the kernel.',
        ) from None


def _target_of(name: str, target: str | Iterable[str], headers: Mapping[str, str]) -> Command | Address:
    """Return a target with the variables in it replaced."""
    if isinstance(target, str) and re.match(r"https?://", target.strip()):
        filled = {key: os.path.expandvars(value) for key, value in headers.items()}
        for value in filled.values():
            keep_secret(value.rpartition(" ")[2])  # the token of "Bearer TOKEN"
        return Address(target.strip(), filled)
    words = shlex.split(target) if isinstance(target, str) else list(target)
    environment: dict[str, str] = {}
    while words and _ASSIGNMENT.match(words[0]):
        key, _, value = words.pop(0).partition("=")
        environment[key] = os.path.expandvars(value)
    if not words:
        raise OptionError(
            f"%nbchat mcp add {name}: the command or URL is missing", "Write the command that starts it, or its URL."
        )
    expanded = tuple(os.path.expanduser(os.path.expandvars(word)) for word in words)
    return Command(expanded, environment, tuple(words))
