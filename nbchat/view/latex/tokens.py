"""The tokens of a formula, which are read from the first to the last."""

from __future__ import annotations

import re

__all__ = ["Tokens", "UnknownFormulaError"]

_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|%[^\n]*\n?|[ \t\n\r\f]+|.", re.DOTALL)


class UnknownFormulaError(Exception):
    """The grammar does not know the formula."""


class Tokens:
    """The tokens of a formula without comments. A position moves over them.

    Args:
        source: TeX without delimiters.
    """

    def __init__(self, source: str) -> None:
        self.tokens = [token for token in _TOKEN.findall(source) if token[0] != "%"]
        self.at = 0

    def peek(self, *, spaces: bool = False) -> str:
        """Return the next token, "" at the end. White space is skipped unless ``spaces`` is True."""
        while not spaces and self.at < len(self.tokens) and self.tokens[self.at].isspace():
            self.at += 1
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def next(self) -> str:
        """Return the next token, and continue after the token.

        Raises:
            UnknownFormulaError: the formula ends here.
        """
        token = self.peek()
        if not token:
            raise UnknownFormulaError
        self.at += 1
        return token

    def take(self, token: str) -> bool:
        """Return True, and continue after the next token, if the next token is this one."""
        if self.peek() != token:
            return False
        self.at += 1
        return True

    def raw_argument(self) -> str:
        """Return the characters of an argument in braces that has no braces inside."""
        if not self.take("{"):
            raise UnknownFormulaError
        begin = self.at
        while (token := self.peek(spaces=True)) != "}":
            if not token or token == "{":
                raise UnknownFormulaError
            self.at += 1
        self.at += 1
        return "".join(self.tokens[begin : self.at - 1])
