"""The live view: what it sends, and what is left when it ends."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import ipywidgets
import pytest

from nbchat.core.chunks import (
    BlockStart,
    BlockStop,
    Notice,
    OutputText,
    ResponseChunk,
    Thinking,
    ToolInput,
    ToolResult,
)
from nbchat.core.messages import Message, OpaqueBlock, TextBlock, ThinkingBlock, ToolUseBlock
from nbchat.core.request import Request
from nbchat.core.response import Accumulator, Response
from nbchat.core.usage import Usage
from nbchat.notebook.host import ShellHost
from nbchat.notebook.views import views
from nbchat.view import final
from nbchat.view.final import FinalView, output_metadata
from nbchat.view.html import highlight
from nbchat.view.html.budget import MAX_FORMULAS, MAX_SLOW_BLOCKS
from nbchat.view.live import view as live
from nbchat.view.live.parts import Parts
from nbchat.view.live.view import LiveView
from nbchat.view.live.widgets import WIDGET_VIEW
from nbchat.view.status import Status
from tests.support.waiting import wait_for

REQUEST = Request("claude-x", (Message.of("user", "hi"),), 100)


class Page:
    """A front end: it holds the models of widgets and the outputs of a cell."""

    def __init__(self) -> None:
        self.log: list[tuple[str, Any]] = []
        self.models: dict[str, dict[str, Any]] = {}
        self.outputs: list[dict[str, Any]] = []
        self._places: dict[str, int] = {}

    def comm(self, **opened: Any) -> Any:
        """Stands in for comm.create_comm."""
        comm_id = f"model-{len(self.log)}"
        self.log.append(("comm_open", opened["data"]))
        self.models[comm_id] = dict(opened["data"]["state"])

        def send(data: dict[str, Any], **_: Any) -> None:
            self.log.append(("comm_msg", data))
            self.models[comm_id].update(data["state"])

        def close(**_: Any) -> None:
            self.log.append(("comm_close", comm_id))
            del self.models[comm_id]

        return SimpleNamespace(comm_id=comm_id, kernel=object(), send=send, close=close, on_msg=lambda callback: None)

    def publish(
        self, data: dict[str, Any], metadata: Any = None, *, transient: Any = None, update: bool = False
    ) -> None:
        """Stands in for publish_display_data."""
        self.log.append(("update_display_data" if update else "display_data", data))
        output = {"data": data, "metadata": metadata or {}}
        display_id = (transient or {}).get("display_id")
        if update:
            self.outputs[self._places[display_id]] = output
        else:
            self._places[display_id] = len(self.outputs)
            self.outputs.append(output)

    def html(self) -> str:
        """The HTML of the box that is shown."""
        (output,) = (output for output in self.outputs if WIDGET_VIEW in output["data"])
        return self._html(output["data"][WIDGET_VIEW]["model_id"])

    def _html(self, model_id: str) -> str:
        model = self.models[model_id]
        if "value" in model:
            return str(model["value"])
        inner = "".join(self._html(child.removeprefix("IPY_MODEL_")) for child in model["children"])
        return f'<box class="{" ".join(model["_dom_classes"])}">{inner}</box>'

    def wait_for(self, text: str) -> str:
        """The HTML, once the text is in it."""
        wait_for(
            lambda: any(WIDGET_VIEW in output["data"] for output in self.outputs) and text in self.html(),
            said=lambda: f"{text!r} is not shown: {self.outputs}, {self.models}",
        )
        return self.html()


@pytest.fixture
def page(monkeypatch) -> Page:
    page = Page()
    monkeypatch.setattr(ipywidgets.widgets.widget.comm, "create_comm", page.comm)
    monkeypatch.setattr("IPython.display.publish_display_data", page.publish)
    return page


def answer(text: str = "Hello *you*.\n\nBye.", **known: Any) -> Response:
    return Response(text=text, blocks=(TextBlock(text),), id="msg_1", model="claude-x", digest="d" * 64, **known)


def begun(**known: Any) -> LiveView:
    view = LiveView(**known)
    view.begin(REQUEST)
    return view


def test_text_is_shown_while_it_arrives(page):
    """The last characters do not wait for more text, even if no more text comes."""
    view = begun()
    view.feed(OutputText(0, "Hello *you*"))
    assert "<p>Hello <em>you</em></p>" in page.wait_for("Hello")
    view.feed(OutputText(0, ".\n\nBy"))
    view.feed(OutputText(0, "e"))
    page.wait_for("<p>Bye</p>")
    view.settle(answer())


def test_the_parts_of_an_answer_share_one_budget_of_formulas(page):
    """The live view shows as many formulas of an answer as the final output does."""
    some = "$a$ " * 600
    view = begun()
    view.feed(Thinking(0, some))
    view.feed(OutputText(1, some + "end"))
    shown = page.wait_for("end</p>")
    view.settle(Response(text=some, blocks=(ThinkingBlock(some), TextBlock(some + "end")), id="msg_1"))
    (final,) = page.outputs
    assert shown.count("mathjax_process") == final["data"]["text/html"].count("mathjax_process") == MAX_FORMULAS


def test_the_end_is_one_plain_output_where_the_box_was(page):
    """No widget is left, in the output or anywhere, and what else was printed stays in its place."""
    view = begun()
    view.feed(OutputText(0, "Hello"))
    page.wait_for("Hello")
    page.publish({"text/plain": "a tool's print"})
    view.settle(answer())
    final, other = page.outputs
    assert set(final["data"]) == {"text/html", "text/latex", "text/plain"}
    assert final["data"]["text/plain"] == "Hello *you*.\n\nBye."
    assert other["data"] == {"text/plain": "a tool's print"}
    assert page.models == {}


def test_an_answer_that_is_there_at_once_is_shown_without_a_box(page):
    """The box appears with the first word, or after a quarter of a second without one."""
    view = begun()
    view.settle(answer())
    assert [kind for kind, _ in page.log if kind.endswith("display_data")] == ["display_data"]
    assert page.outputs[0]["data"]["text/plain"] == "Hello *you*.\n\nBye."
    assert page.models == {}


def test_the_box_says_that_it_waits_for_the_first_word(page):
    """The user sees that the server takes its time."""
    view = begun()
    page.wait_for("waiting for the first word")
    view.feed(Notice("the endpoint is busy; trying again in 3 s"))
    page.wait_for("trying again in 3 s")
    view.settle(answer())


def test_an_error_before_the_first_word_leaves_no_box(page):
    """The error itself says what happened; nothing of the view stays."""
    view = begun()
    view.settle(Response(text="", status="error"))
    assert page.outputs == []
    view = begun()
    page.wait_for("waiting")
    view.settle(Response(text="", status="error"))
    assert [output["data"] for output in page.outputs] == [{}]
    assert page.models == {}


def test_an_interrupt_shows_what_arrived_and_says_so(page):
    """Marked as interrupted, in the HTML and in the text."""
    view = begun()
    view.feed(OutputText(0, "Hel"))
    view.settle(answer("Hel", status="interrupted"))
    (final,) = page.outputs
    assert "interrupted" in final["data"]["text/html"]
    assert "interrupted" in final["data"]["text/plain"]
    assert final["metadata"]["nbchat"]["status"] == "interrupted"


def test_thinking_and_tools_are_in_folds(page):
    """No head is sent again, because an open fold would close. The arguments of a call come after its head."""
    view = begun()
    view.feed(BlockStart(0, ThinkingBlock("")))
    view.feed(Thinking(0, "Let me think."))
    view.feed(BlockStop(0, ThinkingBlock("Let me think.", "sig")))
    view.feed(BlockStart(1, ToolUseBlock("t1", "add", {})))
    view.feed(ToolInput(1, '{"a": 1, '))
    page.wait_for("{&quot;a&quot;: 1, ")
    view.feed(ToolInput(1, '"b": 2}'))
    view.feed(BlockStop(1, ToolUseBlock("t1", "add", {"a": 1, "b": 2})))
    view.feed(ResponseChunk({"id": "m"}, (), Usage()))
    view.feed(ToolResult("t1", (TextBlock("3 it is"),)))
    html = page.wait_for("3 it is")
    assert html.count("nbchat-fold") >= 2
    order = [
        html.index(part)
        for part in (
            "Thinking</summary>",
            "Let me think.",
            "Tool call: add</summary>",
            "(a=1, b=2)</span>",
            '"b"<span class="p">: ',
            "3 it is",
        )
    ]
    assert order == sorted(order)
    view.feed(OutputText(0, "Three."))
    html = page.wait_for("Three.")
    assert html.index("3 it is") < html.index("Three.")
    heads = [data for kind, data in page.log if kind == "comm_open" and "<summary>" in str(data)]
    updated = [data for kind, data in page.log if kind == "comm_msg" and "<summary>" in str(data)]
    assert (len(heads), len(updated)) == (2, 0)
    view.settle(answer())


def test_the_head_of_a_call_has_the_name_that_people_read(page):
    """While the arguments arrive and after that: ``files.read`` and not ``files__read``."""
    view = begun(shown_name=lambda name: {"files__read": "files.read"}.get(name, name))
    view.feed(BlockStart(0, ToolUseBlock("t1", "files__read", {})))
    view.feed(ToolInput(0, '{"path": '))
    assert "Tool call: files.read</summary>" in page.wait_for("&quot;path&quot;")
    view.feed(BlockStop(0, ToolUseBlock("t1", "files__read", {"path": "a.txt"})))
    assert "files__read" not in page.wait_for("(path=")
    view.settle(answer())


def test_the_result_of_a_server_tool_joins_its_call(page):
    """A web search's results are in the fold of the search."""
    view = begun()
    view.feed(BlockStart(0, ToolUseBlock("s1", "web_search", {}, type="server_tool_use")))
    view.feed(ToolInput(0, '{"query": "x"}'))
    found = {"type": "web_search_result", "title": "A page", "url": "https://example.org/a"}
    result = OpaqueBlock({"type": "web_search_tool_result", "tool_use_id": "s1", "content": [found]})
    view.feed(BlockStart(1, result))
    view.feed(BlockStop(1, result))
    html = page.wait_for("A page")
    assert html.index("&quot;query&quot;") < html.index("A page")
    view.settle(answer())


