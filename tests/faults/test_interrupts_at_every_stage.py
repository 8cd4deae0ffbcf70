"""■ at every stage of a turn, once and twice, in a real kernel.

At each stage the same holds: what arrived is bound, the output is static, KeyboardInterrupt goes on, nothing
stays open, the next cell works, and no call of the interrupted turn runs later.
"""

from __future__ import annotations

import itertools
import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults.interrupting import LONG_TEXT, Marks, Pressed, Service, black_hole, connecting, press, run_and_press
from tests.kernel.harness import Cell, Kernel, kernel_of
from tests.support.server import serving
from tests.support.thorough import THOROUGH
from tests.support.waiting import wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the tables of processes and sockets are Linux's")

#: A stop takes milliseconds. This is for a busy machine, and less than anything that the stages wait for.
STOP_S = 20.0
#: What a turn leaves is gone in milliseconds. This is for a busy machine, and less than the server holds an answer.
LEFT_S = 20.0

SETUP = """
%load_ext nbchat
import asyncio, functools, os, pathlib, socket, sys, threading, time
import nbchat
from nbchat.engine import session as session_module
from nbchat.notebook import cell as cell_module
from nbchat.store.journal import Journal
from nbchat.transports.claude.attempt import Sending
from nbchat.view import final
from nbchat.view.live import view as live, widgets
from nbchat.engine.accounting import Account
from nbchat.engine.asking import Asking

SESSION = get_ipython().nbchat.session
BEHIND, RAN = [], []
story = _claude = None

def tell(mark, manner="tell"):
    with socket.create_connection(("127.0.0.1", PORT)) as gate:
        gate.sendall(f"{mark} {manner}\\n".encode())
        if manner == "reach":
            gate.recv(1)

def reach(mark):
    tell(mark, "reach")

def stop_at(owner, name, mark):
    "Let the next call of a function set a mark, and wait."
    original = owner.__dict__[name] if isinstance(owner, type) else getattr(owner, name)
    function = original.__func__ if isinstance(original, staticmethod) else original
    @functools.wraps(function)
    def stop(*args, **fields):
        setattr(owner, name, original)
        reach(mark)
        return function(*args, **fields)
    setattr(owner, name, stop)

def held():
    reach("template")
    return "never"

def second():
    "Claude's next code."
    RAN.append("second")
    return "ran"

def quick():
    "Say yes."
    return "yes"

def slow():
    "Take long."
    tell("slow")
    time.sleep(60)

def stubborn():
    "Catch everything, for a while."
    end = time.monotonic() + 1
    tell("stubborn")
    while time.monotonic() < end:
        try:
            time.sleep(end - time.monotonic())
        except BaseException:
            pass
    return "went on"

async def awaiting():
    "Wait in an event loop."
    tell("awaiting")
    await asyncio.sleep(60)

async def stubborn_awaiting():
    "Catch the cancellation."
    tell("stubborn_awaiting")
    try:
        await asyncio.sleep(60)
    except BaseException:
        return "went on"

def asks_again():
    "Ask another question."
    return nbchat.ask("headers of the inner turn").text

def prints():
    "Print, and take long."
    print("I print")
    tell("prints")
    time.sleep(60)

#: When IPython got an exception of the cell: its times, in seconds.
RAISED = []
show = get_ipython().showtraceback

def showtraceback(*args, **fields):
    RAISED.append(time.monotonic())
    return show(*args, **fields)

get_ipython().showtraceback = showtraceback

def begin():
    global story, _claude, BASE, ROWS
    story = _claude = None
    RAISED.clear()
    BEHIND.clear()
    RAN.clear()
    BASE, ROWS = state(), len(SESSION.accounting.run)

def found():
    answer = None if story is None else {"status": story.status, "text": story.text}
    rows = len(SESSION.accounting.run) - ROWS
    return {"answer": answer, "same": story is _claude, "rows": rows, "behind": BEHIND, "ran": RAN,
            "raised": RAISED}

def left():
    "What is open now and was not before the cell."
    now = state()
    return {name: value for name, value in now.items() if value != BASE[name]}

OF_IPYTHON = "IPythonHistorySavingThread"  # which starts when it has something to save

def state():
    from comm import get_comm_manager
    from ipywidgets.widgets import widget
    process = pathlib.Path("/proc/self")
    children = [words for task in process.glob("task/*/children") for words in task.read_text().split()]
    running = [t for t in threading.enumerate() if t.ident and t not in THREADS]
    return {
        "threads": sorted(t.name for t in running if t.name != OF_IPYTHON),
        "comms": len(get_comm_manager().comms),
        "widgets": len(widget._instances),
        "journals": [path.name for path in SESSION.recording.journals._files()],
        "children": len(children),
        "sigint": __import__("signal").getsignal(2).__name__,
    }
"""
READY = """
for thread in threading.enumerate():
    if thread.name == "nbchat-preload":
        thread.join()
THREADS = set(threading.enumerate())
"""
#: An MCP server that sets a mark and then does not answer: to its start, or to a call.
MCP_SERVER = """
import json, socket, sys, threading, time

def wait(mark):
    with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as gate:
        gate.sendall(f"{mark} tell\\n".encode())
    time.sleep(60)

for line in sys.stdin:
    message = json.loads(line)
    result = {}
    match message["method"]:
        case "initialize":
            if sys.argv[2] == "start":
                wait("mcp-start")
            result = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
                      "serverInfo": {"name": "slow", "version": "1"}}
        case "tools/list":
            result = {"tools": [{"name": "wait", "inputSchema": {"type": "object"}}]}
        case "tools/call":
            threading.Thread(target=wait, args=("mcp-call",), daemon=True).start()
            continue
    if "id" in message:
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
"""


