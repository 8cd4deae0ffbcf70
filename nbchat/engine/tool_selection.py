"""Select the tools of a turn: functions, ``run_python``, and the tools of MCP servers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from nbchat.context.tool_results import tool_content
from nbchat.engine.host import Host
from nbchat.options import Options
from nbchat.tools.approval import Approval
from nbchat.tools.functions import FunctionTool, marked, resolve
from nbchat.tools.permissions import Permissions
from nbchat.tools.toolbox import Tool, Toolbox

if TYPE_CHECKING:
    from nbchat.tools.mcp import McpServers

__all__ = ["select_tools"]


def select_tools(
    options: Options,
    namespace: Mapping[str, Any] | None,
    host: Host,
    mcp: McpServers | None,
    remembered: Permissions,
) -> Toolbox:
    """Return the toolbox of a turn.

    Functions that :func:`nbchat.tool` marked in ``namespace`` come first, because every turn has them,
    then the tools of ``--tools``, then ``run_python``. The order is always the same, since another order
    would be another prompt for the prompt cache.

    Args:
        options: the options of the request.
        namespace: the user's names, or None to use the host's for ``--tools``.
        host: asks the user, and has the tool that runs code.
        mcp: the MCP servers, if any were added.
        remembered: the tools that the user allowed always.

    Raises:
        InputError: a name is not defined, a function cannot be described, or two tools have one name.
    """
    names = list(_split_names(options.tools, mcp))
    served = [name for name in names if isinstance(name, str) and mcp is not None and mcp.owns(name)]
    scope = namespace if namespace is not None else host.namespace
    named = resolve((name for name in names if name not in served), scope, tool_content)
    tools = _without_repeats([*marked(namespace or {}, tool_content), *named])
    tools += mcp.tools(served) if mcp is not None and served else ()
    if options.run:
        tools.append(host.run_python())
    approval = Approval(options.approve, host.ask, host.say, remembered, edit=host.edit, place=host.place)
    return Toolbox(tools, approval)


def _split_names(names: Iterable[Any], mcp: McpServers | None) -> Iterator[Any]:
    for name in names:
        if isinstance(name, str) and not (mcp is not None and mcp.has_tool(name)):
            yield from (word.strip() for word in name.split(",") if word.strip())
        else:
            yield name


def _without_repeats(tools: Iterable[Tool]) -> list[Tool]:
    """Return the tools, each function once."""
    kept: list[Tool] = []
    for tool in tools:
        function = tool.function if isinstance(tool, FunctionTool) else None
        if function is None or all(not isinstance(one, FunctionTool) or one.function != function for one in kept):
            kept.append(tool)
    return kept