def test_citations_are_marked_and_unknown_blocks_shown(page):
    """A cited text has the number of its source. A block of an unknown type shows its data."""
    view = begun()
    citation = {"type": "web_search_result_location", "url": "https://example.org", "title": "Ex", "cited_text": "q"}
    view.feed(OutputText(0, "Cited"))
    view.feed(BlockStop(0, TextBlock("Cited", (citation,))))
    view.feed(OutputText(1, " and on."))
    page.wait_for("[1]")
    block = OpaqueBlock({"type": "hologram", "beam": "blue"})
    view.feed(BlockStart(2, block))
    view.feed(BlockStop(2, block))
    page.wait_for("blue")
    view.settle(answer())


def test_the_live_html_is_as_safe_as_the_final(page):
    """Hostile text in every part comes out inert."""
    view = begun()
    hostile = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    view.feed(BlockStart(0, ToolUseBlock("t1", hostile, {})))
    view.feed(ToolInput(0, hostile))
    view.feed(ToolResult("t1", (TextBlock(hostile),)))
    view.feed(Thinking(1, hostile))
    view.feed(OutputText(2, hostile))
    view.feed(Notice(hostile))
    page.wait_for("&lt;img")
    time.sleep(0.3)
    html = page.html()
    assert "<img" not in html
    assert "<script" not in html
    view.settle(answer())


