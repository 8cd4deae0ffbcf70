"""The doctor: what is installed, which endpoint would answer, and whether it does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from nbchat.core.errors import NbchatError
from nbchat.core.plural import counted
from nbchat.core.secrets import mask
from nbchat.core.visible import visible
from nbchat.engine.fault_report import installed
from nbchat.engine.session import Session
from nbchat.store.folders import data_folder, state_folder
from nbchat.store.ledger import check_sqlite
from nbchat.threads import has_threads
from nbchat.view.html.safe import NoCleaner, check_cleaner

__all__ = ["examine"]

MAX_ANSWER_TOKENS = 16
MAX_SHOWN_CHARACTERS = 40


def examine(session: Session, write: Callable[[str], None] = print) -> bool:
    """Report what is installed, ask one short question, and return True if it was answered.

    Args:
        session: its settings decide which endpoint is asked.
        write: is called with each line of the report.
    """
    for line in _installed(session):
        write(line)
    # A session of its own, so that `session.last` stays the last answer of the notebook.
    session = Session(config=session.config)
    options = session.options({"max_tokens": MAX_ANSWER_TOKENS, "once": True})
    try:
        endpoint = session.endpoints.find(options)
    except NbchatError as error:
        write(f"endpoint       none would answer: {error.message}")
        write(f"               {error.hint}")
        return False
    write(visible(f"endpoint       {endpoint.name} would answer, with {endpoint.model}"))
    began = time.monotonic()
    try:
        response = session.ask("Answer with the one word: ready", options=options)
    except NbchatError as error:
        write(f"tried          no: {error.message}")
        write(f"               {error.hint}")
        return False
    seconds = time.monotonic() - began
    tokens = f"{response.usage.prompt_tokens} + {counted(response.usage.completion_tokens, 'token')}"
    answer = response.text.strip()[:MAX_SHOWN_CHARACTERS]
    write(f"tried          it answered {answer!r} in {seconds:.1f} s ({tokens})")
    return True


def _installed(session: Session) -> Iterator[str]:
    """Yield the lines about versions, the embedded model, credentials and settings."""
    from nbchat.transports import local

    for name, version in installed():
        yield f"{name:<14} {version}"
    can_start = has_threads()
    usable, line = local.installed() if can_start else (False, "no process can start here")
    yield f"embedded model {'yes' if usable else 'no'}: {line}"
    for part, reason in _off(can_start):
        yield f"off here       {part}: {reason}"
    has_key = session.endpoints.has_anthropic()
    yield f"credentials    {'the SDK finds some for the Anthropic API' if has_key else 'none for the Anthropic API'}"
    for name, source in sorted(session.config.sources.items()):
        yield f"setting        {name} = {mask(getattr(session.config, name), name)!r} (from {source})"


def _off(can_start: bool) -> Iterator[tuple[str, str]]:
    """Yield what this place cannot do, with the reason. A cell streams its answer all the same."""
    if not can_start:
        yield "MCP servers and async tools", "no thread can start here"
        yield "the line while a cell prepares its request", "no thread can start here"
    try:
        check_cleaner()
    except NoCleaner as error:
        yield "formatted answers, so they are plain text and not live", str(error)
    try:
        state_folder()
    except OSError as error:
        reason = str(error).partition(":")[0]
        yield "the journal, so an answer is lost if the kernel dies", reason
    try:
        data_folder()
        check_sqlite()
    except (OSError, ImportError) as error:
        reason = "Python has no SQLite here" if isinstance(error, ImportError) else str(error).partition(":")[0]
        yield "the usage ledger, so %nbchat usage knows this session only", reason
