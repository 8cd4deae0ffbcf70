"""Tests of the answer in a terminal, on a small terminal that this module emulates."""

from __future__ import annotations

import io
import re
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

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
from nbchat.core.files import AnswerFile, AnswerFiles
from nbchat.core.messages import Message, TextBlock, ToolUseBlock
from nbchat.core.request import Request
from nbchat.core.response import Response
from nbchat.core.usage import Usage
from nbchat.view.html.markdown import render_markdown
from nbchat.view.rate import MAX_INTERVAL_S
from nbchat.view.terminal import TerminalView
from nbchat.view.terminal_markdown import finished
from tests.support.waiting import wait_for

REQUEST = Request("claude-x", (Message.of("user", "hi"),), 100)
_STEP = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\x1b\](.*?)(?:\x1b\\|\x07)|(.)", re.DOTALL)


class Screen(io.StringIO):
    """A terminal of 80 columns and 24 lines, with all its scrollback. Lines above the screen cannot change."""

    HEIGHT = 24

    def lines(self) -> list[str]:
        lines, row, column = [""], 0, 0
        for argument, command, _, letter in _STEP.findall(self.getvalue()):
            top = max(0, len(lines) - self.HEIGHT)
            if letter == "\n":
                row, column = row + 1, 0
                lines += [""] * (row + 1 - len(lines))
            elif letter == "\r":
                column = 0
            elif letter:
                lines[row] = lines[row].ljust(column)[:column] + letter + lines[row][column + 1 :]
                column += 1
                assert column <= 80, "rich wraps lines itself"
            elif command == "A":
                row = max(top, row - int(argument or 1))
            elif command == "K":
                lines[row] = "" if argument == "2" else lines[row][:column]
            else:
                assert command in "mhl", command
        return [line.rstrip() for line in lines]

    def text(self) -> str:
        return "\n".join(self.lines())


def terminal(**known: Any) -> tuple[TerminalView, Screen]:
    screen = Screen()
    console = Console(
        file=screen,
        force_terminal=True,
        width=80,
        height=Screen.HEIGHT,
        highlight=False,
        color_system=None,
        legacy_windows=False,
    )
    return TerminalView(console=console, **known), screen


def pipe() -> tuple[TerminalView, io.StringIO]:
    file = io.StringIO()
    return TerminalView(console=Console(file=file, force_terminal=False)), file


def stream(view: TerminalView, text: str, size: int = 5, pause: float = 0.0) -> None:
    view.begin(REQUEST)
    view.feed(BlockStart(0, TextBlock("")))
    for start in range(0, len(text), size):
        view.feed(OutputText(0, text[start : start + size]))
        time.sleep(pause)
    view.feed(BlockStop(0, TextBlock(text)))
    view.feed(ResponseChunk({"id": "m", "model": "claude-x"}, (TextBlock(text),), Usage(10, 20)))
    view.settle(Response(text=text, blocks=(TextBlock(text),)))


def wait_for_text(screen: Screen, pattern: str) -> None:
    """Wait until the other thread has drawn the text."""
    wait_for(lambda: re.search(pattern, screen.text()), said=screen.text)


def test_each_block_is_on_the_terminal_once():
    """Each block is shown once, also blocks that scrolled away, because they cannot be erased."""
    view, screen = terminal()
    text = "".join(f"Paragraph {number} says *something*.\n\n" for number in range(60))
    stream(view, text, pause=0.001)
    shown = screen.text()
    for number in range(60):
        assert shown.count(f"Paragraph {number} says something.") == 1, number
    assert "waiting" not in shown


def test_a_block_larger_than_the_screen_is_complete_at_the_end():
    """The screen shows the last lines of a growing block, and then the complete block once."""
    view, screen = terminal()
    code = "".join(f"value_{number} = {number}\n" for number in range(100))
    stream(view, f"```python\n{code}```\n", size=20, pause=0.003)
    shown = screen.text()
    for number in range(100):
        assert len(re.findall(rf"^ ?value_{number} = {number}$", shown, re.MULTILINE)) == 1, number


def test_one_blank_line_separates_blocks():
    """One blank line separates two blocks, whether they were printed together or not."""
    view, screen = terminal()
    stream(view, "One.\n\nTwo.\n\n- a\n- b\n\nThree.\n", size=3, pause=0.03)
    assert re.search(r"One\.\n\nTwo\.\n\n • a\n • b\n\nThree\.\n", screen.text())


