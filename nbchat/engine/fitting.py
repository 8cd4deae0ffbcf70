"""Fit a draft to a model and to its context window, and count what a request takes.

A draft becomes one frozen Request here. Everything after that (the window, the budget, the cassette,
the dry run, sending) works with that Request and with the one way to count its tokens.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from nbchat.content.sizes import estimate_tokens, most_tokens
from nbchat.core.errors import InputError
from nbchat.core.messages import Message
from nbchat.core.request import Request
from nbchat.core.uploads import addresses_in
from nbchat.engine.capabilities import (
    accepted_thinking,
    asks_much,
    filters_no_results,
    gives_no_format,
    refuse_unaccepted,
    window_of,
)
from nbchat.engine.draft import Draft
from nbchat.engine.endpoint import Endpoint
from nbchat.engine.server_tools import refuse_unserved
from nbchat.engine.uploads import ids_at, refuse_unknown_files
from nbchat.models import context_window

__all__ = ["Count", "answer_room", "count", "fit_model", "fit_window", "parts_of_text", "request_to"]

#: From this estimate on, the endpoint is asked for the context window of its model.
MANY_TOKENS = 50_000


def request_to(draft: Draft, endpoint: Endpoint) -> Request:
    """Return the request that a draft makes at an endpoint.

    Raises:
        OptionError: ``max_tokens`` has no room for the thinking of the model, or two tools have one name.
        SchemaError: the type of the answer has no JSON Schema that the API takes.
    """
    request = draft.request(
        endpoint.model, endpoint.defaults, endpoint.way, endpoint=endpoint.name, newest_tools=endpoint.newest_tools
    )
    return replace(request, file_ids=ids_at(endpoint.name, draft.uploads))


# Counting --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Count:
    """The tokens of a prompt. ``exact`` is True if the endpoint counted them, and False for an estimate."""

    tokens: int
    exact: bool


def count(request: Request, endpoint: Endpoint | None) -> Count:
    """Count the tokens of a request's prompt.

    Args:
        request: the request.
        endpoint: who counts, or None where nothing may be sent. An endpoint that cannot count leaves
            an estimate too.
    """
    # Before a file is uploaded, the endpoint cannot count its tokens.
    unknown = addresses_in(request.messages).keys() - request.file_ids.keys()
    tokens = endpoint.count_tokens(request) if endpoint is not None and not unknown else None
    return Count(_estimate(request), exact=False) if tokens is None else Count(tokens, exact=True)


def _estimate(request: Request) -> int:
    """Estimate the tokens of a request, block by block: the base64 of an image is not text."""
    tokens = sum(_message_tokens(message) for message in request.messages) + request.file_tokens
    if request.system:
        tokens += estimate_tokens(request.system)
    return tokens + _tools_tokens(request.tools)


def _message_tokens(message: Message) -> int:
    return estimate_tokens([block.to_dict() for block in message.content])


def _tools_tokens(tools: tuple[Mapping[str, Any], ...]) -> int:
    return estimate_tokens("".join(str(dict(tool)) for tool in tools)) if tools else 0


# The model -------------------------------------------------------------------------------------


def fit_model(
    draft: Draft, request: Request, endpoint: Endpoint, describe: Callable[[Endpoint], Mapping[str, Any]]
) -> tuple[Draft, Request]:
    """Return the draft and its request in the form that the model accepts, as far as the endpoint tells.

    Args:
        draft: the draft.
        request: the request that it makes at the endpoint.
        endpoint: where the request goes.
        describe: returns the Models API's description of the endpoint's model. It is called only for
            requests with something that not every model accepts.

    Raises:
        OptionError, AttachmentError, SchemaError: the endpoint or the model does not accept the request.
    """
    refuse_unknown_files(request, draft.uploads, endpoint)
    if not asks_much(request):
        return draft, request
    refuse_unserved(draft.server_tools, endpoint.name)
    description = describe(endpoint)
    fitted = draft
    if draft.schema is not None and gives_no_format(description):
        fitted = replace(fitted, way="tool")
    if draft.server_tools and filters_no_results(description):
        fitted = replace(fitted, basic_tools=True)
    given = draft.params.get("thinking") or {}
    if draft.thinks and "type" not in given:
        thinking = accepted_thinking(request.params["thinking"], description, draft.max_tokens)
        if thinking["type"] != request.params["thinking"]["type"]:
            fitted = replace(fitted, params={**fitted.params, "thinking": {**thinking, **given}})
    if fitted is not draft:
        request = request_to(fitted, endpoint)
    refuse_unaccepted(request, description)
    return fitted, request


# The window ------------------------------------------------------------------------------------


def fit_window(
    draft: Draft,
    request: Request,
    endpoint: Endpoint,
    *,
    trim: bool,
    describe: Callable[[Endpoint], Mapping[str, Any]] | None,
    count: Callable[[Request], Count],
) -> tuple[Draft, Request]:
    """Return the draft and its request if they fit the context window, or as much as ``--trim`` keeps.

    Args:
        draft: the draft.
        request: the request that it makes at the endpoint.
        endpoint: where the request goes.
        trim: whether the oldest turns of the history may be dropped.
        describe: as in :func:`fit_model`; None where the endpoint may not be asked.
        count: counts the tokens of a request.

    Raises:
        InputError: the request is too large.
    """
    tokens, window = _estimate(request), endpoint.window
    # A small request fits every window. Only a large one is worth the time of asking.
    asks = window is None and tokens > MANY_TOKENS and describe is not None
    if asks and describe is not None:
        # Bedrock and Vertex have no Models API; the price list knows their windows. A beta can
        # give more than is listed.
        listed = None if "betas" in draft.params else context_window(endpoint.model, endpoint.priced_as)
        window = window_of(describe(endpoint)) or listed
    if not window:
        return draft, request
    answer = answer_room(draft, window)
    if endpoint.window is not None:
        # A token of a small model is shorter than the estimate assumes. Where it could be too many, the model counts.
        if most_tokens_of(request, window - answer) + answer <= window * 3 // 4:
            return draft, request
        tokens = max(tokens, count(request).tokens)
    elif asks and tokens + answer > window // 2:  # an estimate is not good enough to decide
        counted = count(request)
        tokens = counted.tokens
        # An estimate can be a third too high. The endpoint has the last word.
        if not counted.exact and tokens * 3 // 4 + answer <= window:
            return draft, request
    fitted = refuse_too_long(draft, tokens, window, answer=answer, trim=trim)
    return (draft, request) if fitted is draft else (fitted, request_to(fitted, endpoint))


def answer_room(draft: Draft, window: int) -> int:
    """Return how many tokens of the context window the answer needs at least."""
    return min(draft.max_tokens, window // 8)


def most_tokens_of(request: Request, enough: int) -> int:
    """Return about the most tokens of a request. From ``enough`` on, the number need not be exact."""
    contents = [[block.to_dict() for block in message.content] for message in request.messages]
    if isinstance(request.system, str):
        contents.append([{"type": "text", "text": request.system}])
    # Counting piece by piece takes a second for ten megabytes, which are far too many anyway.
    least = sum(estimate_tokens(content) for content in contents)
    return least if least > enough else sum(most_tokens(content) for content in contents)


def refuse_too_long(draft: Draft, tokens: int, window: int, *, answer: int = 0, trim: bool = False) -> Draft:
    """Return the draft if it fits the window, or with ``trim`` as much of it as fits.

    Args:
        draft: the draft.
        tokens: the tokens of its request.
        window: the context window, in tokens.
        answer: the tokens that the answer needs.
        trim: whether the oldest turns of the history may be dropped.

    Raises:
        InputError: the request is too large. The message names the three largest parts.
    """
    excess = tokens + answer - window
    if excess <= 0:
        return draft
    if trim and draft.history:
        trimmed = _without_oldest_turns(draft, excess)
        if trimmed is not None:
            return trimmed
    parts = _largest_parts(draft)
    # The parts are estimated. If the endpoint counted more, they are larger too.
    scale = max(tokens / max(sum(size for size, _ in parts), 1), 1.0)
    largest = "; ".join(f"{name}: about {round(size * scale):,} tokens" for size, name in parts[:3])
    ways = ["Send less", *(["leave the history out with --once"] if draft.history else [])]
    if draft.history and not trim:
        ways.append("drop its oldest turns with --trim")
    raise InputError(
        f"the request has {tokens:,} tokens, its answer needs about {answer:,}, and the context window holds "
        f"{window:,}: nothing was sent. Largest: {largest}",
        ", or ".join(ways) + ".",
    )


def _without_oldest_turns(draft: Draft, excess: int) -> Draft | None:
    """Return the draft without as many of its oldest turns as have ``excess`` tokens, or None if all are too few."""
    kept, dropped, saved = list(draft.history), 0, 0
    while kept and saved < excess:
        # Half a turn could leave a call without its result.
        sent = kept.pop(0).sendable()
        saved += sum(_message_tokens(message) for message in sent)
        dropped += bool(sent)
    if saved < excess:
        return None
    note = f"--trim dropped the oldest {f'{dropped} turns' if dropped > 1 else 'turn'} of the history"
    return replace(draft, history=tuple(kept), notes=(*draft.notes, note))


def _largest_parts(draft: Draft) -> list[tuple[int, str]]:
    """Return the parts of a draft with their estimated tokens, the largest first."""
    parts = [(estimate_tokens(draft.system), "the system prompt")] if draft.system else []
    if tools := (*draft.tools, *draft.added_tools):
        parts.append((_tools_tokens(tools), "the tools"))
    for number, turn in enumerate(draft.history, 1):
        for message in turn.sendable():
            name = f"turn {number} of the history, " + ("the prompt" if message.role == "user" else "the answer")
            parts.append((_message_tokens(message), name))
    for block in draft.prompt.content:
        fields = block.to_dict()
        if block.type == "text":
            texts = parts_of_text(fields["text"])
            parts += [(estimate_tokens(text), name or "the prompt's own text") for name, text in texts]
        else:
            name = " ".join(["the", block.type, fields.get("title") or ""]).strip()
            uploaded = addresses_in((Message("user", (block,)),))
            size = estimate_tokens(fields) + sum(draft.uploads[address].tokens for address in uploaded)
            parts.append((size, name))
    return sorted(parts, reverse=True)


#: Values, files and cells in a text are between tags (:func:`nbchat.content.blocks.tagged`).
_TAGGED = re.compile(r"""<(?P<tag>[a-z]+) (?:name|number)=(?P<name>"[^"]*"|'[^']*')[^>]*>\n.*?</(?P=tag)>""", re.DOTALL)


def parts_of_text(text: str) -> Iterator[tuple[str, str]]:
    """Yield the parts of a prompt's text as (name, text). Text between the tagged parts has the name "".

    The texts, joined, are the whole text again.

    >>> list(parts_of_text('Sum <csv name="sales">\\n1\\n</csv> up.'))
    [('', 'Sum '), ('csv sales', '<csv name="sales">\\n1\\n</csv>'), ('', ' up.')]
    """
    at = 0
    for tagged in _TAGGED.finditer(text):
        if text[at : tagged.start()]:
            yield "", text[at : tagged.start()]
        yield f"{tagged['tag']} {tagged['name'][1:-1]}", tagged[0]
        at = tagged.end()
    if text[at:]:
        yield "", text[at:]
