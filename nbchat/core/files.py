"""The files that an answer made, in the container of the service."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from nbchat.core.extension_points import provided
from nbchat.core.fields import MAX_COUNT, Fields
from nbchat.core.messages import Block, OpaqueBlock
from nbchat.core.saved_files import write_new

__all__ = ["AnswerFile", "AnswerFiles", "FileSource", "file_ids"]


class FileSource(Protocol):
    """A place that has the files of an answer: an endpoint, or a cassette."""

    def describe(self, file: AnswerFile) -> AnswerFile:
        """Return the file with its name, media type and size."""
        ...

    def read(self, file: AnswerFile, write: Callable[[bytes], object]) -> None:
        """Give the content of the file to ``write``, piece by piece."""
        ...


@dataclass(frozen=True, slots=True)
class AnswerFile:
    """A file that an answer made.

    Attributes:
        id: The id of the file in the Files API.
        name: The name that the model gave the file; "" if the endpoint has not told the name.
        media_type: The media type, such as ``image/png``; "" if it is not known.
        size: The size in bytes, or None if it is not known.
        endpoint: The endpoint that has the file.
        data: The content of a small image, which is shown with the answer; else None.
        note: The reason why the name or the image is missing, or "".
        source: The place that has the content. None in a Response from a file: then the endpoint is asked.

    >>> AnswerFile("file_1", "chart.png", "image/png", 12_300)
    <chart.png, image/png, 12,300 bytes>
    """

    id: str
    name: str = ""
    media_type: str = ""
    size: int | None = None
    endpoint: str = ""
    data: bytes | None = field(default=None, repr=False)
    note: str = ""
    source: FileSource | None = field(default=None, compare=False, repr=False)

    def save(self, folder: str | Path = ".") -> Path:
        """Write the file into a folder under its own name, and return the path.

        Nothing is overwritten: if the name is taken, a number is added to the name. The folder is made if it
        does not exist.

        Args:
            folder: The folder; by default the working folder.

        Raises:
            InputError: The file cannot be written, or is larger than the Files API allows.
            TransportError: The endpoint did not give the content.
        """
        source = self.source or provided("file_source")(self.endpoint)
        described = self if self.name or self.data is not None else source.describe(self)
        if described.data is not None:
            data = described.data
            return write_new(folder, described.name, lambda write: write(data))
        return write_new(folder, described.name, lambda write: source.read(described, write))

    def to_dict(self) -> dict[str, Any]:
        """Return the file as plain JSON values, without its content. :meth:`of_fields` reads them back."""
        fields = {"id": self.id, "name": self.name, "media_type": self.media_type, "size": self.size}
        return {name: value for name, value in fields.items() if value not in ("", None)}

    @classmethod
    def of_fields(cls, fields: Fields, endpoint: str) -> AnswerFile:
        """Return the file that :meth:`to_dict` stored.

        Raises:
            InputError: a field is missing or has another type.
        """
        size = fields.count("size") if "size" in fields else None
        return cls(fields.text("id"), fields.text("name", ""), fields.text("media_type", ""), size, endpoint)

    def described(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of the file that metadata of the Files API tell. They may be of any type."""
        name, media_type, size = (metadata.get(key) for key in ("filename", "mime_type", "size_bytes"))
        known = isinstance(size, int) and not isinstance(size, bool) and 0 <= size <= MAX_COUNT
        return {
            "name": name if isinstance(name, str) and name.strip() else self.id,
            "media_type": media_type if isinstance(media_type, str) else "",
            "size": size if known else None,
        }

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy in another process has no connection. There the endpoint is asked by its name.
        kept = (self.id, self.name, self.media_type, self.size, self.endpoint, self.data, self.note)
        return AnswerFile, kept

    def __repr__(self) -> str:
        size = "" if self.size is None else f"{self.size:,} bytes"
        return f"<{', '.join(part for part in (self.name or self.id, self.media_type, size) if part)}>"


class AnswerFiles(tuple[AnswerFile, ...]):
    """The files that an answer made, in order.

    >>> files = AnswerFiles([AnswerFile("file_1", "chart.png"), AnswerFile("file_2", "table.csv")])
    >>> [file.name for file in files]
    ['chart.png', 'table.csv']
    """

    __slots__ = ()

    def save(self, folder: str | Path = ".") -> list[Path]:
        """Write all files into a folder, and return their paths. See :meth:`AnswerFile.save`."""
        return [file.save(folder) for file in self]


def file_ids(blocks: Iterable[Block]) -> tuple[str, ...]:
    """Return the ids of the files that code of an answer made, in order, each once.

    >>> made = {"type": "bash_code_execution_output", "file_id": "file_1"}
    >>> result = {"type": "bash_code_execution_result", "stdout": "", "content": [made]}
    >>> file_ids([OpaqueBlock({"type": "bash_code_execution_tool_result", "content": result})])
    ('file_1',)
    """
    found = (id for block in blocks if isinstance(block, OpaqueBlock) for id in _ids_of(block.data))
    return tuple(dict.fromkeys(found))


def _ids_of(block: Mapping[str, Any]) -> Iterator[str]:
    kind, result = str(block.get("type", "")), block.get("content")
    # container_upload is also the block of an answer that names a file of its container.
    outputs: Any = [block] if kind == "container_upload" else []
    if kind.endswith("code_execution_tool_result") and isinstance(result, Mapping):
        outputs = result.get("content")
    for output in outputs if isinstance(outputs, list | tuple) else ():
        id = output.get("file_id") if isinstance(output, Mapping) else None
        if isinstance(id, str) and id.strip():
            yield id