def test_images_are_links_in_their_lines():
    """An image becomes a link in its line, with its address. An image inside a link is the text of that link."""
    view, screen = terminal()
    address = "https://example.org"
    stream(view, f"See ![a chart]({address}/c) and [more]({address}/m), or [![b]({address}/b)]({address}/l).\n")
    said = " ".join(screen.text().split())
    assert f"See [image: a chart] ({address}/c) and more ({address}/m), or [image: b] ({address}/l)." in said, said


def test_the_last_status_line_does_not_say_that_nbchat_waits():
    """The status line that stays after an early interrupt does not say that nbchat still waits."""
    view, screen = terminal()
    view.begin(REQUEST)
    wait_for_text(screen, "waiting for the first word")
    view.settle(Response("", status="interrupted"))
    assert "[interrupted]" in screen.text()
    assert "waiting" not in screen.text()


def test_the_status_line_is_below_and_its_last_state_stays():
    """The status line shows the model, the time and the tokens that the endpoint counted."""
    view, screen = terminal()
    stream(view, "Hello.")
    assert re.search(r"Hello\.\n\nclaude-x · 0 s · 20 tokens\n?$", screen.text())


def test_the_screen_is_redrawn_while_the_server_is_silent():
    """The last characters, the clock and a notice are drawn even if no event arrives."""
    view, screen = terminal()
    view.begin(REQUEST)
    wait_for_text(screen, "waiting for the first word")
    view.feed(OutputText(0, "Hel"))
    view.feed(OutputText(0, "lo"))
    view.feed(Notice("trying again in 3 s"))
    wait_for_text(screen, r"Hello\nclaude-x .* trying again in 3 s")
    view.settle(Response(text="Hello"))


def test_at_most_12_frames_a_second(monkeypatch):
    """At most 12 frames are drawn per second, at any speed of the text."""
    now, drawn = [100.0], []
    view, screen = terminal(clock=lambda: now[0])
    write = screen.write
    # One write is one frame: it erases the old lines and draws the new ones.
    monkeypatch.setattr(screen, "write", lambda text: drawn.extend(now * ("claude-x ·" in text)) or write(text))
    view.begin(REQUEST)
    for number in range(4_000):
        now[0] += 0.005
        view.feed(OutputText(0, "word " if number % 40 else "word.\n\n"))
    seconds = now[0] - 100.0
    for begin in drawn:
        assert sum(begin <= at < begin + 1.0 for at in drawn) <= 12
    assert len(drawn) > seconds / MAX_INTERVAL_S, "none of this counts where nothing is drawn"
    view.settle(Response(text="word"))


def test_thinking_tools_and_results_are_shown_in_order():
    """All parts of an answer are shown in order, also calls and results of the user's tools."""
    view, screen = terminal()
    view.begin(REQUEST)
    view.feed(Thinking(0, "I need a tool."))
    view.feed(BlockStart(1, ToolUseBlock("t1", "add", {})))
    view.feed(ToolInput(1, '{"a": 1}'))
    view.feed(BlockStop(1, ToolUseBlock("t1", "add", {"a": 1})))
    view.feed(ResponseChunk({"id": "m"}, (), Usage()))
    view.feed(ToolResult("t1", (TextBlock("three"),)))
    view.feed(OutputText(0, "It is three."))
    view.settle(Response(text="It is three.", status="interrupted"))
    shown = screen.text()
    order = [shown.index(part) for part in ("I need a tool.", "→ add(a=1)", "← three", "It is three.", "[interrupted]")]
    assert order == sorted(order)


def test_nothing_is_live_while_a_tool_runs():
    """Nothing is redrawn while a tool runs, because the tool can print or ask the user a question."""
    view, screen = terminal()
    view.begin(REQUEST)
    view.feed(OutputText(0, "I ask."))
    view.feed(ResponseChunk({"id": "m"}, (), Usage()))
    before = screen.getvalue()
    time.sleep(0.3)
    assert screen.getvalue() == before
    view.settle(Response(text="I ask."))


def test_citations_have_numbers_and_sources():
    """A source that is cited twice has one number."""
    view, screen = terminal()
    citation = {"url": "https://example.org", "title": "A page"}
    view.begin(REQUEST)
    for index in range(2):
        view.feed(OutputText(index, "Cited."))
        view.feed(BlockStop(index, TextBlock("Cited.", (citation, citation))))
    view.settle(Response(text="Cited.Cited."))
    assert "Cited. [1]Cited. [1]" in screen.text()
    assert "[1] A page https://example.org" in screen.text()


