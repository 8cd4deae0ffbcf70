"""A subcommand of ``%nbchat``: its declaration, and one call of it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from nbchat.core.errors import OptionError, nearest
from nbchat.notebook.commands.arguments import Argument, Reading
from nbchat.notebook.place import in_kernel

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from nbchat.engine.session import Session

__all__ = ["Action", "Call", "Command", "Group", "command"]

#: A function that does what a subcommand says. Its parameters after the call are the declared arguments.
Action: TypeAlias = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a subcommand: the name as it was typed, and the session and the shell it works on."""

    name: str
    session: Session
    shell: InteractiveShell

    @property
    def width(self) -> int | None:
        """The width of the screen in characters if this is a terminal, or None in a notebook and in a pipe."""
        if in_kernel(self.shell) or not sys.stdout.isatty():
            return None
        return shutil.get_terminal_size().columns

    def print(self, text: str) -> None:
        """Print lines of text, which break between words in a terminal."""
        from nbchat.view.screen import wrapped

        print(wrapped(text, self.width))


@dataclass(frozen=True, slots=True)
class Command:
    """A subcommand: its name, one sentence of help, its arguments and its function."""

    name: str
    help: str
    arguments: tuple[Argument, ...]
    do: Action

    @property
    def usage(self) -> str:
        """The usage text, such as ``forget N [CHAT]``."""
        return " ".join([self.name, *(argument.usage for argument in self.arguments)])

    def find(self, words: Sequence[str]) -> tuple[Command, list[str]]:
        """Return the command itself and the words of its arguments; a group chooses one of its actions."""
        return self, list(words)

    def reading(self) -> Reading:
        """Return a reading of the arguments, before the first word."""
        return Reading(self.arguments, self.name, self.usage)

    def run(self, words: Sequence[str], session: Session, shell: InteractiveShell) -> None:
        """Parse the words after the name, and call the function.

        Raises:
            OptionError: the words do not fit the declared arguments.
        """
        reading = self.reading()
        for word in words:
            reading.take(word)
        self.do(Call(self.name, session, shell), **reading.values())


@dataclass(frozen=True, slots=True)
class Group:
    """A subcommand with actions of its own, such as ``mcp add``; the first word chooses the action."""

    name: str
    help: str
    actions: tuple[Command, ...]
    #: The action if there are no words.
    default: Command

    @property
    def usage(self) -> str:
        """The usage texts of all actions, separated by commas."""
        return ", ".join(action.usage for action in self.actions)

    @property
    def action_names(self) -> list[str]:
        """The words that choose an action."""
        return [action.name.removeprefix(f"{self.name} ") for action in self.actions]

    def find(self, words: Sequence[str]) -> tuple[Command, list[str]]:
        """Return the action that the first word names, and the rest of the words.

        Raises:
            OptionError: there is no such action; the hint is the nearest one.
        """
        if not words:
            return self.default, []
        actions = dict(zip(self.action_names, self.actions, strict=True))
        if words[0] not in actions:
            raise OptionError(
                f"%nbchat {self.name} {words[0]}: not one of {', '.join(actions)}",
                nearest(words[0], actions) or f"Usage: %nbchat {self.usage}",
            )
        return actions[words[0]], list(words[1:])


def command(name: str, help: str, *arguments: Argument) -> Callable[[Action], Command]:
    """Declare the decorated function as a subcommand.

    Args:
        name: the word after ``%nbchat``; two words for an action of a group.
        help: one sentence without a full stop.
        arguments: one for each parameter of the function after the call, with the same names.
    """

    def declare(function: Action) -> Command:
        return Command(name, help, arguments, function)

    return declare