def test_messages_stay_below_25_a_second_and_widgets_few(page):
    """10,000 deltas, as fast as the machine can feed them."""
    view = begun()
    began = time.monotonic()
    for number in range(10_000):
        view.feed(OutputText(0, "word " if number % 40 else "word.\n\n"))
    view.settle(answer())
    seconds = time.monotonic() - began
    assert len([kind for kind, _ in page.log if kind != "comm_close"]) <= 25 * seconds + 30
    assert page.models == {}


def test_no_message_grows_with_the_answer(page):
    """Neither text nor lists of widgets: one message is never larger than a segment and a tail."""
    view = begun()
    for number in range(150):
        view.feed(OutputText(0, f"Paragraph number {number} of an answer that is long.\n\n"))
        time.sleep(0.01)
    view.settle(answer())
    largest = max(len(str(data)) for kind, data in page.log if kind.startswith("comm"))
    assert largest < 6_000


def test_a_view_that_fails_still_ends_in_the_answer(page, monkeypatch, caplog):
    """The answer outranks the live view."""
    monkeypatch.setattr(live.WidgetBox, "segment", lambda *_: 1 / 0)
    view = begun()
    view.feed(OutputText(0, "Hello"))
    wait_for(lambda: "the live view failed" in caplog.text)
    view.feed(OutputText(0, " you"))
    view.settle(answer())
    assert page.outputs[-1]["data"]["text/plain"] == "Hello *you*.\n\nBye."
    assert page.models == {}


