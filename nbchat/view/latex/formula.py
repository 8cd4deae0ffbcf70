r"""A formula of the page as LaTeX that compiles, or its source.

A browser shows a formula that is wrong as an error inside the formula. LaTeX ends the whole document. So a formula
is read by a strict grammar here and written again from what was read: only macros of the allow-list, each with all
its arguments in braces, cells only where they may be, at most one script of each kind. Nothing of the source is
copied but single characters. A formula that the grammar does not know is shown as its source.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from nbchat.view.latex.macros import ARGUMENTS, DELIMITERS, ENVIRONMENTS, OUTERMOST, RENAMED, SIZES, SYMBOLS, TEXTS
from nbchat.view.latex.signs import SYMBOL_MACROS, latex_code, latex_text
from nbchat.view.latex.tokens import Tokens, UnknownFormulaError

__all__ = ["latex_formula"]

#: The signs after a backslash that are allowed: spaces, and characters that are signs of TeX otherwise.
_SIGNS = frozenset("\\" + sign for sign in ",;:!>|{}%&#_$")
#: The characters that TeX reads as a sign, or that a text of VS Code could read as one.
_NO_CHARACTERS = frozenset("\\{}^_&~%#$'`\u00a0")
_DIMENSION = re.compile(r"-?(?:\d{1,3}(?:\.\d{0,3})?|\.\d{1,3})(?:em|ex|pt|mm|cm|in|mu)\Z")
_FONT = re.compile(r"\\math(?:rm|normal|bf|it|bb|frak|sf|tt|cal)\{")
_OPERATOR_NAME = re.compile(r"[A-Za-z0-9\-]+\Z")
_ARRAY_COLUMNS = re.compile(r"[clr|\s]{1,40}\Z")
_OUTERMOST_SOURCE = re.compile(r"\s*\\begin\{([a-z]+\*?)\}(.*)\\end\{\1\}\s*\Z", re.DOTALL)


def latex_formula(source: str, display: bool, *, alone: bool) -> str:
    r"""Return LaTeX that shows a formula, or its source if the grammar does not know the formula.

    Args:
        source: TeX without delimiters.
        display: the formula has a line of its own.
        alone: the formula is not in a cell, a heading or the like, where no formula can have a line of its own.

    >>> latex_formula(r"\frac12 x^\mathrm T", False, alone=True)
    '\\(\\frac{1}{2}x^{\\mathrm{T}}\\)'
    >>> latex_formula(r"\input{x}", False, alone=True)
    '\\texttt{\\textbackslash{}(\\textbackslash{}input\\{x\\}\\textbackslash{})}'
    """
    try:
        outermost = _OUTERMOST_SOURCE.match(source)
        if outermost and outermost[1] in OUTERMOST:
            if alone:
                return _Formula(outermost[2]).outermost(outermost[1])
        else:
            content = _Formula(source).whole()
            if display and alone:
                return rf"\[{content}\]"
            style = r"\displaystyle " if display else ""
            return rf"\({style}{content}\)"
    except (UnknownFormulaError, RecursionError):
        pass
    begin, end = (r"\[", r"\]") if display else (r"\(", r"\)")
    return rf"\texttt{{{latex_code(begin + ' '.join(source.split()) + end)}}}"


class _Formula(Tokens):
    """A formula while the grammar reads it."""

    def whole(self) -> str:
        """Return the whole formula."""
        content = self._items(("",))
        if not content.strip():
            raise UnknownFormulaError
        return content

    def outermost(self, name: str) -> str:
        """Return the rows of an environment that is a whole formula."""
        latex, columns = OUTERMOST[name]
        if name.startswith("alignat"):
            self.raw_argument()
        rows = self._rows(columns, ends=False)
        if not rows.strip():
            raise UnknownFormulaError
        return f"\\begin{{{latex}}}\n{rows}\n\\end{{{latex}}}"

    # --- the grammar ----------------------------------------------------------------------------------

    def _items(self, ends: tuple[str, ...]) -> str:
        """Return the atoms up to one of the tokens ``ends``, which is not read."""
        parts: list[str] = []
        while (token := self.peek()) not in ends:
            if not token:
                raise UnknownFormulaError
            parts.append(self._item())
        return _joined(parts)

    def _item(self) -> str:
        nucleus = "" if self.peek() in ("^", "_", "'") else self._nucleus()
        limits = self._take_limits(nucleus)
        scripts, used = "", set()
        while (token := self.peek()) in ("^", "_", "'"):
            kind = "_" if token == "_" else "^"
            if kind in used and not (token == "^" and scripts.endswith("'")):
                raise UnknownFormulaError
            used.add(kind)
            if token == "'":
                while self.take("'"):
                    scripts += "'"
            else:
                self.at += 1
                scripts += token + self._braced(scripts=True)
        if scripts and (not nucleus or _FONT.match(nucleus)):
            # A font of unicode-math makes no group: a script in its argument would be a script of what is here.
            nucleus = f"{{{nucleus}}}"
        return nucleus + limits + scripts

    def _take_limits(self, nucleus: str) -> str:
        name = nucleus[1:].split("{")[0].strip()
        for token in (r"\limits", r"\nolimits"):
            if self.take(token):
                if name not in _OPERATORS:
                    raise UnknownFormulaError
                return f"{token} "
        return ""

    def _nucleus(self) -> str:
        token = self.next()
        if token == "{":
            content = self._items(("}",))
            self.at += 1
            return f"{{{content}}}"
        if token == "~":
            return "~"
        if len(token) == 1:
            return self._character(token)
        if not token[1:].isalpha() or not token.isascii():
            return self._sign(token)
        return self._macro(token[1:])

    def _character(self, token: str) -> str:
        if token in _NO_CHARACTERS or not token.isprintable():
            raise UnknownFormulaError
        if token in SYMBOL_MACROS:
            return f"\\{SYMBOL_MACROS[token]} "
        # A space ends what would be a tag or a link in Markdown.
        return f"{token} " if token in "<]" else token

    def _sign(self, token: str) -> str:
        if token in (r"\ ", "\\\n", "\\\t"):
            return r"\ "
        if token not in _SIGNS:
            raise UnknownFormulaError
        return token

    def _macro(self, name: str) -> str:
        name = RENAMED.get(name, name)
        if name in SYMBOLS:
            return f"\\{name} "
        if name in ARGUMENTS:
            if name == "cfrac" and self.peek() == "[":
                raise UnknownFormulaError
            return f"\\{name}" + "".join(self._braced() for _ in range(ARGUMENTS[name]))
        if name in TEXTS:
            return self._text(TEXTS[name])
        if name in SIZES:
            return f"\\{name}{self._delimiter()} "
        if name in _READERS:
            return _READERS[name](self)
        raise UnknownFormulaError

    def _braced(self, *, scripts: bool = False) -> str:
        """Return the next argument in braces.

        Args:
            scripts: the argument is a script, which may be a macro with arguments.
        """
        token = self.peek()
        if token == "{":
            return self._nucleus()
        name = RENAMED.get(token[1:], token[1:])
        if len(token) > 1 and not scripts and name not in SYMBOLS:
            raise UnknownFormulaError
        if token in ("&", r"\\", r"\end", r"\right", r"\middle", "}", "^", "_", "'", "~"):
            raise UnknownFormulaError
        return f"{{{self._nucleus().strip()}}}"

    def _text(self, name: str) -> str:
        """Return text in a formula. The text may have formulas between dollars."""
        if not self.take("{"):
            raise UnknownFormulaError
        begin, depth = self.at, 1
        while depth:
            token = self.peek(spaces=True)
            if not token or (token[0] == "\\" and token not in (r"\ ", r"\%", r"\&", r"\_", r"\#", r"\{", r"\}")):
                raise UnknownFormulaError
            depth += (token == "{") - (token == "}")
            self.at += 1
        pieces = "".join(token for token in self.tokens[begin : self.at - 1] if token not in "{}").split("$")
        if not len(pieces) % 2:
            raise UnknownFormulaError
        latex = [
            rf"\({_Formula(piece).whole()}\)"
            if number % 2
            else latex_text(" ".join(re.sub(r"\\(.)", r"\1", f".{piece}.").split())[1:-1])
            for number, piece in enumerate(pieces)
        ]
        return f"\\{name}{{{''.join(latex)}}}"

    def _delimiter(self) -> str:
        token = {"<": r"\langle", ">": r"\rangle"}.get(self.peek(), self.peek())
        if token not in DELIMITERS:
            raise UnknownFormulaError
        self.at += 1
        return token

    def _between_delimiters(self) -> str:
        parts = [rf"\left{self._delimiter()} ", self._items((r"\right", r"\middle"))]
        while self.take(r"\middle"):
            parts += [rf"\middle{self._delimiter()} ", self._items((r"\right", r"\middle"))]
        self.at += 1
        return "".join([*parts, rf"\right{self._delimiter()} "])

    def _root(self) -> str:
        index = ""
        if self.take("["):
            index = f"[{{{self._items((']',))}}}]"
            self.at += 1
        return rf"\sqrt{index}{self._braced()}"

    def _long_arrow(self, name: str) -> str:
        below = ""
        if self.take("["):
            below = f"[{{{self._items((']',))}}}]"
            self.at += 1
        return rf"\{name}{below}{self._braced()}"

    def _operator_name(self) -> str:
        star = "*" if self.take("*") else ""
        words = self.raw_argument().replace(r"\,", " ").split()
        if not words or not all(map(_OPERATOR_NAME.match, words)):
            raise UnknownFormulaError
        name = r"\,".join(words)
        return rf"\operatorname{star}{{{name}}}"

    def _space(self, name: str) -> str:
        dimension = "".join(self.raw_argument().split())
        if not _DIMENSION.match(dimension) or dimension.endswith("mu") is not (name == "mspace"):
            raise UnknownFormulaError
        return rf"\{name}{{{dimension}}}"

    def _not(self) -> str:
        token = self.next()
        if token not in ("=", ">") and (token[0] != "\\" or token[1:] not in SYMBOLS):
            raise UnknownFormulaError
        return rf"\not{token} "

    def _colour(self) -> str:
        self.raw_argument()  # the colour of a formula is not exported
        return ""

    def _coloured(self) -> str:
        self.raw_argument()
        return self._braced()

    def _degree(self) -> str:
        return r"{{}^{\circ}}"

    def _dropped(self) -> str:
        return ""

    def _label(self) -> str:
        self.raw_argument()  # LaTeX complains of a label that two answers have
        return ""

    def _tag(self) -> str:
        self.take("*")
        tag = self.raw_argument()
        if "\\" in tag or "$" in tag:
            raise UnknownFormulaError
        # A \tag may be only once in a row, and not in each environment.
        return rf"\qquad \text{{({latex_text(tag)})}}"

    def _stack(self) -> str:
        if not self.take("{"):
            raise UnknownFormulaError
        rows = self._rows(1, end="}")
        return rf"\substack{{{rows}}}"

    def _environment(self) -> str:
        name = self.raw_argument()
        if name not in ENVIRONMENTS:
            raise UnknownFormulaError
        latex, columns = ENVIRONMENTS[name]
        if self.take("["):  # the place, or the alignment of a starred matrix
            while self.next() != "]":
                pass
        template = ""
        if name == "alignedat":
            self.raw_argument()
        if name == "array":
            template = " ".join(self.raw_argument().split())
            columns = sum(map(template.count, "clr"))
            if not _ARRAY_COLUMNS.match(template) or not columns:
                raise UnknownFormulaError
            template = f"{{{template}}}"
        rows = self._rows(columns, lines=name == "array")
        if self.raw_argument() != name:
            raise UnknownFormulaError
        return f"\\begin{{{latex}}}{template}{rows}\\end{{{latex}}}"

    def _rows(self, columns: int, *, ends: bool = True, end: str = r"\end", lines: bool = False) -> str:
        r"""Return the rows of an environment or of a stack, up to ``end``, which is read.

        Args:
            columns: the most columns. 0 means: many.
            ends: there is an ``end``. Otherwise the rows end with the formula.
            end: the token after the rows.
            lines: there may be lines between the rows.
        """
        stops = ("&", r"\\", r"\cr", end if ends else "")
        rows: list[str] = []
        cells: list[str] = []
        while True:
            while lines and not cells and self.take(r"\hline"):
                cells.append(r"\hline ")
            line, cells = "".join(cells), []
            while True:
                cells.append(self._items(stops))
                if not self.take("&"):
                    break
            if columns and len(cells) > columns:
                raise UnknownFormulaError
            row = " & ".join(cells)
            # After the end of a row, a bracket or a star would be an argument.
            rows.append(line + ("{}" if not line and row.startswith(("[", "*")) else "") + row)
            cells = []
            if not (self.take(r"\\") or self.take(r"\cr")):
                break
            self.take("*")
            self._skip_row_space()
        if ends and not self.take(end):
            raise UnknownFormulaError
        while rows and not rows[-1].strip():
            rows.pop()
        return "\\\\\n".join(rows)

    def _skip_row_space(self) -> None:
        begin = self.at
        if self.take("["):
            dimension = ""
            while self.peek() not in ("]", ""):
                dimension += self.next()
            if self.take("]") and _DIMENSION.match(dimension):
                return
        self.at = begin


def _joined(parts: list[str]) -> str:
    """Return the atoms of a formula, without the space after a macro where no letter, bracket or star comes next."""
    latex = "".join(parts)
    return re.sub(r"(\\[A-Za-z]+) (?=[!-)+-;=-@\\\\^-`{-~])", r"\1", latex)


#: The macros whose limits may be above and below.
_LIMITS = """
sum prod coprod int iint iiint iiiint oint intop smallint idotsint bigcap bigcup bigodot bigoplus bigotimes bigsqcup
biguplus bigvee bigwedge lim liminf limsup injlim projlim varliminf varlimsup varinjlim varprojlim max min sup inf
det gcd Pr mathop overbrace underbrace operatorname operatorname*
"""
_OPERATORS = frozenset(_LIMITS.split())
_READERS: dict[str, Callable[[_Formula], str]] = {
    "left": _Formula._between_delimiters,
    "begin": _Formula._environment,
    "sqrt": _Formula._root,
    "operatorname": _Formula._operator_name,
    "substack": _Formula._stack,
    "not": _Formula._not,
    "color": _Formula._colour,
    "textcolor": _Formula._coloured,
    "degree": _Formula._degree,
    "label": _Formula._label,
    "tag": _Formula._tag,
    "notag": _Formula._dropped,
    "nonumber": _Formula._dropped,
    "xrightarrow": lambda formula: formula._long_arrow("xrightarrow"),
    "xleftarrow": lambda formula: formula._long_arrow("xleftarrow"),
    "hspace": lambda formula: formula._space("hspace"),
    "mspace": lambda formula: formula._space("mspace"),
}
