"""The tools of a turn, from its options: functions, ``run_python`` and those of MCP servers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from nbchat.context.values import tool_content
from nbchat.notebook.run_python import RunPython
from nbchat.options import Options
from nbchat.tools.approval import Approval
from nbchat.tools.functions import FunctionTool, marked, resolve
from nbchat.tools.toolbox import Tool, Toolbox

if TYPE_CHECKING:
    from nbchat.tools.mcp import McpServers

__all__ = ["gather_tools", "running_shell", "say"]


def gather_tools(
    options: Options,
    namespace: Mapping[str, Any] | None,
    shell: Any,
    mcp: McpServers | None,
    remembered: set[str],
) -> Toolbox:
    """The toolbox of a turn.

    Functions that :func:`nbchat.tool` marked in ``namespace`` come first, as they are in every
    turn, then those of ``--tools``, then ``run_python``: one order keeps the prompt cache.
    ``remembered`` are the names that need not be asked for again.

    Raises:
        InputError: a name is not defined, a function cannot be described, two have one name.
    """
    names = list(_names(options.tools))
    served = [name for name in names if isinstance(name, str) and mcp is not None and mcp.owns(name)]
    known = namespace if namespace is not None else getattr(shell, "user_ns", {})
    named = resolve((name for name in names if name not in served), known, tool_content)
    found = _once([*marked(namespace or {}, tool_content), *named])
    found += mcp.tools(served) if mcp is not None and served else ()
    if options.run:
        found.append(RunPython(shell))
    return Toolbox(found, Approval(options.approve, _asking(shell), _showing(shell), remembered))


def _names(given: Iterable[Any]) -> Iterator[Any]:
    for name in given:
        if isinstance(name, str):
            yield from (word.strip() for word in name.split(",") if word.strip())
        else:
            yield name


def _once(tools: Iterable[Tool]) -> list[Tool]:
    """The tools without what was named twice."""
    found: list[Tool] = []
    for tool in tools:
        if not any(_function_of(tool) is not None and _function_of(tool) == _function_of(one) for one in found):
            found.append(tool)
    return found


def _function_of(tool: Tool) -> Any:
    return tool.function if isinstance(tool, FunctionTool) else None


def running_shell() -> Any:
    """The IPython shell this runs in, or None; IPython is not imported to find out."""
    package = sys.modules.get("IPython")
    return package.get_ipython() if package is not None else None


def _asking(shell: Any) -> Callable[[str], str] | None:
    """How the user is asked for a line; None where nobody can answer."""
    kernel = getattr(shell, "kernel", None)
    if kernel is not None:
        return kernel.raw_input  # raises where the front end takes no input
    return input if sys.stdin is not None and sys.stdin.isatty() else None


def _showing(shell: Any) -> Callable[[str], None] | None:
    return say if shell is not None else None


def say(text: str) -> None:
    """Say something about a call, under it: in a notebook as its output, elsewhere on standard error."""
    print(text, file=sys.stdout if running_shell() is not None else sys.stderr)