HOSTILE = "a\x1b]0;title\x07b\x1b[2Jc\x9b2Jd\u202ee\rf\x08g\x00"


@pytest.mark.parametrize("make", [terminal, pipe])
def test_no_text_of_the_model_controls_the_terminal(make):
    """No escape sequence in a text, tool call, result or citation reaches the terminal."""
    view, screen = make()
    view.begin(REQUEST)
    view.feed(Thinking(0, HOSTILE))
    view.feed(BlockStart(1, ToolUseBlock("t1", HOSTILE, {})))
    view.feed(ToolInput(1, HOSTILE))
    view.feed(BlockStop(1, ToolUseBlock("t1", HOSTILE, {"a": HOSTILE})))
    view.feed(ToolResult("t1", (TextBlock(HOSTILE),)))
    view.feed(OutputText(0, HOSTILE))
    view.feed(BlockStop(0, TextBlock(HOSTILE, ({"url": HOSTILE, "title": HOSTILE},))))
    view.settle(Response(text=HOSTILE))
    left = re.sub(r"\x1b\[[0-9;]*[mKA]|\x1b\[\?25[lh]", "", screen.getvalue())
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", left)
    assert "]0;title" in left  # the characters stay, without an effect


@pytest.mark.parametrize("make", [terminal, pipe])
def test_characters_that_act_unseen_are_replaced_and_not_removed(make):
    """A reader sees that something was there: the replacement character in streamed text, as on the page.

    Whole texts, such as arguments, have escapes, as everywhere else.
    """
    view, screen = make()
    view.begin(REQUEST)
    view.feed(OutputText(0, "a\ufffdb\x1bc\u202ed"))
    view.feed(BlockStop(0, TextBlock("")))
    view.feed(ToolResult("t1", (TextBlock("e\x1bf\u202eg"),)))
    view.settle(Response(text=""))
    assert "a\ufffdb\ufffdc\ufffdd" in screen.getvalue()
    assert r"e\x1bf\u202eg" in screen.getvalue()


def test_raw_html_is_shown_as_text():
    """HTML is shown as text, because the parser of rich would leave it out."""
    view, screen = terminal()
    stream(view, "Before\n\n<div>inside</div>\n\nafter <b>that</b>.\n")
    assert "<div>inside</div>" in screen.text()
    assert "<b>that</b>" in screen.text()


def test_links_show_their_addresses():
    """The address of a link is written out."""
    view, screen = terminal()
    stream(view, "See [the bank](https://evil.example/x).\n")
    assert "the bank (https://evil.example/x)" in screen.text()


FORMULAS = r"""The price is $20/month (in US$), and $\beta_1\,\text{qty}_i * x * y$ is \(\alpha_1 * \beta_1 *\).

$$
y_i = \beta_0 + \beta_1\,\text{qty}_i \\
z * a * b
$$

- \[ a_b * c_d * e \]

| norm | meaning |
|---|---|
| $|x_1| * |y_1|$ | abs |
"""


def test_formulas_are_written_as_they_are():
    """A terminal has no typesetting: each sign of a formula stays, and its lines stay lines."""
    view, screen = terminal()
    stream(view, FORMULAS)
    shown = " ".join(screen.text().split())
    for line in FORMULAS.splitlines():
        for part in line.strip("-| ").split(" | "):
            assert part in shown, part
    assert "\n$$\ny_i" in screen.text()
    assert "\\\\\nz * a * b\n$$" in screen.text()


def test_the_terminal_reads_the_dialect_of_the_page():
    """Fences inside a fence, pipes in code in a table, and emphasis beside CJK characters."""
    view, screen = terminal()
    stream(
        view, "```markdown\n# T\n```python\nx\n```\n**b**\n```\n\n**重要：**请\n\n|a|b|\n|-|-|\n|`c || d`|e|\n|f|g|h|\n"
    )
    shown = screen.text()
    assert re.search(r"# T\n ```python\n x\n ```\n \*\*b\*\*\n", shown)
    assert "重要：请" in shown
    assert "c || d  e" in shown
    assert "g | h" in shown


def test_a_document_in_a_fence_is_not_prose_while_it_arrives():
    """No part of it is printed before its fence has ended."""
    view, screen = terminal()
    view.begin(REQUEST)
    for letter in "```markdown\n# T\n\n```python\nx\n```\n\n# Second\n\nmore\n":
        view.feed(OutputText(0, letter))
    wait_for_text(screen, "```\n\n # Second\n\n more")
    view.feed(OutputText(0, "```\n"))
    view.settle(Response(text=""))
    assert re.search("# T\n\n ```python\n x\n ```\n\n # Second\n\n more\n", screen.text())
    assert "━" not in screen.text()


