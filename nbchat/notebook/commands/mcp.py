"""``%nbchat mcp add|list|remove``: servers that offer tools by the Model Context Protocol."""

from __future__ import annotations

from nbchat.core.errors import OptionError
from nbchat.core.plural import counted
from nbchat.core.visible import visible_line
from nbchat.notebook.commands.arguments import Argument
from nbchat.notebook.commands.command import Call, Group, command
from nbchat.options import APPROVALS

__all__ = ["mcp"]


# Options come before NAME: all words after NAME belong to the server's own command, with its own options.
@command(
    "mcp add",
    "start a server, or connect to one",
    Argument("approve", "WHEN", keyword="--approve", choices=APPROVALS),
    Argument("headers", "'NAME: VALUE'", keyword="--header", takes="several"),
    Argument("name", "NAME", required=True),
    Argument("target", "COMMAND…|URL", required=True, takes="rest"),
)
def add(call: Call, approve: str | None, headers: tuple[str, ...], name: str, target: tuple[str, ...]) -> None:
    """Start a server by its command, or connect to it by its URL, and print the names of its tools."""
    is_url = len(target) == 1 and target[0].startswith(("http://", "https://"))
    fields = dict(map(_header, headers))
    tools = call.session.mcp.add(name, target[0] if is_url else target, headers=fields, approve=approve)
    # The server wrote the names of its tools.
    tools = tuple(map(visible_line, tools))
    call.print(f"{name} offers {counted(len(tools), 'tool')}{':' if tools else ''} {', '.join(tools)}".rstrip())
    call.print(f"Let Claude use them with --tools {name}" + (f", or one with --tools {tools[0]}." if tools else "."))


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise OptionError(
            "--header: NAME: VALUE is needed, and there is no colon",
            "For example: --header 'Authorization: Bearer $TOKEN'",
        )
    return name.strip(), value.strip()


@command("mcp list", "the servers and their tools")
def list_servers(call: Call) -> None:
    """Show a table with a row for each tool of each server."""
    from nbchat.view.final import publish
    from nbchat.view.tables import table_bundle

    servers = call.session.mcp.list()
    if not servers:
        call.print("there are no MCP servers; %nbchat mcp add NAME command… (or a URL) adds one")
        return
    rows: list[tuple[str, ...]] = []
    for server in servers:
        state = "runs" if server.running else f"ended: {server.problem}" if server.problem else "ended"
        # The server is named once; its further tools follow below the first.
        columns = ((server.name, state, server.target), *[("", "", "")] * (len(server.tools) - 1))
        rows += [(tool, *about) for tool, about in zip(server.tools or ("-",), columns, strict=True)]
    title = f"{counted(len(servers), 'MCP server')}, for --tools SERVER or --tools TOOL"
    publish(table_bundle(title, ("tool", "server", "state", "target"), rows, prose_columns=(2, 3), width=call.width))


@command("mcp remove", "stop a server", Argument("name", "NAME", completes="servers", required=True))
def remove(call: Call, name: str) -> None:
    """Stop a server and forget it."""
    call.session.mcp.remove(name)
    call.print(f"the MCP server {name} is stopped and forgotten")


mcp = Group("mcp", "tools of MCP servers, for --tools NAME or NAME.TOOL", (add, list_servers, remove), list_servers)
