"""The renderer: what each feature of Markdown becomes, and that the hostile corpus becomes nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter

import pytest
from markdown_it import MarkdownIt
from markup import MACROS, audit, sources_html
from payloads import PAYLOADS, armed

from nbchat.core.chunks import ToolDecision
from nbchat.core.messages import Message, OpaqueBlock, TextBlock, ThinkingBlock, ToolUseBlock
from nbchat.core.response import Response
from nbchat.view.html import markdown, safe
from nbchat.view.html.formula_filter import weigh
from nbchat.view.html.markdown import MarkdownStream, render_markdown
from nbchat.view.html.render import (
    Sources,
    details,
    escape,
    marker,
    render_blocks,
    render_response,
    render_thinking,
    render_tool_call,
    result_text,
    tool_results,
    wrap_answer,
)


def link(address: str, text: str | None = None) -> str:
    target = "" if address.startswith("mailto:") else ' target="_blank"'
    seen = ' style="text-decoration:underline"'
    return f'<a href="{address}"{seen}{target} rel="noopener noreferrer nofollow">{text or address}</a>'


def formulas(html: str) -> str:
    """``html`` with what is in ⟦ ⟧ as formulas for MathJax."""
    return html.replace("⟦", '<span class="mathjax_process tex2jax_process">').replace("⟧", "</span>")


def code(inner: str) -> str:
    return f'<div class="jp-RenderedHTMLCommon"><pre><code class="highlight">{inner}</code></pre></div>'


GOLDENS = {
    "paragraph": ("a *b* **c** ~~d~~ `e`\nf", "<p>a <em>b</em> <strong>c</strong> <s>d</s> <code>e</code>\nf</p>"),
    "hard break": ("a  \nb\\\nc", "<p>a<br>\nb<br>\nc</p>"),
    "headings": ("# a\n\nb\n===\n\n###### c", "<h1>a</h1>\n<h1>b</h1>\n<h6>c</h6>"),
    "rule": ("a\n\n---", "<p>a</p>\n<hr>"),
    "quote": ("> a\n> > b", "<blockquote>\n<p>a</p>\n<blockquote>\n<p>b</p>\n</blockquote>\n</blockquote>"),
    "tight list": ("- a\n- b", "<ul>\n<li>a</li>\n<li>b</li>\n</ul>"),
    "loose list": ("- a\n\n- b", "<ul>\n<li>\n<p>a</p>\n</li>\n<li>\n<p>b</p>\n</li>\n</ul>"),
    "numbered list": ("3. a\n4. b", '<ol start="3">\n<li>a</li>\n<li>b</li>\n</ol>'),
    "nested list with code": (
        "1. a\n   - b\n\n     ```python\n     x = 1\n\n     y\n     ```\n2. c",
        "<ol>\n<li>a\n<ul>\n<li>\n<p>b</p>\n"
        + code('x <span class="o">= </span><span class="mi">1&#10;&#10;</span>y')
        + "\n</li>\n</ul>\n</li>\n<li>c</li>\n</ol>",
    ),
    "task list": (
        "- [ ] a\n- [x] **b**\n- [X] c\n- [y] d\n- [ ]e",
        "<ul>\n<li>☐ a</li>\n<li>☑ <strong>b</strong></li>\n<li>☑ c</li>\n<li>[y] d</li>\n<li>[ ]e</li>\n</ul>",
    ),
    "table": (
        "|a|b|c|\n|-|:-:|--:|\n|1|2<br>3|*4*|\n|5|",
        "<table>\n<thead>\n<tr>\n"
        '<th style="text-align:left">a</th>\n<th style="text-align:center">b</th>\n'
        '<th style="text-align:right">c</th>\n'
        "</tr>\n</thead>\n<tbody>\n<tr>\n"
        '<td style="text-align:left">1</td>\n<td style="text-align:center">2<br>\n3</td>\n'
        '<td style="text-align:right"><em>4</em></td>\n</tr>\n<tr>\n'
        '<td style="text-align:left">5</td>\n<td></td>\n<td></td>\n</tr>\n</tbody>\n</table>',
    ),
    "code with colours": (
        "```python\ndef f():\n    return 'a'  # b\n```",
        code(
            '<span class="k">def </span>f<span class="p">():&#10;    </span><span class="k">return </span>'
            "<span class=\"s1\">'a'  </span><em># b</em>"
        ),
    ),
    "code of no known language": ("~~~brainwhat x\n<a>&\n~~~", code("&lt;a&gt;&amp;")),
    "code without a language": ("```\n\na\n\n\nb\n```", code("&#10;a&#10;&#10;&#10;b")),
    "indented code": ("    a\n\n    b", code("a&#10;&#10;b")),
    "code that is still open": ("```sh\necho 1", code('echo <span class="m">1</span>')),
    "empty code": ("```\n```", code("")),
    "links": (
        '[a](https://e.com/?a=1&b "t") <https://e.com> [m](mailto:a@e.com) [r](/lab) [j](javascript:1) [n](//e.com)',
        f"<p>{link('https://e.com/?a=1&amp;b', 'a')} {link('https://e.com')} {link('mailto:a@e.com', 'm')} "
        "[r](/lab) [j](javascript:1) [n](//e.com)</p>",
    ),
    "bare links": (
        "See https://e.com/a_b_(c), (http://e.com/d). nohttps://e.com http:// https://e.com/**",
        f"<p>See {link('https://e.com/a_b_(c)')}, ({link('http://e.com/d')}). nohttps://e.com http:// "
        f"{link('https://e.com/')}**</p>",
    ),
    "images": (
        "![alt *x*](http://e.com/i.png) ![](http://e.com/j) [![b](http://e.com/k)](http://e.com) ![d](data:x)",
        f"<p>{link('http://e.com/i.png', '[image: alt x]')} {link('http://e.com/j', '[image]')} "
        f"{link('http://e.com', '[image: b]')} ![d](data:x)</p>",
    ),
    "references": (
        "[a] [b][a] ![c][a]\n\n[a]: http://e.com 'T'\n[d]: /no\n\n[a] [b][a] ![c][a] [d]",
        f"<p>[a] [b][a] ![c][a]</p>\n<p>[a]: {link('http://e.com')} “T”</p>\n<p>[d]: /no</p>\n"
        f"<p>{link('http://e.com', 'a')} {link('http://e.com', 'b')} {link('http://e.com', '[image: c]')} [d]</p>",
    ),
    "references in a list": (
        "- [a]\n- [a]: http://e.com\n- [a]",
        f"<ul>\n<li>[a]</li>\n<li>\n<p>[a]: {link('http://e.com')}</p>\n</li>\n"
        f"<li>{link('http://e.com', 'a')}</li>\n</ul>",
    ),
    "raw html": (
        "<b>a</b>\n\n<div>\n*b*\n</div>",
        "<p>&lt;b&gt;a&lt;/b&gt;</p>\n<p>&lt;div&gt;\n<em>b</em>\n&lt;/div&gt;</p>",
    ),
    "entities": ("&copy; &lt; &amp;amp; &nosuch;", "<p>© &lt; &amp;amp; &amp;nosuch;</p>"),
    "money": ("$5 and $10, US$5, $5k to $6k, $20 (was $30)", "<p>$5 and $10, US$5, $5k to $6k, $20 (was $30)</p>"),
    "money in words": (
        "from $5 and up to 6$ (or $3 million and 4$)",
        "<p>from $5 and up to 6$ (or $3 million and 4$)</p>",
    ),
    "shell": ("$HOME and $PATH, \\$5 and \\$6", "<p>$HOME and $PATH, $5 and $6</p>"),
    "inline math": (
        r"$x^2$, $5$, $2 \times 3$, \(a<b\), 其中$x$是, **$y$**, $f_*(a) * b_*$",
        r"<p>⟦\(x^2\)⟧, ⟦\(5\)⟧, ⟦\(2 \times 3\)⟧, ⟦\(a&lt;b\)⟧, "
        r"其中⟦\(x\)⟧是, <strong>⟦\(y\)⟧</strong>, ⟦\(f_*(a) * b_*\)⟧</p>",
    ),
    "display math in a line": (r"a $$x$$ b \[y\]", r"<p>a ⟦\[x\]⟧ b ⟦\[y\]⟧</p>"),
    "display math": (
        "a\n$$\nx\n+ y\n$$\nb\n\n\\[ \\frac{1}{2} \\]",
        "<p>a</p>\n<p>⟦\\[x\n+ y\\]⟧</p>\n<p>b</p>\n<p>⟦\\[\\frac{1}{2}\\]⟧</p>",
    ),
    "math in a list": ("- a\n  \\[\n  x\n  \\]", "<ul>\n<li>a<p>⟦\\[x\\]⟧</p>\n</li>\n</ul>"),
    "environments": (
        "\\begin{align}\na &= b \\\\[2pt]\n&= c\n\\end{align}",
        "<p>⟦\\[\\begin{align}\na &amp;= b \\\\[2pt]\n&amp;= c\n\\end{align}\\]⟧</p>",
    ),
    "dollars in a formula": (r"\(\text{if $x>0$}\)", r"<p>⟦\(\text{if $x&gt;0$}\)⟧</p>"),
    "no formula in code": ("`$x$` \\\\(x\\\\)", "<p><code>$x$</code> \\(x\\)</p>"),
    "a formula with a denied macro": (r"$\href{a}{b}$", r"<p><code>$\href{a}{b}$</code></p>"),
    "a formula out of balance": ("$a}b{$ \\[ {x \\]", "<p><code>$a}b{$</code> <code>\\[ {x \\]</code></p>"),
    "unseen characters": ("a\x1b[0m\u202eb\ud800 &#x202e;", "<p>a\ufffd[0m\ufffdb\ufffd \ufffd</p>"),
    "carriage returns": ("a\r\nb\r\rc", "<p>a\nb</p>\n<p>c</p>"),
    "nothing": ("", ""),
    "only space": (" \n\n\t\n", ""),
}


@pytest.mark.parametrize("name", GOLDENS)
def test_golden(name: str) -> None:
    """Each feature of Markdown becomes exactly this HTML."""
    text, html = GOLDENS[name]
    assert render_markdown(text) == formulas(html + "\n" if html else "")
    audit(render_markdown(text))


# --- safety -------------------------------------------------------------------------------------


def test_the_corpus_is_large_and_of_all_classes() -> None:
    """At least 120 payloads, several of each class, each with a name of its own."""
    kinds = Counter(name.rsplit("-", 1)[0] for name, _ in PAYLOADS)
    assert len(PAYLOADS) >= 120
    assert len({name for name, _ in PAYLOADS}) == len({text for _, text in PAYLOADS}) == len(PAYLOADS)
    assert len(kinds) >= 19
    assert min(kinds.values()) >= 5


@pytest.mark.parametrize(("name", "text"), PAYLOADS, ids=[name for name, _ in PAYLOADS])
def test_payload_is_inert(name: str, text: str) -> None:
    """Nothing of a payload but allowed tags, attributes and addresses comes out: in text and in every other part."""
    text = armed(text, f"http://127.0.0.1:1/{name}")
    audit(render_markdown(text))
    for before in ("", "word ", "- ", "> ", "| a |\n|---|\n| "):
        audit(render_markdown(before + text))
    cited = {"type": "web_search_result_location", "url": text, "title": text, "cited_text": text}
    audit(
        wrap_answer(
            details(text, render_thinking(text))
            + render_tool_call(ToolUseBlock(text, text, {}, text), None, text, True)
        )
    )
    audit(sources_html([cited, {"type": "page_location", "document_title": text, "cited_text": text}]))
    call = ToolUseBlock("t", text, {"code": text, "x": [text]})
    blocks = (TextBlock(text, (cited,)), ThinkingBlock(text), call, OpaqueBlock({"type": text, text: text}))
    answer = OpaqueBlock({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": text}]})
    for response in (
        Response(text=text, blocks=blocks, messages=(Message("user", (answer,)),)),
        Response(text=text, status="refused", stop_details={"explanation": text}),
    ):
        bundle = render_response(response)
        assert set(bundle) == {"text/html", "text/plain"}
        audit(bundle["text/html"])


#: The macros of MathJax 3.2 that a formula must not have, sorted by what they could do.
_DENIED = (
    # load or run
    "mmltoken require autoload includegraphics unicode href url mathtip texttip toggle action "
    # carry classes, ids, styles and attributes
    "class style cssid data bbox enclose htmlclass htmlid htmlstyle htmldata htmlattr "
    "colorbox fcolorbox definecolor cellcolor rowcolor columncolor arrayrulecolor "
    # define a macro, which outlives the formula or hides one of the macros above
    "def edef gdef xdef let futurelet global newcommand renewcommand providecommand newenvironment renewenvironment "
    "declaremathoperator declarepaireddelimiter declarepaireddelimiterx declarepaireddelimiterxpp "
    "declarepaireddelimiters declarepaireddelimitersx declarepaireddelimitersxpp newextarrow "
    "newtagform renewtagform usetagform mathtoolsset setoptions csname endcsname catcode "
    "expandafter noexpand input include write openin openout read special "
    # lay things over what is next to them
    "smash llap rlap clap mathllap mathrlap mathclap textllap textrlap textclap crampedllap "
    "crampedrlap crampedclap mathmakebox mathmbox raisebox moveleft moveright"
)


@pytest.mark.parametrize("macro", sorted(_DENIED.split()))
def test_denied_macros_never_reach_mathjax(macro: str) -> None:
    """However it is put, a formula with the macro in it is shown as code."""
    for source in (rf"\{macro}", rf"a\{macro}{{b}}", rf"\text{{\{macro} x}}", rf"\{macro.upper()}[x]", rf"\\\{macro}"):
        assert not weigh(source)
        for text in (f"${source}$", f"$${source}$$", rf"\({source}\)", f"\\[\n{source}\n\\]"):
            assert audit(render_markdown(text)).formulas == []


def test_the_auditor_knows_the_worst_macros_itself() -> None:
    """The audit would notice a denied macro, so that the test above can fail."""
    assert MACROS.search(r"\mmlToken{mglyph}")
    with pytest.raises(AssertionError):
        audit(formulas(r"<p>⟦\(\mmlToken{mglyph}[src=x]{y}\)⟧</p>"))


@pytest.mark.parametrize(
    "source",
    [
        r"\begin{mmlToken}x\end{mmlToken}",
        r"\begin x",
        r"\color{red;x:url(y)}a",
        r"\textcolor[rgb]{1,0,0}{a}",
        r"\raise 500em x",
        r"\kern-99em x",
        r"a \\[100em] b",
        r"\rule{9999999999999em}{1em}",
        "{" * 50 + "x" + "}" * 50,
        "x" * 5000,
        "a\\",
        r"a \) b \( c",
        " ",
    ],
)
def test_formulas_that_are_not_for_mathjax(source: str) -> None:
    """Unknown environments, styles in colours, long ways, and what MathJax would not find the end of."""
    assert not weigh(source)


@pytest.mark.parametrize(
    "source",
    [
        r"\int_0^\infty e^{-x^2}\,dx = \frac{\sqrt{\pi}}{2}",
        r"\begin{pmatrix} a & b \\ c & d \end{pmatrix}",
        r"\textcolor{red}{x} + \color{#ff0000} y",
        r"\hspace{1cm} a \\[2pt] b \kern-1pt c \rule{0pt}{3ex}",
        r"\ce{H2O + CO2 -> H2CO3}",
        r"\left\{ x \in \mathbb{R} \;\middle|\; x > 0 \right\}",
        r"\operatorname{argmax}_\theta \sum_{i=1}^{n} \log p(x_i \mid \theta) \tag{1}",
        r"100\,\text{cm} \% \$ \& \# \_",
    ],
)
def test_formulas_that_people_write(source: str) -> None:
    """They reach MathJax."""
    assert weigh(source)
    assert len(audit(render_markdown(f"\\[{source}\\]")).formulas) == 1


def test_hostile_text_stays_cheap_and_whole() -> None:
    """Input that makes parsers slow or deep neither raises nor loses a word."""
    for text in ("[" * 20_000, "![" * 10_000, "> " * 5_000 + "end", "- " * 5_000 + "end", "*a " * 5_000, "$a " * 5_000):
        html = render_markdown(text)
        shown = audit(html)
        assert "".join(shown.text).count("end") == text.count("end")
    deep = audit(render_markdown("*" * 3_000 + "a" + "*" * 3_000))
    assert "a" in "".join(deep.text)


def test_a_fault_of_the_parser_shows_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """On any failure the text is there as it came, escaped."""

    def fail(*_: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(markdown, "_parse_inside", fail)
    assert render_markdown("<b>\n\nx") == "<pre>&lt;b&gt;</pre>\n<pre>x</pre>\n"
    monkeypatch.setattr(markdown, "markdown_parser", fail)
    assert render_markdown("<b>\n\nx") == "<pre>&lt;b&gt;&#10;&#10;x</pre>\n"


def test_cleaning_is_the_last_word() -> None:
    """Even if a part of ours made bad HTML, it would not come through, and cleaning twice changes nothing."""
    bad = (
        '<p onclick=x id=y class="nbchat">a<script>b</script><img src=x><a href="javascript:c">d</a>'
        '<a href="/lab">e</a><td style="position:fixed">f</td><span class="k evil">g</span></p><pre>h\ni</pre>'
    )
    once = safe.clean(bad)
    audit(once)
    assert safe.clean(once) == once
    assert "position" not in once
    assert "evil" not in once
    for _, text in PAYLOADS:
        html = render_markdown(text)
        assert safe.clean(html) == html


# --- growing ------------------------------------------------------------------------------------


def test_blocks_are_finished_as_soon_as_nothing_can_change_them() -> None:
    """A block is finished at the line after it, or at its first letter, and rendered once."""
    stream = MarkdownStream()
    stream.feed("# a\n\npara")
    assert stream.advance() == ["<h1>a</h1>\n"]
    stream.feed("graph\n\n- x\n\n")
    assert stream.advance() == ["<p>paragraph</p>\n"]
    stream.feed("-")
    assert stream.advance() == []
    stream.feed(" y\n\n    in the list\n\n`")
    assert stream.advance() == []
    assert stream.tail().endswith("</ul>\n<p>`</p>\n")
    stream.feed("``\nopen\n\nstill open\n\n```\n")
    stream.advance()
    assert len(stream.finished) == 3
    stream.feed("\nZ")
    assert "still open" in stream.advance()[-1]
    assert stream.tail() == "<p>Z</p>\n"
    assert stream.close() == ["<p>Z</p>\n"]
    assert stream.tail() == ""


def test_feeding_does_not_parse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Feeding only appends, and a long open block is looked at again only when it grew by a tenth."""
    looks: list[int] = []
    real = markdown._pieces

    def counted(text: str, closed: bool) -> list[markdown._Piece]:
        looks.append(len(text))
        return real(text, closed)

    monkeypatch.setattr(markdown, "_pieces", counted)
    stream = MarkdownStream()
    for _ in range(5_000):
        stream.feed("x = 1\n")
    assert looks == []
    stream = MarkdownStream()
    stream.feed("```\n")
    for _ in range(10_000):
        stream.feed("x = 1\n")
        stream.advance()
    long_looks = [size for size in looks if size > 2 * markdown.LONG_PIECE_CHARACTERS]
    assert sum(long_looks) < 15 * 60_000


