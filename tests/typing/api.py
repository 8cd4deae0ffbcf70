"""The types that a user's type checker sees. `make lint` checks this file; nothing runs it.

Each ``type: ignore`` marks a mistake that mypy must report: in strict mode, an unused ignore is an error.
"""

from __future__ import annotations

from typing import assert_type

import nbchat
from nbchat.option import option
from nbchat.options import Options


def options_have_the_types_of_their_fields(options: Options) -> None:
    assert_type(options.max_tokens, int)
    assert_type(options.max_rounds, int)
    assert_type(options.model, str)
    assert_type(options.chat, str)
    assert_type(options.system, str | None)
    assert_type(options.effort, str | None)
    assert_type(options.budget, float | None)
    assert_type(options.once, bool)
    assert_type(options.stream, bool)
    assert_type(options.stop, tuple[str, ...])
    assert_type(options.attach, tuple[str, ...])
    assert_type(options.given, frozenset[str])
    _ = options.modle  # type: ignore[attr-defined]
    options.max_tokens = 1  # type: ignore[misc]


class WrongRow:
    """An option whose default does not fit its annotation is an error."""

    max_tokens: int = option("--max-tokens", help="a number", default="many")  # type: ignore[assignment]


def answers_are_responses(session: nbchat.Session) -> None:
    response = nbchat.ask("Hi", max_tokens=100)
    assert_type(response, nbchat.Response)
    assert_type(session.ask("Hi"), nbchat.Response)
    assert_type(nbchat.load("answer.json"), nbchat.Response)
    assert_type(session.last, nbchat.Response | None)
    assert_type(session.conversation("main"), nbchat.Conversation)
    assert_type(session.options({}), Options)
    assert_type(response.text, str)
    assert_type(response.usage, nbchat.Usage)
    assert_type(response.cost, float | None)


def errors_have_a_message_and_a_hint(error: nbchat.NbchatError) -> None:
    assert_type(error.message, str)
    assert_type(error.hint, str)
