"""What may be sent again: the rule of core/sendable, by itself and in conversations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args, get_origin

import pytest
from anthropic.types import ContentBlock, ContentBlockParam
from anthropic.types.beta import BetaContentBlock, BetaContentBlockParam
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from typing_extensions import get_type_hints, is_typeddict

from nbchat import ScriptedTransport, Session
from nbchat.config import Nbchat
from nbchat.core.conversation import Conversation, Turn
from nbchat.core.errors import RefusedError
from nbchat.core.messages import Message, OpaqueBlock, block_of
from nbchat.core.sendable import ACCEPTED_FIELDS, resumable, sendable_block

THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "sig"}
REDACTED = {"type": "redacted_thinking", "data": "x"}
TEXT = {"type": "text", "text": "so"}
CALL = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": "3"}
SEARCH = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "s1", "content": []}
UNKNOWN = {"type": "of_next_year", "field": 1}
RAN = {"type": "bash_code_execution_tool_result", "tool_use_id": "s1"}
# Here `citations` is a setting of the document, and goes back.
FETCHED = {"type": "web_fetch_tool_result", "tool_use_id": "s1", "content": {"citations": {"enabled": True}}}
UNSIGNED = {**THOUGHT, "signature": ""}
BLANK = {"type": "text", "text": " "}


def turn(*answers: Any, **fields: Any) -> Turn:
    """Return a turn: answers are lists of blocks, results of tools among them."""
    messages = [Message.of("user", "q")]
    for content in answers:
        role = "user" if content and content[0] is RESULT else "assistant"
        messages.append(Message.of(role, content))
    return Turn("cell", tuple(messages), **({"model": "a-20260101", "asked": "a", "endpoint": "here"} | fields))


def kinds(messages: tuple[Message, ...]) -> list[str]:
    """Return the types of the blocks of the answers."""
    return [block.type for message in messages if message.role == "assistant" for block in message.content]


# The types of the SDK --------------------------------------------------------------------------------


def members(annotation: Any) -> Iterator[Any]:
    """Yield the classes in an annotation, inside unions and lists."""
    parts = get_args(annotation)
    if parts and get_origin(annotation) is not None and not isinstance(get_origin(annotation), type(BaseModel)):
        # Annotated has values behind its type, Literal has no types in it.
        for part in parts:
            yield from members(part)
    elif isinstance(annotation, type):
        if parts := get_args(annotation):
            for part in parts:
                yield from members(part)
        else:
            yield annotation


def fields_of(kind: type) -> dict[str, Any]:
    """Return the fields of a class of the SDK with their annotations, by their names in JSON."""
    if issubclass(kind, BaseModel):
        return {field.alias or name: field.annotation for name, field in kind.model_fields.items()}
    return dict(get_type_hints(kind))


def type_of(kind: type) -> str:
    """Return the value of the field ``type``."""
    annotation = fields_of(kind).get("type")
    while get_args(annotation) and not isinstance(get_args(annotation)[0], str):
        annotation = get_args(annotation)[0]
    return get_args(annotation)[0] if annotation is not None else ""


PARAMS: dict[str, list[type]] = {}
for union in (ContentBlockParam, BetaContentBlockParam):
    for param in members(union):
        if is_typeddict(param):
            PARAMS.setdefault(type_of(param), []).append(param)
RESPONSES = [
    kind for union in (ContentBlock, BetaContentBlock) for kind in members(union) if issubclass(kind, BaseModel)
]


def may_be_null(annotation: Any) -> bool:
    return type(None) in members(annotation)


@pytest.mark.parametrize("kind", RESPONSES, ids=lambda kind: kind.__name__)
def test_the_accepted_fields_are_those_of_the_sdk(kind: type[BaseModel]):
    """A new block or field of the SDK has to be entered in the table: then it goes to every endpoint."""
    accepted = {name for param in PARAMS[type_of(kind)] for name in fields_of(param)} - {"type"}
    assert ACCEPTED_FIELDS[type_of(kind)] == accepted


@pytest.mark.parametrize("kind", RESPONSES, ids=lambda kind: kind.__name__)
def test_no_field_goes_back_that_only_the_api_writes(kind: type[BaseModel]):
    """A block with every field of the response type keeps those that the parameter type has."""
    accepted: dict[str, list[Any]] = {}
    for param in PARAMS[type_of(kind)]:
        for name, annotation in fields_of(param).items():
            accepted.setdefault(name, []).append(annotation)
    full = {"type": type_of(kind), **{name: "x" for name in fields_of(kind) if name != "type"}}
    empty = {name: None for name, annotation in fields_of(kind).items() if may_be_null(annotation)}
    needed = {"input": {}} if "input" in full else {}
    needed |= {"citations": []} if "citations" in full else {}
    for data in (full | needed, full | needed | empty):
        sent = sendable_block(block_of(data))
        assert sent is not None
        for name, value in sent.to_dict().items():
            assert name in accepted
            assert value is not None or any(map(may_be_null, accepted[name]))


def locations() -> list[type[BaseModel]]:
    """Return the types of citations of the SDK."""
    texts = [kind for kind in RESPONSES if type_of(kind) == "text"]
    return [place for kind in texts for place in members(fields_of(kind)["citations"]) if issubclass(place, BaseModel)]


@pytest.mark.parametrize("place", locations(), ids=lambda place: place.__name__)
def test_a_citation_goes_back_with_the_fields_that_the_api_takes(place: type[BaseModel]):
    """The id of a cited file is only told."""
    citation = dict.fromkeys(fields_of(place), "x") | {"type": type_of(place)}
    sent = sendable_block(block_of({"type": "text", "text": "so", "citations": [citation]}))
    given = [one for kind in PARAMS["text"] for one in members(fields_of(kind)["citations"]) if is_typeddict(one)]
    accepted = {name for one in given if type_of(one) == type_of(place) for name in fields_of(one)}
    assert set(sent.to_dict()["citations"][0]) == set(citation) & accepted


# One block -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "sent"),
    [
        ({**CALL, "caller": None, "toolset_name": None}, CALL),
        ({**CALL, "caller": {"type": "direct"}}, {**CALL, "caller": {"type": "direct"}}),
        ({**TEXT, "citations": None, "parsed_output": {"a": 1}}, TEXT),
        ({"type": "text", "text": " \n\t"}, None),
        ({**RAN, "citations": None, "content": {"citations": []}}, {**RAN, "content": {}}),
        ({**RAN, "content": {"stdout": "", "citations": [1]}}, {**RAN, "content": {"stdout": ""}}),
        (FETCHED, FETCHED),
        ({"type": "compaction", "content": None}, {"type": "compaction", "content": None}),
        (UNKNOWN, UNKNOWN),
        ({"type": "of_next_year", "field": None}, {"type": "of_next_year", "field": None}),
        ({"type": "of_next_year", "score": float("nan")}, None),
        ({"text": "no type"}, None),
    ],
)
def test_a_block_is_sent_without_what_the_api_refuses(block: dict[str, Any], sent: dict[str, Any] | None):
    """The endpoint that sent the block gets everything else back as it was."""
    result = sendable_block(block_of(block))
    assert (result.to_dict() if result is not None else None) == sent


def test_another_endpoint_gets_only_what_the_messages_api_has():
    """Gateways add fields and blocks, which only they accept."""
    assert sendable_block(block_of(UNKNOWN), foreign=True) is None
    assert sendable_block(block_of({**TEXT, "index": 0, "reasoning_content": "x"}), foreign=True) == block_of(TEXT)


# Turns ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "endpoint", "sent"),
    [
        ("a", "here", ["thinking", "redacted_thinking", "text", "of_next_year"]),
        (None, None, ["thinking", "redacted_thinking", "text", "of_next_year"]),
        ("b", "here", ["text", "of_next_year"]),
        ("a", "there", ["text"]),
        ("b", "there", ["text"]),
    ],
)
def test_thinking_goes_to_the_model_and_endpoint_that_made_it(model: str, endpoint: str, sent: list[str]):
    """The API refuses a signature of another model. The rule is the same after a save and a load."""
    conversation = Conversation("main", [turn([THOUGHT, REDACTED, TEXT, UNKNOWN])])
    loaded = Conversation.from_dict(json.loads(json.dumps(conversation.to_dict())))
    for each in (conversation, loaded, conversation.fork("other")):
        assert kinds(each.sendable(None, model, endpoint)) == sent


def test_thinking_of_an_unknown_origin_is_not_sent():
    """A file of an earlier version does not say which model was asked."""
    data = turn([THOUGHT, TEXT]).to_dict()
    del data["asked"], data["endpoint"]
    assert kinds(Turn.from_dict(data).sendable("a", "here")) == ["text"]


def test_a_turn_that_was_only_thinking_is_not_sent_to_another_model():
    """No message may be empty."""
    old = turn([THOUGHT, CALL], [RESULT], [THOUGHT, TEXT])
    assert kinds(old.sendable("b", "here")) == ["tool_use", "text"]
    assert turn([THOUGHT]).sendable("b", "here") == ()


def test_a_refused_turn_is_not_sent_again():
    """It would make the refusals go on. The turns around it stay."""
    refused = turn([TEXT], status="refused")
    assert refused.sendable() == ()
    conversation = Conversation("main", [turn([TEXT], status="complete"), turn([TEXT], status="refused")])
    assert len(conversation.sendable(None, "a", "here")) == 2


blocks = st.lists(st.sampled_from([THOUGHT, UNSIGNED, REDACTED, TEXT, BLANK, CALL, SEARCH, FOUND, UNKNOWN]), max_size=5)
answers = st.lists(blocks | st.just([RESULT]), max_size=4)


@given(
    st.lists(blocks | st.just([RESULT]), max_size=4), st.sampled_from(["a", "b"]), st.sampled_from(["here", "there"])
)
def test_a_turn_for_another_model_is_as_valid_as_any(answers: list[Any], model: str, endpoint: str):
    """The messages alternate, none is empty, calls and results are pairs, and nothing is sent that may not be."""
    sent = turn(*answers).sendable(model, endpoint)
    assert [message.role for message in sent] == ["user", "assistant"] * (len(sent) // 2)
    assert all(message.content for message in sent)
    found = kinds(sent)
    assert ("server_tool_use" in found) == ("web_search_tool_result" in found)
    assert found.count("tool_use") == sum(block.type == "tool_result" for part in sent[2::2] for block in part.content)
    if (model, endpoint) != ("a", "here"):
        assert not {"thinking", "redacted_thinking"} & set(found)
    if endpoint != "here":
        assert "of_next_year" not in found


@given(answers)
def test_a_running_turn_keeps_its_thinking_and_has_no_open_call(answers: list[Any]):
    """Every call of a function has its result in the next message, and thinking stays."""
    messages = turn(*answers).messages[1:]
    sent = resumable(messages)
    assert kinds(sent).count("thinking") == kinds(messages).count("thinking")
    assert all(message.content for message in sent)
    for message, following in zip(sent, (*sent[1:], Message("user", ())), strict=False):
        calls = [block.id for block in message.content if block.type == "tool_use"]
        results = [block.to_dict()["tool_use_id"] for block in following.content if block.type == "tool_result"]
        assert set(calls) == set(results)


# In a session --------------------------------------------------------------------------------------


def test_a_session_sends_no_thinking_of_another_model():
    """``--thinking -m A``, then ``-m B``, then A again: each gets its own thinking only."""
    transport = ScriptedTransport([THOUGHT, {"type": "text", "text": "one"}], [THOUGHT, "two"], "three")
    session = Session(transport)
    for model in ("a", "b", "a"):
        session.ask("q", model=model)
    assert kinds(transport.requests[1].messages) == ["text"]
    assert kinds(transport.requests[2].messages) == ["thinking", "text", "text"]


def test_a_tool_round_keeps_the_thinking_and_drops_the_null_fields():
    """The second request of a turn has the thinking with its signature: the API demands it."""
    transport = ScriptedTransport(
        [THOUGHT, {**CALL, "name": "ping", "caller": None}, {"stop_reason": "tool_use"}], "so"
    )

    def ping() -> str:
        """Ping."""
        return "pong"

    Session(transport).ask("q", tools=[ping])
    answer = transport.requests[1].messages[1].to_dict()["content"]
    assert answer == [THOUGHT, {**CALL, "name": "ping"}]


def test_a_refusal_is_forgotten_by_the_next_question():
    """Text, then a refusal: the answer is kept for the user, and not sent."""
    transport = ScriptedTransport(["Well, ", {"stop_reason": "refusal"}], "Hello!")
    session = Session(transport)
    with pytest.raises(RefusedError):
        session.ask("something bad")
    session.ask("Hi")
    assert [message.text for message in transport.requests[1].messages] == ["Hi"]
    assert session.conversation("main").turns[0].status == "refused"


def test_another_endpoint_gets_no_thinking_of_the_first():
    """The same name of a model at another endpoint is another model."""
    first, second = ScriptedTransport([THOUGHT, "one"]), ScriptedTransport("two")
    first.name, second.name = "first", "second"
    conversation = Conversation("main")
    for transport in (first, second):
        session = Session(transport, config=Nbchat())
        session.conversations["main"] = conversation
        session.ask("q", model="a")
    assert kinds(second.requests[0].messages) == ["text"]


def test_an_opaque_block_is_shared_and_not_changed():
    """A block without anything to remove is the same object: nothing is copied for a long history."""
    block = OpaqueBlock(dict(FOUND))
    assert sendable_block(block) is block
