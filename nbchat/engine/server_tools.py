"""Server tools: web search, web fetch and code execution, which the service runs itself.

https://platform.claude.com/docs/en/agents-and-tools/tool-use/server-tools
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from nbchat.core.errors import OptionError
from nbchat.models import SERVER_TOOL_TYPES, has_server_tool
from nbchat.options import OPTIONS, Options

__all__ = ["definitions", "flag_of", "refuse_unserved", "server_tools"]

#: The tools that take a limit of uses and lists of domains.
_WEB_TOOLS = ("web_search", "web_fetch")
#: The options of the web tools. Each is a field of the same name in the definition of the tool.
_WEB_OPTIONS = ("max_uses", "allowed_domains", "blocked_domains")
_FLAGS = {option.name: option.flags[-1] for option in OPTIONS}
_HOST = re.compile(r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})\.)+[A-Za-z0-9-]{2,63}")


def flag_of(tool: str) -> str:
    """Return the flag of the option that offers a server tool."""
    return _FLAGS[tool]


def server_tools(options: Options) -> dict[str, dict[str, Any]]:
    """Return the settings of the server tools that the options offer, by the name of the tool.

    Raises:
        OptionError: a domain has a form that the API refuses, or an option of the web tools has no tool.
    """
    tools: dict[str, dict[str, Any]] = {name: {} for name in SERVER_TOOL_TYPES if getattr(options, name)}
    web = [name for name in _WEB_TOOLS if name in tools]
    if not web:
        for name in _WEB_OPTIONS:
            if name in options.given and getattr(options, name):
                raise OptionError(
                    f"{_FLAGS[name]}: this request offers neither web search nor web fetch",
                    f"Add --web-search or --web-fetch, or leave out {_FLAGS[name]}.",
                )
        return tools
    settings = _web_settings(options)
    for name in web:
        tools[name] = dict(settings)
    if "web_fetch" in tools:
        # A search cites its sources always, a fetched page only when asked to.
        tools["web_fetch"]["citations"] = {"enabled": True}
    return tools


def definitions(tools: Mapping[str, Mapping[str, Any]], *, newest: bool, cites: bool) -> tuple[dict[str, Any], ...]:
    """Return the definitions of server tools.

    Args:
        tools: the settings of the tools by name.
        newest: True for the newest versions, False for those that every model and endpoint with the tool takes.
        cites: False if fetched pages must not be cited.
    """
    made = []
    for name, settings in tools.items():
        new, basic = SERVER_TOOL_TYPES[name]
        kept = {key: value for key, value in settings.items() if cites or key != "citations"}
        made.append({"type": new if newest else basic, "name": name, **kept})
    return tuple(made)


def refuse_unserved(tools: Iterable[str], endpoint: str) -> None:
    """Raise OptionError if the endpoint is known not to run one of the server tools."""
    for tool in tools:
        if not has_server_tool(endpoint, tool):
            raise OptionError(
                f"{flag_of(tool)}: the endpoint {endpoint!r} does not run this tool",
                f"Leave out {flag_of(tool)}, or name another endpoint with --endpoint.",
            )


def _web_settings(options: Options) -> dict[str, Any]:
    settings: dict[str, Any] = {"max_uses": options.max_uses} if options.max_uses else {}
    for name in ("allowed_domains", "blocked_domains"):
        domains = [domain.strip() for given in getattr(options, name) for domain in given.split(",")]
        domains = list(dict.fromkeys(domain for domain in domains if domain))
        for domain in domains:
            _check_domain(domain, _FLAGS[name])
        if domains:
            settings[name] = domains
        elif name in options.given and getattr(options, name):
            raise OptionError(f"{_FLAGS[name]} names no domain", f"For example: {_FLAGS[name]} example.org")
    if "allowed_domains" in settings and "blocked_domains" in settings:
        raise OptionError(
            "--allowed-domains and --blocked-domains: the API takes only one of them",
            "Leave one out. All domains that are not allowed are blocked anyway.",
        )
    return settings


def _check_domain(domain: str, flag: str) -> None:
    """Raise OptionError if the API refuses a domain.

    The API takes a host and optionally a path, with one ``*`` in the path:
    https://platform.claude.com/docs/en/agents-and-tools/tool-use/server-tools#domain-filtering
    """
    _, separator, rest = domain.rpartition("://")
    host, slash, path = rest.partition("/")
    if separator:
        problem, hint = "a domain has no scheme", f"Write {flag} {host or 'example.org'}{slash}{path}"
    elif "*" in host:
        problem, hint = "* may be in the path only", "example.org includes all of its subdomains."
    elif path.count("*") > 1:
        problem, hint = (
            "a domain may have only one *",
            "Leave out the path after the first *: a path includes the rest.",
        )
    elif not domain.isascii():
        problem = "a domain may have only ASCII characters, because other characters can look the same"
        hint = "Write an international domain in its form with xn--."
    elif not _HOST.fullmatch(host) or re.search(r"[\s?#@]", path):
        problem, hint = "this is not a domain", f"Write a domain, if needed with a path: {flag} example.org/blog"
    else:
        return
    raise OptionError(f"{flag} {domain}: {problem}", hint)
