"""Endpoints: from a name to a transport.

The order: ``--endpoint``; ``c.Nbchat.endpoint`` (both arrive as one option); Anthropic credentials
as the SDK finds them; the embedded model, if installed; else an AuthError that names the ways out.
It stands between the session and the transports, as those are blind to each other and the embedded
model is a server that the Messages API transport speaks to.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nbchat.config import Nbchat
from nbchat.core.errors import AuthError, NbchatError, OptionError, nearest
from nbchat.core.request import Transport
from nbchat.models import LOCAL, PLATFORMS, StructuredMethod, structured_method
from nbchat.options import Options
from nbchat.transports.claude import ClaudeTransport
from nbchat.transports.error_mapping import ways_out

__all__ = ["Endpoint", "Endpoints"]


class Endpoint:
    """Where a request goes: a name, the model it will name, and a transport, made when first used.

    ``notice`` is a line to say about it; ``priced_as`` is what prices know it by; ``window`` is the
    context window in tokens, where it is known without asking; ``defaults`` are fields of the
    request that it adds where the user gives none; ``way`` is how it is asked for a structured answer.
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
        self._connect, self._transport = connect, None

    @property
    def transport(self) -> Transport:
        """The transport.

        Raises:
            InputError, AuthError, ConnectionFailed: it cannot be had.
        """
        if self._transport is None:
            self._transport = self._connect()
        return self._transport


class Endpoints:
    """The endpoints of a session; a transport is made once and kept with its connections."""

    def __init__(self, config: Nbchat, fixed: Transport | None = None) -> None:
        self._config, self._fixed = config, fixed
        self._made: dict[tuple[str, str], ClaudeTransport] = {}
        self._told: dict[tuple[str, str], Mapping[str, Any]] = {}

    def names(self) -> list[str]:
        """The names ``--endpoint`` knows."""
        return [*PLATFORMS, LOCAL, *self._config.endpoints]

    def candidates(self, options: Options) -> list[Endpoint]:
        """The endpoints that a recorded answer may be of: the one that is named, else those of the order above.

        Credentials do not matter here: what is recorded replays on a machine that has none.
        """
        if options.endpoint or self._fixed is not None:
            return [self.find(options)]
        try:
            return [self._named("anthropic", options.model), self._local(options)]
        except OptionError:  # a model that the embedded one is not
            return [self._named("anthropic", options.model)]

    def find(self, options: Options) -> Endpoint:
        """The endpoint for these options.

        Raises:
            OptionError: no endpoint of that name, or one that does not serve the model.
            AuthError: no endpoint was named and none can answer.
        """
        if self._fixed is not None and "endpoint" not in options.given:
            return _of(self._fixed, options)
        described = self._config.endpoints.get(options.endpoint)
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
        """Whether the SDK finds credentials for the Anthropic API; nothing is sent."""
        return self._made_once("anthropic", None).has_credentials()

    def about(self, endpoint: Endpoint) -> Mapping[str, Any]:
        """What the Models API of an endpoint says of its model; {} where it says nothing. Asked once."""
        key = (endpoint.name, endpoint.model)
        if key not in self._told:
            self._told[key] = _about(endpoint)
        return self._told[key]

    def _named(self, name: str, model: str) -> Endpoint:
        if name in PLATFORMS:
            return Endpoint(name, model, lambda: self._made_once(name, None))
        if name in self._config.endpoints:
            described = self._config.endpoints[name]
            url = described if isinstance(described, str) else described.get("base_url", "")
            return Endpoint(name, model, lambda: self._made_once(name, described), priced_as=url)
        if re.match(r"https?://", name):
            return Endpoint(name, model, lambda: self._made_once(name, name))
        raise OptionError(
            f"--endpoint {name}: there is no endpoint of that name",
            nearest(name, self.names()) or "Name one of: " + ", ".join(self.names()) + "; or a base URL.",
        )

    def _made_once(self, name: str, described: str | Mapping[str, Any] | None) -> ClaudeTransport:
        patience = {"idle_timeout": self._config.idle_timeout, "max_retries": self._config.max_retries}
        key = (name, repr((described, patience)))
        if key not in self._made:
            self._made[key] = ClaudeTransport(name, **_described(name, described), **patience)
        return self._made[key]

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
            # llama.cpp announces keep-alive and closes: a request on that connection would sometimes be lost.
            once = {"default_headers": {"Connection": "close"}}
            return self._made_once(LOCAL, {"base_url": server.base_url, "api_key": server.api_key, **once})

        # It stands in for a model in lessons, demos and tests: the same question, the same answer.
        repeatable = {"temperature": 0}
        known = {"window": local.CONTEXT, "defaults": repeatable}
        return Endpoint(LOCAL, model, connect, notice=notice, way="words", **known)


def _of(transport: Transport, options: Options) -> Endpoint:
    """The endpoint that a transport is by itself, such as a ScriptedTransport."""
    own = getattr(transport, "model", None)  # a text, or the method of a transport that can ask
    model = own if isinstance(own, str) and "model" not in options.given else None
    way = getattr(transport, "structured", "format")
    return Endpoint(transport.name, model or options.model, lambda: transport, way=way)


def _about(endpoint: Endpoint) -> Mapping[str, Any]:
    if endpoint.name == LOCAL:  # it has no Models API, and takes an image or a document for nothing or for an error
        none = {"supported": False}
        return {"id": endpoint.model, "capabilities": {"image_input": none, "pdf_input": none}}
    try:
        ask = getattr(endpoint.transport, "model", None)
        told = ask(endpoint.model) if callable(ask) else {}
    except NbchatError:
        return {}  # an endpoint that cannot say can still answer
    return told if isinstance(told, Mapping) else {}


def _is_gguf(model: str) -> bool:
    return model.endswith(".gguf")


def _described(name: str, described: str | Mapping[str, Any] | None) -> dict[str, Any]:
    """The base URL and the key of an endpoint as the settings describe it."""
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
