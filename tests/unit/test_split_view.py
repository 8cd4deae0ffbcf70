"""Tests of SplitView, which shows a turn with tools as a series of views."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import nbchat
from nbchat import Response, ScriptedTransport, Session
from nbchat.core.chunks import StreamChunk
from nbchat.core.request import Request
from nbchat.engine.host import PlainHost
from nbchat.view.html.render import tool_results
from nbchat.view.live import split
from nbchat.view.live.split import SplitView

#: The tool shows nothing after this mark.
SILENT = 100


class Screen:
    """A page that keeps the parts of the settled views and the text that was printed between them."""

    def __init__(self) -> None:
        self.shown: list[str] = []
        self.views = 0
        self.begun = 0
        self.watching: list[Callable[[], None]] = []

    def view(self) -> View:
        self.views += 1
        return View(self)

    def print(self, text: str) -> None:
        for act in self.watching:
            act()
        self.shown.append(f"print {text}")

    @contextlib.contextmanager
    def watch(self, act: Callable[[], None]) -> Iterator[None]:
        self.watching.append(act)
        try:
            yield
        finally:
            self.watching.remove(act)


class View:
    def __init__(self, screen: Screen) -> None:
        self.screen = screen
        self.settled = 0

    def begin(self, request: Request) -> None:
        self.screen.begun += 1

    def feed(self, chunk: StreamChunk) -> None:
        assert not self.settled, "a view that has ended is told nothing more"

    def settle(self, response: Response) -> None:
        assert not self.settled
        self.settled += 1
        results = tool_results(response.messages)
        self.screen.shown.append(" ".join(said(block, results) for block in response.blocks) or f"[{response.status}]")


def said(block: Any, results: dict[str, tuple[str, bool]]) -> str:
    data = block.to_dict()
    match data["type"]:
        case "text":
            return str(data["text"])
        case "tool_use":
            text, is_error = results.get(data["id"], ("", False))
            return f"call:{data['input'].get('n', '')}" + (f"={'error' if is_error else text}" if text else "")
        case "tool_result":
            return ("error:" if data["is_error"] else "result:") + str(data["content"][0]["text"])
    return f"<{data['type']}>"


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """Return a screen on which the final view shows the blocks between two calls."""
    screen = Screen()
    monkeypatch.setattr("nbchat.view.live.split.FinalView", lambda: View(screen))
    return screen


def call(n: int) -> dict[str, Any]:
    return {"tool": "work", "input": {"n": n}}


def ask(screen: Screen, *answers: Any, **more: Any) -> Response:
    def work(n: int) -> int:
        if n < SILENT:
            screen.print(f"{n}")
        if n == 13:
            raise KeyboardInterrupt
        return n * 10

    session = Session(ScriptedTransport(*answers))
    return session.ask("go", tools=[work], sinks=[SplitView(screen.view, screen.watch)], **more)


def test_a_turn_without_calls_is_one_view(screen: Screen):
    """The view gets the Response itself, as without SplitView."""
    ask(screen, "Hello.")
    assert screen.shown == ["Hello."]
    assert (screen.views, screen.begun) == (1, 1)


def test_a_turn_whose_tools_show_nothing_is_one_view(screen: Screen):
    """One view shows calls and results if no tool shows anything. No hook is left after the turn."""
    answer = ask(screen, ["First.", call(100), call(101)], ["Then.", call(102)], "Done.")
    assert screen.shown == ["First. call:100=1000 call:101=1010 Then. call:102=1020 Done."]
    assert answer.text
    assert (screen.views, screen.watching) == (1, [])


def test_a_view_ends_with_the_call_that_shows_something(screen: Screen):
    """A view ends with the call whose tool shows something. The later blocks of the answer are in the next view."""
    ask(screen, ["Three.", call(100), call(1), call(101)], ["Then.", call(102)], "Done.")
    assert screen.shown == [
        "Three. call:100=1000 call:1",
        "print 1",
        "result:10 call:101=1010 Then. call:102=1020 Done.",
    ]
    assert screen.watching == []


def test_a_tools_prints_are_between_its_call_and_its_result(screen: Screen):
    """The prints of a tool are shown between its call and its result, in each of two rounds."""
    ask(screen, ["First.", call(1)], ["Then.", call(2)], "Done.")
    assert screen.shown == ["First. call:1", "print 1", "result:10 Then. call:2", "print 2", "result:20 Done."]
    assert screen.views == screen.begun == 3


def test_calls_of_one_answer_each_have_their_prints(screen: Screen):
    """Each call of an answer is followed by its prints. The next view begins with the result of the call."""
    ask(screen, ["Both.", call(1), call(2)], "Done.")
    assert screen.shown == ["Both. call:1", "print 1", "result:10 call:2", "print 2", "result:20 Done."]


def test_an_interrupt_shows_every_call_and_how_it_ended(screen: Screen):
    """An interrupt shows each call once, also the interrupted call and those that never ran."""
    with pytest.raises(KeyboardInterrupt):
        ask(screen, ["Go.", call(13), call(2)], "never")
    assert screen.shown[:2] == ["Go. call:13", "print 13"]
    rest = " ".join(screen.shown[2:])
    assert rest.count("call:2") == 1
    assert rest.startswith("error:")
    assert "call:2=error" in rest
    assert "print" not in rest


def test_calls_that_are_not_run_are_shown_at_the_end(screen: Screen):
    """Calls that nbchat cannot run are shown at the end. Their tools were defined by a parameter, for example."""
    transport = ScriptedTransport(["Two calls.", call(1), call(2)])
    Session(transport).ask(
        "go", sinks=[SplitView(screen.view, screen.watch)], param='tools=[{"name": "work", "input_schema": {}}]'
    )
    assert screen.shown == ["Two calls. call:1 call:2"]


def test_an_error_in_a_later_round_shows_the_earlier_rounds(screen: Screen):
    """The view shows the result of the call, without an empty box after it."""
    from nbchat.core.errors import OverloadedError

    with pytest.raises(OverloadedError):
        ask(screen, ["Go.", call(1)], OverloadedError("busy"))
    assert screen.shown == ["Go. call:1", "print 1", "result:10"]


def test_a_question_ends_the_view_and_the_decision_goes_into_its_output(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
):
    """The card is shown before the question, and is changed by the decision. A declined call has no result below."""
    published: list[tuple[str, tuple[str, ...]]] = []

    def publish(response: Response, bundle: object, display_id: str) -> None:
        published.append((display_id, tuple(decision.text for decision in response.decisions)))

    monkeypatch.setattr(split, "publish_response", publish)
    view = SplitView(lambda: with_id(screen.view()), screen.watch)

    def answer(prompt: str) -> str:
        screen.shown.append("question")
        return "n not now"

    class AskingHost(PlainHost):
        can_ask = True  # type: ignore[assignment]

        def ask(self, prompt: str) -> str:
            return answer(prompt)

    def work() -> str:
        return "worked"

    transport = ScriptedTransport(["Hm.", {"tool": "work", "input": {}}], "Fine.")
    session = Session(transport, host=AskingHost())
    response = session.ask("go", tools=[nbchat.tool(work, approve="ask")], sinks=[view])
    assert [one.text for one in response.decisions] == ["declined: not now"]
    assert screen.shown[1] == "question"
    assert len(screen.shown) == 3
    assert "did not allow" not in " ".join(screen.shown)
    assert published == [("card", ("declined: not now",))]


def with_id(view: View) -> View:
    view.display_id = "card"  # type: ignore[attr-defined]
    return view


def test_no_output_is_updated_where_nobody_is_asked(screen: Screen, monkeypatch: pytest.MonkeyPatch):
    """An update of an output is an unknown message to nbval. So a card changes only for a question."""
    updates: list[str] = []
    monkeypatch.setattr(split, "publish_response", lambda response, bundle, display_id: updates.append(display_id))
    monkeypatch.setattr(View, "display_id", "of the view", raising=False)
    ask(screen, ["Three.", call(1), call(100), call(2)], "Done.", approve="always")
    assert screen.shown == ["Three. call:1", "print 1", "result:10 call:100=1000 call:2", "print 2", "result:20 Done."]
    assert updates == []
