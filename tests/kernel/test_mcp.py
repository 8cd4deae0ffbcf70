"""MCP with a real server, made with the mcp library: over stdio and over streamable HTTP."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import mcp.server.mcpserver  # noqa: F401
import pytest

from nbchat.core.errors import ConnectionFailed, InputError, OptionError
from nbchat.core.messages import ToolUseBlock
from nbchat.tools.approval import Approval
from nbchat.tools.mcp import McpServers
from nbchat.tools.permissions import Permissions
from nbchat.tools.toolbox import Tool, Toolbox

SERVER = '''
import asyncio, os, sys
import base64
from mcp.server.mcpserver import Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import AudioContent, BlobResourceContents, EmbeddedResource, ResourceLink, TextResourceContents

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAACklEQVR4nGMAAQAABQABDQottAAAAABJRU5ErkJggg=="
)
server = MCPServer("test")

@server.tool()
def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b

@server.tool()
def pid() -> str:
    """The process."""
    return str(os.getpid())

@server.tool()
def environment(name: str) -> str:
    """A variable."""
    return os.environ.get(name, "not set")

@server.tool()
def fail(message: str) -> str:
    """Always fails."""
    raise ToolError(message)

@server.tool()
def picture() -> Image:
    """A picture."""
    return Image(data=PNG, format="png")

def held(resource):
    return EmbeddedResource(type="resource", resource=resource)

@server.tool()
def mixed() -> list:
    """Everything."""
    return [
        "words",
        Image(data=PNG, format="png"),
        held(TextResourceContents(uri="file:///a.txt", text="inside")),
        held(BlobResourceContents(uri="file:///a.pdf", mime_type="application/pdf", blob="JVBERg==")),
        held(BlobResourceContents(uri="file:///a.bin", mime_type="application/x", blob="AAAA")),
        ResourceLink(type="resource_link", name="a link", uri="file:///b.txt"),
        AudioContent(type="audio", data="AAAA", mime_type="audio/wav"),
    ]

@server.tool()
async def sleep(seconds: float) -> str:
    """Wait."""
    await asyncio.sleep(seconds)
    return "slept"

@server.tool()
def die() -> str:
    """End the server."""
    print("I am leaving", file=sys.stderr, flush=True)
    os._exit(3)

@server.tool()
def grow() -> str:
    """Offer one more tool."""
    server.add_tool(lambda: "new", name="late", description="Came late.")
    return "grown"

if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", port=int(sys.argv[1]))
    else:
        server.run("stdio")
'''
#: The same tools, where the library is not the subject: a process that imports it takes seconds to start.
LIGHT_SERVER = """
import json, os, sys

tools = ["add", "pid", "die"]
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    text = ""
    if message["method"] == "tools/call":
        name = message["params"]["name"]
        if name == "die":
            print("I am leaving", file=sys.stderr, flush=True)
            os._exit(3)
        text = str(os.getpid())
    result = {
        "initialize": {
            "protocolVersion": "2025-06-18",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "light", "version": "1"},
        },
        "tools/list": {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in tools]},
        "tools/call": {"content": [{"type": "text", "text": text}]},
    }.get(message["method"], {})
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
"""
TOOLS = ("add", "pid", "environment", "fail", "picture", "mixed", "sleep", "die", "grow")


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mcp") / "server.py"
    path.write_text(SERVER)
    return path


@pytest.fixture(scope="module")
def command(script: Path) -> list[str]:
    return [sys.executable, str(script)]


@pytest.fixture(scope="module")
def url(script: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, str(script), str(port)], stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module", params=["stdio", "http"])
def servers(request: pytest.FixtureRequest) -> Iterator[McpServers]:
    """One server, named files, over stdio and over HTTP."""
    started = McpServers(timeout=20)
    started.add("files", request.getfixturevalue("command" if request.param == "stdio" else "url"))
    yield started
    started.close()


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command of a server that starts at once."""
    path = tmp_path_factory.mktemp("mcp") / "light.py"
    path.write_text(LIGHT_SERVER)
    return [sys.executable, str(path)]


