"""``--dry-run``: show exactly what would be sent, part by part, with its tokens and the estimated price."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from nbchat.content.blocks import human_size
from nbchat.content.sizes import estimate_tokens
from nbchat.core.call_text import call_lines
from nbchat.core.errors import BudgetError
from nbchat.core.messages import Message, ToolUseBlock
from nbchat.core.money import dollars
from nbchat.core.plural import counted
from nbchat.engine.fitting import parts_of_text
from nbchat.engine.prepared import Prepared
from nbchat.engine.session import Session
from nbchat.tools.toolbox import Toolbox

__all__ = ["describe"]

#: Characters of one part that are shown. A longer output makes a page slow.
MAX_PART_CHARACTERS = 50_000


def describe(prepared: Prepared, session: Session) -> str:
    """Return the text of a dry run.

    Nothing is sent, except that the endpoint is asked to count the tokens where it can and the
    request is not recorded.
    """
    request, draft = prepared.request, prepared.draft
    count = session.count(request, prepared.endpoint)
    how = "counted by the endpoint" if count.exact else "estimated"
    lines = [
        f"dry run: nothing was sent. To {prepared.endpoint.name}, model {request.model}",
        f"in all {counted(count.tokens, 'token')} ({how}), and up to {draft.max_tokens:,} in the answer",
        f"{_price(prepared, session, count.tokens)}; digest {request.digest[:12]}",
        *(f"! {remark}" for remark in (*_budget(prepared, session), *draft.notes)),
    ]
    if request.system:
        lines += _part("system", request.system if isinstance(request.system, str) else _json(request.system))
    for tool in request.tools:
        lines += _part(f"tool {tool.get('name', '')}", _json(dict(tool)))
    for number, message in _numbered(request.messages[:-1]):
        lines += _message(message, f"turn {number}, ", prepared.toolbox)
    lines += _message(draft.prompt, "", prepared.toolbox)
    rest = {"max_tokens": request.max_tokens, **request.params, "stream": request.stream}
    lines += ["── parameters", _json(rest)]
    return "\n".join(lines)


def _budget(prepared: Prepared, session: Session) -> list[str]:
    """Return what the budget would say to the request, if it would refuse it."""
    try:
        session.check_budget(prepared.options.budget, prepared.request, prepared.endpoint)
    except BudgetError as error:
        return [f"it would not be sent: {error.message}"]
    return []


def _price(prepared: Prepared, session: Session, tokens: int) -> str:
    cassette = session.recording.cassette
    if cassette is not None and cassette.holds(prepared.request):
        return "costs nothing: the answer is recorded"
    prompt, whole = (
        session.accounting.estimate(tokens, prepared.request, prepared.endpoint, answer=answer)
        for answer in (0, prepared.request.max_tokens)
    )
    if prompt is None or whole is None:
        return f"the price of {prepared.endpoint.model} is not known"
    return f"costs about {dollars(prompt)}, and at most {dollars(whole)} with the longest answer"


def _numbered(history: tuple[Message, ...]) -> Iterator[tuple[int, Message]]:
    """The messages of the history, each with the number of its turn."""
    turn = 0
    for message in history:
        turn += message.role == "user" and all(block.type != "tool_result" for block in message.content)
        yield turn, message


def _message(message: Message, where: str, toolbox: Toolbox) -> Iterator[str]:
    for block in message.content:
        plain = block.to_dict()
        if isinstance(block, ToolUseBlock):
            text = call_lines(toolbox.shown_name(block.name), block.input if block.valid else block.partial_json)
            yield from _part(f"{where}{message.role}, {block.type}", text, estimate_tokens(plain))
            continue
        if block.type != "text":
            yield from _part(f"{where}{message.role}, {block.type}", _readable(plain), estimate_tokens(plain))
            continue
        for name, text in parts_of_text(plain["text"]):
            if not text.strip():
                continue  # the blank line between two parts
            yield from _part(f"{where}{message.role}{f', {name}' if name else ''}", text)
        if len(plain) > 2:
            yield _json({key: value for key, value in plain.items() if key not in ("type", "text")})


def _part(name: str, text: str, tokens: int | None = None) -> list[str]:
    size = estimate_tokens(text) if tokens is None else tokens
    return [f"── {name} (about {counted(size, 'token')})", *_shown(text.strip("\n"))]


def _shown(text: str) -> list[str]:
    if len(text) <= MAX_PART_CHARACTERS:
        return [text] if text else []
    hint = "with NAME << the variable holds the whole request"
    return [
        text[:MAX_PART_CHARACTERS],
        f"… [shown: {MAX_PART_CHARACTERS:,} of {len(text):,} characters; all of them would be sent; {hint}]",
    ]


def _readable(block: dict[str, Any]) -> str:
    """A block as text; the data of an image or a document as its size."""
    source = block.get("source")
    if isinstance(source, dict) and isinstance(source.get("data"), str) and source.get("type") == "base64":
        size = human_size(len(source["data"].rstrip("=")) * 3 // 4)
        named = f"{block['title']}, " if block.get("title") else ""
        return f"{named}{source.get('media_type')}, {size}"
    if block["type"] == "tool_result" and isinstance(block.get("content"), list):
        parts = [part.get("text") if part.get("type") == "text" else _readable(part) for part in block["content"]]
        return "\n".join(str(part) for part in parts)
    return _json(block)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=list)
