"""A local server with the Message Batches API, which does what the documentation says.

https://platform.claude.com/docs/en/build-with-claude/batch-processing
"""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support.server import Handler, Received, Wire, message

_NAMES = re.compile(r"[a-zA-Z0-9_-]{1,64}")
#: What becomes of a request: the outcome in a line of the results.
Outcome = Callable[[dict[str, Any]], dict[str, Any]]


def shouted(params: dict[str, Any]) -> dict[str, Any]:
    """Answer a request with its prompt in upper case."""
    content = params["messages"][-1]["content"]
    text = content if isinstance(content, str) else "".join(part["text"] for part in content)
    answer = message([{"type": "text", "text": text.upper()}])
    answer["usage"]["service_tier"] = "batch"
    return {"type": "succeeded", "message": answer}


def errored(kind: str, text: str = "no") -> dict[str, Any]:
    """Return the outcome of a request that failed."""
    error = {"type": "error", "error": {"type": kind, "message": text}, "request_id": "req_1"}
    return {"type": "errored", "error": error}


@dataclass
class Batch:
    """A batch at the service."""

    id: str
    requests: list[dict[str, Any]]
    created: datetime
    at: float = field(default_factory=time.monotonic)
    status: str = "in_progress"
    outcomes: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class BatchesApi:
    """The Message Batches API, as a handler of the test server.

    Args:
        outcome: what becomes of each request.
        ends: whether a batch ends by itself, with the first question after its creation.
        unknown_s: how long a new batch answers 404, in seconds.
        before_create: may answer the creation itself; it returns True then.
        after_create: may lose the answer of a creation; it returns True then.
    """

    outcome: Outcome = shouted
    ends: bool = True
    unknown_s: float = 0.0
    before_create: Callable[[Wire, Received], bool] = lambda wire, request: False
    after_create: Callable[[Wire, Received], bool] = lambda wire, request: False
    otherwise: Handler | None = None
    batches: list[Batch] = field(default_factory=list)
    lock: Any = field(default_factory=threading.Lock)

    def __call__(self, wire: Wire, request: Received) -> None:
        with self.lock:
            self._answer(wire, request)

    def _answer(self, wire: Wire, request: Received) -> None:
        path = request.path.partition("?")[0].removesuffix("/")
        if path == "/v1/messages/batches":
            return self._create(wire, request) if request.method == "POST" else self._list(wire)
        if not path.startswith("/v1/messages/batches/"):
            return self.otherwise(wire, request) if self.otherwise else fail(wire, 404, "not_found_error", path)
        id, _, action = path.removeprefix("/v1/messages/batches/").partition("/")
        batch = next((batch for batch in self.batches if batch.id == id), None)
        if batch is None or time.monotonic() - batch.at < self.unknown_s:
            return fail(wire, 404, "not_found_error", f"no batch {id}")
        if action == "cancel":
            if batch.status == "ended":
                return fail(wire, 400, "invalid_request_error", "the batch has ended")
            batch.status = "canceling"
            return wire.json("200 OK", self._described(batch))
        if action == "results":
            if batch.status != "ended":
                return fail(wire, 404, "not_found_error", "no results yet")
            return self._results(wire, batch)
        if self.ends or batch.status == "canceling":
            self.end(batch)
        return wire.json("200 OK", self._described(batch))

    def _create(self, wire: Wire, request: Received) -> None:
        if self.before_create(wire, request):
            return None
        requests = request.body["requests"]
        names = [entry["custom_id"] for entry in requests]
        if not requests or len(requests) > 100_000 or len(set(names)) < len(names):
            return fail(wire, 400, "invalid_request_error", "requests")
        if not all(_NAMES.fullmatch(name) for name in names):
            return fail(wire, 400, "invalid_request_error", "custom_id")
        if any("stream" in entry["params"] and entry["params"]["stream"] for entry in requests):
            return fail(wire, 400, "invalid_request_error", "stream")
        if len(request.raw) > 256_000_000:
            return fail(wire, 413, "request_too_large", "too large")
        batch = Batch(f"msgbatch_{len(self.batches) + 1}", requests, datetime.now(UTC))
        self.batches.append(batch)
        if not self.after_create(wire, request):
            wire.json("200 OK", self._described(batch))
        return None

    def _list(self, wire: Wire) -> None:
        data = [self._described(batch) for batch in reversed(self.batches)]
        wire.json("200 OK", {"data": data, "has_more": False, "first_id": None, "last_id": None})

    def end(self, batch: Batch) -> None:
        """End a batch: a cancelled one has answered its first request only."""
        if batch.status == "ended":
            return
        for place, entry in enumerate(batch.requests):
            canceled = batch.status == "canceling" and place > 0
            batch.outcomes[entry["custom_id"]] = {"type": "canceled"} if canceled else self.outcome(entry["params"])
        batch.status = "ended"

    def _described(self, batch: Batch) -> dict[str, Any]:
        ended = batch.status == "ended"
        counts = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
        if ended:
            for outcome in batch.outcomes.values():
                kind = outcome.get("type") if isinstance(outcome, dict) else None
                counts[kind if kind in counts else "errored"] += 1
        else:
            counts["processing"] = len(batch.requests)
        return {
            "id": batch.id, "type": "message_batch", "processing_status": batch.status, "request_counts": counts,
            "created_at": batch.created.isoformat().replace("+00:00", "Z"),
            "expires_at": (batch.created + timedelta(hours=24)).isoformat(), "archived_at": None,
            "ended_at": batch.created.isoformat() if ended else None, "cancel_initiated_at": None,
            # A host that nobody should send a key to.
            "results_url": f"http://other.invalid/v1/messages/batches/{batch.id}/results" if ended else None,
        }  # fmt: skip

    def _results(self, wire: Wire, batch: Batch) -> None:
        lines = [{"custom_id": id, "result": outcome} for id, outcome in batch.outcomes.items()]
        random.Random(1).shuffle(lines)
        wire.head(content_type="application/x-jsonl")
        # Characters that end a line elsewhere, but not in JSON lines.
        data = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
        for start in range(0, len(data), 1_000):
            wire.send(data[start : start + 1_000])
        wire.end()


def fail(wire: Wire, status: int, kind: str, reason: str) -> None:
    """Answer with an error of the API."""
    wire.json(f"{status} No", {"type": "error", "error": {"type": kind, "message": reason}})
