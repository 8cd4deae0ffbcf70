"""The system prompt that ``-s`` names: a variable, a file, or the text itself."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbchat.context.values import carry
from nbchat.core.errors import OptionError
from nbchat.core.template import fill

__all__ = ["system_of"]

#: A longer text is not looked up as the name of a file.
MAX_PATH_CHARACTERS = 250
#: How similar a word must be to the name of a variable to be taken for a typo.
TYPO_SIMILARITY = 0.75
#: The end of a file's name, such as ``.md``.
_SUFFIX = re.compile(r"[^\s./\\]\.[A-Za-z][A-Za-z0-9]{0,9}$")
#: The beginning of a path, after which spaces belong to the path.
_PATH_START = re.compile(r"(?:\.{1,2}|~[\w.-]*|[A-Za-z]:)?[/\\]")


def system_of(given: str | None, namespace: Mapping[str, Any] | None = None) -> str | None:
    """Return the system prompt that ``-s`` names: a variable, a file, or the text itself.

    Args:
        given: the value of the option.
        namespace: the user's variables, or None where there are none.

    Raises:
        OptionError: the variable or the file does not hold text, or the value is a name, and nothing has that name.
    """
    if not given:
        return None
    value = (namespace or {}).get(given) if given.isidentifier() else None
    if isinstance(value, str):
        return value
    if value is not None:
        raise OptionError(
            f"-s {given}: the variable {given} holds {type(value).__name__}, not text",
            f"Write -s {{{{ str({given}) }}}}.",
        )
    if "\n" not in given and len(given) < MAX_PATH_CHARACTERS and (path := Path(given).expanduser()).is_file():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise OptionError(f"-s {given}: the file cannot be read as text ({error})", "Give a text file.") from None
    _refuse_name(given, namespace)
    return carry(fill(given, namespace)).text if namespace is not None else given


def _refuse_name(given: str, namespace: Mapping[str, Any] | None) -> None:
    """Raise OptionError if a system prompt is the name of a file or variable that does not exist, and not prose."""
    way = "end it with a line break" if namespace is None else f"write -s {{{{ {given!r} }}}}"
    as_text = f"If it is the text itself, {way}."
    if _is_path(given):
        similar = _similar_file(given)
        raise OptionError(
            f"-s {given}: there is no such file",
            f"Did you mean {similar}? {as_text}" if similar else f"Check the path. {as_text}",
        )
    if namespace is None or not given.isidentifier():
        return
    texts = [name for name, value in namespace.items() if isinstance(value, str) and not name.startswith("_")]
    similar = _similar(given, texts)
    # A word of a natural language has no underscore inside.
    if similar or "_" in given.strip("_"):
        raise OptionError(
            f"-s {given}: there is no variable of that name",
            f"Did you mean {similar}? {as_text}" if similar else f"Define it in a cell above. {as_text}",
        )


def _is_path(text: str) -> bool:
    """Return True if a text of one line looks like the path of a file."""
    if len(text) >= MAX_PATH_CHARACTERS or "\n" in text or "{{" in text:
        return False
    text = text.strip()
    if re.search(r"\s", text):
        # "Answer in the style of README.md" is a text, "./my prompts/role.md" is a path.
        return bool(_PATH_START.match(text) and _SUFFIX.search(text))
    # Languages that are written without spaces have slashes in prose, too.
    return bool(_SUFFIX.search(text) or (text.isascii() and re.search(r"[/\\]", text)))


def _similar_file(path: str) -> str:
    """Return the path of a file beside ``path`` that has nearly the same name, or ""."""
    wanted = Path(path)
    try:
        names = [file.name for file in wanted.expanduser().parent.iterdir() if file.is_file()]
    except OSError:
        return ""
    name = _similar(wanted.name, names)
    return str(wanted.with_name(name)) if name else ""


def _similar(name: str, names: list[str]) -> str:
    by_lower = {known.lower(): known for known in names}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=TYPO_SIMILARITY)
    return by_lower[found[0]] if found else ""
