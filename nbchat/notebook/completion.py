"""Tab: options and their values, subcommands of ``%nbchat``, and Python inside ``{{ … }}``.

One matcher for IPython's completer, which JupyterLab, Notebook, VS Code and the terminal ask. What
is proposed comes of the tables of options and of subcommands, and of what the session holds; nothing
is sent, and nothing heavy is imported, because somebody is waiting at a keyboard.
"""

from __future__ import annotations

import glob
import os
import re
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, get_args

from nbchat.models import KNOWN_MODELS, LOCAL, PLATFORMS
from nbchat.notebook.commands import COMMANDS
from nbchat.notebook.line import option_of
from nbchat.options import OPTIONS, Option

__all__ = ["Found", "complete", "install", "uninstall"]

#: Paths proposed at most.
MOST_PATHS = 200
_ASKS = re.compile(r"\s*(?:[^\W\d][\w.]*(?:\[[^\]]*\])*\s*=\s*)?(?P<magic>%{1,2}claude|%nbchat)(?=\s)")
_WORDS = re.compile(r"""(?:"[^"]*"?|'[^']*'?|[^\s"'])+""")


class Found(NamedTuple):
    """What may stand in the place of ``fragment``, the end of the text before the cursor.

    ``words`` are pairs of a text and its kind, in the order they should be shown.
    """

    fragment: str
    words: list[tuple[str, str]]


def install(shell: Any) -> None:
    """Let the shell's completer ask here too."""
    completer = getattr(shell, "Completer", None)
    if completer is not None and not _own(completer):
        completer.custom_matchers.append(_matcher(shell))


def uninstall(shell: Any) -> None:
    """Take out what :func:`install` added."""
    completer = getattr(shell, "Completer", None)
    if completer is not None:
        for matcher in _own(completer):
            completer.custom_matchers.remove(matcher)


def _own(completer: Any) -> list[Any]:
    return [one for one in completer.custom_matchers if getattr(one, "matcher_identifier", "") == "nbchat"]


def _matcher(shell: Any) -> Callable[[Any], Any]:
    """A matcher of IPython's second interface: it sees the whole cell.

    https://ipython.readthedocs.io/en/stable/api/generated/IPython.core.completer.html
    """
    from IPython.core.completer import SimpleCompletion

    def match(context: Any) -> Any:
        found = complete(shell, context.full_text, context.cursor_line, context.cursor_position)
        if found is None or not found.words:
            return {"completions": [], "suppress": False}
        proposed = [SimpleCompletion(text, type=kind) for text, kind in found.words]
        return {"completions": proposed, "matched_fragment": found.fragment, "suppress": True, "ordered": True}

    match.matcher_api_version = 2  # type: ignore[attr-defined]
    match.matcher_priority = 1_000  # type: ignore[attr-defined]
    match.matcher_identifier = "nbchat"  # type: ignore[attr-defined]
    return match


def complete(shell: Any, text: str, line: int, column: int) -> Found | None:
    """What may stand at the cursor of a cell, or None where it is not ours to say.

    ``line`` and ``column`` count from 0.
    """
    lines = text.split("\n")
    first = next((place for place, content in enumerate(lines) if content.strip()), 0)
    body = lines[first].lstrip().startswith("%%claude") and line > first
    if lines[first].lstrip().startswith("%%") and not lines[first].lstrip().startswith("%%claude"):
        return None
    asks = None if body else _ASKS.match(lines[line])
    if not body and (asks is None or asks.end() >= column):
        return None
    before = lines[line][:column] if body or asks is None else lines[line][asks.end() : column]
    if asks is not None and asks["magic"] == "%nbchat":
        return _subcommand(shell, before)
    prompt = "\n".join([*lines[first + 1 : line], before]) if body else before
    if expression := _open_expression(prompt):
        return _python(shell, expression[0])
    has_body = asks is not None and asks["magic"] == "%%claude"
    return None if body else _options(shell, before, has_body=has_body)


# --- the line of options --------------------------------------------------------------------------


def _split(before: str) -> tuple[list[str], str]:
    """The words before the cursor, and the one it stands in."""
    words = [found[0] for found in _WORDS.finditer(before)]
    return (words[:-1], words[-1]) if words and before.endswith(words[-1]) else (words, "")


