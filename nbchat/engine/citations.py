"""Citations: all documents of a request may be cited, or none.

https://platform.claude.com/docs/en/build-with-claude/citations
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nbchat.core.errors import OptionError
from nbchat.core.messages import Block, Message, OpaqueBlock

__all__ = ["refuse_uncitable", "with_citations"]


def refuse_uncitable(messages: Sequence[Message], *, typed: bool, params: Mapping[str, Any]) -> None:
    """Refuse ``--cite`` where the API would, and where there is nothing to cite.

    Args:
        messages: the messages of the request.
        typed: whether the answer has a type (``--schema``).
        params: further fields of the request.

    Raises:
        OptionError: the answer is typed, or no message has a document.
    """
    if typed or (params.get("output_config") or {}).get("format"):
        raise OptionError(
            "--cite: a typed answer (--schema) cannot cite its sources",
            "Leave out one of the two, or ask for the sources in a cell of its own.",
        )
    if not any(_is_document(block) for message in messages for block in message.content):
        raise OptionError(
            "--cite: the request has no document to cite",
            "Attach a PDF or a text with --attach, or cells with --cells.",
        )


def with_citations(messages: tuple[Message, ...], cite: bool, *, typed: bool) -> tuple[Message, ...]:
    """Return messages whose documents can all be cited, or none of them.

    Documents of earlier turns stay as they were sent, so a later turn without ``--cite`` has citations too.
    A typed answer has none: the API refuses both together.

    Args:
        messages: the messages.
        cite: whether the user asks for citations.
        typed: whether the answer has a type.
    """
    documents = [block for message in messages for block in message.content if _is_document(block)]
    enabled = not typed and (cite or any(_is_cited(block) for block in documents))
    if all(_is_cited(block) == enabled for block in documents):
        return messages
    return tuple(
        Message(message.role, tuple(_changed(block, enabled) for block in message.content)) for message in messages
    )


def _is_document(block: Block) -> bool:
    return block.type == "document"


def _is_cited(block: Block) -> bool:
    citations = block.data.get("citations") if isinstance(block, OpaqueBlock) else None
    return isinstance(citations, Mapping) and citations.get("enabled") is True


def _changed(block: Block, enabled: bool) -> Block:
    if not isinstance(block, OpaqueBlock) or not _is_document(block) or _is_cited(block) == enabled:
        return block
    rest = {key: value for key, value in block.data.items() if key != "citations"}
    return OpaqueBlock({**rest, "citations": {"enabled": True}} if enabled else rest)