# --- parts --------------------------------------------------------------------------------------


def test_wrap_answer_keeps_mathjax_out() -> None:
    """Both MathJax versions look away from the answer, but for its formulas."""
    assert wrap_answer("<p>$5</p>\n") == '<div class="nbchat mathjax_ignore tex2jax_ignore">\n<p>$5</p>\n</div>'
    audit(wrap_answer(""))


def test_details_and_escape() -> None:
    """A summary is text, on one line."""
    assert details("a\n\n<b>", "<p>x</p>\n") == "<details>\n<summary>a &lt;b&gt;</summary>\n<p>x</p>\n</details>\n"
    assert details("a", "", open=True).startswith('<details open="">')
    assert escape("<'\"&\u202e") == "&lt;'&quot;&amp;\ufffd"


def test_thinking_is_markdown_or_nothing() -> None:
    """Thinking that the model did not show leaves nothing."""
    assert render_thinking("*a*") == "<details>\n<summary>Thinking</summary>\n<p><em>a</em></p>\n</details>\n"
    assert render_thinking(" \n") == ""


def test_tool_call_card() -> None:
    """A card has the arguments, code as code, and the result or the error."""
    card = render_tool_call(ToolUseBlock("t1", "run", {"code": "x = 1\ny", "n": 2}), None, "out\n\nput")
    assert card == (
        "<details>\n<summary>Tool call: run(code='x = 1\\ny', n=2)</summary>\n"
        + code(
            '<span class="p">{&#10;  </span>"n"<span class="p">: </span>'
            '<span class="mi">2&#10;</span><span class="p">}</span>'
        )
        + "\n"
        + code('x <span class="o">= </span><span class="mi">1&#10;</span>y')
        + "\n<p>Result</p>\n"
        + code("out&#10;&#10;put")
        + "\n</details>\n"
    )
    run = ToolUseBlock("t1", "run", {})
    assert "<p>Error</p>" in render_tool_call(run, None, "bad", True)
    assert "<summary>Tool call: run() (failed)</summary>" in render_tool_call(run, None, "bad", True)
    assert "Result" not in render_tool_call(run)
    assert '"co' in render_tool_call(ToolUseBlock("t1", "run", {}, '{"co'))
    assert "… 5,000 more characters" in render_tool_call(run, None, "x" * 25_000)


