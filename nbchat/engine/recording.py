"""Keep the answers of a session: the cassette replays them, and the journal saves them from a killed kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from nbchat.config import Nbchat
from nbchat.core.fields import storable
from nbchat.core.messages import Message, ToolUseBlock
from nbchat.core.request import Request, Sink, Transport
from nbchat.engine.accounting import warn
from nbchat.engine.draft import Draft
from nbchat.engine.endpoint import Endpoint
from nbchat.store.journal import JournalFolder
from nbchat.transports.cassette import AnswerEvents, Cassette

__all__ = ["Recording"]


class Recording:
    """The cassette and the journal of one session.

    Args:
        config: the settings. A change of ``cassette`` or ``cassette_mode`` takes effect immediately.
        notebook: the session's name in the journal.
    """

    def __init__(self, config: Nbchat, *, notebook: str = "") -> None:
        self._config, self._notebook = config, notebook
        self.journals = JournalFolder(warn=warn)
        self.cassette: Cassette | None = None
        if config.cassette:
            self.use_cassette(config.cassette)
        config.observe(self._follow_setting, names=["cassette", "cassette_mode"])

    def _follow_setting(self, change: Any) -> None:
        if change["name"] == "cassette":
            self.use_cassette(change["new"])
        elif self.cassette is not None:
            self.use_cassette(str(self.cassette.path))

    def use_cassette(self, path: str | None, mode: str = "auto", speed: str = "fast") -> None:
        """Record and replay with this file from now on. None takes the cassette out.

        Raises:
            OptionError, InputError, CassetteMiss: as from :class:`Cassette`.
        """
        # NBCHAT_CASSETTE_MODE overrides the notebook, so that CI can replay and `record` can record.
        mode = self._config.cassette_mode or mode
        self.cassette = Cassette(path, mode=mode, speed=speed) if path else None

    @property
    def replays_only(self) -> bool:
        """Return True if nothing may be sent."""
        return self.cassette is not None and self.cassette.mode == "replay"

    def recorded(
        self,
        draft: Draft,
        candidates: Callable[[], list[Endpoint]],
        fit_endpoint: Callable[[Draft, Endpoint], tuple[Draft, Request]],
    ) -> tuple[Endpoint, Draft, Request] | None:
        """Return the first endpoint whose answer to the draft is recorded, with the draft and the request for it.

        None means that no answer is recorded. In a replay the first endpoint is returned instead:
        the miss then shows what differs from the nearest recording.
        """
        if self.cassette is None or self.cassette.mode not in ("auto", "replay"):
            return None
        first: tuple[Endpoint, Draft, Request] | None = None
        for endpoint in candidates():
            fitted, request = fit_endpoint(draft, endpoint)
            if self.cassette.holds(request):
                return endpoint, fitted, request
            first = first or (endpoint, fitted, request)
        return first if self.replays_only else None

    def result_of(self, call: ToolUseBlock) -> str | None:
        """Return the first text of the result of a call if the cassette has the result, else None."""
        return None if self.cassette is None else self.cassette.result_of(call.to_dict())

    def replays(self, request: Request) -> bool:
        """Return True if the request cannot cost anything: the cassette answers it, or nobody does."""
        return self.cassette is not None and (self.replays_only or self.cassette.holds(request))

    def status_line(self, *, replayed: bool) -> str:
        """Return the status line on the cassette, or ""."""
        if self.cassette is None or self.cassette.mode == "off":
            return ""
        return f"{'replayed from' if replayed else 'sent, and recorded in'} {storable(self.cassette.path.name)}"

    @contextmanager
    def stream(self, request: Request, endpoint: Transport) -> Iterator[AnswerEvents]:
        """Return a context manager over the events of the answer, from the cassette or from the endpoint.

        Raises:
            TransportError, StreamError: as from the endpoint; CassetteMiss in a replay.
        """
        if self.cassette is not None:
            with self.cassette.stream(request, endpoint) as events:
                yield events
            return
        with endpoint.stream(request) as sent:
            yield AnswerEvents(iter(sent), replayed=False, endpoint=endpoint.name)

    def answer(self, request: Request) -> AnswerEvents | None:
        """Return the recorded answer, or None if the request is to be sent.

        Raises:
            CassetteMiss, InputError: as from the cassette.
        """
        return None if self.cassette is None else self.cassette.answer(request)

    def recorder(self, request: Request, endpoint: str) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
        """Return a function that takes each event of the answer, and returns it."""
        recorder = None if self.cassette is None else self.cassette.recorder(request, endpoint)
        return (lambda event: event) if recorder is None else recorder.take

    def file_metadata(self, file_id: str, endpoint: Endpoint) -> Mapping[str, Any]:
        """Return the Files API's description of a file, from the cassette or from the endpoint.

        Raises:
            InputError, TransportError: as from the endpoint; CassetteMiss in a replay.
        """
        if self.cassette is None:
            return endpoint.file_metadata(file_id)
        return self.cassette.file_metadata(file_id, endpoint)

    def download(self, file_id: str, endpoint: Endpoint, write: Callable[[bytes], object]) -> None:
        """Give the content of a file to ``write``. Raises as :meth:`file_metadata` does."""
        if self.cassette is None:
            endpoint.download(file_id, write)
        else:
            self.cassette.download(file_id, endpoint, write)

    def journal(
        self, prompt: Message, request: Request, endpoint: Endpoint, chat: str, cell: str | None
    ) -> Iterable[Sink]:
        """Return the sink that writes the answer to disk while it arrives, unless the setting is off."""
        if not self._config.journal:
            return ()
        journal = self.journals.open(
            prompt,
            model=endpoint.model,
            endpoint=endpoint.name,
            notebook=self._notebook,
            chat=chat,
            cell=cell or "",
            digest=request.digest,
        )
        return (journal,)
