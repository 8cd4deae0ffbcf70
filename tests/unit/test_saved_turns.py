"""Tests of the turns that a saved notebook holds."""

from __future__ import annotations

from typing import Any

import pytest

from nbchat import Response, ScriptedTransport, Session
from nbchat.context.cells import Cell, Output
from nbchat.core.messages import TextBlock
from nbchat.notebook.saved_turns import turns_of
from nbchat.view.final import output_metadata
from nbchat.view.html.render import render_response


def shown(response: Response, *, metadata: bool = True) -> Output:
    """Return the output of an answer as a notebook keeps it."""
    return Output("display", render_response(response), metadata=output_metadata(response) if metadata else {})


def answer(text: str, **fields: Any) -> Response:
    return Response(text, blocks=(TextBlock(text),), id="msg_1", model="claude-x", **fields)


def only_turn(*outputs: Output, source: str = "%%claude\nHi") -> Any:
    saved = turns_of([Cell(1, source, outputs, id="a")], Session(ScriptedTransport()))
    ((turn,),) = saved.by_chat.values()
    return turn


@pytest.mark.parametrize(
    ("status", "stop_reason"),
    [
        ("complete", "end_turn"), ("interrupted", None), ("incomplete", None), ("incomplete", "max_tokens"),
        ("incomplete", "model_context_window_exceeded"), ("refused", "refusal"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("metadata", [True, False])
def test_the_marker_of_the_end_is_not_a_part_of_the_answer(status: Any, stop_reason: str | None, metadata: bool):
    """The turn has the text that the model wrote, and the status."""
    response = answer("Some [text]\n\nhere", status=status, stop_reason=stop_reason)
    turn = only_turn(shown(response, metadata=metadata))
    assert turn.messages[1].text == "Some [text]\n\nhere"
    assert turn.status == status
    assert turn.model == ("claude-x" if metadata else "")


def test_the_parts_around_the_prints_of_a_tool_are_one_answer():
    """The lines that show the calls are not the model's words."""
    first = answer("Let me look.\n\n→ look(place='here')")
    turn = only_turn(
        shown(first, metadata=False), Output("stream", {"text/plain": "looking"}), shown(answer("Found.\n"))
    )
    assert turn.messages[1].text == "Let me look.\n\nFound."
    whole = answer("Let me look.\n\n→ look() · allowed\n\n→ run_python(2 lines)\n→     x\n→     \n\nFound.\n→ end()")
    assert only_turn(shown(whole)).messages[1].text == "Let me look.\n\nFound.\n"


@pytest.mark.parametrize(
    "outputs",
    [
        (),
        (Output("display", {"text/plain": "a figure", "image/png": "…"}),),
        (Output("error", {"text/plain": "Traceback"}),),
        (Output("display", {}),),
        (shown(answer(" ")),),
    ],
)
def test_a_cell_without_an_answer_is_named(outputs: tuple[Output, ...]):
    """The remark has the number that the notebook shows."""
    saved = turns_of([Cell(7, "%%claude\nHi", outputs)], Session(ScriptedTransport()))
    assert saved.by_chat == {}
    assert saved.remarks == ["cell [7] was left out: it keeps no answer"]


@pytest.mark.parametrize(
    "source",
    [
        "x = 1",
        "%%claudette\nHi",
        "# %%claude",
        "%claude Hi\nx = 1",
        "x = %claude Hi",
        "%claudette Hi",
        "%%claude --once\nHi",
        "%%claude --dry-run\nHi",
        "",
    ],
)
def test_other_cells_are_no_turns(source: str):
    """They are not mentioned either: they never were a part of a conversation of cells."""
    saved = turns_of([Cell(1, source, (shown(answer("Hello")),))], Session(ScriptedTransport()))
    assert (saved.by_chat, saved.remarks) == ({}, [])


@pytest.mark.parametrize(
    ("source", "prompt"),
    [
        ("%claude -m model-b Hi", "Hi"),
        ("%%claude\nHi\n\nthere\n", "Hi\n\nthere"),
        ("\n%%claude -m x Hi", "Hi"),
        ("%%claude a << Note\nHi \\{{ x }}", "Note\n\nHi {{ x }}"),
        ("%%claude\nHi {{ x }} \\{{ y }}", "Hi {{ x }} \\{{ y }}"),
        ("%%claude\nHi {{ x", "Hi {{ x"),
    ],
)
def test_the_prompt_is_the_one_that_was_sent(source: str, prompt: str):
    """A value stays as typed. A literal brace loses its backslash."""
    assert only_turn(shown(answer("Hello")), source=source).messages[0].text == prompt
