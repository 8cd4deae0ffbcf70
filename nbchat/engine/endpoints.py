"""Endpoints: find the transport that answers a request.

The order is ``--endpoint``, ``c.Nbchat.endpoint`` (both arrive as one option), Anthropic credentials
as the SDK finds them, the embedded model if it is installed, and else an AuthError that names the
ways out. This room is above the transports, because they do not know each other: the embedded model
is a server, and the transport of the Messages API speaks to it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from nbchat.config import Nbchat
from nbchat.core.errors import AuthError, NbchatError, OptionError, nearest
from nbchat.core.request import Request, Transport
from nbchat.core.secrets import keep_url, shown_url
from nbchat.models import LOCAL, PLATFORMS, StructuredMethod, structured_method
from nbchat.options import Options
from nbchat.transports.claude import ClaudeTransport
from nbchat.transports.error_mapping import ways_out

__all__ = ["Endpoint", "Endpoints"]


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
        way: how the endpoint is asked for a typed answer.
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
        way: StructuredMethod | None = None,
    ) -> None:
        self.name, self.model, self.notice = name, model, notice
        self.way = way or structured_method(name, model)
        self.priced_as, self.window = priced_as or name, window
        self.defaults = dict(defaults or {})
        self._connect = connect
        self._transport: Transport | None = None

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

    def describe(self) -> Mapping[str, Any]:
        """Return the Models API's description of the model, or {} where the endpoint has none."""
        if self.name == LOCAL:
            # llama.cpp has no Models API. It ignores an image, and answers a document with an error.
            unsupported = {"supported": False}
            return {"id": self.model, "capabilities": {"image_input": unsupported, "pdf_input": unsupported}}
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

    def names(self) -> list[str]:
        """Return the names that ``--endpoint`` takes."""
        return [*PLATFORMS, LOCAL, *self._config.endpoints]

    def candidates(self, options: Options) -> list[Endpoint]:
        """Return the endpoints that a recorded answer can come from.

        That is the endpoint that the user names, or else each endpoint of the order above. Credentials
        do not matter: a recorded answer replays on a machine that has none.
        """
        if options.endpoint or self._fixed is not None:
            return [self.find(options)]
        try:
            return [self._named("anthropic", options.model), self._local(options)]
        except OptionError:  # the user names a model, and it is not the embedded one
            return [self._named("anthropic", options.model)]

    def find(self, options: Options) -> Endpoint:
        """Return the endpoint for these options.

        Raises:
            OptionError: the endpoint is unknown, or the endpoint does not serve the model.
            AuthError: no endpoint was named, and none can answer.
        """
        if self._fixed is not None and "endpoint" not in options.given:
            return _of(self._fixed, options)
        described = self._config.endpoints.get(options.endpoint or "")
        if isinstance(described, Transport):
            return _of(described, options)
        if options.endpoint == LOCAL:
            return self._local(options)
        if options.endpoint:
            return self._named(options.endpoint, options.model)
        if self.has_anthropic():
            return self._named("anthropic", options.model)
        return self._embedded_instead(options)

    def has_anthropic(self) -> bool:
        """Return True if the SDK finds credentials for the Anthropic API. Nothing is sent."""
        return self._transport_of("anthropic", None).has_credentials()

    def describe(self, endpoint: Endpoint) -> Mapping[str, Any]:
        """Return :meth:`Endpoint.describe`. Each model is asked about once."""
        key = (endpoint.name, endpoint.model)
        if key not in self._descriptions:
            self._descriptions[key] = endpoint.describe()
        return self._descriptions[key]

    def _named(self, name: str, model: str) -> Endpoint:
        if name in PLATFORMS:
            return Endpoint(name, model, lambda: self._transport_of(name, None))
        if name in self._config.endpoints:
            described = self._config.endpoints[name]
            url = described if isinstance(described, str) else described.get("base_url", "")
            return Endpoint(name, model, lambda: self._transport_of(name, described), priced_as=url)
        if re.match(r"https?://", name):
            # The name is shown, and is stored in a Response, in the ledger and in the journal.
            shown = shown_url(name)
            return Endpoint(shown, model, lambda: self._transport_of(shown, name), priced_as=name)
        keep_url(name)  # an address without "https://" may have a password, too
        raise OptionError(
            f"--endpoint {name}: unknown endpoint",
            nearest(name, self.names()) or "Name one of: " + ", ".join(self.names()) + "; or a base URL.",
        )

    def _transport_of(self, name: str, described: str | Mapping[str, Any] | None) -> ClaudeTransport:
        # A changed setting means another transport.
        idle_timeout, max_retries = self._config.idle_timeout, self._config.max_retries
        key = (name, repr((described, idle_timeout, max_retries)))
        if key not in self._transports:
            self._transports[key] = ClaudeTransport(
                name, **_described(name, described), idle_timeout=idle_timeout, max_retries=max_retries
            )
        return self._transports[key]

    def _embedded_instead(self, options: Options) -> Endpoint:
        from nbchat.transports import local

        usable, _ = local.installed()
        if not usable:
            raise AuthError("no credentials for the Anthropic API were found, so nothing was sent", ways_out())
        if "model" in options.given and not _is_gguf(options.model):
            raise AuthError(
                f"no credentials for the Anthropic API were found, so {options.model} cannot be asked",
                f"{ways_out(embedded_installed=True)} Or leave out -m: then the embedded model answers.",
            )
        return self._local(options, "no Anthropic credentials were found: the embedded model answers, a toy")

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
            server = local.serve(weights)
            # llama.cpp announces keep-alive and then closes the connection. A second request on that
            # connection would sometimes be lost.
            once = {"default_headers": {"Connection": "close"}}
            return self._transport_of(LOCAL, {"base_url": server.base_url, "api_key": server.api_key, **once})

        # The embedded model is used in lessons, demos and tests: the same question gets the same answer.
        defaults = {"temperature": 0}
        window = local.CONTEXT_TOKENS
        return Endpoint(LOCAL, model, connect, notice=notice, way="words", window=window, defaults=defaults)


def _of(transport: Transport, options: Options) -> Endpoint:
    """Return the endpoint for a transport of the user's own, such as a ScriptedTransport."""
    model = getattr(transport, "model", None) if "model" not in options.given else None
    way: StructuredMethod = getattr(transport, "structured", "format")
    return Endpoint(transport.name, model or options.model, lambda: transport, way=way)


def _is_gguf(model: str) -> bool:
    return model.endswith(".gguf")


def _described(name: str, described: str | Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the arguments of ClaudeTransport for an endpoint that the settings describe."""
    if described is None or isinstance(described, str):
        return {"base_url": described}
    if name == LOCAL:
        return dict(described)
    unknown = set(described) - {"base_url", "api_key_env"}
    if unknown or "base_url" not in described:
        raise OptionError(
            f"c.Nbchat.endpoints[{name!r}] needs base_url and may have api_key_env; it has {', '.join(described)}",
            "Keys themselves do not belong in settings: api_key_env names the variable that holds one.",
        )
    variable = described.get("api_key_env")
    if variable and not os.environ.get(variable):
        raise AuthError(f"the endpoint {name!r} takes its key from {variable}, which is not set", f"Set {variable}.")
    return {"base_url": described["base_url"], "api_key": os.environ[variable] if variable else None}