def test_the_decision_stands_in_the_head_of_the_card() -> None:
    """The head has one spelling of the name. The code is the one that ran. A declined call shows no error."""
    call = ToolUseBlock("t1", "files__read", {"path": "a.txt"})
    allowed = ToolDecision("t1", "files.read", True, "allowed as edited", {"path": "b.txt"})
    card = render_tool_call(call, allowed, "text")
    assert "<summary>Tool call: files.read(path='b.txt') · allowed as edited</summary>" in card
    assert "a.txt" not in card
    declined = ToolDecision("t1", "files.read", False, "declined: not <b>now")
    card = render_tool_call(call, declined, "The user did not allow this call of files.read.", True)
    assert "<summary>Tool call: files.read(path='a.txt') · declined: not &lt;b&gt;now</summary>" in card
    assert "Error" not in card
    assert "failed" not in card
    assert "did not allow" not in card


def test_code_on_a_card_hides_nothing() -> None:
    """The user decides by the card, so hidden characters are escapes and long runs of nothing are counted."""
    code = "a = 1 # \u202e\r#" + "\n" * 101 + "b = 2" + " " * 100 + "; c = 3"
    card = render_tool_call(ToolUseBlock("t1", "run_python", {"code": code}))
    for part in ("\\u202e\\r", "[100 blank lines]", "[100 spaces]", "Tool call: run_python(103 lines)"):
        assert part in re.sub("<[^>]*>", "", card), part
    assert card.startswith('<details open="">')
    values = render_tool_call(ToolUseBlock("t1", "read", {"path": "\u202ea\u200b" + " " * 100}))
    for part in ("\\u202ea\\u200b", "[100 spaces]"):
        assert part in values


