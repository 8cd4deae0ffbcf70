"""A local server that speaks the Messages API as well or as badly as a test needs.

Each connection is a raw socket, so that a test controls framing, cuts and stalls exactly.
"""

from __future__ import annotations

import base64
import contextlib
import email
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
    method: str = "POST"
    #: The body as it arrived.
    raw: bytes = b""


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
    raw = reader.read(int(headers.get("content-length", 0)))
    method, path = line.split()[:2]
    is_form = headers.get("content-type", "").startswith("multipart/")
    return Received(path, headers, {} if is_form else json.loads(raw or b"{}"), method=method, raw=raw)


def replay(data: bytes) -> Handler:
    """Return a handler that sends a recorded SSE body."""

    def handler(wire: Wire, request: Received) -> None:
        wire.head()
        # Some recordings were stored without the blank line that ends the last event.
        wire.send(data.rstrip() + b"\n\n")
        wire.end()

    return handler


@dataclass
class FilesApi:
    """The Files API, in front of a handler for everything else.

    It does what https://platform.claude.com/docs/en/build-with-claude/files says: a file that was uploaded
    cannot be downloaded, and one that a tool made can.

    Args:
        otherwise: the handler of other requests.
        files: (name, media type, content) of each file by its id.
    """

    otherwise: Handler
    files: dict[str, tuple[str, str, bytes]] = field(default_factory=dict)
    uploaded: list[str] = field(default_factory=list)

    def __call__(self, wire: Wire, request: Received) -> None:
        path, *rest = request.path.removeprefix("/v1/files").partition("/content")
        if not request.path.startswith("/v1/files"):
            self.otherwise(wire, request)
        elif request.method == "POST":
            self._upload(wire, request)
        elif (id := path.removeprefix("/")) not in self.files:
            _fail(wire, 404, "not_found_error", f"File not found: {id}")
        elif request.method == "DELETE":
            del self.files[id]
            wire.json("200 OK", {"id": id, "type": "file_deleted"})
        elif not rest[0]:
            wire.json("200 OK", self._metadata(id))
        elif id in self.uploaded:
            _fail(wire, 400, "invalid_request_error", f"File {id} is not downloadable.")
        else:
            wire.head(content_type="application/octet-stream")
            data = self.files[id][2]
            for start in range(0, len(data), 50_000):
                wire.send(data[start : start + 50_000])
            wire.end()

    def _metadata(self, id: str) -> dict[str, Any]:
        name, media_type, data = self.files[id]
        return {
            "id": id, "type": "file", "filename": name, "mime_type": media_type, "size_bytes": len(data),
            "created_at": "2026-11-29T00:00:00Z", "downloadable": id not in self.uploaded,
        }  # fmt: skip

    def _upload(self, wire: Wire, request: Received) -> None:
        head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
        form = email.message_from_bytes(head + request.raw)
        part = next(part for part in form.walk() if part.get_filename())
        id = f"file_{len(self.files) + 1}"
        self.files[id] = (str(part.get_filename()), part.get_content_type(), part.get_payload(decode=True))
        self.uploaded.append(id)
        wire.json("200 OK", self._metadata(id))


def _fail(wire: Wire, status: int, kind: str, reason: str) -> None:
    wire.json(f"{status} No", {"type": "error", "error": {"type": kind, "message": reason}})


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


#: A picture of one pixel.
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


def made(*ids: str) -> list[dict[str, Any]]:
    """Return the events of an answer whose code made files."""
    outputs = [{"type": "bash_code_execution_output", "file_id": id} for id in ids]
    result = {"type": "bash_code_execution_result", "stdout": "", "stderr": "", "return_code": 0, "content": outputs}
    call = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "bash_code_execution", "input": {}}
    block = {"type": "bash_code_execution_tool_result", "tool_use_id": "srvtoolu_1", "content": result}
    text = {"type": "text", "text": "Here it is."}
    events = [start()]
    for index, content in enumerate((call, block, text)):
        events += [
            {"type": "content_block_start", "index": index, "content_block": content},
            {"type": "content_block_stop", "index": index},
        ]
    container = {"id": "container_1", "expires_at": "2099-01-01T00:00:00Z"}
    delta = {"stop_reason": "end_turn", "container": container}
    return [*events, {"type": "message_delta", "delta": delta, "usage": {}}, {"type": "message_stop"}]


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
