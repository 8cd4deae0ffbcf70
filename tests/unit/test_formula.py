r"""The filter of formulas: the allow-list of macros, and the limits on what a formula costs the browser.

The limits were measured with MathJax 3.2 in Node. Each formula that passes is typeset in less than half
a second of processor time.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markup import audit

from nbchat.core.messages import Block, TextBlock, ThinkingBlock, ToolUseBlock
from nbchat.view.html.budget import MAX_FORMULA_WEIGHT, MAX_FORMULAS
from nbchat.view.html.formula_filter import MAX_CHARACTERS, MAX_DEPTH, MAX_WEIGHT, weigh
from nbchat.view.html.macros import DECLARATIONS, MACROS, SLOW_MACROS
from nbchat.view.html.markdown import MarkdownStream, render_markdown
from nbchat.view.html.render import render_blocks


def count_formulas(html: str) -> int:
    """Return the number of formulas that MathJax would typeset."""
    return len(audit(html).formulas)


@pytest.mark.parametrize(
    "source",
    [
        r"\begin{alignat}{40000000}x\end{alignat}",
        r"\begin{alignat*} {40000000} x\end{alignat*}",
        r"\begin{alignedat}[t]{99}x\end{alignedat}",
        r"\begin{alignat}x\end{alignat}",
        r"\begin{array}{*{40000000}{c}}x\end{array}",
        r"\begin{array}{*{20}{ccc}}x\end{array}",
        r"\begin{array}{*{9}{*{9}{c}}}x\end{array}",
        r"\begin{array}{>{\Huge}c}x\end{array}",
        r"\begin{array}{" + "c" * 100 + r"}x\end{array}",
        r"\begin{array}x\end{array}",
        r"\begin{subarray}{*{9999}{c}}x\end{subarray}",
        r"\sqrt[\uproot{99999}3]{x}",
        r"\sqrt[\leftroot{-999}3]{x}",
        r"\skew{9999}\hat x",
    ],
)
def test_numbers_in_arguments_are_small(source: str) -> None:
    """A number of columns, or of units to move something, is bounded."""
    assert not weigh(source)
    assert count_formulas(render_markdown(f"$$\n{source}\n$$")) == 0


@pytest.mark.parametrize(
    "source",
    [
        r"\pmb{" * 38 + "x" + "}" * 38,
        r"\pmb {" * 3 + "x" + "}" * 3,
        r"\pmb{\ce{" + "x" + "}}",
        r"\pmb{\text{\pmb{a\pmb{x}}}}",
        r"\Huge" * 700,
        r"\Huge\Huge x",
        r"{\large " * 9 + "x" + "}" * 9,
        r"\begin{cases}\Huge " * 2 + "x" + r"\end{cases}" * 2,
        r"\displaystyle " * 200 + "x",
        r"\displaystyle a\\ " * 60 + "x",
        r"{\displaystyle a\\\displaystyle " * 9 + "}" * 9,
        r"\color{red} " * 100 + "x",
        r"\raise 0em " * 100 + "x",
        r"\buildrel " * 100 + "x" + r"\over y" * 100,
        r"\root " * 100 + "x" + r"\of y" * 100,
        r"\left(" * 40 + "x" + r"\right)" * 40,
        r"\begin{matrix}" * 40 + "x" + r"\end{matrix}" * 40,
        r"\sqrt{" * 30 + "x" + "}" * 30,
        r"x^{" * 30 + "x" + "}" * 30,
        r"\frac{1}{" * 30 + "x" + "}" * 30,
        "{%}\n" * 30,
        "a % }\n{",
        "{a}}{",
        r"\left( { \right) }",
        r"\left( x",
        r"x \right)",
        r"\begin{matrix} x \end{pmatrix}",
        r"\begin{matrix} { \end{matrix} }",
    ],
)
def test_nesting_is_low_and_balanced(source: str) -> None:
    """Nesting is bounded for each macro that nests, with and without braces, and groups close in order."""
    assert not weigh(source)


@pytest.mark.parametrize(
    "source", ["a" * 3_000, r"\frac12" * 500, r"\iff " * 500, r"\ce{" + "H2O + " * 200 + "}", r"\LaTeX " * 200]
)
def test_a_formula_is_not_too_much_work(source: str) -> None:
    """The weight of a formula is bounded, and slow macros weigh more."""
    assert len(source) < MAX_CHARACTERS
    assert not weigh(source)


@pytest.mark.parametrize("macro", ["foo", "Def", "FRAC", "prescript", "mathchoice", "verb", "input", "foreign"])
def test_unknown_macros_are_code(macro: str) -> None:
    r"""A macro that is not on the list makes the formula code, also inside \text."""
    for source in (rf"\{macro}{{x}}", rf"\text{{\{macro} x}}", rf"\\\{macro} x"):
        assert not weigh(source)


@pytest.mark.parametrize("macro", sorted(MACROS - {"begin", "end", "left", "right"}))
def test_each_macro_of_the_list_passes(macro: str) -> None:
    """A formula with the macro reaches MathJax."""
    arguments = {"color": "{red}", "textcolor": "{red}{x}"}.get(macro, "{2}{x}")
    assert render_markdown(rf"\[\{macro}{arguments}\]").count("mathjax_process") == 1


def test_the_lists_agree() -> None:
    """A macro with a weight or a size of its own is on the allow-list."""
    assert DECLARATIONS.keys() <= MACROS
    assert SLOW_MACROS.keys() <= MACROS


@pytest.mark.parametrize(
    "source",
    [
        r"\begin{alignat}{2} x &= 1 & y &= 2 \end{alignat}",
        r"\begin{alignedat}[t]{10} x &= 1 \end{alignedat}",
        r"\begin{array}{c|cc} & a & b \\ \hline 1 & 2 & 3 \end{array}",
        r"\begin{array}[t]{@{}l@{\quad}r *{3}{c} p{3cm}} a \end{array}",
        r"\begin{array}{l}" + r"\displaystyle \frac{a}{b} \\ " * 30 + r"\end{array}",
        r"\cases{" + r"\displaystyle a & b \cr " * 30 + "}",
        r"\sum_{\substack{i<n\\ j<m}} a_{ij}",
        r"\Large \left( \frac{\pmb{x}}{\pmb{y}} \right)",
        r"{\large a} " * 20,
        r"\cfrac{1}{1+\cfrac{1}{1+\cfrac{1}{1+\cfrac{1}{1+\cfrac{1}{1+\cfrac{1}{1+x}}}}}}",
        r"\color{red} a + \color{blue} b + \color{#00ff00} c",
        r"\sqrt[\leftroot{-2}\uproot{2}\beta]{k} \skew8\hat a",
        r"\left\{ \begin{aligned} x &= 1 \\ y &= 2 \end{aligned} \right.",
        r"\left. \frac{d}{dx} \right|_{x=0}",
        "a + b % the sum\n+ c",
        r"50\% \text{ of } x",
    ],
)
def test_the_limits_let_ordinary_formulas_pass(source: str) -> None:
    """They reach MathJax."""
    assert weigh(source)


PARTS = st.sampled_from(
    [
        *("{", "}", "&", r"\\", "%", "\n", "x", "^", "_", " ", "[", "]", "a b", r"\left(", r"\right)", r"\{"),
        *(r"\pmb{", r"\pmb", r"\Huge ", r"\small ", r"\displaystyle ", r"\frac{", r"\sqrt", r"\ce{", r"\text{"),
        *(r"\begin{matrix}", r"\end{matrix}", r"\begin{array}{cc}", r"\end{array}", r"\matrix{", r"\cr "),
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PARTS, max_size=30), st.integers(1, 60))
def test_a_formula_that_passes_is_bounded(parts: list[str], times: int) -> None:
    """What passes has few open groups at each place, is balanced, and is light."""
    source = "".join(parts) * times
    if weight := weigh(source):
        assert weight <= MAX_WEIGHT
        assert source.count(r"\begin") == source.count(r"\end")
        assert source.count(r"\left") == source.count(r"\right")
        depth = deepest = 0
        # Without the signs: a brace after a backslash is a character, but in \\} the second backslash is that sign.
        for character in re.sub(r"\\[^A-Za-z]", "", source):
            depth += (character == "{") - (character == "}")
            deepest = max(deepest, depth)
        assert depth == 0
        assert deepest <= MAX_DEPTH + 1  # the name of an environment is in braces too


# --- the budget of one answer -------------------------------------------------------------------


def test_an_answer_has_a_budget_of_formulas() -> None:
    """After so many formulas, or so much weight, the formulas of an answer are code."""
    assert count_formulas(render_markdown("$a$ " * 3_000)) == MAX_FORMULAS
    heavy = "a" * 1_000
    html = render_markdown(f"${heavy}$ x\n\n" * 40 + "$b$")
    assert count_formulas(html) == MAX_FORMULA_WEIGHT // 1_000
    light = render_markdown(f"${heavy}$\n\n" * 29 + f"${heavy}$ $b$")
    assert count_formulas(light) == 30


def test_all_parts_of_an_answer_share_the_budget() -> None:
    """Tool calls between the texts, and thinking, do not begin a new budget."""
    some = "$a$ " * 400
    blocks: list[Block] = [ThinkingBlock(some), TextBlock(some), ToolUseBlock("t", "f", {}), TextBlock(some)]
    assert count_formulas(render_blocks(blocks, {})) == MAX_FORMULAS


def test_the_budget_does_not_depend_on_the_pieces() -> None:
    """An answer that arrives in pieces has the same formulas as the whole answer, at each moment."""
    text = "\n\n".join(f"word $a_{{{number}}}$ and $b$ " + "> " * (number % 50 == 0) * 40 for number in range(600))
    stream = MarkdownStream()
    for begin in range(0, len(text), 997):
        stream.feed(text[begin : begin + 997])
        stream.advance()
        if begin % 5 == 0:
            assert "".join(stream.finished) + stream.tail() == render_markdown(text[: begin + 997])
    stream.close()
    assert "".join(stream.finished) == render_markdown(text)
    assert count_formulas(render_markdown(text)) == MAX_FORMULAS
