"""What is left after a turn, as plain values: the same for a session in Python and for one in a kernel."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nbchat.core.errors import NbchatError
from nbchat.core.request import Request
from nbchat.engine.session import Session
from nbchat.transports.claude import ClaudeTransport
from tests.faults.answers import MODEL

__all__ = ["Endpoint", "open_sockets", "plain", "state_of", "threads"]

PRICES = {MODEL: {"input": 1.0, "output": 5.0}}
#: The word of a prompt that goes to a port on which nobody listens.
REFUSED = "refused"


class Endpoint:
    """Two transports of the ring as one: a server with faults, and a port on which nobody listens.

    Waits before a retry take no time here.
    """

    def __init__(self, url: str, unused: str) -> None:
        self.name = "mine"
        self.server, self.nobody = (
            ClaudeTransport("mine", base_url=address, api_key="sk-ant-ring-0123456789", sleep=lambda seconds: None)
            for address in (url, unused)
        )

    @contextmanager
    def stream(self, request: Request) -> Iterator[Any]:
        """Send the request to the server, or to nobody if its prompt says so."""
        transport = self.nobody if REFUSED in json.dumps(request.body()["messages"][-1]) else self.server
        with transport.stream(request) as events:
            yield events


def state_of(session: Session, chat: str, error: BaseException | None, ledger: Path, journal: Path) -> dict[str, Any]:
    """Return what a turn left: the Response, what would be sent next, the rows of the ledger, and the journal."""
    last = session.last
    assert last is not None
    held = getattr(error, "partial", None) or getattr(error, "response", None)
    assert held is None or held is last, "the error holds another Response"
    # A half of a surrogate pair, NaN or a value without end would fail here.
    saved = json.dumps(last.to_dict(), allow_nan=False, ensure_ascii=False).encode()
    assert type(last).from_dict(json.loads(saved)).to_dict() == json.loads(saved), "the Response cannot be loaded"
    assert last.duration is not None
    assert last.duration >= 0
    return {
        "error": type(error).__name__ if error is not None else "",
        "said": plain(str(error)) if error is not None else "",
        "status": last.status,
        "held": [_short(block.to_dict()) for message in last.messages[1:] for block in message.content],
        "next": [
            f"{message.role}: {', '.join(_short(block.to_dict()) for block in message.content)}"
            for message in session.conversation(chat).sendable(None, MODEL, "mine")
        ],
        "rows": _rows(ledger, chat),
        "journal": len(list(journal.glob("*"))) if journal.is_dir() else 0,
        "notes": [plain(note) for note in last.notes],
    }


def plain(text: str) -> str:
    """Return a message without the port of the server, and without the seconds until a date."""
    return re.sub(r"(?<=asks to wait )\d{10,}", "…", re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:…", text))


def _short(block: Mapping[str, Any]) -> str:
    """Return a block on one short line."""
    kind = block.get("type")
    if kind == "text":
        shown = repr(block["text"])
    elif kind == "thinking":
        shown = f"thinking {block['thinking']!r}{'' if block.get('signature') else ' without a signature'}"
    elif kind == "tool_use":
        shown = f"{block.get('name')}({json.dumps(block.get('input'))})"
    elif kind == "tool_result":
        content = " ".join(str(part.get("text")) for part in block.get("content") or ())
        shown = f"{'failed' if block.get('is_error') else 'result'} {content!r}"
    else:
        shown = json.dumps(block)
    return shown if len(shown) <= 150 else f"{shown[:90]} … ({len(shown)} characters)"


def _rows(ledger: Path, chat: str) -> list[str]:
    """Return the rows of a conversation as they are on the disk."""
    if not ledger.exists():
        return []
    connection = sqlite3.connect(ledger)
    try:
        found = connection.execute(
            "SELECT kind, status, cost, duration, at FROM requests WHERE chat = ? ORDER BY id", (chat,)
        ).fetchall()
    finally:
        connection.close()
    assert all(duration >= 0 and at > 0 for *_, duration, at in found)
    return [f"{kind} {status} {'?' if cost is None else f'{cost:.6f}'}" for kind, status, cost, *_ in found]


def threads() -> list[str]:
    """Return the names of the threads that nbchat started and that do not end."""
    end = time.monotonic() + 20
    while True:
        names = [thread.name for thread in threading.enumerate() if thread.name.startswith("nbchat")]
        if not names or time.monotonic() > end:
            return names
        time.sleep(0.001)


def open_sockets() -> int:
    """Return the number of sockets of this process; 0 where the system does not say."""
    count = 0
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        return 0
    for name in names:
        try:
            count += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
        except OSError:
            continue
    return count


def check_error(error: BaseException) -> None:
    """Fail if an error shows a library, a traceback or a key, or holds an error that does."""
    assert isinstance(error, NbchatError), repr(error)
    assert error.__cause__ is None
    text = str(error)
    assert "sk-ant-ring" not in text
    for word in ("httpx", "anthropic.", "Traceback", "pydantic", "h11"):
        assert word not in text, text
    assert "\x1b" not in text
    assert len(error._render_traceback_()) <= 2
    assert len(text) < 1_500, text
