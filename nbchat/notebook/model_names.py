"""The names of models that Tab suggests: those of the endpoint that the line names, then the others."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, get_args

from nbchat.models import KNOWN_MODELS, LOCAL

if TYPE_CHECKING:
    from nbchat.engine.session import Session

__all__ = ["model_names"]

#: How long somebody at a keyboard waits for the list of an endpoint.
MAX_WAIT_S = 0.25


def model_names(shell: Any, endpoint: str) -> list[str]:
    """Return the models of an endpoint in alphabetical order, then the other models that are known.

    Args:
        shell: the IPython shell, with nbchat loaded.
        endpoint: the endpoint that the line names, or "".
    """
    session: Session | None = shell.nbchat.existing_session
    own: tuple[str, ...] = ()
    # Replay never touches the network, not even for a list.
    if session is not None and not session.recording.replays_only:
        given = {"endpoint": endpoint} if endpoint else {}
        own = session.endpoints.model_names(session.options(given), MAX_WAIT_S)
    if own and (endpoint or shell.nbchat.settings.endpoint) == LOCAL:
        return sorted(own)  # it serves no other
    return list(dict.fromkeys([*sorted(own), *sorted({*_known(), shell.nbchat.settings.model})]))


def _known() -> Iterator[str]:
    """Yield the models that the SDK and this package know."""
    literals = getattr(sys.modules.get("anthropic.types.model"), "Model", None)
    for part in get_args(literals):
        yield from (name for name in get_args(part) if isinstance(name, str))
    yield from KNOWN_MODELS  # the SDK, whose list is newer, may still be importing
