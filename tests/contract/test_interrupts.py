"""Tests of interrupts: a SIGINT ends a turn in each of its phases, and everything that arrived is kept."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from nbchat import ScriptedTransport, Session
from nbchat.core.stopping import unstoppable
from nbchat.transports.claude import ClaudeTransport
from tests.support.server import Received, Wire, serving, start, streaming, text_delta, text_events

#: Seconds, on a busy machine. Each of these turns would take at least 20 s without an interrupt.
#: The promise is half a second, which bench/kernel.py measures.
INTERRUPT_LIMIT_S = 5.0


@pytest.fixture(scope="module")
def http() -> Iterator[Any]:
    """Return a connection pool, which must be usable after each interrupt."""
    import anthropic

    with anthropic.DefaultHttpxClient() as client:
        yield client


@pytest.fixture(autouse=True)
def _python_handles_sigint() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Stop:
    """Sends SIGINT to the main thread after a delay, and remembers the time."""

    def __init__(self) -> None:
        self.at = 0.0
        self.gone = threading.Event()

    def soon(self, after: float = 0.5) -> None:
        threading.Timer(after, self._now).start()

    def _now(self) -> None:
        self.at = time.monotonic()
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    def watch(self, wire: Wire) -> None:
        """Wait until the client closes the connection."""
        if wire.gone(20):
            self.gone.set()
        raise ConnectionError


OPEN = [
    start(),
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    text_delta("Once upon"),
]


def before_headers(stop: Stop) -> Callable[[Wire, Received], None]:
    def handler(wire: Wire, request: Received) -> None:
        stop.soon()
        stop.watch(wire)

    return handler


def silent(stop: Stop) -> Callable[[Wire, Received], None]:
    def handler(wire: Wire, request: Received) -> None:
        wire.head()
        for event in OPEN:
            wire.event(event)
        stop.soon()
        stop.watch(wire)

    return handler


def flowing(stop: Stop) -> Callable[[Wire, Received], None]:
    def handler(wire: Wire, request: Received) -> None:
        wire.head()
        for event in OPEN:
            wire.event(event)
        stop.soon()
        try:
            for number in range(4000):
                wire.event(text_delta(f" {number}"))
                time.sleep(0.005)
        except OSError:
            stop.gone.set()
            raise

    return handler


def counting_down(stop: Stop) -> Callable[[Wire, Received], None]:
    def handler(wire: Wire, request: Received) -> None:
        wire.json(
            "429 Slow", {"type": "error", "error": {"type": "rate_limit_error", "message": "slow"}}, retry_after="30"
        )
        stop.gone.set()  # no request is open during the countdown
        stop.soon()

    return handler


def in_one_piece(stop: Stop) -> Callable[[Wire, Received], None]:
    def handler(wire: Wire, request: Received) -> None:
        assert not request.body.get("stream")
        wire.head(content_type="application/json")
        stop.soon()
        stop.watch(wire)

    return handler


PLACES = {
    "waiting for headers": (before_headers, {}, ""),
    "a silent stall": (silent, {}, "Once upon"),
    "flowing text": (flowing, {}, "Once upon"),
    "a countdown": (counting_down, {}, ""),
    "without streaming": (in_one_piece, {"stream": False}, ""),
}


@pytest.mark.parametrize("place", PLACES)
def test_an_interrupt_ends_the_turn(place: str, http: Any):
    """The stream is closed, the partial answer is kept, the history stays valid, and the next question works."""
    make, options, begins = PLACES[place]
    stop, settled = Stop(), []

    class Sink:
        def begin(self, request) -> None:
            pass

        def feed(self, chunk: Any) -> None:
            pass

        def settle(self, response: Any) -> None:
            settled.append(response)

    first = streaming(text_events(["I am ", "here"]))
    with serving(first, make(stop), first) as server:
        session = Session(ClaudeTransport("mine", base_url=server.url, http_client=http))
        session.ask("Are you there?", cell="a")
        with pytest.raises(KeyboardInterrupt):
            session.ask("Tell me", cell="b", sinks=[Sink()], **options)
        took = time.monotonic() - stop.at
        response = session.last
        assert stop.gone.wait(10), "the server sees that nobody listens"
        assert session.ask("And now?", cell="c").text == "I am here"
        assert len(server.requests) == 3
        sent = server.requests[-1].body["messages"]
    assert took < INTERRUPT_LIMIT_S
    assert settled == [response]
    assert response.status == "interrupted"
    assert not response
    assert response.text.startswith(begins)
    assert bool(response.text) is bool(begins)
    assert response.usage.estimated is bool(begins)
    # The roles alternate, and each question in the history has an answer.
    assert [message["role"] for message in sent] == ["user", "assistant"] * (len(sent) // 2) + ["user"]
    questions = [message["content"] for message in sent if message["role"] == "user"]
    assert questions == ["Are you there?", *(["Tell me"] if begins else []), "And now?"]
    assert all(message["content"] for message in sent)


def test_an_interrupt_in_a_view_interrupts_the_turn(http: Any):
    """An interrupt while a view draws a chunk is an interrupt of the turn."""

    class View:
        settled = 0

        def begin(self, request) -> None:
            pass

        def feed(self, chunk: Any) -> None:
            if chunk.type == "output_text":
                raise KeyboardInterrupt

        def settle(self, response: Any) -> None:
            self.settled += 1

    view = View()
    with serving(streaming(text_events(["Once ", "upon"]))) as server:
        session = Session(ClaudeTransport("mine", base_url=server.url, http_client=http))
        with pytest.raises(KeyboardInterrupt):
            session.ask("Tell me", sinks=[view])
    assert view.settled == 1
    assert (session.last.status, session.last.text) == ("interrupted", "Once ")


def test_a_second_interrupt_during_the_first_still_settles_all_sinks(http: Any):
    """All sinks are settled if the user presses ■ twice, and the interrupt is raised."""
    settled: list[str] = []

    class View:
        def __init__(self, name: str) -> None:
            self.name = name

        def begin(self, request) -> None:
            pass

        def feed(self, chunk: Any) -> None:
            if chunk.type == "output_text":
                raise KeyboardInterrupt

        def settle(self, response: Any) -> None:
            settled.append(self.name)
            raise KeyboardInterrupt

    with serving(streaming(text_events(["Once ", "upon"]))) as server:
        session = Session(ClaudeTransport("mine", base_url=server.url, http_client=http))
        with pytest.raises(KeyboardInterrupt):
            session.ask("Tell me", sinks=[View("first"), View("second")])
    assert settled == ["first", "second"]
    assert session.last.status == "interrupted"


class Witness:
    """A sink that counts its calls, and sends a real SIGINT in one of them."""

    def __init__(self, interrupt_in: str = "") -> None:
        self.calls: list[str] = []
        self._interrupt_in = interrupt_in

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if name == self._interrupt_in:
            signal.raise_signal(signal.SIGINT)

    def begin(self, request: Any) -> None:
        self._called("begin")

    def feed(self, chunk: Any) -> None:
        if chunk.type == "output_text":
            self._called("feed")

    def settle(self, response: Any) -> None:
        self._called("settle")


class Clock:
    """A clock that sends a real SIGINT at its n-th reading. The last reading is made for the Response."""

    def __init__(self, interrupt_at: int) -> None:
        self.readings, self._at = 0, interrupt_at

    def __call__(self) -> float:
        self.readings += 1
        if self.readings == self._at:
            signal.raise_signal(signal.SIGINT)
        return float(self.readings)


def test_an_interrupt_while_the_response_is_made_settles_every_sink():
    """Each sink is settled, whenever the interrupt comes. It is raised after all sinks are settled."""
    counting = Clock(0)
    Session(ScriptedTransport("Hello!"), clock=counting).ask("Hi")
    for reading in range(1, counting.readings + 1):
        witness = Witness()
        session = Session(ScriptedTransport("Hello!"), clock=Clock(reading))
        with pytest.raises(KeyboardInterrupt):
            session.ask("Hi", sinks=[witness])
        assert witness.calls[-1:] == ["settle"]
        assert witness.calls.count("settle") == 1
        assert session.last is not None
    assert (session.last.status, session.last.text) == ("complete", "Hello!")  # the answer was complete


@pytest.mark.parametrize(
    ("where", "status"), [("begin", "interrupted"), ("feed", "interrupted"), ("settle", "complete")]
)
def test_a_real_interrupt_in_a_sink_settles_the_others_once(where: str, status: str):
    """An interrupt during the answer stops the turn. An interrupt at its end is raised when the turn is settled."""
    sinks = [Witness(where), Witness()]
    session = Session(ScriptedTransport("Hello, you!"))
    with pytest.raises(KeyboardInterrupt):
        session.ask("Hi", sinks=sinks)
    assert [sink.calls.count("settle") for sink in sinks] == [1, 1]
    assert session.last.status == status


def test_a_real_interrupt_while_a_row_is_written_keeps_the_row(monkeypatch: pytest.MonkeyPatch):
    """The row is written before the interrupt is raised, because the answer was paid for."""
    session = Session(ScriptedTransport("Hello!"))
    write = session.accounting.write

    def interrupted(entry: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        write(entry)

    monkeypatch.setattr(session.accounting, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        session.ask("Hi")
    assert [row.kind for row in session.accounting.run] == ["answer"]
    assert session.last.text == "Hello!"


def test_a_turn_inside_a_tool_of_another_turn_holds_its_own_interrupt():
    """The inner turn is settled completely. Then the interrupt stops the outer turn, whose call gets a result."""
    inner, outer = Witness("settle"), Witness()

    def ask_again() -> str:
        """Ask another question."""
        return session.ask("And you?", sinks=[inner]).text

    session = Session(ScriptedTransport({"tool": "ask_again", "input": {}}, "Fine.", "Never said."))
    with pytest.raises(KeyboardInterrupt):
        session.ask("Hi", tools=[ask_again], sinks=[outer])
    assert (inner.calls.count("settle"), outer.calls.count("settle")) == (1, 1)
    assert session.last.status == "interrupted"
    assert len(session.last.messages) == 3  # the call has its result, so the conversation can continue


def test_the_earlier_signal_handler_is_restored_after_a_turn():
    """The signal handler is restored after a turn, also after an interrupted one."""
    before = signal.getsignal(signal.SIGINT)
    Session(ScriptedTransport("Hello!")).ask("Hi")
    with pytest.raises(KeyboardInterrupt):
        Session(ScriptedTransport("Hello!")).ask("Hi", sinks=[Witness("feed")])
    assert signal.getsignal(signal.SIGINT) is before


def test_a_turn_in_another_thread_does_not_handle_signals():
    """A turn in another thread sets no signal handler, because Python handles signals in the main thread only."""
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(Session(ScriptedTransport("Hello!")).ask, "Hi").result().text == "Hello!"


def test_a_tool_that_catches_the_interrupt_does_not_continue_the_turn():
    """The turn ends although a tool catches the interrupt. The call has its result, and the next call does not run."""
    ran: list[str] = []

    def stubborn(name: str) -> str:
        """Catch everything."""
        ran.append(name)
        try:
            signal.raise_signal(signal.SIGINT)
        except BaseException:
            return "went on"
        return "was not interrupted"

    calls = [{"tool": "stubborn", "input": {"name": name}} for name in ("one", "two")]
    session = Session(ScriptedTransport(calls, "Never said."))
    with pytest.raises(KeyboardInterrupt):
        session.ask("Hi", tools=[stubborn])
    assert ran == ["one"]
    first, second = session.last.messages[2].content
    assert "went on" in str(first.to_dict())
    assert second.to_dict()["is_error"]
    assert session.ask("And now?").text == "Never said."


def test_a_second_interrupt_waits_until_the_first_has_closed_what_is_open():
    """It comes after that to code that caught the first one and goes on, and is not lost."""
    closed: list[str] = []

    def stubborn() -> str:
        """Catch the first interrupt, close something for a while, and go on."""
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            signal.raise_signal(signal.SIGINT)
            time.sleep(0.2)
            closed.append("closed")
        time.sleep(20)
        return "went on"

    session = Session(ScriptedTransport({"tool": "stubborn", "input": {}}, "Never said."))
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        session.ask("Hi", tools=[stubborn])
    assert closed == ["closed"]
    assert time.monotonic() - began < 10
    assert "interrupted this call" in str(session.last.messages[2].content[0].to_dict())


def test_an_interrupt_during_unstoppable_work_comes_after_it():
    """It does not wait for the end of the tool that this work belongs to."""
    done: list[str] = []

    def close() -> None:
        signal.raise_signal(signal.SIGINT)
        done.append("closed")

    def slow() -> str:
        """Do short work that must be whole, and then long work."""
        unstoppable(close)
        time.sleep(20)
        return "went on"

    session = Session(ScriptedTransport({"tool": "slow", "input": {}}, "Never said."))
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        session.ask("Hi", tools=[slow])
    assert done == ["closed"]
    assert time.monotonic() - began < 10


class Pressing:
    """An object that presses ■ when the garbage collector takes it. Python ignores what is raised there."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


class Garbage:
    """A sink that presses ■ in a finalizer, at the chunk ``at`` or while it settles."""

    def __init__(self, at: int = -1) -> None:
        self.at, self.count = at, 0

    def begin(self, request) -> None:
        pass

    def feed(self, chunk: Any) -> None:
        self.count += 1
        if self.count == self.at:
            Pressing()

    def settle(self, response: Any) -> None:
        if self.at < 0:
            Pressing()


def test_an_interrupt_inside_the_garbage_collector_is_not_lost():
    """Python ignores exceptions in finalizers, where one of four interrupts of a long drawing arrives."""
    session = Session(ScriptedTransport("word " * 4000, "Hello!", piece=5, delay=0.001))
    with pytest.raises(KeyboardInterrupt):
        session.ask("Hi", sinks=[early := Garbage(3)])
    assert early.count < 4000
    assert session.last.status == "interrupted"
    with pytest.raises(KeyboardInterrupt):
        session.ask("Hi", sinks=[Garbage()])
    assert (session.last.status, session.last.text) == ("complete", "Hello!")
