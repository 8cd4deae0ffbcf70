"""Proxies and certificates of the environment: loopback goes directly, and a bad variable is named."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbchat.core.errors import ConnectionFailed, InputError
from nbchat.engine.session import Session
from nbchat.tools.mcp import McpServers
from nbchat.transports.claude import ClaudeTransport
from nbchat.transports.claude.network import is_loopback
from tests.support.server import serving, streaming, text_events

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
#: An address that is not the loopback. Nothing is ever sent there: each test ends at the proxy.
ELSEWHERE = "://endpoint.example"
PASSWORD = "pass-word-123"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Remove the proxies and certificates of the machine that runs the tests."""
    for name in (*VARIABLES, "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def endpoint(url: str | None, name: str = "mine", **given: Any) -> ClaudeTransport:
    return ClaudeTransport(name, base_url=url, idle_timeout=5.0, max_retries=0, **given)


def ask(transport: ClaudeTransport) -> str:
    return Session(transport).ask("Tell me").text


BAD = [
    "http://127.0.0.1:9",
    "socks5://127.0.0.1:9",
    "socks4://x",
    "::::",
    "http://",
    "http://[::1",
    "http://h:99999999",
]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "[::1]", "127.1"])
@pytest.mark.parametrize("value", BAD)
def test_loopback_goes_directly(host: str, value: str, environment: pytest.MonkeyPatch):
    """Whatever the variables contain, also if the certificates are missing."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        environment.setenv(name, value)
    environment.setenv("SSL_CERT_FILE", "/no/such/file.pem")
    with serving(streaming(text_events(["Hi"]))) as server:
        port = int(server.url.rpartition(":")[2])
        with _on_all_addresses(host, port):
            assert ask(endpoint(f"http://{host}:{port}")) == "Hi"
            assert endpoint(f"http://{host}:{port}").base_url


class _on_all_addresses:
    """Forwards ``[::1]`` and ``127.0.0.2`` to the server, which listens on 127.0.0.1 only."""

    def __init__(self, host: str, port: int) -> None:
        self.address, self.port = host.strip("[]"), port
        self.listener: socket.socket | None = None

    def __enter__(self) -> None:
        if self.address not in ("127.0.0.2", "::1"):
            return
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        try:
            self.listener = socket.create_server((self.address, self.port), family=family)
        except OSError as error:
            pytest.skip(f"this machine has no {self.address}: {error}")
        threading.Thread(target=self._forward, args=(self.listener,), daemon=True).start()

    def _forward(self, listener: socket.socket) -> None:
        client, _ = listener.accept()
        server = socket.create_connection(("127.0.0.1", self.port))
        threading.Thread(target=_copy, args=(client, server), daemon=True).start()
        _copy(server, client)

    def __exit__(self, *error: object) -> None:
        if self.listener is not None:
            self.listener.close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while part := source.recv(65_536):
            target.sendall(part)
    except OSError:
        pass


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY", "all_proxy"])
def test_a_loopback_address_from_the_environment(variable: str, environment: pytest.MonkeyPatch):
    """ANTHROPIC_BASE_URL can name a gateway on this machine."""
    environment.setenv(variable, "http://127.0.0.1:9")
    environment.setenv("ANTHROPIC_API_KEY", "sk-ant-0123456789")
    with serving(streaming(text_events(["Hi"]))) as server:
        environment.setenv("ANTHROPIC_BASE_URL", server.url)
        assert ask(endpoint(None, "anthropic")) == "Hi"


@pytest.mark.parametrize(
    ("scheme", "variable"),
    [("http", "HTTP_PROXY"), ("http", "http_proxy"), ("https", "HTTPS_PROXY"), ("https", "ALL_PROXY")],
)
@pytest.mark.parametrize("stream", [True, False])
def test_a_dead_proxy_is_named(
    scheme: str, variable: str, stream: bool, closed_port: int, environment: pytest.MonkeyPatch
):
    """The error has the variable and the address, without the password."""
    environment.setenv(variable, f"http://me:{PASSWORD}@127.0.0.1:{closed_port}")
    with pytest.raises(ConnectionFailed) as caught:
        Session(endpoint(scheme + ELSEWHERE)).ask("Tell me", stream=stream)
    assert f"through the proxy http://127.0.0.1:{closed_port}, from {variable}" in caught.value.message
    assert "refused" in caught.value.message
    assert "NO_PROXY" in caught.value.hint
    assert PASSWORD not in f"{caught.value}{caught.value.__context__!r}"


def test_a_proxy_that_refuses_is_named(environment: pytest.MonkeyPatch):
    """A proxy that wants a password answers 407."""
    with serving(lambda wire, request: wire.json("407 Proxy Authentication Required", {})) as proxy:
        environment.setenv("HTTPS_PROXY", proxy.url)
        with pytest.raises(ConnectionFailed) as caught:
            ask(endpoint("https" + ELSEWHERE))
    assert "HTTPS_PROXY" in caught.value.message
    assert "407" in caught.value.message


def test_a_proxy_works(environment: pytest.MonkeyPatch):
    """Other addresses go through it, and those in NO_PROXY do not."""
    with serving(streaming(text_events(["Through the proxy"]))) as proxy:
        environment.setenv("HTTP_PROXY", proxy.url)
        assert ask(endpoint("http" + ELSEWHERE)) == "Through the proxy"
        count = len(proxy.requests)
        environment.setenv("NO_PROXY", "other.example,.example")
        with pytest.raises(ConnectionFailed) as caught:
            ask(endpoint("http://endpoint.example:1"))
        assert len(proxy.requests) == count
    assert "proxy" not in caught.value.message


MALFORMED = [
    f"socks4://me:{PASSWORD}@h:1",
    f"gopher://me:{PASSWORD}@h",
    "http://",
    "http://[::1",
    f"http://me:{PASSWORD}@h:99999999",
    "http://a b",
    "::::",
]


@pytest.mark.parametrize("value", MALFORMED)
@pytest.mark.parametrize("call", ["ask", "models"])
def test_a_malformed_proxy_is_named(value: str, call: str, environment: pytest.MonkeyPatch):
    """It is one error of ours, also from the Models API, and nothing is sent."""
    environment.setenv("HTTPS_PROXY", value)
    with pytest.raises((InputError, ConnectionFailed)) as caught:
        ask(endpoint("https" + ELSEWHERE)) if call == "ask" else endpoint("https" + ELSEWHERE).models()
    assert "HTTPS_PROXY" in caught.value.message
    assert caught.value.hint
    assert PASSWORD not in f"{caught.value}{caught.value.__context__!r}{caught.value.__cause__!r}"


def test_a_socks_proxy_without_its_library(environment: pytest.MonkeyPatch):
    environment.setenv("ALL_PROXY", f"socks5://me:{PASSWORD}@127.0.0.1:9")
    environment.setitem(sys.modules, "socksio", None)
    with pytest.raises(InputError) as caught:
        ask(endpoint("https" + ELSEWHERE))
    assert "ALL_PROXY names a SOCKS proxy, socks5://127.0.0.1:9" in caught.value.message
    assert "pip install socksio" in caught.value.hint


@pytest.mark.parametrize(("variable", "kind"), [("SSL_CERT_FILE", "file"), ("SSL_CERT_DIR", "folder")])
def test_certificates_that_do_not_exist(variable: str, kind: str, environment: pytest.MonkeyPatch):
    environment.setenv(variable, "/no/such/place")
    with pytest.raises(InputError) as caught:
        ask(endpoint("https://127.0.0.1:9"))
    assert f"{variable} names no {kind}: /no/such/place" in caught.value.message


def test_certificates_that_do_not_exist_when_the_sdk_fetches_a_token(environment: pytest.MonkeyPatch, tmp_path: Path):
    """The SDK does so with a client of its own, as soon as it is made."""
    (tmp_path / "token").write_text("identity")
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        environment.delenv(name, raising=False)
    environment.setenv("ANTHROPIC_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    environment.setenv("ANTHROPIC_FEDERATION_RULE_ID", "rule")
    environment.setenv("ANTHROPIC_ORGANIZATION_ID", "organization")
    environment.setenv("SSL_CERT_FILE", "/no/such/place")
    with pytest.raises(InputError, match="SSL_CERT_FILE names no file: /no/such/place"):
        _ = ClaudeTransport("anthropic").client


def test_certificates_that_do_not_exist_for_an_mcp_server(environment: pytest.MonkeyPatch):
    environment.setenv("SSL_CERT_FILE", "/no/such/place")
    with pytest.raises(InputError, match="SSL_CERT_FILE names no file: /no/such/place"):
        McpServers().add("files", "https://127.0.0.1:9/mcp")


def test_certificates_that_are_none(environment: pytest.MonkeyPatch, tmp_path: Path):
    file = tmp_path / "certificates.pem"
    file.write_text("not a certificate")
    environment.setenv("SSL_CERT_FILE", str(file))
    with pytest.raises(InputError) as caught:
        ask(endpoint("https://127.0.0.1:9"))
    assert "SSL_CERT_FILE" in caught.value.message


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with a key and a certificate for 127.0.0.1 that signs itself."""
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    arguments = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1"]
    try:
        subprocess.run(
            ["openssl", *arguments, *names, "-keyout", file, "-out", f"{file}.crt"], check=True, capture_output=True
        )
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    file.write_text(file.read_text() + Path(f"{file}.crt").read_text())
    return file


