r"""The LaTeX of an answer: what is shown, and that nothing of a model is a command of TeX.

No TeX is needed here. The output is read by a small parser of its own, which knows each macro that may be there.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from nbchat.core.messages import Message, OpaqueBlock, TextBlock, ThinkingBlock, ToolUseBlock
from nbchat.core.response import Response
from nbchat.view.final import final_bundle
from nbchat.view.html.formula_filter import ENVIRONMENTS as PAGE_ENVIRONMENTS
from nbchat.view.html.macros import MACROS as PAGE_MACROS
from nbchat.view.html.markdown import render_markdown
from nbchat.view.latex import macros
from nbchat.view.latex.document import MAX_HTML_CHARACTERS, latex_document
from nbchat.view.latex.formula import latex_formula
from nbchat.view.latex.signs import latex_address, latex_code, latex_lines, latex_text
from tests.unit.payloads import PAYLOADS, armed

#: The macros outside of formulas. The list is written out a second time on purpose.
_OF_TEXT = """
textbackslash textasciicircum textasciitilde textasciigrave textless textgreater textquotesingle allowbreak
subsection subsubsection textbf emph sout textsuperscript small texttt leavevmode newline href noindent hrulefill
item begin end setlength itemsep parskip hline hfill linewidth
"""
OF_TEXT = frozenset(_OF_TEXT.split())
_OF_FORMULAS = """
left right middle sqrt operatorname substack not qquad xrightarrow xleftarrow hspace mspace limits nolimits
begin end hline displaystyle text circ checkmark square boxtimes bigstar
"""
OF_FORMULAS = {
    *_OF_FORMULAS.split(),
    *(macros.SYMBOLS | macros.SIZES),
    *(*macros.ARGUMENTS, *macros.TEXTS.values()),
    *(delimiter[1:] for delimiter in macros.DELIMITERS if delimiter[1:].isalpha()),
}
ENVIRONMENTS = {"itemize", "quote", "tabular", "longtable", "Verbatim"} | {
    name for name, _ in (*macros.ENVIRONMENTS.values(), *macros.OUTERMOST.values())
}
#: What TeX could do harm with. None of these names is on a list above.
_HARMFUL = """
input include openin openout read write immediate special csname def edef gdef xdef let catcode newcommand
renewcommand usepackage RequirePackage includegraphics verbatiminput lstinputlisting directlua ShellEscape loop every
expandafter jobname message errmessage typeout pdfobj pdffiledump url path verb
"""
HARMFUL = frozenset(_HARMFUL.split())

_TOKEN = re.compile(
    r"\\(?P<word>[A-Za-z]+)|\\(?P<sign>.)|(?P<brace>[{}])|(?P<active>[$%#^_&~])|[^\\{}$%#^_&~]+", re.DOTALL
)
_VERBATIM = re.compile(
    r"^\\begin\{Verbatim\}\[commandchars=\\\\\\\{\\\}\]\n(.*?)\n\\end\{Verbatim\}$", re.DOTALL | re.M
)


def check(latex: str) -> None:
    """Fail if LaTeX has a macro, an environment or an open group that nbchat does not write."""
    for lines in _VERBATIM.findall(latex):
        _check_lines(lines)
    groups: list[str] = []
    formula = 0
    position = 0
    latex = _VERBATIM.sub("", latex)
    for token in _TOKEN.finditer(latex):
        assert token.start() == position, latex[position : position + 80]
        position = token.end()
        formula += token["sign"] in ("(", "[") if token["sign"] else 0
        formula -= token["sign"] in (")", "]") if token["sign"] else 0
        if word := token["word"]:
            assert word not in HARMFUL
            assert word in OF_TEXT | OF_FORMULAS, (word, latex)
            if word in ("begin", "end"):
                name = re.compile(r"\{([A-Za-z]+\*?)\}").match(latex, token.end())
                assert name is not None, latex
                assert name[1] in ENVIRONMENTS, latex
                formula += (name[1] in {outer for outer, _ in macros.OUTERMOST.values()}) * (
                    1 if word == "begin" else -1
                )
                assert word == "begin" or groups.pop() == name[1], latex
                groups += [name[1]] * (word == "begin")
        elif token["brace"] == "{":
            groups.append("{")
        elif token["brace"]:
            assert groups.pop() == "{", latex
        elif active := token["active"]:
            assert active not in "$%#", latex
            # Scripts are only in formulas, and cells only in tables and formulas.
            assert formula or active not in "^_", latex
            assert active != "&" or formula or {"tabular", "longtable"} & set(groups), latex
        elif sign := token["sign"]:
            assert sign in "\\{}$&#%_()[],;:!>| ", (sign, latex)
    assert position == len(latex)
    assert not groups, latex
    assert not formula, latex
    assert not re.search(r"\n\s*\n(?=[^\\]*\\end\{(?:align|gather|equation|multline|flalign|eqnarray))", latex)


def _check_lines(lines: str) -> None:
    words = re.sub(r"\\[{}]|\\\(\\?[A-Za-z-]+\\\)|\{\}", "", lines).replace("\\textbackslash", "")
    assert not re.search(r"[\\{}]", words), lines


def of_markdown(text: str) -> str:
    return latex_document(render_markdown(text))


# --- what is shown --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("markdown", "latex"),
    [
        ("# Title *x*", r"\subsection*{Title \emph{x}}"),
        ("## Title", r"\subsubsection*{Title}"),
        ("#### Title", r"\textbf{Title}"),
        ("**b** *e* ~~s~~ `c_d`", r"\textbf{b} \emph{e} \sout{s} \texttt{c\_d}"),
        ("[x](https://a.org/b_c?d=1&e=2#f%20g)", r"\href{https://a.org/b\_c?d=1\&e=2\#f\%20g}{x}"),
        ("https://a.org/ü{x}", r"\href{https://a.org/\%C3\%BC\%7Bx\%7D}{https://a.org/ü\{x\}}"),
        ("![alt](https://a.org/b.png)", r"\href{https://a.org/b.png}{[image: alt]}"),
        ('He said "yes" -- 50 % of $5', "He said “yes” -{}- 50 \\% of \\$5"),
        ("a\\\nb", "a\\leavevmode\\newline{}\nb"),
        ("> quoted", "\\begin{quote}\nquoted\n\\end{quote}"),
        ("***", r"\noindent\hrulefill"),
        ("$x^2$ and $$y$$", r"\(x^{2}\) and \[y\]"),
        ("\\begin{align}a &= b\\\\ c\\end{align}", "\\begin{align*}\na & =b\\\\\nc\n\\end{align*}"),
        ("# $$x$$", r"\subsection*{\(\displaystyle x\)}"),
        ("`$x$` → α ≤ ½", r"\texttt{\$x\$} \(\rightarrow\) \(\alpha\) \(\leq\) ½"),
        (
            "7. a\n8. [ ] b",
            "\\begin{itemize}\n\\setlength{\\itemsep}{0pt}\\setlength{\\parskip}{0pt}\n"
            "\\item[{7.}] a\n\\item[{8.}] \\(\\square\\) b\n\\end{itemize}",
        ),
        ("- a\n\n- [b]", "\\begin{itemize}\n\\item{} a\n\\item{} [b]\n\\end{itemize}"),
        (
            "```python\nx = {'a': \"\\n\"}  # 1 < 2\n```",
            "\\begin{Verbatim}[commandchars=\\\\\\{\\}]\n"
            "x = \\{'a': \"\\textbackslash{}n\"\\}  # 1 <{} 2\n\\end{Verbatim}",
        ),
        (
            "| a | b |\n|:-:|--:|\n| *x* | $y$ |\n| [z] |",
            "\\noindent\\begin{tabular}{cr}\n\\hline\n\\textbf{a} & \\textbf{b} \\\\\n\\hline\n"
            "\\emph{x} & \\(y\\) \\\\\n{}[z] &  \\\\\n\\hline\n\\end{tabular}",
        ),
    ],
)
def test_markdown_is_shown_as_latex(markdown: str, latex: str) -> None:
    assert of_markdown(markdown) == latex
    check(latex)


@pytest.mark.parametrize(
    ("source", "latex"),
    [
        (r"\frac12 + \sqrt x", r"\frac{1}{2}+\sqrt{x}"),
        (r"\sqrt[n]{x}", r"\sqrt[{n}]{x}"),
        (r"x^\mathrm T_i", r"x^{\mathrm{T}}_{i}"),
        (r"\mathbf{x^2}^3", r"{\mathbf{x^{2}}}^{3}"),
        (r"f''^2(x)", r"f''^{2}(x)"),
        (r"\sum\limits_{i=1}^n", r"\sum\limits_{i=1}^{n}"),
        (r"\left(\frac{a}{b}\right]^2", r"\left( \frac{a}{b}\right] ^{2}"),
        (r"\text{if $a_1$ is 50\%}", r"\text{if \(a_{1}\) is 50\%}"),
        (r"\operatorname*{arg\,max}_x", r"\operatorname*{arg\,max}_{x}"),
        (r"\begin{pmatrix}1&2\\[3pt] [x]&4\end{pmatrix}", "\\begin{pmatrix}1 & 2\\\\\n{}[x]  & 4\\end{pmatrix}"),
        (
            r"\begin{array}{c|c}\hline a&b\\\hline\end{array}",
            "\\begin{array}{c|c}\\hline a & b\\\\\n\\hline\\end{array}",
        ),
        (r"a<b % comment", "a< b"),
        (r"α ≤ \bm{x}", r"\alpha\leq\boldsymbol{x}"),
        (r"x \tag{1}\label{eq}", r"x\qquad\text{(1)}"),
        (r"\color{red}{x}\not=\substack{a\\b}", "{x}\\not= \\substack{a\\\\\nb}"),
    ],
)
def test_a_formula_is_written_again_with_all_its_braces(source: str, latex: str) -> None:
    shown = latex_formula(source, False, alone=True)
    assert shown == rf"\({latex}\)"
    check(shown)


@pytest.mark.parametrize(
    "source",
    [
        *(
            r"x^2^3",
            r"x_1_2",
            r"x^2'",
            r"\frac{1}",
            r"\left( x",
            r"x \right)",
            r"a & b",
            r"a \\ b",
            r"\hline",
            r"{x",
            r"x}",
        ),
        *(
            r"\begin{cases}a&b&c\end{cases}",
            r"\begin{pmatrix}1\end{bmatrix}",
            r"\begin{align}x\end{align} y",
            "$x$",
            "x#y",
        ),
        *(
            r"\begin{array}{c}a&b\end{array}",
            r"\begin{array}{p{3cm}}a\end{array}",
            r"\left(a & b\right)",
            r"x\limits_1",
        ),
        *(
            r"\ce{H2O}",
            r"\argmax x",
            r"\R",
            r"\cancel{x}",
            r"\bf x",
            r"a \over b",
            r"\text{\input{x}}",
            r"\text{$x}",
            "",
        ),
        *(
            r"\hspace{9999em}",
            r"\operatorname{\input x}",
            r"\not\frac12",
            r"\sqrt\frac12",
            "\\",
            r"\^a",
            r"\begin{foo}x\end{foo}",
        ),
        r"\begin{matrix}" + "&".join("x" * 11) + r"\end{matrix}",
    ],
)
def test_a_formula_that_latex_would_fail_at_is_shown_as_its_source(source: str) -> None:
    shown = latex_formula(source, True, alone=True)
    assert shown.startswith(r"\texttt{\textbackslash{}[")
    check(shown)


def test_a_closed_fold_shows_its_head_and_an_open_one_everything() -> None:
    calls = (ToolUseBlock("a", "weather", {"city": "Oslo_1"}), ToolUseBlock("b", "run_python", {"code": "x = {1}"}))
    latex = final_bundle(Response("", blocks=(ThinkingBlock("secret"), *calls)))["text/latex"]
    check(latex)
    assert latex.startswith(
        "\\emph{Thinking}\n\n\\emph{Tool call: weather(city='Oslo\\_1')}\n\n\\textbf{Tool call: run"
    )
    assert "x = \\{1\\}" in latex
    assert "secret" not in latex


def test_lists_that_nest_deeper_than_latex_allows_go_on_without_a_list() -> None:
    latex = of_markdown("\n".join(f"{'   ' * depth}1. x" for depth in range(7)))
    check(latex)
    assert latex.count(r"\begin{itemize}") == 4
    assert len(re.findall(r"^(?:\\item\[\{1\.\}\]|1\.) x$", latex, re.MULTILINE)) == 7


def test_a_wide_table_shares_the_page_and_a_long_one_is_broken() -> None:
    wide = of_markdown("| a | b |\n|---|--:|\n| " + "word " * 30 + "| 1 |")
    assert r"\begin{tabular}{p{0.862\linewidth}p{0.086\linewidth}}" in wide
    assert r"\hfill{}1" in wide
    long = of_markdown("| a |\n|---|\n" + "| 1 |\n" * 60)
    assert long.startswith(r"\begin{longtable}{l}")
    check(wide)
    check(long)


def test_the_latex_of_a_huge_answer_is_left_out() -> None:
    assert latex_document("x" * (MAX_HTML_CHARACTERS + 1)) == ""
    assert "text/latex" not in final_bundle(
        Response("x" * MAX_HTML_CHARACTERS, blocks=(TextBlock("x" * MAX_HTML_CHARACTERS),))
    )


# --- nothing acts ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "text"), PAYLOADS, ids=[name for name, _ in PAYLOADS])
def test_payload_is_inert(name: str, text: str) -> None:
    """In text and in every other part, no macro of a payload is a macro of the output."""
    text = armed(text, f"http://127.0.0.1:1/{name}")
    for before in ("", "word ", "- ", "> ", "| a |\n|---|\n| ", "# ", "1. a\n   1. b\n      1. c\n         "):
        check(of_markdown(before + text))
    cited = {"type": "web_search_result_location", "url": text, "title": text, "cited_text": text}
    call = ToolUseBlock("t", "run_python", {"code": text, "x": [text]})
    blocks = (TextBlock(text, (cited,)), ThinkingBlock(text), call, OpaqueBlock({"type": text, text: text}))
    answer = OpaqueBlock({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": text}]})
    response = Response(text=text, blocks=blocks, messages=(Message("user", (answer,)),))
    latex = final_bundle(response)["text/latex"]
    check(latex)
    assert_inert_as_markdown(latex)


def assert_inert_as_markdown(latex: str) -> None:
    """VS Code shows ``text/latex`` through a Markdown renderer that lets HTML through."""
    html = MarkdownIt("commonmark", {"html": True}).render(latex)
    assert not re.search(r"<(?!/?(?:p|em|strong|code|pre|br|ul|ol|li|blockquote|h[1-6]|hr)\b)[a-z!/?]", html, re.I), (
        html
    )
    assert " src=" not in re.sub(r"<[^>]*>", lambda tag: tag[0], "".join(re.findall(r"<[^>]*>", html)))


HARM = st.sampled_from(
    [rf"\{name}" for name in sorted(HARMFUL)]
    + [
        *"\\{}$%#^_&~`<>[]()*|-\n\t '\"!:;,.",
        "^^5c",
        "^^M",
        r"\end{Verbatim}",
        r"\end{tabular}",
        r"\begin{itemize}",
        "```",
        "~~~",
    ]
    + [
        r"\(",
        r"\)",
        r"\[",
        r"\]",
        "$$",
        "\n\n",
        "- ",
        "1. ",
        "> ",
        "| a | b |\n|--|--|\n",
        "# ",
        "<br>",
        "x",
        "α",
        "☐",
        "\u00a0",
        "](",
        "![",
    ]
    + [armed(text, "http://127.0.0.1:1/") for _, text in PAYLOADS]
)


@given(st.lists(HARM, max_size=14).map("".join))
@example("\\end{Verbatim}\n\\input{x}")
@example("    \\end{Verbatim}\n    \\input{x}")
@example("$\\text{$\\text{x}$}$")
def test_no_text_is_a_command(text: str) -> None:
    latex = of_markdown(text)
    check(latex)
    assert_inert_as_markdown(latex)


FORMULA = st.sampled_from(
    [rf"\{name} " for name in sorted(PAGE_MACROS | HARMFUL)]
    + [rf"\begin{{{name}}}" for name in sorted(PAGE_ENVIRONMENTS)]
    + [rf"\end{{{name}}}" for name in sorted(PAGE_ENVIRONMENTS)]
    + [
        *"{}[]^_&'~%#$<>()|ab1 ",
        r"\\",
        r"\{",
        r"\,",
        r"\ ",
        "{x}",
        "{x}{y}",
        r"\left(",
        r"\right)",
        r"\text{a}",
        "≤",
        "é",
        "\n",
    ]
)


@given(st.lists(FORMULA, max_size=10).map("".join), st.booleans(), st.booleans())
def test_no_formula_is_another_command(source: str, display: bool, alone: bool) -> None:
    check(latex_formula(source, display, alone=alone))


@given(st.text())
def test_signs(text: str) -> None:
    text = re.sub("[\ud800-\udfff\ufdd0\x00-\x1f\x7f-\x9f]", "", text)
    for latex in (latex_text(text), rf"\texttt{{{latex_code(text)}}}", rf"\href{{{latex_address(text)}}}{{}}"):
        check(latex)
    _check_lines(latex_lines(text))


def test_the_lists_have_no_harmful_macro() -> None:
    assert not HARMFUL & (OF_TEXT | OF_FORMULAS)


def test_the_notebook_grows_by_about_the_text() -> None:
    part = "A **word** of `code` on [a link](https://example.org/a).\n\n- one\n- two\n\n| a | b |\n|-|-|\n| 1 | 2 |\n\n"
    text = (part + "A long paragraph of plain words, as most answers have many of them. " * 12 + "\n\n") * 50
    assert len(of_markdown(text)) < 1.25 * len(text)
