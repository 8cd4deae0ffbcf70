"""The parts of content: cuts of long texts, terminal text, mimebundles and media types."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbchat.content.bundles import image_of_bundle, text_of_bundle
from nbchat.content.cutting import LongOutput, shorten
from nbchat.content.media_types import base64_size, media_block
from nbchat.content.terminal_text import as_seen

PNG = b"\x89PNG\r\n\x1a\n rest"


@given(st.text(max_size=600), st.integers(100, 300), st.booleans())
def test_a_cut_keeps_its_limit_and_the_ends(text: str, limit: int, tail: bool) -> None:
    short, notes = shorten(text, limit, "t", tail=tail)
    if len(text) <= limit:
        assert (short, notes) == (text, ())
        return
    assert len(short) <= limit
    mark = f"\n… [cut: {len(text):,} characters in all] …"
    start, _, end = short.partition(mark)
    assert text.startswith(start)
    assert start
    assert text.endswith(end.removeprefix("\n"))
    assert bool(end) is tail
    assert notes == (f"t: {len(start) + len(end.removeprefix(chr(10))):,} of {len(text):,} characters",)


@given(st.lists(st.text("ab\n", max_size=400), max_size=30), st.integers(60, 200))
def test_long_output_in_pieces_is_cut_as_a_whole_text_is(pieces: list[str], limit: int) -> None:
    output = LongOutput(limit)
    for piece in pieces:
        output.write(piece)
    assert output.shortened(limit) == shorten("".join(pieces), limit, "t", tail=True)[0]


def test_of_endless_output_only_the_ends_are_kept() -> None:
    output = LongOutput(100)
    for number in range(10_000):
        output.write(f"{number}\n")
    assert len(output._head) + sum(map(len, output._pieces)) < 1_000
    assert output.shortened(100).startswith("0\n1\n")
    assert output.shortened(100).endswith("9998\n9999\n")


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]8;;https://example.org\x07link\x1b]8;;\x1b\\", "link"),
        ("\x1bMup", "up"),
        ("0 %\r50 %\r100 %\n", "100 %\n"),
        ("0 %\r100 %\r\ndone", "100 %\ndone"),
        ("windows\r\nlines\r\n", "windows\nlines\n"),
        ("50 %\r", "50 %"),
        ("plain [0m", "plain [0m"),
    ],
)
def test_terminal_text_is_as_a_person_saw_it(text: str, seen: str) -> None:
    assert as_seen(text) == seen


@pytest.mark.parametrize(
    ("bundle", "text"),
    [
        ({"text/plain": "   a  b\n0  1  2", "text/html": "<table>…</table>"}, "   a  b\n0  1  2"),
        ({"text/plain": "<IPython.core.display.HTML object>", "text/html": "<b>bold</b>"}, "bold"),
        ({"text/plain": "<IPython.core.display.Markdown object>", "text/markdown": "**bold**"}, "**bold**"),
        ({"application/vnd.jupyter.widget-view+json": {}, "text/plain": "IntSlider(value=3)"}, "IntSlider(value=3)"),
        ({"application/geo+json": {}}, "[application/geo+json]"),
        ({"text/plain": ["list ", "of lines"]}, "list of lines"),
        ({"text/plain": " 5%|#\r100%|####\n"}, "100%|####\n"),
        ({}, ""),
    ],
)
def test_the_text_of_a_bundle_is_the_one_that_says_most(bundle: dict[str, Any], text: str) -> None:
    assert text_of_bundle(bundle) == text


@pytest.mark.parametrize(
    "shown", [PNG, base64.b64encode(PNG).decode(), base64.encodebytes(PNG).decode(), (PNG, {"width": 3})]
)
def test_the_image_of_a_bundle_in_any_form(shown: Any) -> None:
    assert image_of_bundle({"text/plain": "<Figure>", "image/png": shown}) == PNG


def test_a_bundle_without_an_image_that_the_api_accepts() -> None:
    assert image_of_bundle({"image/svg+xml": "<svg/>", "text/plain": "x"}) is None
    assert image_of_bundle({"image/png": ""}) is None


def test_media_blocks() -> None:
    source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(PNG).decode()}
    assert media_block("image/png", PNG) == {"type": "image", "source": source}
    assert media_block("image/png", source["data"]) == {"type": "image", "source": source}
    document = media_block("application/pdf", b"%PDF-")
    assert document is not None
    assert document["type"] == "document"
    assert media_block("image/tiff", PNG) is None


@given(st.binary(max_size=50))
def test_the_size_of_base64(data: bytes) -> None:
    assert base64_size(len(data)) == len(base64.b64encode(data))
