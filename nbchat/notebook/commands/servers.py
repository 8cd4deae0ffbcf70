"""MCP servers: ``%nbchat mcp add|list|remove``."""

from __future__ import annotations

from nbchat.core.errors import OptionError, nearest
from nbchat.notebook.commands.call import Call, table
from nbchat.options import APPROVALS


def mcp(call: Call) -> None:
    what, *rest = call.words or ["list"]
    acts = {"add": _add, "list": _list, "remove": _remove}
    if what not in acts:
        raise OptionError(f"%nbchat mcp {what}: it takes add, list or remove", nearest(what, acts) or _usage(call))
    acts[what](call, rest)


def _usage(call: Call) -> str:
    return f"Usage: %nbchat {call.usage}"


def _add(call: Call, words: list[str]) -> None:
    approve: str | None = None
    headers: dict[str, str] = {}
    while words and words[0].startswith("--"):
        flag, *words = words
        flag, _, value = flag.partition("=")
        if flag not in ("--approve", "--header"):
            raise OptionError(
                f"%nbchat mcp add {flag}: there is no such option",
                nearest(flag, ("--approve", "--header"))
                or "Options of the server's own command stand behind its name.",
            )
        if not value and words:
            value, *words = words
        if flag == "--approve":
            if value not in APPROVALS:
                raise OptionError(f"--approve {value}: it takes {', '.join(APPROVALS)}", _usage(call))
            approve = value
        else:
            name, colon, held = value.partition(":")
            if not colon:
                raise OptionError(
                    f"--header {value}: NAME: VALUE is needed", "For example: --header 'Authorization: Bearer $TOKEN'"
                )
            headers[name.strip()] = held.strip()
    if len(words) < 2:
        raise OptionError("%nbchat mcp add needs a name, and a command or a URL", _usage(call))
    name, *target = words
    where = target[0] if len(target) == 1 and target[0].startswith(("http://", "https://")) else target
    tools = call.session.mcp.add(name, where, headers=headers, approve=approve)
    print(f"{name} offers {len(tools)} tools: {', '.join(tools) or 'none'}")
    print(f"Let Claude use them with --tools {name}" + (f", or one with --tools {tools[0]}." if tools else "."))


def _list(call: Call, words: list[str]) -> None:
    if words:
        raise OptionError(f"%nbchat mcp list {' '.join(words)}: it takes no more words", _usage(call))
    servers = call.session.mcp.list()
    if not servers:
        print("there are no MCP servers; %nbchat mcp add NAME command… (or a URL) adds one")
        return
    rows = []
    for server in servers:
        state = "runs" if server.running else f"ended: {server.problem}" if server.problem else "ended"
        rows.append((server.name, state, server.target, ", ".join(server.tools) or "-"))
    print(table(("server", "state", "target", "tools"), rows))


def _remove(call: Call, words: list[str]) -> None:
    if len(words) != 1:
        raise OptionError("%nbchat mcp remove needs the name of one server", _usage(call))
    call.session.mcp.remove(words[0])
    print(f"the MCP server {words[0]} is stopped and forgotten")
