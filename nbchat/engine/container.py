"""The service's container, in which code runs: later turns of a conversation use the same one.

https://platform.claude.com/docs/en/agents-and-tools/tool-use/code-execution-tool#container-reuse
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from nbchat.core.conversation import Turn
from nbchat.core.messages import Message
from nbchat.core.request import Request
from nbchat.models import Model

__all__ = ["has_container", "in_container", "without_container_files"]

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
    own = request.params.get("container")
    if isinstance(own, Mapping):
        own = own.get("id")
    if own or not has_container(request.tools):
        return request
    for turn in reversed(earlier):
        if turn.container is None:
            continue
        # A gateway may call its models by names of its own, which tell no family.
        families = {family for name in (turn.model, request.model) if (family := Model.of(name).family)}
        usable = turn.endpoint == endpoint and len(families) <= 1 and not _has_expired(turn.container, now_s)
        id = turn.container.get("id")
        return replace(request, container=id) if usable and isinstance(id, str) else request
    return request


def has_container(tools: Iterable[Mapping[str, Any]]) -> bool:
    """Return True if one of the tools runs in a container of the service."""
    found = (_CONTAINER_TOOL.match(str(tool.get("type", ""))) for tool in tools)
    return any(tool is not None and tool["version"] >= _FIRST_IN_CONTAINER[tool["name"]] for tool in found)


def without_container_files(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return messages without the files for a container, for a request that has none.

    The model itself never sees these files.
    """
    if all(block.type != "container_upload" for message in messages for block in message.content):
        return messages
    return tuple(
        replace(message, content=tuple(block for block in message.content if block.type != "container_upload"))
        if message.role == "user"
        else message
        for message in messages
    )


def _has_expired(container: Mapping[str, Any], now_s: float) -> bool:
    """Return True if the container's time is over. The API knows about a container without a readable time."""
    try:
        until = datetime.fromisoformat(str(container.get("expires_at")))
    except ValueError:
        return False
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return until.timestamp() <= now_s