def test_plain_text_has_the_calls_and_the_decisions() -> None:
    """They are in their places among the text, with code as lines of code."""
    code = ToolUseBlock("t2", "run_python", {"code": "x = 1\n\nx"})
    blocks = (TextBlock("Look:"), ToolUseBlock("t1", "weather", {"city": "Oslo"}), code, TextBlock("Done."))
    decisions = (ToolDecision("t1", "weather", True), ToolDecision("t2", "run_python", False, "declined: no"))
    plain = render_response(Response("Look:\n\nDone.", blocks=blocks, decisions=decisions))["text/plain"]
    assert plain == (
        "Look:\n\n→ weather(city='Oslo')\n\n→ run_python(3 lines) · declined: no\n→     x = 1\n→     \n→     x\n\nDone."
    )


def test_citations_number_their_sources() -> None:
    """One source has one number; a mark stands after its text, with the source's link."""
    web = {
        "type": "web_search_result_location",
        "url": "https://e.com/a",
        "title": "A <b>",
        "cited_text": "q\n\nq" * 90,
    }
    page = {"type": "page_location", "document_index": 0, "document_title": "P", "cited_text": "x"}
    page |= {"start_page_number": 3, "end_page_number": 5}
    blocks = [TextBlock("It is "), TextBlock("so", (web, page)), TextBlock(".\n\n- a\n- "), TextBlock("b\n", (web,))]
    html = render_blocks(blocks, {})
    audit(html)
    one = f"<sup>{link('https://e.com/a', '[1]')}</sup>"
    assert html.startswith(
        f"<p>It is so{one}<sup>[2]</sup>.</p>\n<ul>\n<li>a</li>\n<li>b{one}</li>\n</ul>\n<p><strong>Sources"
    )
    assert f"<li>{link('https://e.com/a', 'A &lt;b&gt;')}: “q qq q" in html
    assert "…”</li>" in html
    assert "<li>P, pp. 3–4: “x”</li>" in html
    assert sources_html([web, web, page]) == html[html.index("<p><strong>Sources") :]
    assert sources_html([]) == ""


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("```\ncode\n```\n", code("code") + "\n<p><sup>[1]</sup></p>\n"),
        ("|a|\n|-|\n|b|\n", None),
        ("a\n---\n", "<h2>a</h2>\n<p><sup>[1]</sup></p>\n"),
        ("**a**", "<p><strong>a</strong><sup>[1]</sup></p>\n"),
        ("_a_", "<p><em>a</em><sup>[1]</sup></p>\n"),
        ("$x$ ", "<p>⟦\\(x\\)⟧<sup>[1]</sup></p>\n"),
        ("```\nopen", code("open[1]") + "\n"),
        ("", "<p><sup>[1]</sup></p>\n"),
    ],
)
def test_a_citation_does_not_undo_the_markdown_before_it(text: str, html: str | None) -> None:
    """A mark after a fence, a rule or a table row is put where it does no harm."""
    stream = MarkdownStream()
    stream.feed(text)
    Sources().cite(stream, [{"type": "char_location", "document_index": 0, "cited_text": "x"}])
    stream.close()
    shown = "".join(stream.finished)
    audit(shown)
    assert "[1]" in shown
    if html is not None:
        assert shown == formulas(html)


