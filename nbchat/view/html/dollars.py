r"""Which dollars begin and end a formula, and which are money, a shell variable or a plain sign.

How others decide, where they were read in November 2026:

- pandoc (https://pandoc.org/MANUAL.html#extension-tex_math_dollars): no space after the opening ``$``, no space
  before the closing one, no digit after the closing one. ``$20/month (in US$)`` is a formula there.
- KaTeX auto-render and MathJax (https://docs.mathjax.org/en/v3.2-latest/input/tex/delimiters.html): ``$`` is not a
  delimiter by default, because it is money too often.
- GitHub: space or punctuation is on both outer sides. So ``$n$th`` is text there.
- JupyterLab: any two dollars without a blank line between them are a formula.

Here the rule of pandoc holds, the next ``$`` closes, and what is between the dollars must look like TeX.

**Outside.** An opening ``$`` is not after a Latin letter or a digit (``US$5``, ``5$``), except before ``^`` or
``_`` (``R$^2$``, ``CO$_2$``), and after a digit before a macro (``10$\mu$m``). After the closing ``$``:

- a digit, another ``$`` or an opening brace makes both dollars text (``$A$1``, ``${a}${b}``);
- a Latin letter is the end of a word that the formula begins (``$n$th``, ``$(k+1)$st``, ``$k$NN``). The formula must
  then be a single character or TeX, or the rest of the word an ending, and the formula must not end with a separator
  (``$HOME/$USER``).

**Inside, after a number** (``$5…$``), the text is an amount if it has one of these: a word that is not a function
(``$20/month``, ``$5 or 6 A$``), a letter or a punctuation mark of another script, except for Greek (``$5到10$``), a
long dash or ``~`` between numbers, a sign of another currency, an open bracket (``$5 (US$``), the name of another
dollar at its end (``$3, C$``), or a dash or slash at its end. In TeX, only two words in a row make an amount.

**Inside otherwise**, these make a text: two words in a row without any sign of a formula (``$HOME and the US$``), an
open bracket without TeX, and a word of another script without any sign of a formula.

A backtick is never in a formula, so code beside a dollar stays code.
"""

from __future__ import annotations

import re

from nbchat.view.html.formula_filter import MAX_CHARACTERS

__all__ = ["closing_dollar", "find_closer", "has_price_tiers"]

#: The most ends of a line inside one pair of dollars.
MAX_LINE_ENDS = 3

_TEX = re.compile(r"[\\^_{}]")
_FORMULA_SIGN = re.compile(r"[\\^_{}=<>|≤≥≠≈∈→]")
#: Macros with their names, and with their text if that is the argument.
_MACROS = re.compile(r"\\(?:text[a-z]*|mbox|math[a-z]+|operatorname)\*?\s*\{[^{}]*\}|\\[A-Za-z]+")
_TWO_WORDS = re.compile(r"[^\W\d_]{2,}[,;:.]?\s+[^\W\d_]{2,}")
_FREE_WORD = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2,}")
_FUNCTION_NAMES = (
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log exp lim max min sup inf det dim ker deg gcd lcm "
    "mod div arg sgn sqrt var cov"
)
_FUNCTIONS = frozenset(_FUNCTION_NAMES.split())
_SHORT_WORD = re.compile(r"\s[A-Za-z]{2}\s|/(?:mo|yr|hr|wk|GB|TB|MB|kg|lb|oz|sq)\b|\s(?:US|NT|HK|NZ|AU|CA|SG|MX)\Z")
#: Letters, punctuation and signs of other scripts than Latin (without marks) and Greek.
_OTHER_SCRIPT = re.compile(
    "[\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u0400-\u1eff\u2e80-\ud7ff\uf900-\ufaff\ufe30-\uffef\U00020000-\U0003ffff]"
)
_AMOUNT = re.compile(r"\.?\d")
_RANGE_OR_CURRENCY = re.compile(r"[–—€£¥₹₩₽]|\d\s*~\s*\d")
_OTHER_DOLLAR = re.compile(r"[,;(/]\s*[A-Z]{1,3}\Z")
_NOT_AFTER = re.compile(r"[0-9${]|_[A-Za-z0-9]")
_SEPARATORS = "/:-.,;&<>=(["
_LETTERS = re.compile(r"[A-Za-z]+")
_ENDINGS = frozenset(["st", "nd", "rd", "th", "s", "es"])