def _options(shell: Any, before: str, *, has_body: bool) -> Found | None:
    words, word = _split(re.sub(r"^\s*\S+\s*<<", "", before))
    awaited: Option | None = None  # the option whose value comes next
    more = False  # whether it may as well end here
    given: set[str] = set()
    for seen in words:
        if awaited is not None and not (more and seen.startswith("-")):
            more = awaited.kind == "list" and has_body
            awaited = awaited if more else None
            continue
        flag, equals, _ = seen.partition("=")
        option = option_of(flag)
        if seen == "--" or option is None:
            return None  # the prompt has begun
        given.add(option.name)
        awaited, more = (None if option.kind == "switch" or equals else option), False
    if awaited is not None and not (more and word.startswith("-")):
        found = _values(shell, awaited, word)
        return Found(found.fragment, [*found.words, *_flags("", given)]) if more and not word else found
    flag, equals, value = word.partition("=")
    if equals and (option := option_of(flag)) is not None:
        return _values(shell, option, value)
    return Found(word, _flags(word, given)) if not word or word.startswith("-") else None


def _flags(word: str, given: set[str]) -> list[tuple[str, str]]:
    free = [option for option in OPTIONS if option.name not in given or option.kind == "list"]
    flags = [flag for option in free for flag in option.flags if flag.startswith("--") or word == "-"]
    return [
        (flag, "option") for flag in sorted(flags, key=lambda flag: not flag.startswith("--")) if flag.startswith(word)
    ]


def _values(shell: Any, option: Option, word: str) -> Found:
    """The values of an option that begin with a word."""
    kind = option.completes or option.name
    if option.choices:
        return _beginning(word, option.choices, "choice")
    if kind == "files":
        return _paths(word)
    if kind == "models":
        if word[:1] in ("/", ".", "~"):
            return _paths(word, ".gguf")
        return _beginning(word, _models(shell), "model")
    if kind == "tools":
        done, _, last = word.rpartition(",")
        taken = done.split(",")
        return _beginning(last, (name for name in _tools(shell) if name not in taken), "tool")
    if kind == "chats":
        return _beginning(word, _chats(shell), "chat")
    if kind == "endpoints":
        return _beginning(word, _endpoints(shell), "endpoint")
    if kind == "cells":
        return _beginning(word, ("above",), "cells")
    if kind == "system":
        paths = _paths(word)
        texts = _beginning(word, _names(shell, lambda value: isinstance(value, str)), "variable")
        return Found(paths.fragment, [*texts.words, *paths.words]) if word else texts
    if kind == "schema":
        return _beginning(word, _names(shell, _is_schema), "type")
    return Found(word, [])


def _beginning(word: str, names: Iterable[str], kind: str) -> Found:
    return Found(word, [(name, kind) for name in dict.fromkeys(names) if name.startswith(word)])


# --- what the session holds -----------------------------------------------------------------------


def _session(shell: Any) -> Any:
    """The session, if it is made; completion does not make one, which would import much."""
    return vars(shell.nbchat).get("session")


def _names(shell: Any, fits: Callable[[Any], bool]) -> list[str]:
    """The user's own variables that fit."""
    hidden = getattr(shell, "user_ns_hidden", {})
    own = [name for name in list(shell.user_ns) if not name.startswith("_") and name not in hidden]
    return sorted(name for name in own if fits(shell.user_ns[name]))


def _is_schema(value: Any) -> bool:
    fields = ("model_fields", "__dataclass_fields__", "__total__")  # pydantic, dataclass, TypedDict
    return isinstance(value, type) and any(hasattr(value, field) for field in fields)


def _models(shell: Any) -> Iterator[str]:
    literals = getattr(sys.modules.get("anthropic.types.model"), "Model", None)
    for part in get_args(literals):
        yield from (name for name in get_args(part) if isinstance(name, str))
    yield from KNOWN_MODELS
    yield shell.nbchat.settings.model


def _chats(shell: Any) -> list[str]:
    session = _session(shell)
    return list(dict.fromkeys(["main", *(session.conversations if session is not None else ())]))


def _endpoints(shell: Any) -> list[str]:
    return [*PLATFORMS, LOCAL, *shell.nbchat.settings.endpoints]


def _servers(shell: Any) -> list[Any]:
    servers = getattr(_session(shell), "_mcp", None)
    return list(servers.list()) if servers is not None else []


def _tools(shell: Any) -> Iterator[str]:
    functions = types.FunctionType | types.MethodType
    yield from _names(shell, lambda value: isinstance(value, functions))
    for server in _servers(shell):
        yield server.name
        yield from (f"{server.name}.{tool}" for tool in getattr(server, "tools", ()) if isinstance(tool, str))


# --- paths ----------------------------------------------------------------------------------------


def _paths(word: str, ending: str = "") -> Found:
    """Files and folders; those with spaces in quotation marks."""
    quote = word[:1] if word[:1] in ("'", '"') else ""
    start = word[len(quote) :]
    found = sorted(glob.iglob(glob.escape(os.path.expanduser(start)) + "*"))
    home = os.path.expanduser("~") if start.startswith("~") else ""
    shown = []
    for path in found[:MOST_PATHS]:
        folder = os.path.isdir(path)
        if not (folder or path.endswith(ending)):
            continue
        text = ("~" + path[len(home) :] if home else path) + "/" * folder
        mark = quote or ('"' if " " in text else "")
        shown.append((f"{mark}{text}{mark if not folder else ''}", "path"))
    return Found(word, shown)


