"""A local server that speaks the Messages API as well or as badly as a test needs.

Each connection is a raw socket, so that a test controls framing, cuts and stalls exactly.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Received:
    """A request that the server received."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    at: float = field(default_factory=time.monotonic)
    #: The client's port. Requests over the same connection have the same one.
    port: int = 0


class Wire:
    """The connection that a handler writes its answer to."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.chunked = True

    def head(
        self, status: str = "200 OK", content_type: str = "text/event-stream", *, chunked: bool = True, **headers: str
    ) -> None:
        """Send the status line and the headers. Underscores in header names become hyphens."""
        self.chunked = chunked
        lines = [f"HTTP/1.1 {status}", f"content-type: {content_type}", "request-id: req_test"]
        lines.append("transfer-encoding: chunked" if chunked else "connection: close")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.raw(("\r\n".join(lines) + "\r\n\r\n").encode())

    def send(self, data: bytes) -> None:
        """Send a part of the body, framed as a chunk if the headers said so."""
        self.raw(b"%x\r\n%s\r\n" % (len(data), data) if self.chunked else data)

    def event(self, event: dict[str, Any]) -> None:
        """Send an event as SSE."""
        self.send(sse(event))

    def end(self) -> None:
        """End the body cleanly."""
        if self.chunked:
            self.raw(b"0\r\n\r\n")

    def raw(self, data: bytes) -> None:
        """Send bytes without any framing."""
        self.connection.sendall(data)

    def reset(self) -> None:
        """End the connection with a TCP reset."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())  # close() does nothing before `reader` is closed

    def json(self, status: str, body: Any, **headers: str) -> None:
        """Send a whole answer in JSON."""
        self.head(status, "application/json", chunked=True, **headers)
        self.send(json.dumps(body).encode())
        self.end()

    def gone(self, within: float) -> bool:
        """Return True if the client closes the connection within ``within`` seconds."""
        self.connection.settimeout(within)
        try:
            return self.connection.recv(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True


def sse(event: dict[str, Any]) -> bytes:
    """Return an event in the format of server-sent events."""
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


Handler = Callable[[Wire, Received], None]


@dataclass
class Server:
    """A running server: its URL and the requests that it received."""

    url: str
    requests: list[Received]


@contextlib.contextmanager
def serving(*handlers: Handler) -> Iterator[Server]:
    """Run a server that calls one handler for each request. The last handler is called again and again."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(f"http://127.0.0.1:{listener.getsockname()[1]}", [])
    lock, open_connections = threading.Lock(), []

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            open_connections.append(connection)
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            reader = connection.makefile("rb")
            while request := _read(reader):
                request.port = connection.getpeername()[1]
                with lock:
                    server.requests.append(request)
                    handler = handlers[min(len(server.requests), len(handlers)) - 1]
                wire = Wire(connection)
                try:
                    handler(wire, request)
                except BaseException:
                    connection.shutdown(socket.SHUT_RDWR)  # `reader` would keep the connection open
                    raise
                if not wire.chunked:
                    connection.shutdown(socket.SHUT_RDWR)
                    return

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield server
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # close() alone would accept one more connection
        listener.close()
        for connection in open_connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def _read(reader: Any) -> Received | None:
    line = reader.readline().decode()
    if not line:
        return None
    headers = {}
    while header := reader.readline().decode().strip():
        name, _, value = header.partition(":")
        headers[name.lower()] = value.strip()
    body = reader.read(int(headers.get("content-length", 0)))
    return Received(line.split()[1], headers, json.loads(body or b"{}"))


def replay(data: bytes) -> Handler:
    """Return a handler that sends a recorded SSE body."""

    def handler(wire: Wire, request: Received) -> None:
        wire.head()
        # Some recordings were stored without the blank line that ends the last event.
        wire.send(data.rstrip() + b"\n\n")
        wire.end()

    return handler


def start(**usage: int) -> dict[str, Any]:
    """Return a ``message_start`` event."""
    message = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "test-model", "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 10, "output_tokens": 1} | usage,
    }  # fmt: skip
    return {"type": "message_start", "message": message}


def text_delta(text: str, index: int = 0) -> dict[str, Any]:
    """Return a ``content_block_delta`` event with text."""
    return {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": text}}


def text_events(pieces: Iterable[str], stop_reason: str = "end_turn") -> Iterator[dict[str, Any]]:
    """Yield the events of an answer with one text block, a delta for each piece."""
    yield start()
    yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    count = 0
    for piece in pieces:
        count += 1
        yield text_delta(piece)
    yield {"type": "content_block_stop", "index": 0}
    yield {
        "type": "message_delta",
        "delta": {"stop_reason": stop_reason, "stop_sequence": None},
        "usage": {"output_tokens": count},
    }
    yield {"type": "message_stop"}


def streaming(events: Iterable[dict[str, Any]], pause: float = 0.0) -> Handler:
    """Return a handler that sends events, each after a pause in seconds."""
    events = list(events)

    def handler(wire: Wire, request: Received) -> None:
        wire.head()
        for event in events:
            if pause:
                time.sleep(pause)
            wire.event(event)
        wire.end()

    return handler


def message(content: list[dict[str, Any]], stop_reason: str = "end_turn", **more: Any) -> dict[str, Any]:
    """Return a complete message, the answer to a request without streaming."""
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "test-model", "content": content,
        "stop_reason": stop_reason, "stop_sequence": None, "usage": {"input_tokens": 10, "output_tokens": 5}, **more,
    }  # fmt: skip
