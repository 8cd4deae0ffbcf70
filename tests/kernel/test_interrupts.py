"""Interrupts of a cell in a real kernel: once and twice, in the middle of an answer and at its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kernel.harness import Kernel, kernel_of

SETUP = """
%load_ext nbchat
import threading, nbchat
from nbchat.view.live import view as live
live.preload()
TEXT = "## Part\\n\\nSome **bold** words, `code` and a [link](https://example.com).\\n\\n" * 800
get_ipython().nbchat.session.endpoints._fixed = nbchat.ScriptedTransport(TEXT, piece=200, delay=0.001, repeat=True)

def threads():
    names = (one.name for one in threading.enumerate())
    return sorted(name for name in names if name.startswith("nbchat") and name != "nbchat-preload")

def open_widgets():
    from ipywidgets.widgets import widget
    return len(widget._instances)
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with kernel_of(tmp_path_factory.mktemp("interrupts")) as kernel:
        kernel.run(SETUP)
        kernel.run("%%claude\nwarm up", "warm")
        yield kernel


def interrupted(kernel: Kernel, delays: list[float]) -> Any:
    """Run a cell that answers with 60 kB, and interrupt it after each of the delays, in seconds."""
    parent = kernel.start("%%claude story <<\nTell me a story", "a-cell")
    began = time.monotonic()

    def stop() -> None:
        for delay in delays:
            time.sleep(max(0.0, began + delay - time.monotonic()))
            kernel.interrupt()

    presses = threading.Thread(target=stop)
    presses.start()
    # A press that falls between the end of the cell and its reply costs the reply: ipykernel catches it, and goes on.
    cell = kernel.finish(parent, must_reply=False)
    presses.join()
    kernel.run("pass")  # an interrupt that came after the cell has passed
    return cell


#: An undisturbed answer takes about half a second here; a busy machine only shifts where a press falls.
PRESSES = [[0.3], [0.45], [0.6], [0.3, 0.32], [0.3, 0.45], [0.45, 0.55], [0.5, 0.52, 0.54]]


@pytest.mark.parametrize("delays", PRESSES, ids=str)
def test_an_interrupt_leaves_a_plain_output_and_the_answer_bound(kernel: Kernel, delays: list[float]):
    """However often the user presses, the output is the answer as far as it came, without any widget."""
    kernel.run("story = None")
    cell = interrupted(kernel, delays)
    answers = [output for output in cell.outputs if output.output_type == "display_data"]
    # A press while the answer is drawn leaves the text, without LaTeX.
    assert all(sorted(set(output.data) - {"text/latex"}) == ["text/html", "text/plain"] for output in answers)
    status, length, same = kernel.value(
        "(story.status, len(story.text), story is _claude) if story is not None else ('', 0, True)"
    )
    assert same
    # An interrupt before the first word still shows that the answer was interrupted.
    assert len(answers) == (status != "")
    if answers:
        assert len(answers[0].data["text/plain"]) >= length
    assert status in ("interrupted", "complete", "")
    assert kernel.value("threads()") == []
    assert kernel.value("open_widgets()") == 0
    assert kernel.value("[one.name for one in get_ipython().nbchat.session.recording.journals._files()]") == []


#: Replaces a function of the views by one that presses ■ and then goes on: with long work, or as before.
PRESSING = """
import os, signal, time
from nbchat.view import final

def pressing(module, name, then):
    original = getattr(module, name)
    def press(*args, **fields):
        setattr(module, name, original)
        os.kill(os.getpid(), signal.SIGINT)
        return then(*args, **fields) if then else original(*args, **fields)
    setattr(module, name, press)
"""
#: Where the user presses while an answer settles, and if the drawing is lost. Drawing takes 40 s here.
SETTLING = {
    "drawing": ("final, 'render_response', lambda response: time.sleep(40)", True),
    "publishing": ("final, 'publish_response', None", False),
    "closing": ("widgets.WidgetBox, 'close', None", False),
    "recording": ("Asking, '_record', None", False),
    "responding": ("Asking, 'settle', None", False),
    "booking": ("type(get_ipython().nbchat.session.accounting), 'write', None", False),
}


@pytest.mark.parametrize("place", SETTLING)
def test_an_interrupt_at_the_end_stops_the_drawing_only(kernel: Kernel, place: str):
    """The answer is complete, bound and booked. Its output is static: plain text if its drawing was stopped."""
    call, is_plain = SETTLING[place]
    kernel.run(PRESSING)
    kernel.run(
        "from nbchat.engine.asking import Asking\nfrom nbchat.view.live import widgets\nstory = None\n"
        "rows = len(get_ipython().nbchat.session.accounting.run)"
    )
    kernel.run(f"pressing({call})")
    cell = kernel.run("%%claude story <<\nTell me a story", fails=True)
    assert cell.error == ["KeyboardInterrupt: stopped; the answer up to here is in story"]
    (answer,) = [output for output in cell.outputs if output.output_type == "display_data"]
    assert sorted(answer.data) == ["text/html", *["text/latex"] * (not is_plain), "text/plain"]
    assert ("<pre>## Part" in answer.data["text/html"]) == is_plain
    assert ("%nbchat show" in answer.data["text/plain"]) == is_plain
    assert kernel.value("[story.status, story.text == TEXT, story is _claude]") == ["complete", True, True]
    assert kernel.value("len(get_ipython().nbchat.session.accounting.run) - rows") == 1
    assert kernel.value("threads()") == []
    assert kernel.value("open_widgets()") == 0
    assert kernel.value("[one.name for one in get_ipython().nbchat.session.recording.journals._files()]") == []