def test_without_a_terminal_the_text_is_written_unchanged():
    """Without a terminal the text is written once, without colours and status line, and ends with a newline."""
    view, file = pipe()
    stream(view, "# Head\n\nSome *text*.")
    assert file.getvalue() == "# Head\n\nSome *text*.\n"


def test_without_a_terminal_tools_have_lines_of_their_own():
    """A pipe receives a line for each call and each result."""
    view, file = pipe()
    view.begin(REQUEST)
    view.feed(OutputText(0, "I look."))
    view.feed(BlockStart(1, ToolUseBlock("t1", "look", {})))
    view.feed(ToolInput(1, '{"at": 1}'))
    view.feed(BlockStop(1, ToolUseBlock("t1", "look", {"at": 1})))
    view.feed(ToolResult("t1", (TextBlock("a cat"),)))
    view.feed(OutputText(0, "A cat."))
    view.settle(Response(text="", status="incomplete"))
    assert file.getvalue() == "I look.\n→ look(at=1)\n← a cat\nA cat.\n[the answer broke off]\n"


PIECES = st.lists(
    st.sampled_from(
        [
            "word ",
            "a\n",
            "\n",
            "\n\n",
            "# head\n",
            "- item\n",
            "  more\n",
            "```py\n",
            "x = 1\n",
            "> q\n",
            "| a |\n|-|\n",
            "===\n",
        ]
    ),
    max_size=25,
)


@settings(deadline=None, max_examples=200)
@given(PIECES, PIECES)
def test_a_finished_part_does_not_change(before, after):
    """The HTML of a finished part is the same alone and with any text after it."""
    first, rest = "".join(before), "".join(after)
    end = finished(first)
    assert render_markdown(first[:end]) + render_markdown(first[end:] + rest) == render_markdown(first + rest)


def test_only_newlines_end_a_line_of_markdown():
    """Other line separators of Unicode do not end a line, although Python splits there too."""
    text = "one\u2028two\u2028three\n\nand an open paragraph\n"
    assert text[finished(text) :] == "and an open paragraph\n"


def test_files_are_listed_below_the_answer():
    view, screen = terminal()
    view.begin(REQUEST)
    name = "a\x1b]0;title\x07.png"
    view.settle(Response("Fine.", files=AnswerFiles([AnswerFile("file_1", name, "image/png", 12_300, data=b"x")])))
    assert "- a\\x1b]0;title\\x07.png, image/png, 12.3 kB" in screen.text()
    assert "[response.files.save(folder) writes them]" in screen.text()


def test_notes_are_above_the_answer_and_the_footer_is_below():
    """What was cut has to be known before reading. A note of a later request comes with the footer."""
    for is_terminal in (True, False):
        screen = Screen()
        console = Console(file=screen, force_terminal=is_terminal, width=80, height=24)
        view = TerminalView(notes=["df: 5 of 9 rows"], console=console)
        view.begin(REQUEST)
        view.feed(OutputText(0, "The answer.\n"))
        notes = ("df: 5 of 9 rows", "a new container was used")
        blocks = (TextBlock("The answer."),)
        view.settle(Response("The answer.", blocks=blocks, notes=notes, footer="1 → 2 tokens · $0.10"))
        lines = [line.strip() for line in screen.lines() if line.strip()]
        wanted = ["[df: 5 of 9 rows]", "The answer.", "[a new container was used]", "[1 → 2 tokens · $0.10]"]
        assert lines[:4] == wanted
        assert "The answer." not in lines[4:]


def test_a_call_has_the_name_that_people_read():
    """``files.read`` and not ``files__read``, from the first piece of its arguments on."""
    screen = Screen()
    shown_name = {"files__read": "files.read"}.get
    view = TerminalView(shown_name=shown_name, console=Console(file=screen, force_terminal=True, width=80, height=24))
    view.begin(REQUEST)
    call = ToolUseBlock("t1", "files__read", {"path": "a.txt"})
    view.feed(BlockStart(0, call))
    view.feed(ToolInput(0, '{"path": '))
    view._draw()
    assert "files.read" in screen.getvalue()
    view.feed(BlockStop(0, call))
    view.settle(Response("", blocks=(call,)))
    assert "→ files.read(path='a.txt')" in screen.lines()
    assert "files__read" not in screen.getvalue()