@dataclass
class Place:
    """The kernel and what is around it."""

    kernel: Kernel
    marks: Marks
    service: Service
    folder: Path
    hole: int

    def filled(self, code: str) -> str:
        """Return code with the ports of the marks and of the black hole in it."""
        return code.replace("{port}", str(self.marks.port)).replace("{hole}", str(self.hole))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("stages")
    marks = Marks()
    service = Service(marks)
    with (
        serving(service) as server,
        black_hole() as hole,
        kernel_of(folder, NBCHAT_ENDPOINT=server.url, NBCHAT_MODEL="test-model", NBCHAT_DISABLE="") as kernel,
    ):
        place = Place(kernel, marks, service, folder, hole)
        (folder / "slow.py").write_text(MCP_SERVER)
        (folder / "small.pdf").write_bytes(b"%PDF-1.4\n%%EOF\n")
        (folder / "big.pdf").write_bytes(b"%PDF-1.4\n" + b"%" * 12_000_000 + b"\n%%EOF\n")
        kernel.run(f"PORT = {marks.port}")
        kernel.run(SETUP)
        kernel.run(f"%nbchat mcp add server {sys.executable} slow.py {marks.port} call")
        kernel.run("1 / 0", fails=True)  # the first traceback of a kernel takes IPython a second
        kernel.run("%%claude\nwarm")
        kernel.run("%%claude\nlong")  # pyzmq starts a thread of its own for the first large message
        kernel.run(READY)
        yield place
        marks.close()


#: The status of a stage in which Python's own assignment binds the answer, so that an interrupt binds nothing.
OF_PYTHON = "Python's"


@dataclass(frozen=True)
class Stage:
    """One stage of a turn.

    Args:
        code: the source of the cell. Its prompt tells the server what to do.
        mark: the mark that the stage sets.
        before: code that runs in a cell before.
        held: an interrupt waits at this stage.
        status: the status of the bound answer; None if nothing may be bound.
        text: what the text of the answer begins with.
        rows: the number of new rows in the ledger: the requests that were sent.
        more: further arguments for :func:`run_and_press`.
    """

    code: str
    mark: str
    before: str = ""
    held: bool = False
    status: str | None = "interrupted"
    text: str = ""
    rows: int = 1
    more: Callable[[Place], dict[str, Any]] = lambda place: {}


def calling(tool: str, mark: str, **more: Any) -> Stage:
    """Return the stage in which a function runs that Claude called."""
    code = f'%%claude story << --tools {tool},second\ncall [["{tool}", {{}}]]'
    return Stage(code, mark, text="Let me look.", **more)


def running(code: str, mark: str, options: str = "--approve always", **more: Any) -> Stage:
    """Return the stage in which run_python runs code that Claude wrote."""
    calls = json.dumps([["run_python", {"code": code}]])
    return Stage(f"%%claude story << --run --tools second {options}\ncall {calls}", mark, text="Let me look.", **more)


