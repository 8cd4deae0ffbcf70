"""Tests of stopping an answer that repeats itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbchat import ScriptedTransport, Session
from nbchat.core.messages import Message
from nbchat.core.request import Request
from nbchat.transports.repetition import (
    MAX_PERIOD,
    MIN_CHARACTERS,
    TIMES,
    Unrepeated,
    repeated_characters,
)

STORY = "".join(f"In chapter {number} the hero meets {number * 7} dragons and one mouse. " for number in range(200))


@given(st.text(max_size=300), st.text(min_size=1, max_size=MAX_PERIOD), st.integers(TIMES, 8))
def test_a_text_that_is_repeated_is_found(before: str, repeated: str, times: int):
    """The same text four times in a row is a repetition if it is long enough together."""
    found = repeated_characters(before + repeated * times)
    if len(repeated) * times >= MIN_CHARACTERS:
        assert found >= len(repeated) * (TIMES - 1) or found >= MIN_CHARACTERS - len(repeated)


@given(st.text(max_size=400))
def test_what_is_found_really_repeats(text: str):
    """The characters that are reported are equal to those one period before them."""
    found = repeated_characters(text)
    if found:
        tail = text[-TIMES * MAX_PERIOD :]
        assert any(tail[-found:] == tail[-found - period : -period] for period in range(1, MAX_PERIOD + 1))


@pytest.mark.parametrize(
    "text",
    [
        "",
        STORY,
        "\n".join(f"| {n} | {n * n} | {n**3} |" for n in range(100)),
        "-" * 120,
        "ha " * 40,
        "\n".join(f"x{n} = load('file_{n}.csv')" for n in range(60)),
        "Row, row, row your boat gently down the stream. " * 3,
    ],
)
def test_ordinary_texts_do_not_repeat_themselves(text: str):
    """Tables, code, rules and refrains are answers."""
    for end in range(0, len(text), 97):
        assert repeated_characters(text[:end]) == 0


def test_an_answer_is_stopped_soon_after_it_began_to_repeat():
    """What arrived stays, with the number of its tokens. The next request is an ordinary one."""
    sentence = "They are all very friendly and they all like cheese. "
    transport = ScriptedTransport("Three names: Mia, Tom, Miro. " + sentence * 300, "Fine.", piece=4)
    session = Session(Unrepeated(transport))
    response = session.ask("Three names for a cat")
    assert response.text.startswith("Three names: Mia, Tom, Miro. They are")
    assert len(response.text) < 400
    assert (response.status, response.stop_reason) == ("incomplete", "repetition")
    assert response.usage.output_tokens == len(response.text) / 4
    assert "[stopped: the model repeated itself]" in response._repr_mimebundle_()["text/plain"]
    assert session.ask("Thanks", stream=False).text == "Fine."
    assert [message.role for message in transport.requests[1].messages] == ["user", "assistant", "user"]


@pytest.mark.parametrize("item", ["{}. {}\n", "{}) {}\n", "   {}. {}\n\n", "{}. **{}**\n"])
def test_a_list_that_only_counts_is_stopped(item: str):
    """A small model goes on counting. Ten is longer than nine, so its items are not even equally long."""
    listed = "".join(item.format(number, "Use a descriptive name.") for number in range(4, 200))
    session = Session(Unrepeated(ScriptedTransport("1. Be consistent.\n" + listed, piece=4)))
    response = session.ask("Tips?")
    assert response.stop_reason == "repetition"
    assert len(response.text) < 500


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"{n}. Read chapter {n * 3}, and do exercise {n}.\n" for n in range(1, 60)),
        "".join(f"{n}.5 {n}.25\n" for n in range(100)),
        "".join(f"{n} green bottles, hanging on the wall.\n" for n in range(99, 0, -1)),
        "".join(f"Week {n}: three sets of ten.\n" for n in range(1, 40)),
    ],
)
def test_a_list_whose_items_differ_is_unchanged(text: str):
    """Only the number of an item is not looked at: other numbers tell its lines apart."""
    assert Session(Unrepeated(ScriptedTransport(text, piece=4))).ask("Go on").text == text


def test_an_answer_without_a_repetition_is_unchanged():
    """All events pass, and so do the other members of the transport."""
    transport = ScriptedTransport(STORY)
    request = Request("scripted", (Message.of("user", "Hi"),), max_tokens=10)
    with transport.stream(request) as plain:
        expected = list(plain)
    with Unrepeated(ScriptedTransport(STORY)).stream(request) as events:
        assert list(events) == expected
    assert Unrepeated(transport).requests is transport.requests
