r"""Text as LaTeX that shows the text and does nothing else.

The law: no character of a text is a command. Each character that TeX reads as a sign of its own is replaced, so
no macro, no group, no comment and no formula begins in a text.

The LaTeX is inert as Markdown and HTML too. VS Code shows ``text/latex`` through its Markdown renderer, and prefers
it to HTML if a screen reader is in use. So ``<``, and ``]`` before a bracket or a colon, never stand in front of
what would make a tag, a link, an image or a definition of them.
"""

from __future__ import annotations

import re

__all__ = ["SYMBOL_MACROS", "latex_address", "latex_code", "latex_lines", "latex_text"]

#: The place where a long word may be broken. The text has no such character: see nbchat.view.html.safe.neutral.
_BREAK = "\ufdd0"
_SIGNS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "`": r"\textasciigrave{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "\u00a0": "~",
    _BREAK: r"\allowbreak{}",
}
#: Characters that the usual fonts of LaTeX do not have, and LaTeX would leave them out. Each has a macro of formulas.
_SYMBOLS = """
α alpha β beta γ gamma δ delta ε varepsilon ζ zeta η eta θ theta ι iota κ kappa λ lambda μ mu ν nu ξ xi π pi ρ rho
σ sigma τ tau υ upsilon φ varphi χ chi ψ psi ω omega Γ Gamma Δ Delta Θ Theta Λ Lambda Ξ Xi Π Pi Σ Sigma Φ Phi Ψ Psi
Ω Omega ϕ phi ϵ epsilon
← leftarrow ↑ uparrow → rightarrow ↓ downarrow ↔ leftrightarrow ⇐ Leftarrow ⇒ Rightarrow ⇔ Leftrightarrow ↦ mapsto
≤ leq ≥ geq ≠ neq ≈ approx ≡ equiv ∼ sim ≪ ll ≫ gg ∝ propto × times ÷ div ± pm ∓ mp ⋅ cdot ∘ circ ∗ ast ⊕ oplus
⊗ otimes ∞ infty ∑ sum ∏ prod ∫ int √ surd ∂ partial ∇ nabla ∈ in ∉ notin ⊂ subset ⊆ subseteq ⊃ supset ∪ cup ∩ cap
∅ emptyset ∀ forall ∃ exists ∧ wedge ∨ vee ¬ neg ⊥ perp ∥ parallel ∠ angle ⟨ langle ⟩ rangle ℓ ell ★ bigstar
✓ checkmark ✔ checkmark ✗ times ✘ times ☐ square ☑ boxtimes ■ blacksquare □ square
▲ blacktriangle △ triangle ◆ blacklozenge
"""
_NAMED = _SYMBOLS.split()
SYMBOL_MACROS = dict(zip(_NAMED[::2], _NAMED[1::2], strict=True))
_UNKNOWN_TO_FONTS = {
    **{character: rf"\(\{name}\)" for character, name in SYMBOL_MACROS.items()},
    **dict.fromkeys("─━", "-"),
    **dict.fromkeys("│┃", "|"),
    **dict.fromkeys("┌┐└┘├┤┬┴┼", "+"),
    "−": r"\(-\)",
}
_SIGNS |= _UNKNOWN_TO_FONTS
_PROSE = str.maketrans(_SIGNS)
_CODE = str.maketrans({**_SIGNS, "'": r"\textquotesingle{}"})
#: In fancyvrb's Verbatim with these ``commandchars`` only three characters are signs.
_VERBATIM_SIGNS = {"\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "<": "<{}", "\u00a0": " "}
_LINES = str.maketrans(_UNKNOWN_TO_FONTS | _VERBATIM_SIGNS)

#: Longer words are broken, for example addresses: TeX would print them over the edge of the page.
LONG_WORD_CHARACTERS = 30
_LONG_WORD = re.compile(rf"[^\s]{{{LONG_WORD_CHARACTERS + 1},}}")
_MARKS = r"/._\-=&?,;:)|+@%"
_IN_WORD = re.compile(rf"\S{{8,{LONG_WORD_CHARACTERS}}}?[{_MARKS}](?=[^{_MARKS}])|\S{{{LONG_WORD_CHARACTERS}}}")
#: The second character of a pair that fonts join to another sign, and the colon or bracket after "]".
_JOINED = re.compile(r"(?<=-)-|(?<=')'|(?<=,),|(?<=\])(?=[(\[:])")
_OPENING_QUOTE = re.compile(r'(?<![^\s(\[{/—–-])"(?=\S)')
_FENCE = re.compile(r"(?<=([`~]))\1|(?<=\])(?=[(\[:])")


def latex_text(text: str) -> str:
    """Return LaTeX that shows a text as prose.

    >>> latex_text("50 % of C:\\\\x_1 -- {a}")
    '50 \\\\% of C:\\\\textbackslash{}x\\\\_1 -{}- \\\\{a\\\\}'
    """
    # The fonts of XeLaTeX make each straight quotation mark a closing one.
    text = _OPENING_QUOTE.sub("\u201c", text).replace('"', "\u201d")
    return _separated(_breakable(text).translate(_PROSE))


def latex_code(text: str) -> str:
    r"""Return LaTeX that shows a text inside of ``\texttt{…}``."""
    return _separated(_breakable(text).translate(_CODE))


def latex_lines(text: str) -> str:
    r"""Return LaTeX that shows lines inside of a ``Verbatim`` whose commandchars are ``\``, ``{`` and ``}``."""
    return _FENCE.sub(lambda pair: "{}" + pair[0], text.expandtabs(4).translate(_LINES))


_ADDRESS = re.compile(r"[A-Za-z0-9\-._:/?@!*()+,;=%&#']")


def latex_address(address: str) -> str:
    r"""Return an address as the first argument of ``\href``. All but plain characters become percent codes."""
    signs = {"%": r"\%", "#": r"\#", "&": r"\&", "_": r"\_"}
    codes = (
        signs.get(character, character)
        if _ADDRESS.match(character)
        else "".join(rf"\%{byte:02X}" for byte in character.encode("utf-8", "replace"))
        for character in address
    )
    return "".join(codes)


def _breakable(text: str) -> str:
    return _LONG_WORD.sub(lambda word: _IN_WORD.sub(lambda part: part[0] + _BREAK, word[0]), text)


def _separated(latex: str) -> str:
    return _JOINED.sub(lambda pair: "{}" + pair[0], latex)
