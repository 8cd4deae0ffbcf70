"""``--dry-run``: exactly what would be sent, part by part, with tokens and the estimated price."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from nbchat.context.size import estimate_tokens
from nbchat.core.messages import Message
from nbchat.session import Prepared, Session
from nbchat.store.prices import dollars

__all__ = ["preview"]

#: Characters of one part that are shown.
SHOWN = 2_000


def preview(prepared: Prepared, session: Session) -> str:
    """The text of a dry run. Nothing is sent but, where the endpoint can count, the request for the count."""
    request, draft = prepared.request, prepared.draft
    tokens, counted = session.count_tokens(prepared)
    estimate = session.records.estimate(tokens, draft.max_tokens, prepared.endpoint)
    lines = [f"dry run: nothing was sent. To {prepared.endpoint.name}, model {request.model}"]
    if request.system:
        lines += _part("system", request.system if isinstance(request.system, str) else json.dumps(request.system))
    for tool in request.tools:
        lines += _part(f"tool {tool.get('name', '')}", json.dumps(dict(tool), ensure_ascii=False))
    for message in request.messages:
        lines += _message(message, "history, " if message is not draft.prompt else "")
    rest = {"max_tokens": request.max_tokens, **request.params, "stream": request.stream}
    lines += ["── parameters", json.dumps(rest, ensure_ascii=False)]
    lines += [f"! {note}" for note in draft.notes]
    how = "counted by the endpoint" if counted else "estimated"
    price = "price unknown" if estimate is None else f"at most {dollars(estimate)} with a full answer"
    lines.append(
        f"── {tokens:,} tokens ({how}), up to {draft.max_tokens:,} in the answer; {price}; digest {request.digest[:12]}"
    )
    return "\n".join(lines)


def _message(message: Message, where: str) -> Iterator[str]:
    for block in message.content:
        plain = block.to_dict()
        kind = "" if block.type == "text" else f", {block.type}"
        yield from _part(f"{where}{message.role}{kind}", _readable(plain), estimate_tokens(plain))


def _part(name: str, text: str, tokens: int | None = None) -> list[str]:
    size = estimate_tokens(text) if tokens is None else tokens
    cut = f"\n… ({len(text) - SHOWN:,} more characters)" if len(text) > SHOWN else ""
    return [f"── {name} (about {size:,} tokens)", text[:SHOWN] + cut]


def _readable(block: dict[str, Any]) -> str:
    """A block as text; the data of an image or a document as its size."""
    if block["type"] == "text":
        return str(block["text"])
    source = block.get("source")
    if isinstance(source, dict) and isinstance(source.get("data"), str) and source.get("type") == "base64":
        size = len(source["data"]) * 3 // 4
        return f"{source.get('media_type')}, {size:,} bytes"
    return json.dumps(block, ensure_ascii=False)
