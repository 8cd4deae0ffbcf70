"""Measure runs over rows against a local server in another process: `python bench/rows.py [quick]`.

Every figure is a ratio within one run, since machines differ: to the ideal time (rows × time of an answer ÷ requests
in flight), and to the SDK's own asynchronous `create` in a loop with a semaphore.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from functools import partial

MODEL = "claude-sonnet-5-5"
ANSWER = '{"label": "positive"}'


# The server ------------------------------------------------------------------------------------


class Service(asyncio.Protocol):
    """One connection of a server that answers every prompt after ``delay`` seconds.

    ``limited`` answers one request in so many with a 429 and ``retry-after``. ``storm`` answers every request with
    a 529 for so many seconds, beginning at the second 0.5 after the first request.
    """

    delay, limited, retry_after, storm = 0.2, 0, "1", 0.0
    stats = {"requests": 0, "answered": 0, "refused": 0, "most_in_flight": 0, "asked_wait_s": 0.0}
    in_flight, began, wait_until = 0, 0.0, 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.data = transport, b""

    def data_received(self, data: bytes) -> None:
        self.data += data
        while b"\r\n\r\n" in self.data:
            head, _, rest = self.data.partition(b"\r\n\r\n")
            length = 0
            for line in head.split(b"\r\n"):
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            if len(rest) < length:
                return
            body, self.data = rest[:length], rest[length:]
            self.answer(head, body)

    def answer(self, head: bytes, body: bytes) -> None:
        cls = Service
        if head.startswith(b"GET /stats"):
            self.send("200 OK", json.dumps(cls.stats).encode())
            return
        if head.startswith(b"GET"):
            self.send("404 Not Found", b'{"type":"error","error":{"type":"not_found_error","message":"no"}}')
            return
        now = time.monotonic()
        cls.began = cls.began or now
        cls.stats["requests"] += 1
        number = cls.stats["requests"]
        if cls.storm and 0.5 <= now - cls.began < 0.5 + cls.storm:
            cls.stats["refused"] += 1
            self.send("529 Overloaded", b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}')
            return
        if cls.limited and number % cls.limited == 0:
            cls.stats["refused"] += 1
            until = now + float(cls.retry_after)
            cls.stats["asked_wait_s"] += until - max(now, cls.wait_until)
            cls.wait_until = until
            error = b'{"type":"error","error":{"type":"rate_limit_error","message":"Slow down"}}'
            self.send("429 Too Many Requests", error, f"retry-after: {cls.retry_after}\r\n")
            return
        cls.in_flight += 1
        cls.stats["most_in_flight"] = max(cls.stats["most_in_flight"], cls.in_flight)
        asyncio.get_running_loop().call_later(cls.delay, self.finish, number)

    def finish(self, number: int) -> None:
        Service.in_flight -= 1
        Service.stats["answered"] += 1
        message = {
            "id": f"msg_{number}", "type": "message", "role": "assistant", "model": MODEL,
            "content": [{"type": "text", "text": ANSWER}], "stop_reason": "end_turn", "stop_sequence": None,
            "usage": {"input_tokens": 40, "output_tokens": 8},
        }  # fmt: skip
        self.send("200 OK", json.dumps(message).encode())

    def send(self, status: str, body: bytes, headers: str = "") -> None:
        head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{headers}content-length: {len(body)}\r\n\r\n"
        if not self.transport.is_closing():
            self.transport.write(head.encode() + body)


async def serve(settings: dict[str, str]) -> None:
    """Run the server until standard input ends."""
    for name, value in settings.items():
        kind = type(getattr(Service, name))
        setattr(Service, name, kind(value))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Service, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


@contextlib.contextmanager
def serving(**settings: object) -> Iterator[str]:
    """Run the server in a process of its own, and yield its address."""
    words = [f"{name}={value}" for name, value in settings.items()]
    command = [sys.executable, __file__, "serve", *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.stdin.close()
            process.wait()


def stats(url: str) -> dict[str, float]:
    """Return what the server counted."""
    with urllib.request.urlopen(f"{url}/stats") as answer:
        return json.loads(answer.read())


# The contestants -------------------------------------------------------------------------------


def rows_of(count: int) -> Iterator[dict[str, str]]:
    """Yield rows, each with a text of its own."""
    for number in range(count):
        yield {"text": f"Ticket {number}: the printer on floor {number % 7} does not answer, again."}


def by_nbchat(url: str, count: int, concurrency: int, lazy: bool = False, **options: object) -> object:
    """Ask with nbchat, and return the job."""
    import nbchat

    session = nbchat.Session(endpoint="bench", model=MODEL)
    session.config.endpoints = {"bench": url}
    nbchat.use_session(session)
    data = rows_of(count) if lazy else list(rows_of(count))
    job = nbchat.ask_each(
        data, "Classify the ticket:\n{{ text }}", concurrency=concurrency, progress=False, max_tokens=100, **options
    )
    lost = job.counts.distinct - job.counts.done
    print(f"  nbchat: {job!r}, {job.counts.paused_s:.1f} s paused, {lost} lost")
    return job


def by_sdk(url: str, count: int, concurrency: int) -> int:
    """Ask with the SDK's own client in a loop with a semaphore, and return how many rows were lost."""
    import anthropic

    async def main() -> int:
        slots = asyncio.Semaphore(concurrency)
        limits = anthropic.DefaultAsyncHttpxClient().timeout
        async with anthropic.AsyncAnthropic(api_key="none", base_url=url, timeout=limits) as client:

            async def one(text: str) -> bool:
                async with slots:
                    try:
                        message = await client.messages.create(
                            model=MODEL,
                            max_tokens=100,
                            messages=[{"role": "user", "content": f"Classify the ticket:\n{text}"}],
                        )
                        return bool(message.content[0].text)
                    except anthropic.AnthropicError:
                        return False

            answers = await asyncio.gather(*(one(row["text"]) for row in rows_of(count)))
        return count - sum(answers)

    return asyncio.run(main())


