"""Text of others is shown without an effect on the terminal or on the order of its characters."""

from __future__ import annotations

import io
import unicodedata
import warnings
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from nbformat import NotebookNode
from rich.console import Console

from nbchat import ScriptedTransport, Session
from nbchat.command_line.demo import _print_outputs, _print_source
from nbchat.core.chunks import Notice
from nbchat.core.errors import CassetteMiss, NbchatError, RefusedError, from_api
from nbchat.core.visible import visible, visible_line
from nbchat.engine.accounting import warn
from nbchat.engine.host import PlainHost
from nbchat.notebook.next_cell import cell_source
from nbchat.notebook.tracebacks import show_traceback
from nbchat.view.status import Status
from nbchat.view.tables import text_table
from nbchat.view.terminal import TerminalView

#: The title of the window, the clipboard, a color, a right-to-left override, a C1 control.
HOSTILE = "\x1b]0;pwned\x07\x1b]52;c;cm0gLXJm\x07\x1b[31m\u202e\x9b2J"
ACTIVE = ("\x1b", "\x07", "\u202e", "\x9b")


def refusal() -> list[object]:
    return ["", {"stop_reason": "refusal", "stop_details": {"explanation": HOSTILE}}]


def is_harmless(text: str) -> bool:
    return not any(character in text for character in ACTIVE)


@pytest.mark.parametrize(
    "text",
    [
        "Grüße, 你好, 안녕, Привет, नमस्ते, שלום, مرحبا",
        "a\tb\nc",
        "👨\u200d👩\u200d👧 ❤\ufe0f 👍🏽 1\ufe0f\u20e3 🏳\ufe0f\u200d🌈",
        "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",  # the flag of Scotland
        "می\u200cخواهم",  # Persian
        "ക്\u200d",  # Malayalam
        "ភាសា\u200bខ្មែរ",  # Khmer has no spaces between words
        "葛\U000e0100",
        "\u0600\u06dd",
        "e\u0301",
        "\U0001faea",  # an emoji that Python's table of characters may not know yet
    ],
)
def test_ordinary_text_stays(text):
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2K\r", "\\x1b[2K\\r"),
        ("a\r\nb", "a\nb"),
        ("a\u200db", "a\\u200db"),
        ("\u202e\u2066\u200f", "\\u202e\\u2066\\u200f"),
        ("\ud800", "\\ud800"),
        ("\u2028", "\\u2028"),
        ("\u3164\u2800\ufeff\xad", "\\u3164\\u2800\\ufeff\\xad"),
        ("x\ufe0f\U000e0041", "x\\ufe0f\\U000e0041"),
    ],
)
def test_other_invisible_characters_are_escaped(text, shown):
    assert visible(text) == shown


@given(st.text())
@example("❤\ufe0f\u200d\u200d❤")
@example("\u061c\u200d")
@example("\r\r\n")
def test_a_second_time_changes_nothing(text):
    once = visible(text)
    assert visible(once) == once
    assert not any(unicodedata.category(one) in {"Cc", "Cs", "Zl", "Zp"} and one not in "\n\t" for one in once)


@given(st.text(), st.booleans())
def test_a_line_is_one_short_line(text, strict):
    line = visible_line(text, 40, strict=strict)
    assert len(line) <= 40
    assert len(line.splitlines()) <= 1


def test_a_long_line_keeps_its_beginning_and_its_end():
    line = visible_line("files." + "x" * 500 + ".delete")
    assert line.startswith("files.xxx")
    assert line.endswith("xxx.delete")
    assert "…" in line


def test_errors_of_others():
    """An error body of an endpoint, a refusal of a model and a recording are in messages, hints and differences."""
    for error in (
        from_api("invalid_request_error" + HOSTILE, HOSTILE, status=400, request_id=HOSTILE),
        NbchatError(HOSTILE, HOSTILE),
        CassetteMiss("missing", difference=HOSTILE),
    ):
        assert is_harmless(error.message + error.hint + str(error) + "".join(error._render_traceback_()))
    with pytest.raises(RefusedError) as caught:
        Session(ScriptedTransport(refusal())).ask("Hi")
    assert is_harmless(str(caught.value))


