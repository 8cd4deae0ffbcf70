"""The value of an unfinished JSON text, which the live view shows as a table."""

from __future__ import annotations

import doctest
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbchat.view.html import partial_json, typed_table
from nbchat.view.html.partial_json import value_so_far
from nbchat.view.html.typed_table import TypedTable
from nbchat.view.live.segments import Segments


def test_the_example_in_the_docstring_is_right():
    """Run the doctest."""
    result = doctest.testmod(partial_json)
    assert result.attempted
    assert not result.failed


def test_the_value_is_what_has_arrived_so_far():
    """Prose and a code fence around the value are ignored, and an unfinished ``true`` is left out."""
    assert value_so_far("") is None
    assert value_so_far("Here: ") is None
    assert value_so_far("{") == {}
    assert value_so_far('{"people": [{"name": "Ad') == {"people": [{"name": "Ad"}]}
    assert value_so_far('```json\n{"a": 1, "b": tr') == {"a": 1}
    assert value_so_far('```json\n{"a": 1}\n```\nThat is all.') == {"a": 1}
    assert value_so_far("{no json") is None


def test_a_list_that_was_wrapped_for_the_api_is_unwrapped():
    """Only ``items``, only if it is alone, and only around a list."""
    assert value_so_far('{"items": [{"name": "Ad') == [{"name": "Ad"}]
    assert value_so_far('{"items": [1], "more": 2') == {"items": [1], "more": 2}
    assert value_so_far('{"items": "a') == {"items": "a"}


def test_a_text_that_is_nested_thousands_deep_has_no_value():
    """The parsers refuse such a text, and the view shows nothing."""
    assert value_so_far("[" * 100_000) is None


words = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(words, json_values, max_size=4), st.data())
@settings(max_examples=60)
def test_the_value_of_any_prefix_is_a_part_of_the_whole(value: dict[str, Any], data: st.DataObject):
    """Cut at any place, also inside an escape."""
    text = json.dumps(value)
    prefix = text[: data.draw(st.integers(1, len(text)))]
    so_far = value_so_far(prefix)
    whole = value_so_far(text)
    assert so_far is not None
    assert is_part(so_far, value) or is_part(so_far, whole)


def is_part(part: Any, whole: Any) -> bool:
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and is_part(value, whole[key]) for key, value in part.items())
    if isinstance(part, list) and isinstance(whole, list):
        return len(part) <= len(whole) and all(map(is_part, part, whole))
    if isinstance(part, str) and isinstance(whole, str):
        return whole.startswith(part)
    return part == whole or (type(part) is type(whole) is int and str(whole).startswith(str(part)))


def test_a_long_answer_is_not_read_again_at_every_piece(monkeypatch: pytest.MonkeyPatch):
    """Each update reads the whole text again, so there must be far fewer updates than pieces.

    The clock stands still here, so an update happens only when the open value has grown by a tenth.
    RateLimit bounds the time that the updates take together; test_rate_limit.py tests that.
    """
    reads: list[str] = []

    def counted(text: str) -> Any:
        reads.append(text)
        return value_so_far(text)

    monkeypatch.setattr(typed_table, "value_so_far", counted)
    rows = [{"name": f"person {n}", "note": "x" * 60} for n in range(150)]
    text = json.dumps({"items": rows})
    segments, sent = Segments(TypedTable(), first=True), {}
    for piece in (text[at : at + 4] for at in range(0, len(text), 4)):
        segments.feed(piece)
        segments.advance()
        if segments.due == -math.inf:
            sent.update(segments.show(0.0, 0))
    assert len(text) // 4 > 3000
    assert len(reads) < len(text) // 4 // 10
    segments.close()
    sent.update(segments.show(0.0, 0))
    assert "person 149" in "".join(sent.values())
