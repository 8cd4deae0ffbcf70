r"""Dollars in a text: which are money, shell variables or signs, and which begin and end a formula."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markup import audit

from nbchat.view.html import dollars
from nbchat.view.html.dollars import closing_dollar
from nbchat.view.html.markdown import render_markdown


def test_the_examples_in_the_docstrings_are_right() -> None:
    """Run the doctests."""
    result = doctest.testmod(dollars)
    assert result.attempted
    assert not result.failed


TEXTS = [
    "It is $20/month (billed in US$).",
    "~$30–40/mo; NT$ 900",
    "从$5到10$之间",
    "$5 and $10",
    "US$5 and US$10",
    "$1,000 to $2,000",
    "$HOME and $PATH",
    "$HOME/bin:$PATH",
    "$HOME/$USER",
    "${HOME}/bin:${PATH}",
    "$(CC)$(CFLAGS)",
    "$_GET and $_POST",
    "$_GET['a'].$_POST['b']",
    "$this->$name",
    "$a.$b or $a->$b",
    "$a[$i]",
    "$foo=$bar",
    "$1 and $2 are the groups, $1$2 is both",
    "the cells $A$1 and $B$2:$C$5",
    "$AAPL and $MSFT rose",
    "($AAPL/$MSFT)",
    "$TSLA (Tesla) in US$",
    "A$5, C$6, NZ$7, HK$8, S$9, R$10, MX$11",
    "$5 (C$7) or 7 A$",
    "$3/h, C$ 4",
    "$5 US$ 6",
    "$5/US$6 or CA$",
    "$5k to 6k$",
    "$5k-$6k, $5-6k, $5M–$6M",
    "$50 off = 20 % of US$",
    "$20 = about £16 or 25 CA$",
    "$1 = 0.9€, 1 A$",
    "$1 = ¥150, US$",
    "$0.002/1K tokens (in US$)",
    "$3 per million tokens and $15 per million tokens",
    "$100 million, $2bn and 3 US$",
    "$9.99 each; two for $18.99",
    "5$ et 10$, 100 $ ou 200 $",
    "entre 5$ y 10$",
    "zwischen $5 und 10 $, für $5 über US$",
    "$5 à 10$",
    "価格は$5〜$10、または$5から10$です",
    "只要$5，原价$10",
    "원가 $5에서 10$까지",
    "от $5 до 10$",
    "$5~10$",
    "$5–10$ in total",
    "Prices: $5, $6, $7; not $8.",
    "$5 for snake_case and some_other US$",
    "$5 (see `x$`) costs",
    "use `$x` or $y and `$z`",
    "tiers: $ (cheap), $$ (fair), $$$ (dear)",
    "from $$ to $$$",
    "$$ – $$$",
    "$$ or $$$ or $$$$",
    "$",
    "a $ b $ c",
    "$ x $",
    "\\$5 and \\$6",
    "The plan ($20 or 25 US$) is fine",
    "用$符号包围$",
    "只有$和$两个",
    "- $5\n- $6\n- $7",
    "$5,\n$6",
    "It costs $10. She said: 'I want 20$'.",
    "$10\\% of revenue and 5\\% of US$",
    "PS1='$ ' and $? and $!",
    "echo $x; echo $y",
    "s/^a$/b$/",
    "regex ^a$ and ^b$",
    "/etc/$a/$b/$c",
]
FORMULAS = [
    ("the $n$th", ["n"]),
    ("$x$s and $y$s", ["x", "y"]),
    ("the $(k+1)$st", ["(k+1)"]),
    ("$k$-means", ["k"]),
    ("$p$值", ["p"]),
    ("$p$-value of $p<0.05$", ["p", "p<0.05"]),
    ("$x$, $y$", ["x", "y"]),
    ("$5x + 3$", ["5x + 3"]),
    (r"$\alpha$", [r"\alpha"]),
    ("$x$", ["x"]),
    ("($x$)", ["x"]),
    ("$10$", ["10"]),
    ("from $0$ to $1$", ["0", "1"]),
    ("$n-1$th and $2n$th", ["n-1", "2n"]),
    ("$i$th, $j$-th, $1$st, $2$nd, $3$rd", ["i", "j", "1", "2", "3"]),
    ("$k$NN and $n$gram", ["k", "n"]),
    ("$L^2$norm", ["L^2"]),
    ("$2xy + 3yz$", ["2xy + 3yz"]),
    ("$1/n$", ["1/n"]),
    ("$1/2$", ["1/2"]),
    ("$3 \\times 4 = 12$", [r"3 \times 4 = 12"]),
    ("$3 x 4 = 12$", ["3 x 4 = 12"]),
    ("$2 + 2 = 4$", ["2 + 2 = 4"]),
    ("$2^{10}$", ["2^{10}"]),
    ("$10^6$ rows", ["10^6"]),
    ("$10 \\text{ apples and pears}$", [r"10 \text{ apples and pears}"]),
    ("$17 mod 5 = 2$", ["17 mod 5 = 2"]),
    ("$2 sin x$", ["2 sin x"]),
    ("$9.8 m/s^2$", ["9.8 m/s^2"]),
    ("$5 cm$", ["5 cm"]),
    ("$50\\%$", [r"50\%"]),
    ("$100\\,000$", [r"100\,000"]),
    ("$-5$ to $+5$", ["-5", "+5"]),
    ("$[0, 1)$ and $(0, 1]$", ["[0, 1)", "(0, 1]"]),
    ("$1, 2, \\ldots, n$", [r"1, 2, \ldots, n"]),
    ("$1, 2, 3$", ["1, 2, 3"]),
    ("$f(x)$", ["f(x)"]),
    ("$f$(x)", ["f"]),
    ("$O(n \\log n)$", [r"O(n \log n)"]),
    ("$O(n log n)$", ["O(n log n)"]),
    ("$x_1$, $x_2$", ["x_1", "x_2"]),
    ("$a$ and $b$", ["a", "b"]),
    ("R$^2$, CO$_2$, m$^{-2}$", ["^2", "_2", "^{-2}"]),
    ("10$\\mu$m, 25$^\\circ$C, 2$\\pi$", [r"\mu", r"^\circ", r"\pi"]),
    ("3$\\times$3", []),  # the digit after it: pandoc reads no formula either
    ("cost $5 and $x^2$", ["x^2"]),
    ("costs $5, where $n$ is", ["n"]),
    ("$E = mc^2$", ["E = mc^2"]),
    ("$A$ is $m \\times n$", ["A", r"m \times n"]),
    ("_$x$_ and **$y$**", ["x", "y"]),
    ("“$x$” and '$y$'", ["x", "y"]),
    ("$x$. $y$; $z$: $w$!", ["x", "y", "z", "w"]),
    ("设$x$为$y$的函数，$x>0$。", ["x", "y", "x>0"]),
    ("変数$x$と$y$、第$n$項", ["x", "y", "n"]),
    ("변수 $x$는 $y$의", ["x", "y"]),
    ("$速度 = 距離 / 時間$", ["速度 = 距離 / 時間"]),
    ("$α$ and $β_1$", ["α", "β_1"]),
    ("$2α + 1$", ["2α + 1"]),
    ("$\\{1, 2\\}$s", [r"\{1, 2\}"]),
    ("$n!$", ["n!"]),
    ("$x'$s", ["x'"]),
    ("$\\mathbb{R}^+$", [r"\mathbb{R}^+"]),
    ("$x \\in [0, 1)$", [r"x \in [0, 1)"]),
    ("$a\nb$", ["a\nb"]),
    ("$$x$$ and $$ y $$", ["x", " y "]),
    ("$|x|$", ["|x|"]),
    ("$\\$5$", [r"\$5"]),
]


def formulas(text: str) -> list[str]:
    """Return the TeX that the page would typeset."""
    return [formula[2:-2] for formula in audit(render_markdown(text)).formulas]


@pytest.mark.parametrize("text", TEXTS)
def test_money_and_variables_are_text(text: str) -> None:
    """No dollar of the text is taken."""
    html = render_markdown(text)
    assert not audit(html).formulas
    assert html.count("$") == text.count("$")


@pytest.mark.parametrize(("text", "found"), FORMULAS)
def test_formulas(text: str, found: list[str]) -> None:
    """The formulas of the text, and only those."""
    assert formulas(text) == found


@pytest.mark.parametrize("text", TEXTS)
def test_a_formula_after_money_is_found(text: str) -> None:
    """Dollars that are text do not take the dollars of a formula after them."""
    assert formulas(text + "\n\nand $x^2$") == ["x^2"]


CURRENCY = st.sampled_from(["$", "US$", "C$", "~$", "-$"])
AMOUNTS = st.builds(
    lambda currency, amount, unit: f"{currency}{amount}{unit}",
    CURRENCY,
    st.sampled_from(["5", "1,000", "0.5", "20.00", "3"]),
    st.sampled_from(["", "k", "M", "/month", "/h", " per day", " million", "+", "%"]),
)
JOINTS = st.sampled_from([" and ", ", ", " to ", "–", "-", " (or ", "; ", "/", " / ", "到", "、", ".\n", ") "])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(AMOUNTS, JOINTS), min_size=2, max_size=6))
def test_any_list_of_amounts_is_text(parts: list[tuple[str, str]]) -> None:
    """A dollar before each number makes no formula."""
    assert not formulas("".join(amount + joint for amount, joint in parts))


@given(st.text("ab12$ \\/(){}_^=-,.到é`", max_size=30), st.integers(0, 29))
def test_a_formula_ends_at_the_next_dollar(text: str, start: int) -> None:
    """Whatever the text is, the end is a dollar, and no dollar before it ends the formula."""
    if start < len(text) and text[start] == "$" and (end := closing_dollar(text, start, len(text))) >= 0:
        assert text[end] == "$"
        assert "$" not in text[start + 1 : end].replace(r"\$", "")
