"""The fuzz ring: what holds for any Markdown, however it arrives."""

from __future__ import annotations

import re

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from markup import audit, sources_html
from payloads import PAYLOADS

from nbchat.core.messages import ToolUseBlock
from nbchat.view.html.markdown import MarkdownStream, render_markdown
from nbchat.view.html.parser import markdown_parser
from nbchat.view.html.render import details, render_thinking, render_tool_call

WORDS = st.sampled_from(
    [
        *("a", "word", "two words", "1", "x_y", "ÄÖ", "日本", "é\u0301", "🙂", "[x]", "[ ]", "[r]", "[t][r]", "[r][]"),
        *("*", "**", "_", "~~", "`", "``", "[", "]", "(", ")", "<", ">", "!", "|", "\\", "&", "#", "\\|", "\\\\"),
        *("$", "$$", "$x$", "$5", "\\(", "\\)", "\\[", "\\]", "{", "}", "^", "\\frac", "\\mmlToken", "\\href{x}"),
        *("*em*", "**strong**", "`code`", "[t](http://e.com)", "![i](http://e.com/i)", "<http://e.com>", "<br>"),
        *("&amp;", "&#10;", "&#x202e;", "&lt;b&gt;", "http://e.com/a_b.", "https://e.com/(x)", "[x](javascript:y)"),
        *("<b>", "</b>", "<script>", "<!--", "-->", "<img src=x onerror=y>", "\u202e", "\x1b[31m", "\x00", "\ufdd0"),
        *("`a|b`", "$|x|$", "`` a`|b ``", "\\`", "**「A」**", "**B：**", "字", "（", "）", "「", "。", "~~「", "한)"),
        *("[\ufdd01\ufdd1]", "  ", "\t", "\u2028", "\x85", "\x0c", "\ud800"),
    ]
)
PREFIXES = st.sampled_from(
    [
        *("", "", "", "- ", "* ", "+ ", "1. ", "2) ", "10. ", "> ", ">", "# ", "### ", "    ", "  ", "   ", "\t"),
        *("- [ ] ", "- [x] ", "[r]: ", "[r]:", "| ", "\\[", "$$", "\\]", "> - ", "- > ", "-", "1.", "      "),
    ]
)
WHOLE_LINES = st.sampled_from(
    [
        *(
            "",
            "",
            "",
            "",
            " ",
            "  ",
            "---",
            "***",
            "===",
            "```",
            "```python",
            "~~~",
            "````",
            "    ```",
            "  ```",
            "> ```",
        ),
        *(
            "|a|b|",
            "|-|-|",
            "a|b",
            "-|-",
            "|:-:|--:|",
            "| `a || b` | c |",
            "| $|x|$ | `c |",
            "> |a|b|",
            "> |-|-|",
            "[r]: http://e.com",
            "[r]: <http://e.com>",
            "[r]:",
            "'title",
            "end'",
        ),
        *("[r]: http://e.com 'title'", "[R]: /x", "$$", "\\[", "\\]", "\\begin{align}", "\\end{align}", "def f(x):"),
        *("- - -", "- ", "-", "*", "+", "1.", "1)", ">", ">>", "#", "\\", "<div>", "</div>", "<!-- x", "```mermaid"),
    ]
)
LINES = st.one_of(
    WHOLE_LINES, st.builds(lambda prefix, words: prefix + " ".join(words), PREFIXES, st.lists(WORDS, max_size=5))
)
ENDS = st.sampled_from(["\n"] * 8 + ["\r\n", "\r"])
MARKDOWN = st.lists(st.tuples(LINES, ENDS), max_size=18).map(lambda lines: "".join(line + end for line, end in lines))
ANY_TEXT = st.one_of(MARKDOWN, MARKDOWN, st.text(max_size=60), st.sampled_from([text for _, text in PAYLOADS]))

ring = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def texts_in_deltas(draw: st.DrawFn) -> list[str]:
    """A text and a way to cut it."""
    text = draw(ANY_TEXT)
    if draw(st.booleans()):
        return list(text)
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@ring
@given(texts_in_deltas())
@example(["1. a\n\n2", ". b\n"])
@example(["- a\n\n-", "--\n"])
@example(["[a]: /u\n'title\n", "end'\n"])
@example(["a\n\n```\nb\n\n", "```", "\n\nc"])
@example(["$$\n# h\n", "x\n$$\n\ny"])
@example(["$$\na\n\nb\n", "$$\n"])
@example(["a\r", "\n\r", "\nb"])
@example(["> [a]: http://u\n'title\n", "end'\n\n[a]"])
def test_any_split_of_any_text_gives_the_same_html(deltas: list[str]) -> None:
    """At every moment finished + tail is the HTML of the text so far, and finished only grows at its end."""
    stream = MarkdownStream()
    text, before = "", []
    for delta in deltas:
        stream.feed(delta)
        text += delta
        new = stream.advance()
        assert stream.finished == before + new
        before = list(stream.finished)
        assert "".join(stream.finished) + stream.tail() == render_markdown(text)
    stream.close()
    assert stream.finished[: len(before)] == before
    assert "".join(stream.finished) == render_markdown(text)
    assert stream.tail() == ""


@ring
@given(ANY_TEXT)
def test_only_what_is_allowed_comes_out(text: str) -> None:
    """A real HTML parser finds allow-listed tags, attributes, classes and addresses only, well nested."""
    audit(render_markdown(text))


@ring
@given(ANY_TEXT, ANY_TEXT, st.booleans())
def test_all_parts_are_safe(text: str, other: str, flag: bool) -> None:
    """So it is with every part of an answer, whatever is hostile in it."""
    audit(render_thinking(text))
    audit(render_tool_call(ToolUseBlock("t1", text, {text: other, "code": other}), None, text if flag else None, flag))
    audit(details(text, render_markdown(other), flag))
    audit(sources_html([{"type": "web_search_result_location", "url": text, "title": other, "cited_text": text}]))


@ring
@given(st.lists(st.tuples(MARKDOWN, st.booleans()), max_size=4))
def test_citations_do_not_depend_on_the_split(parts: list[tuple[str, bool]]) -> None:
    """Citations stand where they belong, and the HTML is the same fed at once or letter by letter."""
    whole, letters = MarkdownStream(), MarkdownStream()
    for number, (text, cited) in enumerate(parts, 1):
        whole.feed(text)
        for letter in text:
            letters.feed(letter)
            letters.advance()
        if cited:
            whole.cite(number, "https://e.com")
            letters.cite(number, "https://e.com")
    whole.close()
    letters.close()
    assert "".join(whole.finished) == "".join(letters.finished)
    audit("".join(whole.finished))


@ring
@given(MARKDOWN.filter(lambda text: "]:" not in text))
def test_cutting_does_not_change_the_meaning(text: str) -> None:
    """Without reference definitions, the pieces are what the parser makes of the whole text."""
    parser = markdown_parser()
    stream = MarkdownStream()
    stream.feed(text)
    stream._gather()
    tokens = parser.parse(stream._ended(), {"references": {}, "searched": 0})
    blocks = [token.tag for token in tokens if token.nesting == 1 and token.tag and not token.hidden]
    found = re.findall(r"<(p|h\d|ul|ol|li|blockquote|table|thead|tbody|tr|th|td)\b", render_markdown(text))
    if "<pre>" not in render_markdown(text):
        assert [tag for tag in found if tag != "p"] == [tag for tag in blocks if tag != "p"]
