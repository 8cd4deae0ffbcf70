"""Fenced code is what the page shows as fenced code."""

from __future__ import annotations

import doctest
from html.parser import HTMLParser
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbchat.view.html import fences
from nbchat.view.html.fences import fenced_code
from nbchat.view.html.markdown import render_markdown
from nbchat.view.html.parser import markdown_parser
from nbchat.view.html.safe import neutral


def test_the_example_in_the_docstring_is_right():
    """Run the doctest."""
    result = doctest.testmod(fences)
    assert result.attempted
    assert not result.failed


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("no code, `inline` only", []),
        ("```python\nx = 1\n```", [("python", "x = 1")]),
        ("```Python title=a\nx\n```", [("python", "x")]),
        ("a\n```\nx\n\ny\n```\nb\n~~~r\nz\n~~~", [("", "x\n\ny"), ("r", "z")]),
        ("````md\n```python\nx\n```\n````", [("md", "```python\nx\n```")]),
        ("~~~\n```\nx\n```\n~~~", [("", "```\nx\n```")]),
        ("- item\n  ```python\n  if x:\n    y()\n  ```", [("python", "if x:\n  y()")]),
        ("```python\nnever closed", [("python", "never closed")]),
        ("```", []),
        ("```\n```", [("", "")]),
        ("``` a`b ```", []),
        ("~~~ a`b\nx\n~~~", [("a`b", "x")]),
        ("``\nx\n``", []),
        ("> ```python\n> x = 1\n> ```", [("python", "x = 1")]),
        ("> ```python\n> x = 1\n\nand then", [("python", "x = 1")]),
        ("1. a\n\n   > ```r\n   > y\n   > ```\n", [("r", "y")]),
        ("Text:\n\n    ```python\n    x\n    ```\n", []),
        ("$$\n```\nx\n```\n$$", []),
        ("```{r}\ny\n```\n```{.python .numbers}\nx\n```", [("r", "y"), ("python", "x")]),
        ("```python\r\nx\r\ny\r\n```\r\n", [("python", "x\ny")]),
        ("- ```\n\ttext\n  ```", [("", "  text")]),
        ('```json\n{"a": "\u202aabc\u202c"}\n```', [("json", '{"a": "\u202aabc\u202c"}')]),
        ("> ```\n>   a\x0cb\n> \x1b\n> ```", [("", "  a\x0cb\n\x1b")]),
        ("> " * 30 + "```\n" + "> " * 30 + "x\n", []),
    ],
)
def test_fenced_code(text: str, blocks: list[tuple[str, str]]):
    """In quotes and lists too, but not in indented code or in a formula."""
    assert fenced_code(text) == blocks


CODE = st.lists(st.sampled_from(["x = 1", "", "  y()", "``", "~~~"]), min_size=1, max_size=4)


@given(st.lists(st.tuples(st.sampled_from(["", "python", "r"]), CODE), max_size=3))
def test_fenced_code_is_what_was_fenced(parts: list[tuple[str, list[str]]]):
    """With prose between the blocks, and other fences inside the code."""
    text = "\n".join(f"Some `words`.\n```{language}\n" + "\n".join(rows) + "\n```" for language, rows in parts)
    assert fenced_code(text) == [(language, "\n".join(rows)) for language, rows in parts]


class CodeBlocks(HTMLParser):
    """The text of each code block of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._inside = False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "code" and ("class", "highlight") in attrs:
            self._inside = True
            self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "code":
            self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.texts[-1] += data


LINES = st.sampled_from(
    [
        *("```", "```python", "~~~", "~~~~", "````md", "  ```", "    ```", "\t```", "``` a`b"),
        *("> ```", "> x", ">", "> > ```r", "- ```", "  - ```", "1. ```", "   ```", "- item", "> - ```"),
        *("x = 1", "    x = 1", "", "", "$$", "\\[", "| a |", "|---|", "text", "# head", "<pre>", "a\x0cb\u202ec"),
        *("[a]: http://e.com", "***", "===", "    ", "> " * 25 + "```", "  x\ty\r"),
    ]
)


@settings(max_examples=400)
@given(st.lists(LINES, max_size=14))
def test_the_blocks_are_those_that_the_page_shows(lines: list[str]):
    """In the same order, with the same text. The page also shows an open fence without lines, as an empty block."""
    text = "\n".join(lines)
    with patch.dict(markdown_parser().renderer.rules, {"code_block": lambda *_: ""}):  # code by its indent
        page = CodeBlocks(render_markdown(text)).texts
    assert [neutral(source) for _, source in fenced_code(text) if source] == [source for source in page if source]