def test_tool_results_are_found_and_read() -> None:
    """Results of our tools and of the server's, by the id of their call."""
    results = tool_results(
        [
            Message.of("user", [{"type": "tool_result", "tool_use_id": "a", "content": "x", "is_error": True}]),
            Message.of(
                "assistant",
                [
                    {
                        "type": "web_search_tool_result",
                        "tool_use_id": "b",
                        "content": [
                            {
                                "type": "web_search_result",
                                "title": "T",
                                "url": "https://e.com",
                                "encrypted_content": "E",
                            }
                        ],
                    },
                    {
                        "type": "bash_code_execution_tool_result",
                        "tool_use_id": "c",
                        "content": {
                            "type": "bash_code_execution_result",
                            "stdout": "o\n",
                            "stderr": "e",
                            "return_code": 0,
                        },
                    },
                    {
                        "type": "web_search_tool_result",
                        "tool_use_id": "d",
                        "content": {"type": "web_search_tool_result_error", "error_code": "max_uses_exceeded"},
                    },
                    {
                        "type": "code_execution_tool_result",
                        "tool_use_id": "e",
                        "content": {
                            "type": "encrypted_code_execution_result",
                            "encrypted_stdout": "R3Zqb…",
                            "stderr": "a warning",
                            "return_code": 0,
                            "content": [],
                        },
                    },
                ],
            ),
        ]
    )
    assert results == {
        "a": ("x", True),
        "b": ("T\nhttps://e.com\n", False),
        "c": ("o\ne", False),
        "d": ("max_uses_exceeded", True),
        "e": ("[output for the model only]\na warning", False),
    }
    assert result_text([{"type": "text", "text": "a"}, {"type": "image", "source": {}}]) == "a\n[image]"


