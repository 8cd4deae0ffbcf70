"""Tests of ``compose``, which turns options and a prompt into a Draft, and of the context window."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbchat.context.files import attach
from nbchat.core.conversation import Conversation, Turn
from nbchat.core.errors import InputError, OptionError
from nbchat.core.messages import Message
from nbchat.engine.draft import Draft, compose
from nbchat.engine.fitting import parts_of_text, refuse_too_long
from nbchat.engine.system_prompt import system_of
from nbchat.notebook.line import parse
from nbchat.options import Options


def options(line: str = "") -> Options:
    return Options.of(parse(line).given)


def params(line: str, **given) -> dict:
    return dict(compose("Hi", options(line), **{"is_continued": True} | given).request("claude-sonnet-5-5").params)


def turn(prompt: str, answer: str) -> Turn:
    return Turn(None, (Message.of("user", prompt), Message.of("assistant", answer)))


def test_prompts_are_cached_by_default_and_null_removes_a_field():
    """``cache_control`` is sent by default. ``--param cache_control=null`` removes it."""
    assert params("") == {"cache_control": {"type": "ephemeral"}}
    assert params("--param cache_control=null") == {}


def test_a_prompt_has_a_cache_mark_only_where_a_later_request_can_read_it():
    """That is a conversation, or a turn with tools. A mark costs a quarter more, and with ``1h`` twice as much."""
    mark = {"type": "ephemeral"}
    assert params("--once", is_continued=False) == {}
    tool = {"name": "add", "input_schema": {"type": "object"}}
    assert params("--once", is_continued=False, tools=[tool])["cache_control"] == mark
    assert params("--once --web-search", is_continued=False)["cache_control"] == mark
    assert params("--cache 5m")["cache_control"] == mark
    assert params("--cache 1h")["cache_control"] == mark | {"ttl": "1h"}
    assert params("--cache off --web-search") == {}
    assert params("--cache 1h", is_continued=False) == {}
    said = "--cache 1h: the prompt is not cached, because no later request can read it"
    assert compose("Hi", options("--once --cache 1h")).notes == (said,)
    assert compose("Hi", options("--once --cache off")).notes == ()
    assert compose("Hi", Options.of({}, {"cache": "1h"})).notes == ()  # a setting holds for the other questions
    given = """--once --param 'cache_control={"type":"ephemeral","ttl":"1h"}'"""
    assert params(given, is_continued=False)["cache_control"] == mark | {"ttl": "1h"}


def test_options_become_fields_of_the_request():
    """Options become fields of the request. ``output_config`` from ``--param`` and from ``--effort`` are merged."""
    asked = params(
        """--effort max --stop END --stop "the end" --param temperature=0 --param 'metadata={"user_id":"u"}'"""
    )
    assert asked["output_config"] == {"effort": "max"}
    assert asked["stop_sequences"] == ["END", "the end"]
    assert asked["temperature"] == 0
    assert asked["metadata"] == {"user_id": "u"}
    assert params("""--effort low --param 'output_config={"x":1}'""")["output_config"] == {"effort": "low", "x": 1}


@pytest.mark.parametrize("given", ["temperature", "=1", "a b=1", "x={", "model=1", "messages=[]", "stream=true"])
def test_a_wrong_param_is_refused_by_name(given):
    """A value that is not JSON, a missing name, and a field that has an option of its own are refused."""
    with pytest.raises(OptionError, match="--param"):
        compose("Hi", Options.of({"param": given}))


def test_thinking_takes_the_form_of_the_model_unless_param_sets_it():
    """``--thinking`` chooses the form by the model. ``--param thinking`` sets it exactly."""
    draft = compose("Hi", options("--thinking"))
    assert draft.request("claude-sonnet-5-5").params["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert draft.request("claude-haiku-4-5").params["thinking"]["type"] == "enabled"
    own = compose("Hi", Options.of({"thinking": True, "param": 'thinking={"type":"enabled","budget_tokens":1500}'}))
    assert own.request("claude-haiku-4-5").params["thinking"] == {"type": "enabled", "budget_tokens": 1500}


def test_each_server_tool_has_an_option():
    """Each option sends one tool definition. ``web_fetch`` asks for citations."""
    tools = compose("Hi", options("--web-search --web-fetch --code-execution")).request("claude-sonnet-5-5").tools
    assert [tool["name"] for tool in tools] == ["web_search", "web_fetch", "code_execution"]
    assert tools[1]["citations"] == {"enabled": True}


def test_the_system_prompt_is_a_variable_a_file_or_text(tmp_path: Path):
    """The value is looked up as a variable first, then as a file. Otherwise it is text with expressions."""
    file = tmp_path / "role.txt"
    file.write_text("You are a file.", encoding="utf-8")
    assert system_of("role", {"role": "You are a variable."}) == "You are a variable."
    assert system_of(str(file), {}) == "You are a file."
    assert system_of("You are {{ who }}.", {"who": "words"}) == "You are words."
    assert system_of("role", {}) == "role"
    assert system_of(None) is None
    assert system_of("") is None
    with pytest.raises(OptionError, match="int"):
        system_of("role", {"role": 3})
    (tmp_path / "bin").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(OptionError, match="cannot be read"):
        system_of(str(tmp_path / "bin"))


@pytest.mark.parametrize("prompt", ["", "  \n\t", "{{ '' }}"])
def test_an_empty_prompt_is_not_sent(prompt):
    """A prompt of white space is refused before sending, because the API would refuse it."""
    with pytest.raises(InputError, match="empty"):
        compose(prompt, options(), namespace={})


# --- the window -----------------------------------------------------------------------------------


def long_draft(*sizes: int) -> Draft:
    chat = Conversation("main", (turn("q" * 4 * size, "short") for size in sizes))
    return compose("x" * 400, options(), history=chat.turns)


def test_a_draft_that_fits_is_not_changed():
    """A draft that fills the window to the last token is sent unchanged."""
    draft = long_draft(100)
    assert refuse_too_long(draft, 900, 1000, answer=100) is draft


def test_a_draft_that_does_not_fit_names_its_three_largest_parts(tmp_path: Path):
    """The error names files, values and turns, the largest first, and says what to do."""
    (tmp_path / "big.txt").write_text("b" * 40_000, encoding="utf-8")
    chat = Conversation("main", [turn("q" * 20_000, "a" * 10_000), turn("q", "a")])
    draft = compose(
        "See {{ rows }} now.",
        options(),
        namespace={"rows": list(range(5_000))},
        carried=[attach([str(tmp_path / "big.txt")], root=tmp_path)],
        history=chat.turns,
    )
    with pytest.raises(InputError) as refused:
        refuse_too_long(draft, 25_000, 20_000, answer=2_500)
    said = refused.value.message
    assert "25,000" in said
    assert "20,000" in said
    assert "nothing was sent" in said
    named = said.split("Largest: ")[1]
    assert named.index("file big.txt") < named.index("turn 1 of the history, the prompt") < named.index("json rows")
    assert "turn 2" not in named
    assert "--trim" in refused.value.hint
    assert "--once" in refused.value.hint


def test_trim_drops_the_oldest_turns_and_says_so():
    """``trim`` drops as few whole turns as possible, the oldest first."""
    draft = refuse_too_long(long_draft(300, 300, 300), 1_000, 800, answer=100, trim=True)
    assert len(draft.history) == 2
    assert draft.notes == ("--trim dropped the oldest turn of the history",)
    both = refuse_too_long(long_draft(300, 300, 300), 1_200, 800, answer=100, trim=True)
    assert len(both.history) == 1
    assert both.notes == ("--trim dropped the oldest 2 turns of the history",)
    assert draft.prompt == long_draft(300).prompt


def test_trim_keeps_a_call_and_its_result_together():
    """``trim`` drops a turn with tools completely, because the API refuses a result without its call."""
    call = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "r" * 4_000}
    messages = (
        Message.of("user", "q"),
        Message.of("assistant", [call]),
        Message.of("user", [result]),
        Message.of("assistant", "done"),
    )
    chat = Conversation("main", [Turn(None, messages), turn("second", "answer")])
    draft = compose("Hi", options(), history=chat.turns)
    trimmed = refuse_too_long(draft, 2_000, 1_500, answer=100, trim=True)
    assert [message.text for turn in trimmed.history for message in turn.messages] == ["second", "answer"]


def test_trim_does_not_help_if_the_prompt_itself_is_too_large():
    """A prompt that is too large is refused, and the hint does not suggest ``--trim`` again."""
    with pytest.raises(InputError) as refused:
        refuse_too_long(long_draft(10), 5_000, 800, trim=True)
    assert "--trim" not in refused.value.hint


@given(st.text(alphabet="<>/ab=\"'\n fileno", max_size=200))
def test_the_joined_pieces_are_the_text(text):
    """The joined pieces equal the text, for any text."""
    assert "".join(piece for _, piece in parts_of_text(text)) == text


def test_pieces_are_named_by_their_values_and_files():
    """Values and files are named by their tag and name, also in the middle of a line. Other text has no name."""
    text = 'See <json name="a&quot;b">\n[1]\n</json> and\n\n<file name="x.csv">\n1\n</file>\nEnd'
    assert [name for name, _ in parts_of_text(text)] == ["", "json a&quot;b", "", "file x.csv", ""]


def test_a_draft_is_json():
    """The body of a request can be encoded as JSON."""
    body = compose("Hi", options("--thinking --web-search -s Brief")).request("m").body()
    assert json.loads(json.dumps(body))["system"] == "Brief"