def test_a_renderer_that_fails_still_shows_the_text(page, monkeypatch):
    """Escaped, but not rendered."""

    def fail(response: Response) -> Any:
        raise ValueError("a fault")

    monkeypatch.setattr(final, "render_response", fail)
    FinalView().settle(answer("<b>bold</b>"))
    assert page.outputs[0]["data"]["text/html"] == "<pre>&lt;b&gt;bold&lt;/b&gt;</pre>"


def test_the_batch_view_shows_the_final_output_only(page):
    """One display_data, no updates: strict nbval compares it."""
    view = FinalView()
    accumulator = Accumulator(Message.of("user", "hi"), time.monotonic)
    for chunk in (OutputText(0, "Hello"), ResponseChunk({"id": "m"}, (TextBlock("Hello"),), Usage(1, 2))):
        view.feed(chunk)
        accumulator.feed(chunk)
    view.settle(accumulator.respond("complete"))
    assert [kind for kind, _ in page.log] == ["display_data"]


def test_metadata_has_no_prompt_and_nothing_that_changes_from_run_to_run():
    """Id, model, usage, cost and digest; no times."""
    response = answer(usage=Usage(3, 5), cost=0.25, prompt="the secret prompt", duration=1.5)
    assert output_metadata(response) == {
        "nbchat": {
            "id": "msg_1",
            "model": "claude-x",
            "status": "complete",
            "usage": response.usage.to_dict(),
            "cost": 0.25,
            "digest": "d" * 64,
        }
    }


KERNEL = SimpleNamespace(kernel=object())


@pytest.mark.parametrize(
    ("shell", "given", "environ", "kind"),
    [
        (KERNEL, {"cell_id": "a"}, {}, "LiveView"),
        (KERNEL, {"cell_id": None}, {}, "FinalView"),
        (KERNEL, {"cell_id": "a"}, {"PYTEST_VERSION": "9"}, "FinalView"),
        (KERNEL, {"cell_id": "a"}, {"PYTEST_CURRENT_TEST": "x"}, "FinalView"),
        (SimpleNamespace(), {"cell_id": None}, {}, "TerminalView"),
        (None, {"cell_id": None}, {}, "TerminalView"),
    ],
)
def test_the_view_fits_the_place(shell, given, environ, kind):
    """With a cell id and without pytest it is live. Else it is the final output alone, or the terminal."""
    (view,) = views(shell, environ=environ, **given)
    assert type(view).__name__ == kind


