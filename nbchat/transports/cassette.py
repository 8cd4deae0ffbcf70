"""Cassette: a transport that records what another answers, and replays it.

One recording a request. The same request always replays the same answer, so a notebook gives
the same outputs however often and in whatever order its cells run; to hear another answer, ask
in other words, or use the modes ``record`` or ``off``.

Only whole answers are recorded: one that was interrupted, broke off or failed leaves no trace.
"""

from __future__ import annotations

import copy
import difflib
import json
import os
import re
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

from nbchat.core.errors import CassetteMiss, InputError, OptionError, nearest
from nbchat.core.request import Request, Transport, digest_of
from nbchat.transports.exchange import Exchange, portable, public
from nbchat.transports.recordings import Recordings

__all__ = ["MODES", "SPEEDS", "Cassette"]

Mode: TypeAlias = Literal["auto", "replay", "record", "off"]
Speed: TypeAlias = Literal["fast", "real"]
MODES: tuple[Mode, ...] = ("auto", "replay", "record", "off")
SPEEDS: tuple[Speed, ...] = ("fast", "real")

_SHOWN = 20  # lines of a difference


class _Events:
    """The events of one answer, and where they came from."""

    __slots__ = ("_events", "endpoint", "replayed")

    def __init__(self, events: Iterator[dict[str, Any]], *, replayed: bool, endpoint: str) -> None:
        self._events = events
        self.replayed = replayed
        self.endpoint = endpoint

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self._events


