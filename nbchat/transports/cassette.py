"""The cassette: record answers in a file, and replay them without a network.

There is one recording for a request. The same request always replays the same answer, so a notebook
has the same outputs however often and in whatever order its cells run. To get another answer, change
the prompt, or use the mode ``record`` or ``off``.

Only complete answers are recorded. An answer that was interrupted, broke off or failed leaves no trace.
"""

from __future__ import annotations

import base64
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from nbchat.core.errors import CassetteMiss, InputError, OptionError, nearest
from nbchat.core.fields import Fields
from nbchat.core.plural import counted
from nbchat.core.request import Request, Transport, digest_of, request_digest
from nbchat.core.visible import visible
from nbchat.transports.exchange import Exchange, portable, public
from nbchat.transports.nearest_recording import nearest_recording
from nbchat.transports.recordings import Recordings

__all__ = ["MODES", "SPEEDS", "AnswerEvents", "Cassette", "Recorder"]

#: Largest file of an answer that is recorded. A cassette is read as a whole.
MAX_RECORDED_BYTES = 5_000_000

MODES = ("auto", "replay", "record", "off")
SPEEDS = ("fast", "real")


class FilesTransport(Protocol):
    """The members of a transport that has a Files API."""

    name: str

    def file_metadata(self, file_id: str) -> Mapping[str, Any]: ...

    def download(self, file_id: str, write: Callable[[bytes], object]) -> None: ...


class AnswerEvents:
    """The events of one answer, and where they come from.

    Args:
        events: the events, as dicts.
        replayed: whether they come from a cassette.
        endpoint: the name of the endpoint that answered, now or when the answer was recorded.
    """

    __slots__ = ("_events", "endpoint", "replayed")

    def __init__(self, events: Iterator[Mapping[str, Any]], *, replayed: bool, endpoint: str) -> None:
        self._events = events
        self.replayed = replayed
        self.endpoint = endpoint

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return self._events


