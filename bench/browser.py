"""Measure the cost of an answer in the browser: ``python bench/browser.py [--sizes 2000,20000] [--quick]``.

A server sends deltas of 5 characters, 200 a second or as fast as it can. A cell of a notebook in a
real JupyterLab in Chromium shows them. The cell uses ``%%claude``, or one of the usual techniques:
``display(Markdown(...), display_id=...)`` updated at each delta or at 25 Hz, an ``Output`` widget at
25 Hz, or chatlas if it is installed (``--path`` adds a folder to the kernels' path).

The script reports how long the main thread was blocked (the part of each task that exceeds 50 ms),
the longest task, bytes and messages over the websocket, and the page's memory. Then it prints PASS or
FAIL for each bar. Its exit status is 1 if a bar failed. A task's length is the processor time of its
thread, because another process may take the core in the middle of a task. The longest task by the
clock is printed next to it.

Three bars hold only at 200 deltas a second: the delay of the last character, the final render and the
total time blocked. An answer that comes as fast as possible is complete before the page has drawn a
third of it, and most of the work is then JupyterLab's final output. For such an answer the bar is that
nothing of it is lost. The comparison with 25 updates a second is made at 20,000 deltas, because the
time that those updates block grows with the square of the answer's length.
A run counts as ``late`` if it takes longer than twice the time of its answer plus two minutes.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import importlib.machinery
import itertools
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
for folder in (ROOT, ROOT / "tests" / "browser"):
    sys.path.insert(0, str(folder))

from harness import JupyterServer, Page, launch_chromium, open_page  # noqa: E402
from playwright.sync_api import Browser, TimeoutError, sync_playwright  # noqa: E402

PIECE = 5  # characters of a delta
RATE = 200  # deltas a second
END = "ENDMARK"

# The bars
LARGE = 20_000  # deltas
LONGEST_TASK, LONGEST_TASK_ONE_BLOCK = 0.200, 0.300  # seconds, while streaming
FINAL_TIMES = 1.2  # the task of the final output, as a multiple of the same output shown alone
BLOCKING_SHARE = 1 / 20  # the time blocked, as a share of display(Markdown) at 25 Hz
MESSAGES_A_SECOND = 25
# All bytes, as a multiple of the final output's bytes, plus an allowance for each message.
BYTES_TIMES, BYTES_TIMES_ONE_BLOCK, BYTES_A_MESSAGE = 6, 15, 500
LAST_CHARACTER = 1.0  # seconds from the stream's end to the last character on the page

# --- the answers --------------------------------------------------------------------------------

WORDS = ("sorted", "lists", "merge", "into", "longer", "runs", "while", "every", "element", "finds", "its", "place")


def sentences(count: int, seed: int) -> str:
    """Return a sentence of ``count`` words."""
    words = itertools.islice(itertools.cycle(WORDS[seed % 7 :] + WORDS[: seed % 7]), count)
    return " ".join(words).capitalize() + "."


def page(number: int) -> str:
    """Return prose with code, a list, a table and formulas, a little different for each number."""
    return f"""## Step {number}: what is *merged*

{sentences(40 + number % 9, number)} With **timsort** it is `O(n log n)`, and it is stable.

- {sentences(8, number + 1)}
- {sentences(9, number + 2)}
  - {sentences(6, number + 3)}

```python
def step_{number}(values: list[int]) -> int:
    found = values[{number}]
    for value in values[{number + 1}:]:
        if value < found:  # the smallest so far
            found = value
    return found
```

{sentences(30, number + 4)} The depth is $\\log_2 n + {number}$.

| step | cost | note |
|------|-----:|------|
| find | {number} | {sentences(4, number)} |
| merge | n log n | {sentences(4, number + 5)} |

$$\\sum_{{k=1}}^{{{number}}} k^2 = \\frac{{n(n+1)(2n+1)}}{{6}}$$

