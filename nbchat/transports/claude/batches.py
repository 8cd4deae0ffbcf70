"""The Message Batches API of an endpoint: https://platform.claude.com/docs/en/api/creating-message-batches.

Every error of the SDK becomes one of ours, as for single requests. A call that only reads is repeated after a failure.
The call that creates a batch is repeated only if the endpoint certainly did not take it, because two batches are paid
for twice.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from nbchat.core.errors import NOT_CONNECTED, AuthError, BadRequestError, InputError, NbchatError, StreamError
from nbchat.transports.claude.client import betas_of, open_lines, timeout
from nbchat.transports.claude.deadline import Deadline, current
from nbchat.transports.claude.retries import wait_before_retry
from nbchat.transports.claude.sdk_values import as_dict
from nbchat.transports.error_mapping import explain

if TYPE_CHECKING:
    from nbchat.transports.claude.client import SdkClient

__all__ = ["Batches", "read_results", "was_refused"]

#: How long the creation of a batch may take after its upload, in seconds. A batch can have 256 MB.
CREATE_TIMEOUT_S = 600.0
#: How long a question about a batch may take, in seconds.
ASK_TIMEOUT_S = 30.0
#: How long the results may go without a byte, in seconds.
RESULTS_TIMEOUT_S = 120.0
#: How many batches one page of the list has.
_PAGE = 100
#: The ids of batches go into addresses.
_ID = re.compile(r"[A-Za-z0-9_-]{1,200}")
#: Statuses with which a service refuses a request before it does any work.
_REFUSED_STATUSES = frozenset((429, 503, 529))

T = TypeVar("T")


def was_refused(failure: NbchatError) -> bool:
    """Return True if a failed creation certainly made no batch.

    >>> was_refused(BadRequestError("no", status=400)), was_refused(BadRequestError("no", status=500))
    (True, False)
    """
    status = getattr(failure, "status", None)
    if status is not None:
        return (400 <= status < 500 and status != 408) or status in _REFUSED_STATUSES
    return isinstance(failure, AuthError | InputError) or getattr(failure, "type", None) == NOT_CONNECTED


class Batches:
    """The batches of one endpoint.

    Args:
        endpoint: the endpoint's name, for messages.
        client: the SDK's client.
        max_retries: how often a failed call is repeated.
        sleep: the function that waits between attempts.
    """

    def __init__(
        self, endpoint: str, client: SdkClient, *, max_retries: int = 2, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._endpoint, self._client, self._max_retries, self._sleep = endpoint, client, max_retries, sleep

    def create(self, requests: Sequence[Mapping[str, Any]], betas: Sequence[str] = ()) -> dict[str, Any]:
        """Create a batch, and return its description as a dict.

        Args:
            requests: ``{"custom_id": …, "params": …}`` each.
            betas: the betas that the requests need.

        Raises:
            TransportError: the endpoint did not answer. :func:`was_refused` says if the batch can exist.
        """
        names = list(dict.fromkeys((*betas_of(self._client), *betas)))
        headers = {"anthropic-beta": ",".join(names)} if betas else None
        # The params are dicts of the API already.
        create: Any = self._client.messages.batches.create
        return self._ask(
            lambda: as_dict(create(requests=requests, extra_headers=headers, timeout=timeout(CREATE_TIMEOUT_S))),
            CREATE_TIMEOUT_S,
            is_safe=False,
        )

    def retrieve(self, id: str) -> dict[str, Any]:
        """Return the description of a batch as a dict.

        Raises:
            TransportError: the endpoint did not answer, or has no such batch (yet).
        """
        batches = self._client.messages.batches
        return self._ask(lambda: as_dict(batches.retrieve(_checked(id), timeout=timeout(ASK_TIMEOUT_S))), ASK_TIMEOUT_S)

    def recent(self, since: str) -> list[dict[str, Any]]:
        """Return the descriptions of the batches that were created since a date, the newest first.

        Args:
            since: a date of RFC 3339 in UTC.

        Raises:
            TransportError: the endpoint did not answer.
        """

        def ask() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = []
            for batch in self._client.messages.batches.list(limit=_PAGE, timeout=timeout(ASK_TIMEOUT_S)):
                described = as_dict(batch)
                if str(described.get("created_at") or "") < since:
                    break
                found.append(described)
            return found

        return self._ask(ask, ASK_TIMEOUT_S)

    def cancel(self, id: str) -> dict[str, Any]:
        """Ask the endpoint to cancel a batch, and return its description as a dict.

        Raises:
            TransportError: the endpoint did not answer, or the batch has ended.
        """
        batches = self._client.messages.batches
        return self._ask(lambda: as_dict(batches.cancel(_checked(id), timeout=timeout(ASK_TIMEOUT_S))), ASK_TIMEOUT_S)

    def results(self, id: str) -> Iterator[dict[str, Any]]:
        """Yield the results of a batch that has ended, as dicts, in any order.

        Raises:
            TransportError: the endpoint did not answer, or has no results (yet).
            StreamError: the results broke off.
        """
        # Not the address in the description of the batch: a gateway may pass on the address of another host,
        # and the key of this endpoint must not go there.
        path = f"/v1/messages/batches/{_checked(id)}/results"
        deadline = Deadline(RESULTS_TIMEOUT_S)

        def ask() -> Any:
            nonlocal deadline
            # The body keeps the deadline under which it was opened, so the lines must move that one.
            deadline = current() or deadline
            return open_lines(self._client, path, RESULTS_TIMEOUT_S)

        response = self._ask(ask, RESULTS_TIMEOUT_S)
        deadline.resume(content=True)
        failure: NbchatError | None = None
        try:
            pieces, rest = response.iter_bytes(), b""
            while True:
                with deadline:
                    piece = next(pieces, None)
                if piece is None:
                    break
                deadline.pause()
                # Not iter_lines: it also splits at characters that a JSON text may contain.
                *lines, rest = (rest + piece).split(b"\n")
                yield from read_results(lines)
                deadline.resume(content=True)
            yield from read_results([rest])
        except NbchatError:
            raise
        except Exception as error:
            failure = explain(error, endpoint=self._endpoint, started=True, waited=RESULTS_TIMEOUT_S)
        finally:
            response.close()
        if failure is not None:
            # Raised outside the handler, or Python would attach the SDK's error as the context, key and all.
            raise failure

    def _ask(self, ask: Callable[[], T], timeout_s: float, *, is_safe: bool = True) -> T:
        """Call ``ask``, and repeat it after a failure that passes. Every error of the SDK becomes one of ours."""
        number = 0
        while True:
            wait_s: float | None = None
            try:
                # The whole call has the limit, with all its pages. A timeout of httpx2 holds for each read.
                with Deadline(timeout_s):
                    return ask()
            except Exception as error:
                failure = explain(error, endpoint=self._endpoint, waited=timeout_s)
                if number < self._max_retries and (is_safe or was_refused(failure)):
                    wait_s = wait_before_retry(error, number, self._client)
            if wait_s is None:
                raise failure
            self._sleep(wait_s)
            number += 1


def _checked(id: str) -> str:
    if not _ID.fullmatch(id):
        raise BadRequestError("the endpoint gave a batch an id that cannot be part of an address")
    return id


def read_results(lines: Sequence[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the results in lines of JSON.

    Raises:
        StreamError: a line is not a result.
    """
    for line in lines:
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict) or not isinstance(value.get("custom_id"), str):
            raise StreamError(
                "the endpoint sent results of a batch that are not results of the Message Batches API",
                "What came before is kept. If this endpoint is a gateway, check that it has this API.",
            )
        yield value
