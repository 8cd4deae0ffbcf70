"""Tests of conversations, which follow the notebook's cells and send only valid dialogues."""

from __future__ import annotations

import pytest

from nbchat.core.conversation import Conversation, Turn
from nbchat.core.messages import Message

CALL = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": "3"}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "s"}


def turn(key: str | None, prompt: str, *answers) -> Turn:
    """Return a turn with a prompt, and answers and tool results in alternation."""
    roles = ("assistant", "user")
    after = (Message.of(roles[place % 2], content) for place, content in enumerate(answers))
    return Turn(key, (Message.of("user", prompt), *after))


def said(history) -> list[str]:
    return [message.text for message in history]


def talk() -> Conversation:
    return Conversation("main", [turn(f"cell {n}", f"q{n}", f"a{n}") for n in (1, 2, 3)])


def test_a_cell_sends_the_turns_before_its_own():
    """A new cell sends all turns. A cell that runs again sends only the turns before its own."""
    assert said(talk().history("new")) == ["q1", "a1", "q2", "a2", "q3", "a3"]
    assert said(talk().history(None)) == ["q1", "a1", "q2", "a2", "q3", "a3"]
    assert said(talk().history("cell 2")) == ["q1", "a1"]
    assert talk().history("cell 1") == ()


def test_a_rerun_replaces_its_turn_and_makes_later_ones_stale():
    """A cell that runs again replaces its turn, and the later turns keep their places and become stale."""
    conversation = talk()
    conversation.record(turn("cell 2", "q2", "another"))
    assert said(conversation.history("new")) == ["q1", "a1", "q2", "another", "q3", "a3"]
    assert [item.stale for item in conversation.turns] == [False, False, True]
    conversation.record(turn("cell 3", "q3", "fresh"))
    assert [item.stale for item in conversation.turns] == [False, False, False]


def test_without_a_key_every_run_is_a_new_turn():
    """Each run is a new turn if there is no cell id. nbclient, for example, sends none."""
    conversation = Conversation()
    for _ in range(2):
        conversation.record(turn(None, "q", "a"))
    assert len(conversation) == 2


def test_stale_turns_are_sent_without_thinking():
    """Stale turns are sent without their thinking, because it belongs to a history that has changed."""
    conversation = talk()
    conversation.record(turn("cell 3", "q3", [THOUGHT, {"type": "text", "text": "a3"}]))
    assert conversation.history("new")[-1].content[0].type == "thinking"
    conversation.record(turn("cell 1", "q1", "other"))
    assert [block.type for block in conversation.history("new")[-1].content] == ["text"]


@pytest.mark.parametrize(
    ("answers", "sent"),
    [
        ((), []),
        (([],), []),
        ((" \n",), []),
        (("half an ans",), ["q", "half an ans"]),
        (([THOUGHT],), []),
        (([{**THOUGHT, "signature": ""}, {"type": "text", "text": "so"}],), ["q", "so"]),
        (([CALL],), []),
        (([{"type": "text", "text": "I look"}, CALL],), ["q", "I look"]),
        (([CALL], [RESULT]), []),
        (([CALL], [RESULT], []), []),
        (([{"type": "text", "text": "I look"}, CALL], [RESULT], []), ["q", "I look"]),
        (([CALL], [RESULT], "it is 3"), ["q", "", "", "it is 3"]),
        (([{"type": "text", "text": ""}, CALL], [RESULT], "it is 3"), ["q", "", "", "it is 3"]),
    ],
    ids=[
        *("no answer", "no blocks", "blank", "interrupted", "only thought", "unsigned thought", "an open call"),
        *("text and an open call", "results without an answer", "an empty last round", "the text before it"),
        *("a whole loop", "a blank next to a call"),
    ],
)
def test_only_the_valid_part_of_a_turn_is_sent(answers, sent):
    """A turn is sent without a question that has no answer, an empty answer, or a call that has no result."""
    history = turn("c", "q", *answers).sendable()
    assert said(history) == sent
    assert all(block.type != "text" or block.text.strip() for message in history for block in message.content)


def test_a_paused_answer_is_sent_as_one_message():
    """A paused answer is sent as one message, because the result of its server tool may be in the second part."""
    search = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}
    found = {"type": "web_search_tool_result", "tool_use_id": "s1", "content": []}
    messages = (
        Message.of("user", "q"),
        Message.of("assistant", [search]),
        Message.of("assistant", [found, {"type": "text", "text": "so"}]),
    )
    history = Turn("c", messages).sendable()
    assert [message.role for message in history] == ["user", "assistant"]
    assert [block.type for block in history[1].content] == ["server_tool_use", "web_search_tool_result", "text"]
    cut = Turn("c", messages[:2]).sendable()
    assert cut == ()


def test_forget_counts_from_one():
    """``forget`` numbers the turns from 1, as ``%nbchat history`` does."""
    conversation = talk()
    assert conversation.forget(1).key == "cell 1"
    assert [item.stale for item in conversation.turns] == [True, True]
    for wrong in (0, 3, -1):
        with pytest.raises(IndexError):
            conversation.forget(wrong)


def test_a_fork_is_a_copy_that_belongs_to_no_cell():
    """A fork does not change if a cell of the original runs again."""
    conversation = talk()
    fork = conversation.fork("other")
    conversation.record(turn("cell 1", "q1", "changed"))
    conversation.reset()
    assert len(conversation) == 0
    assert fork.name == "other"
    assert said(fork.history("cell 1")) == ["q1", "a1", "q2", "a2", "q3", "a3"]
