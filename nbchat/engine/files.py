"""The files that answers made: their names, small images to show, and their content when the user saves one.

A cassette records what the Files API said, so that a replay shows the same and saves the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from nbchat.content.blocks import human_size
from nbchat.content.dimensions import read_dimensions
from nbchat.content.media_types import MAX_EDGE_PX, MAX_FILE_BYTES, image_type
from nbchat.core.errors import BadRequestError, CassetteMiss, InputError, NbchatError
from nbchat.core.files import AnswerFile, AnswerFiles
from nbchat.core.visible import visible_line
from nbchat.engine.endpoint import Endpoint
from nbchat.engine.recording import Recording

__all__ = ["MadeFiles"]

#: Largest image that is shown, and all images of an answer. They stay in the notebook.
MAX_IMAGE_BYTES, MAX_IMAGES_BYTES = 1_000_000, 4_000_000
#: Files of an answer that are asked about, and the time for that, in seconds. The answer waits for it.
MAX_DESCRIBED, DESCRIBING_S = 20, 20.0


class MadeFiles:
    """The files that an answer made, at the endpoint that answered.

    Args:
        endpoint: the endpoint.
        recording: the cassette, if there is one, stands between.
    """

    def __init__(self, endpoint: Endpoint, recording: Recording) -> None:
        self._endpoint, self._recording = endpoint, recording
        self._described: dict[str, AnswerFile] = {}

    def look_up(self, ids: Iterable[str]) -> None:
        """Ask for the names of files, and for the content of small images. No failure is an error."""
        until, room = time.monotonic() + DESCRIBING_S, MAX_IMAGES_BYTES
        for number, id in enumerate(ids):
            file = self._named(id)
            if number >= MAX_DESCRIBED or time.monotonic() > until:
                file = replace(file, note="its name was not asked for")
            else:
                file = self._look_up(file, min(room, MAX_IMAGE_BYTES), until)
            room -= len(file.data or b"")
            self._described[id] = file

    def of(self, ids: Iterable[str]) -> AnswerFiles:
        """Return the files with these ids, as far as they were looked up."""
        return AnswerFiles(self._described.get(id) or self._named(id) for id in ids)

    def _named(self, id: str) -> AnswerFile:
        return AnswerFile(id, endpoint=self._endpoint.name, source=self)

    def _look_up(self, file: AnswerFile, room: int, until: float) -> AnswerFile:
        try:
            file = self.describe(file)
            if not file.media_type.startswith("image/"):
                return file
            if file.size is None or file.size > room:
                return replace(file, note="the image is too large to be shown")
            data = self._read_image(file, room, until)
        except CassetteMiss:
            return replace(file, note="not in the cassette")
        except Exception as error:  # the answer is whole, whatever became of its files
            reason = error.message if isinstance(error, NbchatError) else f"{type(error).__name__}: {error}"
            what = "the image" if file.name else "its name"
            return replace(file, note=f"{what} could not be read: {visible_line(reason)}")
        edges = read_dimensions(data)
        if image_type(data) is None or edges is None or max(edges) > MAX_EDGE_PX:
            return replace(file, note="the image cannot be shown")
        return replace(file, data=data)

    def _read_image(self, file: AnswerFile, limit: int, until: float) -> bytes:
        pieces: list[bytes] = []

        def write(piece: bytes) -> None:
            if time.monotonic() > until:
                raise InputError("it took too long")
            pieces.append(piece)

        self._read(file, write, limit)
        return b"".join(pieces)

    # A source of the content (:class:`nbchat.core.files.FileSource`)

    def describe(self, file: AnswerFile) -> AnswerFile:
        """Return the file with its name, media type and size.

        Raises:
            InputError, TransportError: as from :meth:`Endpoint.file_metadata`; CassetteMiss in a replay.
        """
        metadata = self._recording.file_metadata(file.id, self._endpoint)
        return replace(file, **file.described(metadata), note="")

    def read(self, file: AnswerFile, write: Callable[[bytes], object]) -> None:
        """Give the content of the file to ``write``, piece by piece.

        Raises:
            InputError, TransportError: as from :meth:`Endpoint.download`; CassetteMiss in a replay.
        """
        self._read(file, write, MAX_FILE_BYTES)

    def _read(self, file: AnswerFile, write: Callable[[bytes], object], limit: int) -> None:
        arrived = 0

        def count(piece: bytes) -> None:
            nonlocal arrived
            arrived += len(piece)
            if arrived > limit:
                raise BadRequestError(
                    f"the file {file.name or file.id} is larger than {human_size(limit)}", "The rest was not read."
                )
            write(piece)

        self._recording.download(file.id, self._endpoint, count)
