"""The editor for code and arguments in a terminal. It begins with the text, and blank lines are allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prompt_toolkit.key_binding import KeyPressEvent

__all__ = ["edited"]

#: Above the text and not in a toolbar, which some terminals do not show.
_HELP = "Change the text, then Esc Enter or Ctrl-D. Ctrl-C leaves it unchanged.\n"


def edited(text: str, language: str) -> str:
    """Open an editor with a text, and return the text as the user leaves it.

    Ctrl-C returns the text as it was.

    Args:
        text: the text that the editing begins with.
        language: "python" or "json", for the colors.
    """
    from prompt_toolkit import PromptSession
    from prompt_toolkit.key_binding import KeyBindings
    from prompt_toolkit.lexers import PygmentsLexer
    from pygments.lexers import JsonLexer, PythonLexer

    keys = KeyBindings()

    @keys.add("c-d")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    session: PromptSession[str] = PromptSession()
    try:
        return session.prompt(
            _HELP,
            default=text,
            multiline=True,
            lexer=PygmentsLexer(PythonLexer if language == "python" else JsonLexer),
            key_bindings=keys,
            prompt_continuation="",
            in_thread=True,
        )
    except (KeyboardInterrupt, EOFError):
        return text