class Cassette:
    """A file of recorded answers, which stands between a request and the transport that would answer it.

    Args:
        path: the file. It is made with its first recording.
        mode: ``auto`` replays what is recorded and sends the rest. ``replay`` never sends.
            ``record`` always sends, and replaces the answer that was recorded before. ``off``
            sends everything and records nothing.
        speed: ``real`` takes the time that the recorded answer took; ``fast`` takes none.

    Raises:
        OptionError: there is no such mode or speed.
        InputError: the file is not a cassette, is damaged, or has a later format.
        CassetteMiss: there is no file to replay.
    """

    def __init__(self, path: str | os.PathLike[str], *, mode: str = "auto", speed: str = "fast") -> None:
        for option, value, choices in (("--mode", mode, MODES), ("--speed", speed, SPEEDS)):
            if value not in choices:
                hint = nearest(str(value), choices) or f"Choose one of {', '.join(choices)}."
                raise OptionError(f"a cassette has no {option} {value!r}", hint)
        # The real path, so that a link stays a link when the file is replaced, and a later chdir changes nothing.
        try:
            self.path = Path(os.path.realpath(os.path.expanduser(path)))
        except ValueError as error:  # a null character, or half of a surrogate pair
            raise InputError(
                f"the cassette {path} has a name that no file can have ({error})", "Give it another name."
            ) from None
        self.mode, self.speed = mode, speed
        self._shown_path = str(path)
        self._counts = dict.fromkeys(("replayed", "sent", "recorded", "missed"), 0)
        self._counting = threading.Lock()
        self._recordings = Recordings(self.path)
        if mode != "off" and not self._recordings.refresh() and mode == "replay":
            raise self._no_file()

    def __len__(self) -> int:
        """Return the number of recordings."""
        return len(self._recordings)

    def summary(self) -> dict[str, Any]:
        """Return the file, the mode and the speed, and how many requests had which end.

        ``recordings`` are in the file. ``replayed`` requests were answered from the file, ``sent``
        ones went to the endpoint, ``recorded`` ones were written, and ``missed`` ones were not sent.
        """
        state = {"file": self._shown_path, "mode": self.mode, "speed": self.speed, "recordings": len(self)}
        return state | self._counts

    def holds(self, request: Request) -> bool:
        """Return True if :meth:`stream` would replay this request, and so send nothing."""
        if self.mode in ("record", "off"):
            return False
        self._recordings.refresh()
        return self._recordings.holds(*_digests(request))

    @contextmanager
    def stream(self, request: Request, transport: Transport) -> Iterator[AnswerEvents]:
        """Return a context manager over the events of the answer, from the file or from ``transport``.

        Raises:
            CassetteMiss: nothing is recorded for the request, and it must not be sent.
            InputError: the file is not a cassette, is damaged, or has a later format.
            TransportError, StreamError: as from the transport.
        """
        answer = self.answer(request)
        if answer is not None:
            yield answer
            return
        recorder = self.recorder(request, transport.name)
        with transport.stream(request) as events:
            recorded = iter(events) if recorder is None else map(recorder.take, events)
            yield AnswerEvents(recorded, replayed=False, endpoint=transport.name)

    def answer(self, request: Request) -> AnswerEvents | None:
        """Return the recorded answer, or None if the request is to be sent.

        Raises:
            CassetteMiss, InputError: as from :meth:`stream`.
        """
        if self.mode == "off":
            return None
        exists = self._recordings.refresh()
        exchange = self._recordings.find(*_digests(request)) if self.mode != "record" else None
        if exchange is not None:
            self._count("replayed")
            return AnswerEvents(self._replay(exchange), replayed=True, endpoint=exchange.endpoint)
        if self.mode == "replay":
            self._count("missed")
            raise self._miss(request) if exists else self._no_file()
        return None

    def recorder(self, request: Request, endpoint: str) -> Recorder | None:
        """Return the recorder of an answer that is about to be sent for; None if nothing is recorded.

        Args:
            request: the request.
            endpoint: the name of the endpoint that is asked.
        """
        if self.mode == "off":
            return None
        self._count("sent")
        digest, also = _digests(request)

        def write(kept: list[tuple[int, dict[str, Any]]]) -> None:
            self._write(Exchange(digest, endpoint, public(request.asked()), tuple(kept), also))

        return Recorder(write)

    def result_of(self, call: Mapping[str, Any]) -> str | None:
        """Return the first text of the recorded result of a call; None if the file has no result, "" if it has no text.

        Args:
            call: the block of the call, as a recorded answer has it.
        """
        if self.mode in ("record", "off"):
            return None
        self._recordings.refresh()
        wanted = public({key: call[key] for key in ("id", "name", "input")})
        for _, request in self._recordings.requests():
            blocks = [block for message in request.get("messages") or () for block in _blocks_of(message)]
            if any(wanted == {key: block.get(key) for key in wanted} for block in blocks):
                for block in blocks:
                    if block.get("type") == "tool_result" and block.get("tool_use_id") == call["id"]:
                        return _first_text(block)
        return None

    def _count(self, name: str) -> None:
        with self._counting:
            self._counts[name] += 1

    def _replay(self, exchange: Exchange) -> Iterator[dict[str, Any]]:
        due = time.perf_counter()
        for ms, event in exchange.events:
            due += ms / 1000
            if self.speed == "real" and (wait := due - time.perf_counter()) > 0:
                time.sleep(wait)
            yield dict(event)

    # Files that an answer made. Each question to the Files API has a line of its own, after its answer's line.

    def file_metadata(self, file_id: str, transport: FilesTransport) -> Mapping[str, Any]:
        """Return the Files API's description of a file, from the file of the cassette or from ``transport``.

        Raises:
            CassetteMiss: nothing is recorded, and nothing may be sent.
            InputError, TransportError: as from the transport, or as from :meth:`stream`.
        """
        question = {"file": file_id}
        recorded = self._recorded_file(question)
        if recorded is not None:
            return Fields(recorded).mapping("metadata")
        metadata = dict(transport.file_metadata(file_id))
        self._keep_file(question, transport.name, {"metadata": metadata})
        return metadata

    def download(self, file_id: str, transport: FilesTransport, write: Callable[[bytes], object]) -> None:
        """Give the content of a file to ``write``. A file up to MAX_RECORDED_BYTES is recorded. Raises as above."""
        question = {"file": file_id, "wanted": "content"}
        recorded = self._recorded_file(question)
        if recorded is not None:
            try:
                write(base64.b64decode(Fields(recorded).fields("content").text("data"), validate=True))
            except ValueError:
                raise InputError(
                    f"the cassette {self._shown_path} holds a file that is not base64: {file_id}"
                ) from None
            return
        pieces: list[bytes] = []
        size = 0

        def keep(piece: bytes) -> None:
            nonlocal size
            write(piece)
            size += len(piece)
            if size <= MAX_RECORDED_BYTES:
                pieces.append(piece)
            else:
                pieces.clear()

        transport.download(file_id, keep)
        if size <= MAX_RECORDED_BYTES:
            data = base64.b64encode(b"".join(pieces)).decode()
            self._keep_file(question, transport.name, {"content": {"type": "base64", "data": data}})

    def _recorded_file(self, question: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return what the Files API said to a question, or None if the endpoint may be asked."""
        if self.mode in ("record", "off"):
            return None
        self._recordings.refresh()
        exchange = self._recordings.find(digest_of(question))
        if exchange is not None and exchange.events:
            return exchange.events[0][1]
        if self.mode == "replay":
            raise CassetteMiss(
                f"the cassette {self._shown_path} does not hold the file {question['file']}",
                f"Record it with --mode auto. Files up to {MAX_RECORDED_BYTES // 1_000_000} MB are recorded.",
            )
        return None

    def _keep_file(self, question: Mapping[str, Any], endpoint: str, answer: Mapping[str, Any]) -> None:
        if self.mode != "off":
            self._keep(Exchange(digest_of(question), endpoint, question, ((0, {"type": "file", **answer}),)))

    def _write(self, exchange: Exchange) -> None:
        if exchange.events[0][1].get("type") != "message_start":
            return  # not an answer of the Messages API; the parser raises an error that says so
        if self._keep(exchange):
            self._count("recorded")

    def _keep(self, exchange: Exchange) -> bool:
        try:
            return self._recordings.keep(exchange, replace=self.mode == "record")
        except (OSError, InputError) as error:
            # The answer arrived and was paid for, so it is shown even if it cannot be recorded.
            reason = error.message if isinstance(error, InputError) else error.strerror or error
            warnings.warn(
                visible(f"the answer could not be recorded in {self._shown_path}: {reason}"),
                RuntimeWarning,
                stacklevel=2,
            )
            return False

    def _no_file(self) -> CassetteMiss:
        return CassetteMiss(
            f"there is no cassette {self._shown_path} to replay",
            "Check the path, or record it: --mode auto (or NBCHAT_CASSETTE_MODE=auto) makes the file.",
        )

    def _miss(self, request: Request) -> CassetteMiss:
        number, difference = nearest_recording(public(request.asked()), self._recordings.requests())
        count = len(self)
        recordings = counted(count, "recording")
        nearest_line = f"; the nearest is on line {number}, and differs as shown below" if number else ""
        return CassetteMiss(
            f"the cassette {self._shown_path} holds no answer to this request ({recordings}{nearest_line})",
            "Record what is missing with --mode auto, or record everything again with --mode record. "
            "(NBCHAT_CASSETTE_MODE=auto or record does this without a change of the notebook.)",
            digest=request.digest,
            difference=difference,
        )


class Recorder:
    """Keeps the events of one answer with their times, and writes them at ``message_stop``.

    Args:
        write: writes the events, before anyone acts on the answer.
    """

    def __init__(self, write: Callable[[list[tuple[int, dict[str, Any]]]], None]) -> None:
        self._write, self._began = write, time.perf_counter()
        self._kept: list[tuple[int, dict[str, Any]]] = []
        self._past = 0  # ms, the sum of the rounded times, so that rounding errors do not add up

    def take(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Take one event, and return it."""
        event = dict(event)
        kind = event.get("type")
        if kind not in (None, "notice", "error"):
            ms = round((time.perf_counter() - self._began) * 1000) - self._past
            self._past += ms
            self._kept.append((ms, _without_own_fields(event)))
        if kind == "message_stop":
            self._write(self._kept)
        return event


def _digests(request: Request) -> tuple[str, str]:
    """Return the request's digest, and the digest of its portable form, or "" where they are equal."""
    digest = request.digest
    portable_digest = request_digest(portable(request.asked()))
    return digest, "" if portable_digest == digest else portable_digest


def _without_own_fields(event: dict[str, Any]) -> dict[str, Any]:
    """Return the event without the fields that a transport of nbchat added (``_request_id``)."""
    message = event.get("message")
    if event.get("type") != "message_start" or not isinstance(message, Mapping):
        return event
    return {**event, "message": {key: value for key, value in message.items() if not key.startswith("_")}}


def _blocks_of(message: Any) -> Iterator[Mapping[str, Any]]:
    content = message.get("content") if isinstance(message, Mapping) else None
    yield from (block for block in content if isinstance(block, Mapping)) if isinstance(content, list) else ()


def _first_text(result: Mapping[str, Any]) -> str:
    content = result.get("content")
    if isinstance(content, str):
        return content
    return next((str(block["text"]) for block in _blocks_of(result) if isinstance(block.get("text"), str)), "")
