"""nbchat: Claude in a notebook cell.

``%load_ext nbchat``, then a ``%%claude`` cell: the answer streams into the output, stays in the
notebook as plain safe output, and is a :class:`Response` in your namespace. Without a notebook::

    import nbchat
    print(nbchat.ask("Three names for a cat").text)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nbchat.core import errors
    from nbchat.core.conversation import Conversation
    from nbchat.core.errors import NbchatError
    from nbchat.core.response import Response
    from nbchat.core.usage import Usage
    from nbchat.engine.session import Session
    from nbchat.tools.functions import tool
    from nbchat.transports.scripted import ScriptedTransport

__version__ = "0.1.0"
__all__ = [
    "Conversation",
    "NbchatError",
    "Response",
    "ScriptedTransport",
    "Session",
    "Usage",
    "__version__",
    "ask",
    "errors",
    "load",
    "load_ipython_extension",
    "tool",
    "unload_ipython_extension",
    "usage",
]

#: Where each public name lives; it is imported when first asked for (PEP 562).
_HOMES = {
    "Conversation": "nbchat.core.conversation",
    "NbchatError": "nbchat.core.errors",
    "Response": "nbchat.core.response",
    "ScriptedTransport": "nbchat.transports.scripted",
    "Session": "nbchat.engine.session",
    "Usage": "nbchat.core.usage",
    "errors": "nbchat.core",
    "tool": "nbchat.tools.functions",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nbchat' has no attribute {name!r}")
    from importlib import import_module

    value = import_module("nbchat.core.errors") if name == "errors" else getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def ask(prompt: str, **options: Any) -> Response:
    """Ask once, by the session of the notebook if ``%load_ext nbchat`` made one, else by a new one.

    ``options`` are those of ``%%claude`` by their long names: ``nbchat.ask("Hi", model="…")``.
    Raises what :meth:`nbchat.Session.ask` raises.
    """
    from nbchat.engine.session import current

    return current().ask(prompt, **options)


def load(path: Any) -> Response:
    """The Response that ``response.save(path)`` wrote.

    Raises:
        InputError: there is no such file, or it holds no Response.
    """
    import json
    from pathlib import Path

    from nbchat.core.errors import InputError
    from nbchat.core.response import Response

    hint = "Give the path of a file that response.save(path) wrote."
    try:
        kept = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})", hint) from None
    except ValueError:
        raise InputError(f"{path} is no JSON, so it holds no Response", hint) from None
    if not isinstance(kept, dict) or kept.get("format") != "nbchat.response/1":
        raise InputError(f"{path} holds no Response", hint)
    return Response.from_dict(kept)


def usage(period: str = "all", by: Any = ()) -> Any:
    """The ledger as a pandas DataFrame: a row for every request, costs in US dollars, unknown ones NaN.

    ``period`` is ``run`` (since this kernel's session began), ``today``, ``week``, ``month``,
    ``year`` or ``all``. ``by`` gives sums instead: ``day``, ``month``, ``model``, ``notebook``,
    ``chat``, ``endpoint``, ``kind`` or ``status``, or a list of these.
    """
    from nbchat.engine.session import current

    return current().records.usage(period, by)


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext nbchat``: add ``%%claude``, ``%claude`` and ``%nbchat`` to the shell."""
    from nbchat.notebook.magics import install

    install(shell)


def unload_ipython_extension(shell: Any) -> None:
    """``%unload_ext nbchat``: take the magics out again."""
    from nbchat.notebook.magics import uninstall

    uninstall(shell)
