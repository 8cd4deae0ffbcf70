"""Tests of ``--continue``, and of the lines around an answer: what was cut, tokens and cost, the toy."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from nbchat import ScriptedTransport, Session
from nbchat.core.errors import InputError, OptionError
from nbchat.core.messages import TextBlock
from nbchat.core.response import Response
from nbchat.notebook.going_on import prompt_to_go_on
from nbchat.view.html.render import marker, render_response, without_marker

ROOT = Path(__file__).parents[2]
CUT = ["One, two, thr", {"stop_reason": "max_tokens"}]


def test_the_answer_goes_on_from_its_end():
    """The answer as far as it arrived is in the history, and the prompt asks for the rest."""
    transport = ScriptedTransport(CUT, "ee, four.")
    session = Session(transport)
    assert session.ask("Count", cell="a").status == "incomplete"
    prompt = prompt_to_go_on(session, session.options({}), "b", "In words.")
    assert prompt.startswith("Your last answer was cut.")
    assert prompt.endswith("It ends with: One, two, thr\n\nIn words.")
    session.ask(prompt, cell="b")
    roles = [(message.role, message.text) for message in transport.requests[-1].messages]
    assert roles == [("user", "Count"), ("assistant", "One, two, thr"), ("user", prompt)]


@pytest.mark.parametrize("cell", ["b", None])
def test_what_was_not_cut_does_not_go_on(cell: str | None):
    """The error says that nothing was cut, before anything is sent."""
    session = Session(ScriptedTransport("Whole."))
    with pytest.raises(InputError, match="has no answer above this cell"):
        prompt_to_go_on(session, session.options({}), cell, "")
    session.ask("Count", cell="a")
    with pytest.raises(InputError, match="was not cut"):
        prompt_to_go_on(session, session.options({}), cell, "")
    with pytest.raises(OptionError, match="--once"):
        prompt_to_go_on(session, session.options({"once": True}), cell, "")


def test_the_marker_says_how_to_go_on():
    """The marker of a cut answer names the command, and ``resume`` reads old and new markers."""
    ending = marker("incomplete", "max_tokens")
    assert ending == "[stopped at max_tokens: %claude --continue goes on]"
    kept = "[the answer broke off: the kernel ended]"  # by the extension of JupyterLab
    assert f"MARKER = '{kept}'" in (ROOT / "labextension/static/remoteEntry.js").read_text("utf-8")
    for text in (f"One\n\n{ending}", "One\n\n[stopped at max_tokens]", f"One\n\n{kept}"):
        assert without_marker(text) == ("One", "incomplete")


def test_what_was_cut_is_said_before_the_answer_and_the_toy_after_it():
    """All lines of nbchat are small, so that the answer stands out."""
    answer = Response("Text.", blocks=(TextBlock("Text."),), notes=("df: 5 of 9 rows",), endpoint="local", model="m")
    html = render_response(replace(answer, footer="1 → 2 tokens"))["text/html"]
    said = re.findall(r"<small><em>\[(.*?)\]</em></small>|<p>(Text)", html)
    assert [left or right for left, right in said] == [
        "df: 5 of 9 rows", "Text", "1 → 2 tokens", "m, the embedded model: a toy that runs on this machine"
    ]  # fmt: skip


def test_the_footer_is_the_same_for_a_replay(tmp_path: Path):
    """Tokens and the price of the answer stay; what the replay itself cost is in ``.cost``."""
    footers = []
    for _ in range(2):
        session = Session(ScriptedTransport("Hello!"))
        session.config.footer = True
        session.recording.use_cassette(str(tmp_path / "tape.jsonl"))
        response = session.ask("Hi", once=True)
        footers.append((response.footer, response.replayed))
    assert [replayed for _, replayed in footers] == [False, True]
    assert footers[0][0] == footers[1][0]
    assert re.match(r"\d+ → \d+ tokens · ", footers[0][0])
    session.config.footer = False
    assert session.ask("Hi", once=True).footer == ""
