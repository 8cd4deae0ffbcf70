"""Tests of the live view in real front ends: growth, the final swap, selections, folds, and the saved file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from answers import LOOK, SETUP, TEXT, finish, look, release, started, wait_for
from harness import FrontEnd, JupyterServer, Page, notebook_outputs


@pytest.mark.parametrize("front_end", ["lab", "notebook"])
def test_the_answer_grows_and_its_final_output_is_there_after_a_reload(
    server: JupyterServer, page: Page, front_end: FrontEnd
):
    """The answer grows in more than three steps. Then it is one plain output, in the file and after a reload."""
    name = f"live-{front_end}.ipynb"
    answer = "slowly({'thinking': 'Let me see. ' * 9}, {'text': TEXT}, held=True)"
    started(server, page, name, f"r = ask({answer})", front_end=front_end)
    wait_for(page, "nested")
    page.screenshot(f"live-{front_end}")
    wait_for(page, "not $6.")
    assert len(page.growth()) > 6
    finish(server, page)
    page.screenshot(f"final-{front_end}")
    for _ in range(2):
        seen = look(page)
        assert (seen["live"], seen["answer"]) == (False, True)
        assert "The last paragraph costs $5 and not $6." in seen["text"]
        assert len(page.outputs()) == 1
        if not _:
            saved = page.save()
            page.reload()
    (output,) = notebook_outputs(saved)
    assert sorted(output.data) == ["text/html", "text/latex", "text/plain"]
    assert output.data["text/plain"] == TEXT
    assert "widgets" not in saved.metadata
    assert page.dialogs == []


FRAMES = f"""() => {{
    window.frames_seen = [];
    const look = {LOOK};
    const frame = () => {{ window.frames_seen.push(look()); requestAnimationFrame(frame); }};
    frame();
}}"""


FRESH = """
# VS Code sets this variable. The final output then is a new one, and not an update, which has no metadata there.
r = nbchat.Session(nbchat.ScriptedTransport({answer})).ask(
    "hi", sinks=views(get_ipython(), cell_id="a", environ=LIKE_A_PERSON, ends_fresh=lambda: True))
