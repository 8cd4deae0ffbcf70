"""A text that is too long for Markdown: its beginning is Markdown, and the rest is shown as it was written."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markup import audit

from nbchat.core.messages import TextBlock
from nbchat.core.response import Response
from nbchat.view import final
from nbchat.view.html import long_text
from nbchat.view.html.fences import fenced_code
from nbchat.view.html.markdown import MarkdownStream, render_markdown
from nbchat.view.html.render import render_response
from nbchat.view.live.segments import Segments


@pytest.fixture
def _small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a text long after 100 characters."""
    monkeypatch.setattr(long_text, "MAX_MARKDOWN_CHARACTERS", 100)
    monkeypatch.setattr(long_text, "LAST_LINE_CHARACTERS", 30)
    monkeypatch.setattr(long_text, "PLAIN_PIECE_CHARACTERS", 40)


PIECES = st.sampled_from(
    [
        "word ",
        "a\n",
        "\n\n",
        "\r\n",
        "\r",
        "- x\n",
        "```\n",
        "# h\n\n",
        "x" * 35,
        "*a* ",
        "<b>",
        "$a$ ",
        "\n",
        "1. y\n\n",
    ]
)


@pytest.mark.usefixtures("_small_limits")
@settings(max_examples=200, deadline=None)
@given(st.lists(PIECES, min_size=5, max_size=80))
@example(["a\n\n"] * 26 + ["b" * 60])
@example(["a\n\n"] * 30 + ["b" * 60, "c" * 30])
@example(["a" * 99, "\r", "\n", "b" * 60])
@example(["a" * 100, "\n" * 139, "\r", "\n", "\r"])
@example(["```\n", "a\n" * 80, "```\n", "b"])
def test_any_split_of_a_long_text_gives_the_same_html(deltas: list[str]) -> None:
    """At every moment finished + tail is the HTML of the text so far, on both sides of the limit."""
    stream = MarkdownStream()
    text, before = "", 0
    for delta in deltas:
        stream.feed(delta)
        text += delta
        new = stream.advance()
        assert stream.finished[before:] == new
        before = len(stream.finished)
        html = "".join(stream.finished) + stream.tail()
        assert html == render_markdown(text)
        audit(html)
    stream.close()
    assert "".join(stream.finished) == render_markdown(text)
    assert stream.tail() == ""


@pytest.mark.usefixtures("_small_limits")
def test_the_rest_of_a_long_text_is_as_it_was_written() -> None:
    """The Markdown ends with a line, and nothing of the rest is lost or read as Markdown."""
    rest = "*b* <i>\n\n  $c$ ![d](http://e)\n" * 5
    html = render_markdown("*a* " * 24 + "\n" + rest)
    assert html.startswith("<p><em>a</em> <em>a</em>")
    assert html.count("<em>") == 24
    head, *pieces = html.split("<pre><code>")
    assert audit("".join(f"<pre><code>{piece}" for piece in pieces)).text != []
    assert "".join(audit(html).text).replace("\n", "").endswith(rest.replace("\n", ""))
    assert "<a" not in html
    assert audit(html).formulas == []
    assert "*b*" not in head


@pytest.mark.usefixtures("_small_limits")
def test_a_citation_in_the_rest_is_a_number() -> None:
    """The number comes after the text, in whatever pieces the text arrives."""
    whole, pieces = MarkdownStream(), MarkdownStream()
    for stream, size in ((whole, 500), (pieces, 7)):
        for sentence in ("one " * 20, "two " * 20, "three"):
            for begin in range(0, len(sentence), size):
                stream.feed(sentence[begin : begin + size])
                stream.advance() if size == 7 else None
            stream.cite(1, "https://e.com")
        stream.close()
    assert "".join(whole.finished) == "".join(pieces.finished)
    assert "three[1]</code>" in "".join(whole.finished)


@pytest.mark.usefixtures("_small_limits")
def test_code_in_the_rest_is_not_code() -> None:
    """The fenced blocks of a text are those that the page shows as code."""
    block = "```python\nx = 1\n```\n\n"
    assert fenced_code(block * 2) == [("python", "x = 1")] * 2
    assert len(fenced_code(block * 50)) == render_markdown(block * 50).count('class="highlight"')


@pytest.mark.usefixtures("_small_limits")
def test_the_live_view_shows_a_long_text_as_the_final_output_does() -> None:
    """The segments of a long text are together what the final output shows."""
    text = "# a\n\n" + "word *b*\n" * 60
    segments, row = Segments(MarkdownStream(), first=True), {}
    for now, begin in enumerate(range(0, len(text), 11)):
        segments.feed(text[begin : begin + 11])
        segments.advance()
        row.update(segments.show(float(now), sealed=0))
    segments.close()
    row.update(segments.show(1e6, sealed=0))
    html = "".join(row[place] for place in sorted(row)).replace("<i hidden></i>", "")
    assert html == render_markdown(text)


@pytest.mark.parametrize("text", ["word *b* `c`\n\n- x\n", "x", "```\ncode\n", "a\n"])
def test_the_time_is_linear_above_the_limit(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The final output of 4 MB takes a second, where Markdown would take minutes. bench/rendering.py measures it."""
    monkeypatch.setattr(long_text, "MAX_MARKDOWN_CHARACTERS", 50_000)

    def seconds(size: int) -> float:
        whole = (text * (size // len(text) + 1))[:size]
        began = time.thread_time()
        bundle = render_response(Response(text=whole, blocks=(TextBlock(whole),)))
        assert len(bundle["text/html"]) >= size
        return time.thread_time() - began

    assert seconds(4_000_000) < seconds(long_text.MAX_MARKDOWN_CHARACTERS) + 8.0


def test_a_long_answer_whose_drawing_was_stopped_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """To show all of 50 MB as plain text would take many seconds after the interrupt."""
    shown: list[dict[str, str]] = []

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(final, "render_response", stop)
    monkeypatch.setattr(final, "publish_response", lambda response, bundle, *_, **__: shown.append(bundle))
    for text in ("word **b**\n" * 100_000, "word"):
        with pytest.raises(KeyboardInterrupt):
            final.settle_output(Response(text), "a-display", is_new=True)
        bundle = shown.pop()
        assert bundle["text/plain"].startswith("word")
        assert bundle["text/plain"].endswith("%nbchat show draws it again]")
        assert ("…" in bundle["text/plain"]) == (len(text) > 1_000)
        assert len(bundle["text/html"]) < 400_000
