"""The Messages API through the anthropic SDK. This package is the only door to that SDK.

The SDK leaves five things to its caller, and each has its module here:

*client*       makes the SDK's client, strips keys and keeps them out of every message.
*attempt*      sends a request once and reads the answer; errors of every library become ours.
*network*      sends each request directly or through a proxy, and limits each read of a socket.
*deadline*     says until when the next content must have arrived.
*retries*      decides if a failed attempt is repeated, and shows the wait before that.

For many requests at once:

*asynchronous* waits for them in an event loop.
*fast_way*     has the connections of aiohttp.
*short_way*    sends a request there, without asking the SDK again about what all requests share.

:class:`ClaudeTransport` puts them together. Importing this package does not load the SDK.
"""

from __future__ import annotations

from nbchat.transports.claude.client import preload
from nbchat.transports.claude.transport import ClaudeTransport

__all__ = ["ClaudeTransport", "preload"]
