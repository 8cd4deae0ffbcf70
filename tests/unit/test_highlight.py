"""The colours of code: no code, however hostile, keeps the kernel busy."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markup import audit

from nbchat.view.html import highlight
from nbchat.view.html.budget import MAX_SLOW_BLOCKS, Budget
from nbchat.view.html.highlight import LANGUAGES, MAX_COLOURED_CHARACTERS, code_html
from nbchat.view.html.markdown import render_markdown
from nbchat.view.html.safe import clean

LEXERS = sorted(set(LANGUAGES.values()))
#: Without a budget the patterns below take 15 to 40 s. The budget itself is measured by bench/rendering.py.
HANG_S = 5.0
PATTERNS = st.lists(
    st.sampled_from(
        [
            *("a", "a b", "1", "_", "\n", "\n\n", " ", "\t", "\ta\n", "a.c", "a.c b ", "a,", "<", "<a ", "<!--", "["),
            *("(", "{", "}", ")", "]", '"', "'", "`", "\\", "\\\n", "/", "//", "/*", "#", "-", "--", "=", "a=", ":"),
            *("::", "a:", "@a", "$", "${", "*", "|", "&", ";", "%", "~", "^", "!", "?", "+", "a(", "a {", "\r", "."),
            *("0x", "def ", "class a", "public ", "a[] ", "é", "<<a\n", '"""', "'''", 'r"', "if ", "template <"),
            *("#if ", "a\n", "\\a", "\\begin{", "http://", "> ", "* ", "== "),
        ]
    ),
    min_size=1,
    max_size=4,
).map("".join)


@pytest.fixture(scope="module", autouse=True)
def _loaded() -> None:
    """Load all lexers first: each builds its tables at its first text."""
    for name in LEXERS:
        code_html("a = 1\n", name)


def shown(html: str) -> str:
    """Return the text that the page shows."""
    return "".join(audit(clean(html)).text)


@settings(max_examples=30, deadline=None)
@given(PATTERNS, PATTERNS, st.sampled_from(LEXERS))
@example("", "\ta\n", "csharp")
@example("", "a\n", "groovy")
@example("", "\n", "c")
@example("", "a b.c", "java")
@example("", "\n", "matlab")
@example("", "1", "ocaml")
@example("", "== ", "ini")
@example("", "a {", "scala")
@example("", "\\begin{", "console")
@example("", "1e", "make")
@example("", " ", "sas")
@example("", "/", "cpp")
@example("<<A\n", "a(", "ruby")
def test_no_pattern_is_slow(before: str, pattern: str, language: str) -> None:
    """A block of 20 kB of a small pattern stays within the budget and is whole, in each language of a fence."""
    source = (before + pattern * 20_000)[:20_000].replace("\r", "\n")
    began = time.thread_time()
    html = code_html(source, language)
    assert time.thread_time() - began < HANG_S
    assert shown(html) == shown(code_html(source))


@pytest.mark.parametrize("language", LEXERS)
def test_no_lexer_drops_code(language: str) -> None:
    """All lines are shown, with a newline at the end and without."""
    for source in ("$ ls\na", "$ ls\na\n", ">>> a\n1", "> a", "# a\n\n  b\n", "a\tb\n"):
        assert shown(code_html(source, language)) == shown(code_html(source))


@pytest.mark.parametrize(
    ("language", "pattern", "size"),
    [("c#", "\ta\n", 16_000), ("c", "\n", 20_000), ("java", "a b.c", 50_000), ("matlab", "\n", 20_000)],
)
def test_code_that_was_slow_is_plain(language: str, pattern: str, size: int) -> None:
    """Code for which the lexer would need half a minute has no colours."""
    source = (pattern * size)[:size]
    assert code_html(source, language) == code_html(source)


def test_long_code_is_coloured_at_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole lines at the beginning have colours, and the rest is plain."""
    monkeypatch.setattr(highlight, "_clock", lambda: 0.0)  # a busy machine may need more than the budget
    line = "x = 'a'  # b\n"
    html = code_html(line * 10_000, "python")
    lines = html.split("\n")
    coloured = MAX_COLOURED_CHARACTERS // len(line)
    assert len(lines) > 10_000
    assert (
        lines[1]
        == lines[coloured - 1]
        == '</em>x <span class="o">= </span><span class="s1">&apos;a&apos;  </span><em># b'.replace("&apos;", "'")
    )
    assert lines[coloured + 1] == lines[9_999] == line.rstrip("\n")


def test_the_time_of_a_block_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block has its colours up to the last moment of its budget, and none after it."""
    line = "x = 'a'  # b\n"
    readings = 0

    def clock() -> float:
        nonlocal readings
        readings += 1
        return elapsed_s if readings > 1 else 0.0

    monkeypatch.setattr(highlight, "_clock", clock)
    for count in (100, 3_000):
        budget_s = max(highlight.MAX_COLOURING_S, highlight.MAX_COLOURING_S_PER_CHARACTER * count * len(line))
        for elapsed_s in (budget_s * 0.99, budget_s * 1.01):
            readings = 0
            html = code_html(line * count, "python")
            assert (html == code_html(line * count)) == (elapsed_s > budget_s)


def test_after_slow_blocks_an_answer_has_no_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer of many slow blocks does not pay for each of them."""
    calls = 0

    def slow(source: str, name: str) -> str:
        nonlocal calls
        calls += 1
        raise highlight.TooSlowError

    monkeypatch.setattr(highlight, "_coloured", slow)
    budget = Budget()
    html = render_markdown("```python\nx = 1\n```\n\n" * 50, budget)
    assert html.count("x = 1") == 50
    assert calls == MAX_SLOW_BLOCKS
    assert budget.slow_blocks == 0


def test_the_clock_is_read_between_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lexer that returns tokens for ever is left, and an interrupt gets through."""

    class Endless:
        def get_tokens(self, source: str) -> Iterator[tuple[object, str]]:
            while True:
                yield highlight_kind, "x"

    from pygments.token import Text

    highlight_kind = Text
    monkeypatch.setattr(highlight, "_lexer", lambda name: Endless())
    assert code_html("a", "python") == code_html("a")

    class Interrupted:
        def get_tokens(self, source: str) -> Iterator[tuple[object, str]]:
            raise KeyboardInterrupt
            yield

    monkeypatch.setattr(highlight, "_lexer", lambda name: Interrupted())
    with pytest.raises(KeyboardInterrupt):
        code_html("a", "python")
