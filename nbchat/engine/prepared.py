"""A request that is ready to be sent, with all that sending needs to know."""

from __future__ import annotations

from dataclasses import dataclass, field

from nbchat.core.request import Request
from nbchat.engine.draft import Draft
from nbchat.engine.endpoints import Endpoint
from nbchat.options import Options
from nbchat.tools.toolbox import Toolbox

__all__ = ["Prepared"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that is ready to be sent.

    Args:
        draft: what the user asked, before it met an endpoint.
        request: the request, complete.
        endpoint: where it goes.
        options: the options of the cell.
        cell: the key of the turn in its conversation, or None.
        toolbox: the tools that the model may call.
    """

    draft: Draft
    request: Request
    endpoint: Endpoint
    options: Options
    cell: str | None = None
    toolbox: Toolbox = field(default_factory=Toolbox)