def test_a_whole_answer() -> None:
    """Parts in their order, results with their calls, and the Markdown as it came."""
    call = ToolUseBlock("t1", "add", {"a": 1})
    messages = (
        Message.of("user", "q"),
        Message("assistant", (ThinkingBlock("hm"), TextBlock("Let me "), TextBlock("*see*."), call)),
        Message.of("user", [{"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "2"}]}]),
        Message("assistant", (TextBlock("It is **2**."), OpaqueBlock({"type": "redacted_thinking", "data": "x"}))),
    )
    blocks = tuple(block for message in messages if message.role == "assistant" for block in message.content)
    text = "Let me *see*.\n\nIt is **2**."
    bundle = render_response(Response(text=text, blocks=blocks, messages=messages))
    assert bundle["text/plain"] == "Let me *see*.\n\n→ add(a=1)\n\nIt is **2**."
    assert bundle["text/html"] == wrap_answer(
        render_thinking("hm")
        + "<p>Let me <em>see</em>.</p>\n"
        + render_tool_call(call, None, "2")
        + "<p>It is <strong>2</strong>.</p>\n"
    )
    audit(bundle["text/html"])


@pytest.mark.parametrize(
    ("status", "stop_reason", "said"),
    [
        ("complete", "end_turn", ""),
        ("complete", "stop_sequence", ""),
        ("complete", "max_tokens", "[stopped at max_tokens: %claude --continue goes on]"),
        ("complete", "model_context_window_exceeded", "[stopped: the context window is full]"),
        ("interrupted", None, "[interrupted]"),
        ("incomplete", None, "[the answer broke off]"),
        ("refused", "refusal", "[the model refused to go on: because <b>]"),
        ("error", None, "[ended by an error]"),
    ],
)
def test_markers(status: str, stop_reason: str | None, said: str) -> None:
    """An answer that is not whole says so at its end, in both forms."""
    about = {"explanation": "because\n<b>"} if status == "refused" else None
    response = Response(text="a", status=status, blocks=(TextBlock("a"),), stop_reason=stop_reason, stop_details=about)
    bundle = render_response(response)
    assert marker(status, stop_reason, about) == said
    assert bundle["text/plain"] == (f"a\n\n{said}" if said else "a")
    assert (f"<p><em>{escape(said)}</em></p>" in bundle["text/html"]) == bool(said)


def test_text_plain_can_be_saved() -> None:
    """Half a surrogate pair in an answer does not keep the notebook from being saved."""
    render_response(Response(text="a\ud800"))["text/plain"].encode()


@pytest.mark.parametrize(("name", "text"), [*((name, text) for name, (text, _) in GOLDENS.items()), *PAYLOADS])
def test_the_html_survives_in_a_markdown_file(name: str, text: str) -> None:
    """As ``nbconvert --to markdown`` pastes it: one HTML block, of which no line is read as Markdown again."""
    html = render_response(Response(text=text, blocks=(TextBlock(text),)))["text/html"]
    parsed = MarkdownIt("commonmark", {"html": True}).render(f"before\n\n{html}\n\nafter")
    assert parsed == f"<p>before</p>\n{html}\n<p>after</p>\n"


def test_importing_the_renderer_is_light() -> None:
    """The parser, the sanitiser and pygments load with the first answer."""
    code = "import sys, nbchat.view.html.render; "
    code += "print([m for m in ('markdown_it', 'nh3', 'pygments') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_two_passages_of_one_document_are_both_shown():
    """A text has no pages, so both passages are one source, with both quotations."""
    cited = {"type": "char_location", "document_index": 0, "document_title": "notes.txt"}
    html = sources_html(
        [cited | {"cited_text": "first"}, cited | {"cited_text": "second"}, cited | {"cited_text": "first"}]
    )
    assert html.count("<li>") == 1
    assert "notes.txt: “first” … “second”" in html
