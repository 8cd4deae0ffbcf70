"""Runs over rows against a local server: limits, faults, interrupts, and what reaches the server."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest

from nbchat import ScriptedTransport, Session
from nbchat.core.errors import AuthError, ConnectionFailed
from nbchat.core.messages import Message
from nbchat.core.request import Request
from nbchat.rows import engines
from nbchat.rows.pace import FIRST_IN_FLIGHT
from nbchat.rows.run import ask_each
from nbchat.rows.store import Store
from nbchat.rows.worker import Worker
from nbchat.transports.claude import ClaudeTransport
from tests.support.server import Received, Wire, message, serving, streaming, text_events

KEY = "sk-ant-api03-" + "k" * 40


def prompt_of(request: Received) -> str:
    return str(request.body["messages"][-1]["content"])


def answered(wire: Wire, request: Received) -> None:
    wire.json("200 OK", message([{"type": "text", "text": prompt_of(request).upper()}]))


def error(wire: Wire, status: str, kind: str, **headers: str) -> None:
    wire.json(status, {"type": "error", "error": {"type": kind, "message": f"key {KEY} was used"}}, **headers)


def session_of(url: str, **settings) -> Session:
    return Session(ClaudeTransport("mine", base_url=url, api_key=KEY, idle_timeout=5.0), model="m", **settings)


def run(url: str, data, template="{{ row }}", *, store=None, session=None, **options):
    session = session or session_of(url)
    return ask_each(session, data, template, session.options(options), store=store or Store(":memory:"))


NUMBERS = [f"row {number}" for number in range(60)]


def test_every_row_is_answered_and_the_concurrency_is_never_exceeded():
    lock, now, most = threading.Lock(), 0, 0

    def slow(wire: Wire, request: Received) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1
        answered(wire, request)

    with serving(slow) as server:
        job = run(server.url, NUMBERS, concurrency=7)
    assert [row["answer"] for row in job.frame] == [text.upper() for text in NUMBERS]
    assert most == 7
    assert len(server.requests) == 60
    assert all("stream" not in request.body or not request.body["stream"] for request in server.requests)
    assert {request.headers["authorization"] for request in server.requests} == {f"Bearer {KEY}"}


def test_a_long_answer_is_streamed():
    with serving(streaming(text_events(["Hel", "lo"]))) as server:
        job = run(server.url, ["a", "b"], max_tokens=20_000)
    assert [row["answer"] for row in job.frame] == ["Hello", "Hello"]
    sent = [request.body for request in server.requests if request.method == "POST"]
    assert [body["stream"] for body in sent] == [True, True]


def test_one_pause_for_all_when_the_service_asks():
    paused_at: list[float] = []

    def limited(wire: Wire, request: Received) -> None:
        if len(paused_at) < 2 and prompt_of(request) in ("row 20", "row 40"):
            paused_at.append(time.monotonic())
            error(wire, "429 Too Many Requests", "rate_limit_error", retry_after="1.5")
        else:
            answered(wire, request)

    with serving(limited) as server:
        job = run(server.url, NUMBERS, concurrency=4)
    assert job.counts.done == 60
    for began in paused_at:
        sent = [request.at for request in server.requests if began + 0.7 < request.at < began + 1.4]
        assert not sent, "nothing is sent while the run pauses"
    kinds = Counter(entry.kind for entry in job.session.accounting.run)
    assert kinds == {"answer": 60, "retry": 2}


def test_a_storm_of_529_loses_nothing_and_wastes_little():
    first: list[float] = []  # when the first request came

    def stormy(wire: Wire, request: Received) -> None:
        first.append(request.at)
        if 0.05 < time.monotonic() - first[0] < 2.0:
            error(wire, "529 Overloaded", "overloaded_error")
        else:
            time.sleep(0.01)
            answered(wire, request)

    with serving(stormy) as server:
        job = run(server.url, [str(number) for number in range(300)], concurrency=8)
    assert job.counts.done == 300
    assert len(server.requests) - 300 <= 8 + 8, "those in flight, and one at a time"


@pytest.mark.parametrize("fault", ["500", "reset"])
def test_a_passing_fault_is_repeated(fault):
    seen: Counter[str] = Counter()

    def faulty(wire: Wire, request: Received) -> None:
        seen[prompt_of(request)] += 1
        if seen[prompt_of(request)] > 1 or prompt_of(request) not in ("row 3", "row 5"):
            answered(wire, request)
        elif fault == "500":
            error(wire, "500 Oops", "api_error")
        else:
            wire.reset()

    with serving(faulty) as server:
        job = run(server.url, NUMBERS[:10])
    assert job.counts.done == 10
    assert seen["row 3"] == seen["row 5"] == 2


def test_an_answer_that_began_is_not_paid_for_twice():
    def cut(wire: Wire, request: Received) -> None:
        if prompt_of(request) != "row 3":
            answered(wire, request)
            return
        wire.head(content_type="application/json", chunked=True)
        wire.send(b'{"id": "msg_1", "type": "mess')
        wire.reset()

    with serving(cut) as server:
        job = run(server.url, NUMBERS[:6])
    assert len(server.requests) == 6
    assert [bool(row["nbchat_error"]) for row in job.frame] == [False, False, False, True, False, False]
    assert job.cost is None, "what the broken answer cost is unknown"


def test_a_key_is_in_no_row_and_in_no_error():
    def refused(wire: Wire, request: Received) -> None:
        if prompt_of(request) in ("row 1", "row 2"):
            error(wire, "413 Too Large", "request_too_large")
        else:
            answered(wire, request)

    with serving(refused) as server:
        job = run(server.url, NUMBERS[:10])
    errors = [row["nbchat_error"] for row in job.frame if row["nbchat_error"]]
    assert len(errors) == 2
    assert KEY not in str(list(job.frame))
    with serving(lambda wire, request: error(wire, "401 Unauthorized", "authentication_error")) as server:
        with pytest.raises(AuthError) as stopped:
            run(server.url, [f"row {number}" for number in range(500)])
        assert KEY not in str(stopped.value)
        assert len(server.requests) <= FIRST_IN_FLIGHT
        assert stopped.value.__context__ is None or KEY not in str(stopped.value.__context__)


def test_a_service_that_is_not_there_stops_the_run():
    with serving(answered) as server:
        url = server.url
    session = session_of(url)
    session.config.max_retries = 0
    with pytest.raises(ConnectionFailed) as stopped:
        run(url, [str(number) for number in range(500)], session=session)
    assert stopped.value.job.status == "stopped"
    assert stopped.value.job.counts.ended < 100


def test_the_limit_of_a_minute_is_kept():
    with serving(answered) as server:
        began = time.monotonic()
        run(server.url, NUMBERS[:30], rpm=600)
    spent = time.monotonic() - began
    assert spent >= (30 - 10) / 10 * 0.9, "ten at once, then ten a second"


def test_an_interrupt_keeps_what_is_finished_and_the_same_call_goes_on():
    release = threading.Event()
    waiting = itertools.count(1)

    def held(wire: Wire, request: Received) -> None:
        if int(prompt_of(request).split()[1]) >= 30 and not release.is_set():
            if next(waiting) == 8:  # all that may run at once wait, so the rows before them are finished
                os.kill(os.getpid(), signal.SIGINT)
            release.wait(20)
        answered(wire, request)

    store = Store(":memory:")
    with serving(held) as server:
        session = session_of(server.url)
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            run(server.url, NUMBERS, session=session, store=store, concurrency=8)
        assert time.monotonic() - began < 15
        job = session.last_job
        assert job.status == "interrupted"
        finished = [row["answer"] for row in job.frame if row["answer"]]
        assert finished == [text.upper() for text in NUMBERS[:30]]
        release.set()
        before = len(server.requests)
        again = run(server.url, NUMBERS, session=session, store=store)
        assert [row["answer"] for row in again.frame] == [text.upper() for text in NUMBERS]
        assert len(server.requests) - before == 30
        assert again.counts.replayed == 30


def test_the_first_row_goes_alone_where_the_beginning_is_cached():
    def slow(wire: Wire, request: Received) -> None:
        if answered_at:
            together.wait(20)
        else:
            time.sleep(0.2)
        answered_at.append(time.monotonic())
        wire.json("200 OK", message([{"type": "text", "text": "x"}]))

    answered_at: list[float] = []
    together = threading.Barrier(4)  # which breaks if the others do not come at the same time
    with serving(slow) as server:
        run(server.url, NUMBERS[:5], "Read this. " * 500 + "{{ row }}")
    first, *rest = server.requests
    assert all(request.at >= answered_at[0] for request in rest)
    assert len(rest) == 4
    assert not together.broken
    assert first.body["messages"][0]["content"][0]["cache_control"] == {"type": "ephemeral"}


@pytest.mark.parametrize(("status", "kind"), [(400, "invalid_request_error"), (403, "permission_error"), (529, "x")])
def test_both_doors_map_an_error_in_the_same_way(status, kind):
    with serving(lambda wire, request: error(wire, f"{status} No", kind)) as server:
        transport = ClaudeTransport("mine", base_url=server.url, api_key=KEY, max_retries=0)
        request = Request("m", (Message.of("user", "Hi"),), 10, stream=False)

        def ask() -> None:
            with transport.stream(request) as events:
                list(events)

        async def ask_async() -> None:
            door = transport.open_async()
            try:
                async for _ in door.events(request):
                    pass
            finally:
                await door.close()

        failures = []
        for call in (ask, lambda: asyncio.run(ask_async())):
            with pytest.raises(Exception) as failure:  # noqa: PT011
                call()
            failures.append((type(failure.value), str(failure.value), failure.value.status))
    assert failures[0] == failures[1]
    assert KEY not in failures[0][1]


def test_a_body_is_the_same_from_both_doors():
    with serving(answered) as server:
        session = session_of(server.url)
        session.ask("Is a good?", once=True, stream=False, stop="END", param="temperature=0.5")
        run(server.url, ["a"], "Is {{ row }} good?", session=session, stop="END", param="temperature=0.5")
    first, second = (request.body for request in server.requests)
    assert first == second


def test_the_parts_of_one_worker_share_its_limits_and_its_connections(monkeypatch):
    most, now, lock = 0, 0, threading.Lock()

    def slow(wire: Wire, request: Received) -> None:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.05)
        with lock:
            now -= 1
        wire.json("200 OK", message([{"type": "text", "text": "yes"}]))

    with serving(slow) as server:
        of_process = (session_of(server.url), {}, Worker())
        monkeypatch.setattr(engines, "_of_process", lambda: of_process)
        each = engines.Each("Is {{ row }} good?", {"concurrency": 32}, share=1 / 8)
        actor = engines.RayEach(each)

        async def work() -> list[object]:
            async def one(part: int) -> object:
                return await anext(actor([f"{part} {n}" for n in range(10)]))

            return list(await asyncio.gather(*(one(part) for part in range(6))))

        parts = asyncio.run(work())
        again = each([f"again {n}" for n in range(10)])
    assert [row["answer"] for part in [*parts, again] for row in part] == ["yes"] * 70
    assert most <= 4, "six parts at once, with the share of one worker"
    assert len({request.port for request in server.requests}) <= 4, "one client a process"


def test_each_request_of_a_worker_is_booked_once(monkeypatch, tmp_path):
    """Also one that failed and was sent again, one whose row failed, and those that came after a merge."""
    met: Counter[str] = Counter()

    def odd(wire: Wire, request: Received) -> None:
        text = prompt_of(request)
        met[text] += 1
        if text == "busy" and met[text] == 1:
            error(wire, "429 Too Many Requests", "rate_limit_error", retry_after="0")
        elif text == "bad":
            error(wire, "400 Bad Request", "invalid_request_error")
        else:
            answered(wire, request)

    user = Session(ScriptedTransport(), notebook="driver.ipynb")
    store, shards, loop = Store(":memory:"), tmp_path / "shards", Worker()

    def merged() -> tuple[int, Counter[tuple[str, str, str]]]:
        user.accounting.run.clear()
        count = engines.merge(user, shards, store=store)
        return count, Counter((entry.kind, entry.endpoint, entry.notebook) for entry in user.accounting.run)

    with serving(odd) as server:
        for part, new, kinds in [
            (["a", "busy", "bad", "a"], 3, {"answer": 2, "retry": 1, "failed": 1}),
            # Another process of the engine: it asks again what failed, and only that.
            (["a", "bad", "c"], 1, {"answer": 1, "failed": 1}),
        ]:
            of_process = (session_of(server.url), {}, loop)
            monkeypatch.setattr(engines, "_of_process", lambda made=of_process: made)
            sent = len(server.requests)
            engines.Each("{{ row }}", shards=shards)(part)
            assert len(server.requests) - sent == sum(kinds.values())
            assert merged() == (new, {(kind, "mine", "driver.ipynb"): count for kind, count in kinds.items()})
            assert merged() == (0, {})


ONE = "nbchat.aask('hi', endpoint=sys.argv[1], model='m')"


@pytest.mark.parametrize(
    "work",
    [
        f"print(asyncio.run({ONE}))",
        f"for _ in range(2): print(asyncio.run({ONE}))",
        f"loop = asyncio.new_event_loop(); print(loop.run_until_complete({ONE}))",
        f"threading.Thread(target=print, args=[asyncio.run({ONE})]).start()",
        "print(nbchat.each('{{ row }}', endpoint=sys.argv[1], model='m')(['hi']))",
    ],
    ids=["run", "run twice", "an open loop", "a thread", "a worker"],
)
def test_the_end_of_a_program_is_silent(work: str):
    """A connection that stays open at the end would make asyncio write `Unclosed client session`."""
    with serving(answered) as server:
        code = f"import asyncio, sys, threading, nbchat\n{work}"
        done = subprocess.run([sys.executable, "-c", code, server.url], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "HI" in done.stdout


@pytest.mark.parametrize("is_sent", [False, True])
def test_a_cancelled_request_is_in_the_ledger_only_if_a_byte_was_sent(is_sent):
    received = threading.Event()

    def silent(wire: Wire, request: Received) -> None:
        received.set()
        wire.gone(20)

    async def cancelled(session: Session) -> None:
        task = asyncio.ensure_future(session.aask("Hi", once=True))
        for _ in range(100):
            await asyncio.sleep(0.02)
            if received.is_set():
                break
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with contextlib.ExitStack() as stack:
        if is_sent:
            url = stack.enter_context(serving(silent)).url
        else:
            # A server whose queue is full: a further connection waits.
            listener = stack.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            for _ in range(3):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(listener.getsockname())
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        session = session_of(url)
        asyncio.run(cancelled(session))
    assert [entry.kind for entry in session.accounting.run] == ["interrupted"] * is_sent
