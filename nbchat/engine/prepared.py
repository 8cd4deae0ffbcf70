"""A request that is ready to be sent, with all that sending needs to know."""

from __future__ import annotations

from dataclasses import dataclass, field

from nbchat.core.chunks import Notice
from nbchat.core.plural import counted
from nbchat.core.request import Request
from nbchat.engine.draft import Draft
from nbchat.engine.endpoint import Endpoint
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

    def notices(self, later: int) -> list[Notice]:
        """Return what the user is told before the answer.

        Args:
            later: the number of turns after this one in its conversation, which become stale.
        """
        stale = f"{counted(later, 'later turn')} {'become' if later > 1 else 'becomes'} stale" if later else ""
        return [Notice(text, about=text) for text in (self.endpoint.notice, *self.draft.notes, stale) if text]