"""


def lines(kind: str) -> Iterator[str]:
    """Yield an endless answer of one kind, a line or a page at a time."""
    yield {"code": "```python\n", "table": "| name | value |\n|------|------:|\n"}.get(kind, "")
    for number in itertools.count(1):
        match kind:
            case "prose":
                yield page(number)
            case "code":
                yield f"value_{number} = compute({number}, {sentences(3, number)!r})  # {number}\n"
            case "list":
                yield f"- {sentences(9, number)}\n"
            case "table":
                yield f"| {sentences(4, number)} | {number} |\n"
            case "paragraph":
                yield sentences(12, number) + " "


def text_of(kind: str, deltas: int) -> str:
    """Return an answer that has ``deltas`` deltas and ends with the word END, which is searched for on the page."""
    made, size = [], 0
    for line in lines(kind):
        made.append(line)
        size += len(line)
        if size >= deltas * PIECE:
            break
    ending = {"code": f"# {END}\n```\n", "list": f"- {END}\n", "table": f"| {END} | 0 |\n"}.get(kind, END)
    body = "".join(made)[: deltas * PIECE - len(ending)]
    if kind in ("code", "list", "table"):
        body = body[: body.rfind("\n") + 1]
    return body + ending


# --- the server, in its own process --------------------------------------------------------------


def serve() -> None:
    """Serve until stdin closes. The prompt names the kind, the number of deltas and the rate (0: no limit)."""
    from tests.support.server import Received, Wire, serving, sse, text_events

    def answer(wire: Wire, request: Received) -> None:
        said = json.dumps(request.body["messages"][-1]["content"])
        asked = re.search(r"bench (\w+) (\d+) (\d+)", said)
        assert asked, said
        text, pace = text_of(asked[1], int(asked[2])), int(asked[3])
        events = text_events(text[at : at + PIECE] for at in range(0, len(text), PIECE))
        wire.head()
        began, batch = time.monotonic(), b""
        for number, event in enumerate(events):
            if pace:
                time.sleep(max(0.0, began + number / pace - time.monotonic()))
                wire.send(sse(event))
            elif len(batch := batch + sse(event)) > 16_000:
                wire.send(batch)
                batch = b""
        if batch:
            wire.send(batch)
        wire.end()

    with serving(answer) as server:
        print(server.url, flush=True)
        sys.stdin.read()


# --- the cells ----------------------------------------------------------------------------------

LOOP = """
import time
from IPython.display import Markdown, display
import anthropic
client = anthropic.Anthropic()
def deltas():
    global ended
    body = dict(model="claude-sonnet-5-5", max_tokens=100, messages=[dict(role="user", content="bench {what}")])
    for event in client.messages.create(stream=True, **body):
        if event.type == "content_block_delta":
            yield event.delta.text
    ended = time.time()
text = ""
"""
AT_25_HZ = """
shown_at = 0.0
for delta in deltas():
    text += delta
    if time.monotonic() - shown_at >= 0.04:
        {show}
        shown_at = time.monotonic()
{show}
"""
CELLS = {
    "nbchat": "%%claude -m claude-sonnet-5-5 --once\nbench {what}",
    "update each": LOOP
    + "shown = display(Markdown(''), display_id=True)\n"
    + "for delta in deltas():\n    text += delta\n    shown.update(Markdown(text))\n",
    "update 25 Hz": LOOP
    + "shown = display(Markdown(''), display_id=True)\n"
    + AT_25_HZ.replace("{show}", "shown.update(Markdown(text))"),
    "Output widget": LOOP
    + "import ipywidgets\nout = ipywidgets.Output()\ndisplay(out)\n"
    + "def show():\n    with out:\n        out.clear_output(wait=True)\n        display(Markdown(text))\n"
    + AT_25_HZ.replace("{show}", "show()"),
    "chatlas": "from chatlas import ChatAnthropic\n"
    + "chat = ChatAnthropic(model='claude-sonnet-5-5', kwargs=dict(base_url=BASE))\n"
    + "_ = chat.chat('bench {what}')\nended = time.time()\n",
}
SETUP = """
%load_ext nbchat
import os, time
from nbchat.notebook.views import views
from nbchat.view.live import view as live
live.preload()
settle = live.LiveView.settle
def settle_and_note(self, response):
    global ended
    ended = time.time()
    settle(self, response)
