"""The value of a typed answer that did not fit its type."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

from nbchat.core.errors import ParseError

__all__ = ["Misfit"]


class Misfit:
    """Takes the place of a typed answer that did not fit its type. It is false, and any use of it says why.

    Args:
        message: What does not fit.
        problems: Each place that does not fit, and why.

    >>> people = Misfit("the answer does not fit list[Person]", ["[0].age: not a number"])
    >>> bool(people), people
    (False, <no value: the answer does not fit list[Person]>)
    >>> people[0]
    Traceback (most recent call last):
    nbchat.core.errors.ParseError: the answer does not fit list[Person]
    The Response holds the answer in .text. Ask again with --retry to list these problems to the model.
    """

    __slots__ = ("message", "problems")

    def __init__(self, message: str, problems: Iterable[str] = ()) -> None:
        self.message, self.problems = message, tuple(problems)

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return f"<no value: {self.message.splitlines()[0].removesuffix(':') if self.message else '?'}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Misfit) and (self.message, self.problems) == (other.message, other.problems)

    def __hash__(self) -> int:
        return hash((self.message, self.problems))

    def refuse(self) -> NoReturn:
        """Raise the ParseError of this answer."""
        raise ParseError(
            self.message,
            "The Response holds the answer in .text. Ask again with --retry to list these problems to the model.",
            problems=self.problems,
        )

    def __getitem__(self, key: object) -> Any:
        self.refuse()

    def __iter__(self) -> Iterator[Any]:
        self.refuse()

    def __len__(self) -> int:
        self.refuse()

    def __getattr__(self, name: str) -> Any:
        # Python itself asks for special names, for example when it copies or pickles an object.
        if name.startswith("_"):
            raise AttributeError(name)
        self.refuse()
