"""Asking through the asynchronous client of a ClaudeTransport, as a run over rows does."""

from __future__ import annotations

import asyncio
from typing import Any

from nbchat.core.request import Request
from nbchat.transports.claude import ClaudeTransport

KEY = "sk-ant-api03-" + "k" * 40


def ask(
    url: str, request: Request, *, times: int = 1, name: str = "mine", key: str = KEY, **options: Any
) -> list[dict[str, Any]]:
    """Ask through one client, as often as asked to, and return the events of the last answer."""

    async def work() -> list[dict[str, Any]]:
        door = ClaudeTransport(name, base_url=url, api_key=key, max_retries=0, **options).open_async()
        try:
            for _ in range(times):
                found = [event async for event in door.events(request)]
        finally:
            await door.close()
        return found

    return asyncio.run(work())