live.LiveView.settle = settle_and_note
BASE = os.environ["ANTHROPIC_BASE_URL"]
"""
#: The first answer loads MathJax and more. After it the page is as it is in the middle of a session.
WARM = r"""
import nbchat
nbchat.Session(nbchat.ScriptedTransport("Warm $x^2$.\n\n```python\nx = 1\n```\n")).ask(
    "hi", sinks=views(get_ipython(), cell_id="warm"))
"""

# --- the page -----------------------------------------------------------------------------------

#: Counts the messages and bytes that come over websockets (v1.kernel.websocket.jupyter.org).
COUNT = """(() => {
    window.counted = {messages: 0, bytes: 0, iopub: 0, content: 0, times: []};
    const text = new TextDecoder();
    const Plain = WebSocket;
    window.WebSocket = class extends Plain {
        constructor(...given) {
            super(...given);
            this.addEventListener('message', ({data}) => {
                const counted = window.counted;
                counted.messages += 1;
                counted.bytes += data.byteLength ?? data.length;
                if (!(data instanceof ArrayBuffer)) return;
                const view = new DataView(data);
                const count = Number(view.getBigUint64(0, true));
                const at = i => Number(view.getBigUint64(8 * (i + 1), true));
                if (text.decode(data.slice(at(0), at(1))) !== 'iopub') return;
                const {msg_type: kind, date} = JSON.parse(text.decode(data.slice(at(1), at(2))));
                counted.iopub += 1;
                // Widgets are closed all at once when the answer is whole.
                if (!['status', 'execute_input', 'comm_close'].includes(kind)) counted.times.push(Date.parse(date));
                if (/comm|display/.test(kind)) counted.content += at(5) - at(4);
                if (/display_data/.test(kind)) counted.last = at(5) - at(4);
            });
        }
    };
})()"""
#: Notes when the last character is on the page, and marks the moment of the final output in the trace.
WATCH = """([end, place]) => {
    const watched = window.watched = {seen: null, swapped: false};
    window.counted = {messages: 0, bytes: 0, iopub: 0, content: 0, times: []};
    const cell = document.querySelectorAll('.jp-CodeCell')[place];
    clearInterval(window.watching);
    window.watching = setInterval(() => {
        const area = cell.querySelector('.jp-OutputArea');
        if (!area) return;
        if (watched.seen === null && area.textContent.slice(-400).includes(end)) watched.seen = Date.now() / 1000;
    }, 50);
    new MutationObserver(() => {
        if (watched.swapped || !cell.querySelector('.nbchat')) return;
        watched.swapped = true;
        performance.mark('bench-swapped');
    }).observe(cell, {subtree: true, childList: true});
}"""


class Trace:
    """The tasks of the page's main thread while a ``with`` block runs, from Chromium's own trace.

    Attributes:
        tasks: For each task its start, its length by the clock and its processor time, in seconds.
        swapped: When the final output replaced the live view, on the same clock as ``start``.
    """

    def __init__(self, browser: Browser, page: Page) -> None:
        self._session, self._page = browser.new_browser_cdp_session(), page
        self._done: list[dict[str, str]] = []
        self._session.on("Tracing.tracingComplete", lambda told: self._done.append(told))
        self.tasks: list[tuple[float, float, float]] = []
        self.swapped: float | None = None

    def __enter__(self) -> Trace:
        config = {"includedCategories": ["toplevel", "blink.user_timing"], "recordMode": "recordAsMuchAsPossible"}
        how = {"transferMode": "ReturnAsStream", "streamCompression": "gzip"}
        self._session.send("Tracing.start", {"traceConfig": config, **how})
        self._page.raw.evaluate("performance.mark('bench-here')")
        return self

    def __exit__(self, *_: object) -> None:
        self._session.send("Tracing.end")
        while not self._done:
            self._page.raw.wait_for_timeout(50)
        handle, parts = self._done[0]["stream"], []
        while True:
            part = self._session.send("IO.read", {"handle": handle, "size": 1 << 22})
            parts.append(base64.b64decode(part["data"]) if part.get("base64Encoded") else part["data"].encode())
            if part["eof"]:
                break
        self._session.send("IO.close", {"handle": handle})
        events = json.loads(gzip.decompress(b"".join(parts)))["traceEvents"]
        here = next(event for event in events if event["name"] == "bench-here")
        for event in events:
            if (event["pid"], event["tid"]) != (here["pid"], here["tid"]):
                continue
            if event["name"].endswith("RunTask") and event.get("ph") == "X":
                self.tasks.append((event["ts"] / 1e6, event.get("dur", 0) / 1e6, event.get("tdur", 0) / 1e6))
            elif event["name"] == "bench-swapped":
                self.swapped = event["ts"] / 1e6

    def final(self) -> float:
        """Return the processor time of the longest task from the final output on, in seconds; 0 without one."""
        swapped = self.swapped if self.swapped is not None else float("inf")
        return max((used for at, took, used in self.tasks if swapped <= at + took), default=0.0)

    def streaming(self) -> list[tuple[float, float]]:
        """Return the tasks before the final output: length by the clock and processor time, in seconds."""
        swapped = self.swapped if self.swapped is not None else float("inf")
        return [(took, used) for at, took, used in self.tasks if at + took < swapped]


@dataclass
class Run:
    """The measurements of one answer. Tasks are in seconds of processor time, sizes in bytes."""

    technique: str
    kind: str
    deltas: int
    rate: int
    seconds: float  # on the clock
    blocking: float
    longest: float  # while streaming
    longest_clock: float  # the same by the clock, which includes the time of other processes
    final: float | None  # the task of the final output
    alone: float | None  # the task of the same output in a cell that does nothing else
    websocket: int
    messages: int  # of iopub
    busiest: int  # messages in one second
    content: int
    output: int  # the part of ``content`` that is the final output
    memory: int
    lag: float | None  # from the end of the stream to the last character; None if it never came
    over: bool  # False if the run took too long and was given up

    def row(self) -> str:
        def ms(value: float | None) -> str:
            return "    -" if value is None else f"{value * 1000:5.0f}"

        lag = f"{self.lag:.2f}" if self.lag is not None else "lost" if self.over else "late"
        return (
            f"{self.technique:14}{self.kind:10}{self.deltas:7}{self.rate or 'max':>5}{self.seconds:8.1f}"
            f"{self.blocking:9.2f} {ms(self.longest)} {ms(self.longest_clock)} {ms(self.final)} {ms(self.alone)}"
            f"{self.websocket / 1e6:9.2f}{self.messages:7}{self.busiest:5}{self.memory / 1e6:7.0f}{lag:>7}"
        )


HEAD = (
    "technique     kind       deltas rate   clock  blocked  long clock final alone       MB   msgs  /s memory    lag\n"
    "                                 1/s       s        s    ms    ms    ms    ms                          MB      s"
)


def measure(
    server: JupyterServer, browser: Browser, page: Page, technique: str, kind: str, deltas: int, rate: int
) -> Run:
    """Run one cell and return its measurements."""
    name = f"{technique}-{kind}-{deltas}-{rate}.ipynb".replace(" ", "-")
    cell = CELLS[technique].replace("{what}", f"{kind} {deltas} {rate}")
    server.write(name, SETUP, WARM, cell, "print(ended)", "from nbchat.view.final import show\nshow(_claude)")
    page.open(name)
    for _ in range(2):
        run_next(page)
    page.settle(1.0)
    page.raw.evaluate(WATCH, [END, 2])
    began = time.time()
    with Trace(browser, page) as trace:
        over = run_next(page, timeout=2 * deltas / (rate or 1000) + 120)
        if over:
            page.settle(1.5)
    watched, counted = page.raw.evaluate("window.watched"), page.raw.evaluate("window.counted")
    page.context.new_cdp_session(page.raw).send("HeapProfiler.collectGarbage")
    memory = page.raw.evaluate("performance.memory.usedJSHeapSize")
    lag = None
    if over and run_next(page) and watched["seen"] is not None:
        ended = float(page.raw.locator(".jp-CodeCell").nth(3).locator(".jp-OutputArea").inner_text())
        lag = watched["seen"] - ended
    times = counted["times"]
    return Run(
        technique,
        kind,
        deltas,
        rate,
        seconds=times[-1] / 1000 - began if times else 0.0,
        blocking=sum(max(0.0, used - 0.05) for _, _, used in trace.tasks),
        longest=max((used for _, used in trace.streaming()), default=0.0),
        longest_clock=max((took for took, _ in trace.streaming()), default=0.0),
        final=trace.final() if over and technique == "nbchat" else None,
        alone=alone(browser, page) if over and technique == "nbchat" else None,
        websocket=counted["bytes"],
        messages=counted["iopub"],
        busiest=max((sum(at <= other < at + 1000 for other in times) for at in times), default=0),
        content=counted["content"],
        output=counted.get("last", 0),
        memory=memory,
        lag=lag,
        over=over,
    )


def alone(browser: Browser, page: Page) -> float:
    """Return the median time of three runs in which JupyterLab only shows the same output."""
    took = []
    for _ in range(3):
        page.raw.locator(".jp-CodeCell").nth(4).locator(".jp-InputArea-editor").click()
        page.command("notebook:clear-cell-output")
        page.raw.evaluate(WATCH, [END, 4])
        with Trace(browser, page) as trace:
            page.command("notebook:run-cell")
            page.wait_idle()
        took.append(trace.final())
    return statistics.median(took)


def run_next(page: Page, timeout: float = 60) -> bool:
    """Run the next cell. Return False if the cell and its output take longer than ``timeout`` seconds."""
    page.start_next()
    page.raw.wait_for_timeout(300)
    try:
        page.wait_idle(timeout)
    except TimeoutError:
        return False
    return True


# --- the bars -----------------------------------------------------------------------------------


def bars(runs: list[Run]) -> Iterator[tuple[bool, str]]:
    """Yield each bar: True if the measurement is within the bar, and the measurement in words."""
    for run in runs:
        if run.technique != "nbchat":
            continue
        where = f"{run.kind}, {run.deltas:,} deltas, {run.rate or 'max'}/s"
        one_block = run.kind != "prose"
        longest = LONGEST_TASK_ONE_BLOCK if one_block else LONGEST_TASK
        yield run.longest <= longest, f"{where}: longest task {run.longest * 1000:.0f} ms, at most {longest * 1000:.0f}"
        yield run.lag is not None, f"{where}: nothing is lost"
        times = BYTES_TIMES_ONE_BLOCK if one_block else BYTES_TIMES
        limit = times * run.output + BYTES_A_MESSAGE * run.messages
        yield run.content <= limit, f"{where}: {run.content:,} bytes, at most {limit:,} (output {run.output:,})"
        yield run.busiest <= MESSAGES_A_SECOND, f"{where}: {run.busiest} messages in one second, at most 25"
        if one_block or not run.rate:
            continue
        lag = run.lag if run.lag is not None else float("inf")
        yield lag <= LAST_CHARACTER, f"{where}: last character {lag:.2f} s after the end, at most {LAST_CHARACTER}"
        if run.final and run.alone:
            limit_final = FINAL_TIMES * max(run.alone, 0.05)  # a task below 50 ms does not block anything
            said = f"{run.final * 1000:.0f} ms, alone {run.alone * 1000:.0f}, at most {limit_final * 1000:.0f}"
            yield run.final <= limit_final, f"{where}: the final render took {said}"
        for other in runs:
            same = (other.kind, other.deltas, other.rate) == (run.kind, run.deltas, run.rate)
            if other.technique == "update 25 Hz" and same and run.deltas >= LARGE:
                limit_blocking = other.blocking * BLOCKING_SHARE
                theirs = f"{other.blocking:.2f}{'' if other.over else ' so far'}"
                said = f"{run.blocking:.2f} s, at most {limit_blocking:.2f} (25 Hz updates: {theirs})"
                yield run.blocking <= limit_blocking, f"{where}: blocked {said}"


def plan(arguments: argparse.Namespace) -> Iterator[tuple[str, str, int, int]]:
    """Yield the runs to make: technique, kind, number of deltas, rate."""
    sizes = [2_000] if arguments.quick else [int(size) for size in arguments.sizes.split(",")]
    for technique in arguments.techniques.split(","):
        for deltas, rate in itertools.product(sizes, (RATE, 0)):
            yield technique, "prose", deltas, rate
    if "nbchat" in arguments.techniques.split(","):
        for kind in ("code", "list", "table", "paragraph"):
            yield "nbchat", kind, sizes[-1], RATE
        yield "nbchat", "code", sizes[-1], 0


def installed(name: str, path: str) -> bool:
    """Return True if a kernel can import the module."""
    return importlib.machinery.PathFinder.find_spec(name, [*filter(None, [path]), *sys.path]) is not None


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", default="2000,20000", help="deltas of an answer")
    parser.add_argument("--techniques", default=",".join(CELLS), help="techniques to run")
    parser.add_argument("--quick", action="store_true", help="2,000 deltas only")
    parser.add_argument("--path", default="", help="a folder for the kernels' path, where chatlas is")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--only", default="", help="run only this kind of answer, with nbchat, at both rates")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve()
        return 0
    feeder = subprocess.Popen(
        [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert feeder.stdin is not None
    assert feeder.stdout is not None
    home = Path(tempfile.mkdtemp(prefix="nbchat-bench-"))
    (home / "notebooks").mkdir()
    env = {
        "ANTHROPIC_BASE_URL": feeder.stdout.readline().strip(),
        "ANTHROPIC_API_KEY": "bench",
        "XDG_DATA_HOME": str(home / "data"),
        "XDG_STATE_HOME": str(home / "state"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [arguments.path])]),
    }
    runs: list[Run] = []
    if not installed("chatlas", arguments.path):
        print("chatlas is not installed, and left out: pip install chatlas[anthropic], or --path", flush=True)
        arguments.techniques = ",".join(name for name in arguments.techniques.split(",") if name != "chatlas")
    print(HEAD, flush=True)
    todo = list(plan(arguments))
    if arguments.only:
        sizes = [int(size) for size in arguments.sizes.split(",")]
        todo = [("nbchat", arguments.only, deltas, rate) for deltas in sizes for rate in (RATE, 0)]
    try:
        server = JupyterServer(home / "notebooks", env)
        with sync_playwright() as playwright:
            browser = launch_chromium(playwright, "--enable-precise-memory-info", "--js-flags=--expose-gc")
            for technique, kind, deltas, rate in todo:
                with open_page(server, browser) as page:
                    page.raw.add_init_script(COUNT)
                    try:
                        run = measure(server, browser, page, technique, kind, deltas, rate)
                    except Exception as error:
                        print(
                            f"{technique:14}{kind:10}{deltas:7}{rate or 'max':>5}  failed: {str(error).splitlines()[0]}"
                        )
                        continue
                    runs.append(run)
                    print(run.row(), flush=True)
        server.stop()
    finally:
        feeder.stdin.close()
        feeder.wait(10)
        shutil.rmtree(home, ignore_errors=True)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(run) for run in runs], indent=1) + "\n")
    results = list(bars(runs))
    for held, said in results:
        print("PASS" if held else "FAIL", said)
    return 0 if all(held for held, _ in results) else 1


if __name__ == "__main__":
    sys.exit(main())
