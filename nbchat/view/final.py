"""The final output of an answer: what stays in the notebook.

It is one plain output with safe ``text/html``, ``text/latex`` and ``text/plain``, without a widget and
without a script. This module and :mod:`nbchat.view.live.widgets` are the only doors to IPython.display.
"""

from __future__ import annotations

import logging
import uuid
from typing import Any

from nbchat.core.chunks import StreamChunk
from nbchat.core.request import Request
from nbchat.core.response import Response
from nbchat.core.stopping import stoppable
from nbchat.core.visible import visible
from nbchat.view.html.render import render_response
from nbchat.view.html.safe import NoCleaner, escape
from nbchat.view.latex.document import latex_document

__all__ = [
    "FinalView",
    "final_bundle",
    "output_metadata",
    "publish",
    "publish_response",
    "render",
    "settle_output",
    "show",
]

log = logging.getLogger("nbchat.view")

_STOPPED = "[interrupted while the answer was drawn; %nbchat show draws it again]"
#: The part of a longer answer that is shown if the user stops its drawing. Showing 50 MB takes many seconds as well.
_STOPPED_CHARACTERS = 200_000


class FinalView:
    """A sink that shows the final output and nothing before the end.

    Attributes:
        display_id: the display id of the output.
    """

    def __init__(self) -> None:
        self.display_id = uuid.uuid4().hex

    def begin(self, request: Request) -> None:
        """Show nothing."""

    def feed(self, chunk: StreamChunk) -> None:
        """Show nothing."""

    def settle(self, response: Response) -> None:
        """Show the final output."""
        settle_output(response, self.display_id, is_new=True)


def settle_output(response: Response, display_id: str, *, is_new: bool = False, fresh: bool = False) -> None:
    """Draw and publish the final output. If the user stops the drawing, the output is plain text.

    Args:
        response: the answer.
        display_id: the display id of the output.
        is_new: the output is a new one. Otherwise the answer replaces the output that has this id.
        fresh: replace all outputs of the cell by a new one.

    Raises:
        KeyboardInterrupt: the user stopped the drawing. The output is published.
    """
    stopped: KeyboardInterrupt | None = None
    try:
        bundle = stoppable(lambda: final_bundle(response))
    except KeyboardInterrupt as stop:
        stopped, bundle = stop, _plain_bundle(response, _STOPPED)
    if bundle or not is_new:
        publish_response(response, bundle, display_id, is_new=is_new, fresh=fresh)
    if stopped is not None:
        raise stopped


def show(response: Response) -> None:
    """Display the final output of an answer again."""
    publish_response(response, final_bundle(response))


def publish(bundle: dict[str, Any]) -> None:
    """Publish a mimebundle that this package rendered."""
    from IPython.display import publish_display_data

    publish_display_data(bundle)


def publish_response(
    response: Response,
    bundle: dict[str, Any],
    display_id: str | None = None,
    *,
    is_new: bool = False,
    fresh: bool = False,
) -> None:
    """Publish the final output of an answer.

    Args:
        response: the answer that the metadata describes.
        bundle: the mimebundle of :func:`final_bundle`. {} empties the output with that display id.
        display_id: the display id of the output. Without one, the bundle becomes a new output.
        is_new: the output is a new one. Otherwise the bundle replaces the output that has this id.
        fresh: replace all outputs of the cell by a new one.
    """
    from IPython.display import clear_output, publish_display_data

    if fresh:
        # Nothing is cleared before the new output is there, so nothing moves.
        clear_output(wait=bool(bundle))
        if not bundle:
            return
    update = not is_new and not fresh
    target: dict[str, Any] = {"transient": {"display_id": display_id}, "update": update} if display_id else {}
    publish_display_data(bundle, output_metadata(response) if bundle else {}, **target)


def final_bundle(response: Response, numbered_call: str = "") -> dict[str, Any]:
    """Return the final mimebundle of an answer, or {} if there is nothing to show.

    Args:
        response: the answer.
        numbered_call: as in :func:`~nbchat.view.html.render.render_response`.
    """
    if not response.blocks and response.status == "error":
        return {}  # IPython shows the error itself right after this, and the error says it all
    return render(response, numbered_call)


def render(response: Response, numbered_call: str = "") -> dict[str, Any]:
    """Return the mimebundle of an answer, as plain text if the answer cannot be rendered.

    Args:
        response: the answer.
        numbered_call: as in :func:`~nbchat.view.html.render.render_response`.
    """
    try:
        bundle: dict[str, Any] = render_response(response, numbered_call)
        # A prompt that carries this output quotes its richest form if it has no text: that has to stay the HTML.
        latex = latex_document(bundle["text/html"]) if bundle["text/plain"].strip() else ""
        return {**bundle, "text/latex": latex} if latex else bundle
    except NoCleaner:
        return _plain_bundle(response)  # %nbchat doctor says why
    except Exception:
        # A fault in the renderer must not cost the user an answer that was paid for.
        log.exception("an answer could not be rendered and is shown as plain text")
        return _plain_bundle(response)


def _plain_bundle(response: Response, note: str = "") -> dict[str, Any]:
    """Return the answer as plain text, which costs next to nothing to draw.

    Args:
        response: the answer.
        note: the reason, if the user stopped the drawing. A long answer is then cut.
    """
    shown = response.text
    if note and len(shown) > _STOPPED_CHARACTERS:
        shown = f"{shown[:_STOPPED_CHARACTERS]} …"
    text = "\n\n".join(part for part in (shown, note) if part)
    # A blank line would end the HTML in a notebook that is exported as Markdown.
    html = escape(text).replace("\n", "&#10;")
    return {"text/html": f"<pre>{html}</pre>", "text/plain": visible(text)}


def output_metadata(response: Response) -> dict[str, Any]:
    """Return what the notebook keeps next to an answer, or {} for one part of an answer.

    It contains no prompt and no key. It contains no times either: two runs of a recorded answer must
    write the same notebook, byte for byte.
    """
    if not (response.id or response.model or response.digest):
        return {}
    fields = {
        "id": response.id,
        "model": response.model,
        "status": response.status,
        "usage": response.usage.to_dict(),
        "cost": response.cost,
        "digest": response.digest,
        "replayed": response.replayed or None,
    }
    return {"nbchat": {name: value for name, value in fields.items() if value not in (None, "")}}
