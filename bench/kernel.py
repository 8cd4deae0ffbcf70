"""Measure the cost of a ``%%claude`` cell in a real kernel: ``python bench/kernel.py [--repeat 3]``.

A server in another process sends n text deltas of 5 characters as fast as it can. A front end
(jupyter_client) runs a ``%%claude`` cell with a cell id, so that the live view is on. It counts the
kernel's processor time, its iopub messages and their bytes. The yardstick is the SDK's own
``messages.stream`` loop without any output, in the same kernel against the same server. On a machine
that does other things too, only the ratio of the two means anything.

The script prints a table, then PASS or FAIL for each bar. Its exit status is 1 if a bar failed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.kernel.harness import Kernel, kernel_of  # noqa: E402

SIZES = (100, 1_000, 10_000, 50_000)
PIECE = 5  # characters of a delta

# The bars
MOST_CPU = 2.0  # the kernel's processor time at 10,000 deltas, as a multiple of the SDK's loop
# All iopub bytes, as a multiple of the final output's bytes, plus an allowance for each message.
MOST_BYTES, BYTES_A_MESSAGE = 6, 500
MOST_GROWTH = 6  # the iopub bytes at 50,000 deltas, as a multiple of those at 10,000
MESSAGES_A_SECOND, MESSAGES_MORE = 25, 60  # the rate, and an allowance for the whole cell
MOST_STOP = 0.5  # seconds from an interrupt to an idle kernel
MOST_DELAY = 0.060  # seconds from the SDK's first delta to the first visible character
MOST_TAB = 0.3  # seconds from the first Tab inside {{ to its suggestions, right after %load_ext
MOST_FIRST_LINE = 0.3  # seconds from the start of the first cell to its first line, right after %load_ext
MOST_IMPORT = 0.150  # seconds for import nbchat and %load_ext nbchat, in a process that has IPython

PAGE = """## Sorting, in short

A list is sorted by *comparing* its elements; **timsort** does it in O(n log n), and it is stable.

- find runs that are sorted already
- extend the short ones with `insertion sort`
- merge them, two at a time

```python
def smallest(values: list[int]) -> int:
    found = values[0]
    for value in values[1:]:
        if value < found:
            found = value
    return found
```

| step | cost |
|------|-----:|
| find | n |
| merge | n log n |

With $n$ elements the depth of the merges is $\\log_2 n$, and each level touches every element once.

"""


# --- the server, in its own process --------------------------------------------------------------


def serve() -> None:
    """Serve until stdin closes. A word in the prompt chooses the answer:

    ``deltas=N`` sends N deltas as fast as possible, ``first`` one delta and another after a pause,
    ``flow`` a delta every 20 ms, ``silent`` one delta and nothing more, ``deaf`` not even headers.
    """
    from tests.support.server import Received, Wire, serving, sse, text_events

    made: dict[int, bytes] = {}

    def body(count: int) -> bytes:
        if count not in made:
            text = PAGE * (count * PIECE // len(PAGE) + 1)
            events = text_events(text[at : at + PIECE] for at in range(0, count * PIECE, PIECE))
            chunks = (sse(event) for event in events)
            made[count] = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
        return made[count]

    def answer(wire: Wire, request: Received) -> None:
        said = json.dumps(request.body["messages"][-1])
        if "deaf" in said:
            wire.gone(30)
            return
        wire.head()
        if "flow" in said or "silent" in said:
            for place, event in enumerate(text_events(["some "] * 1000)):
                wire.event(event)
                if "silent" in said and place == 2:
                    wire.gone(30)
                time.sleep(0.02)
        elif "deltas=" in said:
            wire.raw(body(int(said.partition("deltas=")[2].split()[0].strip('"}]'))))
        else:
            for place, event in enumerate(text_events(["First ", "and last."])):
                if place == 3:
                    time.sleep(0.4)
                wire.event(event)
        wire.end()

    with serving(answer) as server:
        for count in SIZES:
            body(count)
        print(server.url, flush=True)
        sys.stdin.read()


@contextlib.contextmanager
def server() -> Iterator[str]:
    """Run the server in its own process and yield its URL."""
    command = [sys.executable, __file__, "--serve"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(10)


# --- the front end -------------------------------------------------------------------------------


@dataclass
class Run:
    """The measurements of one cell, as a front end sees them."""

    cpu: float  # seconds of the kernel's processor time
    seconds: float
    messages: int
    bytes: int
    final: int  # bytes of the final output
    began: float
    seen: float | None  # when the first character of the answer arrived
    printed: str


class Bench:
    """A kernel with nbchat loaded, whose messages and processor time are counted."""

    def __init__(self, kernel: Kernel) -> None:
        import psutil

        self.kernel = kernel
        self._process = psutil.Process(kernel.pid)
        self.run("%load_ext nbchat\nimport threading, time, anthropic\nclient = anthropic.Anthropic()")
        self.run("[t.join() for t in threading.enumerate() if t.name == 'nbchat-preload']; None")

    def cpu(self) -> float:
        """Return the processor time of all threads so far, in seconds. The clock ticks 100 times a second."""
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def run(self, code: str, stop_after: float | None = None) -> Run:
        """Run a cell as JupyterLab does, and read all messages until the kernel is idle.

        With ``stop_after``, interrupt the cell after that many seconds. The time in the result then
        begins with the interrupt.
        """
        size, final, there, seen = 0, 0, False, None

        def watch(message: dict[str, Any]) -> None:
            nonlocal size, final, there, seen
            kind, content = message["msg_type"], message["content"]
            characters = len(json.dumps(content))
            size += characters
            if kind in ("display_data", "update_display_data"):
                final = characters
            if kind == "error" and stop_after is None:
                raise SystemExit("\n".join(content["traceback"]))
            state = content.get("data", {}).get("state", {}) if kind.startswith("comm") else content.get("data", {})
            # The text is visible once it has arrived and the box around it is displayed.
            there = there or any("First" in str(state.get(key, "")) for key in ("value", "text/html"))
            if seen is None and there and final:
                seen = time.monotonic()

        cpu, began = self.cpu(), time.monotonic()
        parent = self.kernel.start(code, "bench")
        if stop_after is not None:
            time.sleep(stop_after)
            began = time.monotonic()
            self.kernel.interrupt()
        cell = self.kernel.finish(parent, watch)
        idle, _ = cell.messages[-1]
        return Run(self.cpu() - cpu, idle - began, len(cell.messages), size, final, began, seen, cell.stdout)


SDK = """
first = None
with client.messages.stream(
    model="claude-sonnet-5-5", max_tokens=8192, messages=[{{"role": "user", "content": "{prompt}"}}]
) as stream:
    for event in stream:
        if first is None and event.type == "content_block_delta":
            first = time.monotonic()
    stream.get_final_message()
