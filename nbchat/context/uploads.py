"""Files that go through the Files API of an endpoint (``--upload``): blocks that refer to them by an address.

https://platform.claude.com/docs/en/build-with-claude/files
"""

from __future__ import annotations

import base64
import hashlib
import mimetypes
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from nbchat.content.blocks import Carried, human_size, without_keys
from nbchat.content.media_types import MAX_FILE_BYTES, looks_like_text
from nbchat.content.sizes import estimate_tokens
from nbchat.core.errors import AttachmentError
from nbchat.core.saved_files import file_name
from nbchat.core.uploads import ADDRESS, Upload

__all__ = ["INLINE", "Form", "upload_block", "upload_data", "upload_image"]

#: Largest file that is held until it is uploaded. A larger one is read again then.
MAX_HELD_BYTES = 32_000_000
#: Largest data file that is searched for keys.
MAX_SEARCHED_BYTES = 4_000_000
_PIECE_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Form:
    """The form in which files are sent.

    Attributes:
        cite: Texts are documents that the model may cite.
        upload: Files go through the Files API.
        code: Code runs in a container of the service, so that data files go there.
    """

    cite: bool = False
    upload: bool = False
    code: bool = False

    @property
    def in_container(self) -> bool:
        """Return True if data files are uploaded into the container."""
        return self.upload and self.code


INLINE = Form()


def upload_block(block: dict[str, Any], name: str, media_type: str, data: bytes, tokens: int, *notes: str) -> Carried:
    """Return a block with ``data`` as an uploaded file, in the place of the block's own source."""
    upload = Upload(_address(hashlib.sha256(data)), file_name(name), media_type, len(data), tokens, data)
    return Carried(({**block, "source": {"type": "file", "file_id": upload.address}},), notes, (upload,))


def upload_image(carried: Carried, name: str) -> Carried:
    """Return the content of one image with the image as an uploaded file."""
    (block,) = carried.content
    source = block["source"]
    data = base64.b64decode(source["data"])
    # The name gets the suffix of the bytes: an image that was scaled is a PNG or a JPEG.
    name = f"{Path(name).stem}.{source['media_type'].partition('/')[2]}"
    return upload_block(block, name, source["media_type"], data, estimate_tokens(block), *carried.notes)


def upload_data(file: BinaryIO, head: bytes, path: Path, name: str) -> Carried:
    """Return a data file that code in the container of the service can read.

    Args:
        file: The open file, from which ``head`` was read.
        head: The first bytes of the file.
        path: The path of the file. A large file is read again when it is uploaded.
        name: The name of the file in notes.

    Raises:
        AttachmentError: The file is larger than the Files API allows.
        OSError: The file cannot be read.
    """
    digest, size, pieces = hashlib.sha256(head), len(head), [head]
    while size <= MAX_FILE_BYTES and (piece := file.read(_PIECE_BYTES)):
        digest.update(piece)
        size += len(piece)
        if size <= MAX_HELD_BYTES:
            pieces.append(piece)
    if size > MAX_FILE_BYTES:
        raise AttachmentError(
            f"{name} is {human_size(max(size, os.fstat(file.fileno()).st_size))}, and the limit for an uploaded file "
            f"is {human_size(MAX_FILE_BYTES)}",
            "Split it, or send the part that matters.",
        )
    content: bytes | Path = b"".join(pieces) if size <= MAX_HELD_BYTES else path.resolve()
    notes: tuple[str, ...] = ()
    if isinstance(content, bytes) and size <= MAX_SEARCHED_BYTES and looks_like_text(head):
        content, notes = _without_keys(content, name)
        digest, size = hashlib.sha256(content), len(content)
    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    upload = Upload(_address(digest), file_name(path.name), media_type, size, 0, content)
    return Carried(({"type": "container_upload", "file_id": upload.address},), notes, (upload,))


def _without_keys(data: bytes, name: str) -> tuple[bytes, tuple[str, ...]]:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return data, ()  # another encoding, which code in the container will find out
    text, notes = without_keys(text, name)
    return text.encode(), notes


def _address(digest: Any) -> str:
    return f"{ADDRESS}{digest.hexdigest()}"
