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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nbchat.config import Nbchat
from nbchat.core.errors import AuthError, OptionError, nearest
from nbchat.core.request import Transport
from nbchat.core.secrets import keep_url, shown_url
from nbchat.engine.endpoint import Endpoint
from nbchat.engine.endpoint_settings import EndpointSettings
from nbchat.models import (
    LOCAL,
    PLATFORMS,
    StructuredMethod,
)
from nbchat.options import Options
from nbchat.transports.claude import ClaudeTransport
from nbchat.transports.repetition import Unrepeated
from nbchat.transports.ways_out import ways_out

__all__ = ["Endpoints"]


#: Options that have no effect on the built-in model: its chat template has no place for their fields, and nothing here
#: runs the tools of the service. A model of the user's own may have a template that takes the fields.
_IGNORED_BY_BUILT_IN = ("run", "tools", "web_search", "web_fetch", "code_execution", "thinking", "effort")
#: The longest answer of the embedded model by default. It takes seconds, and fits its context window.
_LOCAL_MAX_TOKENS = 512


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
                    "Nbchat.endpoints['local']: this name belongs to the embedded model",
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
