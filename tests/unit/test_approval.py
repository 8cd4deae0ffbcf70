"""Approval before a tool runs, and the toolbox that asks and calls."""

from __future__ import annotations

import copy
import dataclasses
import gc
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
from nbchat.core.visible import visible
from nbchat.tools.approval import Approval, describe_call
from nbchat.tools.functions import FunctionTool
from nbchat.tools.permissions import Permissions
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
    first, second, keyboard, remembered = Probe(), Probe("other", "other"), Keyboard("always", "n"), Permissions()
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
    assert "Run files.read(path='b.txt'), as edited? " in keyboard.prompts[-1]


@pytest.mark.parametrize(
    ("answers", "arguments"),
    [
        (["path='b.txt'", ""], {"path": "b.txt", "n": 1}),
        (["n = 2", 'path="c"', ""], {"path": "c", "n": 2}),
        (["tags=['a', 1]", "deep=true", ""], {"path": "a.txt", "n": 1, "tags": ["a", 1], "deep": True}),
        ([""], {"path": "a.txt", "n": 1}),
    ],
)
def test_arguments_are_changed_one_by_one(answers, arguments):
    tool = Probe()
    outcome = Toolbox([tool], Approval(None, Keyboard("e", *answers, "y"))).run(call(path="a.txt", n=1))
    assert tool.calls == [arguments]
    assert outcome.content[0]["text"].startswith("(The user changed") == (len(answers) > 1)


@pytest.mark.parametrize("answer", ["path", "path=b.txt", "=1", "path={1, 2}", "path=open('x')"])
def test_an_argument_that_cannot_be_read_changes_nothing(answer):
    tool, keyboard = Probe(), Keyboard("e", answer, "", "y")
    Toolbox([tool], Approval(None, keyboard)).run(call(path="a.txt"))
    assert tool.calls == [{"path": "a.txt"}]
    assert "Nothing was changed" in keyboard.prompts[2]


def test_an_edit_that_is_not_a_json_object_changes_nothing():
    tool, keyboard = Probe(), Keyboard("edit", "{oops", "{1: 2}", "", "y")
    outcome = Toolbox([tool], Approval(None, keyboard)).run(call(path="a.txt"))
    assert tool.calls == [{"path": "a.txt"}]
    assert len(outcome.content) == 1
    assert "not JSON" in keyboard.prompts[2]
    assert "not JSON" in keyboard.prompts[3]


CODE = "import math\n\n\ndef area(r):\n    return 3 * r\n\nprint(area(2))"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        (["5:     return math.pi * r"], CODE.replace("3 * r", "math.pi * r")),
        (["4-5: area = 3"], CODE.replace("def area(r):\n    return 3 * r", "area = 3")),
        (["+1: r = 2", "+0: # first"], CODE.replace("import math", "# first\nimport math\nr = 2")),
        (["-2-3", "-1"], CODE.removeprefix("import math\n\n\n")),
        (["7:"], CODE.replace("print(area(2))", "")),
        (["1: broken", "undo", "+7: print(1)"], CODE + "\nprint(1)"),
        (["1: x", "undo"], CODE),
        ([], CODE),
    ],
)
def test_code_is_edited_line_by_line_from_claudes_code(changes, code):
    """Code with blank lines can be edited and typed. The numbered code is shown after each change."""
    tool, keyboard = Probe("run_python", "run_python", code="code"), Keyboard("e", *changes, "", "y")
    Toolbox([tool], Approval(None, keyboard)).run(call("run_python", code=CODE))
    assert tool.calls == [{"code": code}]
    assert "    5      return 3 * r\n" in keyboard.prompts[1]
    assert keyboard.prompts[1].endswith(
        "Change a line (3: new text · 3-5: new text · +3: below line 3 · -3 deletes · undo), Enter when done: "
    )
    assert (", as edited? " in keyboard.prompts[-1]) == (code != CODE)


@pytest.mark.parametrize(
    "answer", ["print(3)", "8: x", "0: x", "5-4: x", "-1: x", "+1-2: x", "5", "undo", "99999999999: x"]
)
def test_a_change_that_is_none_changes_nothing(answer):
    tool, keyboard = Probe("run_python", "run_python", code="code"), Keyboard("e", answer, "", "y")
    Toolbox([tool], Approval(None, keyboard)).run(call("run_python", code=CODE))
    assert tool.calls == [{"code": CODE}]
    assert keyboard.prompts[2].startswith("Noth")


