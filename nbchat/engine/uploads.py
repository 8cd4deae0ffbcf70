"""Uploads: each file of a prompt goes to the Files API of an endpoint once for a conversation.

A file is uploaded when the first request that refers to it is really sent, so a replay uploads nothing.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from nbchat.content.blocks import human_size
from nbchat.core.errors import AttachmentError, BadRequestError, OptionError
from nbchat.core.messages import Message
from nbchat.core.request import Request
from nbchat.core.stopping import StoppedBeforeSending
from nbchat.core.uploads import Upload, addresses_in
from nbchat.core.visible import visible_line
from nbchat.engine.endpoint import Endpoint

__all__ = ["Uploading", "gather", "ids_at", "refuse_unknown_files"]


def gather(messages: Sequence[Message], new: Iterable[Upload], before: Mapping[str, Upload]) -> dict[str, Upload]:
    """Return the files that messages refer to, by their addresses.

    Args:
        messages: the messages.
        new: the files that the prompt attaches.
        before: the files that were uploaded for the conversation.
    """
    attached = {upload.address: upload for upload in new}
    found: dict[str, Upload] = {}
    for address, title in addresses_in(messages).items():
        known = before.get(address)
        upload = attached.get(address) or known or Upload(address, title or address, "", 0)
        found[address] = replace(upload, ids=known.ids) if known is not None else upload
    return found


def ids_at(endpoint: str, uploads: Mapping[str, Upload]) -> dict[str, str]:
    """Return the id of each file that the endpoint has, by the file's address."""
    return {address: upload.ids[endpoint] for address, upload in uploads.items() if endpoint in upload.ids}


def refuse_unknown_files(request: Request, uploads: Mapping[str, Upload], endpoint: Endpoint) -> None:
    """Refuse a request whose files cannot be at the endpoint.

    Raises:
        OptionError: the endpoint has no Files API, or an earlier turn uploaded a file to another endpoint.
    """
    addresses = addresses_in(request.messages)
    if addresses and not endpoint.has_files:
        raise OptionError(
            f"--upload: the endpoint {endpoint.name} has no Files API",
            "Attach the files without --upload, or leave the history with them out with --once.",
        )
    for address in addresses:
        upload = uploads[address]
        if upload.content is None and endpoint.name not in upload.ids:
            raise OptionError(
                f"an earlier turn uploaded {visible_line(upload.name)}; the endpoint {endpoint.name} does not have it",
                "Attach the file again in this cell with --attach and --upload, or leave the history out with --once.",
            )


class Uploading:
    """An endpoint that uploads the files of a request before the request is sent. It is a transport.

    Args:
        endpoint: the endpoint.
        uploads: the files that requests refer to, by their addresses.
        remembered: where uploaded files are noted: the files of the conversation, by their addresses.
    """

    def __init__(
        self, endpoint: Endpoint, uploads: Mapping[str, Upload], remembered: MutableMapping[str, Upload]
    ) -> None:
        self._endpoint, self._uploads, self._remembered = endpoint, dict(uploads), remembered
        self.name = endpoint.name

    @contextmanager
    def stream(self, request: Request) -> Iterator[Iterable[Mapping[str, Any]]]:
        """Return a context manager over the events of the answer; see :meth:`Transport.stream`."""
        with_files = self._events(request)
        try:
            yield with_files
        finally:
            with_files.close()

    def _events(self, request: Request) -> Generator[Mapping[str, Any], None, None]:
        yield from self._upload_missing(request)
        lost = yield from self._answer(request)
        if lost:
            yield from self._upload_missing(request)
            yield from self._answer(request, again=True)

    def _answer(self, request: Request, again: bool = False) -> Generator[Mapping[str, Any], None, bool]:
        """Yield the events of the answer. Return True if a file is gone, and can be uploaded again."""
        ids = ids_at(self.name, self._uploads)
        try:
            with self._endpoint.stream(replace(request, file_ids=ids)) as events:
                yield from events
            return False
        except BadRequestError as failure:
            lost = [address for address, id in ids.items() if id in failure.message]
            for address in lost:
                self._note(address, {name: id for name, id in self._uploads[address].ids.items() if name != self.name})
            if lost and not again and all(self._uploads[address].content is not None for address in lost):
                return True
            if lost:
                names = ", ".join(visible_line(self._uploads[address].name) for address in lost)
                failure = BadRequestError(
                    failure.message,
                    f"The endpoint no longer has {names}. Run the cell that attached it again.",
                    status=failure.status,
                    type=failure.type,
                    request_id=failure.request_id,
                )
                raise failure from None
            raise

    def _upload_missing(self, request: Request) -> Iterator[Mapping[str, Any]]:
        for address in addresses_in(request.messages):
            upload = self._uploads[address]
            if self.name in upload.ids or upload.content is None:
                continue
            yield {"type": "notice", "text": f"uploading {visible_line(upload.name)}, {human_size(upload.size)}"}
            try:
                _check_unchanged(upload)
                id = self._endpoint.upload(upload.name, upload.media_type, upload.content)
            except KeyboardInterrupt:
                raise StoppedBeforeSending from None  # an upload costs nothing
            except OSError as error:
                raise AttachmentError(
                    f"{upload.name} cannot be read: {error.strerror or error}", "Attach it again."
                ) from None
            self._note(address, {**upload.ids, self.name: id})

    def _note(self, address: str, ids: Mapping[str, str]) -> None:
        self._uploads[address] = replace(self._uploads[address], ids=ids)
        # The content is not needed any more, and may be large.
        self._remembered[address] = replace(self._uploads[address], content=None)


def _check_unchanged(upload: Upload) -> None:
    if isinstance(upload.content, Path) and upload.content.stat().st_size != upload.size:
        raise AttachmentError(f"{upload.name} was changed while it was being attached", "Run the cell again.")