def find_closer(text: str, closer: str, start: int, stop: int) -> int:
    """Return the next place of ``closer`` that no backslash escapes, -1 if there is none.

    Args:
        text: the text.
        closer: the closing delimiter.
        start: the place after the opening delimiter.
        stop: the end of the search.
    """
    stop = min(stop, start + MAX_CHARACTERS)
    at = start
    while (at := text.find(closer, at, stop)) >= 0:
        backslashes = at
        while backslashes > start and text[backslashes - 1] == "\\":
            backslashes -= 1
        if (at - backslashes) % 2 == 0:  # two backslashes are a line break, and escape nothing
            return at
        at += 1
    return -1


def closing_dollar(text: str, start: int, stop: int) -> int:
    """Return the place of the ``$`` that ends the formula that begins at ``start``, -1 if no formula begins there.

    Args:
        text: the text.
        start: the place of a ``$``.
        stop: the end of the text that may be read.

    >>> closing_dollar("the $n$th", 4, 9)
    6
    >>> closing_dollar("$20/month (billed in US$)", 0, 25)
    -1
    """
    before, first = text[start - 1 : start] if start else "", text[start + 1 : start + 2]
    if first.isspace():
        return -1
    if before.isascii() and before.isalnum() and first not in ("^", "_") and not (before.isdigit() and first == "\\"):
        return -1
    end = find_closer(text, "$", start + 1, stop)
    if end <= start + 1 or text[end - 1].isspace():
        return -1
    inside = text[start + 1 : end]
    if (
        "`" in inside
        or inside.count("\n") > MAX_LINE_ENDS
        or not _may_precede(inside, text[end + 1 : min(stop, end + 9)])
    ):
        return -1
    return -1 if _is_text(inside) else end


def has_price_tiers(inside: str) -> bool:
    """Return True if the text between two ``$$`` is that of price tiers, as in ``$$ to $$$``, and not a formula."""
    text = inside.strip()
    return not _FORMULA_SIGN.search(text) and (
        not any(map(str.isalnum, text)) or (inside[0].isspace() and _FREE_WORD.search(text) is not None)
    )


def _may_precede(inside: str, after: str) -> bool:
    """Return False if the characters after the closing dollar show that it closes nothing."""
    if not after or after[0] in " .,\n":  # the most frequent ones
        return True
    if _NOT_AFTER.match(after) or (after[0] == "(" and inside[0] in "({"):
        return False
    word = _LETTERS.match(after)
    if not word:
        return True
    if inside[-1] in _SEPARATORS:
        return False
    return word[0] in _ENDINGS or len(inside) == 1 or _TEX.search(inside) is not None


def _is_text(inside: str) -> bool:
    """Return True if the text between two dollars reads as an amount or as a sentence."""
    if len(inside) == 1 and inside.isascii():
        return False
    plain = _MACROS.sub(" ", inside)
    if _AMOUNT.match(inside):
        return _is_amount(plain, bool(_TEX.search(inside)))
    if _FORMULA_SIGN.search(inside):
        return False
    return bool(_TWO_WORDS.search(plain) or _OTHER_SCRIPT.search(plain) or _has_open_bracket(plain) or plain[-1] == "/")


def _is_amount(plain: str, tex: bool) -> bool:
    if tex:
        return _TWO_WORDS.search(plain) is not None
    if any(len(word) > 2 and word.lower() not in _FUNCTIONS for word in _FREE_WORD.findall(plain)):
        return True
    patterns = (_SHORT_WORD, _OTHER_SCRIPT, _RANGE_OR_CURRENCY, _OTHER_DOLLAR)
    return any(pattern.search(plain) for pattern in patterns) or _has_open_bracket(plain) or plain[-1] in "-/"


def _has_open_bracket(plain: str) -> bool:
    return plain.count("(") > plain.count(")") + plain.count("]")
