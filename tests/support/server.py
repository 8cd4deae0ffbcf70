"""A local server that speaks the Messages API as badly as a test wants.

Each connection is handled by a raw socket, so that framing, cuts and stalls are exact.
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
    """A request as it came in."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    at: float = field(default_factory=time.monotonic)
    #: The other side's port: the same for requests over the same connection.
    port: int = 0


class Wire:
    """One connection's writing side."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.chunked = True

    def head(
        self, status: str = "200 OK", content_type: str = "text/event-stream", *, chunked: bool = True, **headers: str
    ) -> None:
        self.chunked = chunked
        lines = [f"HTTP/1.1 {status}", f"content-type: {content_type}", "request-id: req_test"]
        lines.append("transfer-encoding: chunked" if chunked else "connection: close")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.raw(("\r\n".join(lines) + "\r\n\r\n").encode())

    def send(self, data: bytes) -> None:
        self.raw(b"%x\r\n%s\r\n" % (len(data), data) if self.chunked else data)

    def event(self, event: dict[str, Any]) -> None:
        self.send(sse(event))

    def end(self) -> None:
        """End the body properly."""
        if self.chunked:
            self.raw(b"0\r\n\r\n")

    def raw(self, data: bytes) -> None:
        self.connection.sendall(data)

    def reset(self) -> None:
        """End the connection with a TCP reset."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())  # close() would wait for the reader

    def json(self, status: str, body: Any, **headers: str) -> None:
        self.head(status, "application/json", chunked=True, **headers)
        self.send(json.dumps(body).encode())
        self.end()

    def gone(self, within: float) -> bool:
        """Whether the other side closes within so many seconds."""
        self.connection.settimeout(within)
        try:
            return self.connection.recv(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True


def sse(event: dict[str, Any]) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


Handler = Callable[[Wire, Received], None]


@dataclass
class Server:
    """The running server: where it is and what it received."""

    url: str
    requests: list[Received]


@contextlib.contextmanager
def serving(*handlers: Handler) -> Iterator[Server]:
    """Serve one handler a request, the last again and again."""
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
                    connection.shutdown(socket.SHUT_RDWR)  # the reader above would keep it open
                    raise
                if not wire.chunked:
                    connection.shutdown(socket.SHUT_RDWR)
                    return

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield server
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # else one more connection would be accepted
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
    """Serve a recorded SSE body."""

    def handler(wire: Wire, request: Received) -> None:
        wire.head()
        # Some recordings were stored without the blank line that ends the last event.
        wire.send(data.rstrip() + b"\n\n")
        wire.end()

    return handler


def start(**usage: int) -> dict[str, Any]:
    """A ``message_start`` event."""
    message = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "test-model", "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 10, "output_tokens": 1} | usage,
    }  # fmt: skip
    return {"type": "message_start", "message": message}


def text_delta(text: str, index: int = 0) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": text}}


def text_events(pieces: Iterable[str], stop_reason: str = "end_turn") -> Iterator[dict[str, Any]]:
    """The events of an answer of one text block."""
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
    """Serve events, with a pause before each."""
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
    """A whole message, as an answer that is not streamed."""
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "test-model", "content": content,
        "stop_reason": stop_reason, "stop_sequence": None, "usage": {"input_tokens": 10, "output_tokens": 5}, **more,
    }  # fmt: skip