"""
OURS = "%%claude --once\n{prompt}"


# --- the benchmark -------------------------------------------------------------------------------


@dataclass
class Bar:
    """A bar and the measured value."""

    name: str
    measured: float
    allowed: float
    unit: str = ""

    @property
    def passed(self) -> bool:
        return self.measured <= self.allowed

    def __str__(self) -> str:
        verdict = "PASS" if self.passed else "FAIL"
        return f"{verdict}  {self.name}: {self.measured:,.2f}{self.unit} (at most {self.allowed:,.2f}{self.unit})"


def measure_sizes(kernel: Bench, repeat: int) -> list[Bar]:
    """Measure processor time, bytes and messages at each size, and print them."""
    print(" deltas  SDK cpu  our cpu  ratio   wall messages      bytes     final")
    bars: list[Bar] = []
    size: dict[int, int] = {}
    for count in SIZES:
        pairs = []
        for _ in range(repeat):
            sdk = kernel.run(SDK.format(prompt=f"deltas={count}"))
            pairs.append((sdk.cpu, kernel.run(OURS.format(prompt=f"deltas={count}"))))
        ratio = statistics.median(ours.cpu / max(sdk, 0.01) for sdk, ours in pairs)
        sdk_cpu, our_cpu = (
            statistics.median(spent) for spent in zip(*((sdk, run.cpu) for sdk, run in pairs), strict=True)
        )
        ours = max((run for _, run in pairs), key=lambda run: run.bytes)
        print(
            f"{count:>7,} {sdk_cpu:>7.2f}s {our_cpu:>7.2f}s {ratio:>6.2f} {ours.seconds:>5.1f}s "
            f"{ours.messages:>8,} {ours.bytes:>10,} {ours.final:>9,}"
        )
        size[count] = ours.bytes
        if count == 10_000:
            bars.append(Bar("kernel CPU at 10,000 deltas, times the SDK's own loop", ratio, MOST_CPU))
        allowed = MOST_BYTES * ours.final + BYTES_A_MESSAGE * ours.messages
        bars.append(Bar(f"iopub bytes at {count:,}, times the allowed", ours.bytes / allowed, 1.0))
        worst = max(run.messages - MESSAGES_A_SECOND * run.seconds for _, run in pairs)
        bars.append(Bar(f"iopub messages at {count:,}, over 25 a second", worst, MESSAGES_MORE))
    bars.append(Bar("iopub bytes at 50,000, times those at 10,000", size[50_000] / size[10_000], MOST_GROWTH))
    return bars


def measure_delay(kernel: Bench, times: int) -> Bar:
    """Measure the time from the SDK's own first delta to the first character at the front end."""
    delays = []
    for _ in range(times):
        sdk = kernel.run(SDK.format(prompt="first") + "print(first)")
        ours = kernel.run(OURS.format(prompt="first"))
        assert ours.seen is not None
        delays.append((ours.seen - ours.began) - (float(sdk.printed) - sdk.began))
    low, *_, high = sorted(delays)
    print(f"\nfirst character, after the SDK's first delta: {low * 1e3:.0f} to {high * 1e3:.0f} ms in {times} runs")
    return Bar(f"first visible character, median of {times}", statistics.median(delays) * 1e3, MOST_DELAY * 1e3, " ms")


