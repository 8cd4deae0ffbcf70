"""An endpoint: where a request goes, and what this place can do."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from nbchat.core.errors import BadRequestError, InputError, NbchatError
from nbchat.core.request import Request, Transport
from nbchat.models import (
    LOCAL,
    PLATFORMS,
    WITHOUT_FILES,
    StructuredMethod,
    structured_method,
    takes_newest_server_tools,
)
from nbchat.options import OPTIONS, Options

__all__ = ["Endpoint", "region_of"]

#: Capabilities that the embedded model does not have, by their names in the Models API.
_NOT_LOCAL = ("image_input", "pdf_input", "citations")


def region_of(endpoint: str) -> str | None:
    """Return the region of a platform's endpoint as the environment names it, if the price depends on it."""
    platform = PLATFORMS.get(endpoint)
    return os.environ.get(platform.region_variable) if platform is not None and platform.region_variable else None


class Endpoint:
    """Where a request goes. An endpoint is a transport that connects when it is first used.

    It is also the one place that knows the optional members of a :class:`Transport`: the engine asks
    an endpoint, and gets a default where the transport does not have the member.

    Args:
        name: the name of the endpoint, as ``--endpoint`` takes it.
        model: the model that requests name.
        connect: makes the transport.
        notice: a status line about the endpoint, or "".
        priced_as: the name or the address under which prices are found; ``name`` by default.
        window: the context window in tokens, where it is known without asking.
        defaults: fields of the request that are added where the user gives none.
        max_tokens: the longest answer in tokens, where the user gives no length and the default is too long.
        ignores: the names of the options that have no effect on the answers.
        way: how the endpoint is asked for a typed answer.
        api: the name that decides which versions of the server tools are sent; ``name`` by default.
    """

    def __init__(
        self,
        name: str,
        model: str,
        connect: Callable[[], Transport],
        *,
        notice: str = "",
        priced_as: str = "",
        window: int | None = None,
        defaults: Mapping[str, Any] | None = None,
        max_tokens: int | None = None,
        ignores: Iterable[str] = (),
        way: StructuredMethod | None = None,
        api: str | None = None,
    ) -> None:
        self.name, self.model, self.notice = name, model, notice
        self.way = way or structured_method(name, model)
        #: True if the endpoint takes the newest versions of the server tools for this model.
        self.newest_tools = takes_newest_server_tools(name if api is None else api, model)
        self.priced_as, self.window = priced_as or name, window
        self.defaults = dict(defaults or {})
        self.max_tokens, self.ignores = max_tokens, tuple(ignores)
        self._connect = connect
        self._transport: Transport | None = None

    @property
    def region(self) -> str | None:
        """Return the region that the price depends on, or None."""
        return region_of(self.name)

    @property
    def transport(self) -> Transport:
        """Return the transport.

        Raises:
            InputError, AuthError, ConnectionFailed: the connection cannot be made.
        """
        if self._transport is None:
            self._transport = self._connect()
        return self._transport

    def stream(self, request: Request) -> AbstractContextManager[Iterable[Mapping[str, Any]]]:
        """Return a context manager over the events of the answer; see :meth:`Transport.stream`."""
        return self.transport.stream(request)

    def count_tokens(self, request: Request) -> int | None:
        """Return the tokens of the prompt as the endpoint counts them, or None where it cannot count."""
        try:
            count = getattr(self.transport, "count_tokens", None)
            return int(count(request)) if count is not None else None
        except (NbchatError, TypeError, ValueError):
            return None  # an endpoint that cannot count can still answer

    def models(self) -> list[Mapping[str, Any]] | None:
        """Return the models of the endpoint as dicts of the Models API, or None where it has no list.

        Raises:
            TransportError: the endpoint did not answer.
        """
        models = getattr(self.transport, "models", None)
        return list(models()) if callable(models) else None

    @property
    def has_files(self) -> bool:
        """Return False if the endpoint is known to have no Files API. Nothing is sent."""
        return self.name not in WITHOUT_FILES and callable(getattr(self.transport, "upload", None))

    def file_metadata(self, file_id: str) -> Mapping[str, Any]:
        """Return the Files API's description of a file.

        Raises:
            InputError: the endpoint has no Files API.
            TransportError: the endpoint did not answer, or has no such file.
        """
        metadata = self._files_api("file_metadata")(file_id)
        return metadata if isinstance(metadata, Mapping) else {}

    def download(self, file_id: str, write: Callable[[bytes], object]) -> None:
        """Give the content of a file to ``write``, piece by piece. Raises as :meth:`file_metadata` does."""
        self._files_api("download")(file_id, write)

    def upload(self, name: str, media_type: str, content: bytes | Path) -> str:
        """Upload a file, and return the id that the endpoint gave the file.

        Raises:
            InputError: the endpoint has no Files API.
            TransportError: the endpoint did not take the file.
        """
        try:
            id = self._files_api("upload")(name, media_type, content).get("id")
        except BadRequestError as failure:
            if failure.status not in (404, 405):
                raise
            # A server of the user's own has no such path.
            raise BadRequestError(
                failure.message,
                "The endpoint seems to have no Files API. Attach the files without --upload.",
                status=failure.status,
                type=failure.type,
                request_id=failure.request_id,
            ) from None
        if not isinstance(id, str) or not id:
            raise BadRequestError(
                f"the endpoint {self.name} took {name} and gave no id for it", "Attach it without --upload."
            )
        return id

    def _files_api(self, member: str) -> Callable[..., Any]:
        call = None if self.name in WITHOUT_FILES else getattr(self.transport, member, None)
        if not callable(call):
            raise InputError(
                f"the endpoint {self.name} has no Files API", "Ask an endpoint that has one, such as anthropic."
            )
        found: Callable[..., Any] = call
        return found

    def ignored(self, options: Options) -> str:
        """Return a line on the options that have no effect here, or ""."""
        names = [name for name in self.ignores if getattr(options, name)]
        flags = ", ".join(option.flags[-1] for option in OPTIONS if option.name in names)
        return f"{self.model} ignores {flags}" if flags else ""

    def describe(self) -> Mapping[str, Any]:
        """Return the Models API's description of the model, or {} where the endpoint has none."""
        if self.name == LOCAL:
            # llama.cpp has no Models API. It ignores an image, and answers a document with an error.
            return {"id": self.model, "capabilities": {key: {"supported": False} for key in _NOT_LOCAL}}
        try:
            describe = getattr(self.transport, "describe", None)
            description = describe(self.model) if callable(describe) else {}
        except NbchatError:
            return {}  # an endpoint that does not describe its models can still answer
        return description if isinstance(description, Mapping) else {}
