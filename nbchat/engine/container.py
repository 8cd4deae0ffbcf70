"""The service's container, in which code runs: later turns of a conversation use the same one.

https://platform.claude.com/docs/en/agents-and-tools/tool-use/code-execution-tool#container-reuse
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from nbchat.core.conversation import Turn
from nbchat.core.request import Request
from nbchat.models import Model

__all__ = ["in_container"]

#: Tools that run in a container. Searches and fetches do so since these versions:
#: https://platform.claude.com/docs/en/agents-and-tools/tool-use/web-search-tool
_CONTAINER_TOOL = re.compile(r"(?P<name>code_execution|web_search|web_fetch)_(?P<version>\d{8})\Z")
_FIRST_IN_CONTAINER = {"code_execution": "", "web_search": "20260209", "web_fetch": "20260209"}


def in_container(request: Request, earlier: Sequence[Turn], endpoint: str, now_s: float) -> Request:
    """Return the request with the container of the earlier turns, if there is one that the request can use.

    A container holds at the endpoint that made it, for models of one family, until it expires.

    Args:
        request: the request.
        earlier: the turns before the prompt.
        endpoint: the name of the endpoint that is asked.
        now_s: the time in seconds since 1970.
    """
    if not any(_runs_in_container(tool) for tool in request.tools):
        return request
    for turn in reversed(earlier):
        if turn.container is None:
            continue
        same_place = turn.endpoint == endpoint and Model.of(turn.model).family == Model.of(request.model).family
        usable = same_place and not _has_expired(turn.container, now_s)
        id = turn.container.get("id")
        return replace(request, container=id) if usable and isinstance(id, str) else request
    return request


def _runs_in_container(tool: Mapping[str, Any]) -> bool:
    found = _CONTAINER_TOOL.match(str(tool.get("type", "")))
    return found is not None and found["version"] >= _FIRST_IN_CONTAINER[found["name"]]


def _has_expired(container: Mapping[str, Any], now_s: float) -> bool:
    """Return True if the container's time is over. The API knows about a container without a readable time."""
    try:
        until = datetime.fromisoformat(str(container.get("expires_at")))
    except ValueError:
        return False
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return until.timestamp() <= now_s
