"""Answers for the browser tests: a notebook whose second cell asks, and functions that read its page."""

from __future__ import annotations

from typing import Any

from harness import ROOT, FrontEnd, JupyterServer, Page

TEXT = r"""# A heading first

Some *text* with `code`, **bold** and a [link](https://example.org/a). It goes on for a while so that the
paragraph is longer than one line on the page, as answers of models are as a rule.

## A list

- one
- two with $x^2 + y^2 = z^2$ in it
  - nested

1. first
2. second

```python
def f(x: int) -> str:
    return f"{x} and more"  # comment
```

| name | value |
|------|------:|
| a    | 1     |

> A quote of somebody.

$$\int_0^\infty e^{-x^2}\,dx = \frac{\sqrt{\pi}}{2}$$

### Another heading

The last paragraph costs $5 and not $6.
"""
#: A cell waits at these gates until a test releases them.
GATES = ("end", "arguments")
SETUP = f"""
import os, sys, time
sys.path.insert(0, {str(ROOT)!r})
import nbchat
from nbchat.core.parser import events_of
from nbchat.notebook.host import ShellHost
from nbchat.notebook.views import views
from nbchat.view.live import view as live

live.preload()

def ask(answer, **how):
    session = nbchat.Session(nbchat.ScriptedTransport(answer, **how))
    shell = get_ipython()
    # The kernel of a user does not have the environment of pytest.
    return session.ask("hi", sinks=views(shell, cell_id=ShellHost(shell).cell_id(), environ=LIKE_A_PERSON))

LIKE_A_PERSON = {{}}
TEXT = {TEXT!r}

def hold(gate="end"):
    "Wait until the test releases this gate. So no test depends on how fast the machine is."
    while not os.path.exists(gate):
        time.sleep(0.02)

def slowly(*blocks, delay=0.02, held=False, piece=5):
    "Yield the events of an answer, with the text in pieces. If it is held, it ends when the test releases it."
    script = nbchat.ScriptedTransport(list(blocks), piece=piece)
    with script.stream(REQUEST) as events:
        for event in events:
            if held and event["type"] == "message_stop":
                hold()
            time.sleep(delay)
            yield event

from nbchat.core.messages import Message
from nbchat.core.request import Request
REQUEST = Request("scripted", (Message.of("user", "hi"),), 100)
"""
#: Reads the first output of the second cell: its kind, the places of its parts, and its text.
LOOK = """() => {
    const output = document.querySelectorAll('.jp-CodeCell')[1].querySelector('.jp-OutputArea-output');
    if (!output) return null;
    const place = element => {
        const {x, y, width, height} = element.getBoundingClientRect();
        return [x, y, width, height];
    };
    const parts = [...output.querySelectorAll('h1,h2,h3,p,ul,ol,pre,table,blockquote,details,mjx-container')];
    return {
        live: !!output.querySelector('.nbchat-live'),
        answer: !!output.querySelector('.nbchat'),
        output: place(output),
        parts: parts.filter(part => part.checkVisibility()).map(part => [part.tagName, ...place(part)]),
        text: output.innerText,
    };
}"""


def look(page: Page) -> dict[str, Any]:
    seen: dict[str, Any] | None = page.raw.evaluate(LOOK)
    return seen or {"live": False, "answer": False, "parts": [], "text": ""}


def started(server: JupyterServer, page: Page, name: str, *cells: str, front_end: FrontEnd = "lab") -> None:
    """Open and run a notebook whose second cell asks. Do not wait for the answer."""
    for gate in GATES:
        (server.root / gate).unlink(missing_ok=True)
    server.write(name, SETUP, *cells)
    page.open(name, front_end)
    page.watch_growth()
    page.start_all()


def release(server: JupyterServer, gate: str) -> None:
    """Let the cell go on that waits at this gate."""
    assert gate in GATES
    (server.root / gate).touch()


def finish(server: JupyterServer, page: Page) -> None:
    """Let a held answer end, and wait until its final output has replaced the live view."""
    release(server, "end")
    page.wait_until("() => !document.querySelector('.nbchat-live')")
    page.wait_idle()


def wait_for(page: Page, text: str) -> None:
    """Wait until the output of the second cell contains the text."""
    said = "document.querySelectorAll('.jp-CodeCell')[1].querySelector('.jp-OutputArea')?.innerText"
    page.wait_until(f"text => {said}.includes(text)", text)
