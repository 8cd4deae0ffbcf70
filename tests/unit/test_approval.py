"""Approval before a tool runs, and the toolbox that asks and calls."""

from __future__ import annotations

import dataclasses
import json
import unicodedata
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbchat.context.tool_results import tool_content
from nbchat.core.errors import OptionError
from nbchat.core.messages import ToolUseBlock
from nbchat.tools.approval import Approval, describe_call, visible
from nbchat.tools.functions import FunctionTool
from nbchat.tools.toolbox import RESULT_CHARACTERS, Outcome, Tool, Toolbox


@dataclasses.dataclass
class Probe:
    """A tool that records the arguments of its calls."""

    name: str = "files__read"
    shown: str = "files.read"
    approve: str | None = None
    trusted: bool = False
    code: str | None = None
    calls: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def definition(self) -> dict[str, Any]:
        return {"name": self.name, "input_schema": {"type": "object", "properties": {}}}

    def call(self, arguments: Mapping[str, Any]) -> Outcome:
        self.calls.append(dict(arguments))
        return Outcome(({"type": "text", "text": "done"},))


class Keyboard:
    """A user who types these lines and then leaves."""

    def __init__(self, *lines: str) -> None:
        self.lines, self.prompts = list(lines), []

    def __call__(self, prompt: str) -> str:
        self.prompts.append(prompt)
        if not self.lines:
            raise EOFError
        return self.lines.pop(0)


def call(name: str = "files__read", **arguments: Any) -> ToolUseBlock:
    return ToolUseBlock("toolu_1", name, arguments)


def test_the_probe_is_a_tool():
    assert isinstance(Probe(), Tool)


@pytest.mark.parametrize(
    ("own", "turn", "trusted", "policy"),
    [
        (None, None, True, "always"),
        (None, None, False, "ask"),
        (None, "always", False, "always"),
        (None, "ask", True, "ask"),
        ("ask", "always", True, "ask"),
        ("never", "always", True, "never"),
        ("always", "never", False, "always"),
    ],
)
def test_the_policy_of_the_tool_precedes_that_of_the_turn(own, turn, trusted, policy):
    assert Approval(turn).policy_for(Probe(approve=own, trusted=trusted)) == policy


def test_an_unknown_policy_is_refused():
    with pytest.raises(OptionError, match="--approve perhaps"):
        Approval("perhaps")


def test_a_function_that_the_user_named_runs_without_asking():
    keyboard = Keyboard()
    box = Toolbox([FunctionTool(abs, "abs", tool_content)], Approval(None, keyboard))
    assert box.run(call("abs", x=-3)).text == "3"
    assert keyboard.prompts == []


@pytest.mark.parametrize("word", ["y", "yes", "Y", " yes "])
def test_yes_runs_once_and_asks_again_the_next_time(word):
    tool, keyboard = Probe(), Keyboard(word, "n")
    box = Toolbox([tool], Approval(None, keyboard))
    assert box.run(call(path="a.txt")) == Outcome(({"type": "text", "text": "done"},))
    assert tool.calls == [{"path": "a.txt"}]
    assert "files.read" in keyboard.prompts[0]
    assert 'path = "a.txt"' in keyboard.prompts[0]
    assert box.run(call(path="b.txt")).is_error
    assert len(tool.calls) == 1


@pytest.mark.parametrize("word", ["n", "no", ""])
def test_no_is_an_error_result(word):
    tool = Probe()
    outcome = Toolbox([tool], Approval(None, Keyboard(word))).run(call())
    assert outcome.is_error
    assert outcome.text == "The user did not allow this call of files.read."
    assert tool.calls == []


def test_a_remark_after_no_reaches_the_model():
    outcome = Toolbox([Probe()], Approval(None, Keyboard("no, use b.txt instead"))).run(call())
    assert outcome.text == "The user did not allow this call of files.read. They say: use b.txt instead"


def test_always_holds_for_the_session_and_for_this_tool_only():
    first, second, keyboard, remembered = Probe(), Probe("other", "other"), Keyboard("always", "n"), set()
    box = Toolbox([first, second], Approval(None, keyboard, remembered=remembered))
    assert not box.run(call()).is_error
    assert not box.run(call()).is_error
    assert box.run(call("other")).is_error
    assert len(keyboard.prompts) == 2
    assert not Toolbox([first], Approval(None, keyboard, remembered=remembered)).run(call()).is_error
    assert Toolbox([first], Approval("never", keyboard, remembered=remembered)).run(call()).is_error


def test_edit_takes_new_arguments_and_tells_the_model():
    tool, keyboard = Probe(), Keyboard("e", '{"path": "b.txt"}', "y")
    outcome = Toolbox([tool], Approval(None, keyboard)).run(call(path="a.txt"))
    assert tool.calls == [{"path": "b.txt"}]
    assert not outcome.is_error
    assert outcome.content[0]["text"] == '(The user changed the arguments before it ran: {"path": "b.txt"})'
    assert outcome.content[1]["text"] == "done"
    assert 'path = "b.txt"' in keyboard.prompts[-1]


def test_an_edit_that_is_not_a_json_object_changes_nothing():
    tool, keyboard = Probe(), Keyboard("edit", "{oops", "e", "[1]", "e", "", "y")
    outcome = Toolbox([tool], Approval(None, keyboard)).run(call(path="a.txt"))
    assert tool.calls == [{"path": "a.txt"}]
    assert len(outcome.content) == 1
    assert "not JSON" in keyboard.prompts[2]
    assert "not a JSON object" in keyboard.prompts[4]


