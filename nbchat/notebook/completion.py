"""Tab: options and their values, subcommands of ``%nbchat``, and Python inside ``{{ … }}``.

IPython's completer asks nbchat, and JupyterLab, Notebook, VS Code and the terminal ask IPython's
completer. The suggestions come from the table of options and from the declarations of the subcommands.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from nbchat.core.errors import OptionError
from nbchat.core.visible import visible_line
from nbchat.notebook.commands import COMMANDS
from nbchat.notebook.commands.arguments import Argument, Reading
from nbchat.notebook.commands.command import Group
from nbchat.notebook.commands.words import split_words
from nbchat.notebook.line import option_of
from nbchat.notebook.old_ipython import add_matcher, remove_matcher
from nbchat.notebook.suggestions import Suggestions, beginning, own_names, suggest
from nbchat.options import OPTIONS, Option

__all__ = ["complete", "install", "uninstall"]

#: The beginning of a line that is ours, also after an assignment: `answer = %claude `.
_MAGIC = re.compile(r"\s*(?:[^\W\d][\w.]*(?:\[[^\]]*\])*\s*=\s*)?(?P<magic>%{1,2}claude|%nbchat)(?=\s)")
_WORDS = re.compile(r"""(?:"[^"]*"?|'[^']*'?|[^\s"'])+""")
#: The keywords that can be a part of an expression.
_IN_EXPRESSIONS = frozenset(
    ["and", "await", "else", "False", "for", "if", "in", "is", "lambda", "None", "not", "or", "True"]
)
_STATEMENTS = frozenset(keyword.kwlist) - _IN_EXPRESSIONS
#: A longer word is not suggested.
MAX_WORD_CHARACTERS = 1_000


def install(shell: Any) -> None:
    """Let the shell's completer ask nbchat, if it does not yet."""
    completer = getattr(shell, "Completer", None)
    if completer is not None:
        add_matcher(completer, lambda text, line, column: complete(shell, text, line, column))


def uninstall(shell: Any) -> None:
    """Undo :func:`install`."""
    completer = getattr(shell, "Completer", None)
    if completer is not None:
        remove_matcher(completer)


def complete(shell: Any, text: str, line: int, column: int) -> Suggestions | None:
    """Return the suggestions at the cursor of a cell, or None if the place does not belong to nbchat.

    Args:
        shell: the IPython shell, with nbchat loaded.
        text: the whole cell.
        line: the line of the cursor, counted from 0.
        column: the characters before the cursor in that line.
    """
    found = _complete(shell, text, line, column)
    if found is None:
        return None
    # A server, a file or a column of a table may have any name. One with hidden characters would be inserted
    # without being seen.
    shown = [word for word in found.words if visible_line(word[0], MAX_WORD_CHARACTERS, strict=True) == word[0]]
    return Suggestions(found.fragment, shown)


def _complete(shell: Any, text: str, line: int, column: int) -> Suggestions | None:
    lines = text.split("\n")
    first = next((number for number, content in enumerate(lines) if content.strip()), 0)
    in_body = lines[first].lstrip().startswith("%%claude") and line > first
    if lines[first].lstrip().startswith("%%") and not lines[first].lstrip().startswith("%%claude"):
        return None  # the body of another cell magic
    magic = None if in_body else _MAGIC.match(lines[line])
    if not in_body and (magic is None or magic.end() >= column):
        return None
    before = lines[line][:column] if in_body or magic is None else lines[line][magic.end() : column]
    if magic is not None and magic["magic"] == "%nbchat":
        return _complete_subcommand(shell, before)
    prompt = "\n".join([*lines[first + 1 : line], before]) if in_body else before
    expression = _open_expression(prompt)
    if expression is not None:
        return _complete_python(shell, expression)
    has_body = magic is not None and magic["magic"] == "%%claude"
    return None if in_body else _complete_options(shell, before, has_body=has_body)


def _split(before: str) -> tuple[list[str], str]:
    """Return the whole words before the cursor, and the word that the cursor is in ("" after a space)."""
    words = [match[0] for match in _WORDS.finditer(before)]
    return (words[:-1], words[-1]) if words and before.endswith(words[-1]) else (words, "")


# --- the line of options --------------------------------------------------------------------------


@dataclass
class _Line:
    """The words before the one under the cursor, read as options.

    Args:
        has_body: whether the prompt is in the cell below. A list then takes every word that follows.
    """

    has_body: bool
    #: The values of the options that the line has, by the names of the options.
    values: dict[str, str] = field(default_factory=dict)
    #: The option whose value comes next.
    awaited: Option | None = None
    #: Whether the awaited list has a value already, so that a flag may come instead.
    may_end: bool = False
    #: Whether the prompt has begun.
    in_prompt: bool = False

    def take(self, word: str) -> None:
        """Read one word."""
        if self.awaits(word):
            if self.awaited is not None:
                self.values[self.awaited.name] = word
            self.may_end = self.has_body and self.awaited is not None and self.awaited.kind == "list"
            self.awaited = self.awaited if self.may_end else None
            return
        flag, equals, value = word.partition("=")
        option = option_of(flag)
        if word == "--" or option is None:
            self.in_prompt = True
            return
        self.values[option.name] = value
        self.awaited, self.may_end = (None if option.kind == "switch" or equals else option), False

    def awaits(self, word: str) -> bool:
        """Return True if the word is a value, and not a flag."""
        return self.awaited is not None and not (self.may_end and word.startswith("-"))