def settling(call: str, *, attach: str = "", held: bool = True) -> Stage:
    """Return a stage of the end of a 60 kB answer."""
    return Stage(
        f"%%claude story << {attach}\nlong",
        "settling",
        before=f"stop_at({call}, 'settling')",
        held=held,
        status="complete",
        text=LONG_TEXT,
    )


def seen(text: str) -> Callable[[Place], dict[str, Any]]:
    return lambda place: {"seen": text}


BIG = "--attach big.pdf"
STAGES: dict[str, Stage] = {
    "a template is evaluated": Stage("%%claude story <<\nSay {{ held() }}", "template", status=None),
    "a value is described": Stage(
        "%%claude story <<\nSay {{ Slow() }}",
        "describing",
        before="class Slow:\n    def __repr__(self): reach('describing'); return 'never'",
        status=None,
    ),
    "the view is made": Stage(
        "%%claude story <<\nhello", "views", before="stop_at(cell_module, '_views', 'views')", held=True, rows=0
    ),
    "before the request is booked": Stage(
        "%%claude story <<\nhello", "booking", before="stop_at(Account, 'begin', 'booking')", rows=0
    ),
    "before connecting": Stage(
        "%%claude story <<\nhello", "connecting", before="stop_at(Sending, '_arguments', 'connecting')", rows=0
    ),
    "a file is uploaded": Stage("%%claude story << --upload --attach small.pdf\nhello", "upload", rows=0),
    "a dead endpoint": Stage(
        "%%claude story << --endpoint http://127.0.0.1:{hole}\nhello",
        "dead",
        more=lambda place: {"ready": lambda: connecting(place.hole, place.kernel.pid)},
        rows=0,
    ),
    "waiting for headers": Stage("%%claude story <<\nheaders", "headers"),
    "waiting for a whole answer": Stage("%%claude story << --no-stream\nunstreamed", "unstreamed"),
    "waiting in a line magic": Stage("story = %claude headers", "headers", status=OF_PYTHON),
    "waiting in nbchat.ask": Stage("story = nbchat.ask('headers')", "headers", status=OF_PYTHON),
    "the first event": Stage("%%claude story <<\nfirst-event", "server-first-event"),
    "mid-block": Stage(
        "%%claude story <<\nmid-block", "there", text="Once upon a time there ", more=seen("time there")
    ),
    "a silent stall": Stage("%%claude story <<\nping", "server-ping", text=""),
    "a flood of words": Stage("%%claude story <<\nflow", "flow", text="word ", more=seen("word word")),
    "the countdown of a retry": Stage("%%claude story <<\ncountdown", "counting", more=seen("try 2 of 3")),
    "a function runs": calling("slow", "slow"),
    "a stubborn function runs": calling("stubborn", "stubborn"),
    "a coroutine runs": calling("awaiting", "awaiting"),
    "a stubborn coroutine runs": calling("stubborn_awaiting", "stubborn_awaiting"),
    "a function asks Claude": calling("asks_again", "headers", rows=2),
    "a function that printed": calling("prints", "prints"),
    "code with a loop": running("tell('loop')\nwhile True: pass", "loop"),
    "code with a shell command": running("!echo from-''the-shell; sleep 60", "shell", more=seen("from-the-shell")),
    "code that catches": running("stubborn()", "stubborn"),
    "code with an await": running("tell('await')\nawait asyncio.sleep(60)", "await"),
    "a call of an MCP server": Stage(
        '%%claude story << --tools server,second --approve always\ncall [["server__wait", {}]]',
        "mcp-call",
        text="Let me look.",
    ),
    "asking for approval": running("RAN.append('code')", "asking", "--approve ask", more=lambda place: {"asks": True}),
    "an MCP server is added": Stage(
        f"%nbchat mcp add never {sys.executable} slow.py {{port}} start", "mcp-start", status=None
    ),
    "settling: the Response is made": settling("Asking, 'settle'"),
    "settling: the conversation": settling("Asking, '_record'"),
    "settling: the ledger": settling("SESSION.accounting, 'write'"),
    "settling: the span": settling("session_module.telemetry.TurnSpan, 'settle'"),
    "settling: the name is bound": settling("cell_module.Binding, 'settle'"),
    "settling: the drawing": settling("final, 'render_response'", held=False),
    "settling: the output": settling("final, 'publish_response'"),
    "settling: the widgets": settling("widgets.WidgetBox, 'close'"),
    "settling: the journal": settling("Journal, 'settle'"),
    "settling with 12 MB: the Response is made": settling("Asking, 'settle'", attach=BIG),
    "settling with 12 MB: the ledger": settling("SESSION.accounting, 'write'", attach=BIG),
    "settling with 12 MB: the drawing": settling("final, 'render_response'", attach=BIG, held=False),
}
#: The seconds between the presses, and the mark at which the last one comes.
PRESSES: dict[str, tuple[tuple[float, ...], str]] = {
    "once": ((), ""),
    "twice in 30 ms": ((0.03,), ""),
    "twice in 150 ms": ((0.15,), ""),
    "again while it settles": ((), "the-end"),
}


