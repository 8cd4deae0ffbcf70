"""Endpoints: find the transport that answers a request.

The order is ``--endpoint``, ``c.Nbchat.endpoint`` (both arrive as one option), Anthropic credentials
as the SDK finds them, the embedded model if it is installed, and else an AuthError that names the
ways out. This room is above the transports, because they do not know each other: the embedded model
is a server, and the transport of the Messages API speaks to it.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from nbchat.config import Nbchat
from nbchat.core.errors import AuthError, BadRequestError, InputError, NbchatError, OptionError, nearest
from nbchat.core.request import Request, Transport
from nbchat.core.secrets import keep_url, shown_url
from nbchat.engine.endpoint_settings import EndpointSettings
from nbchat.models import (
    LOCAL,
    PLATFORMS,
    WITHOUT_FILES,
    StructuredMethod,
    structured_method,
    takes_newest_server_tools,
)
from nbchat.options import OPTIONS, Options
from nbchat.transports.claude import ClaudeTransport
from nbchat.transports.repetition import Unrepeated
from nbchat.transports.ways_out import ways_out

__all__ = ["Endpoint", "Endpoints", "region_of"]


#: Capabilities that the embedded model does not have, by their names in the Models API.
_NOT_LOCAL = ("image_input", "pdf_input", "citations")
#: Options that have no effect on the built-in model: its chat template has no place for the fields of the request.
#: A model of the user's own may have a template that takes them.
_IGNORED_BY_BUILT_IN = ("run", "tools", "thinking", "effort")
#: The longest answer of the embedded model by default. It takes seconds, and fits its context window.
_LOCAL_MAX_TOKENS = 512


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


class Endpoints:
    """The endpoints of a session. Each transport is made once and kept, with its connections.

    Args:
        config: the settings.
        fixed: a transport that answers everything, unless a request names another endpoint.
    """

    def __init__(self, config: Nbchat, fixed: Transport | None = None) -> None:
        self._config, self._fixed = config, fixed
        self._transports: dict[tuple[str, str], ClaudeTransport] = {}
        self._descriptions: dict[tuple[str, str], Mapping[str, Any]] = {}
        self._listed: dict[str, tuple[str, ...]] = {}
        self._listing: dict[str, threading.Thread] = {}

    def names(self) -> list[str]:
        """Return the names that ``--endpoint`` takes."""
        return list(dict.fromkeys((*PLATFORMS, LOCAL, *self._config.endpoints)))

    def candidates(self, options: Options) -> list[Endpoint]:
        """Return the endpoints that a recorded answer can come from.

        That is the endpoint that the user names, or else each endpoint of the order above. Credentials
        do not matter: a recorded answer replays on a machine that has none.
        """
        if options.endpoint or self._fixed is not None:
            return [self.find(options)]
        try:
            return [self._named("anthropic", options), self._local(options)]
        except OptionError:  # the user names a model, and it is not the embedded one
            return [self._named("anthropic", options)]

    def find(self, options: Options) -> Endpoint:
        """Return the endpoint for these options.

        Raises:
            OptionError: the endpoint is unknown, or the endpoint does not serve the model.
            AuthError: no endpoint was named, and none can answer.
        """
        if self._fixed is not None and ("endpoint" not in options.given or options.endpoint == self._fixed.name):
            return _of(self._fixed, options)
        if options.endpoint == LOCAL and not isinstance(self._config.endpoints.get(LOCAL), Transport):
            if LOCAL in self._config.endpoints:
                raise OptionError(
                    "c.Nbchat.endpoints['local']: this name belongs to the embedded model",
                    "Give the endpoint another name.",
                )
            return self._local(options)
        if options.endpoint:
            return self._named(options.endpoint, options)
        if self.has_anthropic():
            return self._named("anthropic", options)
        return self._embedded_instead(options)

    def has_anthropic(self) -> bool:
        """Return True if the SDK finds credentials for the Anthropic API. Nothing is sent."""
        described = self._config.endpoints.get("anthropic")
        if isinstance(described, Transport):
            return True
        return self._transport_of(EndpointSettings.of("anthropic", described)).has_credentials()

    def describe(self, endpoint: Endpoint) -> Mapping[str, Any]:
        """Return :meth:`Endpoint.describe`. Each model is asked about once."""
        key = (endpoint.name, endpoint.model)
        if key not in self._descriptions:
            self._descriptions[key] = endpoint.describe()
        return self._descriptions[key]

    def model_names(self, options: Options, wait_s: float) -> tuple[str, ...]:
        """Return the names of the models of an endpoint, for somebody who waits at a keyboard. Never raise.

        The endpoint is asked once, in a thread of its own. What arrives later is there at the next call.

        Args:
            options: the endpoint is that of these options.
            wait_s: how long to wait for the endpoint, in seconds.
        """
        key = repr((options.endpoint, self._config.endpoints.get(options.endpoint or "")))
        if key not in self._listed and key not in self._listing:
            thread = threading.Thread(target=self._list, args=(key, options), name="nbchat-models", daemon=True)
            self._listing[key] = thread
            try:
                thread.start()
            except RuntimeError:  # a place without threads
                return ()
        if key in self._listing:
            self._listing[key].join(wait_s)
        return self._listed.get(key, ())

    def _list(self, key: str, options: Options) -> None:
        try:
            endpoint = self.find(options)
            ids = (model.get("id") for model in endpoint.models() or ({"id": endpoint.model},))
            self._listed[key] = tuple(name for name in ids if isinstance(name, str))
        except Exception:  # Tab suggests what is known without the endpoint, and asks again at the next call
            self._listed.pop(key, None)
        finally:
            self._listing.pop(key, None)

    def _named(self, name: str, options: Options) -> Endpoint:
        described = self._config.endpoints.get(name)
        if isinstance(described, Transport):
            return _of(described, options)
        if name in PLATFORMS or described is not None:
            settings = EndpointSettings.of(name, described)
            model = settings.model if settings.model and "model" not in options.given else options.model
            return Endpoint(
                name,
                model,
                lambda: self._transport_of(settings),
                priced_as="" if name in PLATFORMS else settings.base_url or "",
                api=_api_of(name, settings.base_url),
            )
        if re.match(r"https?://", name, re.IGNORECASE):
            # The name is shown, and is stored in a Response, in the ledger and in the journal.
            shown = shown_url(name)
            return Endpoint(
                shown, options.model, lambda: self._transport_of(EndpointSettings(shown, name)), priced_as=name
            )
        keep_url(name)  # an address without "https://" may have a password, too
        hint = nearest(name, self.names()) or "Name one of: " + ", ".join(self.names()) + "; or a base URL."
        if re.search(r"[.:/]", name):  # localhost:11434
            hint = "A base URL begins with http:// or https://."
        raise OptionError(f"--endpoint {name}: unknown endpoint", hint)

    def _transport_of(self, settings: EndpointSettings) -> ClaudeTransport:
        return self._kept(settings.name, repr(settings), settings.arguments)

    def _kept(self, name: str, described: str, arguments: Callable[[], Mapping[str, Any]]) -> ClaudeTransport:
        # A changed setting means another transport.
        idle_timeout, max_retries = self._config.idle_timeout, self._config.max_retries
        key = (name, repr((described, idle_timeout, max_retries)))
        if key not in self._transports:
            self._transports[key] = ClaudeTransport(
                name, **arguments(), idle_timeout=idle_timeout, max_retries=max_retries
            )
        return self._transports[key]

    def _embedded_instead(self, options: Options) -> Endpoint:
        from nbchat.transports import local

        usable, _ = local.installed()
        if not usable:
            hint = ways_out(embedded_installed=False)
            raise AuthError("no credentials for the Anthropic API were found, so nothing was sent", hint)
        if "model" in options.given and not _is_gguf(options.model):
            raise AuthError(
                f"no credentials for the Anthropic API were found, so {options.model} cannot be asked",
                f"{ways_out(embedded_installed=True)} Or leave out -m: then the embedded model answers.",
            )
        return self._local(options, "no Anthropic credentials were found: the embedded model answers, a toy")

    def _has_length(self, options: Options) -> bool:
        """Return True if the user gave the length of answers, for this request or as a setting."""
        return not {"max_tokens"}.isdisjoint({*options.given, *self._config.sources})

    def _local(self, options: Options, notice: str = "") -> Endpoint:
        from nbchat.transports import local

        gguf = options.model if "model" in options.given and _is_gguf(options.model) else self._config.local_model
        weights = os.path.expanduser(gguf) if gguf else None
        model = Path(weights).stem if weights else local.BUILT_IN
        if "model" in options.given and not _is_gguf(options.model) and options.model != model:
            raise OptionError(
                f"-m {options.model}: the local endpoint serves {model}",
                "Leave out -m, give the path of a GGUF file, or name another --endpoint.",
            )

        def connect() -> Transport:
            # A small model repeats one sentence until the end of the answer.
            return Unrepeated(connect_to_server())

        def connect_to_server() -> Transport:
            server = local.serve(weights)
            # llama.cpp announces keep-alive and then closes the connection. A second request on that
            # connection would sometimes be lost.
            once = {"default_headers": {"Connection": "close"}}
            described = {"base_url": server.base_url, "api_key": server.api_key, **once}
            return self._kept(LOCAL, repr(described), lambda: described)

        # The embedded model is used in lessons, demos and tests: the same question gets the same answer.
        defaults = {"temperature": 0}
        return Endpoint(
            LOCAL,
            model,
            connect,
            notice=notice or "the embedded model answers, a toy",
            way="words",
            window=local.CONTEXT_TOKENS,
            defaults=defaults,
            max_tokens=None if self._has_length(options) else _LOCAL_MAX_TOKENS,
            ignores=() if weights else _IGNORED_BY_BUILT_IN,
        )


def _of(transport: Transport, options: Options) -> Endpoint:
    """Return the endpoint for a transport of the user's own, such as a ScriptedTransport."""
    model = getattr(transport, "model", None) if "model" not in options.given else None
    way: StructuredMethod = getattr(transport, "structured", "format")
    api = _api_of(transport.name, getattr(transport, "base_url", None))
    return Endpoint(transport.name, model or options.model, lambda: transport, way=way, api=api)


def _api_of(name: str, address: str | None) -> str:
    """Return the name that decides which server tools an endpoint takes.

    That is "" for a gateway in the place of a platform, because it may not know the newest tools.
    """
    if name == "anthropic":
        address = address or os.environ.get("ANTHROPIC_BASE_URL")
    return name if not address or re.match(r"https://api\.anthropic\.com(/|$)", address.strip()) else ""


def _is_gguf(model: str) -> bool:
    return model.endswith(".gguf")