def measure_stops(kernel: Bench, times: int) -> list[Bar]:
    """Measure the time from an interrupt to the idle kernel.

    The server sends text, or falls silent after one delta, or does not answer at all.
    """
    bars = []
    for what in ("flow", "silent", "deaf"):
        took = sorted(kernel.run(OURS.format(prompt=what), stop_after=0.5).seconds for _ in range(times))
        print(f"interrupt, {what}: {took[0] * 1e3:.0f} to {took[-1] * 1e3:.0f} ms in {times} runs")
        bars.append(Bar(f"interrupt ({what}), the longest of {times}", took[-1] * 1e3, MOST_STOP * 1e3, " ms"))
    return bars


def measure_tab(times: int, home: str) -> Bar:
    """Measure the first Tab inside ``{{`` in fresh kernels that have pandas, right after ``%load_ext nbchat``.

    The preload thread still imports the SDK then.
    """
    cell = "%%claude\nSum up {{ table."
    took = []
    for run in range(times):
        with kernel_of(Path(home) / f"tab-{run}") as kernel:
            kernel.run("import pandas\ntable = pandas.DataFrame({'city': ['Oslo'], 'rain': [3]})")
            kernel.run("%load_ext nbchat")
            began = time.perf_counter()
            kernel.client.complete(cell, len(cell))
            matches = kernel.client.get_shell_msg(timeout=60)["content"]["matches"]
            took.append(time.perf_counter() - began)
            assert ".city" in matches, matches
    print(f"first Tab inside {{{{: {min(took) * 1e3:.0f} to {max(took) * 1e3:.0f} ms in {times} fresh kernels")
    return Bar(f"first Tab inside {{{{, the longest of {times}", max(took) * 1e3, MOST_TAB * 1e3, " ms")


def measure_first_line(times: int, home: str) -> Bar:
    """Measure the time to the line of the first ``%%claude`` cell in fresh kernels, as *Run All* runs it.

    The kernel dates both messages. The preload thread still imports the SDK then.
    """
    took = []
    for run in range(times):
        with kernel_of(
            Path(home) / f"line-{run}", NBCHAT_ENDPOINT="http://127.0.0.1:9", NBCHAT_MAX_RETRIES="0"
        ) as kernel:
            dates: dict[str, Any] = {}
            loading, asking = kernel.start("%load_ext nbchat", "one"), kernel.start("%%claude\nHello", "two")

            def watch(message: dict[str, Any], dates: dict[str, Any] = dates, parent: str = asking) -> None:
                if message["parent_header"].get("msg_id") == parent:
                    dates.setdefault(message["msg_type"], message["header"]["date"])

            kernel.finish(loading, watch)
            kernel.finish(asking, watch)
            took.append((dates["display_data"] - dates["execute_input"]).total_seconds())
    print(f"first line of the first cell: {min(took) * 1e3:.0f} to {max(took) * 1e3:.0f} ms in {times} fresh kernels")
    return Bar(f"first line of the first cell, the longest of {times}", max(took) * 1e3, MOST_FIRST_LINE * 1e3, " ms")


LOADING = """
import time
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell()
began = time.perf_counter()
import nbchat
shell.run_line_magic("load_ext", "nbchat")
print(time.perf_counter() - began)
import os; os._exit(0)
"""


def measure_loading(times: int, home: str) -> Bar:
    """Measure ``import nbchat`` and ``%load_ext nbchat`` in fresh processes that have IPython loaded.

    The bytecode is cached in a folder of its own, because an installed package has it cached, too.
    """
    command = [sys.executable, "-c", LOADING]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env |= {"PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": f"{home}/bytecode", "IPYTHONDIR": home}
    took = []
    for run in range(times + 1):
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        if run:  # the first process compiles the bytecode, so its time does not count
            took.append(float(done.stdout.split()[-1]))
    print(f"import and %load_ext: {min(took) * 1e3:.0f} to {max(took) * 1e3:.0f} ms in {times} fresh processes")
    name = f"import and %load_ext over IPython, median of {times}"
    return Bar(name, statistics.median(took) * 1e3, MOST_IMPORT * 1e3, " ms")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3, help="runs at each size")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve()
        return 0
    with tempfile.TemporaryDirectory() as home, server() as url:
        with kernel_of(Path(home), ANTHROPIC_API_KEY="sk-none", ANTHROPIC_BASE_URL=url) as started:
            kernel = Bench(started)
            kernel.run(SDK.format(prompt="deltas=100"))
            kernel.run(OURS.format(prompt="deltas=100"))
            bars = measure_sizes(kernel, arguments.repeat)
            bars.append(measure_delay(kernel, 20))
            bars += measure_stops(kernel, 5)
        bars.append(measure_tab(3, home))
        bars.append(measure_first_line(3, home))
        bars.append(measure_loading(7, home))
    print()
    for bar in bars:
        print(bar)
    return 0 if all(bar.passed for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
