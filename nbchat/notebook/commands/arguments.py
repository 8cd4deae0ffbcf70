"""The arguments of a ``%nbchat`` subcommand, declared: parsing, usage text and completion come from here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from nbchat.core.errors import OptionError, nearest
from nbchat.options import check_choice

__all__ = ["Argument", "Reading", "Value"]

Value: TypeAlias = str | tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a subcommand.

    Attributes:
        name: the parameter of the subcommand's function that receives the value.
        metavar: the value in the usage text; without one, the usage text shows the suggested words.
        keyword: the word before the value, such as ``--mode`` or ``by``; without one, the position decides.
        choices: the only values that are accepted; empty if there is no such limit.
        suggested: the words that Tab suggests, if they are not the choices.
        completes: the kind of value that Tab suggests too (:mod:`nbchat.notebook.suggestions`).
        default: the value if the argument is not given.
        required: True if the subcommand cannot run without the argument.
        takes: ``one`` value; ``several``, where the keyword may be repeated; ``rest``, all words that follow; or
            ``flag``: the keyword has no value, and is the value itself.
    """

    name: str
    metavar: str = ""
    keyword: str = ""
    choices: tuple[str, ...] = ()
    suggested: tuple[str, ...] = ()
    completes: str = ""
    default: str | None = None
    required: bool = False
    takes: Literal["one", "several", "rest", "flag"] = "one"

    @property
    def words(self) -> tuple[str, ...]:
        """The words that Tab suggests as the value."""
        return self.suggested or self.choices

    @property
    def value_text(self) -> str:
        """The value in the usage text."""
        return self.metavar or "|".join(self.words)

    @property
    def usage(self) -> str:
        """The argument in the usage text: brackets mean that it is optional."""
        text = " ".join(filter(None, (self.keyword, self.value_text)))
        return text if self.required else f"[{text}]"


class Reading:
    """The words of a line, taken one by one and assigned to the arguments.

    The parser takes all words and then calls :meth:`values`. Completion takes the words before the cursor
    and then reads :attr:`awaited`, :attr:`next_position` and :meth:`free_keywords`.
    """

    def __init__(self, arguments: Sequence[Argument], command: str, usage: str) -> None:
        self._arguments = arguments
        self._command, self._usage_hint = f"%nbchat {command}", f"Usage: %nbchat {usage}"
        self._given: dict[str, tuple[str, ...]] = {}
        #: The argument whose keyword was the last word; the next word is its value.
        self.awaited: Argument | None = None

    @property
    def next_position(self) -> Argument | None:
        """The argument that the next word without a keyword belongs to."""
        for argument in self._arguments:
            if not argument.keyword and (argument.name not in self._given or argument.takes == "rest"):
                return argument
        return None

    def free_keywords(self) -> list[Argument]:
        """Return the arguments with a keyword that may still be given."""
        if self._taking_rest:
            return []
        return [argument for argument in self._arguments if argument.keyword and self._may_be_given(argument)]

    def find_keyword(self, word: str) -> Argument | None:
        """Return the argument with a keyword, or None."""
        return next((argument for argument in self._arguments if argument.keyword and argument.keyword == word), None)

    def take(self, word: str) -> None:
        """Assign one word.

        Raises:
            OptionError: no argument can take the word, or it is not one of the choices.
        """
        if self.awaited is not None:
            argument, self.awaited = self.awaited, None
            self._give(argument, word)
            return
        position = self.next_position
        if position is not None and self._taking_rest:
            self._give(position, word)
            return
        # Only flags have the form --flag=value; `by=day` would be a file name or a typo.
        keyword, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
        keyed = self.find_keyword(keyword)
        if keyed is not None:
            if not self._may_be_given(keyed):
                raise OptionError(f"{self._command}: {keyword} is given twice", "Give it once.")
            if keyed.takes == "flag":
                if equals:
                    raise OptionError(f"{self._command}: {keyword} has no value", f"Write {keyword} alone.")
                self._give(keyed, keyword)
            elif equals:
                self._give(keyed, value)
            else:
                self.awaited = keyed
        elif word.startswith("--"):
            flags = [argument.keyword for argument in self._arguments if argument.keyword]
            raise OptionError(f"{self._command}: unknown option {keyword}", nearest(keyword, flags) or self._usage_hint)
        elif position is None:
            raise OptionError(
                f"{self._command}: unexpected {word!r}", nearest(word, self._literals) or self._usage_hint
            )
        else:
            self._give(position, word)

    def values(self) -> dict[str, Value]:
        """Return the value of every argument by its name.

        Raises:
            OptionError: a required argument, or the value after a keyword, is missing.
        """
        if self.awaited is not None:
            raise OptionError(
                f"{self._command}: {self.awaited.keyword} needs a value: {self.awaited.value_text}", self._usage_hint
            )
        missing = [argument for argument in self._arguments if argument.required and argument.name not in self._given]
        if missing:
            texts = " and ".join(argument.value_text for argument in missing)
            raise OptionError(f"{self._command} needs {texts}", self._usage_hint)
        return {argument.name: self._value(argument) for argument in self._arguments}

    @property
    def _taking_rest(self) -> bool:
        """True if all further words belong to one argument, such as the words of a server's own command."""
        return self.next_position is not None and self.next_position.takes == "rest"

    @property
    def _literals(self) -> list[str]:
        """The words that have a meaning without a keyword before them."""
        placed = [choice for argument in self._arguments if not argument.keyword for choice in argument.choices]
        return [*placed, *(argument.keyword for argument in self._arguments if argument.keyword)]

    def _may_be_given(self, argument: Argument) -> bool:
        return argument.takes == "several" or argument.name not in self._given

    def _give(self, argument: Argument, word: str) -> None:
        if argument.choices:
            check_choice(word, argument.choices, argument.keyword or self._command, self._choice_hint(argument, word))
        self._given[argument.name] = (*self._given.get(argument.name, ()), word)

    def _choice_hint(self, argument: Argument, word: str) -> str:
        return ("" if argument.keyword else nearest(word, self._literals)) or self._usage_hint

    def _value(self, argument: Argument) -> Value:
        words = self._given.get(argument.name, ())
        if argument.takes in ("several", "rest"):
            return words
        return words[0] if words else argument.default