def test_an_editor_begins_with_the_text_of_the_call():
    seen, texts = [], iter(["x = 1\n\ny", "{oops", '{"path": "b"}'])

    def edit(text, language):
        seen.append((text, language))
        return next(texts)

    code, function = Probe("run_python", "run_python", code="code"), Probe()
    Toolbox([code], Approval(None, Keyboard("e", "y"), edit=edit)).run(call("run_python", code=CODE))
    assert code.calls == [{"code": "x = 1\n\ny"}]
    Toolbox([function], Approval(None, Keyboard("e", "y"), edit=edit)).run(call(path="a"))
    assert function.calls == [{"path": "b"}]
    assert seen == [(CODE, "python"), ('{\n  "path": "a"\n}', "json"), ("{oops", "json")]


def texts_of(approval: Approval, tool: Probe, **arguments: Any) -> str:
    return approval.decide(tool, arguments).text


def test_each_decision_has_a_line():
    """The line says who decided, and for what and how long."""
    tool, named, remembered = Probe(), Probe(trusted=True), Permissions()
    own = Probe(approve="always")
    kept = Approval(None, Keyboard("y", "a"), remembered=remembered, place="this notebook")
    assert texts_of(kept, tool) == "allowed"
    assert texts_of(kept, tool) == "allowed always for files.read in this notebook"
    assert texts_of(kept, tool) == "allowed always for files.read in this notebook"
    assert texts_of(kept, named) == ""
    assert texts_of(kept, own) == "run without asking (approve='always')"
    assert texts_of(Approval("always"), tool) == "run without asking (--approve always)"
    assert texts_of(Approval("never"), tool) == "declined: --approve never"
    assert texts_of(Approval(None, Keyboard("n")), tool) == "declined"
    assert texts_of(Approval(None, Keyboard("n not\x1b[2Jnow")), tool) == "declined: not\\x1b[2Jnow"
    assert texts_of(Approval(None, Keyboard("?", "?", "?")), tool) == "declined: no clear answer"
    assert texts_of(Approval(None, Keyboard("e", '{"a": 1}', "y")), tool) == "allowed as edited"
    assert texts_of(Approval("ask", Keyboard("a"), remembered=remembered), tool).startswith("allowed once")
    assert "nobody can type an answer here (EOFError). Allow it with --approve always." in texts_of(Approval(), tool)


@pytest.mark.parametrize(
    ("place", "duration"), [("this notebook", "until the kernel ends"), ("this session", "until it ends")]
)
def test_the_question_names_what_runs_and_how_long_always_holds(place, duration):
    keyboard = Keyboard("n", "n", "n")
    code = Probe("run_python", "run_python", code="code")
    approval = Approval(None, keyboard, lambda text: None, place=place)
    approval.decide(code, {"code": CODE})
    approval.decide(code, {"code": "\nx\n"})
    approval.decide(Probe(), {"path": "a\u202e" + "b" * 500, "n": 1})
    choices = "? [y]es, [n]o, [e]dit, [a]lways ({}, in " + f"{place} {duration}): "
    assert keyboard.prompts[0] == "Run 7 lines of Python" + choices.format("run_python")
    assert keyboard.prompts[1] == "Run 1 line of Python" + choices.format("run_python")
    assert keyboard.prompts[2].startswith("Run files.read(path='a\\u202ebbb")
    assert keyboard.prompts[2].endswith("bb', n=1)" + choices.format("files.read"))
    assert len(keyboard.prompts[2]) < 220


def test_the_call_is_shown_by_the_view_and_printed_only_without_one():
    shown, printed = [], []

    def show_call(arguments, is_numbered):
        shown.append((dict(arguments), is_numbered))
        return True

    approval = Approval(None, Keyboard("e", "1: y", "", "y"), printed.append)
    approval.decide(Probe("run_python", "run_python", code="code"), {"code": "x"}, show_call)
    assert shown == [({"code": "x"}, False), ({"code": "x"}, True), ({"code": "y"}, True), ({"code": "y"}, False)]
    assert printed == []
    Approval(None, Keyboard("y"), printed.append).decide(Probe(), {"a": 1}, lambda arguments, is_numbered: False)
    assert printed == ["Claude wants to run files.read:\n    a = 1"]


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
    assert keyboard.prompts == [
        "Run files.read(path='a\\nb')? [y]es, [n]o, [e]dit, [a]lways (files.read, in this session until it ends): "
    ]
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
    left = visible(text, strict=True)
    assert all(letter in "\n\t" or unicodedata.category(letter)[0] != "C" for letter in left)
    assert visible(left, strict=True) == left