def presses_of(name: str) -> list[str]:
    """Return the ways to press in a stage."""
    stage = STAGES[name]
    if "12 MB" in name and name != "settling with 12 MB: the Response is made":
        return ["once"]  # 12 MB take seconds
    if stage.mark == "settling" or stage.status in (None, OF_PYTHON) or stage.rows != 1:
        return ["once", "twice in 30 ms", "twice in 150 ms"]
    return ["once", "twice in 150 ms", "again while it settles"]


def cases_of(number: int, name: str) -> list[tuple[str, str]]:
    """Return the cases of a stage: one press, and one of the other ways, which take turns. THOROUGH=1 runs all ways."""
    once, *others = presses_of(name)
    if not THOROUGH and others:
        others = [others[number % len(others)]]
    return [(name, presses) for presses in [once, *others]]


CASES = [case for number, name in enumerate(STAGES) for case in cases_of(number, name)]


@pytest.mark.parametrize(("name", "presses"), CASES)
def test_an_interrupt_at(name: str, presses: str, place: Place):
    """See the text at the head of this file."""
    stage, kernel = STAGES[name], place.kernel
    gaps, again_at = PRESSES[presses]
    before = [place.filled(stage.before)]
    if again_at:
        before.append(f"stop_at(Asking, 'settle', {again_at!r})")
    kernel.run("\n".join(["%nbchat reset", "begin()", *before]))
    # The mark of a dead endpoint is the connection of this cell, not one that an earlier cell left to the collector.
    if stage.mark == "dead":
        kernel.run("import gc; gc.collect()")
        wait_for(lambda: not connecting(place.hole, kernel.pid), LEFT_S, lambda: "an earlier cell still connects")
    pressed = run_and_press(
        kernel,
        place.marks,
        place.filled(stage.code),
        stage.mark,
        gaps=gaps,
        again_at=again_at,
        held=stage.held,
        **stage.more(place),
    )
    found = kernel.value("found()")
    assert_stopped(pressed, found)
    assert_static(pressed.cell)
    # What arrived is bound, and each request that was sent has a row.
    if stage.status is None:
        assert found["answer"] is None
    elif stage.status != OF_PYTHON:
        assert found["answer"] is not None, "nothing is bound"
        assert found["answer"]["status"] == stage.status
        assert found["answer"]["text"].startswith(stage.text)
        assert found["same"]
        assert found["rows"] == stage.rows
    # Claude's next code did not run.
    assert found["ran"] == []
    # Nothing stays open, here or at the server.
    wait_for(lambda: kernel.value("left()") == {}, LEFT_S, lambda: f"left: {kernel.value('left()')}")
    wait_for(lambda: place.service.held == 0, LEFT_S, lambda: f"{place.service.held} answers are still open")
    # Until IPython got the exception: the first traceback of a kernel takes IPython seconds.
    assert found["raised"][0] - pressed.times[0] < STOP_S
    # The next turn works, and runs nothing of this one.
    kernel.run("%%claude story << --tools second\nnext")
    found = kernel.value("found()")
    assert found["answer"] == {"status": "complete", "text": "You said next"}
    assert found["ran"] == []
    assert_valid(place.service.bodies[-1]["messages"])


#: One turn with two calls and a text, one with 60 kB, one that is stopped while the server is silent.
RANDOM_CELLS = (
    "%%claude story << --tools quick,second\nmixed",
    "%%claude story <<\nlong",
    "%%claude story << --once\nmid-block",
)
#: The longest of these turns takes about half a second here. A busy machine only shifts where a press falls.
RANDOM_S = 0.6
SEEDS = json.loads((Path(__file__).parent / "seeds" / "interrupts.json").read_text())[:: 1 if THOROUGH else 4]


