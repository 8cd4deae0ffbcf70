"""Write docs/reference/ from the code: options, settings, commands, errors, the Python names, and file formats.

    python docs/make_reference.py

A test fails if the committed text differs from what this script writes (tests/unit/test_reference.py).
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import nbchat  # noqa: E402
from nbchat.__main__ import parser_of_commands  # noqa: E402
from nbchat.config import Nbchat  # noqa: E402
from nbchat.core import entries, errors  # noqa: E402
from nbchat.notebook.commands import COMMANDS  # noqa: E402
from nbchat.notebook.commands.command import Command, Group  # noqa: E402
from nbchat.options import OPTIONS, Option  # noqa: E402
from nbchat.store import ledger  # noqa: E402
from nbchat.transports import exchange, recordings, scripted  # noqa: E402

__all__ = ["FOLDER", "PAGES", "error_classes", "public_names"]

FOLDER = HERE / "reference"
NOTE = "<!-- Written by docs/make_reference.py from the code. Do not edit. -->\n\n"


def cell(text: str) -> str:
    """Return a text as one cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ").replace("{{", "&lbrace;&lbrace;")


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(cell(part) for part in line) + " |\n" for line in lines)


def marked(text: str) -> str:
    """Return a help text with its flags, variables and names as code."""
    return re.sub(r"(?<![\w`])(--[a-z][\w-]*|NBCHAT_\w+|c\.Nbchat(?:\.\w+)?|%{1,2}\w+|\$\{\w+\})", r"`\1`", text)


def sentence(text: str) -> str:
    """Return a help text as a sentence, with its flags, variables and names as code."""
    return marked(text[:1].upper() + text[1:]) + "."


# Options and settings ---------------------------------------------------------------------------


def shown_default(option: Option) -> str:
    """Return the default of an option, for a table."""
    if option.kind == "switch":
        return "on" if option.default is option.value else "off"
    return f"`{option.default}`" if option.default not in (None, ()) else ""


def options_page() -> str:
    """Return the page of options."""
    text = """# Options

Options come first on the line of `%%claude` or `%claude`, and the prompt follows. `--` ends the options.
A value with spaces is quoted. `--flag value` and `--flag=value` mean the same.
`%%claude?` shows this list in a notebook. In Python, `nbchat.ask` and `nbchat.Session` take the same options by their
names.

`NAME <<` before the options binds the Response to a variable.

"""
    for option in OPTIONS:
        flags = ", ".join(option.flags) + (f" {option.metavar}" if option.metavar else "")
        text += f"({option.name})=\n## `{flags}`\n\n{sentence(option.help)}\n\n"
        facts = [("Name in Python", f"`{option.name}`")]
        if option.choices:
            facts.append(("Values", ", ".join(f"`{choice}`" for choice in option.choices)))
        if default := shown_default(option):
            facts.append(("Default", default))
        setting = f"`c.Nbchat.{option.name}`, `NBCHAT_{option.name.upper()}`"
        facts.append(("Setting", setting if option.setting else "no: it belongs to one cell"))
        text += "".join(f"- {name}: {fact}\n" for name, fact in facts) + "\n"
    return text


def settings_page() -> str:
    """Return the page of settings and variables."""
    config = Nbchat(environment={})
    by_name = {option.name: option for option in OPTIONS}
    rows = []
    for name, trait in sorted(config.traits(config=True).items()):
        option = by_name.get(name)
        help_text = option.help if option else trait.help
        if option and option.kind == "switch" and not option.value:
            help_text = f"`False`: {help_text}"
        default = getattr(config, name)
        shown = "" if default in (None, "", {}, [], ()) else f"`{default}`"
        rows.append((f"`{name}`", f"`NBCHAT_{name.upper()}`", shown, marked(help_text)))
    return (
        f"""# Settings and variables

{inspect.getdoc(sys.modules["nbchat.config"])}

In a notebook, `%config Nbchat.NAME = VALUE` changes a setting. `%nbchat config` lists all settings with the source of
each value. A setting that does not exist is an error that names the nearest one.

""".replace("``", "`")
        + table(("Setting", "Variable", "Default", "Meaning"), rows)
        + """
A list or a dict in a variable is written as in Python: `NBCHAT_STOP="['END', 'STOP']"`. An empty variable counts as not
set. Anthropic's own variables (`ANTHROPIC_API_KEY`, `ANTHROPIC_BASE_URL` …) are read by the Anthropic SDK.
"""
    )


# Commands ---------------------------------------------------------------------------------------


def commands_page() -> str:
    """Return the page of the subcommands of ``%nbchat`` and of ``python -m nbchat``."""
    text = "# Commands\n\n## In a notebook\n\n"
    text += "`%nbchat` alone lists the commands. Brackets mean that a part is optional.\n\n"
    for command in COMMANDS.values():
        text += f"### `%nbchat {command.name}`\n\n{sentence(command.help)}\n\n"
        actions = command.actions if isinstance(command, Group) else (command,)
        for action in actions:
            text += action_text(action)
    text += "## In a terminal\n\n"
    parser = parser_of_commands()
    for action in parser._subparsers._group_actions[0]._choices_actions:  # type: ignore[union-attr]
        chosen = parser._subparsers._group_actions[0].choices[action.dest]  # type: ignore[union-attr]
        text += f"### `python -m nbchat {action.dest}`\n\n{sentence(action.help)}\n\n"
        for argument in chosen._actions:
            if argument.dest != "help":
                name = ", ".join(argument.option_strings) or argument.dest.upper()
                default = f" Default: `{argument.default}`." if argument.default not in (None, False) else ""
                about = sentence(argument.help.replace("%%", "%"))
                text += f"- `{name}`: {about}{default}\n"
        text += "\n" if len(chosen._actions) > 1 else ""
    return text.rstrip() + "\n"


def action_text(action: Command) -> str:
    """Return the usage of a command, and what it does."""
    about = (inspect.getdoc(action.do) or "").replace("``", "`")
    return f"```text\n%nbchat {action.usage}\n```\n\n{about}\n\n"


# Errors -----------------------------------------------------------------------------------------


def error_classes() -> list[type[errors.NbchatError]]:
    """Return all error classes, each after its base."""

    def below(base: type[errors.NbchatError]) -> Iterator[type[errors.NbchatError]]:
        yield base
        for derived in base.__subclasses__():
            if derived.__module__ == errors.__name__:
                yield from below(derived)

    return list(below(errors.NbchatError))


def errors_page() -> str:
    """Return the page of errors."""
    tree = (inspect.getdoc(errors) or "").split("::\n\n")[1].split("\n\n")[0]
    text = (
        "# Errors\n\nErrors are sorted by two questions: was anything sent, and what is left of the answer? "
        "All are in `nbchat.errors`.\n\n```text\n"
        + inspect.cleandoc(tree)
        + """
```

Each error has a `message` (what happened, with the flag or the name) and a `hint` (what to do). A notebook shows these
two lines instead of a traceback. The cell still fails, so Run All stops.

"""
    )
    for error in error_classes():
        text += f"## `{error.__name__}`\n\n{docstring(error)}\n\n"
    return text.rstrip() + "\n"


# Python -----------------------------------------------------------------------------------------


def public_names() -> dict[str, Any]:
    """Return the public names that have a docstring, with their objects."""
    return {name: getattr(nbchat, name) for name in nbchat.__all__ if name not in ("errors", "__version__")}


_SECTIONS = re.compile(r"^(Args|Attributes|Returns|Raises|Example):$")


def docstring(thing: Any) -> str:
    """Return a docstring as Markdown."""
    return markdown(inspect.getdoc(thing) or "")


def markdown(text: str) -> str:
    """Return the text of a docstring as Markdown: sections become lists, and examples become code."""
    result: list[str] = []
    is_in_example, section_depth, example_depth = False, 0, 0
    for line in text.split("\n"):
        depth = len(line) - len(line.lstrip())
        if line.strip().startswith(">>>") and not is_in_example:
            is_in_example, example_depth = True, depth
            result.append("```pycon")
        if is_in_example:
            if line.strip():
                result.append(line[example_depth:])
                continue
            result += ["```", ""]
            is_in_example = False
            continue
        if section := _SECTIONS.match(line):
            result += ["", f"**{section[1].replace('Args', 'Arguments')}**", ""]
            section_depth = 1
            continue
        if section_depth and depth == 4 and (item := re.match(r"([\w, *`]+): (.*)", line.strip())):
            name = ", ".join(f"`{part.strip('`')}`" for part in item[1].split(", "))
            result.append(f"- {name}: {item[2]}")
            continue
        if section_depth and depth > 4:
            result.append(f"  {line.strip()}")
            continue
        if depth == 0 and line:
            section_depth = 0
        result.append(line.strip() if section_depth else line)
    if is_in_example:
        result.append("```")
    text = "\n".join(result)
    text = re.sub(r":(?:class|meth|func|attr|mod):`~?([^`]+)`", lambda role: f"`{role[1].rsplit('.', 1)[-1]}`", text)
    text = re.sub(r"(?<!`)``([^`]+)``(?!`)", r"`\1`", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def parameter(part: inspect.Parameter) -> str:
    """Return one parameter of a call, with its type and its default."""
    stars = {part.VAR_POSITIONAL: "*", part.VAR_KEYWORD: "**"}.get(part.kind, "")
    text = stars + part.name
    if part.annotation is not part.empty:
        text += f": {str(part.annotation).strip(chr(39))}"
    if part.default is part.empty:
        return text
    default = repr(part.default)
    return f"{text} = {'…' if default.startswith('<') else default}"


def signature(name: str, function: Any) -> str:
    """Return the call of a function or a class, with the types of its arguments, as a block of code."""
    found = inspect.signature(function)
    own = [part for part in found.parameters.values() if part.name not in ("self", "cls")]
    parts = [parameter(part) for part in own]
    for place, part in enumerate(own):  # str() of one parameter has no star of its own
        if part.kind is part.KEYWORD_ONLY:
            if not any(before.kind is part.VAR_POSITIONAL for before in own[:place]):
                parts.insert(place, "*")
            break
    result = "" if inspect.isclass(function) else str(found).rpartition(" -> ")[2].strip("'")
    end = f" -> {result}" if result else ""
    line = f"{name}({', '.join(parts)}){end}"
    if len(line) > 100:
        line = f"{name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){end}"
    return f"```text\n{line}\n```\n\n"


def members(thing: type) -> Iterator[tuple[str, Any]]:
    """Yield the public methods and properties of a class that have a docstring of their own."""
    for name, value in vars(thing).items():
        function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        if not name.startswith("_") and (inspect.isfunction(function) or isinstance(value, property)):
            yield name, value


def label(name: str, thing: Any) -> str:
    """Return the label of a name. Labels have no capital letters, so ``Usage`` and ``usage`` need different words."""
    return f"{'class' if inspect.isclass(thing) else 'function'}-{name.lower()}"


def python_page() -> str:
    """Return the page of the public names."""
    text = """# Python

These names are public. All other names may change at any time. Each example on this page runs in a test. The examples
begin with these imports:

```pycon
>>> import nbchat
>>> from nbchat import Conversation, Notice, Request, Response, ScriptedTransport, Session, Usage
>>> from nbchat.core.turn_order import CellOrder
>>> from nbchat.core.conversation import Turn
>>> from nbchat.core.fields import Fields
>>> from nbchat.core.messages import Message
```

"""
    for name, thing in public_names().items():
        is_class = inspect.isclass(thing)
        if is_class and issubclass(thing, errors.NbchatError):
            text += f"## `{name}`\n\nThe base of all errors of nbchat; see [errors](errors.md).\n\n"
            continue
        text += f"({label(name, thing)})=\n## `{name}`\n\n"
        if not is_class or ("__init__" in vars(thing) and not getattr(thing, "_is_protocol", False)):
            text += signature(f"nbchat.{name}", thing)
        text += docstring(thing) + "\n\n"
        if is_class:
            for member, value in members(thing):
                text += member_text(name, member, value)
    return text.rstrip() + "\n"


def member_text(owner: str, name: str, value: Any) -> str:
    """Return the text of a method or a property."""
    if isinstance(value, property):
        return f"### `{owner}.{name}`\n\n{docstring(value)}\n\n"
    function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
    return f"### `{owner}.{name}`\n\n{signature(f'{owner}.{name}', function)}{docstring(function)}\n\n"


# Formats ----------------------------------------------------------------------------------------


def section_of(module: Any) -> str:
    """Return the docstring of a module without its first paragraph, as Markdown."""
    text = (inspect.getdoc(module) or "").split("\n\n", 1)[1]
    text = re.sub(r"^::\n\n((?:    .*\n?|\n)+)", lambda code: fenced(code[1]) + "\n", text)
    return markdown(re.sub(r" :mod:`[\w.]+` describes the other lines\.", "", text))


def fenced(code: str) -> str:
    """Return an indented block as a block of code."""
    return "```text\n" + inspect.cleandoc(code) + "\n```\n"


def cassette_page() -> str:
    """Return the page of the format of cassettes."""
    header = recordings._HEADER.decode()
    return f"""# The format of a cassette

A cassette is a file of JSON lines, with one exchange on each line. It is made to be read as a diff.

{section_of(recordings)}

The first line:

```json
{header}
```

## An exchange

An exchange is a request and its answer.

{section_of(exchange)}

## The digest

{markdown(inspect.getdoc(sys.modules["nbchat.core.request"].request_digest) or "")}

{markdown(inspect.getdoc(sys.modules["nbchat.core.request"].digest_of) or "")}
"""


def ledger_page() -> str:
    """Return the page of the format of the ledger."""
    import sqlite3

    connection = sqlite3.connect(":memory:")
    for migration in ledger._MIGRATIONS:
        connection.executescript(migration)
    rows = []
    for _, name, kind, required, _, is_key in connection.execute("PRAGMA table_info(requests)"):
        nullable = "" if required or is_key else "may be NULL"
        rows.append((f"`{name}`", kind, nullable))
    version = len(ledger._MIGRATIONS)
    entry = markdown((inspect.getdoc(entries.Entry) or "").split("\n\n", 1)[1])
    kinds = ", ".join(f"`{kind}`" for kind in entries.Kind.__args__)
    return f"""# The format of the ledger

The ledger is one SQLite file for each user, with a row for every request.

{section_of(ledger)}

The file is `ledger.sqlite` in the user's data folder: `~/.local/share/nbchat` on Linux,
`~/Library/Application Support/nbchat` on macOS, `%LOCALAPPDATA%\\nbchat` on Windows.
The version of the schema is {version} (`PRAGMA user_version`).

## The table `requests`

{table(("Column", "Type", "Empty"), rows)}
The columns of tokens are the fields of [`Usage`](python.md#class-usage). {entry}

`kind` is one of {kinds}.

## Groups

`%nbchat usage PERIOD by GROUP` and `nbchat.usage(by=…)` add up by {", ".join(f"`{name}`" for name in ledger._GROUPS)}.
"""


def scripted_page() -> str:
    """Return the page of scripted answers."""
    about = inspect.getdoc(scripted) or ""
    rows = []
    for line in about.split("\n"):
        if found := re.match(
            r"(``.+?|\[.+?|an iterable of events|an exception|a function of the Request) {2,}(.*)", line
        ):
            rows.append([found[1], found[2]])
        elif line.startswith(" " * 30) and rows:
            rows[-1][1] += " " + line.strip()
    cells = [(re.sub(r"``([^`]+)``", r"`\1`", left), re.sub(r"``([^`]+)``", r"`\1`", right)) for left, right in rows]
    return """# Scripted answers

`nbchat.ScriptedTransport` returns answers that you wrote. Nothing is sent. Each request takes the next answer.
[Python](python.md#class-scriptedtransport) has its arguments.

""" + table(("An answer", "What happens"), cells)


PAGES: dict[str, Callable[[], str]] = {
    "options.md": options_page,
    "settings.md": settings_page,
    "commands.md": commands_page,
    "errors.md": errors_page,
    "python.md": python_page,
    "scripted-answers.md": scripted_page,
    "cassette.md": cassette_page,
    "ledger.md": ledger_page,
}


def main() -> None:
    """Write all pages."""
    FOLDER.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        (FOLDER / name).write_text(NOTE + page(), encoding="utf-8")


if __name__ == "__main__":
    main()
