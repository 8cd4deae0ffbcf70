"""Files that a prompt refers to, and that the Files API of an endpoint holds.

A block refers to a file by its address, a hash of the content::

    {"type": "document", "source": {"type": "file", "file_id": "sha256:…"}}

The id that the endpoint gave replaces the address when the request is sent. Until then, everything
works with the address: it is the same on every day and at every endpoint, so a recording is found again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbchat.core.fields import Fields
from nbchat.core.messages import Message

__all__ = ["ADDRESS", "Upload", "addresses_in", "with_file_ids"]

#: The beginning of an address. The ids of the API begin in another way.
ADDRESS = "sha256:"


@dataclass(frozen=True, slots=True)
class Upload:
    """A file to upload.

    Attributes:
        address: ``sha256:`` and the hash of the content, in hexadecimal.
        name: The name of the file, as the API stores it.
        media_type: The media type.
        size: The size in bytes.
        tokens: About how many tokens the file takes in a prompt.
        content: The bytes, or the path of a file that is too large to be held; None for a file of an
            earlier turn.
        ids: The id of the file at each endpoint that has the file, by the endpoint's name.
    """

    address: str
    name: str
    media_type: str
    size: int
    tokens: int = 0
    content: bytes | Path | None = field(default=None, repr=False)
    ids: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the upload as plain JSON values, without its content. :meth:`of_fields` reads them back."""
        kept = ("address", "name", "media_type", "size", "tokens")
        return {name: getattr(self, name) for name in kept} | {"ids": dict(self.ids)}

    @classmethod
    def of_fields(cls, fields: Fields) -> Upload:
        """Return the upload that :meth:`to_dict` stored.

        Raises:
            InputError: a field is missing or has another type.
        """
        ids = fields.fields("ids")
        return cls(
            fields.text("address"),
            fields.text("name"),
            fields.text("media_type"),
            fields.count("size"),
            fields.count("tokens", 0),
            ids={endpoint: ids.text(endpoint) for endpoint in ids.plain()},
        )


def addresses_in(messages: Sequence[Message]) -> dict[str, str]:
    """Return the addresses of the files that messages refer to, each with the title of its block or "".

    >>> source = {"type": "file", "file_id": "sha256:ab"}
    >>> addresses_in([Message.of("user", [{"type": "document", "source": source, "title": "a.pdf"}])])
    {'sha256:ab': 'a.pdf'}
    """
    found: dict[str, str] = {}
    for message in messages:
        if message.role != "user":
            continue
        for block in message.content:
            for part, title in _references(block.to_dict() if block.type in _TYPES else {}):
                if part["file_id"].startswith(ADDRESS):
                    found.setdefault(part["file_id"], title)
    return found


#: The blocks that can refer to a file.
_TYPES = frozenset({"document", "image", "container_upload"})


def _references(block: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yield the dict of a block that has a ``file_id``, and the title of the block."""
    source = block.get("source")
    for part in (block, source):
        if isinstance(part, Mapping) and isinstance(part.get("file_id"), str):
            yield part, str(block.get("title") or "")


def with_file_ids(messages: Sequence[Mapping[str, Any]], ids: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return messages, as dicts, with the id of each file instead of its address."""

    def sent(block: Any) -> Any:
        if not isinstance(block, Mapping) or block.get("type") not in _TYPES:
            return block
        block = dict(block)
        if isinstance(block.get("source"), Mapping):
            block["source"] = replaced(block["source"])
        return replaced(block)

    def replaced(part: Mapping[str, Any]) -> dict[str, Any]:
        id = part.get("file_id")
        return {**part, "file_id": ids.get(id, id)} if isinstance(id, str) else dict(part)

    return [
        {**message, "content": [sent(block) for block in message["content"]]}
        if isinstance(message.get("content"), list)
        else dict(message)
        for message in messages
    ]