# --- %nbchat --------------------------------------------------------------------------------------


def _subcommand(shell: Any, before: str) -> Found | None:
    words, word = _split(before)
    if not words:
        return _beginning(word, COMMANDS, "subcommand")
    command = COMMANDS.get(words[0])
    if command is None:
        return None
    if words[0] == "mcp":
        removing = words[1:] == ["remove"]
        return _beginning(word, [state.name for state in _servers(shell)] if removing else _MCP[len(words) > 1], "word")
    usage = command.usage.partition(" ")[2]
    groups = [(bracketed or plain).split() for bracketed, plain in re.findall(r"\[([^\]]*)\]|(\S+)", usage)]
    return _arguments(shell, words[0], [[part.split("|") for part in group] for group in groups], words[1:], word)


_MCP = (("add", "list", "remove"), ())


def _arguments(shell: Any, name: str, groups: list[list[list[str]]], words: list[str], word: str) -> Found:
    """What may follow, by the grammar that the usage of a subcommand tells.

    A group of several parts begins with a word or a flag and goes wherever; one of a single
    placeholder has its place; one of words alone may come once.
    """
    placed = 0
    for place, seen in enumerate(words):
        follows = [group[1] for group in groups if len(group) > 1 and seen in group[0]]
        if follows and place == len(words) - 1:
            return _of_usage(shell, name, follows[0], word)
        is_value = place and any(len(group) > 1 and words[place - 1] in group[0] for group in groups)
        literal = any(seen in group[0] for group in groups)
        placed += not (is_value or literal)
    found: list[tuple[str, str]] = []
    fragment, at = word, 0
    for group in groups:
        if not set(words) & set(group[0]):
            mine = not any(_placeholder(part) for part in group[0]) or at == placed
            if mine:
                one = _of_usage(shell, name, group[0], word)
                fragment, found = one.fragment, found + one.words
        at += any(_placeholder(part) for part in group[0])
    return Found(fragment, list(dict.fromkeys(found)))


def _placeholder(part: str) -> bool:
    return part.isupper()


def _of_usage(shell: Any, name: str, parts: list[str], word: str) -> Found:
    found = [Found(word, [])]
    for part in parts:
        found.append(
            _beginning(word, [part], "word") if not _placeholder(part) else _of_placeholder(shell, name, part, word)
        )
    return Found(word, [pair for one in found for pair in one.words])


def _of_placeholder(shell: Any, name: str, part: str, word: str) -> Found:
    session = _session(shell)
    match name, part:
        case _, "CHAT":
            return _beginning(word, _chats(shell), "chat")
        case _, "FILE":
            return _paths(word)
        case _, "ENDPOINT":
            return _beginning(word, _endpoints(shell), "endpoint")
        case "forget", "N":
            turns = len(session.conversations.get("main", ())) if session is not None else 0
            return _beginning(word, map(str, range(1, turns + 1)), "turn")
        case "show", "NAME":
            return _beginning(word, _names(shell, lambda value: type(value).__name__ == "Response"), "variable")
        case "recover", "NAME" if session is not None:
            return _beginning(word, [entry.name for entry in session.recording.journals.recoverable()], "answer")
    return Found(word, [])


# --- {{ … }} --------------------------------------------------------------------------------------


def _open_expression(prompt: str) -> tuple[str] | None:
    """What stands between the last ``{{`` and the cursor, if nothing has closed it."""
    start = prompt.rfind("{{")
    while start > 0 and prompt[start - 1] == "\\":
        start = prompt.rfind("{{", 0, start)
    if start < 0 or "}}" in prompt[start:]:
        return None
    return (prompt[start + 2 :].lstrip(),)


def _python(shell: Any, expression: str) -> Found:
    """What IPython itself proposes for an expression; the user's own names first."""
    from IPython.core.completer import provisionalcompleter, rectify_completions

    completer = shell.Completer
    # It is in the middle of completing the cell: what it remembers of that is put back.
    kept = {name: value for name, value in vars(completer).items() if name in ("line_buffer", "text_until_cursor")}
    with provisionalcompleter():
        proposed = list(rectify_completions(expression, completer.completions(expression, len(expression))))
    vars(completer).update(kept)
    proposed = [
        one for one in proposed if one.type not in ("path", "magic", "keyword") and not one.text.startswith("%")
    ]
    if not proposed:
        return Found("", [])
    own = set(_names(shell, lambda value: True))
    proposed.sort(key=lambda one: one.text not in own)
    return Found(expression[proposed[0].start :], [(one.text, one.type or "") for one in proposed])
