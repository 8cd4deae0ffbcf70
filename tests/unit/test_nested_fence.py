r"""Fences inside a fence: one block if they pair, CommonMark if they do not, and the same in pieces as whole."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from nbchat.view.html import nested_fence
from nbchat.view.html.fences import fenced_code
from nbchat.view.html.markdown import MarkdownStream, render_markdown, rendered_tokens
from nbchat.view.html.nested_fence import fence_language
from nbchat.view.live.segments import MARGIN_GUARD, Segments
from nbchat.view.terminal_markdown import finished

README = """# Title

Install it:

```bash
pip install x
```

Then:

1. Call it:

   ```python
   x()
   ```

2. Done."""


def common_mark(text: str) -> list[tuple[str, str]]:
    """Return the fenced code blocks of CommonMark."""
    return [
        (fence_language(token.info).lower(), token.content.removesuffix("\n"))
        for token in MarkdownIt("commonmark").parse(text)
        if token.type == "fence" and token.map and token.map[1] - token.map[0] > 1
    ]


@pytest.mark.parametrize("language", ["markdown", "md", "Markdown", "mdx", "text", "{.markdown}", "qmd title=a"])
@pytest.mark.parametrize("marks", ["```", "````", "~~~"])
def test_a_document_in_a_fence_is_one_block(language: str, marks: str) -> None:
    """Whatever the fence is made of, and with text before and after it."""
    readme = README.replace("```", marks)
    text = f"Here it is:\n\n{marks}{language}\n{readme}\n{marks}\n\nAfter it.\n\n```python\ny\n```\n"
    assert fenced_code(text) == [(fence_language(language).lower(), readme), ("python", "y")]
    assert render_markdown(text).count("<pre>") == 2
    assert "<p>After it.</p>" in render_markdown(text)


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        # The inner fences are bare.
        ("```markdown\nExample:\n```\nx\n```\n## End\n```", [("markdown", "Example:\n```\nx\n```\n## End")]),
        ("```md\n## Example\n```\nx\n```\n\n## End\n```\nAfter", [("md", "## Example\n```\nx\n```\n\n## End")]),
        ("```md\na\n\n```\nx\n\ny\n```\n\n```\nz\n```\n```", [("md", "a\n\n```\nx\n\ny\n```\n\n```\nz\n```")]),
        ("```md\n例：\n```\nx\n```\n```js\ny\n```\n```", [("md", "例：\n```\nx\n```\n```js\ny\n```")]),
        # Three levels.
        ("```md\n```md\n```py\nx\n```\n```\n```\n\nz", [("md", "```md\n```py\nx\n```\n```")]),
        # In a list and in a quote.
        ("- a\n  ```md\n  ```py\n  x\n  ```\n  b\n  ```\n- c", [("md", "```py\nx\n```\nb")]),
        ("> ```md\n> ```py\n> x\n> ```\n> b\n> ```\n\nc", [("md", "```py\nx\n```\nb")]),
        # Longer and shorter fences.
        ("````md\n```py\nx\n```\nb\n````", [("md", "```py\nx\n```\nb")]),
        ("````md\n```py\nx\n````", [("md", "```py\nx")]),
        ("```md\n````py\n```\n````\nb\n```", [("md", "````py\n```\n````\nb")]),
        # The last fence was forgotten: CommonMark.
        ("```md\n```py\nx\n```\n\nAfter.\n\n```py\ny\n```\n\nEnd.", [("md", "```py\nx"), ("py", "y")]),
        ("```md\n```py\nx\n```\n\nAfter.\n\n```\ny\n```\n\nEnd.", [("md", "```py\nx"), ("", "y")]),
        ("> ```md\n> ```py\n> x\n> ```\n\n```\ny\n```", [("md", "```py\nx"), ("", "y")]),
        ("- ```md\n  ```py\n  x\n  ```\n\n```\ny\n```", [("md", "```py\nx"), ("", "y")]),
        # The fence of the code inside was forgotten.
        ("```md\n```py\nx\n```\n\nAfter.", [("md", "```py\nx")]),
        # Nothing is nested.
        ("```md\n# T\n```\n\nAfter:\n\n```\ny\n```\n\nEnd.", [("md", "# T"), ("", "y")]),
        ("```md\n# T\n```\nAfter it:\n\n```\ny\n```\n", [("md", "# T"), ("", "y")]),
        ("```md\n# T\n```\nAfter it.\n```py\ny\n```\n", [("md", "# T"), ("py", "y")]),
        ("```text\nout\n```\nNext:\n```\ny\n```\n", [("text", "out"), ("", "y")]),
        ("```md\nout\n```\nNext:\n```\ny\n```\n", [("md", "out"), ("", "y")]),
        # Other code holds no fences.
        ('```python\n"""\n```py\nx\n```\n"""\n', [("python", '"""\n```py\nx')]),
        ("```\n```py\nx\n```\n", [("", "```py\nx")]),
        # An answer that stopped inside the inner code.
        ("```md\n# T\n```py\nx", [("md", "# T\n```py\nx")]),
    ],
)
def test_which_fences_are_inside(text: str, blocks: list[tuple[str, str]]) -> None:
    """Fences that pair are inside. If they do not pair, the first bare fence ends the block."""
    assert fenced_code(text) == blocks


LINES = st.sampled_from(
    [
        *("```md", "```md", "```markdown", "~~~md", "````md", "```text", "```py", "```py", "```", "```", "```"),
        *("~~~", "````", "~~~r", "   ```", "    ```", "> ```md", "> ```py", "> ```", "- ```md", "  ```py", "  ```"),
        *("", "", "", "x", "x", "Example:", "# head", "After it.", "- item", "> x", "  x", " "),
    ]
)
TEXTS = st.lists(LINES, max_size=16).map("\n".join)