@pytest.mark.parametrize("seed", SEEDS)
def test_an_interrupt_at_a_random_time(seed: int, place: Place):
    """One to three presses at any time lose nothing and leave nothing. The machine decides where they fall."""
    chance = random.Random(seed)
    code = chance.choice(RANDOM_CELLS)
    times = [chance.uniform(0, RANDOM_S)]
    for _ in range(chance.randint(0, 2)):
        times.append(times[-1] + chance.choice([0.001, 0.02, 0.1, 0.3]))
    kernel = place.kernel
    kernel.run("%nbchat reset\nbegin()")
    place.marks.clear()
    parent = kernel.start(code, "a-cell")
    began = time.monotonic()
    if "mid-block" in code:  # nobody else ends it
        place.marks.wait("server-mid-block")
    for at in times:
        time.sleep(max(0.0, began + at - time.monotonic()))
        press(kernel)
    # A press after the turn can cost the reply: see assert_stopped().
    cell = kernel.finish(parent, must_reply=False)
    found = kernel.value("found()")
    answer = found["answer"]
    stopped = cell.reply.get("status") != "ok"
    if stopped:
        assert cell.reply.get("ename", "KeyboardInterrupt") == "KeyboardInterrupt"
        assert_static(cell)
    else:
        assert answer is not None
        assert answer["status"] == "complete"
    if answer is not None:
        assert answer["status"] in ("complete", "interrupted")
        assert found["same"]
        shown = [output for output in cell.outputs if output.output_type == "display_data" and output.data]
        assert all(sorted(set(output.data) - {"text/latex"}) == ["text/html", "text/plain"] for output in shown)
        assert len(shown) == 1
    if not answer or answer["status"] == "interrupted":
        assert stopped
    wait_for(lambda: kernel.value("left()") == {}, LEFT_S, lambda: f"left: {kernel.value('left()')}")
    wait_for(lambda: place.service.held == 0, LEFT_S, lambda: f"{place.service.held} answers are still open")


#: The time in which the kernel runs the handler of a signal, in seconds.
_DELIVERY_S = 0.005


def assert_stopped(pressed: Pressed, found: dict[str, Any]) -> None:
    """KeyboardInterrupt goes on, is shown once, and the cell behind does not run, so that Run All stops.

    A press after the turn stops IPython or ipykernel in what it does with the exception, and nbchat cannot prevent
    that. Measured without nbchat, with ipykernel 7.4 and IPython 9.18: of 120 cells with ``time.sleep(20)`` and two
    presses within 160 ms, 65 showed no error, 12 showed two, and 3 got no reply, and the cell behind ran
    ("KeyboardInterrupt caught in kernel" is in the log of ipykernel then).
    """
    assert found["raised"], "no exception came out of the cell"
    if max(pressed.times) > found["raised"][0] - _DELIVERY_S:
        assert pressed.cell.reply.get("ename", "KeyboardInterrupt") == "KeyboardInterrupt"
        return
    reply = pressed.cell.reply
    assert (reply.get("status"), reply.get("ename")) == ("error", "KeyboardInterrupt"), reply
    errors = [output.ename for output in pressed.cell.outputs if output.output_type == "error"]
    assert errors == ["KeyboardInterrupt"]
    assert pressed.behind.reply.get("status") == "aborted", pressed.behind.reply
    assert found["behind"] == []


def assert_static(cell: Cell) -> None:
    """Every output is text or an answer as HTML: no widget and no line of the wait is left."""
    for output in cell.outputs:
        if output.output_type in ("display_data", "execute_result"):
            types = sorted(set(output.data) - {"text/latex"})
            assert types in ([], ["text/html", "text/plain"], ["text/plain"]), output
            assert "preparing the request" not in output.data.get("text/plain", "")


def assert_valid(messages: list[dict[str, Any]]) -> None:
    """The API accepts these messages: the roles alternate, and each call has its result in the next message."""
    assert [message["role"] for message in messages] == ["user", "assistant"] * (len(messages) // 2) + ["user"]
    for message, following in itertools.pairwise(messages):
        parts = [content if isinstance(content, list) else [] for content in (message["content"], following["content"])]
        calls = [block["id"] for block in parts[0] if block["type"] == "tool_use"]
        results = [block["tool_use_id"] for block in parts[1] if block["type"] == "tool_result"]
        if message["role"] == "assistant":
            assert calls == results