"""


@pytest.mark.parametrize(
    ("front_end", "ask"), [("lab", "r = ask({answer})"), ("notebook", "r = ask({answer})"), ("lab", FRESH)],
    ids=["lab", "notebook", "lab-fresh"],
)  # fmt: skip
def test_the_swap_moves_nothing_and_shows_no_blank_frame(
    server: JupyterServer, page: Page, front_end: FrontEnd, ask: str
):
    """In each frame of the swap, every part is within 4 pixels of its place, and the text is there."""
    name = f"swap-{front_end}{'-fresh' * (ask == FRESH)}.ipynb"
    answer = "slowly({'thinking': 'Hm. ' * 9}, {'text': TEXT}, delay=0.01, held=True)"
    started(server, page, name, ask.replace("{answer}", answer), front_end=front_end)
    wait_for(page, "not $6.")
    page.settle()  # the last characters are shown, and no more will come
    page.raw.evaluate(FRAMES)
    page.wait_until("() => window.frames_seen.some(frame => frame?.live)")
    finish(server, page)
    frames = [frame for frame in page.raw.evaluate("window.frames_seen") if frame]
    assert {frame["live"] for frame in frames} == {True, False}
    first = next(frame for frame in frames if frame["live"])
    for frame in frames:
        assert "not $6." in frame["text"]
        assert [part[0] for part in frame["parts"]] == [part[0] for part in first["parts"]]
        for before, now in zip(first["parts"], frame["parts"], strict=True):
            assert max(abs(one - other) for one, other in zip(before[1:], now[1:], strict=True)) <= 4, (before, now)
        assert abs(frame["output"][3] - first["output"][3]) <= 4
    page.screenshot(f"after-{name.removesuffix('.ipynb')}")
    (output,) = notebook_outputs(page.save())
    assert output.metadata["nbchat"]["status"] == "complete"


def around_the_swap(server: JupyterServer, page: Page, name: str, measure: Callable[[], Any]) -> tuple[Any, Any]:
    """Measure the live answer and the final output that replaces it, with a screenshot of each."""
    page.screenshot(f"live-{name}")
    before = measure()
    finish(server, page)
    page.screenshot(f"final-{name}")
    return before, measure()


def test_cuts_in_long_code_are_invisible(server: JupyterServer, page: Page):
    """Long code is in several widgets while it grows. The cuts are invisible, and the swap moves nothing."""
    code = "".join(f"value_{number} = compute({number})  # number {number}\n" for number in range(120))
    text = f"Before.\n\n```python\n{code}```\n\nAfter it.\n"
    started(server, page, "code.ipynb", f"r = ask(slowly({{'text': {text!r}}}, piece=20, delay=0.01, held=True))")
    wait_for(page, "After it.")
    page.settle()
    assert page.raw.locator(".nbchat-live .nbchat-went-on").count() >= 2
    seams = """() => [...document.querySelectorAll('.nbchat-went-on > pre')].map(later => {
        const all = [...document.querySelectorAll('.nbchat-live pre')];
        const earlier = all[all.indexOf(later) - 1];
        return later.getBoundingClientRect().top - earlier.getBoundingClientRect().bottom;
    })"""
    assert max(map(abs, page.raw.evaluate(seams))) < 1
    before, after = around_the_swap(server, page, "long-code", lambda: look(page))
    assert abs(after["output"][3] - before["output"][3]) <= 4
    assert max(abs(now - then) for now, then in zip(after["parts"][-1][1:], before["parts"][-1][1:], strict=True)) <= 4


def test_cuts_in_a_long_table_are_invisible(server: JupyterServer, page: Page):
    """A table in several widgets looks like one table: widths, stripes and lines. The swap moves nothing."""
    rows = "".join(f"| row {number} {'x' * (number % 7)} | {number} | `v{number}` |\n" for number in range(90))
    text = f"Before.\n\n| a name | value | code |\n|--------|------:|------|\n{rows}\n## After it\n"
    started(server, page, "table.ipynb", f"r = ask(slowly({{'text': {text!r}}}, piece=20, delay=0.01, held=True))")
    wait_for(page, "After it")
    page.settle()
    assert page.raw.locator(".nbchat-live table.nbchat-went-on").count() >= 2
    cells = """() => [...document.querySelectorAll('.jp-CodeCell')[1].querySelectorAll('td, th, h2')].map(cell => {
        const {x, y, width, height} = cell.getBoundingClientRect();
        const row = cell.closest('tr') ?? cell;
        return [[x, y, width, height], getComputedStyle(row).backgroundColor, getComputedStyle(cell).fontSize];
    })"""
    before, after = around_the_swap(server, page, "long-table", lambda: page.raw.evaluate(cells))
    assert len(after) == len(before) == 91 * 3 + 1
    for (place, *look_then), (now, *look_now) in zip(before, after, strict=True):
        assert max(abs(one - other) for one, other in zip(place, now, strict=True)) <= 4, (place, now)
        assert look_then == look_now


@pytest.mark.parametrize("blank", ["", "\n"], ids=["tight", "loose"])
def test_cuts_in_a_long_list_are_invisible(server: JupyterServer, page: Page, blank: str):
    """A list in several widgets looks like one list, with its numbers, also if its last item makes it loose."""
    items = "".join(f"{number}. item {'x' * (number % 7)}\n    - one of its own\n" for number in range(1, 90))
    text = f"Before.\n\n{items}{blank}90. the last\n\n## After it\n"
    started(server, page, "list.ipynb", f"r = ask(slowly({{'text': {text!r}}}, piece=20, delay=0.01, held=True))")
    wait_for(page, "After it")
    if blank:  # the pieces before the last one become loose
        loose = "[...document.querySelectorAll('.nbchat-live ol > li')].every(item => item.querySelector(':scope > p'))"
        page.wait_until(f"() => {loose}")
    assert page.raw.locator(".nbchat-live ol.nbchat-went-on").count() >= 2
    rectangles = """() => [...document.querySelectorAll('.jp-CodeCell')[1].querySelectorAll('li, h2')].map(item => {
        const {x, y, width, height} = item.getBoundingClientRect();
        return [x, y, width, height];
    })"""
    name = f"long-list{'-loose' * bool(blank)}"
    before, after = around_the_swap(server, page, name, lambda: page.raw.evaluate(rectangles))
    assert len(after) == len(before) == 89 * 2 + 2
    for place, now in zip(before, after, strict=True):
        assert max(abs(one - other) for one, other in zip(place, now, strict=True)) <= 4, (place, now)


def test_selected_text_stays_selected_while_the_answer_grows(server: JupyterServer, page: Page):
    """A selection in a finished part stays while the answer grows, so that the user can read and copy."""
    started(server, page, "selection.ipynb", "r = ask(slowly({'text': TEXT}, delay=0.03, held=True))")
    wait_for(page, "one\n")
    select = """() => {
        const part = [...document.querySelectorAll('.nbchat-live p')].find(p => p.innerText.startsWith('Some text'));
        getSelection().selectAllChildren(part);
        return getSelection().toString();
    }"""
    selected = page.raw.evaluate(select)
    assert selected.startswith("Some text with code")
    wait_for(page, "A quote of somebody")
    assert look(page)["live"]
    assert page.raw.evaluate("getSelection().toString()") == selected


def test_a_fold_that_was_opened_stays_open_while_it_grows(server: JupyterServer, page: Page):
    """A fold that the keyboard opened stays open while its thinking grows. A closed fold has one line."""
    # It thinks for longer than the test takes.
    started(server, page, "fold.ipynb", "r = ask(slowly({'thinking': 'Let me think. ' * 4000}, {'text': TEXT}))")
    page.raw.wait_for_selector(".nbchat-live summary")
    page.raw.wait_for_timeout(300)
    assert "Let me think." not in look(page)["text"]
    page.raw.focus(".nbchat-live summary")
    page.raw.keyboard.press("Enter")
    wait_for(page, "Let me think.")
    length = "document.querySelector('.nbchat-live').innerText.length"
    page.wait_until(f"before => {length} > before", page.raw.evaluate(length) + 100)
    page.screenshot("live-thinking-open")
    page.raw.keyboard.press("Enter")
    page.wait_until("() => !document.querySelector('.nbchat-live').innerText.includes('Let me think')")


def test_a_tool_call_shows_its_arguments_as_they_arrive_and_its_result(server: JupyterServer, page: Page):
    """The call has a fold. The output of the tool is shown below the fold, and stays."""
    tool = """