# -- the answer -----------------------------------------------------------------------------------

NO_YES = [
    "y but not the second line",
    "yes, but remove the rm",
    "a moment",
    "always?",
    "y.",
    "yes!",
    "y y",
    "yes yes",
    "all",
    "ja",
    "ok",
    "edit the second line",
    "not now",
    "\u200by",
]


@pytest.mark.parametrize("answer", NO_YES)
def test_only_a_whole_yes_allows(answer):
    """Anything else is asked again, and nothing runs."""
    tool, keyboard, remembered = Probe(), Keyboard(answer, answer, answer), Permissions()
    outcome = Toolbox([tool], Approval(None, keyboard, remembered=remembered)).run(call())
    assert outcome.is_error
    assert tool.calls == []
    assert len(keyboard.prompts) == 3
    assert "Nothing has run" in keyboard.prompts[1]
    assert not remembered


@given(st.text())
def test_no_other_text_allows(text):
    tool, remembered = Probe(), Permissions()
    Toolbox([tool], Approval(None, Keyboard(text), remembered=remembered)).run(call())
    assert bool(tool.calls) == (text.strip().lower() in {"y", "yes", "a", "always"})


@pytest.mark.parametrize("answer", ["A", " Always\t", "a"])
def test_always_in_any_case(answer):
    tool, remembered = Probe(), Permissions()
    Toolbox([tool], Approval(None, Keyboard(answer), remembered=remembered)).run(call())
    assert list(remembered) == ["files.read"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [("n", ""), ("No", ""), ("n: use b", "use b"), ("NO  use b", "use b"), ("no, because\tof x", "because\tof x")],
)
def test_the_reason_after_no(answer, reason):
    outcome = Toolbox([Probe()], Approval(None, Keyboard(answer))).run(call())
    assert outcome.text == "The user did not allow this call of files.read." + (
        f" They say: {reason}" if reason else ""
    )


# -- always ---------------------------------------------------------------------------------------


def a_function(name: str = "f") -> Any:
    def function(x: int = 1) -> int:
        return x

    return function


def of_function(function: Any, name: str = "f") -> FunctionTool:
    return FunctionTool(function, name, tool_content)


def test_a_function_that_is_defined_again_is_asked_for_again():
    allowed, function = Permissions(), a_function()
    allowed.add(of_function(function))
    assert of_function(function) in allowed
    assert of_function(a_function()) not in allowed
    function.__code__ = (lambda x=1: 2).__code__  # as %autoreload does
    assert of_function(function) not in allowed


def test_a_function_that_is_gone_is_not_listed():
    allowed, function = Permissions(), a_function()
    allowed.add(of_function(function))
    assert list(allowed) == ["f"]
    del function
    gc.collect()
    assert list(allowed) == []


@pytest.mark.parametrize("thing", [[1, 1], Probe()])
def test_a_method_belongs_to_its_object(thing):
    """Python makes a new method object each time that the attribute is read. Some objects take no weak references."""
    allowed, other = Permissions(), copy.copy(thing)
    name = "count" if isinstance(thing, list) else "definition"
    allowed.add(of_function(getattr(thing, name)))
    assert of_function(getattr(thing, name)) in allowed
    assert of_function(getattr(other, name)) not in allowed


def test_another_tool_with_the_same_name_in_requests_is_asked_for():
    """``a.b__c`` of one server and ``a__b.c`` of another have one name in requests."""
    allowed, tool = Permissions(), Probe()
    allowed.add(tool)
    assert tool in allowed
    assert Probe() not in allowed


def test_a_tool_that_its_server_describes_in_another_way_is_asked_for_again():
    tool, allowed = Probe(), Permissions()
    allowed.add(tool)
    tool.definition = lambda: {"name": tool.name, "description": "Now deletes.", "input_schema": {}}
    assert tool not in allowed
    del tool.definition
    assert tool in allowed
    tool.approve = "ask"
    assert tool not in allowed