def test_quiet_shows_nothing():
    """There is no view at all."""
    assert views(KERNEL, cell_id="a", quiet=True, environ={}) == ()


def test_the_cell_id_is_found_where_front_ends_put_it():
    """JupyterLab, Notebook and VS Code send it in one field, Colab in another, nbclient in none."""

    def shell(metadata: dict[str, Any]) -> Any:
        return SimpleNamespace(kernel=SimpleNamespace(get_parent=lambda channel: {"metadata": metadata}))

    assert ShellHost(shell({"cellId": "a"})).cell_id() == "a"
    assert ShellHost(shell({"colab": {"cell_id": "b"}})).cell_id() == "b"
    assert ShellHost(shell({})).cell_id() is None
    assert ShellHost(SimpleNamespace()).cell_id() is None


def parts_on(lines: list[str], values: list[str]) -> Any:
    """Return the parts of an answer on widgets that only keep what they are sent."""
    column = SimpleNamespace(add=lambda value: values.append(value) or value)
    widgets = SimpleNamespace(
        sent=0,
        segments=0,
        show=lambda: None,
        set_status=lambda line, announced: lines.append(line),
        column=column,
        fold=lambda head, open=False: ("head", column),
        set=lambda widget, value: values.append(value),
        set_more=lambda widget, text: values.append(text),
    )
    status = Status(0.0)
    status.begin(REQUEST)
    return Parts(widgets, status)


def test_the_code_of_calls_is_in_the_budget_of_slow_blocks(monkeypatch: pytest.MonkeyPatch):
    """Text, thinking and the code of calls share one budget, live and in the final output."""
    tried: list[str] = []

    def slow(source: str, name: str) -> str:
        if name == "json":
            return source
        tried.append(name)
        raise highlight.TooSlowError

    monkeypatch.setattr(highlight, "_coloured", slow)
    calls = [ToolUseBlock(f"t{n}", "run_python", {"code": "x = 1", "command": "ls"}) for n in range(9)]
    blocks = (TextBlock("```python\nx = 1\n```\n"), *calls)
    parts = parts_on([], values := [])
    pending = deque[Any]([OutputText(0, blocks[0].text)])
    for n, call in enumerate(calls, 1):
        pending += [BlockStart(n, replace(call, input={})), ToolInput(n, call.arguments), BlockStop(n, call)]
    while pending:
        parts.take(pending, 1.0)
        parts.show(1.0)
    assert len(tried) == MAX_SLOW_BLOCKS
    assert sum(value.count("x = 1") for value in values) >= 9
    tried.clear()
    html = final.final_bundle(Response(blocks[0].text, blocks=blocks))["text/html"]
    assert len(tried) == MAX_SLOW_BLOCKS
    assert html.count("x = 1") == 19  # with the heads of the calls


def test_an_update_takes_what_it_shows_and_leaves_the_rest():
    """A chunk that is too long for one update is taken in parts, and nothing is copied, lost or shown twice."""
    parts = parts_on([], [])
    pending = deque[Any]([OutputText(0, "a" * 4_000), OutputText(0, "b" * 9_000), OutputText(0, "c")])
    rests = []
    while pending:
        is_full = parts.take(pending, 1.0)
        rests.append((is_full, sum(len(chunk.text) for chunk in pending)))
    assert rests == [(True, 7_001), (True, 1_001), (False, 0)]
    assert parts.characters == 13_001


def test_the_status_line_changes_with_the_first_word():
    """The line does not wait until a second is over."""
    lines: list[str] = []
    parts = parts_on(lines, [])
    parts.show(0.0)
    assert lines == ["claude-x · 0 s · waiting for the first word"]
    parts.take(deque([OutputText(0, "Hello")]), 0.1)
    parts.show(0.1)
    assert lines[1:] == ["claude-x · 0 s · ~2 tokens"]
    parts.take(deque([OutputText(0, " and more")]), 0.2)
    parts.show(0.2)
    assert len(lines) == 2