def test_code_is_edited_as_code():
    tool = Probe("run_python", "run_python", code="code")
    keyboard = Keyboard("e", "import math", "print(math.pi)", "", "y")
    Toolbox([tool], Approval(None, keyboard)).run(call("run_python", code="print(3.14)"))
    assert tool.calls == [{"code": "import math\nprint(math.pi)"}]
    assert "    print(3.14)" in keyboard.prompts[0]


def test_an_unclear_answer_is_asked_again_and_then_is_no():
    tool, keyboard = Probe(), Keyboard("what", "hm", "perhaps", "y")
    outcome = Toolbox([tool], Approval(None, keyboard)).run(call())
    assert outcome.is_error
    assert len(keyboard.prompts) == 3
    assert tool.calls == []
    assert not Toolbox([tool], Approval(None, Keyboard("what", "y"))).run(call()).is_error


@pytest.mark.parametrize("error", [EOFError, NotImplementedError, OSError])
def test_without_a_keyboard_the_answer_is_no_and_user_and_model_learn_why(error):
    """ipykernel raises StdinNotImplementedError, a NotImplementedError; pytest an OSError; a closed stdin EOFError."""

    def ask(prompt):
        raise error("no stdin")

    tool, said = Probe(), []
    outcome = Toolbox([tool], Approval("ask", ask)).run(call(), said.append)
    assert outcome.is_error
    assert "nobody to ask" in outcome.text
    assert tool.calls == []
    assert len(said) == 1
    assert "files.read was not run" in said[0]
    assert "--approve always" in said[0]
    assert Toolbox([tool], Approval("ask", None)).run(call()).is_error


def test_never_runs_nothing_and_asks_nothing():
    tool, keyboard, said = Probe(trusted=True), Keyboard("y"), []
    outcome = Toolbox([tool], Approval("never", keyboard)).run(call(), said.append)
    assert outcome.is_error
    assert "approve=never" in outcome.text
    assert keyboard.prompts == []
    assert said == ["files.read was not run: approve is never."]


def test_an_interrupt_while_asking_is_raised():
    def ask(prompt):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Toolbox([Probe()], Approval(None, ask)).run(call())


def test_the_prompt_is_one_line_if_the_call_can_be_shown_above_it():
    shown, keyboard = [], Keyboard("y")
    Toolbox([Probe()], Approval(None, keyboard, shown.append)).run(call(path="a\nb"))
    assert keyboard.prompts == ["Run files.read? [y]es, [n]o, [a]lways, [e]dit: "]
    assert shown == ['Claude wants to run files.read:\n    path = "a\\nb"']


def test_characters_that_hide_or_reorder_text_are_shown_as_escapes():
    """A right-to-left override and a terminal's escape sequence have no effect (trojansource.codes)."""
    text = describe_call(Probe(code="code"), {"code": "ok = '\u202e' #\x1b[2K\r", "x\u200b": "\u2066"})
    assert "\\u202e" in text
    assert "\\x1b[2K\\r" in text
    assert "x\\u200b" in text
    assert "\\u2066" in text


@given(st.text())
def test_no_invisible_character_is_left(text):
    left = visible(text)
    assert all(letter in "\n\t" or unicodedata.category(letter)[0] != "C" for letter in left)
    assert visible(left) == left


# -- the box --------------------------------------------------------------------------------------


def test_the_result_for_an_unknown_tool_suggests_the_nearest():
    outcome = Toolbox([Probe()]).run(call("files__raed"))
    assert outcome.is_error
    assert "Did you mean files__read?" in outcome.text


def test_a_call_with_incomplete_arguments_never_runs():
    """A lenient JSON parser would accept a cut input. It must not reach the function."""
    tool = Probe()
    outcome = Toolbox([tool]).run(ToolUseBlock("toolu_1", "files__read", {}, partial_json='{"path": "/'))
    assert outcome.is_error
    assert tool.calls == []


def test_two_tools_of_one_name_are_refused_but_one_tool_twice_is_not():
    tool = Probe()
    assert len(Toolbox([tool, tool]).definitions()) == 1
    with pytest.raises(OptionError, match=r"files\.read and files__read"):
        Toolbox([Probe(), Probe(shown="files__read")])


def test_definitions_keep_their_order():
    names = ["b", "a", "c"]
    box = Toolbox([Probe(name, name) for name in names])
    assert [one["name"] for one in box.definitions()] == names
    assert box
    assert not Toolbox()


def test_long_results_are_cut_and_empty_ones_replaced():
    """The API refuses a text block of white space only."""

    def f(n: int) -> str:
        return "x" * n or " \n"

    box = Toolbox([FunctionTool(f, "f", lambda text: ({"type": "text", "text": text},))])
    long = box.run(call("f", n=RESULT_CHARACTERS * 2)).text
    assert RESULT_CHARACTERS - 100 < len(long) <= RESULT_CHARACTERS
    assert "… [cut: 200,000 characters in all] …" in long
    assert box.run(call("f", n=0)).text == "(an empty result)"


def test_no_key_is_sent_to_the_model():
    """A tool may return its environment, and results are also kept in cassettes and journals."""
    box = Toolbox([FunctionTool(lambda: {"ANTHROPIC_API_KEY": "sk-ant-api03-abcdefgh12345678"}, "env", tool_content)])
    assert box.run(call("env")).text == '{"ANTHROPIC_API_KEY": "sk-ant-…"}'


def test_json_of_the_note_can_be_read_back():
    tool, keyboard = Probe(), Keyboard("e", json.dumps({"q": "ü"}), "y")
    outcome = Toolbox([tool], Approval(None, keyboard)).run(call())
    assert json.loads(outcome.content[0]["text"].partition(": ")[2].rstrip(")")) == {"q": "ü"}
