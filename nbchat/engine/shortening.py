"""Fit a draft to its endpoint: the length of the answer, and values that leave room for it.

An endpoint with a small context window gets shorter values than the API does. The result depends only on
the draft and the endpoint, never on an answer of a server: the same cell makes the same request on a machine
that only replays recordings.
"""

from __future__ import annotations

from dataclasses import replace

from nbchat.context.values import VALUE_TOKENS
from nbchat.core.request import Request
from nbchat.engine.draft import Draft
from nbchat.engine.endpoint import Endpoint
from nbchat.engine.fitting import answer_room, most_tokens_of, request_to

__all__ = ["fit_endpoint"]

#: The fewest tokens of a value. With fewer, a table has no row.
LEAST_VALUE_TOKENS = 100
#: Two lengths of a value that are this close are the same.
CLOSE_TOKENS = 25


def fit_endpoint(draft: Draft, endpoint: Endpoint, *, trim: bool = False) -> tuple[Draft, Request]:
    """Return the draft for an endpoint and its request.

    Args:
        draft: the draft.
        endpoint: where the request goes.
        trim: True if the history may be dropped, so that the values need not be cut for it.

    Raises:
        OptionError, SchemaError: as from :func:`request_to`.
    """
    if endpoint.max_tokens is not None:
        draft = replace(draft, max_tokens=endpoint.max_tokens)
    if endpoint.ignores:
        tools = {name: settings for name, settings in draft.server_tools.items() if name not in endpoint.ignores}
        draft = replace(draft, thinks=draft.thinks and "thinking" not in endpoint.ignores, server_tools=tools)
    request = request_to(draft, endpoint)
    if endpoint.window is None or draft.with_values_in is None:
        return draft, request
    room = endpoint.window - answer_room(draft, endpoint.window)
    history = () if trim else draft.history
    if most_tokens_of(request_to(replace(draft, history=history), endpoint), room) <= room:
        return draft, request
    with_values_in = draft.with_values_in

    def tokens_with(value_tokens: int) -> int:
        shorter = replace(draft, prompt=with_values_in(value_tokens).prompt, history=history)
        return most_tokens_of(request_to(shorter, endpoint), room)

    # If something must be cut, then to half of what is left, so that the conversation can go on: the next prompt
    # has this one before it. Reading a full window would also take a small model on a processor minutes.
    least = tokens_with(LEAST_VALUE_TOKENS)
    kept_room = least + max(room - least, 0) // 2
    # The longest values that fit. With the shortest ones the request is refused later if it is still too large.
    fitting, too_long = LEAST_VALUE_TOKENS, VALUE_TOKENS
    while too_long - fitting > CLOSE_TOKENS:
        tokens = (fitting + too_long) // 2
        if tokens_with(tokens) <= kept_room:
            fitting = tokens
        else:
            too_long = tokens
    cut = with_values_in(fitting)
    draft = replace(draft, prompt=cut.prompt, notes=cut.notes)
    return draft, request_to(draft, endpoint)