def test_an_explicit_ask_overrules_always():
    tool, keyboard, allowed = Probe(), Keyboard("y", "a", "y"), Permissions()
    allowed.add(tool)
    box = Toolbox([tool], Approval("ask", keyboard, remembered=allowed))
    for number in range(3):
        assert not box.run(call()).is_error
        assert len(keyboard.prompts) == number + 1
        assert "[a]lways" not in keyboard.prompts[number]
    assert Toolbox([tool], Approval("ask", Keyboard("n"), remembered=allowed)).run(call()).is_error
    assert not Toolbox([tool], Approval(None, Keyboard(), remembered=allowed)).run(call()).is_error


def test_always_in_answer_to_an_explicit_ask_is_a_yes_and_allows_nothing_later():
    tool, keyboard, allowed = Probe(), Keyboard("a", "n"), Permissions()
    box = Toolbox([tool], Approval("ask", keyboard, remembered=allowed))
    assert not box.run(call()).is_error
    assert box.run(call()).is_error
    assert not allowed


def test_always_is_taken_back():
    tool, allowed = Probe(), Permissions()
    allowed.add(tool)
    assert not allowed.discard("files.write")
    assert allowed.discard("files.read")
    assert tool not in allowed
    allowed.add(tool)
    allowed.add(tool)
    assert len(allowed) == 1
    allowed.clear()
    assert tool not in allowed


# -- what the user reads --------------------------------------------------------------------------


def test_a_crafted_name_is_one_short_line_in_quotes():
    """The name of an MCP tool made the last line read as the question for another server's tool."""
    evil = Probe(shown="other.delete: y\nRun files.list" + "\u200b" * 3 + " " * 100 + "x" * 500)
    shown, keyboard = [], Keyboard("n")
    Toolbox([evil], Approval(None, keyboard, shown.append)).run(call())
    assert keyboard.prompts[0].startswith('Run "other.delete: y\\nRun files.list\\u200b\\u200b\\u200b ')
    assert 'xxx"()? [y]es, [n]o, [e]dit, [a]lways ("other.delete' in keyboard.prompts[0]
    assert len(keyboard.prompts[0]) < 280
    assert "\n" not in keyboard.prompts[0]
    assert len(shown[0].splitlines()) == 1
    assert len(shown[0]) < 140


def test_a_crafted_name_in_the_notices():
    said: list[str] = []
    evil = Probe(shown="a\x1b]0;t\x07\nb")
    Toolbox([evil], Approval("never")).run(call(), said.append)
    Toolbox([evil], Approval("ask")).run(call(), said.append)
    Toolbox([evil], Approval(None, Keyboard("?", "?", "?"))).run(call(), said.append)
    assert [text.partition(" was")[0] for text in said] == ['"a\\x1b]0;t\\x07\\nb"'] * 3


def test_a_crafted_name_of_an_argument_is_one_short_line_in_quotes():
    text = describe_call(Probe(), {'path = "a.txt"\n    mode': 1, "y" * 500: 2, "plain_name": 3})
    _, first, second, third = text.split("\n")
    assert first == '    "path = \\"a.txt\\"\\n    mode" = 1'
    assert len(second) < 120
    assert third == "    plain_name = 3"


def test_long_runs_of_blank_lines_and_spaces_are_counted():
    """They would push code off the screen."""
    code = "a = 1\n" + "\n \n\t" * 200 + "\nos.remove(p)\n\nb = 2" + " " * 300 + "; os.remove(q)"
    header, *lines = describe_call(Probe(code="code"), {"code": code}).split("\n")
    assert header == "Claude wants to run files.read, 405 lines:"
    assert lines == [
        "    a = 1",
        "    [401 blank lines]",
        "    os.remove(p)",
        "    ",
        "    b = 2[300 spaces]; os.remove(q)",
    ]


def test_code_after_a_lone_return_is_a_line_of_its_own():
    """Python ends a line there, also a line with a comment."""
    text = describe_call(Probe(code="code"), {"code": "# safe\rimport os\r\nx = 1"})
    assert text == "Claude wants to run files.read, 3 lines:\n    # safe\\r\n    import os\n    x = 1"


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
