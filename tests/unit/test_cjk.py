r"""Emphasis beside Chinese, Japanese and Korean, as the amendment of CommonMark says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from nbchat.view.html.dialect import dialect_parser
from nbchat.view.html.markdown import MarkdownStream, render_markdown


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("**重要：**请注意", "<strong>重要：</strong>请注意"),
        ("**「A」**なので**「B」**", "<strong>「A」</strong>なので<strong>「B」</strong>"),
        ("**“引用”**很", "<strong>“引用”</strong>很"),
        ("这是**“引用”**的", "这是<strong>“引用”</strong>的"),
        ("**중요(重要)**는", "<strong>중요(重要)</strong>는"),
        ("**이 용어(This term)**를", "<strong>이 용어(This term)</strong>를"),
        ("**この文（注）。**次の文", "<strong>この文（注）。</strong>次の文"),
        ("中文**（括号）**中文", "中文<strong>（括号）</strong>中文"),
        ("注意**《书名》**和*《另一本》*。", "注意<strong>《书名》</strong>和<em>《另一本》</em>。"),
        ("**价格：$5。**然后", "<strong>价格：$5。</strong>然后"),
        ("我可以强调**这个`code`**吗", "我可以强调<strong>这个<code>code</code></strong>吗"),
        ("**(a)**中", "<strong>(a)</strong>中"),
        ("中**(a)**b", "中**(a)**b"),
        ("**C#**は", "<strong>C#</strong>は"),
        ("**100%**的", "<strong>100%</strong>的"),
        ("**[链接](https://e.com/)**是", None),
        ("~~（旧）~~新", "<s>（旧）</s>新"),
        ("***「A」***です", "<em><strong>「A」</strong></em>です"),
        ("**𠮷野家：**だ", "<strong>𠮷野家：</strong>だ"),
        ("**ｶﾅ｡**ｶﾅ", "<strong>ｶﾅ｡</strong>ｶﾅ"),
        ("**ᄀ.**ᄀ", "<strong>ᄀ.</strong>ᄀ"),
        ("葛\U000e0100**(a)**", "葛\U000e0100<strong>(a)</strong>"),
        ("字\ufe00**(a)**", "字\ufe00<strong>(a)</strong>"),
        # Where no CJK character is beside the stars, nothing changes.
        ("**a.**b", "**a.**b"),
        ("a**“b”**c", "a**“b”**c"),
        ("** 重要 **请", "** 重要 **请"),
        ("_「A」_なので", "_「A」_なので"),
        ("2 * 3 * 中", "2 * 3 * 中"),
    ],
)
def test_emphasis(text: str, html: str | None) -> None:
    """On the page and letter by letter."""
    whole = render_markdown(text)
    assert ("<strong><a " in whole) if html is None else whole == f"<p>{html}</p>\n"
    stream = MarkdownStream()
    for letter in text:
        stream.feed(letter)
        stream.advance()
    stream.close()
    assert "".join(stream.finished) == whole


@given(st.text("ab .,(*_~é“”—🎉✅Дα\n", max_size=30))
def test_other_scripts_are_as_in_common_mark(text: str) -> None:
    """A text without CJK characters has the emphasis of CommonMark."""
    plain = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    assert dialect_parser().render(text) == plain.render(text)
