"""The values that Tab suggests: models, conversations, tools, files and so on, as the session and the shell hold them.

Nothing is sent and nothing heavy is imported, because somebody is waiting at a keyboard.
"""

from __future__ import annotations

import functools
import glob
import inspect
import os
import re
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from nbchat.models import LOCAL, PLATFORMS
from nbchat.notebook.model_names import model_names

if TYPE_CHECKING:
    from nbchat.engine.session import Session
    from nbchat.tools.mcp import ServerState

__all__ = ["Suggestions", "beginning", "own_names", "suggest"]

MAX_PATHS = 200
_FUNCTIONS = (types.FunctionType, types.MethodType, functools.partial)
_METHODS = (types.FunctionType, classmethod, staticmethod)
_ONE_WORD = re.compile(r"[^\s,;\"'`\\-][^\s,;\"'`\\]*")


class Suggestions(NamedTuple):
    """The words that can replace ``fragment``, the end of the text before the cursor.

    ``words`` are pairs of a text and its kind, in the order in which a front end shows them.
    """

    fragment: str
    words: list[tuple[str, str]]


def suggest(shell: Any, completes: str, word: str, line: Mapping[str, str] = MappingProxyType({})) -> Suggestions:
    """Return the values that begin with a word.

    Args:
        shell: the IPython shell, with nbchat loaded.
        completes: the kind of value, as an option or an argument declares it; "" for one without suggestions.
        word: the value as far as it is typed.
        line: the values of the options before it in the line, by the names of the options.
    """
    if completes == "models":
        return _suggest_models(shell, word, line.get("endpoint", ""))
    find = _SUGGESTERS.get(completes)
    return find(shell, word) if find is not None else Suggestions(word, [])


def beginning(word: str, names: Iterable[str], kind: str) -> Suggestions:
    """Return the names that begin with a word, each once."""
    return Suggestions(word, [(name, kind) for name in dict.fromkeys(names) if name.startswith(word)])


def own_names(shell: Any, fits: Callable[[Any], bool] = lambda value: True) -> list[str]:
    """Return the names of the user's own variables whose values fit, in alphabetical order."""
    hidden = getattr(shell, "user_ns_hidden", {})
    # list(): the preload thread or a background cell may add a name meanwhile.
    own = [name for name in list(shell.user_ns) if not name.startswith("_") and name not in hidden]
    return sorted(name for name in own if fits(shell.user_ns[name]))


def _session(shell: Any) -> Session | None:
    """Return the session if a cell has made it; making it here would import the SDK while somebody waits."""
    session: Session | None = shell.nbchat.existing_session
    return session


# --- options ----------------------------------------------------------------------------------------


def _suggest_models(shell: Any, word: str, endpoint: str) -> Suggestions:
    if word[:1] in ("/", ".", "~"):
        return _suggest_files(shell, word, ".gguf")
    return beginning(word, model_names(shell, endpoint), "model")


def _suggest_chats(shell: Any, word: str) -> Suggestions:
    session = _session(shell)
    return beginning(word, ["main", *(session.conversations if session is not None else ())], "chat")


def _suggest_endpoints(shell: Any, word: str) -> Suggestions:
    return beginning(word, [*PLATFORMS, LOCAL, *shell.nbchat.settings.endpoints], "endpoint")


def _suggest_tools(shell: Any, word: str) -> Suggestions:
    """Suggest functions and tools of MCP servers for the last name of a list such as ``lookup,files.read``."""
    before, _, last = word.rpartition(",")
    taken = before.split(",")
    names = (name for name in (*_tools(shell), *_methods(shell, last)) if name not in taken)
    return beginning(last, names, "tool")


def _tools(shell: Any) -> Iterator[str]:
    """Yield the user's own functions, then functions of libraries, then the tools of MCP servers."""
    functions = own_names(shell, lambda value: isinstance(value, _FUNCTIONS))
    yield from sorted(functions, key=lambda name: getattr(shell.user_ns[name], "__module__", "") != "__main__")
    for server in _servers(shell):
        yield server.name
        # A server chooses the names of its tools. One with a space would be several words of the line, and so
        # could be an option.
        yield from (name for name in server.tools if _ONE_WORD.fullmatch(name))


def _methods(shell: Any, word: str) -> Iterator[str]:
    """Yield the methods of the variable before the last dot of a word, such as ``shop.find``."""
    owner, dot, _ = word.rpartition(".")
    if dot and owner in shell.user_ns:
        value = shell.user_ns[owner]
        # Looked up in the class, because a property of the value could do anything.
        for name in dir(type(value)):
            if not name.startswith("_") and isinstance(inspect.getattr_static(type(value), name), _METHODS):
                yield f"{owner}.{name}"


