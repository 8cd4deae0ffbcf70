"""Answers that a run need not ask for: from a cassette, or from the store into a cassette."""

from __future__ import annotations

from nbchat.core.parser import events_of
from nbchat.core.request import Request
from nbchat.engine.endpoint import Endpoint
from nbchat.engine.recording import Recording
from nbchat.rows.result import Result
from nbchat.rows.store import Store

__all__ = ["record_kept_answer"]


def record_kept_answer(
    recording: Recording, store: Store, request: Request, endpoint: Endpoint, *, failed_too: bool = False
) -> Result | None:
    """Return a result that another run left, after writing it into the cassette; None if it has to be sent.

    Args:
        recording: has the cassette.
        store: has the result.
        request: the request of the row.
        endpoint: the endpoint that answered.
        failed_too: whether an answer that was cut or refused is written, too.
    """
    if recording.cassette is None or recording.cassette.mode != "auto" or recording.replays(request):
        return None
    kept = store.find([request.digest]).get(request.digest)
    if kept is None or kept.message is None or not (kept.ok or failed_too):
        return None
    keep = recording.recorder(request, endpoint.name)
    for event in events_of(kept.message):
        keep(event)
    return kept