def test_the_status_line():
    """The endpoint names the model, and a retry notice quotes its error."""
    status = Status(0.0)
    status.model = f"claude{HOSTILE}\nsecond line"
    status.take(Notice(f"trying again: {HOSTILE}", about="retry"), 1.0)
    assert is_harmless(status.line(2.0))
    assert "\n" not in status.line(2.0)


def test_warnings_and_tables():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn(HOSTILE)
    assert is_harmless(str(caught[0].message))
    table = text_table(["name", "state"], [[f"a\n{HOSTILE}", "runs"]])
    assert is_harmless(table)
    assert len(table.splitlines()) == 2


def test_the_ending_of_a_refused_answer_on_a_terminal():
    written = io.StringIO()
    view = TerminalView(console=Console(file=written, force_terminal=False))
    session = Session(ScriptedTransport(refusal()))
    with pytest.raises(RefusedError):
        session.ask("Hi", sinks=[view])
    assert "the model refused" in written.getvalue()
    assert is_harmless(written.getvalue())


def test_the_new_cell_but_not_the_response():
    """Inside a string, the escape is the same character for Python."""
    session = Session(ScriptedTransport("```python\nname = '\u202e\x1b[8m' # 👨\u200d👩\u200d👧\n```"))
    response = session.ask("Hi")
    assert cell_source(response) == "name = '\\u202e\\x1b[8m' # 👨\u200d👩\u200d👧"
    assert "\u202e" in response.text
    assert "\x1b" in response.code


def test_the_traceback_of_a_tool_keeps_its_colors_only(capsys):
    def format_traceback(kind, error, frames):
        return ["\x1b[0;31mValueError\x1b[0m: " + str(error)]

    shell = SimpleNamespace(InteractiveTB=SimpleNamespace(structured_traceback=format_traceback))
    show_traceback(ValueError("\x1b]0;title\x07\u202e"), shell)
    assert capsys.readouterr().err == "\x1b[0;31mValueError\x1b[0m: \\x1b]0;title\\x07\\u202e\n"
    PlainHost().show_traceback(ValueError(HOSTILE))
    assert is_harmless(capsys.readouterr().err)


def test_the_outputs_of_a_demo(capsys):
    """A cell may print what a model or a tool wrote."""
    for output in (
        NotebookNode(output_type="stream", text=f"{HOSTILE}\n"),
        NotebookNode(output_type="execute_result", data={"text/plain": HOSTILE}),
    ):
        _print_outputs(NotebookNode(outputs=[output]))
    _print_source(NotebookNode(cell_type="code", source=HOSTILE))
    printed = capsys.readouterr().out
    assert printed.count("pwned") == 3
    assert is_harmless(printed)


def test_the_plain_text_of_an_answer_in_a_terminal():
    """IPython prints it for ``_claude`` on a line of its own. The Response keeps its characters."""
    response = Session(ScriptedTransport(f"An answer {HOSTILE} 👨\u200d👩")).ask("Hi")
    plain = response._repr_mimebundle_()["text/plain"]
    assert is_harmless(plain)
    assert "👨\u200d👩" in plain
    assert HOSTILE in response.text


def test_the_demo_prints_tables_and_no_answer_twice(capsys: pytest.CaptureFixture[str]):
    """A table is a display without metadata of an answer. The echo file has printed the answer."""
    table = {"output_type": "display_data", "data": {"text/plain": "turn  cell"}, "metadata": {}}
    answer = {"output_type": "display_data", "data": {"text/plain": "Hello"}, "metadata": {"nbchat": {}}}
    _print_outputs(NotebookNode(outputs=[NotebookNode(table), NotebookNode(answer)]))
    assert capsys.readouterr().out == "turn  cell\n"