def _complete_options(shell: Any, before: str, *, has_body: bool) -> Suggestions | None:
    words, word = _split(re.sub(r"^\s*\S+\s*<<", "", before))
    line = _Line(has_body)
    for whole in words:
        line.take(whole)
        if line.in_prompt:
            return None
    if line.awaited is not None and line.awaits(word):
        values = _complete_value(shell, line.awaited, word, line.values)
        flags = _flags("", line.values) if line.may_end and not word else []
        return Suggestions(values.fragment, [*values.words, *flags])
    flag, equals, value = word.partition("=")
    if equals and (option := option_of(flag)) is not None:
        return _complete_value(shell, option, value, line.values)
    return Suggestions(word, _flags(word, line.values)) if not word or word.startswith("-") else None


def _flags(word: str, given: Collection[str]) -> list[tuple[str, str]]:
    """Return the flags that begin with a word; the short ones come last, and only after a lone `-`."""
    free = [option for option in OPTIONS if option.name not in given or option.kind == "list"]
    flags = [flag for option in free for flag in option.flags if flag.startswith("--") or word == "-"]
    flags.sort(key=lambda flag: not flag.startswith("--"))
    return [(flag, "option") for flag in flags if flag.startswith(word)]


def _complete_value(shell: Any, option: Option, word: str, line: Mapping[str, str]) -> Suggestions:
    if option.choices:
        return beginning(word, option.choices, "choice")
    return suggest(shell, option.completes, word, line)


# --- %nbchat --------------------------------------------------------------------------------------


def _complete_subcommand(shell: Any, before: str) -> Suggestions | None:
    words, word = _split(before)
    if not words:
        return beginning(word, (*COMMANDS, "help"), "subcommand")
    if words == ["help"]:
        return beginning(word, COMMANDS, "subcommand")
    found = COMMANDS.get(words[0])
    if found is None:
        return None
    if isinstance(found, Group) and len(words) == 1:
        return beginning(word, found.action_names, "word")
    try:
        command, rest = found.find(split_words(" ".join(words[1:])))
        reading = command.reading()
        for seen in rest:
            reading.take(seen)
    except OptionError:
        return None  # the line is wrong already; running it tells why
    return _complete_argument(shell, reading, word)


def _complete_argument(shell: Any, reading: Reading, word: str) -> Suggestions:
    if reading.awaited is not None:
        return _complete_argument_value(shell, reading.awaited, word)
    keyword, equals, value = word.partition("=")
    keyed = reading.find_keyword(keyword)
    if equals and keyword.startswith("--") and keyed is not None:
        return _complete_argument_value(shell, keyed, value)
    keywords = [argument.keyword for argument in reading.free_keywords()]
    position = reading.next_position
    values = _complete_argument_value(shell, position, word) if position is not None else Suggestions(word, [])
    return Suggestions(values.fragment, [*values.words, *beginning(word, keywords, "word").words])


def _complete_argument_value(shell: Any, argument: Argument, word: str) -> Suggestions:
    values = suggest(shell, argument.completes, word)
    return Suggestions(values.fragment, [*beginning(word, argument.words, "word").words, *values.words])


# --- {{ … }} --------------------------------------------------------------------------------------


def _open_expression(prompt: str) -> str | None:
    """Return the text between the last ``{{`` and the cursor, or None if no expression is open there."""
    start = prompt.rfind("{{")
    while start > 0 and prompt[start - 1] == "\\":  # \{{ is literal
        start = prompt.rfind("{{", 0, start)
    if start < 0 or "}}" in prompt[start:]:
        return None
    return prompt[start + 2 :].lstrip()


def _complete_python(shell: Any, expression: str) -> Suggestions:
    """Return what IPython itself suggests for an expression, with the user's own names first."""
    from IPython.core.completer import provisionalcompleter, rectify_completions

    completer = shell.Completer
    # IPython is in the middle of completing the cell, and its completer keeps the text in attributes. This inner
    # request overwrites them, so they are restored for the matchers that run after this one.
    state = {name: value for name, value in vars(completer).items() if name in ("line_buffer", "text_until_cursor")}
    # Jedi takes seconds to be imported and to read the user's libraries. The values themselves tell the same.
    uses_jedi, completer.use_jedi = completer.use_jedi, False
    try:
        with provisionalcompleter():
            completions = list(rectify_completions(expression, completer.completions(expression, len(expression))))
    finally:
        completer.use_jedi = uses_jedi
        vars(completer).update(state)
    # The expression looks like the beginning of a cell to IPython, so it suggests magics and files too.
    completions = [
        completion
        for completion in completions
        if completion.type not in ("path", "magic", "keyword")
        and not completion.text.startswith("%")
        and completion.text not in _STATEMENTS
    ]
    if not completions:
        return Suggestions("", [])
    own = set(own_names(shell))
    completions.sort(key=lambda completion: completion.text not in own)
    fragment = expression[completions[0].start :]
    return Suggestions(fragment, [(completion.text, completion.type or "") for completion in completions])
