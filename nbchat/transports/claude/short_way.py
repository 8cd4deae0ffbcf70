"""The short way for answers in one piece: aiohttp, without the layers of the SDK and of httpx2 above it.

For each request those layers decide again what is the same for all requests of a run: the address, the credentials, the
headers, redirects, cookies. That takes more processor time than everything else together. Here the SDK decides it once.
It also names the errors, as it does on the usual way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import aiohttp
import anthropic
import httpx2
from anthropic._models import FinalRequestOptions

from nbchat.core.errors import NbchatError
from nbchat.transports.claude.client import timeout
from nbchat.transports.claude.deadline import Deadline
from nbchat.transports.claude.network import AsyncRoutes

if TYPE_CHECKING:
    from nbchat.transports.claude.client import AsyncSdkClient
    from nbchat.transports.claude.fast_way import FastWay

__all__ = ["Received", "ShortWay"]

_PATH = "/v1/messages"


class Received:
    """A successful answer: its headers and its whole body."""

    def __init__(self, headers: Mapping[str, str], body: bytes) -> None:
        self.headers, self.body = headers, body


class ShortWay:
    """Sends requests to the Messages API.

    Args:
        client: the SDK's client.
        way: aiohttp's connections.
        template: a request that the SDK has built.
    """

    def __init__(self, client: AsyncSdkClient, way: FastWay, template: httpx2.Request) -> None:
        self._client, self._way, self._template = client, way, template
        self._url = str(template.url)
        self._headers = {name: value for name, value in template.headers.items() if name != "content-length"}
        limits = template.extensions["timeout"]
        self._limits = aiohttp.ClientTimeout(
            sock_connect=limits["connect"], sock_read=limits["read"], connect=limits["pool"]
        )
        self._is_redirected = False

    @classmethod
    def of(cls, client: AsyncSdkClient) -> ShortWay | None:
        """Return the short way of a client; None if the SDK decides something for each request.

        That is so for tokens that expire, for clients of other platforms, which sign each request, for spans and
        middleware, and for a way through a proxy. It is also so for a version of the SDK that is made in another way.
        """
        try:
            if type(client) is not anthropic.AsyncAnthropic or client.custom_auth or client._middleware:
                return None
            if client._tracer is not None or not isinstance(client._client._transport, AsyncRoutes):
                return None
            options = FinalRequestOptions.construct(method="post", url=_PATH, json_data={}, timeout=timeout(None))
            template = client._build_request(options)
            way = client._client._transport.fast_way(template.url)
            return None if way is None or "sni_hostname" in template.extensions else cls(client, way, template)
        except (AttributeError, KeyError, TypeError, NbchatError):  # the usual way reports what is wrong
            return None

    async def send(self, body: Mapping[str, Any], betas: Sequence[str], deadline: Deadline) -> Received | None:
        """Send a request and return its answer; None if the endpoint redirects requests, which the SDK follows.

        Args:
            body: the fields of the API.
            betas: the betas of this request; if there are none, those of the client.
            deadline: learns how far the answer has come.

        Raises:
            anthropic.AnthropicError: the endpoint did not answer, or answered with an error.
        """
        if self._is_redirected:
            return None
        headers = {**self._headers, "anthropic-beta": ",".join(betas)} if betas else self._headers
        # As the SDK writes it.
        data = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        try:
            return await self._answer(data, headers, deadline)
        except httpx2.TimeoutException as error:
            raise anthropic.APITimeoutError(request=self._template) from error
        except httpx2.HTTPError as error:
            raise anthropic.APIConnectionError(request=self._template) from error

    async def _answer(self, data: bytes, headers: Mapping[str, str], deadline: Deadline) -> Received | None:
        async with self._way.post(self._url, data, headers, self._limits) as answer:
            deadline.was_answered = True
            success = 200 <= answer.status < 300
            body = b""
            try:
                while part := await answer.content.readany():
                    body = body + part if body else part
                    deadline.body_began = deadline.body_began or success
            except aiohttp.ClientError:
                # The status says all that counts about an error, also if the body that explains it is cut.
                if success:
                    raise
        if success and "content-encoding" not in answer.headers:
            return Received(answer.headers, body)
        if 300 <= answer.status < 400:
            self._is_redirected = True
            return None
        response = httpx2.Response(
            answer.status, headers=answer.raw_headers, stream=httpx2.ByteStream(body), request=self._template
        )
        try:
            body = await response.aread()
        except httpx2.DecodingError:
            if success:
                raise
            response._content = b""
        if success:
            return Received(answer.headers, body)
        raise self._client._make_status_error_from_response(response)
