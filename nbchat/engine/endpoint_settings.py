"""Endpoints in the settings: a base URL, or a dict with a base URL, headers, a key and a model."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nbchat.core.errors import AuthError, OptionError, keep_secret, nearest
from nbchat.models import PLATFORMS

__all__ = ["EndpointSettings"]

_FIELDS = ("base_url", "api_key_env", "headers", "model")
#: The name of a header: https://www.rfc-editor.org/rfc/rfc9110#name-tokens
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
#: A variable of the environment in the value of a header, as in ``Bearer ${GATEWAY_TOKEN}``.
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """Hold what the settings say about an endpoint.

    Attributes:
        name: the name of the endpoint.
        base_url: the address of the server, or None for the address of the platform.
        api_key_env: the variable of the environment that holds the key, or None.
        headers: headers of every request to the endpoint. ``${NAME}`` is a variable of the environment.
        model: the model that is asked where the request names none, or None.
    """

    name: str
    base_url: str | None = None
    api_key_env: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    model: str | None = None

    @classmethod
    def of(cls, name: str, described: Any) -> EndpointSettings:
        """Return the settings of an endpoint.

        Args:
            name: the name of the endpoint.
            described: its value in ``c.Nbchat.endpoints``; None if it has none.

        Raises:
            OptionError: the value does not have the form that ``c.Nbchat.endpoints`` needs. No value is shown.
        """
        if described is None or isinstance(described, str):
            return cls(name, described)
        where = f"Nbchat.endpoints[{name!r}]"
        if not isinstance(described, Mapping):
            raise OptionError(
                f"{where} is a {type(described).__name__}",
                "Give a base URL, a dict with base_url, or a Transport.",
            )
        for key in described:
            if key not in _FIELDS:
                hint = nearest(str(key), _FIELDS)
                if "key" in str(key).lower():
                    hint = "Keys themselves do not belong in settings: api_key_env names the variable that holds one."
                raise OptionError(f"{where} has the unknown field {key!r}; it may have {', '.join(_FIELDS)}", hint)
        if "base_url" not in described and name not in PLATFORMS:
            raise OptionError(f"{where} has no base_url", "Add base_url, the address of the server.")
        for key in ("base_url", "api_key_env", "model"):
            if key in described and not (isinstance(described[key], str) and described[key].strip()):
                raise OptionError(f"{where}[{key!r}] is a {type(described[key]).__name__}", f"{key} is a text.")
        headers = described.get("headers", {})
        _check_headers(f"{where}['headers']", headers)
        if described.get("api_key_env") and any(header.lower() == "authorization" for header in headers):
            raise OptionError(
                f"{where} has api_key_env and a header Authorization, which is the header of the key",
                "Leave one of them out.",
            )
        return cls(name, headers=headers, **{key: described[key] for key in described if key != "headers"})

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of ClaudeTransport, with the values of variables.

        Raises:
            AuthError: a variable is not set.
        """
        arguments: dict[str, Any] = {"base_url": self.base_url}
        if self.api_key_env:
            arguments["api_key"] = self._variable(self.api_key_env, "its key")
        if self.headers:
            arguments["default_headers"] = {name: self._filled(name, value) for name, value in self.headers.items()}
        return arguments

    def _filled(self, header: str, value: str) -> str:
        return _VARIABLE.sub(lambda found: self._variable(found[1], f"the header {header}"), value)

    def _variable(self, variable: str, what: str) -> str:
        value = os.environ.get(variable, "").strip()
        if not value:
            raise AuthError(
                f"the endpoint {self.name!r} takes {what} from {variable}, which is not set", f"Set {variable}."
            )
        keep_secret(value)
        return value


def _check_headers(where: str, headers: Any) -> None:
    """Raise OptionError if HTTP cannot send one of the headers. The value is a secret and is not shown."""
    if not isinstance(headers, Mapping):
        raise OptionError(f"{where} is a {type(headers).__name__}", 'Give a dict, such as {"X-Team": "physics"}.')
    for header, value in headers.items():
        if not isinstance(header, str) or not _HEADER.fullmatch(header):
            raise OptionError(f"{where}: a name is not one of a header", 'Give a dict, such as {"X-Team": "physics"}.')
        if not isinstance(value, str):
            raise OptionError(f"{where}[{header!r}] is a {type(value).__name__}", "The value of a header is a text.")
        if not value.isascii() or not value.isprintable():
            raise OptionError(
                f"{where}[{header!r}] has characters that an HTTP header may not have",
                "Write it without line breaks, and with ASCII characters only.",
            )