class Cassette:
    """Records the answers of ``inner`` in a file, and replays them.

    ``auto`` replays what is recorded and sends the rest; ``replay`` never sends, and never builds
    ``inner``; ``record`` always sends, and puts the answer in place of the one recorded before;
    ``off`` passes through. ``inner`` is a transport, or a function that gives one when a request
    is first sent. With ``speed="real"`` a replay takes the time that the answer took.

    What :meth:`stream` gives has ``replayed``, whether it comes from the file, and ``endpoint``,
    the name of the endpoint that answered, now or when it was recorded.

    Raises:
        OptionError: no such mode or speed, or a mode that sends without an ``inner``.
        InputError: the file is no cassette, of a later format, or damaged.
        CassetteMiss: there is no file to replay.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        inner: Transport | Callable[[], Transport] | None = None,
        *,
        mode: Mode = "auto",
        speed: Speed = "fast",
    ) -> None:
        for option, value, known in (("--mode", mode, MODES), ("--speed", speed, SPEEDS)):
            if value not in known:
                hint = nearest(str(value), known) or f"Choose one of {', '.join(known)}."
                raise OptionError(f"a cassette has no {option} {value!r}", hint)
        if inner is None and mode in ("record", "off"):
            raise OptionError(f"a cassette in mode {mode} needs an endpoint to send to", "Name one with --endpoint.")
        # A link stays a link when a recording is replaced, and a later chdir changes nothing.
        self.path = Path(os.path.realpath(Path(path).expanduser()))
        self.mode, self.speed = mode, speed
        self._shown_path = str(path)
        self._inner, self._built = inner, None
        self._counts = dict.fromkeys(("replayed", "sent", "recorded", "missed"), 0)
        self._counting = threading.Lock()
        self._recordings = Recordings(self.path)
        if mode != "off" and not self._recordings.refresh() and mode == "replay":
            raise self._no_file()

    def around(self, inner: Transport | Callable[[], Transport]) -> Cassette:
        """The same cassette before another endpoint: one file, one mode, one count."""
        other = copy.copy(self)
        other._inner, other._built = inner, None
        return other

    @property
    def name(self) -> str:
        """The endpoint's name where it is known, else ``cassette``."""
        endpoint = self._built if self._built is not None else self._inner
        return str(endpoint.name) if isinstance(getattr(endpoint, "name", None), str) else "cassette"

    def __len__(self) -> int:
        """The number of recordings."""
        return len(self._recordings)

    def summary(self) -> dict[str, Any]:
        """The file, the mode and the speed, and what was done: counts of requests.

        ``recordings`` are in the file; ``replayed`` were answered from it, ``sent`` went to the
        endpoint, ``recorded`` of those were written, ``missed`` found no recording and were not sent.
        """
        held = {"file": self._shown_path, "mode": self.mode, "speed": self.speed, "recordings": len(self)}
        return held | self._counts

    def holds(self, request: Request) -> bool:
        """Whether :meth:`stream` would replay this request, and so send and cost nothing."""
        if self.mode in ("record", "off"):
            return False
        self._recordings.refresh()
        return self._recordings.holds(*_digests(request))

    def count_tokens(self, request: Request) -> int:
        """The prompt's tokens as the endpoint counts them; about four characters each where nothing may be sent."""
        if self.mode == "replay" or self._inner is None or self.holds(request):
            return -(-len(json.dumps(request.body(), ensure_ascii=False, default=str)) // 4)
        count = getattr(self._endpoint(), "count_tokens", None)
        return int(count(request)) if count else -(-len(json.dumps(request.body(), ensure_ascii=False)) // 4)

    @contextmanager
    def stream(self, request: Request) -> Iterator[_Events]:
        """The events of the answer, from the file or from ``inner``.

        Raises:
            CassetteMiss: nothing is recorded for the request, and it must not be sent.
            InputError: the file is no cassette, of a later format, or damaged.
        """
        if self.mode == "off":
            with self._endpoint().stream(request) as events:
                yield _Events(iter(events), replayed=getattr(events, "replayed", False), endpoint=self.name)
            return
        there, digests = self._recordings.refresh(), _digests(request)
        found = self._recordings.find(*digests) if self.mode != "record" else None
        if found is not None:
            self._count("replayed")
            yield _Events(self._replay(found), replayed=True, endpoint=found.endpoint)
            return
        if self.mode == "replay" or self._inner is None:
            self._count("missed")
            raise self._miss(request) if there else self._no_file()
        endpoint = self._endpoint()
        self._count("sent")
        began = time.perf_counter()
        with endpoint.stream(request) as events:
            recording = self._record(digests, request, iter(events), began)
            yield _Events(recording, replayed=getattr(events, "replayed", False), endpoint=self.name)

    def _endpoint(self) -> Transport:
        if self._built is None:
            inner = self._inner
            build = isinstance(inner, type) or not hasattr(inner, "stream")
            self._built = inner() if build else inner  # type: ignore[operator, assignment, misc]
        return self._built  # type: ignore[return-value]

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

    def _record(
        self, digests: tuple[str, str], request: Request, events: Iterator[Mapping[str, Any]], began: float
    ) -> Iterator[dict[str, Any]]:
        """The events as they come; at ``message_stop`` they are written, before anyone acts on it."""
        kept: list[tuple[int, dict[str, Any]]] = []
        past = 0  # ms, the sum of those kept: rounding does not add up
        for event in events:
            event = dict(event)
            kind = event.get("type")
            if kind not in (None, "notice", "error"):
                ms = round((time.perf_counter() - began) * 1000) - past
                past += ms
                kept.append((ms, _without_own_fields(event)))
            if kind == "message_stop":
                digest, also = digests
                self._write(Exchange(digest, self.name, public(request.body()), tuple(kept), also))
            yield event

    def _write(self, exchange: Exchange) -> None:
        if exchange.events[0][1].get("type") != "message_start":
            return  # no answer of the Messages API: the parser says so
        try:
            if self._recordings.keep(exchange, replace=self.mode == "record"):
                self._count("recorded")
        except (OSError, InputError) as error:
            # The answer is there and was paid for: it is shown, whatever becomes of the file.
            reason = error.message if isinstance(error, InputError) else error.strerror or error
            warnings.warn(
                f"the answer could not be recorded in {self._shown_path}: {reason}", RuntimeWarning, stacklevel=2
            )

    def _no_file(self) -> CassetteMiss:
        return CassetteMiss(
            f"there is no cassette {self._shown_path} to replay",
            "Check the path, or record it: --mode auto (or NBCHAT_CASSETTE_MODE=auto) makes the file.",
        )

    def _miss(self, request: Request) -> CassetteMiss:
        number, difference = _nearest(public(request.body()), self._recordings.requests())
        count = len(self)
        held = "1 recording" if count == 1 else f"{count} recordings"
        beside = f"; the nearest is on line {number}, and differs as shown below" if number else ""
        return CassetteMiss(
            f"the cassette {self._shown_path} holds no answer to this request ({held}{beside})",
            "Record what is missing with --mode auto, or all anew with --mode record "
            "(NBCHAT_CASSETTE_MODE=auto or record does it without a change to the notebook).",
            digest=request.digest,
            difference=difference,
        )


def _digests(request: Request) -> tuple[str, str]:
    """The request's digest, and that of its portable form where it has another, else ""."""
    body = request.body()
    digest, also = digest_of(body), digest_of(portable(body))
    return digest, "" if also == digest else also


def _without_own_fields(event: dict[str, Any]) -> dict[str, Any]:
    """The event without what a transport of ours put into it (``_request_id``)."""
    message = event.get("message")
    if event.get("type") != "message_start" or not isinstance(message, Mapping):
        return event
    return {**event, "message": {key: value for key, value in message.items() if not key.startswith("_")}}


# The difference that a miss shows ------------------------------------------------------------

_LINE_END = re.compile(r"(?<!\\)((?:\\\\)*)\\n")
_SENTENCE = re.compile(r"(?<=[.!?;:]) +")


def _nearest(asked: Mapping[str, Any], recorded: Iterator[tuple[int, dict[str, Any]]]) -> tuple[int, str]:
    """The line of the recording most like ``asked``, and the difference to it; (0, "") without any."""
    words = _words(asked)
    best, place, body = -1.0, 0, {}
    for number, request in recorded:
        others = _words(request)
        likeness = 2 * (words & others).total() / ((words.total() + others.total()) or 1)
        if likeness >= best:  # of equals the later one
            best, place, body = likeness, number, request
    return (place, _difference(body, asked, place)) if place else (0, "")


def _words(body: Mapping[str, Any]) -> Counter[str]:
    return Counter(re.findall(r"\w+|[^\w\s]", json.dumps(body, ensure_ascii=False)))


def _difference(old: Mapping[str, Any], new: Mapping[str, Any], place: int) -> str:
    compared = difflib.unified_diff(
        _readable(old), _readable(new), f"recorded, line {place}", "this request", n=1, lineterm=""
    )
    lines = ["…" if line.startswith("@@ ") else line for line in compared]
    if not lines:
        return "Both read alike, so the difference is in what the file does not hold: long texts or attached data."
    left = len(lines) - _SHOWN
    return "\n".join(lines if left <= 0 else [*lines[:_SHOWN], f"… and {left} more lines"])


def _readable(body: Mapping[str, Any]) -> list[str]:
    """The body as lines to compare: texts are broken at their line ends and sentences, keys stand alone."""
    text = json.dumps(body, ensure_ascii=False, indent=1)
    lines: list[str] = []
    for line in _LINE_END.sub(r"\1\n", text).split("\n"):
        for sentence in _SENTENCE.split(line) if len(line) > 100 else (line,):
            lines += [sentence[at : at + 200] for at in range(0, max(len(sentence), 1), 200)]
    return lines