def _servers(shell: Any) -> tuple[ServerState, ...]:
    session = _session(shell)
    # Without this module no server was ever added, and Session.mcp would import it, which takes a moment.
    if session is None or "nbchat.tools.mcp" not in sys.modules:
        return ()
    return session.mcp.list()


def _suggest_cells(shell: Any, word: str) -> Suggestions:
    return beginning(word, ("above",), "cells")


def _suggest_system_prompts(shell: Any, word: str) -> Suggestions:
    """Suggest variables that hold text, and files once something is typed."""
    texts = beginning(word, own_names(shell, lambda value: isinstance(value, str)), "variable")
    if not word and texts.words:
        return texts
    paths = _suggest_files(shell, word)
    return Suggestions(paths.fragment, [*texts.words, *paths.words])


def _suggest_schemas(shell: Any, word: str) -> Suggestions:
    """Suggest types first, then JSON Schemas, then lists of the types."""
    types = own_names(shell, _is_schema)
    schemas = own_names(shell, lambda value: isinstance(value, dict) and ("type" in value or "properties" in value))
    return beginning(word, [*types, *schemas, *(f"list[{name}]" for name in types)], "type")


def _suggest_rows(shell: Any, word: str) -> Suggestions:
    from nbchat.rows.frames import is_rows

    return beginning(word, own_names(shell, is_rows), "rows")


def _is_schema(value: Any) -> bool:
    fields = ("model_fields", "__dataclass_fields__", "__total__")  # pydantic, dataclass, TypedDict
    # The base classes that a cell imports have no fields of their own.
    return (
        isinstance(value, type)
        and any(hasattr(value, field) for field in fields)
        and getattr(value, "__module__", "").partition(".")[0] not in ("pydantic", "typing", "typing_extensions")
    )


def _suggest_files(shell: Any, word: str, ending: str = "") -> Suggestions:
    """Suggest files and folders; paths with spaces are put into quotation marks."""
    quote = word[:1] if word[:1] in ("'", '"') else ""
    start = word[len(quote) :]
    paths = sorted(glob.iglob(glob.escape(os.path.expanduser(start)) + "*"))
    home = os.path.expanduser("~") if start.startswith("~") else ""
    shown = []
    for path in paths[:MAX_PATHS]:
        is_folder = os.path.isdir(path)
        if not (is_folder or path.endswith(ending)):
            continue
        text = ("~" + path[len(home) :] if home else path) + "/" * is_folder
        mark = quote or ('"' if " " in text else "")
        # A folder's quotation mark stays open, because a file inside it may follow.
        shown.append((f"{mark}{text}{mark if not is_folder else ''}", "path"))
    return Suggestions(word, shown)


# --- arguments of %nbchat ---------------------------------------------------------------------------


def _suggest_turns(shell: Any, word: str) -> Suggestions:
    session = _session(shell)
    turns = len(session.conversations.get(session.options({}).chat, ())) if session is not None else 0
    return beginning(word, map(str, range(1, turns + 1)), "turn")


def _suggest_responses(shell: Any, word: str) -> Suggestions:
    # By the class's name: nbchat.core.response is not imported before the first cell.
    return beginning(word, own_names(shell, lambda value: type(value).__name__ == "Response"), "variable")


def _suggest_answers(shell: Any, word: str) -> Suggestions:
    session = _session(shell)
    entries = session.recording.journals.recoverable() if session is not None else ()
    return beginning(word, [entry.name for entry in entries], "answer")


def _suggest_names(shell: Any, word: str) -> Suggestions:
    """Suggest the names of Responses that the cell may replace."""
    return Suggestions(word, _suggest_responses(shell, word).words or beginning(word, ["answer"], "variable").words)


def _suggest_servers(shell: Any, word: str) -> Suggestions:
    return beginning(word, [server.name for server in _servers(shell)], "word")


def _suggest_from(*values: str) -> Callable[[Any, str], Suggestions]:
    return lambda shell, word: beginning(word, values, "value")


_Suggester: TypeAlias = Callable[[Any, str], Suggestions]
#: By the kind of value that an option or an argument declares in `completes`.
_SUGGESTERS: dict[str, _Suggester] = {
    "chats": _suggest_chats,
    "endpoints": _suggest_endpoints,
    "tools": _suggest_tools,
    "files": _suggest_files,
    "cells": _suggest_cells,
    "system": _suggest_system_prompts,
    "schema": _suggest_schemas,
    "rows": _suggest_rows,
    "turns": _suggest_turns,
    "responses": _suggest_responses,
    "answers": _suggest_answers,
    "servers": _suggest_servers,
    "names": _suggest_names,
    "tokens": _suggest_from("1024", "4096", "8192", "16384", "32768"),
    "times": _suggest_from("1", "3", "5", "10"),
    "params": _suggest_from("temperature=", "top_p=", "top_k=", "service_tier=", "metadata="),
    "dollars": _suggest_from("0.10", "1.00", "5.00"),
}