@pytest.fixture
def over_tls(certificate: Path) -> Iterator[str]:
    """Return the URL of a server with TLS that sends one answer."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    listener = socket.create_server(("127.0.0.1", 0))
    body = b"".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n".encode() for e in text_events(["Safe"]))

    def answer() -> None:
        while True:
            try:
                raw, _ = listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), context.wrap_socket(raw, server_side=True) as connection:
                request = b""
                while b"}" not in request[-1:]:  # the body of the request is a JSON object
                    request += connection.recv(65_536)
                head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n"
                connection.sendall(head + b"content-length: %d\r\n\r\n" % len(body) + body)

    threading.Thread(target=answer, daemon=True).start()
    yield f"https://127.0.0.1:{listener.getsockname()[1]}"
    listener.close()


def test_a_certificate_from_the_environment(over_tls: str, certificate: Path, environment: pytest.MonkeyPatch):
    """SSL_CERT_FILE is in force for the loopback as well, with a proxy variable and without."""
    with pytest.raises(ConnectionFailed) as caught:
        ask(endpoint(over_tls))
    assert "CERTIFICATE_VERIFY_FAILED" in caught.value.message
    environment.setenv("SSL_CERT_FILE", f"{certificate}.crt")
    environment.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert ask(endpoint(over_tls)) == "Safe"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True), ("LOCALHOST.", True), ("a.localhost", True), ("127.0.0.1", True), ("127.9.9.9", True),
        ("127.1", True), ("::1", True), ("[::1]", True), ("::ffff:127.0.0.1", True), ("0.0.0.0", True),
        ("localhost.example", False), ("127.0.0.1.example", False), ("10.0.0.1", False), ("::2", False), ("", False),
    ],
)  # fmt: skip
def test_what_is_loopback(host: str, loopback: bool):
    assert is_loopback(host) is loopback