@pytest.fixture
def own(light: list[str]) -> Iterator[McpServers]:
    """A stdio server for one test."""
    started = McpServers(timeout=20)
    started.add("files", light)
    yield started
    started.close()


def only(servers: McpServers, name: str) -> Tool:
    (tool,) = servers.tools([name])
    return tool


def alive(pid: int) -> bool:
    """Return True if a process runs. A zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pid: int, seconds: float = 20) -> bool:
    until = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.05)
    return not alive(pid)


def test_the_names_of_tools_begin_with_the_name_of_the_server(servers):
    (state,) = servers.list()
    assert state.running
    assert state.tools[:2] == ("files.add", "files.pid")
    tools = servers.tools(["files"])
    assert [tool.shown for tool in tools[: len(TOOLS)]] == [f"files.{name}" for name in TOOLS]
    assert all(isinstance(tool, Tool) and not tool.trusted for tool in tools)
    add = only(servers, "files.add")
    definition = add.definition()
    assert definition["name"] == "files__add"
    assert definition["description"] == "Add two numbers."
    assert definition["input_schema"]["required"] == ["a"]
    assert definition["input_schema"]["properties"]["b"]["default"] == 1
    assert servers.owns("files.add")
    assert servers.owns("files")
    assert not servers.owns("other.add")


def test_a_call_and_its_errors(servers):
    assert only(servers, "files.add").call({"a": 2, "b": 3}).text == "5"
    failed = only(servers, "files.fail").call({"message": "no such row"})
    assert failed.is_error
    assert "no such row" in failed.text
    misfit = only(servers, "files.add").call({"a": "many"})
    assert misfit.is_error
    assert "a" in misfit.text


def test_images_and_resources_become_content_blocks(servers):
    (image,) = only(servers, "files.picture").call({}).content
    assert image["type"] == "image"
    assert image["source"]["media_type"] == "image/png"
    blocks = only(servers, "files.mixed").call({}).content
    assert [block["type"] for block in blocks] == ["text", "image", "text", "document", "text", "text", "text"]
    assert blocks[0]["text"] == "words"
    assert blocks[2]["text"] == "[file:///a.txt]\ninside"
    assert blocks[3]["source"] == {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="}
    assert blocks[4]["text"] == "[file:///a.bin, application/x, not sent]"
    assert blocks[5]["text"] == "[resource a link at file:///b.txt]"
    assert blocks[6]["text"] == "[audio, audio/wav, not sent]"


def test_a_call_that_takes_too_long_is_an_error_result(servers):
    servers.timeouts.call_s, before = 0.5, servers.timeouts.call_s
    try:
        late = only(servers, "files.sleep").call({"seconds": 20})
    finally:
        servers.timeouts.call_s = before
    assert late.is_error
    assert late.text == "files.sleep did not answer within 0.5 s."
    assert only(servers, "files.add").call({"a": 1}).text == "2"


def test_an_interrupt_ends_the_call_but_not_the_server(servers):
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.5, signal.raise_signal, (signal.SIGINT,))
    tool = only(servers, "files.sleep")
    began = time.monotonic()
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            tool.call({"seconds": 19})
    finally:
        signal.signal(signal.SIGINT, handler)
        timer.join()
    assert time.monotonic() - began < 15
    assert only(servers, "files.add").call({"a": 1}).text == "2"


def test_they_ask_before_they_run(servers):
    asked = []
    box = Toolbox(servers.tools(["files"]), Approval(None, lambda prompt: asked.append(prompt) or "y"))
    assert box.run(ToolUseBlock("toolu_1", "files__add", {"a": 40, "b": 2})).text == "42"
    assert "files.add" in asked[0]
    assert "a = 40" in asked[0]


def test_the_errors_about_wrong_names_suggest_the_nearest(servers):
    for name, said in (("file", "Did you mean files?"), ("files.ad", "Did you mean add?")):
        with pytest.raises(OptionError) as caught:
            servers.tools([name])
        assert said in caught.value.hint
    with pytest.raises(OptionError, match="there is no MCP server other"):
        servers.remove("other")


def test_a_tool_that_comes_later_is_offered(servers):
    assert "files.late" not in servers.list()[0].tools
    assert only(servers, "files.grow").call({}).text == "grown"
    assert only(servers, "files.late").call({}).text == "new"


def test_adding_the_same_server_again_does_not_restart_it(own, light):
    first = only(own, "files.pid").call({}).text
    assert own.add("files", light)[0] == "files.add"
    assert only(own, "files.pid").call({}).text == first
    own.add("files", ["MARK=1", *light])
    second = only(own, "files.pid").call({}).text
    assert second != first
    assert gone(int(first))
    own.add("files", ["MARK=2", *light])
    assert only(own, "files.pid").call({}).text != second, "a new key must reach the server"
    assert len(own.list()) == 1


def test_removing_ends_the_process(own):
    pid = int(only(own, "files.pid").call({}).text)
    assert alive(pid)
    own.remove("files")
    assert gone(pid)
    assert own.list() == ()


def test_always_ends_with_the_server(own, light):
    """Adding the same server again keeps it and the permission. Removing it, or another policy, ends the permission."""
    allowed = Permissions()
    allowed.add(only(own, "files.pid"))
    own.add("files", light)
    assert only(own, "files.pid") in allowed
    assert only(own, "files.add") not in allowed
    own.add("files", light, approve="ask")
    assert only(own, "files.pid") not in allowed
    own.add("files", light)
    removed = only(own, "files.pid")
    assert removed in allowed
    own.remove("files")
    assert removed not in allowed
    assert list(allowed) == []
    own.add("files", light)
    assert only(own, "files.pid") not in allowed


def test_a_server_that_dies_is_reported_and_restarted(own):
    first = only(own, "files.pid").call({}).text
    died = only(own, "files.die").call({})
    assert died.is_error
    assert "ended while files.die ran" in died.text
    assert "I am leaving" in died.text
    (state,) = own.list()
    assert not state.running
    assert state.problem
    assert only(own, "files.pid").call({}).text != first
    assert own.list()[0].running


def test_the_server_gets_only_the_environment_that_was_given(command, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-not-for-servers")
    monkeypatch.setenv("MY_TOKEN", "token-value-123")
    with_env = McpServers(timeout=20)
    try:
        with_env.add("env", f"TOKEN=$MY_TOKEN MODE=dev {command[0]} {command[1]}")
        ask = only(with_env, "env.environment")
        assert ask.call({"name": "TOKEN"}).text == "token-value-123"
        assert ask.call({"name": "MODE"}).text == "dev"
        assert ask.call({"name": "ANTHROPIC_API_KEY"}).text == "not set"
        shown = with_env.list()[0].target
        assert "token-value-123" not in shown
        assert shown.startswith("TOKEN=… MODE=… ")
    finally:
        with_env.close()


@pytest.mark.parametrize(
    "arguments",
    ["--token $MY_TOKEN", "--token=$MY_TOKEN", "${MY_TOKEN}x", "https://me:$MY_TOKEN@example.org $SHORT", "-p$SHORT"],
)
def test_the_values_of_variables_are_not_shown(tmp_path, monkeypatch, arguments):
    """Neither the list nor the error shows them, also if the server prints them."""
    monkeypatch.setenv("MY_TOKEN", "token-value-123")
    monkeypatch.setenv("SHORT", "Zq8")
    noisy = tmp_path / "noisy.py"
    noisy.write_text("import os, sys; sys.exit(f'refused: {sys.argv[1:]} {os.environ.get(\"OWN\")} device')")
    servers = McpServers(start_timeout=15)
    try:
        with pytest.raises(ConnectionFailed, match="refused") as caught:
            servers.add("a", f"OWN=$SHORT {sys.executable} {noisy} {arguments}")
        assert not {"token-value-123", "Zq8"} & set(re.findall(r"token-value-123|Zq8", str(caught.value)))
        assert f"{noisy} {arguments}".split("://")[0] in str(caught.value)
        assert "device" in str(caught.value)
        with pytest.raises(InputError, match="does not start") as unknown:
            servers.add("b", "no-such-command-$MY_TOKEN")
        assert "token-value-123" not in str(unknown.value)
    finally:
        servers.close()


def test_a_server_that_does_not_start_is_explained(tmp_path):
    servers = McpServers(start_timeout=15)
    try:
        with pytest.raises(InputError, match="no-such-command-here"):
            servers.add("a", "no-such-command-here --flag")
        noisy = tmp_path / "noisy.py"
        noisy.write_text("import sys; sys.exit('the disk is on fire')")
        with pytest.raises(ConnectionFailed, match="the disk is on fire"):
            servers.add("b", [sys.executable, str(noisy)])
        with pytest.raises(ConnectionFailed, match="did not answer"):
            servers.add("c", "http://127.0.0.1:9/mcp")
        with pytest.raises(OptionError, match="is not a name for an MCP server"):
            servers.add("a b", "x")
        with pytest.raises(OptionError, match="the command or URL is missing"):
            servers.add("d", "KEY=1")
        assert servers.list() == ()
    finally:
        servers.close()


def test_a_server_that_never_answers_is_given_up(tmp_path):
    mute = tmp_path / "mute.py"
    mute.write_text("import sys, time\nfor line in sys.stdin: pass")
    servers = McpServers(start_timeout=1)
    try:
        with pytest.raises(ConnectionFailed, match="no answer within 1 s"):
            servers.add("mute", [sys.executable, str(mute)])
        assert servers.list() == ()
    finally:
        servers.close()


def test_an_interrupt_ends_a_start_and_the_process(tmp_path):
    """It does not wait for the connection, which may never come."""
    started = tmp_path / "pid"
    mute = tmp_path / "mute.py"
    mute.write_text(
        "import os, pathlib, sys\n"
        f"pathlib.Path({str(started)!r}).write_text(str(os.getpid()))\n"
        "for line in sys.stdin: pass"
    )
    servers = McpServers(start_timeout=60)

    def interrupt() -> None:
        until = time.monotonic() + 50
        while not (started.exists() and started.read_text()) and time.monotonic() < until:
            time.sleep(0.05)
        signal.raise_signal(signal.SIGINT)
        began.append(time.monotonic())

    began: list[float] = []
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    watcher = threading.Thread(target=interrupt)
    watcher.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            servers.add("mute", [sys.executable, str(mute)])
        watcher.join()
        assert time.monotonic() - began[0] < 8
    finally:
        signal.signal(signal.SIGINT, handler)
        watcher.join()
        servers.close()
    assert gone(int(started.read_text()))


def test_keys_in_an_address_are_not_shown(url):
    servers = McpServers(timeout=20)
    try:
        servers.add("web", url + "?key=secret-word", headers={"Authorization": "Bearer abcdefgh12345"})
        assert "secret-word" not in servers.list()[0].target
        assert only(servers, "web.add").call({"a": 1}).text == "2"
    finally:
        servers.close()


def test_the_error_without_the_library_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "mcp", None)
    with pytest.raises(InputError) as caught:
        McpServers().add("files", "x")
    assert 'pip install "mcp>=2"' in caught.value.hint


PARENT = """
import sys, time
from nbchat.tools.mcp import McpServers
servers = McpServers(timeout=20)
servers.add("files", sys.argv[1:])
print(servers.tools(["files.pid"])[0].call({}).text, flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("ending", ["end", "kill"])
def test_the_servers_end_with_the_kernel(command, ending):
    """At a normal end and after kill -9, the server reads the end of its input and exits."""
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    try:
        assert parent.stdout is not None
        assert parent.stdin is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        if ending == "kill":
            os.kill(parent.pid, signal.SIGKILL)
        else:
            parent.stdin.write("\n")
            parent.stdin.flush()
        parent.wait(30)
        assert gone(pid)
    finally:
        parent.kill()
        parent.wait()
        parent.stdin.close()
        parent.stdout.close()