@settings(max_examples=600, deadline=None)
@given(TEXTS)
@example("```md\n```py\nx\n```\n\nAfter it.\n\n```\n\n```")
def test_a_block_differs_from_common_mark_only_if_its_fences_pair(text: str) -> None:
    """The first other block is Markdown or text, ends at a fence, and has an even number of fences inside."""
    ordinary = MarkdownIt("commonmark").parse(text)
    places = {(token.map[0], token.map[1]) for token in ordinary if token.type == "fence" and token.map}
    for token in rendered_tokens(text):
        if token.type == "fence" and token.map and tuple(token.map) not in places:
            assert fence_language(token.info) in nested_fence.MARKDOWN | nested_fence.TEXT
            inside = re.findall(rf"^ {{0,3}}{token.markup[:3]}", token.content, re.MULTILINE)
            assert len(inside) >= 2
            assert text.split("\n")[token.map[1] - 1].strip("> ").strip(token.markup[0]) == ""
            break


@settings(max_examples=300, deadline=None)
@given(
    st.recursive(
        st.sampled_from(["text", "# head", "", "a  b"]),
        lambda parts: st.builds(
            lambda language, inner: f"```{language}\n" + "\n".join(inner) + "\n```",
            st.sampled_from(["md", "markdown", "text"]),
            st.lists(parts, min_size=1, max_size=4),
        ),
        max_leaves=12,
    ).filter(lambda text: text.startswith("```")),
    st.sampled_from(["", "\n", "\nAfter.", "\n\nAfter.\n\n```py\ny\n```\n"]),
)
def test_named_fences_that_pair_are_one_block(document: str, after: str) -> None:
    """At any depth, and nothing after the block is in the block."""
    language, _, source = document.removesuffix("\n```").partition("\n")
    assert fenced_code(document + after)[0] == (language.strip("`"), source)
    assert len(fenced_code(document + after)) == 1 + ("```py" in after)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(["", "x", "# head", "Example:", "- item", "    ```"]), max_size=6),
    st.lists(st.sampled_from(["x", "", "# head", "After it.", "> x"]), max_size=6),
)
def test_a_forgotten_fence_takes_nothing_from_the_answer(before: list[str], after: list[str]) -> None:
    """If the fence of the document has no end, the text after its first code is text."""
    begin = "\n".join(["```md", *before, "```py", "x", "```", ""])
    end = "\n".join(after)
    assert fenced_code(f"{begin}\n{end}") == [("md", "\n".join([*before, "```py", "x"]))]
    assert render_markdown(f"{begin}\n{end}") == render_markdown(begin) + render_markdown(end)


def shown(text: str) -> str:
    """Return the HTML of a text that may still grow."""
    stream = MarkdownStream()
    stream.feed(text)
    return "".join(stream.advance()) + stream.tail()


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.integers(1, 9))
@example("```md\n```py\nx\n```\nAfter it.\n\nx\n\n```py", 1)
def test_any_split_gives_the_same_html(text: str, size: int) -> None:
    """While the text grows, at its end, and in the terminal."""
    stream = MarkdownStream()
    for begin in range(0, len(text), size):
        stream.feed(text[begin : begin + size])
        before = list(stream.finished)
        stream.advance()
        assert stream.finished[: len(before)] == before
        assert "".join(stream.finished) + stream.tail() == shown(text[: begin + size])
        end = finished(text[: begin + size])
        assert render_markdown(text[:end]) + render_markdown(text[end:]) == render_markdown(text)
    stream.close()
    assert "".join(stream.finished) == render_markdown(text)


def test_a_document_that_arrives_is_one_block_all_the_time() -> None:
    """No part of the document is shown as prose for a while."""
    stream = MarkdownStream()
    for letter in f"```markdown\n{README}\n":
        stream.feed(letter)
        assert not stream.advance()
        assert "<h1>" not in stream.tail()
        assert "<ol>" not in stream.tail()
    assert not stream.may_be_cut
    stream.feed("```\n\nAfter")
    assert len(stream.advance()) == 1
    assert stream.tail() == "<p>After</p>\n"
    assert stream.may_be_cut


def words(html: str) -> list[str]:
    """Return the words of HTML, without its colours and its blocks."""
    return re.sub(r"<[^>]*>|&#10;", " ", re.sub(r"</?(?:span|em)[^>]*>", "", html)).split()


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.integers(1, 9))
def test_the_live_values_are_right_at_the_end(text: str, size: int) -> None:
    """Lines that were sealed are not shown twice, and none is missing, if CommonMark decides at the end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nbchat.view.live.segments.LONG_BLOCK_BYTES", 1)
        segments, values = Segments(MarkdownStream(), first=True), {}
        for begin in range(0, len(text), size):
            segments.feed(text[begin : begin + size])
            segments.advance()
            values.update(segments.show(float(begin), 0))
        segments.close()
        now = 1e9
        while True:
            values.update(segments.show(now, 0))
            if segments.due > now:
                break
    html = "".join(values[place] for place in sorted(values)).replace(MARGIN_GUARD, "")
    assert words(html) == words(render_markdown(text))


def test_many_fences_that_do_not_pair_are_read_in_linear_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """After so many lines that were searched without a result, CommonMark decides at once."""
    monkeypatch.setattr(nested_fence, "MAX_SEARCHED_LINES", 50)
    unpaired = "```md\n```py\n```\n\n" * 30
    text = unpaired + "```md\n```py\nx\n```\n\n```"
    assert fenced_code(text) == common_mark(text)
