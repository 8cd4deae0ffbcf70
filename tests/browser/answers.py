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
SETUP = f"""
import sys, time
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

def slowly(*blocks, delay=0.02, rest=0.0, piece=5):
    "Yield the events of an answer, with the text in pieces and a pause before the end."
    script = nbchat.ScriptedTransport(list(blocks), piece=piece)
    with script.stream(REQUEST) as events:
        for event in events:
            if event["type"] == "message_stop":
                time.sleep(rest)
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
    server.write(name, SETUP, *cells)
    page.open(name, front_end)
    page.start_all()


def wait_for(page: Page, text: str) -> None:
    """Wait until the output of the second cell contains the text."""
    said = "document.querySelectorAll('.jp-CodeCell')[1].querySelector('.jp-OutputArea')?.innerText"
    page.raw.wait_for_function(f"text => {said}.includes(text)", arg=text, polling=30, timeout=20_000)