def by_chatlas(url: str, count: int, concurrency: int) -> int:
    """Ask with chatlas' parallel_chat, and return how many rows were lost."""
    import chatlas

    async def main() -> int:
        chat = chatlas.ChatAnthropic(
            model=MODEL, max_tokens=100, api_key="none", cache="none", kwargs={"base_url": url}
        )
        prompts = [f"Classify the ticket:\n{row['text']}" for row in rows_of(count)]
        chats = await chatlas.parallel_chat(chat, prompts, max_active=concurrency, rpm=1_000_000, on_error="continue")
        return sum(not hasattr(answer, "get_last_turn") for answer in chats)

    return asyncio.run(main())


# Measuring -------------------------------------------------------------------------------------


def measured(work: object, first: object = None) -> dict[str, float]:
    """Run work in a child process, and return its seconds, its CPU seconds, its memory in MB and its result.

    ``first`` is done before that: each contestant loads its parts with its first request.
    """
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.environ["NBCHAT_JOURNAL"] = "false"
        if first is not None:
            _use_empty_folder()
            first()
        _use_empty_folder()
        before = resource.getrusage(resource.RUSAGE_SELF)
        began = time.perf_counter()
        result = work()
        seconds = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_SELF)
        figures = {
            "seconds": seconds,
            "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
            "mb": after.ru_maxrss / 1024,
            "lost": result if isinstance(result, int) else result.counts.distinct - result.counts.done,
        }
        os.write(writing, json.dumps(figures).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return json.loads(text)


def _use_empty_folder() -> None:
    os.environ |= dict.fromkeys(("XDG_STATE_HOME", "XDG_DATA_HOME"), tempfile.mkdtemp())


def show(name: str, figures: dict[str, float], ideal: float, cpu: float | None = None) -> None:
    """Print one line of figures."""
    cpu_ratio = "" if cpu is None else f", {figures['cpu'] / cpu:.2f} × the SDK's CPU"
    print(
        f"{name:<28}{figures['seconds']:7.2f} s = {figures['seconds'] / ideal:.2f} × ideal, "
        f"CPU {figures['cpu']:6.2f} s{cpu_ratio}, {figures['mb']:.0f} MB, {figures['lost']:.0f} lost"
    )


def speed(count: int, delay: float, concurrency: int) -> None:
    """Compare nbchat with the ideal and with the SDK."""
    ideal = count / concurrency * delay
    print(f"{count:,} rows of {delay} s, {concurrency} in flight; ideal {ideal:.2f} s")
    contestants = {"SDK + semaphore": by_sdk, "nbchat": by_nbchat, "chatlas": by_chatlas}
    sdk_cpu = None
    for name, work in contestants.items():
        if name == "chatlas" and not os.environ.get("CHATLAS"):
            continue
        with serving(delay=0.0) as quick, serving(delay=delay) as url:
            figures = measured(partial(work, url, count, concurrency), partial(work, quick, 1, 1))
        show(name, figures, ideal, sdk_cpu)
        sdk_cpu = sdk_cpu or figures["cpu"]


def faults(count: int) -> None:
    """Refuse one request in ten, and then every request for ten seconds."""
    with serving(delay=0.2) as url:
        calm = measured(lambda: by_nbchat(url, count, 64))["seconds"]
    with serving(delay=0.2, limited=10) as url:
        figures = measured(lambda: by_nbchat(url, count, 64))
        asked = stats(url)
    added = figures["seconds"] - calm
    print(
        f"one in ten 429, retry-after 1: {figures['lost']:.0f} lost, {added:.1f} s added = "
        f"{added / asked['asked_wait_s']:.2f} × the {asked['asked_wait_s']:.1f} s that the waits require"
    )
    with serving(delay=0.2, storm=10.0) as url:
        figures = measured(lambda: by_nbchat(url, count, 64))
        asked = stats(url)
    print(
        f"ten seconds of 529: {figures['lost']:.0f} lost, {asked['refused']:.0f} of {asked['requests']:.0f} requests "
        f"wasted = {asked['refused'] / asked['requests']:.1%}, {figures['seconds']:.1f} s"
    )
    for name, work in (("SDK + semaphore", by_sdk), ("chatlas", by_chatlas)):
        if name == "chatlas" and not os.environ.get("CHATLAS"):
            continue
        for fault in ({"limited": 10}, {"storm": 10.0}):
            with serving(delay=0.2, **fault) as url:
                figures = measured(lambda work=work, url=url: work(url, count, 64))
            print(f"  {name} under {fault}: {figures['lost']:.0f} lost, {figures['seconds']:.1f} s")


def memory(*counts: int) -> None:
    """Ask for the rows of an iterator, and compare the memory."""
    with serving(delay=0.0) as url:
        used = [measured(lambda count=count: by_nbchat(url, count, 64, lazy=True))["mb"] for count in counts]
    print("memory of an iterator:", ", ".join(f"{n:,} rows {mb:.0f} MB" for n, mb in zip(counts, used, strict=True)))


def resume(count: int) -> None:
    """Go on with a run of which all rows but one are finished, and time the first new request."""
    import nbchat
    from nbchat.rows.result import Result
    from nbchat.rows.store import Store

    def again(url: str) -> int:
        session = nbchat.Session(endpoint="bench", model=MODEL)
        session.config.endpoints = {"bench": url}
        nbchat.use_session(session)
        from nbchat.rows.plan import Plan, row_options

        data = list(rows_of(count))
        options = row_options(session.options({"max_tokens": 100}))
        plan = Plan(session, "Classify the ticket:\n{{ text }}", options, data)
        Store().add(Result(plan.row(row).digest, ANSWER) for row in data[:-1])
        began = time.perf_counter()
        by_nbchat(url, count, 64)
        print(f"resume of {count - 1:,} finished rows: {time.perf_counter() - began:.1f} s with the one new request")
        return 0

    with serving(delay=0.0) as url:
        measured(lambda: again(url))


def main(quick: bool) -> None:
    """Run everything."""
    speed(2_000, 0.2, 64)
    if not quick:
        speed(10_000, 5.0, 1_000)
    faults(2_000)
    memory(*((2_000, 10_000) if quick else (10_000, 100_000)))
    resume(10_000 if quick else 100_000)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(serve(dict(word.split("=") for word in sys.argv[2:])))
    else:
        main("quick" in sys.argv)
