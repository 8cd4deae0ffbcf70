"""Capabilities: refuse before sending what the model would refuse, as far as the Models API tells.

https://platform.claude.com/docs/en/api/models-retrieve reports the context window, the output limit and
the capabilities of a model. Where it reports nothing, nothing is refused here: the endpoint decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nbchat.core.errors import AttachmentError, OptionError, SchemaError
from nbchat.core.request import Request
from nbchat.engine.server_tools import flag_of
from nbchat.models import SERVER_TOOL_TYPES, Model

__all__ = [
    "accepted_thinking",
    "asks_much",
    "filters_no_results",
    "gives_no_format",
    "refuse_unaccepted",
    "thinking_of",
    "window_of",
]

#: The smallest thinking budget that the API takes, and the one that ``--thinking`` asks for, in tokens.
MIN_BUDGET_TOKENS, USUAL_BUDGET_TOKENS = 1_024, 4_096


def thinking_of(model: str, max_tokens: int) -> dict[str, Any]:
    """Return the ``thinking`` field of a request to this model, for ``--thinking``.

    The name alone decides, so that a request equals its recording without a question to the endpoint.
    """
    return _adaptive() if Model.of(model).thinking == "adaptive" else _with_budget(model, max_tokens)


def _adaptive() -> dict[str, Any]:
    return {"type": "adaptive", "display": "summarized"}


def _with_budget(model: str, max_tokens: int) -> dict[str, Any]:
    if max_tokens <= MIN_BUDGET_TOKENS:
        raise OptionError(
            f"--thinking: {model} needs {MIN_BUDGET_TOKENS:,} tokens for thinking, and --max-tokens is {max_tokens:,}",
            "Raise --max-tokens, or leave out --thinking.",
        )
    return {"type": "enabled", "budget_tokens": max(MIN_BUDGET_TOKENS, min(USUAL_BUDGET_TOKENS, max_tokens // 2))}


def asks_much(request: Request) -> bool:
    """Return True if the request has a part that not every model accepts.

    Only then is the endpoint asked about its model, which takes time.
    """
    return bool(
        request.max_tokens > 8_192
        or {"thinking", "output_config"} & set(request.params)
        or any(_served(request))
        or any(_blocks(request, "image", "document"))
    )


def accepted_thinking(thinking: Mapping[str, Any], description: Mapping[str, Any], max_tokens: int) -> dict[str, Any]:
    """Return the form of thinking that the model accepts: ``thinking``, or the other form if only that is reported."""
    types = _at(description, "capabilities", "thinking", "types")
    given = thinking.get("type")
    other = "enabled" if given == "adaptive" else "adaptive"
    if _refused(types, given) and _at(types, other, "supported") is True:
        return _adaptive() if other == "adaptive" else _with_budget(str(description.get("id")), max_tokens)
    return dict(thinking)


def gives_no_format(description: Mapping[str, Any]) -> bool:
    """Return True if the API reports that the model has no structured outputs. A forced tool does the same then."""
    return _refused(description.get("capabilities"), "structured_outputs")


def filters_no_results(description: Mapping[str, Any]) -> bool:
    """Return True if the API reports that code of the model cannot call web search and web fetch.

    The newest versions of the server tools need that; the basic ones do not.
    """
    return _refused(description.get("capabilities"), "code_execution")


def refuse_unaccepted(request: Request, description: Mapping[str, Any]) -> None:
    """Raise an error if the model does not accept a part of the request.

    Args:
        request: the request.
        description: the Models API's description of the model; {} refuses nothing.

    Raises:
        OptionError, AttachmentError, SchemaError: the message names the option and what the model accepts.
    """
    can = description.get("capabilities") or {}
    model = request.model
    limit = description.get("max_tokens")
    if isinstance(limit, int) and 0 < limit < request.max_tokens:
        raise OptionError(
            f"--max-tokens {request.max_tokens}: {model} answers with at most {limit:,} tokens",
            f"Give --max-tokens {limit} or fewer.",
        )
    _refuse_thinking(request, can)
    _refuse_effort(request, can)
    if (request.params.get("output_config") or {}).get("format") and _refused(can, "structured_outputs"):
        raise SchemaError(f"{model} has no structured outputs", "Leave out the schema, or ask another model with -m.")
    for name in _served(request):
        if _refused(_at(can, "server_tools"), name):
            flag = flag_of(name)
            raise OptionError(f"{flag}: {model} has no such tool", f"Leave out {flag}, or ask another model with -m.")
    cited = any((block.get("citations") or {}).get("enabled") is True for block in _blocks(request, "document"))
    if cited and _refused(can, "citations"):
        raise OptionError(f"--cite: {model} cites no sources", "Leave out --cite, or ask another model with -m.")
    for kind, capability, what in (("image", "image_input", "images"), ("document", "pdf_input", "PDF files")):
        count = sum(kind == "image" or _is_pdf(block) for block in _blocks(request, kind))
        if count and _refused(can, capability):
            raise AttachmentError(
                f"{model} does not read {what}, and the request has {count}",
                f"Ask another model with -m (%nbchat models lists what each can), or send no {what}.",
            )


def _refuse_thinking(request: Request, can: Mapping[str, Any]) -> None:
    thinking = request.params.get("thinking") or {}
    kind = thinking.get("type")
    if kind not in ("adaptive", "enabled"):
        return
    if _refused(can, "thinking"):
        raise OptionError(f"--thinking: {request.model} does not think", "Leave it out, or ask another model with -m.")
    types = _at(can, "thinking", "types")
    if _refused(types, kind):
        known = [name for name in types if _at(types, name, "supported") is True]
        raise OptionError(
            f"{request.model} does not accept thinking of type {kind!r}",
            f"It accepts {', '.join(known) or 'none'}; --thinking alone chooses the form.",
        )


def _refuse_effort(request: Request, can: Mapping[str, Any]) -> None:
    level = (request.params.get("output_config") or {}).get("effort")
    effort = _at(can, "effort")
    if not level or not effort:
        return
    if _refused(can, "effort"):
        raise OptionError(f"--effort: {request.model} has no levels of effort", "Leave out --effort.")
    known = [name for name in ("low", "medium", "high", "xhigh", "max") if _at(effort, name, "supported") is True]
    if known and level not in known:
        raise OptionError(f"--effort {level}: {request.model} does not accept it", f"It accepts {', '.join(known)}.")


def window_of(description: Mapping[str, Any]) -> int | None:
    """Return the context window in tokens, or None if the Models API does not report it."""
    window = description.get("max_input_tokens")
    return window if isinstance(window, int) and window > 0 else None


def _at(fields: Any, *path: str) -> Any:
    for key in path:
        fields = fields.get(key) if isinstance(fields, Mapping) else None
    return fields


def _refused(fields: Any, name: str | None) -> bool:
    """Return True only if the API explicitly reports ``supported: false``."""
    return name is not None and _at(fields, name, "supported") is False


def _served(request: Request) -> Iterator[str]:
    """Yield the names of the server tools of a request."""
    for tool in request.tools:
        if tool.get("name") in SERVER_TOOL_TYPES and str(tool.get("type", "custom")).startswith(f"{tool['name']}_"):
            yield str(tool["name"])


def _blocks(request: Request, *kinds: str) -> Iterator[Mapping[str, Any]]:
    for message in request.messages:
        for block in message.content:
            if block.type in kinds:
                yield block.to_dict()
            elif block.type == "tool_result":
                inner = block.to_dict().get("content")
                yield from (part for part in inner if part.get("type") in kinds) if isinstance(inner, list) else ()


def _is_pdf(block: Mapping[str, Any]) -> bool:
    source = block.get("source")
    return isinstance(source, Mapping) and (
        source.get("media_type") == "application/pdf" or source.get("type") == "url"
    )