def add(a: int, b: int) -> int:
    "Adds."
    print("adding", a, b)
    return a + b
"""
    ask = f"""{tool}
import os
from nbchat.core.chunks import *
from nbchat.core.messages import *
view = views(get_ipython(), cell_id="x", environ={{}})[0]
view.begin(REQUEST)
view.feed(BlockStart(0, ToolUseBlock("t1", "add", {{}})))
for letter in '{{"a": 1, "b": 2}}':
    view.feed(ToolInput(0, letter)); time.sleep(0.02)
while not os.path.exists("arguments"):
    view.feed(ToolInput(0, " ")); time.sleep(0.05)
view.feed(BlockStop(0, ToolUseBlock("t1", "add", {{"a": 1, "b": 2}})))
result = add(1, 2)
view.feed(ToolResult("t1", (TextBlock(str(result) + " it is"),)))
hold()
from nbchat.core.response import Response
blocks = (ToolUseBlock("t1", "add", {{"a": 1, "b": 2}}), TextBlock("It is 3."))
view.settle(Response(text="It is 3.", blocks=blocks))
"""
    started(server, page, "tool.ipynb", ask)
    page.raw.wait_for_selector(".nbchat-live summary")
    page.raw.click(".nbchat-live summary")
    wait_for(page, '{"a": 1')
    # The head says what is called when the arguments are whole. The fold is open all the time.
    fold = page.raw.query_selector(".nbchat-live details")
    release(server, "arguments")
    # The line has two widgets, whose HTML has line breaks that the page does not show.
    page.wait_until(
        """() => document.querySelector('.nbchat-live .nbchat-head')?.textContent.replace(/\\s+/g, '')
            .includes('add(a=1,b=2)')"""
    )
    assert fold.evaluate("fold => fold.isConnected && fold.open")
    wait_for(page, "3 it is")
    page.screenshot("live-tool-open")
    # The second widget has no box of its own, so this measures its text.
    name, rest = page.raw.evaluate("""() => ['summary', 'span'].map(part => {
        const text = document.createRange();
        text.selectNodeContents(document.querySelector('.nbchat-live .nbchat-head ' + part));
        return text.getBoundingClientRect().toJSON();
    })""")
    assert abs(name["right"] - rest["left"]) < 2, "no gap within the name of the call"
    assert abs(name["top"] - rest["top"]) < 3
    # All of the line is the head.
    page.raw.mouse.click(rest["right"] - 2, (rest["top"] + rest["bottom"]) / 2)
    page.raw.wait_for_selector(".nbchat-live details:not([open])")
    assert "3 it is" not in look(page)["text"]
    finish(server, page)
    page.screenshot("saved-tool")
    assert "It is 3." in page.outputs()[0]
    assert "adding 1 2" in page.outputs()[1]


def test_the_stop_button_keeps_what_arrived(server: JupyterServer, page: Page):
    """The partial answer stays, with a marker, and the cell fails."""
    started(server, page, "stop.ipynb", "r = ask(slowly({'text': TEXT}, delay=0.03, held=True))")
    wait_for(page, "one\n")
    page.raw.evaluate("() => { void window.jupyterapp.commands.execute('notebook:interrupt-kernel'); }")
    page.wait_until("() => !document.querySelector('.nbchat-live')")
    page.wait_idle()
    page.screenshot("stopped")
    saved = page.save()
    final, error = notebook_outputs(saved)
    assert "[interrupted]" in final.data["text/plain"]
    assert "A list" in final.data["text/html"]
    assert error.ename == "KeyboardInterrupt"


def test_an_error_after_a_wait_leaves_only_the_error(server: JupyterServer, page: Page):
    """The box of a slow answer is removed when an error arrives."""
    late = "def late():\n    hold()\n    raise nbchat.errors.OverloadedError('no room')\n    yield"
    started(server, page, "late.ipynb", f"{late}\nr = ask(late())")
    wait_for(page, "waiting for the first word")
    finish(server, page)
    page.screenshot("error-after-wait")
    measure = "outputs => outputs.map(output => output.getBoundingClientRect().height)"
    heights = page.raw.locator(".jp-OutputArea-child").evaluate_all(measure)
    assert [height for height in heights[:-1] if height > 1] == []
    assert "no room" in page.outputs()[-1]


def test_no_widget_state_is_saved_even_if_requested(server: JupyterServer, page: Page):
    """All widgets are closed at the end of the answer, so that no state of them is saved."""
    server.write("state.ipynb", SETUP, "r = ask(slowly({'text': TEXT}, delay=0.005))")
    page.open("state.ipynb")
    page.command("@jupyter-widgets/jupyterlab-manager:saveWidgetState")
    page.run_all()
    saved = page.save()
    page.command("@jupyter-widgets/jupyterlab-manager:saveWidgetState")
    state = saved.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {}).get("state", {})
    assert state == {}
    (output,) = notebook_outputs(saved)
    assert sorted(output.data) == ["text/html", "text/latex", "text/plain"]
